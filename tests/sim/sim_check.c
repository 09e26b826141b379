// Torc simulator: the oracle of single keys: is there an order that explains what clients saw?
//
// What    Wing and Gong's search, one return at a time (Lowe, "Testing for linearizability", 2017):
//         a configuration is the state of the key and the set of operations under way that have
//         taken effect; when an operation returns, each configuration is extended by operations
//         under way until that one has taken effect. No configuration left: no order explains it.
//         Operations that change nothing (reads, failed conditions) take effect as soon as they
//         may. Writes with a known version take effect in the order of their versions, which leaves
//         hardly any choice; a write in doubt that somebody saw has a version too, and has happened
//         when the first who saw it returns. A write in doubt that nobody saw may take effect at
//         any moment after its call, or never: of those that are alike only their number counts.
// Memory  as much as there are operations; configurations are bounded (a key with more is counted
//         as skipped, which has not been seen).
// Eras    where a loss was accepted, what followed is a history of its own (sim_loss.c): it begins
//         with what the copy had, as a write of its own.
// Before  what needs no search: a value that nobody wrote or whose write was refused, one value
//         with two versions (executed twice), two writes with one version.
#include "tests/sim/sim.h"
#include "torc/torc.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS       64u
#define CONFIGS_MAX 4000u
#define HEADS       4096u // of chains of states that are alike but for what they used up
#define UNSEEN_MAX  2u    // in a row, of writes in doubt that nobody saw: more explain nothing more
#define CLASSES     6u    // of writes in doubt that nobody saw: put or delete, by condition
#define ABSENT      (-1)
#define UNSEEN      (-2) // a value that nobody saw

struct item {
    uint64_t call_ns;
    uint64_t end_ns; // UINT64_MAX: never
    uint64_t number;
    uint64_t version; // of a write: its own, 0 unknown; of a read: seen
    uint64_t if_version;
    uint64_t answered; // version of a write that may have been answered in another era
    uint32_t op;
    uint8_t kind;
    uint8_t status;
    uint8_t condition;
    bool doubt;
    bool is_write; // changes something, or may
};

struct state {
    uint64_t mask;  // of slots whose operation has taken effect
    uint64_t floor; // version of the last write whose version is known
    int32_t now;    // item, ABSENT or UNSEEN
    uint8_t used[CLASSES];
    uint8_t run;     // how many of these in a row
    uint8_t zero[5]; // states are compared as bytes
};

// Finds states of check->next: those of a chain came before in it. A head of another round is none.
struct chains {
    uint32_t round;
    uint32_t rounds[HEADS];
    uint16_t heads[HEADS];
    uint16_t links[CONFIGS_MAX];
};

struct key_check {
    struct item *items;
    uint32_t count;
    uint32_t shard;
    uint32_t era;
    const struct sim_row *row; // that the era began with; NULL: nothing
    int32_t slots[SLOTS];      // item, -1 free
    uint64_t reads;            // a bit for each slot of one that changes nothing
    uint64_t writes;
    struct chains *chains;
    uint8_t called[CLASSES];
    uint64_t *versions; // known ones of writes, rising: they take effect in this order, all of them
    uint32_t version_count;
    struct state *states;
    uint32_t state_count;
    struct state *next;
    uint32_t next_count;
    bool tangled;
};

// -- Gathering ------------------------------------------------------------------------------------

static bool op_is_doubt(const struct sim_op *op)
{
    return op->return_ns == 0 || torc_err_maybe_applied((enum torc_err)op->status);
}

static void items_add(struct key_check *check, const struct item *item)
{
    static uint32_t room;

    if (check->items == NULL) {
        room = 0;
    }
    if (check->count == room) {
        room = 2 * room + 256;
        check->items = realloc(check->items, room * sizeof(*check->items));
        torc_assert(check->items != NULL);
    }
    torc_assert(check->items != NULL);
    check->items[check->count++] = *item;
}

// A read that may be a little old is one that may have happened as long before its call. Its age
// was measured by a clock that is a little off.
static uint64_t op_from_ns(const struct sim_op *op)
{
    uint64_t age_ns = UINT64_C(1000) * op->age_us;

    age_ns += age_ns * 2 * sim->config.rho_ppm / 1000000;
    return op->call_ns - torc_min_u64(op->call_ns, age_ns);
}

static void gather_point(struct key_check *check, uint32_t index)
{
    const struct sim_op *op = &sim->ops[index];
    struct item item = {.call_ns = op_from_ns(op),
                        .end_ns = op->return_ns,
                        .number = op->number,
                        .version = op->version,
                        .if_version = op->if_version,
                        .op = index,
                        .kind = op->kind,
                        .status = op->status,
                        .condition = op->condition};
    bool answered = op->status == TORC_ERR_OK || op->status == TORC_ERR_NOT_FOUND ||
                    op->status == TORC_ERR_CONDITION_FAILED;

    struct sim_eras eras = sim_loss_eras(op, check->shard, item.call_ns);

    if (check->era < eras.first || check->era > eras.last) {
        return;
    }
    if (op->kind == SIM_OP_GET) {
        if (eras.first == eras.last && op->return_ns != 0 &&
            (op->status == TORC_ERR_OK || op->status == TORC_ERR_NOT_FOUND)) {
            items_add(check, &item);
        }
        return;
    }
    item.doubt = op_is_doubt(op);
    if (!item.doubt && !answered) {
        return; // refused: it never happened, and nobody may see it
    }
    item.doubt = item.doubt || eras.first != eras.last;
    if (item.doubt && check->row != NULL && op->kind == SIM_OP_PUT &&
        op->number == check->row->number) {
        return; // the era began with it
    }
    item.is_write = item.doubt || op->status == TORC_ERR_OK;
    if (item.doubt) {
        item.answered = op->status == TORC_ERR_OK && op->return_ns != 0 ? item.version : 0;
        item.end_ns = UINT64_MAX;
        item.version = 0;
    }
    items_add(check, &item);
}

// A range reads each key that it covers, present or absent. One as of an earlier moment does not
// read what is there now.
static void gather_range(struct key_check *check, uint32_t index, uint64_t key)
{
    const struct sim_op *op = &sim->ops[index];
    struct item item = {.call_ns = op_from_ns(op),
                        .end_ns = op->return_ns,
                        .op = index,
                        .kind = SIM_OP_GET,
                        .status = TORC_ERR_NOT_FOUND};
    bool reverse = (op->flags & TORC_REVERSE) != 0;
    uint64_t lo = op->more && reverse ? op->next_hi : op->lo;
    uint64_t hi = op->more && !reverse ? op->next_lo : op->hi;
    struct sim_eras eras = sim_loss_eras(op, check->shard, item.call_ns);

    if (op->past || eras.first != check->era || eras.last != check->era || key < lo || key >= hi ||
        op->status != TORC_ERR_OK || op->return_ns == 0) {
        return;
    }
    for (uint32_t i = 0; i < op->row_count; i++) {
        const struct sim_row *row = &sim->rows[op->row_first + i];

        if (row->key == key) {
            item.status = TORC_ERR_OK;
            item.number = row->number;
            item.version = row->version;
        }
    }
    items_add(check, &item);
}

static int item_by_call(const void *a, const void *b)
{
    const struct item *one = a;
    const struct item *two = b;

    if (one->call_ns != two->call_ns) {
        return one->call_ns < two->call_ns ? -1 : 1;
    }
    return one->op < two->op ? -1 : one->op > two->op;
}

static void gather(struct key_check *check, uint32_t place)
{
    if (check->row != NULL) {
        items_add(check, &(struct item){.end_ns = 1,
                                        .number = check->row->number,
                                        .version = check->row->version,
                                        .op = UINT32_MAX,
                                        .kind = SIM_OP_PUT,
                                        .status = TORC_ERR_OK,
                                        .is_write = true});
    }
    for (uint32_t i = 0; i < sim->op_count; i++) {
        if (sim->ops[i].kind == SIM_OP_RANGE) {
            gather_range(check, i, sim->keys[place]);
        } else if (sim->ops[i].kind < SIM_OP_RANGE && sim->ops[i].key == place) {
            gather_point(check, i);
        }
    }
    if (check->count > 0) {
        qsort(check->items, check->count, sizeof(*check->items), item_by_call);
    }
}

// -- What needs no search -------------------------------------------------------------------------

static struct item *writer_of(struct key_check *check, uint64_t number)
{
    for (uint32_t i = 0; i < check->count; i++) {
        struct item *item = &check->items[i];

        if (item->kind == SIM_OP_PUT && item->number == number) {
            return item;
        }
    }
    return NULL;
}

// Who wrote on the condition that a write had that version has seen it: if not itself in doubt.
static void learn_named(struct key_check *check)
{
    for (uint32_t i = 0; i < check->count && sim->loss_count > 0; i++) {
        struct item *write = &check->items[i];

        for (uint32_t at = 0; at < check->count && write->answered != 0; at++) {
            const struct item *next = &check->items[at];

            if (!next->is_write || next->condition != TORC_IF_VERSION ||
                next->if_version != write->answered) {
                continue;
            }
            if (next->doubt) {
                check->tangled = true;
                return;
            }
            write->version = write->answered;
            write->end_ns = torc_min_u64(write->end_ns, next->end_ns);
        }
    }
}

// Versions of writes in doubt, from those who saw them. False: an oracle has spoken.
static bool learn(struct key_check *check, uint64_t key)
{
    for (uint32_t i = 0; i < check->count; i++) {
        const struct item *read = &check->items[i];
        struct item *write;

        if (read->kind != SIM_OP_GET || read->status != TORC_ERR_OK || read->number == 0) {
            continue;
        }
        write = writer_of(check, read->number);
        if (write == NULL || !write->is_write) {
            sim_fail("key %" PRIu64 ": #%u saw value %" PRIu64 ", whose write %s", key,
                     (unsigned)read->op, read->number,
                     write == NULL ? "was refused, or is of another key" : "failed");
            return false;
        }
        if (write->version != 0 && write->version != read->version) {
            sim_fail("key %" PRIu64 ": value %" PRIu64 " (#%u) has version %" PRIx64 ", #%u saw it "
                     "as %" PRIx64 ": executed twice?",
                     key, read->number, (unsigned)write->op, write->version, (unsigned)read->op,
                     read->version);
            return false;
        }
        if (write->doubt) {
            sim_cover_add(SIM_COVER_CHECK_DOUBT_SEEN, write->version == 0 ? 1 : 0);
            write->version = read->version;
            write->end_ns = torc_min_u64(write->end_ns, read->end_ns);
        }
    }
    return true;
}

static int version_by_size(const void *a, const void *b)
{
    const uint64_t *one = a;
    const uint64_t *two = b;

    return *one < *two ? -1 : *one > *two;
}

// Puts them in order; false: two writes have one.
static bool versions_differ(struct key_check *check, uint64_t key)
{
    check->versions = calloc(check->count + 1, sizeof(*check->versions));
    torc_assert(check->versions != NULL);
    for (uint32_t i = 0; i < check->count; i++) {
        if (check->items[i].is_write && check->items[i].version != 0) {
            check->versions[check->version_count++] = check->items[i].version;
        }
    }
    qsort(check->versions, check->version_count, sizeof(*check->versions), version_by_size);
    for (uint32_t i = 1; i < check->version_count; i++) {
        if (check->versions[i] == check->versions[i - 1]) {
            sim_fail("key %" PRIu64 ": two writes have version %" PRIx64, key, check->versions[i]);
            return false;
        }
    }
    return true;
}

// -- The search -----------------------------------------------------------------------------------

static uint64_t state_version(const struct key_check *check, const struct state *state)
{
    return state->now >= 0 ? check->items[state->now].version : 0;
}

// Whether the record is as the condition says; UNSEEN has no version that anybody could name.
static bool condition_holds(const struct key_check *check, const struct state *state,
                            const struct item *item)
{
    switch ((enum torc_condition)item->condition) {
    case TORC_ALWAYS: break;
    case TORC_IF_ABSENT: return state->now == ABSENT;
    case TORC_IF_PRESENT: return state->now != ABSENT;
    case TORC_IF_VERSION:
        return state->now != ABSENT && state_version(check, state) == item->if_version;
    }
    return true;
}

// An operation that changes nothing: is this what it saw?
static bool read_holds(const struct key_check *check, const struct state *state,
                       const struct item *item)
{
    if (item->status == TORC_ERR_NOT_FOUND) {
        return state->now == ABSENT;
    }
    if (item->status == TORC_ERR_CONDITION_FAILED) {
        return !condition_holds(check, state, item);
    }
    if (item->number == 0) { // keys only
        return state->now == UNSEEN ||
               (state->now >= 0 && state_version(check, state) == item->version);
    }
    return state->now >= 0 && check->items[state->now].number == item->number;
}

// The known version that comes next.
static uint64_t version_after(const struct key_check *check, uint64_t floor)
{
    uint32_t lo = 0;
    uint32_t hi = check->version_count;

    while (lo < hi) {
        uint32_t middle = (lo + hi) / 2;

        if (check->versions[middle] <= floor) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    return lo < check->version_count ? check->versions[lo] : UINT64_MAX;
}

static bool write_holds(const struct key_check *check, const struct state *state,
                        const struct item *item)
{
    if (!condition_holds(check, state, item) ||
        (item->kind == SIM_OP_DELETE && state->now == ABSENT)) {
        return false;
    }
    return item->version == 0 || item->version == version_after(check, state->floor);
}

// Reads under way take effect as soon as they may.
static void state_reads(const struct key_check *check, struct state *state)
{
    for (uint64_t left = check->reads & ~state->mask; left != 0; left &= left - 1) {
        uint32_t slot = (uint32_t)__builtin_ctzll(left);

        if (read_holds(check, state, &check->items[check->slots[slot]])) {
            state->mask |= UINT64_C(1) << slot;
        }
    }
}

// The same, and no more of what is in doubt was used up: whatever follows from `b` does from `a`.
static bool state_covers(const struct state *a, const struct state *b)
{
    bool covers =
        a->mask == b->mask && a->floor == b->floor && a->now == b->now && a->run <= b->run;

    for (uint32_t class = 0; class < CLASSES && covers; class ++) {
        covers = a->used[class] <= b->used[class];
    }
    return covers;
}

// Whose state is covered differs in nothing else.
static uint32_t state_head(const struct state *state)
{
    uint64_t mixed = (state->mask ^ state->floor << 1) * UINT64_C(0xff51afd7ed558ccd) +
                     (uint64_t)(uint32_t)state->now * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t)(mixed >> 40) % HEADS;
}

static void states_add(struct key_check *check, const struct state *state)
{
    struct chains *chains = check->chains;
    uint32_t head = state_head(state);
    uint32_t first = chains->rounds[head] == chains->round ? chains->heads[head] : CONFIGS_MAX;

    for (uint32_t i = first; i < CONFIGS_MAX; i = chains->links[i]) {
        if (state_covers(&check->next[i], state)) {
            return;
        }
    }
    if (check->next_count == CONFIGS_MAX) {
        check->tangled = true;
        return;
    }
    chains->rounds[head] = chains->round;
    chains->heads[head] = (uint16_t)check->next_count;
    chains->links[check->next_count] = (uint16_t)first;
    check->next[check->next_count++] = *state;
}

static void state_write(const struct key_check *check, struct state *state, int32_t at,
                        const struct item *item)
{
    uint64_t before = state->mask;

    state->now = item->kind == SIM_OP_DELETE ? ABSENT : item->version != 0 ? at : UNSEEN;
    state->floor = torc_max_u64(state->floor, item->version);
    state_reads(check, state);
    state->run = item->version != 0 || state->mask != before ? 0 : state->run + 1;
}

static uint32_t item_class(const struct item *item)
{
    return (item->kind == SIM_OP_DELETE ? 3u : 0u) + item->condition;
}

// Nobody saw it, and only its kind matters.
static bool item_is_classed(const struct item *item)
{
    return item->doubt && item->version == 0 && item->condition != TORC_IF_VERSION;
}

// All that can take effect next from this state. Grows check->next behind `from`.
static void state_extend(struct key_check *check, const struct state *from)
{
    for (uint64_t left = check->writes & ~from->mask; left != 0; left &= left - 1) {
        uint32_t slot = (uint32_t)__builtin_ctzll(left);
        int32_t at = check->slots[slot];

        if (write_holds(check, from, &check->items[at])) {
            struct state state = *from;

            state.mask |= UINT64_C(1) << slot;
            state_write(check, &state, at, &check->items[at]);
            states_add(check, &state);
        }
    }
    for (uint32_t class = 0; class < CLASSES; class ++) {
        struct item like = {.kind = class < 3 ? SIM_OP_PUT : SIM_OP_DELETE,
                            .condition = (uint8_t)(class % 3)};

        if (from->run < UNSEEN_MAX && from->used[class] < check->called[class] &&
            write_holds(check, from, &like)) {
            struct state state = *from;

            state.used[class]++;
            state_write(check, &state, UNSEEN, &like);
            states_add(check, &state);
        }
    }
}

// The operation in this slot returns: every state must have it.
static bool check_return(struct key_check *check, uint32_t slot)
{
    uint64_t bit = UINT64_C(1) << slot;
    uint32_t kept = 0;

    check->next_count = 0;
    check->chains->round++;
    for (uint32_t i = 0; i < check->state_count; i++) {
        states_add(check, &check->states[i]);
    }
    for (uint32_t i = 0; i < check->next_count && !check->tangled; i++) {
        struct state state = check->next[i];

        if ((state.mask & bit) == 0) {
            state_extend(check, &state);
        } else {
            state.mask &= ~bit;
            check->states[kept++] = state;
        }
    }
    check->state_count = kept;
    check->slots[slot] = -1;
    check->reads &= ~bit;
    check->writes &= ~bit;
    return kept > 0 || check->tangled;
}

static void check_call(struct key_check *check, int32_t at)
{
    const struct item *item = &check->items[at];
    uint32_t slot = 0;

    if (item_is_classed(item)) {
        uint32_t class = item_class(item);

        if (check->called[class] < UINT8_MAX) {
            check->called[class]++;
        }
        return;
    }
    while (slot < SLOTS && check->slots[slot] >= 0) {
        slot++;
    }
    if (slot == SLOTS) {
        check->tangled = true;
        return;
    }
    check->slots[slot] = at;
    *(item->is_write ? &check->writes : &check->reads) |= UINT64_C(1) << slot;
    for (uint32_t i = 0; i < check->state_count; i++) {
        state_reads(check, &check->states[i]);
    }
}

// The slot whose operation returns first, before or at `until_ns`; SLOTS: none.
static uint32_t check_first(const struct key_check *check, uint64_t until_ns)
{
    uint32_t best = SLOTS;

    for (uint64_t left = check->reads | check->writes; left != 0; left &= left - 1) {
        uint32_t slot = (uint32_t)__builtin_ctzll(left);
        const struct item *item = &check->items[check->slots[slot]];

        if (item->end_ns != UINT64_MAX && item->end_ns < until_ns &&
            (best == SLOTS || item->end_ns < check->items[check->slots[best]].end_ns)) {
            best = slot;
        }
    }
    return best;
}

static bool check_returns(struct key_check *check, uint64_t until_ns, uint64_t key)
{
    for (uint32_t slot = check_first(check, until_ns); slot < SLOTS && !check->tangled;
         slot = check_first(check, until_ns)) {
        const struct item *item = &check->items[check->slots[slot]];

        if (!check_return(check, slot)) {
            sim_fail("key %" PRIu64 ": no order explains #%u (%s, value %" PRIu64
                     ", version %" PRIx64 ")",
                     key, (unsigned)item->op, torc_err_name((enum torc_err)item->status),
                     item->number, item->version);
            return false;
        }
    }
    return true;
}

static void check_key(uint32_t place, uint32_t shard, uint32_t era)
{
    static struct state states[2][CONFIGS_MAX + 1];
    static struct chains chains;
    struct key_check check = {.states = states[0],
                              .next = states[1],
                              .state_count = 1,
                              .chains = &chains,
                              .shard = shard,
                              .era = era};
    uint64_t key = sim->keys[place];

    if (era > 0) {
        check.row = sim_loss_row(shard, era, place);
        if (check.row == NULL) {
            return;
        }
        check.row = check.row->version != 0 ? check.row : NULL;
    }

    memset(&states[0][0], 0, sizeof(states[0][0]));
    states[0][0].now = ABSENT;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        check.slots[slot] = -1;
    }
    gather(&check, place);
    learn_named(&check);
    if (learn(&check, key) && versions_differ(&check, key)) {
        bool holds = true;

        for (uint32_t i = 0; i < check.count && holds && !check.tangled; i++) {
            holds = check_returns(&check, check.items[i].call_ns, key);
            if (holds) {
                check_call(&check, (int32_t)i);
            }
        }
        if (holds && !check.tangled) {
            (void)check_returns(&check, UINT64_MAX, key);
        }
    }
    sim_cover_add(SIM_COVER_CHECK_SKIPPED, check.tangled ? 1 : 0);
    free(check.versions);
    free(check.items);
}

void sim_check_keys(void)
{
    for (uint32_t i = 0; i < sim->config.keys && sim->result.failed == 0; i++) {
        uint32_t shard = sim_shard_of(sim->keys[i]);

        for (uint32_t era = 0; era < sim_loss_era_count(shard); era++) {
            check_key(i, shard, era);
        }
    }
}
