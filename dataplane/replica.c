// Torc dataplane: a replica's life, the records it reads, its roles. The manual is replica.h.
#include "dataplane/replica_impl.h"

#include <string.h>

_Static_assert(TORC_REPLICA_PEERS_MAX > TORC_MEMBERS_MAX, "members and at least one learner");

// -- Words --------------------------------------------------------------------------------------

struct torc_replica_action *torc_replica_emit(struct torc_replica_actions *actions,
                                              enum torc_replica_action_kind kind, uint32_t node)
{
    struct torc_replica_action *action;

    torc_assert(actions->count < TORC_REPLICA_ACTIONS_MAX); // R6
    action = &actions->items[actions->count++];
    memset(action, 0, sizeof(*action));
    action->kind = kind;
    action->node = node;
    return action;
}

struct torc_peer_message *torc_replica_send(const struct torc_replica *replica,
                                            struct torc_replica_actions *actions,
                                            enum torc_peer_kind kind, uint32_t node)
{
    struct torc_peer_message *message =
        &torc_replica_emit(actions, TORC_REPLICA_SEND, node)->message;

    message->kind = kind;
    message->shard = replica->shard;
    return message;
}

bool torc_replica_room(const struct torc_replica_actions *actions, uint32_t count)
{
    return actions->count + count <= TORC_REPLICA_ACTIONS_MAX;
}

struct torc_replica_peer *torc_replica_find(struct torc_replica *replica, uint32_t node)
{
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        if (replica->peers[i].node == node) {
            return &replica->peers[i];
        }
    }
    return NULL;
}

struct torc_replica_peer *torc_replica_meet(struct torc_replica *replica, uint32_t node)
{
    struct torc_replica_peer *peer = torc_replica_find(replica, node);

    torc_assert(node != replica->node);
    for (uint32_t i = 0; i < replica->peer_count && peer == NULL; i++) {
        if (replica->peer_count == TORC_REPLICA_PEERS_MAX &&
            replica->peers[i].role == TORC_REPLICA_PEER_OTHER) {
            peer = &replica->peers[i];
            peer->node = 0;
        }
    }
    if (peer == NULL && replica->peer_count < TORC_REPLICA_PEERS_MAX) {
        peer = &replica->peers[replica->peer_count++];
        peer->node = 0;
    }
    if (peer != NULL && peer->node != node) {
        *peer = (struct torc_replica_peer){.node = node, .state.node = node};
    }
    return peer;
}

bool torc_replica_is_member(const struct torc_configuration *configuration, uint32_t node,
                            uint64_t copy)
{
    for (uint32_t i = 0; i < configuration->member_count; i++) {
        if (configuration->members[i].node == node) {
            return configuration->members[i].copy == copy || TORC_BUG(COPY_IGNORED);
        }
    }
    return false;
}

// -- Life ---------------------------------------------------------------------------------------

void torc_replica_init(struct torc_replica *replica, uint64_t now_ns,
                       const struct torc_replica_start *start)
{
    torc_assert(start->boot > 0);
    torc_assert(start->commit_lsn <= start->last_lsn);
    torc_assert(start->min_in_sync >= 1);
    *replica = (struct torc_replica){
        .timing = start->timing,
        .durability = start->durability,
        .role = TORC_REPLICA_LEARNER,
        .now_ns = now_ns,
        .started_ns = now_ns,
        .shard = start->shard,
        .node = start->node,
        .boot = start->boot,
        .copy = start->copy,
        .min_in_sync = start->min_in_sync,
        // The shard's life before on this node counted slower than one in 65 us: below this, for
        // the 18 minutes in which the number comes round.
        .nonce_count = (uint32_t)(now_ns >> 16),
        .unsynced_since_start = true,
        .read_wanted = true,
        .log_epoch = start->log_epoch,
        .table = start->table,
        .last_lsn = start->last_lsn,
        .durable_lsn = start->last_lsn,
        .commit_lsn = start->commit_lsn,
        .applied_lsn = start->commit_lsn,
        .floor_lsn = start->floor_lsn,
        .has_base = start->has_base,
        .base_durable = start->has_base,
    };
    if (TORC_BUG(ACK_BEFORE_READ) && start->table.count > 0) {
        replica->epoch = start->table.entries[start->table.count - 1].epoch;
        replica->role = TORC_REPLICA_BACKUP;
        replica->synced = true;
        replica->adopted = true;
    }
}

struct torc_configuration *torc_replica_propose(struct torc_replica *replica)
{
    struct torc_replica_open *open = &replica->proposal;

    torc_assert(!open->open); // R5
    torc_assert(replica->epoch > 0);
    *open = (struct torc_replica_open){.open = true, .retry_at_ns = replica->now_ns};
    open->proposal.expected_epoch = replica->epoch;
    open->proposal.configuration.epoch = replica->epoch + 1;
    open->proposal.configuration.primary_node = replica->node;
    open->proposal.configuration.primary_boot = replica->boot;
    // Unique: a node and boot mint it, and count.
    open->proposal.configuration.nonce = (uint64_t)replica->node << 52 |
                                         (replica->boot & 0xfffffff) << 24 |
                                         (++replica->nonce_count & 0xffffff);
    return &open->proposal.configuration;
}

// -- Adopting an epoch --------------------------------------------------------------------------

// The last primary's life, while it is still the configuration's, if it is known to be over (L4).
static struct torc_watch_life replica_down(const struct torc_replica *replica)
{
    const struct torc_configuration *configuration = &replica->configuration;

    return (struct torc_watch_life){.node = configuration->primary_node,
                                    .boot =
                                        replica->primary_down_boot == configuration->primary_boot
                                            ? configuration->primary_boot
                                            : 0};
}

void torc_replica_adopt(struct torc_replica *replica, struct torc_watch_life down, bool keeps,
                        struct torc_replica_actions *actions)
{
    struct torc_watch_adoption *adoption =
        &torc_replica_emit(actions, TORC_REPLICA_ADOPT, replica->node)->adoption;

    replica->adopted = false;
    if (down.boot != 0 && replica->now_ns < replica->promise_until_ns && TORC_BUG(DOWN_VOIDS_ALL)) {
        replica->promise_until_ns = 0;
    }
    adoption->shard = replica->shard;
    adoption->epoch = replica->epoch;
    adoption->primary_node = replica->configuration.primary_node;
    adoption->synced = replica->synced;
    adoption->keeps = keeps;
    adoption->down = down;
    for (uint32_t i = 0; i < replica->configuration.member_count && replica_leads(replica); i++) {
        if (replica->configuration.members[i].node != replica->node) {
            adoption->claim_nodes[adoption->claim_count++] = replica->configuration.members[i].node;
        }
    }
}

// Nothing that was acknowledged in another epoch counts in this one; a lease does, where the same
// primary goes on (L6).
static void replica_reset_peer(struct torc_replica_peer *peer, bool keeps)
{
    peer->role = TORC_REPLICA_PEER_OTHER;
    peer->proposed = false;
    peer->claimed = false;
    peer->needs_base = false;
    peer->usable = false;
    peer->resend_at_ns = 0;
    peer->stuck_at_ns = 0;
    peer->behind_at_ns = 0;
    peer->answered = false;
    peer->acked_boot = 0;
    if (!TORC_BUG(ACK_OF_LAST_EPOCH)) {
        peer->received_lsn = 0;
        peer->durable_lsn = 0;
    }
    if (!keeps) {
        peer->lease = (struct torc_watch_lease){0};
        peer->stream = TORC_REPLICA_STREAM_NONE;
        peer->streams_lost = 0;
        peer->stream_gave_way = false;
    }
}

static void replica_configure_peers(struct torc_replica *replica, bool keeps)
{
    const struct torc_configuration *configuration = &replica->configuration;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        replica_reset_peer(&replica->peers[i], keeps);
    }
    for (uint32_t i = 0; i < configuration->member_count; i++) {
        struct torc_replica_peer *peer;

        if (configuration->members[i].node == replica->node) {
            continue;
        }
        peer = torc_replica_meet(replica, configuration->members[i].node);
        torc_assert(peer != NULL); // members are fewer than places
        peer->role = TORC_REPLICA_PEER_MEMBER;
        peer->copy = configuration->members[i].copy;
    }
}

// What every new epoch ends.
static void replica_enter(struct torc_replica *replica,
                          const struct torc_configuration *configuration)
{
    torc_assert(configuration->epoch >= replica->epoch); // R1
    replica->configuration = *configuration;
    replica->epoch = configuration->epoch;
    replica->commit_heard_lsn = 0;
    replica->proposal.open = false;
    replica->suspect_at_ns = 0;
    replica->probe_since_ns = 0;
    replica->alone_since_ns = 0;
    replica->transfer_node = 0;
    replica->transfer_sent = false;
    replica->ack_due = false;
}

void torc_replica_follow(struct torc_replica *replica,
                         const struct torc_configuration *configuration, bool synced,
                         struct torc_replica_actions *actions)
{
    struct torc_watch_life down = replica_down(replica);

    if (replica_leads(replica)) {
        torc_replica_emit(actions, TORC_REPLICA_DEMOTED, replica->node);
        if (replica->role == TORC_REPLICA_ACTIVE && replica->transfer_node == 0 &&
            replica->health == 0) { // nor was it relieved by its own word
            torc_replica_emit(actions, TORC_REPLICA_ALIVE, replica->node);
        }
    }
    if (configuration->epoch > replica->epoch) {
        replica->primary_down_boot = 0;
        replica->primary_node_boot = 0;
    }
    replica->role = torc_replica_is_member(configuration, replica->node, replica->copy)
                        ? TORC_REPLICA_BACKUP
                        : TORC_REPLICA_LEARNER;
    replica_enter(replica, configuration);
    replica_configure_peers(replica, false);
    replica->synced = synced;
    replica->refresh_at_ns = replica->now_ns + replica->timing.lonely_ns;
    torc_replica_adopt(replica, down, false, actions);
}

// T4, and the primary's own reconfigurations: this boot is the primary of the new epoch.
static void replica_lead(struct torc_replica *replica,
                         const struct torc_configuration *configuration,
                         struct torc_replica_actions *actions)
{
    bool goes_on = replica->role == TORC_REPLICA_ACTIVE;
    struct torc_watch_life down = replica_down(replica);

    torc_assert(!goes_on || configuration->epoch == replica->epoch + 1);
    replica->counters.takeovers += !goes_on;
    replica->role = goes_on ? TORC_REPLICA_ACTIVE : TORC_REPLICA_CANDIDATE;
    replica_enter(replica, configuration);
    replica_configure_peers(replica, goes_on);
    replica->primary_down_boot = 0;
    replica->primary_node_boot = 0;
    replica->synced = true;
    replica->unsynced_since_start = false;
    replica->epoch_lsn = ++replica->last_lsn; // A1
    if (!goes_on) {
        replica->tail_lsn = replica->epoch_lsn;
    }
    torc_replica_table_add(&replica->table, replica->epoch, replica->epoch_lsn);
    torc_replica_emit(actions, TORC_REPLICA_OPEN, replica->node)->lsn = replica->epoch_lsn;
    torc_replica_adopt(replica, down, goes_on, actions);
}

// -- Records ------------------------------------------------------------------------------------

static void replica_note_primary(struct torc_replica *replica,
                                 const struct torc_replica_record *record)
{
    if (record->configuration.epoch == replica->epoch) {
        replica->primary_down_boot =
            torc_max_u64(replica->primary_down_boot, record->primary_down_boot);
        replica->primary_node_boot =
            torc_max_u64(replica->primary_node_boot, record->primary_node_boot);
    }
}

// Once, however often the record is read until it is the right one again. Who has adopted nothing
// yet is told of nothing else, so it looks by itself.
static void replica_alarm(struct torc_replica *replica, uint32_t epoch,
                          struct torc_replica_actions *actions)
{
    if (!replica->went_back) {
        torc_replica_emit(actions, TORC_REPLICA_ALARM, replica->node)->epoch = epoch;
    }
    replica->went_back = true;
    if (replica->epoch == 0) {
        replica->refresh_at_ns = replica->now_ns + replica->timing.lonely_ns;
    }
}

static void replica_on_record(struct torc_replica *replica,
                              const struct torc_replica_record *record,
                              struct torc_replica_actions *actions)
{
    const struct torc_configuration *configuration = &record->configuration;
    // T9. The copy too: a node that dropped the shard and was given it again is another replica, to
    // which what was read for the one before it may come late.
    bool ours = configuration->primary_node == replica->node &&
                (configuration->primary_boot == replica->boot || TORC_BUG(RESTART_SAME_EPOCH)) &&
                (torc_replica_is_member(configuration, replica->node, replica->copy) ||
                 TORC_BUG(RECORD_OF_LAST_COPY));

    if (configuration->epoch <
        torc_max_u64(record->asked_epoch, replica->epoch == 0 ? replica->log_epoch : 0)) { // M3
        replica_alarm(replica, configuration->epoch, actions);
        return;
    }
    if (configuration->epoch < replica->epoch) {
        return; // late: a message told us more in the meantime
    }
    replica->went_back = false;
    if (configuration->epoch > replica->epoch && ours) {
        replica_lead(replica, configuration, actions);
    } else if (configuration->epoch > replica->epoch) {
        torc_replica_follow(replica, configuration, false, actions);
    }
    replica_note_primary(replica, record);
    if (TORC_BUG(RESTART_SAME_EPOCH) && configuration->primary_boot != replica->boot && ours &&
        replica->role == TORC_REPLICA_CANDIDATE) {
        replica->role = TORC_REPLICA_ACTIVE; // as if it had never died
        replica->tail_lsn = 0;
    }
}

static void replica_on_result(struct torc_replica *replica,
                              const struct torc_replica_result *result,
                              struct torc_replica_actions *actions)
{
    // An outcome is what the record says: at the epoch that was expected nothing is decided yet,
    // and the request may still be executed late (M2). So only a record ends a proposal.
    if (result->outcome == TORC_REPLICA_UNKNOWN) {
        replica->read_wanted = true;
        return;
    }
    replica_on_record(replica, &result->record, actions);
}

// -- What others say ----------------------------------------------------------------------------

static void replica_on_peer(struct torc_replica *replica, const struct torc_peer_state *state)
{
    struct torc_replica_peer *peer = torc_replica_find(replica, state->node);

    if (peer == NULL) {
        return;
    }
    if (peer->acked_boot != 0 && state->boot > peer->acked_boot) { // B1
        peer->acked_boot = 0;
        peer->received_lsn = 0;
        peer->durable_lsn = 0;
        peer->resend_at_ns = 0;
        peer->stuck_at_ns = 0;
        peer->lease = (struct torc_watch_lease){0};
        peer->stream = TORC_REPLICA_STREAM_NONE;
    }
    if (state->node == replica->configuration.primary_node && state->silent &&
        !peer->state.silent) {
        replica->read_wanted = true; // its node record may know that it is down
    }
    peer->state = *state;
}

static void replica_on_adopted(struct torc_replica *replica,
                               const struct torc_replica_adopted *adopted)
{
    if (adopted->promise_until_ns < replica->promise_until_ns &&
        replica->now_ns < replica->promise_until_ns && TORC_BUG(PROMISE_WITHOUT_MAXIMUM)) {
        replica->promise_until_ns = adopted->promise_until_ns;
    }
    replica->promise_until_ns =
        torc_max_u64(replica->promise_until_ns, adopted->promise_until_ns); // L4
    if (adopted->epoch == replica->epoch) {
        replica->adopted = true;
        replica->ack_due = !replica_leads(replica);
    }
}

static void replica_on_message(struct torc_replica *replica, const struct torc_replica_event *event,
                               struct torc_replica_actions *actions)
{
    const struct torc_peer_message *message = event->message;

    torc_assert(message->shard == replica->shard);
    if (replica->epoch == 0 && message->kind != TORC_PEER_PROBE) {
        replica->counters.too_early++; // section 10, step 2
        return;
    }
    switch (message->kind) {
    case TORC_PEER_EPOCH: torc_replica_on_epoch(replica, event, actions); return;
    case TORC_PEER_APPEND: torc_replica_on_append(replica, event, actions); return;
    case TORC_PEER_ACK: torc_replica_on_ack(replica, event, actions); return;
    case TORC_PEER_REFUSE:
        replica->read_wanted = replica->read_wanted || message->refuse.my_epoch > replica->epoch;
        return;
    case TORC_PEER_PROBE: torc_replica_on_probe(replica, event, actions); return;
    case TORC_PEER_PROBE_ACK: torc_replica_on_probe_ack(replica, event); return;
    case TORC_PEER_TRANSFER: torc_replica_on_transfer(replica, event); return;
    case TORC_PEER_SNAP: torc_replica_on_snap(replica, event, actions); return;
    }
    torc_unreachable("the decoder lets no other kind through");
}

static void replica_on_event(struct torc_replica *replica, const struct torc_replica_event *event,
                             struct torc_replica_actions *actions)
{
    switch (event->kind) {
    case TORC_REPLICA_WAKE: replica->read_wanted = true; return;
    case TORC_REPLICA_RECORD:
        replica->read_at_ns = 0;
        replica_on_record(replica, event->record, actions);
        return;
    case TORC_REPLICA_RESULT: replica_on_result(replica, event->result, actions); return;
    case TORC_REPLICA_ADOPTED: replica_on_adopted(replica, &event->adopted); return;
    case TORC_REPLICA_PEER: replica_on_peer(replica, &event->peer); return;
    case TORC_REPLICA_MESSAGE: replica_on_message(replica, event, actions); return;
    case TORC_REPLICA_APPENDED:
        torc_assert(replica->role == TORC_REPLICA_ACTIVE);
        torc_assert(event->lsn > replica->last_lsn);
        replica->last_lsn = event->lsn;
        return;
    case TORC_REPLICA_DURABLE: torc_replica_on_durable(replica, &event->durable); return;
    case TORC_REPLICA_APPLIED:
        torc_assert(event->lsn <= replica->commit_lsn); // invariant 7 of DESIGN.md
        replica->ack_due = replica->ack_due || (replica->applied_lsn < replica->base_end_lsn &&
                                                event->lsn >= replica->base_end_lsn);
        replica->applied_lsn = event->lsn;
        return;
    case TORC_REPLICA_WANT: replica->want = *event->want; return;
    case TORC_REPLICA_HEALTH: replica->health = event->health; return;
    case TORC_REPLICA_BASE: torc_replica_on_base(replica, event->base, actions); return;
    }
    torc_unreachable("all kinds return");
}

// -- Steps --------------------------------------------------------------------------------------

static bool replica_waits_to_be_fed(const struct torc_replica *replica)
{
    return !replica_leads(replica) && (!replica->synced || replica->role == TORC_REPLICA_LEARNER);
}

static void replica_ask(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    struct torc_replica_open *open = &replica->proposal;

    if (replica_waits_to_be_fed(replica) && replica_due(replica, replica->refresh_at_ns)) {
        replica->refresh_at_ns = replica->now_ns + replica->timing.lonely_ns;
        replica->read_wanted = true;
    }
    if ((replica->read_wanted && replica->read_at_ns == 0) ||
        replica_due(replica, replica->read_at_ns)) {
        replica->read_wanted = false;
        replica->read_at_ns = replica->now_ns + replica->timing.retry_ns;
        torc_replica_emit(actions, TORC_REPLICA_READ, replica->node)->epoch = replica->epoch;
    }
    if (open->open && replica->now_ns >= open->retry_at_ns) {
        open->retry_at_ns = replica->now_ns + replica->timing.retry_ns;
        torc_replica_emit(actions, TORC_REPLICA_PROPOSE, replica->node)->proposal = open->proposal;
    }
}

static void replica_settle(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    if (replica_leads(replica)) {
        torc_replica_commit(replica, actions);
        torc_replica_activate(replica, actions);
        torc_replica_enlist(replica);
        torc_replica_remove(replica);
        torc_replica_join(replica);
        torc_replica_hand_over(replica, actions);
        torc_replica_ship(replica, actions);
    } else if (replica->epoch != 0) {
        torc_replica_suspect(replica, actions);
        torc_replica_give_up_base(replica);
        torc_replica_acknowledge(replica, actions);
    }
    replica_ask(replica, actions);
}

void torc_replica_step(struct torc_replica *replica, uint64_t now_ns,
                       const struct torc_replica_event *event, struct torc_replica_actions *actions)
{
    torc_assert(actions->count == 0);
    torc_assert(now_ns >= replica->now_ns);
    replica->now_ns = now_ns;
    if (event != NULL) {
        replica_on_event(replica, event, actions);
    }
    replica_settle(replica, actions);
    torc_assert(replica->commit_lsn <= replica->last_lsn);  // R2
    torc_assert(replica->durable_lsn <= replica->last_lsn); // R3
}

// -- Deadline -----------------------------------------------------------------------------------

static uint64_t replica_earlier(uint64_t deadline_ns, uint64_t at_ns)
{
    return at_ns == 0 ? deadline_ns : torc_min_u64(deadline_ns, at_ns);
}

// What is past is no more waited for.
static uint64_t replica_later(const struct torc_replica *replica, uint64_t at_ns)
{
    return at_ns > replica->now_ns ? at_ns : UINT64_MAX;
}

static uint64_t replica_primary_deadline_ns(const struct torc_replica *replica)
{
    uint64_t deadline_ns = UINT64_MAX;

    if (replica->role == TORC_REPLICA_CANDIDATE) {
        deadline_ns = replica_later(replica, replica->promise_until_ns);
        deadline_ns = torc_min_u64(
            deadline_ns, replica_later(replica, replica->started_ns + replica->timing.grace_ns));
    }
    if (replica->alone_since_ns != 0) {
        deadline_ns =
            replica_earlier(deadline_ns, replica->alone_since_ns + replica->timing.lonely_ns);
    }
    if (replica->transfer_node != 0) {
        deadline_ns = replica_earlier(deadline_ns, replica->transfer_at_ns);
        deadline_ns = replica_earlier(deadline_ns, replica->transfer_end_ns);
    } else if (replica->want.primary_node != 0 && replica->want.primary_node != replica->node &&
               replica->now_ns < replica->transfer_end_ns) {
        // One that failed is tried again, also where nothing else happens.
        deadline_ns = replica_earlier(deadline_ns, replica->transfer_end_ns);
    }
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role != TORC_REPLICA_PEER_OTHER) {
            deadline_ns = replica_earlier(deadline_ns, peer->resend_at_ns);
            deadline_ns = replica_earlier(deadline_ns, peer->stuck_at_ns);
            deadline_ns = replica_earlier(deadline_ns, peer->behind_at_ns);
            deadline_ns = replica_earlier(deadline_ns, peer->stream_at_ns);
        }
    }
    return deadline_ns;
}

uint64_t torc_replica_deadline_ns(const struct torc_replica *replica)
{
    uint64_t deadline_ns = replica_earlier(UINT64_MAX, replica->read_at_ns);

    if (replica->proposal.open) {
        deadline_ns = replica_earlier(deadline_ns, replica->proposal.retry_at_ns);
    }
    if (replica_leads(replica)) {
        deadline_ns = torc_min_u64(deadline_ns, replica_primary_deadline_ns(replica));
    } else {
        deadline_ns = replica_earlier(deadline_ns,
                                      replica->base_loading && !torc_replica_base_given_up(replica)
                                          ? replica->base_moved_ns + replica->timing.grace_ns
                                          : 0);
        deadline_ns = replica_earlier(
            deadline_ns, replica_waits_to_be_fed(replica) ? replica->refresh_at_ns : 0);
        deadline_ns = replica_earlier(deadline_ns, replica->suspect_at_ns);
        deadline_ns =
            replica_earlier(deadline_ns, replica->probe_since_ns == 0 ? 0 : replica->probe_at_ns);
    }
    // What is due and waits for something else is looked at again with the next event.
    return deadline_ns > replica->now_ns ? deadline_ns
                                         : replica->now_ns + replica->timing.resend_ns;
}

// -- Asked --------------------------------------------------------------------------------------

void torc_replica_lease(struct torc_replica *replica, uint32_t node, struct torc_watch_lease lease)
{
    struct torc_replica_peer *peer = torc_replica_find(replica, node);

    // Until worker 0 has answered, its words are of another epoch; what was read before holds (L6).
    if (peer != NULL && replica->adopted) {
        peer->lease = lease;
    }
}

bool torc_replica_may_read(const struct torc_replica *replica, uint64_t now_ns)
{
    bool any = false;
    bool all = true;

    if (!torc_replica_serves(replica)) {
        return false;
    }
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];
        bool proposed =
            peer->proposed && (now_ns < peer->lease.until_ns || !TORC_BUG(LEASE_WITHOUT_PROPOSED));
        bool counts = peer->role == TORC_REPLICA_PEER_MEMBER || proposed;

        any = any || (counts && now_ns < peer->lease.until_ns);
        all = all && (!counts || now_ns < peer->lease.until_ns);
    }
    return all || (any && TORC_BUG(LEASE_OF_ANY));
}

bool torc_replica_serves(const struct torc_replica *replica)
{
    return replica->role == TORC_REPLICA_ACTIVE && replica->transfer_node == 0;
}

uint64_t torc_replica_confirmed_ns(const struct torc_replica *replica)
{
    uint64_t confirmed_ns = UINT64_MAX;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER || peer->proposed) {
            confirmed_ns = torc_min_u64(confirmed_ns, peer->lease.confirmed_ns);
        }
    }
    return confirmed_ns;
}

enum torc_err torc_replica_may_append(const struct torc_replica *replica)
{
    if (replica->role == TORC_REPLICA_CANDIDATE ||
        (replica->role == TORC_REPLICA_ACTIVE && replica->transfer_node != 0)) {
        return TORC_ERR_TAKING_OVER;
    }
    if (replica->role != TORC_REPLICA_ACTIVE ||
        replica->configuration.member_count < replica->min_in_sync ||
        (replica->health & ~TORC_HEALTH_STALLED) != 0) {
        return TORC_ERR_UNAVAILABLE; // C2
    }
    return TORC_ERR_OK;
}

uint32_t torc_replica_heard(const struct torc_replica *replica)
{
    uint32_t heard = 0;

    for (uint32_t i = 0; i < replica->configuration.member_count; i++) {
        for (uint32_t k = 0; k < replica->peer_count; k++) {
            const struct torc_replica_peer *peer = &replica->peers[k];

            if (peer->node == replica->configuration.members[i].node && peer->state.boot != 0 &&
                !peer->state.silent) {
                heard |= UINT32_C(1) << i;
            }
        }
    }
    return heard;
}

void torc_replica_note_read(struct torc_replica *replica, uint64_t ts)
{
    replica->read_hlc = torc_max_u64(replica->read_hlc, ts);
}

uint64_t torc_replica_keep_lsn(const struct torc_replica *replica)
{
    uint64_t keep_lsn = replica->commit_lsn;

    for (uint32_t i = 0; i < replica->peer_count && replica_leads(replica); i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_OTHER) {
            continue;
        }
        if (peer->stream == TORC_REPLICA_STREAM_OPEN) {
            keep_lsn = torc_min_u64(keep_lsn, torc_max_u64(peer->base_lsn, peer->received_lsn));
        } else if (!peer->needs_base && (peer->role == TORC_REPLICA_PEER_MEMBER || peer->proposed ||
                                         peer->acked_boot != 0)) { // proposed: it may be one
            keep_lsn = torc_min_u64(keep_lsn, peer->received_lsn);
        }
    }
    return keep_lsn;
}

void torc_replica_floor(struct torc_replica *replica, uint64_t floor_lsn)
{
    torc_assert(floor_lsn <= replica->last_lsn);
    replica->floor_lsn = torc_max_u64(replica->floor_lsn, floor_lsn);
}
