// Torc tests: shards on their way from where they lie to where they should, while nodes die and
// come back, swaps are late, lost or done twice, and who seems alive is old news.
//
// The world is one shard: its record, what each node holds of its writes, what is under way. Beside
// the steps of control/move.h it does what replicas do by themselves: the primary drops dead
// members, a member takes over from a dead primary, and the primary lets in whom the last hint told
// it to feed, one after the other. A write counts when all members have it and min_in_sync are
// there. One node may be ill: it seems alive, and never catches up. The oracle looks at the record
// after each swap.
#include "control/move.h"
#include "tests/torc_test.h"

#include <string.h>

enum {
    NODES = 12,
    LATE_MAX = 16,
    TURNS = 150, // of trouble
    CALM = 60,   // turns within which the end must be reached when nobody dies any more
#if defined(TORC_TEST_SANITIZED)
    WORLDS = 300,
#else
    WORLDS = 4000,
#endif
};

enum fault {
    FAULT_NONE,
    FAULT_REMOVE_BELOW,   // min_in_sync does not stop a removal
    FAULT_REMOVE_PRIMARY, // the primary goes like anybody
    FAULT_REMOVE_WISHED,
    FAULT_JOIN_UNREADY,
    FAULT_HEIR_OUTSIDE, // who is no member is made primary
    FAULT_TWO_AT_ONCE,  // more come than there is room for
    FAULT_NEVER_ENDS,   // the wished primary is not looked at
    FAULT_ONE_FED,      // whoever is fed is waited for
    FAULTS
};

struct late { // a swap under way
    uint32_t epoch;
    struct torc_shard_fields after;
    struct torc_want_fields want; // of then
    enum torc_move_kind kind;
    bool old; // by what was told before the last trouble
};

struct world {
    struct torc_rng rng;
    struct torc_shard_fields shard;
    struct torc_want_fields want;
    uint64_t min_in_sync;
    bool alive[NODES + 1];
    uint64_t seems[TORC_MOVE_WORDS];
    uint64_t held[NODES + 1]; // writes that the node has
    uint64_t written;         // writes that counted
    uint32_t ill;             // never catches up; 0: nobody
    bool calm;                // from the beginning
    struct torc_want_fields told;
    struct late late[LATE_MAX];
    uint32_t late_count;
    uint32_t swaps;
    enum fault fault;
    const char *broken;
};

static bool member(const struct torc_shard_fields *shard, uint64_t node)
{
    for (uint64_t i = 0; i < shard->insync.count; i++) {
        if (shard->insync.at[i].node == node) {
            return true;
        }
    }
    return false;
}

static bool wished(const struct torc_want_fields *want, uint64_t node)
{
    for (uint64_t i = 0; i < want->nodes.count; i++) {
        if (want->nodes.at[i] == node) {
            return true;
        }
    }
    return false;
}

static void look(struct world *w)
{
    memset(w->seems, 0, sizeof(w->seems));
    for (uint32_t node = 1; node <= NODES; node++) {
        w->seems[0] |= w->alive[node] ? UINT64_C(1) << node : 0;
    }
}

static void drop(struct torc_shard_fields *shard, uint64_t node)
{
    uint64_t kept = 0;

    for (uint64_t i = 0; i < shard->insync.count; i++) {
        if (shard->insync.at[i].node != node) {
            shard->insync.at[kept++] = shard->insync.at[i];
        }
    }
    shard->insync.count = kept;
}

// Who is to be where: a few of the nodes, in any order.
static uint64_t choose(struct world *w, uint64_t *nodes, uint64_t count)
{
    uint32_t all[NODES];

    for (uint32_t i = 0; i < NODES; i++) {
        uint32_t k = (uint32_t)torc_rng_below(&w->rng, i + UINT64_C(1));

        all[i] = all[k];
        all[k] = i + 1;
    }
    for (uint64_t i = 0; i < count; i++) {
        nodes[i] = all[i];
    }
    return count;
}

static void open_world(struct world *w, uint64_t seed, enum fault fault)
{
    uint64_t nodes[TORC_RECORD_MEMBERS_MAX];
    uint64_t replicas;
    uint64_t count;

    memset(w, 0, sizeof(*w));
    w->rng.state = seed;
    w->fault = fault;
    replicas = 1 + torc_rng_below(&w->rng, 7);
    w->min_in_sync = replicas <= 2 ? 1 : replicas / 2 + 1;
    count = choose(w, nodes, torc_max_u64(w->min_in_sync, 1 + torc_rng_below(&w->rng, 8)));
    w->shard = (struct torc_shard_fields){.hi = 10, .epoch = 1, .primary_node = nodes[0]};
    for (uint64_t i = 0; i < count; i++) {
        w->shard.insync.at[w->shard.insync.count++] = (struct torc_record_member){nodes[i], 1};
    }
    w->want.nodes.count = choose(w, w->want.nodes.at, replicas);
    if (torc_rng_chance(&w->rng, 800000)) {
        w->want.primary = w->want.nodes.at[torc_rng_below(&w->rng, replicas)];
    }
    for (uint32_t node = 1; node <= NODES; node++) {
        w->alive[node] = true;
    }
    w->ill = torc_rng_chance(&w->rng, 300000) ? 1 + (uint32_t)torc_rng_below(&w->rng, NODES) : 0;
    w->ill = member(&w->shard, w->ill) ? 0 : w->ill;
    look(w);
}

// -- The oracle ----------------------------------------------------------------------------------

static void blame(struct world *w, const char *what)
{
    w->broken = w->broken != NULL ? w->broken : what;
}

// After a swap that move.h asked for, from `before`.
static void check_swap(struct world *w, const struct torc_shard_fields *before,
                       const struct late *late)
{
    uint64_t target = torc_max_u64(w->min_in_sync, late->want.nodes.count);
    const struct torc_shard_fields *now = &w->shard;

    if (late->kind == TORC_MOVE_REMOVE && now->insync.count < w->min_in_sync) {
        blame(w, "min_in_sync undercut");
    }
    if (!member(now, now->primary_node)) {
        blame(w, "the primary is no member");
    }
    if (now->insync.count > before->insync.count && now->insync.count > target + 1 && !late->old) {
        blame(w, "too many at once");
    }
    for (uint64_t i = 0; i < before->insync.count; i++) {
        uint64_t node = before->insync.at[i].node;

        if (!member(now, node) && (wished(&late->want, node) || node == before->primary_node)) {
            blame(w, "who had to stay was removed");
        }
    }
    for (uint64_t i = 0; i < now->insync.count; i++) {
        if (w->held[now->insync.at[i].node] < w->written) {
            blame(w, "a member lacks a write");
        }
    }
}

// Where one cannot catch up, the end is this: the shard has as many members as it is to have, or
// all that are wished and can be fed (V6).
static bool at_the_end_but_one(const struct world *w)
{
    bool all = true;

    for (uint64_t i = 0; i < w->want.nodes.count; i++) {
        uint64_t node = w->want.nodes.at[i];

        all = all && (node == w->ill || member(&w->shard, node));
    }
    return all || w->shard.insync.count >= torc_max_u64(w->min_in_sync, w->want.nodes.count);
}

static bool at_the_end(const struct world *w)
{
    bool end = w->want.nodes.count >= w->min_in_sync ? w->shard.insync.count == w->want.nodes.count
                                                     : w->shard.insync.count == w->min_in_sync;

    for (uint64_t i = 0; i < w->want.nodes.count; i++) {
        end = end && member(&w->shard, w->want.nodes.at[i]);
    }
    return end && (w->want.primary == 0 ? wished(&w->want, w->shard.primary_node)
                                        : w->shard.primary_node == w->want.primary);
}

// -- What happens by itself ----------------------------------------------------------------------

static void write_one(struct world *w)
{
    bool all = w->shard.insync.count >= w->min_in_sync;

    for (uint64_t i = 0; i < w->shard.insync.count; i++) {
        all = all && w->alive[w->shard.insync.at[i].node];
    }
    if (!all) {
        return;
    }
    w->written++;
    for (uint64_t i = 0; i < w->shard.insync.count; i++) {
        w->held[w->shard.insync.at[i].node] = w->written;
    }
}

// Takeover and removal of dead members, by replicas, from the record as it is.
static void mend(struct world *w)
{
    for (uint64_t i = 0; i < w->shard.insync.count && !w->alive[w->shard.primary_node]; i++) {
        if (w->alive[w->shard.insync.at[i].node]) {
            w->shard.primary_node = w->shard.insync.at[i].node;
            w->shard.epoch++;
        }
    }
    if (!w->alive[w->shard.primary_node]) {
        return;
    }
    for (uint32_t node = 1; node <= NODES; node++) {
        if (member(&w->shard, node) && !w->alive[node]) {
            drop(&w->shard, node);
            w->shard.epoch++;
            return;
        }
    }
}

static void trouble(struct world *w)
{
    uint32_t node = 1 + (uint32_t)torc_rng_below(&w->rng, NODES);

    if (torc_rng_chance(&w->rng, 150000)) {
        w->alive[node] = !w->alive[node];
    }
    if (torc_rng_chance(&w->rng, 100000)) { // placement has changed its mind
        w->want.nodes.count = choose(w, w->want.nodes.at, w->want.nodes.count);
        w->want.primary = w->want.nodes.at[0];
    }
}

// -- Steps ---------------------------------------------------------------------------------------

static struct torc_move_step plant(struct world *w, struct torc_move_step step)
{
    const struct torc_record_members *insync = &w->shard.insync;
    uint64_t last = insync->at[insync->count - 1].node;

    switch (w->fault) {
    case FAULT_NONE:
    case FAULT_JOIN_UNREADY:
    case FAULT_TWO_AT_ONCE:
    case FAULT_ONE_FED:
    case FAULTS: break;
    case FAULT_REMOVE_BELOW:
        if (step.kind == TORC_MOVE_WAIT && last != w->shard.primary_node &&
            !wished(&w->want, last)) {
            step = (struct torc_move_step){.kind = TORC_MOVE_REMOVE, .node = (uint32_t)last};
        }
        break;
    case FAULT_REMOVE_PRIMARY:
        if (step.kind == TORC_MOVE_REMOVE) {
            step.node = (uint32_t)w->shard.primary_node;
        }
        break;
    case FAULT_REMOVE_WISHED:
        for (uint64_t i = 0; i < insync->count && step.kind == TORC_MOVE_REMOVE; i++) {
            step.node =
                wished(&w->want, insync->at[i].node) ? (uint32_t)insync->at[i].node : step.node;
        }
        break;
    case FAULT_HEIR_OUTSIDE:
        if (step.kind == TORC_MOVE_LEARN) {
            step.kind = TORC_MOVE_TRANSFER;
        }
        break;
    case FAULT_NEVER_ENDS:
        step.kind = step.kind == TORC_MOVE_TRANSFER ? TORC_MOVE_DONE : step.kind;
        break;
    }
    return step;
}

// What the primary is told, and what the faults make of it.
static void tell(struct world *w, const struct torc_move_view *view,
                 const struct torc_move_step *step)
{
    torc_move_hint(view, step, &w->told);
    if (w->fault == FAULT_ONE_FED && step->kind == TORC_MOVE_LEARN) {
        w->told.nodes.count = w->shard.insync.count + 1;
    }
    for (uint64_t i = 0; i < w->want.nodes.count && w->fault == FAULT_TWO_AT_ONCE; i++) {
        if (!wished(&w->told, w->want.nodes.at[i]) &&
            w->told.nodes.count < TORC_RECORD_MEMBERS_MAX) {
            w->told.nodes.at[w->told.nodes.count++] = w->want.nodes.at[i];
        }
    }
}

// V1: of those that seem alive.
static void check_step(struct world *w, const struct torc_move_step *step)
{
    uint64_t left = 0;

    for (uint64_t i = 0; i < w->shard.insync.count; i++) {
        uint64_t node = w->shard.insync.at[i].node;

        left += node != step->node && (w->seems[0] >> node & 1) != 0 ? 1 : 0;
    }
    if (step->kind == TORC_MOVE_REMOVE && left < w->min_in_sync) {
        blame(w, "too few living members left");
    }
}

static bool learns(const struct world *w, uint64_t node)
{
    return wished(&w->told, node) && !member(&w->shard, node);
}

// The first that the primary is to feed, and that has all; 0: nobody.
static uint32_t caught_up(const struct world *w)
{
    for (uint64_t i = 0; i < w->told.nodes.count; i++) {
        uint64_t node = w->told.nodes.at[i];

        if (learns(w, node) && (w->held[node] == w->written || w->fault == FAULT_JOIN_UNREADY)) {
            return (uint32_t)node;
        }
    }
    return 0;
}

// The record that a step leads to, as a replica makes it; false: none yet.
static bool after_step(const struct world *w, const struct torc_move_step *step,
                       struct torc_shard_fields *after)
{
    bool room = w->shard.insync.count < TORC_RECORD_MEMBERS_MAX;
    uint32_t joins = room && step->kind == TORC_MOVE_LEARN ? caught_up(w) : 0;

    *after = w->shard;
    after->epoch++;
    if (step->kind == TORC_MOVE_LEARN) {
        if (joins != 0) {
            after->insync.at[after->insync.count++] = (struct torc_record_member){joins, 1};
        }
        return joins != 0;
    }
    for (uint64_t i = 0; i < w->shard.insync.count; i++) {
        if (!wished(&w->told, w->shard.insync.at[i].node)) {
            drop(after, w->shard.insync.at[i].node);
        }
    }
    after->primary_node = w->told.primary;
    return true;
}

// The primary goes on with what it was told, before it is told anew.
static void go_on(struct world *w)
{
    struct torc_move_step step = {.kind = TORC_MOVE_LEARN};
    struct late *late = &w->late[w->late_count];

    if (w->shard.insync.count == 0 || w->late_count > 0) {
        return;
    }
    *late = (struct late){
        .epoch = (uint32_t)w->shard.epoch, .want = w->want, .kind = step.kind, .old = !w->calm};
    w->late_count += after_step(w, &step, &late->after) ? 1 : 0;
}

static void ask(struct world *w, bool calm)
{
    struct torc_move_view view = {
        .shard = &w->shard, .want = &w->want, .min_in_sync = w->min_in_sync};
    struct torc_move_step step;
    struct late *late = &w->late[w->late_count];

    if (w->shard.insync.count == 0) {
        return;
    }
    memcpy(view.alive, w->seems, sizeof(view.alive));
    step = plant(w, torc_move_next(&view));
    check_step(w, &step);
    tell(w, &view, &step);
    if (step.kind == TORC_MOVE_DONE || step.kind == TORC_MOVE_WAIT || w->late_count == LATE_MAX) {
        return;
    }
    if (step.kind == TORC_MOVE_TRANSFER && !w->alive[step.node]) {
        return; // X1: the receiver does that swap
    }
    *late = (struct late){.epoch = (uint32_t)w->shard.epoch, .want = w->want, .kind = step.kind};
    if (after_step(w, &step, &late->after) && (calm || torc_rng_chance(&w->rng, 900000))) {
        w->late_count++;
    }
    if (!calm && w->late_count < LATE_MAX && w->late_count > 0 &&
        torc_rng_chance(&w->rng, 200000)) { // asked twice
        w->late[w->late_count] = w->late[w->late_count - 1];
        w->late_count++;
    }
}

// A swap arrives, if it does; it counts when the epoch is still the one it expects. A joining
// member has the writes of its epoch from the request on (M2).
static void swap(struct world *w)
{
    uint32_t at = (uint32_t)torc_rng_below(&w->rng, torc_max_u64(w->late_count, 1));
    struct torc_shard_fields before = w->shard;
    struct late late;

    if (w->late_count == 0) {
        return;
    }
    late = w->late[at];
    w->late[at] = w->late[--w->late_count];
    if (late.epoch != w->shard.epoch) {
        return;
    }
    w->shard = late.after;
    w->swaps++;
    check_swap(w, &before, &late);
}

static void feed(struct world *w)
{
    for (uint32_t node = 1; node <= NODES && w->alive[w->shard.primary_node]; node++) {
        if (learns(w, node) && w->alive[node] && node != w->ill) {
            w->held[node] = w->held[w->shard.primary_node];
        }
    }
}

static void turn(struct world *w, bool calm)
{
    if (!calm) {
        trouble(w);
    }
    if (calm || torc_rng_chance(&w->rng, 400000)) {
        look(w);
    }
    mend(w);
    if (w->late_count == 0 && torc_rng_chance(&w->rng, 500000)) {
        write_one(w);
    }
    if (torc_rng_chance(&w->rng, 500000)) {
        go_on(w);
    }
    if (!calm || w->late_count == 0) {
        ask(w, calm);
    }
    if (calm || torc_rng_chance(&w->rng, 500000)) {
        feed(w);
    }
    if (calm || torc_rng_chance(&w->rng, 500000)) {
        swap(w);
    }
}

// Whether the end was reached, and nothing broke.
static bool run_world(uint64_t seed, enum fault fault, bool deaths)
{
    struct world w;
    uint32_t turns = 0;
    uint64_t moves;

    open_world(&w, seed, fault);
    w.calm = !deaths;
    moves = 2; // transfers
    for (uint64_t i = 0; i < w.shard.insync.count; i++) {
        moves += wished(&w.want, w.shard.insync.at[i].node) ? 0 : 1;
    }
    for (uint64_t i = 0; i < w.want.nodes.count; i++) {
        moves += member(&w.shard, w.want.nodes.at[i]) ? 0 : 1;
    }
    for (uint32_t i = 0; i < TURNS && deaths; i++) {
        turn(&w, false);
    }
    for (uint32_t node = 1; node <= NODES; node++) {
        w.alive[node] = true;
    }
    w.ill = member(&w.shard, w.ill) ? 0 : w.ill; // it was fed before
    while (!at_the_end(&w) && turns++ < CALM) {
        turn(&w, true);
    }
    if (!at_the_end(&w) && (w.ill == 0 || !at_the_end_but_one(&w))) {
        blame(&w, "the end is not reached");
    }
    if (!deaths && w.ill == 0 && w.swaps > moves) { // V4
        blame(&w, "more swaps than replicas to move");
    }
    if (w.broken != NULL && fault == FAULT_NONE) {
        (void)fprintf(stderr, "world %llu: %s\n", (unsigned long long)seed, w.broken);
    }
    return w.broken == NULL;
}

static bool run(enum fault fault)
{
    struct torc_rng rng = {torc_test_seed()};
    bool good = true;

    for (uint32_t i = 0; i < WORLDS && good; i++) {
        uint64_t seed = torc_rng_next(&rng);

        good = run_world(seed, fault, false) && run_world(seed, fault, true);
    }
    return good;
}

static void test_every_wish_is_reached(void)
{
    CU_ASSERT_TRUE(run(FAULT_NONE));
}

static void test_planted_faults_are_found(void)
{
    for (enum fault fault = FAULT_NONE + 1; fault < FAULTS; fault++) {
        if (run(fault)) {
            (void)fprintf(stderr, "fault %d is not found\n", (int)fault);
            CU_FAIL("a planted fault is not found");
        }
    }
}

struct place {
    struct torc_shard_fields shard;
    struct torc_want_fields want;
    struct torc_move_view view;
};

static void set_place(struct place *place, const char *insync, uint64_t primary, const char *want,
                      uint64_t wish, const char *dead)
{
    *place = (struct place){.shard = {.hi = 1, .epoch = 1, .primary_node = primary},
                            .want = {.primary = wish},
                            .view = {.shard = &place->shard, .want = &place->want}};
    place->view.min_in_sync = 2;
    place->view.alive[0] = UINT64_MAX;
    for (; *insync != '\0'; insync++) {
        place->shard.insync.at[place->shard.insync.count++].node = (uint64_t)(*insync - '0');
    }
    for (; *want != '\0'; want++) {
        place->want.nodes.at[place->want.nodes.count++] = (uint64_t)(*want - '0');
    }
    for (; *dead != '\0'; dead++) {
        place->view.alive[0] &= ~(UINT64_C(1) << (*dead - '0'));
    }
}

// Whom the primary is told to have or to feed.
static void test_hints(void)
{
    static const struct {
        const char *insync;
        const char *want;
        const char *dead;
        const char *hint;
    } places[] = {
        {"1", "132", "", "132"}, // 3 may be ill
        {"1", "132", "3", "12"},   {"12", "123", "", "123"},    {"123", "456", "", "1234"},
        {"12", "345", "", "1234"}, {"12", "1345", "", "12345"}, {"1", "234", "", "1234"},
        {"1", "1", "", "1"},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(places); i++) {
        struct place place;
        struct torc_move_step step;
        struct torc_want_fields hint;
        char text[TORC_RECORD_MEMBERS_MAX + 1] = "";

        set_place(&place, places[i].insync, 1, places[i].want, 1, places[i].dead);
        step = torc_move_next(&place.view);
        torc_move_hint(&place.view, &step, &hint);
        for (uint64_t k = 0; k < hint.nodes.count; k++) {
            text[k] = (char)('0' + hint.nodes.at[k]);
        }
        CU_ASSERT_STRING_EQUAL(text, places[i].hint);
    }
}

// What is asked for in a few places, and why not.
static void test_places(void)
{
    static const struct {
        const char *insync;
        uint64_t primary;
        const char *want;
        uint64_t wish;
        const char *dead;
        struct torc_move_step step;
    } places[] = {
        {"123", 1, "123", 1, "", {.kind = TORC_MOVE_DONE}},
        {"123", 1, "", 0, "", {.kind = TORC_MOVE_DONE}},
        {"123", 1, "123", 3, "", {.kind = TORC_MOVE_TRANSFER, .node = 3}},
        {"123", 1, "123", 3, "3", {.kind = TORC_MOVE_DONE}}, // later, when it is back
        {"123", 1, "124", 1, "", {.kind = TORC_MOVE_LEARN, .node = 4}},
        {"123", 1, "124", 1, "4", {.kind = TORC_MOVE_WAIT, .wait = TORC_MOVE_WAIT_NODES}},
        {"1234", 1, "124", 1, "", {.kind = TORC_MOVE_REMOVE, .node = 3}},
        {"1234", 1, "124", 1, "2", {.kind = TORC_MOVE_WAIT, .wait = TORC_MOVE_WAIT_MEMBERS}},
        {"1234", 1, "124", 1, "3", {.kind = TORC_MOVE_REMOVE, .node = 3}},
        {"1234", 1, "234", 2, "", {.kind = TORC_MOVE_TRANSFER, .node = 2}},
        {"1234", 1, "234", 2, "2", {.kind = TORC_MOVE_TRANSFER, .node = 3}},
        {"1234", 1, "234", 2, "1", {.kind = TORC_MOVE_WAIT, .wait = TORC_MOVE_WAIT_PRIMARY}},
        {"", 0, "234", 2, "", {.kind = TORC_MOVE_WAIT, .wait = TORC_MOVE_WAIT_PRIMARY}},
        {"12", 1, "3", 3, "", {.kind = TORC_MOVE_LEARN, .node = 3}}, // min_in_sync is 2
        {"13", 3, "3", 3, "", {.kind = TORC_MOVE_WAIT, .wait = TORC_MOVE_WAIT_MEMBERS}},
        {"12345678", 1, "9234567", 2, "", {.kind = TORC_MOVE_REMOVE, .node = 8}},
        {"12345678", 1, "92345678", 2, "", {.kind = TORC_MOVE_TRANSFER, .node = 2}},
        {"12345678", 2, "92345678", 2, "", {.kind = TORC_MOVE_REMOVE, .node = 1}},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(places); i++) {
        struct place place;
        struct torc_move_step step;

        set_place(&place, places[i].insync, places[i].primary, places[i].want, places[i].wish,
                  places[i].dead);
        step = torc_move_next(&place.view);
        if (step.kind != places[i].step.kind || step.node != places[i].step.node ||
            step.wait != places[i].step.wait) {
            (void)fprintf(stderr, "place %u: kind %d node %u wait %d\n", i, (int)step.kind,
                          step.node, (int)step.wait);
            CU_FAIL("another step");
        }
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every wish is reached, nothing is undercut", test_every_wish_is_reached},
        {"planted faults are found", test_planted_faults_are_found},
        {"single places", test_places},
        {"who is ill keeps nobody from being fed", test_hints},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("move", tests);
}
