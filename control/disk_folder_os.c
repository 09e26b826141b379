// Torc control: files and folders, what io_uring does not have. See control/disk_uring.h.
#include "control/data_dir_os.h"
#include "control/disk_uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int32_t torc_disk_file_reserve(struct torc_disk *disk, uint32_t file, uint64_t byte_count)
{
    int failed = fallocate(torc_disk_file_fd(disk, file), 0, 0, (off_t)byte_count);

    return failed == 0 || errno == EOPNOTSUPP ? 0 : -errno; // else writing finds out a full disk
}

int32_t torc_disk_file_cut(struct torc_disk *disk, uint32_t file, uint64_t byte_count)
{
    return ftruncate(torc_disk_file_fd(disk, file), (off_t)byte_count) == 0 ? 0 : -errno;
}

void torc_disk_file_ahead(struct torc_disk *disk, uint32_t file)
{
    (void)posix_fadvise(torc_disk_file_fd(disk, file), 0, 0, POSIX_FADV_SEQUENTIAL);
}

int32_t torc_disk_rename(struct torc_disk *disk, int folder_fd, const char *from, const char *to)
{
    (void)disk;
    return renameat(folder_fd, from, folder_fd, to) == 0 ? 0 : -errno;
}

int32_t torc_disk_remove(struct torc_disk *disk, int folder_fd, const char *name)
{
    (void)disk;
    return unlinkat(folder_fd, name, 0) == 0 ? 0 : -errno;
}

int32_t torc_disk_peek(struct torc_disk *disk, int folder_fd, const char *name,
                       struct torc_disk_piece *piece)
{
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    struct stat at;
    int64_t got = -1;
    int reason;

    (void)disk;
    piece->file_bytes = 0;
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &at) == 0) {
        piece->file_bytes = (uint64_t)at.st_size;
        got = piece->byte_count > 0
                  ? pread(fd, piece->bytes, piece->byte_count, (off_t)piece->offset)
                  : 0;
    }
    reason = errno;
    (void)close(fd); // only read
    return got < 0 ? -reason : (int32_t)got;
}

static void names_add(struct torc_disk_names *names, const char *name)
{
    if (names->count == names->room) {
        names->room = 2 * names->room + 64;
        names->names = realloc(names->names, names->room * sizeof(*names->names));
        torc_assert(names->names != NULL);
    }
    (void)snprintf(names->names[names->count++], TORC_DISK_NAME_BYTES, "%.63s", name);
}

int32_t torc_disk_list(struct torc_disk *disk, int folder_fd, struct torc_disk_names *names)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    int reason = errno;

    (void)disk;
    *names = (struct torc_disk_names){0};
    if (folder == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return -reason;
    }
    for (const struct dirent *entry = torc_folder_next(folder); entry != NULL;
         entry = torc_folder_next(folder)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            names_add(names, entry->d_name);
        }
    }
    reason = errno; // names that are not seen would be taken for free ones
    (void)closedir(folder);
    if (reason != 0) {
        torc_disk_names_free(names);
    }
    return -reason;
}

void torc_disk_names_free(struct torc_disk_names *names)
{
    free(names->names);
    *names = (struct torc_disk_names){0};
}

uint64_t torc_disk_random(struct torc_disk *disk)
{
    uint64_t word;

    (void)disk;
    torc_random(&word, sizeof(word));
    return word;
}
