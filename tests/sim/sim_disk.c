// Torc simulator: disks: control/disk_uring.h over files in memory. See sim.h.
//
// What    each page of a file has two contents: what the machine sees, and what is on the platter.
//         A plain write changes the first; a durable write that came back, and a sync, make them
//         one. When power goes, each sector of a page that differs is drawn: old, new, or garbage;
//         names since the last sync of their folder survive up to a random one (a journal keeps
//         their order). Writes in flight are torn the same way. A process that dies leaves its
//         writes to the kernel: they happen, or never began.
//         A sync that fails loses its pages for good: the next sync does not know of them.
// Owner   control of the machine; the files outlive it.
#include "tests/sim/sim_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES   4096u
#define SECTOR_BYTES 512u
#define PAGES_MAX    4096u // of a file
#define NAMES_MAX    256u  // of a folder, and changes not synced
#define OPENS_MAX    256u
#define FOLDERS      2u
#define FLIGHTS_MAX  512u

struct disk_page {
    uint8_t *now; // NULL: zeros
    uint8_t *kept;
    bool stuck; // a sync failed: the kernel believes it clean
};

struct disk_file {
    uint64_t now_bytes;
    uint64_t kept_bytes;
    uint64_t reserved_bytes;
    struct disk_page pages[PAGES_MAX];
};

struct disk_name {
    char name[TORC_DISK_NAME_BYTES];
    struct disk_file *file;
};

struct disk_folder {
    struct disk_name now[NAMES_MAX];
    struct disk_name kept[NAMES_MAX];
    uint32_t now_count;
    uint32_t kept_count;
    // Since the last sync: from "" is made, to "" is removed.
    struct disk_change {
        char from[TORC_DISK_NAME_BYTES];
        char to[TORC_DISK_NAME_BYTES];
        struct disk_file *file;
    } changes[NAMES_MAX];
    uint32_t change_count;
};

struct sim_store {
    struct disk_folder folders[FOLDERS];
};

struct disk_flight {
    struct torc_disk_op *op;
    uint64_t at_ns;
    int32_t fails; // -errno
};

struct torc_disk {
    struct sim_node *node;
    struct disk_file *open[OPENS_MAX]; // 0 is nobody's
    int folder[OPENS_MAX];             // plus 1; 0: a file
    struct disk_flight flights[FLIGHTS_MAX];
    uint32_t flight_count;
};

struct sim_store *sim_store_make(void)
{
    return sim_memory(sizeof(struct sim_store));
}

int sim_store_folder(uint32_t node, bool checkpoints)
{
    return (int)(node * FOLDERS + (checkpoints ? 1 : 0));
}

static struct disk_folder *disk_folder(const struct torc_disk *disk, int folder_fd)
{
    return &disk->node->store->folders[(uint32_t)folder_fd % FOLDERS];
}

struct torc_disk *sim_disk_open(struct sim_node *node)
{
    struct torc_disk *disk = calloc(1, sizeof(*disk));

    torc_assert(disk != NULL);
    disk->node = node;
    return disk;
}

// -- Contents -------------------------------------------------------------------------------------

static uint8_t *page_write(struct disk_page *page)
{
    uint8_t *before = page->now;

    if (before == NULL || before == page->kept) {
        page->now = malloc(PAGE_BYTES);
        torc_assert(page->now != NULL);
        if (before != NULL) {
            memcpy(page->now, before, PAGE_BYTES);
        } else {
            memset(page->now, 0, PAGE_BYTES);
        }
    }
    page->stuck = false;
    return page->now;
}

static void page_keep(struct disk_page *page)
{
    if (page->kept != page->now) {
        free(page->kept);
        page->kept = page->now;
    }
    page->stuck = false;
}

// A page of which nobody knows what is on the platter: each sector is old, new or garbage.
static void page_tear(struct disk_page *page, bool garbage)
{
    uint8_t *torn = malloc(PAGE_BYTES);

    torc_assert(torn != NULL);
    for (uint32_t at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
        uint64_t dice = torc_rng_below(&sim->rng, 100);
        const uint8_t *from = dice < 50 ? page->kept : page->now;

        if (garbage && dice == 99) {
            for (uint32_t i = 0; i < SECTOR_BYTES; i += 8) {
                uint64_t word = torc_rng_next(&sim->rng);

                memcpy(torn + at + i, &word, 8);
            }
            sim_cover(SIM_COVER_DISK_SECTOR_BAD);
            continue;
        }
        if (from != NULL) {
            memcpy(torn + at, from + at, SECTOR_BYTES);
        } else {
            memset(torn + at, 0, SECTOR_BYTES);
        }
        sim_cover(dice < 50 ? SIM_COVER_DISK_SECTOR_OLD : SIM_COVER_DISK_SECTOR_NEW);
    }
    if (page->now != page->kept) {
        free(page->now);
    }
    free(page->kept);
    page->now = torn;
    page->kept = torn;
    page->stuck = false;
}

static void file_write(struct disk_file *file, const struct torc_disk_op *op, bool durable)
{
    const uint8_t *bytes = op->bytes;
    uint64_t end = op->offset + op->byte_count;

    torc_assert(end <= (uint64_t)PAGES_MAX * PAGE_BYTES);
    for (uint64_t at = op->offset; at < end;) {
        struct disk_page *page = &file->pages[at / PAGE_BYTES];
        uint32_t from = (uint32_t)(at % PAGE_BYTES);
        uint32_t count = (uint32_t)torc_min_u64(PAGE_BYTES - from, end - at);
        bool zeros = page->now == NULL && bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;

        if (!zeros) {
            memcpy(page_write(page) + from, bytes, count);
        }
        if (durable) {
            page_keep(page);
        }
        bytes += count;
        at += count;
    }
    file->now_bytes = torc_max_u64(file->now_bytes, end);
    if (durable) {
        file->kept_bytes = torc_max_u64(file->kept_bytes, end);
    }
}

static int32_t file_read(const struct disk_file *file, uint8_t *bytes, uint32_t byte_count,
                         uint64_t offset)
{
    uint64_t end = torc_min_u64(offset + byte_count, file->now_bytes);

    for (uint64_t at = offset; at < end;) {
        const struct disk_page *page = &file->pages[at / PAGE_BYTES];
        uint32_t from = (uint32_t)(at % PAGE_BYTES);
        uint32_t count = (uint32_t)torc_min_u64(PAGE_BYTES - from, end - at);

        if (page->now != NULL) {
            memcpy(bytes, page->now + from, count);
        } else {
            memset(bytes, 0, count);
        }
        bytes += count;
        at += count;
    }
    return end > offset ? (int32_t)(end - offset) : 0;
}

static uint32_t file_pages(const struct disk_file *file)
{
    uint64_t bytes = torc_max_u64(file->now_bytes, file->kept_bytes);

    return (uint32_t)((bytes + PAGE_BYTES - 1) / PAGE_BYTES);
}

static void file_sync(struct disk_file *file, bool fails)
{
    for (uint32_t i = 0; i < file_pages(file); i++) {
        struct disk_page *page = &file->pages[i];

        if (page->now == page->kept) {
            continue;
        }
        if (fails) {
            page->stuck = torc_rng_chance(&sim->rng, 500000);
        } else if (!page->stuck) {
            page_keep(page);
        }
    }
    if (!fails) {
        file->kept_bytes = file->now_bytes;
    }
}

// -- Names ----------------------------------------------------------------------------------------

static struct disk_name *name_find(struct disk_name *names, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(names[i].name, name) == 0) {
            return &names[i];
        }
    }
    return NULL;
}

static void name_change(struct disk_name *names, uint32_t *count, const char *from, const char *to,
                        struct disk_file *file)
{
    struct disk_name *old = from[0] != '\0' ? name_find(names, *count, from) : NULL;
    struct disk_name *there = to[0] != '\0' ? name_find(names, *count, to) : NULL;

    if (there != NULL) { // replaced
        there->file = file;
    } else if (to[0] != '\0') {
        torc_assert(*count < NAMES_MAX);
        names[*count].file = file;
        (void)snprintf(names[*count].name, TORC_DISK_NAME_BYTES, "%s", to);
        (*count)++;
        old = from[0] != '\0' ? name_find(names, *count, from) : NULL;
    }
    if (old != NULL) {
        *old = names[--*count];
    }
}

static void folder_sync(struct disk_folder *folder)
{
    memcpy(folder->kept, folder->now, sizeof(folder->kept));
    folder->kept_count = folder->now_count;
    folder->change_count = 0;
}

static void folder_change(struct disk_folder *folder, const char *from, const char *to,
                          struct disk_file *file)
{
    struct disk_change *change;

    if (folder->change_count == NAMES_MAX) { // the journal is written now and then anyway
        folder_sync(folder);
    }
    change = &folder->changes[folder->change_count++];
    (void)snprintf(change->from, sizeof(change->from), "%s", from);
    (void)snprintf(change->to, sizeof(change->to), "%s", to);
    change->file = file;
    name_change(folder->now, &folder->now_count, from, to, file);
}

// -- Dying ----------------------------------------------------------------------------------------

// Control may die at any of its operations.
static void disk_may_die(const struct torc_disk *disk)
{
    struct sim_disk_faults *faults = &disk->node->faults;

    if (faults->die_at > 0 && --faults->die_at == 0 && sim->may_die) {
        longjmp(sim->death, 1);
    }
}

void sim_disk_chance(const struct torc_disk *disk)
{
    disk_may_die(disk);
}

static void flight_land(struct torc_disk *disk, const struct disk_flight *flight, bool torn)
{
    struct torc_disk_op *op = flight->op;
    struct disk_file *file = disk->open[op->file];
    bool fails = flight->fails != 0;

    if (op->kind == TORC_DISK_SYNC && disk->folder[op->file] != 0) {
        if (!fails && !torn) {
            folder_sync(disk_folder(disk, disk->folder[op->file] - 1));
        }
    } else if (op->kind == TORC_DISK_SYNC) {
        if (!torn) {
            file_sync(file, fails);
        }
    } else if (op->kind != TORC_DISK_READ) {
        file_write(file, op, op->kind == TORC_DISK_WRITE_DURABLE && !fails && !torn);
        for (uint64_t at = op->offset; (fails || torn) && at < op->offset + op->byte_count;
             at += PAGE_BYTES) {
            page_tear(&file->pages[at / PAGE_BYTES], torn);
        }
    }
}

void sim_disk_kill(struct torc_disk *disk)
{
    bool power = !disk->node->powered;

    for (uint32_t i = 0; i < disk->flight_count; i++) {
        bool begun = torc_rng_chance(&sim->rng, 700000);

        if (begun) {
            flight_land(disk, &disk->flights[i], power);
            sim_cover(power ? SIM_COVER_DISK_SECTOR_NEW : SIM_COVER_DISK_OUTLIVED);
        }
    }
    disk->flight_count = 0;
}

// What the platter says is all there is.
static void file_power_loss(struct disk_file *file)
{
    for (uint32_t i = 0; i < file_pages(file); i++) {
        if (file->pages[i].now != file->pages[i].kept) {
            page_tear(&file->pages[i], true);
        }
    }
    if (file->now_bytes != file->kept_bytes && torc_rng_chance(&sim->rng, 500000)) {
        file->now_bytes = file->kept_bytes;
    }
    file->kept_bytes = file->now_bytes;
}

void sim_store_power_loss(struct sim_node *node)
{
    for (uint32_t i = 0; i < FOLDERS; i++) {
        struct disk_folder *folder = &node->store->folders[i];
        uint32_t survive = (uint32_t)torc_rng_below(&sim->rng, folder->change_count + UINT64_C(1));

        sim_cover_add(SIM_COVER_DISK_NAMES_LOST, folder->change_count - survive);
        for (uint32_t at = 0; at < survive; at++) {
            const struct disk_change *change = &folder->changes[at];

            name_change(folder->kept, &folder->kept_count, change->from, change->to, change->file);
        }
        memcpy(folder->now, folder->kept, sizeof(folder->now));
        folder->now_count = folder->kept_count;
        folder->change_count = 0;
        for (uint32_t at = 0; at < folder->now_count; at++) {
            file_power_loss(folder->now[at].file);
        }
    }
}

void sim_store_lose(struct sim_node *node)
{
    for (uint32_t i = 0; i < FOLDERS; i++) { // files of a run are never freed
        memset(&node->store->folders[i], 0, sizeof(node->store->folders[i]));
    }
}

// -- control/disk_uring.h -------------------------------------------------------------------------

enum torc_err torc_disk_file_open(struct torc_disk *disk, int folder_fd, const char *name,
                                  int flags, uint32_t *file, struct torc_fail *why)
{
    struct disk_folder *folder = disk_folder(disk, folder_fd);
    struct disk_name *found = name_find(folder->now, folder->now_count, name);
    uint32_t slot = 1;

    disk_may_die(disk);
    while (slot < OPENS_MAX && (disk->open[slot] != NULL || disk->folder[slot] != 0)) {
        slot++;
    }
    torc_assert(slot < OPENS_MAX);
    *file = slot;
    if ((flags & O_DIRECTORY) == O_DIRECTORY) {
        disk->folder[slot] = folder_fd + 1;
        return TORC_ERR_OK;
    }
    if (found == NULL && (flags & O_CREAT) == 0) {
        return torc_fail(why, TORC_ERR_NOT_FOUND, "open %s: none", name);
    }
    if (found != NULL && (flags & O_EXCL) != 0) {
        return torc_fail(why, TORC_ERR_IO, "open %s: there is one", name);
    }
    if (found == NULL) {
        disk->open[slot] = sim_memory(sizeof(struct disk_file));
        folder_change(folder, "", name, disk->open[slot]);
        return TORC_ERR_OK;
    }
    disk->open[slot] = found->file;
    if ((flags & O_TRUNC) != 0) {
        disk->open[slot] = sim_memory(sizeof(struct disk_file));
        folder_change(folder, "", name, disk->open[slot]);
    }
    return TORC_ERR_OK;
}

void torc_disk_file_close(struct torc_disk *disk, uint32_t file)
{
    torc_assert(file > 0 && file < OPENS_MAX);
    torc_assert(disk->open[file] != NULL || disk->folder[file] != 0);
    disk->open[file] = NULL;
    disk->folder[file] = 0;
}

uint32_t torc_disk_window_open(struct torc_disk *disk, void *bytes, uint64_t byte_count)
{
    (void)disk, (void)bytes, (void)byte_count;
    return 0;
}

void torc_disk_window_close(struct torc_disk *disk, uint32_t window)
{
    (void)disk, (void)window;
}

static bool disk_is_full(const struct torc_disk *disk, const struct torc_disk_op *op)
{
    const struct disk_file *file = disk->open[op->file];
    bool grows = (op->kind == TORC_DISK_WRITE || op->kind == TORC_DISK_WRITE_DURABLE) &&
                 file != NULL &&
                 op->offset + op->byte_count > torc_max_u64(file->now_bytes, file->reserved_bytes);

    if (grows && disk->node->faults.full_after == 0) {
        sim_cover(SIM_COVER_DISK_ENOSPC);
        return true;
    }
    return false;
}

// What this operation comes back with beside success.
static int32_t disk_verdict(struct torc_disk *disk, const struct torc_disk_op *op)
{
    struct sim_disk_faults *faults = &disk->node->faults;

    if (disk_is_full(disk, op)) {
        return -ENOSPC;
    }
    if (op->kind == TORC_DISK_WRITE_DURABLE && op->byte_count > 0 && faults->fail_write > 0 &&
        --faults->fail_write == 0) {
        sim_story("node %u  a durable write fails", (unsigned)disk->node->number);
        sim_cover(SIM_COVER_FAULT_DISK_WRITE);
        sim->fault_count++;
        return -EIO;
    }
    if ((op->kind == TORC_DISK_WRITE || op->kind == TORC_DISK_SYNC) && faults->fail_other > 0 &&
        --faults->fail_other == 0) {
        sim_story("node %u  a %s fails", (unsigned)disk->node->number,
                  op->kind == TORC_DISK_SYNC ? "sync" : "write");
        sim_cover(SIM_COVER_FAULT_DISK_SYNC);
        sim->fault_count++;
        return -EIO;
    }
    return 0;
}

static uint64_t disk_latency_ns(const struct torc_disk *disk, const struct torc_disk_op *op)
{
    uint64_t mean_ns = disk->node->faults.latency_ns;

    if (op->kind == TORC_DISK_WRITE) {
        mean_ns = 20 * SIM_US + op->byte_count / 4;
    }
    return mean_ns / 2 + torc_rng_below(&sim->rng, mean_ns + 1);
}

void torc_disk_start(struct torc_disk *disk, struct torc_disk_op *op)
{
    struct disk_flight *flight;

    torc_assert(disk->flight_count < FLIGHTS_MAX);
    torc_assert(disk->open[op->file] != NULL || disk->folder[op->file] != 0);
    if (torc_rng_chance(&sim->rng, 500000)) {
        disk_may_die(disk); // before it began; else behind
    }
    flight = &disk->flights[disk->flight_count++];
    *flight = (struct disk_flight){.op = op, .fails = disk_verdict(disk, op)};
    flight->at_ns = sim->now_ns + (flight->fails == -ENOSPC ? 0 : disk_latency_ns(disk, op));
    disk_may_die(disk);
}

static int32_t flight_result(const struct torc_disk *disk, const struct disk_flight *flight)
{
    struct torc_disk_op *op = flight->op;

    if (flight->fails != 0) {
        return flight->fails;
    }
    switch (op->kind) {
    case TORC_DISK_READ:
        return file_read(disk->open[op->file], op->bytes, op->byte_count, op->offset);
    case TORC_DISK_WRITE:
    case TORC_DISK_WRITE_DURABLE: return (int32_t)op->byte_count;
    case TORC_DISK_SYNC: return 0;
    }
    torc_unreachable("no such operation");
}

uint32_t torc_disk_run(struct torc_disk *disk)
{
    uint32_t count = 0;
    bool found = disk->node->faults.held_ns <= sim->now_ns;

    while (found) {
        uint32_t best = UINT32_MAX;

        for (uint32_t i = 0; i < disk->flight_count; i++) {
            if (disk->flights[i].at_ns <= sim->now_ns &&
                (best == UINT32_MAX || disk->flights[i].at_ns < disk->flights[best].at_ns)) {
                best = i;
            }
        }
        found = best != UINT32_MAX;
        if (found) {
            struct disk_flight flight = disk->flights[best];

            disk->flights[best] = disk->flights[--disk->flight_count];
            if (flight.fails != -ENOSPC) {
                flight_land(disk, &flight, false);
            }
            flight.op->result = flight_result(disk, &flight);
            sim_hash((uint64_t)(uint32_t)flight.op->result << 20 ^ flight.op->offset);
            count++;
            if (flight.op->done != NULL) {
                flight.op->done(flight.op);
            }
        }
    }
    return count;
}

uint64_t sim_disk_deadline(const struct torc_disk *disk)
{
    uint64_t at_ns = UINT64_MAX;

    for (uint32_t i = 0; i < disk->flight_count; i++) {
        at_ns = torc_min_u64(at_ns, disk->flights[i].at_ns);
    }
    return torc_max_u64(at_ns, disk->node->faults.held_ns);
}

int32_t torc_disk_do(struct torc_disk *disk, struct torc_disk_op *op)
{
    struct disk_flight flight = {.op = op, .fails = disk_verdict(disk, op)};

    disk_may_die(disk);
    if (flight.fails != -ENOSPC) {
        flight_land(disk, &flight, false);
    }
    op->result = flight_result(disk, &flight);
    return op->result;
}

int32_t torc_disk_file_reserve(struct torc_disk *disk, uint32_t file, uint64_t byte_count)
{
    disk_may_die(disk);
    if (disk->node->faults.full_after == 0) {
        sim_cover(SIM_COVER_DISK_ENOSPC);
        return -ENOSPC;
    }
    disk->open[file]->reserved_bytes = byte_count;
    return 0;
}

int32_t torc_disk_file_cut(struct torc_disk *disk, uint32_t file, uint64_t byte_count)
{
    disk_may_die(disk);
    disk->open[file]->now_bytes = byte_count;
    return 0;
}

void torc_disk_file_ahead(struct torc_disk *disk, uint32_t file)
{
    (void)disk, (void)file;
}

int32_t torc_disk_rename(struct torc_disk *disk, int folder_fd, const char *from, const char *to)
{
    struct disk_folder *folder = disk_folder(disk, folder_fd);
    const struct disk_name *found = name_find(folder->now, folder->now_count, from);

    disk_may_die(disk);
    if (found == NULL) {
        return -ENOENT;
    }
    folder_change(folder, from, to, found->file);
    disk->node->faults.die_at = sim_rows_named(disk->node, to) ? 1 : disk->node->faults.die_at;
    disk_may_die(disk);
    return 0;
}

int32_t torc_disk_remove(struct torc_disk *disk, int folder_fd, const char *name)
{
    struct disk_folder *folder = disk_folder(disk, folder_fd);

    disk_may_die(disk);
    if (name_find(folder->now, folder->now_count, name) == NULL) {
        return -ENOENT;
    }
    folder_change(folder, name, "", NULL);
    return 0;
}

int32_t torc_disk_peek(struct torc_disk *disk, int folder_fd, const char *name,
                       struct torc_disk_piece *piece)
{
    struct disk_folder *folder = disk_folder(disk, folder_fd);
    const struct disk_name *found = name_find(folder->now, folder->now_count, name);

    piece->file_bytes = 0;
    if (found == NULL) {
        return -ENOENT;
    }
    piece->file_bytes = found->file->now_bytes;
    return file_read(found->file, piece->bytes, piece->byte_count, piece->offset);
}

int32_t torc_disk_list(struct torc_disk *disk, int folder_fd, struct torc_disk_names *names)
{
    struct disk_folder *folder = disk_folder(disk, folder_fd);

    *names = (struct torc_disk_names){.count = folder->now_count, .room = NAMES_MAX};
    names->names = calloc(NAMES_MAX, sizeof(*names->names));
    torc_assert(names->names != NULL);
    for (uint32_t i = 0; i < folder->now_count; i++) {
        memcpy(names->names[i], folder->now[i].name, TORC_DISK_NAME_BYTES);
    }
    return 0;
}

void torc_disk_names_free(struct torc_disk_names *names)
{
    free(names->names);
    *names = (struct torc_disk_names){0};
}

uint64_t torc_disk_random(struct torc_disk *disk)
{
    (void)disk;
    return torc_rng_next(&sim->rng);
}
