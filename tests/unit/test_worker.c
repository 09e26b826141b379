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

// Calls, and says what came instead of what was expected.
static void call(const struct torc_request *request, struct torc_reply *reply, enum torc_err status)
{
    torc_rig_call(rig, client, request, reply);
    if (reply->status != status) {
        (void)fprintf(stderr, "%s of %" PRIu64 ": %s %" PRIx64 ", expected %s: %.*s\n",
                      torc_opcode_name(request->opcode), request->key,
                      torc_err_name((enum torc_err)reply->status), reply->info,
                      torc_err_name(status), (int)reply->body_bytes, (const char *)reply->body);
    }
    CU_ASSERT_EQUAL_FATAL(reply->status, status);
}

static void check_status(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    call(request, &reply, status);
}

static void check_value(uint64_t key, const char *value)
{
    struct torc_request request = torc_rig_get(key);
    struct torc_reply reply;

    call(&request, &reply, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_GET | TORC_REPLY_BIT);
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

// A new client: sessions end with the dataplane's life.
static void crash_and_recover(void)
{
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
}

static void acknowledged_writes_survive_a_crash(void)
{
    struct torc_request request;

    open_plain();
    put_text(1, "one");
    put_text(KEYS / 2, "half");
    put_text(KEYS - 1, "last");
    request = torc_rig_delete(rig, client, 1);
    check_status(&request, TORC_ERR_OK);
    for (uint32_t life = 0; life < 4; life++) {
        crash_and_recover();
        check_value(KEYS / 2, "half");
        check_value(KEYS - 1, "last");
        request = torc_rig_get(1);
        check_status(&request, TORC_ERR_NOT_FOUND);
        put_text(2 + life, "more");
    }
    crash_and_recover();
    check_value(2, "more");
    check_value(5, "more");
    close_rig();
}

static void checkpoint_all(void)
{
    for (uint32_t shard = 0; shard < 4; shard++) {
        torc_fake_control_checkpoint(&rig->controls[0], shard);
    }
    torc_rig_settle(rig, 2000);
    for (uint32_t shard = 0; shard < 4; shard++) {
        CU_ASSERT_FATAL(rig->controls[0].shards[shard].kept.complete);
    }
}

static void a_checkpoint_and_the_log_behind_it_are_recovered(void)
{
    open_plain();
    put_text(1, "one");
    put_text(KEYS - 1, "last");
    checkpoint_all();
    put_text(1, "two");
    put_text(3, "three");
    crash_and_recover();
    check_value(1, "two");
    check_value(3, "three");
    check_value(KEYS - 1, "last");
    checkpoint_all();
    crash_and_recover();
    check_value(1, "two");
    check_value(KEYS - 1, "last");
    close_rig();
}

static void a_quiesced_node_has_everything_durable(void)
{
    open_plain();
    put_text(1, "one");
    torc_fake_control_order(&rig->controls[0], TORC_CMD_QUIESCE);
    torc_rig_settle(rig, 100);
    CU_ASSERT(rig->controls[0].quiesced);
    CU_ASSERT(torc_worker_quiesced(rig->workers[0]));
    crash_and_recover();
    check_value(1, "one");
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a put is read back", a_put_is_read_back},
        {"acknowledged writes survive a crash", acknowledged_writes_survive_a_crash},
        {"a checkpoint and the log behind it are recovered",
         a_checkpoint_and_the_log_behind_it_are_recovered},
        {"a quiesced node has everything durable", a_quiesced_node_has_everything_durable},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker", tests);
}
