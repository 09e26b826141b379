// Torc simulator: the oracle of logs: what is committed is one log, and nothing of it is lost.
//
// What    a ghost of each shard's log: the record (epoch, HLC) that somebody in sync applied at an
//         LSN. Whoever applies another there has another log; whoever may answer reads has applied
//         what any active replica did (REPLICATION.md 14.2 and 14.4). It is seen after each turn,
//         so of the records of one turn only the last. At the end, replicas that applied as much
//         hold the same versions of all hot keys (14.5).
//         And a ghost of what was read as of a moment: who was answered a range at a timestamp has
//         seen all that is at or below it, so no record that nobody had applied by then may be
//         stamped there, by whatever primary (REPLICATION.md H5, H6).
// Owner   the run.
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"

#define GONE_MAX 64u
#define LSNS_MAX 32768u // of a shard: later ones are not looked at

struct ghost_record {
    uint64_t hlc; // 0: nobody applied it yet
    uint32_t epoch;
    uint32_t node; // that did so first
};

struct sim_ghost {
    struct ghost_record records[LSNS_MAX];
    uint64_t copies[SIM_NODES_MAX]; // that replicas are, by index of their node; 0: none
    bool here[SIM_NODES_MAX];       // its worker has opened it
    uint64_t gone[GONE_MAX];        // copies whose memory is gone, the last ones
    uint32_t gone_count;
    uint64_t most; // that an active replica applied, and may have answered
    uint32_t most_node;
    uint64_t top; // LSN that anybody in sync applied
    uint32_t top_epoch;
    uint64_t read_ts; // of a range that was answered
    uint32_t
        epoch; // of the record when a loss was last accepted: who is not beyond it is of before
};

void sim_ghost_init(void)
{
    sim->ghosts = sim_memory((SIM_SHARDS_MAX + UINT64_C(1)) * sizeof(*sim->ghosts));
}

// -- Losses ---------------------------------------------------------------------------------------

uint64_t sim_ghost_agrees(const struct torc_worker_shard *shard, uint64_t last_hlc)
{
    const struct sim_ghost *ghost = &sim->ghosts[shard->engine.shard];
    const struct torc_replica *machine = &shard->replica->machine;
    uint64_t last_lsn = machine->last_lsn;
    uint64_t hlc = 0;

    for (uint64_t lsn = 1; lsn < LSNS_MAX; lsn++) {
        const struct ghost_record *record = &ghost->records[lsn];

        if (record->hlc == 0 ||
            record->epoch != torc_replica_epoch_at(machine, torc_min_u64(lsn, last_lsn))) {
            continue;
        }
        hlc = lsn < last_lsn ? record->hlc : last_hlc;
    }
    return hlc;
}

// Of records above that stamp none is known to be in that copy.
void sim_ghost_lose(uint32_t number, uint32_t epoch, const struct sim_loss *loss)
{
    struct sim_ghost *ghost = &sim->ghosts[number];

    ghost->top = 0;
    for (uint64_t at = 1; at < LSNS_MAX; at++) {
        if (at > loss->lsn || ghost->records[at].hlc > loss->cut_hlc) {
            ghost->records[at] = (struct ghost_record){0};
        } else if (ghost->records[at].hlc != 0) {
            ghost->top = at;
        }
    }
    ghost->most = loss->lsn;
    ghost->most_node = loss->node;
    ghost->read_ts = 0;
    ghost->epoch = epoch;
}

// In sync, as far as it knows, and its tree is of one moment.
static bool ghost_counts(const struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;

    return machine->synced && machine->role != TORC_REPLICA_LEARNER &&
           machine->epoch > sim->ghosts[machine->shard].epoch &&
           shard->engine.applied_lsn >= shard->engine.fuzzy_lsn && shard->engine.applied_lsn > 0 &&
           shard->engine.applied_lsn < LSNS_MAX;
}

// The first to apply it. An EPOCH record is no write: its stamp is from before the promises ended.
static void ghost_advance(const struct sim_node *node, const struct torc_shard *engine,
                          bool is_replica)
{
    struct sim_ghost *ghost = &sim->ghosts[engine->shard];
    const struct sim_server *server = &sim->servers[engine->shard];

    if (engine->applied_lsn <= ghost->top) {
        return;
    }
    if (engine->applied_hlc <= ghost->read_ts &&
        (!is_replica || engine->applied_epoch == ghost->top_epoch)) {
        sim_fail("moments: shard %u was read as of %" PRIx64 "; now node %u applies LSN %" PRIu64
                 " of epoch %u, HLC %" PRIx64,
                 (unsigned)engine->shard, ghost->read_ts, (unsigned)node->number,
                 engine->applied_lsn, (unsigned)engine->applied_epoch, engine->applied_hlc);
    }
    if (is_replica && server->node != 0 && server->node != node->number &&
        sim->now_ns < server->until_ns) {
        sim_fail("early: node %u applies LSN %" PRIu64 " of shard %u, epoch %u, which node %u has "
                 "not, and that one may read for %u ns more",
                 (unsigned)node->number, engine->applied_lsn, (unsigned)engine->shard,
                 (unsigned)engine->applied_epoch, (unsigned)server->node,
                 (unsigned)(server->until_ns - sim->now_ns));
    }
    ghost->top = engine->applied_lsn;
    ghost->top_epoch = engine->applied_epoch;
}

void sim_ghost_read(uint64_t lo, uint64_t hi, uint64_t ts)
{
    for (uint32_t i = 0; i < sim->config.shards; i++) {
        struct sim_ghost *ghost = &sim->ghosts[i + 1];

        if (sim->shard_lo[i] < hi && sim->shard_lo[i + 1] > lo) {
            ghost->read_ts = torc_max_u64(ghost->read_ts, ts);
        }
    }
}

static void ghost_look(const struct sim_node *node, const struct torc_worker_shard *shard)
{
    const struct torc_shard *engine = &shard->engine;
    struct sim_ghost *ghost = &sim->ghosts[engine->shard];
    struct ghost_record *record = &ghost->records[engine->applied_lsn];

    if (record->hlc == 0) {
        *record = (struct ghost_record){
            .hlc = engine->applied_hlc, .epoch = engine->applied_epoch, .node = node->number};
    } else if (record->hlc != engine->applied_hlc || record->epoch != engine->applied_epoch) {
        sim_fail("logs: shard %u, LSN %" PRIu64 ": node %u applied epoch %u, HLC %" PRIx64
                 "; node %u did epoch %u, HLC %" PRIx64,
                 (unsigned)engine->shard, engine->applied_lsn, (unsigned)node->number,
                 (unsigned)engine->applied_epoch, engine->applied_hlc, (unsigned)record->node,
                 (unsigned)record->epoch, record->hlc);
    }
    if (shard->replica->machine.role == TORC_REPLICA_ACTIVE && engine->applied_lsn > ghost->most) {
        ghost->most = engine->applied_lsn;
        ghost->most_node = node->number;
    }
}

// -- Copies ---------------------------------------------------------------------------------------

// A replica that begins as a copy has its memory: nobody may be a copy that was let go of.
void sim_ghost_open(const struct sim_node *node, uint32_t number, uint64_t copy)
{
    struct sim_ghost *ghost = &sim->ghosts[number];

    for (uint32_t i = 0; copy != 0 && i < torc_min_u64(ghost->gone_count, GONE_MAX); i++) {
        if (ghost->gone[i] == copy) {
            sim_fail("copies: node %u begins shard %u as copy %" PRIx64 ", which was let go of",
                     (unsigned)node->number, (unsigned)number, copy);
        }
    }
    for (uint32_t i = 0; copy >= TORC_GIVE_COPY && i < sim->config.nodes; i++) {
        if (i != node->index && ghost->copies[i] == copy) {
            sim_fail("copies: nodes %u and %u are copy %" PRIx64 " of shard %u",
                     (unsigned)node->number, (unsigned)i + 1, copy, (unsigned)number);
        }
    }
    ghost->copies[node->index] = copy;
}

static void ghost_gone(const struct sim_node *node, struct sim_ghost *ghost)
{
    if (ghost->copies[node->index] != 0) {
        ghost->gone[ghost->gone_count++ % GONE_MAX] = ghost->copies[node->index];
    }
    ghost->copies[node->index] = 0;
    ghost->here[node->index] = false;
}

void sim_ghost_start(const struct sim_node *node)
{
    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        sim->ghosts[number].here[node->index] = false;
    }
}

void sim_ghost_drop(const struct sim_node *node, uint32_t number)
{
    ghost_gone(node, &sim->ghosts[number]);
}

void sim_ghost_forget(const struct sim_node *node)
{
    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        ghost_gone(node, &sim->ghosts[number]);
    }
}

// Of a node whose dataplane has not begun yet its own copy is known.
bool sim_ghost_remembers(uint32_t number, uint32_t node, uint64_t copy)
{
    const struct sim_ghost *ghost = &sim->ghosts[number];
    bool gone = false;

    for (uint32_t i = 0; i < torc_min_u64(ghost->gone_count, GONE_MAX); i++) {
        gone = gone || ghost->gone[i] == copy;
    }
    return !gone && (copy >= TORC_GIVE_COPY ? ghost->copies[node - 1] == copy
                                            : sim->nodes[node - 1].copy == copy);
}

// A shard that was here and is no more: its memory is gone.
static void ghost_table(const struct sim_node *node, const struct torc_worker *worker)
{
    uint32_t *open = &sim->open_counts[node->index][worker->index];

    for (uint32_t number = 1; worker->open_count < *open && number <= sim->config.shards;
         number++) {
        struct sim_ghost *ghost = &sim->ghosts[number];

        if (ghost->here[node->index] && sim_ghost_replica(node, number) == NULL) {
            ghost_gone(node, ghost);
        }
    }
    *open = worker->open_count;
}

// -- After each turn ------------------------------------------------------------------------------

void sim_ghost_turn(const struct sim_node *node, const struct torc_worker *worker)
{
    ghost_table(node, worker);
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_worker_shard *shard = &worker->shards[i];

        if (shard->engine.shard == 0) {
            continue;
        }
        if (shard->replica == NULL && shard->engine.state == TORC_SHARD_ACTIVE) {
            ghost_advance(node, &shard->engine, false);
        }
        if (shard->replica == NULL) {
            continue;
        }
        sim->ghosts[shard->engine.shard].here[node->index] = true;
        if (!ghost_counts(shard)) {
            continue;
        }
        ghost_look(node, shard);
        sim_loss_turn(node, &worker->shards[i]);
        ghost_advance(node, &shard->engine, true);
        if (shard->readable && !worker->quiescing && // who stops answers nothing
            shard->engine.applied_lsn < sim->ghosts[shard->engine.shard].most) {
            sim_fail("lost: node %u may read shard %u, applied to %" PRIu64 "; node %u had applied "
                     "%" PRIu64,
                     (unsigned)node->number, (unsigned)shard->engine.shard,
                     shard->engine.applied_lsn,
                     (unsigned)sim->ghosts[shard->engine.shard].most_node,
                     sim->ghosts[shard->engine.shard].most);
        }
    }
}

// -- At the end -----------------------------------------------------------------------------------

const struct torc_worker_shard *sim_ghost_replica(const struct sim_node *node, uint32_t number)
{
    for (uint32_t i = 0; node->up && i < node->worker_count; i++) {
        const struct torc_worker *worker = node->workers[i].worker;

        for (uint32_t at = 0; at < worker->shard_count; at++) {
            if (worker->shards[at].engine.shard == number && worker->shards[at].replica != NULL) {
                return &worker->shards[at];
            }
        }
    }
    return NULL;
}

static void ghost_compare(const struct torc_worker_shard *one, const struct torc_worker_shard *two)
{
    for (uint32_t i = 0; i < sim->config.keys; i++) {
        uint64_t key = sim->keys[i];
        struct torc_tree_hit a;
        struct torc_tree_hit b;

        if (key < one->engine.lo || key >= one->engine.hi) {
            continue;
        }
        (void)torc_tree_lookup(&one->engine.tree, key, &a);
        (void)torc_tree_lookup(&two->engine.tree, key, &b);
        if (a.found != b.found || (a.found && a.version != b.version)) {
            sim_fail("trees: shard %u, key %" PRIu64 ": two replicas that applied %" PRIu64
                     " have versions %" PRIx64 " and %" PRIx64,
                     (unsigned)one->engine.shard, key, one->engine.applied_lsn,
                     a.found ? a.version : 0, b.found ? b.version : 0);
        }
    }
}

void sim_ghost_judge(void)
{
    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        const struct torc_worker_shard *first = NULL;

        for (uint32_t i = 0; i < sim->config.nodes; i++) {
            const struct torc_worker_shard *shard = sim_ghost_replica(&sim->nodes[i], number);

            if (shard == NULL || !ghost_counts(shard)) {
                continue;
            }
            if (first != NULL && first->engine.applied_lsn == shard->engine.applied_lsn) {
                ghost_compare(first, shard);
                sim_cover(SIM_COVER_CHECK_TREES);
            }
            first = first == NULL ? shard : first;
        }
    }
}
