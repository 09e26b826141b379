// Torc control: bodies of etcd's JSON gateway. See control/etcd_http.h.
#include "control/etcd_http.h"

#include "control/base64.h"

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

enum {
    ETCD_KEY_BYTES = TORC_ETCD_PREFIX_BYTES + TORC_META_KEY_MAX + 1
};

// -- Making ---------------------------------------------------------------------------------------

static json_t *etcd_base64(const void *bytes, uint64_t byte_count)
{
    char text[TORC_BASE64_BYTES(TORC_META_VALUE_MAX)];

    _Static_assert(ETCD_KEY_BYTES <= TORC_META_VALUE_MAX, "names fit too");
    torc_assert(byte_count <= TORC_META_VALUE_MAX);
    torc_base64_encode(text, bytes, byte_count);
    return json_string(text);
}

static json_t *etcd_key(const char *prefix, const char *key)
{
    char whole[ETCD_KEY_BYTES];
    int bytes = snprintf(whole, sizeof(whole), "%s%s", prefix, key);

    torc_assert(bytes < (int)sizeof(whole));
    return etcd_base64(whole, (uint64_t)bytes);
}

// The first name behind all that begin so.
static json_t *etcd_range_end(const char *prefix, const char *key)
{
    char whole[ETCD_KEY_BYTES];
    int bytes = snprintf(whole, sizeof(whole), "%s%s", prefix, key);

    torc_assert(bytes > 0);
    torc_assert(bytes < (int)sizeof(whole));
    whole[bytes - 1]++; // names are ASCII, and the prefix of a store ends with '/'
    return etcd_base64(whole, (uint64_t)bytes);
}

static json_t *etcd_number(uint64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, number);
    return json_string(text);
}

static json_t *etcd_compare(const struct torc_meta_op *op, const char *prefix)
{
    return json_pack("{s:o, s:s, s:s, s:o}", "key", etcd_key(prefix, op->key), "target", "MOD",
                     "result", "EQUAL", "mod_revision", etcd_number(op->expected));
}

static json_t *etcd_change(const struct torc_meta_op *op, const char *prefix)
{
    json_t *key = etcd_key(prefix, op->key);

    return op->kind == TORC_META_PUT ? json_pack("{s:{s:o, s:o}}", "request_put", "key", key,
                                                 "value", etcd_base64(op->value, op->value_bytes))
                                     : json_pack("{s:{s:o}}", "request_delete_range", "key", key);
}

// Refused, it answers with what is there.
static json_t *etcd_txn(const struct torc_meta_request *request, const char *prefix)
{
    json_t *compare = json_array();
    json_t *success = json_array();
    json_t *failure = json_array();

    for (uint32_t i = 0; i < request->op_count; i++) {
        const struct torc_meta_op *op = request->ops + i;

        if (op->expected != TORC_META_ANY) {
            (void)json_array_append_new(compare, etcd_compare(op, prefix)); // asserted below
        }
        if (op->kind != TORC_META_CHECK) {
            (void)json_array_append_new(success, etcd_change(op, prefix));
        }
        (void)json_array_append_new(
            failure, json_pack("{s:{s:o}}", "request_range", "key", etcd_key(prefix, op->key)));
    }
    torc_assert(json_array_size(failure) == request->op_count);
    return json_pack("{s:o, s:o, s:o}", "compare", compare, "success", success, "failure", failure);
}

static char *etcd_text(json_t *body)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

    torc_assert(text != NULL); // without memory nothing can go on
    json_decref(body);
    return text;
}

char *torc_etcd_make(const struct torc_meta_request *request, const char *prefix, const char **path)
{
    *path = request->verb == TORC_META_TXN ? "/v3/kv/txn" : "/v3/kv/range";
    switch (request->verb) {
    case TORC_META_GET: return etcd_text(json_pack("{s:o}", "key", etcd_key(prefix, request->key)));
    case TORC_META_LIST:
        return etcd_text(json_pack("{s:o, s:o, s:o}", "key", etcd_key(prefix, request->key),
                                   "range_end", etcd_range_end(prefix, request->key), "limit",
                                   etcd_number(request->record_max + UINT64_C(1))));
    case TORC_META_TXN: return etcd_text(etcd_txn(request, prefix));
    case TORC_META_WATCH: break;
    }
    torc_unreachable("a watch is made elsewhere");
}

char *torc_etcd_make_watch(const char *prefix, const char *key, uint64_t from_revision)
{
    return etcd_text(json_pack("{s:{s:o, s:o, s:o}}", "create_request", "key",
                               etcd_key(prefix, key), "range_end", etcd_range_end(prefix, key),
                               "start_revision", etcd_number(torc_max_u64(from_revision, 1))));
}

char *torc_etcd_make_login(const char *user, const char *password)
{
    return etcd_text(json_pack("{s:s, s:s}", "name", user, "password", password));
}

// -- Reading --------------------------------------------------------------------------------------

static uint64_t etcd_read_number(const json_t *value)
{
    const char *text = json_string_value(value);

    if (text == NULL) {
        return json_is_integer(value) && json_integer_value(value) > 0
                   ? (uint64_t)json_integer_value(value)
                   : 0;
    }
    return strtoull(text, NULL, 10); // what is no number is 0, and 0 is no revision
}

static json_t *etcd_parse(const char *body, uint64_t body_bytes, struct torc_etcd_head *head)
{
    json_t *whole = json_loadb(body, body_bytes, 0, NULL);
    const json_t *header = json_object_get(whole, "header");
    const char *cluster = json_string_value(json_object_get(header, "cluster_id"));
    const char *text = json_string_value(json_object_get(whole, "message"));
    json_t *code = json_object_get(whole, "code");

    *head = (struct torc_etcd_head){0};
    text = text != NULL ? text : json_string_value(json_object_get(whole, "error"));
    if (text != NULL) {
        head->code = json_is_integer(code) && json_integer_value(code) > 0
                         ? (int)torc_min_u64((uint64_t)json_integer_value(code), 1000)
                         : TORC_ETCD_NO_ANSWER;
        (void)snprintf(head->text, sizeof(head->text), "%.150s", text);
    } else if (!json_is_object(whole) || (header == NULL && code == NULL)) {
        head->code = TORC_ETCD_NO_ANSWER;
        (void)snprintf(head->text, sizeof(head->text), "the answer is none of etcd 3.4 or newer");
    }
    head->revision = etcd_read_number(json_object_get(header, "revision"));
    (void)snprintf(head->cluster, sizeof(head->cluster), "%.20s", cluster != NULL ? cluster : "");
    return whole;
}

// Where the records of an answer are put together.
struct etcd_records {
    struct torc_meta_record *records;
    uint32_t count;
    uint32_t room;
    char *at;
    char *end;
};

static bool etcd_decode(struct etcd_records *to, const json_t *text, const char **bytes,
                        uint64_t *byte_count)
{
    const char *from = text != NULL ? json_string_value(text) : "";
    uint64_t from_bytes = text != NULL ? json_string_length(text) : 0;

    if (from == NULL || (uint64_t)(to->end - to->at) < from_bytes / 4 * 3 + 1 ||
        !torc_base64_decode((unsigned char *)to->at, byte_count, from, from_bytes)) {
        return false;
    }
    *bytes = to->at;
    to->at[*byte_count] = '\0';
    to->at += *byte_count + 1;
    return true;
}

static bool etcd_read_record(struct etcd_records *to, const char *prefix, const json_t *kv)
{
    struct torc_meta_record *record = to->records + to->count;
    uint64_t prefix_bytes = strlen(prefix);
    const char *key;
    uint64_t key_bytes;
    uint64_t value_bytes;

    if (to->count == to->room || !etcd_decode(to, json_object_get(kv, "key"), &key, &key_bytes) ||
        !etcd_decode(to, json_object_get(kv, "value"), &record->value, &value_bytes) ||
        key_bytes < prefix_bytes || memcmp(key, prefix, prefix_bytes) != 0 ||
        strlen(key) != key_bytes || value_bytes > UINT32_MAX) {
        return false;
    }
    record->key = key + prefix_bytes;
    record->value_bytes = (uint32_t)value_bytes;
    record->version = etcd_read_number(json_object_get(kv, "mod_revision"));
    to->count++;
    return record->version > 0;
}

static bool etcd_read_kvs(struct etcd_records *to, const char *prefix, const json_t *range)
{
    const json_t *kvs = json_object_get(range, "kvs");
    bool good = kvs == NULL || json_is_array(kvs);

    for (uint64_t i = 0; i < json_array_size(kvs) && good; i++) {
        good = etcd_read_record(to, prefix, json_array_get(kvs, i));
    }
    return good;
}

static bool etcd_read_all(struct etcd_records *to, const struct torc_meta_request *request,
                          const char *prefix, const json_t *whole)
{
    const json_t *responses = json_object_get(whole, "responses");
    bool good = true;

    if (request->verb != TORC_META_TXN) {
        return etcd_read_kvs(to, prefix, whole);
    }
    for (uint64_t i = 0; i < json_array_size(responses) && good; i++) {
        const json_t *range = json_object_get(json_array_get(responses, i), "response_range");

        good = range != NULL && etcd_read_kvs(to, prefix, range);
    }
    return good && json_array_size(responses) == request->op_count;
}

static void etcd_judge(const struct torc_meta_request *request, bool succeeded,
                       struct torc_meta_answer *answer)
{
    if (request->verb == TORC_META_GET && answer->record_count == 0) {
        answer->err =
            torc_fail(&answer->why, TORC_ERR_NOT_FOUND, "the metastore has no %s", request->key);
    } else if (request->verb == TORC_META_LIST && answer->record_count > request->record_max) {
        answer->record_count = 0;
        answer->err = torc_fail(&answer->why, TORC_ERR_LIMIT, "over %" PRIu32 " records below %s",
                                request->record_max, request->key);
    } else if (request->verb == TORC_META_TXN && !succeeded) {
        answer->err = torc_fail(&answer->why, TORC_ERR_CONDITION_FAILED,
                                "a record of the transaction (the first is %s) has changed",
                                request->ops[0].key);
    } else {
        answer->err = TORC_ERR_OK;
    }
}

void *torc_etcd_read(const struct torc_meta_request *request, const char *prefix, const char *body,
                     uint64_t body_bytes, struct torc_etcd_head *head,
                     struct torc_meta_answer *answer)
{
    json_t *whole = etcd_parse(body, body_bytes, head);
    bool succeeded = json_is_true(json_object_get(whole, "succeeded"));
    struct etcd_records to = {0};
    uint64_t bytes;
    void *memory;

    if (head->code != TORC_ETCD_OK || head->revision == 0) {
        head->code = head->code == TORC_ETCD_OK ? TORC_ETCD_NO_ANSWER : head->code;
        json_decref(whole);
        return NULL;
    }
    to.room = request->verb == TORC_META_GET    ? 1
              : request->verb == TORC_META_LIST ? request->record_max + 1
                                                : request->op_count;
    bytes = to.room * sizeof(*to.records);
    memory = malloc(bytes + body_bytes);
    torc_assert(memory != NULL);
    to.records = memory;
    to.at = (char *)memory + bytes;
    to.end = to.at + body_bytes; // base64 is longer than what it says, zeros included
    if (!succeeded && !etcd_read_all(&to, request, prefix, whole)) {
        head->code = TORC_ETCD_NO_ANSWER;
        (void)snprintf(head->text, sizeof(head->text), "the answer makes no sense");
        free(memory);
        json_decref(whole);
        return NULL;
    }
    json_decref(whole);
    answer->revision = head->revision;
    answer->records = to.records;
    answer->record_count = to.count;
    etcd_judge(request, succeeded, answer);
    return memory;
}

char *torc_etcd_read_login(const char *body, uint64_t body_bytes, struct torc_etcd_head *head)
{
    json_t *whole = etcd_parse(body, body_bytes, head);
    const char *token = json_string_value(json_object_get(whole, "token"));
    char *copy = token != NULL && strpbrk(token, "\r\n") == NULL ? strdup(token) : NULL;

    json_decref(whole);
    return copy;
}

static void etcd_read_event(const char *prefix, const json_t *event, struct torc_etcd_seen *seen,
                            struct torc_meta_wake *wake)
{
    const json_t *kv = json_object_get(event, "kv");
    const json_t *text = json_object_get(kv, "key");
    uint64_t version = etcd_read_number(json_object_get(kv, "mod_revision"));
    char key[TORC_BASE64_BYTES(ETCD_KEY_BYTES)];
    uint64_t prefix_bytes = strlen(prefix);
    uint64_t key_bytes = 0;

    if (version > 0) {
        seen->next_revision = torc_max_u64(seen->next_revision, version + 1);
    }
    if (!json_is_string(text) || json_string_length(text) / 4 * 3 >= sizeof(key) ||
        !torc_base64_decode((unsigned char *)key, &key_bytes, json_string_value(text),
                            json_string_length(text)) ||
        key_bytes < prefix_bytes || key_bytes - prefix_bytes > TORC_META_KEY_MAX ||
        memcmp(key, prefix, prefix_bytes) != 0) {
        torc_meta_wake_gap(wake, version); // a name that is none of ours
        return;
    }
    key[key_bytes] = '\0';
    torc_meta_wake_add(wake, key + prefix_bytes, version);
}

// etcd 3.4 says of a token that has run out what it says of a user who may not.
static bool etcd_is_refusal(const json_t *whole, const json_t *result)
{
    const json_t *error = json_object_get(whole, "error");
    const char *text = json_string_value(json_object_get(result, "cancel_reason"));
    json_int_t code = json_integer_value(json_object_get(whole, "code"));

    if (json_is_object(error)) { // of a stream
        code = json_integer_value(json_object_get(error, "grpc_code"));
    }
    return code == TORC_ETCD_UNAUTHENTICATED || code == TORC_ETCD_FORBIDDEN ||
           (text != NULL && (strstr(text, "invalid auth token") != NULL ||
                             strstr(text, "revision of auth store is old") != NULL ||
                             strstr(text, "permission denied") != NULL));
}

void torc_etcd_read_watch(const char *prefix, const char *line, uint64_t line_bytes,
                          struct torc_etcd_seen *seen, struct torc_meta_wake *wake)
{
    json_t *whole = json_loadb(line, line_bytes, 0, NULL);
    const json_t *result = json_object_get(whole, "result");
    const json_t *events = json_object_get(result, "events");
    uint64_t compacted = etcd_read_number(json_object_get(result, "compact_revision"));

    if (result == NULL || json_is_true(json_object_get(result, "canceled"))) {
        seen->ended = true;
        seen->refused = seen->refused || etcd_is_refusal(whole, result);
    }
    if (json_is_true(json_object_get(result, "created"))) {
        seen->created = true;
    }
    if (compacted >= seen->next_revision) { // what was before it is gone: whoever watches lists
        seen->next_revision = compacted + 1;
        torc_meta_wake_gap(wake, compacted);
    }
    for (uint64_t i = 0; i < json_array_size(events); i++) {
        etcd_read_event(prefix, json_array_get(events, i), seen, wake);
    }
    json_decref(whole);
}
