// Torc dataplane: the replicas of a worker's shards: their life, their steps, their leases. See
// worker_replica.h, replica.h.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define NOTES_MAX      256u               // a turn
#define ADOPT_AGAIN_NS UINT64_C(30000000) // an answer of worker 0 found no room
// Control that turned longer ago brings no news of the disk: control_grace by default.
#define CONTROL_AWAY_NS UINT64_C(500000000)
#define STEPS_MAX       64u // of one machine that follow from one event
#define ASKED_A_ROUND   4u  // messages without an answer: one goes to each core

static bool replica_leads(const struct torc_worker_replica *replica)
{
    return replica->machine.role == TORC_REPLICA_CANDIDATE ||
           replica->machine.role == TORC_REPLICA_ACTIVE;
}

const struct torc_replica_peer *torc_worker_replica_peer(const struct torc_worker_replica *replica,
                                                         uint32_t node)
{
    const struct torc_replica *machine = &replica->machine;

    for (uint32_t i = 0; i < machine->peer_count; i++) {
        if (machine->peers[i].node == node) {
            return &machine->peers[i];
        }
    }
    return NULL;
}

// -- Notes ----------------------------------------------------------------------------------------

bool torc_worker_replica_note(struct torc_worker *worker, const struct torc_council_note *note)
{
    bool said = torc_council_say(&worker->replicas.up, note);

    if (said && worker->index != 0) {
        worker->turn->ring_workers[0] |= 1;
    }
    return said;
}

// Worker 0 watches whoever has to do with a shard of ours.
static void replica_meet(struct torc_worker *worker, uint32_t node)
{
    struct torc_worker_replicas *replicas = &worker->replicas;
    struct torc_council_note note = {.kind = TORC_COUNCIL_MEET, .node = node};

    if (node == 0 || node == worker->cluster.node) {
        return;
    }
    for (uint32_t i = 0; i < replicas->met_count; i++) {
        if (replicas->met[i] == node) {
            return;
        }
    }
    if (replicas->met_count < TORC_WORKER_MET && torc_worker_replica_note(worker, &note)) {
        replicas->met[replicas->met_count++] = node;
    }
}

static void replica_meet_all(struct torc_worker *worker, const struct torc_replica *machine)
{
    for (uint32_t i = 0; i < machine->configuration.member_count; i++) {
        replica_meet(worker, machine->configuration.members[i].node);
    }
    for (uint32_t i = 0; i < machine->want.node_count; i++) {
        replica_meet(worker, machine->want.nodes[i]);
    }
    replica_meet(worker, machine->configuration.primary_node);
}

static void replica_say_adopt(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;
    struct torc_council_note note = {.kind = TORC_COUNCIL_ADOPT,
                                     .shard = shard->engine.shard,
                                     .place = (uint32_t)(shard - worker->shards),
                                     .life = replica->life,
                                     .adoption = replica->adoption};

    replica->adopt_owed = !torc_worker_replica_note(worker, &note);
    replica->adopt_ns = worker->now_ns;
}

// -- Control --------------------------------------------------------------------------------------

static void replica_say_read(struct torc_worker *worker, const struct torc_worker_shard *shard,
                             uint32_t epoch)
{
    struct torc_evt event = {.kind = TORC_EVT_READ};

    event.read = (struct torc_evt_read){.shard = shard->engine.shard, .epoch = epoch};
    (void)torc_worker_say(worker, &event); // it is asked for again
}

static void replica_say_propose(struct torc_worker *worker, const struct torc_worker_shard *shard,
                                const struct torc_replica_proposal *proposal)
{
    const struct torc_configuration *from = &proposal->configuration;
    struct torc_evt event = {.kind = TORC_EVT_PROPOSE};
    struct torc_chan_record *to = &event.propose.record;

    event.propose.shard = shard->engine.shard;
    event.propose.expected_epoch = proposal->expected_epoch;
    *to = (struct torc_chan_record){.epoch = from->epoch,
                                    .primary_node = from->primary_node,
                                    .primary_boot = from->primary_boot,
                                    .nonce = from->nonce,
                                    .member_count = from->member_count};
    for (uint32_t i = 0; i < from->member_count; i++) {
        to->members[i].node = from->members[i].node;
        to->members[i].copy = from->members[i].copy;
    }
    (void)torc_worker_say(worker, &event); // likewise
}

static uint32_t replica_role(enum torc_replica_role role)
{
    switch (role) {
    case TORC_REPLICA_LEARNER: return TORC_CHAN_LEARNER;
    case TORC_REPLICA_BACKUP: return TORC_CHAN_BACKUP;
    case TORC_REPLICA_CANDIDATE: return TORC_CHAN_CANDIDATE;
    case TORC_REPLICA_ACTIVE: return TORC_CHAN_ACTIVE;
    }
    torc_unreachable("a role was added");
}

static void replica_say_role(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;
    const struct torc_replica *machine = &replica->machine;
    struct torc_evt event = {.kind = TORC_EVT_ROLE};
    bool learns = machine->role == TORC_REPLICA_LEARNER;
    uint32_t heard = learns ? torc_replica_heard(machine) : 0;
    bool whole = learns && torc_replica_is_whole(machine);

    if (replica->role_told && replica->told_role == machine->role &&
        replica->told_epoch == machine->epoch && replica->told_heard == heard &&
        replica->told_whole == whole) {
        return;
    }
    event.role =
        (struct torc_evt_role){.shard = shard->engine.shard,
                               .epoch = machine->epoch,
                               .role = replica_role(machine->role),
                               .primary_node = machine->configuration.primary_node,
                               .applied_lsn = machine->applied_lsn,
                               .last_lsn = machine->last_lsn,
                               .commit_lsn = machine->commit_lsn,
                               .last_hlc = shard->engine.last_hlc,
                               .last_epoch = torc_replica_epoch_at(machine, machine->last_lsn),
                               .heard = heard,
                               .whole = whole ? 1 : 0};
    replica->role_told = torc_worker_say(worker, &event);
    replica->told_role = machine->role;
    replica->told_epoch = machine->epoch;
    replica->told_heard = heard;
    replica->told_whole = whole;
}

// -- Messages -------------------------------------------------------------------------------------

// Whether the node has begun another life since it spoke from that core.
static bool replica_is_later(const struct torc_worker_shard *shard,
                             const struct torc_worker_peer_core *core)
{
    const struct torc_replica_peer *peer = torc_worker_replica_peer(shard->replica, core->node);

    return peer != NULL && peer->state.boot > core->boot;
}

// On which core the node has the shard, as it or the map says; TORC_POST_EACH: nobody knows.
static uint32_t replica_core(const struct torc_worker *worker,
                             const struct torc_worker_shard *shard, uint32_t node)
{
    const struct torc_map_entry *entry = torc_map_find(&worker->map, shard->engine.lo);

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        const struct torc_worker_peer_core *at = &shard->replica->cores[i];

        if (at->node == node) {
            return replica_is_later(shard, at) ? TORC_POST_EACH : at->core;
        }
    }
    for (uint32_t i = 0; entry != NULL && i < entry->member_count; i++) {
        if (entry->members[i].node == node && entry->members[i].core != TORC_MAP_CORE_UNKNOWN) {
            return entry->members[i].core;
        }
    }
    return TORC_POST_EACH;
}

struct torc_peer_to torc_worker_replica_to(const struct torc_worker *worker,
                                           const struct torc_worker_shard *shard, uint32_t node)
{
    return (struct torc_peer_to){.node = node, .core = replica_core(worker, shard, node)};
}

static bool replica_has_part(const struct torc_worker_replica *replica, uint32_t node)
{
    const struct torc_replica_peer *peer = torc_worker_replica_peer(replica, node);

    return peer != NULL && peer->role != TORC_REPLICA_PEER_OTHER;
}

// It spoke from there. There is a place for each node that has a part in the shard; any other is
// noted while nobody needs the place.
static void replica_note_core(struct torc_worker_replica *replica,
                              const struct torc_peer_from *from)
{
    struct torc_worker_peer_core *place = NULL;

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        struct torc_worker_peer_core *at = &replica->cores[i];

        if (at->node == from->node) {
            place = at;
            break;
        }
        if (place == NULL || (place->node != 0 && at->node == 0)) {
            place = at->node == 0 || !replica_has_part(replica, at->node) ? at : place;
        }
    }
    if (place != NULL && (place->node != from->node || place->boot <= from->boot)) {
        *place = (struct torc_worker_peer_core){
            .node = from->node, .core = from->core, .boot = from->boot};
    }
}

void torc_worker_replica_post(struct torc_worker *worker, struct torc_worker_shard *shard,
                              uint32_t node, const struct torc_peer_op *op)
{
    struct torc_peer_to to = torc_worker_replica_to(worker, shard, node);
    bool asks = op->opcode == TORC_PEER_OP_EPOCH || op->opcode == TORC_PEER_OP_APPEND;

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX && asks; i++) {
        struct torc_worker_peer_core *at = &shard->replica->cores[i];

        if (at->node == node && ++at->unanswered % ASKED_A_ROUND == 0) {
            to.core = TORC_POST_EACH;
        }
    }
    torc_worker_post(worker, to, op);
}

static void replica_send(struct torc_worker *worker, struct torc_worker_shard *shard,
                         const struct torc_replica_action *action)
{
    struct torc_peer_op op = {.opcode = torc_peer_opcode_of(action->message.kind),
                              .message = action->message};

    torc_worker_replica_post(worker, shard, action->node, &op);
}

void torc_worker_replica_message(struct torc_worker *worker, const struct torc_peer_from *from,
                                 struct torc_peer_op *op)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_MESSAGE,
                                       .node = from->node,
                                       .boot = from->boot,
                                       .message = &op->message};
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, op->message.shard);

    if (shard == NULL || shard->replica == NULL || !shard->replica->live) {
        return; // not here (any more), or not yet
    }
    replica_note_core(shard->replica, from);
    if (!torc_worker_base_may_begin(worker, shard, &op->message)) {
        return;
    }
    worker->replicas.cargo = &op->cargo;
    if (op->opcode == TORC_PEER_OP_APPEND) {
        torc_worker_replica_flush(worker, shard);
        torc_worker_replica_stage(worker, shard, op);
    }
    torc_worker_replica_step(worker, shard, &event);
    torc_shard_unstage(&shard->engine);
    worker->replicas.cargo = NULL;
}

// -- Actions --------------------------------------------------------------------------------------

// Another is primary, of the epoch that was just adopted.
static void replica_follow(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    torc_shard_follow(&shard->engine, shard->replica->machine.epoch);
    torc_worker_writes_forget(worker, &shard->engine);
}

static void replica_adopt(struct torc_worker *worker, struct torc_worker_shard *shard,
                          const struct torc_watch_adoption *adoption)
{
    struct torc_worker_replica *replica = shard->replica;

    replica->adoption = *adoption;
    replica_meet_all(worker, &replica->machine);
    replica_say_adopt(worker, shard);
    if (!replica_leads(replica)) {
        replica_follow(worker, shard);
    }
    torc_worker_map_learn(worker, shard);
}

// T7, T8. What another primary read at a ceiling that this node kept stays true (H5): the clock
// goes above all of them, which are known only now that every promise is over.
static void replica_serve(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    uint64_t ceiling =
        atomic_load_explicit(&worker->replicas.council->ceiling, memory_order_acquire);

    if (ceiling > worker->pool.hlc && !TORC_BUG(CEILING_NOT_KEPT)) {
        worker->pool.hlc = ceiling;
    }
    torc_shard_serve(&shard->engine);
}

static void replica_alarm(struct torc_worker *worker, const struct torc_worker_shard *shard,
                          uint32_t epoch)
{
    struct torc_fail why;

    (void)torc_fail(&why, TORC_ERR_CORRUPT,
                    "METASTORE_WENT_BACK: shard %" PRIu32 " has epoch %" PRIu32
                    " there and %" PRIu32 " here",
                    shard->engine.shard, epoch, shard->engine.epoch);
    torc_worker_alarm(worker, why.err, shard->engine.shard, why.text);
}

// HURRY, ALIVE: lost, it only takes longer.
static void replica_tell_watch(struct torc_worker *worker, const struct torc_worker_shard *shard,
                               enum torc_council_kind kind, uint32_t node)
{
    struct torc_council_note note = {.kind = kind, .shard = shard->engine.shard, .node = node};

    (void)torc_worker_replica_note(worker, &note);
}

// Everybody of whom leases are wanted: members, and learners that are claimed.
static void replica_say_claims(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;
    struct torc_council_note note = {
        .kind = TORC_COUNCIL_CLAIM, .shard = machine->shard, .epoch = machine->epoch};

    for (uint32_t i = 0; i < machine->peer_count; i++) {
        if (machine->peers[i].role == TORC_REPLICA_PEER_MEMBER || machine->peers[i].claimed) {
            note.claims.nodes[note.claims.count++] = machine->peers[i].node;
        }
    }
    shard->replica->claims_owed = !torc_worker_replica_note(worker, &note);
}

static void replica_act(struct torc_worker *worker, struct torc_worker_shard *shard,
                        const struct torc_replica_action *action)
{
    switch (action->kind) {
    case TORC_REPLICA_SEND: replica_send(worker, shard, action); return;
    case TORC_REPLICA_SHIP: torc_worker_replica_ship(worker, shard, action); return;
    case TORC_REPLICA_READ: replica_say_read(worker, shard, action->epoch); return;
    case TORC_REPLICA_PROPOSE: replica_say_propose(worker, shard, &action->proposal); return;
    case TORC_REPLICA_ADOPT: replica_adopt(worker, shard, &action->adoption); return;
    case TORC_REPLICA_CLAIM: replica_say_claims(worker, shard); return;
    case TORC_REPLICA_HURRY:
        replica_tell_watch(worker, shard, TORC_COUNCIL_HURRY, action->node);
        return;
    case TORC_REPLICA_OPEN: torc_worker_replica_open(worker, shard); return;
    case TORC_REPLICA_TAKE: torc_worker_replica_take(worker, shard); return;
    case TORC_REPLICA_CUT: torc_worker_replica_cut(worker, shard, action->lsn); return;
    case TORC_REPLICA_APPLY: torc_worker_replica_apply(worker, shard, action->lsn); return;
    case TORC_REPLICA_SERVE: replica_serve(worker, shard); return;
    case TORC_REPLICA_DEMOTED: replica_follow(worker, shard); return;
    case TORC_REPLICA_ALARM: replica_alarm(worker, shard, action->epoch); return;
    case TORC_REPLICA_ALIVE: replica_tell_watch(worker, shard, TORC_COUNCIL_ALIVE, 0); return;
    case TORC_REPLICA_RESET:
    case TORC_REPLICA_STREAM:
    case TORC_REPLICA_PIECE:
    case TORC_REPLICA_SETTLE:
    case TORC_REPLICA_STORE:
    case TORC_REPLICA_WHOLE: torc_worker_replica_base(worker, shard, action); return;
    }
    torc_unreachable("an action was added");
}

// The next event that follows from the last one's actions. False: none.
static bool replica_next(struct torc_worker_replica *replica, struct torc_replica_event *event,
                         struct torc_replica_base_event *base)
{
    struct torc_worker_follow_up *follow_up = &replica->follow_up;

    if (follow_up->applied) {
        follow_up->applied = false;
        *event = (struct torc_replica_event){.kind = TORC_REPLICA_APPLIED,
                                             .lsn = follow_up->applied_lsn};
        return true;
    }
    if (follow_up->base_count > 0) {
        *base = follow_up->bases[0];
        follow_up->base_count--;
        memmove(&follow_up->bases[0], &follow_up->bases[1],
                follow_up->base_count * sizeof(follow_up->bases[0]));
        *event = (struct torc_replica_event){.kind = TORC_REPLICA_BASE, .base = base};
        return true;
    }
    return false;
}

static void replica_step_once(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_event *event)
{
    struct torc_replica_actions *actions = worker->replicas.actions;

    actions->count = 0;
    torc_replica_step(&shard->replica->machine, worker->now_ns, event, actions);
    for (uint32_t i = 0; i < actions->count; i++) {
        replica_act(worker, shard, &actions->items[i]);
    }
}

// H5. Who is proposed counts from that moment on (M2), so this is done after each step.
static uint64_t replica_least_ceiling(const struct torc_replica *machine)
{
    uint64_t least = TORC_BUG(LARGEST_CEILING) ? 0 : UINT64_MAX;

    for (uint32_t i = 0; i < machine->peer_count; i++) {
        const struct torc_replica_peer *peer = &machine->peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER || peer->proposed) {
            least = TORC_BUG(LARGEST_CEILING) ? torc_max_u64(least, peer->lease.ceiling)
                                              : torc_min_u64(least, peer->lease.ceiling);
        }
    }
    return least;
}

// L3. With read-mode = confirm a shard with other members is readable only while packets that were
// confirmed are answered (worker_confirm.c).
static void replica_judge(const struct torc_worker *worker, struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;

    shard->readable = shard->engine.state == TORC_SHARD_ACTIVE &&
                      torc_replica_may_read(machine, worker->now_ns) &&
                      (worker->confirm == NULL || torc_replica_confirmed_ns(machine) == UINT64_MAX);
    shard->replica->least_ceiling = replica_least_ceiling(machine);
}

// What the reads and writes of this shard have to look at.
static void replica_settle(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;

    replica_judge(worker, shard);
    replica->deadline_ns = torc_replica_deadline_ns(&replica->machine);
    replica->touched = false;
    replica_say_role(worker, shard);
}

void torc_worker_replica_step(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_event *event)
{
    torc_worker_replica_flush(worker, shard);
    torc_worker_replica_step_bare(worker, shard, event);
}

void torc_worker_replica_step_bare(struct torc_worker *worker, struct torc_worker_shard *shard,
                                   const struct torc_replica_event *event)
{
    struct torc_replica_base_event base;
    struct torc_replica_event next;
    uint32_t steps = 0;

    torc_assert(shard->replica->live);
    replica_step_once(worker, shard, event);
    while (replica_next(shard->replica, &next, &base)) {
        torc_assert(++steps < STEPS_MAX); // each follows from progress of another kind
        replica_step_once(worker, shard, &next);
    }
    if (shard->replica->machine.has_base && shard->replica->machine.base_durable) {
        shard->replica->lost = false; // a record that lists it may be of now, whatever comes next
    }
    replica_settle(worker, shard);
}

// -- Life -----------------------------------------------------------------------------------------

static uint64_t replica_us(uint32_t us, uint32_t default_us)
{
    return (uint64_t)(us == 0 ? default_us : us) * 1000;
}

// The defaults of REPLICATION.md, section 13.
static struct torc_replica_timing replica_timing(const struct torc_cmd_configure *cluster)
{
    const struct torc_chan_timing *timing = &cluster->timing;

    return (struct torc_replica_timing){
        .promise_ns = replica_us(timing->promise_us, 20000),
        .stagger_ns = replica_us(timing->stagger_us, 10000),
        .lonely_ns = replica_us(timing->lonely_us, 200000),
        .grace_ns = replica_us(timing->grace_us, 5000000),
        .lag_ns = replica_us(timing->lag_us, 200000),
        .resend_ns = replica_us(timing->resend_us, 5000),
        .retry_ns = replica_us(timing->retry_us, 30000),
        .join_records = cluster->join_records == 0 ? 4096 : cluster->join_records};
}

// Which epochs the log's records are of, as replay found them.
static void replica_table(struct torc_epoch_table *table, const struct torc_replay_result *found)
{
    _Static_assert(TORC_REPLAY_EPOCHS_MAX <= TORC_EPOCHS_MAX, "all that replay knows");

    table->count = found->epoch_count;
    for (uint32_t i = 0; i < found->epoch_count; i++) {
        table->entries[i] = (struct torc_epoch_entry){.epoch = found->epochs[i].epoch,
                                                      .first_lsn = found->epochs[i].first_lsn};
    }
}

void torc_worker_replica_begin(struct torc_worker *worker, struct torc_worker_shard *shard,
                               const struct torc_replay_result *found)
{
    struct torc_worker_replica *replica = shard->replica;
    const struct torc_shard *engine = &shard->engine;
    struct torc_replica_start start = {
        .timing = replica_timing(&worker->cluster),
        .durability = (enum torc_durability)worker->cluster.durability,
        .shard = engine->shard,
        .node = worker->cluster.node,
        .boot = worker->cluster.boot,
        .copy = replica->copy,
        .min_in_sync = (uint32_t)torc_max_u64(worker->cluster.min_in_sync, 1),
        .commit_lsn = engine->applied_lsn,
        .last_lsn = engine->next_lsn - 1,
        .floor_lsn = engine->applied_lsn,
        .log_epoch = engine->epoch, // as it follows
        .has_base = shard->has_base};

    torc_assert(!replica->live);
    // What replay held back lies in the engine, as pending; what comes is kept from here on.
    torc_shipped_open(&worker->replicas.shipped, engine->shard, start.last_lsn);
    if (shard->has_base) {
        replica_table(&start.table, found);
    }
    torc_replica_init(&replica->machine, worker->now_ns, &start);
    replica->machine.health = (uint8_t)worker->replicas.health; // else told of changes
    replica->live = true;
    replica->touched = true;
    worker->replicas.count++;
    if (replica->want_known) {
        struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &replica->want};

        torc_worker_replica_step(worker, shard, &event);
        replica_meet_all(worker, &replica->machine);
    }
}

// -- What control and worker 0 say ----------------------------------------------------------------

static void replica_each(struct torc_worker *worker, const struct torc_replica_event *event)
{
    for (uint32_t i = 0; i < worker->shard_count && worker->replicas.count > 0; i++) {
        struct torc_worker_shard *shard = &worker->shards[i];

        if (shard->replica != NULL && shard->replica->live) {
            torc_worker_replica_step(worker, shard, event);
        }
    }
}

static void replica_take_peer(struct torc_worker *worker, const struct torc_peer_state *peer)
{
    struct torc_worker_replicas *replicas = &worker->replicas;
    struct torc_replica_event event = {.kind = TORC_REPLICA_PEER, .peer = *peer};
    uint32_t at = 0;

    while (at < replicas->peer_count && replicas->peers[at].node != peer->node) {
        at++;
    }
    torc_assert(at < TORC_WATCH_PEERS_MAX);
    replicas->peers[at] = *peer;
    replicas->peer_count = (uint32_t)torc_max_u64(replicas->peer_count, at + 1);
    replica_each(worker, &event);
}

// What is known of other nodes, for a machine that has just met some of them.
static void replica_tell_peers(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    for (uint32_t i = 0; i < worker->replicas.peer_count; i++) {
        struct torc_replica_event peer = {.kind = TORC_REPLICA_PEER,
                                          .peer = worker->replicas.peers[i]};

        torc_worker_replica_step(worker, shard, &peer);
    }
}

static void replica_take_adopted(struct torc_worker *worker, const struct torc_council_note *note)
{
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, note->shard);
    struct torc_replica_event event = {
        .kind = TORC_REPLICA_ADOPTED,
        .adopted = {.epoch = note->epoch, .promise_until_ns = note->promise_until_ns}};

    if (shard == NULL || shard->replica == NULL || shard->replica->life != note->life) {
        return; // it is for one that is gone
    }
    replica_tell_peers(worker, shard);
    torc_worker_replica_step(worker, shard, &event);
}

static void replica_take_note(struct torc_worker *worker, const struct torc_council_note *note)
{
    static const struct torc_replica_event wake = {.kind = TORC_REPLICA_WAKE};
    struct torc_worker_shard *shard;

    switch ((enum torc_council_kind)note->kind) {
    case TORC_COUNCIL_PEER: replica_take_peer(worker, &note->peer); return;
    case TORC_COUNCIL_ADOPTED: replica_take_adopted(worker, note); return;
    case TORC_COUNCIL_WAKE:
        shard = torc_worker_shard_number(worker, note->shard);
        if (shard != NULL && shard->replica != NULL && shard->replica->live) {
            torc_worker_replica_step(worker, shard, &wake);
        }
        return;
    case TORC_COUNCIL_BOUND: torc_worker_confirm_told(worker, note); return;
    case TORC_COUNCIL_MEET:
    case TORC_COUNCIL_ADOPT:
    case TORC_COUNCIL_CLAIM:
    case TORC_COUNCIL_HURRY:
    case TORC_COUNCIL_ALIVE:
    case TORC_COUNCIL_ASK:
    case TORC_COUNCIL_DROP: break;
    }
    torc_unreachable("worker 0 says no such thing");
}

static void replica_configuration(struct torc_configuration *to,
                                  const struct torc_chan_record *from)
{
    *to = (struct torc_configuration){
        .epoch = from->epoch,
        .primary_node = from->primary_node,
        .primary_boot = from->primary_boot,
        .nonce = from->nonce,
        .member_count = (uint32_t)torc_min_u64(from->member_count, TORC_MEMBERS_MAX)};
    for (uint32_t i = 0; i < to->member_count; i++) {
        to->members[i].node = from->members[i].node;
        to->members[i].copy = from->members[i].copy;
    }
}

static enum torc_replica_outcome replica_outcome(uint32_t outcome)
{
    return outcome == TORC_CHAN_WON    ? TORC_REPLICA_WON
           : outcome == TORC_CHAN_LOST ? TORC_REPLICA_LOST
                                       : TORC_REPLICA_UNKNOWN;
}

static uint32_t replica_order_shard(const struct torc_cmd *order)
{
    switch (order->kind) {
    case TORC_CMD_RECORD:
    case TORC_CMD_RESULT: return order->record.shard;
    case TORC_CMD_WANT: return order->want.shard;
    default: return order->wake_shard;
    }
}

// Whether the record says that this very copy has all that was ever acknowledged.
static bool replica_is_listed(const struct torc_worker *worker,
                              const struct torc_worker_replica *replica,
                              const struct torc_cmd *order)
{
    const struct torc_chan_record *record = &order->record.record;

    for (uint32_t i = 0;
         order->kind == TORC_CMD_RECORD && i < record->member_count && i < TORC_CHAN_MEMBERS_MAX;
         i++) {
        if (record->members[i].node == worker->cluster.node &&
            record->members[i].copy == replica->copy) {
            return true;
        }
    }
    return false;
}

// What the metastore says can make a candidate, which logs; and with `replicated` what is logged
// counts as kept, though after a clean stop nobody may write it any more. The next life asks again.
static bool replica_is_sealing(const struct torc_worker *worker, const struct torc_cmd *order)
{
    return worker->quiescing && worker->cluster.durability == TORC_DURABILITY_REPLICATED &&
           (order->kind == TORC_CMD_RECORD || order->kind == TORC_CMD_RESULT);
}

void torc_worker_replica_order(struct torc_worker *worker, const struct torc_cmd *order)
{
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, replica_order_shard(order));
    struct torc_replica_event event = {.kind = TORC_REPLICA_WAKE};
    struct torc_replica_result result;
    struct torc_replica_want want;

    if (shard == NULL || shard->replica == NULL || replica_is_sealing(worker, order)) {
        return;
    }
    if (order->kind == TORC_CMD_WANT) {
        want = (struct torc_replica_want){
            .primary_node = order->want.primary_node,
            .node_count = (uint32_t)torc_min_u64(order->want.node_count, TORC_MEMBERS_MAX)};
        memcpy(want.nodes, order->want.nodes, sizeof(want.nodes));
        shard->replica->want = want;
        shard->replica->want_known = true;
        event.kind = TORC_REPLICA_WANT;
        event.want = &want;
    }
    if (!shard->replica->live) {
        return; // a wish waits; what else there is to know, the replica asks for
    }
    if (shard->replica->lost && !shard->replica->machine.has_base &&
        replica_is_listed(worker, shard->replica, order)) {
        torc_worker_alarm(worker, TORC_ERR_CORRUPT, shard->engine.shard,
                          "a member's log is not whole: this node needs a new data directory");
        return; // it never acknowledges anything
    }
    if (order->kind == TORC_CMD_RECORD || order->kind == TORC_CMD_RESULT) {
        result = (struct torc_replica_result){
            .nonce = order->record.nonce,
            .outcome = replica_outcome(order->record.outcome),
            .record = {.asked_epoch = order->record.asked_epoch,
                       .primary_down_boot = order->record.primary_down_boot,
                       .primary_node_boot = order->record.primary_node_boot}};
        replica_configuration(&result.record.configuration, &order->record.record);
        event.kind = order->kind == TORC_CMD_RECORD ? TORC_REPLICA_RECORD : TORC_REPLICA_RESULT;
        if (event.kind == TORC_REPLICA_RECORD) {
            event.record = &result.record;
        } else {
            event.result = &result;
        }
    }
    torc_worker_replica_step(worker, shard, &event);
    replica_meet_all(worker, &shard->replica->machine);
    if (event.kind == TORC_REPLICA_WANT) {
        replica_tell_peers(worker, shard);
    }
}

// -- Turn -----------------------------------------------------------------------------------------

static void replica_read_leases(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_replica *machine = &shard->replica->machine;
    struct torc_council_leases leases;

    if (!machine->adopted ||
        !torc_council_read(worker->replicas.council, worker->index,
                           (uint32_t)(shard - worker->shards), &leases) ||
        leases.epoch != machine->epoch) {
        return;
    }
    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        if (leases.nodes[i] != 0) {
            torc_replica_lease(machine, leases.nodes[i], leases.leases[i]);
        }
    }
}

// With `durable` what is acknowledged waits for the disk.
static bool replica_needs_disk(const struct torc_worker *worker)
{
    return worker->replicas.count > 0 && worker->cluster.durability == TORC_DURABILITY_DURABLE;
}

static bool replica_disk_is_stalled(struct torc_worker *worker)
{
    struct torc_log_writer *log = &worker->log;
    bool served = worker->now_ns < log->owed_ns + TORC_LOG_LOOK_NS ||
                  worker->now_ns <
                      atomic_load_explicit(&worker->chan->control_turned_ns, memory_order_relaxed) +
                          CONTROL_AWAY_NS;

    return replica_needs_disk(worker) && torc_log_writer_look(log, worker->now_ns, served);
}

// This node's word on itself, gathered by worker 0.
static void replica_take_health(struct torc_worker *worker)
{
    struct torc_worker_replicas *replicas = &worker->replicas;
    uint32_t own = (worker->log.failed ? TORC_HEALTH_LOG_FAILED : 0u) |
                   (worker->log.disk_full ? TORC_HEALTH_DISK_FULL : 0u) |
                   (replica_disk_is_stalled(worker) ? TORC_HEALTH_STALLED : 0u) |
                   // Control is about to go: whoever can takes this node's primaries.
                   (worker->quiescing ? TORC_HEALTH_CONTROL_GONE : 0u);
    uint32_t doubt = replica_needs_disk(worker) && torc_log_writer_doubts(&worker->log)
                         ? TORC_HEALTH_STALLED // to this node's own replicas alone, as yet
                         : 0u;
    uint32_t health;
    struct torc_replica_event event = {.kind = TORC_REPLICA_HEALTH};

    atomic_store_explicit(&replicas->council->worker_health[worker->index], own,
                          memory_order_relaxed);
    health = own | doubt | atomic_load_explicit(&replicas->council->health, memory_order_relaxed);
    if (health != replicas->health) {
        replicas->health = health;
        event.health = (uint8_t)health;
        replica_each(worker, &event);
    }
}

void torc_worker_replicas_begin(struct torc_worker *worker)
{
    struct torc_worker_replicas *replicas = &worker->replicas;

    if (replicas->council == NULL || !worker->configured) {
        return;
    }
    for (uint32_t i = 0; i < NOTES_MAX && torc_spsc_readable(&replicas->down, 1) > 0; i++) {
        struct torc_council_note note;

        memcpy(&note, torc_spsc_read_at(&replicas->down, 0), sizeof(note));
        torc_spsc_release(&replicas->down, 1);
        replica_take_note(worker, &note);
    }
    if (replicas->count == 0) {
        if ((replicas->health & TORC_HEALTH_STALLED) != 0) {
            replica_take_health(worker); // nothing here waits for the disk any more
        }
        return;
    }
    replica_take_health(worker);
    torc_worker_replicas_durable(worker);
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        struct torc_worker_shard *shard = &worker->shards[i];

        if (shard->replica != NULL && shard->replica->live && replica_leads(shard->replica)) {
            replica_read_leases(worker, shard);
            replica_judge(worker, shard);
        }
    }
}

// False: the shard has more to send, and there is no room.
static bool replica_end(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;

    if (replica->adopt_owed || (!replica->machine.adopted && replica->machine.epoch != 0 &&
                                worker->now_ns >= replica->adopt_ns + ADOPT_AGAIN_NS)) {
        replica_say_adopt(worker, shard);
    }
    if (replica->claims_owed) {
        replica_say_claims(worker, shard);
    }
    torc_worker_replica_flush(worker, shard);
    torc_worker_replica_floor(worker, shard);
    torc_worker_base_turn(worker, shard);
    torc_worker_stale_turn(worker, shard);
    if (replica->touched || worker->now_ns >= replica->deadline_ns) {
        torc_worker_replica_step(worker, shard, NULL);
    }
    if (!replica->role_told) {
        replica_say_role(worker, shard);
    }
    return !torc_worker_replica_pump(worker, shard);
}

// All share the packets of a turn. Where they were not enough, the next turn begins behind the
// shard that had the last of them.
void torc_worker_replicas_end(struct torc_worker *worker)
{
    uint32_t count = worker->replicas.count > 0 ? worker->shard_count : 0;
    uint32_t first = worker->replicas.end_first;
    bool room = true;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (first + i) % count;
        struct torc_worker_shard *shard = &worker->shards[at];

        if (shard->replica != NULL && shard->replica->live && !replica_end(worker, shard)) {
            worker->replicas.end_first = room ? at + 1 : worker->replicas.end_first;
            room = false;
        }
    }
    worker->turn->more = !room || worker->turn->more;
}

uint64_t torc_worker_replicas_deadline_ns(const struct torc_worker *worker)
{
    uint64_t deadline_ns = UINT64_MAX;

    if (replica_needs_disk(worker) && torc_log_writer_in_flight(&worker->log) > 0) {
        deadline_ns = worker->now_ns + TORC_LOG_LOOK_NS;
    }
    for (uint32_t i = 0; i < worker->shard_count && worker->replicas.count > 0; i++) {
        const struct torc_worker_replica *replica = worker->shards[i].replica;

        if (replica != NULL && replica->live) {
            deadline_ns =
                torc_min_u64(deadline_ns, replica->touched ? worker->now_ns : replica->deadline_ns);
            deadline_ns = torc_min_u64(deadline_ns,
                                       torc_worker_stale_deadline_ns(worker, &worker->shards[i]));
        }
    }
    return deadline_ns;
}

bool torc_worker_replicas_idle(struct torc_worker *worker)
{
    return worker->replicas.council == NULL || torc_spsc_readable(&worker->replicas.down, 1) == 0;
}
