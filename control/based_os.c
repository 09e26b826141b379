// Torc control: which of a node's replicas may go on from the log. See control/based_os.h.
#include "control/based_os.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BASED_NAME  "replicas"
#define BASED_BYTES (64u + TORC_CHAN_MAP_ENTRIES * 12u) // a line for each shard

static uint64_t based_number(char **at, char end)
{
    char *stop = *at;
    uint64_t number = strtoull(*at, &stop, 10);

    if (**at < '0' || **at > '9' || *stop != end) {
        return 0;
    }
    *at = stop + 1;
    return number;
}

void torc_based_load(const struct torc_data_dir *dir, uint64_t copy, struct torc_cluster *cluster)
{
    char *text = calloc(1, BASED_BYTES + 1);
    char *at = text;
    int fd = openat(dir->fd, BASED_NAME, O_RDONLY | O_CLOEXEC);
    int64_t bytes = fd >= 0 ? read(fd, text, BASED_BYTES) : -1;

    torc_assert(text != NULL);
    if (bytes > 0 && strncmp(at, "torc-replicas 1 ", 16) == 0) {
        at += 16;
        if (based_number(&at, '\n') == copy) {
            for (uint64_t shard = based_number(&at, '\n'); shard != 0 && shard <= UINT32_MAX;
                 shard = based_number(&at, '\n')) {
                struct torc_cluster_shard *found = torc_cluster_shard(cluster, (uint32_t)shard);

                if (found != NULL) {
                    found->based = true;
                }
            }
        }
    }
    if (fd >= 0) {
        (void)close(fd); // it was only read
    }
    free(text);
}

enum torc_err torc_based_save(const struct torc_data_dir *dir, uint64_t copy,
                              const struct torc_cluster *cluster, struct torc_fail *why)
{
    char *text = malloc(BASED_BYTES);
    uint64_t used;
    enum torc_err err;

    torc_assert(text != NULL);
    used = (uint64_t)snprintf(text, BASED_BYTES, "torc-replicas 1 %" PRIu64 "\n", copy);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (cluster->shards[i].based) {
            used += (uint64_t)snprintf(text + used, BASED_BYTES - used, "%" PRIu32 "\n",
                                       cluster->shards[i].shard);
        }
    }
    torc_assert(used < BASED_BYTES);
    err = torc_file_replace(dir->fd, BASED_NAME, text, used, 0640, why);
    free(text);
    return err;
}
