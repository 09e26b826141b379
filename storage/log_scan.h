// Torc storage: how much of a stream is good. Torn, or damaged?
//
// What    looks at all segments of one stream after a restart and says which blocks are kept. The
//         rule is DESIGN.md's (section 5): the highest `durable` in any valid block is the line. A
//         block that is missing or bad at or below it is damage: CORRUPT. Above it whole blocks
//         before the first gap are kept; the rest is a torn tail and is cut. A whole block of a
//         version that this program does not read is neither: UNSUPPORTED_VERSION.
// Owner   control's recovery. Pure: takes bytes, gives places.
// Memory  the caller's struct and its array of segments.
// Use     1. read the first slot of every file log/<stream>-<n>, pass it to torc_log_segment_check;
//            one that fails was never finished preparing, or is damaged: torc_log_scan_end tells,
//            since a durable block in it would then be missing. Leave it out.
//         2. sort the others by segment number, fill one struct torc_log_scan_segment each.
//         3. torc_log_scan_begin; then for each segment its bytes from the second slot on, in
//            windows: torc_log_scan_feed says how far it came; slide the window and go on.
//         4. torc_log_scan_end. Kept blocks of a segment lie one behind the other from the second
//            slot up to its `kept_end_bytes`: those are what recovery reads and sends to the
//            workers.
//         5. Sync all files with kept blocks above the line before anything counts on them
//            (result.sync). The writer goes on with a NEW segment: number last_segment + 1,
//            generation above all seen, first_sequence = result.next_sequence, which makes it a
//            cut: blocks of older segments at or above it are void from then on.
// Generation  a reused file still holds blocks of its former use; they carry another generation.
//         Make generations hard to guess (random, or a counter and a secret's hash): a client's
//         value may lie where a block is expected, after a tear.
// Invariants
//   N1  what is kept is a run of consecutive sequences, from the first block found on.
//   N2  every block at or below the line is kept, or the result is CORRUPT.
// Sources DESIGN.md section 5; Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014).
#ifndef TORC_STORAGE_LOG_SCAN_H
#define TORC_STORAGE_LOG_SCAN_H

#include "storage/log_format.h"

// What a feed wants to see at once, unless the segment ends before.
#define TORC_LOG_SCAN_WINDOW_BYTES 524288u // twice a block

struct torc_log_scan_segment {
    struct torc_log_segment header; // in: as torc_log_segment_check gave it
    uint64_t first_sequence;        // out: of the first kept block; 0: none
    uint64_t last_sequence;         // out: of the last kept one
    uint32_t kept_end_bytes;        // out: TORC_LOG_SLOT_BYTES when none
    uint64_t void_from;             // own: blocks from this sequence on are void
};

struct torc_log_scan_result {
    uint64_t first_sequence; // of the kept blocks; 0: none
    uint64_t last_sequence;  // 0: none
    // Where the writer goes on: last + 1, at least the last cut's; 1 when nothing was ever found.
    // Control keeps one segment with a durable block when it trims, so that this never goes back.
    uint64_t next_sequence;
    uint64_t line;        // durable up to here, by the blocks' own word
    uint64_t ceiling;     // highest in a kept block
    uint64_t torn_blocks; // valid ones above the first gap, cut
    bool sync;            // kept blocks above the line: sync before use
};

struct torc_log_scan {
    struct torc_log_scan_segment *segments;
    uint32_t segment_count;
    uint32_t at;            // segment being fed
    uint64_t offset_bytes;  // in it, of the next byte wanted
    uint64_t next_sequence; // expected; 0: no block seen yet
    uint64_t first_sequence;
    uint64_t line;
    uint64_t ceiling;
    uint64_t torn_blocks;
    uint64_t cut; // highest first_sequence of a header
    // The first place where the run broke.
    bool broken;
    uint32_t broken_segment;
    uint32_t broken_offset_bytes;
    bool hole; // bytes without a block came before this place of the segment
    // The first block of a version that this program does not read; 0: there is none.
    uint32_t unknown_version;
    uint32_t unknown_segment;
    uint32_t unknown_offset_bytes;
};

// `segments` rise by number; all of one cluster, node and stream (CORRUPT otherwise, or when two
// have one number).
enum torc_err torc_must_use torc_log_scan_begin(struct torc_log_scan *scan,
                                                struct torc_log_scan_segment *segments,
                                                uint32_t segment_count, struct torc_fail *why);

// Bytes of the current segment from `scan->offset_bytes` on; `last`: the segment ends with them
// (the file may be shorter than its header says). Returns how many were consumed: when fewer than
// given and not `last`, more bytes must come with what was left. After the last byte it goes to the
// next segment by itself.
uint64_t torc_log_scan_feed(struct torc_log_scan *scan, const void *bytes, uint64_t byte_count,
                            bool last);

// All segments were fed. CORRUPT: damage, and the text says where and how much is certain.
// UNSUPPORTED_VERSION: a newer program wrote a block, which may have been acknowledged.
enum torc_err torc_must_use torc_log_scan_end(struct torc_log_scan *scan,
                                              struct torc_log_scan_result *result,
                                              struct torc_fail *why);

#endif
