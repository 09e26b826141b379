// Torc simulator: memory, which one run leaves to the next. See sim.h.
//
// What    two kinds. Regions (sim_memory), zero when they are taken: memory of dataplanes,
//         channels, clients. And malloc itself, in this program, between sim_memory_begin and
//         _end: all that a run has not freed (disks, what killed controls leave) ends with it.
// Why     a run touches 45,000 pages: to get them from the kernel took two fifths of its time.
// Zero    of a region that is freed the pages that exist are cleared (mincore), for the next life
//         or seed: of a worker's 40 MB some hundred. Those that some lives in a row left zero go
//         back: without that all would exist in the end, and looking at them is dearer than what
//         it saves. How many lives depends on what a page fault costs, which is measured: ten
//         looks on one machine, over a hundred on one whose hypervisor makes the page tables.
// Owner   a process that runs seeds one after the other. With a sanitizer malloc is its own, and a
//         process has one run.
#include "kit/clock_os.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE         UINT64_C(4096)
#define REGION_LEAST 16u // log2 of bytes
#define REGION_MOST  30u
#define HUGE         (UINT64_C(2) << 20)
#define LIVES_LEAST  4u   // where a fault is ten looks 2 to 8 cost the same, 0 and 30 more
#define LIVES_MOST   100u // a byte counts them
#define TRIALS       8u
#define TRIAL_PAGES  32u

// In the page before it; before that a byte for each of its pages: for how many lives nobody has
// used it.
struct region {
    struct region *next_free; // of its size
    struct region *next;      // of all
    uint64_t used;            // bytes asked for; 0: free
    uint64_t before;          // bytes asked for by the last who had it
    uint32_t log;             // of its room
};

static struct region *regions;
static struct region *regions_free[REGION_MOST + 1];
static unsigned char present[(UINT64_C(1) << REGION_MOST) / PAGE];
static uint32_t lives; // that leave a page zero before it goes back; 0: not yet measured

// -- Regions --------------------------------------------------------------------------------------

static uint8_t *region_memory(struct region *region)
{
    return (uint8_t *)region + PAGE;
}

static uint8_t *region_idle(struct region *region)
{
    return (uint8_t *)region - (UINT64_C(1) << region->log) / PAGE;
}

// Aligned to 2 MiB: what a mapping of chunks is.
static struct region *region_map(uint32_t log)
{
    uint64_t room = UINT64_C(1) << log;
    uint64_t head = PAGE + (room / PAGE + PAGE - 1) / PAGE * PAGE;
    uint8_t *all = mmap(NULL, room + HUGE + head, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct region *region;

    torc_assert(all != MAP_FAILED);
    all += (HUGE - (((uintptr_t)all + head) & (HUGE - 1))) % HUGE;
    (void)madvise(all, head + room, MADV_NOHUGEPAGE); // a page that exists is one that was used
    region = (void *)(all + head - PAGE);
    *region = (struct region){.next = regions, .log = log};
    regions = region;
    return region;
}

// A free one, if possible of who asked for as much: it will use the same pages.
static struct region *region_take(uint32_t log, uint64_t bytes)
{
    struct region **best = &regions_free[log];
    struct region *region;

    for (struct region **at = best; *at != NULL; at = &(*at)->next_free) {
        if ((*at)->before == bytes) {
            best = at;
            break;
        }
    }
    region = *best;
    if (region != NULL) {
        *best = region->next_free;
    }
    return region;
}

void *sim_memory(uint64_t bytes)
{
    uint32_t log = bytes <= UINT64_C(1) << REGION_LEAST
                       ? REGION_LEAST
                       : 64u - (uint32_t)__builtin_clzll(bytes - 1);
    struct region *region;

    torc_assert(bytes > 0);
    torc_assert(log <= REGION_MOST);
    region = region_take(log, bytes);
    if (region == NULL) {
        region = region_map(log);
    }
    region->used = bytes;
    return region_memory(region);
}

static bool page_is_zero(const uint8_t *page)
{
    uint64_t first;

    memcpy(&first, page, sizeof(first));
    return first == 0 && memcmp(page, page + sizeof(first), PAGE - sizeof(first)) == 0;
}

// What a page fault costs, in looks at a page; half of that, for the pages looked at here are in
// the processor's cache. The least of some trials: others have the processor as well.
static uint32_t lives_measure(void)
{
    uint64_t fault_ns = UINT64_MAX;
    uint64_t look_ns = UINT64_MAX;

    for (uint32_t trial = 0; trial < TRIALS; trial++) {
        uint8_t *pages = mmap(NULL, TRIAL_PAGES * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        uint64_t begin_ns = torc_clock_now_ns();
        uint64_t there_ns;

        torc_assert(pages != MAP_FAILED);
        (void)madvise(pages, TRIAL_PAGES * PAGE, MADV_NOHUGEPAGE);
        for (uint64_t i = 0; i < TRIAL_PAGES; i++) {
            pages[i * PAGE] = 0;
        }
        there_ns = torc_clock_now_ns();
        for (uint64_t i = 0; i < TRIAL_PAGES; i++) {
            torc_assert(page_is_zero(pages + i * PAGE));
        }
        look_ns = torc_min_u64(look_ns, torc_clock_now_ns() - there_ns);
        fault_ns = torc_min_u64(fault_ns, there_ns - begin_ns);
        torc_assert(munmap(pages, TRIAL_PAGES * PAGE) == 0);
    }
    return (uint32_t)torc_min_u64(torc_max_u64(fault_ns / (2 * look_ns + 1), LIVES_LEAST),
                                  LIVES_MOST);
}

static void region_clear(struct region *region)
{
    uint8_t *idle = region_idle(region);
    uint64_t pages = (region->used + PAGE - 1) / PAGE;
    uint64_t unused = 0; // pages before this one that are to go back

    if (lives == 0) {
        lives = lives_measure();
    }
    torc_assert(mincore(region_memory(region), pages * PAGE, present) == 0);
    for (uint64_t i = 0; i <= pages; i++) {
        uint8_t *page = region_memory(region) + i * PAGE;
        bool is = i < pages && (present[i] & 1) != 0;

        if (is && page_is_zero(page)) {
            if (++idle[i] > lives) {
                unused++;
                idle[i] = 0;
                continue;
            }
        } else if (is) {
            memset(page, 0, PAGE);
            idle[i] = 0;
        }
        if (unused > 0) {
            (void)madvise(page - unused * PAGE, unused * PAGE, MADV_DONTNEED);
            unused = 0;
        }
    }
    region->before = region->used;
    region->used = 0;
    region->next_free = regions_free[region->log];
    regions_free[region->log] = region;
}

void sim_memory_free(void *memory, uint64_t bytes)
{
    struct region *region;

    if (memory != NULL) {
        region = (void *)((uint8_t *)memory - PAGE);
        torc_assert(region->used == bytes);
        region_clear(region);
    }
}

// -- malloc ---------------------------------------------------------------------------------------

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(thread_sanitizer)
#define OWN_MALLOC false
#else
#define OWN_MALLOC true
#endif
#else
#define OWN_MALLOC true
#endif

#if OWN_MALLOC

#define HEAP_BYTES  (UINT64_C(16) << 30) // of addresses
#define HEAPS       2u
#define CLASS_COUNT 128u
#define LEAST_LOG   6u // so that quarters are multiples of 16

// Before each block: where it really begins, for one that is aligned.
struct head {
    void *raw;
    uint64_t class;
};

// Blocks of four sizes to each power of two; what is freed is for its own size again.
struct heap {
    uint8_t *at;
    uint64_t used;
    void *free[CLASS_COUNT];
};

// [0]: of the program, [1]: of a run.
static struct heap heaps[HEAPS];
static uint32_t heap_now;

// The size of the class: (4 + low two bits) quarters of a power of two.
static uint64_t class_bytes(uint32_t class)
{
    return (UINT64_C(4) + class % 4) << (class / 4 + LEAST_LOG - 2);
}

static uint32_t class_of(uint64_t bytes)
{
    uint32_t log = 63u - (uint32_t)__builtin_clzll(bytes | 1);
    uint32_t class = log < LEAST_LOG ? 0 : 4 * (log - LEAST_LOG);

    while (class_bytes(class) < bytes) {
        class ++;
    }
    return class;
}

static void *heap_take(struct heap *heap, uint64_t bytes, uint64_t align)
{
    uint64_t most = bytes + sizeof(struct head) + (align > sizeof(struct head) ? align : 0);
    uint32_t class;
    uint8_t *raw;
    uint8_t *at;

    if (bytes > HEAP_BYTES / 4) {
        errno = ENOMEM;
        return NULL;
    }
    class = class_of(most);
    raw = heap->free[class];
    if (raw != NULL) {
        memcpy(&heap->free[class], raw, sizeof(void *));
    } else {
        if (heap->at == NULL) {
            heap->at = mmap(NULL, HEAP_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            (void)madvise(heap->at, HEAP_BYTES, MADV_HUGEPAGE);
        }
        if (heap->at == MAP_FAILED || heap->used + class_bytes(class) > HEAP_BYTES) {
            errno = ENOMEM;
            return NULL;
        }
        raw = heap->at + heap->used;
        heap->used += class_bytes(class);
    }
    at = raw + sizeof(struct head);
    at += (align - (uintptr_t)at % align) % align;
    ((struct head *)(void *)at)[-1] = (struct head){.raw = raw, .class = class};
    return at;
}

// The C library's names: who links with this gets these.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
void *malloc(size_t bytes)
{
    return heap_take(&heaps[heap_now], bytes, sizeof(struct head));
}

void free(void *block)
{
    const struct head *head = block;
    struct heap *heap;
    void *raw;
    uint64_t class;

    if (block == NULL) {
        return;
    }
    raw = head[-1].raw;
    class = head[-1].class;
    heap = &heaps[(uint64_t)((uint8_t *)raw - heaps[1].at) < HEAP_BYTES && heaps[1].at != NULL];
    memcpy(raw, &heap->free[class], sizeof(void *));
    heap->free[class] = raw;
}

void *calloc(size_t count, size_t bytes)
{
    void *block = NULL;
    size_t all;

    if (__builtin_mul_overflow(count, bytes, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    block = malloc(all);
    return block != NULL ? memset(block, 0, all) : NULL;
}

void *realloc(void *block, size_t bytes)
{
    const struct head *head = block;
    uint64_t room;
    void *other;

    if (block == NULL) {
        return malloc(bytes);
    }
    room = class_bytes((uint32_t)head[-1].class) -
           (uint64_t)((uint8_t *)block - (uint8_t *)head[-1].raw);
    if (bytes <= room) {
        return block;
    }
    other = malloc(bytes);
    if (other != NULL) {
        memcpy(other, block, room);
        free(block);
    }
    return other;
}

void *aligned_alloc(size_t align, size_t bytes)
{
    return heap_take(&heaps[heap_now], bytes, torc_max_u64(align, sizeof(struct head)));
}

void *memalign(size_t align, size_t bytes)
{
    return aligned_alloc(align, bytes);
}

int posix_memalign(void **block, size_t align, size_t bytes)
{
    *block = aligned_alloc(align, bytes);
    return *block != NULL ? 0 : ENOMEM;
}

// NOLINTEND(readability-inconsistent-declaration-parameter-name)

#endif

// -- Runs -----------------------------------------------------------------------------------------

uint32_t sim_memory_runs(void)
{
    return OWN_MALLOC ? 256 : 1;
}

void sim_memory_begin(void)
{
    for (struct region *region = regions; region != NULL; region = region->next) {
        if (region->used > 0) {
            region_clear(region);
        }
    }
#if OWN_MALLOC
    heaps[1].used = 0;
    memset(heaps[1].free, 0, sizeof(heaps[1].free));
    heap_now = 1;
#endif
}

void sim_memory_end(void)
{
#if OWN_MALLOC
    heap_now = 0;
#endif
}
