// Torc control: the bytes of the file metastore's journal. See control/journal.h.
#include "control/journal.h"

#include "kit/crc32c.h"

static const uint8_t journal_magic[8] = {'t', 'o', 'r', 'c', 'm', 'e', 't', 'a'};

void torc_journal_header_make(struct torc_journal_header *header, const uint8_t *machine,
                              uint32_t snapshot_entries)
{
    memset(header, 0, sizeof(*header));
    memcpy(header->magic, journal_magic, sizeof(journal_magic));
    header->version = torc_le32(TORC_JOURNAL_VERSION);
    header->header_bytes = torc_le32(sizeof(*header));
    memcpy(header->machine, machine, TORC_JOURNAL_MACHINE_BYTES);
    header->snapshot_entries = torc_le32(snapshot_entries);
    header->crc = torc_le32(torc_crc32c(0, header, offsetof(struct torc_journal_header, crc)));
}

enum torc_err torc_journal_header_check(const struct torc_journal_header *header,
                                        const uint8_t *machine, struct torc_fail *why)
{
    uint32_t crc = torc_crc32c(0, header, offsetof(struct torc_journal_header, crc));

    if (memcmp(header->magic, journal_magic, sizeof(journal_magic)) != 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "no journal of a metastore: its mark is missing");
    }
    if (torc_get_le32(header->version) != TORC_JOURNAL_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "journal of version %" PRIu32 ", this build reads %u",
                         torc_get_le32(header->version), TORC_JOURNAL_VERSION);
    }
    if (torc_get_le32(header->crc) != crc ||
        torc_get_le32(header->header_bytes) != sizeof(*header)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "the journal's header fails its check");
    }
    if (memcmp(header->machine, machine, TORC_JOURNAL_MACHINE_BYTES) != 0) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "made on another machine: a file metastore serves one machine only");
    }
    return TORC_ERR_OK;
}

uint64_t torc_journal_entry_bytes(const struct torc_journal_op *ops, uint32_t op_count)
{
    uint64_t bytes = sizeof(struct torc_journal_entry);

    if (op_count == 0 || op_count > TORC_JOURNAL_OPS_MAX) {
        return 0;
    }
    for (uint32_t i = 0; i < op_count; i++) {
        if (ops[i].key_bytes == 0 || ops[i].key_bytes > TORC_JOURNAL_KEY_MAX ||
            ops[i].value_bytes > TORC_JOURNAL_VALUE_MAX) {
            return 0;
        }
        bytes += sizeof(struct torc_journal_op_header) + ops[i].key_bytes + ops[i].value_bytes;
    }
    return bytes <= TORC_JOURNAL_ENTRY_MAX ? bytes : 0;
}

void torc_journal_entry_make(void *entry, const struct torc_journal_op *ops, uint32_t op_count,
                             uint64_t revision, uint32_t flags)
{
    struct torc_journal_entry header = {.revision = torc_le64(revision),
                                        .op_count = torc_le32(op_count),
                                        .flags = torc_le32(flags)};
    uint64_t bytes = torc_journal_entry_bytes(ops, op_count);
    unsigned char *at = (unsigned char *)entry + sizeof(header);

    torc_assert(bytes > 0);
    header.bytes = torc_le32(torc_narrow_u32(bytes));
    for (uint32_t i = 0; i < op_count; i++) {
        struct torc_journal_op_header op = {.kind = (uint8_t)ops[i].kind,
                                            .key_bytes = torc_le16((uint16_t)ops[i].key_bytes),
                                            .value_bytes = torc_le32(ops[i].value_bytes),
                                            .version = torc_le64(ops[i].version)};

        memcpy(at, &op, sizeof(op));
        at += sizeof(op);
        memcpy(at, ops[i].key, ops[i].key_bytes);
        at += ops[i].key_bytes;
        if (ops[i].value_bytes > 0) {
            memcpy(at, ops[i].value, ops[i].value_bytes);
            at += ops[i].value_bytes;
        }
    }
    torc_assert(at == (unsigned char *)entry + bytes);
    memcpy(entry, &header, sizeof(header));
    header.crc = torc_le32(torc_crc32c(0, (unsigned char *)entry + 4, bytes - 4));
    memcpy(entry, &header, sizeof(header));
}

struct torc_journal_read torc_journal_entry_read(const unsigned char *bytes, uint64_t byte_count)
{
    struct torc_journal_read nothing = {0};
    struct torc_journal_entry header;
    uint64_t entry_bytes;

    if (byte_count < sizeof(header)) {
        return nothing;
    }
    memcpy(&header, bytes, sizeof(header));
    entry_bytes = torc_get_le32(header.bytes);
    if (entry_bytes < sizeof(header) || entry_bytes > byte_count ||
        entry_bytes > TORC_JOURNAL_ENTRY_MAX ||
        torc_crc32c(0, bytes + 4, entry_bytes - 4) != torc_get_le32(header.crc)) {
        return nothing;
    }
    return (struct torc_journal_read){.entry_bytes = entry_bytes,
                                      .revision = torc_get_le64(header.revision),
                                      .op_count = torc_get_le32(header.op_count),
                                      .flags = torc_get_le32(header.flags),
                                      .ops = bytes + sizeof(header),
                                      .ops_bytes = entry_bytes - sizeof(header)};
}

bool torc_journal_op_next(struct torc_journal_read *cursor, struct torc_journal_op *op)
{
    struct torc_journal_op_header header;
    uint64_t key_bytes;
    uint64_t value_bytes;

    if (cursor->op_count == 0 || cursor->ops_bytes < sizeof(header)) {
        return false;
    }
    memcpy(&header, cursor->ops, sizeof(header));
    key_bytes = torc_get_le16(header.key_bytes);
    value_bytes = torc_get_le32(header.value_bytes);
    if ((header.kind != TORC_JOURNAL_PUT && header.kind != TORC_JOURNAL_DELETE) || key_bytes == 0 ||
        key_bytes > TORC_JOURNAL_KEY_MAX || value_bytes > TORC_JOURNAL_VALUE_MAX ||
        sizeof(header) + key_bytes + value_bytes > cursor->ops_bytes) {
        return false;
    }
    *op = (struct torc_journal_op){.kind = (enum torc_journal_kind)header.kind,
                                   .key = (const char *)cursor->ops + sizeof(header),
                                   .key_bytes = (uint32_t)key_bytes,
                                   .value = cursor->ops + sizeof(header) + key_bytes,
                                   .value_bytes = (uint32_t)value_bytes,
                                   .version = torc_get_le64(header.version)};
    cursor->ops += sizeof(header) + key_bytes + value_bytes;
    cursor->ops_bytes -= sizeof(header) + key_bytes + value_bytes;
    cursor->op_count--;
    return true;
}

bool torc_journal_is_damage(const unsigned char *bytes, uint64_t byte_count, uint64_t revision)
{
    for (uint64_t at = 1; at < byte_count; at++) {
        struct torc_journal_read read = torc_journal_entry_read(bytes + at, byte_count - at);

        // A later revision, and not one that chance could make of a tail's bytes.
        if (read.entry_bytes > 0 && read.op_count > 0 && read.revision > revision &&
            read.revision - revision <= UINT32_MAX) {
            return true;
        }
    }
    return false;
}
