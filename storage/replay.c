// Torc storage: rebuilding shards. See storage/replay.h.
#include "kit/bugs.h"
#include "kit/hlc.h"
#include "storage/replay_impl.h"
#include "storage/shard_impl.h"

#include <string.h>

#define BATCH        TORC_REPLAY_BATCH
#define BLOCK_BYTES  UINT64_C(262144) // TORC_LOG_BLOCK_BYTES_MAX
#define TABLE_PLACES 1024u
#define SHARDS_MAX   (TABLE_PLACES / 2u)
#define ALIGN_BYTES  64u
#define HLC_MAX      (UINT64_MAX / 2) // in the year 73000
#define RECORD_BITS  TORC_REPLAY_RECORD_BITS

_Static_assert((uint32_t)BLOCK_BYTES == TORC_LOG_BLOCK_BYTES_MAX, "one block is put together");

// A stream, and the record that its last block left unfinished.
struct replay_stream {
    uint32_t stream;
    uint64_t sequence; // of its last block; 0: none yet
    bool unfinished;
    bool headless;  // its blocks so far only go on with a record that began before them
    bool valueless; // there was no memory for what the record has
    struct torc_replay_shard *owner; // of the unfinished record; NULL: not ours
    struct torc_log_record record;
    struct torc_tree_ticket ticket;
    uint64_t position;
    uint32_t done_bytes;
};

struct torc_replay {
    struct torc_replay_shard *shards;
    uint32_t shard_count;
    uint32_t shard_max;
    uint32_t stream_count;
    // Rounds: the log was sent so often before (torc_replay_again). `at` counts, in this one, the
    // records of shards that follow; the first `taken_at` of them were taken by rounds before.
    bool surveying; // only looking at the rest: slots or memory ran out
    uint32_t round;
    uint64_t at;
    uint64_t taken_at;
    bool checkpoint_open;
    uint32_t checkpoint_shard; // index
    uint32_t block_stream;     // whose block is being put together
    uint32_t block_bytes;
    unsigned char *block;
    unsigned char *checkpoint_block;
    uint64_t hlc; // highest of anything
    struct torc_checkpoint_reader checkpoint;
    struct torc_log_reader reader;
    uint16_t table[TABLE_PLACES]; // hash of shard ids to index + 1
    struct replay_stream streams[TORC_REPLAY_STREAMS_MAX];
};

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

uint64_t torc_replay_bytes(uint32_t shards_max)
{
    return align_up(sizeof(struct torc_replay)) +
           align_up((uint64_t)shards_max * sizeof(struct torc_replay_shard)) + BLOCK_BYTES +
           align_up(torc_checkpoint_reader_bytes());
}

struct torc_replay *torc_replay_init(void *memory, uint64_t memory_bytes, uint32_t shards_max)
{
    struct torc_replay *replay = memory;
    unsigned char *at = memory;

    torc_assert(shards_max <= SHARDS_MAX);
    torc_assert(memory_bytes >= torc_replay_bytes(shards_max));
    torc_assert((uintptr_t)memory % ALIGN_BYTES == 0);
    *replay = (struct torc_replay){.shard_max = shards_max};
    at += align_up(sizeof(*replay));
    replay->shards = (struct torc_replay_shard *)(void *)at;
    at += align_up((uint64_t)shards_max * sizeof(struct torc_replay_shard));
    replay->block = at;
    replay->checkpoint_block = at + BLOCK_BYTES;
    return replay;
}

static uint32_t table_place(const struct torc_replay *replay, uint32_t shard)
{
    uint32_t place = shard * 0x9e3779b1u >> 16;

    for (place %= TABLE_PLACES; replay->table[place] != 0; place = (place + 1) % TABLE_PLACES) {
        if (replay->shards[replay->table[place] - 1].shard->shard == shard) {
            break;
        }
    }
    return place;
}

static struct torc_replay_shard *replay_find(const struct torc_replay *replay, uint32_t shard)
{
    uint16_t index = replay->table[table_place(replay, shard)];

    return index == 0 ? NULL : &replay->shards[index - 1];
}

void torc_replay_add(struct torc_replay *replay, struct torc_shard *shard)
{
    uint32_t place = table_place(replay, shard->shard);

    torc_assert(replay->shard_count < replay->shard_max);
    torc_assert(replay->table[place] == 0);
    torc_assert(shard->state == TORC_SHARD_LOADING);
    replay->shards[replay->shard_count] =
        (struct torc_replay_shard){.shard = shard, .line = {.next_lsn = 1}};
    replay->table[place] = (uint16_t)++replay->shard_count;
    shard->replaying = true;
    if (shard->follows) {
        torc_replay_hold_begin(&replay->shards[replay->shard_count - 1]);
    }
}

// -- Clients past their time ----------------------------------------------------------------------

// The last use that is not too old at `hlc`.
static uint64_t clients_min(const struct torc_shard_pool *pool, uint64_t hlc)
{
    uint64_t us = torc_hlc_us(hlc);

    return us > pool->ttl_us ? torc_hlc_from_us(us - pool->ttl_us) : 0;
}

// Returns whether any left.
static bool shard_expire(struct torc_shard *shard, uint64_t hlc)
{
    uint64_t least = clients_min(shard->pool, hlc);
    uint32_t before = shard->completions.client_count;

    if (torc_completion_oldest_hlc(&shard->completions) < least) {
        torc_shard_pending_keep(shard, hlc);
        (void)torc_completion_expire(&shard->completions, least, UINT32_MAX);
    }
    return shard->completions.client_count < before;
}

// Checkpoints are of several moments, and so are the places that shards' logs came to: together
// they may have more clients than were ever remembered at once. What is too old by the latest HLC
// that is known leaves when there is no room, rather than at the end.
static bool replay_expire(struct torc_replay *replay, uint64_t hlc)
{
    bool any = false;

    for (uint32_t i = 0; i < replay->shard_count; i++) {
        any = shard_expire(replay->shards[i].shard, torc_max_u64(replay->hlc, hlc)) || any;
    }
    return any;
}

// A file's clients come in any order; often it is that of time, and then the first leave as they
// are. Putting all in order where each that leaves makes room for one more would be quadratic.
static bool checkpoint_make_room(void *arg, uint64_t hlc, uint64_t *least)
{
    struct torc_replay *replay = arg;
    struct torc_shard *shard = replay->checkpoint.shard;

    *least = clients_min(shard->pool, torc_max_u64(replay->hlc, hlc));
    if (replay_expire(replay, hlc)) {
        return true;
    }
    torc_completion_sort(&shard->completions);
    return replay_expire(replay, hlc);
}

// -- Checkpoints --------------------------------------------------------------------------------

enum torc_err torc_replay_checkpoint(struct torc_replay *replay, uint32_t shard, const void *bytes,
                                     uint64_t byte_count, struct torc_fail *why)
{
    struct torc_replay_shard *found = replay_find(replay, shard);

    if (found == NULL) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint of shard %" PRIu32 ": not a shard of this core", shard);
    }
    if (!replay->checkpoint_open) {
        replay->checkpoint_open = true;
        replay->checkpoint_shard = (uint32_t)(found - replay->shards);
        torc_checkpoint_reader_init(&replay->checkpoint, found->shard, replay->checkpoint_block);
        replay->checkpoint.make_room = checkpoint_make_room;
        replay->checkpoint.make_room_arg = replay;
    }
    if (&replay->shards[replay->checkpoint_shard] != found) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint of shard %" PRIu32 ": begins within that of shard %" PRIu32,
                         shard, replay->shards[replay->checkpoint_shard].shard->shard);
    }
    return torc_checkpoint_reader_feed(&replay->checkpoint, bytes, byte_count, why);
}

enum torc_err torc_replay_checkpoint_end(struct torc_replay *replay, uint32_t shard,
                                         struct torc_fail *why)
{
    struct torc_replay_shard *found = replay_find(replay, shard);
    const struct torc_checkpoint_info *info = &replay->checkpoint.info;
    enum torc_err err;

    if (found == NULL || !replay->checkpoint_open ||
        found != &replay->shards[replay->checkpoint_shard]) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint of shard %" PRIu32 ": ends without a beginning", shard);
    }
    err = torc_checkpoint_reader_end(&replay->checkpoint, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    replay->checkpoint_open = false;
    found->line.base_lsn = info->lsn;
    found->end_lsn = torc_get_le64(replay->checkpoint.footer.end_lsn);
    found->line.next_lsn = info->lsn + 1;
    found->line.epoch = info->epoch;
    found->line.turn = info->turn;
    replay->hlc = torc_max_u64(replay->hlc, info->hlc);
    if (info->ceiling > replay->hlc && !TORC_BUG(CEILING_IN_MEMORY)) {
        replay->hlc = info->ceiling;
    }
    replay->hlc = torc_max_u64(replay->hlc, torc_get_le64(replay->checkpoint.footer.end_hlc));
    // What was applied when the file began has this as its upper bound; the log says it exactly.
    found->hlc = found->line.base_lsn == found->end_lsn
                     ? torc_get_le64(replay->checkpoint.footer.end_hlc)
                     : 0;
    if (found->shard->follows) {
        torc_replay_hold_begin(found);
    }
    return TORC_ERR_OK;
}

// -- Applying -----------------------------------------------------------------------------------

// Leaves only those of a batch that the tree does not have yet (storage/checkpoint_format.h).
static void batch_filter(struct torc_replay_shard *shard)
{
    struct torc_tree_hit hits[BATCH];
    uint64_t keys[BATCH];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < shard->batch_count; i++) {
        keys[i] = shard->batch[i].key;
    }
    torc_tree_lookup_batch(&shard->shard->tree, keys, shard->batch_count, hits);
    for (uint32_t i = 0; i < shard->batch_count; i++) {
        if (!hits[i].found || shard->batch[i].version > hits[i].version) {
            shard->batch[kept++] = shard->batch[i];
        } else {
            torc_tree_cancel(&shard->shard->tree, &shard->batch[i].ticket);
        }
    }
    shard->batch_count = kept;
}

static enum torc_err batch_flush(struct torc_replay_shard *shard, struct torc_fail *why)
{
    uint32_t failed;

    if (shard->batch_count > 0 && shard->fuzzy) {
        batch_filter(shard);
    }
    shard->fuzzy = false;
    if (shard->batch_count == 0) {
        return TORC_ERR_OK;
    }
    failed = torc_tree_write_batch(&shard->shard->tree, shard->batch, shard->batch_count);
    shard->batch_count = 0;
    if (failed > 0) {
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "shard %" PRIu32 ": replay at LSN %" PRIu64
                         " finds no memory for its records",
                         shard->shard->shard, shard->line.next_lsn);
    }
    return TORC_ERR_OK;
}

static enum torc_err replay_flush(struct torc_replay *replay, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < replay->shard_count && err == TORC_ERR_OK; i++) {
        err = batch_flush(&replay->shards[i], why);
    }
    return err;
}

static bool shard_remember(struct torc_replay_shard *shard, const struct torc_log_record *record)
{
    struct torc_completion_table *table = &shard->shard->completions;
    struct torc_completion_promise none = {0};
    struct torc_completion_head head = {
        .who = {.client = record->client, .principal = record->principal},
        .low = record->low,
        .last_hlc = record->hlc};
    uint64_t us = torc_hlc_us(record->hlc);
    uint64_t ttl_us = shard->shard->pool->ttl_us;

    if (us > ttl_us) {
        (void)torc_completion_expire(table, torc_hlc_from_us(us - ttl_us), UINT32_MAX);
    }
    if (!record->with_client) {
        return true;
    }
    return record->kind == TORC_LOG_EMPTY ? torc_completion_load(table, &head)
                                          : torc_completion_apply(table, &head, record->seq, &none);
}

// A record whose turn it is. `ticket`: of a value that was put together; else zeroed.
static enum torc_err shard_apply(struct torc_replay *replay, struct torc_replay_shard *shard,
                                 const struct torc_log_record *record,
                                 struct torc_tree_ticket ticket, struct torc_fail *why)
{
    if (!shard_remember(shard, record) &&
        !(replay_expire(replay, record->hlc) && shard_remember(shard, record))) {
        torc_tree_cancel(&shard->shard->tree, &ticket);
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "shard %" PRIu32 ": replay at LSN %" PRIu64
                         " finds no memory for completion records",
                         shard->shard->shard, record->lsn);
    }
    shard->hlc = record->hlc;
    shard->replayed++;
    if (record->kind != TORC_LOG_PUT && record->kind != TORC_LOG_DELETE) {
        return TORC_ERR_OK;
    }
    shard->fuzzy = shard->fuzzy || record->lsn <= shard->end_lsn;
    shard->batch[shard->batch_count++] =
        (struct torc_tree_write){.key = record->key,
                                 .version = record->hlc,
                                 .value = record->value,
                                 .value_bytes = record->value_bytes,
                                 .remove = record->kind == TORC_LOG_DELETE,
                                 .ticket = ticket};
    return shard->batch_count == BATCH ? batch_flush(shard, why) : TORC_ERR_OK;
}

static enum torc_err shard_fail(const struct torc_replay_shard *shard,
                                const struct torc_log_record *record, const char *what,
                                struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "shard %" PRIu32 ", LSN %" PRIu64 " (epoch %" PRIu32 ", turn %" PRIu32 "): %s",
                     shard->shard->shard, record->lsn, record->epoch, record->turn, what);
}

// P1: whether the record may come now.
static enum torc_err shard_check(const struct torc_replay_shard *shard,
                                 const struct torc_log_record *record, struct torc_fail *why)
{
    if (record->epoch >= shard->shard->epoch) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": its log is of epoch %" PRIu32
                         ", the metastore gave it %" PRIu32 " now: it went back",
                         shard->shard->shard, record->epoch, shard->shard->epoch);
    }
    if (record->lsn > shard->line.next_lsn) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": records %" PRIu64 " to %" PRIu64
                         " are missing from its log",
                         shard->shard->shard, shard->line.next_lsn, record->lsn - 1);
    }
    if (record->turn < shard->line.turn) {
        return shard_fail(shard, record, "an earlier turn after a later one", why);
    }
    if (record->kind == TORC_LOG_BEGUN) {
        return shard_fail(shard, record, "begun anew, and no replica", why);
    }
    if (record->epoch < shard->line.epoch) {
        return shard_fail(shard, record, "an earlier epoch after a later one", why);
    }
    if (record->lsn < shard->line.next_lsn) {
        return shard_fail(shard, record,
                          record->kind == TORC_LOG_EPOCH ? "cancels records, and it is no replica"
                                                         : "is in the log twice",
                          why);
    }
    return record->kind == TORC_LOG_MOVED || record->hlc > shard->hlc
               ? TORC_ERR_OK
               : shard_fail(shard, record, "its HLC does not rise", why);
}

static enum torc_err shard_record(struct torc_replay *replay, struct torc_replay_shard *shard,
                                  const struct torc_log_record *record,
                                  struct torc_tree_ticket ticket, struct torc_fail *why)
{
    enum torc_err err;

    // In the checkpoint; or a MOVED of a life that logged nothing else before it ended, which the
    // checkpoint's turn is past.
    if (record->lsn <= shard->line.base_lsn ||
        (!torc_log_kind_has_lsn(record->kind) && record->turn <= shard->line.turn)) {
        torc_tree_cancel(&shard->shard->tree, &ticket);
        return TORC_ERR_OK;
    }
    err = shard_check(shard, record, why);
    if (err != TORC_ERR_OK) {
        torc_tree_cancel(&shard->shard->tree, &ticket);
        return err;
    }
    shard->line.turn = record->turn;
    shard->line.epoch = record->epoch;
    if (record->kind == TORC_LOG_MOVED) {
        return TORC_ERR_OK;
    }
    shard->line.next_lsn = record->lsn + 1;
    return shard_apply(replay, shard, record, ticket, why);
}

static void stream_forget(struct replay_stream *stream)
{
    if (stream->owner != NULL) {
        torc_tree_cancel(&stream->owner->shard->tree, &stream->ticket);
    }
    stream->unfinished = false;
    stream->owner = NULL;
}

// -- Shards that follow ---------------------------------------------------------------------------

static enum torc_err replay_full(const struct torc_replay *replay,
                                 const struct torc_replay_shard *shard,
                                 const struct torc_log_record *record, struct torc_fail *why)
{
    uint64_t held = 0;

    for (uint32_t i = 0; i < replay->shard_count; i++) {
        const struct torc_shard *engine = replay->shards[i].shard;

        held += engine->follows ? engine->next_lsn - 1 - engine->applied_lsn : 0;
    }
    return torc_fail(why, TORC_ERR_NO_SPACE,
                     "shard %" PRIu32 ", LSN %" PRIu64 ": no room for it beside %" PRIu64
                     " records that the log does not call committed; nothing is lost: start with "
                     "more workers or memory",
                     shard->shard->shard, record->lsn, held);
}

// Of slots, completion records or memory.
static bool replay_is_full(enum torc_err err)
{
    return err == TORC_ERR_BUSY || err == TORC_ERR_NO_SPACE;
}

// Room for the record that comes as number `at`: what the rest of the log says is committed. False:
// that is nothing.
static bool replay_room(struct torc_replay *replay, uint64_t at)
{
    bool any = replay_expire(replay, 0);

    for (uint32_t i = 0; i < replay->shard_count; i++) {
        struct torc_replay_shard *shard = &replay->shards[i];

        any = (shard->shard->follows && torc_replay_hold_room(shard, at)) || any;
    }
    return any;
}

// Whether to look at the rest of the log would tell more than is known.
static bool replay_may_survey(const struct torc_replay *replay)
{
    bool may = false;

    for (uint32_t i = 0; i < replay->shard_count; i++) {
        const struct torc_replay_shard *shard = &replay->shards[i];

        may =
            may || (shard->shard->follows && torc_replay_ahead_is_over(&shard->ahead, replay->at));
    }
    return may;
}

static void replay_survey(struct torc_replay *replay)
{
    replay->surveying = true;
    replay->taken_at = replay->at - 1;
    for (uint32_t i = 0; i < replay->shard_count; i++) {
        torc_replay_ahead_begin(&replay->shards[i], replay->at);
    }
}

// Unfinished records of the shard are of before it was emptied: they count no more, whatever their
// streams bring yet.
static enum torc_err replay_empty(struct torc_replay *replay, struct torc_replay_shard *shard,
                                  struct torc_fail *why)
{
    for (uint32_t i = 0; i < replay->stream_count; i++) {
        if (replay->streams[i].owner == shard) {
            torc_tree_cancel(&shard->shard->tree, &replay->streams[i].ticket);
            replay->streams[i].ticket = (struct torc_tree_ticket){0};
            replay->streams[i].valueless = false;
        }
    }
    return torc_replay_hold_empty(shard, why);
}

static enum torc_err replay_follower(struct torc_replay *replay, struct torc_replay_shard *shard,
                                     const struct torc_replay_held *held, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;
    struct torc_tree_ticket ticket = held->ticket;

    replay->at++;
    if (!replay->surveying && replay->at > replay->taken_at && !held->emptied) {
        err = torc_replay_hold(shard, held, replay->at, why);
        if (replay_is_full(err) && replay_room(replay, replay->at)) {
            err = torc_replay_hold(shard, held, replay->at, why);
        }
        if (err == TORC_ERR_OK) { // it took the ticket
            return shard->emptied ? replay_empty(replay, shard, why) : TORC_ERR_OK;
        }
        if (replay_is_full(err) && replay_may_survey(replay)) {
            replay_survey(replay);
            err = TORC_ERR_OK;
        }
    }
    if (replay->surveying) {
        torc_replay_ahead_record(shard, held->record, replay->at);
    }
    torc_tree_cancel(&shard->shard->tree, &ticket);
    return replay_is_full(err) ? replay_full(replay, shard, held->record, why) : err;
}

static enum torc_err replay_record(struct torc_replay *replay, struct torc_replay_shard *shard,
                                   const struct torc_replay_held *held, struct torc_fail *why)
{
    struct torc_tree_ticket ticket = held->ticket;

    if (shard->shard->follows) {
        return replay_follower(replay, shard, held, why);
    }
    if (replay->round == 0) {
        return shard_record(replay, shard, held->record, ticket, why);
    }
    torc_tree_cancel(&shard->shard->tree, &ticket); // the first round had it
    return TORC_ERR_OK;
}

bool torc_replay_again(struct torc_replay *replay)
{
    if (!replay->surveying) {
        return false;
    }
    torc_assert(replay->block_bytes == 0);
    for (uint32_t i = 0; i < replay->stream_count; i++) {
        stream_forget(&replay->streams[i]);
    }
    for (uint32_t i = 0; i < replay->shard_count; i++) {
        if (replay->shards[i].shard->follows) {
            torc_replay_hold_ahead(&replay->shards[i]);
        }
    }
    replay->stream_count = 0;
    replay->surveying = false;
    replay->at = 0;
    replay->round++;
    return true;
}

// -- Blocks -------------------------------------------------------------------------------------

// A record that goes on in the next block.
static enum torc_err stream_begin(struct torc_replay *replay, struct replay_stream *stream,
                                  struct torc_replay_shard *shard,
                                  const struct torc_log_record *record, uint64_t position,
                                  struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    stream->unfinished = true;
    stream->record = *record;
    stream->position = position;
    stream->done_bytes = record->piece_bytes;
    stream->ticket = (struct torc_tree_ticket){0};
    stream->valueless = false;
    stream->owner = NULL;
    if (shard == NULL || (!shard->shard->follows && record->lsn <= shard->line.base_lsn)) {
        return TORC_ERR_OK;
    }
    if (record->value_bytes <= TORC_TREE_INLINE_BYTES_MAX) {
        return shard_fail(shard, record, "a small value is cut", why);
    }
    if (shard->shard->follows && replay->surveying) {
        stream->owner = shard; // its value is of no interest
        return TORC_ERR_OK;
    }
    err = torc_tree_reserve(&shard->shard->tree, record->value_bytes, &stream->ticket, why);
    if (err != TORC_ERR_OK && shard->shard->follows && replay_room(replay, replay->at + 1)) {
        err = torc_tree_reserve(&shard->shard->tree, record->value_bytes, &stream->ticket, why);
    }
    if (err == TORC_ERR_OK) {
        memcpy(stream->ticket.block, record->value, record->piece_bytes);
    } else if (!shard->shard->follows) {
        return err;
    }
    stream->valueless = err != TORC_ERR_OK; // whether it is needed, its end tells
    stream->owner = shard;
    return TORC_ERR_OK;
}

static enum torc_err block_fail(const struct torc_log_block *block, const char *what,
                                struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT, "log stream %" PRIu32 ", block %" PRIu64 ": %s",
                     block->place.stream, block->place.sequence, what);
}

// The bytes of the last block's unfinished record.
static enum torc_err stream_carry(struct torc_replay *replay, struct replay_stream *stream,
                                  const struct torc_log_block *block, bool is_first,
                                  struct torc_fail *why)
{
    uint32_t left = stream->record.value_bytes - stream->done_bytes;
    struct torc_replay_shard *shard = stream->owner;
    struct torc_replay_held held = {.record = &stream->record,
                                    .position = stream->position,
                                    .last_sequence = block->place.sequence};

    if (block->carry_bytes == 0) { // it never happened
        stream->headless = false;
        stream_forget(stream);
        return TORC_ERR_OK;
    }
    if (!stream->unfinished && (is_first || stream->headless)) {
        stream->headless = block->unfinished && block->record_count == 0;
        return TORC_ERR_OK;
    }
    if (!stream->unfinished) {
        return block_fail(block, "carries what no block before it began", why);
    }
    if (block->carry_bytes > left ||
        (block->carry_bytes < left) != (block->unfinished && block->record_count == 0)) {
        return block_fail(block, "carries a piece of the wrong length", why);
    }
    if (shard != NULL && stream->ticket.nodes > 0) {
        memcpy((unsigned char *)stream->ticket.block + stream->done_bytes,
               torc_log_block_carry(block), block->carry_bytes);
    }
    stream->done_bytes += block->carry_bytes;
    if (block->carry_bytes < left) {
        return TORC_ERR_OK;
    }
    stream->unfinished = false;
    stream->owner = NULL;
    stream->record.value = stream->ticket.block;
    held.ticket = stream->ticket;
    held.valueless = stream->valueless;
    held.emptied = stream->ticket.nodes == 0 && !stream->valueless;
    return shard == NULL ? TORC_ERR_OK : replay_record(replay, shard, &held, why);
}

static enum torc_err block_records(struct torc_replay *replay, struct replay_stream *stream,
                                   const struct torc_log_block *block, struct torc_fail *why)
{
    uint64_t position = block->place.sequence << RECORD_BITS;
    struct torc_log_record record;
    enum torc_err err = TORC_ERR_OK;
    bool more = true;

    torc_log_reader_init(&replay->reader, block);
    while (err == TORC_ERR_OK) {
        struct torc_replay_shard *shard;

        err = torc_log_reader_next(&replay->reader, &record, &more, why);
        if (err != TORC_ERR_OK || !more) {
            break;
        }
        position++;
        shard = replay_find(replay, record.shard);
        replay->hlc = torc_max_u64(replay->hlc, shard == NULL ? 0 : record.hlc);
        if (record.piece_bytes < record.value_bytes) {
            err = stream_begin(replay, stream, shard, &record, position, why);
        } else if (shard != NULL) {
            struct torc_replay_held held = {
                .record = &record, .position = position, .last_sequence = block->place.sequence};

            err = replay_record(replay, shard, &held, why);
        }
    }
    return err;
}

static struct replay_stream *replay_stream(struct torc_replay *replay, uint32_t stream)
{
    struct replay_stream *streams = replay->streams;
    uint32_t index = 0;

    while (index < replay->stream_count && streams[index].stream != stream) {
        index++;
    }
    if (index == TORC_REPLAY_STREAMS_MAX) {
        return NULL;
    }
    if (index == replay->stream_count) {
        streams[index] = (struct replay_stream){.stream = stream};
        replay->stream_count++;
    }
    return &streams[index];
}

static enum torc_err replay_block(struct torc_replay *replay, uint32_t stream_id,
                                  const unsigned char *bytes, uint32_t byte_count,
                                  struct torc_fail *why)
{
    struct replay_stream *stream = replay_stream(replay, stream_id);
    struct torc_log_block block;
    enum torc_err err = torc_log_block_check(bytes, byte_count, &block, why);
    bool is_first;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (stream == NULL) {
        return block_fail(&block, "of more streams than one core can replay", why);
    }
    is_first = stream->sequence == 0;
    if (block.place.stream != stream_id ||
        (!is_first && block.place.sequence != stream->sequence + 1)) {
        return block_fail(&block, "does not follow the one before it", why);
    }
    stream->sequence = block.place.sequence;
    if (block.place.ceiling > replay->hlc && !TORC_BUG(CEILING_IN_MEMORY)) {
        replay->hlc = block.place.ceiling;
    }
    err = stream_carry(replay, stream, &block, is_first, why);
    err = err == TORC_ERR_OK ? block_records(replay, stream, &block, why) : err;
    // Values lie in the block.
    return err == TORC_ERR_OK ? replay_flush(replay, why) : err;
}

static enum torc_err replay_feed(struct torc_replay *replay, uint32_t stream,
                                 const unsigned char *at, uint64_t byte_count,
                                 struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    if (replay->block_bytes > 0 && replay->block_stream != stream) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log stream %" PRIu32 ": begins within a block of stream %" PRIu32, stream,
                         replay->block_stream);
    }
    replay->block_stream = stream;
    while (byte_count > 0 && err == TORC_ERR_OK) {
        const unsigned char *head = replay->block_bytes > 0 ? replay->block : at;
        uint64_t known = replay->block_bytes > 0 ? replay->block_bytes : byte_count;
        uint32_t want = torc_log_block_peek(head, known);
        uint32_t some;

        if (want == 0 && known >= sizeof(struct torc_log_block_header)) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "log stream %" PRIu32 ": no block begins where one should", stream);
        }
        if (replay->block_bytes == 0 && want > 0 && want <= byte_count) { // whole: no copy
            err = replay_block(replay, stream, at, want, why);
            at += want;
            byte_count -= want;
            continue;
        }
        // A header first, then what it says.
        want = want == 0 ? (uint32_t)sizeof(struct torc_log_block_header) : want;
        some = (uint32_t)torc_min_u64(want - replay->block_bytes, byte_count);
        memcpy(replay->block + replay->block_bytes, at, some);
        replay->block_bytes += some;
        at += some;
        byte_count -= some;
        if (replay->block_bytes == want && want > sizeof(struct torc_log_block_header)) {
            replay->block_bytes = 0;
            err = replay_block(replay, stream, replay->block, want, why);
        }
    }
    return err;
}

enum torc_err torc_replay_log(struct torc_replay *replay, uint32_t stream, const void *bytes,
                              uint64_t byte_count, struct torc_fail *why)
{
    return replay_feed(replay, stream, bytes, byte_count, why);
}

enum torc_err torc_replay_log_end(struct torc_replay *replay, uint32_t stream,
                                  struct torc_fail *why)
{
    if (replay->block_bytes > 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "log stream %" PRIu32 ": ends within a block",
                         stream);
    }
    return TORC_ERR_OK;
}

// -- The end ------------------------------------------------------------------------------------

static enum torc_err shard_end(struct torc_replay_shard *found, struct torc_fail *why)
{
    struct torc_shard *shard = found->shard;

    if (found->line.next_lsn <= found->end_lsn && !found->line.lost && !found->line.gap) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": its log ends at LSN %" PRIu64
                         ", its checkpoint needs it up to %" PRIu64,
                         shard->shard, found->line.next_lsn - 1, found->end_lsn);
    }
    if (shard->turn < found->line.turn || (shard->epoch <= found->line.epoch && !shard->follows)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "shard %" PRIu32 ": opened in epoch %" PRIu32 " turn %" PRIu32
                         ", its log is of epoch %" PRIu32 " turn %" PRIu32,
                         shard->shard, shard->epoch, shard->turn, found->line.epoch,
                         found->line.turn);
    }
    if (shard->follows) {
        return torc_replay_hold_end(found, why);
    }
    shard->next_lsn = found->line.next_lsn;
    shard->applied_lsn = found->line.next_lsn - 1;
    shard->last_hlc = found->hlc;
    shard->applied_hlc = found->hlc;
    shard->last_epoch = found->line.epoch;
    shard->applied_epoch = found->line.epoch;
    shard->replaying = false;
    return TORC_ERR_OK;
}

enum torc_err torc_replay_end(struct torc_replay *replay, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    torc_assert(!replay->surveying); // torc_replay_again was not asked
    if (replay->block_bytes > 0 || replay->checkpoint_open) {
        return torc_fail(why, TORC_ERR_CORRUPT, "recovery ends within a block or a checkpoint");
    }
    if (replay->hlc > HLC_MAX) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "recovery found an HLC of %" PRIx64 ": no clock goes on from there",
                         replay->hlc);
    }
    for (uint32_t i = 0; i < replay->stream_count; i++) {
        stream_forget(&replay->streams[i]);
    }
    for (uint32_t i = 0; i < replay->shard_count && err == TORC_ERR_OK; i++) {
        struct torc_shard_pool *pool = replay->shards[i].shard->pool;

        err = shard_end(&replay->shards[i], why);
        pool->hlc = torc_max_u64(pool->hlc, replay->hlc);
        (void)shard_expire(replay->shards[i].shard, pool->hlc);
    }
    return err;
}

struct torc_replay_result torc_replay_result(const struct torc_replay *replay, uint32_t shard)
{
    const struct torc_replay_shard *found = replay_find(replay, shard);

    struct torc_replay_result result;

    torc_assert(found != NULL);
    result = (struct torc_replay_result){.records = found->shard->tree.record_count,
                                         .replayed = found->replayed,
                                         .lsn = found->line.next_lsn - 1,
                                         .applied_lsn = found->shard->applied_lsn,
                                         .hlc = found->hlc,
                                         .epoch = found->line.epoch,
                                         .turn = found->line.turn,
                                         .lost = found->line.lost};
    torc_replay_line_epochs(&found->line, &result);
    return result;
}

void torc_replay_drop(struct torc_replay *replay)
{
    for (uint32_t i = 0; i < replay->stream_count; i++) {
        stream_forget(&replay->streams[i]);
    }
    for (uint32_t i = 0; i < replay->shard_count; i++) {
        struct torc_replay_shard *shard = &replay->shards[i];

        for (uint32_t j = 0; j < shard->batch_count; j++) {
            torc_tree_cancel(&shard->shard->tree, &shard->batch[j].ticket);
        }
        shard->batch_count = 0;
    }
    if (replay->checkpoint_open) {
        torc_checkpoint_reader_drop(&replay->checkpoint);
    }
}
