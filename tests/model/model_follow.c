// Torc tests: a shard on three nodes: the engine's half of replication.
//
// What    one of three nodes leads, takes writes, sends again and late ones among them, and ships
//         records; the others stage, take or refuse them; what all members have is committed, and
//         told late. Any member takes over at any moment, with records that others lack and without
//         records that others have; the old primary is cut and follows; a node that was left out
//         comes back epochs later. Primaries change their own epoch, and are sole members at
//         times. Each node's tree, completions, past and durable mark must be those of its log;
//         nobody is told of a write that is not committed, nor twice. Some worlds have few slots.
//         A sibling run plants faults.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations.
#include "tests/model/follow_world.h"

#include <inttypes.h>
#include <string.h>

#ifdef TORC_TEST_SANITIZED // with sanitizers: a tenth of the speed
#define OPS_DEFAULT 60000
#else
#define OPS_DEFAULT 600000
#endif

static struct node *leader(struct world *world)
{
    return &world->nodes[world->primary];
}

static bool is_sole(const struct world *world)
{
    for (uint32_t i = 0; i < NODES; i++) {
        if (i != world->primary && world->nodes[i].member) {
            return false;
        }
    }
    return true;
}

// -- Committing -----------------------------------------------------------------------------------

static void outcome_check(struct world *world, struct node *node,
                          const struct torc_shard_outcome *outcome)
{
    for (uint64_t lsn = node->applied; lsn > 0; lsn--) {
        struct record *record = &node->log[lsn];

        if (record->tag == outcome->tag) {
            expect(world, outcome->err == TORC_ERR_OK && outcome->info == record->hlc, "outcome",
                   outcome->err, outcome->info);
            record->tag = 0; // told once
            return;
        }
    }
    wrong(world, "an outcome that nobody waits for", outcome->tag, node->applied);
}

static void write_evaluate(struct world *world, struct torc_shard_write *write, uint32_t client,
                           bool woken);

static void woken_drain(struct world *world, struct node *node)
{
    struct torc_shard *shard;
    struct torc_shard_write *write;

    while ((write = torc_shard_woken(&node->pool, &shard)) != NULL && !world->broken) {
        write_evaluate(world, write, (uint32_t)(write->client - 100), true);
    }
}

// What lies in blocks up to `sequence` is on the disk, and they are sealed.
static void node_flush(struct node *node, uint64_t sequence)
{
    node->durable_sequence = torc_max_u64(node->durable_sequence, sequence);
    node->next_sequence = torc_max_u64(node->next_sequence, node->durable_sequence + 1);
}

// Applies up to lsn, and tells whoever waits.
static void node_commit(struct world *world, struct node *node, uint64_t lsn)
{
    struct torc_shard_outcome outcomes[40];
    uint32_t room = 1 + (uint32_t)below(world, TORC_COUNT_OF(outcomes));

    if (!node->shard.shared) {
        node_flush(node, node->log[lsn].sequence);
    }
    while (node->shard.applied_lsn < lsn && !world->broken) {
        uint32_t count =
            node->shard.shared
                ? torc_shard_commit_to(&node->shard, lsn, outcomes, room)
                : torc_shard_commit(&node->pool, node->durable_sequence, outcomes, room);

        expect(world, count > 0 || node->shard.applied_lsn >= lsn, "commit stands still",
               node->shard.applied_lsn, lsn);
        node_catch_up(world, node);
        for (uint32_t i = 0; i < count; i++) {
            outcome_check(world, node, &outcomes[i]);
        }
    }
    if (node == leader(world) && world->active) {
        woken_drain(world, node);
    }
}

// What all members have is committed (C1).
static void commit_some(struct world *world)
{
    struct node *primary = leader(world);
    uint64_t lsn;

    lsn = primary->last;
    for (uint32_t i = 0; i < NODES; i++) {
        const struct node *node = &world->nodes[i];

        if (node->member && i != world->primary) {
            lsn = node->synced ? torc_min_u64(lsn, node->last) : 0;
        }
    }
    if (lsn > world->commit && (world->active || lsn >= world->open_lsn)) { // T7
        world->commit = world->active ? world->commit + 1 + below(world, lsn - world->commit) : lsn;
        node_commit(world, primary, world->commit);
        world->commit = primary->applied; // alone it goes by blocks
    }
    if (!world->active && primary->applied >= world->open_lsn) {
        torc_shard_serve(&primary->shard);
        world->active = true;
    }
}

// A backup hears of it, later.
static void commit_backup(struct world *world, struct node *node)
{
    uint64_t lsn = torc_min_u64(world->commit, node->last);

    if (world->fault == FAULT_COMMIT && node->last > lsn) {
        lsn = node->last;
    }
    if (node->synced && !node->loading && node != leader(world) && lsn > node->applied) {
        node_commit(world, node, lsn - below(world, 2));
    }
}

// -- Writing --------------------------------------------------------------------------------------

static void write_answer(struct world *world, struct node *primary, uint32_t client,
                         const struct torc_shard_write *write,
                         const struct torc_shard_outcome *outcome)
{
    uint64_t lsn = node_find(primary, client, write->seq);

    if (outcome->err == TORC_ERR_OK) {
        expect(world, lsn != 0 && lsn <= primary->applied, "done, but not in the log", client,
               write->seq);
        expect(world, outcome->info == primary->log[lsn].hlc, "its version", outcome->info,
               primary->log[lsn].hlc);
        world->counts[COUNT_RETRY]++;
    } else if (outcome->err == TORC_ERR_CONDITION_FAILED || outcome->err == TORC_ERR_NOT_FOUND) {
        expect(world, lsn == 0, "failed, but in the log", client, write->seq);
    } else if (outcome->err == TORC_ERR_BUSY || outcome->err == TORC_ERR_NO_SPACE) {
        expect(world,
               world->tight || primary->pool.waiting_count == primary->pool.waiting_max ||
                   primary->pool.pending_count + 50 > SLOTS,
               "refused without need", outcome->err, outcome->info);
        world->counts[COUNT_REFUSED]++;
    } else {
        expect(world, outcome->err == TORC_ERR_PENDING || outcome->err == TORC_ERR_SEQ_OLD,
               "answer", outcome->err, outcome->info);
    }
}

static void write_evaluate(struct world *world, struct torc_shard_write *write, uint32_t client,
                           bool woken)
{
    struct node *primary = leader(world);
    struct torc_shard_write sent = *write;
    struct torc_log_record record;
    struct torc_shard_outcome outcome;

    switch (torc_shard_write(&primary->shard, write, &record, &outcome)) {
    case TORC_SHARD_ANSWER:
        expect(world, outcome.tag == sent.tag, "tag", outcome.tag, sent.tag);
        if (!woken || outcome.err != TORC_ERR_WRONG_SHARD) { // it waited over a new epoch
            write_answer(world, primary, client, &sent, &outcome);
        }
        return;
    case TORC_SHARD_APPEND: {
        struct record made = {.kind = sent.remove ? TORC_LOG_DELETE : TORC_LOG_PUT,
                              .epoch = world->epoch,
                              .key = sent.key,
                              .client = client,
                              .seq = sent.seq,
                              .low = sent.low,
                              .value_seed = world->sent[client][sent.seq].value_seed,
                              .value_bytes = sent.value_bytes,
                              .tag = sent.tag};

        expect(world, node_find(primary, client, sent.seq) == 0, "executed twice", client,
               sent.seq);
        node_append(world, primary, &record, &made);
        world->counts[COUNT_APPEND]++;
        return;
    }
    case TORC_SHARD_WAIT: return;
    }
}

static void write_new(struct world *world, uint32_t client)
{
    uint64_t seq = world->next_seq[client]++;
    struct sent *sent = &world->sent[client][seq];

    if (chance(world, 40)) {
        world->low[client] += below(world, seq - world->low[client] + 1);
    }
    world->low[client] = torc_max_u64(world->low[client], seq > 60 ? seq - 60 : 1);
    sent->value_seed = torc_rng_next(&world->rng);
    sent->write = (struct torc_shard_write){.key = KEY_BASE + below(world, KEYS),
                                            .client = 100 + client,
                                            .principal = client % 2,
                                            .seq = seq,
                                            .low = world->low[client],
                                            .remove = chance(world, 25),
                                            .condition = chance(world, 70) ? TORC_SHARD_ANY
                                                                           : TORC_SHARD_IF_PRESENT};
    if (!sent->write.remove) {
        sent->write.value_bytes = (uint32_t)below(world, chance(world, 90) ? 50 : 3000);
    }
}

static void write_some(struct world *world)
{
    static unsigned char value[4096];
    uint32_t client = (uint32_t)below(world, CLIENTS);
    struct node *primary = leader(world);
    struct torc_shard_write write;
    uint64_t seq;

    if (!world->active || world->next_seq[client] == SEQS || primary->last > LOG_MAX - 64) {
        return;
    }
    if (chance(world, 75)) {
        write_new(world, client);
    }
    seq = world->next_seq[client] - 1 - (chance(world, 70) ? 0 : below(world, 40));
    if (seq == 0 || seq >= world->next_seq[client]) {
        return;
    }
    write = world->sent[client][seq].write;
    write.tag = ++world->next_tag;
    write.epoch = world->epoch;
    write.stamp = torc_hlc_from_us(primary->pool.wall_us);
    torc_test_value(value, world->sent[client][seq].value_seed, write.value_bytes);
    write.value = value;
    write_evaluate(world, &write, client, false);
    memset(value, 0xee, sizeof(value));
}

// Whoever does not serve refuses, and nothing of it is left.
static void write_elsewhere(struct world *world)
{
    struct node *node = &world->nodes[below(world, NODES)];
    struct torc_shard_write write = {.key = KEY_BASE,
                                     .client = 1,
                                     .seq = 1,
                                     .low = 1,
                                     .epoch = node->shard.epoch,
                                     .stamp = torc_hlc_from_us(node->pool.wall_us)};
    struct torc_log_record record;
    struct torc_shard_outcome outcome;

    if (node->shard.state == TORC_SHARD_ACTIVE) {
        write.epoch--;
    }
    expect(world,
           torc_shard_write(&node->shard, &write, &record, &outcome) == TORC_SHARD_ANSWER &&
               outcome.err == (node->shard.state == TORC_SHARD_OPENING ? TORC_ERR_TAKING_OVER
                                                                       : TORC_ERR_WRONG_SHARD),
           "a write elsewhere", outcome.err, node->shard.state);
}

// -- Shipping -------------------------------------------------------------------------------------

static void record_to_ship(struct world *world, const struct node *from, uint64_t lsn, void *value,
                           struct torc_log_record *record)
{
    const struct record *have = &from->log[lsn];
    bool is_write = have->kind == TORC_LOG_PUT || have->kind == TORC_LOG_DELETE;

    *record = (struct torc_log_record){.kind = have->kind,
                                       .with_client = is_write,
                                       .shard = 7,
                                       .epoch = have->epoch,
                                       .turn = 33, // of that node's log: means nothing here
                                       .lsn = lsn,
                                       .hlc = have->hlc,
                                       .principal = have->client % 2,
                                       .value_bytes = have->value_bytes,
                                       .client = 100 + have->client,
                                       .seq = have->seq,
                                       .low = have->low,
                                       .key = have->key,
                                       .value = value};
    torc_test_value(value, have->value_seed, have->value_bytes);
    if (world->fault == FAULT_VALUE && have->value_bytes > 0) {
        *(unsigned char *)value ^= 1;
    }
}

static void take_staged(struct world *world, const struct node *from, struct node *to)
{
    struct torc_log_record record;

    while (torc_shard_take(&to->shard, &record)) {
        struct record made = from->log[record.lsn];

        made.tag = 0;
        made.on_disk = false;
        node_append(world, to, &record, &made);
        world->counts[COUNT_TAKE]++;
    }
}

// A record that cannot be: it must be refused by name, and change nothing.
static void stage_nonsense(struct world *world, struct node *to, const struct torc_log_record *good)
{
    struct torc_log_record bad = *good;
    struct torc_fail why = {0};

    switch (below(world, 6)) {
    case 0: bad.lsn += 1 + below(world, 3); break;
    case 1: bad.epoch++; break;
    case 2: bad.kind = TORC_LOG_MOVED; break;
    case 3: bad.hlc = to->shard.last_hlc; break;
    case 4: bad.low = bad.seq + 1; break;
    default: bad.key = KEY_BASE + KEYS; break;
    }
    if (bad.epoch != good->epoch && to->shard.last_epoch == 0) {
        return; // behind a base whose epoch is not known yet
    }
    if ((bad.kind == TORC_LOG_EPOCH && bad.hlc > to->shard.last_hlc && bad.lsn == good->lsn)) {
        return; // of an EPOCH the rest means nothing
    }
    expect(world, torc_shard_stage(&to->shard, &bad, &why) == TORC_ERR_CORRUPT, "nonsense taken",
           bad.lsn, bad.epoch);
}

static void ship_some(struct world *world, uint32_t index)
{
    static unsigned char value[4096];
    struct node *from = leader(world);
    struct node *to = &world->nodes[index];
    uint64_t count = below(world, chance(world, 80) ? 8 : 200);
    struct torc_log_record record;
    struct torc_fail why = {0};
    bool refused = false;

    if (to == from || !to->synced) {
        return;
    }
    for (uint64_t lsn = to->last + 1; lsn <= from->last && count > 0 && !refused; lsn++, count--) {
        enum torc_err err;

        record_to_ship(world, from, lsn, value, &record);
        if (lsn == to->last + 1 && chance(world, 5)) {
            stage_nonsense(world, to, &record);
        }
        err = torc_shard_stage(&to->shard, &record, &why);
        memset(value, 0xdd, sizeof(value));
        refused = err == TORC_ERR_BUSY && world->tight;
        expect(world, err == TORC_ERR_OK || refused, why.text, lsn, err);
        world->counts[COUNT_REFUSED] += refused ? 1 : 0;
    }
    if (chance(world, 5)) { // the machine wants them not
        torc_shard_unstage(&to->shard);
        return;
    }
    take_staged(world, from, to);
}

// -- Durable --------------------------------------------------------------------------------------

// A mark may say less than what is on the disk, where many blocks are under way; never more, and
// all of it when the disk has all, cut records too.
static void durable_some(struct world *world, struct node *node)
{
    uint64_t on_disk = 0;
    bool all;

    node_flush(node, node->durable_sequence +
                         below(world, node->next_sequence + 1 - node->durable_sequence));
    while (torc_shard_durable(&node->pool, node->durable_sequence) != NULL) {
        expect(world, node->shard.shared, "durable of a sole member", 0, 0);
    }
    if (!node->shard.shared) {
        return;
    }
    for (uint64_t lsn = 1; lsn <= node->last; lsn++) {
        if (node->log[lsn].on_disk || node->log[lsn].sequence <= node->durable_sequence) {
            on_disk = lsn;
        }
    }
    all = node->durable_sequence >= node->top_sequence;
    expect(world, node->shard.durable_lsn <= on_disk, "durable too early", node->shard.durable_lsn,
           on_disk);
    expect(world, !all || node->shard.durable_lsn == on_disk, "durable too late",
           node->shard.durable_lsn, on_disk);
    expect(world,
           node->shard.durable_lsn == 0 || !node_is_whole(node) ||
               node->shard.durable_epoch == node->log[node->shard.durable_lsn].epoch,
           "durable epoch", node->shard.durable_epoch, node->shard.durable_lsn);
}

// -- Roles ----------------------------------------------------------------------------------------

static void open_log(struct world *world, struct node *node)
{
    uint64_t floor = torc_hlc_from_us(node->pool.wall_us + below(world, 300000));
    struct record made = {.kind = TORC_LOG_EPOCH, .epoch = world->epoch};
    struct torc_log_record record;

    torc_shard_lead(&node->shard, world->epoch, floor, &record);
    expect(world, record.hlc > floor, "EPOCH not above the ceiling", record.hlc, floor);
    node_append(world, node, &record, &made);
    world->open_lsn = node->last;
}

// T5: the highest LSN whose epoch is the same in both logs stays.
static void node_follow(struct world *world, uint32_t index)
{
    struct node *node = &world->nodes[index];
    const struct node *primary = leader(world);
    uint64_t common = torc_min_u64(node->last, primary->last);

    torc_shard_follow(&node->shard, world->epoch);
    expect(world, node->pool.waiting_count == 0 && torc_shard_is_settled(&node->pool),
           "owes answers", node->pool.waiting_count, node->pool.pending_count);
    while (common > 0 && node->log[common].epoch != primary->log[common].epoch) {
        common--;
    }
    world->counts[COUNT_CUT] += node->last - common;
    if (world->fault == FAULT_KEEP && node->last > common) {
        common++;
    }
    expect(world, torc_shard_cut(&node->shard, common), "cut below the tree", common,
           node->shard.applied_lsn);
    node->last = torc_min_u64(node->last, common);
    for (uint64_t lsn = 1; lsn <= node->last; lsn++) {
        node->log[lsn].tag = 0; // nobody waits any more
    }
    node->synced = true;
}

// A member leads a new epoch. Some nodes hear of it at once, some later, some are left out.
static void lead(struct world *world, struct node *node)
{
    for (uint64_t lsn = 1; lsn <= node->last; lsn++) {
        node->log[lsn].tag = 0;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        base_give_up(&world->nodes[i]);
        world->nodes[i].synced = false;
        if (i != node->index && chance(world, 20)) {
            world->nodes[i].member = false;
        }
    }
    node->synced = true;
    world->primary = node->index;
    world->active = false;
    open_log(world, node);
    world->counts[COUNT_TAKEOVER]++;
}

static void take_over(struct world *world)
{
    uint32_t next = (uint32_t)below(world, NODES);
    struct node *node = &world->nodes[next];

    if (!node->member || !node->synced || leader(world)->last > LOG_MAX - 64 ||
        node->pool.own_count >= TORC_SHARD_OWN - 1) {
        return;
    }
    world->epoch++;
    if (next == world->primary && world->active && chance(world, 50)) { // its own change
        open_log(world, node);
        return;
    }
    if (node->shard.state != TORC_SHARD_FOLLOWING) { // it was demoted for a moment
        torc_shard_follow(&node->shard, world->epoch);
    }
    lead(world, node);
}

// A new life: a primary takes over from itself (T9), others are brought to its log again.
static void restart_some(struct world *world, struct node *node)
{
    if (world->tight || (node->unkept && node->member) || leader(world)->last > LOG_MAX - 64 ||
        node->tape_count > TAPE_MAX - 300 || node->pool.own_count >= TORC_SHARD_OWN - 1) {
        return;
    }
    node_restart(world, node);
    node->synced = false;
    if (!world->broken && node == leader(world)) {
        world->epoch++;
        lead(world, node);
    }
}

// Members and others come to the new primary.
static void sync_some(struct world *world, uint32_t index)
{
    struct node *node = &world->nodes[index];

    if (index == world->primary || node->synced || (!node->member && !world->active)) { // J1
        return;
    }
    node_follow(world, index);
}

static void join_some(struct world *world, uint32_t index)
{
    struct node *node = &world->nodes[index];

    if (world->active && node->synced && !node->member && node->last >= world->commit &&
        node_is_whole(node) && !node->unkept) { // J2, J3
        torc_shard_share(&leader(world)->shard);
        node->member = true;
    } else if (world->active && node->member && index != world->primary && chance(world, 10)) {
        node->member = false; // removed; a new epoch would say so
    } else if (world->active && is_sole(world) && leader(world)->shard.shared) {
        node_flush(leader(world), leader(world)->log[leader(world)->applied].sequence);
        torc_shard_unshare(&leader(world)->shard); // and it commits by itself
    }
}

static void idle_some(struct world *world)
{
    struct node *primary = leader(world);
    struct record made = {.kind = TORC_LOG_EMPTY, .epoch = world->epoch};
    struct torc_log_record record;

    if (world->active && primary->last < LOG_MAX - 64 &&
        torc_shard_idle(&primary->shard, &record)) {
        node_append(world, primary, &record, &made);
    }
}

// -- A life ---------------------------------------------------------------------------------------

static void world_step(struct world *world)
{
    uint64_t dice = below(world, 1000);
    uint32_t index = (uint32_t)below(world, NODES);
    struct node *node = &world->nodes[index];

    world->ops++;
    if (dice < 400) {
        write_some(world);
    } else if (dice < 620) {
        ship_some(world, index);
    } else if (dice < 740) {
        commit_some(world);
    } else if (dice < 820) {
        commit_backup(world, node);
    } else if (dice < 880) {
        durable_some(world, node);
    } else if (dice < 910) {
        node_check_past(world, node);
    } else if (dice < 930) {
        node_check(world, node);
    } else if (dice < 940) {
        node->pool.wall_us += below(world, 20000);
    } else if (dice < 945) {
        write_elsewhere(world);
    } else if (dice < 970) {
        sync_some(world, index);
    } else if (dice < 980) {
        join_some(world, index);
    } else if (dice < 982) {
        idle_some(world);
    } else if (dice < 984 || node->needs_base || node->loading) {
        if (world->active && !node->member && index != world->primary &&
            (node->loading || node->needs_base || chance(world, 60))) {
            base_some(world, node);
        }
    } else if (dice < 988) {
        take_over(world);
    } else if (dice < 992) {
        restart_some(world, node);
    } else {
        for (uint32_t i = 0; i < 3; i++) {
            checkpoint_some(world, node);
        }
    }
}

static void world_begin(struct world *world)
{
    for (uint32_t i = 0; i < NODES; i++) {
        struct torc_log_record record;

        while (torc_shard_begin(&world->nodes[i].shard, &record)) {
            expect(world, record.kind == TORC_LOG_MOVED, "an EPOCH of a backup", record.kind, i);
            node_append(world, &world->nodes[i], &record, NULL);
        }
    }
    open_log(world, leader(world));
}

// Everybody comes to the primary and has all that it has: then all are the same.
static void world_settle(struct world *world)
{
    for (uint32_t round = 0; round < 4000 && !world->broken; round++) {
        for (uint32_t i = 0; i < NODES; i++) {
            struct node *node = &world->nodes[i];

            if (world->active && (node->loading || node->needs_base)) {
                base_some(world, node);
            }
            sync_some(world, i);
            ship_some(world, i);
            commit_backup(world, &world->nodes[i]);
        }
        commit_some(world);
    }
    for (uint32_t i = 0; i < NODES && !world->broken; i++) {
        struct node *node = &world->nodes[i];

        expect(world, node->last == leader(world)->last, "an end behind", node->last,
               leader(world)->last);
        expect(world, node->applied + 1 >= node->last || world->commit < node->last,
               "an end not applied", node->applied, node->last);
        node_check(world, node);
        node_check_past(world, node);
    }
}

static bool world_run(struct shard_rig *rig, uint64_t seed, enum fault fault, uint64_t *counts)
{
    struct world *world = calloc(1, sizeof(*world));
    bool agreed;

    torc_assert(world != NULL);
    world_init(world, rig, seed, fault);
    world_begin(world);
    while (world->ops < WORLD_OPS && !world->broken) {
        world_step(world);
    }
    world_settle(world);
    world_free(world);
    agreed = !world->broken;
    for (uint32_t i = 0; counts != NULL && i < COUNT_OPS; i++) {
        counts[i] += world->counts[i];
    }
    if (counts != NULL) {
        counts[COUNT_OPS] += world->ops;
    }
    free(world);
    return agreed;
}

static struct shard_rig test_rig; // one a program: a heap is opened once in a thread's life

static void test_worlds(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
    struct torc_rng rng = {torc_test_seed()};
    uint64_t counts[COUNT_OPS + 1] = {0};
    bool agreed = true;

    // The first world has the test's own seed, so that a failure's seed replays it at once.
    for (uint64_t seed = torc_test_seed(); agreed && counts[COUNT_OPS] < wanted;
         seed = torc_rng_next(&rng)) {
        agreed = world_run(&test_rig, seed, FAULT_NONE, counts);
    }
    CU_ASSERT_TRUE(agreed);
    (void)printf(
        "%" PRIu64 " operations: %" PRIu64 " appended, %" PRIu64 " taken, %" PRIu64 " cut, %" PRIu64
        " takeovers, %" PRIu64 " retries answered, %" PRIu64 " refused, %" PRIu64
        " of the past, %" PRIu64 " restarts, %" PRIu64 " bases, %" PRIu64 " lost with a restart ",
        counts[COUNT_OPS], counts[COUNT_APPEND], counts[COUNT_TAKE], counts[COUNT_CUT],
        counts[COUNT_TAKEOVER], counts[COUNT_RETRY], counts[COUNT_REFUSED], counts[COUNT_PAST],
        counts[COUNT_RESTART], counts[COUNT_BASE], counts[COUNT_BASE_GONE]);
}

static void test_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum fault fault = FAULT_VALUE; fault < FAULT_COUNT; fault++) {
        bool seen = false;
        uint32_t worlds = 0;

        // One in three worlds shows the one that is seen least; the first that does ends it.
        for (; worlds < 200 && !seen; worlds++) {
            seen = !world_run(&test_rig, torc_rng_next(&rng), fault, NULL);
        }
        (void)printf("fault %d: %" PRIu32 " worlds ", (int)fault, worlds);
        CU_ASSERT_TRUE(seen);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"each node is what its log says", test_worlds},
                           {"planted faults are seen", test_planted_faults},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&test_rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("model_follow", tests);
    shard_rig_close(&test_rig);
    return status;
}
