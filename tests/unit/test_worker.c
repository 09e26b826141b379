// A worker's answers to packets, through a whole node in one process (tests/rig.h).
#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS UINT64_C(1000000)

static struct torc_rig *rig;
static struct torc_rig_client *client;

static void open_rig(const struct torc_rig_config *config)
{
    struct torc_rig_config filled = *config;

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    filled.workers = filled.workers == 0 ? 1 : filled.workers;
    filled.shards = filled.shards == 0 ? 4 : filled.shards;
    filled.key_count = filled.key_count == 0 ? KEYS : filled.key_count;
    filled.seed = torc_test_seed();
    filled.steered = true;
    torc_rig_open(rig, &filled);
    torc_rig_connect(rig, client, 5000);
}

static void open_plain(void)
{
    struct torc_rig_config config = {.workers = 1};

    open_rig(&config);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static void check_status(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    torc_rig_call(rig, client, request, &reply);
    if (reply.status != status) {
        (void)fprintf(stderr, "%s: %s, expected %s: %.*s\n", torc_opcode_name(request->opcode),
                      torc_err_name((enum torc_err)reply.status), torc_err_name(status),
                      (int)reply.body_bytes, (const char *)reply.body);
    }
    CU_ASSERT_EQUAL(reply.status, status);
}

static void check_value(uint64_t key, const char *value)
{
    struct torc_request request = torc_rig_get(key);
    struct torc_reply reply;

    torc_rig_call(rig, client, &request, &reply);
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_GET | TORC_REPLY_BIT);
    CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(reply.body_bytes, strlen(value));
    CU_ASSERT_EQUAL(memcmp(reply.body, value, strlen(value)), 0);
}

static void put_text(uint64_t key, const char *value)
{
    struct torc_request request = torc_rig_put(rig, client, key, value, (uint32_t)strlen(value));

    check_status(&request, TORC_ERR_OK);
}

static void a_put_is_read_back(void)
{
    struct torc_request request;

    open_plain();
    request = torc_rig_get(7);
    check_status(&request, TORC_ERR_NOT_FOUND);
    put_text(7, "seven");
    check_value(7, "seven");
    put_text(KEYS - 1, "");
    check_value(KEYS - 1, "");
    put_text(7, "eight");
    check_value(7, "eight");
    request = torc_rig_delete(rig, client, 7);
    check_status(&request, TORC_ERR_OK);
    request = torc_rig_get(7);
    check_status(&request, TORC_ERR_NOT_FOUND);
    request = torc_rig_delete(rig, client, 7);
    check_status(&request, TORC_ERR_NOT_FOUND);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a put is read back", a_put_is_read_back},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker", tests);
}
