// Torc dataplane: how much memory the machine has. See dataplane/machine_os.h.
#include "dataplane/machine_os.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The first number in a small file, or `fallback`.
static uint64_t machine_read_number(const char *path, uint64_t fallback)
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

uint64_t torc_machine_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    uint64_t group = machine_read_number("/sys/fs/cgroup/memory.max", UINT64_MAX);

    return torc_min_u64(machine, group);
}

uint64_t torc_machine_huge_free_bytes(void)
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
        bytes += machine_read_number(path, 0) * kib * 1024;
    }
    (void)closedir(folder);
    return bytes;
}
