// Torc control: the admin socket, run/admin.sock.
//
// What    JSON, a line a request, a line an answer: {"command":"status"} -> {"ok":true,…} or
//         {"ok":false,"error":"NAME","text":"…"}. Who may ask: root, the server's own user, and
//         members of one group; the file's mode says so and SO_PEERCRED is checked as well.
// Owner   control's one thread, without blocking.
// Memory  TORC_ADMIN_CLIENTS_MAX connections, of which the one silent longest makes room for a new
//         one; a request is at most TORC_ADMIN_LINE_BYTES, an answer waits in its connection until
//         it is taken, and the next request with it.
// Sources docs/OPERATIONS.md, Administration: the commands.
#ifndef TORC_CONTROL_ADMIN_OS_H
#define TORC_CONTROL_ADMIN_OS_H

#include "kit/fail.h"

#include <jansson.h>

#define TORC_ADMIN_CLIENTS_MAX 32
#define TORC_ADMIN_LINE_BYTES  4096

struct torc_admin;

// The answer to request number `asked`, to be freed by admin; NULL: it comes later, by
// torc_admin_finish(asked).
typedef json_t *(*torc_admin_answer)(void *context, uint32_t asked, const json_t *request);

// Makes run/admin.sock below the directory `run`, 0660, group `group` if there is such a one, and
// adds itself to the epoll set.
enum torc_err torc_must_use torc_admin_open(struct torc_admin **out, const char *run,
                                            const char *group, int epoll_fd, struct torc_fail *why);
void torc_admin_close(struct torc_admin *admin);

// A folder on the way to the socket: of a node that root runs it has root's group, and no member
// would get through. It is given the group where its mode lets one pass and not write; what has
// another group than root's stays.
void torc_admin_let_pass(const struct torc_admin *admin, int folder_fd, const char *name);

// Does what is ready.
void torc_admin_step(struct torc_admin *admin, torc_admin_answer answer, void *context);

// The late answer to request `asked`; taken over and freed. Dropped when the client has gone.
void torc_admin_finish(struct torc_admin *admin, uint32_t asked, json_t *answer);

// Text as JSON has it: a question mark for each byte that is not UTF-8 (where it was cut, say).
json_t *torc_admin_text(const char *text);

// {"ok":false,…} of an error.
json_t *torc_admin_error(enum torc_err err, const char *text);

#endif
