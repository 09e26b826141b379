// Torc storage: what the files of replay share among themselves. Nobody else includes it.
#ifndef TORC_STORAGE_REPLAY_IMPL_H
#define TORC_STORAGE_REPLAY_IMPL_H

#include "storage/replay.h"

#define TORC_REPLAY_BATCH       64u
#define TORC_REPLAY_RECORD_BITS 20u // of a position: records of one block, fewer than its bytes
// Of a shard's records that count, the latest epochs that are known; and of its cuts that are to
// come, the first. A bet: a shard with more of them in one log changes its primary all the time.
#define TORC_REPLAY_LINE_EPOCHS 64u
#define TORC_REPLAY_CUTS_MAX    64u

// How far the log of a shard goes, by its records alone.
struct torc_replay_line {
    uint64_t base_lsn; // of the checkpoint: everything up to it is in the tree
    uint64_t next_lsn; // of the next record
    uint32_t epoch;    // of the last record
    uint32_t turn;
    // Of a shard that follows: replay_line.c
    uint32_t base_epoch; // of the record at base_lsn
    uint32_t base_turn;  // of the checkpoint: what it needs was logged again since
    bool lost;
    bool gap;    // records came whose predecessors are not here: lost, if none cancels them
    bool forgot; // there were more epochs
    uint32_t epoch_count;
    struct torc_replay_epoch epochs[TORC_REPLAY_LINE_EPOCHS];
};

// The record that comes as number `at` cancels all before it with that LSN or one above.
struct torc_replay_cut {
    uint64_t at;
    uint64_t lsn;
};

// What the rest of the log was seen to say of a shard that follows.
struct torc_replay_ahead {
    struct torc_replay_line line; // at its end
    uint64_t commit_lsn;          // what is not cancelled is committed up to here
    uint64_t until;               // of records that come later than that, nothing is known
    bool looking;                 // at the rest
    bool unsure;                  // more epochs were needed than the line knows
    uint32_t cut_first;           // those before it have come
    uint32_t cut_count;
    struct torc_replay_cut cuts[TORC_REPLAY_CUTS_MAX]; // rising in both
};

struct torc_replay_shard {
    struct torc_shard *shard;
    struct torc_replay_line line;
    bool emptied;     // torc_replay_hold_empty is due
    uint64_t end_lsn; // of the checkpoint: below it the tree may be of several moments
    uint64_t hlc;     // of the last record applied
    uint64_t replayed;
    uint32_t batch_count;
    bool fuzzy; // one of the batch lies at or below end_lsn
    struct torc_tree_write batch[TORC_REPLAY_BATCH];
    struct torc_replay_ahead ahead;
};

// -- Lines: storage/replay_line.c -----------------------------------------------------------------

enum torc_replay_move {
    TORC_REPLAY_PASS,  // over it: the checkpoint has it, or it is of a life that counts no more
    TORC_REPLAY_ANEW,  // all before it counts no more (BEGUN)
    TORC_REPLAY_AGAIN, // it is there already
    TORC_REPLAY_TAKE,
    TORC_REPLAY_LOSE, // it does not go on where the line ends
};

struct torc_replay_step {
    enum torc_replay_move move;
    bool unsure; // it depends on an epoch that the line forgot: a move is not given
    bool cuts;   // all above cut_lsn is cancelled
    uint64_t cut_lsn;
};

// False: an earlier turn after a later one.
bool torc_must_use torc_replay_line_turn(struct torc_replay_line *line,
                                         const struct torc_log_record *record);

// What the record does to the line, which is cut, or begun anew, if it says so; a record to be
// taken is not added yet. `engine` holds the line's records, and knows the epochs of these; NULL:
// nobody does.
void torc_replay_line_step(struct torc_replay_line *line, const struct torc_shard *engine,
                           const struct torc_log_record *record, struct torc_replay_step *step);

void torc_replay_line_add(struct torc_replay_line *line, const struct torc_log_record *record);

// Whether a record that is not taken counts all the same for what it says of commits.
static inline bool torc_replay_line_notes(const struct torc_replay_line *line,
                                          const struct torc_log_record *record, bool cancelled)
{
    return (cancelled ? record->epoch >= line->base_epoch : record->kind == TORC_LOG_MOVED) &&
           !line->lost && record->turn >= line->base_turn;
}

// The records above `lsn` are not there.
void torc_replay_line_cut(struct torc_replay_line *line, const struct torc_shard *engine,
                          uint64_t lsn);

// What is there is a checkpoint.
void torc_replay_line_base(struct torc_replay_line *line);

// Nothing is there; LSN 1 is next.
void torc_replay_line_empty(struct torc_replay_line *line);

// The epochs of the result.
void torc_replay_line_epochs(const struct torc_replay_line *line,
                             struct torc_replay_result *result);

// Of the records from number `at` on nothing is known, and looking ahead would tell.
bool torc_must_use torc_replay_ahead_is_over(const struct torc_replay_ahead *ahead, uint64_t at);

// Looking ahead from the line as it is, if that is over.
void torc_replay_ahead_begin(struct torc_replay_shard *shard, uint64_t at);
void torc_replay_ahead_record(struct torc_replay_shard *shard, const struct torc_log_record *record,
                              uint64_t at);

// Whether a record that comes as number `at` is cancelled by one behind it. `at` does not fall.
bool torc_must_use torc_replay_ahead_cancels(struct torc_replay_ahead *ahead, uint64_t lsn,
                                             uint64_t at);

// -- Shards that follow: storage/replay_hold.c ----------------------------------------------------

// The checkpoint is in; or there is none, and it is all zero.
void torc_replay_hold_begin(struct torc_replay_shard *shard);

// The next record of the shard, number `at`, whose first byte lies at `position` and whose last one
// in block `last_sequence`. `ticket`: of a value that was put together, else zeroed; it is taken
// over unless it fails. BUSY, NO_SPACE: others hold all slots, or the memory.
struct torc_replay_held {
    const struct torc_log_record *record;
    struct torc_tree_ticket ticket;
    uint64_t position;
    uint64_t last_sequence;
    bool emptied;   // its shard was since it began; it has no value any more
    bool valueless; // there was no memory for the value when it began
};
enum torc_err torc_must_use torc_replay_hold(struct torc_replay_shard *shard,
                                             const struct torc_replay_held *held, uint64_t at,
                                             struct torc_fail *why);

// After torc_replay_hold, if shard->emptied: its tree goes. Nothing may be reserved in it.
enum torc_err torc_must_use torc_replay_hold_empty(struct torc_replay_shard *shard,
                                                   struct torc_fail *why);

// The rest of the log was seen: of what is held, drops what is cancelled there.
void torc_replay_hold_ahead(struct torc_replay_shard *shard);

// Makes room: applies what is held and, by the rest of the log, committed. False: there is none.
bool torc_replay_hold_room(struct torc_replay_shard *shard, uint64_t at);

enum torc_err torc_must_use torc_replay_hold_end(struct torc_replay_shard *shard,
                                                 struct torc_fail *why);

#endif
