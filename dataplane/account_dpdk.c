// Torc dataplane: the account of memory. See dataplane/account_dpdk.h.
#include "dataplane/account_dpdk.h"

#include "dataplane/touch_dpdk.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "kit/resident_os.h"

#include <rte_memory.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

// Of transparent huge pages.
#define ACCOUNT_HUGE_BYTES (UINT64_C(2) << 20)

// Mappings of ours besides the workers' heaps: chunks, shared, channel; and lists of EAL's.
#define ACCOUNT_PARTS_MAX (TORC_CHANNEL_WORKERS_MAX + 3u + RTE_MAX_MEMSEG_LISTS)

enum account_kind {
    ACCOUNT_BOOKS, // the workers' books tell what it holds
    ACCOUNT_WHOLE, // of one row
    ACCOUNT_SPLIT, // looked at piece by piece
};

struct account_part {
    uint64_t start;
    uint64_t end;
    enum account_kind kind;
    enum torc_memory row; // of a whole one
    uint32_t ends;        // of what fills up in it
};

struct account {
    const struct torc_node *node;
    uint64_t resident_bytes;
    uint64_t hugetlb_bytes;
    uint64_t books_bytes; // resident in the mappings that books tell of
    uint64_t rest_bytes;  // of these, what the last huge pages may hold beyond the books
    uint64_t rows[TORC_MEMORY_COUNT];
    uint32_t part_count;
    struct account_part parts[ACCOUNT_PARTS_MAX];
};

static void account_part_add(struct account *account, const void *base, uint64_t bytes,
                             enum account_kind kind, enum torc_memory row)
{
    if (account->part_count < ACCOUNT_PARTS_MAX && bytes > 0) {
        account->parts[account->part_count++] =
            (struct account_part){(uintptr_t)base, (uintptr_t)base + bytes, kind, row, 0};
    }
}

static void account_books_add(struct account *account, const void *base, uint64_t bytes,
                              uint32_t ends)
{
    uint32_t place = account->part_count;

    account_part_add(account, base, bytes, ACCOUNT_BOOKS, TORC_MEMORY_LEAVES_USED);
    if (account->part_count > place) { // not one without bytes
        account->parts[place].ends = ends;
    }
}

static int account_list(const struct rte_memseg_list *list, void *context)
{
    account_part_add(context, list->base_va, list->len, ACCOUNT_WHOLE, TORC_MEMORY_DPDK);
    return 0;
}

static void account_parts(struct account *account)
{
    const struct torc_node *node = account->node;

    account_books_add(account, node->chunks.base, node->chunks.bytes, node->worker_count);
    account_part_add(account, node->shared.base, node->shared.bytes, ACCOUNT_SPLIT,
                     TORC_MEMORY_WORKERS);
    account_part_add(account, node->channel.memory, node->channel.memory_bytes, ACCOUNT_WHOLE,
                     TORC_MEMORY_CHANNEL);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        const struct torc_heap *heap = &node->workers[i].heap;

        account_books_add(account, heap->memory, heap->memory_bytes, 2); // its table and its units
    }
    (void)rte_memseg_list_walk(account_list, account);
}

static const struct account_part *account_find(const struct account *account,
                                               const struct torc_mapped *mapped)
{
    for (uint32_t i = 0; i < account->part_count; i++) {
        if (mapped->start >= account->parts[i].start && mapped->start < account->parts[i].end) {
            return &account->parts[i];
        }
    }
    return NULL;
}

static bool name_begins(const struct torc_mapped *mapped, const char *word)
{
    return strncmp(mapped->name, word, strlen(word)) == 0;
}

// Of a mapping that is in none of our parts.
static enum torc_memory account_row(const struct torc_mapped *mapped)
{
    if (mapped->kind == TORC_MAPPED_STACK) {
        return TORC_MEMORY_DATAPLANE_STACKS;
    }
    if (mapped->kind == TORC_MAPPED_OTHER) {
        return TORC_MEMORY_DATAPLANE_HEAP;
    }
    if (mapped->hugetlb_bytes > 0 || name_begins(mapped, "socket:") ||
        name_begins(mapped, "/memfd:") || name_begins(mapped, "/dev/")) {
        return TORC_MEMORY_DPDK; // rings of AF_XDP and AF_PACKET, memif regions, cards
    }
    return TORC_MEMORY_DATAPLANE_TEXT;
}

static void account_mapped(struct account *account, const struct torc_mapped *mapped)
{
    const struct account_part *part = account_find(account, mapped);
    uint64_t bytes = mapped->bytes + mapped->hugetlb_bytes;

    account->resident_bytes += mapped->bytes;
    account->hugetlb_bytes += mapped->hugetlb_bytes;
    if (part == NULL) {
        account->rows[account_row(mapped)] += bytes;
    } else if (part->kind == ACCOUNT_WHOLE) {
        account->rows[part->row] += bytes;
    } else if (part->kind == ACCOUNT_BOOKS) {
        account->books_bytes += bytes;
        account->rest_bytes += part->ends * torc_max_u64(ACCOUNT_HUGE_BYTES, mapped->page_bytes);
    }
}

// Sessions, hand-over rings, workers, loops: one mapping, by what of it is resident.
static void account_shared(struct account *account)
{
    const struct torc_node *node = account->node;
    uint64_t rest = torc_resident_range(node->shared.base, node->shared.bytes);
    const unsigned char *at = node->shared.base;
    uint64_t bytes = torc_resident_range(at, node->sessions_bytes);

    account->rows[TORC_MEMORY_SESSIONS] = bytes;
    rest -= torc_min_u64(bytes, rest);
    bytes = torc_resident_range(at + node->sessions_bytes, node->handover_bytes);
    account->rows[TORC_MEMORY_HANDOVER] = bytes;
    rest -= torc_min_u64(bytes, rest);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct torc_worker_range ranges[TORC_WORKER_RANGES];

        torc_worker_ranges(node->workers[i].worker, ranges);
        for (uint32_t range = 0; range < TORC_WORKER_RANGES; range++) {
            bytes = torc_resident_range(ranges[range].base, ranges[range].bytes);
            account->rows[ranges[range].row] += bytes;
            rest -= torc_min_u64(bytes, rest);
        }
    }
    account->rows[TORC_MEMORY_WORKERS] = rest;
}

static void account_books(struct account *account)
{
    const struct torc_node *node = account->node;
    uint64_t told_bytes = 0;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        const struct torc_stats *stats = torc_worker_stats(node->workers[i].worker);

        for (uint32_t row = 0; row < TORC_MEMORY_BOOKS; row++) {
            uint64_t bytes = torc_stats_get(&stats->memory[row]);

            account->rows[row] += bytes;
            told_bytes += bytes;
        }
    }
    account->rows[TORC_MEMORY_CHUNKS_AHEAD] = torc_touch_bytes(node);
    told_bytes += account->rows[TORC_MEMORY_CHUNKS_AHEAD];
    // No more than huge pages explain: books that are wrong are to show.
    account->rows[TORC_MEMORY_HUGE_REST] = torc_min_u64(
        account->books_bytes - torc_min_u64(told_bytes, account->books_bytes), account->rest_bytes);
}

// Pairs with control's reading of it: a seqlock.
static void account_publish(const struct account *account, struct torc_chan_memory *memory)
{
    uint64_t sequence = atomic_load_explicit(&memory->sequence, memory_order_relaxed);

    atomic_store_explicit(&memory->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    torc_stats_set(&memory->measured_ns, torc_clock_now_ns());
    torc_stats_set(&memory->resident_bytes, account->resident_bytes);
    torc_stats_set(&memory->hugetlb_bytes, account->hugetlb_bytes);
    for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
        torc_stats_set(&memory->rows[row], account->rows[row]);
    }
    atomic_store_explicit(&memory->sequence, sequence + 2, memory_order_release);
}

static void account_make(struct torc_node *node)
{
    struct account *account = calloc(1, sizeof(*account));
    struct torc_chan *chan = node->channel.memory;
    struct torc_resident resident;
    struct torc_mapped mapped;
    struct torc_fail why;

    if (account == NULL) {
        return; // the next one may do
    }
    account->node = node;
    account_parts(account);
    if (torc_resident_open(&resident, &why) == TORC_ERR_OK) {
        while (torc_resident_next(&resident, &mapped)) {
            account_mapped(account, &mapped);
        }
        torc_resident_close(&resident);
        account_shared(account);
        account_books(account);
        account_publish(account, &chan->memory);
    } else {
        torc_log(TORC_LOG_DEBUG, "account", "none", "text=\"%s\"", why.text);
    }
    free(account);
}

static uint64_t account_cpu_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * TORC_NS_PER_S + (uint64_t)now.tv_nsec;
}

void torc_account_step(struct torc_node *node, uint64_t now_ns, int *timeout_ms)
{
    int left_ms;

    if (now_ns >= node->account_ns) {
        uint64_t began_ns = account_cpu_ns();

        account_make(node);
        node->account_ns =
            now_ns + torc_max_u64(TORC_ACCOUNT_NS, 1000 * (account_cpu_ns() - began_ns));
    }
    left_ms = (int)torc_min_u64((node->account_ns - now_ns) / TORC_NS_PER_MS + 1, 60000);
    *timeout_ms = *timeout_ms < 0 || left_ms < *timeout_ms ? left_ms : *timeout_ms;
}
