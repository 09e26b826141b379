// Torc control: which shards a running node begins with and lets go of. See control/give.h.
#include "control/give.h"

#include "kit/bugs.h"

#include <string.h>

bool torc_give_lets_go(struct torc_cluster *cluster, uint32_t shard)
{
    return torc_cluster_shard(cluster, shard) == NULL && !TORC_BUG(LINES_KEPT);
}

static bool give_is_kept(const struct torc_cluster *cluster, struct torc_survey *survey,
                         const bool *held, uint32_t at)
{
    const struct torc_survey_shard *shard = torc_survey_shard(survey, cluster->shards[at].shard);

    return held[at] || (shard != NULL && torc_survey_has(shard, cluster->node));
}

uint32_t torc_give_fit(struct torc_cluster *cluster, struct torc_survey *survey, const bool *held,
                       uint64_t room)
{
    uint32_t count = cluster->shard_count;
    uint64_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        kept += give_is_kept(cluster, survey, held, i) ? 1 : 0;
    }
    room -= torc_min_u64(room, kept);
    cluster->shard_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool keep = give_is_kept(cluster, survey, held, i);

        if (keep || room > 0) {
            room -= keep ? 0 : 1;
            cluster->shards[cluster->shard_count++] = cluster->shards[i];
        }
    }
    count -= cluster->shard_count;
    memset(cluster->shards + cluster->shard_count, 0, count * sizeof(cluster->shards[0]));
    return count;
}

void torc_give_init(struct torc_give *give, struct torc_survey *survey,
                    struct torc_cluster *cluster, uint64_t ticket)
{
    *give = (struct torc_give){.survey = survey, .cluster = cluster, .ticket = ticket};
}

void torc_give_forget(struct torc_give *give)
{
    give->stage = TORC_GIVE_IDLE;
    give->asked = false;
    give->again_ns = 0;
    give->fresh_ns = 0;
    give->left = 0;
}

// -- Beginning ------------------------------------------------------------------------------------

void torc_give_look(struct torc_give *give, uint64_t now_ns)
{
    struct torc_cluster *cluster = give->cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *own = cluster->shards + i;
        const struct torc_survey_shard *shard =
            own->shard == 0 ? NULL : torc_survey_shard(give->survey, own->shard);

        if (shard == NULL || torc_survey_concerns(give->survey, shard, cluster->node)) {
            own->unnamed_ns = 0;
        } else if (own->unnamed_ns == 0) {
            own->unnamed_ns = now_ns;
        }
    }
}

static uint32_t give_worker(const struct torc_cluster *cluster, uint32_t worker_count)
{
    uint32_t counts[TORC_CHAN_WORKERS_MAX] = {0};
    uint32_t least = 0;

    torc_assert(worker_count > 0 && worker_count <= TORC_CHAN_WORKERS_MAX);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        if (shard->shard != 0 && shard->worker < worker_count) {
            counts[shard->worker]++;
        }
    }
    for (uint32_t i = 1; i < worker_count; i++) {
        least = counts[i] < counts[least] ? i : least;
    }
    return counts[least] < TORC_CHAN_SHARDS_MAX ? least : worker_count;
}

struct torc_cluster_shard *torc_give_fresh(struct torc_give *give, uint64_t now_ns,
                                           uint32_t worker_count)
{
    struct torc_cluster *cluster = give->cluster;
    uint32_t worker = give_worker(cluster, worker_count);

    if (now_ns < give->fresh_ns) {
        return NULL;
    }
    give->fresh_ns = 0;
    for (uint32_t i = 0; i < give->survey->shard_count && worker < worker_count; i++) {
        const struct torc_survey_shard *shard = give->survey->shards + i;
        struct torc_cluster_shard *own;

        if (torc_cluster_shard(cluster, shard->shard) != NULL ||
            !torc_survey_concerns(give->survey, shard, cluster->node)) {
            continue;
        }
        own = torc_cluster_add(cluster);
        if (own != NULL) {
            own->lo = shard->lo;
            own->hi = shard->hi;
            own->shard = shard->shard;
            own->epoch = shard->epoch;
            own->worker = worker;
            own->replica = true;
            own->wish = true;
            give->given++;
        }
        return own;
    }
    return NULL;
}

// -- Letting go -----------------------------------------------------------------------------------

static bool give_may_ask(const struct torc_cluster_shard *shard, uint64_t now_ns)
{
    return shard->shard != 0 && shard->replica && shard->ready && !shard->gone &&
           shard->unnamed_ns != 0 && now_ns >= shard->unnamed_ns + TORC_GIVE_HOLD_NS;
}

static void give_begin(struct torc_give *give, uint64_t now_ns)
{
    for (uint32_t i = 0; i < give->cluster->shard_count && give->stage == TORC_GIVE_IDLE; i++) {
        if (give_may_ask(give->cluster->shards + i, now_ns)) {
            give->shard = give->cluster->shards[i].shard;
            give->stage = TORC_GIVE_SHARD;
        }
    }
}

bool torc_give_next(struct torc_give *give, uint64_t now_ns, struct torc_meta_request *request)
{
    if (give->asked || now_ns < give->again_ns) {
        return false;
    }
    if (give->stage == TORC_GIVE_IDLE) {
        give_begin(give, now_ns);
    }
    if (give->stage != TORC_GIVE_SHARD && give->stage != TORC_GIVE_WANT) {
        return false;
    }
    torc_record_name(give->name, give->stage == TORC_GIVE_SHARD ? "shard" : "want", give->shard);
    give->asked = true;
    *request = (struct torc_meta_request){.verb = TORC_META_GET,
                                          .ticket = give->ticket | (uint64_t)++give->serial << 32,
                                          .key = give->name};
    return true;
}

// Whether the record names the node. What cannot be read does: nothing is let go of on a guess.
static bool give_names(const struct torc_give *give, const struct torc_meta_answer *answer)
{
    const struct torc_meta_record *record = answer->records;
    struct torc_shard_fields shard;
    struct torc_want_fields want;
    bool names = false;

    if (answer->err == TORC_ERR_NOT_FOUND) {
        return give->stage == TORC_GIVE_SHARD; // nothing is wished; but a shard has a record
    }
    if (answer->err != TORC_ERR_OK) {
        return true;
    }
    if (give->stage == TORC_GIVE_SHARD) {
        if (torc_record_decode(TORC_RECORD_SHARD, &shard, record->value, record->value_bytes,
                               NULL) != TORC_ERR_OK) {
            return true;
        }
        for (uint64_t i = 0; i < shard.insync.count; i++) {
            names = names || shard.insync.at[i].node == give->cluster->node;
        }
        return names;
    }
    if (torc_record_decode(TORC_RECORD_WANT, &want, record->value, record->value_bytes, NULL) !=
        TORC_ERR_OK) {
        return true;
    }
    for (uint64_t i = 0; i < want.nodes.count; i++) {
        names = names || want.nodes.at[i] == give->cluster->node;
    }
    return names;
}

void torc_give_take(struct torc_give *give, uint64_t now_ns, const struct torc_meta_answer *answer)
{
    if (!give->asked || answer->ticket >> 32 != give->serial) {
        return; // to a question that is forgotten
    }
    give->asked = false;
    if (give_names(give, answer)) {
        torc_give_up(give, now_ns);
    } else {
        give->stage = give->stage == TORC_GIVE_SHARD ? TORC_GIVE_WANT : TORC_GIVE_SURE;
    }
}

struct torc_cluster_shard *torc_give_sure(struct torc_give *give)
{
    return give->stage == TORC_GIVE_SURE ? torc_cluster_shard(give->cluster, give->shard) : NULL;
}

void torc_give_ordered(struct torc_give *give, uint64_t now_ns)
{
    torc_assert(give->stage == TORC_GIVE_SURE);
    give->stage = TORC_GIVE_ORDERED;
    give->late_ns = now_ns + TORC_GIVE_LATE_NS;
}

bool torc_give_is_late(const struct torc_give *give, uint64_t now_ns)
{
    return give->stage == TORC_GIVE_ORDERED && now_ns >= give->late_ns;
}

void torc_give_up(struct torc_give *give, uint64_t now_ns)
{
    struct torc_cluster_shard *shard = torc_cluster_shard(give->cluster, give->shard);

    if (shard != NULL && shard->unnamed_ns != 0) {
        shard->unnamed_ns = now_ns; // looked at again after as long
    }
    give->stage = TORC_GIVE_IDLE;
    give->again_ns = now_ns + TORC_GIVE_LATE_NS / 10;
}

// A worker takes its orders one after another, and its answers are heard one after another: when a
// shard is ordered away, all that it said of the shard's earlier lives has been heard. Else the
// turn tells lives apart, for each begins above all turns of those before it.
struct torc_cluster_shard *torc_give_gone(struct torc_give *give, uint64_t now_ns, uint32_t worker,
                                          const struct torc_evt_role *said)
{
    struct torc_cluster_shard *shard = torc_cluster_shard(give->cluster, said->shard);
    bool ours = give->stage != TORC_GIVE_IDLE && give->shard == said->shard;
    bool ordered = ours && give->stage == TORC_GIVE_ORDERED;

    if (shard == NULL || shard->gone || shard->opening || shard->worker != worker ||
        (!ordered && said->epoch < shard->turn)) {
        return NULL;
    }
    if (ours) {
        give->stage = TORC_GIVE_IDLE;
        give->asked = false;
    }
    if (said->role != 0) {
        give->fresh_ns = now_ns + TORC_GIVE_REFUSED_NS;
    }
    give->left++;
    shard->gone = true;
    shard->leaving = true;
    shard->wanted = false;
    return shard;
}

void torc_give_drop(struct torc_give *give, struct torc_cluster_shard *shard)
{
    torc_assert(shard->gone && give->left > 0);
    give->left--;
    give->taken++;
    torc_cluster_drop(give->cluster, shard);
}

static uint64_t give_stage_deadline_ns(const struct torc_give *give)
{
    uint64_t deadline_ns = UINT64_MAX;

    if (give->asked) {
        return UINT64_MAX;
    }
    switch (give->stage) {
    case TORC_GIVE_IDLE:
        for (uint32_t i = 0; i < give->cluster->shard_count; i++) {
            const struct torc_cluster_shard *shard = give->cluster->shards + i;

            if (give_may_ask(shard, UINT64_MAX)) {
                deadline_ns = torc_min_u64(deadline_ns, shard->unnamed_ns + TORC_GIVE_HOLD_NS);
            }
        }
        return deadline_ns == UINT64_MAX ? deadline_ns : torc_max_u64(deadline_ns, give->again_ns);
    case TORC_GIVE_SHARD:
    case TORC_GIVE_WANT: return give->again_ns;
    case TORC_GIVE_SURE: return UINT64_MAX; // the shell's turn
    case TORC_GIVE_ORDERED: return give->late_ns;
    }
    torc_unreachable("all stages return");
}

uint64_t torc_give_deadline_ns(const struct torc_give *give)
{
    return torc_min_u64(give_stage_deadline_ns(give),
                        give->fresh_ns == 0 ? UINT64_MAX : give->fresh_ns);
}
