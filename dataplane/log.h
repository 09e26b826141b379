// Torc dataplane: one worker's end of the log. Fills blocks in the channel's ring, seals them, and
// knows what is durable.
//
// What    records are appended to an open block that lies in the slots of the channel's log ring
//         (kit/chan.h, C1). The block is sealed when it is full, or at the end of a turn when none
//         is with the disk: so one write alone leaves at once. While others are with the disk, but
//         fewer than `in_flight_max`, it leaves when it has grown large or the one before left a
//         part of a usual sync ago: what comes in a burst shares few blocks, each of which costs
//         wake-ups, and waits little for it. With `replicated` it is kept open for GATHER_NS.
//         Control writes each block where its header says.
// Owner   the worker.
// Memory  the builder's dictionaries inside the struct; blocks are built where they are written
//         from.
// Room    torc_log_writer_admit is asked before a write is evaluated: it says yes only when the
//         ring and the prepared segments hold the record whatever its blocks' borders, so append
//         cannot fail. REFUSED answers carry a reason (struct torc_log_refusal).
// Segments  control prepares them, header included, and names them in TORC_MARK_SEGMENT; blocks
//         begin in a segment's second slot. A segment is left when less than one full block fits.
// Ceiling  a timestamp that was read at must outlive a crash (REPLICATION.md H6): a block says the
//         highest one wanted; when none leaves by itself, an empty one does, on slots that are kept
//         back for it when the disk is full. It counts once it is durable.
// Closing  when nothing was appended for CLOSING_NS and the last block's header does not yet say
//         that everything before it is durable, one empty block says it (DESIGN.md, section 5).
// Invariants
//   L1  durable <= sealed; both only rise.
//   L2  a record's sequence is that of the block in which its last byte lies.
//   L3  after TORC_MARK_LOG_FAILED nothing is durable that was not before.
//   L4  ceiling only rises; a durable block says it, and all later ones say no less.
#ifndef TORC_DATAPLANE_LOG_H
#define TORC_DATAPLANE_LOG_H

#include "kit/chan.h"
#include "storage/log_format.h"

#define TORC_LOG_PREPARED_MAX 16u
#define TORC_LOG_TIMES        64u // sealing times kept, by sequence; a power of two
// Idle that long with an unwritten mark: a closing block. A bet: rare enough to cost nothing.
#define TORC_LOG_CLOSING_NS UINT64_C(20000000)
// A block that is behind another leaves after this part of a usual sync, or when it is that large:
// measured, see docs/decisions/0006-group-commit.md.
#define TORC_LOG_PACE_PART   3u
#define TORC_LOG_PACE_BYTES  (64u * 1024u)
#define TORC_LOG_PACE_MAX_NS UINT64_C(1000000)
// With `replicated` no answer waits for a block, but other copies' processors do its work: it is
// kept open for so long. docs/decisions/0040 has the figures.
#define TORC_LOG_GATHER_NS UINT64_C(2000000)
// No block of those with the disk came back for so long: it is stalled. A bet: a slow disk under
// load takes half a second for a sync, and brings back some block of many all the time.
#define TORC_LOG_STALL_NS UINT64_C(2000000000)
// It is to be looked at that often while blocks are with it; and a worker that did not look for
// twice as long was away itself.
#define TORC_LOG_LOOK_NS UINT64_C(250000000)

struct torc_log_refusal {
    enum torc_err err; // OK, BUSY, NO_SPACE, UNAVAILABLE
    uint8_t reason;    // of NO_SPACE and UNAVAILABLE (wire/op.h)
    uint32_t retry_us;
};

struct torc_log_prepared {
    uint32_t segment;
    uint32_t segment_bytes;
    uint64_t generation;
};

struct torc_log_writer {
    struct torc_spsc_port *ring;
    struct torc_stats *stats;
    uint64_t cluster;
    uint32_t node;
    uint32_t stream;
    uint32_t in_flight_max;
    // Where the next block goes.
    struct torc_log_prepared segment; // segment_bytes 0: none yet
    uint32_t offset_bytes;
    uint32_t segment_last; // highest one told
    uint32_t prepared_first;
    uint32_t prepared_count;
    struct torc_log_prepared prepared[TORC_LOG_PREPARED_MAX];
    // Where we stand.
    uint64_t next_sequence; // of the block that is sealed next
    uint64_t durable;       // highest sequence known durable
    uint64_t told_durable;  // what the last sealed header says
    uint64_t appended_ns;   // last append
    uint64_t began_ns;      // the first append to the open block
    uint64_t left_ns;       // when the last block was sealed
    uint64_t sync_ns;       // how long one takes from there, smoothed; 0: not known yet
    uint64_t sealed_ns[TORC_LOG_TIMES];
    // Whether the disk answers (torc_log_writer_look).
    uint64_t looked_ns;
    uint64_t owed_ns;          // since when no block came back, though one was with the disk
    uint64_t owed_durable;     // `durable` then
    uint64_t stalled_sequence; // it is stalled until this one is durable; 0: it is not
    // HLCs: kept, wanted; and what the block `ceiling_sequence` says, equal to `ceiling` when none
    // that says more is in flight.
    uint64_t ceiling;
    uint64_t ceiling_wanted;
    uint64_t ceiling_told;
    uint64_t ceiling_sequence;
    bool configured;
    bool open;    // a block is begun
    bool gathers; // `replicated`
    bool disk_full;
    bool failed;
    struct torc_fail failure; // when failed
    struct torc_log_builder builder;
};

void torc_log_writer_init(struct torc_log_writer *log, struct torc_spsc_port *ring,
                          struct torc_stats *stats, uint32_t in_flight_max);

// From CONFIGURE: who we are and where the stream goes on.
void torc_log_writer_configure(struct torc_log_writer *log, const struct torc_cmd_configure *order);

// A mark from control. False: it makes no sense and was ignored (C3); the caller raises an alarm.
bool torc_log_writer_mark(struct torc_log_writer *log, const struct torc_mark *mark,
                          uint64_t now_ns);

// Whether a record with a value of that length can be appended now.
struct torc_log_refusal torc_log_writer_admit(struct torc_log_writer *log, uint32_t value_bytes);

// Appends what was admitted; the sequence of the block that it ends in. May seal full blocks.
uint64_t torc_log_writer_append(struct torc_log_writer *log, const struct torc_log_record *record,
                                uint64_t now_ns);

// Wants `ceiling` kept. `log->ceiling` says when it is; never if the log has failed.
static inline void torc_log_writer_keep(struct torc_log_writer *log, uint64_t ceiling)
{
    log->ceiling_wanted = ceiling > log->ceiling_wanted ? ceiling : log->ceiling_wanted;
}

// End of a turn: seals what should leave; true when something was published. `all`: seal whatever
// is in flight (a clean stop).
bool torc_log_writer_step(struct torc_log_writer *log, uint64_t now_ns, bool all);

// When step has something to do without a further append; UINT64_MAX: never.
uint64_t torc_log_writer_deadline_ns(const struct torc_log_writer *log);

// Whether the disk should answer within a moment: not worth a sleep.
bool torc_log_writer_soon(const struct torc_log_writer *log, uint64_t now_ns);

// Whether the disk is stalled: nothing came back for STALL_NS, and since then not all that was with
// it by then. `served`: control turns, which is who brings the news.
bool torc_log_writer_look(struct torc_log_writer *log, uint64_t now_ns, bool served);

// As of the last look: whether it may be about to be. Sooner than another node's word on the same
// storage: nobody is to relieve whom it would then join.
static inline bool torc_log_writer_doubts(const struct torc_log_writer *log)
{
    return log->looked_ns - log->owed_ns >= TORC_LOG_STALL_NS / 2;
}

// Blocks sealed and not known durable.
static inline uint64_t torc_log_writer_in_flight(const struct torc_log_writer *log)
{
    return log->next_sequence - 1 - log->durable;
}

// Everything appended is durable and no block is open.
static inline bool torc_log_writer_settled(const struct torc_log_writer *log)
{
    return !log->open && torc_log_writer_in_flight(log) == 0;
}

#endif
