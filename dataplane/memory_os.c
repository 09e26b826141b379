// Torc dataplane: memory for trees and large values. See dataplane/memory_os.h.
#include "dataplane/memory_os.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_PAGE_BYTES (UINT64_C(2) << 20) // what every x86-64 and most Arm systems call huge

static uint64_t memory_round_up(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

// Puts the real pages where address space was reserved.
static bool memory_fill(void *base, uint64_t bytes, enum torc_memory_huge huge,
                        enum torc_memory_pages *pages)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    void *filled = MAP_FAILED;

    if (huge != TORC_MEMORY_NO_HUGE) {
        *pages = TORC_MEMORY_HUGETLB;
        filled = mmap(base, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
    }
    if (filled == MAP_FAILED && huge != TORC_MEMORY_ONLY_HUGE) {
        *pages = TORC_MEMORY_MADVISED;
        filled = mmap(base, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, -1, 0);
        if (filled != MAP_FAILED) {
            (void)madvise(filled, bytes, MADV_HUGEPAGE); // a wish: without it, slower
        }
    }
    return filled != MAP_FAILED;
}

enum torc_err torc_memory_open(struct torc_memory *memory, uint64_t bytes, uint64_t align_bytes,
                               enum torc_memory_huge huge, struct torc_fail *why)
{
    uint64_t need_bytes = memory_round_up(bytes, MEMORY_PAGE_BYTES);
    uint64_t room_bytes = need_bytes + align_bytes;
    unsigned char *room;
    uint64_t before;
    unsigned char *base;

    torc_assert(bytes > 0);
    torc_assert(bytes < UINT64_C(1) << 46);
    torc_assert(torc_is_power_of_two(align_bytes));
    torc_assert(align_bytes >= MEMORY_PAGE_BYTES);
    room = mmap(NULL, room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "memory: %" PRIu64 " MiB of address space: %s",
                         room_bytes >> 20, strerror(errno)); // NOLINT(concurrency-mt-unsafe)
    }
    before = memory_round_up((uintptr_t)room, align_bytes) - (uintptr_t)room;
    base = room + before;
    if (!memory_fill(base, need_bytes, huge, &memory->pages)) {
        (void)torc_fail(why, TORC_ERR_NO_SPACE,
                        "memory: %" PRIu64 " MiB%s: %s (%" PRIu64 " MiB of hugepages are free)",
                        need_bytes >> 20, huge == TORC_MEMORY_ONLY_HUGE ? " of hugepages" : "",
                        strerror(errno), // NOLINT(concurrency-mt-unsafe)
                        torc_memory_huge_free_bytes() >> 20);
        (void)munmap(room, room_bytes);
        return TORC_ERR_NO_SPACE;
    }
    if (before > 0) {
        (void)munmap(room, before);
    }
    if (before < align_bytes) {
        (void)munmap(base + need_bytes, align_bytes - before);
    }
    memory->base = base;
    memory->bytes = need_bytes;
    return TORC_ERR_OK;
}

void torc_memory_close(struct torc_memory *memory)
{
    torc_assert(memory->base != NULL);
    (void)munmap(memory->base, memory->bytes);
    *memory = (struct torc_memory){0};
}

#if defined(__SANITIZE_ADDRESS__)
#define MEMORY_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEMORY_SANITIZED 1
#endif
#endif
#ifndef MEMORY_SANITIZED
#define MEMORY_SANITIZED 0
#endif

enum torc_err torc_memory_heap_open(mi_heap_t **heap, uint64_t bytes, enum torc_memory_huge huge,
                                    struct torc_fail *why)
{
    struct torc_memory memory;
    mi_arena_id_t arena = 0;
    enum torc_err err;

    if (MEMORY_SANITIZED) {
        *heap = mi_heap_new();
        return *heap != NULL ? TORC_ERR_OK
                             : torc_fail(why, TORC_ERR_NO_SPACE, "memory: no room for a heap");
    }
    err = torc_memory_open(&memory, memory_round_up(bytes, TORC_MEMORY_HEAP_ALIGN_BYTES),
                           TORC_MEMORY_HEAP_ALIGN_BYTES, huge, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    // "large" promises that the pages are never decommitted; our bound is the mapping's size.
    if (!mi_manage_os_memory_ex(memory.base, memory.bytes, true, true, true, -1, true, &arena)) {
        torc_memory_close(&memory);
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "memory: mimalloc did not take %" PRIu64 " MiB for large values",
                         memory.bytes >> 20);
    }
    *heap = mi_heap_new_in_arena(arena);
    if (*heap == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "memory: no heap in the arena of %" PRIu64 " MiB",
                         memory.bytes >> 20);
    }
    return TORC_ERR_OK;
}

// The first number in a small file, or `fallback`.
static uint64_t memory_read_number(const char *path, uint64_t fallback)
{
    FILE *file = fopen(path, "re");
    char text[32];
    uint64_t number = fallback;

    if (file == NULL) {
        return fallback;
    }
    if (fgets(text, sizeof(text), file) != NULL) {
        char *end = NULL;
        uint64_t read;

        errno = 0;
        read = strtoull(text, &end, 10);
        number = end != text && errno == 0 ? read : fallback; // "max" is not a number
    }
    (void)fclose(file);
    return number;
}

uint64_t torc_memory_machine_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    uint64_t group = memory_read_number("/sys/fs/cgroup/memory.max", UINT64_MAX);

    return torc_min_u64(machine, group);
}

uint64_t torc_memory_huge_free_bytes(void)
{
    DIR *folder = opendir("/sys/kernel/mm/hugepages");
    struct dirent *entry;
    uint64_t bytes = 0;

    if (folder == NULL) {
        return 0;
    }
    while ((entry = readdir(folder)) != NULL) { // NOLINT(concurrency-mt-unsafe): a DIR of our own
        static const char prefix[] = "hugepages-"; // hugepages-2048kB
        char path[sizeof("/sys/kernel/mm/hugepages//free_hugepages") + sizeof(entry->d_name)];
        uint64_t kib;

        if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) != 0) {
            continue;
        }
        kib = strtoull(entry->d_name + sizeof(prefix) - 1, NULL, 10);
        (void)snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages",
                       entry->d_name);
        bytes += memory_read_number(path, 0) * kib * 1024;
    }
    (void)closedir(folder);
    return bytes;
}
