// Torc control: from the files of a data directory to the shards of a new dataplane.
//
// What    finds checkpoints and log, tells torn from damaged (storage/log_scan.h), finds out which
//         stream and turn each shard was in last and in which order streams are to be replayed
//         (storage/log_order.h), and then feeds every worker its shards' checkpoints and log blocks
//         through the channel's `in` rings, all workers in turns.
// Owner   control's one thread; each step does a bounded piece (a read of 1 MiB, or what fits the
//         rings).
// Memory  one buffer of 1 MiB for scanning and one a worker for feeding, tables of notes and
//         pieces; freed by torc_recover_close.
// Life    begin → step until it is scanned (or an error) → take over what was found (the shards,
//         torc_recover_next_sequence) → feed until true, again for whom wants it → close.
//         `torc-control check` ends after the scan.
// Reads go through the page cache: the second and third look at the log come from memory.
#ifndef TORC_CONTROL_RECOVER_URING_H
#define TORC_CONTROL_RECOVER_URING_H

#include "control/cluster.h"
#include "control/log_uring.h"
#include "control/survey.h"
#include "storage/checkpoint.h"

// One shard of the node. In: shard, worker. Out: the rest.
struct torc_recover_shard {
    uint32_t shard;
    uint32_t worker; // that gets it; its stream is worker + 1
    uint32_t stream; // that it was in last; 0: nothing of it was found
    uint32_t turn;   // there
    bool has_checkpoint;
    struct torc_checkpoint_info checkpoint;
    uint64_t checkpoint_bytes;
};

struct torc_recover_numbers {
    uint64_t log_bytes; // kept
    uint64_t log_blocks;
    uint64_t torn_blocks; // cut
    uint64_t checkpoint_bytes;
};

struct torc_recover_config {
    struct torc_disk *disk;
    struct torc_log_store *store; // listed by begin
    int log_fd;
    int checkpoint_fd;
    uint64_t cluster;
    uint32_t node;
    uint32_t worker_count;
    struct torc_recover_shard *shards;
    uint32_t shard_count;
    struct torc_survey *others; // whose shards other nodes may have now: their checkpoints are
                                // removed; NULL: all shards are this node's
    bool look_only;             // change nothing: no file is removed or synced
};

struct torc_recover;

// Before a start changes or removes anything: who takes this node out of a shard writes a record
// above all that it had. CORRUPT, METASTORE_WENT_BACK: a checkpoint of a shard that is other nodes'
// is of a later epoch than the shard's record, which is thus of an older metastore. Looks at disk,
// checkpoint_fd, cluster, node and others of `config`.
enum torc_err torc_must_use torc_recover_check_others(const struct torc_recover_config *config,
                                                      struct torc_fail *why);

enum torc_err torc_must_use torc_recover_begin(struct torc_recover **out,
                                               const struct torc_recover_config *config,
                                               struct torc_fail *why);
void torc_recover_close(struct torc_recover *recover);

// The next piece of looking; *scanned when all is known. CORRUPT: damage, and the text says where.
enum torc_err torc_must_use torc_recover_step(struct torc_recover *recover, bool *scanned,
                                              struct torc_fail *why);

// Where the stream goes on: 1 for a new one.
uint64_t torc_recover_next_sequence(const struct torc_recover *recover, uint32_t stream);

// Which turns of which shards lie in the log, others' shards too, in no order. False: there are no
// more than `place` such.
bool torc_must_use torc_recover_found(const struct torc_recover *recover, uint32_t place,
                                      uint32_t *shard, uint32_t *turn);

// The HLC that the next life must stamp above, records that are still to be fed left out: of the
// checkpoints, and what was kept for readers (REPLICATION.md H6) in any stream.
uint64_t torc_recover_clock(const struct torc_recover *recover);

// Feeds what the rings take. *fed when everything was sent (RECOVERED is the caller's to say). IO
// or CORRUPT when a file cannot be read as it was a moment ago.
enum torc_err torc_must_use torc_recover_feed(struct torc_recover *recover,
                                              struct torc_attach *attach, bool *fed,
                                              struct torc_fail *why);

// The worker wants its log once more (TORC_EVT_LOG_AGAIN): to be fed until true.
void torc_recover_again(struct torc_recover *recover, uint32_t worker);

// Whether worker `worker` has got all of its share.
bool torc_recover_is_fed(const struct torc_recover *recover, uint32_t worker);

void torc_recover_numbers(const struct torc_recover *recover, struct torc_recover_numbers *numbers);

// What was found of a shard goes into the table: of a life that begins, with its turn; or of one
// that runs already, whose turn and epoch are known. Whether its checkpoint covers it is K2's.
void torc_recover_take_over(const struct torc_recover_shard *from,
                            struct torc_cluster_shard *shard);
void torc_recover_continue(const struct torc_recover_shard *from, struct torc_cluster_shard *shard);

// "17-4711" of a checkpoint's file into shard and LSN.
bool torc_must_use torc_checkpoint_name_parse(const char *name, uint32_t *shard, uint64_t *lsn);
void torc_checkpoint_name(char *name, uint32_t name_bytes, uint32_t shard, uint64_t lsn);

#endif
