// Torc control: the way from where a shard lies to where it should, one step at a time.
//
// What    a function of the shard's record, of what placement wishes, and of who seems alive: the
//         one transition that may be asked for next. A replica is added before another goes, so
//         that a shard on its way has one more than it is to have, and no more (that is as many
//         as are wished, but min_in_sync at least). Each step is one compare-and-swap on the
//         record's epoch; who asks for it again after any change comes to the end, whatever
//         happened in between.
// Fed     at once are as many as there is room for: a node that seems alive and never catches up
//         (its disk is full; it died, and nobody could say so) keeps no other from a shard that
//         lacks members.
// Hint    what the primary's replica is told in place of the whole wish: it then does this step and
//         no other (REPLICATION.md M7: the replica decides, and mints the proposal). Of those
//         that it is to feed it lets in one after the other, whoever has caught up first.
// Owner   none: pure functions over the caller's structs.
// Invariants
//   V1  no step leaves fewer than min_in_sync members, nor fewer that seem alive.
//   V2  who is primary is not removed; who is made primary is a member, wished, and seems alive.
//   V3  a member that is wished is never removed, one that seems alive only while as many as are
//       wished seem alive without it.
//   V4  without deaths, steps end: each lowers (wished and missing; members not wished; primary not
//       wished; primary another than wished), read as one number.
//   V5  who seems alive may be wrong: it costs time. Safety rests on the swaps alone.
//   V6  of a shard with fewer members than it is to have, two that are wished are fed, where two
//       seem alive.
// Sources REPLICATION.md sections 3 and 9.
#ifndef TORC_CONTROL_MOVE_H
#define TORC_CONTROL_MOVE_H

#include "control/records.h"

#define TORC_MOVE_WORDS ((TORC_RECORD_NODE_MAX + 1) / 64)

enum torc_move_kind {
    TORC_MOVE_DONE,     // it lies where it should, or nothing is wished
    TORC_MOVE_WAIT,     // nothing can be asked for: `wait` says what must happen first
    TORC_MOVE_LEARN,    // `node` is to be fed by the primary, and to join; others with it (hint)
    TORC_MOVE_TRANSFER, // `node`, a member, is to be primary
    TORC_MOVE_REMOVE,   // `node`, a member, is to go
};

enum torc_move_wait {
    TORC_MOVE_WAIT_NONE,
    TORC_MOVE_WAIT_PRIMARY, // a takeover, or an operator when no member is left
    TORC_MOVE_WAIT_NODES,   // no node that is wished and missing seems alive
    TORC_MOVE_WAIT_MEMBERS, // too few members seem alive for one of them to go
};

struct torc_move_view {
    const struct torc_shard_fields *shard;
    const struct torc_want_fields *want;
    uint64_t min_in_sync;
    uint64_t alive[TORC_MOVE_WORDS]; // a bit for each node that seems so
};

struct torc_move_step {
    enum torc_move_kind kind;
    enum torc_move_wait wait;
    uint32_t node;
};

struct torc_move_step torc_move_next(const struct torc_move_view *view);

// The wish that makes the primary's replica do this step and no other. Its nonce is 0.
void torc_move_hint(const struct torc_move_view *view, const struct torc_move_step *step,
                    struct torc_want_fields *hint);

#endif
