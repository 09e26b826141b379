// Torc tests: bases of model_follow.c. See follow_world.h.
#include "tests/model/follow_world.h"

#include <string.h>

void base_give_up(struct node *node)
{
    if (node->loading) {
        torc_base_drop(&node->base_reader);
        node->loading = false;
        node->needs_base = true;
    }
}

// The log says that what it has counts no more.
void base_begun(struct world *world, struct node *node)
{
    struct torc_log_record record;
    bool more = torc_shard_begin(&node->shard, &record);

    expect(world, more && record.kind == TORC_LOG_BEGUN && record.lsn == node->last + 1, "no BEGUN",
           record.lsn, node->last);
    node_append(world, node, &record, NULL);
    expect(world, !torc_shard_begin(&node->shard, &record), "more than BEGUN", record.lsn, 0);
}

// The node has nothing; what its log will be from here on follows the leader's.
static void base_begin(struct world *world, struct node *node)
{
    const struct node *from = &world->nodes[world->primary];
    struct torc_fail why = {0};

    base_give_up(node);
    if (node->base_memory == NULL) {
        node->base_memory = malloc(torc_base_reader_bytes());
        torc_assert(node->base_memory != NULL);
    }
    torc_shard_follow(&node->shard, world->epoch);
    torc_base_begin(&node->base_writer, &from->shard);
    if (node->shard.undo_floor != UINT64_MAX) {
        node->undo_ended = torc_max_u64(node->undo_ended, node->shard.applied_hlc);
    }
    TORC_TEST_OK(torc_base_reset(&node->base_reader, node->base_memory, &node->shard,
                                 node->base_writer.base_lsn,
                                 chance(world, 80) ? node->base_writer.base_epoch : 0, &why),
                 &why);
    expect(world, node->shard.tree.record_count == 0 && node->shard.pending_count == 0, "not empty",
           node->shard.tree.record_count, node->shard.pending_count);
    node->last = node->base_writer.base_lsn;
    node->applied = 0;
    memcpy(node->log, from->log, (node->last + 1) * sizeof(node->log[0]));
    memset(node->cells, 0, sizeof(node->cells));
    memset(node->lows, 0, sizeof(node->lows));
    for (uint64_t lsn = 1; lsn <= node->last; lsn++) {
        node->log[lsn].tag = 0;
        node->log[lsn].on_disk = true;
    }
    node_catch_up(world, node);
    base_begun(world, node);
    node->making.busy = false;
    node->unkept = true;
    node->loading = true;
    node->needs_base = false;
    node->synced = true;
}

static void base_end(struct world *world, struct node *node)
{
    struct torc_base_writer *writer = &node->base_writer;
    struct torc_fail why = {0};

    expect(world,
           torc_base_whole(&node->base_reader, writer->end_lsn + 1, writer->end_hlc, &why) ==
               TORC_ERR_CORRUPT,
           "another end", writer->end_lsn, 0);
    TORC_TEST_OK(torc_base_whole(&node->base_reader, writer->end_lsn, writer->end_hlc, &why), &why);
    expect(world, node->pool.hlc >= writer->end_hlc, "HLC of a base", node->pool.hlc,
           writer->end_hlc);
    node->loading = false;
    node->whole_lsn = writer->end_lsn;
    node->undo_from = torc_max_u64(writer->end_hlc, node->undo_ended); // U1
    world->counts[COUNT_BASE]++;
}

void base_some(struct world *world, struct node *node)
{
    static unsigned char piece[TORC_BASE_PIECE_MAX];
    const struct node *from = &world->nodes[world->primary];
    uint32_t room = TORC_BASE_PIECE_MIN + (uint32_t)below(world, 3000);
    struct torc_fail why = {0};
    uint32_t bytes;

    if (!node->loading) {
        base_begin(world, node);
        return;
    }
    if (torc_base_done(&node->base_writer)) {
        base_end(world, node);
        return;
    }
    bytes = torc_base_next(&node->base_writer, &from->shard, piece, room);
    if (bytes > 0 && chance(world, 1)) {
        piece[below(world, bytes)] ^= 4;
        expect(world, torc_base_feed(&node->base_reader, piece, bytes, &why) != TORC_ERR_OK,
               "a damaged piece", bytes, 0);
        torc_base_break(&node->base_reader);
        expect(world,
               node->shard.tree.record_count == 0 &&
                   node->shard.completions.client_count <= node->shard.pending_count,
               "kept of a base", node->shard.tree.record_count,
               node->shard.completions.client_count);
        TORC_TEST_OK(torc_shard_check(&node->shard, &why), &why);
        base_give_up(node);
        return;
    }
    TORC_TEST_OK(torc_base_feed(&node->base_reader, piece, bytes, &why), &why);
}
