// Torc tests: the log's bytes, block by block; which part of a stream is kept; in which order
// pieces of streams are replayed.
#include "kit/crc32c.h"
#include "storage/log_format.h"
#include "storage/log_order.h"
#include "storage/log_scan.h"
#include "storage/varint.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEGMENT_SLOTS = 24,
    SEGMENTS = 3,
};

#define SLOT          TORC_LOG_SLOT_BYTES
#define SEGMENT_BYTES 98304u // of SEGMENT_SLOTS slots

static struct torc_log_builder builder; // large: beside the tests rather than on their stacks
static struct torc_log_reader reader;
static unsigned char memory[TORC_LOG_BLOCK_BYTES_MAX];
static unsigned char value[400000];

static struct torc_log_record record_put(uint64_t lsn, uint64_t key, uint32_t value_bytes)
{
    return (struct torc_log_record){.kind = TORC_LOG_PUT,
                                    .with_client = true,
                                    .shard = 3,
                                    .epoch = 5,
                                    .turn = 1,
                                    .lsn = lsn,
                                    .hlc = 1000 + 10 * lsn,
                                    .principal = 7,
                                    .value_bytes = value_bytes,
                                    .client = 0xabcdef00,
                                    .seq = 100 + lsn,
                                    .low = 90,
                                    .key = key,
                                    .value = value,
                                    .piece_bytes = value_bytes};
}

static struct torc_log_place place_at(uint64_t sequence)
{
    return (struct torc_log_place){.cluster = 0x1122334455667788,
                                   .sequence = sequence,
                                   .generation = 9,
                                   .durable = sequence > 2 ? sequence - 2 : 0,
                                   .ceiling = 0,
                                   .node = 1,
                                   .stream = 2,
                                   .segment = 4,
                                   .offset_bytes = SLOT};
}

static void value_fill(void)
{
    for (uint32_t i = 0; i < sizeof(value); i++) {
        value[i] = (unsigned char)(i * 31 + (i >> 8));
    }
}

static void check_record(const struct torc_log_record *got, const struct torc_log_record *wanted)
{
    CU_ASSERT_EQUAL(got->kind, wanted->kind);
    CU_ASSERT_EQUAL(got->shard, wanted->shard);
    CU_ASSERT_EQUAL(got->epoch, wanted->epoch);
    CU_ASSERT_EQUAL(got->turn, wanted->turn);
    CU_ASSERT_EQUAL(got->lsn, wanted->lsn);
    CU_ASSERT_EQUAL(got->hlc, wanted->hlc);
    CU_ASSERT_EQUAL(got->key, wanted->key);
    CU_ASSERT_EQUAL(got->value_bytes, wanted->value_bytes);
    CU_ASSERT_EQUAL(got->with_client, wanted->with_client);
    CU_ASSERT_EQUAL(got->client, wanted->client);
    CU_ASSERT_EQUAL(got->principal, wanted->principal);
    CU_ASSERT_EQUAL(got->seq, wanted->seq);
    CU_ASSERT_EQUAL(got->low, wanted->low);
    CU_ASSERT_TRUE(got->piece_bytes == 0 || memcmp(got->value, value, got->piece_bytes) == 0);
}

static void test_varints(void)
{
    static const uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
    unsigned char bytes[16];
    const unsigned char *at;
    uint64_t back;

    for (uint32_t i = 0; i < TORC_COUNT_OF(numbers); i++) {
        const unsigned char *end = torc_varint_put(bytes, numbers[i]);

        at = bytes;
        CU_ASSERT_TRUE(torc_varint_get(&at, end, &back));
        CU_ASSERT_EQUAL(back, numbers[i]);
        CU_ASSERT_PTR_EQUAL(at, end);
        at = bytes;
        CU_ASSERT_FALSE(torc_varint_get(&at, end - 1, &back));
        CU_ASSERT_EQUAL(torc_unzigzag(torc_zigzag(numbers[i])), numbers[i]);
    }
    memset(bytes, 0xff, sizeof(bytes)); // 11 bytes, and 65 bits
    at = bytes;
    CU_ASSERT_FALSE(torc_varint_get(&at, bytes + sizeof(bytes), &back));
    CU_ASSERT_EQUAL(torc_zigzag(UINT64_MAX), 1);
}

enum {
    RECORDS = 7,
};

static void records_make(struct torc_log_record *records)
{
    for (uint32_t i = 0; i < RECORDS; i++) {
        records[i] = record_put(40 + i, UINT64_MAX - i, 10 * i);
    }
    records[1].kind = TORC_LOG_DELETE;
    records[1].value_bytes = 0;
    records[1].client = 5; // another client, whose seq runs backwards below
    records[2].client = 5;
    records[2].seq = 3;
    records[2].low = 0;
    records[3].kind = TORC_LOG_EMPTY;
    records[3].value_bytes = 0;
    records[3].key = 0;
    records[4].shard = 9; // another shard begins at its own LSN
    records[4].lsn = 7;
    records[5] = (struct torc_log_record){.kind = TORC_LOG_EPOCH,
                                          .shard = 3,
                                          .epoch = 6, // and here a new epoch of the first
                                          .turn = 1,
                                          .lsn = 44,
                                          .hlc = 1450};
    records[6].epoch = 6;
    records[6].lsn = 45;
}

static void test_records_come_back(void)
{
    struct torc_log_record records[RECORDS];
    struct torc_log_record got;
    struct torc_log_block block;
    struct torc_fail why;
    struct torc_log_place place = place_at(8);
    bool more;

    records_make(records);
    torc_log_block_begin(&builder, memory, 2 * SLOT);
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint32_t done = 0;

        CU_ASSERT_TRUE(torc_log_block_append(&builder, &records[i], &done));
    }
    CU_ASSERT_EQUAL(builder.shard_count, 3);
    CU_ASSERT_EQUAL(torc_log_block_seal(&builder, &place), SLOT);
    CU_ASSERT_EQUAL(torc_log_block_peek(memory, sizeof(memory)), SLOT);
    TORC_TEST_OK(torc_log_block_check(memory, SLOT, &block, &why), &why);
    CU_ASSERT_EQUAL(block.place.sequence, 8);
    CU_ASSERT_EQUAL(block.place.durable, 6);
    CU_ASSERT_EQUAL(block.record_count, RECORDS);
    torc_log_reader_init(&reader, &block);
    for (uint32_t i = 0; i < RECORDS; i++) {
        TORC_TEST_OK(torc_log_reader_next(&reader, &got, &more, &why), &why);
        CU_ASSERT_TRUE(more);
        check_record(&got, &records[i]);
    }
    TORC_TEST_OK(torc_log_reader_next(&reader, &got, &more, &why), &why);
    CU_ASSERT_FALSE(more);
}

// It is there for the commits that its entry tells; and so for one that tells no more.
static void test_a_moved_that_tells_more_has_an_entry(void)
{
    static const uint64_t lsns[] = {40, 41, 41, 41, 42};
    static const uint64_t commits[] = {30, 30, 40, 40, 41};
    struct torc_log_record records[5];
    struct torc_log_record got;
    struct torc_log_block block;
    struct torc_fail why;
    struct torc_log_place place = place_at(8);
    bool more;

    for (uint32_t i = 0; i < 5; i++) { // a record, two notes, a record, a note
        bool notes = i != 0 && i != 3;

        records[i] = record_put(lsns[i], 7, 0);
        records[i].kind = notes ? TORC_LOG_MOVED : TORC_LOG_PUT;
        records[i].with_client = !notes;
        records[i].hlc = 1000 + i;
        records[i].commit_lsn = commits[i];
    }
    torc_log_block_begin(&builder, memory, 2 * SLOT);
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t done = 0;

        CU_ASSERT_TRUE(torc_log_block_append(&builder, &records[i], &done));
    }
    CU_ASSERT_EQUAL(builder.shard_count, 3);
    CU_ASSERT_EQUAL(torc_log_block_seal(&builder, &place), SLOT);
    TORC_TEST_OK(torc_log_block_check(memory, SLOT, &block, &why), &why);
    torc_log_reader_init(&reader, &block);
    for (uint32_t i = 0; i < 5; i++) {
        TORC_TEST_OK(torc_log_reader_next(&reader, &got, &more, &why), &why);
        CU_ASSERT_TRUE(more);
        CU_ASSERT_EQUAL(got.kind, records[i].kind);
        CU_ASSERT_EQUAL(got.lsn, records[i].lsn);
        CU_ASSERT_EQUAL(got.commit_lsn, commits[i]);
    }
}

// The bytes of a small block, as docs/FORMATS.md shows them. A change here is a change of format.
static void test_the_bytes_are_these(void)
{
    static const unsigned char wanted[] = {
        // header: magic, version, flags, byte count, payload bytes, crc
        0x54, 0x6c, 0x6f, 0x67, 0x01, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x46, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00,
        // stream, segment, offset
        0x02, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
        // sequence, generation, durable, ceiling, cluster
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
        // node, carry, records, record bytes, shards, clients, zero
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x0e, 0x00, 0x00,
        0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
        // the record: PUT with client, shard 0, HLC +0, client 0, seq +0, low 51 below, key 300, 5
        // B
        0x81, 0x00, 0x00, 0x00, 0x00, 0x33, 0xac, 0x02, 0x05, 'h', 'e', 'l', 'l', 'o',
        // shard 3, epoch 5, turn 1, zero, first LSN 41, base HLC 1410
        0x03, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x29, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x82, 0x05, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
        // client, base seq 141, principal 7, zero
        0x00, 0xef, 0xcd, 0xab, 0x00, 0x00, 0x00, 0x00, 0x8d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    struct torc_log_record record = record_put(41, 300, 5);
    struct torc_log_place place = place_at(8);
    uint32_t done = 0;

    record.value = "hello";
    torc_log_block_begin(&builder, memory, SLOT);
    CU_ASSERT_TRUE(torc_log_block_append(&builder, &record, &done));
    CU_ASSERT_EQUAL(torc_log_block_seal(&builder, &place), SLOT);
    memset(memory + offsetof(struct torc_log_block_header, crc), 0, 4);
    CU_ASSERT_EQUAL(memcmp(memory, wanted, sizeof(wanted)), 0);
}

// Appends a value that needs several blocks; checks each, and that the pieces are the value.
static void check_carry(uint32_t value_bytes, uint32_t capacity)
{
    struct torc_log_record record = record_put(41, 300, value_bytes);
    struct torc_log_record got;
    struct torc_log_block block;
    struct torc_fail why;
    uint32_t done = 0;
    uint32_t read = 0;
    uint64_t sequence = 1;
    bool whole = false;
    bool more;

    while (!whole) {
        struct torc_log_place place = place_at(sequence);
        uint32_t bytes;

        torc_log_block_begin(&builder, memory, capacity);
        whole = torc_log_block_append(&builder, &record, &done);
        CU_ASSERT_EQUAL(builder.shards[0].last_lsn, whole ? 41 : 0);
        bytes = torc_log_block_seal(&builder, &place);
        CU_ASSERT_TRUE(bytes <= capacity);
        TORC_TEST_OK(torc_log_block_check(memory, bytes, &block, &why), &why);
        CU_ASSERT_EQUAL(block.unfinished, !whole);
        CU_ASSERT_EQUAL(memcmp(torc_log_block_carry(&block), value + read, block.carry_bytes), 0);
        read += block.carry_bytes;
        torc_log_reader_init(&reader, &block);
        TORC_TEST_OK(torc_log_reader_next(&reader, &got, &more, &why), &why);
        CU_ASSERT_EQUAL(more, sequence == 1);
        read += more ? got.piece_bytes : 0;
        sequence++;
        CU_ASSERT_TRUE_FATAL(sequence < 1000);
    }
    CU_ASSERT_EQUAL(read, value_bytes);
    CU_ASSERT_EQUAL(done, value_bytes);
}

static void test_values_over_blocks(void)
{
    static const uint32_t lengths[] = {3950, 4000, 4096, 8000, 12288, 100000, 262144, 400000};

    value_fill();
    for (uint32_t i = 0; i < TORC_COUNT_OF(lengths); i++) {
        check_carry(lengths[i], SLOT);
        check_carry(lengths[i], 3 * SLOT);
        check_carry(lengths[i], TORC_LOG_BLOCK_BYTES_MAX);
    }
}

static void test_full_dictionaries(void)
{
    struct torc_log_place place = place_at(1);
    struct torc_log_block block;
    struct torc_fail why;
    uint32_t count = 0;
    uint32_t done = 0;

    torc_log_block_begin(&builder, memory, TORC_LOG_BLOCK_BYTES_MAX);
    for (;; count++) {
        struct torc_log_record record = record_put(1 + count, count, 0);

        record.client = count;
        if (!torc_log_block_append(&builder, &record, &done)) {
            break;
        }
    }
    CU_ASSERT_EQUAL(count, TORC_LOG_CLIENTS_MAX);
    CU_ASSERT_EQUAL(done, 0);
    TORC_TEST_OK(torc_log_block_check(memory, torc_log_block_seal(&builder, &place), &block, &why),
                 &why);
    torc_log_block_begin(&builder, memory, TORC_LOG_BLOCK_BYTES_MAX);
    for (count = 0;; count++) {
        struct torc_log_record record = record_put(1, count, 0);

        record.shard = count;
        if (!torc_log_block_append(&builder, &record, &done)) {
            break;
        }
    }
    CU_ASSERT_EQUAL(count, TORC_LOG_SHARDS_MAX);
    TORC_TEST_OK(torc_log_block_check(memory, torc_log_block_seal(&builder, &place), &block, &why),
                 &why);
}

static void test_every_flipped_bit_is_seen(void)
{
    struct torc_log_place place = place_at(3);
    struct torc_log_record record = record_put(41, 300, 50);
    struct torc_log_block block;
    uint32_t missed = 0;
    uint32_t done = 0;

    torc_log_block_begin(&builder, memory, SLOT);
    CU_ASSERT_TRUE(torc_log_block_append(&builder, &record, &done));
    (void)torc_log_block_seal(&builder, &place);
    for (uint32_t bit = 0; bit < SLOT * 8; bit++) {
        memory[bit / 8] ^= (unsigned char)(1u << bit % 8);
        missed += torc_log_block_check(memory, SLOT, &block, NULL) == TORC_ERR_OK ? 1 : 0;
        memory[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CU_ASSERT_EQUAL(missed, 0);
    CU_ASSERT_EQUAL(torc_log_block_check(memory, SLOT, &block, NULL), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_log_block_check(memory, SLOT - 1, &block, NULL), TORC_ERR_CORRUPT);
    CU_ASSERT_EQUAL(torc_log_block_check(memory, 95, &block, NULL), TORC_ERR_CORRUPT);
    memory[4] = 3;
    CU_ASSERT_EQUAL(torc_log_block_check(memory, SLOT, &block, NULL), TORC_ERR_UNSUPPORTED_VERSION);
}

// Makes a block of one slot, some bytes of which were changed, whole again.
static void block_sign(unsigned char *block)
{
    struct torc_le32 crc = torc_le32(torc_crc32c(torc_crc32c(0, block, 16), block + 20, SLOT - 20));

    memcpy(block + offsetof(struct torc_log_block_header, crc), &crc, sizeof(crc));
}

// Of a block with one record, that was made again as one of version 1.
static void block_make_older(void)
{
    memory[4] = TORC_LOG_VERSION;
    block_sign(memory);
}

static void test_a_log_begun_anew(void)
{
    struct torc_log_place place = place_at(3);
    struct torc_log_record records[2] = {
        {.kind = TORC_LOG_BEGUN, .shard = 3, .epoch = 5, .turn = 2, .lsn = 41},
        record_put(41, 300, 50)};
    struct torc_log_record got;
    struct torc_log_block block;
    struct torc_fail why;
    bool more;

    records[1].turn = 2;
    torc_log_block_begin(&builder, memory, SLOT);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t done = 0;

        CU_ASSERT_TRUE(torc_log_block_append(&builder, &records[i], &done));
    }
    CU_ASSERT_EQUAL(builder.shards[0].last_lsn, 41);
    (void)torc_log_block_seal(&builder, &place);
    CU_ASSERT_EQUAL(memory[4], TORC_LOG_VERSION_BEGUN);
    TORC_TEST_OK(torc_log_block_check(memory, SLOT, &block, &why), &why);
    torc_log_reader_init(&reader, &block);
    for (uint32_t i = 0; i < 2; i++) {
        TORC_TEST_OK(torc_log_reader_next(&reader, &got, &more, &why), &why);
        check_record(&got, &records[i]);
    }
    block_make_older(); // whose reader does not know the kind
    TORC_TEST_OK(torc_log_block_check(memory, SLOT, &block, &why), &why);
    torc_log_reader_init(&reader, &block);
    CU_ASSERT_EQUAL(torc_log_reader_next(&reader, &got, &more, &why), TORC_ERR_CORRUPT);
    // The next block is one of version 1 again.
    torc_log_block_begin(&builder, memory, SLOT);
    (void)torc_log_block_seal(&builder, &place);
    CU_ASSERT_EQUAL(memory[4], TORC_LOG_VERSION);
}

static void test_segments_and_fillers(void)
{
    struct torc_log_segment segment = {.cluster = 1,
                                       .generation = UINT64_MAX,
                                       .first_sequence = 12,
                                       .node = 3,
                                       .stream = 4,
                                       .segment = 5,
                                       .segment_bytes = SEGMENT_BYTES};
    struct torc_log_segment back;
    struct torc_fail why;

    torc_log_segment_write(memory, &segment);
    TORC_TEST_OK(torc_log_segment_check(memory, &back, &why), &why);
    CU_ASSERT_EQUAL(back.generation, UINT64_MAX);
    CU_ASSERT_EQUAL(back.first_sequence, 12);
    CU_ASSERT_EQUAL(back.segment_bytes, SEGMENT_BYTES);
    memory[30] ^= 1;
    CU_ASSERT_EQUAL(torc_log_segment_check(memory, &back, &why), TORC_ERR_CORRUPT);
    memory[30] ^= 1;
    memory[4] = 9;
    CU_ASSERT_EQUAL(torc_log_segment_check(memory, &back, &why), TORC_ERR_UNSUPPORTED_VERSION);
    torc_log_filler_write(memory, 17);
    CU_ASSERT_EQUAL(torc_log_filler_slots(memory), 17);
    memory[0] = 0;
    CU_ASSERT_EQUAL(torc_log_filler_slots(memory), 0);
}

// -- Which part of a stream is kept -------------------------------------------------------------

struct disk {
    unsigned char bytes[SEGMENTS][SEGMENT_BYTES];
    struct torc_log_scan_segment segments[SEGMENTS];
    struct torc_log_scan_result result;
    struct torc_fail why;
};

static struct disk disk;

_Static_assert(SEGMENT_BYTES == SEGMENT_SLOTS * SLOT, "whole slots");

static unsigned char *disk_at(uint32_t index, uint32_t slot)
{
    return disk.bytes[index] + (size_t)slot * SLOT;
}

// Segments of one slot a block, ten blocks each. first_sequence: of a cut.
static void disk_segment(uint32_t index, uint64_t first_sequence)
{
    struct torc_log_segment segment = {.cluster = 0x1122334455667788,
                                       .generation = 100 + index,
                                       .first_sequence = first_sequence,
                                       .node = 1,
                                       .stream = 2,
                                       .segment = index + 1,
                                       .segment_bytes = SEGMENT_BYTES};

    memset(disk.bytes[index], 0, SEGMENT_BYTES);
    torc_log_segment_write(disk.bytes[index], &segment);
}

static void disk_block(uint32_t index, uint32_t slot, uint64_t sequence, uint64_t durable)
{
    struct torc_log_record record = record_put(sequence, sequence, 20);
    struct torc_log_place place = place_at(sequence);
    uint32_t done = 0;

    place.segment = index + 1;
    place.generation = 100 + index;
    place.offset_bytes = slot * SLOT;
    place.durable = durable;
    torc_log_block_begin(&builder, disk_at(index, slot), SLOT);
    CU_ASSERT_TRUE(torc_log_block_append(&builder, &record, &done));
    (void)torc_log_block_seal(&builder, &place);
}

// Feeds the segments in windows of `window` bytes.
static enum torc_err disk_scan(uint32_t count, uint64_t window)
{
    struct torc_log_scan scan;

    for (uint32_t i = 0; i < count; i++) {
        TORC_TEST_OK(torc_log_segment_check(disk.bytes[i], &disk.segments[i].header, &disk.why),
                     &disk.why);
    }
    TORC_TEST_OK(torc_log_scan_begin(&scan, disk.segments, count, &disk.why), &disk.why);
    while (scan.at < count) {
        uint64_t left = SEGMENT_BYTES - scan.offset_bytes;
        uint64_t some = torc_min_u64(left, window);
        uint64_t took =
            torc_log_scan_feed(&scan, disk.bytes[scan.at] + scan.offset_bytes, some, some == left);

        CU_ASSERT_TRUE_FATAL(took > 0);
    }
    return torc_log_scan_end(&scan, &disk.result, &disk.why);
}

static void disk_fill(void)
{
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        disk_segment(i, 0);
    }
    for (uint64_t sequence = 1; sequence <= 14; sequence++) {
        disk_block(sequence <= 10 ? 0 : 1, (uint32_t)(sequence <= 10 ? sequence : sequence - 10),
                   sequence, sequence > 3 ? sequence - 3 : 0);
    }
}

static void check_kept(uint64_t last, uint64_t line, bool sync)
{
    CU_ASSERT_EQUAL(disk.result.last_sequence, last);
    CU_ASSERT_EQUAL(disk.result.next_sequence, last + 1);
    CU_ASSERT_EQUAL(disk.result.line, line);
    CU_ASSERT_EQUAL(disk.result.sync, sync);
}

static void test_a_whole_stream_is_kept(void)
{
    disk_fill();
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(14, 11, true);
    CU_ASSERT_EQUAL(disk.result.first_sequence, 1);
    CU_ASSERT_EQUAL(disk.segments[0].kept_end_bytes, 11 * SLOT);
    CU_ASSERT_EQUAL(disk.segments[0].last_sequence, 10);
    CU_ASSERT_EQUAL(disk.segments[1].first_sequence, 11);
    CU_ASSERT_EQUAL(disk.segments[1].kept_end_bytes, 5 * SLOT);
    CU_ASSERT_EQUAL(disk.segments[2].first_sequence, 0);
    CU_ASSERT_EQUAL(disk.segments[2].kept_end_bytes, SLOT);
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SLOT), TORC_ERR_OK); // slot by slot is the same
    check_kept(14, 11, true);
    CU_ASSERT_EQUAL(disk_scan(1, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(10, 7, true);
}

static void test_a_torn_tail_is_cut(void)
{
    disk_fill();
    disk_at(1, 2)[99] ^= 1; // block 12, above the line
    disk_at(1, 4)[99] ^= 1; // block 14, whose mark was the line
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(11, 10, true);
    CU_ASSERT_EQUAL(disk.result.torn_blocks, 1);
    CU_ASSERT_EQUAL(disk.segments[1].kept_end_bytes, 2 * SLOT);
    // A block of the file's former use is not there, whatever its sequence.
    disk_block(1, 2, 12, 11);
    disk_block(1, 4, 14, 13);
    disk_at(1, 4)[40] ^= 1;
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(13, 11, true);
}

static void test_damage_is_refused(void)
{
    disk_fill();
    disk_at(0, 9)[99] ^= 1; // block 9, below the line
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(disk.why.text, "block 9 "));
    CU_ASSERT_PTR_NOT_NULL(strstr(disk.why.text, "segment 1 offset 36864"));
    CU_ASSERT_PTR_NOT_NULL(strstr(disk.why.text, "up to 11"));
    disk_fill();
    memset(disk_at(0, 1), 0, SLOT); // the very first
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_CORRUPT);
    disk_fill();
    disk_block(1, 1, 11, 7);
    memset(disk_at(0, 10), 0, SLOT); // the last of a segment
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_CORRUPT);
}

// What a newer program wrote, not a hole: what lies behind it may have been acknowledged.
static void test_an_unknown_version_is_refused(void)
{
    unsigned char *block = disk_at(1, 4); // the last, above the line

    disk_fill();
    block[4] = 3;
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK); // torn: no block's checksum
    check_kept(13, 10, true);
    block_sign(block);
    for (uint64_t window = SLOT; window <= SEGMENT_BYTES; window *= SEGMENT_SLOTS) {
        CU_ASSERT_EQUAL(disk_scan(SEGMENTS, window), TORC_ERR_UNSUPPORTED_VERSION);
        CU_ASSERT_PTR_NOT_NULL(strstr(disk.why.text, "segment 2 offset 16384"));
        CU_ASSERT_PTR_NOT_NULL(strstr(disk.why.text, "version 3"));
    }
    disk_segment(2, 14); // it was cut, and does not count
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(13, 13, false);
    block[offsetof(struct torc_log_block_header, generation)] ^= 1; // of the file's former use
    block_sign(block);
    CU_ASSERT_EQUAL(disk_scan(2, SEGMENT_BYTES), TORC_ERR_OK);
}

static void test_nothing_behind_a_cut_comes_back(void)
{
    disk_fill();
    disk_segment(2, 13); // 13 and 14 were cut; the next life began here
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(12, 12, false);
    CU_ASSERT_EQUAL(disk.segments[1].kept_end_bytes, 3 * SLOT);
    disk_block(2, 1, 13, 12);
    disk_block(2, 2, 14, 12);
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_OK);
    check_kept(14, 12, true);
    CU_ASSERT_EQUAL(disk.segments[1].last_sequence, 12);
    CU_ASSERT_EQUAL(disk.segments[2].first_sequence, 13);
    // What the cut stood on was synced: its loss is damage.
    disk_at(1, 2)[99] ^= 1;
    CU_ASSERT_EQUAL(disk_scan(SEGMENTS, SEGMENT_BYTES), TORC_ERR_CORRUPT);
}

static void test_an_empty_stream(void)
{
    disk_fill();
    disk_segment(0, 0);
    CU_ASSERT_EQUAL(disk_scan(1, SEGMENT_BYTES), TORC_ERR_OK);
    CU_ASSERT_EQUAL(disk.result.last_sequence, 0);
    CU_ASSERT_EQUAL(disk.result.next_sequence, 1);
    CU_ASSERT_FALSE(disk.result.sync);
    disk_segment(0, 30); // all before it was trimmed
    CU_ASSERT_EQUAL(disk_scan(1, SEGMENT_BYTES), TORC_ERR_OK);
    CU_ASSERT_EQUAL(disk.result.last_sequence, 0);
    CU_ASSERT_EQUAL(disk.result.next_sequence, 30);
    disk_block(0, 1, 1, 0); // the very first block, torn, and one in flight behind it
    disk_block(0, 2, 2, 0);
    disk_segment(1, 0);
    disk_fill();
    disk_segment(0, 0);
    disk_block(0, 2, 2, 0);
    CU_ASSERT_EQUAL(disk_scan(1, SEGMENT_BYTES), TORC_ERR_OK);
    CU_ASSERT_EQUAL(disk.result.last_sequence, 0);
    CU_ASSERT_EQUAL(disk.result.next_sequence, 1);
    CU_ASSERT_EQUAL(disk.result.torn_blocks, 1);
    // Two files with one number.
    CU_ASSERT_EQUAL(torc_log_segment_check(disk.bytes[0], &disk.segments[0].header, NULL),
                    TORC_ERR_OK);
    disk.segments[1] = disk.segments[0];
    CU_ASSERT_EQUAL(torc_log_scan_begin(&(struct torc_log_scan){0}, disk.segments, 2, NULL),
                    TORC_ERR_CORRUPT);
}

// -- The order of streams -----------------------------------------------------------------------

static void order_block(struct torc_log_order *order, uint32_t stream, uint64_t sequence,
                        const uint32_t *shard_turns)
{
    struct torc_log_place place = place_at(sequence);
    struct torc_log_block block;
    struct torc_fail why;

    place.stream = stream;
    torc_log_block_begin(&builder, memory, SLOT);
    for (; *shard_turns != 0; shard_turns += 2) {
        struct torc_log_record record = record_put(1, 1, 0);
        uint32_t done = 0;

        record.shard = shard_turns[0];
        record.turn = shard_turns[1];
        CU_ASSERT_TRUE(torc_log_block_append(&builder, &record, &done));
    }
    TORC_TEST_OK(torc_log_block_check(memory, torc_log_block_seal(&builder, &place), &block, &why),
                 &why);
    TORC_TEST_OK(torc_log_order_note(order, &block, &why), &why);
}

static void check_pieces(struct torc_log_order *order, const struct torc_log_order_piece *wanted,
                         uint32_t count)
{
    struct torc_log_order_piece piece;
    struct torc_fail why;
    bool more;

    for (uint32_t i = 0; i < count; i++) {
        TORC_TEST_OK(torc_log_order_next(order, &piece, &more, &why), &why);
        CU_ASSERT_TRUE(more);
        CU_ASSERT_EQUAL(piece.stream, wanted[i].stream);
        CU_ASSERT_EQUAL(piece.first, wanted[i].first);
        CU_ASSERT_EQUAL(piece.last, wanted[i].last);
    }
    TORC_TEST_OK(torc_log_order_next(order, &piece, &more, &why), &why);
    CU_ASSERT_FALSE(more);
}

static void test_turns_come_in_order(void)
{
    static const struct torc_log_order_piece wanted[] = {
        {.stream = 1, .first = 10, .last = 11}, // up to where shard 5 came back
        {.stream = 2, .first = 1, .last = 3},
        {.stream = 1, .first = 12, .last = 12},
    };
    struct torc_log_order_note notes[16];
    struct torc_log_order_stream streams[4];
    struct torc_log_order_piece piece;
    struct torc_log_order order;
    struct torc_fail why;
    bool more;

    torc_log_order_init(&order, notes, TORC_COUNT_OF(notes), streams, TORC_COUNT_OF(streams));
    order_block(&order, 1, 10, (const uint32_t[]){5, 1, 6, 1, 0});
    order_block(&order, 1, 11, (const uint32_t[]){6, 1, 0});
    order_block(&order, 1, 12, (const uint32_t[]){5, 3, 0}); // it went away and came back
    order_block(&order, 2, 1, (const uint32_t[]){9, 1, 0});
    order_block(&order, 2, 2, (const uint32_t[]){5, 2, 0});
    order_block(&order, 2, 3, (const uint32_t[]){5, 2, 9, 1, 0});
    check_pieces(&order, wanted, TORC_COUNT_OF(wanted));
    torc_log_order_init(&order, notes, TORC_COUNT_OF(notes), streams, TORC_COUNT_OF(streams));
    order_block(&order, 1, 1, (const uint32_t[]){5, 2, 6, 1, 0});
    order_block(&order, 2, 1, (const uint32_t[]){5, 1, 6, 2, 0});
    CU_ASSERT_EQUAL(torc_log_order_next(&order, &piece, &more, &why), TORC_ERR_CORRUPT);
}

// One block may hold the end of a turn and the beginning of the next.
static void test_turns_change_within_a_block(void)
{
    static const struct torc_log_order_piece wanted[] = {
        {.stream = 2, .first = 1, .last = 1},
        {.stream = 1, .first = 10, .last = 11},
    };
    struct torc_log_order_note notes[16];
    struct torc_log_order_stream streams[4];
    struct torc_log_order order;

    torc_log_order_init(&order, notes, TORC_COUNT_OF(notes), streams, TORC_COUNT_OF(streams));
    order_block(&order, 1, 10, (const uint32_t[]){5, 2, 5, 3, 0});
    order_block(&order, 1, 11, (const uint32_t[]){5, 3, 5, 4, 0});
    order_block(&order, 2, 1, (const uint32_t[]){5, 1, 0});
    check_pieces(&order, wanted, TORC_COUNT_OF(wanted));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"varints", test_varints},
        {"records come back", test_records_come_back},
        {"a MOVED that tells more has an entry", test_a_moved_that_tells_more_has_an_entry},
        {"the bytes are these", test_the_bytes_are_these},
        {"values over several blocks", test_values_over_blocks},
        {"full dictionaries end a block", test_full_dictionaries},
        {"every flipped bit is seen", test_every_flipped_bit_is_seen},
        {"a log that was begun anew", test_a_log_begun_anew},
        {"segments and fillers", test_segments_and_fillers},
        {"a whole stream is kept", test_a_whole_stream_is_kept},
        {"a torn tail is cut", test_a_torn_tail_is_cut},
        {"damage is refused, and named", test_damage_is_refused},
        {"an unknown version is refused, and named", test_an_unknown_version_is_refused},
        {"nothing behind a cut comes back", test_nothing_behind_a_cut_comes_back},
        {"an empty stream", test_an_empty_stream},
        {"turns of shards come in order", test_turns_come_in_order},
        {"turns change within a block", test_turns_change_within_a_block},
        CU_TEST_INFO_NULL};

    return torc_test_run("log_format", tests);
}
