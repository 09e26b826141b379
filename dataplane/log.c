// Torc dataplane: one worker's end of the log; see log.h.
#include "dataplane/log.h"

#include <string.h>

#define BLOCK_SLOTS (TORC_LOG_BLOCK_BYTES_MAX / TORC_CHAN_LOG_SLOT_BYTES)
// Beyond a record's own slots: the open block, the end of the ring and the end of a segment may
// each waste less than one block, and a last block is begun behind it.
#define SPARE_SLOTS   (4 * BLOCK_SLOTS)
#define CEILING_SLOTS 16u     // of the last segment: kept back for ceilings
#define RETRY_US      1000u   // of BUSY: a few syncs
#define RETRY_FULL_US 100000u // of NO_SPACE: somebody must make room
// Numbers of docs/PROTOCOL.md, section 4; wire/op.h asserts the same.
#define REASON_DISK       1u
#define REASON_LOG_FAILED 3u

_Static_assert(TORC_CHAN_LOG_SLOT_BYTES == TORC_LOG_SLOT_BYTES, "a block is made of slots");
_Static_assert(TORC_CHAN_LOG_SLOTS >= 2 * SPARE_SLOTS, "a large value must find room beside it");

void torc_log_writer_init(struct torc_log_writer *log, struct torc_spsc_port *ring,
                          struct torc_stats *stats, uint32_t in_flight_max)
{
    memset(log, 0, sizeof(*log));
    log->ring = ring;
    log->stats = stats;
    log->in_flight_max = in_flight_max;
    log->next_sequence = 1;
}

void torc_log_writer_configure(struct torc_log_writer *log, const struct torc_cmd_configure *order)
{
    torc_assert(!log->open);
    log->cluster = order->cluster;
    log->node = order->node;
    log->stream = order->stream;
    log->next_sequence = torc_max_u64(order->next_sequence, 1);
    log->durable = log->next_sequence - 1;
    log->told_durable = log->durable;
    // What was kept before lies below control's floor, and goes on being said.
    log->ceiling = order->hlc;
    log->ceiling_wanted = order->hlc;
    log->ceiling_told = order->hlc;
    log->gathers = order->durability == TORC_DURABILITY_REPLICATED;
    log->configured = true;
    torc_stats_set(&log->stats->gauges[TORC_GAUGE_LOG_SEALED_SEQUENCE], log->next_sequence - 1);
    torc_stats_set(&log->stats->gauges[TORC_GAUGE_LOG_DURABLE_SEQUENCE], log->durable);
}

static void log_note_stopped(struct torc_log_writer *log)
{
    torc_stats_set(&log->stats->gauges[TORC_GAUGE_WRITES_STOPPED],
                   log->failed || log->disk_full ? 1 : 0);
}

static void log_note_sync(struct torc_log_writer *log, uint64_t took_ns)
{
    if (log->sync_ns == 0) {
        log->sync_ns = took_ns;
    } else {
        log->sync_ns = log->sync_ns - log->sync_ns / 8 + took_ns / 8;
    }
}

static bool log_mark_durable(struct torc_log_writer *log, uint64_t sequence, uint64_t now_ns)
{
    if (sequence >= log->next_sequence || log->failed) {
        return false;
    }
    for (uint64_t done = torc_max_u64(log->durable + 1, log->next_sequence > TORC_LOG_TIMES
                                                            ? log->next_sequence - TORC_LOG_TIMES
                                                            : 1);
         done <= sequence; done++) {
        uint64_t sealed_ns = log->sealed_ns[done % TORC_LOG_TIMES];

        if (sealed_ns != 0 && now_ns >= sealed_ns) {
            torc_stats_time(&log->stats->sync_times, now_ns - sealed_ns);
            log_note_sync(log, now_ns - sealed_ns);
        }
    }
    // Marks told again by a new control are not news and no fault.
    log->durable = torc_max_u64(log->durable, sequence);
    if (log->durable >= log->ceiling_sequence) {
        log->ceiling = log->ceiling_told;
    }
    torc_stats_set(&log->stats->gauges[TORC_GAUGE_LOG_DURABLE_SEQUENCE], log->durable);
    return true;
}

static bool log_mark_segment(struct torc_log_writer *log, const struct torc_mark *mark)
{
    uint32_t at = (log->prepared_first + log->prepared_count) % TORC_LOG_PREPARED_MAX;

    log->disk_full = false;
    log_note_stopped(log);
    if (mark->segment <= log->segment_last) {
        return true; // told again
    }
    if (log->prepared_count == TORC_LOG_PREPARED_MAX || mark->segment_bytes > UINT32_MAX ||
        mark->segment_bytes % TORC_LOG_SLOT_BYTES != 0 ||
        mark->segment_bytes < TORC_LOG_SLOT_BYTES + TORC_LOG_BLOCK_BYTES_MAX) {
        return false;
    }
    log->prepared[at] = (struct torc_log_prepared){.segment = mark->segment,
                                                   .segment_bytes = (uint32_t)mark->segment_bytes,
                                                   .generation = mark->generation};
    log->prepared_count++;
    log->segment_last = mark->segment;
    return true;
}

bool torc_log_writer_mark(struct torc_log_writer *log, const struct torc_mark *mark,
                          uint64_t now_ns)
{
    switch (mark->kind) {
    case TORC_MARK_DURABLE: return log_mark_durable(log, mark->sequence, now_ns);
    case TORC_MARK_SEGMENT: return log_mark_segment(log, mark);
    case TORC_MARK_DISK_FULL:
        log->disk_full = true;
        log_note_stopped(log);
        return true;
    case TORC_MARK_LOG_FAILED:
        log->failed = true;
        log_note_stopped(log);
        (void)torc_fail(&log->failure, TORC_ERR_IO, "%.*s",
                        (int)strnlen(mark->text, sizeof(mark->text)), mark->text);
        return true;
    default: return false;
    }
}

// Slots that the segments known now still take, a full block's waste at each end left out.
static uint64_t log_segment_slots(const struct torc_log_writer *log)
{
    uint64_t slots = 0;

    if (log->segment.segment_bytes >= log->offset_bytes) {
        slots = (log->segment.segment_bytes - log->offset_bytes) / TORC_LOG_SLOT_BYTES;
    }
    for (uint32_t i = 0; i < log->prepared_count; i++) {
        const struct torc_log_prepared *next =
            &log->prepared[(log->prepared_first + i) % TORC_LOG_PREPARED_MAX];

        slots += next->segment_bytes / TORC_LOG_SLOT_BYTES - 1;
    }
    // Each segment may waste up to a block at its end.
    return slots - torc_min_u64(slots, (uint64_t)(log->prepared_count + 1) * BLOCK_SLOTS);
}

struct torc_log_refusal torc_log_writer_admit(struct torc_log_writer *log, uint32_t value_bytes)
{
    uint32_t record_slots = (value_bytes + TORC_LOG_RECORD_BYTES_MAX) / TORC_LOG_SLOT_BYTES + 1;
    // Each block spends a header and a dictionary; a slot in sixteen is far more than that.
    uint32_t slots = record_slots + record_slots / 16;
    struct torc_log_refusal refusal = {.err = TORC_ERR_OK};

    if (log->failed) {
        return (struct torc_log_refusal){TORC_ERR_UNAVAILABLE, REASON_LOG_FAILED, 0};
    }
    // A block that is open was admitted with its room.
    if (log_segment_slots(log) < slots + BLOCK_SLOTS + CEILING_SLOTS) {
        refusal.err = log->disk_full ? TORC_ERR_NO_SPACE : TORC_ERR_BUSY;
        refusal.reason = log->disk_full ? REASON_DISK : 0;
        refusal.retry_us = log->disk_full ? RETRY_FULL_US : RETRY_US;
        return refusal;
    }
    if (torc_spsc_writable(log->ring, slots + SPARE_SLOTS) < slots + SPARE_SLOTS) {
        torc_stats_add(&log->stats->counters[TORC_COUNTER_LOG_RING_FULL], 1);
        return (struct torc_log_refusal){TORC_ERR_BUSY, 0, RETRY_US};
    }
    return refusal;
}

// Goes to the next segment when a full block does not fit behind the last one.
static void log_roll(struct torc_log_writer *log)
{
    if (log->segment.segment_bytes >= log->offset_bytes + TORC_LOG_BLOCK_BYTES_MAX &&
        log->segment.segment_bytes != 0) {
        return;
    }
    torc_assert(log->prepared_count > 0); // admitted
    log->segment = log->prepared[log->prepared_first];
    log->prepared_first = (log->prepared_first + 1) % TORC_LOG_PREPARED_MAX;
    log->prepared_count--;
    log->offset_bytes = TORC_LOG_SLOT_BYTES;
}

// Begins a block in slots that do not wrap (C1).
static void log_open(struct torc_log_writer *log)
{
    uint32_t place = (uint32_t)(log->ring->near & (log->ring->slot_count - 1));
    uint32_t until_wrap = log->ring->slot_count - place;

    torc_assert(!log->open);
    log_roll(log);
    torc_assert(torc_spsc_writable(log->ring, 2 * BLOCK_SLOTS) >= BLOCK_SLOTS);
    if (until_wrap < BLOCK_SLOTS) {
        torc_log_filler_write(torc_spsc_write_at(log->ring, 0), until_wrap);
        torc_spsc_publish(log->ring, until_wrap);
        torc_assert(torc_spsc_writable(log->ring, BLOCK_SLOTS) >= BLOCK_SLOTS);
    }
    torc_log_block_begin(&log->builder, torc_spsc_write_at(log->ring, 0), TORC_LOG_BLOCK_BYTES_MAX);
    log->open = true;
}

static void log_seal(struct torc_log_writer *log, uint64_t now_ns, bool closing)
{
    struct torc_log_place place = {.cluster = log->cluster,
                                   .sequence = log->next_sequence,
                                   .generation = log->segment.generation,
                                   .durable = log->durable,
                                   .ceiling = log->ceiling_wanted,
                                   .node = log->node,
                                   .stream = log->stream,
                                   .segment = log->segment.segment,
                                   .offset_bytes = log->offset_bytes,
                                   .closing = closing};
    uint32_t bytes = torc_log_block_seal(&log->builder, &place);

    torc_assert(log->open);
    torc_assert(bytes % TORC_CHAN_LOG_SLOT_BYTES == 0 && bytes <= TORC_LOG_BLOCK_BYTES_MAX);
    torc_assert(log->offset_bytes + bytes <= log->segment.segment_bytes);
    torc_spsc_publish(log->ring, bytes / TORC_CHAN_LOG_SLOT_BYTES);
    log->offset_bytes += bytes;
    log->sealed_ns[log->next_sequence % TORC_LOG_TIMES] = now_ns;
    log->left_ns = now_ns;
    log->next_sequence++;
    // A closing block that says that all before it is durable: its own mark is no news.
    log->told_durable =
        closing && place.durable + 1 == place.sequence ? place.sequence : place.durable;
    if (log->ceiling_told == log->ceiling && place.ceiling > log->ceiling) {
        log->ceiling_told = place.ceiling;
        log->ceiling_sequence = place.sequence;
    }
    log->open = false;
    torc_stats_add(&log->stats->counters[TORC_COUNTER_LOG_BLOCKS], 1);
    torc_stats_add(&log->stats->counters[TORC_COUNTER_LOG_BYTES], bytes);
    torc_stats_set(&log->stats->gauges[TORC_GAUGE_LOG_SEALED_SEQUENCE], place.sequence);
}

uint64_t torc_log_writer_append(struct torc_log_writer *log, const struct torc_log_record *record,
                                uint64_t now_ns)
{
    uint32_t value_done = 0;

    torc_assert(log->configured && !log->failed);
    if (!log->open) {
        log_open(log);
        log->began_ns = now_ns;
    }
    while (!torc_log_block_append(&log->builder, record, &value_done)) {
        log_seal(log, now_ns, false);
        log_open(log);
        log->began_ns = now_ns;
    }
    log->appended_ns = now_ns;
    torc_stats_add(&log->stats->counters[TORC_COUNTER_LOG_RECORDS], 1);
    torc_stats_add(&log->stats->counters[TORC_COUNTER_LOG_USER_BYTES],
                   sizeof(record->key) + record->value_bytes);
    return log->next_sequence;
}

static bool log_wants_closing(const struct torc_log_writer *log)
{
    return log->configured && !log->open && !log->failed && torc_log_writer_in_flight(log) == 0 &&
           log->told_durable < log->durable;
}

// A ceiling is wanted, no block that says it is in flight, and none is about to leave.
static bool log_wants_ceiling(const struct torc_log_writer *log)
{
    return log->configured && !log->open && !log->failed && log->ceiling_told == log->ceiling &&
           log->ceiling_wanted > log->ceiling;
}

// Whether its one slot is there, of those that are kept back too.
static bool log_ceiling_fits(struct torc_log_writer *log)
{
    return log_segment_slots(log) > 0 && torc_spsc_writable(log->ring, SPARE_SLOTS) >= SPARE_SLOTS;
}

// When an open block leaves that nobody waits for, or that is behind others.
static uint64_t log_pace_ns(const struct torc_log_writer *log)
{
    if (log->gathers) {
        return log->began_ns + TORC_LOG_GATHER_NS;
    }
    return log->left_ns + torc_min_u64(log->sync_ns / TORC_LOG_PACE_PART, TORC_LOG_PACE_MAX_NS);
}

static bool log_wants_seal(const struct torc_log_writer *log, uint64_t now_ns)
{
    uint64_t in_flight = torc_log_writer_in_flight(log);

    if (!log->open || torc_log_block_is_empty(&log->builder) || in_flight >= log->in_flight_max) {
        return false;
    }
    return (in_flight == 0 && !log->gathers) ||
           torc_log_block_bytes(&log->builder) >= TORC_LOG_PACE_BYTES || now_ns >= log_pace_ns(log);
}

bool torc_log_writer_soon(const struct torc_log_writer *log, uint64_t now_ns)
{
    return torc_log_writer_in_flight(log) > 0 && !log->failed &&
           now_ns < log->left_ns + torc_min_u64(4 * log->sync_ns, TORC_LOG_PACE_MAX_NS);
}

bool torc_log_writer_step(struct torc_log_writer *log, uint64_t now_ns, bool all)
{
    if (log->failed) {
        return false;
    }
    if (log_wants_seal(log, now_ns) ||
        (all && log->open && !torc_log_block_is_empty(&log->builder))) {
        log_seal(log, now_ns, false);
        return true;
    }
    if (log_wants_ceiling(log) && log_ceiling_fits(log)) {
        log_open(log);
        log_seal(log, now_ns, true);
        return true;
    }
    if (log_wants_closing(log) && (all || now_ns >= log->appended_ns + TORC_LOG_CLOSING_NS)) {
        if (torc_log_writer_admit(log, 0).err != TORC_ERR_OK) {
            log->appended_ns = now_ns; // later
            return false;
        }
        log_open(log);
        log_seal(log, now_ns, true);
        return true;
    }
    return false;
}

bool torc_log_writer_look(struct torc_log_writer *log, uint64_t now_ns, bool served)
{
    bool away = now_ns > log->looked_ns + 2 * TORC_LOG_LOOK_NS;

    if (torc_log_writer_in_flight(log) == 0 || log->durable != log->owed_durable || away ||
        !served) {
        log->owed_ns = now_ns;
        log->owed_durable = log->durable;
    }
    log->looked_ns = now_ns;
    if (log->durable >= log->stalled_sequence) {
        log->stalled_sequence = 0;
    }
    if (now_ns - log->owed_ns >= TORC_LOG_STALL_NS) {
        log->stalled_sequence = log->next_sequence - 1;
    }
    return log->stalled_sequence != 0;
}

uint64_t torc_log_writer_deadline_ns(const struct torc_log_writer *log)
{
    if (log->open && !torc_log_block_is_empty(&log->builder) && !log->failed &&
        torc_log_writer_in_flight(log) < log->in_flight_max) {
        return log_pace_ns(log);
    }
    return log_wants_closing(log) ? log->appended_ns + TORC_LOG_CLOSING_NS : UINT64_MAX;
}
