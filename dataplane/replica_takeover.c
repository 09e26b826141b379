// Torc dataplane: suspicion, probes, and the compare-and-swap of a takeover (S3, T1-T3, T9).
// See replica.h.
#include "dataplane/replica_impl.h"

// -- Probes -------------------------------------------------------------------------------------

void torc_replica_on_probe(struct torc_replica *replica, const struct torc_replica_event *event,
                           struct torc_replica_actions *actions)
{
    const struct torc_peer_probe *probe = &event->message->probe;
    const struct torc_replica_peer *suspect = torc_replica_find(replica, probe->suspect_node);
    struct torc_peer_probe_ack *ack;

    if (replica->epoch == 0) {
        replica->counters.too_early++; // whether it is in-sync it does not know
        return;
    }
    replica->read_wanted = replica->read_wanted || probe->epoch > replica->epoch;
    ack = &torc_replica_send(replica, actions, TORC_PEER_PROBE_ACK, event->node)->probe_ack;
    ack->epoch = replica->epoch;
    ack->suspect_node = probe->suspect_node;
    ack->copy = replica->copy;
    ack->received_lsn = replica->last_lsn;
    ack->commit_lsn = replica->commit_lsn;
    ack->serving = probe->suspect_node == replica->node && replica_leads(replica) &&
                   replica->epoch == probe->epoch && replica->health == 0;
    ack->hears = ack->serving || (suspect != NULL && !suspect->state.silent);
}

void torc_replica_on_probe_ack(struct torc_replica *replica, const struct torc_replica_event *event)
{
    const struct torc_peer_probe_ack *ack = &event->message->probe_ack;
    struct torc_replica_peer *peer = torc_replica_find(replica, event->node);

    if (ack->epoch > replica->epoch) {
        replica->read_wanted = true;
        return;
    }
    if (peer == NULL || peer->role != TORC_REPLICA_PEER_MEMBER || replica->probe_since_ns == 0 ||
        ack->suspect_node != replica->configuration.primary_node) {
        replica->counters.stranger++;
        return;
    }
    peer->answered = ack->copy == peer->copy || TORC_BUG(COPY_IGNORED);
    peer->hears = ack->hears;
    peer->serving = ack->serving;
}

static void takeover_probe(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    if (replica->probe_since_ns == 0 ||
        replica->now_ns >= replica->probe_since_ns + 2 * replica->timing.lonely_ns) {
        replica->probe_since_ns = replica->now_ns; // ask all of them anew
        replica->probe_at_ns = replica->now_ns;
        for (uint32_t i = 0; i < replica->peer_count; i++) {
            replica->peers[i].answered = false;
            replica->peers[i].hears = false;
            replica->peers[i].serving = false;
        }
    }
    if (replica->now_ns < replica->probe_at_ns) {
        return;
    }
    replica->probe_at_ns = replica->now_ns + replica->timing.resend_ns;
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER) {
            struct torc_peer_probe *probe =
                &torc_replica_send(replica, actions, TORC_PEER_PROBE, peer->node)->probe;

            probe->epoch = replica->epoch;
            probe->suspect_node = replica->configuration.primary_node;
        }
    }
}

// -- Suspicion ----------------------------------------------------------------------------------

// Known dead: by a linearizable read, or because the node lives in a later boot (B1).
static bool takeover_is_dead(struct torc_replica *replica)
{
    const struct torc_configuration *configuration = &replica->configuration;
    const struct torc_replica_peer *primary =
        torc_replica_find(replica, configuration->primary_node);

    return replica->primary_down_boot == configuration->primary_boot ||
           replica->primary_node_boot > configuration->primary_boot ||
           (primary != NULL && primary->state.boot > configuration->primary_boot);
}

static bool takeover_is_suspect(struct torc_replica *replica)
{
    const struct torc_replica_peer *primary =
        torc_replica_find(replica, replica->configuration.primary_node);

    return primary == NULL || primary->state.silent || primary->state.health != 0 ||
           takeover_is_dead(replica);
}

// T1: one goes first, by its place in the list without the primary.
static uint64_t takeover_stagger_ns(const struct torc_replica *replica)
{
    uint64_t place = 0;

    for (uint32_t i = 0; i < replica->configuration.member_count; i++) {
        if (replica->configuration.members[i].node == replica->node) {
            break;
        }
        place += replica->configuration.members[i].node != replica->configuration.primary_node;
    }
    return place * replica->timing.stagger_ns;
}

// Sick by its own word: it is to be relieved, whoever hears it (C5).
static bool takeover_is_sick(struct torc_replica *replica)
{
    const struct torc_replica_peer *primary =
        torc_replica_find(replica, replica->configuration.primary_node);

    return primary != NULL && primary->state.health != 0;
}

// S3: whether the others' answers allow it, now.
static bool takeover_is_backed(struct torc_replica *replica, bool dead)
{
    uint32_t others = 0;
    uint32_t answers = 0;
    uint32_t deaf = 0;
    uint32_t awaited = 0; // a core without its processor for a moment, or on its way here
    uint64_t wait_ns;
    bool all;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER &&
            peer->node != replica->configuration.primary_node) {
            others++;
            answers += peer->answered;
            deaf += peer->answered && !peer->hears;
            awaited += !peer->answered && !peer->state.silent;
        }
    }
    // Who is left out joins again before any write is taken, if there are too few without it.
    wait_ns = awaited > 0 && answers + 1 < replica->min_in_sync ? replica->timing.lonely_ns
                                                                : replica->timing.stagger_ns;
    all = answers == others || replica->now_ns >= replica->probe_since_ns + wait_ns;
    if (dead || others == 0 || takeover_is_sick(replica)) {
        return all;
    }
    return (deaf > 0 && all) ||
           (answers == 0 && replica->now_ns >= replica->probe_since_ns + replica->timing.lonely_ns);
}

// -- The proposal -------------------------------------------------------------------------------

// T3: this node first, then those who answered, in their order. A restarted primary asks nobody:
// who is not up is removed later (T6).
static void takeover_propose(struct torc_replica *replica, bool own)
{
    struct torc_configuration *configuration = torc_replica_propose(replica);

    configuration->members[configuration->member_count++] =
        (struct torc_member){.node = replica->node, .copy = replica->copy};
    for (uint32_t i = 0; i < replica->configuration.member_count; i++) {
        const struct torc_member *member = &replica->configuration.members[i];
        const struct torc_replica_peer *peer = torc_replica_find(replica, member->node);

        if (member->node != replica->node && peer != NULL &&
            (own || TORC_BUG(PROBE_SKIPPED) || (peer->answered && !peer->serving))) {
            configuration->members[configuration->member_count++] = *member;
        }
    }
    replica->probe_since_ns = 0;
}

static bool takeover_is_eligible(const struct torc_replica *replica)
{
    return (replica->role == TORC_REPLICA_BACKUP || TORC_BUG(TAKEOVER_NOT_IN_SYNC)) &&
           replica->health == 0 && !replica->proposal.open && !replica->went_back; // T1, T2
}

// The primary itself says that it serves.
static bool takeover_is_denied(struct torc_replica *replica)
{
    const struct torc_replica_peer *primary =
        torc_replica_find(replica, replica->configuration.primary_node);

    return primary != NULL && primary->answered && primary->serving && primary->state.health == 0;
}

void torc_replica_suspect(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    bool own = replica->configuration.primary_node == replica->node; // T9
    bool dead = own || takeover_is_dead(replica);

    if (!takeover_is_eligible(replica) || (!own && !takeover_is_suspect(replica))) {
        replica->suspect_at_ns = 0;
        replica->probe_since_ns = 0;
        return;
    }
    if (replica->suspect_at_ns == 0) {
        replica->suspect_at_ns = replica->now_ns + 1 + (own ? 0 : takeover_stagger_ns(replica));
    }
    if (replica->now_ns < replica->suspect_at_ns) {
        return;
    }
    if (replica->unsynced_since_start && !dead &&
        replica->now_ns < replica->started_ns + replica->timing.grace_ns) { // T1
        replica->suspect_at_ns = replica->started_ns + replica->timing.grace_ns;
        return;
    }
    if (own || TORC_BUG(PROBE_SKIPPED)) {
        takeover_propose(replica, own);
        return;
    }
    takeover_probe(replica, actions);
    if (takeover_is_denied(replica)) {
        replica->suspect_at_ns = replica->now_ns + replica->timing.lonely_ns;
        replica->probe_since_ns = 0;
    } else if (takeover_is_backed(replica, dead)) {
        takeover_propose(replica, false);
    }
}
