// Torc tests: a metastore in memory for placement's leaders. See leader_store.h.
#include "tests/model/leader_store.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

static const char *const families[STORE_FAMILIES] = {"placement", "node", "shard", "want"};

void store_blame(struct store *store, const char *what)
{
    store->broken = store->broken != NULL ? store->broken : what;
}

static struct store_record *records_of(struct store *store, enum store_family family,
                                       uint32_t *count)
{
    *count = family == STORE_PLACEMENT ? 1 : family == STORE_NODE ? STORE_NODES : STORE_SHARDS;
    switch (family) {
    case STORE_PLACEMENT: return &store->placement;
    case STORE_NODE: return store->nodes + 1;
    case STORE_SHARD: return store->shards + 1;
    case STORE_WANT: return store->wants + 1;
    case STORE_FAMILIES: break;
    }
    torc_unreachable("no such family");
}

static enum store_family family_of(const char *key)
{
    for (enum store_family family = STORE_PLACEMENT; family < STORE_FAMILIES; family++) {
        if (strncmp(key, families[family], strlen(families[family])) == 0) {
            return family;
        }
    }
    torc_unreachable("no such name");
}

static struct store_record *find(struct store *store, const char *key)
{
    enum store_family family = family_of(key);
    uint32_t count;
    struct store_record *records = records_of(store, family, &count);
    uint64_t id = 1;

    torc_assert(family == STORE_PLACEMENT || torc_record_id(key, families[family], &id));
    torc_assert(id > 0 && id <= count);
    return &records[id - 1];
}

static void write_record(struct store *store, struct store_record *record, const char *key,
                         const void *value, uint32_t value_bytes)
{
    torc_assert(value_bytes <= STORE_VALUE);
    (void)snprintf(record->key, sizeof(record->key), "%s", key);
    memcpy(record->value, value, value_bytes);
    record->value_bytes = value_bytes;
    record->version = store->revision;
}

void store_put(struct store *store, enum store_family family, uint64_t id, enum torc_record kind,
               const void *fields)
{
    char key[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    torc_record_name(key, families[family], id);
    store->revision++;
    if (fields == NULL) {
        find(store, key)->version = 0;
    } else {
        write_record(store, find(store, key), key, text, torc_record_encode(kind, fields, text));
    }
}

bool store_get(const struct store *store, enum store_family family, uint64_t id,
               enum torc_record kind, void *fields)
{
    const struct store_record *record = family == STORE_PLACEMENT ? &store->placement
                                        : family == STORE_NODE    ? &store->nodes[id]
                                        : family == STORE_SHARD   ? &store->shards[id]
                                                                  : &store->wants[id];

    return record->version != 0 && torc_record_decode(kind, fields, record->value,
                                                      record->value_bytes, NULL) == TORC_ERR_OK;
}

// -- Transactions --------------------------------------------------------------------------------

static bool conditions_hold(struct store *store, const struct torc_meta_request *request)
{
    for (uint32_t i = 0; i < request->op_count; i++) {
        uint64_t version = find(store, request->ops[i].key)->version;

        if (request->ops[i].expected != TORC_META_ANY && request->ops[i].expected != version &&
            (store->fault != STORE_FAULT_UNFENCED || i > 0)) {
            return false;
        }
    }
    return true;
}

// D2: the record `placement` says that the writer leads, in a term that is its own.
static void look_at_leader(struct store *store, const struct torc_meta_request *request,
                           uint32_t client)
{
    struct torc_placement_fields before = {0};
    struct torc_placement_fields now = {0};
    const struct torc_meta_op *op = request->ops;

    (void)store_get(store, STORE_PLACEMENT, 0, TORC_RECORD_PLACEMENT, &before);
    if (strcmp(op->key, "placement") != 0 ||
        torc_record_decode(TORC_RECORD_PLACEMENT, &now, op->value, op->value_bytes, NULL) !=
            TORC_ERR_OK) {
        store_blame(store, "a transaction without the leader's record");
        return;
    }
    torc_assert(now.term < STORE_TERMS);
    if (now.leader != client + 1 || now.term < before.term || now.term > before.term + 1 ||
        now.beat <= before.beat ||
        (store->leaders[now.term] != 0 && store->leaders[now.term] != client + 1)) {
        store_blame(store, "two lead");
    }
    store->leaders[now.term] = client + 1;
}

// D1, of a node's record.
static void look_at_node(struct store *store, const struct torc_meta_op *op)
{
    struct torc_node_fields before;
    struct torc_node_fields now;
    const struct store_record *record = find(store, op->key);

    if (torc_record_decode(TORC_RECORD_NODE, &before, record->value, record->value_bytes, NULL) !=
            TORC_ERR_OK ||
        torc_record_decode(TORC_RECORD_NODE, &now, op->value, op->value_bytes, NULL) !=
            TORC_ERR_OK) {
        store_blame(store, "a node's record that makes no sense");
        return;
    }
    if (before.slot != 0 || now.slot == 0) {
        store_blame(store, "a node's place on the ring is changed");
    }
    before.zone = now.zone;
    before.slot = now.slot;
    before.nonce = now.nonce;
    if (memcmp(&before, &now, sizeof(now)) != 0) {
        store_blame(store, "more of a node than its place is changed");
    }
}

static bool wishes(const struct torc_want_fields *want, uint64_t node)
{
    for (uint64_t i = 0; i < want->nodes.count; i++) {
        if (want->nodes.at[i] == node) {
            return true;
        }
    }
    return false;
}

static void look_at_want(struct store *store, const struct torc_meta_op *op)
{
    struct torc_want_fields before = {0};
    struct torc_want_fields now;
    const struct store_record *record = find(store, op->key);

    if (torc_record_decode(TORC_RECORD_WANT, &now, op->value, op->value_bytes, NULL) !=
            TORC_ERR_OK ||
        now.nodes.count == 0 || now.primary != now.nodes.at[0]) {
        store_blame(store, "a wish that makes no sense");
        return;
    }
    if (record->version != 0) {
        TORC_TEST_OK(
            torc_record_decode(TORC_RECORD_WANT, &before, record->value, record->value_bytes, NULL),
            NULL);
    }
    for (uint64_t i = 0; i < now.nodes.count && record->version != 0; i++) {
        store->arrived += wishes(&before, now.nodes.at[i]) ? 0 : 1;
    }
    store->wants_written++;
}

static void look(struct store *store, const struct torc_meta_request *request, uint32_t client)
{
    look_at_leader(store, request, client);
    if (request->op_count > 1 + TORC_LEADER_WANTS_MAX) {
        store_blame(store, "more than 64 wishes in one transaction");
    }
    for (uint32_t i = 1; i < request->op_count; i++) {
        const struct torc_meta_op *op = &request->ops[i];

        if (family_of(op->key) == STORE_NODE && op->kind == TORC_META_PUT &&
            op->expected != TORC_META_ANY) {
            look_at_node(store, op);
        } else if (family_of(op->key) == STORE_WANT && op->kind == TORC_META_PUT) {
            look_at_want(store, op);
        } else if (family_of(op->key) != STORE_WANT) {
            store_blame(store, "a record that is not placement's");
        }
    }
}

static enum torc_err transact(struct store *store, const struct torc_meta_request *request,
                              uint32_t client)
{
    if (!conditions_hold(store, request)) {
        return TORC_ERR_CONDITION_FAILED;
    }
    for (uint32_t i = 1; i < request->op_count && store->full; i++) {
        uint64_t id;

        if (torc_record_id(request->ops[i].key, "want", &id) && id % 2 == 1) {
            return TORC_ERR_NO_SPACE;
        }
    }
    look(store, request, client);
    store->revision++;
    store->txns++;
    for (uint32_t i = 0; i < request->op_count; i++) {
        const struct torc_meta_op *op = &request->ops[i];
        struct store_record *record = find(store, op->key);

        if (store->fault == STORE_FAULT_HALF && i > 1 && i > request->op_count / 2) {
            break;
        }
        if (op->kind == TORC_META_DELETE) {
            record->version = 0;
        } else {
            write_record(store, record, op->key, op->value, op->value_bytes);
        }
    }
    return TORC_ERR_OK;
}

// -- Requests ------------------------------------------------------------------------------------

static struct torc_meta_request *pack(const struct torc_meta_request *request)
{
    void *memory = malloc(torc_meta_request_bytes(request));

    torc_assert(memory != NULL);
    return torc_meta_request_pack(request, memory);
}

void store_submit(struct store *store, uint32_t client, const struct torc_meta_request *request)
{
    struct store_call *call = &store->calls[client];
    uint64_t slow_ns = store->trouble && torc_rng_chance(&store->rng, 100000) ? 800 * MS : 6 * MS;

    torc_assert(!call->busy);
    call->busy = true;
    call->done = false;
    call->doubt =
        store->trouble && request->verb == TORC_META_TXN && torc_rng_chance(&store->rng, 150000);
    call->err =
        store->trouble && torc_rng_chance(&store->rng, 100000) ? TORC_ERR_UNAVAILABLE : TORC_ERR_OK;
    call->request = pack(request);
    call->effect_ns = store->now_ns + 1 + torc_rng_below(&store->rng, slow_ns);
    call->answer_ns = call->effect_ns + 1 + torc_rng_below(&store->rng, slow_ns);
}

static void copy_record(struct store_call *call, const struct store_record *from)
{
    uint32_t at = call->answer.record_count++;

    torc_assert(at <= STORE_SHARDS);
    call->copies[at] = *from;
    call->copies[at].value[from->value_bytes] = '\0';
    call->records[at] = (struct torc_meta_record){.key = call->copies[at].key,
                                                  .value = call->copies[at].value,
                                                  .value_bytes = from->value_bytes,
                                                  .version = from->version};
}

// A transaction in doubt happens now, later or never.
static void take_effect_in_doubt(struct store *store, uint32_t client)
{
    struct store_call *call = &store->calls[client];

    call->answer.err = TORC_ERR_IN_DOUBT;
    if (torc_rng_chance(&store->rng, 300000)) {
        (void)transact(store, call->request, client);
    } else if (store->late_count < STORE_LATE && torc_rng_chance(&store->rng, 500000)) {
        store->late[store->late_count++] =
            (struct store_late){.request = pack(call->request),
                                .effect_ns = store->now_ns + torc_rng_below(&store->rng, 3000 * MS),
                                .client = client};
    }
}

static void take_effect(struct store *store, uint32_t client)
{
    struct store_call *call = &store->calls[client];
    const struct torc_meta_request *request = call->request;

    call->done = true;
    call->answer = (struct torc_meta_answer){.ticket = request->ticket,
                                             .verb = request->verb,
                                             .err = call->err,
                                             .records = call->records};
    if (call->err != TORC_ERR_OK) {
        return;
    }
    if (request->verb == TORC_META_TXN && call->doubt) {
        take_effect_in_doubt(store, client);
        return;
    }
    if (request->verb == TORC_META_TXN) {
        call->answer.err = transact(store, request, client);
        for (uint32_t i = 0; call->answer.err == TORC_ERR_CONDITION_FAILED && i < request->op_count;
             i++) {
            if (find(store, request->ops[i].key)->version != 0) {
                copy_record(call, find(store, request->ops[i].key));
            }
        }
    } else if (request->verb == TORC_META_GET) {
        call->answer.err =
            find(store, request->key)->version != 0 ? TORC_ERR_OK : TORC_ERR_NOT_FOUND;
        if (call->answer.err == TORC_ERR_OK) {
            copy_record(call, find(store, request->key));
        }
    } else {
        uint32_t count;
        const struct store_record *records = records_of(store, family_of(request->key), &count);

        for (uint32_t i = 0; i < count; i++) {
            if (records[i].version != 0) {
                copy_record(call, &records[i]);
            }
        }
        call->answer.record_count -=
            store->fault == STORE_FAULT_BLIND && call->answer.record_count > 0 ? 1 : 0;
    }
    call->answer.revision = store->revision;
}

void store_step(struct store *store)
{
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        struct store_call *call = &store->calls[i];

        if (call->busy && !call->done && store->now_ns >= call->effect_ns) {
            take_effect(store, i);
        }
    }
    for (uint32_t i = 0; i < store->late_count; i++) {
        if (store->now_ns >= store->late[i].effect_ns) {
            (void)transact(store, store->late[i].request, store->late[i].client);
            free(store->late[i].request);
            store->late[i--] = store->late[--store->late_count];
        }
    }
}

bool store_answer(struct store *store, uint32_t client, struct torc_meta_answer *answer)
{
    struct store_call *call = &store->calls[client];

    if (!call->busy || !call->done || store->now_ns < call->answer_ns) {
        return false;
    }
    call->busy = false;
    free(call->request);
    *answer = call->answer;
    if (store->fault == STORE_FAULT_BELIEVES && answer->err == TORC_ERR_IN_DOUBT) {
        answer->err = TORC_ERR_OK;
        answer->revision = store->placement.version;
    }
    return true;
}

void store_close(struct store *store)
{
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        if (store->calls[i].busy) {
            free(store->calls[i].request);
        }
    }
    for (uint32_t i = 0; i < store->late_count; i++) {
        free(store->late[i].request);
    }
}
