// Torc tests: a metastore in memory. See tests/fake_store.h.
#include "tests/fake_store.h"

#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

static bool fake_chance(struct torc_fake_store *meta, uint64_t ppm)
{
    return !meta->calm && torc_rng_chance(meta->rng, (uint32_t)ppm);
}

static struct torc_fake_record *fake_find(struct torc_fake_store *meta, const char *key)
{
    for (uint32_t i = 0; i < meta->record_count; i++) {
        if (strcmp(meta->records[i].key, key) == 0) {
            return meta->records + i;
        }
    }
    return NULL;
}

const struct torc_fake_record *torc_fake_store_find(const struct torc_fake_store *meta,
                                                    const char *key)
{
    for (uint32_t i = 0; i < meta->record_count; i++) {
        if (meta->records[i].there && strcmp(meta->records[i].key, key) == 0) {
            return meta->records + i;
        }
    }
    return NULL;
}

static void fake_wake(struct torc_fake_store *meta, const char *key)
{
    for (uint32_t h = 0; h < TORC_FAKE_STORE_HANDLES; h++) {
        struct torc_fake_handle *handle = meta->handles + h;

        for (uint32_t w = 0; w < TORC_META_WATCHES_MAX; w++) {
            if (!handle->watching[w] ||
                strncmp(key, handle->watch_key[w], strlen(handle->watch_key[w])) != 0 ||
                (meta->lies && torc_rng_chance(meta->rng, 20000))) {
                continue;
            }
            if (fake_chance(meta, 20000)) {
                torc_meta_wake_gap(&handle->wakes[w], meta->revision);
            } else {
                torc_meta_wake_add(&handle->wakes[w], key, meta->revision);
            }
        }
    }
}

static void fake_change(struct torc_fake_store *meta, const char *key, const void *value,
                        uint32_t value_bytes)
{
    struct torc_fake_record *record = fake_find(meta, key);

    if (record == NULL) {
        torc_assert(meta->record_count < TORC_FAKE_STORE_RECORDS);
        record = meta->records + meta->record_count++;
        memcpy(record->key, key, strlen(key) + 1);
    }
    record->there = value != NULL;
    record->version = meta->revision;
    record->value_bytes = value_bytes;
    if (value != NULL) {
        memcpy(record->value, value, value_bytes);
        record->value[value_bytes] = '\0';
    }
    meta->changes++;
    fake_wake(meta, key);
    if (value != NULL && meta->on_put != NULL) {
        meta->on_put(meta->context, record);
    }
}

void torc_fake_store_put(struct torc_fake_store *meta, const char *key, const void *value,
                         uint32_t value_bytes)
{
    meta->revision++;
    fake_change(meta, key, value, value_bytes);
}

void torc_fake_store_read(const struct torc_fake_store *meta, const char *key,
                          enum torc_record kind, void *fields)
{
    const struct torc_fake_record *record = torc_fake_store_find(meta, key);
    struct torc_fail why;

    torc_assert(record != NULL);
    TORC_TEST_OK(torc_record_decode(kind, fields, record->value, record->value_bytes, &why), &why);
}

void torc_fake_store_write(struct torc_fake_store *meta, const char *key, enum torc_record kind,
                           const void *fields)
{
    char text[TORC_RECORD_BYTES_MAX];

    torc_fake_store_put(meta, key, text, torc_record_encode(kind, fields, text));
}

static bool fake_txn(struct torc_fake_store *meta, const struct torc_meta_request *request)
{
    for (uint32_t i = 0; i < request->op_count; i++) {
        const struct torc_meta_op *op = request->ops + i;
        const struct torc_fake_record *record = torc_fake_store_find(meta, op->key);
        uint64_t version = record != NULL ? record->version : TORC_META_ABSENT;

        if (op->expected != TORC_META_ANY && op->expected != version) {
            return false;
        }
    }
    meta->revision++;
    for (uint32_t i = 0; i < request->op_count; i++) {
        const struct torc_meta_op *op = request->ops + i;

        if (op->kind != TORC_META_CHECK) {
            fake_change(meta, op->key, op->kind == TORC_META_PUT ? op->value : NULL,
                        op->value_bytes);
        }
    }
    return true;
}

// -- A handle -------------------------------------------------------------------------------------

static struct torc_fake_handle *fake_handle(struct torc_metastore *store)
{
    return (struct torc_fake_handle *)(void *)store;
}

static void fake_submit(struct torc_metastore *store, const struct torc_meta_request *request,
                        uint64_t now_ns)
{
    struct torc_fake_handle *handle = fake_handle(store);
    uint32_t at = 0;

    if (request->verb == TORC_META_WATCH) {
        while (handle->watching[at]) {
            at++;
        }
        handle->watching[at] = true;
        handle->watch_ticket[at] = request->ticket;
        memcpy(handle->watch_key[at], request->key, strlen(request->key) + 1);
        if (request->from_revision <= handle->meta->revision) {
            torc_meta_wake_gap(&handle->wakes[at], handle->meta->revision); // it may have changed
        }
        return;
    }
    while (handle->pending[at] != NULL) {
        at++;
    }
    handle->pending[at] = malloc(torc_meta_request_bytes(request));
    torc_assert(handle->pending[at] != NULL);
    (void)torc_meta_request_pack(request, handle->pending[at]);
    handle->due_ns[at] =
        now_ns +
        (handle->meta->calm ? 0 : torc_rng_below(handle->meta->rng, TORC_FAKE_STORE_DELAY));
}

static void fake_unwatch(struct torc_metastore *store, uint64_t ticket)
{
    struct torc_fake_handle *handle = fake_handle(store);

    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        handle->watching[i] = handle->watching[i] && handle->watch_ticket[i] != ticket;
    }
}

static void fake_do_late(struct torc_fake_store *meta)
{
    while (meta->late_count > 0 && (meta->calm || torc_rng_chance(meta->rng, 10000))) {
        uint32_t at = (uint32_t)torc_rng_below(meta->rng, meta->late_count);

        (void)fake_txn(meta, meta->late[at]);
        free(meta->late[at]);
        meta->late[at] = meta->late[--meta->late_count];
    }
}

static void fake_step(struct torc_metastore *store, uint64_t now_ns)
{
    struct torc_fake_handle *handle = fake_handle(store);

    handle->now_ns = now_ns;
    fake_do_late(handle->meta);
}

static void fake_show(struct torc_fake_handle *handle, struct torc_meta_answer *answer,
                      const struct torc_fake_record *record)
{
    struct torc_fake_record *copy = handle->copies + answer->record_count;

    *copy = *record;
    handle->answered[answer->record_count++] =
        (struct torc_meta_record){.key = copy->key,
                                  .value = copy->value,
                                  .value_bytes = copy->value_bytes,
                                  .version = copy->version};
    answer->records = handle->answered;
}

static void fake_read(struct torc_fake_handle *handle, const struct torc_meta_request *request,
                      struct torc_meta_answer *answer)
{
    struct torc_fake_store *meta = handle->meta;

    answer->revision = meta->revision;
    for (uint32_t i = 0; i < meta->record_count; i++) {
        const struct torc_fake_record *record = meta->records + i;
        bool same = request->verb == TORC_META_GET
                        ? strcmp(record->key, request->key) == 0
                        : strncmp(record->key, request->key, strlen(request->key)) == 0;

        if (same && record->there) {
            fake_show(handle, answer, record);
        }
    }
    if (request->verb == TORC_META_GET && answer->record_count == 0) {
        answer->err = torc_fail(&answer->why, TORC_ERR_NOT_FOUND, "%s", request->key);
    }
}

// True: the request is kept, to happen later.
static bool fake_write(struct torc_fake_handle *handle, struct torc_meta_request *request,
                       struct torc_meta_answer *answer)
{
    struct torc_fake_store *meta = handle->meta;
    bool lost = meta->away || fake_chance(meta, 150000);
    uint64_t fate = lost ? torc_rng_below(meta->rng, 3) : 3;

    if (fate == 0 && meta->late_count < TORC_FAKE_STORE_LATE) {
        meta->late[meta->late_count++] = request;
    } else if (fate == 1 || fate == 3) {
        answer->err = fake_txn(meta, request)
                          ? TORC_ERR_OK
                          : torc_fail(&answer->why, TORC_ERR_CONDITION_FAILED, "changed");
    }
    answer->revision = meta->revision;
    if (lost) {
        answer->err = meta->lies ? TORC_ERR_OK
                                 : torc_fail(&answer->why, TORC_ERR_IN_DOUBT, "the answer is lost");
        return fate == 0 && meta->late_count > 0 && meta->late[meta->late_count - 1] == request;
    }
    for (uint32_t i = 0; i < request->op_count && answer->err == TORC_ERR_CONDITION_FAILED; i++) {
        const struct torc_fake_record *record = torc_fake_store_find(meta, request->ops[i].key);

        if (record != NULL) {
            fake_show(handle, answer, record);
        }
    }
    return false;
}

static bool fake_answer(struct torc_fake_handle *handle, uint32_t at,
                        struct torc_meta_answer *answer)
{
    struct torc_meta_request *request = handle->pending[at];
    bool kept = false;

    handle->pending[at] = NULL;
    *answer = (struct torc_meta_answer){.ticket = request->ticket,
                                        .verb = request->verb,
                                        .known_revision = request->known_revision};
    if (handle->meta->away || fake_chance(handle->meta, 100000)) {
        answer->err = torc_fail(&answer->why, TORC_ERR_UNAVAILABLE, "it is away");
    } else if (request->verb == TORC_META_TXN) {
        kept = fake_write(handle, request, answer);
    } else {
        fake_read(handle, request, answer);
    }
    if (!kept) {
        free(request);
    }
    return true;
}

static bool fake_take(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    struct torc_fake_handle *handle = fake_handle(store);

    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (handle->watching[i] && !fake_chance(handle->meta, 500000) &&
            torc_meta_wake_take(&handle->wakes[i], &handle->woken, handle->watch_ticket[i],
                                answer)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        if (handle->pending[i] != NULL && handle->due_ns[i] <= handle->now_ns) {
            return fake_answer(handle, i, answer);
        }
    }
    return false;
}

static uint64_t fake_deadline_ns(struct torc_metastore *store)
{
    const struct torc_fake_handle *handle = fake_handle(store);
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        if (handle->pending[i] != NULL) {
            deadline_ns = torc_min_u64(deadline_ns, handle->due_ns[i]);
        }
    }
    return deadline_ns;
}

static int fake_fd(const struct torc_metastore *store)
{
    (void)store;
    return -1;
}

static void fake_close(struct torc_metastore *store)
{
    struct torc_fake_handle *handle = fake_handle(store);

    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        free(handle->pending[i]);
        handle->pending[i] = NULL;
    }
}

static const struct torc_metastore_code fake_code = {.name = "fake",
                                                     .submit = fake_submit,
                                                     .unwatch = fake_unwatch,
                                                     .step = fake_step,
                                                     .take = fake_take,
                                                     .deadline_ns = fake_deadline_ns,
                                                     .fd = fake_fd,
                                                     .close = fake_close};

void torc_fake_store_init(struct torc_fake_store *meta, struct torc_rng *rng)
{
    memset(meta, 0, sizeof(*meta));
    meta->rng = rng;
    for (uint32_t i = 0; i < TORC_FAKE_STORE_HANDLES; i++) {
        meta->handles[i].meta = meta;
        meta->handles[i].store.code = &fake_code;
    }
}

void torc_fake_store_close(struct torc_fake_store *meta)
{
    for (uint32_t i = 0; i < TORC_FAKE_STORE_HANDLES; i++) {
        torc_metastore_close(&meta->handles[i].store);
    }
    for (uint32_t i = 0; i < meta->late_count; i++) {
        free(meta->late[i]);
    }
    meta->late_count = 0;
}
