// Torc tests: checkpoints and restarts of model_follow.c. See follow_world.h.
#include "tests/model/follow_world.h"

#include <string.h>

// -- Checkpoints ----------------------------------------------------------------------------------

static void checkpoint_write(struct world *world, struct node *node)
{
    struct checkpoint *making = &node->making;
    uint32_t room = TORC_CHECKPOINT_BLOCK_BYTES_MIN + (uint32_t)below(world, 4000);

    if (making->byte_count + room > making->room) {
        making->room = 2 * making->room + room;
        making->bytes = realloc(making->bytes, making->room);
        torc_assert(making->bytes != NULL);
    }
    making->byte_count += torc_checkpoint_writer_next(&making->writer, &node->shard,
                                                      making->bytes + making->byte_count, room);
}

// Begins one, goes on with it, or keeps it when the log is durable up to its end.
void checkpoint_some(struct world *world, struct node *node)
{
    struct torc_checkpoint_place place = {
        .cluster = 1, .checkpoint = 1, .durable = node->durable_sequence, .node = 1};
    struct checkpoint old = node->kept;

    if (!node_is_whole(node)) {
        return;
    }
    if (!node->making.busy) {
        node->making.busy = true;
        node->making.begun_turn = node->begun_turn;
        node->making.begun_lsn = node->begun_lsn;
        node->making.byte_count = 0;
        node->making.begun_records = node->shard.tree.record_count;
        torc_checkpoint_writer_begin(&node->making.writer, &node->shard, &place);
    } else if (!torc_checkpoint_writer_done(&node->making.writer)) {
        checkpoint_write(world, node);
    } else if (node->making.writer.end_sequence <= node->durable_sequence) {
        expect(world, node->making.writer.record_count <= node->making.begun_records,
               "records of a checkpoint", node->making.writer.record_count,
               node->making.begun_records);
        node->kept = node->making;
        node->kept.kept = true;
        node->kept.busy = false;
        node->making = old;
        node->making.busy = false;
        node->unkept = false;
        world->counts[COUNT_CHECKPOINT]++;
    }
}

static enum torc_err replay_checkpoint(struct world *world, const struct node *node,
                                       struct torc_fail *why)
{
    uint64_t done = 0;
    enum torc_err err = TORC_ERR_OK;

    if (!node->kept.kept) {
        return TORC_ERR_OK;
    }
    while (done < node->kept.byte_count && err == TORC_ERR_OK) {
        uint64_t some = torc_min_u64(1 + below(world, 9000), node->kept.byte_count - done);

        err = torc_replay_checkpoint(world->replay, 7, node->kept.bytes + done, some, why);
        done += some;
    }
    return err == TORC_ERR_OK ? torc_replay_checkpoint_end(world->replay, 7, why) : err;
}

// -- The log --------------------------------------------------------------------------------------

// The block `sequence` of a stream: what was appended to it, or nothing.
static enum torc_err replay_block(struct world *world, const struct node *node, uint32_t *at,
                                  struct torc_log_place *place, struct torc_fail *why)
{
    static struct torc_log_builder builder;
    static unsigned char block[TORC_LOG_BLOCK_BYTES_MAX];
    static unsigned char value[4096];
    uint32_t bytes;

    torc_log_block_begin(&builder, block, sizeof(block));
    while (*at < node->tape_count && node->tape[*at].stream == place->stream &&
           node->tape[*at].made.sequence == place->sequence) {
        struct torc_log_record record = node->tape[*at].record;
        uint32_t done = 0;

        torc_test_value(value, node->tape[*at].made.value_seed, record.value_bytes);
        record.value = value;
        torc_assert(torc_log_block_append(&builder, &record, &done));
        ++*at;
    }
    place->closing = torc_log_block_is_empty(&builder);
    bytes = torc_log_block_seal(&builder, place);
    return torc_replay_log(world->replay, place->stream, block, bytes, why);
}

static enum torc_err replay_tape(struct world *world, const struct node *node,
                                 struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;
    uint32_t at = 0;

    while (at < node->tape_count && err == TORC_ERR_OK) {
        struct torc_log_place place = {.cluster = 1,
                                       .generation = 1,
                                       .node = 1,
                                       .stream = node->tape[at].stream,
                                       .segment = 1,
                                       .sequence = node->tape[at].made.sequence};

        while (at < node->tape_count && node->tape[at].stream == place.stream &&
               err == TORC_ERR_OK) {
            err = replay_block(world, node, &at, &place, why);
            place.sequence++;
        }
    }
    return err;
}

// -- A new life -----------------------------------------------------------------------------------

static void result_check(struct world *world, const struct node *node)
{
    struct torc_replay_result result = torc_replay_result(world->replay, 7);
    bool counts = node->kept.kept && node->kept.begun_turn == node->begun_turn;
    uint64_t from = counts ? node->kept.writer.lsn : 0;
    uint32_t entry = 0;

    expect(world, !result.lost, "lost", result.lsn, result.applied_lsn);
    expect(world, result.lsn == node->last, "LSN after replay", result.lsn, node->last);
    expect(world, result.applied_lsn <= world->commit, "applied what is not committed",
           result.applied_lsn, world->commit);
    expect(world, from == 0 || result.applied_lsn >= node->kept.writer.end_lsn,
           "below its checkpoint", result.applied_lsn, node->kept.writer.end_lsn);
    expect(world, node->last == 0 || result.epoch == node->log[node->last].epoch,
           "epoch after replay", result.epoch, node->last);
    expect(world, node->shard.durable_lsn == node->last, "durable after replay",
           node->shard.durable_lsn, node->last);
    for (uint64_t lsn = from == 0 ? 1 : from; lsn <= node->last && !world->broken; lsn++) {
        while (entry + 1 < result.epoch_count && result.epochs[entry + 1].first_lsn <= lsn) {
            entry++;
        }
        expect(world, result.epoch_count == TORC_REPLAY_EPOCHS_MAX || entry < result.epoch_count,
               "no epochs", lsn, result.epoch_count);
        if (result.epochs[entry].first_lsn <= lsn) { // else older than what is told
            expect(world, result.epochs[entry].epoch == node->log[lsn].epoch, "epoch of a record",
                   lsn, result.epochs[entry].epoch);
        }
    }
    world->counts[COUNT_HELD] += node->last - result.applied_lsn;
}

// From where the log counts: its last BEGUN, or that of the checkpoint. (What lies below its LSN is
// the same on all nodes, and the model has it.)
static uint32_t log_begun(struct node *node, uint32_t count)
{
    uint32_t at = count;

    while (at > 0 && node->tape[at - 1].record.kind != TORC_LOG_BEGUN) {
        at--;
    }
    node->begun_turn = at == 0 ? 0 : node->tape[at - 1].record.turn;
    node->begun_lsn = at == 0 ? 0 : node->tape[at - 1].record.lsn - 1;
    node->unkept = node->begun_lsn > 0;
    if (node->kept.kept && node->kept.begun_turn >= node->begun_turn) {
        node->unkept = false;
        while (at < count && node->tape[at].record.turn < node->kept.begun_turn) {
            at++; // the checkpoint was kept and its BEGUN lost: what came since goes on from it
        }
        node->begun_turn = node->kept.begun_turn;
        node->begun_lsn = node->kept.begun_lsn;
    }
    return at;
}

// What the log says when it is read from there: a record cancels all at or above its LSN.
static void log_from_tape(struct node *node, uint32_t count)
{
    uint32_t from = log_begun(node, count);

    node->last = node->begun_lsn;
    for (uint32_t i = from; i < count; i++) {
        const struct taped *taped = &node->tape[i];

        uint64_t lsn = taped->record.lsn;

        if (torc_log_kind_has_lsn(taped->record.kind) &&
            (lsn > node->last || node->log[lsn].epoch != taped->made.epoch)) {
            node->last = lsn;
            node->log[node->last] = taped->made;
            node->log[node->last].hlc = taped->record.hlc;
            node->log[node->last].tag = 0; // nobody waits any more
            node->log[node->last].on_disk = true;
        }
    }
}

// Killed: all that was appended is there, also what was cut and not yet written over. Without
// power: what was durable, if nobody counts on the rest.
static void tape_lose(struct world *world, struct node *node)
{
    uint32_t count = node->tape_count;
    uint32_t epoch = node->log[world->commit].epoch;

    while (count > 0 && node->tape[count - 1].made.sequence > node->durable_sequence) {
        count--;
    }
    if (chance(world, 50)) {
        log_from_tape(node, count);
        if (!node->member ||
            (node->last >= world->commit && node->log[world->commit].epoch == epoch)) {
            node->tape_count = count;
        }
    }
    log_from_tape(node, node->tape_count);
}

void node_restart(struct world *world, struct node *node)
{
    struct torc_log_record record;
    struct torc_fail why = {0};
    enum torc_err err;

    world->counts[COUNT_RESTART]++;
    base_give_up(node);
    torc_shard_drop(&node->shard);
    torc_undo_clear(&node->pool.undo);
    node->making.busy = false;
    tape_lose(world, node);
    node_open(world, node);
    memset(world->replay_memory, 0, torc_replay_bytes(1));
    world->replay = torc_replay_init(world->replay_memory, torc_replay_bytes(1), 1);
    torc_replay_add(world->replay, &node->shard);
    err = replay_checkpoint(world, node, &why);
    do {
        err = err == TORC_ERR_OK ? replay_tape(world, node, &why) : err;
    } while (err == TORC_ERR_OK && torc_replay_again(world->replay));
    err = err == TORC_ERR_OK ? torc_replay_end(world->replay, &why) : err;
    if (err != TORC_ERR_OK) {
        wrong(world, why.text, err, node->last);
        torc_replay_drop(world->replay);
        return;
    }
    node->needs_base = false;
    if (node->unkept) { // its base is gone: it gets another, or all from the first record on
        world->counts[COUNT_BASE_GONE]++;
        node->needs_base = chance(world, 50);
        node->unkept = node->needs_base;
        node->last = 0;
        expect(world, torc_replay_result(world->replay, 7).lost, "not lost", node->tape_count, 0);
    } else {
        result_check(world, node);
    }
    torc_shard_follow(&node->shard, torc_replay_result(world->replay, 7).epoch);
    node->undo_from = node->shard.undo_floor;
    node->undo_ended = 0;
    node->whole_lsn = 0;
    node->durable_sequence = node->top_sequence; // and what comes now is in a later block
    node->next_sequence = node->top_sequence + 1;
    if (torc_replay_result(world->replay, 7).lost) {
        base_begun(world, node);
    }
    while (torc_shard_begin(&node->shard, &record)) {
        expect(world, record.kind == TORC_LOG_MOVED || record.lsn <= node->last,
               "an EPOCH of a backup", record.kind, record.lsn);
        node_append(world, node, &record,
                    record.kind == TORC_LOG_MOVED ? NULL : &node->log[record.lsn]);
    }
    memset(node->cells, 0, sizeof(node->cells));
    memset(node->lows, 0, sizeof(node->lows));
    node->applied = 0;
    node_catch_up(world, node);
    node_check(world, node);
}
