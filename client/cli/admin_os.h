// Torc cli: asking the node of this machine over run/admin.sock, and showing what it says.
//
// Owner   the program's one thread.
// Memory  answers are jansson's: json_decref.
#ifndef TORC_CLIENT_CLI_ADMIN_OS_H
#define TORC_CLIENT_CLI_ADMIN_OS_H

#include "client/cli/cli_os.h"

#include <jansson.h>

// How long a verb waits for its answer; 0: without end.
enum torc_err torc_must_use torc_admin_timeout(const struct torc_args *args, uint64_t *us,
                                               struct torc_fail *why);

// One request to the node of a data directory. NOT_CONNECTED: none runs there. DEADLINE: no answer
// for `timeout_us` (0: it waits without end); what was asked may still be done.
enum torc_err torc_must_use torc_admin_ask(const char *data, const char *command,
                                           uint64_t timeout_us, json_t **answer,
                                           struct torc_fail *why);

// The same for a request with more to say: its line, with its end.
enum torc_err torc_must_use torc_admin_request(const char *data, const char *request,
                                               uint64_t timeout_us, json_t **answer,
                                               struct torc_fail *why);

// OK, or the error that the answer is.
enum torc_err torc_must_use torc_admin_verdict(const json_t *answer, struct torc_fail *why);

// As `-o` says.
void torc_admin_show(const struct torc_cli *cli, json_t *answer);

#endif
