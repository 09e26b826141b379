// Torc simulator: shards that a running node is given, and that are taken from it. See sim.h.
//
// What    what control/node_give_os.c does around control/give.h: DATA/replicas (here lines that a
//         disk keeps), copies and turns of lives, orders to workers. The steps are its steps.
#include "control/starts.h"
#include "tests/sim/sim_machine.h"

#include <string.h>

// -- DATA/replicas --------------------------------------------------------------------------------

static void lines_load(struct sim_node *node, uint64_t disk_copy)
{
    memset(node->control.lines, 0, sizeof(node->control.lines));
    if (torc_start_has_lines(node->lines_of, disk_copy, sim_agree_copy(node))) {
        memcpy(node->control.lines, node->lines, sizeof(node->lines));
    }
}

// Durable when it returns; control may die before or after.
static void lines_save(struct sim_node *node, uint64_t copy)
{
    sim_disk_chance(node->control.disk);
    memcpy(node->lines, node->control.lines, sizeof(node->lines));
    node->lines_of = copy;
    sim_disk_chance(node->control.disk);
}

static void lines_put(struct sim_node *node, const struct torc_cluster_shard *shard, uint64_t copy,
                      bool whole)
{
    node->control.lines[shard->shard] =
        (struct sim_line){.there = true, .copy = copy, .turn = shard->turn, .whole = whole};
}

static const struct sim_line *line_of(const struct sim_node *node, uint32_t shard)
{
    const struct sim_line *line = &node->control.lines[shard];

    return line->there ? line : NULL;
}

static uint64_t give_copy(const struct sim_node *node)
{
    return torc_give_copy(sim_agree_copy(node), torc_rng_next(&sim->rng));
}

// -- A life that begins ---------------------------------------------------------------------------

static bool bases_list(const struct sim_node *node, const struct torc_survey_shard *known,
                       uint64_t copy)
{
    for (uint32_t i = 0; known != NULL && i < known->member_count; i++) {
        if (known->members[i].node == node->number) {
            return known->members[i].copy == copy;
        }
    }
    return false;
}

static uint64_t bases_copy(const struct sim_node *node, const struct sim_line *line,
                           const struct torc_survey_shard *known)
{
    uint64_t copy = sim_agree_copy(node);

    if (line != NULL && copy == node->control.disk_copy) {
        return line->copy;
    }
    return line != NULL || bases_list(node, known, copy) ? copy : give_copy(node);
}

// As bases_let_go.
static bool lines_let_go(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    bool any = false;

    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        struct sim_line *line = &control->lines[number];

        if (line->there && torc_give_lets_go(&control->cluster, number)) {
            line->copy = give_copy(node);
            line->whole = false;
            any = true;
        }
    }
    return any;
}

// As torc_node_let_go.
void sim_give_let_go(struct sim_node *node)
{
    lines_load(node, node->control.disk_copy);
    if (lines_let_go(node)) {
        lines_save(node, node->control.disk_copy);
    }
}

// Recovery has begun: checkpoints of what the node begins without are gone, whatever happens next.
void sim_give_judge_begun(struct sim_node *node)
{
    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        if (torc_start_has_lines(node->lines_of, node->control.disk_copy, sim_agree_copy(node)) &&
            node->lines[number].whole &&
            torc_cluster_shard(&node->control.cluster, number) == NULL) {
            sim_fail("copies: node %u begins without shard %u, and its line says copy %" PRIu64
                     ", whole",
                     (unsigned)node->number, (unsigned)number, node->lines[number].copy);
        }
    }
}

// As bases_raise_turns.
static void bases_raise_turns(struct sim_node *node)
{
    uint32_t shard;
    uint32_t turn;

    for (uint32_t i = 0; torc_recover_found(node->control.recover, i, &shard, &turn); i++) {
        struct sim_line *line = &node->control.lines[shard];

        if (torc_give_lets_go(&node->control.cluster, shard)) {
            line->copy = line->there ? line->copy : give_copy(node);
            line->there = true;
            line->turn = (uint32_t)torc_max_u64(line->turn, turn);
        }
    }
}

// As torc_node_find_bases.
void sim_give_find_bases(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_cluster *cluster = &control->cluster;

    lines_load(node, control->disk_copy);
    bases_raise_turns(node);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = &cluster->shards[i];
        const struct torc_survey_shard *known =
            torc_survey_shard(sim_agree_survey(node), shard->shard);
        const struct sim_line *line = line_of(node, shard->shard);
        bool untouched =
            control->recover_shards[i].stream == 0 && known != NULL && known->born_empty;

        shard->copy = bases_copy(node, line, known);
        shard->insync = bases_list(node, known, shard->copy);
        shard->based =
            (line != NULL && line->whole) || shard->insync || shard->has_checkpoint || untouched;
        if (!shard->based) {
            shard->turn = (uint32_t)torc_max_u64(shard->turn, line != NULL ? line->turn : 0) + 1;
            shard->moved = false;
        }
        lines_put(node, shard, shard->copy, shard->based);
    }
    torc_give_forget(&control->give);
    control->given_news = 0;
    lines_save(node, sim_agree_copy(node));
    for (uint32_t number = 1; number <= sim->config.shards; number++) {
        if (torc_cluster_shard(cluster, number) == NULL) {
            sim_ghost_drop(node, number);
        }
    }
}

// -- A dataplane that runs already ----------------------------------------------------------------

// As torc_node_shard_here.
void sim_give_here(struct sim_node *node, uint32_t worker, const struct torc_evt_here *here)
{
    const struct torc_cluster_shard *shard;

    if (node->control.state != SIM_CONTROL_RESUMING || here->hello != node->control.attach.number ||
        here->shard == 0) {
        return;
    }
    shard = torc_cluster_here(&node->control.cluster, worker, sim->config.replicas > 1, here);
    torc_assert(shard != NULL);
}

// As bases_take_back.
static bool lines_take_back(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;
    bool any = false;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = &cluster->shards[i];
        struct sim_line *line = &node->control.lines[shard->shard];

        if (shard->shard != 0 && shard->replica && line->there && line->copy != shard->copy) {
            line->copy = shard->copy;
            line->whole = shard->based;
            any = true;
        }
    }
    return any;
}

// As torc_node_resume_table.
bool sim_give_resume(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;
    bool changed;

    lines_load(node, sim_agree_copy(node));
    torc_give_forget(&node->control.give);
    node->control.given_news = 0;
    for (uint32_t i = cluster->shard_count; i > 0; i--) {
        struct torc_cluster_shard *shard = &cluster->shards[i - 1];

        if (shard->shard != 0 && !shard->here && !shard->replica) {
            return false;
        }
        if (shard->shard != 0 && !shard->here) {
            torc_cluster_drop(cluster, shard);
        }
    }
    changed = lines_let_go(node);
    changed = lines_take_back(node) || changed;
    if (changed) {
        lines_save(node, sim_agree_copy(node));
    }
    return true;
}

// -- Given ----------------------------------------------------------------------------------------

static void give_begin(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_cluster_shard *shard;
    bool any = false;

    while ((shard = torc_give_fresh(&control->give, sim_local_ns(&node->clock),
                                    node->control.attach.hello.worker_count)) != NULL) {
        const struct sim_line *line = line_of(node, shard->shard);

        shard->turn =
            (uint32_t)torc_max_u64(control->cluster.boot, line != NULL ? line->turn : 0) + 1;
        shard->copy = give_copy(node);
        shard->opening = true;
        any = true;
        lines_put(node, shard, shard->copy, false);
        sim_cover(SIM_COVER_SHARDS_GIVEN);
        sim_story("node %u  is given shard %u, turn %u", (unsigned)node->number,
                  (unsigned)shard->shard, (unsigned)shard->turn);
    }
    if (any) {
        lines_save(node, sim_agree_copy(node));
        sim_agree_news(node);
    }
}

static void give_open(struct sim_node *node)
{
    struct torc_cluster *cluster = &node->control.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = &cluster->shards[i];

        if (shard->opening) {
            shard->opening = !sim_life_open_shard(node, shard);
        }
    }
}

// -- Taken ----------------------------------------------------------------------------------------

static void take_order(struct sim_node *node, struct torc_cluster_shard *shard)
{
    struct sim_control *control = &node->control;
    struct torc_cmd order = {.kind = TORC_CMD_SHARD_GONE, .wake_shard = shard->shard};

    shard->leaving = true;
    shard->wanted = false;
    if (torc_checkpoints_has(control->checkpoints, shard->shard)) {
        return; // when it is made
    }
    lines_put(node, shard, give_copy(node), false);
    lines_save(node, sim_agree_copy(node));
    if (torc_attach_cmd(&control->attach, shard->worker, &order)) {
        torc_give_ordered(&control->give, sim_local_ns(&node->clock));
    }
}

static void take_back(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_cluster_shard *shard = torc_cluster_shard(&control->cluster, control->give.shard);

    torc_give_up(&control->give, sim_local_ns(&node->clock));
    if (shard == NULL || !shard->leaving) {
        return;
    }
    sim_cover(SIM_COVER_SHARDS_KEPT);
    shard->leaving = false;
    lines_put(node, shard, shard->copy, shard->based || shard->has_checkpoint);
    lines_save(node, sim_agree_copy(node));
}

// As torc_node_forget.
bool sim_give_forget(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_cluster_shard *shard = torc_cluster_to_forget(&control->cluster);
    struct torc_fail why = {0};
    bool any = false;

    for (; shard != NULL && control->state == SIM_CONTROL_SERVING;
         shard = torc_cluster_to_forget(&control->cluster)) {
        shard->emptied = false;
        if (bases_list(node, torc_survey_shard(sim_agree_survey(node), shard->shard),
                       shard->copy) ||
            shard->said.role != TORC_CHAN_LEARNER || shard->leaving || shard->gone ||
            torc_checkpoints_forget(control->checkpoints, shard, &why) != TORC_ERR_OK) {
            continue;
        }
        lines_put(node, shard, shard->copy, false);
        lines_save(node, sim_agree_copy(node));
        torc_cluster_forget(shard);
        sim_cover(SIM_COVER_EMPTIED_FORGOTTEN);
        any = true;
    }
    return any;
}

// As take_leave of node_give_os.c.
static void take_leave(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_cluster *cluster = &control->cluster;
    char name[48];

    for (uint32_t i = cluster->shard_count; i > 0 && control->give.left > 0; i--) {
        struct torc_cluster_shard *shard = &cluster->shards[i - 1];

        if (!shard->gone || torc_checkpoints_has(control->checkpoints, shard->shard)) {
            continue;
        }
        if (shard->has_checkpoint) {
            torc_checkpoint_name(name, sizeof(name), shard->shard, shard->checkpoint_lsn);
            (void)torc_disk_remove(control->disk, sim_store_folder(node->index, true), name);
        }
        sim_cover(SIM_COVER_SHARDS_TAKEN);
        torc_give_drop(&control->give, shard);
        sim_control_trim(node);
        sim_agree_news(node);
        control->given_news = 0;
    }
}

// As torc_node_shard_gone.
void sim_give_gone(struct sim_node *node, uint32_t worker, const struct torc_evt_role *said)
{
    struct sim_control *control = &node->control;
    bool ordered = control->give.stage == TORC_GIVE_ORDERED && control->give.shard == said->shard;
    struct torc_cluster_shard *shard =
        control->state == SIM_CONTROL_RESUMING
            ? NULL
            : torc_give_gone(&control->give, sim_local_ns(&node->clock), worker, said);
    struct sim_line *line = &control->lines[said->shard];
    bool spoken;

    if (shard == NULL) {
        return;
    }
    sim_cover_add(SIM_COVER_SHARDS_LATE, ordered || said->role != 0 ? 0 : 1);
    sim_story("node %u  has let go of shard %u, turn %u%s", (unsigned)node->number,
              (unsigned)said->shard, (unsigned)said->epoch,
              said->role != 0 ? ": refused"
              : ordered       ? ""
                              : ", late");
    spoken = line->there && !line->whole && line->copy != shard->copy;
    if (!spoken) {
        lines_put(node, shard, give_copy(node), false);
    }
    line->turn = (uint32_t)torc_max_u64(line->turn, said->epoch);
    if (!spoken) {
        lines_save(node, sim_agree_copy(node));
    }
    if (control->state == SIM_CONTROL_SERVING) {
        take_leave(node);
    }
}

// As torc_node_give_step.
void sim_give_step(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    uint64_t local_ns = sim_local_ns(&node->clock);
    struct torc_cluster_shard *shard;

    if (control->state != SIM_CONTROL_SERVING || sim->config.replicas == 1) {
        return;
    }
    take_leave(node);
    if (control->given_news != sim_agree_changes(node) + 1 ||
        torc_give_is_due(&control->give, local_ns)) {
        control->given_news = sim_agree_changes(node) + 1;
        torc_give_look(&control->give, local_ns);
        give_begin(node);
    }
    give_open(node);
    shard = torc_give_sure(&control->give);
    if (control->give.stage == TORC_GIVE_SURE && (shard == NULL || shard->unnamed_ns == 0)) {
        take_back(node);
    } else if (shard != NULL) {
        take_order(node, shard);
    } else if (torc_give_is_late(&control->give, local_ns)) {
        take_back(node);
    }
}
