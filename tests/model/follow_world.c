// Torc tests: the world of model_follow.c, and what is checked of a node. See follow_world.h.
#include "tests/model/follow_world.h"

#include <inttypes.h>
#include <string.h>

void wrong(struct world *world, const char *what, uint64_t a, uint64_t b)
{
    if (!world->broken && !world->quiet) {
        (void)fprintf(stderr,
                      "model_follow: TORC_SEED=%" PRIu64 " op %" PRIu64 ": %s: %" PRIu64
                      " (%" PRIx64 "), %" PRIu64 " (%" PRIx64 ")\n",
                      world->seed, world->ops, what, a, a, b, b);
    }
    world->broken = true;
}

void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds) {
        wrong(world, what, a, b);
    }
}

uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

bool chance(struct world *world, uint32_t percent)
{
    return below(world, 100) < percent;
}

// -- Life -----------------------------------------------------------------------------------------

void node_open(struct world *world, struct node *node)
{
    struct torc_shard_pool_config config = {
        .slots_max = world->tight ? SLOTS_TIGHT : SLOTS,
        .own_max = TORC_SHARD_OWN,
        .waiting_max = world->tight ? 4 : 200,
        .completion_bytes = 4u << 20,
        .principal_ppm = 1000000,
        .dedup_ttl_s = TTL_S,
        .seed = world->seed + node->index,
        .undo = {.bytes = 4u << 20, .age_us = 3600000000, .pin_us = 60000000}};
    struct torc_shard_config shard = shard_rig_config(world->rig);
    uint64_t bytes = (torc_shard_pool_bytes(&config) + 63) / 64 * 64;
    uint64_t wall_us = node->pool.wall_us;
    struct torc_fail why;

    if (node->pool_memory == NULL) {
        node->pool_memory = aligned_alloc(64, bytes);
    }
    torc_assert(node->pool_memory != NULL);
    memset(node->pool_memory, 0, bytes - torc_undo_bytes(&config.undo) / 64 * 64);
    torc_shard_pool_init(&node->pool, node->pool_memory, &config);
    node->pool.wall_us = wall_us;
    shard.shard = 7;
    shard.lo = KEY_BASE;
    shard.hi = KEY_BASE + KEYS;
    shard.follows = true;
    if (chance(world, 30)) {
        node->stream++;
        node->turn++;
    }
    shard.moved =
        node->stream != (node->tape_count == 0 ? 0 : node->tape[node->tape_count - 1].stream);
    shard.turn = node->turn;
    TORC_TEST_OK(torc_shard_init(&node->shard, &node->pool, &shard, &why), &why);
}

void world_init(struct world *world, struct shard_rig *rig, uint64_t seed, enum fault fault)
{
    struct torc_shard_pool_config config = {.slots_max = 1,
                                            .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN};

    world->rig = rig;
    world->seed = seed;
    world->fault = fault;
    world->quiet = fault != FAULT_NONE;
    world->rng.state = seed;
    world->tight = fault == FAULT_NONE && chance(world, 25);
    shard_rig_pool(rig, CHUNKS, &config); // for its chunks; each node has a pool of its own
    for (uint32_t i = 0; i < CLIENTS; i++) {
        world->next_seq[i] = 1;
        world->low[i] = 1;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *node = &world->nodes[i];

        node->index = i;
        node->pool.wall_us = UINT64_C(1700000000000000) + below(world, 100000);
        node->next_sequence = 1;
        node->member = true;
        node_open(world, node);
        torc_shard_follow(&node->shard, 1);
        node->undo_from = node->shard.undo_floor;
    }
    world->replay_memory = aligned_alloc(64, (torc_replay_bytes(1) + 63) / 64 * 64);
    torc_assert(world->replay_memory != NULL);
    world->epoch = 1;
    world->nodes[0].synced = true; // and primary
}

void world_free(struct world *world)
{
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *node = &world->nodes[i];

        base_give_up(node);
        torc_shard_drop(&node->shard);
        expect(world, node->pool.completions.entry_used == 0, "clients leaked",
               node->pool.completions.entry_used, i);
        expect(world, node->pool.completions.result_used == 0, "results leaked",
               node->pool.completions.result_used, i);
        expect(world,
               node->pool.pending_count + node->pool.staged_count + node->pool.taken_count +
                       node->pool.own_count + node->pool.marked_count ==
                   0,
               "counted after drop", node->pool.pending_count, node->pool.taken_count);
        torc_undo_clear(&node->pool.undo);
        free(node->pool_memory);
        free(node->making.bytes);
        free(node->kept.bytes);
        free(node->base_memory);
    }
    free(world->replay_memory);
    expect(world, world->rig->heap.block_count == 0, "blocks leaked", world->rig->heap.block_count,
           0);
    expect(world, torc_chunk_pool_free(&world->rig->chunks) == world->rig->chunks.chunk_count,
           "chunks leaked", torc_chunk_pool_free(&world->rig->chunks), 0);
}

// -- A node's log ---------------------------------------------------------------------------------

uint64_t node_find(const struct node *node, uint32_t client, uint64_t seq)
{
    for (uint64_t lsn = node->last; lsn > 0; lsn--) {
        const struct record *record = &node->log[lsn];

        if ((record->kind == TORC_LOG_PUT || record->kind == TORC_LOG_DELETE) &&
            record->client == client && record->seq == seq) {
            return lsn;
        }
    }
    return 0;
}

void node_append(struct world *world, struct node *node, const struct torc_log_record *record,
                 const struct record *made)
{
    uint64_t first = node->next_sequence;

    node->next_sequence += chance(world, 30) ? below(world, 3) : 0;
    torc_shard_appended(&node->shard, first, node->next_sequence);
    node->top_sequence = node->next_sequence;
    torc_assert(node->tape_count < TAPE_MAX);
    node->tape[node->tape_count] = (struct taped){.record = *record, .stream = node->stream};
    if (!torc_log_kind_has_lsn(record->kind)) {
        expect(world, record->turn >= node->turn, "turn", record->turn, node->turn);
        node->turn = record->turn;
        if (record->kind == TORC_LOG_BEGUN) {
            node->begun_turn = record->turn;
            node->begun_lsn = record->lsn - 1;
        }
        node->tape[node->tape_count].made.sequence = node->next_sequence;
        node->tape_count += world->fault == FAULT_BEGUN && record->kind == TORC_LOG_BEGUN ? 0 : 1;
        return;
    }
    node->tape[node->tape_count].made = *made;
    node->tape[node->tape_count++].made.sequence = node->next_sequence;
    if (record->lsn <= node->last) { // held over a restart, in a new stream
        expect(world, record->epoch == made->epoch && record->hlc == made->hlc, "logged again",
               record->lsn, record->epoch);
        node->log[record->lsn].sequence = node->next_sequence;
        return;
    }
    expect(world, record->lsn == node->last + 1, "LSN", record->lsn, node->last + 1);
    expect(world, record->epoch == made->epoch && record->kind == made->kind, "record",
           record->epoch, made->epoch);
    expect(world, record->lsn == 1 || record->hlc > node->log[node->last].hlc, "HLC", record->hlc,
           node->log[node->last].hlc);
    expect(world, record->value_bytes == made->value_bytes, "length", record->value_bytes,
           made->value_bytes);
    expect(world,
           world->fault == FAULT_VALUE ||
               torc_test_value_is(record->value, made->value_seed, made->value_bytes),
           "value of the record", record->lsn, made->value_seed);
    node->last++;
    node->log[node->last] = *made;
    node->log[node->last].hlc = record->hlc;
    node->log[node->last].sequence = node->next_sequence;
}

void node_catch_up(struct world *world, struct node *node)
{
    expect(world, node->shard.applied_lsn >= node->applied, "applied fell", node->shard.applied_lsn,
           node->applied);
    expect(world, node->shard.applied_lsn <= node->last, "applied", node->shard.applied_lsn,
           node->last);
    while (node->applied < node->shard.applied_lsn && !world->broken) {
        const struct record *record = &node->log[++node->applied];

        if (record->kind == TORC_LOG_PUT || record->kind == TORC_LOG_DELETE) {
            node->cells[record->key - KEY_BASE] = *record;
            node->lows[record->client] = torc_max_u64(node->lows[record->client], record->low);
        }
    }
}

static void hit_check(struct world *world, uint64_t key, const struct torc_tree_hit *hit,
                      const struct record *record)
{
    bool present = record != NULL && record->kind == TORC_LOG_PUT;

    expect(world, hit->found == present, "found", key, hit->found);
    if (hit->found && present) {
        expect(world, hit->version == record->hlc, "version", hit->version, record->hlc);
        expect(world,
               hit->value_bytes == record->value_bytes &&
                   torc_test_value_is(hit->value, record->value_seed, record->value_bytes),
               "value", key, record->value_seed);
    }
}

// What a retry would be told at a new primary.
static void completion_check(struct world *world, struct node *node)
{
    uint32_t client = (uint32_t)below(world, CLIENTS);
    uint64_t seq = 1 + below(world, world->next_seq[client]);
    struct torc_completion_client who = {.client = 100 + client, .principal = client % 2};
    uint64_t lsn = node_find(node, client, seq);
    struct torc_completion_result result = {0};
    enum torc_completion_answer answer;

    if (node->shard.state == TORC_SHARD_ACTIVE) {
        return; // it remembers more than what is logged
    }
    answer = torc_completion_find(&node->shard.completions, who, seq, &result);
    if (lsn != 0 && lsn <= node->applied && seq >= node->lows[client]) {
        expect(world, answer == TORC_COMPLETION_DONE, "a result is missing", client, seq);
        expect(world, result.err == TORC_ERR_OK && result.info == node->log[lsn].hlc, "result",
               result.info, node->log[lsn].hlc);
    } else if (seq < node->lows[client]) {
        expect(world, answer == TORC_COMPLETION_OLD, "not old", client, seq);
    } else {
        expect(world, answer == TORC_COMPLETION_UNKNOWN, "known", client, seq);
    }
}

void node_check(struct world *world, struct node *node)
{
    uint64_t keys[KEYS];
    struct torc_tree_hit hits[KEYS];
    struct torc_fail why;

    if (torc_shard_check(&node->shard, &why) != TORC_ERR_OK) {
        wrong(world, why.text, 0, 0);
        return;
    }
    if (!node_is_whole(node)) {
        return;
    }
    expect(world, node->shard.next_lsn == node->last + 1, "next LSN", node->shard.next_lsn,
           node->last + 1);
    expect(world,
           node->last == 0 || node->shard.last_epoch == node->log[node->last].epoch ||
               node->shard.last_epoch == 0,
           "last epoch", node->shard.last_epoch, node->log[node->last].epoch);
    expect(world, node->last == 0 || node->shard.last_hlc == node->log[node->last].hlc, "last HLC",
           node->shard.last_hlc, node->log[node->last].hlc);
    for (uint32_t i = 0; i < KEYS; i++) {
        keys[i] = KEY_BASE + i;
    }
    torc_shard_get(&node->shard, keys, KEYS, hits);
    for (uint32_t i = 0; i < KEYS; i++) {
        hit_check(world, keys[i], &hits[i], &node->cells[i]);
    }
    for (uint32_t i = 0; i < 8; i++) {
        completion_check(world, node);
    }
}

// A moment of the past, the same on each node that has it.
void node_check_past(struct world *world, struct node *node)
{
    uint64_t lsn = node->applied == 0 ? 0 : 1 + below(world, node->applied);
    uint64_t ts = lsn == 0 ? 0 : node->log[lsn].hlc + below(world, 2);
    uint64_t key = KEY_BASE + below(world, KEYS);
    enum torc_shard_past past = TORC_SHARD_PAST_MORE;
    const struct record *record = NULL;
    struct torc_tree_hit hit;
    uint64_t oldest = 0;

    if (!node_is_whole(node) || ts == 0 || ts < node->undo_from || ts > node->shard.applied_hlc) {
        return;
    }
    while (past == TORC_SHARD_PAST_MORE) {
        past = torc_shard_past(&node->shard, ts, 50, &oldest);
    }
    expect(world, past == TORC_SHARD_PAST_READY, "past", past, ts);
    if (past != TORC_SHARD_PAST_READY) {
        return;
    }
    for (uint64_t at = node->applied; at > 0 && record == NULL; at--) {
        const struct record *one = &node->log[at];

        if (one->hlc <= ts && one->key == key &&
            (one->kind == TORC_LOG_PUT || one->kind == TORC_LOG_DELETE)) {
            record = one;
        }
    }
    torc_shard_get_past(&node->shard, key, ts, &hit);
    hit_check(world, key, &hit, record);
    world->counts[COUNT_PAST]++;
}
