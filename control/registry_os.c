// Torc control: the cluster as the metastore has it. See control/registry_os.h.
#include "control/based_os.h"
#include "control/give.h"
#include "control/recover_uring.h"
#include "control/registry_impl_os.h"
#include "control/starts.h"
#include "kit/log_os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

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

enum torc_err torc_registry_open_store(struct torc_metastore **store,
                                       const struct torc_settings *settings, const char *address,
                                       bool look_only, struct torc_fail *why)
{
    const struct torc_metastore_config config = {.address = address,
                                                 .user = settings->metastore_user,
                                                 .password_file = settings->metastore_password_file,
                                                 .ca = settings->metastore_ca,
                                                 .cert = settings->metastore_cert,
                                                 .key = settings->metastore_key,
                                                 .look_only = look_only};

    return torc_metastore_open(store, &config, why);
}

// -- Parts of writing ----------------------------------------------------------------------------

enum torc_err torc_registry_check_start(uint64_t shards, uint64_t workers, struct torc_fail *why)
{
    if (shards <= workers * TORC_CHAN_SHARDS_MAX) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "%" PRIu64 " shards for %" PRIu64 " workers, this node's own and those it has "
                     "data of: one holds at most %u; give it %" PRIu64 " workers",
                     shards, workers, TORC_CHAN_SHARDS_MAX,
                     (shards + TORC_CHAN_SHARDS_MAX - 1) / TORC_CHAN_SHARDS_MAX);
}

void torc_registry_add(struct torc_registry_batch *batch, const char *family, uint64_t id,
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

enum torc_err torc_registry_write(struct torc_metastore *store, struct torc_registry_batch *batch,
                                  uint64_t *version, struct torc_fail *why)
{
    enum torc_err err = batch->count > 0
                            ? torc_metastore_swap(store, batch->ops, batch->count, version, why)
                            : TORC_ERR_OK;

    batch->count = 0;
    return err;
}

uint64_t torc_registry_nonce(void)
{
    uint64_t nonce;

    torc_random(&nonce, sizeof(nonce));
    return nonce | 1; // 0: written before there were nonces
}

enum torc_err torc_registry_get_node(struct torc_metastore *store, uint64_t node,
                                     struct torc_node_fields *fields, uint64_t *version,
                                     struct torc_fail *why)
{
    struct torc_meta_record record;
    char name[TORC_RECORD_NAME_BYTES];
    enum torc_err err;

    torc_record_name(name, "node", node);
    err = torc_metastore_get(store, name, &record, why);
    if (err == TORC_ERR_OK) {
        *version = record.version;
        err = torc_record_decode(TORC_RECORD_NODE, fields, record.value, record.value_bytes, why);
    }
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

enum torc_err torc_registry_check_settings(const struct torc_meta_fields *meta,
                                           const struct torc_settings *settings,
                                           struct torc_fail *why)
{
    const struct {
        const char *key;
        enum torc_setting setting;
        uint64_t given;
        uint64_t made;
    } fixed[] = {{"keys", TORC_SETTING_keys, settings->keys, meta->keys},
                 {"shards", TORC_SETTING_shards, settings->shards, meta->shards},
                 {"replicas", TORC_SETTING_replicas, settings->replicas, meta->replicas},
                 {"durability", TORC_SETTING_durability, settings->durability, meta->durability},
                 {"security", TORC_SETTING_security, settings->security, meta->security},
                 {"value-max", TORC_SETTING_value_max, settings->value_max, meta->value_max},
                 {"dedup-ttl", TORC_SETTING_dedup_ttl_s, settings->dedup_ttl_s, meta->dedup_ttl_s}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(fixed); i++) {
        bool is_auto = fixed[i].setting == TORC_SETTING_shards && fixed[i].given == 0;

        if (settings->source[fixed[i].setting] != TORC_SETTING_FROM_DEFAULT && !is_auto &&
            fixed[i].given != fixed[i].made) {
            return registry_differs(fixed[i].key, fixed[i].given, fixed[i].made, why);
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_registry_check_pairs(const struct torc_meta_fields *meta,
                                        const struct torc_settings *settings, struct torc_fail *why)
{
    struct torc_settings in_force = *settings;

    in_force.keys = meta->keys;
    in_force.shards = meta->shards;
    in_force.replicas = meta->replicas;
    in_force.durability = meta->durability;
    in_force.security = meta->security;
    in_force.value_max = meta->value_max;
    in_force.dedup_ttl_s = meta->dedup_ttl_s;
    return torc_settings_check(&in_force, why);
}

static enum torc_err registry_survey_family(struct torc_registry *registry, const char *family,
                                            uint32_t most, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint32_t count = 0;
    bool changed;
    enum torc_err err = torc_metastore_list(registry->store, family, most, &records, &count, why);

    if (err == TORC_ERR_LIMIT) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: more than %" PRIu32 " of %s", most,
                         family);
    }
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        err = torc_survey_put(registry->survey, records + i, &changed, why);
    }
    return err;
}

// All shards and all nodes. They are told from one moment on: what the two lists do not show is
// above the revision of the first.
static enum torc_err registry_read_survey(struct torc_registry *registry, struct torc_fail *why)
{
    struct torc_survey *survey = registry->survey;
    uint64_t revision;
    enum torc_err err;

    memset(survey, 0, sizeof(*survey));
    survey->keys = registry->meta.keys;
    err = registry_survey_family(registry, "shard/", TORC_CHAN_MAP_ENTRIES, why);
    revision = torc_metastore_revision(registry->store);
    if (err == TORC_ERR_OK) {
        err = registry_survey_family(registry, "node/", TORC_CHAN_NODES_MAX, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_survey_family(registry, "want/", TORC_CHAN_MAP_ENTRIES, why);
    }
    survey->revision = revision;
    return err == TORC_ERR_OK ? torc_survey_check(survey, why) : err;
}

// This node's shards, of the survey.
static void registry_take_shards(struct torc_registry *registry)
{
    struct torc_cluster *cluster = &registry->cluster;
    const struct torc_survey *survey = registry->survey;

    free(cluster->shards);
    cluster->shards = calloc(TORC_CHAN_MAP_ENTRIES, sizeof(*cluster->shards));
    torc_assert(cluster->shards != NULL);
    cluster->shard_count = 0;
    cluster->shard_max = TORC_CHAN_MAP_ENTRIES;
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;

        if (torc_survey_concerns(registry->survey, shard, cluster->node)) {
            cluster->shards[cluster->shard_count++] =
                (struct torc_cluster_shard){.lo = shard->lo,
                                            .hi = shard->hi,
                                            .shard = shard->shard,
                                            .epoch = shard->epoch,
                                            .replica = registry->meta.replicas > 1,
                                            .wish = true};
        }
    }
}

static enum torc_err registry_read_shards(struct torc_registry *registry, struct torc_fail *why)
{
    enum torc_err err = registry_read_survey(registry, why);

    if (err == TORC_ERR_OK) {
        registry_take_shards(registry);
        registry->cluster.map_version = registry->survey->revision;
    }
    return err;
}

static enum torc_err registry_read_node(struct torc_registry *registry, struct torc_fail *why)
{
    enum torc_err err = torc_registry_get_node(registry->store, registry->cluster.node,
                                               &registry->node, &registry->node_version, why);

    if (err == TORC_ERR_NOT_FOUND) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: it does not know node %" PRIu32,
                         registry->cluster.node);
    }
    return err;
}

// All zero where there is none.
static enum torc_err registry_read_start(struct torc_registry *registry, struct torc_fail *why)
{
    struct torc_meta_record record;
    char name[TORC_RECORD_NAME_BYTES];
    enum torc_err err;

    registry->start = (struct torc_start_fields){0};
    registry->start_version = TORC_META_ABSENT;
    torc_record_name(name, "start", registry->cluster.node);
    err = torc_metastore_get(registry->store, name, &record, why);
    if (err == TORC_ERR_OK) {
        registry->start_version = record.version;
        err = torc_record_decode(TORC_RECORD_START, &registry->start, record.value,
                                 record.value_bytes, why);
    }
    return err == TORC_ERR_NOT_FOUND ? TORC_ERR_OK : err;
}

// MiB for trees: what placement measures nodes by.
static uint64_t registry_capacity(const struct torc_settings *settings)
{
    uint64_t bytes = settings->memory;

    if (bytes == 0) {
        bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
    }
    return torc_max_u64(bytes >> 20, 1);
}

static enum torc_err registry_take_domain(struct torc_registry *registry,
                                          const struct torc_settings *settings,
                                          struct torc_fail *why)
{
    uint64_t bytes = strlen(settings->domain) + 1;

    if (bytes > sizeof(registry->domain)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "domain of %" PRIu64 " bytes: at most %zu",
                         bytes - 1, sizeof(registry->domain) - 1);
    }
    memcpy(registry->domain, settings->domain, bytes);
    return TORC_ERR_OK;
}

// The node's record and how far its last start went; what the next one goes on from (N1).
static enum torc_err registry_plan_start(struct torc_registry *registry,
                                         const struct torc_data_dir *dir,
                                         struct torc_start_plan *plan, struct torc_fail *why)
{
    struct torc_start_seen seen = {.node = &registry->node,
                                   .start = &registry->start,
                                   .dir_count = dir->start_count,
                                   .forgets =
                                       registry->meta.durability == TORC_DURABILITY_REPLICATED};
    enum torc_err err = registry_read_node(registry, why);

    seen.sealed = torc_data_dir_sealed(dir, &seen.sealed_boot);
    if (err == TORC_ERR_OK) {
        err = registry_read_start(registry, why);
    }
    return err == TORC_ERR_OK ? torc_start_plan(plan, &seen, why) : err;
}

enum torc_err torc_registry_open(struct torc_registry *registry,
                                 const struct torc_settings *settings, struct torc_data_dir *dir,
                                 struct torc_fail *why)
{
    char address[TORC_SETTINGS_TEXT_BYTES + 16];
    struct torc_meta_record record;
    struct torc_start_plan plan;
    enum torc_err err;

    memset(registry, 0, sizeof(*registry));
    registry->survey = calloc(1, sizeof(*registry->survey));
    torc_assert(registry->survey != NULL);
    registry->cluster.node = dir->node;
    registry->cluster.cluster = dir->cluster;
    registry->capacity = registry_capacity(settings);
    err = registry_take_domain(registry, settings, why);
    if (err == TORC_ERR_OK) {
        err = torc_registry_address(settings, address, sizeof(address), why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_registry_open_store(&registry->store, settings, address, dir->look_only, why);
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
        err = torc_registry_check_settings(&registry->meta, settings, why);
    }
    if (err == TORC_ERR_OK && !dir->look_only) { // who looks is not told what nodes are
        err = torc_registry_check_pairs(&registry->meta, settings, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_plan_start(registry, dir, &plan, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_read_shards(registry, why);
    }
    registry->cluster.boot = registry->node.boot;
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
    free(registry->survey);
    registry->survey = NULL;
}

// -- Beginning a life ----------------------------------------------------------------------------

// What lies on the disk is of the first one; 0 next: of one that is to be drawn.
struct registry_copies {
    uint64_t disk;
    uint64_t next;
};

struct registry_life {
    const struct torc_registry *registry;
    const struct torc_network *network;
    uint64_t copy; // the node's
    uint32_t worker_count;
};

static void registry_begin_life(const struct registry_life *life, struct torc_node_fields *fields)
{
    const struct torc_network *network = life->network;

    fields->boot++;
    fields->start_count++;
    fields->copy = life->copy;
    fields->cores = life->worker_count;
    fields->base_port = network->base_port;
    fields->capacity = life->registry->capacity;
    memcpy(fields->domain, life->registry->domain, sizeof(fields->domain));
    fields->address[0] = '\0';
    fields->address6[0] = '\0';
    if (network->ipv4_prefix > 0) {
        (void)inet_ntop(AF_INET, network->ipv4, fields->address, sizeof(fields->address));
    }
    if (network->ipv6_prefix > 0) {
        (void)inet_ntop(AF_INET6, network->ipv6, fields->address6, sizeof(fields->address6));
    }
}

// One shard's record; of those that are this node's alone, the next epoch is added to the batch.
static enum torc_err registry_raise_one(struct torc_registry *registry,
                                        struct torc_registry_batch *batch,
                                        const struct torc_meta_record *record,
                                        struct torc_fail *why)
{
    struct torc_cluster *cluster = &registry->cluster;
    struct torc_shard_fields fields;
    struct torc_cluster_shard *shard;
    uint64_t id = 0;
    enum torc_err err =
        torc_record_decode(TORC_RECORD_SHARD, &fields, record->value, record->value_bytes, why);

    if (err != TORC_ERR_OK || !torc_record_id(record->key, "shard", &id) ||
        fields.insync.count != 1 || fields.insync.at[0].node != cluster->node) {
        return err;
    }
    shard = torc_cluster_shard(cluster, (uint32_t)id);
    if (shard != NULL && fields.epoch < shard->epoch) { // M3
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "METASTORE_WENT_BACK: shard %" PRIu32 " had epoch %" PRIu32
                         ", now it has epoch %" PRIu64,
                         shard->shard, shard->epoch, fields.epoch);
    }
    fields.epoch++;
    fields.primary_node = cluster->node;
    fields.primary_boot = registry->node.boot;
    fields.nonce = torc_registry_nonce();
    fields.insync.at[0].copy = registry->node.copy;
    torc_registry_add(batch, "shard", id, TORC_RECORD_SHARD, &fields, record->version);
    return TORC_ERR_OK;
}

// Raises the epochs of this node's shards, a batch at a time. The list is read to its end before
// the first one goes out: it lives until the next request.
static enum torc_err registry_raise(struct torc_registry *registry, struct torc_fail *why)
{
    const struct torc_meta_record *records;
    uint64_t room = TORC_CHAN_MAP_ENTRIES / TORC_REGISTRY_BATCH + 1;
    struct torc_registry_batch *batches = calloc(room, sizeof(*batches));
    uint32_t count = 0;
    uint32_t used = 0;
    uint64_t version;
    enum torc_err err = torc_metastore_list(registry->store, "shard/", TORC_CHAN_MAP_ENTRIES,
                                            &records, &count, why);

    torc_assert(batches != NULL);
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        used += batches[used].count == TORC_REGISTRY_BATCH ? 1 : 0;
        err = registry_raise_one(registry, batches + used, records + i, why);
    }
    for (uint32_t i = 0; i <= used && err == TORC_ERR_OK; i++) {
        err = torc_registry_write(registry->store, batches + i, &version, why);
    }
    free(batches);
    return err;
}

// Which memory the node has in its next life: its own, or another one where what was acknowledged
// lay in a dataplane that is gone. It is drawn once a start, however often others are in between.
static enum torc_err registry_copy(struct torc_registry *registry,
                                   const struct torc_start_plan *plan, uint64_t *copy,
                                   struct torc_fail *why)
{
    enum torc_err err;

    registry->disk_copy = plan->copy;
    if (!plan->renew || *copy != 0) {
        *copy = plan->renew ? *copy : plan->copy;
        return TORC_ERR_OK;
    }
    err = torc_metastore_draw(registry->store, "counter/copies", 0, 1, copy, why);
    if (err == TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "node", "forgot",
                 "boot=%" PRIu64 " copy=%" PRIu64 " note=\"durability = replicated, and the last "
                 "life did not end by a clean stop: this node joins its shards anew\"",
                 plan->served, *copy);
    }
    return err;
}

static void registry_add_start(struct torc_registry *registry, struct torc_registry_batch *batch)
{
    registry->start.nonce = torc_registry_nonce();
    torc_registry_add(batch, "start", registry->cluster.node, TORC_RECORD_START, &registry->start,
                      registry->start_version);
}

// Steps 1 and 2 of a start (control/starts.h). CONDITION_FAILED: somebody was in between; the
// leader of placement writes into the node's record too.
static enum torc_err registry_try_start(struct torc_registry *registry, struct torc_data_dir *dir,
                                        struct registry_life *life, struct torc_fail *why)
{
    struct torc_registry_batch *batch = calloc(1, sizeof(*batch));
    struct torc_start_plan plan;
    uint64_t version = 0;
    enum torc_err err = registry_plan_start(registry, dir, &plan, why);

    torc_assert(batch != NULL);
    if (err == TORC_ERR_OK && plan.fresh) {
        err = torc_data_dir_seal(dir, 0, why);
    }
    if (err == TORC_ERR_OK && plan.behind) {
        err = torc_data_dir_started(dir, registry->node.start_count, why);
    }
    if (err == TORC_ERR_OK) {
        err = registry_copy(registry, &plan, &life->copy, why);
    }
    if (err == TORC_ERR_OK) {
        registry_begin_life(life, &registry->node);
        registry->node.nonce = torc_registry_nonce();
        registry->start = (struct torc_start_fields){
            .start_count = registry->node.start_count, .served = plan.served, .copy = plan.copy};
        torc_registry_add(batch, "node", registry->cluster.node, TORC_RECORD_NODE, &registry->node,
                          registry->node_version);
        registry_add_start(registry, batch);
        err = torc_registry_write(registry->store, batch, &version, why);
        registry->node_version = version;
        registry->start_version = version;
    }
    free(batch);
    return err;
}

// -- What a start has ----------------------------------------------------------------------------

static void registry_hold(const struct torc_cluster *cluster, bool *held, uint32_t shard)
{
    const struct torc_cluster_shard *found = torc_cluster_shard(cluster, shard);

    if (found != NULL) {
        held[found - cluster->shards] = true;
    }
}

// Of which shards of the table something lies here that a member could go on from: a checkpoint, or
// a log that DATA/replicas calls whole.
static enum torc_err registry_find_held(const struct torc_registry *registry,
                                        const struct torc_data_dir *dir,
                                        const struct registry_copies *copies, bool *held,
                                        struct torc_fail *why)
{
    struct torc_based *based = calloc(1, sizeof(*based));
    DIR *folder;
    int reason;
    uint32_t shard;
    uint64_t lsn;
    int fd;

    torc_assert(based != NULL);
    torc_based_load(dir, copies->disk, copies->next, based);
    for (uint32_t i = 0; i < based->count; i++) {
        if (based->lines[i].whole) {
            registry_hold(&registry->cluster, held, based->lines[i].shard);
        }
    }
    free(based);
    fd = openat(dir->checkpoint_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder == NULL) {
        enum torc_err err =
            torc_fail(why, TORC_ERR_IO, "read checkpoint/: %s", strerrordesc_np(errno));

        if (fd >= 0) {
            (void)close(fd); // nothing was read
        }
        return err;
    }
    for (const struct dirent *entry = torc_folder_next(folder); entry != NULL;
         entry = torc_folder_next(folder)) {
        if (torc_checkpoint_name_parse(entry->d_name, &shard, &lsn)) {
            registry_hold(&registry->cluster, held, shard);
        }
    }
    reason = errno;
    (void)closedir(folder);
    return reason == 0
               ? TORC_ERR_OK
               : torc_fail(why, TORC_ERR_IO, "list checkpoint/: %s", strerrordesc_np(reason));
}

static enum torc_err registry_read_room(struct torc_registry *registry,
                                        const struct torc_data_dir *dir,
                                        const struct registry_copies *copies, uint32_t worker_count,
                                        struct torc_fail *why)
{
    struct torc_cluster *cluster = &registry->cluster;
    enum torc_err err = registry_read_shards(registry, why);
    bool *held;

    if (err != TORC_ERR_OK) {
        return err;
    }
    held = calloc(cluster->shard_count + 1, sizeof(*held));
    torc_assert(held != NULL);
    err = registry_find_held(registry, dir, copies, held, why);
    if (err == TORC_ERR_OK) {
        registry->left_out = torc_give_fit(cluster, registry->survey, held,
                                           (uint64_t)worker_count * TORC_CHAN_SHARDS_MAX);
        err = torc_registry_check_start(cluster->shard_count, worker_count, why);
    }
    free(held);
    return err;
}

enum torc_err torc_registry_look(struct torc_registry *registry, const struct torc_data_dir *dir,
                                 uint32_t worker_count, struct torc_fail *why)
{
    struct torc_start_plan plan;
    struct registry_copies copies;
    enum torc_err err = registry_plan_start(registry, dir, &plan, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    copies = (struct registry_copies){.disk = plan.copy, .next = plan.renew ? 0 : plan.copy};
    return registry_read_room(registry, dir, &copies, worker_count, why);
}

// -- Starting ------------------------------------------------------------------------------------

static void registry_say_left_out(const struct torc_registry *registry, uint32_t worker_count)
{
    const struct torc_survey *survey = registry->survey;
    char names[128] = "";
    uint64_t used = 0;

    for (uint32_t i = 0; i < survey->shard_count && used < sizeof(names) - 16; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;

        if (torc_survey_concerns(registry->survey, shard, registry->cluster.node) &&
            torc_cluster_shard(&registry->cluster, shard->shard) == NULL) {
            used += (uint64_t)snprintf(names + used, sizeof(names) - used, "%s%" PRIu32,
                                       used > 0 ? "," : "", shard->shard);
        }
    }
    torc_log(TORC_LOG_WARN, "node", "left-out",
             "count=%" PRIu32 " shards=%s%s room=%" PRIu64
             " note=\"this node is to have copies of them, has no data of them and no room: they "
             "begin here when others have left; give it more workers, or the cluster more nodes\"",
             registry->left_out, names, used < sizeof(names) - 16 ? "" : ",...",
             (uint64_t)worker_count * TORC_CHAN_SHARDS_MAX);
}

enum torc_err torc_registry_start(struct torc_registry *registry, struct torc_data_dir *dir,
                                  uint32_t worker_count, const struct torc_network *network,
                                  struct torc_fail *why)
{
    struct registry_life life = {
        .registry = registry, .network = network, .worker_count = worker_count};
    struct registry_copies copies;
    enum torc_err err;

    do {
        err = registry_try_start(registry, dir, &life, why);
    } while (err == TORC_ERR_CONDITION_FAILED);
    registry->cluster.boot = registry->node.boot;

    // Whoever has others beside it is made primary by its replica, in an epoch of its own (T9).
    if (err == TORC_ERR_OK && registry->meta.replicas == 1) {
        err = registry_raise(registry, why);
    }
    if (err == TORC_ERR_OK) {
        copies = (struct registry_copies){registry->disk_copy, registry->node.copy};
        err = registry_read_room(registry, dir, &copies, worker_count, why);
    }
    if (err == TORC_ERR_OK && registry->left_out > 0) {
        registry_say_left_out(registry, worker_count);
    }
    return err == TORC_ERR_OK ? torc_data_dir_started(dir, registry->node.start_count, why) : err;
}

enum torc_err torc_registry_serves(struct torc_registry *registry, struct torc_data_dir *dir,
                                   struct torc_fail *why)
{
    struct torc_registry_batch *batch = calloc(1, sizeof(*batch));
    enum torc_err err;

    torc_assert(batch != NULL);
    registry->start.served = registry->node.boot;
    registry->start.copy = registry->node.copy;
    registry_add_start(registry, batch);
    err = torc_registry_write(registry->store, batch, &registry->start_version, why);
    free(batch);
    if (err == TORC_ERR_CONDITION_FAILED) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "node %" PRIu32 " was started elsewhere, from another copy of this data "
                         "directory: stop one of them",
                         registry->cluster.node);
    }
    return err == TORC_ERR_OK ? torc_data_dir_unseal(dir, why) : err;
}

enum torc_err torc_registry_down(struct torc_registry *registry, struct torc_fail *why)
{
    struct torc_registry_batch *batch = calloc(1, sizeof(*batch));
    enum torc_err err;

    torc_assert(batch != NULL);
    do { // the leader of placement writes into the record too
        err = registry_read_node(registry, why);
        if (err == TORC_ERR_OK && registry->node.boot != registry->cluster.boot) {
            err = torc_fail(why, TORC_ERR_IN_USE,
                            "node %" PRIu32 " was started elsewhere: boot %" PRIu64
                            ", this one is %" PRIu64,
                            registry->cluster.node, registry->node.boot, registry->cluster.boot);
        }
        if (err == TORC_ERR_OK) {
            registry->node.down = registry->cluster.boot;
            registry->node.nonce = torc_registry_nonce();
            torc_registry_add(batch, "node", registry->cluster.node, TORC_RECORD_NODE,
                              &registry->node, registry->node_version);
            err = torc_registry_write(registry->store, batch, &registry->node_version, why);
        }
    } while (err == TORC_ERR_CONDITION_FAILED);
    free(batch);
    return err;
}
