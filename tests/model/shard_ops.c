// Torc tests: writes sent, commits and reads of model_shard.c. See shard_world.h.
#include "tests/model/shard_world.h"

#include <string.h>

// -- Sending ------------------------------------------------------------------------------------

uint32_t identity_new(struct world *world, uint32_t shard)
{
    struct identity *identity = &world->identities[world->identity_count];

    torc_assert(world->identity_count < IDENTITIES_MAX);
    *identity = (struct identity){.client = 100 + world->identity_count / 3,
                                  .principal = world->identity_count % 3,
                                  .shard = shard,
                                  .next_seq = 1,
                                  .low = 1};
    identity->known = calloc(SEQS, sizeof(struct known));
    torc_assert(identity->known != NULL);
    return world->identity_count++;
}

static uint32_t value_length(struct world *world)
{
    switch (below(world, 12)) {
    case 0: return 0;
    case 1: return (uint32_t)below(world, 400);
    case 2: return (uint32_t)below(world, 9000);
    case 3: return world->tight ? 200 : (uint32_t)below(world, 80000) / 4;
    default: return (uint32_t)below(world, 40);
    }
}

static void op_fill_condition(struct world *world, struct op *op)
{
    const struct cell *cell = &world->cells[op->write.key - KEY_BASE];

    if (chance(world, 60)) {
        return;
    }
    op->write.condition = (enum torc_shard_condition)below(world, 4);
    op->write.want_current = chance(world, 50);
    if (op->write.remove && op->write.condition == TORC_SHARD_IF_ABSENT) {
        op->write.condition = TORC_SHARD_ANY;
    }
    if (op->write.condition == TORC_SHARD_IF_VERSION) {
        op->write.if_version = chance(world, 70) && cell->present ? cell->version : below(world, 2);
    }
}

static struct op op_new(struct world *world)
{
    uint32_t shard = (uint32_t)below(world, SHARDS);
    uint32_t *actor = &world->actors[shard][below(world, ACTORS)];
    struct identity *identity = &world->identities[*actor];
    struct op op = {.identity = *actor, .value_seed = torc_rng_next(&world->rng)};

    if (identity->next_seq > SEQS - 64 || identity->lapsed) {
        *actor = identity_new(world, shard);
        identity = &world->identities[*actor];
        op.identity = *actor;
    }
    op.write = (struct torc_shard_write){.key = KEY_BASE + (uint64_t)shard * KEYS_EACH +
                                                below(world, KEYS_EACH),
                                         .client = identity->client,
                                         .principal = identity->principal,
                                         .seq = identity->next_seq,
                                         .epoch = world->sides[shard].epoch,
                                         .attempt = (uint8_t)below(world, 256),
                                         .remove = chance(world, 25),
                                         .stamp = now_hlc(world)};
    identity->next_seq += chance(world, 90) ? 1 : 1 + below(world, 20);
    if (chance(world, 60)) {
        uint64_t floor = op.write.seq > 200 ? op.write.seq - 200 : 1;

        identity->low = torc_max_u64(identity->low, floor + below(world, op.write.seq - floor + 1));
    }
    op.write.low = torc_min_u64(identity->low, op.write.seq);
    if (chance(world, 2)) {
        op.write.stamp = torc_hlc_from_us(torc_hlc_us(op.write.stamp) + below(world, 5000000));
    }
    op.write.value_bytes = op.write.remove ? 0 : value_length(world);
    op_fill_condition(world, &op);
    return op;
}

static void op_send(struct world *world, struct op op)
{
    static unsigned char value[1 << 17];
    struct torc_shard_write write;

    op.write.tag = ++world->next_tag;
    op.write.log_err = chance(world, 1) ? TORC_ERR_UNAVAILABLE : TORC_ERR_OK;
    op.write.value = NULL;
    value_make(value, op.value_seed, op.write.value_bytes);
    write = op.write;
    write.value = value;
    write_check(world, &op, &write, false);
    memset(value, 0xee, op.write.value_bytes); // the engine has its own copy
}

void send_again(struct world *world)
{
    uint64_t back = chance(world, 70) ? 64 : OPS_KEPT;
    struct op op;

    back = torc_min_u64(back, world->kept_count);
    if (back == 0) {
        return;
    }
    op = world->kept[(world->kept_count - 1 - below(world, back)) % OPS_KEPT];
    op.write.attempt++;
    if (chance(world, 60)) { // as a client does that was told of the new epoch
        op.write.epoch = side_of(world, op.write.key)->epoch;
    }
    op_send(world, op);
}

void send_new(struct world *world)
{
    struct op op = op_new(world);

    world->kept[world->kept_count++ % OPS_KEPT] = op;
    if (chance(world, 90)) { // else its first copy is late
        op_send(world, op);
    }
}

// -- Committing ---------------------------------------------------------------------------------

void cell_apply(struct world *world, const struct pending *pending)
{
    const struct torc_shard_write *write = &pending->op.write;
    struct identity *identity = &world->identities[pending->op.identity];
    struct known *known = &identity->known[write->seq];

    world->cells[write->key - KEY_BASE] = (struct cell){.present = !write->remove,
                                                        .version = pending->hlc,
                                                        .value_seed = pending->op.value_seed,
                                                        .value_bytes = write->value_bytes};
    expect(world, !known->committed, "committed twice", write->seq, known->info);
    known->committed = true;
    known->state = KNOWN_LOGGED;
    known->err = TORC_ERR_OK;
    known->info = pending->hlc;
    identity_age(identity, pending->hlc);
    identity_use(identity, pending->hlc);
    identity->last_hlc = pending->hlc;
    identity->logged_low = torc_max_u64(identity->logged_low, write->low);
    identity->seen_low = torc_max_u64(identity->seen_low, identity->logged_low);
}

struct pending side_pop(struct side *side)
{
    struct pending pending = side->pending[side->first];

    side->first = (side->first + 1) % PENDING_MAX;
    side->count--;
    return pending;
}

// Own records at the front that are durable give no outcome.
static void side_skip_own(struct side *side, uint64_t durable)
{
    while (side->count > 0 && side->pending[side->first].own &&
           side->pending[side->first].last_sequence <= durable) {
        struct pending pending = side_pop(side);

        side->applied_lsn = torc_max_u64(side->applied_lsn, pending.lsn);
    }
}

static void outcome_check(struct world *world, const struct torc_shard_outcome *outcome,
                          uint64_t durable)
{
    struct side *side = NULL;
    struct pending pending;

    for (uint32_t i = 0; i < SHARDS; i++) {
        side_skip_own(&world->sides[i], durable);
        if (world->sides[i].count > 0 &&
            world->sides[i].pending[world->sides[i].first].op.write.tag == outcome->tag) {
            side = &world->sides[i];
        }
    }
    if (side == NULL) {
        wrong(world, "outcome out of turn", outcome->tag, 0);
        return;
    }
    pending = side_pop(side);
    expect(world, pending.last_sequence <= durable, "committed before it was durable",
           pending.last_sequence, durable);
    expect(world, outcome->err == TORC_ERR_OK && outcome->info == pending.hlc, "outcome",
           outcome->err, outcome->info);
    expect(world, outcome->attempt == pending.op.write.attempt, "attempt", outcome->attempt, 0);
    side->applied_lsn = pending.lsn;
    cell_apply(world, &pending);
}

void drain_woken(struct world *world)
{
    struct torc_shard *shard;
    struct torc_shard_write *write = torc_shard_woken(&world->rig->pool, &shard);

    while (write != NULL && !world->broken) {
        struct side *side = side_of(world, write->key);
        uint32_t i = 0;
        struct op op;

        while (i < side->waiting_count && side->waiting[i].write.tag != write->tag) {
            i++;
        }
        if (i == side->waiting_count || shard != &side->shard) {
            wrong(world, "woken, but never waited", write->tag, 0);
            return;
        }
        op = side->waiting[i];
        memmove(&side->waiting[i], &side->waiting[i + 1],
                (side->waiting_count - i - 1) * sizeof(struct op));
        side->waiting_count--;
        op.write.log_err = chance(world, 2) ? TORC_ERR_BUSY : TORC_ERR_OK;
        write->log_err = op.write.log_err;
        expect(world,
               write->remove || (write->value_bytes == op.write.value_bytes &&
                                 value_is(write->value, op.value_seed, write->value_bytes)),
               "woken value", write->value_bytes, op.write.value_bytes);
        write_check(world, &op, write, true);
        write = torc_shard_woken(&world->rig->pool, &shard);
    }
}

static void commit(struct world *world, uint64_t durable)
{
    struct torc_shard_outcome outcomes[70];
    uint32_t max = 1 + (uint32_t)below(world, TORC_COUNT_OF(outcomes));
    uint32_t count;

    world->durable = durable;
    do {
        count = torc_shard_commit(&world->rig->pool, durable, outcomes, max);
        for (uint32_t i = 0; i < count && !world->broken; i++) {
            outcome_check(world, &outcomes[i], durable);
        }
    } while (count == max && !world->broken);
    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct side *side = &world->sides[i];

        side_skip_own(&world->sides[i], durable);
        expect(world, side->count == 0 || side->pending[side->first].last_sequence > durable,
               "durable and not committed", durable, side->count);
        expect(world, side->shard.applied_lsn == side->applied_lsn, "applied LSN",
               side->shard.applied_lsn, side->applied_lsn);
    }
    drain_woken(world);
}

void commit_some(struct world *world)
{
    uint64_t sealed = world->next_sequence - 1;

    if (sealed > world->durable) {
        commit(world, world->durable + 1 + below(world, sealed - world->durable));
    }
}

void commit_all(struct world *world)
{
    do {
        if (world->open) {
            log_seal(world);
        }
        commit(world, world->next_sequence - 1);
    } while ((world->open || world->rig->pool.pending_count > 0) && !world->broken);
    expect(world, world->rig->pool.waiting_count == 0, "waits though nothing is pending",
           world->rig->pool.waiting_count, 0);
}

// -- Reading ------------------------------------------------------------------------------------

void read_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_tree_hit hits[20];
    uint64_t keys[20];

    for (uint32_t i = 0; i < TORC_COUNT_OF(keys); i++) {
        keys[i] = side->shard.lo + below(world, KEYS_EACH);
    }
    torc_shard_get(&side->shard, keys, TORC_COUNT_OF(keys), hits);
    for (uint32_t i = 0; i < TORC_COUNT_OF(keys); i++) {
        const struct cell *cell = &world->cells[keys[i] - KEY_BASE];

        expect(world, hits[i].found == cell->present, "found", keys[i], hits[i].found);
        if (hits[i].found && cell->present) {
            expect(world,
                   hits[i].version == cell->version && hits[i].value_bytes == cell->value_bytes &&
                       value_is(hits[i].value, cell->value_seed, cell->value_bytes),
                   "value", keys[i], hits[i].version);
        }
    }
}

// The next present key of the model in the scan's direction, from *key on; false: none.
static bool model_next(const struct world *world, uint64_t *key, uint64_t lo, uint64_t hi,
                       bool reverse)
{
    while (*key >= lo && *key < hi) {
        if (world->cells[*key - KEY_BASE].present) {
            return true;
        }
        *key += reverse ? UINT64_MAX : 1;
    }
    return false;
}

static void scan_page_check(struct world *world, const struct torc_scan_page *page,
                            const struct torc_tree_pair *pairs, bool reverse)
{
    uint64_t key = reverse ? page->cover_hi - 1 : page->cover_lo;
    uint64_t count = 0;

    while (page->cover_lo < page->cover_hi &&
           model_next(world, &key, page->cover_lo, page->cover_hi, reverse)) {
        if (count < page->count) {
            expect(world,
                   pairs[count].key == key &&
                       pairs[count].version == world->cells[key - KEY_BASE].version,
                   "scanned", pairs[count].key, key);
        }
        count++;
        key += reverse ? UINT64_MAX : 1;
    }
    expect(world, count == page->count, "pairs in the cover", count, page->count);
}

void scan_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    uint64_t lo = side->shard.lo + below(world, KEYS_EACH);
    uint64_t hi = lo + below(world, side->shard.hi - lo + 1);
    bool reverse = chance(world, 50);
    uint64_t limit = chance(world, 50) ? UINT64_MAX : below(world, 12);
    struct torc_tree_pair pairs[8];
    struct torc_scan_page page;
    struct torc_scan scan;
    uint64_t at = reverse ? hi : lo;
    uint64_t got = 0;

    torc_scan_open(&scan, &side->shard, lo, hi, limit, reverse);
    do {
        torc_scan_next(&scan, &side->shard, pairs, 1 + (uint32_t)below(world, 8), &page);
        if (page.count > 1 && chance(world, 30)) {
            torc_scan_keep(&scan, pairs, (uint32_t)below(world, page.count), &page);
        }
        expect(world, (reverse ? page.cover_hi : page.cover_lo) == at, "covers tile", page.cover_lo,
               page.cover_hi);
        at = reverse ? page.cover_lo : page.cover_hi;
        scan_page_check(world, &page, pairs, reverse);
        got += page.count;
    } while (!page.done && !world->broken);
    expect(world, got <= limit, "limit", got, limit);
    expect(world, got == limit || at == (reverse ? lo : hi), "end of the range", at, hi);
}

void count_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_scan_page page;
    struct torc_scan scan;
    uint64_t counted = 0;
    uint64_t present = 0;

    torc_scan_open(&scan, &side->shard, side->shard.lo, side->shard.hi, UINT64_MAX, false);
    do {
        torc_scan_count(&scan, &side->shard, 10, &page);
        counted += page.count;
    } while (!page.done);
    for (uint64_t key = side->shard.lo; key < side->shard.hi; key++) {
        present += world->cells[key - KEY_BASE].present ? 1 : 0;
    }
    expect(world, counted == present, "count", counted, present);
}
