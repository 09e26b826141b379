// Torc control: the cluster as the metastore has it: making it, reading it, starting in it.
//
// What    the records of REPLICATION.md, section 3, as far as one node needs them: `meta`,
//         `node/<id>`, `shard/<id>`, `counter/copies`.
// Owner   control's one thread.
// Memory  the metastore and the table of shards, until torc_registry_close.
// Starts  every start of the dataplane raises the node's boot and start count and each shard's
//         epoch by compare-and-swap, 64 records a transaction (M5), before anything is served (T9).
//         A crash in between leaves some epochs raised and others not: the next start raises all
//         again.
// Invariants
//   N1  torc.node's start count is the metastore's, or one less (a crash between the two): anything
//       else means that one of them is an old copy, and nothing is started.
#ifndef TORC_CONTROL_REGISTRY_OS_H
#define TORC_CONTROL_REGISTRY_OS_H

#include "control/cluster.h"
#include "control/data_dir_os.h"
#include "control/metastore_open_os.h"
#include "control/records.h"
#include "kit/network_os.h"
#include "kit/settings.h"

struct torc_registry {
    struct torc_metastore *store;
    struct torc_meta_fields meta;
    struct torc_node_fields node;
    uint64_t node_version;
    struct torc_cluster cluster;
};

// Where the metastore is: the setting, or meta/ in the data directory.
enum torc_err torc_must_use torc_registry_address(const struct torc_settings *settings,
                                                  char *address, uint32_t address_bytes,
                                                  struct torc_fail *why);

// Makes cluster, node and data directory; the directory last, so that an init that was cut short
// can be run again. INVALID_ARGUMENT: there is a
// node already, or something else.
enum torc_err torc_must_use torc_registry_make(const struct torc_settings *settings,
                                               struct torc_meta_fields *meta,
                                               struct torc_fail *why);

// Opens the metastore and reads everything; checks it against the settings that were given.
enum torc_err torc_must_use torc_registry_open(struct torc_registry *registry,
                                               const struct torc_settings *settings,
                                               struct torc_data_dir *dir, struct torc_fail *why);
void torc_registry_close(struct torc_registry *registry);

// A start of the dataplane (T9), then torc.node. registry->cluster has the new boot and epochs.
enum torc_err torc_must_use torc_registry_start(struct torc_registry *registry,
                                                struct torc_data_dir *dir, uint32_t worker_count,
                                                const struct torc_network *network,
                                                struct torc_fail *why);

// After a clean stop: the node's `down` becomes its boot.
enum torc_err torc_must_use torc_registry_down(struct torc_registry *registry,
                                               struct torc_fail *why);

// Worker cores that `workers = auto` means here.
uint32_t torc_registry_workers(const struct torc_settings *settings);

#endif
