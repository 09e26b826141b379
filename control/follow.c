// Torc control: keeps the survey as the metastore is. See control/follow.h.
#include "control/follow.h"

#include <string.h>

// Tickets, in this order: watches, lists, single reads.
#define FOLLOW_LISTS (TORC_FOLLOW_TICKET + TORC_FOLLOW_FAMILIES)
#define FOLLOW_GETS  (TORC_FOLLOW_TICKET + UINT64_C(2) * TORC_FOLLOW_FAMILIES)

static const char *const follow_names[TORC_FOLLOW_FAMILIES] = {"shard", "node", "want"};
static const char *const follow_prefixes[TORC_FOLLOW_FAMILIES] = {"shard/", "node/", "want/"};
static const uint32_t follow_most[TORC_FOLLOW_FAMILIES] = {
    TORC_CHAN_MAP_ENTRIES, TORC_CHAN_NODES_MAX, TORC_CHAN_MAP_ENTRIES};

void torc_follow_init(struct torc_follow *follow, struct torc_survey *survey,
                      struct torc_cluster *cluster)
{
    // Of this control nothing is written yet, and the one before it may have died between reading a
    // record and writing the map of a dataplane that has gone on.
    *follow = (struct torc_follow){.survey = survey, .cluster = cluster, .news = true};
    for (uint32_t i = 0; i < TORC_FOLLOW_FAMILIES; i++) {
        follow->lists[i].from_revision = survey->revision + 1;
    }
}

// -- Keys to be read ------------------------------------------------------------------------------

// What is in flight stays: its answer finds it by its place.
static void follow_forget(struct torc_follow *follow, enum torc_follow_family family)
{
    for (uint32_t i = 0; i < follow->key_count; i++) {
        struct torc_follow_key *key = follow->keys + i;

        if (key->family == family && !key->asked) {
            key->id = 0; // free
        }
        if (key->family == family) {
            key->again = false;
        }
    }
}

static void follow_named(struct torc_follow *follow, enum torc_follow_family family, uint64_t id)
{
    uint32_t at = follow->key_count;

    for (uint32_t i = 0; i < follow->key_count; i++) {
        struct torc_follow_key *key = follow->keys + i;

        if (key->id == id && key->family == family) {
            key->again = key->asked; // U1
            return;
        }
        at = key->id == 0 && at == follow->key_count ? i : at;
    }
    if (at == TORC_FOLLOW_KEYS) {
        follow->lists[family].wanted = true;
        return;
    }
    follow->keys[at] = (struct torc_follow_key){.id = id, .family = family};
    follow->key_count = (uint32_t)torc_max_u64(follow->key_count, at + UINT64_C(1));
}

// -- Wakes ----------------------------------------------------------------------------------------

static void follow_wake_shard(struct torc_follow *follow, uint64_t id)
{
    struct torc_cluster_shard *shard =
        id <= UINT32_MAX ? torc_cluster_shard(follow->cluster, (uint32_t)id) : NULL;

    if (shard != NULL) {
        shard->wake = true;
    }
}

static void follow_wake_node(struct torc_follow *follow, uint64_t id)
{
    for (uint32_t i = 0; i < follow->cluster->shard_count; i++) {
        struct torc_cluster_shard *own = follow->cluster->shards + i;
        const struct torc_survey_shard *shard = torc_survey_shard(follow->survey, own->shard);

        own->wake = own->wake ||
                    (id <= UINT32_MAX && shard != NULL && torc_survey_has(shard, (uint32_t)id));
    }
}

static void follow_wake_all(struct torc_follow *follow)
{
    for (uint32_t i = 0; i < follow->cluster->shard_count; i++) {
        follow->cluster->shards[i].wake = true;
    }
}

// -- Requests -------------------------------------------------------------------------------------

static bool follow_next_family(struct torc_follow *follow, uint32_t index, uint64_t now_ns,
                               struct torc_meta_request *request)
{
    struct torc_follow_list *list = follow->lists + index;

    if (!list->watching) {
        list->watching = true;
        *request = (struct torc_meta_request){.verb = TORC_META_WATCH,
                                              .ticket = TORC_FOLLOW_TICKET + index,
                                              .key = follow_prefixes[index],
                                              .from_revision = list->from_revision};
        return true;
    }
    if (list->wanted && !list->asked && now_ns >= list->again_ns) {
        list->wanted = false;
        list->asked = true;
        follow_forget(follow, (enum torc_follow_family)index); // all of it is in the list
        *request = (struct torc_meta_request){.verb = TORC_META_LIST,
                                              .ticket = FOLLOW_LISTS + index,
                                              .deadline_ns = now_ns + TORC_FOLLOW_WAIT_NS,
                                              .key = follow_prefixes[index],
                                              .record_max = follow_most[index]};
        return true;
    }
    return false;
}

static bool follow_next_key(struct torc_follow *follow, uint64_t now_ns,
                            struct torc_meta_request *request)
{
    uint32_t slot = 0;

    if (follow->get_count == TORC_FOLLOW_GETS || now_ns < follow->again_ns) {
        return false;
    }
    while (follow->gets[slot] != 0) {
        slot++;
    }
    for (uint32_t i = 0; i < follow->key_count; i++) {
        struct torc_follow_key *key = follow->keys + i;

        if (key->id == 0 || key->asked || follow->lists[key->family].asked) {
            continue;
        }
        key->asked = true;
        follow->gets[slot] = i + 1;
        follow->get_count++;
        torc_record_name(follow->name, follow_names[key->family], key->id);
        *request = (struct torc_meta_request){.verb = TORC_META_GET,
                                              .ticket = FOLLOW_GETS + slot,
                                              .deadline_ns = now_ns + TORC_FOLLOW_WAIT_NS,
                                              .key = follow->name};
        return true;
    }
    return false;
}

bool torc_follow_next(struct torc_follow *follow, uint64_t now_ns,
                      struct torc_meta_request *request)
{
    for (uint32_t i = 0; i < TORC_FOLLOW_FAMILIES; i++) {
        if (follow_next_family(follow, i, now_ns, request)) {
            return true;
        }
    }
    return follow_next_key(follow, now_ns, request);
}

static void follow_get_again(struct torc_follow *follow, uint64_t now_ns, uint32_t slot)
{
    follow->keys[follow->gets[slot] - 1].asked = false;
    follow->gets[slot] = 0;
    follow->get_count--;
    follow->again_ns = now_ns + TORC_FOLLOW_PAUSE_NS;
}

static void follow_list_again(struct torc_follow *follow, uint64_t now_ns, uint32_t index)
{
    follow->lists[index].asked = false;
    follow->lists[index].wanted = true;
    follow->lists[index].again_ns = now_ns + TORC_FOLLOW_PAUSE_NS;
}

void torc_follow_refused(struct torc_follow *follow, uint64_t now_ns,
                         const struct torc_meta_request *request)
{
    torc_assert(torc_follow_is_mine(request->ticket));
    if (request->ticket >= FOLLOW_GETS) {
        follow_get_again(follow, now_ns, (uint32_t)(request->ticket - FOLLOW_GETS));
    } else if (request->ticket >= FOLLOW_LISTS) {
        follow_list_again(follow, now_ns, (uint32_t)(request->ticket - FOLLOW_LISTS));
    } else {
        torc_unreachable("more watches than a store has");
    }
}

uint64_t torc_follow_deadline_ns(const struct torc_follow *follow)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t i = 0; i < TORC_FOLLOW_FAMILIES; i++) {
        const struct torc_follow_list *list = follow->lists + i;

        if (list->wanted && !list->asked) {
            deadline_ns = torc_min_u64(deadline_ns, list->again_ns);
        }
    }
    for (uint32_t i = 0; i < follow->key_count && follow->get_count < TORC_FOLLOW_GETS; i++) {
        const struct torc_follow_key *key = follow->keys + i;

        if (key->id != 0 && !key->asked && !follow->lists[key->family].asked) {
            deadline_ns = torc_min_u64(deadline_ns, follow->again_ns);
        }
    }
    return deadline_ns;
}

// -- Answers --------------------------------------------------------------------------------------

static void follow_take_watch(struct torc_follow *follow, uint32_t index,
                              const struct torc_meta_answer *answer)
{
    enum torc_follow_family family = (enum torc_follow_family)index;

    if (answer->gap) {
        follow->node_changes++;
        follow->lists[index].wanted = true;
        follow_wake_all(follow);
    }
    for (uint32_t i = 0; i < answer->record_count; i++) {
        uint64_t id = 0;

        if (!torc_record_id(answer->records[i].key, follow_names[index], &id) || id == 0) {
            continue; // its list says that it makes no sense
        }
        follow_named(follow, family, id);
        if (family == TORC_FOLLOW_SHARD) {
            follow_wake_shard(follow, id);
        } else if (family == TORC_FOLLOW_NODE) {
            follow->node_changes++;
            follow_wake_node(follow, id);
        }
    }
}

static enum torc_err follow_put(struct torc_follow *follow, const struct torc_meta_record *record,
                                struct torc_fail *why)
{
    struct torc_cluster_shard *own = NULL;
    bool changed = false;
    uint64_t id = 0;
    enum torc_err err = torc_survey_put(follow->survey, record, &changed, why);

    follow->changes += changed ? 1 : 0;
    if (torc_record_id(record->key, "want", &id)) { // the map says nothing of it
        own = id <= UINT32_MAX ? torc_cluster_shard(follow->cluster, (uint32_t)id) : NULL;
        if (own != NULL) {
            own->wish = own->wish || changed;
        }
        return err;
    }
    follow->news = follow->news || changed;
    return err;
}

static enum torc_err follow_take_list(struct torc_follow *follow, uint64_t now_ns, uint32_t index,
                                      const struct torc_meta_answer *answer, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    if (answer->err != TORC_ERR_OK) {
        follow_list_again(follow, now_ns, index);
        return torc_fail(why, answer->err, "%s", answer->why.text);
    }
    follow->lists[index].asked = false;
    torc_survey_list(follow->survey);
    for (uint32_t i = 0; i < answer->record_count; i++) {
        enum torc_err one = follow_put(follow, answer->records + i, why);

        err = one != TORC_ERR_OK ? one : err;
    }
    if (torc_survey_sweep(follow->survey, follow_prefixes[index], answer->revision)) { // U2
        follow->news = true;
        follow->changes++;
    }
    return err;
}

static enum torc_err follow_take_get(struct torc_follow *follow, uint64_t now_ns, uint32_t slot,
                                     const struct torc_meta_answer *answer, struct torc_fail *why)
{
    struct torc_follow_key *key;
    char name[TORC_RECORD_NAME_BYTES];
    enum torc_err err = TORC_ERR_OK;

    torc_assert(slot < TORC_FOLLOW_GETS);
    torc_assert(follow->gets[slot] != 0);
    key = follow->keys + (follow->gets[slot] - 1);
    if (answer->err != TORC_ERR_OK && answer->err != TORC_ERR_NOT_FOUND) { // U3
        follow_get_again(follow, now_ns, slot);
        return torc_fail(why, answer->err, "%s", answer->why.text);
    }
    if (answer->err == TORC_ERR_NOT_FOUND) {
        torc_record_name(name, follow_names[key->family], key->id);
        follow->news = torc_survey_drop(follow->survey, name) || follow->news;
        follow->changes++;
    } else {
        err = follow_put(follow, answer->records, why);
    }
    if (!key->again) {
        key->id = 0;
    }
    key->asked = false;
    key->again = false;
    follow->gets[slot] = 0;
    follow->get_count--;
    return err;
}

enum torc_err torc_follow_take(struct torc_follow *follow, uint64_t now_ns,
                               const struct torc_meta_answer *answer, struct torc_fail *why)
{
    torc_assert(torc_follow_is_mine(answer->ticket));
    follow->survey->revision = torc_max_u64(follow->survey->revision, answer->revision);
    if (answer->ticket >= FOLLOW_GETS) {
        return follow_take_get(follow, now_ns, (uint32_t)(answer->ticket - FOLLOW_GETS), answer,
                               why);
    }
    if (answer->ticket >= FOLLOW_LISTS) {
        return follow_take_list(follow, now_ns, (uint32_t)(answer->ticket - FOLLOW_LISTS), answer,
                                why);
    }
    follow_take_watch(follow, (uint32_t)(answer->ticket - TORC_FOLLOW_TICKET), answer);
    return TORC_ERR_OK;
}
