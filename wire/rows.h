// Torc wire: the chunk of a range: rows by column, with the interval that they cover.
//
// What    the body of a reply to RANGE_READ or RANGE_OPEN. A chunk says which keys it *covers*, not
//         only which it holds: a client tiles covers, so that a hole shows whatever was lost.
//             0 cover lo u64 · 8 cover hi u64 · 16 chunk u32 · 20 rows u16 · 22 encoding u8 · 23
//             flags u8 24 base key u64 · 32 columns, unpadded:
//             key - base [rows]           u16, u32 or u64: encoding bits 0-1 = 0, 1, 2
//             value end offset u32 [rows] one common length u32 with bit 2; absent with bit 3
//             version u64 [rows]          with bit 4
//             bytes of the values
//             count u64                   with bit 5, and then rows is 0 and nothing else follows
//         A value by reference (flag 2 set in the chunk, top bit set in its end offset) is a u32,
//         the value's total length, in place of its bytes; the client gets it by key.
// Owner   the caller's struct; a worker has one builder.
// Memory  inside the structs. Rows given to a builder are pointers: what they point to stays until
//         torc_rows_write.
// Order   rows ascend strictly, or descend strictly in a reverse range; `base` is the smallest key.
// Sources docs/PROTOCOL.md, section 7.
#ifndef TORC_WIRE_ROWS_H
#define TORC_WIRE_ROWS_H

#include "wire/op.h"

#define TORC_ROWS_HEAD_BYTES 32u
// of one chunk; a jumbo packet holds no more than that of real rows
#define TORC_ROWS_MAX 4096u

enum torc_rows_flag {
    TORC_ROWS_LAST = 1,     // the range, or its limit, ends with this chunk
    TORC_ROWS_REFERENCE = 2 // some values are given by reference
};

enum torc_rows_encoding {
    TORC_ROWS_KEY_MASK = 3, // 0: u16, 1: u32, 2: u64
    TORC_ROWS_SAME_LENGTH = 4,
    TORC_ROWS_NO_VALUES = 8,
    TORC_ROWS_VERSIONS = 16,
    TORC_ROWS_COUNT = 32
};

#define TORC_ROWS_TOP_BIT 0x80000000u

struct torc_rows_item {
    uint64_t key;
    uint64_t version;           // 0 unless asked for
    const unsigned char *value; // NULL: by reference, or keys only
    uint32_t value_bytes;       // by reference: the total
    bool by_reference;
};

// -- Writing -------------------------------------------------------------------------------------

struct torc_rows_builder {
    uint32_t room;  // bytes of reply body, at most
    uint32_t flags; // TORC_RANGE_* of the request that change the layout
    uint32_t count;
    uint32_t value_bytes; // of the area behind the columns
    uint32_t first_bytes; // of the first row's value
    bool same_length;     // all so far
    bool has_reference;
    bool reverse;
    uint64_t key_low;
    uint64_t key_high;
    struct torc_rows_item items[TORC_ROWS_MAX];
};

// An empty chunk of at most `room` bytes of body (>= TORC_ROWS_HEAD_BYTES + 32); `flags` are those
// of the request (TORC_RANGE_REVERSE, _KEYS_ONLY, _WITH_VERSIONS).
void torc_rows_begin(struct torc_rows_builder *builder, uint32_t room, uint32_t flags);

// Adds the next row. False: it does not fit and the chunk is unchanged. A value that does not fit
// an empty chunk either must be added by reference.
bool torc_rows_add(struct torc_rows_builder *builder, const struct torc_rows_item *item);

// Largest value that fits one chunk of `room` as its only row.
uint32_t torc_rows_value_max(uint32_t room, uint32_t flags);

// Where a chunk stands in its range.
struct torc_rows_place {
    uint64_t cover_lo;
    uint64_t cover_hi; // exclusive; all keys of the chunk are inside
    uint32_t chunk;
    uint32_t flags; // TORC_ROWS_LAST or 0
};

// Writes the body; its exact bytes (at most `room`).
uint32_t torc_rows_write(const struct torc_rows_builder *builder,
                         const struct torc_rows_place *place, unsigned char *body);

// The body of a count: 40 bytes.
#define TORC_ROWS_COUNT_BYTES 40u
void torc_rows_write_count(const struct torc_rows_place *place, uint64_t count,
                           unsigned char body[TORC_ROWS_COUNT_BYTES]);

// -- Reading -------------------------------------------------------------------------------------

struct torc_rows {
    struct torc_rows_place place;
    uint32_t count; // rows
    uint32_t encoding;
    uint64_t base;
    uint64_t counted; // with TORC_ROWS_COUNT
    const unsigned char *keys;
    const unsigned char *ends;     // or the one length
    const unsigned char *versions; // or NULL
    const unsigned char *bytes;    // or NULL
};

// Any bytes: BAD_PACKET with what is wrong, or a chunk whose rows are all inside the body, in order
// and inside its cover.
enum torc_err torc_must_use torc_rows_decode(struct torc_rows *rows, const unsigned char *body,
                                             uint32_t body_bytes, bool reverse,
                                             struct torc_fail *why);

// Bytes of all values of a decoded chunk together. False: some are by reference, their lengths are
// not in it.
bool torc_rows_value_bytes(const struct torc_rows *rows, uint64_t *bytes);

// Row `index` of a decoded chunk.
void torc_rows_at(const struct torc_rows *rows, uint32_t index, struct torc_rows_item *item);

#endif
