// Torc control: when the disk's room asks for checkpoints. See control/space.h.
#include "control/space.h"

#include "control/log_plan.h"

static uint64_t space_reserve(const struct torc_space *space)
{
    return space->segment_bytes * space->stream_count * TORC_SPACE_SEGMENTS;
}

bool torc_space_is_short(const struct torc_space *space)
{
    return space->full || space->free_bytes < space_reserve(space) ||
           (space->free_bytes - space_reserve(space)) / 2 < space->live_bytes;
}

bool torc_space_is_last(const struct torc_space *space)
{
    return space->free_bytes < space->segment_bytes ||
           space->free_bytes - space->segment_bytes < space->live_bytes;
}

uint64_t torc_space_growth(const struct torc_space *space, uint64_t most_bytes)
{
    bool last = space->full || space->free_bytes < space_reserve(space);
    uint64_t worth = torc_max_u64(space->segment_bytes, last ? 0 : space->live_bytes / 4);

    // All of it may be one stream's, and the round takes its time.
    most_bytes = torc_min_u64(most_bytes, space->segment_bytes * (TORC_LOG_SEGMENTS_MAX / 2));
    return torc_space_is_short(space) ? torc_min_u64(worth, most_bytes) : most_bytes;
}
