// Torc tests: any bytes as a journal or a record are read within their bounds.
#include "control/journal.h"
#include "control/records.h"
#include "tests/fuzz/mutate.h"
#include "tests/torc_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_ops(struct torc_journal_read read, const uint8_t *end)
{
    struct torc_journal_op op;

    while (torc_journal_op_next(&read, &op)) {
        torc_assert(op.key_bytes > 0);
        torc_assert((const uint8_t *)op.key + op.key_bytes <= end);
        torc_assert((const uint8_t *)op.value + op.value_bytes <= end);
    }
}

// The CRC stands before everything, so random bytes would never pass it: give them a right one.
static void read_with_right_crc(const uint8_t *data, size_t size)
{
    unsigned char entry[512] = {0};
    uint64_t bytes = torc_min_u64(size + sizeof(struct torc_journal_entry), sizeof(entry));
    struct torc_journal_read read = {.revision = 1, .ops = entry, .ops_bytes = bytes};

    memcpy(entry, data, torc_min_u64(size, sizeof(entry)));
    read.op_count = size > 0 ? data[0] : 0;
    read_ops(read, entry + bytes);
}

// What was understood is written so that it is understood the same.
static void read_record(enum torc_record kind, const char *text, uint64_t text_bytes)
{
    static unsigned char fields[2][4096];
    char again[TORC_RECORD_BYTES_MAX];
    struct torc_fail why;

    memset(fields, 0, sizeof(fields)); // decode clears its kind's struct, not what lies behind it
    if (torc_record_decode(kind, fields[0], text, text_bytes, &why) == TORC_ERR_OK) {
        uint32_t bytes = torc_record_encode(kind, fields[0], again);

        torc_assert(torc_record_decode(kind, fields[1], again, bytes, &why) == TORC_ERR_OK);
        torc_assert(memcmp(fields[0], fields[1], sizeof(fields[0])) == 0);
    }
}

// A good record of a shard with a few bytes changed.
static void read_edited(const uint8_t *data, size_t size)
{
    static const struct torc_shard_fields shard = {
        .hi = 1000,
        .epoch = 3,
        .primary_node = 1,
        .insync = {.count = 2, .at = {{1, 1}, {3, 9}}},
        .parents = {.count = 2, .at = {{4, 2, 600}, {5, 1, 700}}},
        .losses = {.count = 1, .at = {{2, 2, 5, 4444, 1700000000}}}};
    struct torc_rng rng = torc_fuzz_rng(data, size);
    char text[TORC_RECORD_BYTES_MAX];
    uint32_t bytes = torc_record_encode(TORC_RECORD_SHARD, &shard, text);

    torc_fuzz_edit(&rng, (uint8_t *)text, bytes);
    read_record(TORC_RECORD_SHARD, text, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t machine[TORC_JOURNAL_MACHINE_BYTES];
    struct torc_journal_header header = {0};
    struct torc_fail why;
    struct torc_journal_read read = torc_journal_entry_read(data, size);

    if (read.entry_bytes > 0) {
        torc_assert(read.entry_bytes <= size);
        read_ops(read, data + size);
    }
    (void)torc_journal_is_damage(data, size, 1);
    read_with_right_crc(data, size);
    memcpy(&header, data, torc_min_u64(size, sizeof(header)));
    torc_assert(torc_journal_header_check(&header, machine, &why) != TORC_ERR_OK ||
                torc_get_le32(header.version) == TORC_JOURNAL_VERSION);
    for (enum torc_record kind = TORC_RECORD_META; kind <= TORC_RECORD_START; kind++) {
        read_record(kind, (const char *)data, size);
    }
    read_edited(data, size);
    return 0;
}
