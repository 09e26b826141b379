// Torc dataplane: what the workers of a node tell each other about its replicas; see council.h.
#include "dataplane/council.h"

#include <string.h>

#define COUNCIL_ALIGN 4096u
#define COUNCIL_TRIES 64u // of a seqlock whose writer works for nanoseconds

static uint64_t council_align(uint64_t bytes)
{
    return (bytes + COUNCIL_ALIGN - 1) & ~(uint64_t)(COUNCIL_ALIGN - 1);
}

static uint64_t council_ring_bytes(void)
{
    return council_align(
        torc_spsc_bytes((uint32_t)sizeof(struct torc_council_note), TORC_COUNCIL_NOTES));
}

static uint64_t council_rows_bytes(uint32_t worker_count, uint32_t shards_max)
{
    return council_align((uint64_t)worker_count * shards_max * sizeof(struct torc_council_row));
}

uint64_t torc_council_bytes(uint32_t worker_count, uint32_t shards_max)
{
    return council_align(sizeof(struct torc_council)) +
           (uint64_t)2 * worker_count * council_ring_bytes() +
           council_rows_bytes(worker_count, shards_max);
}

static void *council_ring(struct torc_council *council, uint32_t worker, bool up)
{
    torc_assert(worker < council->worker_count);
    return (unsigned char *)council + council->rings_offset +
           (2 * (uint64_t)worker + (up ? 0 : 1)) * council->ring_bytes;
}

enum torc_err torc_council_init(struct torc_council **council, void *memory, uint64_t memory_bytes,
                                uint32_t worker_count, uint32_t shards_max, struct torc_fail *why)
{
    struct torc_council *made = memory;
    uint64_t need_bytes = torc_council_bytes(worker_count, shards_max);

    torc_assert((uintptr_t)memory % COUNCIL_ALIGN == 0);
    torc_assert(worker_count > 0 && worker_count <= TORC_CHAN_WORKERS_MAX);
    if (memory_bytes < need_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "notes between %" PRIu32 " workers need %" PRIu64
                         " bytes, the memory has %" PRIu64,
                         worker_count, need_bytes, memory_bytes);
    }
    memset(memory, 0, need_bytes);
    made->worker_count = worker_count;
    made->shards_max = shards_max;
    atomic_init(&made->median_us, TORC_WALL_UNKNOWN);
    atomic_init(&made->held_us, TORC_WALL_UNKNOWN);
    made->ring_bytes = council_ring_bytes();
    made->rings_offset = council_align(sizeof(*made));
    made->rows = (struct torc_council_row *)(void *)((unsigned char *)memory + made->rings_offset +
                                                     (uint64_t)2 * worker_count * made->ring_bytes);
    for (uint32_t i = 0; i < 2 * worker_count; i++) {
        enum torc_err err =
            torc_spsc_format(council_ring(made, i / 2, i % 2 == 0), made->ring_bytes,
                             sizeof(struct torc_council_note), TORC_COUNCIL_NOTES, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    *council = made;
    return TORC_ERR_OK;
}

enum torc_err torc_council_attach(struct torc_council *council, struct torc_spsc_port *port,
                                  enum torc_spsc_end end, uint32_t worker, bool up,
                                  struct torc_fail *why)
{
    return torc_spsc_attach(port, end, council_ring(council, worker, up), council->ring_bytes, why);
}

bool torc_council_say(struct torc_spsc_port *port, const struct torc_council_note *note)
{
    if (torc_spsc_writable(port, 1) == 0) {
        return false;
    }
    memcpy(torc_spsc_write_at(port, 0), note, sizeof(*note));
    torc_spsc_publish(port, 1);
    return true;
}

// -- Leases ---------------------------------------------------------------------------------------

static struct torc_council_row *council_row(const struct torc_council *council, uint32_t worker,
                                            uint32_t place)
{
    torc_assert(worker < council->worker_count);
    torc_assert(place < council->shards_max);
    return &council->rows[(uint64_t)worker * council->shards_max + place];
}

void torc_council_publish(struct torc_council *council, uint32_t worker, uint32_t place,
                          const struct torc_council_leases *leases)
{
    struct torc_council_row *row = council_row(council, worker, place);
    uint64_t sequence = atomic_load_explicit(&row->sequence, memory_order_relaxed);

    atomic_store_explicit(&row->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&row->epoch, leases->epoch, memory_order_relaxed);
    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        struct torc_council_lease *to = &row->leases[i];

        atomic_store_explicit(&to->node, leases->nodes[i], memory_order_relaxed);
        atomic_store_explicit(&to->until_ns, leases->leases[i].until_ns, memory_order_relaxed);
        atomic_store_explicit(&to->confirmed_ns, leases->leases[i].confirmed_ns,
                              memory_order_relaxed);
        atomic_store_explicit(&to->ceiling, leases->leases[i].ceiling, memory_order_relaxed);
    }
    // Pairs with the acquire in torc_council_read.
    atomic_store_explicit(&row->sequence, sequence + 2, memory_order_release);
}

static void council_copy(const struct torc_council_row *row, struct torc_council_leases *leases)
{
    leases->epoch = (uint32_t)atomic_load_explicit(&row->epoch, memory_order_relaxed);
    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        const struct torc_council_lease *from = &row->leases[i];

        leases->nodes[i] = (uint32_t)atomic_load_explicit(&from->node, memory_order_relaxed);
        leases->leases[i] = (struct torc_watch_lease){
            .until_ns = atomic_load_explicit(&from->until_ns, memory_order_relaxed),
            .confirmed_ns = atomic_load_explicit(&from->confirmed_ns, memory_order_relaxed),
            .ceiling = atomic_load_explicit(&from->ceiling, memory_order_relaxed)};
    }
}

bool torc_council_read(const struct torc_council *council, uint32_t worker, uint32_t place,
                       struct torc_council_leases *leases)
{
    const struct torc_council_row *row = council_row(council, worker, place);
    struct torc_council_leases copy;

    for (uint32_t i = 0; i < COUNCIL_TRIES; i++) {
        uint64_t before = atomic_load_explicit(&row->sequence, memory_order_acquire);

        if (before % 2 != 0) {
            continue;
        }
        council_copy(row, &copy);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&row->sequence, memory_order_relaxed) == before) {
            *leases = copy;
            return true;
        }
    }
    return false;
}
