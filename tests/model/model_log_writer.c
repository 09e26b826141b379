// Torc tests: one worker's end of the log against a control that is slow, late with segments, and
// at times full: whatever was admitted can be appended (Room, dataplane/log.h), blocks never wrap
// nor reach over a segment's end, durable marks mean what they say, and every record comes out of
// the blocks as it went in.
#include "dataplane/log.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    APPENDS = 60000,
    SEGMENT_BYTES = 1 << 21,
    VALUE_MAX = 300000,
    SHARDS = 5
};

struct model {
    struct torc_rng rng;
    struct torc_spsc_port producer;
    struct torc_spsc_port consumer;
    struct torc_stats stats;
    struct torc_log_writer log;
    void *ring;
    unsigned char *value; // one pattern for all, from any offset
    uint64_t now_ns;
    uint64_t next_lsn[SHARDS]; // written
    uint64_t read_lsn[SHARDS]; // seen in blocks
    uint64_t sequence;         // of the last block read
    uint64_t written;
    uint64_t read;
    uint64_t refused;
    uint64_t full; // refusals for a full disk
    uint64_t carried;
    uint32_t segment; // last one prepared
    uint32_t used_segment;
    uint32_t used_bytes;
    bool disk_full;
    uint64_t wanted;      // ceiling
    uint64_t on_disk;     // the highest one in a durable block
    uint64_t written_out; // and in a block that control took
    uint64_t kept_full;   // ceilings kept while the disk was full
    uint32_t carry_left;  // bytes of a value that goes on
    struct torc_log_reader reader;
};

static void model_mark(struct model *model, const struct torc_mark *mark)
{
    CU_ASSERT_FATAL(torc_log_writer_mark(&model->log, mark, model->now_ns));
}

static void model_prepare(struct model *model)
{
    struct torc_mark mark = {.kind = TORC_MARK_SEGMENT,
                             .segment = model->segment + 1,
                             .generation = 7000 + model->segment + 1,
                             .segment_bytes = SEGMENT_BYTES};

    if (model->segment < model->used_segment + 2) {
        model->segment++;
        model_mark(model, &mark);
        model->disk_full = false;
    }
}

static void model_open(struct model *model, enum torc_durability durability)
{
    struct torc_cmd_configure order = {.cluster = 5,
                                       .node = 1,
                                       .stream = 1,
                                       .next_sequence = 1,
                                       .durability = (uint8_t)durability};
    uint64_t bytes = torc_spsc_bytes(TORC_CHAN_LOG_SLOT_BYTES, TORC_CHAN_LOG_SLOTS);
    struct torc_fail why;

    model->rng.state = torc_test_seed();
    model->ring = aligned_alloc(4096, bytes);
    model->value = malloc((size_t)VALUE_MAX + 256);
    torc_assert(model->ring != NULL && model->value != NULL);
    for (uint32_t i = 0; i < VALUE_MAX + 256; i++) {
        model->value[i] = (unsigned char)(i * 13 + i / 255);
    }
    TORC_TEST_OK(
        torc_spsc_format(model->ring, bytes, TORC_CHAN_LOG_SLOT_BYTES, TORC_CHAN_LOG_SLOTS, &why),
        &why);
    TORC_TEST_OK(torc_spsc_attach(&model->producer, TORC_SPSC_PRODUCER, model->ring, bytes, &why),
                 &why);
    TORC_TEST_OK(torc_spsc_attach(&model->consumer, TORC_SPSC_CONSUMER, model->ring, bytes, &why),
                 &why);
    torc_log_writer_init(&model->log, &model->producer, &model->stats, 4);
    torc_log_writer_configure(&model->log, &order);
    for (uint32_t i = 0; i < SHARDS; i++) {
        model->next_lsn[i] = 1;
        model->read_lsn[i] = 1;
    }
}

// -- Control's side
// --------------------------------------------------------------------------------

static void model_record(struct model *model, const struct torc_log_record *record)
{
    const unsigned char *expected = model->value + record->key % 256;

    CU_ASSERT_FATAL(record->shard < SHARDS);
    CU_ASSERT_EQUAL_FATAL(record->lsn, model->read_lsn[record->shard]);
    model->read_lsn[record->shard]++;
    model->read++;
    if (record->kind == TORC_LOG_PUT) {
        CU_ASSERT_EQUAL(memcmp(record->value, expected, record->piece_bytes), 0);
        model->carry_left = record->value_bytes - record->piece_bytes;
    }
}

static void model_place(struct model *model, const struct torc_log_block *block)
{
    uint32_t offset =
        block->place.segment == model->used_segment ? model->used_bytes : TORC_LOG_SLOT_BYTES;

    CU_ASSERT_EQUAL_FATAL(block->place.sequence, model->sequence + 1);
    CU_ASSERT_FATAL(block->place.segment >= model->used_segment);
    CU_ASSERT_FATAL(block->place.segment <= model->segment);
    CU_ASSERT_EQUAL_FATAL(block->place.generation, 7000 + block->place.segment);
    CU_ASSERT_EQUAL_FATAL(block->place.offset_bytes, offset);
    CU_ASSERT_FATAL(offset + block->byte_count <= SEGMENT_BYTES);
    CU_ASSERT_FATAL(block->place.durable <= model->log.durable);
    CU_ASSERT_FATAL(block->place.ceiling >= model->written_out); // L4
    CU_ASSERT_FATAL(block->place.ceiling <= model->wanted);
    model->written_out = block->place.ceiling;
    model->sequence++;
    model->used_segment = block->place.segment;
    model->used_bytes = offset + block->byte_count;
}

static void model_block(struct model *model, const struct torc_log_block *block)
{
    struct torc_log_record record;
    struct torc_fail why;
    bool more = true;

    model_place(model, block);
    CU_ASSERT_FATAL(block->carry_bytes <= model->carry_left);
    model->carried += block->carry_bytes > 0 ? 1 : 0;
    model->carry_left -= block->carry_bytes;
    torc_log_reader_init(&model->reader, block);
    while (more) {
        TORC_TEST_OK(torc_log_reader_next(&model->reader, &record, &more, &why), &why);
        if (more) {
            CU_ASSERT_EQUAL_FATAL(model->carry_left, 0);
            model_record(model, &record);
        }
    }
    CU_ASSERT_EQUAL(model->carry_left > 0, block->unfinished);
}

// Reads at most `count` blocks and says that they are durable.
static void model_write_out(struct model *model, uint32_t count)
{
    struct torc_mark mark = {.kind = TORC_MARK_DURABLE};
    struct torc_log_block block;
    struct torc_fail why;

    while (count > 0 && torc_spsc_readable(&model->consumer, 1) > 0) {
        const void *slot = torc_spsc_read_at(&model->consumer, 0);
        uint32_t skip = torc_log_filler_slots(slot);

        if (skip == 0) {
            uint32_t readable = torc_spsc_readable(&model->consumer, 64);

            TORC_TEST_OK(torc_log_block_check(slot, (uint64_t)readable * TORC_CHAN_LOG_SLOT_BYTES,
                                              &block, &why),
                         &why);
            skip = block.byte_count / TORC_CHAN_LOG_SLOT_BYTES;
            CU_ASSERT_FATAL(model->consumer.near % TORC_CHAN_LOG_SLOTS + skip <=
                            TORC_CHAN_LOG_SLOTS); // C1
            model_block(model, &block);
            count--;
        }
        torc_spsc_release(&model->consumer, skip);
    }
    mark.sequence = model->sequence;
    if (model->sequence > model->log.durable) {
        model_mark(model, &mark);
        model->on_disk = model->written_out;
    }
    CU_ASSERT_FATAL(model->log.ceiling <= model->on_disk); // what counts is on the disk
}

// -- The worker's side
// -----------------------------------------------------------------------------

static uint32_t model_size(struct model *model)
{
    switch (torc_rng_below(&model->rng, 20)) {
    case 0: return (uint32_t)torc_rng_below(&model->rng, VALUE_MAX);
    case 1:
    case 2: return (uint32_t)torc_rng_below(&model->rng, 20000);
    default: return (uint32_t)torc_rng_below(&model->rng, 300);
    }
}

static void model_append(struct model *model)
{
    uint32_t shard = (uint32_t)torc_rng_below(&model->rng, SHARDS);
    uint32_t bytes = model_size(model);
    struct torc_log_refusal refusal = torc_log_writer_admit(&model->log, bytes);
    struct torc_log_record record = {.kind = TORC_LOG_PUT,
                                     .with_client = true,
                                     .shard = shard,
                                     .epoch = 1,
                                     .hlc = 1000 + model->written,
                                     .client = torc_rng_below(&model->rng, 2000),
                                     .seq = 100 + torc_rng_below(&model->rng, 100),
                                     .low = 50,
                                     .key = torc_rng_next(&model->rng),
                                     .value_bytes = bytes};
    uint64_t sequence;

    if (refusal.err != TORC_ERR_OK) {
        CU_ASSERT(refusal.err == TORC_ERR_BUSY ||
                  (refusal.err == TORC_ERR_NO_SPACE && model->disk_full && refusal.reason == 1));
        model->full += refusal.err == TORC_ERR_NO_SPACE ? 1 : 0;
        model->refused++;
        return;
    }
    record.lsn = model->next_lsn[shard]++;
    record.value = model->value + record.key % 256;
    sequence = torc_log_writer_append(&model->log, &record, model->now_ns);
    CU_ASSERT_EQUAL(sequence, model->log.next_sequence); // the block that is open now
    model->written++;
}

static void model_control(struct model *model)
{
    struct torc_mark full = {.kind = TORC_MARK_DISK_FULL};
    uint64_t action = torc_rng_below(&model->rng, 100);

    if (action < 15) {
        model_write_out(model, (uint32_t)torc_rng_below(&model->rng, 40));
    } else if (action < 18 && (!model->disk_full || action == 15)) {
        model_prepare(model);
    } else if (action == 20) {
        model->disk_full = true;
        model_mark(model, &full);
    }
}

// A reader wants its timestamp kept; now and then one does so while the disk is full.
static void model_keep(struct model *model)
{
    if (torc_rng_below(&model->rng, 20) == 0) {
        model->wanted = model->wanted + 1 + torc_rng_below(&model->rng, 1000);
        torc_log_writer_keep(&model->log, model->wanted - torc_rng_below(&model->rng, 2));
    }
}

// With the disk full and nothing to write, a ceiling is kept all the same.
static void model_keep_full(struct model *model)
{
    if (!model->disk_full || model->written == 0 ||
        torc_log_writer_admit(&model->log, 0).err != TORC_ERR_NO_SPACE || model->kept_full >= 5) {
        return;
    }
    torc_log_writer_keep(&model->log, ++model->wanted);
    for (uint32_t i = 0; i < 8 && model->log.ceiling < model->wanted; i++) {
        (void)torc_log_writer_step(&model->log, model->now_ns, true);
        model_write_out(model, UINT32_MAX);
    }
    CU_ASSERT_EQUAL(model->log.ceiling, model->wanted);
    model->kept_full++;
}

static void live(enum torc_durability durability)
{
    struct model *model = calloc(1, sizeof(*model));

    torc_assert(model != NULL);
    model_open(model, durability);
    while (model->written < APPENDS) {
        uint32_t burst = (uint32_t)torc_rng_below(&model->rng, 24);

        model->now_ns += torc_rng_below(&model->rng, 1000000);
        for (uint32_t i = 0; i < burst; i++) {
            model_append(model);
        }
        model_keep(model);
        (void)torc_log_writer_step(&model->log, model->now_ns, false);
        model_control(model);
        model_keep_full(model);
    }
    // A clean stop: everything goes out, and a closing block says so.
    for (uint32_t i = 0; i < 100 && !torc_log_writer_settled(&model->log); i++) {
        (void)torc_log_writer_step(&model->log, model->now_ns, true);
        model_prepare(model);
        model_write_out(model, UINT32_MAX);
    }
    CU_ASSERT_EQUAL(model->read, model->written);
    CU_ASSERT(torc_log_writer_settled(&model->log));
    CU_ASSERT(model->kept_full > 0);
    model_prepare(model); // perhaps the last block ended its segment
    model->now_ns += TORC_LOG_CLOSING_NS;
    CU_ASSERT(torc_log_writer_deadline_ns(&model->log) <= model->now_ns);
    CU_ASSERT(torc_log_writer_step(&model->log, model->now_ns, false));
    model_write_out(model, UINT32_MAX);
    CU_ASSERT_EQUAL(torc_log_writer_deadline_ns(&model->log), UINT64_MAX);
    // The run must have met what it is there for.
    CU_ASSERT(model->refused > 1000);
    CU_ASSERT(model->full > 10);
    CU_ASSERT(model->carried > 100);
    free(model->ring);
    free(model->value);
    free(model);
}

static void what_is_admitted_can_be_appended_and_comes_out(void)
{
    live(TORC_DURABILITY_DURABLE);
    live(TORC_DURABILITY_REPLICATED);
}

static void paced_append(struct model *model, uint32_t value_bytes)
{
    struct torc_log_record record = {.kind = TORC_LOG_PUT,
                                     .epoch = 1,
                                     .lsn = model->next_lsn[0]++,
                                     .hlc = 1,
                                     .value = model->value,
                                     .value_bytes = value_bytes};

    CU_ASSERT_EQUAL_FATAL(torc_log_writer_admit(&model->log, value_bytes).err, TORC_ERR_OK);
    (void)torc_log_writer_append(&model->log, &record, model->now_ns);
}

// Steps `after_ns` later: whether a block left.
static bool paced_step(struct model *model, uint64_t after_ns)
{
    model->now_ns += after_ns;
    return torc_log_writer_step(&model->log, model->now_ns, false);
}

static void paced_durable(struct model *model, uint64_t after_ns, uint64_t sequence)
{
    struct torc_mark mark = {.kind = TORC_MARK_DURABLE, .sequence = sequence};

    model->now_ns += after_ns;
    model_mark(model, &mark);
}

static void a_block_behind_another_waits_for_its_part_of_a_sync(void)
{
    struct model *model = calloc(1, sizeof(*model));
    const uint64_t sync_ns = 120000;
    const uint64_t pace_ns = sync_ns / TORC_LOG_PACE_PART;

    torc_assert(model != NULL);
    model_open(model, TORC_DURABILITY_DURABLE);
    model_prepare(model);
    model->now_ns = 1000000;
    // Alone it leaves at once, and the disk shows what a sync takes.
    paced_append(model, 10);
    CU_ASSERT(paced_step(model, 0));
    CU_ASSERT(torc_log_writer_in_flight(&model->log) == 1);
    paced_durable(model, sync_ns, 1);
    CU_ASSERT_FALSE(torc_log_writer_soon(&model->log, model->now_ns));
    // The second leaves at once, the third waits for its part, and says until when.
    paced_append(model, 10);
    CU_ASSERT(paced_step(model, 0));
    CU_ASSERT(torc_log_writer_soon(&model->log, model->now_ns));
    paced_append(model, 10);
    CU_ASSERT_FALSE(paced_step(model, 0));
    CU_ASSERT_EQUAL(torc_log_writer_deadline_ns(&model->log), model->now_ns + pace_ns);
    CU_ASSERT_FALSE(paced_step(model, pace_ns - 1));
    CU_ASSERT(paced_step(model, 1));
    // A large one does not wait.
    paced_append(model, TORC_LOG_PACE_BYTES);
    CU_ASSERT(paced_step(model, 0));
    // With as many as may be in flight, none leaves, however late it is.
    paced_append(model, TORC_LOG_PACE_BYTES);
    CU_ASSERT(paced_step(model, 0));
    paced_append(model, 10);
    CU_ASSERT_FALSE(paced_step(model, 100 * sync_ns));
    CU_ASSERT_FALSE(torc_log_writer_soon(&model->log, model->now_ns)); // the disk has a bad day
    // When the disk has done all it had, it leaves at once again.
    paced_durable(model, 0, torc_log_writer_in_flight(&model->log) + model->log.durable);
    CU_ASSERT(paced_step(model, 0));
    free(model->ring);
    free(model->value);
    free(model);
}

static void replicated_blocks_are_gathered(void)
{
    struct model *model = calloc(1, sizeof(*model));

    torc_assert(model != NULL);
    model_open(model, TORC_DURABILITY_REPLICATED);
    model_prepare(model);
    model->now_ns = 1000000;
    paced_append(model, 10);
    CU_ASSERT_EQUAL(torc_log_writer_deadline_ns(&model->log), model->now_ns + TORC_LOG_GATHER_NS);
    CU_ASSERT_FALSE(paced_step(model, TORC_LOG_GATHER_NS / 2));
    paced_append(model, 10); // it waits from the first one on
    CU_ASSERT_FALSE(paced_step(model, TORC_LOG_GATHER_NS / 2 - 1));
    CU_ASSERT(paced_step(model, 1));
    CU_ASSERT_EQUAL(torc_log_writer_in_flight(&model->log), 1);
    paced_append(model, TORC_LOG_PACE_BYTES); // a large one does not wait, nor does the last one
    CU_ASSERT(paced_step(model, 0));
    paced_append(model, 10);
    CU_ASSERT_FALSE(paced_step(model, 0));
    CU_ASSERT(torc_log_writer_step(&model->log, model->now_ns, true));
    free(model->ring);
    free(model->value);
    free(model);
}

static void marks_that_make_no_sense_are_refused(void)
{
    struct model *model = calloc(1, sizeof(*model));
    struct torc_mark mark = {.kind = TORC_MARK_DURABLE, .sequence = 1};

    torc_assert(model != NULL);
    model_open(model, TORC_DURABILITY_DURABLE);
    CU_ASSERT_FALSE(torc_log_writer_mark(&model->log, &mark, 1)); // nothing was sealed yet
    mark = (struct torc_mark){.kind = TORC_MARK_SEGMENT, .segment = 1, .segment_bytes = 4096};
    CU_ASSERT_FALSE(torc_log_writer_mark(&model->log, &mark, 1));
    mark.segment_bytes = SEGMENT_BYTES + 1;
    CU_ASSERT_FALSE(torc_log_writer_mark(&model->log, &mark, 1));
    mark.kind = 99;
    CU_ASSERT_FALSE(torc_log_writer_mark(&model->log, &mark, 1));
    CU_ASSERT_EQUAL(torc_log_writer_admit(&model->log, 10).err, TORC_ERR_BUSY);
    mark = (struct torc_mark){.kind = TORC_MARK_LOG_FAILED, .text = "write: no"};
    CU_ASSERT(torc_log_writer_mark(&model->log, &mark, 1));
    CU_ASSERT_EQUAL(torc_log_writer_admit(&model->log, 10).err, TORC_ERR_UNAVAILABLE);
    CU_ASSERT_STRING_EQUAL(model->log.failure.text, "write: no");
    free(model->ring);
    free(model->value);
    free(model);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what is admitted can be appended and comes out",
         what_is_admitted_can_be_appended_and_comes_out},
        {"a block behind another waits for its part of a sync",
         a_block_behind_another_waits_for_its_part_of_a_sync},
        {"with replicated, blocks are gathered", replicated_blocks_are_gathered},
        {"marks that make no sense are refused", marks_that_make_no_sense_are_refused},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("log-writer", tests);
}
