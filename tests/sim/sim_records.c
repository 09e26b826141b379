// Torc simulator: the metastore's records, and a control's way to them. See sim_records.h.
#include "tests/sim/sim_records.h"

#include "control/meta_wake.h"
#include "control/records.h"
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 64u
#define CHANGES     256u // that a watch may still ask for
#define DELAY_NS    (300 * SIM_US)
#define AWAY_NS     (20 * SIM_MS)

struct record {
    char key[TORC_META_KEY_MAX + 1];
    char *value; // NULL: there is none
    uint32_t value_bytes;
    uint64_t version;
};

struct change {
    uint64_t revision;
    uint32_t record;
};

struct watch {
    bool used;
    uint64_t ticket;
    uint64_t next_revision;
    char prefix[TORC_META_KEY_MAX + 1];
    struct torc_meta_wake wake;
};

// An answer and its records, in one piece.
struct ready {
    struct ready *next;
    bool hidden; // its outcome stays unknown
    struct torc_meta_answer answer;
    struct torc_meta_record records[TORC_META_OPS_MAX];
};

struct handle {
    struct torc_metastore base;
    uint32_t node; // index
    uint64_t life;
    struct ready *first;
    struct ready **last;
    struct ready *taken;
    struct watch watches[TORC_META_WATCHES_MAX];
    struct torc_meta_woken woken;
};

// A request on its way.
struct meta_event {
    struct torc_meta_request *request;
    uint32_t node;
    uint64_t life;
    bool applies; // at its event; else only its answer comes
    bool answers;
    enum torc_err err; // that is answered, whatever happened
};

struct sim_records {
    struct record records[RECORDS_MAX];
    uint32_t record_count;
    struct change changes[CHANGES];
    uint64_t change_count;
    struct handle *handles[SIM_NODES_MAX];
    uint64_t lives;
};

static struct sim_records *all(void)
{
    return sim->meta.records;
}

void sim_records_init(void)
{
    sim->meta = (struct sim_meta){.revision = 1, .delay_ns = DELAY_NS};
    sim->meta.records = sim_memory(sizeof(struct sim_records));
}

// -- The records ----------------------------------------------------------------------------------

static struct record *record_of(const char *key, bool make)
{
    struct sim_records *it = all();

    for (uint32_t i = 0; i < it->record_count; i++) {
        if (strcmp(it->records[i].key, key) == 0) {
            return it->records + i;
        }
    }
    if (!make) {
        return NULL;
    }
    torc_assert(it->record_count < RECORDS_MAX && strlen(key) <= TORC_META_KEY_MAX);
    memcpy(it->records[it->record_count].key, key, strlen(key) + 1);
    return it->records + it->record_count++;
}

static void record_write(struct record *record, const void *value, uint32_t value_bytes)
{
    struct sim_records *it = all();

    free(record->value);
    record->value = NULL;
    record->value_bytes = value_bytes;
    if (value != NULL) {
        record->value = malloc(value_bytes + 1);
        torc_assert(record->value != NULL);
        memcpy(record->value, value, value_bytes);
        record->value[value_bytes] = 0;
    }
    record->version = sim->meta.revision;
    it->changes[it->change_count++ % CHANGES] =
        (struct change){.revision = sim->meta.revision, .record = (uint32_t)(record - it->records)};
}

static void watches_tell(void);

static bool is_away(uint32_t node)
{
    return sim->meta.away || sim->now_ns < sim->meta.away_ns[node];
}

void sim_records_put(const char *key, const char *value)
{
    sim->meta.revision++;
    record_write(record_of(key, true), value, (uint32_t)strlen(value));
    watches_tell();
}

const char *sim_records_get(const char *key)
{
    const struct record *record = record_of(key, false);

    return record != NULL ? record->value : NULL;
}

// -- What a request does, at its moment -----------------------------------------------------------

static void ready_add(struct ready *ready, const struct record *record)
{
    struct torc_meta_answer *answer = &ready->answer;
    char *text = malloc((uint64_t)record->value_bytes + 1); // a run's process is short-lived

    torc_assert(text != NULL && answer->record_count < TORC_META_OPS_MAX);
    memcpy(text, record->value, (uint64_t)record->value_bytes + 1);
    ready->records[answer->record_count++] =
        (struct torc_meta_record){.key = record->key,
                                  .value = text,
                                  .value_bytes = record->value_bytes,
                                  .version = record->version};
}

static int by_key(const void *a, const void *b)
{
    const struct torc_meta_record *left = a;
    const struct torc_meta_record *right = b;

    return strcmp(left->key, right->key);
}

static void run_list(const struct torc_meta_request *request, struct ready *ready)
{
    const struct sim_records *it = all();

    for (uint32_t i = 0; i < it->record_count; i++) {
        if (it->records[i].value != NULL &&
            strncmp(it->records[i].key, request->key, strlen(request->key)) == 0) {
            ready_add(ready, it->records + i);
        }
    }
    torc_assert(ready->answer.record_count <= request->record_max);
    qsort(ready->records, ready->answer.record_count, sizeof(ready->records[0]), by_key);
}

static bool op_holds(const struct torc_meta_op *op)
{
    const struct record *record = record_of(op->key, false);
    uint64_t version = record != NULL && record->value != NULL ? record->version : TORC_META_ABSENT;

    return op->expected == TORC_META_ANY || op->expected == version;
}

static void run_txn(const struct torc_meta_request *request, struct ready *ready)
{
    bool holds = true;
    uint64_t shard;

    for (uint32_t i = 0; i < request->op_count; i++) {
        holds = holds && op_holds(request->ops + i);
    }
    if (!holds) {
        sim_cover(SIM_COVER_META_CONFLICT);
        ready->answer.err = torc_fail(&ready->answer.why, TORC_ERR_CONDITION_FAILED,
                                      "a record is another than expected");
        for (uint32_t i = 0; i < request->op_count; i++) {
            const struct record *record = record_of(request->ops[i].key, false);

            if (record != NULL && record->value != NULL) {
                ready_add(ready, record);
            }
        }
        return;
    }
    if (sim_has(SIM_CLASS_PLACE)) {
        sim_place_txn(request);
    }
    sim->meta.revision++;
    for (uint32_t i = 0; i < request->op_count; i++) {
        const struct torc_meta_op *op = request->ops + i;
        struct record *record = op->kind != TORC_META_CHECK ? record_of(op->key, true) : NULL;

        if (record != NULL) {
            bool is_shard = torc_record_id(op->key, "shard", &shard);

            if (is_shard) {
                sim_calm_swapped((uint32_t)shard, record->value, record->value_bytes, op->value,
                                 op->value_bytes);
                sim_loss_swapped((uint32_t)shard, record->value, record->value_bytes, op->value,
                                 op->value_bytes);
                ready->hidden = ready->hidden || sim_plan_hides((uint32_t)shard);
            }
            record_write(record, op->kind == TORC_META_PUT ? op->value : NULL, op->value_bytes);
            if (is_shard) {
                sim_post(sim->now_ns, SIM_EVENT_MEND, SIM_MEND_STRIKE, (uint32_t)shard, NULL);
            }
        }
    }
    watches_tell();
}

static void run(const struct torc_meta_request *request, struct ready *ready)
{
    const struct record *record;

    switch (request->verb) {
    case TORC_META_GET:
        record = record_of(request->key, false);
        if (record == NULL || record->value == NULL) {
            ready->answer.err = torc_fail(&ready->answer.why, TORC_ERR_NOT_FOUND,
                                          "there is no record %s", request->key);
        } else {
            ready_add(ready, record);
        }
        break;
    case TORC_META_LIST: run_list(request, ready); break;
    case TORC_META_TXN: run_txn(request, ready); break;
    case TORC_META_WATCH: torc_unreachable("a watch is not sent");
    }
    ready->answer.revision = sim->meta.revision;
}

// -- Watches: they come late, and may come very late ----------------------------------------------

static void watches_tell(void)
{
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        struct handle *handle = all()->handles[i];

        if (handle != NULL && handle->base.watch_count > 0) {
            struct meta_event *event = calloc(1, sizeof(*event));
            uint64_t delay_ns = torc_rng_below(&sim->rng, 4 * sim->meta.delay_ns);

            torc_assert(event != NULL);
            *event = (struct meta_event){.node = i, .life = handle->life};
            sim_post(sim->now_ns + delay_ns, SIM_EVENT_META, i, 0, event);
        }
    }
}

static void watch_look(struct watch *watch)
{
    const struct sim_records *it = all();
    uint64_t from = it->change_count > CHANGES ? it->change_count - CHANGES : 0;

    if (from > 0 && it->changes[from % CHANGES].revision > watch->next_revision) {
        torc_meta_wake_gap(&watch->wake, sim->meta.revision);
    }
    for (uint64_t i = from; i < it->change_count; i++) {
        const struct change *change = it->changes + i % CHANGES;
        const struct record *record = it->records + change->record;

        if (change->revision >= watch->next_revision &&
            strncmp(record->key, watch->prefix, strlen(watch->prefix)) == 0) {
            torc_meta_wake_add(&watch->wake, record->key, change->revision);
        }
    }
    watch->next_revision = sim->meta.revision + 1;
}

static void watches_look(struct handle *handle)
{
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (handle->watches[i].used) {
            watch_look(handle->watches + i);
        }
    }
}

// -- Events ---------------------------------------------------------------------------------------

static struct handle *handle_of(const struct meta_event *event)
{
    struct handle *handle = all()->handles[event->node];

    return handle != NULL && handle->life == event->life ? handle : NULL;
}

void sim_records_event(struct sim_event *due)
{
    struct meta_event *event = due->what;
    struct handle *handle = handle_of(event);
    struct ready *ready;

    if (event->request == NULL) {
        if (handle != NULL && !is_away(event->node)) {
            watches_look(handle);
        } else if (handle != NULL) { // told when it is back
            sim_post(sim->now_ns + AWAY_NS, SIM_EVENT_META, event->node, 0, event);
            return;
        }
    } else {
        ready = calloc(1, sizeof(*ready));
        torc_assert(ready != NULL);
        ready->answer = (struct torc_meta_answer){.ticket = event->request->ticket,
                                                  .verb = event->request->verb,
                                                  .known_revision = event->request->known_revision,
                                                  .records = ready->records};
        if (event->applies) {
            run(event->request, ready);
        }
        event->err = ready->hidden ? TORC_ERR_IN_DOUBT : event->err;
        if (event->err != TORC_ERR_OK) {
            ready->answer.record_count = 0;
            ready->answer.err = torc_fail(&ready->answer.why, event->err, "the metastore is away");
        }
        if (handle != NULL && event->answers) {
            *handle->last = ready;
            handle->last = &ready->next;
        } else {
            free(ready);
        }
        free(event->request);
    }
    free(event);
    if (handle != NULL) {
        sim_control_wake(sim_node_of(handle->node), sim->now_ns);
    }
}

// -- A control's end ------------------------------------------------------------------------------

static void post(const struct meta_event *event, uint64_t delay_ns)
{
    struct meta_event *copy = malloc(sizeof(*copy));

    torc_assert(copy != NULL);
    *copy = *event;
    sim_post(sim->now_ns + delay_ns, SIM_EVENT_META, event->node, 0, copy);
}

static struct torc_meta_request *pack(const struct torc_meta_request *request)
{
    void *memory = malloc(torc_meta_request_bytes(request));

    torc_assert(memory != NULL);
    return torc_meta_request_pack(request, memory);
}

static void store_watch(struct handle *handle, const struct torc_meta_request *request)
{
    struct watch *watch = handle->watches;

    while (watch->used) {
        watch++;
    }
    torc_assert(watch < handle->watches + TORC_META_WATCHES_MAX);
    *watch = (struct watch){
        .used = true, .ticket = request->ticket, .next_revision = request->from_revision};
    memcpy(watch->prefix, request->key, strlen(request->key) + 1);
    watch_look(watch);
}

static void store_submit(struct torc_metastore *store, const struct torc_meta_request *request,
                         uint64_t now_ns)
{
    struct handle *handle = (struct handle *)store;
    bool unknown = !sim->quiet && sim->config.unknown_ppm > 0 &&
                   torc_rng_chance(&sim->rng, sim->config.unknown_ppm);
    struct meta_event event = {.node = handle->node, .life = handle->life, .answers = true};
    uint64_t delay_ns = DELAY_NS / 2 + torc_rng_below(&sim->rng, 2 * sim->meta.delay_ns);

    (void)now_ns;
    if (request->verb == TORC_META_WATCH) {
        store_watch(handle, request);
        return;
    }
    event.request = pack(request);
    if (is_away(handle->node)) {
        event.err = TORC_ERR_UNAVAILABLE;
        post(&event, AWAY_NS);
    } else if (!unknown || request->verb != TORC_META_TXN) {
        event.applies = true;
        post(&event, delay_ns);
    } else {
        // The answer says nothing; the swap happens never, before it or long after it.
        sim_cover(SIM_COVER_META_UNKNOWN);
        event.err = TORC_ERR_IN_DOUBT;
        post(&event, 2 * delay_ns);
        if (torc_rng_chance(&sim->rng, 600000)) {
            event.request = pack(request);
            event.applies = true;
            event.answers = false;
            post(&event, torc_rng_below(&sim->rng, 4 * delay_ns));
            sim_cover(SIM_COVER_META_UNKNOWN_DONE);
        }
    }
}

static void store_unwatch(struct torc_metastore *store, uint64_t ticket)
{
    struct handle *handle = (struct handle *)store;

    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (handle->watches[i].used && handle->watches[i].ticket == ticket) {
            handle->watches[i].used = false;
        }
    }
}

static void store_step(struct torc_metastore *store, uint64_t now_ns)
{
    (void)store;
    (void)now_ns;
}

static bool store_take(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    struct handle *handle = (struct handle *)store;
    struct ready *ready = handle->first;

    free(handle->taken);
    handle->taken = NULL;
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        struct watch *watch = handle->watches + i;

        if (watch->used &&
            torc_meta_wake_take(&watch->wake, &handle->woken, watch->ticket, answer)) {
            return true;
        }
    }
    if (ready == NULL) {
        return false;
    }
    handle->first = ready->next;
    handle->last = handle->first == NULL ? &handle->first : handle->last;
    handle->taken = ready;
    *answer = ready->answer;
    return true;
}

static uint64_t store_deadline_ns(struct torc_metastore *store)
{
    (void)store;
    return UINT64_MAX; // whoever waits is woken by the event
}

static int store_fd(const struct torc_metastore *store)
{
    (void)store;
    return -1;
}

static void store_close(struct torc_metastore *store)
{
    struct handle *handle = (struct handle *)store;

    all()->handles[handle->node] = NULL;
    free(handle);
}

static const struct torc_metastore_code store_code = {.name = "simulated",
                                                      .submit = store_submit,
                                                      .unwatch = store_unwatch,
                                                      .step = store_step,
                                                      .take = store_take,
                                                      .deadline_ns = store_deadline_ns,
                                                      .fd = store_fd,
                                                      .close = store_close};

struct torc_metastore *sim_records_open(uint32_t node)
{
    struct handle *handle = calloc(1, sizeof(*handle));

    torc_assert(handle != NULL);
    handle->base.code = &store_code;
    handle->node = node;
    handle->life = ++all()->lives;
    handle->last = &handle->first;
    if (all()->handles[node] != NULL) { // of a control that died
        store_close(&all()->handles[node]->base);
    }
    all()->handles[node] = handle;
    return &handle->base;
}
