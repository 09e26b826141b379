// Torc tests: the shard engine against an oracle: a table of keys and a memory of every write ever
// sent.
//
// What    two shards on one core, with clients that send again, late and out of order; conditions;
//         commits delayed; a log of blocks; fuzzy checkpoints taken while writes go on; crashes
//         that keep any prefix of what was sealed and not yet durable, and replay after them. The
//         oracle foretells every verdict, and knows which (client, seq) took effect: at most once
//         each, and all its answers agree. Some worlds have too little memory, where refusals are
//         right too. A sibling run plants faults that the oracle must see.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations.
#include "kit/hlc.h"
#include "storage/replay.h"
#include "storage/scan.h"
#include "tests/shard_rig.h"

#include <string.h>

#ifdef TORC_TEST_SANITIZED // with sanitizers: a tenth of the speed
#define OPS_DEFAULT 400000
#else
#define OPS_DEFAULT 3000000
#endif

enum {
    SHARDS = 2,
    KEYS = 48, // of both shards together
    KEYS_EACH = KEYS / SHARDS,
    ACTORS = 6,
    SEQS = 2048, // of one identity
    IDENTITIES_MAX = 4096,
    OPS_KEPT = 4096,
    PENDING_MAX = 4096,
    BLOCKS_MAX = 65536,
    WORLD_OPS = 12000,
    CHUNKS = 256,
    TTL_S = 120,
};

#define KEY_BASE   UINT64_C(1000)
#define HEAP_BYTES (UINT64_C(48) << 20)

enum fault {
    FAULT_NONE,
    FAULT_FORGET, // completion records vanish
    FAULT_VALUE,  // a value changes in the tree
    FAULT_LOSE,   // a record is missing from the log that is replayed
    FAULT_COUNT,
};

enum known_state {
    KNOWN_NOT,
    KNOWN_WAITING,
    KNOWN_PENDING,
    KNOWN_LOGGED,
    KNOWN_FAILED,
};

struct known {
    uint8_t state;  // enum known_state
    bool committed; // ever: it may not be executed again
    bool answered;  // with OK, by an outcome
    uint16_t err;
    uint64_t info;
};

// A client of one shard, as the shard knows it.
struct identity {
    uint64_t client;
    uint32_t principal;
    uint32_t shard;
    uint64_t next_seq;
    uint64_t low;
    bool exists; // the shard has an entry for it
    bool lapsed; // the shard may have dropped it once, by age: what it remembers is not certain
    uint64_t logged_low;
    uint64_t seen_low;
    uint64_t last_hlc; // of a logged record
    uint64_t used_hlc;
    struct known *known; // SEQS
};

struct op {
    struct torc_shard_write write;
    uint32_t identity;
    uint64_t value_seed;
};

struct cell {
    bool present;
    uint64_t version;
    uint64_t value_seed;
    uint32_t value_bytes;
};

struct pending {
    struct op op;
    uint64_t lsn;
    uint64_t hlc;
    uint64_t last_sequence;
    bool own; // EPOCH, MOVED, EMPTY
};

struct block {
    unsigned char *bytes;
    uint32_t byte_count;
};

struct checkpoint {
    bool busy;
    bool kept;
    struct torc_checkpoint_writer writer;
    unsigned char *bytes;
    uint64_t byte_count;
    uint64_t room;
};

struct side {
    struct torc_shard shard;
    struct pending pending[PENDING_MAX]; // ring
    uint32_t first;
    uint32_t count;
    struct op waiting[PENDING_MAX];
    uint32_t waiting_count;
    uint64_t lsn; // last appended
    uint64_t applied_lsn;
    uint32_t epoch;
    uint32_t turn;
    struct checkpoint making;
    struct checkpoint kept;
};

struct world {
    struct shard_rig *rig;
    struct torc_rng rng;
    enum fault fault;
    bool tight;
    bool broken;
    bool quiet;
    uint64_t seed;
    uint64_t ops;
    struct side sides[SHARDS];
    struct cell cells[KEYS];
    struct identity *identities;
    uint32_t identity_count;
    uint32_t actors[SHARDS][ACTORS];
    struct op kept[OPS_KEPT];
    uint64_t kept_count;
    uint64_t next_tag;
    // The log.
    struct torc_log_builder builder;
    unsigned char building[TORC_LOG_BLOCK_BYTES_MAX];
    bool open;
    uint32_t capacity;
    struct block blocks[BLOCKS_MAX]; // by sequence
    uint64_t next_sequence;
    uint64_t first_sequence; // trimmed below it
    uint64_t durable;
    void *replay_memory;
    uint64_t counts[8]; // answers, appends, waits, restarts, checkpoints, refused
};

enum {
    COUNT_ANSWER,
    COUNT_APPEND,
    COUNT_WAIT,
    COUNT_RESTART,
    COUNT_CHECKPOINT,
    COUNT_REFUSED,
    COUNT_REPLAYED,
};

static void wrong(struct world *world, const char *what, uint64_t a, uint64_t b)
{
    if (!world->broken && !world->quiet) {
        (void)fprintf(stderr,
                      "model_shard: TORC_SEED=%" PRIu64 " op %" PRIu64 ": %s: %" PRIu64 " (%" PRIx64
                      "), %" PRIu64 " (%" PRIx64 ")\n",
                      world->seed, world->ops, what, a, a, b, b);
    }
    world->broken = true;
}

static void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds) {
        wrong(world, what, a, b);
    }
}

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

static bool chance(struct world *world, uint32_t percent)
{
    return below(world, 100) < percent;
}

static struct side *side_of(struct world *world, uint64_t key)
{
    return &world->sides[(key - KEY_BASE) / KEYS_EACH];
}

static void value_make(unsigned char *bytes, uint64_t seed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = (unsigned char)((seed * 131 + UINT64_C(7) * i) >> (i % 3));
    }
}

static bool value_is(const void *value, uint64_t seed, uint32_t count)
{
    const unsigned char *bytes = value;

    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != (unsigned char)((seed * 131 + UINT64_C(7) * i) >> (i % 3))) {
            return false;
        }
    }
    return true;
}

// -- The log ------------------------------------------------------------------------------------

static void log_seal(struct world *world)
{
    struct torc_log_place place = {.cluster = 7,
                                   .sequence = world->next_sequence,
                                   .generation = 3,
                                   .durable = world->durable,
                                   .node = 1,
                                   .stream = 1,
                                   .segment = 1,
                                   .offset_bytes = TORC_LOG_SLOT_BYTES};
    uint32_t bytes = torc_log_block_seal(&world->builder, &place);
    struct block *block = &world->blocks[world->next_sequence];

    torc_assert(world->next_sequence < BLOCKS_MAX - 1);
    free(block->bytes);
    block->bytes = malloc(bytes);
    torc_assert(block->bytes != NULL);
    memcpy(block->bytes, world->building, bytes);
    block->byte_count = bytes;
    world->next_sequence++;
    world->open = false;
}

static void log_open(struct world *world)
{
    static const uint32_t slots[] = {1, 1, 2, 3, 8, 64};

    world->capacity = slots[below(world, TORC_COUNT_OF(slots))] * TORC_LOG_SLOT_BYTES;
    torc_log_block_begin(&world->builder, world->building, world->capacity);
    world->open = true;
}

// As dataplane/log.c does it.
static void log_append(struct world *world, struct side *side, const struct torc_log_record *record,
                       struct pending *pending)
{
    uint64_t first = world->next_sequence;
    uint32_t done = 0;

    if (!world->open) {
        log_open(world);
    }
    while (!torc_log_block_append(&world->builder, record, &done)) {
        log_seal(world);
        log_open(world);
    }
    pending->lsn = record->lsn - (record->kind == TORC_LOG_MOVED ? 1 : 0);
    pending->hlc = record->hlc;
    pending->last_sequence = world->next_sequence;
    torc_shard_appended(&side->shard, first, world->next_sequence);
    if (chance(world, 25)) {
        log_seal(world);
    }
}

static struct pending *pending_push(struct world *world, struct side *side)
{
    struct pending *pending = &side->pending[(side->first + side->count) % PENDING_MAX];

    torc_assert(side->count < PENDING_MAX);
    side->count++;
    memset(pending, 0, sizeof(*pending));
    (void)world;
    return pending;
}

static void log_own(struct world *world, struct side *side, const struct torc_log_record *record)
{
    struct pending *pending = pending_push(world, side);

    pending->own = true;
    if (record->kind != TORC_LOG_MOVED) {
        expect(world, record->lsn == side->lsn + 1, "own record's LSN", record->lsn, side->lsn);
        side->lsn = record->lsn;
    }
    log_append(world, side, record, pending);
}

// -- What the oracle foretells ------------------------------------------------------------------

static uint64_t now_hlc(const struct world *world)
{
    return torc_max_u64(world->rig->pool.hlc, torc_hlc_from_us(world->rig->pool.wall_us));
}

// Takes note when the shard may drop this client by age at that moment.
static void identity_age(struct identity *identity, uint64_t hlc)
{
    identity->lapsed = identity->lapsed ||
                       (identity->exists && torc_hlc_us(hlc) >= torc_hlc_us(identity->used_hlc) +
                                                                    TTL_S * UINT64_C(1000000));
}

static bool stamp_is_old(const struct world *world, uint64_t stamp)
{
    uint64_t now_us = torc_hlc_us(now_hlc(world));

    return now_us > torc_hlc_us(stamp) && now_us - torc_hlc_us(stamp) > TTL_S * UINT64_C(500000);
}

static bool stamp_is_ahead(const struct world *world, uint64_t stamp)
{
    return torc_hlc_us(stamp) > torc_hlc_us(now_hlc(world)) + TORC_SHARD_MAX_AHEAD_US;
}

static bool is_blind(const struct torc_shard_write *write)
{
    return write->condition == TORC_SHARD_ANY && !write->remove;
}

static bool key_must_wait(const struct side *side, const struct torc_shard_write *write, bool woken)
{
    for (uint32_t i = 0; i < side->waiting_count && !woken; i++) {
        if (side->waiting[i].write.key == write->key) {
            return true;
        }
    }
    for (uint32_t i = 0; i < side->count && !is_blind(write); i++) {
        const struct pending *pending = &side->pending[(side->first + i) % PENDING_MAX];

        if (!pending->own && pending->op.write.key == write->key) {
            return true;
        }
    }
    return false;
}

// OK: it goes on to be logged.
static enum torc_err condition_err(const struct world *world, const struct torc_shard_write *write,
                                   uint64_t *info)
{
    const struct cell *cell = &world->cells[write->key - KEY_BASE];
    bool holds = true;

    *info = 0;
    if (write->remove && !cell->present) {
        return TORC_ERR_NOT_FOUND;
    }
    switch (write->condition) {
    case TORC_SHARD_ANY: break;
    case TORC_SHARD_IF_ABSENT: holds = !cell->present; break;
    case TORC_SHARD_IF_PRESENT: holds = cell->present; break;
    case TORC_SHARD_IF_VERSION:
        holds = (cell->present ? cell->version : 0) == write->if_version;
        break;
    }
    *info = cell->present ? cell->version : 0;
    return holds ? TORC_ERR_OK : TORC_ERR_CONDITION_FAILED;
}

struct forecast {
    enum torc_shard_verdict verdict;
    enum torc_err err;
    uint64_t info;
    bool any_info;
    bool seen;   // the shard takes note of its low
    bool failed; // a new failure is remembered
};

static struct forecast forecast_answer(enum torc_err err)
{
    return (struct forecast){.verdict = TORC_SHARD_ANSWER, .err = err, .any_info = true};
}

static struct forecast forecast_new(const struct world *world, const struct side *side,
                                    const struct torc_shard_write *write, bool woken)
{
    struct forecast forecast = {.seen = true, .any_info = true};
    enum torc_err err;

    if (stamp_is_old(world, write->stamp)) {
        forecast.err = TORC_ERR_EXPIRED;
        return forecast;
    }
    if (stamp_is_ahead(world, write->stamp)) {
        forecast.err = TORC_ERR_CLOCK_AHEAD;
        return forecast;
    }
    if (key_must_wait(side, write, woken)) {
        forecast.verdict = TORC_SHARD_WAIT;
        return forecast;
    }
    err = condition_err(world, write, &forecast.info);
    if (err != TORC_ERR_OK) {
        forecast.err = err;
        forecast.any_info = false;
        forecast.failed = true;
        return forecast;
    }
    if (write->log_err != TORC_ERR_OK) {
        forecast.err = write->log_err;
        return forecast;
    }
    forecast.verdict = TORC_SHARD_APPEND;
    return forecast;
}

static struct forecast forecast_write(const struct world *world, const struct side *side,
                                      const struct identity *identity,
                                      const struct torc_shard_write *write, bool woken)
{
    const struct known *known = &identity->known[write->seq];
    struct forecast forecast;

    if (write->epoch != side->epoch) {
        return forecast_answer(TORC_ERR_WRONG_SHARD);
    }
    if (side->shard.state != TORC_SHARD_ACTIVE) {
        return forecast_answer(TORC_ERR_TAKING_OVER);
    }
    if ((known->state == KNOWN_LOGGED && write->seq >= identity->logged_low) ||
        (known->state == KNOWN_FAILED && write->seq >= identity->seen_low)) {
        forecast = forecast_answer((enum torc_err)known->err);
        forecast.info = known->info;
        forecast.any_info = false;
        return forecast;
    }
    if (identity->exists && write->seq < identity->seen_low) {
        return forecast_answer(TORC_ERR_SEQ_OLD);
    }
    if ((known->state == KNOWN_WAITING && !woken) || known->state == KNOWN_PENDING) {
        return forecast_answer(TORC_ERR_PENDING);
    }
    return forecast_new(world, side, write, woken);
}

// -- Checking what the engine says --------------------------------------------------------------

static void check_current(struct world *world, const struct torc_shard_write *write,
                          const struct torc_shard_outcome *outcome)
{
    const struct cell *cell = &world->cells[write->key - KEY_BASE];
    bool wanted = outcome->err == TORC_ERR_CONDITION_FAILED && write->want_current &&
                  cell->present && cell->version == outcome->info;

    expect(world, outcome->has_value == wanted, "current value is given", outcome->has_value,
           wanted);
    if (outcome->has_value && wanted) {
        expect(world,
               outcome->value_bytes == cell->value_bytes &&
                   value_is(outcome->value, cell->value_seed, cell->value_bytes),
               "current value", outcome->value_bytes, cell->value_bytes);
    }
}

static void identity_use(struct identity *identity, uint64_t hlc)
{
    identity->exists = true;
    identity->used_hlc = torc_max_u64(identity->used_hlc, hlc);
}

static void note_answer(struct world *world, struct identity *identity, const struct op *op,
                        const struct torc_shard_outcome *outcome, const struct forecast *forecast,
                        bool woken)
{
    struct known *known = &identity->known[op->write.seq];

    world->counts[COUNT_ANSWER]++;
    expect(world, outcome->tag == op->write.tag, "answer's tag", outcome->tag, op->write.tag);
    check_current(world, &op->write, outcome);
    if (forecast->failed && outcome->err == forecast->err) {
        expect(world, !known->committed, "a write took effect, then failed", op->write.seq,
               known->info);
        identity_use(identity, now_hlc(world));
        known->state = KNOWN_FAILED;
        known->err = (uint16_t)outcome->err;
        known->info = outcome->info;
    }
    // A woken one that was refused is forgotten; a repetition that is refused (an older epoch)
    // leaves the first one waiting.
    if (woken && known->state == KNOWN_WAITING) {
        known->state = KNOWN_NOT;
    }
}

static void note_append(struct world *world, struct side *side, struct identity *identity,
                        const struct op *op, const struct torc_log_record *record)
{
    struct known *known = &identity->known[op->write.seq];
    struct pending *pending = pending_push(world, side);

    world->counts[COUNT_APPEND]++;
    expect(world, !known->committed, "executed twice", op->write.seq, known->info);
    expect(world, record->lsn == side->lsn + 1, "LSN", record->lsn, side->lsn);
    expect(world,
           record->key == op->write.key && record->seq == op->write.seq &&
               record->low == op->write.low && record->client == identity->client &&
               record->principal == identity->principal && record->epoch == side->epoch,
           "record", record->key, op->write.key);
    expect(world, (record->kind == TORC_LOG_DELETE) == op->write.remove, "kind", record->kind, 0);
    if (record->kind == TORC_LOG_PUT) {
        expect(world,
               record->value_bytes == op->write.value_bytes &&
                   value_is(record->value, op->value_seed, record->value_bytes),
               "record's value", record->value_bytes, op->write.value_bytes);
    }
    side->lsn = record->lsn;
    known->state = KNOWN_PENDING;
    pending->op = *op;
    log_append(world, side, record, pending);
}

static bool is_memory(enum torc_err err)
{
    return err == TORC_ERR_BUSY || err == TORC_ERR_NO_SPACE;
}

static bool is_forgotten_answer(const struct world *world, const struct torc_shard_write *write,
                                enum torc_err err)
{
    if (err == TORC_ERR_EXPIRED) {
        return stamp_is_old(world, write->stamp);
    }
    return err == write->log_err || err == TORC_ERR_SEQ_OLD || err == TORC_ERR_CONDITION_FAILED ||
           err == TORC_ERR_NOT_FOUND;
}

// Compares with the forecast; what may also be right: refusals for memory in a tight world, and a
// client that was dropped by age, if nothing is executed again.
static bool check_verdict(struct world *world, const struct identity *identity,
                          const struct torc_shard_write *write, const struct forecast *forecast,
                          enum torc_shard_verdict verdict, const struct torc_shard_outcome *outcome)
{
    bool same =
        verdict == forecast->verdict &&
        (verdict != TORC_SHARD_ANSWER || (outcome->err == forecast->err &&
                                          (forecast->any_info || outcome->info == forecast->info)));

    if (same) {
        return true;
    }
    if (verdict == TORC_SHARD_ANSWER && is_memory(outcome->err) && world->tight) {
        world->counts[COUNT_REFUSED]++;
        return false;
    }
    if (identity->lapsed &&
        (verdict != TORC_SHARD_ANSWER || is_forgotten_answer(world, write, outcome->err))) {
        return false;
    }
    wrong(world, verdict == TORC_SHARD_ANSWER ? "answer" : "verdict",
          verdict == TORC_SHARD_ANSWER ? (uint64_t)outcome->err : (uint64_t)verdict,
          forecast->verdict == TORC_SHARD_ANSWER ? (uint64_t)forecast->err
                                                 : 1000 + (uint64_t)forecast->verdict);
    return false;
}

// `write`: the engine's own for a woken one, else a copy of op's.
static void write_check(struct world *world, struct op *op, struct torc_shard_write *write,
                        bool woken)
{
    struct side *side = side_of(world, op->write.key);
    struct identity *identity = &world->identities[op->identity];
    struct forecast forecast;
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    enum torc_shard_verdict verdict;
    bool as_foretold;

    identity_age(identity, now_hlc(world));
    forecast = forecast_write(world, side, identity, &op->write, woken);
    verdict = torc_shard_write(&side->shard, write, &record, &outcome);
    as_foretold = check_verdict(world, identity, &op->write, &forecast, verdict, &outcome);
    if (identity->exists && (forecast.seen || !as_foretold)) {
        identity->seen_low = torc_max_u64(identity->seen_low, op->write.low);
    }
    switch (verdict) {
    case TORC_SHARD_ANSWER: note_answer(world, identity, op, &outcome, &forecast, woken); break;
    case TORC_SHARD_APPEND: note_append(world, side, identity, op, &record); break;
    case TORC_SHARD_WAIT:
        world->counts[COUNT_WAIT]++;
        identity->known[op->write.seq].state = KNOWN_WAITING;
        torc_assert(side->waiting_count < PENDING_MAX);
        side->waiting[side->waiting_count++] = *op;
        break;
    }
    if (forecast.failed && identity->exists) {
        identity->seen_low = torc_max_u64(identity->seen_low, op->write.low);
    }
}

// -- Sending ------------------------------------------------------------------------------------

static uint32_t identity_new(struct world *world, uint32_t shard)
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

static void send_again(struct world *world)
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

static void send_new(struct world *world)
{
    struct op op = op_new(world);

    world->kept[world->kept_count++ % OPS_KEPT] = op;
    if (chance(world, 90)) { // else its first copy is late
        op_send(world, op);
    }
}

// -- Committing ---------------------------------------------------------------------------------

static void cell_apply(struct world *world, const struct pending *pending)
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

static struct pending side_pop(struct side *side)
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

static void drain_woken(struct world *world)
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

static void commit_some(struct world *world)
{
    uint64_t sealed = world->next_sequence - 1;

    if (sealed > world->durable) {
        commit(world, world->durable + 1 + below(world, sealed - world->durable));
    }
}

static void commit_all(struct world *world)
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

static void read_some(struct world *world)
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

static void scan_some(struct world *world)
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

static void count_some(struct world *world)
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

// -- Checkpoints and restarts -------------------------------------------------------------------

static void checkpoint_write(struct world *world, struct checkpoint *making,
                             const struct torc_shard *shard)
{
    uint32_t room =
        TORC_CHECKPOINT_BLOCK_BYTES_MIN +
        (uint32_t)below(world, chance(world, 50) ? 2000
                                                 : TORC_CHECKPOINT_BLOCK_BYTES_MAX -
                                                       TORC_CHECKPOINT_BLOCK_BYTES_MIN + 1);

    if (making->byte_count + TORC_CHECKPOINT_BLOCK_BYTES_MAX > making->room) {
        making->room = 2 * making->room + (1 << 20);
        making->bytes = realloc(making->bytes, making->room);
        torc_assert(making->bytes != NULL);
    }
    making->byte_count += torc_checkpoint_writer_next(&making->writer, shard,
                                                      making->bytes + making->byte_count, room);
}

static void log_trim(struct world *world)
{
    uint64_t needed = UINT64_MAX;

    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct checkpoint *kept = &world->sides[i].kept;

        needed = torc_min_u64(needed, kept->kept ? kept->writer.start_sequence : 1);
    }
    while (world->first_sequence < needed && world->first_sequence <= world->durable) {
        free(world->blocks[world->first_sequence].bytes);
        world->blocks[world->first_sequence].bytes = NULL;
        world->first_sequence++;
    }
}

static void checkpoint_step(struct world *world, struct side *side)
{
    struct checkpoint *making = &side->making;
    struct checkpoint swap;

    if (!making->busy) {
        struct torc_checkpoint_place place = {.cluster = 7,
                                              .checkpoint = world->ops,
                                              .next_sequence = world->next_sequence,
                                              .node = 1,
                                              .stream = 1};

        making->busy = true;
        making->byte_count = 0;
        torc_checkpoint_writer_begin(&making->writer, &side->shard, &place);
        return;
    }
    if (!torc_checkpoint_writer_done(&making->writer)) {
        checkpoint_write(world, making, &side->shard);
        return;
    }
    if (making->writer.end_sequence <= world->durable) {
        world->counts[COUNT_CHECKPOINT]++;
        swap = side->kept;
        side->kept = *making;
        side->kept.kept = true;
        *making = swap;
        making->busy = false;
        making->kept = false;
        log_trim(world);
    }
}

// What a crash keeps: blocks up to `cut`.
static void side_crash(struct world *world, struct side *side, uint64_t cut)
{
    side->lsn = side->applied_lsn;
    while (side->count > 0) {
        struct pending pending = side_pop(side);

        if (pending.last_sequence <= cut) {
            side->lsn = torc_max_u64(side->lsn, pending.lsn);
        }
        if (pending.own) {
            continue;
        }
        if (pending.last_sequence <= cut) {
            cell_apply(world, &pending);
        } else {
            world->identities[pending.op.identity].known[pending.op.write.seq].state = KNOWN_NOT;
        }
    }
    for (uint32_t i = 0; i < side->waiting_count; i++) {
        const struct op *op = &side->waiting[i];

        world->identities[op->identity].known[op->write.seq].state = KNOWN_NOT;
    }
    side->waiting_count = 0;
    side->applied_lsn = side->lsn;
    side->making.busy = false;
}

// E5's memory is lost; what the log says stays.
static void identity_restart(struct identity *identity)
{
    identity->exists = identity->last_hlc != 0;
    identity->seen_low = identity->logged_low;
    identity->used_hlc = identity->last_hlc;
    for (uint32_t seq = 0; seq < SEQS; seq++) {
        if (identity->known[seq].state == KNOWN_FAILED) {
            identity->known[seq].state = KNOWN_NOT;
        }
    }
}

static void side_init(struct world *world, uint32_t index)
{
    struct side *side = &world->sides[index];
    struct torc_shard_config config = shard_rig_config(world->rig);
    struct torc_fail why;

    side->epoch++;
    config.shard = 11 + index;
    config.lo = KEY_BASE + (uint64_t)index * KEYS_EACH;
    config.hi = config.lo + KEYS_EACH;
    config.epoch = side->epoch;
    config.turn = side->turn;
    if (chance(world, 20)) {
        config.turn = ++side->turn;
        config.moved = true;
    }
    TORC_TEST_OK(torc_shard_init(&side->shard, &world->rig->pool, &config, &why), &why);
}

static void side_begin(struct world *world, struct side *side)
{
    struct torc_log_record record;

    while (torc_shard_begin(&side->shard, &record)) {
        log_own(world, side, &record);
    }
}

static enum torc_err feed_checkpoint(struct world *world, struct torc_replay *replay,
                                     const struct side *side, struct torc_fail *why)
{
    uint64_t done = 0;
    enum torc_err err = TORC_ERR_OK;

    if (!side->kept.kept) {
        return TORC_ERR_OK;
    }
    while (done < side->kept.byte_count && err == TORC_ERR_OK) {
        uint64_t some = torc_min_u64(1 + below(world, 70000), side->kept.byte_count - done);

        err = torc_replay_checkpoint(replay, side->shard.shard, side->kept.bytes + done, some, why);
        done += some;
    }
    return err == TORC_ERR_OK ? torc_replay_checkpoint_end(replay, side->shard.shard, why) : err;
}

static enum torc_err feed_log(struct world *world, struct torc_replay *replay, uint64_t cut,
                              struct torc_fail *why)
{
    uint64_t lost = world->fault == FAULT_LOSE && cut >= world->first_sequence
                        ? world->first_sequence + below(world, cut - world->first_sequence + 1)
                        : 0;
    enum torc_err err = TORC_ERR_OK;

    for (uint64_t at = world->first_sequence; at <= cut && err == TORC_ERR_OK; at++) {
        const struct block *block = &world->blocks[at];
        uint32_t done = 0;

        while (done < block->byte_count && err == TORC_ERR_OK && at != lost) {
            uint32_t some =
                (uint32_t)torc_min_u64(1 + below(world, 66000), block->byte_count - done);

            err = torc_replay_log(replay, 1, block->bytes + done, some, why);
            done += some;
        }
    }
    return err == TORC_ERR_OK ? torc_replay_log_end(replay, 1, why) : err;
}

static void restart_replay(struct world *world, uint64_t cut)
{
    struct torc_replay *replay;
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    memset(world->replay_memory, 0, torc_replay_bytes(SHARDS));
    replay = torc_replay_init(world->replay_memory, torc_replay_bytes(SHARDS), SHARDS);
    for (uint32_t i = 0; i < SHARDS; i++) {
        side_init(world, i);
        torc_replay_add(replay, &world->sides[i].shard);
    }
    for (uint32_t i = 0; i < SHARDS && err == TORC_ERR_OK; i++) {
        err = feed_checkpoint(world, replay, &world->sides[i], &why);
    }
    err = err == TORC_ERR_OK ? feed_log(world, replay, cut, &why) : err;
    err = err == TORC_ERR_OK ? torc_replay_end(replay, &why) : err;
    if (err != TORC_ERR_OK) {
        if (!world->quiet) {
            (void)fprintf(stderr, "replay: %s: %s\n", torc_err_name(err), why.text);
        }
        torc_replay_drop(replay);
        wrong(world, "replay", err, cut);
        return;
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_replay_result result = torc_replay_result(replay, 11 + i);

        world->counts[COUNT_REPLAYED] += result.replayed;
        expect(world, result.lsn == world->sides[i].lsn, "LSN after replay", result.lsn,
               world->sides[i].lsn);
    }
}

static void restart(struct world *world)
{
    uint64_t cut = world->durable + below(world, world->next_sequence - world->durable);

    world->counts[COUNT_RESTART]++;
    world->open = false;
    for (uint32_t i = 0; i < SHARDS; i++) {
        side_crash(world, &world->sides[i], cut);
        torc_shard_drop(&world->sides[i].shard);
    }
    expect(world, torc_shard_is_settled(&world->rig->pool), "settled", 0, 0);
    expect(world, world->rig->heap.block_count == 0, "blocks leaked", world->rig->heap.block_count,
           0);
    expect(world, torc_chunk_pool_free(&world->rig->chunks) == world->rig->chunks.chunk_count,
           "chunks leaked", torc_chunk_pool_free(&world->rig->chunks), 0);
    expect(world, world->rig->pool.completions.entry_used == 0, "clients leaked",
           world->rig->pool.completions.entry_used, 0);
    expect(world, world->rig->pool.completions.result_used == 0, "results leaked",
           world->rig->pool.completions.result_used, 0);
    for (uint32_t i = 0; i < world->identity_count; i++) {
        identity_restart(&world->identities[i]);
    }
    world->durable = cut;
    world->next_sequence = cut + 1;
    restart_replay(world, cut);
    for (uint32_t i = 0; i < SHARDS && !world->broken; i++) {
        side_begin(world, &world->sides[i]);
    }
}

// -- The world ----------------------------------------------------------------------------------

static void let_time_pass(struct world *world)
{
    static const uint64_t steps[] = {1, 100, 10000, 1000000, 20000000, 70000000, 130000000};

    world->rig->pool.wall_us +=
        below(world, steps[below(world, chance(world, 97) ? 4 : TORC_COUNT_OF(steps))] + 1);
    if (chance(world, 1)) { // a client from elsewhere brings a later clock
        uint64_t ahead_us = below(world, 3000000);
        enum torc_err err = torc_shard_hear(&world->rig->pool,
                                            torc_hlc_from_us(world->rig->pool.wall_us + ahead_us));

        expect(world, err == TORC_ERR_OK || ahead_us > TORC_SHARD_MAX_AHEAD_US, "clock heard", err,
               ahead_us);
    }
}

static void idle_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_log_record record;

    if (torc_shard_idle(&side->shard, &record)) {
        log_own(world, side, &record);
    }
}

static void check_all(struct world *world)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_fail why;

        if (torc_shard_check(&world->sides[i].shard, &why) != TORC_ERR_OK) {
            wrong(world, why.text, i, 0);
        }
    }
}

static void cancel_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    uint32_t i;

    if (side->waiting_count == 0) {
        expect(world, !torc_shard_cancel(&world->rig->pool, world->next_tag + 1), "cancelled", 0,
               0);
        return;
    }
    i = (uint32_t)below(world, side->waiting_count);
    expect(world, torc_shard_cancel(&world->rig->pool, side->waiting[i].write.tag), "not waiting",
           side->waiting[i].write.tag, 0);
    world->identities[side->waiting[i].identity].known[side->waiting[i].write.seq].state =
        KNOWN_NOT;
    memmove(&side->waiting[i], &side->waiting[i + 1],
            (side->waiting_count - i - 1) * sizeof(struct op));
    side->waiting_count--;
    drain_woken(world);
}

static void plant(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];

    if (world->fault == FAULT_FORGET) {
        commit_all(world);
        torc_completion_drop(&side->shard.completions);
    }
    if (world->fault == FAULT_VALUE) {
        struct torc_tree_write write = {.key = side->shard.lo + below(world, KEYS_EACH),
                                        .version = 1,
                                        .value = "planted",
                                        .value_bytes = 7};

        (void)torc_tree_write(&side->shard.tree, &write, NULL);
    }
}

static void world_step(struct world *world)
{
    uint64_t dice = below(world, 1000);

    world->ops++;
    if (dice < 480) {
        send_new(world);
    } else if (dice < 640) {
        send_again(world);
    } else if (dice < 740) {
        commit_some(world);
    } else if (dice < 800) {
        read_some(world);
    } else if (dice < 840) {
        scan_some(world);
    } else if (dice < 850) {
        count_some(world);
    } else if (dice < 880) {
        let_time_pass(world);
    } else if (dice < 885) {
        idle_some(world);
    } else if (dice < 890) {
        cancel_some(world);
    } else if (dice < 990) {
        checkpoint_step(world, &world->sides[below(world, SHARDS)]);
    } else if (dice < 993) {
        check_all(world);
    } else if (dice < 995) {
        commit_all(world);
    } else if (dice < 996 && !world->tight) {
        restart(world);
    } else if (dice == 996) {
        plant(world);
    }
}

static void world_init(struct world *world, struct shard_rig *rig, uint64_t seed, enum fault fault)
{
    struct torc_shard_pool_config config = {.slots_max = 4000,
                                            .waiting_max = 2000,
                                            .completion_bytes = 4u << 20,
                                            .principal_ppm = 1000000,
                                            .dedup_ttl_s = TTL_S,
                                            .seed = seed};

    world->rig = rig;
    world->seed = seed;
    world->fault = fault;
    world->quiet = fault != FAULT_NONE;
    world->rng.state = seed;
    world->tight = fault == FAULT_NONE && chance(world, 25);
    if (world->tight) {
        config.slots_max = 24;
        config.waiting_max = 6;
        config.completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN;
        config.principal_ppm = 20000;
    }
    shard_rig_pool(rig, world->tight ? 4 : CHUNKS, &config);
    rig->heap.limit_bytes = world->tight ? 200000 : HEAP_BYTES;
    rig->pool.wall_us = UINT64_C(1700000000000000);
    world->next_sequence = 1;
    world->first_sequence = 1;
    for (uint32_t i = 0; i < SHARDS; i++) {
        for (uint32_t j = 0; j < ACTORS; j++) {
            world->actors[i][j] = identity_new(world, i);
        }
        side_init(world, i);
        side_begin(world, &world->sides[i]);
    }
}

static void world_free(struct world *world)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        torc_shard_drop(&world->sides[i].shard);
        free(world->sides[i].making.bytes);
        free(world->sides[i].kept.bytes);
    }
    for (uint32_t i = 0; i < world->identity_count; i++) {
        free(world->identities[i].known);
    }
    for (uint32_t i = 0; i < BLOCKS_MAX; i++) {
        free(world->blocks[i].bytes);
    }
    world->rig->heap.limit_bytes = HEAP_BYTES;
}

// One world from start to end. True: the oracle agreed with everything.
static bool world_run(struct shard_rig *rig, uint64_t seed, enum fault fault, uint64_t *counts)
{
    struct world *world = calloc(1, sizeof(*world));
    bool agreed;

    torc_assert(world != NULL);
    world->identities = calloc(IDENTITIES_MAX, sizeof(struct identity));
    world->replay_memory = aligned_alloc(64, (torc_replay_bytes(SHARDS) + 63) / 64 * 64);
    torc_assert(world->identities != NULL && world->replay_memory != NULL);
    world_init(world, rig, seed, fault);
    while (world->ops < WORLD_OPS && !world->broken) {
        world_step(world);
    }
    if (!world->broken) {
        commit_all(world);
        check_all(world);
    }
    if (!world->broken && !world->tight) {
        restart(world);
    }
    if (!world->broken) {
        commit_all(world);
        read_some(world);
        check_all(world);
    }
    agreed = !world->broken;
    for (uint32_t i = 0; i < TORC_COUNT_OF(world->counts) && counts != NULL; i++) {
        counts[i] += world->counts[i];
    }
    if (counts != NULL) {
        counts[7] += world->ops;
    }
    world_free(world);
    free(world->replay_memory);
    free(world->identities);
    free(world);
    return agreed;
}

static struct shard_rig test_rig; // one a program: a heap is opened once in a thread's life

static void test_worlds(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
    struct torc_rng rng = {torc_test_seed()};
    uint64_t counts[8] = {0};
    bool agreed = true;

    // The first world has the test's own seed, so that a failure's seed replays it at once.
    for (uint64_t seed = torc_test_seed(); agreed && counts[7] < wanted;
         seed = torc_rng_next(&rng)) {
        agreed = world_run(&test_rig, seed, FAULT_NONE, counts);
    }
    CU_ASSERT_TRUE(agreed);
    (void)printf("%" PRIu64 " operations: %" PRIu64 " answers, %" PRIu64 " appended, %" PRIu64
                 " waited, %" PRIu64 " restarts with %" PRIu64 " records replayed, %" PRIu64
                 " checkpoints, %" PRIu64 " refused for memory ",
                 counts[7], counts[COUNT_ANSWER], counts[COUNT_APPEND], counts[COUNT_WAIT],
                 counts[COUNT_RESTART], counts[COUNT_REPLAYED], counts[COUNT_CHECKPOINT],
                 counts[COUNT_REFUSED]);
}

static void test_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum fault fault = FAULT_FORGET; fault < FAULT_COUNT; fault++) {
        CU_ASSERT_FALSE(world_run(&test_rig, torc_rng_next(&rng), fault, NULL));
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"every answer is the oracle's", test_worlds},
                           {"planted faults are seen", test_planted_faults},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&test_rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("model_shard", tests);
    shard_rig_close(&test_rig);
    return status;
}
