// Torc dataplane: reads of replicated shards: why not here; and how old what a member has may be.
// See worker_replica.h.
//
// What    a member that is not the primary answers reads of a bounded age from its tree, when it
//         knows that nothing told to any client longer ago than that is missing in it. It asks the
//         primary (MARK), which answers as it answers a read, under its leases (L3), with how far
//         it has committed. Everything that was told before the question was asked has an LSN of at
//         most that; once it is applied here, the tree is no older than the question. So its age is
//         measured by this node's own clock alone, and no message may be late enough to lie. A node
//         whose clock may stand still (read-mode = confirm) has no such age: it answers as the
//         primary, when it was confirmed, or not at all.
// When    while readers come, and for READERS_NS after the last one; an idle shard asks nothing.
// Memory  a few words a shard.
// Sources REPLICATION.md, L3 and J1; docs/decisions/0034-durability-and-stale-reads.md.
#include "dataplane/worker_state.h"

#define TAKING_OVER_US 2000u // ask again then: a takeover's last step takes that long
#define NO_LEASE_US    1000u // a lease comes back with the next answer to a beat
#define ELSEWHERE_US   5000u
// After the last reader of a bounded age, marks are asked for so long: a bet.
#define READERS_NS    UINT64_C(1000000000)
#define ASK_LEAST_NS  UINT64_C(500000) // between two questions, however small the bound
#define BOUND_MOST_NS UINT64_C(1000000000)
// With read-mode = confirm: by how much the clocks of two cores may differ (g of REPLICATION.md).
#define CORES_NS UINT64_C(500000)

enum torc_err torc_worker_replica_refusal(const struct torc_worker *worker,
                                          const struct torc_worker_shard *shard, uint64_t *info)
{
    const struct torc_replica *machine = &shard->replica->machine;
    enum torc_err append = torc_replica_may_append(machine);

    if (append == TORC_ERR_TAKING_OVER) { // also who hands over: the next primary is about to come
        *info = TAKING_OVER_US;
        return TORC_ERR_TAKING_OVER;
    }
    if (machine->role == TORC_REPLICA_ACTIVE && append != TORC_ERR_OK) {
        bool few = machine->configuration.member_count < machine->min_in_sync;

        *info = torc_info_reason(few                    ? TORC_UNAVAILABLE_BELOW_IN_SYNC
                                 : machine->health != 0 ? TORC_UNAVAILABLE_LOG_FAILED
                                                        : TORC_UNAVAILABLE_NO_LEASE,
                                 ELSEWHERE_US);
        return append;
    }
    if (machine->role == TORC_REPLICA_ACTIVE) {
        *info = torc_info_reason(TORC_UNAVAILABLE_NO_LEASE, NO_LEASE_US);
        return TORC_ERR_UNAVAILABLE;
    }
    if (machine->role == TORC_REPLICA_LEARNER && machine->epoch != 0 &&
        torc_replica_heard(machine) == 0) { // it may never be led again: what to do is said
        *info = torc_info_reason(TORC_UNAVAILABLE_NO_COPY, ELSEWHERE_US);
        return TORC_ERR_UNAVAILABLE;
    }
    if (machine->epoch == 0 || machine->configuration.primary_node == worker->cluster.node) {
        *info = torc_info_reason(TORC_UNAVAILABLE_NO_PRIMARY, ELSEWHERE_US);
        return TORC_ERR_UNAVAILABLE;
    }
    *info = worker->map.version;
    return TORC_ERR_WRONG_SHARD;
}

// -- Reads of a bounded age -----------------------------------------------------------------------

// Its tree is a state that the shard was in; not a base that is on its way (J1).
static bool stale_is_whole(const struct torc_worker_shard *shard)
{
    const struct torc_worker_replica *replica = shard->replica;
    const struct torc_replica *machine = &replica->machine;

    return replica->live && machine->has_base && !machine->base_loading &&
           machine->applied_lsn >= machine->base_end_lsn &&
           (shard->engine.state == TORC_SHARD_FOLLOWING ||
            shard->engine.state == TORC_SHARD_ACTIVE || shard->engine.state == TORC_SHARD_OPENING);
}

bool torc_worker_stale_is_whole(const struct torc_worker *worker, uint32_t place)
{
    const struct torc_worker_shard *shard = &worker->shards[place];

    return shard->replica != NULL && stale_is_whole(shard);
}

// A mark that was told counts from when all below it is in the tree.
static void stale_reach(struct torc_worker_shard *shard)
{
    struct torc_worker_freshness *fresh = &shard->replica->fresh;

    if (fresh->told_ns > fresh->at_ns && shard->engine.applied_lsn >= fresh->told_lsn) {
        fresh->at_ns = fresh->told_ns;
    }
}

// How old at most what this node has of the shard is; UINT64_MAX: that is not known.
static uint64_t stale_age_ns(const struct torc_worker *worker, uint32_t place)
{
    struct torc_worker_shard *shard = &worker->shards[place];

    if (torc_worker_is_readable(worker, place)) {
        return 0;
    }
    if (worker->confirm != NULL || shard->replica == NULL || !stale_is_whole(shard)) {
        return UINT64_MAX;
    }
    stale_reach(shard);
    return shard->replica->fresh.at_ns == 0 ? UINT64_MAX
                                            : worker->now_ns - shard->replica->fresh.at_ns;
}

bool torc_worker_stale_may(struct torc_worker *worker, uint32_t place, uint32_t age_max_ms,
                           uint64_t *age_us)
{
    struct torc_worker_shard *shard = &worker->shards[place];
    uint64_t bound_ns = age_max_ms * UINT64_C(1000000);
    uint64_t age_ns = stale_age_ns(worker, place);

    if (shard->replica != NULL && shard->replica->live) {
        struct torc_worker_freshness *fresh = &shard->replica->fresh;

        // The strictest of those who read says how often is asked.
        fresh->bound_ns = worker->now_ns >= fresh->readers_until_ns
                              ? torc_min_u64(bound_ns, BOUND_MOST_NS)
                              : torc_min_u64(bound_ns, fresh->bound_ns);
        fresh->readers_until_ns = worker->now_ns + READERS_NS;
    }
    *age_us = age_ns == UINT64_MAX ? UINT64_MAX : age_ns / 1000;
    return age_ns <= bound_ns;
}

bool torc_worker_stale_begins(struct torc_worker *worker, uint32_t place, uint32_t age_max_ms,
                              uint64_t *age_us)
{
    bool may = torc_worker_stale_may(worker, place, age_max_ms, age_us);

    if (!torc_worker_is_readable(worker, place)) {
        torc_stats_add(
            &worker->stats->counters[may ? TORC_COUNTER_STALE_SERVED : TORC_COUNTER_STALE_REFUSED],
            1);
    }
    return may;
}

void torc_worker_stale_forget(struct torc_worker_shard *shard)
{
    shard->replica->fresh = (struct torc_worker_freshness){0};
}

// -- Marks ----------------------------------------------------------------------------------------

static uint64_t stale_ask_ns(const struct torc_worker_freshness *fresh)
{
    return fresh->asked_ns + torc_max_u64(fresh->bound_ns / 4, ASK_LEAST_NS);
}

static bool stale_asks(const struct torc_worker *worker, const struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;

    return worker->confirm == NULL && worker->now_ns < shard->replica->fresh.readers_until_ns &&
           machine->epoch != 0 && machine->configuration.primary_node != worker->cluster.node &&
           machine->configuration.primary_node != 0;
}

static void stale_tell(struct torc_worker *worker, struct torc_worker_shard *shard, uint32_t node,
                       uint64_t asked_ns)
{
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_MARK};

    op.mark = (struct torc_peer_mark){.shard = shard->engine.shard,
                                      .commit_lsn = shard->replica->machine.commit_lsn,
                                      .asked_ns = asked_ns};
    torc_worker_post(worker, torc_worker_replica_to(worker, shard, node), &op);
}

// Members' questions to a primary that goes by no lease are answered after the next beat that all
// have answered.
static void stale_confirmed(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_freshness *fresh = &shard->replica->fresh;
    uint64_t confirmed_ns = torc_replica_confirmed_ns(&shard->replica->machine);

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        struct torc_worker_mark_asked *mark = &fresh->marks[i];

        if (mark->node != 0 && confirmed_ns > mark->arrived_ns + CORES_NS) {
            stale_tell(worker, shard, mark->node, mark->asked_ns);
            mark->node = 0;
        }
    }
}

// The question waits; a newer one of the same node would only wait longer.
static void stale_keep(struct torc_worker *worker, struct torc_worker_shard *shard, uint32_t node,
                       uint64_t asked_ns)
{
    struct torc_worker_freshness *fresh = &shard->replica->fresh;
    uint32_t at = 0;

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        if (fresh->marks[i].node == node) {
            return;
        }
        at = fresh->marks[i].node == 0 ? i : at;
    }
    if (fresh->marks[at].node == 0) {
        fresh->marks[at] = (struct torc_worker_mark_asked){node, asked_ns, worker->now_ns};
    }
}

void torc_worker_stale_turn(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_freshness *fresh = &shard->replica->fresh;
    uint32_t primary = shard->replica->machine.configuration.primary_node;

    if (shard->readable) { // should it lose its leases, this is how old it is
        fresh->at_ns = worker->now_ns;
        return;
    }
    if (worker->confirm != NULL && torc_worker_leads(shard)) {
        stale_confirmed(worker, shard);
        return;
    }
    stale_reach(shard);
    if (stale_asks(worker, shard) && worker->now_ns >= stale_ask_ns(fresh)) {
        struct torc_peer_op op = {.opcode = TORC_PEER_OP_MARK};

        op.mark = (struct torc_peer_mark){
            .shard = shard->engine.shard, .asks = true, .asked_ns = worker->now_ns};
        fresh->asked_ns = worker->now_ns;
        torc_worker_post(worker, torc_worker_replica_to(worker, shard, primary), &op);
    }
}

uint64_t torc_worker_stale_deadline_ns(const struct torc_worker *worker,
                                       const struct torc_worker_shard *shard)
{
    return !shard->readable && stale_asks(worker, shard) ? stale_ask_ns(&shard->replica->fresh)
                                                         : UINT64_MAX;
}

void torc_worker_stale_mark(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_mark *mark)
{
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, mark->shard);
    struct torc_worker_freshness *fresh;

    if (shard == NULL || shard->replica == NULL || !shard->replica->live) {
        return;
    }
    fresh = &shard->replica->fresh;
    if (mark->asks && shard->readable) {
        stale_tell(worker, shard, from->node, mark->asked_ns);
    } else if (mark->asks && worker->confirm != NULL && torc_worker_leads(shard)) {
        stale_keep(worker, shard, from->node, mark->asked_ns);
    } else if (!mark->asks && mark->asked_ns <= fresh->asked_ns &&
               mark->asked_ns > fresh->told_ns) {
        fresh->told_ns = mark->asked_ns;
        fresh->told_lsn = mark->commit_lsn;
    }
}
