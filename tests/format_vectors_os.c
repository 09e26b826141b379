// Torc tests: prints the test vectors of docs/FORMATS.md, one `name hex` line each; with the
// argument `settings`, `metrics` or `memory`, that table of docs/OPERATIONS.md instead.
//
// What    the files of a data directory with fixed contents, made by the encoders of control/ and
//         storage/. tests/conformance/formats_test.py compares the lines with the document.
#include "control/data_dir_os.h"
#include "control/journal.h"
#include "control/metrics.h"
#include "control/records.h"
#include "kit/settings.h"
#include "storage/checkpoint_format.h"
#include "storage/log_format.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define CLUSTER    UINT64_C(0xc1c2c3c4c5c6c7c8)
#define GENERATION UINT64_C(0x1122334455667789)
#define HLC        UINT64_C(0x65c0a9f3d0000001)

enum {
    TABLE_BYTES = 64 << 10
};

static void show(const char *name, const void *bytes, uint64_t byte_count)
{
    const unsigned char *at = bytes;

    (void)printf("%s ", name);
    for (uint64_t i = 0; i < byte_count; i++) {
        (void)printf("%02x", at[i]);
    }
    (void)printf("\n");
}

static void show_node(void)
{
    const struct torc_node_id id = {.cluster = CLUSTER, .node = 1};
    char folder[] = "/tmp/torc-vectors-XXXXXX";
    char path[64];
    unsigned char bytes[64];
    struct torc_fail why = {0};
    int fd;

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    torc_assert(mkdtemp(folder) != NULL);
    torc_assert(torc_data_dir_make(folder, &id, &why) == TORC_ERR_OK);
    (void)snprintf(path, sizeof(path), "%s/torc.node", folder);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    torc_assert(read(fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes));
    (void)close(fd);
    show("node", bytes, sizeof(bytes));
    for (uint32_t i = 0; i < 5; i++) {
        static const char *const names[] = {"torc.node", "secret", "log", "checkpoint", "run"};

        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        torc_assert(remove(path) == 0);
    }
    torc_assert(rmdir(folder) == 0);
}

static void show_records(char *text)
{
    static const struct torc_meta_fields meta = {.cluster = CLUSTER,
                                                 .keys = 1000,
                                                 .replicas = 3,
                                                 .min_in_sync = 2,
                                                 .security = 1,
                                                 .value_max = 1 << 20,
                                                 .dedup_ttl_s = 120,
                                                 .shards = 4,
                                                 .created_s = 1700000000,
                                                 .nodes = 5,
                                                 .maker = 2};
    static const struct torc_node_fields node = {.boot = 3,
                                                 .down = 2,
                                                 .copy = 1,
                                                 .start_count = 3,
                                                 .base_port = 28700,
                                                 .cores = 2,
                                                 .address = "10.79.0.11",
                                                 .address6 = "fd79::b",
                                                 .domain = "rack 1",
                                                 .capacity = 100,
                                                 .zone = 4,
                                                 .slot = 7,
                                                 .state = TORC_RECORD_NODE_DRAINING,
                                                 .leaving = 3,
                                                 .nonce = 77};
    static const struct torc_want_fields want = {
        .nodes = {.count = 3, .at = {1, 2, 4095}}, .primary = 2, .nonce = 77};
    static const struct torc_counter_fields counter = {.value = 17, .nonce = 77};
    static const struct torc_placement_fields placement = {
        .term = 5, .leader = 1, .boot = 3, .beat = 900, .nonce = 77};
    static const struct torc_start_fields start = {
        .start_count = 3, .served = 2, .copy = 1, .nonce = 77};
    const struct {
        const char *name;
        const void *fields;
        enum torc_record kind;
    } records[] = {{"record-meta", &meta, TORC_RECORD_META},
                   {"record-node", &node, TORC_RECORD_NODE},
                   {"record-want", &want, TORC_RECORD_WANT},
                   {"record-counter", &counter, TORC_RECORD_COUNTER},
                   {"record-placement", &placement, TORC_RECORD_PLACEMENT},
                   {"record-start", &start, TORC_RECORD_START}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(records); i++) {
        show(records[i].name, text, torc_record_encode(records[i].kind, records[i].fields, text));
    }
}

static void show_journal(void)
{
    static const uint8_t machine[TORC_JOURNAL_MACHINE_BYTES] = {0xa0, 0xa1, 0xa2, 0xa3};
    static const struct torc_shard_fields shard = {
        .lo = 0,
        .hi = 1000,
        .epoch = 3,
        .primary_node = 1,
        .primary_boot = 3,
        .insync = {.count = 2, .at = {{1, 1}, {3, 9}}},
        .birth = TORC_RECORD_BIRTH_MERGE,
        .parents = {.count = 2, .at = {{4, 2, 600}, {5, 1, 700}}},
        .previous = {.count = 3, .at = {{1, 1}, {2, 5}, {3, 9}}},
        .losses = {.count = 1, .at = {{2, 2, 5, 4444, 1700000000}}},
        .nonce = 77};
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_journal_op op = {
        .kind = TORC_JOURNAL_PUT, .key = "shard/1", .key_bytes = 7, .value = text, .version = 5};
    struct torc_journal_header header;
    unsigned char entry[1024];

    torc_journal_header_make(&header, machine, 0);
    show("journal-header", &header, sizeof(header));
    op.value_bytes = torc_record_encode(TORC_RECORD_SHARD, &shard, text);
    torc_assert(torc_journal_entry_bytes(&op, 1) <= sizeof(entry));
    torc_journal_entry_make(entry, &op, 1, 5, 0);
    show("journal-entry", entry, torc_journal_entry_bytes(&op, 1));
    show_records(text);
}

static void show_block(struct torc_log_builder *builder, const char *name,
                       const struct torc_log_record *records, uint32_t count)
{
    static unsigned char block[TORC_LOG_SLOT_BYTES];
    const struct torc_log_block_header *header = (const void *)block;
    struct torc_log_place place = {.cluster = CLUSTER,
                                   .sequence = 2,
                                   .generation = GENERATION,
                                   .durable = 1,
                                   .node = 1,
                                   .stream = 1,
                                   .segment = 1,
                                   .offset_bytes = 2 * TORC_LOG_SLOT_BYTES};

    torc_log_block_begin(builder, block, sizeof(block));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t done = 0;

        torc_assert(torc_log_block_append(builder, records + i, &done));
    }
    torc_assert(torc_log_block_seal(builder, &place) == sizeof(block));
    show(name, block, sizeof(*header) + torc_get_le32(header->payload_bytes));
}

static void show_log(struct torc_log_builder *builder)
{
    unsigned char slot[TORC_LOG_SLOT_BYTES];
    struct torc_log_segment segment = {.cluster = CLUSTER,
                                       .generation = GENERATION,
                                       .first_sequence = 1,
                                       .node = 1,
                                       .stream = 1,
                                       .segment = 1,
                                       .segment_bytes = 4 << 20};
    const struct torc_log_record records[] = {
        {.kind = TORC_LOG_EPOCH, .shard = 1, .epoch = 3, .lsn = 9, .hlc = HLC},
        {.kind = TORC_LOG_PUT,
         .with_client = true,
         .shard = 1,
         .epoch = 3,
         .lsn = 10,
         .hlc = HLC + 1,
         .principal = 7,
         .client = 0xabcd,
         .seq = 300,
         .low = 298,
         .key = 42,
         .value = "forty-two",
         .value_bytes = 9},
        {.kind = TORC_LOG_DELETE,
         .with_client = true,
         .shard = 2,
         .epoch = 3,
         .turn = 1,
         .lsn = 100,
         .hlc = HLC + 4096,
         .principal = 7,
         .client = 0xabcd,
         .seq = 299,
         .low = 298,
         .key = 1000000}};
    const struct torc_log_record begun[] = {
        {.kind = TORC_LOG_BEGUN, .shard = 1, .epoch = 12, .turn = 2, .lsn = 205},
        {.kind = TORC_LOG_PUT,
         .with_client = true,
         .shard = 1,
         .epoch = 12,
         .turn = 2,
         .lsn = 205,
         .hlc = HLC,
         .principal = 7,
         .client = 0xabcd,
         .seq = 300,
         .low = 298,
         .key = 42,
         .value = "anew",
         .value_bytes = 4}};

    torc_log_segment_write(slot, &segment);
    show("segment", slot, sizeof(struct torc_log_segment_header));
    show_block(builder, "block", records, TORC_COUNT_OF(records));
    show_block(builder, "block-begun", begun, TORC_COUNT_OF(begun));
}

int main(int argc, char **argv)
{
    struct torc_log_builder *builder = calloc(1, sizeof(*builder));
    char *text = malloc(TABLE_BYTES);

    torc_assert(builder != NULL);
    torc_assert(text != NULL);
    if (argc > 1) {
        uint64_t bytes =
            strcmp(argv[1], "settings") == 0 ? torc_settings_markdown(text, TABLE_BYTES)
            : strcmp(argv[1], "memory") == 0 ? torc_metrics_memory_markdown(text, TABLE_BYTES)
                                             : torc_metrics_markdown(text, TABLE_BYTES);

        torc_assert(bytes < TABLE_BYTES);
        (void)fputs(text, stdout);
    } else {
        show_node();
        show_journal();
        show_log(builder);
    }
    free(text);
    free(builder);
    return 0;
}
