// Torc control: shards that a running node is given, and that are taken from it. See
// control/node_os.h, control/give.h.
//
// What    begins them, as learners that have nothing, and lets go of them: line in DATA/replicas
//         first, then the order to the worker; when it has let go, its checkpoint. Also which
//         copies the replicas of a life are that is about to begin, or that runs already.
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <stdlib.h>

#define GIVE_TICKET UINT64_C(0x20101)

void torc_node_open_give(struct torc_node *node)
{
    node->based = calloc(1, sizeof(*node->based));
    node->give = calloc(1, sizeof(*node->give));
    torc_assert(node->based != NULL);
    torc_assert(node->give != NULL);
    torc_give_init(node->give, node->registry.survey, &node->registry.cluster, GIVE_TICKET);
}

void torc_node_close_give(struct torc_node *node)
{
    free(node->based);
    free(node->give);
    node->based = NULL;
    node->give = NULL;
}

// A copy that no replica ever was.
static uint64_t give_copy(const struct torc_node *node)
{
    return torc_give_copy(node->registry.node.copy, torc_registry_nonce());
}

static bool give_put(struct torc_node *node, const struct torc_cluster_shard *shard, uint64_t copy,
                     bool whole)
{
    struct torc_based_line line = {
        .copy = copy, .shard = shard->shard, .turn = shard->turn, .whole = whole};

    return torc_based_put(node->based, &line);
}

static enum torc_err give_save(struct torc_node *node, struct torc_fail *why)
{
    return torc_based_save(&node->dir, node->registry.node.copy, node->based, why);
}

// -- A life that begins ---------------------------------------------------------------------------

static void bases_load(struct torc_node *node)
{
    torc_based_load(&node->dir, node->registry.disk_copy, node->registry.node.copy, node->based);
}

// Lines of shards that are no more.
static void bases_tidy(struct torc_node *node)
{
    struct torc_based *based = node->based;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < based->count; i++) {
        if (torc_survey_shard(node->registry.survey, based->lines[i].shard) != NULL) {
            based->lines[kept++] = based->lines[i];
        }
    }
    based->count = kept;
}

// Lines of shards that are not in the table say that nothing is here. True: one did not yet.
static bool bases_let_go(struct torc_node *node)
{
    struct torc_based *based = node->based;
    bool any = false;

    for (uint32_t i = 0; i < based->count; i++) {
        if (torc_give_lets_go(&node->registry.cluster, based->lines[i].shard)) {
            based->lines[i].copy = give_copy(node);
            based->lines[i].whole = false;
            any = true;
        }
    }
    return any;
}

// Recovery removes the checkpoints of shards that the node begins without, and after that their log
// may be trimmed: the lines say so first, for the node may die in between.
enum torc_err torc_node_let_go(struct torc_node *node, struct torc_fail *why)
{
    bases_load(node);
    return bases_let_go(node)
               ? torc_based_save(&node->dir, node->registry.disk_copy, node->based, why)
               : TORC_ERR_OK;
}

// Lives of these shards that begin here later have turns above all that lie in the log.
static bool bases_raise_turns(struct torc_node *node)
{
    struct torc_based *based = node->based;
    struct torc_based_line none = {0};
    uint32_t turn;

    for (uint32_t i = 0; torc_recover_found(node->recover, i, &none.shard, &turn); i++) {
        struct torc_based_line *line = torc_based_find(based, none.shard);

        if (!torc_give_lets_go(&node->registry.cluster, none.shard) ||
            torc_survey_shard(node->registry.survey, none.shard) == NULL) {
            continue;
        }
        none.copy = give_copy(node);
        if (line == NULL && !torc_based_put(based, &none)) {
            return false;
        }
        line = torc_based_find(based, none.shard);
        line->turn = (uint32_t)torc_max_u64(line->turn, turn);
    }
    return true;
}

static bool bases_list(const struct torc_node *node, const struct torc_survey_shard *known,
                       uint64_t copy)
{
    for (uint32_t i = 0; known != NULL && i < known->member_count; i++) {
        if (known->members[i].node == node->dir.node) {
            return known->members[i].copy == copy;
        }
    }
    return false;
}

// As which copy the replica goes on. Where nothing is noted, the shard came with the node's birth,
// or is new to it.
static uint64_t bases_copy(const struct torc_node *node, const struct torc_based_line *line,
                           const struct torc_survey_shard *known)
{
    const struct torc_registry *registry = &node->registry;

    if (line != NULL && registry->node.copy == registry->disk_copy) {
        return line->copy;
    }
    return line != NULL || bases_list(node, known, registry->node.copy) ? registry->node.copy
                                                                        : give_copy(node);
}

// Members go on from what lies here, and those that ever were one in this copy, those with a
// checkpoint; and where nothing lies here of a shard that was born empty: an empty log is a
// beginning of each of its logs. Who has nothing begins a turn of its own.
enum torc_err torc_node_find_bases(struct torc_node *node, struct torc_fail *why)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    bool fits;

    bases_load(node);
    bases_tidy(node);
    fits = bases_raise_turns(node);
    for (uint32_t i = 0; i < cluster->shard_count && fits; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;
        const struct torc_survey_shard *known =
            torc_survey_shard(node->registry.survey, shard->shard);
        const struct torc_based_line *line = torc_based_find(node->based, shard->shard);
        bool untouched = node->recover_shards[i].stream == 0 && known != NULL && known->born_empty;

        shard->copy = bases_copy(node, line, known);
        shard->insync = bases_list(node, known, shard->copy);
        shard->based =
            (line != NULL && line->whole) || shard->insync || shard->has_checkpoint || untouched;
        if (!shard->based) {
            shard->turn = (uint32_t)torc_max_u64(shard->turn, line != NULL ? line->turn : 0) + 1;
            shard->moved = false;
        }
        fits = give_put(node, shard, shard->copy, shard->based);
    }
    if (!fits) {
        return torc_fail(why, TORC_ERR_LIMIT, "replicas: more lines than shards there can be");
    }
    torc_give_forget(node->give);
    node->given_news = 0;
    return give_save(node, why);
}

// -- A dataplane that runs already ----------------------------------------------------------------

void torc_node_shard_here(struct torc_node *node, uint32_t worker, const struct torc_evt_here *here)
{
    if (node->state != TORC_NODE_RESUMING || here->hello != node->attach.number ||
        here->shard == 0) {
        return; // an answer to nothing, or to the control before us
    }
    // NULL: more than there can be.
    (void)torc_cluster_here(&node->registry.cluster, worker, node->registry.meta.replicas > 1,
                            here);
}

// The control before us may have died between the line of a shard that was to go and the order, or
// its worker did not let go: what is here goes on as what it is. True: a line has changed.
static bool bases_take_back(struct torc_node *node)
{
    bool any = false;

    for (uint32_t i = 0; i < node->registry.cluster.shard_count; i++) {
        const struct torc_cluster_shard *shard = node->registry.cluster.shards + i;
        struct torc_based_line *line =
            shard->shard == 0 ? NULL : torc_based_find(node->based, shard->shard);

        if (line != NULL && shard->replica && line->copy != shard->copy) {
            line->copy = shard->copy;
            line->whole = shard->based;
            any = true;
        }
    }
    return any;
}

// A replica that no worker has is given to one later; of shards without replicas all must be here.
bool torc_node_resume_table(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    struct torc_fail why = {0};
    bool changed;

    torc_based_load(&node->dir, node->registry.node.copy, node->registry.node.copy, node->based);
    torc_give_forget(node->give);
    node->given_news = 0;
    for (uint32_t i = cluster->shard_count; i > 0; i--) {
        struct torc_cluster_shard *shard = cluster->shards + i - 1;

        if (shard->shard != 0 && !shard->here && !shard->replica) {
            return false;
        }
        if (shard->shard != 0 && !shard->here) {
            torc_cluster_drop(cluster, shard);
        }
    }
    changed = bases_let_go(node);
    changed = bases_take_back(node) || changed;
    if (changed && give_save(node, &why) != TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "node", "not-resumed", "reason=\"%s\"", why.text);
        return false;
    }
    return true;
}

// -- Given ----------------------------------------------------------------------------------------

// A turn above all that its log may hold: of earlier lives of the shard here, which end where this
// one begins. (SHARD_GONE says which turn that was in the end, and a start looks
// at the log.)
static uint32_t give_turn(const struct torc_node *node, const struct torc_based_line *line)
{
    uint64_t turn = torc_max_u64(node->registry.cluster.boot, line != NULL ? line->turn : 0);

    return (uint32_t)torc_min_u64(turn, UINT32_MAX - 1) + 1;
}

static bool give_fresh(struct torc_node *node, struct torc_cluster_shard **shard)
{
    *shard = torc_give_fresh(node->give, node->now_ns, node->attach.hello.worker_count);
    return *shard != NULL;
}

static void give_begin(struct torc_node *node)
{
    struct torc_cluster_shard *shard;
    struct torc_fail why = {0};
    bool any = false;

    while (give_fresh(node, &shard)) {
        shard->turn = give_turn(node, torc_based_find(node->based, shard->shard));
        shard->copy = give_copy(node);
        shard->opening = true;
        any = true;
        if (!give_put(node, shard, shard->copy, false)) {
            torc_cluster_drop(&node->registry.cluster, shard);
            break;
        }
        torc_log(TORC_LOG_INFO, "shard", "given", "shard=%" PRIu32 " worker=%" PRIu32, shard->shard,
                 shard->worker);
    }
    if (any && give_save(node, &why) != TORC_ERR_OK) {
        torc_node_fail(node, &why); // it may not go on as what nobody could tell apart
        return;
    }
    if (any) {
        torc_node_meta_news(node);
    }
}

static void give_open(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;

        if (shard->opening) {
            shard->opening = !torc_node_open_shard(node, shard);
        }
    }
}

// -- Taken ----------------------------------------------------------------------------------------

// From here on its data mean nothing, if this process ends now: the line says so.
static void take_order(struct torc_node *node, struct torc_cluster_shard *shard)
{
    struct torc_cmd order = {.kind = TORC_CMD_SHARD_GONE, .wake_shard = shard->shard};
    struct torc_fail why = {0};

    shard->leaving = true;
    shard->wanted = false;
    if (torc_checkpoints_has(node->checkpoints, shard->shard)) {
        return; // when it is made
    }
    if (!give_put(node, shard, give_copy(node), false) || give_save(node, &why) != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return;
    }
    if (torc_attach_cmd(&node->attach, shard->worker, &order)) {
        torc_give_ordered(node->give, node->now_ns);
    }
}

// The worker has not let go, or the shard is wished here again: it goes on as it was.
static void take_back(struct torc_node *node)
{
    struct torc_cluster_shard *shard =
        torc_cluster_shard(&node->registry.cluster, node->give->shard);
    struct torc_fail why = {0};

    torc_give_up(node->give, node->now_ns);
    if (shard == NULL || !shard->leaving) {
        return;
    }
    shard->leaving = false;
    if (!give_put(node, shard, shard->copy, shard->based || shard->has_checkpoint) ||
        give_save(node, &why) != TORC_ERR_OK) {
        torc_node_fail(node, &why);
    }
}

// The file first, then the line: while the log has the BEGUN, a start finds nothing whole by either
// (docs/decisions/0033). A record that still lists the copy, as one that is heard late may, leaves
// all as it is: a start would take an empty log for the member's. The next round says so again.
static bool forget_one(struct torc_node *node, struct torc_cluster_shard *shard,
                       struct torc_fail *why)
{
    shard->emptied = false;
    if (bases_list(node, torc_survey_shard(node->registry.survey, shard->shard), shard->copy) ||
        shard->said.role != TORC_CHAN_LEARNER || shard->leaving || shard->gone ||
        torc_checkpoints_forget(node->checkpoints, shard, why) != TORC_ERR_OK) {
        return false;
    }
    if (!give_put(node, shard, shard->copy, false)) {
        (void)torc_fail(why, TORC_ERR_LIMIT, "replicas: more lines than shards there can be");
        torc_node_fail(node, why);
        return false;
    }
    if (give_save(node, why) != TORC_ERR_OK) {
        torc_node_fail(node, why);
        return false;
    }
    torc_cluster_forget(shard);
    return true;
}

bool torc_node_forget(struct torc_node *node)
{
    struct torc_cluster_shard *shard = torc_cluster_to_forget(&node->registry.cluster);
    bool any = false;

    for (; shard != NULL && node->state == TORC_NODE_SERVING;
         shard = torc_cluster_to_forget(&node->registry.cluster)) {
        struct torc_fail why = {0};
        uint32_t number = shard->shard;
        bool done = forget_one(node, shard, &why);

        any = any || done;
        torc_log(done ? TORC_LOG_INFO : TORC_LOG_WARN, "checkpoint", done ? "forgotten" : "stays",
                 "shard=%" PRIu32 " reason=\"emptied for a base%s%s\"", number,
                 why.err != TORC_ERR_OK ? "; " : "", why.text);
    }
    return any;
}

// What its worker has no more leaves the table, when no checkpoint of it is being written.
static void take_leave(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    char name[48];

    for (uint32_t i = cluster->shard_count; i > 0 && node->give->left > 0; i--) {
        struct torc_cluster_shard *shard = cluster->shards + i - 1;

        if (!shard->gone || torc_checkpoints_has(node->checkpoints, shard->shard)) {
            continue;
        }
        if (shard->has_checkpoint) {
            torc_checkpoint_name(name, sizeof(name), shard->shard, shard->checkpoint_lsn);
            // The next start removes it, else.
            (void)torc_disk_remove(node->disk, node->dir.checkpoint_fd, name);
        }
        torc_log(TORC_LOG_INFO, "shard", "taken", "shard=%" PRIu32 " worker=%" PRIu32, shard->shard,
                 shard->worker);
        torc_give_drop(node->give, shard);
        torc_node_trim(node);
        torc_node_meta_news(node);
        node->given_news = 0; // it may be wished again already
    }
}

// Ordered just now, or long ago (it was late and taken back), or never opened for want of memory.
void torc_node_shard_gone(struct torc_node *node, uint32_t worker, const struct torc_evt_role *said)
{
    struct torc_cluster_shard *shard =
        node->state == TORC_NODE_RESUMING // SHARD_HERE says what is here
            ? NULL
            : torc_give_gone(node->give, node->now_ns, worker, said);
    struct torc_based_line *line;
    struct torc_fail why = {0};
    bool spoken;

    if (shard == NULL) {
        return;
    }
    if (said->role != 0) {
        torc_log(TORC_LOG_WARN, "shard", "refused",
                 "shard=%" PRIu32 " worker=%" PRIu32
                 " reason=%s note=\"no copy begins here; tried again in %" PRIu64 " s\"",
                 said->shard, worker, torc_err_name((enum torc_err)said->role),
                 TORC_GIVE_REFUSED_NS / TORC_NS_PER_S);
    }
    line = torc_based_find(node->based, said->shard);
    spoken = line != NULL && !line->whole && line->copy != shard->copy; // take_order
    if (!spoken && !give_put(node, shard, give_copy(node), false)) {
        (void)torc_fail(&why, TORC_ERR_LIMIT, "replicas: more lines than shards there can be");
        torc_node_fail(node, &why);
        return;
    }
    line = torc_based_find(node->based, said->shard);
    torc_assert(line != NULL);
    line->turn = (uint32_t)torc_max_u64(line->turn, said->epoch); // the log says so too
    if (!spoken && give_save(node, &why) != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return;
    }
    if (node->state == TORC_NODE_SERVING) {
        take_leave(node);
    }
}

void torc_node_give_step(struct torc_node *node)
{
    struct torc_give *give = node->give;
    struct torc_cluster_shard *shard;

    if (node->state != TORC_NODE_SERVING || node->registry.meta.replicas == 1) {
        return;
    }
    take_leave(node);
    if (node->given_news != torc_node_meta_changes(node) + 1 ||
        torc_give_is_due(give, node->now_ns)) {
        node->given_news = torc_node_meta_changes(node) + 1;
        torc_give_look(give, node->now_ns);
        give_begin(node);
    }
    give_open(node);
    shard = torc_give_sure(give);
    if (give->stage == TORC_GIVE_SURE && (shard == NULL || shard->unnamed_ns == 0)) {
        take_back(node);
    } else if (shard != NULL) {
        take_order(node, shard);
    } else if (torc_give_is_late(give, node->now_ns)) {
        take_back(node);
    }
}
