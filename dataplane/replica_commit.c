// Torc dataplane: what is committed, by whom, and who has to go (C1-C5, M2, S4, T6, T7).
// See replica.h.
#include "dataplane/replica_impl.h"

// -- Marks --------------------------------------------------------------------------------------

uint64_t torc_replica_mark(const struct torc_replica *replica, const struct torc_replica_peer *peer)
{
    bool amnesiac = peer->acked_copy != peer->copy && !TORC_BUG(COPY_IGNORED);

    if ((peer->acked_boot == 0 && !TORC_BUG(ACK_OF_LAST_EPOCH)) || peer->needs_base || amnesiac) {
        return 0;
    }
    return replica->durability == TORC_DURABILITY_DURABLE ? peer->durable_lsn : peer->received_lsn;
}

// As the members' (A3): nothing before the EPOCH record is on disk. A late end of a write that was
// cut and taken again has the same epoch and LSN, and must not count.
static uint64_t commit_own_mark(const struct torc_replica *replica)
{
    uint64_t durable_lsn = replica->durable_lsn >= replica->epoch_lsn ? replica->durable_lsn : 0;

    return replica->durability == TORC_DURABILITY_DURABLE ? durable_lsn : replica->last_lsn;
}

// Whether a peer is still in the set that a removal, not yet decided, would leave.
static bool commit_is_left(const struct torc_replica *replica, const struct torc_replica_peer *peer)
{
    const struct torc_configuration *proposed = &replica->proposal.proposal.configuration;

    return !replica->proposal.open || torc_replica_is_member(proposed, peer->node, peer->copy);
}

// Whose acknowledgement a commit needs: members of this epoch and of the open proposal (M2).
static bool commit_needs(const struct torc_replica *replica, const struct torc_replica_peer *peer)
{
    if (peer->proposed) {
        return !TORC_BUG(COMMIT_WITHOUT_PROPOSED);
    }
    if (peer->role == TORC_REPLICA_PEER_MEMBER && TORC_BUG(REMOVAL_FROM_REQUEST)) {
        return commit_is_left(replica, peer);
    }
    return peer->role == TORC_REPLICA_PEER_MEMBER;
}

// C1: acknowledged by all of them.
static uint64_t commit_agreed(const struct torc_replica *replica)
{
    uint64_t agreed_lsn = commit_own_mark(replica);

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        if (commit_needs(replica, &replica->peers[i])) {
            agreed_lsn = torc_min_u64(agreed_lsn, torc_replica_mark(replica, &replica->peers[i]));
        }
    }
    return agreed_lsn;
}

// The mistake of most other protocols' readers: more than half of them.
static uint64_t commit_by_majority(const struct torc_replica *replica)
{
    uint64_t best_lsn = 0;

    for (uint32_t i = 0; i <= replica->peer_count; i++) {
        uint64_t mark_lsn = i == replica->peer_count
                                ? commit_own_mark(replica)
                                : torc_replica_mark(replica, &replica->peers[i]);
        uint32_t have = commit_own_mark(replica) >= mark_lsn;
        uint32_t all = 1;

        for (uint32_t j = 0; j < replica->peer_count; j++) {
            bool needed = commit_needs(replica, &replica->peers[j]);

            all += needed;
            have += needed && torc_replica_mark(replica, &replica->peers[j]) >= mark_lsn;
        }
        if (2 * have > all) {
            best_lsn = torc_max_u64(best_lsn, mark_lsn);
        }
    }
    return best_lsn;
}

// -- Commit -------------------------------------------------------------------------------------

// T7: nobody is bound to the last primary any more.
static bool commit_has_waited(const struct torc_replica *replica)
{
    return replica->released_epoch == replica->epoch ||
           replica->now_ns >= replica->promise_until_ns ||
           (replica->released_epoch != 0 && TORC_BUG(RELEASE_OUTLIVES)) ||
           TORC_BUG(T7_NO_PROMISE_WAIT);
}

// The tail may hold what the last primary has not committed, and it may read until promises end:
// what is committed is applied by members, and shown to reads of a bounded age.
static bool commit_may(const struct torc_replica *replica)
{
    return replica->role == TORC_REPLICA_ACTIVE ||
           (replica->adopted && (commit_has_waited(replica) || TORC_BUG(CANDIDATE_COMMITS)));
}

void torc_replica_commit(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    uint64_t agreed_lsn =
        TORC_BUG(COMMIT_BY_MAJORITY) ? commit_by_majority(replica) : commit_agreed(replica);

    if (replica->configuration.member_count < replica->min_in_sync) { // C2
        agreed_lsn =
            TORC_BUG(MIN_IN_SYNC_STOPS_TAIL) ? 0 : torc_min_u64(agreed_lsn, replica->tail_lsn);
    }
    if ((TORC_BUG(TAIL_NOT_APPLIED) && agreed_lsn <= replica->tail_lsn) || !commit_may(replica)) {
        return;
    }
    if (agreed_lsn > replica->commit_lsn) {
        replica->commit_lsn = agreed_lsn;
        torc_replica_emit(actions, TORC_REPLICA_APPLY, replica->node)->lsn = agreed_lsn;
    }
}

// T7. The EPOCH record is the tail's last: where it is committed, all is that the last primary may
// have answered.
static bool commit_tail_is_whole(const struct torc_replica *replica)
{
    if (TORC_BUG(TAIL_NOT_APPLIED)) {
        return commit_agreed(replica) >= replica->epoch_lsn;
    }
    if (TORC_BUG(MIN_IN_SYNC_STOPS_TAIL) &&
        replica->configuration.member_count < replica->min_in_sync) {
        return true;
    }
    return replica->commit_lsn >= replica->epoch_lsn && replica->applied_lsn >= replica->epoch_lsn;
}

void torc_replica_activate(struct torc_replica *replica, struct torc_replica_actions *actions)
{
    if (replica->role != TORC_REPLICA_CANDIDATE || !replica->adopted ||
        !commit_has_waited(replica)) {
        return;
    }
    if (TORC_BUG(T7_NO_MEMBER_ACKS) && replica->commit_lsn < replica->epoch_lsn) {
        replica->commit_lsn = replica->epoch_lsn;
        torc_replica_emit(actions, TORC_REPLICA_APPLY, replica->node)->lsn = replica->commit_lsn;
    } else if (!commit_tail_is_whole(replica)) {
        return;
    }
    replica->role = TORC_REPLICA_ACTIVE;
    torc_replica_emit(actions, TORC_REPLICA_SERVE, replica->node);
}

// -- Who has to go ------------------------------------------------------------------------------

// C5: it has not got in lag_ns to where the log then was.
static bool commit_is_slow(const struct torc_replica *replica, struct torc_replica_peer *peer)
{
    uint64_t mark_lsn = torc_replica_mark(replica, peer);

    if (mark_lsn >= replica->last_lsn) {
        peer->behind_at_ns = 0;
        return false;
    }
    if (peer->behind_at_ns == 0 || mark_lsn != peer->moved_lsn) {
        peer->moved_lsn = mark_lsn;
        peer->moved_at_ns = replica->now_ns;
    }
    if (peer->behind_at_ns == 0 || mark_lsn >= peer->behind_lsn) {
        peer->behind_lsn = replica->last_lsn;
        peer->behind_at_ns = replica->now_ns + replica->timing.lag_ns;
    }
    return replica->now_ns >= peer->behind_at_ns;
}

// Its node goes on as another copy: what it had as this one will not come back.
static bool commit_has_forgotten(const struct torc_replica_peer *peer)
{
    return peer->acked_boot != 0 && peer->acked_copy != peer->copy;
}

// Its node is well, and it lacks nothing but time: it takes what it is sent, and gets on.
static bool commit_is_only_slow(const struct torc_replica *replica,
                                const struct torc_replica_peer *peer)
{
    return peer->acked_boot != 0 && !commit_has_forgotten(peer) && !peer->needs_base &&
           peer->received_lsn >= replica->floor_lsn && !replica_is_gone(&peer->state) &&
           replica->now_ns < peer->moved_at_ns + replica->timing.grace_ns;
}

static bool commit_has_to_go(const struct torc_replica *replica, struct torc_replica_peer *peer)
{
    bool slow = commit_is_slow(replica, peer);

    return slow || commit_has_forgotten(peer) || replica_is_gone(&peer->state);
}

// Whether those who would be left are to wait a little longer for the others, of whom so many have
// `forgotten`.
static bool commit_waits(struct torc_replica *replica, uint32_t members, uint32_t going,
                         uint32_t forgotten)
{
    uint32_t left = 1 + members - going;

    if (members < 2 || going < members) {
        replica->alone_since_ns = 0;
    } else if (replica->alone_since_ns == 0) {
        replica->alone_since_ns = replica->now_ns;
    }
    if (replica->alone_since_ns != 0 &&
        replica->now_ns < replica->alone_since_ns + replica->timing.lonely_ns) {
        return true; // S4: perhaps it is this node that is deaf
    }
    // Section 10: at a cold start the others come up at their own pace.
    return replica->role == TORC_REPLICA_CANDIDATE && forgotten < going &&
           left < replica->min_in_sync &&
           replica->now_ns < replica->started_ns + replica->timing.grace_ns;
}

// Members that placement no longer wants go when all that it wants are in.
static bool commit_is_surplus(const struct torc_replica *replica,
                              const struct torc_replica_peer *peer)
{
    const struct torc_replica_want *want = &replica->want;

    for (uint32_t i = 0; i < want->node_count; i++) {
        bool in = want->nodes[i] == replica->node;

        for (uint32_t j = 0; j < replica->configuration.member_count; j++) {
            in = in || replica->configuration.members[j].node == want->nodes[i];
        }
        if (!in || want->nodes[i] == peer->node) {
            return false;
        }
    }
    return want->node_count > 0 && replica->role == TORC_REPLICA_ACTIVE;
}

static uint32_t commit_dismiss(const struct torc_replica *replica, bool *going)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        const struct torc_replica_peer *peer = &replica->peers[i];

        going[i] = peer->role == TORC_REPLICA_PEER_MEMBER && commit_is_surplus(replica, peer);
        count += going[i];
    }
    return count;
}

// C5. Who is only slow stays where fewer than min_in_sync would be left, those who have most first:
// such a set commits nothing, and who joins it again has one EPOCH record more to write, which is
// too slow again. How many stay.
static uint32_t commit_spare(const struct torc_replica *replica, bool *going, uint32_t left)
{
    uint32_t spared = 0;

    while (replica->role == TORC_REPLICA_ACTIVE && left + spared < replica->min_in_sync) {
        uint32_t best = TORC_REPLICA_PEERS_MAX;
        uint64_t best_lsn = 0;

        for (uint32_t i = 0; i < replica->peer_count; i++) {
            uint64_t mark_lsn = torc_replica_mark(replica, &replica->peers[i]);

            if (going[i] && mark_lsn >= best_lsn &&
                commit_is_only_slow(replica, &replica->peers[i])) {
                best = i;
                best_lsn = mark_lsn;
            }
        }
        if (best == TORC_REPLICA_PEERS_MAX) {
            break;
        }
        going[best] = false;
        spared++;
    }
    return spared;
}

void torc_replica_remove(struct torc_replica *replica)
{
    bool going[TORC_REPLICA_PEERS_MAX] = {false};
    uint32_t going_count = 0;
    uint32_t members = 0;
    uint32_t forgotten = 0;
    struct torc_configuration *configuration;

    if (replica->proposal.open || replica->went_back || replica->health != 0 ||
        replica->transfer_sent) {
        return;
    }
    for (uint32_t i = 0; i < replica->peer_count; i++) {
        struct torc_replica_peer *peer = &replica->peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER) {
            members++;
            going[i] = commit_has_to_go(replica, peer);
            going_count += going[i];
            forgotten += commit_has_forgotten(peer);
        }
    }
    if (commit_waits(replica, members, going_count, forgotten)) {
        return;
    }
    going_count -= commit_spare(replica, going, 1 + members - going_count);
    if (going_count == 0) { // who goes may be one that placement wants: it is to be in again first
        replica->alone_since_ns = 0;
        going_count = commit_dismiss(replica, going);
    }
    if (going_count == 0) {
        return;
    }
    replica->counters.removals += going_count;
    if (replica->transfer_node != 0) { // it waits for whoever goes: begun again afterwards
        replica->transfer_node = 0;
        replica->transfer_end_ns = replica->now_ns;
    }
    configuration = torc_replica_propose(replica);
    for (uint32_t i = 0; i < replica->configuration.member_count; i++) {
        const struct torc_member *member = &replica->configuration.members[i];
        const struct torc_replica_peer *peer = torc_replica_find(replica, member->node);

        if (peer == NULL || !going[peer - replica->peers]) {
            configuration->members[configuration->member_count++] = *member;
        }
    }
}
