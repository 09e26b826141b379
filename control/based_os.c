// Torc control: which of a node's replicas have a whole log, and which copies they are. See
// control/based_os.h.
#include "control/based_os.h"

#include "control/starts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BASED_NAME "replicas"
#define BASED_HEAD "torc-replicas "

static bool based_number(const char **at, char end, uint64_t most, uint64_t *number)
{
    char *stop = NULL;

    if (**at < '0' || **at > '9') {
        return false;
    }
    *number = strtoull(*at, &stop, 10);
    if (*stop != end || *number > most) {
        return false;
    }
    *at = stop + 1;
    return true;
}

// Version 1 has a shard's number a line: whole logs, of the node's copy.
static bool based_line(const char **at, uint64_t version, uint64_t copy,
                       struct torc_based_line *line)
{
    uint64_t shard = 0;
    uint64_t turn = 0;
    uint64_t whole = 1;
    bool read = based_number(at, version == 1 ? '\n' : ' ', UINT32_MAX, &shard) && shard != 0;

    if (version > 1) {
        read = read && based_number(at, ' ', UINT64_MAX, &copy) && copy != 0 &&
               based_number(at, ' ', UINT32_MAX, &turn) && based_number(at, '\n', 1, &whole);
    }
    *line = (struct torc_based_line){
        .copy = copy, .shard = (uint32_t)shard, .turn = (uint32_t)turn, .whole = whole != 0};
    return read;
}

void torc_based_parse(const char *text, uint64_t disk_copy, uint64_t copy, struct torc_based *based)
{
    const char *at = text;
    struct torc_based_line line;
    uint64_t version = 0;
    uint64_t of = 0;

    based->count = 0;
    if (strncmp(at, BASED_HEAD, strlen(BASED_HEAD)) != 0) {
        return;
    }
    at += strlen(BASED_HEAD);
    if (!based_number(&at, ' ', 2, &version) || version == 0 ||
        !based_number(&at, '\n', UINT64_MAX, &of) || !torc_start_has_lines(of, disk_copy, copy)) {
        return;
    }
    while (based_line(&at, version, of, &line) && torc_based_put(based, &line)) {
    }
}

void torc_based_load(const struct torc_data_dir *dir, uint64_t disk_copy, uint64_t copy,
                     struct torc_based *based)
{
    char *text = calloc(1, TORC_BASED_BYTES + 1);
    int fd = openat(dir->fd, BASED_NAME, O_RDONLY | O_CLOEXEC);

    torc_assert(text != NULL);
    based->count = 0;
    if (fd >= 0 && read(fd, text, TORC_BASED_BYTES) > 0) {
        torc_based_parse(text, disk_copy, copy, based);
    }
    if (fd >= 0) {
        (void)close(fd); // it was only read
    }
    free(text);
}

uint64_t torc_based_print(const struct torc_based *based, uint64_t copy, char *text)
{
    uint64_t used = (uint64_t)snprintf(text, TORC_BASED_BYTES, BASED_HEAD "2 %" PRIu64 "\n", copy);

    for (uint32_t i = 0; i < based->count; i++) {
        const struct torc_based_line *line = based->lines + i;

        used += (uint64_t)snprintf(text + used, TORC_BASED_BYTES - used,
                                   "%" PRIu32 " %" PRIu64 " %" PRIu32 " %d\n", line->shard,
                                   line->copy, line->turn, line->whole ? 1 : 0);
    }
    torc_assert(used < TORC_BASED_BYTES);
    return used;
}

enum torc_err torc_based_save(const struct torc_data_dir *dir, uint64_t copy,
                              const struct torc_based *based, struct torc_fail *why)
{
    char *text = malloc(TORC_BASED_BYTES);
    enum torc_err err;

    torc_assert(text != NULL);
    err = torc_file_replace(dir->fd, BASED_NAME, text, torc_based_print(based, copy, text), 0640,
                            why);
    free(text);
    return err;
}

struct torc_based_line *torc_based_find(struct torc_based *based, uint32_t shard)
{
    for (uint32_t i = 0; i < based->count; i++) {
        if (based->lines[i].shard == shard) {
            return based->lines + i;
        }
    }
    return NULL;
}

bool torc_based_put(struct torc_based *based, const struct torc_based_line *line)
{
    struct torc_based_line *place = torc_based_find(based, line->shard);

    if (place == NULL && based->count == TORC_CHAN_MAP_ENTRIES) {
        return false;
    }
    place = place != NULL ? place : based->lines + based->count++;
    *place = *line;
    return true;
}
