// Torc storage: the bytes of the log. Segments, blocks, records; building and reading them.
//
// What    A stream is a numbered sequence of blocks. It lies in segments, files `log/<stream>-<n>`
//         of one size, written with zeros ahead of time. A segment begins with a header of one slot
//         (4 KiB); from the second slot on blocks lie one behind the other, each of whole slots and
//         at most 256 KiB, none over a segment's end. A block:
//
//           header 96 B │ carry │ records │ dictionary of shards │ dictionary of clients │ zeros
//
//         Records are a few bytes and their value: the LSN is implied (dictionary's first LSN, then
//         one up), HLC, sequence and low are varint deltas, shard and client are places in the
//         dictionaries. docs/FORMATS.md has every byte.
//         A record whose value does not fit its block goes on in the next: there its bytes are the
//         `carry`, before any record. A stream holds at most one unfinished record, at the end of a
//         block. When the next block of the stream carries nothing (the tail was cut there), the
//         record never happened: its LSN is free again.
// Owner   a builder: the worker that fills the block. Reading: anybody, nothing is kept.
// Memory  a block is built where the caller says (slots of the channel's log ring), at most
//         `capacity_bytes`; the builder keeps the dictionaries (36 KiB) until it is sealed.
// Place   sequence, segment, offset, generation, `durable` are known when a block is sealed, and go
//         into its header; control writes the block there as it lies. `durable` is the highest
//         sequence that the filler knew to be on disk: what recovery may not miss.
// Invariants
//   G1  sequence rises by one a block over the whole stream, whatever the segments.
//   G2  All bytes of a block but the CRC's own are under its CRC32C, the padding included.
//   G3  A shard's records in one block and under one dictionary entry have consecutive LSNs.
//   G4  Every shard that a block has bytes of, carried ones too, is in its dictionary, with shard,
//       epoch and turn; a shard may have several entries (a new epoch, a new turn).
// Reading is total: any bytes give a result or CORRUPT / UNSUPPORTED_VERSION with a text.
// Sources DESIGN.md section 5; varints as in protobuf (LEB128), zigzag for signed ones.
#ifndef TORC_STORAGE_LOG_FORMAT_H
#define TORC_STORAGE_LOG_FORMAT_H

#include "kit/fail.h"
#include "kit/le.h"

#define TORC_LOG_SEGMENT_MAGIC   0x67657354u // "Tseg"
#define TORC_LOG_BLOCK_MAGIC     0x676f6c54u // "Tlog"
#define TORC_LOG_VERSION         1u // of segments; of blocks that a reader of it understands
#define TORC_LOG_VERSION_BEGUN   2u // of blocks with a BEGUN
#define TORC_LOG_SLOT_BYTES      4096u
#define TORC_LOG_BLOCK_BYTES_MAX (256u * 1024u)
#define TORC_LOG_SHARDS_MAX      64u   // dictionary entries of one block
#define TORC_LOG_CLIENTS_MAX     1024u // likewise
#define TORC_LOG_VALUE_BYTES_MAX (16u << 20)
// A record without its value and a new dictionary entry each: what it may need at most.
#define TORC_LOG_RECORD_BYTES_MAX 64u
// A value is begun in a block only when at least this much of it fits.
#define TORC_LOG_PIECE_BYTES_MIN 1024u

// The first slot of a segment; the rest of the slot is zero.
struct torc_log_segment_header {
    struct torc_le32 magic;
    struct torc_le16 version;
    struct torc_le16 zero;
    struct torc_le64 cluster;
    struct torc_le32 node;
    struct torc_le32 stream;
    struct torc_le32 segment;
    struct torc_le32 segment_bytes;  // of the file
    struct torc_le64 generation;     // of this use of the file: blocks of another one are not there
    struct torc_le64 first_sequence; // > 0: a cut. Blocks of older segments at or above it are void
    struct torc_le32 zero2;
    struct torc_le32 crc; // of the 52 bytes before it
};

_Static_assert(sizeof(struct torc_log_segment_header) == 56, "on disk");

enum torc_log_block_flag {
    TORC_LOG_CLOSING = 1,    // no records: written when writes pause, for its `durable`
    TORC_LOG_UNFINISHED = 2, // its last record (or its carry) goes on in the next block
};

struct torc_log_block_header {
    struct torc_le32 magic;
    struct torc_le16 version;
    struct torc_le16 flags;         // enum torc_log_block_flag
    struct torc_le32 byte_count;    // whole slots
    struct torc_le32 payload_bytes; // behind the header; then zeros
    struct torc_le32 crc;           // of byte_count bytes, these four left out
    struct torc_le32 stream;
    struct torc_le32 segment;
    struct torc_le32 offset_bytes; // in the segment
    struct torc_le64 sequence;
    struct torc_le64 generation;
    struct torc_le64 durable;
    struct torc_le64 ceiling; // REPLICATION.md H6; 0: none
    struct torc_le64 cluster;
    struct torc_le32 node;
    struct torc_le32 carry_bytes; // of the previous block's unfinished record
    struct torc_le32 record_count;
    struct torc_le32 record_bytes; // of the records
    struct torc_le16 shard_count;
    struct torc_le16 client_count;
    struct torc_le32 zero;
};

_Static_assert(sizeof(struct torc_log_block_header) == 96, "on disk");
_Static_assert(offsetof(struct torc_log_block_header, sequence) == 32, "on disk");
_Static_assert(offsetof(struct torc_log_block_header, record_count) == 80, "on disk");

struct torc_log_shard_entry {
    struct torc_le32 shard;
    struct torc_le32 epoch;
    struct torc_le32 turn; // how often the shard changed its stream (DESIGN.md section 5)
    // first_lsn less the LSN up to which the shard was known committed then; 0: it does not say
    struct torc_le32 behind;
    struct torc_le64 first_lsn; // of the entry's first record here (or of the one after the carry)
    struct torc_le64 base_hlc;  // of the same; deltas begin here
};

struct torc_log_client_entry {
    struct torc_le64 client;
    struct torc_le64 base_seq; // of its first record here
    struct torc_le32 principal;
    struct torc_le32 zero;
};

_Static_assert(sizeof(struct torc_log_shard_entry) == 32, "on disk");
_Static_assert(sizeof(struct torc_log_client_entry) == 24, "on disk");

// A record is: kind (with TORC_LOG_WITH_CLIENT) u8 · shard place varint · HLC delta varint ·
// [client place varint · seq delta zigzag · seq − low varint] · by kind.
enum torc_log_kind {
    TORC_LOG_PUT = 1,    // key varint · value length varint · value
    TORC_LOG_DELETE = 2, // key varint
    TORC_LOG_EPOCH = 3,  // the first record of its entry's epoch
    TORC_LOG_MOVED = 4,  // takes no LSN: the shard's records go on here, with the entry's turn
    TORC_LOG_EMPTY = 5,  // only moves HLC, and a client's low if it names one
    // Takes no LSN: what the log held of the shard before counts no more. Behind it the shard goes
    // on from a base (storage/base.h) of the LSN below its own, or with LSN 1 from nothing.
    TORC_LOG_BEGUN = 6,
};

static inline bool torc_log_kind_has_lsn(enum torc_log_kind kind)
{
    return kind != TORC_LOG_MOVED && kind != TORC_LOG_BEGUN;
}

#define TORC_LOG_WITH_CLIENT 0x80u // beside the kind: client place, seq and low follow

// A record in memory: what is written, and what reading gives back.
struct torc_log_record {
    enum torc_log_kind kind;
    bool with_client;
    uint32_t shard;
    uint32_t epoch;
    uint32_t turn;
    uint64_t lsn; // MOVED and BEGUN: of the record after it
    uint64_t hlc;
    uint32_t principal;
    uint32_t value_bytes; // of the whole value
    uint64_t client;
    uint64_t seq;
    uint64_t low; // <= seq
    uint64_t key;
    const void *value;
    uint32_t piece_bytes; // reading: of the value, in this block; less than value_bytes: it goes on
    // Known committed when it was appended; reading: when the first of its entry was. 0: unknown.
    uint64_t commit_lsn;
};

// -- Building -----------------------------------------------------------------------------------

// One shard of the block being built. `last_lsn` is of its last whole record here, 0 if none: when
// the block is durable, the shard may commit up to it.
struct torc_log_builder_shard {
    uint32_t shard;
    uint32_t epoch;
    uint32_t turn;
    uint64_t first_lsn;
    uint64_t next_lsn;
    uint64_t base_hlc;
    uint64_t last_hlc;
    uint64_t last_lsn;
    uint64_t commit_lsn; // of the entry's first record
};

struct torc_log_builder_client {
    uint64_t client;
    uint64_t base_seq;
    uint64_t last_seq;
    uint32_t principal;
};

struct torc_log_builder {
    unsigned char *memory; // NULL: no block begun
    uint32_t capacity_bytes;
    uint32_t used_bytes; // header, carry and records
    uint32_t carry_bytes;
    uint32_t record_count;
    uint32_t shard_count;
    uint32_t client_count;
    uint32_t version;
    bool unfinished;
    struct torc_log_builder_shard shards[TORC_LOG_SHARDS_MAX];
    struct torc_log_builder_client clients[TORC_LOG_CLIENTS_MAX];
    uint16_t client_table[2 * TORC_LOG_CLIENTS_MAX]; // hash of (principal, client) to place + 1
};

// What a block's header says about its place; the caller counts.
struct torc_log_place {
    uint64_t cluster;
    uint64_t sequence;
    uint64_t generation;
    uint64_t durable;
    uint64_t ceiling;
    uint32_t node;
    uint32_t stream;
    uint32_t segment;
    uint32_t offset_bytes;
    bool closing; // and then the block is empty
};

// Begins a block in `memory`: capacity_bytes is a multiple of a slot, 1 slot up to
// TORC_LOG_BLOCK_BYTES_MAX. The memory need not be zero.
void torc_log_block_begin(struct torc_log_builder *builder, void *memory, uint32_t capacity_bytes);

// Bytes that a record needs at most in a block, new dictionary entries included; may exceed a
// block.
uint64_t torc_log_record_bytes(const struct torc_log_record *record);

// Writes the record, or the next piece of its value. *value_done is 0 at the first call and belongs
// to the caller until the record is in. True: it is wholly in. False: this block is full; seal it,
// begin the next, and call again with the same arguments before anything else is appended. (False
// with *value_done unchanged and the block empty cannot happen: an empty block takes a piece of any
// record.) A record is cut in two only when it is larger than a block of this capacity.
bool torc_must_use torc_log_block_append(struct torc_log_builder *builder,
                                         const struct torc_log_record *record,
                                         uint32_t *value_done);

// Bytes that the block would have if it were sealed now: whole slots.
uint32_t torc_log_block_bytes(const struct torc_log_builder *builder);

// Nothing was appended since begin.
bool torc_log_block_is_empty(const struct torc_log_builder *builder);

// Finishes the block (dictionaries, zeros, header, CRC) and returns its bytes, whole slots. The
// builder's shards[] stay readable until the next begin.
uint32_t torc_log_block_seal(struct torc_log_builder *builder, const struct torc_log_place *place);

// -- Reading ------------------------------------------------------------------------------------

// A checked block: lengths hold, CRC holds, reserved fields are zero.
struct torc_log_block {
    const unsigned char *bytes; // the header's first
    struct torc_log_place place;
    uint32_t byte_count;
    uint32_t carry_bytes;
    uint32_t record_count;
    uint32_t record_bytes;
    uint32_t shard_count;
    uint32_t client_count;
    uint32_t version;
    bool unfinished;
};

// Checks the block at the start of `bytes`, of which `available_bytes` are there. CORRUPT when it
// is none, is cut short, or fails its CRC. Offset, segment, generation are the caller's to compare.
enum torc_err torc_must_use torc_log_block_check(const void *bytes, uint64_t available_bytes,
                                                 struct torc_log_block *block,
                                                 struct torc_fail *why);

// The bytes a block needs, by its header alone (magic and version hold, length is legal); 0: none.
uint32_t torc_log_block_peek(const void *bytes, uint64_t available_bytes);

// The same of a block of any version: a later one keeps the header's fields and their places.
uint32_t torc_log_block_length(const void *bytes, uint64_t available_bytes);

// The version of a block that is there whole, by its CRC, and that this program does not read; 0:
// it is none.
uint32_t torc_log_block_unknown(const void *bytes, uint64_t available_bytes);

// Entry `index` of the dictionary of shards.
void torc_log_block_shard(const struct torc_log_block *block, uint32_t index,
                          struct torc_log_builder_shard *shard);

// The carried bytes (block->carry_bytes of them).
const void *torc_log_block_carry(const struct torc_log_block *block);

// Walks a block's records. Big: keep it in a long-lived struct.
struct torc_log_reader {
    const struct torc_log_block *block;
    uint32_t offset;
    uint32_t left; // records
    uint64_t next_lsn[TORC_LOG_SHARDS_MAX];
    uint64_t last_hlc[TORC_LOG_SHARDS_MAX];
    uint64_t last_seq[TORC_LOG_CLIENTS_MAX];
};

void torc_log_reader_init(struct torc_log_reader *reader, const struct torc_log_block *block);

// The next record; *more is false, and the record untouched, after the last. A value whose
// piece_bytes < value_bytes goes on in the next block. CORRUPT when a record does not decode.
enum torc_err torc_must_use torc_log_reader_next(struct torc_log_reader *reader,
                                                 struct torc_log_record *record, bool *more,
                                                 struct torc_fail *why);

// -- Segments -----------------------------------------------------------------------------------

struct torc_log_segment {
    uint64_t cluster;
    uint64_t generation;
    uint64_t first_sequence;
    uint32_t node;
    uint32_t stream;
    uint32_t segment;
    uint32_t segment_bytes;
};

// Writes a segment's first slot, TORC_LOG_SLOT_BYTES.
void torc_log_segment_write(void *slot, const struct torc_log_segment *segment);

enum torc_err torc_must_use torc_log_segment_check(const void *slot,
                                                   struct torc_log_segment *segment,
                                                   struct torc_fail *why);

// -- Fillers in the channel's log ring (kit/chan.h, C1) -----------------------------------------

// Marks `slot_count` slots (1 or more), of which `slot` is the first, to be skipped.
void torc_log_filler_write(void *slot, uint32_t slot_count);

// Slots to skip, or 0: not a filler.
uint32_t torc_log_filler_slots(const void *slot);

#endif
