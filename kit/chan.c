// Torc kit: where things lie in the channel. See kit/chan.h.
#include "kit/chan.h"

// How long it may take to ring a bell, for one who is not held up: a write to an eventfd takes a
// microsecond or two, also where it wakes somebody.
#define CHAN_RANG_NS UINT64_C(1000000)

enum {
    CHAN_CMD,
    CHAN_EVT,
    CHAN_LOG,
    CHAN_MARK,
    CHAN_IN,
    CHAN_OUT,
    CHAN_RINGS
};

struct chan_shape {
    uint32_t slot_bytes;
    uint32_t slot_count;
};

static const struct chan_shape chan_shapes[CHAN_RINGS] = {
    [CHAN_CMD] = {TORC_CHAN_MESSAGE_BYTES, TORC_CHAN_MESSAGE_SLOTS},
    [CHAN_EVT] = {TORC_CHAN_MESSAGE_BYTES, TORC_CHAN_MESSAGE_SLOTS},
    [CHAN_LOG] = {TORC_CHAN_LOG_SLOT_BYTES, TORC_CHAN_LOG_SLOTS},
    [CHAN_MARK] = {TORC_CHAN_MESSAGE_BYTES, TORC_CHAN_MESSAGE_SLOTS},
    [CHAN_IN] = {TORC_CHAN_BULK_BYTES, TORC_CHAN_BULK_SLOTS},
    [CHAN_OUT] = {TORC_CHAN_BULK_BYTES, TORC_CHAN_BULK_SLOTS},
};

static uint64_t chan_round_up(uint64_t bytes)
{
    return (bytes + TORC_SPSC_ALIGN_BYTES - 1) / TORC_SPSC_ALIGN_BYTES * TORC_SPSC_ALIGN_BYTES;
}

static uint64_t chan_ring_bytes(uint32_t ring)
{
    uint64_t bytes = torc_spsc_bytes(chan_shapes[ring].slot_bytes, chan_shapes[ring].slot_count);

    torc_assert(bytes > 0);
    return chan_round_up(bytes);
}

// From a worker's block to its ring `ring`; with CHAN_RINGS, the block's size.
static uint64_t chan_ring_offset(uint32_t ring)
{
    uint64_t offset = chan_round_up(sizeof(struct torc_chan_worker));

    for (uint32_t i = 0; i < ring; i++) {
        offset += chan_ring_bytes(i);
    }
    return offset;
}

static uint64_t chan_map_offset(void)
{
    return chan_round_up(sizeof(struct torc_chan));
}

static uint64_t chan_keys_offset(void)
{
    return chan_map_offset() + chan_round_up(sizeof(struct torc_chan_map));
}

static uint64_t chan_sessions_offset(void)
{
    return chan_keys_offset() + chan_round_up(sizeof(struct torc_chan_keys));
}

static uint64_t chan_worker_offset(void)
{
    return chan_sessions_offset() + chan_round_up(sizeof(struct torc_chan_sessions));
}

uint64_t torc_chan_bytes(uint32_t worker_count)
{
    torc_assert(worker_count >= 1);
    torc_assert(worker_count <= TORC_CHAN_WORKERS_MAX);
    return chan_worker_offset() + worker_count * chan_ring_offset(CHAN_RINGS);
}

static unsigned char *chan_worker_at(void *memory, uint32_t index)
{
    return (unsigned char *)memory + chan_worker_offset() + index * chan_ring_offset(CHAN_RINGS);
}

enum torc_err torc_chan_format(void *memory, uint64_t memory_bytes, uint32_t worker_count,
                               struct torc_fail *why)
{
    struct torc_chan *chan = memory;
    enum torc_err err;

    torc_assert(memory != NULL);
    torc_assert((uintptr_t)memory % TORC_SPSC_ALIGN_BYTES == 0);
    if (worker_count == 0 || worker_count > TORC_CHAN_WORKERS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%" PRIu32 " workers: 1 to %u",
                         worker_count, TORC_CHAN_WORKERS_MAX);
    }
    if (memory_bytes < torc_chan_bytes(worker_count)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "channel of %" PRIu64 " bytes: %" PRIu32 " workers need %" PRIu64,
                         memory_bytes, worker_count, torc_chan_bytes(worker_count));
    }
    for (uint32_t index = 0; index < worker_count; index++) {
        for (uint32_t ring = 0; ring < CHAN_RINGS; ring++) {
            err = torc_spsc_format(chan_worker_at(memory, index) + chan_ring_offset(ring),
                                   chan_ring_bytes(ring), chan_shapes[ring].slot_bytes,
                                   chan_shapes[ring].slot_count, why);
            if (err != TORC_ERR_OK) {
                return err;
            }
        }
    }
    chan->bytes = torc_chan_bytes(worker_count);
    chan->worker_count = worker_count;
    chan->map_offset = chan_map_offset();
    chan->keys_offset = chan_keys_offset();
    chan->sessions_offset = chan_sessions_offset();
    chan->worker_offset = chan_worker_offset();
    chan->worker_bytes = chan_ring_offset(CHAN_RINGS);
    chan->version = TORC_CHAN_VERSION;
    chan->magic = TORC_CHAN_MAGIC;
    return TORC_ERR_OK;
}

enum torc_err torc_chan_check(const void *memory, uint64_t memory_bytes, struct torc_fail *why)
{
    const struct torc_chan *chan = memory;

    torc_assert(memory != NULL);
    if (memory_bytes < sizeof(*chan) || chan->magic != TORC_CHAN_MAGIC) {
        return torc_fail(why, TORC_ERR_CORRUPT, "channel of %" PRIu64 " bytes without its mark",
                         memory_bytes);
    }
    if (chan->version != TORC_CHAN_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "channel version %" PRIu32
                         ", this build speaks %u: restart both processes",
                         chan->version, TORC_CHAN_VERSION);
    }
    if (chan->worker_count == 0 || chan->worker_count > TORC_CHAN_WORKERS_MAX ||
        chan->bytes != torc_chan_bytes(chan->worker_count) || chan->bytes > memory_bytes ||
        chan->map_offset != chan_map_offset() || chan->keys_offset != chan_keys_offset() ||
        chan->sessions_offset != chan_sessions_offset() ||
        chan->worker_offset != chan_worker_offset() ||
        chan->worker_bytes != chan_ring_offset(CHAN_RINGS)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "channel of %" PRIu32 " workers in %" PRIu64 " bytes: laid out otherwise",
                         chan->worker_count, memory_bytes);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_chan_attach(struct torc_chan_ports *ports, enum torc_chan_side side,
                               void *memory, uint64_t memory_bytes, uint32_t index,
                               struct torc_fail *why)
{
    enum torc_spsc_end down = side == TORC_CHAN_CONTROL ? TORC_SPSC_PRODUCER : TORC_SPSC_CONSUMER;
    enum torc_spsc_end up = side == TORC_CHAN_CONTROL ? TORC_SPSC_CONSUMER : TORC_SPSC_PRODUCER;
    struct torc_spsc_port *rings[CHAN_RINGS] = {&ports->cmd,  &ports->evt, &ports->log,
                                                &ports->mark, &ports->in,  &ports->out};
    const enum torc_spsc_end ends[CHAN_RINGS] = {down, up, up, down, down, up};
    enum torc_err err = torc_chan_check(memory, memory_bytes, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(index < ((const struct torc_chan *)memory)->worker_count);
    for (uint32_t ring = 0; ring < CHAN_RINGS; ring++) {
        err = torc_spsc_attach(rings[ring], ends[ring],
                               chan_worker_at(memory, index) + chan_ring_offset(ring),
                               chan_ring_bytes(ring), why);
        if (err != TORC_ERR_OK) {
            return err;
        }
        if (rings[ring]->slot_bytes != chan_shapes[ring].slot_bytes ||
            rings[ring]->slot_count != chan_shapes[ring].slot_count) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "ring %" PRIu32 " has slots of %" PRIu32 " bytes: %" PRIu32
                             " expected",
                             ring, rings[ring]->slot_bytes, chan_shapes[ring].slot_bytes);
        }
    }
    ports->worker = (struct torc_chan_worker *)(void *)chan_worker_at(memory, index);
    return TORC_ERR_OK;
}

struct torc_chan_worker *torc_chan_worker_page(void *memory, uint32_t index)
{
    torc_assert(index < ((const struct torc_chan *)memory)->worker_count);
    return (struct torc_chan_worker *)(void *)chan_worker_at(memory, index);
}

bool torc_chan_wants_bell(const struct torc_chan_worker *page)
{
    return atomic_load_explicit(&page->sleeping, memory_order_relaxed) != 0;
}

uint64_t torc_chan_bell_ns(const struct torc_chan_worker *page, uint64_t now_ns)
{
    // Later than its turn, though that may have begun after ours.
    return torc_max_u64(now_ns, atomic_load_explicit(&page->turned_ns, memory_order_relaxed) + 1);
}

void torc_chan_rang(struct torc_chan_worker *page, uint64_t bell_ns, uint64_t now_ns)
{
    uint64_t turned_ns = atomic_load_explicit(&page->turned_ns, memory_order_relaxed);
    uint64_t rung_ns = atomic_load_explicit(&page->rung_ns, memory_order_relaxed);

    if (now_ns > bell_ns + CHAN_RANG_NS) {
        return;
    }
    // The first bell since its turn counts. Others ring too, and may have noted a later one while
    // this thread was away.
    while (bell_ns > turned_ns && rung_ns <= turned_ns &&
           !atomic_compare_exchange_weak_explicit(&page->rung_ns, &rung_ns, bell_ns,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

uint64_t torc_chan_owes_since_ns(const struct torc_chan_worker *page, uint64_t now_ns)
{
    uint64_t turned_ns = atomic_load_explicit(&page->turned_ns, memory_order_relaxed);
    uint64_t rung_ns = atomic_load_explicit(&page->rung_ns, memory_order_relaxed);
    bool sleeps = atomic_load_explicit(&page->sleeping, memory_order_relaxed) != 0;

    // Who was woken by a bell is in its first turn since: what it owes is no older.
    return sleeps && rung_ns <= turned_ns ? now_ns
                                          : torc_min_u64(torc_max_u64(turned_ns, rung_ns), now_ns);
}

struct torc_chan_map *torc_chan_map(void *memory)
{
    return (struct torc_chan_map *)(void *)((unsigned char *)memory + chan_map_offset());
}

struct torc_chan_keys *torc_chan_keys(void *memory)
{
    return (struct torc_chan_keys *)(void *)((unsigned char *)memory + chan_keys_offset());
}

struct torc_chan_sessions *torc_chan_sessions(void *memory)
{
    return (struct torc_chan_sessions *)(void *)((unsigned char *)memory + chan_sessions_offset());
}
