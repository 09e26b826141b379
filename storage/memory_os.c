// Torc storage: mappings and heaps. See storage/memory_os.h.
#include "storage/memory_os.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES  (UINT64_C(2) << 20)
#define GUARD_BYTES UINT64_C(4096)

// Unmaps what lies around [base, base + bytes) in a larger mapping, but for a guard on each side.
static void mapping_trim(unsigned char *all, uint64_t all_bytes, unsigned char *base,
                         uint64_t bytes)
{
    uint64_t before = (uint64_t)(base - all) - GUARD_BYTES;
    uint64_t after = all_bytes - before - bytes - 2 * GUARD_BYTES;

    if (before > 0) {
        (void)munmap(all, before);
    }
    if (after > 0) {
        (void)munmap(base + bytes + GUARD_BYTES, after);
    }
}

// An aligned mapping between guards: taken larger and trimmed. NULL with errno set.
static void *mapping_take(uint64_t bytes, int flags)
{
    uint64_t all_bytes = bytes + HUGE_BYTES + 2 * GUARD_BYTES;
    unsigned char *all =
        mmap(NULL, all_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    unsigned char *base;
    void *mapped;
    int error;

    if (all == MAP_FAILED) {
        return NULL;
    }
    base = all + GUARD_BYTES;
    base += (HUGE_BYTES - ((uintptr_t)base & (HUGE_BYTES - 1))) % HUGE_BYTES;
    mapped = mmap(base, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
    if (mapped == MAP_FAILED) {
        error = errno;
        (void)munmap(all, all_bytes);
        errno = error;
        return NULL;
    }
    mapping_trim(all, all_bytes, base, bytes);
    return base;
}

// `hugetlb`: reserved huge pages are taken if there are enough.
static enum torc_err mapping_open(struct torc_mapping *mapping, uint64_t bytes, bool hugetlb,
                                  struct torc_fail *why)
{
    void *base;

    *mapping = (struct torc_mapping){0};
    if (bytes == 0 || bytes > UINT64_MAX / 2) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "memory of %" PRIu64 " bytes", bytes);
    }
    bytes = (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    base = hugetlb ? mapping_take(bytes, MAP_HUGETLB) : NULL;
    mapping->hugetlb = base != NULL;
    if (base == NULL) {
        base = mapping_take(bytes, MAP_NORESERVE);
    }
    if (base == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "mmap %" PRIu64 " bytes: %s", bytes,
                         strerror(errno)); // NOLINT(concurrency-mt-unsafe): before any thread
    }
    if (!mapping->hugetlb) {
        (void)madvise(base, bytes, MADV_HUGEPAGE); // without it, slower
    }
    mapping->base = base;
    mapping->bytes = bytes;
    return TORC_ERR_OK;
}

enum torc_err torc_mapping_open(struct torc_mapping *mapping, uint64_t bytes, struct torc_fail *why)
{
    return mapping_open(mapping, bytes, true, why);
}

void torc_mapping_close(struct torc_mapping *mapping)
{
    if (mapping->base != NULL) {
        unsigned char *base = mapping->base;

        // Apart, for the pages in the middle may be of another size.
        (void)munmap(base, mapping->bytes);
        (void)munmap(base - GUARD_BYTES, GUARD_BYTES);
        (void)munmap(base + mapping->bytes, GUARD_BYTES);
    }
    *mapping = (struct torc_mapping){0};
}

bool torc_mapping_touch(const struct torc_mapping *mapping, uint64_t from, uint64_t bytes)
{
    torc_assert(from <= mapping->bytes);
    torc_assert(bytes <= mapping->bytes - from);
    return madvise((unsigned char *)mapping->base + from, bytes, MADV_POPULATE_WRITE) == 0;
}

enum torc_err torc_heap_open(struct torc_heap *heap, uint64_t bytes, struct torc_fail *why)
{
    struct torc_mapping mapping;
    enum torc_err err;

    *heap = (struct torc_heap){0};
    if (bytes < TORC_HEAP_UNIT_BYTES || bytes / TORC_HEAP_UNIT_BYTES > TORC_HEAP_UNITS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%" PRIu64 " bytes for large values",
                         bytes);
    }
    err = mapping_open(&mapping, torc_heap_mapping_bytes(bytes), false, why);
    if (err == TORC_ERR_OK) {
        torc_heap_init(heap, mapping.base, mapping.bytes, bytes);
    }
    return err;
}

void torc_heap_close(struct torc_heap *heap)
{
    struct torc_mapping mapping = {.base = heap->memory, .bytes = heap->memory_bytes};

    torc_heap_forget(heap);
    torc_mapping_close(&mapping);
}
