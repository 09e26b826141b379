// Torc control: what the metastore says of the whole cluster. See control/survey.h.
#include "control/survey.h"

#include <string.h>

// -- Shards --------------------------------------------------------------------------------------

struct torc_survey_shard *torc_survey_shard(struct torc_survey *survey, uint32_t shard)
{
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        uint32_t at = (survey->shard_at + i) % survey->shard_count;

        if (survey->shards[at].shard == shard) {
            survey->shard_at = at;
            return survey->shards + at;
        }
    }
    return NULL;
}

bool torc_survey_has(const struct torc_survey_shard *shard, uint32_t node)
{
    for (uint32_t i = 0; i < shard->member_count; i++) {
        if (shard->members[i].node == node) {
            return true;
        }
    }
    return false;
}

static void survey_shard_of(struct torc_survey_shard *shard, const struct torc_shard_fields *fields)
{
    *shard = (struct torc_survey_shard){.lo = fields->lo,
                                        .hi = fields->hi,
                                        .primary_boot = fields->primary_boot,
                                        .epoch = (uint32_t)fields->epoch,
                                        .primary_node = (uint32_t)fields->primary_node,
                                        .member_count = (uint32_t)fields->insync.count,
                                        .loss_count = (uint32_t)fields->losses.count,
                                        .born_empty = fields->birth == TORC_RECORD_BIRTH_NONE};
    if (fields->losses.count > 0) {
        shard->loss = fields->losses.at[fields->losses.count - 1];
    }
    memcpy(shard->members, fields->insync.at, fields->insync.count * sizeof(shard->members[0]));
}

static void survey_take_out(struct torc_survey *survey, const struct torc_survey_shard *gone)
{
    struct torc_survey_shard *shard = survey->shards + (gone - survey->shards);
    uint32_t at = (uint32_t)(shard - survey->shards);

    survey->shard_count--;
    memmove(shard, shard + 1, (survey->shard_count - at) * sizeof(*shard));
}

static void survey_put_in(struct torc_survey *survey, const struct torc_survey_shard *shard)
{
    uint32_t at = survey->shard_count;

    torc_assert(survey->shard_count < TORC_COUNT_OF(survey->shards));
    while (at > 0 && (survey->shards[at - 1].lo > shard->lo ||
                      (survey->shards[at - 1].lo == shard->lo &&
                       survey->shards[at - 1].shard > shard->shard))) {
        at--;
    }
    memmove(survey->shards + at + 1, survey->shards + at,
            (survey->shard_count - at) * sizeof(*shard));
    survey->shards[at] = *shard;
    survey->shard_count++;
}

static enum torc_err survey_put_shard(struct torc_survey *survey, uint64_t id,
                                      const struct torc_shard_fields *fields, uint64_t version,
                                      bool *changed, struct torc_fail *why)
{
    struct torc_survey_shard *old = torc_survey_shard(survey, (uint32_t)id);
    struct torc_survey_shard shard;

    if (old != NULL && version <= old->version) { // V1
        old->listed = survey->lists;
        return TORC_ERR_OK;
    }
    if (fields->insync.count > TORC_CHAN_MEMBERS_MAX ||
        (old == NULL && survey->shard_count == TORC_COUNT_OF(survey->shards))) {
        return torc_fail(why, TORC_ERR_LIMIT,
                         "metastore: shard %" PRIu64 ": %" PRIu64 " members of %u at most, %" PRIu32
                         " shards of %u",
                         id, fields->insync.count, TORC_CHAN_MEMBERS_MAX, survey->shard_count,
                         TORC_CHAN_MAP_ENTRIES);
    }
    survey_shard_of(&shard, fields);
    shard.shard = (uint32_t)id;
    shard.version = version;
    shard.listed = survey->lists;
    if (old != NULL) {
        survey_take_out(survey, old);
    }
    survey_put_in(survey, &shard);
    *changed = true;
    survey->changes++;
    return TORC_ERR_OK;
}

// -- Nodes ---------------------------------------------------------------------------------------

struct torc_survey_node *torc_survey_node(struct torc_survey *survey, uint32_t node)
{
    for (uint32_t i = 0; i < survey->node_count; i++) {
        if (survey->nodes[i].node == node) {
            return survey->nodes + i;
        }
    }
    return NULL;
}

static struct torc_survey_node *survey_make_node(struct torc_survey *survey, uint32_t node)
{
    uint32_t at = survey->node_count;

    while (at > 0 && survey->nodes[at - 1].node > node) {
        at--;
    }
    memmove(survey->nodes + at + 1, survey->nodes + at,
            (survey->node_count - at) * sizeof(survey->nodes[0]));
    survey->node_count++;
    return survey->nodes + at;
}

// Whether the survey says the same by both.
static bool survey_same_node(const struct torc_survey_node *a, const struct torc_survey_node *b)
{
    return a->boot == b->boot && a->down == b->down && a->leaving == b->leaving &&
           a->copy == b->copy && a->state == b->state && a->base_port == b->base_port &&
           a->cores == b->cores && strcmp(a->address, b->address) == 0 &&
           strcmp(a->address6, b->address6) == 0;
}

static enum torc_err survey_put_node(struct torc_survey *survey, uint64_t id,
                                     const struct torc_node_fields *fields, uint64_t version,
                                     bool *changed, struct torc_fail *why)
{
    struct torc_survey_node *node = torc_survey_node(survey, (uint32_t)id);
    struct torc_survey_node is;

    if (node != NULL && version <= node->version) { // V1
        node->listed = survey->lists;
        return TORC_ERR_OK;
    }
    if (node == NULL && survey->node_count == TORC_COUNT_OF(survey->nodes)) {
        return torc_fail(why, TORC_ERR_LIMIT, "metastore: more than %u nodes", TORC_CHAN_NODES_MAX);
    }
    if (strlen(fields->address) >= TORC_SURVEY_ADDRESS_BYTES ||
        strlen(fields->address6) >= TORC_SURVEY_ADDRESS_BYTES) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: node %" PRIu64 ": no address: %.60s",
                         id, fields->address);
    }
    is = (struct torc_survey_node){.version = version,
                                   .listed = survey->lists,
                                   .boot = fields->boot,
                                   .down = fields->down,
                                   .leaving = fields->leaving,
                                   .copy = fields->copy,
                                   .node = (uint32_t)id,
                                   .state = (uint32_t)fields->state,
                                   .base_port = (uint16_t)fields->base_port,
                                   .cores = (uint8_t)fields->cores};
    memcpy(is.address, fields->address, strlen(fields->address) + 1);
    memcpy(is.address6, fields->address6, strlen(fields->address6) + 1);
    if (node != NULL && survey_same_node(node, &is)) {
        *node = is;
        return TORC_ERR_OK; // it only shows that it is there, say
    }
    if (node == NULL) {
        node = survey_make_node(survey, (uint32_t)id);
    }
    *node = is;
    *changed = true;
    survey->changes++;
    return TORC_ERR_OK;
}

// -- Wishes ---------------------------------------------------------------------------------------

struct torc_survey_want *torc_survey_want(struct torc_survey *survey, uint32_t shard)
{
    for (uint32_t i = 0; i < survey->want_count; i++) {
        uint32_t at = (survey->want_at + i) % survey->want_count;

        if (survey->wants[at].shard == shard) {
            survey->want_at = at;
            return survey->wants + at;
        }
    }
    return NULL;
}

bool torc_survey_concerns(struct torc_survey *survey, const struct torc_survey_shard *shard,
                          uint32_t node)
{
    const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);
    bool concerns = torc_survey_has(shard, node);

    for (uint32_t i = 0; want != NULL && i < want->node_count; i++) {
        concerns = concerns || want->nodes[i] == node;
    }
    return concerns;
}

void torc_survey_seats(struct torc_survey *survey, uint8_t seats[TORC_RECORD_NODE_MAX + 1])
{
    memset(seats, TORC_SURVEY_UNWISHED, TORC_RECORD_NODE_MAX + 1);
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_want *want = torc_survey_want(survey, survey->shards[i].shard);

        for (uint32_t k = 0; want != NULL && k < want->node_count; k++) {
            seats[want->nodes[k]] = TORC_SURVEY_MISSED;
        }
    }
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;

        for (uint32_t k = 0; k < shard->member_count; k++) {
            seats[shard->members[k].node] = TORC_SURVEY_SEATED;
        }
    }
}

static enum torc_err survey_put_want(struct torc_survey *survey, uint64_t id,
                                     const struct torc_want_fields *fields, uint64_t version,
                                     bool *changed, struct torc_fail *why)
{
    struct torc_survey_want *want = torc_survey_want(survey, (uint32_t)id);

    if (want != NULL && version <= want->version) { // V1
        want->listed = survey->lists;
        return TORC_ERR_OK;
    }
    if (fields->nodes.count > TORC_CHAN_MEMBERS_MAX ||
        (want == NULL && survey->want_count == TORC_COUNT_OF(survey->wants))) {
        return torc_fail(why, TORC_ERR_LIMIT,
                         "metastore: want/%" PRIu64 ": %" PRIu64 " nodes, at most %u", id,
                         fields->nodes.count, TORC_CHAN_MEMBERS_MAX);
    }
    if (want == NULL) {
        want = survey->wants + survey->want_count++;
    }
    *want = (struct torc_survey_want){.version = version,
                                      .listed = survey->lists,
                                      .shard = (uint32_t)id,
                                      .primary = (uint32_t)fields->primary,
                                      .node_count = (uint32_t)fields->nodes.count};
    for (uint32_t i = 0; i < want->node_count; i++) {
        want->nodes[i] = (uint32_t)fields->nodes.at[i];
    }
    *changed = true;
    survey->changes++;
    return TORC_ERR_OK;
}

static void survey_drop_want(struct torc_survey *survey, uint32_t at)
{
    survey->wants[at] = survey->wants[--survey->want_count];
}

bool torc_survey_lead(struct torc_survey *survey, uint32_t shard, uint32_t epoch, uint32_t node,
                      uint64_t boot)
{
    struct torc_survey_shard *found = torc_survey_shard(survey, shard);

    if (found == NULL || found->epoch >= epoch || !torc_survey_has(found, node)) {
        return false;
    }
    found->epoch = epoch;
    found->primary_node = node;
    found->primary_boot = boot;
    survey->changes++;
    return true;
}

// -- Records -------------------------------------------------------------------------------------

enum torc_err torc_survey_put(struct torc_survey *survey, const struct torc_meta_record *record,
                              bool *changed, struct torc_fail *why)
{
    const char *key = record->key;
    struct torc_fail inner = {0};
    union {
        struct torc_shard_fields shard;
        struct torc_node_fields node;
        struct torc_want_fields want;
    } fields;
    enum torc_record kind;
    uint64_t id = 0;
    enum torc_err err;

    *changed = false;
    if (torc_record_id(key, "shard", &id) && id > 0 && id <= UINT32_MAX) {
        kind = TORC_RECORD_SHARD;
    } else if (torc_record_id(key, "node", &id) && id > 0 && id <= TORC_RECORD_NODE_MAX) {
        kind = TORC_RECORD_NODE;
    } else if (torc_record_id(key, "want", &id) && id > 0 && id <= UINT32_MAX) {
        kind = TORC_RECORD_WANT;
    } else if (strncmp(key, "shard/", 6) == 0 || strncmp(key, "node/", 5) == 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "metastore: a record named %.60s", key);
    } else {
        return TORC_ERR_OK;
    }
    err = torc_record_decode(kind, &fields, record->value, record->value_bytes, &inner);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "metastore: %.40s: %.100s", key, inner.text);
    }
    if (kind == TORC_RECORD_SHARD) {
        return survey_put_shard(survey, id, &fields.shard, record->version, changed, why);
    }
    return kind == TORC_RECORD_NODE
               ? survey_put_node(survey, id, &fields.node, record->version, changed, why)
               : survey_put_want(survey, id, &fields.want, record->version, changed, why);
}

static void survey_drop_node(struct torc_survey *survey, uint32_t at)
{
    survey->node_count--;
    memmove(survey->nodes + at, survey->nodes + at + 1,
            (survey->node_count - at) * sizeof(survey->nodes[0]));
}

bool torc_survey_drop(struct torc_survey *survey, const char *key)
{
    uint64_t id = 0;

    survey->changes++; // or none: it is looked at once more
    if (torc_record_id(key, "shard", &id) && id <= UINT32_MAX) {
        struct torc_survey_shard *shard = torc_survey_shard(survey, (uint32_t)id);

        if (shard != NULL) {
            survey_take_out(survey, shard);
        }
        return shard != NULL;
    }
    if (torc_record_id(key, "node", &id) && id <= TORC_RECORD_NODE_MAX) {
        struct torc_survey_node *node = torc_survey_node(survey, (uint32_t)id);

        if (node != NULL) {
            survey_drop_node(survey, (uint32_t)(node - survey->nodes));
        }
        return node != NULL;
    }
    if (torc_record_id(key, "want", &id) && id <= UINT32_MAX) {
        struct torc_survey_want *want = torc_survey_want(survey, (uint32_t)id);

        if (want != NULL) {
            survey_drop_want(survey, (uint32_t)(want - survey->wants));
        }
        return want != NULL;
    }
    return false;
}

void torc_survey_list(struct torc_survey *survey)
{
    survey->lists++;
}

bool torc_survey_sweep(struct torc_survey *survey, const char *prefix, uint64_t revision)
{
    bool any = false;

    for (uint32_t i = survey->shard_count; i > 0 && strcmp(prefix, "shard/") == 0; i--) {
        const struct torc_survey_shard *shard = survey->shards + i - 1;

        if (shard->listed != survey->lists && shard->version <= revision) {
            survey_take_out(survey, shard);
            any = true;
        }
    }
    for (uint32_t i = survey->node_count; i > 0 && strcmp(prefix, "node/") == 0; i--) {
        const struct torc_survey_node *node = survey->nodes + i - 1;

        if (node->listed != survey->lists && node->version <= revision) {
            survey_drop_node(survey, i - 1);
            any = true;
        }
    }
    for (uint32_t i = survey->want_count; i > 0 && strcmp(prefix, "want/") == 0; i--) {
        const struct torc_survey_want *want = survey->wants + i - 1;

        if (want->listed != survey->lists && want->version <= revision) {
            survey_drop_want(survey, i - 1);
            any = true;
        }
    }
    survey->changes += any ? 1 : 0;
    return any;
}

enum torc_err torc_survey_check(const struct torc_survey *survey, struct torc_fail *why)
{
    uint64_t next = 0;

    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;

        if (shard->lo != next || shard->hi <= shard->lo) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "metastore: shard %" PRIu32 " is [%" PRIu64 ", %" PRIu64
                             "), but the keys before it end at %" PRIu64,
                             shard->shard, shard->lo, shard->hi, next);
        }
        next = shard->hi;
    }
    if (next != survey->keys) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "metastore: the shards end at %" PRIu64 ", the keys at %" PRIu64, next,
                         survey->keys);
    }
    return TORC_ERR_OK;
}

// -- The map -------------------------------------------------------------------------------------

static void survey_entry(const struct torc_survey_shard *shard, const struct torc_cluster *cluster,
                         struct torc_chan_map_entry *entry)
{
    const struct torc_cluster_shard *own = torc_cluster_shard(cluster, shard->shard);

    *entry = (struct torc_chan_map_entry){.lo = shard->lo,
                                          .hi = shard->hi,
                                          .version = shard->version,
                                          .primary_boot = shard->primary_boot,
                                          .shard = shard->shard,
                                          .epoch = shard->epoch,
                                          .member_count = (uint8_t)shard->member_count};
    for (uint32_t i = 0; i < shard->member_count; i++) {
        const struct torc_record_member *member = shard->members + i;
        bool here = own != NULL && member->node == cluster->node;

        entry->members[i] =
            (struct torc_chan_member){.copy = member->copy,
                                      .node = (uint32_t)member->node,
                                      .core = here ? (uint8_t)own->worker : UINT8_MAX,
                                      .state = 1};
        if (member->node == shard->primary_node) {
            entry->primary = (uint8_t)i;
        }
    }
}

void torc_survey_write_map(const struct torc_survey *survey, const struct torc_cluster *cluster,
                           const struct torc_chan_node *nodes, uint32_t node_count,
                           struct torc_chan_map *map)
{
    uint64_t sequence = atomic_load_explicit(&map->sequence, memory_order_relaxed);

    torc_assert(node_count <= TORC_CHAN_NODES_MAX);
    sequence |= 1; // a writer that died in between left it odd
    atomic_store_explicit(&map->sequence, sequence, memory_order_relaxed);
    atomic_thread_fence(
        memory_order_release); // pairs with the reader's acquire: odd before the rest
    map->version = survey->revision;
    map->entry_count = survey->shard_count;
    map->node_count = node_count;
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        survey_entry(survey->shards + i, cluster, map->entries + i);
    }
    memcpy(map->nodes, nodes, node_count * sizeof(*nodes));
    // Pairs with the reader's acquire load of an even sequence: the entries are there.
    atomic_store_explicit(&map->sequence, sequence + 1, memory_order_release);
}
