// Torc tests: any bytes as a journal or a record are read within their bounds.
#include "control/journal.h"
#include "control/records.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t machine[TORC_JOURNAL_MACHINE_BYTES];
    struct torc_journal_header header = {0};
    struct torc_shard_fields shard;
    struct torc_node_fields node;
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
    if (torc_record_decode(TORC_RECORD_SHARD, &shard, (const char *)data, size, &why) ==
        TORC_ERR_OK) {
        torc_assert(memchr(shard.insync, '\0', sizeof(shard.insync)) != NULL);
    }
    if (torc_record_decode(TORC_RECORD_NODE, &node, (const char *)data, size, &why) ==
        TORC_ERR_OK) {
        torc_assert(memchr(node.address6, '\0', sizeof(node.address6)) != NULL);
    }
    return 0;
}
