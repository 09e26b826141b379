// Torc tests: any bytes as an answer of etcd's gateway are read within their bounds.
#include "control/base64.h"
#include "control/etcd_http.h"
#include "tests/fuzz/mutate.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char txn_answer[] =
    "{\"header\":{\"cluster_id\":\"13455796455940752355\",\"revision\":\"65\"},\"responses\":[{"
    "\"response_range\":{\"kvs\":[{\"key\":\"L3RvcmMvbWFpbi9zaGFyZC8w\",\"mod_revision\":\"2\","
    "\"value\":\"eHg=\"}],\"count\":\"1\"}},{\"response_range\":{\"header\":{}}}]}";
static const char watch_answer[] =
    "{\"result\":{\"header\":{\"revision\":\"66\"},\"events\":[{\"type\":\"DELETE\",\"kv\":{\"key\""
    ":\"L3RvcmMvbWFpbi9zaGFyZC8w\",\"mod_revision\":\"66\"}}],\"compact_revision\":\"7\"}}";

static void read_answer(const struct torc_meta_request *request, const char *body, uint64_t bytes)
{
    struct torc_meta_answer answer = {0};
    struct torc_etcd_head head;
    void *memory = torc_etcd_read(request, "/torc/main/", body, bytes, &head, &answer);

    torc_assert_implies(memory == NULL, head.code != TORC_ETCD_OK);
    for (uint32_t i = 0; memory != NULL && i < answer.record_count; i++) {
        torc_assert(strlen(answer.records[i].key) < bytes);
        torc_assert(answer.records[i].value[answer.records[i].value_bytes] == '\0');
        torc_assert(answer.records[i].version > 0);
    }
    free(memory);
}

static void read_all(const char *body, uint64_t bytes)
{
    static const struct torc_meta_op ops[] = {
        {.kind = TORC_META_PUT, .key = "shard/0", .value = "", .expected = 0},
        {.kind = TORC_META_CHECK, .key = "meta", .expected = 1}};
    const struct torc_meta_request requests[] = {
        {.verb = TORC_META_GET, .key = "shard/0"},
        {.verb = TORC_META_LIST, .key = "shard/", .record_max = 3},
        {.verb = TORC_META_TXN, .ops = ops, .op_count = 2}};
    static struct torc_meta_wake wake;
    struct torc_etcd_seen seen = {.next_revision = 5};
    struct torc_etcd_head head;

    for (uint32_t i = 0; i < TORC_COUNT_OF(requests); i++) {
        read_answer(requests + i, body, bytes);
    }
    wake = (struct torc_meta_wake){0};
    torc_etcd_read_watch("/torc/main/", body, bytes, &seen, &wake);
    torc_assert(seen.next_revision >= 5);
    torc_assert(wake.count <= TORC_META_WAKE_RECORDS);
    free(torc_etcd_read_login(body, bytes, &head));
}

static void read_edited(struct torc_rng *rng, const char *good, uint32_t bytes)
{
    char body[512];

    torc_assert(bytes <= sizeof(body));
    memcpy(body, good, bytes);
    torc_fuzz_edit(rng, (uint8_t *)body, bytes);
    read_all(body, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint64_t part = torc_min_u64(size, 300);
    char text[TORC_BASE64_BYTES(300)];
    unsigned char bytes[sizeof(text)];
    uint64_t count = 0;

    read_all((const char *)data, size);
    read_edited(&rng, txn_answer, sizeof(txn_answer) - 1);
    read_edited(&rng, watch_answer, sizeof(watch_answer) - 1);
    torc_base64_encode(text, data, part);
    torc_assert(torc_base64_decode(bytes, &count, text, strlen(text)));
    torc_assert(count == part);
    torc_assert(part == 0 || memcmp(bytes, data, part) == 0);
    if (size % 4 == 0 && size <= sizeof(bytes)) {
        (void)!torc_base64_decode(bytes, &count, (const char *)data, size); // no crash
        torc_assert(count <= sizeof(bytes));
    }
    return 0;
}
