// Torc control: what is decided about one log stream while it is written. See control/log_plan.h.
#include "control/log_plan.h"

#include "kit/bugs.h"
#include "storage/log_format.h"

#define NOTHING UINT32_MAX

void torc_log_plan_init(struct torc_log_plan *plan, uint32_t stream, uint32_t flights_max,
                        struct torc_log_plan_segment *segments, uint32_t segment_room)
{
    torc_assert(flights_max > 0);
    torc_assert(flights_max <= TORC_LOG_FLIGHTS_MAX);
    memset(plan, 0, sizeof(*plan));
    plan->stream = stream;
    plan->flights_max = flights_max;
    plan->segments = segments;
    plan->segment_room = segment_room;
    plan->filling = NOTHING;
}

bool torc_log_plan_add(struct torc_log_plan *plan, const struct torc_log_plan_segment *segment)
{
    if (plan->segment_count == plan->segment_room) {
        return false;
    }
    torc_assert_implies(plan->segment_count > 0,
                        segment->segment > plan->segments[plan->segment_count - 1].segment);
    plan->segments[plan->segment_count++] = *segment;
    return true;
}

void torc_log_plan_begin(struct torc_log_plan *plan, uint64_t next_sequence)
{
    torc_assert(next_sequence > 0);
    torc_assert(plan->flight_count == 0);
    plan->next_sequence = next_sequence;
    plan->durable = next_sequence - 1;
    // What is there is full or cut: `filling` stands on the last of them, and nothing fits behind
    //      it.
    plan->filling = plan->segment_count > 0 ? plan->segment_count - 1 : NOTHING;
    plan->offset_bytes = UINT32_MAX;
}

// The first segment of a life whose blocks begin at `next_sequence`; NOTHING: there is none. Those
// of lives before were cut at or below a block of theirs, and without one they are not kept.
static uint32_t plan_first_of_life(const struct torc_log_plan *plan, uint64_t next_sequence)
{
    for (uint32_t i = 0; i < plan->segment_count; i++) {
        if (plan->segments[i].cut_sequence == next_sequence) {
            return i;
        }
    }
    return NOTHING;
}

uint32_t torc_log_plan_resume(struct torc_log_plan *plan, const struct torc_log_plan_seen *seen)
{
    uint32_t told = seen->told;
    uint32_t segment = seen->segment;

    if (told == 0) { // it has written nothing: what lies here may be of lives before
        uint32_t first = plan_first_of_life(plan, seen->sealed + 1);

        if (first == NOTHING) {
            torc_log_plan_begin(plan, seen->sealed + 1);
            return UINT32_MAX;
        }
        told = plan->segments[first].segment - 1;
        segment = told;
    }
    plan->filling = NOTHING;
    for (uint32_t i = 0; i < plan->segment_count; i++) {
        if (plan->segments[i].segment <= segment) {
            plan->filling = i;
        }
    }
    plan->next_sequence = 0;
    plan->durable = 0;
    plan->offset_bytes = 0;
    return told;
}

bool torc_log_plan_can_take(const struct torc_log_plan *plan)
{
    return !plan->failed && plan->flight_count < plan->flights_max;
}

static struct torc_log_flight *plan_push(struct torc_log_plan *plan)
{
    torc_assert(torc_log_plan_can_take(plan));
    return plan->flights + (plan->first + plan->flight_count++) % TORC_LOG_FLIGHTS_MAX;
}

// Where the block may go: the segment being filled, the next one, or anywhere right after a resume.
static uint32_t plan_find(const struct torc_log_plan *plan, const struct torc_log_plan_block *block)
{
    for (uint32_t i = 0; i < plan->segment_count; i++) {
        const struct torc_log_plan_segment *segment = plan->segments + i;
        bool behind = i == plan->filling && block->offset_bytes == plan->offset_bytes;
        bool next = i == plan->filling + 1 && block->offset_bytes == TORC_LOG_SLOT_BYTES;

        if (segment->segment == block->segment && segment->generation == block->generation &&
            (behind || next || plan->offset_bytes == 0)) {
            return i;
        }
    }
    return NOTHING;
}

enum torc_err torc_log_plan_take(struct torc_log_plan *plan,
                                 const struct torc_log_plan_block *block,
                                 struct torc_log_flight **flight, struct torc_fail *why)
{
    uint32_t at = plan_find(plan, block);

    if (block->stream != plan->stream || block->sequence == 0 ||
        (plan->next_sequence != 0 && block->sequence != plan->next_sequence)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log ring: block %" PRIu64 " of stream %" PRIu32 ", not %" PRIu64
                         " of %" PRIu32,
                         block->sequence, block->stream, plan->next_sequence, plan->stream);
    }
    if (at == NOTHING || block->offset_bytes % TORC_LOG_SLOT_BYTES != 0 ||
        block->offset_bytes < TORC_LOG_SLOT_BYTES || block->byte_count == 0 ||
        (uint64_t)block->offset_bytes + block->byte_count > plan->segments[at].segment_bytes) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log ring: block %" PRIu64 " wants segment %" PRIu32 " offset %" PRIu32
                         ", which is not where it belongs",
                         block->sequence, block->segment, block->offset_bytes);
    }
    if (plan->segments[at].first_sequence == 0) {
        plan->segments[at].first_sequence = block->sequence;
    }
    if (plan->next_sequence == 0) { // P2: what is not in the ring any more is durable
        plan->durable = block->sequence - 1;
    }
    plan->filling = at;
    plan->offset_bytes = block->offset_bytes + block->byte_count;
    plan->next_sequence = block->sequence + 1;
    *flight = plan_push(plan);
    **flight = (struct torc_log_flight){.sequence = block->sequence,
                                        .slots = block->slots,
                                        .byte_count = block->byte_count,
                                        .offset_bytes = block->offset_bytes,
                                        .file = plan->segments[at].file};
    plan->taken_slots += block->slots;
    return TORC_ERR_OK;
}

void torc_log_plan_skip(struct torc_log_plan *plan, uint32_t slots)
{
    *plan_push(plan) = (struct torc_log_flight){.slots = slots, .done = true};
    plan->taken_slots += slots;
}

void torc_log_plan_done(struct torc_log_plan *plan, struct torc_log_flight *flight, int32_t result,
                        const char *text)
{
    torc_assert(!flight->done);
    if (result == (int32_t)flight->byte_count || TORC_BUG(FAILED_LOG_GOES_ON)) {
        flight->done = true;
        return;
    }
    if (!plan->failed) { // the first one says why
        plan->failed = true;
        (void)torc_fail(&plan->failure, TORC_ERR_IO,
                        "log stream %" PRIu32 ": write of block %" PRIu64 ": %s", plan->stream,
                        flight->sequence, result < 0 ? text : "cut short");
    }
}

bool torc_log_plan_look(const struct torc_log_plan *plan, uint64_t *durable, uint32_t *slots)
{
    uint32_t count = 0;

    *durable = plan->durable;
    *slots = 0;
    while (count < plan->flight_count) {
        const struct torc_log_flight *flight =
            plan->flights + (plan->first + count) % TORC_LOG_FLIGHTS_MAX;

        if (!flight->done || (plan->failed && flight->sequence > 0)) {
            break; // P2, P3
        }
        *durable = flight->sequence > 0 ? flight->sequence : *durable;
        *slots += flight->slots;
        count++;
    }
    return count > 0;
}

void torc_log_plan_advance(struct torc_log_plan *plan)
{
    uint32_t slots;

    torc_assert(torc_log_plan_look(plan, &plan->durable, &slots));
    torc_assert(slots <= plan->taken_slots);
    plan->taken_slots -= slots;
    while (slots > 0) {
        slots -= plan->flights[plan->first].slots;
        plan->first = (plan->first + 1) % TORC_LOG_FLIGHTS_MAX;
        plan->flight_count--;
    }
}

uint32_t torc_log_plan_ahead(const struct torc_log_plan *plan)
{
    return plan->filling == NOTHING ? plan->segment_count : plan->segment_count - 1 - plan->filling;
}

uint32_t torc_log_plan_wants(const struct torc_log_plan *plan)
{
    uint32_t ahead = torc_log_plan_ahead(plan);

    if (plan->failed || ahead >= TORC_LOG_AHEAD) {
        return 0;
    }
    return (uint32_t)torc_min_u64(TORC_LOG_AHEAD - ahead, plan->segment_room - plan->segment_count);
}

uint32_t torc_log_plan_next_segment(const struct torc_log_plan *plan)
{
    return plan->segment_count > 0 ? plan->segments[plan->segment_count - 1].segment + 1 : 1;
}

uint64_t torc_log_plan_next_cut(const struct torc_log_plan *plan)
{
    // The first segment of a life says where the life begins.
    bool first = plan->offset_bytes == UINT32_MAX && torc_log_plan_ahead(plan) == 0;

    return first && !TORC_BUG(CUT_NOT_WRITTEN) ? plan->next_sequence : 0;
}

bool torc_log_plan_trim(struct torc_log_plan *plan, uint64_t floor,
                        struct torc_log_plan_segment *segment)
{
    if (plan->segment_count < 2 || plan->filling == NOTHING || plan->filling == 0 ||
        plan->segments[1].first_sequence == 0 || plan->segments[1].first_sequence > floor ||
        plan->segments[1].first_sequence > plan->durable) {
        return false; // after a restart numbers go on behind a durable block, so one stays
    }
    *segment = plan->segments[0];
    plan->segment_count--;
    plan->filling--;
    memmove(plan->segments, plan->segments + 1, plan->segment_count * sizeof(*plan->segments));
    return true;
}
