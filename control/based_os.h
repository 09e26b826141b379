// Torc control: which of a node's replicas have a whole log, and which copies they are.
//
// What    DATA/replicas: a line for each shard: the number of its replica's copy, its turn, and
//         whether its log in this directory goes on from a base (a checkpoint, or the empty tree
//         that all members once had). By it a member that was removed while it was away comes back
//         by the log it has, not by a copy of everything; and a shard that was taken from this node
//         and given to it again is another copy, in a later turn: nothing of the one before it
//         counts. A line stays when its shard goes: written before the shard's data are dropped.
// Owner   control's one thread.
// Memory  the caller's, 128 KiB.
// Bound   to the node's copy: a node without its data begins without. A copy that is new because a
//         dataplane forgot (`replicated`) has the log of the one before it, up to some record:
//         that is a base.
#ifndef TORC_CONTROL_BASED_OS_H
#define TORC_CONTROL_BASED_OS_H

#include "control/cluster.h"
#include "control/data_dir_os.h"

#define TORC_BASED_LINE  48u // "4294967295 18446744073709551615 4294967295 1" and its end
#define TORC_BASED_BYTES (64u + TORC_CHAN_MAP_ENTRIES * TORC_BASED_LINE)

struct torc_based_line {
    uint64_t copy;
    uint32_t shard;
    uint32_t turn;
    bool whole;
};

struct torc_based {
    uint32_t count;
    struct torc_based_line lines[TORC_CHAN_MAP_ENTRIES];
};

// What the file says, for a life that begins as `copy` where `disk_copy` is on the disk; both are
// the node's copy where it goes on. A file that is missing, of another copy (torc_start_has_lines)
// or makes no sense says nothing: that costs a copy of a shard, never a record.
void torc_based_load(const struct torc_data_dir *dir, uint64_t disk_copy, uint64_t copy,
                     struct torc_based *based);

// The same of its text, which ends with a zero.
void torc_based_parse(const char *text, uint64_t disk_copy, uint64_t copy,
                      struct torc_based *based);

// The file's text, into TORC_BASED_BYTES; returns its bytes.
uint64_t torc_based_print(const struct torc_based *based, uint64_t copy, char *text);

// Durable when it returns.
enum torc_err torc_must_use torc_based_save(const struct torc_data_dir *dir, uint64_t copy,
                                            const struct torc_based *based, struct torc_fail *why);

// The shard's line, or NULL.
struct torc_based_line *torc_based_find(struct torc_based *based, uint32_t shard);

// The line takes the place of the shard's line before. False: there is no room for one more.
bool torc_must_use torc_based_put(struct torc_based *based, const struct torc_based_line *line);

#endif
