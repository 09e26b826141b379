// Torc tests: what the oracle of model_shard.c foretells of a write, and what the engine says.
#include "tests/model/shard_world.h"

// -- What the oracle foretells ------------------------------------------------------------------

uint64_t now_hlc(const struct world *world)
{
    return torc_max_u64(world->rig->pool.hlc, torc_hlc_from_us(world->rig->pool.wall_us));
}

// Takes note when the shard may drop this client by age at that moment.
void identity_age(struct identity *identity, uint64_t hlc)
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

void identity_use(struct identity *identity, uint64_t hlc)
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

// A client that was dropped by age is judged as a new one, by what the shard still has under way.
static bool is_forgotten_answer(const struct world *world, const struct torc_shard_write *write,
                                enum known_state state, enum torc_err err)
{
    if (err == TORC_ERR_EXPIRED) {
        return stamp_is_old(world, write->stamp);
    }
    if (err == TORC_ERR_CLOCK_AHEAD) {
        return stamp_is_ahead(world, write->stamp);
    }
    if (err == TORC_ERR_PENDING) {
        return state == KNOWN_WAITING || state == KNOWN_PENDING;
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
        (verdict != TORC_SHARD_ANSWER ||
         is_forgotten_answer(world, write, (enum known_state)identity->known[write->seq].state,
                             outcome->err))) {
        return false;
    }
    wrong(world, verdict == TORC_SHARD_ANSWER ? "answer" : "verdict",
          verdict == TORC_SHARD_ANSWER ? (uint64_t)outcome->err : (uint64_t)verdict,
          forecast->verdict == TORC_SHARD_ANSWER ? (uint64_t)forecast->err
                                                 : 1000 + (uint64_t)forecast->verdict);
    return false;
}

// `write`: the engine's own for a woken one, else a copy of op's.
void write_check(struct world *world, struct op *op, struct torc_shard_write *write, bool woken)
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
        side->waiting[side->waiting_count] = *op;
        side->waiting[side->waiting_count++].place = outcome.place;
        break;
    }
    if (forecast.failed && identity->exists) {
        identity->seen_low = torc_max_u64(identity->seen_low, op->write.low);
    }
}
