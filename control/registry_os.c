// Torc control: the cluster as the metastore has it. See control/registry_os.h.
#include "control/registry_os.h"

#include "control/keys_os.h"
#include "kit/log_os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum {
    REGISTRY_BATCH = 64, // M5
    REGISTRY_SHARDS_A_WORKER = 4
};

uint32_t torc_registry_workers(const struct torc_settings *settings)
{
    cpu_set_t cpus;

    if (settings->workers > 0) {
        return (uint32_t)settings->workers;
    }
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || CPU_COUNT(&cpus) < 2) {
        return 1;
    }
    return (uint32_t)torc_min_u64((uint64_t)CPU_COUNT(&cpus) - 1, TORC_CHAN_WORKERS_MAX);
}

enum torc_err torc_registry_address(const struct torc_settings *settings, char *address,
                                    uint32_t address_bytes, struct torc_fail *why)
{
    int bytes = settings->metastore[0] != '\0'
                    ? snprintf(address, address_bytes, "%s", settings->metastore)
                    : snprintf(address, address_bytes, "file:%s/meta", settings->data);

    if (bytes < 0 || (uint32_t)bytes >= address_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "metastore: path too long");
    }
    return TORC_ERR_OK;
}

static enum torc_err registry_open_store(struct torc_metastore **store,
                                         const struct torc_settings *settings, const char *address,
                                         struct torc_fail *why)
{
    const struct torc_metastore_config config = {.address = address,
                                                 .user = settings->metastore_user,
                                                 .password_file = settings->metastore_password_file,
                                                 .ca = settings->metastore_ca,
                                                 .cert = settings->metastore_cert,
                                                 .key = settings->metastore_key};

    return torc_metastore_open(store, &config, why);
}

// -- Birth ---------------------------------------------------------------------------------------

static void registry_meta_of(const struct torc_settings *settings, struct torc_meta_fields *meta)
{
    uint64_t shards = settings->shards > 0
                          ? settings->shards
                          : (uint64_t)torc_registry_workers(settings) * REGISTRY_SHARDS_A_WORKER;

    *meta = (struct torc_meta_fields){
        .keys = settings->keys,
        .replicas = settings->replicas,
        .min_in_sync = 1,
        .durability = settings->durability,
        .security = settings->security,
        .value_max = settings->value_max,
        .dedup_ttl_s = settings->dedup_ttl_s,
        .shards = torc_min_u64(torc_min_u64(shards, settings->keys), TORC_CHAN_MAP_ENTRIES),
        .created_s = (uint64_t)time(NULL)};
    torc_random(&meta->cluster, sizeof(meta->cluster));
    meta->cluster |= 1; // never 0
}

// A worker has room for so many shards.
static enum torc_err registry_check_room(uint64_t shards, uint64_t workers, struct torc_fail *why)
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

// The records that make a cluster: meta, and which numbers of shards are taken. Its random number
// makes meta nobody else's (control/swap.h).
static enum torc_err registry_put_meta(struct torc_metastore *store,
                                       const struct torc_meta_fields *meta, struct torc_fail *why)
{
    struct torc_counter_fields shards = {.value = meta->shards};
    char texts[2][TORC_RECORD_BYTES_MAX];
    struct torc_meta_op ops[] = {
        {.kind = TORC_META_PUT,
         .key = "meta",
         .value = texts[0],
         .value_bytes = torc_record_encode(TORC_RECORD_META, meta, texts[0]),
         .expected = TORC_META_ABSENT},
        {.kind = TORC_META_PUT,
         .key = "counter/shards",
         .value = texts[1],
         .value_bytes = torc_record_encode(TORC_RECORD_COUNTER, &shards, texts[1]),
         .expected = TORC_META_ABSENT}};
    uint64_t version;

    return torc_metastore_swap(store, ops, TORC_COUNT_OF(ops), &version, why);
}

struct registry_batch {
    uint32_t count;
    struct torc_meta_op ops[REGISTRY_BATCH + 1];
    char names[REGISTRY_BATCH + 1][TORC_RECORD_NAME_BYTES];
    char texts[REGISTRY_BATCH + 1][TORC_RECORD_BYTES_MAX];
};

static void registry_add(struct registry_batch *batch, const char *family, uint64_t id,
                         enum torc_record kind, const void *fields, uint64_t expected)
{
    uint32_t at = batch->count++;

    torc_assert(at < TORC_COUNT_OF(batch->ops));
    torc_record_name(batch->names[at], family, id);
    batch->ops[at] =
        (struct torc_meta_op){.kind = TORC_META_PUT,
                              .key = batch->names[at],
                              .value = batch->texts[at],
                              .value_bytes = torc_record_encode(kind, fields, batch->texts[at]),
                              .expected = expected};
}

static enum torc_err registry_write(struct torc_metastore *store, struct registry_batch *batch,
                                    uint64_t *version, struct torc_fail *why)
{
    enum torc_err err = batch->count > 0
                            ? torc_metastore_swap(store, batch->ops, batch->count, version, why)
                            : TORC_ERR_OK;

    batch->count = 0;
    return err;
}

static uint64_t registry_nonce(void)
{
    uint64_t nonce;

    torc_random(&nonce, sizeof(nonce));
    return nonce | 1; // 0: written before there were nonces
}

static void registry_alone(struct torc_shard_fields *fields, uint64_t node, uint64_t copy)
{
    fields->insync = (struct torc_record_members){.count = 1};
    fields->insync.at[0] = (struct torc_record_member){.node = node, .copy = copy};
}

// The node, with a copy of its own; it may be there from an init that was cut short.
static enum torc_err registry_put_fresh_node(struct torc_metastore *store, uint64_t node,
                                             struct torc_node_fields *fields,
                                             struct registry_batch *batch, struct torc_fail *why)
{
    struct torc_meta_record record;
    char name[TORC_RECORD_NAME_BYTES];
    uint64_t version;
    enum torc_err err;

    torc_record_name(name, "node", node);
    err = torc_metastore_get(store, name, &record, why);
    if (err == TORC_ERR_OK) {
        return torc_record_decode(TORC_RECORD_NODE, fields, record.value, record.value_bytes, why);
    }
    if (err == TORC_ERR_NOT_FOUND) {
        *fields = (struct torc_node_fields){.nonce = registry_nonce()};
        err = torc_metastore_draw(store, "counter/copies", 0, 1, &fields->copy, why);
    }
    if (err == TORC_ERR_OK) {
        registry_add(batch, "node", node, TORC_RECORD_NODE, fields, TORC_META_ABSENT);
        err = registry_write(store, batch, &version, why);
    }
    return err;
}

// The shards that are not there yet.
static enum torc_err registry_put_shards(struct torc_metastore *store,
                                         const struct torc_meta_fields *meta, uint64_t node,
                                         uint64_t copy, struct registry_batch *batch,
                                         struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint32_t count = 0;
    uint64_t version;
    bool *there = calloc(meta->shards + 1, sizeof(*there));
    enum torc_err err =
        torc_metastore_list(store, "shard/", TORC_CHAN_MAP_ENTRIES, &records, &count, why);

    torc_assert(there != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id;

        if (torc_record_id(records[i].key, "shard", &id) && id <= meta->shards) {
            there[id] = true;
        }
    }
    for (uint32_t i = 0; i < meta->shards && err == TORC_ERR_OK; i++) {
        struct torc_shard_fields shard = {.primary_node = node, .nonce = registry_nonce()};

        torc_cluster_cut(meta->keys, (uint32_t)meta->shards, i, &shard.lo, &shard.hi);
        registry_alone(&shard, node, copy);
        if (!there[i + 1]) {
            registry_add(batch, "shard", i + UINT64_C(1), TORC_RECORD_SHARD, &shard,
                         TORC_META_ABSENT);
        }
        if (batch->count == REGISTRY_BATCH || i + 1 == meta->shards) {
            err = registry_write(store, batch, &version, why);
        }
    }
    free(there);
    return err;
}

// A cluster that an earlier init began may be finished; one that has run may not be made again.
static enum torc_err registry_check_fresh(struct torc_metastore *store, const char *address,
                                          uint64_t node, struct torc_fail *why)
{
    struct torc_meta_record record;
    struct torc_node_fields fields;
    char name[TORC_RECORD_NAME_BYTES];
    enum torc_err err;

    torc_record_name(name, "node", node);
    err = torc_metastore_get(store, name, &record, why);
    if (err == TORC_ERR_NOT_FOUND) {
        return TORC_ERR_OK;
    }
    if (err == TORC_ERR_OK) {
        err = torc_record_decode(TORC_RECORD_NODE, &fields, record.value, record.value_bytes, why);
    }
    if (err == TORC_ERR_OK && fields.start_count > 0) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "%.60s knows node %" PRIu64 ", whose data is not here: give its directory "
                         "with --data, or another metastore",
                         address, node);
    }
    return err;
}

enum torc_err torc_registry_make(const struct torc_settings *settings,
                                 struct torc_meta_fields *meta, struct torc_fail *why)
{
    char address[TORC_SETTINGS_TEXT_BYTES + 16];
    struct torc_metastore *store = NULL;
    struct torc_meta_record record;
    struct registry_batch *batch = calloc(1, sizeof(*batch));
    struct torc_node_fields node;
    enum torc_data_dir_state state = TORC_DATA_DIR_MISSING;
    enum torc_err err = torc_data_dir_look(settings->data, &state, why);

    torc_assert(batch != NULL);
    if (err == TORC_ERR_OK && state != TORC_DATA_DIR_MISSING) {
        err = torc_data_dir_make(settings->data, 1, 1, why); // says why not
        torc_assert(err != TORC_ERR_OK);
    }
    if (err == TORC_ERR_OK) {
        err = torc_registry_address(settings, address, sizeof(address), why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_folder_make(settings->data, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_open_store(&store, settings, address, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_check_fresh(store, address, settings->node, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_metastore_get(store, "meta", &record, why);
        if (err == TORC_ERR_NOT_FOUND) {
            registry_meta_of(settings, meta);
            err = registry_check_room(meta->shards, torc_registry_workers(settings), why);
            err = err == TORC_ERR_OK ? registry_put_meta(store, meta, why) : err;
        } else if (err == TORC_ERR_OK) {
            err = torc_record_decode(TORC_RECORD_META, meta, record.value, record.value_bytes, why);
        }
    }
    if (err == TORC_ERR_OK) {
        err = registry_put_fresh_node(store, settings->node, &node, batch, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_put_shards(store, meta, settings->node, node.copy, batch, why);
    }
    if (err == TORC_ERR_OK && meta->security == TORC_SECURITY_KEYS) {
        err = torc_keys_make(settings->data, meta->cluster, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_data_dir_make(settings->data, meta->cluster, (uint32_t)settings->node, why);
    }
    if (store != NULL) {
        torc_metastore_close(store);
    }
    free(batch);
    return err;
}

// -- Reading -------------------------------------------------------------------------------------

static enum torc_err registry_differs(const char *key, uint64_t given, uint64_t made,
                                      struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "%s = %" PRIu64 ", but this cluster was made with %" PRIu64
                     ": it is fixed at birth; leave the key out",
                     key, given, made);
}

// What is fixed at birth and was given again must be the same.
static enum torc_err registry_check_settings(const struct torc_registry *registry,
                                             const struct torc_settings *settings,
                                             struct torc_fail *why)
{
    const struct {
        const char *key;
        enum torc_setting setting;
        uint64_t given;
        uint64_t made;
    } fixed[] = {
        {"keys", TORC_SETTING_keys, settings->keys, registry->meta.keys},
        {"shards", TORC_SETTING_shards, settings->shards, registry->meta.shards},
        {"replicas", TORC_SETTING_replicas, settings->replicas, registry->meta.replicas},
        {"durability", TORC_SETTING_durability, settings->durability, registry->meta.durability},
        {"security", TORC_SETTING_security, settings->security, registry->meta.security},
        {"value-max", TORC_SETTING_value_max, settings->value_max, registry->meta.value_max},
        {"dedup-ttl", TORC_SETTING_dedup_ttl_s, settings->dedup_ttl_s, registry->meta.dedup_ttl_s}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(fixed); i++) {
        bool is_auto = fixed[i].setting == TORC_SETTING_shards && fixed[i].given == 0;

        if (settings->source[fixed[i].setting] != TORC_SETTING_FROM_DEFAULT && !is_auto &&
            fixed[i].given != fixed[i].made) {
            return registry_differs(fixed[i].key, fixed[i].given, fixed[i].made, why);
        }
    }
    return TORC_ERR_OK;
}

// One shard's record as the metastore has it.
struct registry_shard {
    struct torc_shard_fields fields;
    uint64_t version;
    uint32_t shard;
};

static int registry_by_lo(const void *a, const void *b)
{
    const struct registry_shard *one = a;
    const struct registry_shard *two = b;

    return one->fields.lo < two->fields.lo ? -1 : one->fields.lo > two->fields.lo;
}

static enum torc_err registry_read_shard(const struct torc_meta_record *record,
                                         struct registry_shard *shard, struct torc_fail *why)
{
    struct torc_fail inner = {0};
    uint64_t id = 0;
    enum torc_err err = torc_record_decode(TORC_RECORD_SHARD, &shard->fields, record->value,
                                           record->value_bytes, &inner);

    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "metastore: %.40s: %.100s", record->key, inner.text);
    }
    if (!torc_record_id(record->key, "shard", &id) || id == 0 || id > UINT32_MAX) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: a record named %.60s", record->key);
    }
    shard->version = record->version;
    shard->shard = (uint32_t)id;
    return TORC_ERR_OK;
}

// All of them, in the order of their keys; the caller frees what it gets.
static enum torc_err registry_list_shards(struct torc_registry *registry,
                                          struct registry_shard **out, uint32_t *shard_count,
                                          struct torc_fail *why)
{
    const struct torc_meta_record *records;
    struct registry_shard *shards = NULL;
    uint32_t count = 0;
    enum torc_err err = torc_metastore_list(registry->store, "shard/", TORC_CHAN_MAP_ENTRIES,
                                            &records, &count, why);

    if (err == TORC_ERR_LIMIT || (err == TORC_ERR_OK && count == 0)) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "metastore: %s shards, 1 to %u expected",
                        err == TORC_ERR_LIMIT ? "too many" : "no", TORC_CHAN_MAP_ENTRIES);
    }
    shards = calloc(count + UINT64_C(1), sizeof(*shards));
    torc_assert(shards != NULL);
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        err = registry_read_shard(records + i, shards + i, why);
    }
    *shard_count = err == TORC_ERR_OK ? count : 0;
    qsort(shards, *shard_count, sizeof(*shards), registry_by_lo);
    *out = shards;
    return err;
}

static enum torc_err registry_read_shards(struct torc_registry *registry, struct torc_fail *why)
{
    struct torc_cluster *cluster = &registry->cluster;
    struct registry_shard *shards;
    uint32_t count = 0;
    enum torc_err err = registry_list_shards(registry, &shards, &count, why);

    cluster->shards = calloc(count + UINT64_C(1), sizeof(*cluster->shards));
    torc_assert(cluster->shards != NULL);
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        const struct torc_shard_fields *fields = &shards[i].fields;

        if (fields->primary_node != cluster->node) {
            err = torc_fail(why, TORC_ERR_UNSUPPORTED,
                            "shard %" PRIu32 " belongs to node %" PRIu64
                            ": clusters of several nodes come with a later version",
                            shards[i].shard, fields->primary_node);
        }
        cluster->shards[i] = (struct torc_cluster_shard){.lo = fields->lo,
                                                         .hi = fields->hi,
                                                         .shard = shards[i].shard,
                                                         .epoch = (uint32_t)fields->epoch};
    }
    cluster->shard_count = err == TORC_ERR_OK ? count : 0;
    free(shards);
    return err == TORC_ERR_OK ? torc_cluster_check(cluster, why) : err;
}

static enum torc_err registry_read_node(struct torc_registry *registry, struct torc_fail *why)
{
    struct torc_meta_record record;
    char name[TORC_RECORD_NAME_BYTES];
    enum torc_err err;

    torc_record_name(name, "node", registry->cluster.node);
    err = torc_metastore_get(registry->store, name, &record, why);
    if (err == TORC_ERR_NOT_FOUND) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: it does not know node %" PRIu32,
                         registry->cluster.node);
    }
    if (err == TORC_ERR_OK) {
        registry->node_version = record.version;
        err = torc_record_decode(TORC_RECORD_NODE, &registry->node, record.value,
                                 record.value_bytes, why);
    }
    return err;
}

// N1.
static enum torc_err registry_check_starts(const struct torc_registry *registry,
                                           const struct torc_data_dir *dir, struct torc_fail *why)
{
    if (dir->start_count == registry->node.start_count ||
        dir->start_count + 1 == registry->node.start_count) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "data directory: start %" PRIu64 ", metastore: start %" PRIu64
                     ": one of them is an old copy; put both back from the same backup",
                     dir->start_count, registry->node.start_count);
}

enum torc_err torc_registry_open(struct torc_registry *registry,
                                 const struct torc_settings *settings, struct torc_data_dir *dir,
                                 struct torc_fail *why)
{
    char address[TORC_SETTINGS_TEXT_BYTES + 16];
    struct torc_meta_record record;
    enum torc_err err;

    memset(registry, 0, sizeof(*registry));
    registry->cluster.node = dir->node;
    registry->cluster.cluster = dir->cluster;
    err = torc_registry_address(settings, address, sizeof(address), why);
    if (err == TORC_ERR_OK) {
        err = registry_open_store(&registry->store, settings, address, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_metastore_get(registry->store, "meta", &record, why);
        if (err == TORC_ERR_NOT_FOUND) {
            err = torc_fail(why, TORC_ERR_CORRUPT,
                            "%.80s holds no cluster, but the data directory is a node's: give its "
                            "metastore with --metastore, or restore it",
                            address);
        }
    }
    if (err == TORC_ERR_OK) {
        err = torc_record_decode(TORC_RECORD_META, &registry->meta, record.value,
                                 record.value_bytes, why);
    }
    if (err == TORC_ERR_OK && registry->meta.cluster != dir->cluster) {
        err = torc_fail(why, TORC_ERR_CORRUPT,
                        "%.60s is of cluster %016" PRIx64 ", the data directory of %016" PRIx64,
                        address, registry->meta.cluster, dir->cluster);
    }
    registry->cluster.keys = registry->meta.keys;
    if (err == TORC_ERR_OK) {
        err = registry_check_settings(registry, settings, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_read_node(registry, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_check_starts(registry, dir, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_read_shards(registry, why);
    }
    registry->cluster.boot = registry->node.boot;
    registry->cluster.map_version =
        registry->store != NULL ? torc_metastore_revision(registry->store) : 0;
    if (err != TORC_ERR_OK) {
        torc_registry_close(registry);
    }
    return err;
}

void torc_registry_close(struct torc_registry *registry)
{
    if (registry->store != NULL) {
        torc_metastore_close(registry->store);
        registry->store = NULL;
    }
    free(registry->cluster.shards);
    registry->cluster.shards = NULL;
}

// -- Starting ------------------------------------------------------------------------------------

static enum torc_err registry_put_node(struct torc_registry *registry,
                                       struct torc_node_fields *fields,
                                       struct registry_batch *batch, struct torc_fail *why)
{
    uint64_t version = 0;
    enum torc_err err;

    fields->nonce = registry_nonce();
    registry_add(batch, "node", registry->cluster.node, TORC_RECORD_NODE, fields,
                 registry->node_version);
    err = registry_write(registry->store, batch, &version, why);
    if (err == TORC_ERR_OK) {
        registry->node = *fields;
        registry->node_version = version;
    }
    return err;
}

// Raises the epochs of all shards: reads the records, swaps them, a batch at a time.
static enum torc_err registry_raise(struct torc_registry *registry, struct registry_batch *batch,
                                    struct torc_fail *why)
{
    struct torc_cluster *cluster = &registry->cluster;
    struct registry_shard *shards;
    uint64_t version;
    uint32_t count = 0;
    enum torc_err err = registry_list_shards(registry, &shards, &count, why);

    if (err == TORC_ERR_OK && count != cluster->shard_count) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "metastore: %" PRIu32 " shards, now %" PRIu32,
                        cluster->shard_count, count);
    }
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;
        struct torc_shard_fields *fields = &shards[i].fields;

        if (shards[i].shard != shard->shard || fields->epoch < shard->epoch) { // M3
            err = torc_fail(why, TORC_ERR_CORRUPT,
                            "METASTORE_WENT_BACK: shard %" PRIu32 " had epoch %" PRIu32
                            ", now there is shard %" PRIu32 " of epoch %" PRIu64,
                            shard->shard, shard->epoch, shards[i].shard, fields->epoch);
            break;
        }
        fields->epoch++;
        fields->primary_node = cluster->node;
        fields->primary_boot = registry->node.boot;
        fields->nonce = registry_nonce();
        registry_alone(fields, cluster->node, registry->node.copy);
        shard->epoch = (uint32_t)fields->epoch;
        registry_add(batch, "shard", shard->shard, TORC_RECORD_SHARD, fields, shards[i].version);
        if (batch->count == REGISTRY_BATCH || i + 1 == count) {
            err = registry_write(registry->store, batch, &version, why);
        }
    }
    free(shards);
    return err;
}

static void registry_show_address(const struct torc_network *network,
                                  struct torc_node_fields *fields)
{
    fields->address[0] = '\0';
    fields->address6[0] = '\0';
    if (network->ipv4_prefix > 0) {
        (void)inet_ntop(AF_INET, network->ipv4, fields->address, sizeof(fields->address));
    }
    if (network->ipv6_prefix > 0) {
        (void)inet_ntop(AF_INET6, network->ipv6, fields->address6, sizeof(fields->address6));
    }
}

enum torc_err torc_registry_start(struct torc_registry *registry, struct torc_data_dir *dir,
                                  uint32_t worker_count, const struct torc_network *network,
                                  struct torc_fail *why)
{
    struct torc_cluster *cluster = &registry->cluster;
    struct registry_batch *batch = calloc(1, sizeof(*batch));
    struct torc_node_fields fields;
    enum torc_err err = registry_check_room(cluster->shard_count, worker_count, why);

    torc_assert(batch != NULL);
    if (err == TORC_ERR_OK) {
        err = registry_read_node(registry, why);
    }
    if (err == TORC_ERR_OK) {
        fields = registry->node;
        fields.boot++;
        fields.start_count++;
        fields.cores = worker_count;
        fields.base_port = network->base_port;
        registry_show_address(network, &fields);
        err = registry_put_node(registry, &fields, batch, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_raise(registry, batch, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_data_dir_started(dir, registry->node.start_count, why);
    }
    cluster->boot = registry->node.boot;
    cluster->map_version = torc_metastore_revision(registry->store);
    free(batch);
    return err;
}

enum torc_err torc_registry_down(struct torc_registry *registry, struct torc_fail *why)
{
    struct registry_batch *batch = calloc(1, sizeof(*batch));
    struct torc_node_fields fields;
    enum torc_err err = registry_read_node(registry, why);

    torc_assert(batch != NULL);
    if (err == TORC_ERR_OK) {
        fields = registry->node;
        fields.down = fields.boot;
        err = registry_put_node(registry, &fields, batch, why);
    }
    free(batch);
    return err;
}
