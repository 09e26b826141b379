// Torc control: what all kinds of metastore share. See control/metastore.h.
#include "control/metastore.h"

#include <string.h>

static enum torc_err meta_check_key(const char *key, bool is_prefix, struct torc_fail *why)
{
    uint64_t bytes = key != NULL ? strnlen(key, TORC_META_KEY_MAX + 1) : 0;

    if (bytes > TORC_META_KEY_MAX || (bytes == 0 && !is_prefix)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "record \"%.40s\": a name has 1 to %u bytes", key != NULL ? key : "",
                         TORC_META_KEY_MAX);
    }
    return TORC_ERR_OK;
}

static enum torc_err meta_check_op(const struct torc_meta_request *request, uint32_t at,
                                   struct torc_fail *why)
{
    const struct torc_meta_op *op = request->ops + at;

    if (op->kind == TORC_META_PUT && op->value_bytes > TORC_META_VALUE_MAX) {
        return torc_fail(why, TORC_ERR_TOO_LARGE,
                         "record %.40s of %" PRIu32 " bytes: a value has at most %u", op->key,
                         op->value_bytes, TORC_META_VALUE_MAX);
    }
    for (uint32_t i = 0; i < at; i++) {
        if (strcmp(request->ops[i].key, op->key) == 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "record %.40s is twice in one transaction", op->key);
        }
    }
    return TORC_ERR_OK;
}

static enum torc_err meta_check_txn(const struct torc_meta_request *request, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;
    uint64_t bytes = 0;

    if (request->op_count == 0 || request->op_count > TORC_META_OPS_MAX) {
        return torc_fail(why, TORC_ERR_TOO_LARGE, "transaction of %" PRIu32 " records: 1 to %u",
                         request->op_count, TORC_META_OPS_MAX);
    }
    for (uint32_t i = 0; i < request->op_count && err == TORC_ERR_OK; i++) {
        err = meta_check_key(request->ops[i].key, false, why);
        if (err == TORC_ERR_OK) {
            err = meta_check_op(request, i, why);
            bytes += TORC_META_KEY_MAX + request->ops[i].value_bytes;
        }
    }
    _Static_assert(TORC_META_OPS_MAX * (TORC_META_VALUE_MAX + TORC_META_KEY_MAX) <
                       TORC_META_TXN_BYTES,
                   "as many as allowed always fit");
    torc_assert_implies(err == TORC_ERR_OK, bytes < TORC_META_TXN_BYTES);
    return err;
}

static enum torc_err meta_check_request(const struct torc_metastore *store,
                                        const struct torc_meta_request *request,
                                        struct torc_fail *why)
{
    switch (request->verb) {
    case TORC_META_GET: return meta_check_key(request->key, false, why);
    case TORC_META_LIST: return meta_check_key(request->key, true, why);
    case TORC_META_TXN: return meta_check_txn(request, why);
    case TORC_META_WATCH:
        if (store->watch_count >= TORC_META_WATCHES_MAX) {
            return torc_fail(why, TORC_ERR_BUSY, "metastore: %u watches at most",
                             TORC_META_WATCHES_MAX);
        }
        return meta_check_key(request->key, true, why);
    }
    torc_unreachable("no such request");
}

enum torc_err torc_metastore_submit(struct torc_metastore *store,
                                    const struct torc_meta_request *request, uint64_t now_ns,
                                    struct torc_fail *why)
{
    struct torc_meta_request checked = *request;
    enum torc_err err = meta_check_request(store, request, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (request->verb == TORC_META_WATCH) {
        store->watch_count++;
    } else if (store->inflight >= TORC_META_INFLIGHT_MAX) {
        return torc_fail(why, TORC_ERR_BUSY, "metastore: %u requests are in flight",
                         TORC_META_INFLIGHT_MAX);
    } else {
        store->inflight++;
    }
    checked.known_revision = store->revision;
    store->code->submit(store, &checked, now_ns);
    return TORC_ERR_OK;
}

void torc_metastore_unwatch(struct torc_metastore *store, uint64_t ticket)
{
    torc_assert(store->watch_count > 0);
    store->watch_count--;
    store->code->unwatch(store, ticket);
}

void torc_metastore_step(struct torc_metastore *store, uint64_t now_ns)
{
    store->code->step(store, now_ns);
}

// M3. A watch may come from a member that is behind: it says nothing about the present.
static void meta_look_back(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    bool said = answer->err == TORC_ERR_OK || answer->err == TORC_ERR_NOT_FOUND ||
                answer->err == TORC_ERR_CONDITION_FAILED;

    if (answer->verb == TORC_META_WATCH || !said) {
        return;
    }
    store->went_back = store->went_back || answer->revision < answer->known_revision;
    if (store->went_back) {
        answer->went_back = true;
        answer->record_count = 0;
        answer->err = torc_fail(&answer->why, TORC_ERR_CORRUPT,
                                "METASTORE_WENT_BACK: it is at revision %" PRIu64 ", %" PRIu64
                                " was seen: it was put back from a backup",
                                answer->revision, store->revision);
        return;
    }
    store->revision = torc_max_u64(store->revision, answer->revision);
}

bool torc_metastore_take(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    memset(answer, 0, sizeof(*answer));
    if (!store->code->take(store, answer)) {
        return false;
    }
    if (answer->verb != TORC_META_WATCH) {
        torc_assert(store->inflight > 0);
        store->inflight--;
    }
    meta_look_back(store, answer);
    torc_assert_implies(answer->err != TORC_ERR_OK, answer->why.err == answer->err);
    return true;
}

uint64_t torc_metastore_deadline_ns(struct torc_metastore *store)
{
    return store->code->deadline_ns(store);
}

int torc_metastore_fd(const struct torc_metastore *store)
{
    return store->code->fd(store);
}

void torc_metastore_close(struct torc_metastore *store)
{
    store->code->close(store);
}

uint64_t torc_metastore_revision(const struct torc_metastore *store)
{
    return store->revision;
}

void torc_metastore_adopt(struct torc_metastore *store, uint64_t revision)
{
    store->revision = torc_max_u64(store->revision, revision);
}

// -- Packing --------------------------------------------------------------------------------------

uint64_t torc_meta_request_bytes(const struct torc_meta_request *request)
{
    uint64_t bytes = sizeof(*request) + request->op_count * sizeof(*request->ops);

    bytes += request->key != NULL ? strlen(request->key) + 1 : 0;
    for (uint32_t i = 0; i < request->op_count; i++) {
        bytes += strlen(request->ops[i].key) + 1;
        bytes += request->ops[i].kind == TORC_META_PUT ? request->ops[i].value_bytes : 0;
    }
    return bytes;
}

static char *meta_put(char **at, const void *bytes, uint64_t byte_count)
{
    char *start = *at;

    if (byte_count > 0) {
        memcpy(start, bytes, byte_count);
    }
    *at += byte_count;
    return start;
}

struct torc_meta_request *torc_meta_request_pack(const struct torc_meta_request *request,
                                                 void *memory)
{
    struct torc_meta_request *packed = memory;
    struct torc_meta_op *ops = (struct torc_meta_op *)(packed + 1);
    char *at = (char *)(ops + request->op_count);

    *packed = *request;
    packed->ops = ops;
    if (request->key != NULL) {
        packed->key = meta_put(&at, request->key, strlen(request->key) + 1);
    }
    for (uint32_t i = 0; i < request->op_count; i++) {
        ops[i] = request->ops[i];
        ops[i].key = meta_put(&at, request->ops[i].key, strlen(request->ops[i].key) + 1);
        ops[i].value_bytes = ops[i].kind == TORC_META_PUT ? ops[i].value_bytes : 0;
        ops[i].value = meta_put(&at, request->ops[i].value, ops[i].value_bytes);
    }
    torc_assert((uint64_t)(at - (char *)memory) == torc_meta_request_bytes(request));
    return packed;
}
