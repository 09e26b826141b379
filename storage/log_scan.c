// Torc storage: telling a torn tail from damage. See storage/log_scan.h.
#include "storage/log_scan.h"

#include <string.h>

enum torc_err torc_log_scan_begin(struct torc_log_scan *scan,
                                  struct torc_log_scan_segment *segments, uint32_t segment_count,
                                  struct torc_fail *why)
{
    *scan = (struct torc_log_scan){
        .segments = segments, .segment_count = segment_count, .offset_bytes = TORC_LOG_SLOT_BYTES};
    for (uint32_t i = 0; i < segment_count; i++) {
        const struct torc_log_segment *header = &segments[i].header;

        if (header->cluster != segments[0].header.cluster ||
            header->node != segments[0].header.node ||
            header->stream != segments[0].header.stream) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "log segment %" PRIu32 ": of another cluster, node or stream than "
                             "segment %" PRIu32,
                             header->segment, segments[0].header.segment);
        }
        if (i > 0 && header->segment <= segments[i - 1].header.segment) {
            return torc_fail(why, TORC_ERR_CORRUPT, "log segment %" PRIu32 ": there twice",
                             header->segment);
        }
    }
    for (uint32_t i = segment_count; i > 0; i--) {
        struct torc_log_scan_segment *segment = &segments[i - 1];

        segment->first_sequence = 0;
        segment->last_sequence = 0;
        segment->kept_end_bytes = TORC_LOG_SLOT_BYTES;
        segment->void_from = scan->cut == 0 ? UINT64_MAX : scan->cut;
        // Cuts rise with the segments; of two that do not, the lower one voids more.
        if (segment->header.first_sequence != 0 &&
            (scan->cut == 0 || segment->header.first_sequence < scan->cut)) {
            scan->cut = segment->header.first_sequence;
        }
    }
    // Whoever made a cut had synced everything below it.
    for (uint32_t i = 0; i < segment_count; i++) {
        scan->cut = torc_max_u64(scan->cut, segments[i].header.first_sequence);
    }
    scan->line = scan->cut == 0 ? 0 : scan->cut - 1;
    return TORC_ERR_OK;
}

// Whether the block that is said to begin here could be one of this segment. Its CRC is not asked:
// blocks of a file's former use are many, and most are of another generation.
static bool scan_is_ours(const struct torc_log_scan *scan, const unsigned char *bytes)
{
    const struct torc_log_segment *segment = &scan->segments[scan->at].header;
    struct torc_log_block_header header;

    memcpy(&header, bytes, sizeof(header));
    return torc_get_le64(header.generation) == segment->generation &&
           torc_get_le64(header.cluster) == segment->cluster &&
           torc_get_le32(header.node) == segment->node &&
           torc_get_le32(header.stream) == segment->stream &&
           torc_get_le32(header.segment) == segment->segment &&
           torc_get_le32(header.offset_bytes) == scan->offset_bytes;
}

static void scan_break(struct torc_log_scan *scan)
{
    if (!scan->broken) {
        scan->broken = true;
        scan->broken_segment = scan->segments[scan->at].header.segment;
        scan->broken_offset_bytes = scan->segments[scan->at].kept_end_bytes;
    }
    scan->torn_blocks++;
}

static void scan_block(struct torc_log_scan *scan, const struct torc_log_block *block)
{
    struct torc_log_scan_segment *segment = &scan->segments[scan->at];
    uint64_t sequence = block->place.sequence;

    if (sequence >= segment->void_from) {
        return;
    }
    scan->line = torc_max_u64(scan->line, block->place.durable);
    if (scan->next_sequence == 0) {
        // What a hole before the very first block held is not known, only that it came before.
        scan->next_sequence = scan->hole && sequence > 1 ? sequence - 1 : sequence;
        scan->first_sequence = scan->next_sequence;
    }
    if (scan->broken || scan->hole || sequence != scan->next_sequence) {
        scan_break(scan);
        return;
    }
    scan->next_sequence++;
    scan->ceiling = torc_max_u64(scan->ceiling, block->place.ceiling);
    segment->first_sequence = segment->first_sequence == 0 ? sequence : segment->first_sequence;
    segment->last_sequence = sequence;
    segment->kept_end_bytes = (uint32_t)scan->offset_bytes + block->byte_count;
}

// A whole block that a newer program wrote: not a hole, for it may be below the line. Where blocks
// are void it does not count either.
static void scan_unknown(struct torc_log_scan *scan, const unsigned char *bytes, uint32_t version)
{
    struct torc_log_block_header header;

    memcpy(&header, bytes, sizeof(header));
    if (scan->unknown_version == 0 &&
        torc_get_le64(header.sequence) < scan->segments[scan->at].void_from) {
        scan->unknown_version = version;
        scan->unknown_segment = scan->segments[scan->at].header.segment;
        scan->unknown_offset_bytes = (uint32_t)scan->offset_bytes;
    }
}

// Looks at one place; how many bytes it took, 0: more must come.
static uint64_t scan_place(struct torc_log_scan *scan, const unsigned char *bytes, uint64_t left,
                           bool last)
{
    uint32_t byte_count = torc_log_block_length(bytes, left);
    bool is_candidate = byte_count > 0 && scan_is_ours(scan, bytes);
    uint32_t unknown_version = 0;
    struct torc_log_block block;

    if (left < TORC_LOG_SLOT_BYTES || (is_candidate && byte_count > left)) {
        if (!last) {
            return 0;
        }
        is_candidate = false; // the file ends within it
    }
    if (is_candidate && torc_log_block_check(bytes, left, &block, NULL) == TORC_ERR_OK) {
        scan_block(scan, &block);
        return byte_count;
    }
    unknown_version = is_candidate ? torc_log_block_unknown(bytes, left) : 0;
    if (unknown_version != 0) {
        scan_unknown(scan, bytes, unknown_version);
        return byte_count;
    }
    scan->hole = true;
    return torc_min_u64(left, TORC_LOG_SLOT_BYTES);
}

uint64_t torc_log_scan_feed(struct torc_log_scan *scan, const void *bytes, uint64_t byte_count,
                            bool last)
{
    const unsigned char *at = bytes;
    uint64_t done = 0;

    torc_assert(scan->at < scan->segment_count);
    while (done < byte_count) {
        uint64_t took = scan_place(scan, at + done, byte_count - done, last);

        if (took == 0) {
            break;
        }
        done += took;
        scan->offset_bytes += took;
    }
    if (last) {
        torc_assert(done == byte_count);
        scan->at++;
        scan->offset_bytes = TORC_LOG_SLOT_BYTES;
        scan->hole = false;
    }
    return done;
}

enum torc_err torc_log_scan_end(struct torc_log_scan *scan, struct torc_log_scan_result *result,
                                struct torc_fail *why)
{
    uint64_t kept = scan->next_sequence == 0 ? 0 : scan->next_sequence - 1;

    torc_assert(scan->at == scan->segment_count);
    *result = (struct torc_log_scan_result){
        .first_sequence = kept >= scan->first_sequence ? scan->first_sequence : 0,
        .last_sequence = kept >= scan->first_sequence ? kept : 0,
        .next_sequence = torc_max_u64(torc_max_u64(kept + 1, scan->cut), 1),
        .line = scan->line,
        .ceiling = scan->ceiling,
        .torn_blocks = scan->torn_blocks,
        .sync = kept > scan->line};
    if (scan->unknown_version != 0) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "segment %" PRIu32 " offset %" PRIu32 ": a block of version %" PRIu32
                         ", this program reads %u and %u: start the newer one",
                         scan->unknown_segment, scan->unknown_offset_bytes, scan->unknown_version,
                         TORC_LOG_VERSION, TORC_LOG_VERSION_BEGUN);
    }
    if (scan->next_sequence != 0 && kept < scan->line) {
        const struct torc_log_scan_segment *end = &scan->segments[scan->segment_count - 1];

        return torc_fail(
            why, TORC_ERR_CORRUPT,
            "log stream %" PRIu32 ": block %" PRIu64 " is missing or damaged (segment %" PRIu32
            " offset %" PRIu32 "), durable were all up to %" PRIu64,
            end->header.stream, kept + 1, scan->broken ? scan->broken_segment : end->header.segment,
            scan->broken ? scan->broken_offset_bytes : end->kept_end_bytes, scan->line);
    }
    return TORC_ERR_OK;
}
