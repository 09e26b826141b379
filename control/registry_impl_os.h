// Torc control: what the files of the registry share among themselves. Nobody else includes it.
//
//   registry_make_os.c  birth of a cluster, a node that joins or comes back without its data
//   registry_os.c       reading all of it, starting, stopping
#ifndef TORC_CONTROL_REGISTRY_IMPL_OS_H
#define TORC_CONTROL_REGISTRY_IMPL_OS_H

#include "control/registry_os.h"

#define TORC_REGISTRY_BATCH 64u // M5

// Puts that go out as one transaction.
struct torc_registry_batch {
    uint32_t count;
    struct torc_meta_op ops[TORC_REGISTRY_BATCH];
    char names[TORC_REGISTRY_BATCH][TORC_RECORD_NAME_BYTES];
    char texts[TORC_REGISTRY_BATCH][TORC_RECORD_BYTES_MAX];
};

void torc_registry_add(struct torc_registry_batch *batch, const char *family, uint64_t id,
                       enum torc_record kind, const void *fields, uint64_t expected);

// All of it or nothing; empty afterwards. `version`: of what it wrote.
enum torc_err torc_must_use torc_registry_write(struct torc_metastore *store,
                                                struct torc_registry_batch *batch,
                                                uint64_t *version, struct torc_fail *why);

uint64_t torc_registry_nonce(void);

enum torc_err torc_must_use torc_registry_open_store(struct torc_metastore **store,
                                                     const struct torc_settings *settings,
                                                     const char *address, bool look_only,
                                                     struct torc_fail *why);

// INVALID_ARGUMENT: a start has more shards to keep than its workers have room for.
enum torc_err torc_must_use torc_registry_check_start(uint64_t shards, uint64_t workers,
                                                      struct torc_fail *why);

// The cluster's own values in the place of those that were not given, with all others.
enum torc_err torc_must_use torc_registry_check_pairs(const struct torc_meta_fields *meta,
                                                      const struct torc_settings *settings,
                                                      struct torc_fail *why);

// INVALID_ARGUMENT: what is fixed at birth was given again, and is not the same.
enum torc_err torc_must_use torc_registry_check_settings(const struct torc_meta_fields *meta,
                                                         const struct torc_settings *settings,
                                                         struct torc_fail *why);

// The record of a node; NOT_FOUND.
enum torc_err torc_must_use torc_registry_get_node(struct torc_metastore *store, uint64_t node,
                                                   struct torc_node_fields *fields,
                                                   uint64_t *version, struct torc_fail *why);

#endif
