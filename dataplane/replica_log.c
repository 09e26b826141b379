// Torc dataplane: append, ship, acknowledge, cut; which record is of which epoch. See replica.h.
#include "dataplane/replica_impl.h"

#include <string.h>

// -- The epoch table ----------------------------------------------------------------------------

void torc_replica_table_add(struct torc_epoch_table *table, uint32_t epoch, uint64_t first_lsn)
{
    if (table->count > 0 && table->entries[table->count - 1].epoch == epoch) {
        return;
    }
    torc_assert(table->count == 0 || table->entries[table->count - 1].epoch < epoch);
    torc_assert(table->count == 0 || table->entries[table->count - 1].first_lsn < first_lsn);
    if (table->count == TORC_EPOCHS_MAX) { // the oldest is forgotten
        memmove(&table->entries[0], &table->entries[1],
                (TORC_EPOCHS_MAX - 1) * sizeof(table->entries[0]));
        table->count--;
    }
    table->entries[table->count++] =
        (struct torc_epoch_entry){.epoch = epoch, .first_lsn = first_lsn};
}

static void log_table_cut(struct torc_epoch_table *table, uint64_t last_lsn)
{
    while (table->count > 0 && table->entries[table->count - 1].first_lsn > last_lsn) {
        table->count--;
    }
}

static uint64_t log_table_end(const struct torc_epoch_table *table, uint32_t i, uint64_t last_lsn)
{
    return i + 1 < table->count ? table->entries[i + 1].first_lsn - 1 : last_lsn;
}

uint32_t torc_replica_epoch_at(const struct torc_replica *replica, uint64_t lsn)
{
    for (uint32_t i = replica->table.count; i > 0; i--) {
        if (replica->table.entries[i - 1].first_lsn <= lsn) {
            return lsn <= replica->last_lsn ? replica->table.entries[i - 1].epoch : 0;
        }
    }
    return 0;
}

// T5: the highest LSN whose record is of the same epoch in both logs; 0: none that is known.
static uint64_t log_match(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    for (uint32_t i = replica->table.count; i > 0; i--) {
        const struct torc_epoch_entry *own = &replica->table.entries[i - 1];
        uint64_t own_end = log_table_end(&replica->table, i - 1, replica->last_lsn);

        for (uint32_t j = theirs->table.count; j > 0; j--) {
            const struct torc_epoch_entry *other = &theirs->table.entries[j - 1];
            uint64_t other_end = log_table_end(&theirs->table, j - 1, theirs->last_lsn);
            uint64_t end = torc_min_u64(own_end, other_end);

            if (own->epoch == other->epoch &&
                end >= torc_max_u64(own->first_lsn, other->first_lsn)) {
                return end;
            }
        }
    }
    return 0;
}

// -- Following: a new epoch ---------------------------------------------------------------------

// Records of that very epoch came from this primary, after it wrote a late or repeated message.
static bool log_is_late(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    const struct torc_epoch_table *table = &replica->table;

    return table->count > 0 &&
           table->entries[table->count - 1].epoch == theirs->configuration.epoch;
}

// What of this log stays under the new primary.
static uint64_t log_common(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    uint64_t match_lsn = log_match(replica, theirs);

    if (log_is_late(replica, theirs) && !TORC_BUG(LATE_EPOCH_CUTS)) {
        return replica->last_lsn;
    }
    if (TORC_BUG(CUT_TO_COMMIT_MARK)) {
        return torc_min_u64(replica->commit_lsn, theirs->last_lsn);
    }
    if (TORC_BUG(NO_CUT)) {
        return replica->last_lsn;
    }
    // Committed prefixes are the same everywhere, known epochs or not.
    return torc_min_u64(torc_max_u64(match_lsn, replica->commit_lsn), theirs->last_lsn);
}

// What was committed here is not known to be in the sender's log. Of members it always is; but
// where an operator accepted a loss (docs/decisions, number 38) the shard went on from a copy that
// may have had less, and others come with records that are lost: what a tree has cannot be cut.
static bool log_is_apart(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    return !log_is_late(replica, theirs) && log_match(replica, theirs) < replica->commit_lsn &&
           !TORC_BUG(LOSS_IGNORED);
}

// Tables keep the last epochs only. Whether no record that is not committed here can be the
// sender's too, where no epoch is in both tables: of all of them both know which epoch it is of.
static bool log_forks(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    uint64_t own_lsn =
        replica->table.count > 0 ? replica->table.entries[0].first_lsn : replica->last_lsn + 1;
    uint64_t their_lsn =
        theirs->table.count > 0 ? theirs->table.entries[0].first_lsn : theirs->last_lsn + 1;
    uint64_t common_lsn = torc_min_u64(replica->last_lsn, theirs->last_lsn);

    return torc_min_u64(torc_max_u64(own_lsn, their_lsn) - 1, common_lsn) <= replica->commit_lsn;
}

// A member may have acknowledged what it does not know to be committed: it cuts nothing that may be
// in the sender's log (T5). Whoever made that many epochs without it has all that it acknowledged,
// and removes it; else this log is still whole when the next one takes over.
static bool log_may_cut(const struct torc_replica *replica, const struct torc_peer_epoch *theirs)
{
    return log_is_late(replica, theirs) || log_match(replica, theirs) > 0 ||
           log_forks(replica, theirs) || TORC_BUG(CUT_TO_COMMIT_MARK);
}

static void log_cut(struct torc_replica *replica, uint64_t last_lsn,
                    struct torc_replica_actions *actions)
{
    if (last_lsn >= replica->last_lsn) {
        return;
    }
    torc_assert(last_lsn >= replica->commit_lsn || TORC_BUG(LATE_EPOCH_CUTS)); // R2
    replica->counters.cut_records += replica->last_lsn - last_lsn;
    replica->last_lsn = last_lsn;
    replica->durable_lsn = torc_min_u64(replica->durable_lsn, last_lsn);
    replica->commit_lsn = torc_min_u64(replica->commit_lsn, last_lsn);
    replica->applied_lsn = torc_min_u64(replica->applied_lsn, last_lsn);
    log_table_cut(&replica->table, last_lsn);
    torc_replica_emit(actions, TORC_REPLICA_CUT, replica->node)->lsn = last_lsn;
}

// Brings the log to the sender's, or finds that it needs a base. Members do only where the sender's
// table says too little: what they lack is still to be had (torc_replica_keep_lsn).
static bool log_reconcile(struct torc_replica *replica, const struct torc_peer_epoch *theirs,
                          struct torc_replica_actions *actions)
{
    uint64_t common_lsn = log_common(replica, theirs);
    bool member = torc_replica_is_member(&theirs->configuration, replica->node, replica->copy);
    bool streaming = replica->base_loading &&
                     replica->base_node == theirs->configuration.primary_node &&
                     replica->base_boot == theirs->configuration.primary_boot;
    bool whole =
        streaming || (!replica->base_loading && (replica->has_base || theirs->floor_lsn == 0));

    if (!member && (!whole || common_lsn < theirs->floor_lsn || log_is_apart(replica, theirs))) {
        return false;
    }
    if (member && !log_may_cut(replica, theirs)) {
        return false;
    }
    log_cut(replica, common_lsn, actions);
    if (!replica->base_loading && !replica->has_base) {
        replica->has_base = true; // all of it, from the first record on, is to be had
        // But what it had may go on from a base of this life, which is as durable as it was (J2).
        replica->base_durable = replica->base_durable || replica->base_stream == 0;
    }
    return true;
}

void torc_replica_on_epoch(struct torc_replica *replica, const struct torc_replica_event *event,
                           struct torc_replica_actions *actions)
{
    const struct torc_peer_epoch *theirs = &event->message->epoch;
    const struct torc_configuration *configuration = &theirs->configuration;
    bool member = torc_replica_is_member(configuration, replica->node, replica->copy);

    if (configuration->epoch < replica->epoch) {
        replica->counters.old_epoch++;
        torc_replica_refuse(replica, event->node, configuration->epoch, actions);
        return;
    }
    if (event->node != configuration->primary_node || event->boot != configuration->primary_boot ||
        (replica_leads(replica) && configuration->epoch == replica->epoch)) {
        replica->counters.stranger++;
        return;
    }
    if (!member && !theirs->active) { // J1: this tail may be the best copy left
        replica->counters.too_early++;
        return;
    }
    if (configuration->epoch == replica->epoch && replica->synced && !TORC_BUG(LATE_EPOCH_CUTS)) {
        // Again. What a learner lacks may be gone from the primary's log by now.
        replica->synced = member || replica->last_lsn >= theirs->floor_lsn;
        replica->has_base = replica->synced && replica->has_base;
        replica->ack_due = true;
        return;
    }
    if (log_reconcile(replica, theirs, actions)) {
        replica->unsynced_since_start = false;
        torc_replica_follow(replica, configuration, true, actions);
    } else if (configuration->epoch > replica->epoch) {
        torc_replica_follow(replica, configuration, false, actions);
    } else {
        replica->ack_due = true;
    }
}

// -- Following: records -------------------------------------------------------------------------

void torc_replica_refuse(const struct torc_replica *replica, uint32_t node, uint32_t epoch,
                         struct torc_replica_actions *actions)
{
    struct torc_peer_refuse *refuse =
        &torc_replica_send(replica, actions, TORC_PEER_REFUSE, node)->refuse;

    refuse->epoch = epoch;
    refuse->my_epoch = replica->epoch;
}

static void log_ack(const struct torc_replica *replica, uint32_t node, uint32_t epoch,
                    struct torc_replica_actions *actions)
{
    struct torc_peer_ack *ack = &torc_replica_send(replica, actions, TORC_PEER_ACK, node)->ack;
    bool opened =
        replica->table.count > 0 &&
        replica->table.entries[replica->table.count - 1].epoch == epoch &&
        replica->table.entries[replica->table.count - 1].first_lsn <= replica->durable_lsn;

    ack->epoch = epoch;
    ack->copy = replica->copy;
    ack->stream = replica->base_stream;
    ack->needs_base = !replica->synced;
    ack->usable = torc_replica_is_usable(replica);
    ack->received_lsn = replica->synced ? replica->last_lsn : 0;
    // A3; J2.
    ack->durable_lsn =
        replica->synced && opened && (replica->base_durable || TORC_BUG(JOIN_BASE_IN_MEMORY))
            ? replica->durable_lsn
            : 0;
}

// A backup applies what this epoch's primary says is committed, as far as it has it (C4).
static void log_hear_commit(struct torc_replica *replica, uint64_t commit_lsn,
                            struct torc_replica_actions *actions)
{
    uint64_t known_lsn;

    replica->commit_heard_lsn = torc_max_u64(replica->commit_heard_lsn, commit_lsn);
    known_lsn = torc_min_u64(replica->commit_heard_lsn, replica->last_lsn);
    if (known_lsn > replica->commit_lsn) {
        replica->commit_lsn = known_lsn;
        if (!replica->base_loading) {
            torc_replica_emit(actions, TORC_REPLICA_APPLY, replica->node)->lsn = known_lsn;
        }
    }
}

static void log_take(struct torc_replica *replica, const struct torc_peer_message *message,
                     struct torc_replica_actions *actions)
{
    const struct torc_peer_append *append = &message->append;
    uint64_t end_lsn = append->first_lsn + append->count; // the first one behind
    struct torc_replica_take *take;

    if (append->count == 0 || end_lsn <= replica->last_lsn + 1) {
        return; // only the mark, or nothing new
    }
    if (append->first_lsn > replica->last_lsn + 1) {
        replica->counters.gaps++;
        return;
    }
    take = &torc_replica_emit(actions, TORC_REPLICA_TAKE, replica->node)->take;
    take->skip = (uint32_t)(replica->last_lsn + 1 - append->first_lsn);
    take->count = append->count - take->skip;
    // Which epochs they were written in: runs, in the order of the records.
    for (uint32_t i = 0; i < append->runs.count; i++) {
        if (append->runs.entries[i].first_lsn > replica->last_lsn) {
            torc_replica_table_add(&replica->table, append->runs.entries[i].epoch,
                                   append->runs.entries[i].first_lsn);
        } else if (i + 1 == append->runs.count ||
                   append->runs.entries[i + 1].first_lsn > replica->last_lsn + 1) {
            torc_replica_table_add(&replica->table, append->runs.entries[i].epoch,
                                   replica->last_lsn + 1);
        }
    }
    replica->last_lsn = end_lsn - 1;
}

void torc_replica_on_append(struct torc_replica *replica, const struct torc_replica_event *event,
                            struct torc_replica_actions *actions)
{
    const struct torc_peer_append *append = &event->message->append;
    bool from_primary = event->node == replica->configuration.primary_node &&
                        event->boot == replica->configuration.primary_boot;

    if (append->epoch < replica->epoch) { // A2: also what it already has
        replica->counters.old_epoch++;
        if (TORC_BUG(ACK_OLD_EPOCH_APPEND) &&
            append->first_lsn + append->count <= replica->last_lsn + 1) {
            log_ack(replica, event->node, append->epoch, actions);
        } else {
            torc_replica_refuse(replica, event->node, append->epoch, actions);
        }
        return;
    }
    if (append->epoch > replica->epoch) {
        replica->read_wanted = true;
        return;
    }
    if (!from_primary && !(TORC_BUG(ACK_BEFORE_READ) && replica->configuration.epoch == 0)) {
        replica->counters.stranger++;
        return;
    }
    if (!replica->synced) {
        replica->counters.too_early++;
        replica->ack_due = true; // the primary thinks that it is, if an older word came later
        return;
    }
    if (TORC_BUG(ACK_BEFORE_READ) && replica->configuration.epoch == 0) {
        replica->configuration.primary_node = event->node;
        replica->configuration.primary_boot = event->boot;
    }
    log_take(replica, event->message, actions);
    log_hear_commit(replica, append->commit_lsn, actions);
    replica->ack_due = true; // of a mark alone too: an acknowledgement may have been lost
}

void torc_replica_on_durable(struct torc_replica *replica,
                             const struct torc_replica_durable *durable)
{
    // A record of a cut tail may become durable after another took its LSN: its epoch differs.
    if (durable->lsn <= replica->durable_lsn ||
        torc_replica_epoch_at(replica, durable->lsn) != durable->epoch) {
        return;
    }
    replica->durable_lsn = durable->lsn;
    replica->ack_due = !replica_leads(replica);
}

void torc_replica_acknowledge(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    bool nobody = replica->configuration.primary_node == 0 && TORC_BUG(ACK_BEFORE_READ);

    if (replica->ack_due && replica->adopted && !nobody) { // R4
        replica->ack_due = false;
        log_ack(replica, replica->configuration.primary_node, replica->epoch, actions);
    }
}

// -- Leading ------------------------------------------------------------------------------------

static bool log_ack_counts(struct torc_replica *replica, const struct torc_peer_ack *ack)
{
    if (!replica_leads(replica)) {
        replica->counters.stranger++;
        return false;
    }
    if (ack->epoch > replica->epoch) {
        replica->read_wanted = true;
        return false;
    }
    if (ack->epoch < replica->epoch) {
        replica->counters.old_epoch++;
        return false;
    }
    return true;
}

static void log_forget_marks(struct torc_replica_peer *peer)
{
    peer->received_lsn = 0;
    peer->durable_lsn = 0;
    peer->next_lsn = 0;
    peer->told_commit_lsn = 0;
    peer->repeated_lsn = UINT64_MAX;
    peer->resend_at_ns = 0;
    peer->stuck_at_ns = 0;
}

// First word of this boot in this epoch: from here on its marks count.
static void log_greet(const struct torc_replica *replica, struct torc_replica_peer *peer,
                      uint64_t boot, struct torc_replica_actions *actions)
{
    torc_assert(replica->epoch > 0);
    peer->acked_boot = boot;
    log_forget_marks(peer);
    torc_replica_emit(actions, TORC_REPLICA_HURRY, peer->node);
}

// The same marks twice while more is under way: something came out of order, and what followed was
// dropped. Shipping goes back once for each mark; if that is lost too, time does it (stuck_at_ns).
static void log_hear_repeated(struct torc_replica_peer *peer, const struct torc_peer_ack *ack)
{
    if (ack->received_lsn == peer->received_lsn && ack->durable_lsn <= peer->durable_lsn &&
        peer->next_lsn > peer->received_lsn + 1 && peer->repeated_lsn != peer->received_lsn) {
        peer->repeated_lsn = peer->received_lsn;
        peer->next_lsn = peer->received_lsn + 1;
    }
}

void torc_replica_on_ack(struct torc_replica *replica, const struct torc_replica_event *event,
                         struct torc_replica_actions *actions)
{
    const struct torc_peer_ack *ack = &event->message->ack;
    struct torc_replica_peer *peer = torc_replica_find(replica, event->node);

    if (!log_ack_counts(replica, ack)) {
        return;
    }
    if (peer == NULL || peer->role == TORC_REPLICA_PEER_OTHER || event->boot < peer->acked_boot) {
        replica->counters.stranger++;
        return;
    }
    // B1. Another copy of the same boot: it dropped the shard, and was given it again.
    if (event->boot > peer->acked_boot ||
        (ack->copy != peer->acked_copy && !TORC_BUG(ACK_OF_LAST_COPY))) {
        log_greet(replica, peer, event->boot, actions);
        // What is on its way is for the other.
        peer->stream_boot = ack->copy != peer->acked_copy ? 0 : peer->stream_boot;
    }
    peer->acked_copy = ack->copy;
    if (peer->role == TORC_REPLICA_PEER_LEARNER && !peer->proposed) {
        peer->copy = ack->copy;
    }
    if (ack->stream != peer->acked_stream) { // with a base its log begins anew, maybe lower
        log_forget_marks(peer);
    }
    peer->acked_stream = ack->stream;
    peer->needs_base = ack->needs_base;
    peer->usable = ack->usable;
    log_hear_repeated(peer, ack);
    peer->stuck_at_ns = ack->received_lsn > peer->received_lsn ? 0 : peer->stuck_at_ns;
    peer->received_lsn =
        torc_max_u64(peer->received_lsn, torc_min_u64(ack->received_lsn, replica->last_lsn));
    peer->durable_lsn =
        torc_max_u64(peer->durable_lsn, torc_min_u64(ack->durable_lsn, replica->last_lsn));
    if (peer->next_lsn <= peer->received_lsn) {
        peer->next_lsn = peer->received_lsn + 1;
    }
}

// Each record that is shipped puts resend_at_ns off, and under steady writes it never comes. So
// what is under way has its own time, which only an answer puts off. Longer, as a large value or a
// core without its processor for a moment takes more than one (a bet), and lag_ns is ten times it.
#define LOG_STUCK_RESENDS 4u

static void log_note_stuck(const struct torc_replica *replica, struct torc_replica_peer *peer)
{
    if (peer->next_lsn <= peer->received_lsn + 1) {
        peer->stuck_at_ns = 0;
    } else if (peer->stuck_at_ns == 0) {
        peer->stuck_at_ns = replica->now_ns + LOG_STUCK_RESENDS * replica->timing.resend_ns;
    }
}

static void log_send_epoch(struct torc_replica *replica, struct torc_replica_peer *peer,
                           struct torc_replica_actions *actions)
{
    struct torc_peer_epoch *message =
        &torc_replica_send(replica, actions, TORC_PEER_EPOCH, peer->node)->epoch;

    message->configuration = replica->configuration;
    message->table = replica->table;
    message->last_lsn = replica->last_lsn;
    message->floor_lsn = replica->floor_lsn;
    message->active = replica->role == TORC_REPLICA_ACTIVE;
    peer->resend_at_ns = replica->now_ns + replica->timing.resend_ns;
}

static void log_send_records(struct torc_replica *replica, struct torc_replica_peer *peer,
                             struct torc_replica_actions *actions)
{
    struct torc_replica_action *action = torc_replica_emit(actions, TORC_REPLICA_SHIP, peer->node);
    struct torc_peer_append *append = &action->message.append;

    action->message.kind = TORC_PEER_APPEND;
    action->message.shard = replica->shard;
    append->epoch = replica->epoch;
    append->first_lsn = peer->next_lsn;
    append->count =
        (uint32_t)torc_min_u64(replica->last_lsn + 1 - peer->next_lsn, TORC_REPLICA_SHIP_MAX);
    append->commit_lsn = replica->commit_lsn;
    peer->next_lsn += append->count;
    peer->told_count = peer->told_commit_lsn == replica->commit_lsn ? peer->told_count + 1 : 1;
    peer->told_commit_lsn = replica->commit_lsn;
    peer->resend_at_ns = replica->now_ns + replica->timing.resend_ns;
}

// A commit mark is not acknowledged. So often it is told where nothing follows that would carry it;
// lost as often, an idle backup's tree stays behind until the next write (a bet).
#define LOG_TOLD_ENOUGH 3u

// Whether it has all and has said so: then there is nothing to repeat.
static bool log_is_content(const struct torc_replica *replica, const struct torc_replica_peer *peer)
{
    return peer->received_lsn == replica->last_lsn &&
           torc_replica_mark(replica, peer) == replica->last_lsn &&
           peer->told_commit_lsn == replica->commit_lsn &&
           (peer->usable || peer->role == TORC_REPLICA_PEER_MEMBER);
}

// Worker 0 takes claims of an epoch that it knows, and drops others.
static void log_claim(const struct torc_replica *replica, struct torc_replica_peer *peer,
                      struct torc_replica_actions *actions)
{
    if (peer->role == TORC_REPLICA_PEER_LEARNER && peer->acked_boot != 0 && !peer->claimed &&
        replica->adopted) {
        peer->claimed = true;
        torc_replica_emit(actions, TORC_REPLICA_CLAIM, peer->node);
    }
}

static void log_ship_to(struct torc_replica *replica, struct torc_replica_peer *peer,
                        struct torc_replica_actions *actions)
{
    // What was committed when a promise ended is news to those that were content.
    bool news = peer->resend_at_ns == 0 && peer->told_commit_lsn != replica->commit_lsn;
    bool again = replica_due(replica, peer->resend_at_ns) || news;

    if (peer->acked_boot == 0) {
        if (peer->resend_at_ns == 0 || again) {
            log_send_epoch(replica, peer, actions);
        }
        return;
    }
    if ((again || replica_due(replica, peer->stuck_at_ns)) &&
        peer->received_lsn + 1 < peer->next_lsn) {
        peer->next_lsn = peer->received_lsn + 1;
        peer->stuck_at_ns = 0;
    }
    // It lacks what cannot be sent: a learner asks for a base, a member has to become one.
    if (peer->needs_base || peer->next_lsn <= replica->floor_lsn) {
        if (peer->resend_at_ns == 0 || again) {
            log_send_epoch(replica, peer, actions);
        }
        return;
    }
    if (peer->next_lsn <= replica->last_lsn &&
        peer->next_lsn - peer->received_lsn <= TORC_REPLICA_WINDOW_MAX) {
        log_send_records(replica, peer, actions);
    } else if (again && log_is_content(replica, peer) && peer->told_count >= LOG_TOLD_ENOUGH) {
        peer->resend_at_ns = 0;
    } else if (again) {
        log_send_records(replica, peer, actions); // none: the mark alone, to be answered
    }
}

// A learner that has all may lack its lease, which is no event: it is looked at again (J3).
static void log_wait_for(const struct torc_replica *replica, struct torc_replica_peer *peer)
{
    if (peer->role == TORC_REPLICA_PEER_LEARNER && peer->resend_at_ns == 0) {
        peer->resend_at_ns = replica->now_ns + replica->timing.resend_ns;
    }
}

void torc_replica_ship(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        struct torc_replica_peer *peer = &replica->peers[i];
        bool fed =
            peer->role == TORC_REPLICA_PEER_MEMBER ||
            (peer->role == TORC_REPLICA_PEER_LEARNER && replica->role == TORC_REPLICA_ACTIVE);

        if (fed && torc_replica_room(actions, TORC_REPLICA_PIECES_MAX + 4)) {
            log_claim(replica, peer, actions);
            log_ship_to(replica, peer, actions);
            log_note_stuck(replica, peer);
            log_wait_for(replica, peer);
            torc_replica_stream(replica, peer, actions);
        }
    }
}
