// Torc simulator: what a control has to do with the metastore. See sim.h.
//
// What    as control/registry_os.c (a start of the dataplane) and node_meta_os.c (while it runs) do
//         it, without waiting: all records are read; a start is one compare-and-swap of the node's
//         record, and with one replica of its shards' epochs; then all is read again. From then on
//         control/follow.h keeps the survey, and control/failover.h executes what replicas ask.
#include "control/failover.h"
#include "control/follow.h"
#include "control/note.h"
#include "control/placer.h"
#include "control/starts.h"
#include "control/yield.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <stdlib.h>
#include <string.h>

#define TICKET_LIST    1u
#define TICKET_SWAP    2u
#define TICKET_DOWN    0x20000u // as control's own
#define TICKET_LEAVING 0x20001u
#define TICKET_GIVE    0x20101u
#define TICKET_ACCEPT  0x20200u
#define SUBMITS        64u
#define WAIT_NS        SIM_S

enum agree_stage {
    AGREE_IDLE,
    AGREE_ASK, // all records are to be read
    AGREE_ASKED,
    AGREE_SWAP,
    AGREE_READ
};

// As node_meta_os.c's and node_yield_os.c's.
struct sim_agree {
    struct torc_metastore *store;
    enum agree_stage stage;
    uint64_t serial; // of the reading: answers to one that was given up come late
    bool boot;       // a start is to be written down
    bool follows;
    struct torc_swap swap;
    struct torc_meta_op ops[1 + SIM_SHARDS_MAX];
    char names[1 + SIM_SHARDS_MAX][TORC_RECORD_NAME_BYTES];
    char texts[1 + SIM_SHARDS_MAX][TORC_RECORD_BYTES_MAX];
    uint32_t op_count;
    struct torc_node_fields node;
    struct torc_survey survey;
    struct torc_follow follow;
    struct torc_failover failover;
    bool map_due[SIM_WORKERS_MAX];
    bool map_half; // its writer lost its processor amid it, or dies there
    struct torc_yield yield;
    struct torc_note down;
    struct torc_note leaving;
    struct torc_acceptance accept;
    struct torc_placer *placer; // NULL: the node has not served yet, or there is none
};

static struct sim_agree *agree_of(const struct sim_node *node)
{
    return node->control.agree;
}

struct sim_agree *sim_agree_open(struct sim_node *node)
{
    struct sim_agree *agree = sim_memory(sizeof(*agree));

    agree->store = sim_records_open(node->index);
    return agree;
}

void sim_agree_close(struct sim_agree *agree)
{
    torc_metastore_close(agree->store);
    if (agree->placer != NULL) {
        sim_memory_free(agree->placer, sizeof(*agree->placer));
    }
    sim_memory_free(agree, sizeof(*agree));
}

// -- The first records ----------------------------------------------------------------------------

void sim_agree_init(void)
{
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    for (uint32_t i = 0; i < sim->config.founders; i++) {
        sim_place_register(i);
    }
    for (uint32_t i = 0; i < sim->config.shards; i++) {
        struct torc_shard_fields shard = {.lo = sim->shard_lo[i],
                                          .hi = sim->shard_lo[i + 1],
                                          .epoch = 1,
                                          .primary_node = sim->shard_node[i] + 1};

        shard.insync.count = sim->config.replicas;
        for (uint32_t at = 0; at < shard.insync.count; at++) {
            uint32_t member = sim->wants[i].nodes[at];

            shard.insync.at[at] =
                (struct torc_record_member){.node = member, .copy = sim->nodes[member - 1].copy};
        }
        text[torc_record_encode(TORC_RECORD_SHARD, &shard, text)] = '\0';
        torc_record_name(name, "shard", i + 1);
        sim_records_put(name, text);
    }
}

// -- Reading all, and a start ---------------------------------------------------------------------

void sim_agree_begin(struct sim_node *node, bool boot)
{
    struct sim_agree *agree = agree_of(node);

    agree->stage = AGREE_ASK;
    agree->serial++;
    agree->boot = boot;
    sim_control_wake(node, sim->now_ns);
}

bool sim_agree_is_read(const struct sim_node *node)
{
    return agree_of(node)->stage == AGREE_READ;
}

uint64_t sim_agree_copy(const struct sim_node *node)
{
    return agree_of(node)->node.copy;
}

static uint64_t agree_ticket(const struct sim_agree *agree, uint64_t kind)
{
    return agree->serial << 40 | kind; // beside those of follow.h and failover.h
}

static void agree_add(struct sim_agree *agree, enum torc_record kind, const void *fields,
                      const struct torc_meta_record *record)
{
    uint32_t at = agree->op_count++;

    memcpy(agree->names[at], record->key, strlen(record->key) + 1);
    agree->ops[at] =
        (struct torc_meta_op){.kind = TORC_META_PUT,
                              .key = agree->names[at],
                              .value = agree->texts[at],
                              .value_bytes = torc_record_encode(kind, fields, agree->texts[at]),
                              .expected = record->version};
}

static const struct torc_meta_record *agree_record(const struct torc_meta_answer *answer,
                                                   const char *family, uint64_t id)
{
    char name[TORC_RECORD_NAME_BYTES];

    torc_record_name(name, family, id);
    for (uint32_t i = 0; i < answer->record_count; i++) {
        if (strcmp(answer->records[i].key, name) == 0) {
            return answer->records + i;
        }
    }
    torc_unreachable("records are never deleted");
}

static void agree_decode(enum torc_record kind, void *fields, const struct torc_meta_record *record)
{
    struct torc_fail why;

    if (torc_record_decode(kind, fields, record->value, record->value_bytes, &why) != TORC_ERR_OK) {
        sim_fail("metastore: %s: %s", record->key, why.text);
    }
}

// As registry_plan_start and registry_copy: `copy` is renewed where the disk has nothing of the one
// before, or what was acknowledged lay in a dataplane that is gone. Only this node raises its start
// count, so the count says whether a swap was won whose answer nobody heard.
static void agree_renew(struct sim_node *node, struct torc_node_fields *fields)
{
    struct torc_start_seen seen = {.node = fields,
                                   .start = &node->start,
                                   .dir_count = node->start_count,
                                   .sealed_boot = node->sealed_boot,
                                   .sealed = node->sealed,
                                   .forgets = sim->config.durability == TORC_DURABILITY_REPLICATED};
    struct torc_start_plan plan;
    struct torc_fail why;

    if (node->start_tried.start_count == fields->start_count) {
        node->start = node->start_tried;
    }
    if (torc_start_plan(&plan, &seen, &why) != TORC_ERR_OK) {
        sim_fail("node %u: %s", (unsigned)node->number, why.text);
    }
    node->start_count = fields->start_count;
    node->sealed = node->sealed || plan.fresh;
    node->start_tried = (struct torc_start_fields){
        .start_count = fields->start_count + 1, .served = plan.served, .copy = plan.copy};
    node->control.disk_copy = plan.copy;
    sim_cover_add(SIM_COVER_NODE_FORGOT, plan.renew ? 1 : 0);
    sim_cover_add(SIM_COVER_NODE_STARTED_AGAIN, plan.served != fields->boot ? 1 : 0);
    if (plan.renew || node->disk_lost) {
        fields->copy = ++sim->copies;
        node->start_tried.copy = node->disk_lost ? fields->copy : plan.copy; // init drew it
    } else if (node->copy != plan.copy) {
        sim_fail("node %u: goes on as copy %u, and has forgotten", (unsigned)node->number,
                 (unsigned)plan.copy);
    } else {
        fields->copy = plan.copy;
    }
}

static void agree_begin_life(struct sim_node *node, const struct torc_meta_answer *answer)
{
    struct sim_agree *agree = agree_of(node);

    agree->op_count = 0;
    agree_renew(node, &agree->node);
    agree->node.boot++;
    agree->node.start_count++;
    agree->node.cores = node->worker_count;
    agree->node.nonce = torc_rng_next(&sim->rng);
    agree_add(agree, TORC_RECORD_NODE, &agree->node, agree_record(answer, "node", node->number));
    for (uint32_t i = 0; i < sim->config.shards && sim->config.replicas == 1; i++) {
        const struct torc_meta_record *record = agree_record(answer, "shard", i + 1);
        struct torc_shard_fields shard;

        if (sim->shard_node[i] == node->index) {
            agree_decode(TORC_RECORD_SHARD, &shard, record);
            shard.epoch++;
            shard.primary_boot = agree->node.boot;
            agree_add(agree, TORC_RECORD_SHARD, &shard, record);
        }
    }
    torc_swap_begin(&agree->swap, agree->ops, agree->op_count, agree_ticket(agree, TICKET_SWAP));
    agree->stage = AGREE_SWAP;
}

// As torc_registry_serves, at once.
void sim_agree_serves(struct sim_node *node)
{
    const struct torc_node_fields *fields = &agree_of(node)->node;

    node->start_tried = (struct torc_start_fields){
        .start_count = fields->start_count, .served = fields->boot, .copy = fields->copy};
    node->sealed = false;
}

static void agree_take_list(struct sim_node *node, const struct torc_meta_answer *answer)
{
    struct sim_agree *agree = agree_of(node);
    struct torc_fail why;
    bool changed;

    if (agree->stage != AGREE_ASKED) {
        return;
    }
    if (answer->err != TORC_ERR_OK) {
        agree->stage = AGREE_ASK;
        return;
    }
    agree->survey.keys = sim->config.key_count;
    for (uint32_t i = 0; i < answer->record_count; i++) {
        if (torc_survey_put(&agree->survey, answer->records + i, &changed, &why) != TORC_ERR_OK) {
            sim_fail("metastore: %s", why.text);
        }
    }
    agree->survey.revision = answer->revision;
    agree_decode(TORC_RECORD_NODE, &agree->node, agree_record(answer, "node", node->number));
    if (agree->boot) {
        agree_begin_life(node, answer);
        return;
    }
    agree->stage = AGREE_READ;
    if (!agree->follows) {
        torc_follow_init(&agree->follow, &agree->survey, &node->control.cluster);
        torc_failover_init(&agree->failover);
        torc_give_init(&node->control.give, &agree->survey, &node->control.cluster, TICKET_GIVE);
        agree->follows = true;
    }
}

void sim_agree_take_shards(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;
    struct sim_agree *agree = agree_of(node);

    cluster->boot = agree->node.boot;
    cluster->map_version = agree->survey.revision;
    cluster->shard_count = 0;
    for (uint32_t i = 0; i < sim->config.shards; i++) {
        const struct torc_survey_shard *shard = agree->survey.shards + i;

        if (torc_survey_concerns(&agree->survey, shard, node->number)) {
            cluster->shards[cluster->shard_count++] =
                (struct torc_cluster_shard){.lo = shard->lo,
                                            .hi = shard->hi,
                                            .shard = shard->shard,
                                            .epoch = shard->epoch,
                                            .replica = sim->config.replicas > 1,
                                            .wish = true};
        }
    }
}

struct torc_survey *sim_agree_survey(const struct sim_node *node)
{
    return &agree_of(node)->survey;
}

uint64_t sim_agree_changes(const struct sim_node *node)
{
    return agree_of(node)->follow.changes;
}

void sim_agree_news(struct sim_node *node)
{
    agree_of(node)->follow.news = true;
}

// -- The map --------------------------------------------------------------------------------------

void sim_agree_write_map(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);
    struct torc_chan_node nodes[SIM_NODES_MAX];

    for (uint32_t i = 0; i < agree->survey.node_count; i++) {
        const struct torc_survey_node *from = agree->survey.nodes + i;

        nodes[i] = (struct torc_chan_node){.boot = from->boot,
                                           .down = from->down,
                                           .copy = from->copy,
                                           .node = from->node,
                                           .base_port = from->base_port,
                                           .cores = from->cores,
                                           .address_count = 1};
        torc_ip_map(nodes[i].addresses[0], sim_node_ipv4(from->node - 1));
    }
    torc_survey_write_map(&agree->survey, &node->control.cluster, nodes, agree->survey.node_count,
                          node->control.attach.map);
    node->control.cluster.map_version = agree->survey.revision;
    agree->follow.news = false;
    agree->map_half = false;
}

// As torc_node_meta_has_workers: one that has died is there until control has seen that.
static bool agree_has_workers(const struct sim_node *node)
{
    enum sim_control_state state = node->control.state;

    return node->control.attached &&
           (state == SIM_CONTROL_REPLAYING || state == SIM_CONTROL_SERVING ||
            state == SIM_CONTROL_CHECKPOINTING || state == SIM_CONTROL_YIELDING);
}

// As torc_survey_write_map up to the entries. One map in eight is written so, and a worker may just
// have been told of the one before.
static bool agree_write_half(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);

    if (agree->map_half || !torc_rng_chance(&sim->rng, 125000)) {
        return false;
    }
    agree->map_half = true;
    (void)atomic_fetch_or(&node->control.attach.map->sequence, 1);
    sim_control_wake(node, sim->now_ns + 1 + torc_rng_below(&sim->rng, 4 * SIM_MS));
    return true;
}

static void agree_map_step(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);
    struct torc_cmd order = {.kind = TORC_CMD_MAP_CHANGED};

    if (agree->follow.news && torc_survey_check(&agree->survey, NULL) == TORC_ERR_OK &&
        !agree_write_half(node)) {
        sim_agree_write_map(node);
        memset(agree->map_due, 1, sizeof(agree->map_due));
    }
    order.map_version = node->control.cluster.map_version;
    for (uint32_t i = 0; i < node->control.attach.hello.worker_count; i++) {
        agree->map_due[i] = agree->map_due[i] && !torc_attach_cmd(&node->control.attach, i, &order);
    }
}

// -- Replicas -------------------------------------------------------------------------------------

void sim_agree_event(struct sim_node *node, uint32_t worker, const struct torc_evt *event)
{
    struct torc_failover *failover = &agree_of(node)->failover;
    uint64_t local_ns = sim_local_ns(&node->clock);

    if (!sim_agree_is_read(node)) {
        return; // the worker asks again
    }
    if (event->kind == TORC_EVT_READ) {
        torc_failover_read(failover, local_ns, worker, &event->read);
    } else {
        torc_failover_propose(failover, local_ns, worker, &event->propose);
    }
}

void sim_agree_lead(struct sim_node *node, const struct torc_evt_role *role)
{
    const struct torc_cluster *cluster = &node->control.cluster;
    struct sim_agree *agree = agree_of(node);

    if (role->role == TORC_CHAN_ACTIVE && sim_agree_is_read(node) &&
        torc_cluster_shard(cluster, role->shard) != NULL &&
        torc_survey_lead(&agree->survey, role->shard, role->epoch, cluster->node, cluster->boot)) {
        agree->follow.news = true;
        sim_cover(SIM_COVER_LED_UNREAD);
    }
}

static void agree_answers(struct sim_node *node)
{
    struct torc_failover *failover = &agree_of(node)->failover;
    struct torc_cmd order;
    uint32_t place = 0;
    uint32_t worker;

    while (torc_failover_answer(failover, &place, &worker, &order)) {
        if (torc_attach_cmd(&node->control.attach, worker, &order)) {
            torc_failover_sent(failover, sim_local_ns(&node->clock), place);
        }
        place++;
    }
}

static void agree_wakes(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;
        struct torc_cmd order = {.kind = TORC_CMD_WAKE, .wake_shard = shard->shard};

        if (shard->wake) {
            shard->wake =
                shard->replica && !torc_attach_cmd(&node->control.attach, shard->worker, &order);
        }
    }
}

// A wished primary is to lead at once where it does not leave, in calm and in trouble: rows of
// faults (sim_plan.c) could not wait for a calm that does not come.
static void agree_hasten(struct sim_agree *agree, struct torc_cmd_want *order)
{
    const struct torc_survey_want *want = torc_survey_want(&agree->survey, order->shard);
    const struct torc_survey_node *node = torc_survey_node(&agree->survey, want->primary);

    if (order->primary_node == 0 && !sim_has(SIM_CLASS_PLACE) && !agree->yield.leaving &&
        node != NULL && node->leaving != node->boot) {
        order->primary_node = want->primary;
    }
}

// As yield_wish_step.
static void agree_wishes(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;
    struct sim_agree *agree = agree_of(node);
    struct torc_cmd order;

    if (agree->yield.node == 0 ||
        !torc_yield_step(&agree->yield, sim_local_ns(&node->clock), &agree->survey, cluster)) {
        return;
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;

        if (!shard->replica || !shard->ready ||
            !torc_yield_order(&agree->yield, &agree->survey, shard, sim_min_in_sync(), &order)) {
            continue;
        }
        agree_hasten(agree, &order.want);
        torc_yield_told(&agree->yield, shard, &order,
                        torc_attach_cmd(&node->control.attach, shard->worker, &order));
    }
}

void sim_agree_due(struct sim_node *node)
{
    agree_of(node)->yield.due = true;
}

// As torc_node_yield_begin.
void sim_agree_yield(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);
    uint64_t local_ns = sim_local_ns(&node->clock);

    torc_yield_init(&agree->yield, local_ns, node->number, node->control.cluster.boot);
    agree->yield.again_ns = local_ns;
    if (agree->node.leaving == node->control.cluster.boot) {
        sim_cover(SIM_COVER_STOP_RESUMED);
        torc_note_begin(&agree->leaving, TORC_NOTE_LEAVING, node->number, 0, TICKET_LEAVING);
    }
}

// As torc_node_yield_leave.
void sim_agree_leave(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);

    if (sim->config.replicas > 1) {
        torc_yield_leave(&agree->yield, sim_local_ns(&node->clock));
        torc_note_begin(&agree->leaving, TORC_NOTE_LEAVING, node->number,
                        node->control.cluster.boot, TICKET_LEAVING);
        sim_control_wake(node, sim->now_ns);
    }
}

uint32_t sim_agree_left(const struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);

    return agree->yield.leaving ? torc_yield_left(&agree->yield, &agree->survey, sim_min_in_sync())
                                : 0;
}

// -- Placement ------------------------------------------------------------------------------------

const struct torc_leader *sim_agree_leader(const struct sim_node *node)
{
    const struct sim_agree *agree = agree_of(node);

    return agree != NULL && agree->placer != NULL ? &agree->placer->leader : NULL;
}

// As torc_node_place_step.
static void agree_place(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);
    uint64_t local_ns = sim_local_ns(&node->clock);
    struct torc_placer_config config = {.boot = node->control.cluster.boot,
                                        .node = node->number,
                                        .replicas = sim->config.replicas,
                                        .lease_ns = sim->config.lease_ms * SIM_MS,
                                        .pace_ns = 20 * SIM_MS,
                                        .gone_ns = sim->config.gone_ms * SIM_MS};

    if (agree->placer == NULL && sim_has(SIM_CLASS_PLACE) &&
        node->control.state == SIM_CONTROL_SERVING) {
        config.nonce = torc_rng_next(&sim->rng);
        agree->placer = sim_memory(sizeof(*agree->placer));
        torc_placer_init(agree->placer, &config, local_ns);
    }
    if (agree->placer != NULL) {
        torc_placer_look(agree->placer, local_ns, &agree->follow,
                         node->control.state == SIM_CONTROL_SERVING);
    }
}

// -- `down` ---------------------------------------------------------------------------------------

void sim_agree_down(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);

    torc_note_begin(&agree->down, TORC_NOTE_DOWN, node->number, node->control.cluster.boot,
                    TICKET_DOWN);
    torc_failover_forget(&agree->failover);
    for (uint32_t i = 0; i < node->control.cluster.shard_count; i++) {
        node->control.shards[i].said = (struct torc_evt_role){0};
    }
    sim_control_wake(node, sim->now_ns);
}

bool sim_agree_is_told(const struct sim_node *node)
{
    return !agree_of(node)->down.open;
}

// -- Losses ---------------------------------------------------------------------------------------

struct torc_acceptance *sim_agree_accept(const struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);

    return agree != NULL && agree->stage == AGREE_READ && agree_has_workers(node) ? &agree->accept
                                                                                  : NULL;
}

void sim_agree_order(struct sim_node *node, const struct torc_accept_order *order)
{
    torc_accept_begin(&agree_of(node)->accept, sim_local_ns(&node->clock), order, TICKET_ACCEPT);
    sim_control_wake(node, sim->now_ns);
}

// -- Requests and answers -------------------------------------------------------------------------

static bool agree_next(struct sim_node *node, uint64_t local_ns, struct torc_meta_request *request)
{
    struct sim_agree *agree = agree_of(node);

    if (torc_note_next(&agree->down, local_ns, request) ||
        torc_note_next(&agree->leaving, local_ns, request) ||
        (agree->placer != NULL && torc_placer_next(agree->placer, local_ns, request))) {
        return true;
    }
    switch (agree->stage) {
    case AGREE_IDLE:
    case AGREE_ASKED: return false;
    case AGREE_ASK:
        agree->stage = AGREE_ASKED;
        *request = (struct torc_meta_request){.verb = TORC_META_LIST,
                                              .ticket = agree_ticket(agree, TICKET_LIST),
                                              .key = "",
                                              .record_max = 64};
        return true;
    case AGREE_SWAP: return torc_swap_next(&agree->swap, local_ns, request);
    case AGREE_READ:
        return torc_follow_next(&agree->follow, local_ns, request) ||
               torc_accept_next(&agree->accept, local_ns, request) ||
               torc_failover_next(&agree->failover, local_ns, request) ||
               (node->control.state == SIM_CONTROL_SERVING &&
                torc_give_next(&node->control.give, local_ns, request));
    }
    torc_unreachable("no such stage");
}

static void agree_refused(struct sim_node *node, uint64_t local_ns,
                          const struct torc_meta_request *request, enum torc_err err)
{
    struct sim_agree *agree = agree_of(node);

    if (torc_follow_is_mine(request->ticket)) {
        torc_follow_refused(&agree->follow, local_ns, request);
    } else if (torc_failover_is_mine(request->ticket)) {
        torc_failover_refused(&agree->failover, local_ns, request, err);
    } else if (torc_note_is_mine(&agree->down, request->ticket)) {
        torc_note_take(&agree->down, local_ns,
                       &(struct torc_meta_answer){.ticket = request->ticket, .err = err}, 0);
    } else if (torc_note_is_mine(&agree->leaving, request->ticket)) {
        torc_note_take(&agree->leaving, local_ns,
                       &(struct torc_meta_answer){.ticket = request->ticket, .err = err}, 0);
    } else if (agree->placer != NULL && torc_placer_is_mine(request->ticket)) {
        torc_placer_take(agree->placer, local_ns,
                         &(struct torc_meta_answer){.ticket = request->ticket, .err = err}, 0);
    } else if (torc_give_is_mine(&node->control.give, request->ticket)) {
        torc_give_take(&node->control.give, local_ns,
                       &(struct torc_meta_answer){.ticket = request->ticket, .err = err});
    } else if (torc_accept_is_mine(&agree->accept, request->ticket)) {
        torc_accept_take(&agree->accept, local_ns,
                         &(struct torc_meta_answer){.ticket = request->ticket, .err = err}, 0);
    } else {
        sim_fail("metastore: a first request was refused: %s", torc_err_name(err));
    }
}

static void agree_take(struct sim_node *node, uint64_t local_ns,
                       const struct torc_meta_answer *answer)
{
    struct sim_agree *agree = agree_of(node);
    struct torc_fail why;

    if (answer->ticket == agree_ticket(agree, TICKET_LIST)) {
        agree_take_list(node, answer);
    } else if (torc_note_is_mine(&agree->down, answer->ticket)) {
        bool open = agree->down.open;

        torc_note_take(&agree->down, local_ns, answer, torc_rng_next(&sim->rng));
        sim_cover_add(SIM_COVER_META_DOWN, open && !agree->down.open ? 1 : 0);
    } else if (torc_note_is_mine(&agree->leaving, answer->ticket)) {
        torc_note_take(&agree->leaving, local_ns, answer, torc_rng_next(&sim->rng));
    } else if (answer->ticket == agree_ticket(agree, TICKET_SWAP) && agree->stage == AGREE_SWAP) {
        torc_swap_take(&agree->swap, local_ns, answer);
        if (torc_swap_is_over(&agree->swap)) {
            agree->boot = agree->swap.state != TORC_SWAP_WON; // somebody was faster: once more
            node->copy = agree->boot ? node->copy : agree->node.copy;
            node->start_count = agree->boot ? node->start_count : agree->node.start_count;
            node->disk_lost = node->disk_lost && agree->boot;
            agree->stage = AGREE_ASK;
        }
    } else if (agree->follows && torc_follow_is_mine(answer->ticket)) {
        if (torc_follow_take(&agree->follow, local_ns, answer, &why) != TORC_ERR_OK &&
            why.err == TORC_ERR_CORRUPT) {
            sim_fail("node %u: follow: %s", (unsigned)node->number, why.text);
        }
    } else if (agree->placer != NULL && torc_placer_is_mine(answer->ticket)) {
        torc_placer_take(agree->placer, local_ns, answer, torc_rng_next(&sim->rng));
    } else if (agree->follows && torc_give_is_mine(&node->control.give, answer->ticket)) {
        torc_give_take(&node->control.give, local_ns, answer);
    } else if (agree->follows && torc_failover_is_mine(answer->ticket)) {
        torc_failover_take(&agree->failover, local_ns, answer);
    } else if (torc_accept_is_mine(&agree->accept, answer->ticket)) {
        torc_accept_take(&agree->accept, local_ns, answer, torc_rng_next(&sim->accept.rng));
    }
}

void sim_agree_step(struct sim_node *node)
{
    struct sim_agree *agree = agree_of(node);
    uint64_t local_ns = sim_local_ns(&node->clock);
    struct torc_meta_answer answer;
    struct torc_meta_request request;

    torc_metastore_step(agree->store, local_ns);
    while (torc_metastore_take(agree->store, &answer)) {
        agree_take(node, local_ns, &answer);
    }
    for (uint32_t i = 0; i < SUBMITS && agree_next(node, local_ns, &request); i++) {
        struct torc_fail why;
        enum torc_err err;

        request.deadline_ns = local_ns + WAIT_NS;
        err = torc_metastore_submit(agree->store, &request, local_ns, &why);
        if (err != TORC_ERR_OK) {
            agree_refused(node, local_ns, &request, err);
            break;
        }
    }
    agree_place(node);
    if (agree->stage == AGREE_READ && node->control.attached) {
        sim_give_step(node);
        agree_answers(node);
        if (agree_has_workers(node)) {
            agree_map_step(node);
            agree_wakes(node);
            agree_wishes(node);
        }
    }
}

static uint64_t agree_stage_deadline_ns(const struct sim_agree *agree)
{
    switch (agree->stage) {
    case AGREE_IDLE:
    case AGREE_ASKED: return UINT64_MAX;
    case AGREE_ASK: return 0;
    case AGREE_SWAP: return torc_swap_deadline_ns(&agree->swap);
    case AGREE_READ:
        return torc_min_u64(torc_accept_deadline_ns(&agree->accept),
                            torc_min_u64(torc_follow_deadline_ns(&agree->follow),
                                         torc_failover_deadline_ns(&agree->failover)));
    }
    torc_unreachable("no such stage");
}

static uint64_t agree_give_deadline_ns(const struct sim_node *node)
{
    return agree_of(node)->follows && node->control.state == SIM_CONTROL_SERVING
               ? torc_give_deadline_ns(&node->control.give)
               : UINT64_MAX;
}

uint64_t sim_agree_deadline_ns(const struct sim_node *node)
{
    const struct sim_agree *agree = agree_of(node);

    uint64_t notes_ns =
        torc_min_u64(torc_note_deadline_ns(&agree->down), torc_note_deadline_ns(&agree->leaving));
    uint64_t yield_ns = agree_has_workers(node) ? agree->yield.again_ns : UINT64_MAX;
    uint64_t place_ns = agree->placer != NULL ? torc_placer_deadline_ns(agree->placer) : UINT64_MAX;

    notes_ns = torc_min_u64(notes_ns, place_ns);
    return torc_min_u64(torc_min_u64(agree_stage_deadline_ns(agree), agree_give_deadline_ns(node)),
                        torc_min_u64(notes_ns, yield_ns));
}
