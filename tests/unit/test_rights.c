// Torc tests: what a session's roles and key ranges let it do, operation by operation.
#include "dataplane/worker_state.h"
#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS UINT64_C(1000000)

static struct torc_rig *rig;
static struct torc_rig_client *client;
static struct torc_rights rights;

static struct torc_session *session_of_client(void)
{
    struct torc_session *session = torc_session_find(rig->sessions, client->accept.session_index);

    torc_assert(session != NULL);
    return session;
}

// A session with these roles and the key ranges [100, 200) and [500, 600).
static void open_with(uint32_t roles)
{
    struct torc_rig_config config = {
        .workers = 1, .shards = 4, .key_count = KEYS, .steered = true, .seed = torc_test_seed()};

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    torc_rig_open(rig, &config);
    torc_rig_connect(rig, client, 5000);
    rights = (struct torc_rights){
        .number = 7, .roles = roles, .range_count = 2, .ranges = {{100, 200}, {500, 600}}};
    session_of_client()->roles = roles;
    session_of_client()->rights = &rights;
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static uint64_t counted(enum torc_counter counter)
{
    return torc_stats_get(&torc_rig_stats(rig, 0)->counters[counter]);
}

static struct torc_reply ask(const struct torc_request *request)
{
    struct torc_reply reply;

    torc_rig_call(rig, client, request, &reply);
    return reply;
}

static struct torc_request range_of(enum torc_opcode opcode, uint64_t lo, uint64_t hi)
{
    return (struct torc_request){.opcode = (uint8_t)opcode,
                                 .lo = lo,
                                 .hi = hi,
                                 .limit = UINT64_MAX,
                                 .epoch = torc_rig_get(lo).epoch,
                                 .credit = opcode == TORC_OPCODE_RANGE_OPEN ? 1 : 0};
}

// Every operation that names keys, once on `key` or [key, key + 10).
static uint32_t requests_on(uint64_t key, struct torc_request requests[9])
{
    static const uint8_t piece[8];
    uint32_t count = 0;

    requests[count++] = torc_rig_get(key);
    requests[count] = torc_rig_get(key);
    requests[count++].flags = TORC_GET_VERSION_ONLY;
    requests[count++] = range_of(TORC_OPCODE_RANGE_READ, key, key + 10);
    requests[count++] = range_of(TORC_OPCODE_RANGE_OPEN, key, key + 10);
    requests[count++] = range_of(TORC_OPCODE_CLOCK, key, key + 10);
    requests[count++] = (struct torc_request){
        .opcode = TORC_OPCODE_PULL, .key = key, .version = 1, .fragment_bytes = 8, .bitmap = 1};
    requests[count++] = torc_rig_put(rig, client, key, "x", 1);
    requests[count++] = torc_rig_delete(rig, client, key);
    requests[count++] = (struct torc_request){
        .opcode = TORC_OPCODE_FRAG, .key = key, .aux = 1, .data = piece, .data_bytes = 8};
    return count;
}

static bool is_write(const struct torc_request *request)
{
    return request->opcode == TORC_OPCODE_PUT || request->opcode == TORC_OPCODE_DELETE ||
           request->opcode == TORC_OPCODE_FRAG;
}

static void a_session_without_ranges_may_go_everywhere(void)
{
    struct torc_request requests[9];
    uint32_t count;

    open_with(TORC_ROLE_READ | TORC_ROLE_WRITE);
    session_of_client()->rights = NULL;
    count = requests_on(300, requests);
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_NOT_EQUAL(ask(&requests[i]).status, TORC_ERR_FORBIDDEN);
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_RANGE), 0);
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 0);
    close_rig();
}

static void keys_outside_the_ranges_are_forbidden_and_counted(void)
{
    static const uint64_t outside[] = {0, 99, 200, 201, 499, 600, 999980};
    struct torc_request requests[9];
    uint64_t before;

    open_with(TORC_ROLE_READ | TORC_ROLE_WRITE);
    for (uint32_t at = 0; at < TORC_COUNT_OF(outside); at++) {
        uint32_t count = requests_on(outside[at], requests);

        for (uint32_t i = 0; i < count; i++) {
            before = counted(TORC_COUNTER_FORBIDDEN_RANGE);
            CU_ASSERT_EQUAL(ask(&requests[i]).status, TORC_ERR_FORBIDDEN);
            CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_RANGE), before + 1);
        }
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 0);
    close_rig();
}

static void keys_inside_the_ranges_are_allowed(void)
{
    static const uint64_t inside[] = {100, 150, 190, 500, 590};
    struct torc_request requests[9];

    open_with(TORC_ROLE_READ | TORC_ROLE_WRITE);
    for (uint32_t at = 0; at < TORC_COUNT_OF(inside); at++) {
        uint32_t count = requests_on(inside[at], requests);

        for (uint32_t i = 0; i < count; i++) {
            CU_ASSERT_NOT_EQUAL(ask(&requests[i]).status, TORC_ERR_FORBIDDEN);
        }
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_RANGE), 0);
    close_rig();
}

// A range must lie inside one of them whole.
static void a_range_that_sticks_out_is_forbidden(void)
{
    struct torc_request request;

    open_with(TORC_ROLE_READ);
    request = range_of(TORC_OPCODE_RANGE_READ, 100, 200);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_OK);
    request = range_of(TORC_OPCODE_RANGE_READ, 100, 201);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_FORBIDDEN);
    request = range_of(TORC_OPCODE_RANGE_READ, 99, 200);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_FORBIDDEN);
    request = range_of(TORC_OPCODE_RANGE_READ, 150, 550);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_FORBIDDEN);
    close_rig();
}

static void roles_are_asked_for_first(void)
{
    struct torc_request requests[9];
    uint32_t count;

    open_with(TORC_ROLE_READ);
    count = requests_on(150, requests);
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL(ask(&requests[i]).status == TORC_ERR_FORBIDDEN, is_write(&requests[i]));
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 3);
    session_of_client()->roles = TORC_ROLE_WRITE;
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL(ask(&requests[i]).status == TORC_ERR_FORBIDDEN, !is_write(&requests[i]));
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_RANGE), 0);
    close_rig();
}

static void a_refusal_says_why_and_changes_nothing(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_with(TORC_ROLE_READ);
    request = torc_rig_put(rig, client, 150, "x", 1);
    reply = ask(&request);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_FORBIDDEN);
    CU_ASSERT_FATAL(reply.body_bytes > 8);
    CU_ASSERT_PTR_NOT_NULL(memmem(reply.body, reply.body_bytes, "role write", 10));
    request = torc_rig_get(150);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_NOT_FOUND);
    close_rig();
}

static void as_first_piece(struct torc_request *request)
{
    static const unsigned char piece[1000];

    request->flags = TORC_WRITE_FRAGMENTED;
    request->total_bytes = 2 * sizeof(piece);
    request->fragment_bytes = sizeof(piece);
    request->data = piece;
    request->data_bytes = sizeof(piece);
}

// What was done before the rights were lost is told, and what is in progress; then the epoch is
// asked for, and the rights last.
static void a_write_is_asked_for_its_rights_last(void)
{
    struct torc_request done;
    struct torc_request waits;
    struct torc_request request;
    struct torc_reply first;
    struct torc_reply reply;

    open_with(TORC_ROLE_READ | TORC_ROLE_WRITE);
    done = torc_rig_put(rig, client, 150, "x", 1);
    first = ask(&done);
    CU_ASSERT_EQUAL(first.status, TORC_ERR_OK);
    rig->controls[0].disk_stuck = true;
    waits = torc_rig_put(rig, client, 151, "y", 1);
    (void)torc_rig_add(client, &waits);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_step(rig, 10000);
    session_of_client()->roles = TORC_ROLE_READ;
    reply = ask(&waits);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_PENDING);
    reply = ask(&done);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.info, first.info);
    as_first_piece(&done); // the answer is that of its number, however it is asked for
    CU_ASSERT_EQUAL(ask(&done).status, TORC_ERR_OK);
    request = torc_rig_put(rig, client, 152, "z", 1);
    request.epoch++;
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_WRONG_SHARD);
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 0);
    request.epoch--;
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_FORBIDDEN);
    as_first_piece(&request);
    CU_ASSERT_EQUAL(ask(&request).status, TORC_ERR_FORBIDDEN);
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 2);
    rig->controls[0].disk_stuck = false;
    close_rig();
}

static void operations_of_nodes_are_forbidden_and_counted(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_GET, .key = 1};
    struct torc_reply reply;

    open_with(TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN);
    (void)torc_rig_add(client, &request);
    client->packet[TORC_DATA_HEAD_BYTES] = TORC_OPCODE_NODE_FIRST;
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 400));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_FORBIDDEN);
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_FORBIDDEN_ROLE), 1);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session without ranges may go everywhere", a_session_without_ranges_may_go_everywhere},
        {"keys outside the ranges are forbidden and counted",
         keys_outside_the_ranges_are_forbidden_and_counted},
        {"keys inside the ranges are allowed", keys_inside_the_ranges_are_allowed},
        {"a range that sticks out is forbidden", a_range_that_sticks_out_is_forbidden},
        {"roles are asked for first", roles_are_asked_for_first},
        {"a refusal says why and changes nothing", a_refusal_says_why_and_changes_nothing},
        {"a write is asked for its rights last", a_write_is_asked_for_its_rights_last},
        {"operations of nodes are forbidden and counted",
         operations_of_nodes_are_forbidden_and_counted},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("rights", tests);
}
