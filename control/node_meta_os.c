// Torc control: what goes on with the metastore while a node runs. See control/node_os.h.
//
// What    one store of its own, which nothing waits for: the survey is kept as the records are
//         (control/follow.h), and the map of the dataplane with it; what replicas ask and propose
//         is executed (control/failover.h); a dataplane's death is told to all (`down`); whether it
//         answers is known (control/away.h).
#include "control/away.h"
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define META_SUBMITS     64u           // requests a step
#define META_COMPLAIN_NS TORC_NS_PER_S // at most so often

enum {
    META_ADVICE_BYTES = sizeof(struct torc_fail) + 256
};

struct torc_node_meta {
    struct torc_metastore *store;
    struct torc_follow follow;
    struct torc_failover failover;
    struct torc_away away;
    uint64_t complained_ns;
    bool map_due[TORC_CHAN_WORKERS_MAX]; // MAP_CHANGED is to be said
    struct torc_chan_node nodes[TORC_CHAN_NODES_MAX];
};

enum torc_err torc_node_open_meta(struct torc_node *node, struct torc_fail *why)
{
    char address[TORC_SETTINGS_TEXT_BYTES + 16];
    struct torc_node_meta *meta = calloc(1, sizeof(*meta));
    enum torc_err err = torc_registry_address(node->settings, address, sizeof(address), why);

    torc_assert(meta != NULL);
    node->meta = meta;
    if (err == TORC_ERR_OK) {
        err = torc_registry_open_store(&meta->store, node->settings, address, false, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_metastore_adopt(meta->store, torc_metastore_revision(node->registry.store));
    torc_follow_init(&meta->follow, node->registry.survey, &node->registry.cluster);
    torc_failover_init(&meta->failover);
    meta->away = (struct torc_away){.heard_ns = torc_clock_now_ns()}; // it was just read
    torc_node_open_give(node);
    torc_node_open_accept(node);
    torc_node_watch(node, torc_metastore_fd(meta->store));
    return TORC_ERR_OK;
}

void torc_node_close_meta(struct torc_node *node)
{
    if (node->meta != NULL && node->meta->store != NULL) {
        torc_metastore_close(node->meta->store);
    }
    free(node->meta);
    node->meta = NULL;
    torc_node_close_give(node);
    torc_node_close_accept(node);
    torc_node_close_place(node);
}

// -- The map --------------------------------------------------------------------------------------

static void meta_add_address(struct torc_chan_node *node, int family, const char *text)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint8_t *to = node->addresses[node->address_count];

    if (text[0] == '\0') {
        return;
    }
    if (family == AF_INET) {
        memcpy(to, mapped, sizeof(mapped));
        to += sizeof(mapped);
    }
    if (inet_pton(family, text, to) == 1) { // another node wrote it
        node->address_count++;
    }
}

static uint32_t meta_nodes(struct torc_node *node)
{
    const struct torc_survey *survey = node->registry.survey;

    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *from = survey->nodes + i;
        struct torc_chan_node *to = node->meta->nodes + i;

        *to = (struct torc_chan_node){.boot = from->boot,
                                      .down = from->down,
                                      .copy = from->copy,
                                      .node = from->node,
                                      .base_port = from->base_port,
                                      .cores = from->cores};
        meta_add_address(to, AF_INET, from->address);
        meta_add_address(to, AF_INET6, from->address6);
    }
    return survey->node_count;
}

void torc_node_write_map(struct torc_node *node)
{
    torc_survey_write_map(node->registry.survey, &node->registry.cluster, node->meta->nodes,
                          meta_nodes(node), node->attach.map);
    node->registry.cluster.map_version = node->registry.survey->revision;
    node->meta->follow.news = false;
}

// The table of shards is another one: so is the map.
void torc_node_meta_news(struct torc_node *node)
{
    node->meta->follow.news = true;
}

uint64_t torc_node_meta_changes(const struct torc_node *node)
{
    return node->meta->follow.changes;
}

const struct torc_follow *torc_node_meta_follow(const struct torc_node *node)
{
    return &node->meta->follow;
}

// Between taking over and stopping: workers that read maps.
bool torc_node_meta_has_workers(const struct torc_node *node)
{
    return node->attached &&
           (node->state == TORC_NODE_REPLAYING || node->state == TORC_NODE_SERVING ||
            node->state == TORC_NODE_CHECKPOINTING || node->state == TORC_NODE_YIELDING);
}

static void meta_map_step(struct torc_node *node)
{
    struct torc_node_meta *meta = node->meta;
    struct torc_cmd order = {.kind = TORC_CMD_MAP_CHANGED};
    uint32_t count = node->attach.hello.worker_count;

    if (!torc_node_meta_has_workers(node)) {
        return;
    }
    if (meta->follow.news && torc_survey_check(node->registry.survey, NULL) == TORC_ERR_OK) { // V2
        torc_node_write_map(node);
        for (uint32_t i = 0; i < count; i++) {
            meta->map_due[i] = true;
        }
    }
    order.map_version = node->registry.cluster.map_version;
    for (uint32_t i = 0; i < count; i++) {
        meta->map_due[i] = meta->map_due[i] && !torc_attach_cmd(&node->attach, i, &order);
    }
}

// -- Replicas -------------------------------------------------------------------------------------

void torc_node_meta_event(struct torc_node *node, uint32_t worker, const struct torc_evt *event)
{
    struct torc_failover *failover = &node->meta->failover;

    if (event->kind == TORC_EVT_READ) {
        torc_failover_read(failover, node->now_ns, worker, &event->read);
    } else {
        torc_failover_propose(failover, node->now_ns, worker, &event->propose);
    }
    node->slow_ns = 0; // at once
}

static void meta_answer_step(struct torc_node *node)
{
    struct torc_failover *failover = &node->meta->failover;
    struct torc_cmd order;
    uint32_t place = 0;
    uint32_t worker;

    while (node->attached && torc_failover_answer(failover, &place, &worker, &order)) {
        if (torc_attach_cmd(&node->attach, worker, &order)) {
            torc_failover_sent(failover, node->now_ns, place);
        }
        place++;
    }
}

static void meta_wake_step(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    if (!torc_node_meta_has_workers(node)) {
        return;
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;
        struct torc_cmd order = {.kind = TORC_CMD_WAKE, .wake_shard = shard->shard};

        if (shard->wake) {
            shard->wake = shard->replica && !torc_attach_cmd(&node->attach, shard->worker, &order);
        }
    }
}

void torc_node_meta_role(struct torc_node *node, const struct torc_evt_role *role)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    torc_log(TORC_LOG_DEBUG, "replica", "role",
             "shard=%" PRIu32 " epoch=%" PRIu32 " role=%" PRIu32 " primary=%" PRIu32
             " applied=%" PRIu64,
             role->shard, role->epoch, role->role, role->primary_node, role->applied_lsn);
    torc_node_accept_role(node, role);
    torc_cluster_role(cluster, role);
    // T8: clients are sent here before the record was read that says so.
    if (role->role == TORC_CHAN_ACTIVE && torc_cluster_shard(cluster, role->shard) != NULL &&
        torc_survey_lead(node->registry.survey, role->shard, role->epoch, cluster->node,
                         cluster->boot)) {
        node->meta->follow.news = true;
        node->slow_ns = 0;
    }
}

// -- The rest -------------------------------------------------------------------------------------

void torc_node_meta_down(struct torc_node *node, uint64_t boot)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        cluster->shards[i].said = (struct torc_evt_role){0};
    }
    torc_node_yield_down(node, boot);
    torc_failover_forget(&node->meta->failover);
}

void torc_node_meta_count(struct torc_node *node)
{
    const struct torc_failover_counters *counters = &node->meta->failover.counters;
    uint64_t *numbers = node->numbers;

    numbers[TORC_CONTROL_RECORD_READS] = counters->reads;
    numbers[TORC_CONTROL_PROPOSALS_WON] = counters->won;
    numbers[TORC_CONTROL_PROPOSALS_LOST] = counters->lost;
    numbers[TORC_CONTROL_PROPOSALS_UNKNOWN] = counters->unknown;
    numbers[TORC_CONTROL_QUESTIONS_REFUSED] = counters->refused;
    numbers[TORC_CONTROL_METASTORE_FAILURES] = node->meta->away.failures;
    torc_node_place_count(node);
}

// -- All of it ------------------------------------------------------------------------------------

static void meta_complain(struct torc_node *node, const struct torc_fail *why)
{
    if (node->now_ns - node->meta->complained_ns < META_COMPLAIN_NS) {
        return;
    }
    node->meta->complained_ns = node->now_ns;
    torc_log(TORC_LOG_WARN, "metastore", "trouble", "error=%s reason=\"%s\"",
             torc_err_name(why->err), why->text);
}

static void meta_take(struct torc_node *node, const struct torc_meta_answer *answer)
{
    struct torc_node_meta *meta = node->meta;
    struct torc_fail why = {0};

    if (torc_node_place_is_mine(answer->ticket)) {
        torc_node_place_take(node, answer);
    } else if (torc_give_is_mine(node->give, answer->ticket)) {
        torc_give_take(node->give, node->now_ns, answer);
    } else if (torc_failover_is_mine(answer->ticket)) {
        torc_failover_take(&meta->failover, node->now_ns, answer);
    } else if (!torc_away_is_mine(answer->ticket) && !torc_node_yield_take(node, answer) &&
               !torc_node_accept_take(node, answer) &&
               torc_follow_take(&meta->follow, node->now_ns, answer, &why) != TORC_ERR_OK) {
        meta_complain(node, &why);
    }
    if (answer->err != TORC_ERR_OK && why.err == TORC_ERR_OK &&
        answer->err != TORC_ERR_CONDITION_FAILED && answer->err != TORC_ERR_NOT_FOUND) {
        meta_complain(node, &answer->why);
    }
}

// What is next to be asked: first what replicas wait for.
static bool meta_next(struct torc_node *node, struct torc_meta_request *request)
{
    struct torc_node_meta *meta = node->meta;
    bool any =
        torc_failover_next(&meta->failover, node->now_ns, request) ||
        torc_node_yield_next(node, request) ||
        (node->state == TORC_NODE_SERVING && torc_give_next(node->give, node->now_ns, request)) ||
        torc_node_place_next(node, request) || torc_node_accept_next(node, request);

    if (any) {
        request->deadline_ns =
            node->now_ns + (request->verb == TORC_META_LIST ? torc_node_place_list_ns(node)
                                                            : TORC_FAILOVER_WAIT_NS);
        return true;
    }
    return torc_follow_next(&meta->follow, node->now_ns, request) ||
           torc_away_next(&meta->away, node->now_ns, request);
}

static void meta_refused(struct torc_node *node, const struct torc_meta_request *request,
                         enum torc_err err)
{
    const struct torc_meta_answer answer = {
        .ticket = request->ticket, .verb = request->verb, .err = err};

    torc_away_refused(&node->meta->away, node->now_ns, request);
    if (torc_follow_is_mine(request->ticket)) {
        torc_follow_refused(&node->meta->follow, node->now_ns, request);
    } else {
        meta_take(node, &answer);
    }
}

// One line: the cause, what it does, what to do.
void torc_node_advise_meta(struct torc_node *node, json_t *advice)
{
    const struct torc_away *away = &node->meta->away;
    uint64_t for_s = torc_away_for_ns(away, node->now_ns) / TORC_NS_PER_S;
    char text[META_ADVICE_BYTES];
    int failed = 0;

    if (for_s > 0) {
        (void)snprintf(text, sizeof(text),
                       "the metastore has not answered as it should for %" PRIu64
                       " s (%s): keys are served on, the next death is not followed by a takeover, "
                       "and a node that stops cannot start; stop no node, and mend it",
                       for_s, away->why.text);
        failed = json_array_append_new(advice, torc_admin_text(text));
    }
    torc_assert(failed == 0);
}

void torc_node_meta_step(struct torc_node *node)
{
    struct torc_node_meta *meta = node->meta;
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct torc_fail why = {0};

    torc_metastore_step(meta->store, node->now_ns);
    while (torc_metastore_take(meta->store, &answer)) {
        torc_away_take(&meta->away, node->now_ns, &answer);
        meta_take(node, &answer);
    }
    for (uint32_t i = 0; i < META_SUBMITS && meta_next(node, &request); i++) {
        enum torc_err err = torc_metastore_submit(meta->store, &request, node->now_ns, &why);

        if (err != TORC_ERR_OK) {
            meta_refused(node, &request, err);
            break;
        }
    }
    torc_node_give_step(node);
    torc_node_place_step(node);
    torc_node_accept_step(node);
    meta_map_step(node);
    meta_wake_step(node);
    torc_node_yield_step(node);
    meta_answer_step(node);
}

uint64_t torc_node_meta_deadline_ns(const struct torc_node *node)
{
    const struct torc_node_meta *meta = node->meta;
    uint64_t deadline_ns = torc_metastore_deadline_ns(meta->store);

    deadline_ns = torc_min_u64(deadline_ns, torc_follow_deadline_ns(&meta->follow));
    deadline_ns = torc_min_u64(deadline_ns, torc_failover_deadline_ns(&meta->failover));
    deadline_ns = torc_min_u64(deadline_ns, torc_away_deadline_ns(&meta->away));
    deadline_ns = torc_min_u64(deadline_ns, torc_node_place_deadline_ns(node));
    deadline_ns = torc_min_u64(deadline_ns, torc_node_accept_deadline_ns(node));
    if (node->state == TORC_NODE_SERVING) {
        deadline_ns = torc_min_u64(deadline_ns, torc_give_deadline_ns(node->give));
    }
    return torc_min_u64(deadline_ns, torc_node_yield_deadline_ns(node));
}
