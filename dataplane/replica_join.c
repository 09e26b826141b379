// Torc dataplane: learners, the bases they are given, joining, and the transfer of a primary
// (J1-J3, X1). See replica.h.
#include "dataplane/replica_impl.h"

// -- Learners of a primary ----------------------------------------------------------------------

static bool join_is_wanted(const struct torc_replica *replica, uint32_t node)
{
    for (uint32_t i = 0; i < replica->want.node_count; i++) {
        if (replica->want.nodes[i] == node) {
            return true;
        }
    }
    return false;
}

// The nodes that placement wants and that are no members are fed; whoever it does not want is not.
void torc_replica_enlist(struct torc_replica *replica)
{
    if (replica->role != TORC_REPLICA_ACTIVE) {
        return;
    }
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_LEARNER && !peer->proposed &&
            !join_is_wanted(replica, peer->node)) {
            peer->role = TORC_REPLICA_PEER_OTHER;
            peer->claimed = false;
            // Wished again, a learner that took pieces would wait for the next one.
            peer->stream_gave_way |= peer->stream == TORC_REPLICA_STREAM_OPEN;
            peer->stream = TORC_REPLICA_STREAM_NONE;
        }
    }
    for (uint32_t i = 0; i < replica->want.node_count; i++) {
        struct torc_replica_peer *peer = replica->want.nodes[i] == replica->node
                                             ? NULL
                                             : torc_replica_meet(replica, replica->want.nodes[i]);

        if (peer != NULL && peer->role == TORC_REPLICA_PEER_OTHER) {
            peer->role = TORC_REPLICA_PEER_LEARNER;
            peer->acked_boot = 0;
            peer->resend_at_ns = 0;
        }
    }
}

// J3. The acknowledgement is of this boot, copy and epoch: torc_replica_mark counts no other.
static bool join_is_ready(const struct torc_replica *replica, const struct torc_replica_peer *peer)
{
    uint64_t mark_lsn = torc_replica_mark(replica, peer);
    bool caught_up = mark_lsn >= replica->commit_lsn &&
                     replica->last_lsn - mark_lsn <= replica->timing.join_records && peer->usable;
    bool promised = replica->now_ns < peer->lease.until_ns &&
                    (peer->lease.ceiling >= replica->read_hlc || TORC_BUG(JOIN_WITHOUT_CEILING));

    if (peer->role != TORC_REPLICA_PEER_LEARNER || peer->acked_boot == 0 ||
        replica_is_gone(&peer->state)) {
        return false;
    }
    return TORC_BUG(JOIN_BELOW_COMMIT) || (caught_up && promised);
}

void torc_replica_join(struct torc_replica *replica)
{
    if (replica->role != TORC_REPLICA_ACTIVE || replica->proposal.open || replica->went_back ||
        replica->health != 0 || replica->transfer_node != 0 ||
        replica->configuration.member_count == TORC_MEMBERS_MAX) {
        return;
    }
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        struct torc_replica_peer *peer = &replica->peers[i];

        if (join_is_ready(replica, peer)) {
            struct torc_configuration *configuration = torc_replica_propose(replica);

            configuration->member_count = replica->configuration.member_count + 1;
            for (uint32_t j = 0; j < replica->configuration.member_count; j++) {
                configuration->members[j] = replica->configuration.members[j];
            }
            peer->copy = peer->acked_copy;
            peer->proposed = true; // M2: from this moment on
            configuration->members[configuration->member_count - 1] =
                (struct torc_member){.node = peer->node, .copy = peer->copy};
            replica->counters.joins++;
            return;
        }
    }
}

// A stream's number: the primary's epoch, some bits of the learner's boot, a counter. The later one
// of a primary is larger; and what was meant for an earlier life of the learner, which took and
// acknowledged its first pieces, is told apart.
#define JOIN_BOOT_MASK  0xffu
#define JOIN_COUNT_BITS 24u
// Bases that a learner lost are counted so far: then one is tried every 64 times grace_ns, which is
// five minutes. A bet: somebody comes within hours, and some hundred turns are little.
#define JOIN_LOST_MAX 11u

static uint64_t join_number(struct torc_replica *replica, uint64_t boot)
{
    uint64_t count = ++replica->stream_count & ((1u << JOIN_COUNT_BITS) - 1);

    return (uint64_t)replica->epoch << 32 | (boot & JOIN_BOOT_MASK) << JOIN_COUNT_BITS | count;
}

static bool join_is_for(uint64_t number, uint64_t boot)
{
    return (number >> JOIN_COUNT_BITS & JOIN_BOOT_MASK) == (boot & JOIN_BOOT_MASK);
}

// -- Sending a base -----------------------------------------------------------------------------

static void join_fill_snap(const struct torc_replica *replica, const struct torc_replica_peer *peer,
                           enum torc_snap_kind kind, struct torc_peer_message *message)
{
    message->kind = TORC_PEER_SNAP;
    message->shard = replica->shard;
    message->snap = (struct torc_peer_snap){
        .kind = kind,
        .epoch = replica->epoch,
        .base_epoch = torc_replica_epoch_at(replica, peer->base_lsn),
        .stream = peer->stream_number,
        .base_lsn = peer->base_lsn,
        .end_lsn = peer->end_lsn,
        .end_hlc = peer->end_hlc,
    };
}

static void join_send_pieces(struct torc_replica *replica, struct torc_replica_peer *peer,
                             struct torc_replica_actions *actions)
{
    while (peer->piece_next < peer->piece_acked + TORC_REPLICA_PIECES_MAX &&
           (!peer->piece_known || peer->piece_next < peer->piece_count)) {
        struct torc_replica_action *action =
            torc_replica_emit(actions, TORC_REPLICA_PIECE, peer->node);

        join_fill_snap(replica, peer, TORC_SNAP_PIECE, &action->message);
        action->message.snap.piece = peer->piece_next++;
        peer->stream_at_ns = replica->now_ns + replica->timing.resend_ns;
    }
    if (peer->piece_known && peer->piece_acked == peer->piece_count &&
        peer->piece_next == peer->piece_count) {
        struct torc_peer_message *message =
            torc_replica_send(replica, actions, TORC_PEER_SNAP, peer->node);

        join_fill_snap(replica, peer, TORC_SNAP_END, message);
        message->snap.piece = peer->piece_count;
        peer->piece_next++; // the END is the last of them
        peer->stream_at_ns = replica->now_ns + replica->timing.resend_ns;
    }
}

static void join_settle(struct torc_replica_peer *peer, struct torc_replica_actions *actions)
{
    peer->stream = TORC_REPLICA_STREAM_NONE;
    peer->stream_at_ns = 0;
    torc_replica_emit(actions, TORC_REPLICA_SETTLE, peer->node);
}

// A learner that has no memory for its base, say, will have none for the next: each costs it a turn
// in its log, and both the bytes. So after two in a row the next one waits, ever longer; a learner
// that was started again may have more memory.
static void join_lose(struct torc_replica *replica, struct torc_replica_peer *peer,
                      struct torc_replica_actions *actions)
{
    uint64_t pause_ns = replica->timing.grace_ns / 8;

    join_settle(peer, actions);
    peer->streams_lost = (uint32_t)torc_min_u64(peer->streams_lost + UINT64_C(1), JOIN_LOST_MAX);
    if (peer->streams_lost > 1) {
        peer->stream_at_ns = replica->now_ns + (pause_ns << (peer->streams_lost - 2));
    }
}

// What it lost counts no more, or no longer.
static void join_look_back(struct torc_replica_peer *peer)
{
    bool other_life = peer->acked_boot != 0 && peer->acked_boot != peer->stream_boot;
    bool waits = peer->role == TORC_REPLICA_PEER_LEARNER && !peer->proposed && peer->needs_base;

    if (other_life || peer->usable || peer->role == TORC_REPLICA_PEER_MEMBER) {
        peer->streams_lost = 0;
        peer->stream_gave_way = false;
    }
    if (peer->stream == TORC_REPLICA_STREAM_NONE && (!waits || peer->streams_lost == 0)) {
        peer->stream_at_ns = 0;
    }
}

void torc_replica_stream(struct torc_replica *replica, struct torc_replica_peer *peer,
                         struct torc_replica_actions *actions)
{
    join_look_back(peer);
    if (peer->role == TORC_REPLICA_PEER_MEMBER && !peer->proposed &&
        peer->stream != TORC_REPLICA_STREAM_NONE) {
        join_settle(peer, actions); // it joined by what it had: others wait for the place
    }
    // Whom a proposal names may be a member already: it must keep the log that it acknowledged.
    if (peer->role != TORC_REPLICA_PEER_LEARNER || peer->proposed) {
        return;
    }
    if (peer->stream != TORC_REPLICA_STREAM_NONE && peer->acked_boot != 0 &&
        peer->acked_boot != peer->stream_boot) {
        join_settle(peer, actions); // B1: the life that took its first pieces is over
    }
    if (peer->stream == TORC_REPLICA_STREAM_NONE && (peer->needs_base || peer->stream_gave_way) &&
        peer->acked_boot != 0 && replica->now_ns >= peer->stream_at_ns) {
        peer->stream = TORC_REPLICA_STREAM_ASKED;
        peer->stream_gave_way = false;
        peer->stream_number = join_number(replica, peer->acked_boot);
        peer->stream_boot = peer->acked_boot;
        peer->stream_at_ns = 0;
        torc_replica_emit(actions, TORC_REPLICA_STREAM, peer->node);
    }
    if (peer->stream != TORC_REPLICA_STREAM_OPEN) {
        return;
    }
    if (peer->usable) {
        join_settle(peer, actions); // it has found another way
        return;
    }
    if (peer->needs_base && peer->acked_stream == peer->stream_number) {
        join_lose(replica, peer, actions);
        return;
    }
    if (replica_due(replica, peer->stream_at_ns)) {
        peer->piece_next = peer->piece_acked;
        peer->stream_at_ns = replica->now_ns + replica->timing.resend_ns;
    }
    join_send_pieces(replica, peer, actions);
}

static void join_on_snap_ack(struct torc_replica *replica, const struct torc_replica_event *event,
                             struct torc_replica_actions *actions)
{
    const struct torc_peer_snap *snap = &event->message->snap;
    struct torc_replica_peer *peer = torc_replica_find(replica, event->node);

    if (peer == NULL || peer->stream != TORC_REPLICA_STREAM_OPEN ||
        snap->stream != peer->stream_number || event->boot != peer->stream_boot) {
        replica->counters.stranger++;
        return;
    }
    peer->piece_acked = (uint32_t)torc_max_u64(peer->piece_acked, snap->piece);
    peer->piece_next = (uint32_t)torc_max_u64(peer->piece_acked, peer->piece_next);
    if (peer->piece_known && peer->piece_acked > peer->piece_count) {
        join_settle(peer, actions);
    }
}

static void join_on_ready(struct torc_replica *replica, const struct torc_replica_base_event *base)
{
    struct torc_replica_peer *peer = torc_replica_find(replica, base->node);

    if (peer == NULL || peer->stream != TORC_REPLICA_STREAM_ASKED) {
        return; // it needs none any more
    }
    torc_assert(base->base_lsn <= replica->commit_lsn);
    peer->stream = TORC_REPLICA_STREAM_OPEN;
    peer->base_lsn = base->base_lsn;
    peer->end_lsn = 0;
    peer->piece_known = false;
    peer->piece_count = 0;
    peer->piece_next = 0;
    peer->piece_acked = 0;
}

// -- Taking a base ------------------------------------------------------------------------------

bool torc_replica_has_prefix(const struct torc_replica *replica)
{
    return replica->has_base && !replica->base_loading &&
           replica->applied_lsn >= replica->base_end_lsn;
}

bool torc_replica_is_whole(const struct torc_replica *replica)
{
    bool durable = replica->durability != TORC_DURABILITY_DURABLE || replica->base_durable ||
                   TORC_BUG(JOIN_BASE_IN_MEMORY);

    return durable && torc_replica_has_prefix(replica);
}

bool torc_replica_is_usable(const struct torc_replica *replica)
{
    return replica->synced && torc_replica_is_whole(replica);
}

// The first message of a stream: what was here is no use any more.
static void join_begin_base(struct torc_replica *replica, const struct torc_replica_event *event,
                            struct torc_replica_actions *actions)
{
    const struct torc_peer_snap *snap = &event->message->snap;

    torc_assert(replica->role == TORC_REPLICA_LEARNER);
    replica->base_loading = true;
    replica->base_storing = false;
    replica->base_moved_ns = replica->now_ns;
    replica->base_durable = false;
    replica->has_base = false;
    replica->base_stream = snap->stream;
    replica->base_node = event->node;
    replica->base_boot = event->boot;
    replica->base_piece = 0;
    replica->base_lsn = snap->base_lsn;
    replica->base_end_lsn = 0;
    replica->table.count = 0;
    if (snap->base_lsn > 0) {
        torc_replica_table_add(&replica->table, snap->base_epoch, snap->base_lsn);
    }
    replica->last_lsn = snap->base_lsn;
    replica->durable_lsn = snap->base_lsn;
    replica->commit_lsn = snap->base_lsn;
    replica->applied_lsn = snap->base_lsn;
    replica->floor_lsn = snap->base_lsn;
    replica->synced = true;
    torc_replica_emit(actions, TORC_REPLICA_RESET, replica->node)->lsn = snap->base_lsn;
    torc_replica_adopt(replica, (struct torc_watch_life){0}, false, actions);
}

static void join_ack_snap(const struct torc_replica *replica, struct torc_replica_actions *actions)
{
    struct torc_peer_snap *ack =
        &torc_replica_send(replica, actions, TORC_PEER_SNAP, replica->configuration.primary_node)
             ->snap;

    ack->kind = TORC_SNAP_ACK;
    ack->epoch = replica->epoch;
    ack->stream = replica->base_stream;
    ack->piece = replica->base_piece;
}

static void join_end_base(struct torc_replica *replica, const struct torc_peer_snap *snap,
                          struct torc_replica_actions *actions)
{
    replica->base_loading = false;
    replica->has_base = true;
    replica->base_piece++; // the END is the last of them
    replica->base_end_lsn = snap->end_lsn;
    replica->base_end_hlc = snap->end_hlc;
    replica->ack_due = true;
    torc_replica_emit(actions, TORC_REPLICA_WHOLE, replica->node)->lsn = snap->base_lsn;
    if (replica->commit_lsn > snap->base_lsn) {
        torc_replica_emit(actions, TORC_REPLICA_APPLY, replica->node)->lsn = replica->commit_lsn;
    }
}

static void join_on_piece(struct torc_replica *replica, const struct torc_replica_event *event,
                          struct torc_replica_actions *actions)
{
    const struct torc_peer_snap *snap = &event->message->snap;
    bool newer = snap->stream > replica->base_stream; // of one primary: the older one is given up
    bool begins = newer && (replica->base_loading || !replica->synced) &&
                  join_is_for(snap->stream, replica->boot) && replica->role == TORC_REPLICA_LEARNER;

    if (!begins && (snap->stream != replica->base_stream || !replica->synced)) {
        replica->counters.stranger++; // this log needs no base, or another one
        return;
    }
    if (begins) {
        join_begin_base(replica, event, actions);
    }
    if (replica->base_loading && !replica->base_storing && snap->piece == replica->base_piece) {
        if (snap->kind == TORC_SNAP_END) {
            join_end_base(replica, snap, actions);
        } else {
            replica->base_storing = true;
            torc_replica_emit(actions, TORC_REPLICA_STORE, replica->node)->piece = snap->piece;
            return;
        }
    }
    join_ack_snap(replica, actions); // what is asked for next
}

void torc_replica_on_snap(struct torc_replica *replica, const struct torc_replica_event *event,
                          struct torc_replica_actions *actions)
{
    const struct torc_peer_snap *snap = &event->message->snap;

    if (snap->epoch != replica->epoch) {
        replica->counters.old_epoch += snap->epoch < replica->epoch;
        replica->read_wanted = replica->read_wanted || snap->epoch > replica->epoch;
        return;
    }
    if (snap->kind == TORC_SNAP_ACK) {
        join_on_snap_ack(replica, event, actions);
        return;
    }
    if (event->node != replica->configuration.primary_node ||
        event->boot != replica->configuration.primary_boot || !replica->adopted) {
        replica->counters.stranger++;
        return;
    }
    join_on_piece(replica, event, actions);
}

static void join_give_up(struct torc_replica *replica)
{
    replica->base_node = 0;
    replica->base_boot = 0;
    replica->base_storing = false;
    replica->synced = false;
    replica->ack_due = true;
    replica->counters.given_up++;
}

void torc_replica_on_base(struct torc_replica *replica, const struct torc_replica_base_event *base,
                          struct torc_replica_actions *actions)
{
    struct torc_replica_peer *peer;

    switch (base->kind) {
    case TORC_REPLICA_BASE_READY: join_on_ready(replica, base); return;
    case TORC_REPLICA_BASE_LAST:
        peer = torc_replica_find(replica, base->node);
        if (peer != NULL && peer->stream == TORC_REPLICA_STREAM_OPEN && !peer->piece_known) {
            peer->piece_known = true;
            peer->piece_count = base->piece;
            peer->piece_next = (uint32_t)torc_min_u64(peer->piece_next, base->piece);
            peer->end_lsn = base->end_lsn;
            peer->end_hlc = base->end_hlc;
        }
        return;
    case TORC_REPLICA_BASE_LOST:
        peer = torc_replica_find(replica, base->node);
        if (peer != NULL && peer->stream == TORC_REPLICA_STREAM_OPEN) {
            peer->stream = TORC_REPLICA_STREAM_NONE;
            peer->stream_at_ns = 0;
            peer->stream_gave_way = true; // asked for anew, if it is still needed
        }
        return;
    case TORC_REPLICA_BASE_TAKEN:
        if (replica->base_storing && base->piece == replica->base_piece) {
            replica->base_storing = false;
            replica->base_moved_ns = replica->now_ns;
            replica->base_piece++;
            join_ack_snap(replica, actions);
        }
        return;
    case TORC_REPLICA_BASE_BROKEN:
        replica->base_loading = true; // also where the last piece was taken
        replica->has_base = false;
        replica->base_end_lsn = 0;
        join_give_up(replica);
        return;
    case TORC_REPLICA_BASE_DURABLE:
        if (replica->has_base && base->base_lsn == replica->base_lsn) {
            replica->base_durable = true;
            replica->ack_due = true;
        }
        return;
    }
    torc_unreachable("all kinds return");
}

// Its primary is another now, or does not feed this stream any more. A new one is asked for; this
// one is never gone on with: the shell needs its place, and at once where the next primary has
// begun with other shards, for which there is none.
void torc_replica_give_up_base(struct torc_replica *replica)
{
    bool orphaned = replica->base_node != replica->configuration.primary_node ||
                    replica->base_boot != replica->configuration.primary_boot;

    if (replica->base_loading && !torc_replica_base_given_up(replica) &&
        (orphaned || replica->now_ns >= replica->base_moved_ns + replica->timing.grace_ns)) {
        join_give_up(replica);
    }
}

// -- Transfer -----------------------------------------------------------------------------------

// The receiver: exactly the next epoch, with the same members. The release is for that epoch alone.
void torc_replica_on_transfer(struct torc_replica *replica, const struct torc_replica_event *event)
{
    const struct torc_peer_transfer *transfer = &event->message->transfer;
    struct torc_configuration *configuration;

    if (transfer->epoch != replica->epoch || replica->role != TORC_REPLICA_BACKUP ||
        event->node != replica->configuration.primary_node ||
        event->boot != replica->configuration.primary_boot) {
        replica->counters.stranger++;
        return;
    }
    if (!replica->synced || !replica->adopted || replica->last_lsn != transfer->last_lsn ||
        replica->health != 0 || replica->went_back) {
        replica->counters.too_early++;
        return;
    }
    replica->released_epoch = replica->epoch + 1;
    if (replica->proposal.open) {
        return;
    }
    replica->counters.transfers++;
    configuration = torc_replica_propose(replica);
    configuration->member_count = replica->configuration.member_count;
    for (uint32_t i = 0; i < configuration->member_count; i++) {
        configuration->members[i] = replica->configuration.members[i];
    }
}

// All members have to have all, so none may be about to be removed; and what is above the commit
// mark of a set that is too small (C2) waits for a join, which would wait for the transfer.
static bool join_may_hand_over(struct torc_replica *replica)
{
    const struct torc_replica_peer *peer =
        replica->want.primary_node == replica->node
            ? NULL
            : torc_replica_find(replica, replica->want.primary_node);
    bool commits = replica->configuration.member_count >= replica->min_in_sync ||
                   replica->commit_lsn == replica->last_lsn;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        if (replica->peers[i].role == TORC_REPLICA_PEER_MEMBER &&
            replica_is_gone(&replica->peers[i].state)) {
            return false;
        }
    }
    return peer != NULL && peer->role == TORC_REPLICA_PEER_MEMBER && commits &&
           !replica->proposal.open && !replica->went_back &&
           replica->now_ns >= replica->transfer_end_ns;
}

static bool join_all_have_all(const struct torc_replica *replica)
{
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        if (replica->peers[i].role == TORC_REPLICA_PEER_MEMBER &&
            torc_replica_mark(replica, &replica->peers[i]) < replica->last_lsn) {
            return false;
        }
    }
    return replica->commit_lsn == replica->last_lsn;
}

// Nobody took it: where nothing was sent, serving goes on; else only after a compare-and-swap of
// our own, since the receiver may act on the TRANSFER whenever it arrives. Each try costs the shard
// a wait, so the next one comes after a pause that doubles; a stop has time for several.
static void join_take_back(struct torc_replica *replica)
{
    if (replica->transfer_sent && (replica->proposal.open || replica->went_back)) {
        return; // under way
    }
    replica->transfer_pause_ns =
        torc_min_u64(torc_max_u64(2 * replica->transfer_pause_ns, replica->timing.lonely_ns),
                     replica->timing.grace_ns);
    replica->transfer_end_ns = replica->now_ns + replica->transfer_pause_ns;
    if (!replica->transfer_sent) {
        replica->transfer_node = 0;
    } else {
        struct torc_configuration *configuration = torc_replica_propose(replica);

        configuration->member_count = replica->configuration.member_count;
        for (uint32_t i = 0; i < configuration->member_count; i++) {
            configuration->members[i] = replica->configuration.members[i];
        }
    }
}

void torc_replica_hand_over(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    if (replica->role != TORC_REPLICA_ACTIVE) {
        return;
    }
    if (replica->transfer_node == 0 && replica->want.primary_node != 0 &&
        join_may_hand_over(replica)) {
        if (replica->now_ns >= replica->transfer_end_ns + replica->timing.grace_ns) {
            replica->transfer_pause_ns = 0; // the last failure is long past
        }
        replica->transfer_node = replica->want.primary_node;
        replica->transfer_sent = false;
        replica->transfer_at_ns = replica->now_ns;
        replica->transfer_end_ns = replica->now_ns + replica->timing.lonely_ns;
    }
    if (replica->transfer_node == 0) {
        return;
    }
    if (replica->now_ns >= replica->transfer_end_ns) {
        join_take_back(replica);
    } else if (replica->now_ns >= replica->transfer_at_ns && join_all_have_all(replica)) {
        struct torc_peer_transfer *transfer =
            &torc_replica_send(replica, actions, TORC_PEER_TRANSFER, replica->transfer_node)
                 ->transfer;

        transfer->epoch = replica->epoch;
        transfer->last_lsn = replica->last_lsn;
        transfer->ceiling = replica->read_hlc;
        replica->transfer_sent = true;
        replica->transfer_at_ns = replica->now_ns + replica->timing.resend_ns;
    }
}
