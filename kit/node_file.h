// Torc kit: the file torc.node of a data directory: whose it is.
//
// What    its 64 bytes, for torc-control, which writes it, and for who works on a directory that
//         nobody serves.
// Owner   none: pure functions over the caller's bytes.
#ifndef TORC_KIT_NODE_FILE_H
#define TORC_KIT_NODE_FILE_H

#include "kit/crc32c.h"
#include "kit/fail.h"
#include "kit/le.h"

#define TORC_NODE_FILE_FORMAT 1u

struct torc_node_file {
    uint8_t magic[8]; // "torcnode"
    struct torc_le32 format;
    struct torc_le32 node;
    struct torc_le64 cluster;
    struct torc_le64 start_count;
    uint8_t zero[28];
    struct torc_le32 crc; // CRC32C of all before it
};

_Static_assert(sizeof(struct torc_node_file) == 64, "on disk");

struct torc_node_id {
    uint64_t cluster;
    uint64_t start_count;
    uint32_t node;
};

static inline void torc_node_file_make(struct torc_node_file *file, const struct torc_node_id *id)
{
    *file = (struct torc_node_file){.magic = {'t', 'o', 'r', 'c', 'n', 'o', 'd', 'e'},
                                    .format = torc_le32(TORC_NODE_FILE_FORMAT),
                                    .node = torc_le32(id->node),
                                    .cluster = torc_le64(id->cluster),
                                    .start_count = torc_le64(id->start_count)};
    file->crc = torc_le32(torc_crc32c(0, file, offsetof(struct torc_node_file, crc)));
}

// `folder` is named in the texts.
static inline enum torc_err torc_must_use torc_node_file_check(const struct torc_node_file *file,
                                                               const char *folder,
                                                               struct torc_node_id *id,
                                                               struct torc_fail *why)
{
    static const uint8_t magic[8] = {'t', 'o', 'r', 'c', 'n', 'o', 'd', 'e'};

    if (memcmp(file->magic, magic, sizeof(magic)) != 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "%.80s/torc.node: its mark is missing", folder);
    }
    if (torc_get_le32(file->format) > TORC_NODE_FILE_FORMAT || torc_get_le32(file->format) == 0) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "%.60s is of format %" PRIu32 ", this version reads up to %u: install the "
                         "newer version",
                         folder, torc_get_le32(file->format), TORC_NODE_FILE_FORMAT);
    }
    if (torc_get_le32(file->crc) != torc_crc32c(0, file, offsetof(struct torc_node_file, crc))) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "%.60s/torc.node fails its check: restore it from a backup", folder);
    }
    *id = (struct torc_node_id){.cluster = torc_get_le64(file->cluster),
                                .start_count = torc_get_le64(file->start_count),
                                .node = torc_get_le32(file->node)};
    return TORC_ERR_OK;
}

#endif
