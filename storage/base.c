// Torc storage: bases. See storage/base.h.
#include "storage/base.h"

#include "kit/bugs.h"
#include "storage/shard_impl.h"

void torc_base_begin(struct torc_base_writer *writer, const struct torc_shard *shard)
{
    struct torc_checkpoint_place place = {0}; // it is no file of this node

    *writer = (struct torc_base_writer){.base_lsn = shard->applied_lsn,
                                        .base_epoch = shard->applied_epoch};
    torc_checkpoint_writer_begin(&writer->checkpoint, shard, &place);
}

uint32_t torc_base_next(struct torc_base_writer *writer, const struct torc_shard *shard, void *out,
                        uint32_t room)
{
    uint32_t bytes = torc_checkpoint_writer_next(&writer->checkpoint, shard, out, room);

    if (torc_base_done(writer)) {
        writer->end_lsn = writer->checkpoint.end_lsn;
        writer->end_hlc = writer->checkpoint.end_hlc;
    }
    return bytes;
}

uint64_t torc_base_reader_bytes(void)
{
    return torc_checkpoint_reader_bytes();
}

enum torc_err torc_base_reset(struct torc_base_reader *reader, void *memory,
                              struct torc_shard *shard, uint64_t base_lsn, uint32_t base_epoch,
                              struct torc_fail *why)
{
    enum torc_err err = torc_shard_reset(shard, base_lsn, base_epoch, why);

    *reader = (struct torc_base_reader){.shard = shard, .base_lsn = base_lsn};
    if (err == TORC_ERR_OK) {
        shard->fuzzy_lsn = UINT64_MAX; // until its end is known
        torc_checkpoint_reader_init(&reader->checkpoint, shard, memory);
    }
    return err;
}

// The first piece says what record the log goes on behind.
static enum torc_err base_header(struct torc_base_reader *reader, struct torc_fail *why)
{
    const struct torc_checkpoint_info *info = &reader->checkpoint.info;
    struct torc_shard *shard = reader->shard;

    if (info->lsn != reader->base_lsn ||
        (shard->applied_epoch != 0 && shard->applied_epoch != info->epoch)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": a base of LSN %" PRIu64 " of epoch %" PRIu32
                         ", wanted that of %" PRIu64 " of epoch %" PRIu32,
                         shard->shard, info->lsn, info->epoch, reader->base_lsn,
                         shard->applied_epoch);
    }
    shard->applied_epoch = info->epoch;
    shard->last_epoch = shard->last_epoch == 0 ? info->epoch : shard->last_epoch;
    shard->durable_epoch = shard->durable_epoch == 0 ? info->epoch : shard->durable_epoch;
    return TORC_ERR_OK;
}

enum torc_err torc_base_feed(struct torc_base_reader *reader, const void *bytes,
                             uint32_t byte_count, struct torc_fail *why)
{
    bool is_first = !reader->checkpoint.has_header;
    enum torc_err err = torc_checkpoint_reader_feed(&reader->checkpoint, bytes, byte_count, why);

    if (err == TORC_ERR_OK && reader->checkpoint.block_bytes > 0) { // pieces are whole blocks
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": a piece of %" PRIu32 " bytes ends within a block",
                         reader->shard->shard, byte_count);
    }
    return err == TORC_ERR_OK && is_first ? base_header(reader, why) : err;
}

enum torc_err torc_base_whole(struct torc_base_reader *reader, uint64_t end_lsn, uint64_t end_hlc,
                              struct torc_fail *why)
{
    enum torc_err err = torc_checkpoint_reader_end(&reader->checkpoint, why);
    const struct torc_checkpoint_footer *footer = &reader->checkpoint.footer;
    struct torc_shard *shard = reader->shard;
    struct torc_shard_pool *pool = shard->pool;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (torc_get_le64(footer->end_lsn) != end_lsn || torc_get_le64(footer->end_hlc) != end_hlc) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": its base ends at LSN %" PRIu64 ", not at %" PRIu64,
                         shard->shard, torc_get_le64(footer->end_lsn), end_lsn);
    }
    pool->hlc = torc_max_u64(pool->hlc, torc_max_u64(reader->checkpoint.info.hlc, end_hlc)); // T7
    shard->fuzzy_lsn = end_lsn;
    if (TORC_BUG(COMPLETIONS_LOST)) {
        torc_completion_drop(&shard->completions);
    }
    if (end_lsn == shard->applied_lsn) {
        shard->applied_hlc = end_hlc;
        shard->last_hlc = torc_max_u64(shard->last_hlc, end_hlc);
        torc_shard_remember(shard);
    }
    return TORC_ERR_OK;
}

void torc_base_drop(struct torc_base_reader *reader)
{
    torc_checkpoint_reader_drop(&reader->checkpoint);
}

void torc_base_break(struct torc_base_reader *reader)
{
    struct torc_shard *shard = reader->shard;

    torc_base_drop(reader);
    torc_tree_clear(&shard->tree);
    torc_completion_sort(&shard->completions);
    torc_shard_pending_keep(shard, UINT64_MAX); // X3: until the next reset drops both
    (void)torc_completion_expire(&shard->completions, UINT64_MAX, UINT32_MAX);
}
