// Torc tests: the log, checkpoints, crashes and replay of model_shard.c. See shard_world.h.
#include "tests/model/shard_world.h"

#include <string.h>

// -- The log ------------------------------------------------------------------------------------

void log_seal(struct world *world)
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
void log_append(struct world *world, struct side *side, const struct torc_log_record *record,
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

struct pending *pending_push(struct world *world, struct side *side)
{
    struct pending *pending = &side->pending[(side->first + side->count) % PENDING_MAX];

    torc_assert(side->count < PENDING_MAX);
    side->count++;
    memset(pending, 0, sizeof(*pending));
    (void)world;
    return pending;
}

void log_own(struct world *world, struct side *side, const struct torc_log_record *record)
{
    struct pending *pending = pending_push(world, side);

    pending->own = true;
    if (record->kind != TORC_LOG_MOVED) {
        expect(world, record->lsn == side->lsn + 1, "own record's LSN", record->lsn, side->lsn);
        side->lsn = record->lsn;
    }
    log_append(world, side, record, pending);
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

void checkpoint_step(struct world *world, struct side *side)
{
    struct checkpoint *making = &side->making;
    struct checkpoint swap;

    if (!making->busy) {
        struct torc_checkpoint_place place = {.cluster = 7,
                                              .checkpoint = world->ops,
                                              .durable = world->durable,
                                              .node = 1,
                                              .stream = 1};

        making->busy = true;
        making->byte_count = 0;
        making->begun_records = side->shard.tree.record_count;
        torc_checkpoint_writer_begin(&making->writer, &side->shard, &place);
        return;
    }
    if (!torc_checkpoint_writer_done(&making->writer)) {
        checkpoint_write(world, making, &side->shard);
        return;
    }
    if (making->writer.end_sequence <= world->durable) {
        expect(world, making->writer.record_count <= making->begun_records,
               "records of a checkpoint", making->writer.record_count, making->begun_records);
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

void side_init(struct world *world, uint32_t index)
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

void side_begin(struct world *world, struct side *side)
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

void restart(struct world *world)
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
