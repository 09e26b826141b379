// Torc kit: what a process finds resident of itself. See kit/resident_os.h.
#include "kit/resident_os.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    GUARD_BYTES_MAX = 65536,
    PAGES_AT_ONCE = 4096,
    LINE_BYTES = 512
};

enum torc_err torc_resident_open(struct torc_resident *resident, struct torc_fail *why)
{
    *resident = (struct torc_resident){.file = fopen("/proc/self/smaps", "re")};
    if (resident->file == NULL) {
        return torc_fail(why, TORC_ERR_IO, "/proc/self/smaps: %s", strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

void torc_resident_close(struct torc_resident *resident)
{
    if (resident->file != NULL) {
        (void)fclose(resident->file);
    }
    *resident = (struct torc_resident){0};
}

// `Pss:   12 kB` adds 12 KiB to what the name says.
static void resident_number(struct torc_mapped *mapped, const char *line)
{
    const char *colon = strchr(line, ':');
    uint64_t bytes = colon != NULL ? strtoull(colon + 1, NULL, 10) << 10 : 0;

    if (strncmp(line, "Pss:", 4) == 0) {
        mapped->bytes = bytes;
    } else if (strncmp(line, "KernelPageSize:", 15) == 0) {
        mapped->page_bytes = bytes;
    } else if (strncmp(line, "Shared_Hugetlb:", 15) == 0 ||
               strncmp(line, "Private_Hugetlb:", 16) == 0) {
        mapped->hugetlb_bytes += bytes;
    }
}

// `start-end perms offset device inode  name`; false when it is none.
static bool resident_head(struct torc_resident *resident, struct torc_mapped *mapped, char *line)
{
    char *at = NULL;
    char *perms;
    uint64_t inode = 0;

    *mapped = (struct torc_mapped){.kind = TORC_MAPPED_OTHER};
    mapped->start = strtoull(line, &at, 16);
    if (at == line || *at != '-') {
        return false;
    }
    mapped->end = strtoull(at + 1, &at, 16);
    perms = at + 1;
    for (uint32_t field = 0; field < 3 && at != NULL; field++) { // behind the device
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return false;
    }
    inode = strtoull(at, &at, 10);
    at += strspn(at, " ");
    at[strcspn(at, "\n")] = '\0';
    (void)snprintf(mapped->name, sizeof(mapped->name), "%s", at);
    if (inode != 0) {
        mapped->kind = TORC_MAPPED_FILE;
    } else if (strcmp(mapped->name, "[stack]") == 0 ||
               (mapped->start == resident->guard_end && strncmp(perms, "rw-", 3) == 0)) {
        mapped->kind = TORC_MAPPED_STACK;
    }
    resident->guard_end =
        strncmp(perms, "---p", 4) == 0 && mapped->end - mapped->start <= GUARD_BYTES_MAX
            ? mapped->end
            : 0;
    return true;
}

bool torc_resident_next(struct torc_resident *resident, struct torc_mapped *mapped)
{
    char line[LINE_BYTES];
    bool inside = false;

    while (fgets(line, sizeof(line), resident->file) != NULL) {
        if (!inside) {
            inside = resident_head(resident, mapped, line);
        } else if (strncmp(line, "VmFlags:", 8) == 0) {
            return true;
        } else {
            resident_number(mapped, line);
        }
    }
    return false;
}

// A page of private memory that is present and not one of zeros, which nobody counts as resident:
// bits 63 and 56 (mapped by one alone) of its word in pagemap.
static bool page_is_resident(uint64_t word)
{
    return (word >> 63 & 1) != 0 && (word >> 56 & 1) != 0;
}

uint64_t torc_resident_range(const void *base, uint64_t bytes)
{
    uint64_t words[PAGES_AT_ONCE];
    uint64_t first = ((uintptr_t)base + PAGE_BYTES - 1) / PAGE_BYTES;
    uint64_t end = ((uintptr_t)base + bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    uint64_t resident = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && first < end) {
        uint64_t wanted = torc_min_u64(end - first, PAGES_AT_ONCE) * sizeof(words[0]);
        ssize_t got = pread(fd, words, wanted, (off_t)(first * sizeof(words[0])));

        if (got < (ssize_t)sizeof(words[0])) {
            break;
        }
        for (uint64_t i = 0; i < (uint64_t)got / sizeof(words[0]); i++) {
            resident += page_is_resident(words[i]) ? 1 : 0;
        }
        first += (uint64_t)got / sizeof(words[0]);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return resident * PAGE_BYTES;
}
