// Torc control: birth of a cluster; a node that joins one, or comes back without its data. See
// control/registry_os.h.
//
// What    `meta` first, which names who makes the cluster; then its nodes and shards, each only
//         where it is missing; `counter/shards` last. So a birth that was cut short is finished by
//         its maker, and others can see that it is not over.
#include "control/keys_os.h"
#include "control/placement.h"
#include "control/registry_impl_os.h"
#include "kit/clock_os.h"
#include "wire/peer.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MAKE_SHARDS_A_WORKER 4u
#define MAKE_WAIT_NS         (10 * TORC_NS_PER_S) // for the birth by another node
#define MAKE_LOOK_NS         50000000

struct make {
    const struct torc_settings *settings;
    struct torc_metastore *store;
    struct torc_meta_fields *meta;
    struct torc_registry_batch batch;
    struct torc_node_id id; // of the data directory
    char address[TORC_SETTINGS_TEXT_BYTES + 16];
    bool mine; // this node makes the cluster
};

// A node claims so many shards of one other at most, whoever of the others is gone.
static uint64_t make_shards_max(const struct torc_settings *settings)
{
    return torc_placement_shards_max(settings->nodes, settings->replicas, TORC_CLAIMS_MAX);
}

static void make_meta_of(const struct torc_settings *settings, struct torc_meta_fields *meta)
{
    uint64_t by_workers =
        (uint64_t)torc_registry_workers(settings) * MAKE_SHARDS_A_WORKER * settings->nodes;
    uint64_t shards = settings->shards > 0 ? settings->shards
                                           : torc_min_u64(by_workers, make_shards_max(settings));

    *meta = (struct torc_meta_fields){
        .keys = settings->keys,
        .replicas = settings->replicas,
        .min_in_sync = settings->replicas <= 2 ? 1 : settings->replicas / 2 + 1,
        .durability = settings->durability,
        .security = settings->security,
        .value_max = settings->value_max,
        .dedup_ttl_s = settings->dedup_ttl_s,
        .shards = torc_min_u64(torc_min_u64(shards, settings->keys), TORC_CHAN_MAP_ENTRIES),
        .created_s = (uint64_t)time(NULL),
        .nodes = settings->nodes,
        .maker = settings->node};
    torc_random(&meta->cluster, sizeof(meta->cluster));
    meta->cluster |= 1; // never 0
}

// Its random number makes the record nobody else's (control/swap.h). CONDITION_FAILED: somebody
// else was faster.
static enum torc_err make_put_meta(struct make *make, struct torc_fail *why)
{
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {.kind = TORC_META_PUT,
                              .key = "meta",
                              .value = text,
                              .value_bytes = torc_record_encode(TORC_RECORD_META, make->meta, text),
                              .expected = TORC_META_ABSENT};
    uint64_t version;

    return torc_metastore_swap(make->store, &op, 1, &version, why);
}

static enum torc_err make_check_room(uint64_t shards, uint64_t workers, struct torc_fail *why)
{
    if (shards <= workers * TORC_CHAN_SHARDS_MAX) {
        return TORC_ERR_OK;
    }
    return torc_fail(
        why, TORC_ERR_INVALID_ARGUMENT,
        "%" PRIu64 " shards for %" PRIu64
        " workers: one holds at most %u; give it more workers, or fewer shards at birth",
        shards, workers, TORC_CHAN_SHARDS_MAX);
}

static enum torc_err make_check_new(const struct make *make, struct torc_fail *why)
{
    const struct torc_settings *settings = make->settings;

    if (settings->nodes > 1 && settings->node > settings->nodes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "node = %" PRIu64 ", but the cluster begins with nodes 1 to %" PRIu64
                         " (nodes); make it on one of them, then let this one join",
                         settings->node, settings->nodes);
    }
    if (settings->nodes > 1 && settings->metastore[0] == '\0') {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "nodes = %" PRIu64 ": they need one metastore that all of them reach: "
                         "--metastore file:/DIRECTORY on one machine, or etcd:HOST:PORT",
                         settings->nodes);
    }
    if (settings->replicas > settings->nodes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "replicas = %" PRIu64 ", but the cluster begins with nodes = %" PRIu64,
                         settings->replicas, settings->nodes);
    }
    if (make->meta->shards > make_shards_max(settings)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "shards = %" PRIu64 ", but %" PRIu64 " nodes with replicas = %" PRIu64
                         " may begin with %" PRIu64 " at most: two nodes can share %u",
                         make->meta->shards, settings->nodes, settings->replicas,
                         make_shards_max(settings), TORC_CLAIMS_MAX);
    }
    return make_check_room((make->meta->shards * settings->replicas + settings->nodes - 1) /
                               torc_max_u64(settings->nodes, 1),
                           torc_registry_workers(settings), why);
}

// Reads `meta`, or writes it.
static enum torc_err make_meta(struct make *make, struct torc_fail *why)
{
    struct torc_meta_record record;
    enum torc_err err = torc_metastore_get(make->store, "meta", &record, why);

    if (err == TORC_ERR_NOT_FOUND) {
        make_meta_of(make->settings, make->meta);
        err = torc_settings_check(make->settings, why);
        err = err == TORC_ERR_OK ? make_check_new(make, why) : err;
        err = err == TORC_ERR_OK ? make_put_meta(make, why) : err;
        make->mine = err == TORC_ERR_OK;
        if (err != TORC_ERR_CONDITION_FAILED) {
            return err;
        }
        err = torc_metastore_get(make->store, "meta", &record, why);
    }
    if (err == TORC_ERR_OK) {
        err =
            torc_record_decode(TORC_RECORD_META, make->meta, record.value, record.value_bytes, why);
        make->mine = make->meta->maker == make->settings->node;
    }
    return err;
}

// -- Its nodes -----------------------------------------------------------------------------------

static uint64_t make_node_number(const struct make *make, uint64_t index)
{
    return make->meta->nodes > 1 ? index + 1 : make->meta->maker;
}

// The node, with a copy of its own; it may be there already.
static enum torc_err make_put_node(struct make *make, uint64_t node, uint64_t slot,
                                   struct torc_fail *why)
{
    struct torc_node_fields fields;
    uint64_t version;
    enum torc_err err = torc_registry_get_node(make->store, node, &fields, &version, why);

    if (err != TORC_ERR_NOT_FOUND) {
        return err;
    }
    fields = (struct torc_node_fields){.nonce = torc_registry_nonce(), .slot = slot};
    err = torc_metastore_draw(make->store, "counter/copies", 0, 1, &fields.copy, why);
    if (err == TORC_ERR_OK) {
        torc_registry_add(&make->batch, "node", node, TORC_RECORD_NODE, &fields, TORC_META_ABSENT);
        err = torc_registry_write(make->store, &make->batch, &version, why);
    }
    return err == TORC_ERR_CONDITION_FAILED ? TORC_ERR_OK : err; // it made its record itself
}

static enum torc_err make_put_nodes(struct make *make, uint64_t *copies, struct torc_fail *why)
{
    struct torc_node_fields fields = {0};
    uint64_t version;
    enum torc_err err = TORC_ERR_OK;

    for (uint64_t i = 0; i < make->meta->nodes && err == TORC_ERR_OK; i++) {
        uint64_t node = make_node_number(make, i);

        err = make_put_node(make, node, i + 1, why);
        if (err == TORC_ERR_OK) {
            err = torc_registry_get_node(make->store, node, &fields, &version, why);
        }
        copies[i] = fields.copy;
    }
    return err;
}

// -- Its shards ----------------------------------------------------------------------------------

// Where they lie at first: the ring's choice among nodes that are all alike.
static enum torc_err make_place(const struct make *make, struct torc_placement_shard *shards,
                                struct torc_fail *why)
{
    const struct torc_meta_fields *meta = make->meta;
    struct torc_placement *placement = calloc(1, sizeof(*placement));
    struct torc_placement_node *nodes = calloc(meta->nodes, sizeof(*nodes));
    struct torc_placement_shard *spare = calloc(meta->shards, sizeof(*spare));
    struct torc_placement_result result;
    enum torc_err err;

    torc_assert(placement != NULL && nodes != NULL && spare != NULL);
    for (uint32_t i = 0; i < meta->nodes; i++) {
        nodes[i].member = (struct torc_ring_member){
            .capacity = 1, .node = (uint16_t)make_node_number(make, i), .slot = (uint16_t)i};
    }
    for (uint32_t i = 0; i < meta->shards; i++) {
        shards[i] = (struct torc_placement_shard){.shard = i + 1, .weight = 1};
    }
    err = torc_placement_nodes(placement, nodes, (uint32_t)meta->nodes, (uint32_t)meta->replicas,
                               why);
    if (err == TORC_ERR_OK) {
        torc_placement_sort(shards, spare, (uint32_t)meta->shards);
        torc_placement_plan(placement, shards, (uint32_t)meta->shards, &result);
    }
    free(spare);
    free(nodes);
    free(placement);
    return err;
}

static void make_shard_of(const struct make *make, const struct torc_placement_shard *placed,
                          const uint64_t *copies, struct torc_shard_fields *fields)
{
    // An epoch that no boot is primary of: with one copy, the start before the first; else the
    // first, from which its primary takes over.
    *fields = (struct torc_shard_fields){.epoch = make->meta->replicas > 1 ? 1 : 0,
                                         .primary_node = placed->nodes[0],
                                         .nonce = torc_registry_nonce()};
    torc_cluster_cut(make->meta->keys, (uint32_t)make->meta->shards, placed->shard - 1, &fields->lo,
                     &fields->hi);
    for (uint32_t i = 0; i < placed->count; i++) {
        uint32_t index = make->meta->nodes > 1 ? placed->nodes[i] - 1u : 0;

        fields->insync.at[i] =
            (struct torc_record_member){.node = placed->nodes[i], .copy = copies[index]};
    }
    fields->insync.count = placed->count;
}

// The shard, and the wish that it stays where it is: who is removed while it is away comes back.
static void make_add_shard(struct make *make, uint32_t shard,
                           const struct torc_shard_fields *fields)
{
    struct torc_want_fields want = {.primary = fields->primary_node,
                                    .nonce = torc_registry_nonce()};

    for (uint32_t i = 0; i < fields->insync.count; i++) {
        want.nodes.at[i] = fields->insync.at[i].node;
    }
    want.nodes.count = fields->insync.count;
    torc_registry_add(&make->batch, "shard", shard, TORC_RECORD_SHARD, fields, TORC_META_ABSENT);
    torc_registry_add(&make->batch, "want", shard, TORC_RECORD_WANT, &want, TORC_META_ABSENT);
}

// Those that are not there yet.
static enum torc_err make_put_shards(struct make *make, const struct torc_placement_shard *placed,
                                     const uint64_t *copies, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint32_t count = 0;
    uint64_t version;
    bool *there = calloc(make->meta->shards + 1, sizeof(*there));
    enum torc_err err =
        torc_metastore_list(make->store, "shard/", TORC_CHAN_MAP_ENTRIES, &records, &count, why);

    torc_assert(there != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id;

        if (torc_record_id(records[i].key, "shard", &id) && id <= make->meta->shards) {
            there[id] = true;
        }
    }
    for (uint32_t i = 0; i < make->meta->shards && err == TORC_ERR_OK; i++) {
        struct torc_shard_fields fields;

        make_shard_of(make, placed + i, copies, &fields);
        if (!there[placed[i].shard]) {
            make_add_shard(make, placed[i].shard, &fields);
        }
        if (make->batch.count + 2 > TORC_REGISTRY_BATCH || i + 1 == make->meta->shards) {
            err = torc_registry_write(make->store, &make->batch, &version, why);
        }
    }
    free(there);
    return err;
}

// -- The end of the birth ------------------------------------------------------------------------

static enum torc_err make_is_born(struct make *make, bool *born, struct torc_fail *why)
{
    struct torc_meta_record record;
    enum torc_err err = torc_metastore_get(make->store, "counter/shards", &record, why);

    *born = err == TORC_ERR_OK;
    return err == TORC_ERR_NOT_FOUND ? TORC_ERR_OK : err;
}

static enum torc_err make_birth(struct make *make, struct torc_fail *why)
{
    struct torc_counter_fields counter = {.value = make->meta->shards,
                                          .nonce = torc_registry_nonce()};
    struct torc_placement_shard *placed = calloc(make->meta->shards, sizeof(*placed));
    uint64_t *copies = calloc(make->meta->nodes, sizeof(*copies));
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {
        .kind = TORC_META_PUT, .key = "counter/shards", .value = text, .expected = 0};
    uint64_t version;
    enum torc_err err;

    torc_assert(placed != NULL && copies != NULL);
    err = make_put_nodes(make, copies, why);
    if (err == TORC_ERR_OK) {
        err = make_place(make, placed, why);
    }
    if (err == TORC_ERR_OK) {
        err = make_put_shards(make, placed, copies, why);
    }
    if (err == TORC_ERR_OK) {
        op.value_bytes = torc_record_encode(TORC_RECORD_COUNTER, &counter, text);
        err = torc_metastore_swap(make->store, &op, 1, &version, why);
    }
    free(copies);
    free(placed);
    return err;
}

static enum torc_err make_await_birth(struct make *make, struct torc_fail *why)
{
    uint64_t end_ns = torc_clock_now_ns() + MAKE_WAIT_NS;
    const struct timespec pause = {.tv_nsec = MAKE_LOOK_NS};
    bool born = false;
    enum torc_err err = make_is_born(make, &born, why);

    while (err == TORC_ERR_OK && !born) {
        if (torc_clock_now_ns() >= end_ns) {
            return torc_fail(why, TORC_ERR_UNAVAILABLE,
                             "%.60s: node %" PRIu64 " has begun to make the cluster and has not "
                             "finished; run it there again",
                             make->address, make->meta->maker);
        }
        (void)nanosleep(&pause, NULL); // shorter is as good
        err = make_is_born(make, &born, why);
    }
    return err;
}

// -- This node -----------------------------------------------------------------------------------

// What it alone had is gone with its data; what others have too needs its room here.
static enum torc_err make_check_shards(struct make *make, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint64_t node = make->settings->node;
    uint64_t own = 0;
    uint32_t count = 0;
    enum torc_err err =
        torc_metastore_list(make->store, "shard/", TORC_CHAN_MAP_ENTRIES, &records, &count, why);

    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        struct torc_shard_fields fields;

        err = torc_record_decode(TORC_RECORD_SHARD, &fields, records[i].value,
                                 records[i].value_bytes, why);
        if (err == TORC_ERR_OK && fields.insync.count == 1 && fields.insync.at[0].node == node) {
            err = torc_fail(why, TORC_ERR_IN_USE,
                            "%.60s knows node %" PRIu64 ", whose data is not here: give its "
                            "directory with --data, or another metastore",
                            make->address, node);
        }
        for (uint64_t at = 0; at < fields.insync.count && err == TORC_ERR_OK; at++) {
            own += fields.insync.at[at].node == node ? 1 : 0;
        }
    }
    return err == TORC_ERR_OK
               ? torc_registry_check_start(own, torc_registry_workers(make->settings), why)
               : err;
}

// A node whose disk was lost has no memory of what it acknowledged: another copy (REPLICATION.md,
// section 2). Its start count rises by two, so that the lost directory fits no more (N1).
static enum torc_err make_renew(struct make *make, struct torc_node_fields *fields,
                                uint64_t version, struct torc_fail *why)
{
    enum torc_err err =
        torc_metastore_draw(make->store, "counter/copies", 0, 1, &fields->copy, why);

    if (err == TORC_ERR_OK) {
        fields->start_count += 2;
        fields->nonce = torc_registry_nonce();
        torc_registry_add(&make->batch, "node", make->settings->node, TORC_RECORD_NODE, fields,
                          version);
        err = torc_registry_write(make->store, &make->batch, &version, why);
    }
    make->id.start_count = fields->start_count;
    return err;
}

// A map holds so many nodes: with one more, no node could start.
static enum torc_err make_check_number(struct make *make, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint32_t count = 0;
    enum torc_err err =
        torc_metastore_list(make->store, "node/", TORC_CHAN_NODES_MAX, &records, &count, why);

    if (err == TORC_ERR_LIMIT || (err == TORC_ERR_OK && count >= TORC_CHAN_NODES_MAX)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "node = %" PRIu64 ": %u other numbers are taken, the most of a cluster; "
                         "take the number of a node that is gone for good",
                         make->settings->node, TORC_CHAN_NODES_MAX);
    }
    return err;
}

static enum torc_err make_self(struct make *make, struct torc_fail *why)
{
    uint64_t node = make->settings->node;
    struct torc_node_fields fields;
    uint64_t version;
    enum torc_err err = make_put_node(make, node, 0, why);

    if (err == TORC_ERR_OK) {
        err = torc_registry_get_node(make->store, node, &fields, &version, why);
    }
    if (err == TORC_ERR_OK && fields.start_count > 0) {
        err = make_renew(make, &fields, version, why);
    }
    return err;
}

// -- What it needs -------------------------------------------------------------------------------

// Whether any other node ever started: it has the cluster's keys.
static enum torc_err make_look_others(struct make *make, bool *started, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint32_t count = 0;
    enum torc_err err =
        torc_metastore_list(make->store, "node/", TORC_CHAN_NODES_MAX, &records, &count, why);

    *started = false;
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        struct torc_node_fields fields;
        uint64_t node = 0;

        err = torc_record_decode(TORC_RECORD_NODE, &fields, records[i].value,
                                 records[i].value_bytes, why);
        *started = *started ||
                   (err == TORC_ERR_OK && fields.start_count > 0 &&
                    torc_record_id(records[i].key, "node", &node) && node != make->settings->node);
    }
    return err;
}

// The nodes of a cluster have one file of keys: its maker's, which is carried to the others, and
// back to the maker if that lost its disk. While no other has started nobody needs to have it: the
// maker makes it, however often its directory is thrown away.
static enum torc_err make_keys(struct make *make, struct torc_fail *why)
{
    char path[TORC_SETTINGS_TEXT_BYTES + 16];
    char whose[32] = "another node";
    bool others = true;
    enum torc_err err = make->mine ? make_look_others(make, &others, why) : TORC_ERR_OK;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!make->mine) {
        (void)snprintf(whose, sizeof(whose), "node %" PRIu64,
                       make->meta->maker != 0 ? make->meta->maker : 1);
    }
    (void)snprintf(path, sizeof(path), "%s/torc.keys", make->settings->data);
    if (others && access(path, F_OK) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.100s is missing: copy torc.keys there from the data directory of %s, "
                         "owner and mode as they are",
                         path, whose);
    }
    return torc_keys_make(make->settings->data, make->meta->cluster, why);
}

// All that can speak against this node, before its record changes: a directory that was only not
// mounted fits as it did once it is there again.
static enum torc_err make_check_self(struct make *make, struct torc_fail *why)
{
    struct torc_node_fields fields = {0};
    uint64_t version;
    enum torc_err err =
        torc_registry_get_node(make->store, make->settings->node, &fields, &version, why);

    if (err == TORC_ERR_OK && fields.start_count > 0) {
        err = make_check_shards(make, why);
        if (err == TORC_ERR_OK) {
            err = torc_registry_check_settings(make->meta, make->settings, why);
        }
        if (err == TORC_ERR_OK) {
            err = torc_registry_check_pairs(make->meta, make->settings, why);
        }
        if (err == TORC_ERR_OK) {
            err = torc_data_dir_check_owner(make->settings->data, why);
        }
    }
    err = err == TORC_ERR_NOT_FOUND ? make_check_number(make, why) : err;
    if (err == TORC_ERR_OK && make->meta->security == TORC_SECURITY_KEYS) {
        err = make_keys(make, why);
    }
    return err == TORC_ERR_OK ? torc_data_dir_prepare(make->settings->data, why) : err;
}

static enum torc_err make_check_empty(const struct torc_settings *settings, struct torc_fail *why)
{
    const struct torc_node_id none = {.cluster = 1, .node = 1};
    enum torc_data_dir_state state = TORC_DATA_DIR_MISSING;
    enum torc_err err = torc_data_dir_look(settings->data, &state, why);

    if (err == TORC_ERR_OK && state != TORC_DATA_DIR_MISSING) {
        err = torc_data_dir_make(settings->data, &none, why); // says why not
        torc_assert(err != TORC_ERR_OK);
    }
    return err;
}

static enum torc_err make_all(struct make *make, struct torc_fail *why)
{
    bool born = false;
    enum torc_err err = make_meta(make, why);

    if (err == TORC_ERR_OK) {
        err = make_is_born(make, &born, why);
    }
    if (err == TORC_ERR_OK && !born) {
        err = make->mine ? make_birth(make, why) : make_await_birth(make, why);
    }
    if (err == TORC_ERR_OK) {
        err = make_check_self(make, why);
    }
    if (err == TORC_ERR_OK) {
        err = make_self(make, why);
    }
    make->id.cluster = make->meta->cluster;
    make->id.node = (uint32_t)make->settings->node;
    return err == TORC_ERR_OK ? torc_data_dir_make(make->settings->data, &make->id, why) : err;
}

enum torc_err torc_registry_make(const struct torc_settings *settings,
                                 struct torc_meta_fields *meta, struct torc_fail *why)
{
    struct make *make = calloc(1, sizeof(*make));
    enum torc_err err = make_check_empty(settings, why);

    torc_assert(make != NULL);
    make->settings = settings;
    make->meta = meta;
    if (err == TORC_ERR_OK) {
        err = torc_registry_address(settings, make->address, sizeof(make->address), why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_folder_make(settings->data, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_registry_open_store(&make->store, settings, make->address, false, why);
    }
    if (err == TORC_ERR_OK) {
        err = make_all(make, why);
    }
    if (make->store != NULL) {
        torc_metastore_close(make->store);
    }
    free(make);
    return err;
}
