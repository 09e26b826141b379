// Torc cli: making and removing the kernel links of links.h.
//
// What    reads the settings' addresses, looks at what there is, runs the steps with ip(8) and
//         ethtool(8), and keeps a record of what was made in run/links, so that a later start
//         (after a kill) still knows what is its own.
// Owner   `torc serve`.
#ifndef TORC_CLIENT_CLI_LINKS_OS_H
#define TORC_CLIENT_CLI_LINKS_OS_H

#include "client/cli/links.h"
#include "kit/settings.h"

// What the settings ask for. `workers` is how many worker cores there will be.
enum torc_err torc_must_use torc_links_want(struct torc_links *links,
                                            const struct torc_settings *settings, uint32_t workers,
                                            struct torc_fail *why);

// Keeps other nodes of this machine (of this network namespace) from the same link for as long as
// *fd is open. IN_USE names the process that has it; *fd is -1 when no link is wanted.
enum torc_err torc_must_use torc_links_lock(const struct torc_links *links, int *fd,
                                            struct torc_fail *why);

// Makes what is missing; what an earlier start left behind (see `record`, a path) is made anew.
// Steps are said on standard output with `say`.
enum torc_err torc_must_use torc_links_make(const struct torc_links *links, const char *record,
                                            bool say, struct torc_fail *why);

// Gives the tap that the dataplane made its addresses, when it has appeared; true when done.
bool torc_links_tap_ready(const struct torc_links *links);

// Removes what the record says was made, and the bridge if nothing is left in it.
void torc_links_remove(const char *record);

#endif
