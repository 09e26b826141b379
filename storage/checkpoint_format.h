// Torc storage: the bytes of a checkpoint file. Field by field in docs/FORMATS.md.
//
// What    one shard: header (128 B), then blocks, each with a header of 32 B and a CRC32C of its
//         own, the last of them the footer. Blocks of records come first, in rising order of keys
//         over the whole file; then blocks of the completion table. A value that does not fit its
//         block goes on in blocks of kind MORE. No block is larger than
//         TORC_CHECKPOINT_BLOCK_BYTES_MAX, which is what one message of the channel's bulk rings
//         holds.
// Owner   written by the shard's worker (storage/checkpoint.h), kept by control as bytes.
// Memory  none: layouts only.
//
// Fuzzy: the file is made while the shard serves, slice by slice; each slice shows the tree of its
// own moment. Let s be the header's LSN (all records up to s were applied when the first slice was
// taken) and e the footer's (the last applied at the last slice). Claim: loading the file and then
// replaying the log's records s+1, s+2, … in order of LSN, each only if its HLC is above the
// version that the tree then has for its key, gives from e on exactly the state that the shard had.
// Take one key k.
//   - No record of (s, e] names k: it was the same in every slice, the file has it as it was, and
//     replay does not touch it.
//   - Else let r be the last record of (s, e] that names k. The slice that passed k showed the
//     effect of some record q <= r in LSN (or of none after s), so the file has k with version
//     hlc(q), or not at all. Replay meets r. If r is a put: the tree's version of k is then below
//     hlc(r), and r's value goes in; or it is hlc(r) itself, from the file, and the value already
//     is r's (one HLC, one record: HLCs rise strictly with LSN). If r is a delete: whatever put of
//     k is in the tree has a version below hlc(r), so it goes; nothing after r in (s, e] brings it
//     back.
//   - Records of k before r may find a version above their own and are skipped, or put back a value
//     that the file no longer had (k was deleted before its slice): only until r.
// So a writer may leave out what a slice shows of records above s, and does: the file is then a
// part of the shard at s, and what replay has behind each record a part of what the shard had
// behind it, which fitted its memory. (Of low keys that are deleted behind the walk and high ones
// that are put before it, it would hold both.) Readers take both kinds of file.
// Deletes leave no tombstone, so this needs replay in order of LSN without a hole from s+1, and up
// to e at least: below e the state is none that ever was. So the footer names e and the sequence of
// the block that holds it; control keeps a file only when the log is durable up to there, and
// replay refuses a log that ends before e. A value that changes while it is being cut into MORE
// blocks is given up in the file (TORC_CHECKPOINT_GIVEN_UP): the change is a record above s, which
// replay has. Completions: a record above s that is in the file too is put again, which changes
// nothing; one that was dropped by a low or by age before its slice is put again by replay and
// dropped again by the same low or age, which the log carries.
// Only applied, that is committed, records are in a file, so no later record cancels them (A1).
#ifndef TORC_STORAGE_CHECKPOINT_FORMAT_H
#define TORC_STORAGE_CHECKPOINT_FORMAT_H

#include "kit/le.h"

#define TORC_CHECKPOINT_MAGIC           0x706b6354u // "Tckp"
#define TORC_CHECKPOINT_BLOCK_MAGIC     0x626b6354u // "Tckb"
#define TORC_CHECKPOINT_VERSION         1u
#define TORC_CHECKPOINT_BLOCK_BYTES_MAX 65504u // one message of the bulk rings
#define TORC_CHECKPOINT_BLOCK_BYTES_MIN 4096u  // what a writer asks for at least

struct torc_checkpoint_header {
    struct torc_le32 magic;
    struct torc_le16 version;
    struct torc_le16 zero;
    struct torc_le64 cluster;
    struct torc_le32 node;
    struct torc_le32 shard;
    struct torc_le64 lo;
    struct torc_le64 hi;    // exclusive
    struct torc_le32 epoch; // of the record at `lsn`; 0: there is none
    struct torc_le32 turn;  // of the shard, when it began
    struct torc_le64 lsn;   // s above: records up to here are in it
    struct torc_le64 hlc;   // the highest that the shard had stamped or seen
    struct torc_le64 ceiling;
    struct torc_le64 checkpoint; // control's number
    // no record above `lsn` begins in an earlier block of the stream
    struct torc_le64 start_sequence;
    struct torc_le32 stream;
    struct torc_le32 zero2;
    struct torc_le64 zero3[3];
    struct torc_le32 zero4;
    struct torc_le32 crc; // of the 124 bytes before it
};

_Static_assert(sizeof(struct torc_checkpoint_header) == 128, "on disk");

enum torc_checkpoint_kind {
    TORC_CHECKPOINT_RECORDS = 1, // count × key delta · version delta zigzag · length · value
    TORC_CHECKPOINT_MORE = 2,    // more of the value that the last block left unfinished
    TORC_CHECKPOINT_CLIENTS = 3, // count × client, see below
    TORC_CHECKPOINT_FOOTER = 4,  // struct torc_checkpoint_footer
};

enum torc_checkpoint_flag {
    TORC_CHECKPOINT_UNFINISHED = 1, // the last value goes on in a block of kind MORE
    TORC_CHECKPOINT_GIVEN_UP = 2,   // MORE, empty: forget the value begun; replay has a newer one
};

struct torc_checkpoint_block {
    struct torc_le32 magic;
    uint8_t kind;  // enum torc_checkpoint_kind
    uint8_t flags; // enum torc_checkpoint_flag
    struct torc_le16 zero;
    struct torc_le32 index; // 0 for the first block
    struct torc_le32 count; // of entries
    struct torc_le32 payload_bytes;
    struct torc_le64 zero2;
    struct torc_le32 crc; // of header and payload, these four left out
};

_Static_assert(sizeof(struct torc_checkpoint_block) == 32, "on disk");

// Varints. A record: key - previous key of the block (from 0), zigzag(version - previous version of
// the block (from 0)), value bytes, value. A client: principal, client, low, last HLC, number of
// completions in two bytes (low seven bits first, the first byte's top bit set), and for each of
// them zigzag(seq - previous seq (from low)), zigzag(version - previous version (from last HLC)). A
// client with many completions may come in several entries, and more than once.

struct torc_checkpoint_footer {
    struct torc_le64 record_count; // given up ones not counted
    struct torc_le64 value_bytes;
    struct torc_le64 client_count; // entries
    struct torc_le64 completion_count;
    struct torc_le64 end_lsn; // e above
    struct torc_le64 end_hlc;
    struct torc_le64 end_sequence; // the log must be durable up to here
    struct torc_le32 block_count;  // the footer included
    struct torc_le32 zero;
};

_Static_assert(sizeof(struct torc_checkpoint_footer) == 64, "on disk");

#endif
