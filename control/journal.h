// Torc control: the bytes of the file metastore's journal.
//
// What    a header, then entries; an entry is one transaction: records put or deleted. Encoding,
//         decoding, and telling a torn tail from damage. Field by field: docs/FORMATS.md.
// Owner   control/metastore_os.c, under the store's lock. Pure functions over the caller's bytes.
// Invariants
//   J1  Revisions rise by one from entry to entry; snapshot entries, written by compaction before
//       anything else, all carry the revision the store had then.
//   J2  An append is synced before the lock is let go, so only the last entry can be torn. A bad
//       entry with a good one of a later revision behind it is damage.
//   J3  Snapshot entries are complete before the file gets its name: a bad one is damage.
// Sources REPLICATION.md M6.
#ifndef TORC_CONTROL_JOURNAL_H
#define TORC_CONTROL_JOURNAL_H

#include "kit/fail.h"
#include "kit/le.h"

#define TORC_JOURNAL_VERSION       1u
#define TORC_JOURNAL_MACHINE_BYTES 16u
#define TORC_JOURNAL_KEY_MAX       96u   // "shard/4294967295" and room for longer families
#define TORC_JOURNAL_VALUE_MAX     4096u // a record of a shard with 7 members is below 1 KiB
#define TORC_JOURNAL_OPS_MAX       128u  // M5 wants 64 shards, beside them conditions
#define TORC_JOURNAL_ENTRY_MAX     (1u << 20)

struct torc_journal_header {
    uint8_t magic[8]; // "torcmeta"
    struct torc_le32 version;
    struct torc_le32 header_bytes;
    uint8_t machine[TORC_JOURNAL_MACHINE_BYTES];
    struct torc_le32 snapshot_entries; // that many entries come first and are complete (J3)
    uint8_t zero[24];
    struct torc_le32 crc; // CRC32C of all before it
};

_Static_assert(sizeof(struct torc_journal_header) == 64, "on disk");

#define TORC_JOURNAL_SNAPSHOT 1u // flag: written by compaction

struct torc_journal_entry {
    struct torc_le32 crc;   // CRC32C of all behind it, to the entry's end
    struct torc_le32 bytes; // of the entry, this header included
    struct torc_le64 revision;
    struct torc_le32 op_count;
    struct torc_le32 flags;
};

_Static_assert(sizeof(struct torc_journal_entry) == 24, "on disk");

enum torc_journal_kind {
    TORC_JOURNAL_PUT = 1,
    TORC_JOURNAL_DELETE = 2,
};

struct torc_journal_op_header {
    uint8_t kind;
    uint8_t zero;
    struct torc_le16 key_bytes;
    struct torc_le32 value_bytes;
    struct torc_le64 version; // revision in which the record was last changed
};

_Static_assert(sizeof(struct torc_journal_op_header) == 16, "on disk");

struct torc_journal_op {
    enum torc_journal_kind kind;
    const char *key; // key_bytes long, not ended by a zero when decoded
    uint32_t key_bytes;
    const void *value;
    uint32_t value_bytes;
    uint64_t version;
};

void torc_journal_header_make(struct torc_journal_header *header, const uint8_t *machine,
                              uint32_t snapshot_entries);

// CORRUPT, UNSUPPORTED_VERSION, or IN_USE when another machine made it.
enum torc_err torc_must_use torc_journal_header_check(const struct torc_journal_header *header,
                                                      const uint8_t *machine,
                                                      struct torc_fail *why);

// Bytes that these operations take as one entry; 0 when they do not fit any.
uint64_t torc_journal_entry_bytes(const struct torc_journal_op *ops, uint32_t op_count);

// Writes them; `entry` holds torc_journal_entry_bytes().
void torc_journal_entry_make(void *entry, const struct torc_journal_op *ops, uint32_t op_count,
                             uint64_t revision, uint32_t flags);

// What lies at the start of `bytes`.
struct torc_journal_read {
    uint64_t entry_bytes; // 0: no good entry here
    uint64_t revision;
    uint32_t op_count;
    uint32_t flags;
    const unsigned char *ops; // for torc_journal_op_next
    uint64_t ops_bytes;
};

struct torc_journal_read torc_journal_entry_read(const unsigned char *bytes, uint64_t byte_count);

// The next operation of an entry that was read; moves the cursor. False when there is none, or
// (never after a good CRC of ours) when it makes no sense: then `op_count` of the cursor is not
// yet 0.
bool torc_must_use torc_journal_op_next(struct torc_journal_read *cursor,
                                        struct torc_journal_op *op);

// J2: `bytes` begin where no good entry does; is there one of a later revision anywhere behind?
bool torc_journal_is_damage(const unsigned char *bytes, uint64_t byte_count, uint64_t revision);

#endif
