// Torc tests: where the time of one operation went: a worker's marks, the engine's parts, and what
// `torc trace` makes of them.
#include "client/cli/trace.h"
#include "tests/client_net.h"
#include "tests/unit/worker_rig.h"

#include <string.h>

#define TICK_NS 100u

static uint64_t ticks;

// A clock that each reading moves.
static uint64_t tick(void *context)
{
    const struct torc_rig *of = context;

    ticks += TICK_NS;
    return of->now_ns + ticks;
}

static void open_ticking(uint8_t durability)
{
    struct torc_rig_config config = {
        .workers = 1, .steered = true, .durability = durability, .trace_clock = tick};

    ticks = 0;
    open_rig(&config);
}

// -- The worker -----------------------------------------------------------------------------------

// Sends what was added; the marks of `op_id`. False: no TRACE came with the answer.
static bool marks_of(uint32_t op_id, enum torc_err status, struct torc_trace_marks *marks)
{
    struct torc_reply reply;

    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.op_id, op_id);
    CU_ASSERT_EQUAL(reply.status, status);
    if (!torc_rig_next(rig, client, &reply)) {
        return false;
    }
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_TRACE);
    CU_ASSERT_EQUAL(reply.op_id, op_id);
    CU_ASSERT_TRUE_FATAL(torc_trace_decode(&reply, marks));
    CU_ASSERT_TRUE(marks->dequeued_ns <= marks->tree_ns);
    CU_ASSERT_TRUE(marks->tree_ns <= marks->logged_ns);
    CU_ASSERT_TRUE(marks->logged_ns <= marks->durable_ns);
    CU_ASSERT_TRUE(marks->durable_ns <= marks->sent_ns);
    return true;
}

static bool traced(struct torc_request request, enum torc_err status,
                   struct torc_trace_marks *marks)
{
    uint32_t op_id;

    request.flags |= TORC_FLAG_TRACE;
    op_id = torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    return marks_of(op_id, status, marks);
}

static void a_traced_get_says_when_it_was_taken_looked_up_and_answered(void)
{
    struct torc_trace_marks marks = {0};

    open_ticking(TORC_DURABILITY_DURABLE);
    (void)put_text(7, "seven");
    CU_ASSERT_TRUE_FATAL(traced(torc_rig_get(7), TORC_ERR_OK, &marks));
    CU_ASSERT_TRUE(marks.dequeued_ns > 0);
    CU_ASSERT_EQUAL(marks.tree_ns, marks.dequeued_ns + TICK_NS);
    CU_ASSERT_EQUAL(marks.durable_ns, marks.tree_ns); // it has no log to wait for
    CU_ASSERT_EQUAL(marks.sent_ns, marks.tree_ns + TICK_NS);
    CU_ASSERT_TRUE(traced(torc_rig_get(8), TORC_ERR_NOT_FOUND, &marks));
    CU_ASSERT_TRUE(marks.sent_ns > marks.dequeued_ns);
    close_rig();
}

static void a_traced_put_says_how_long_the_disk_took(void)
{
    struct torc_trace_marks marks = {0};

    open_ticking(TORC_DURABILITY_DURABLE);
    CU_ASSERT_TRUE_FATAL(traced(torc_rig_put(rig, client, 7, "seven", 5), TORC_ERR_OK, &marks));
    CU_ASSERT_TRUE(marks.dequeued_ns > 0);
    CU_ASSERT_TRUE(marks.tree_ns > marks.dequeued_ns);
    CU_ASSERT_TRUE(marks.logged_ns > marks.tree_ns);
    CU_ASSERT_TRUE(marks.durable_ns >= marks.logged_ns + 10000); // turns of the rig
    CU_ASSERT_TRUE(marks.sent_ns > marks.durable_ns);
    check_value(7, "seven");
    CU_ASSERT_TRUE(traced(torc_rig_delete(rig, client, 7), TORC_ERR_OK, &marks));
    CU_ASSERT_TRUE(marks.durable_ns >= marks.logged_ns + 10000);
    close_rig();
}

static void a_put_that_waits_for_no_disk_has_next_to_no_sync(void)
{
    struct torc_trace_marks marks = {0};

    open_ticking(TORC_DURABILITY_NONE);
    CU_ASSERT_TRUE_FATAL(traced(torc_rig_put(rig, client, 7, "seven", 5), TORC_ERR_OK, &marks));
    CU_ASSERT_TRUE(marks.logged_ns > marks.tree_ns);
    CU_ASSERT_TRUE(marks.sent_ns < 10000); // all in its own turn
    close_rig();
}

static void a_condition_that_fails_is_traced_up_to_the_tree(void)
{
    struct torc_request request;
    struct torc_trace_marks marks = {0};

    open_ticking(TORC_DURABILITY_DURABLE);
    (void)put_text(7, "seven");
    request = torc_rig_put(rig, client, 7, "eight", 5);
    request.flags = TORC_WRITE_IF_ABSENT;
    CU_ASSERT_TRUE_FATAL(traced(request, TORC_ERR_CONDITION_FAILED, &marks));
    CU_ASSERT_TRUE(marks.tree_ns > marks.dequeued_ns);
    CU_ASSERT_EQUAL(marks.durable_ns, marks.tree_ns);
    close_rig();
}

// Its time behind the other one is told as `logged`, whatever comes after.
static void a_put_behind_another_of_its_key_waits_to_be_logged(void)
{
    struct torc_trace_marks marks = {0};
    struct torc_request first;
    struct torc_request second;
    struct torc_reply reply;
    uint32_t op_id;

    open_ticking(TORC_DURABILITY_DURABLE);
    first = torc_rig_put(rig, client, 7, "one", 3);
    (void)torc_rig_add(client, &first);
    (void)torc_rig_flush(rig, client, 0);
    second = torc_rig_put(rig, client, 7, "two", 3);
    second.flags |= TORC_FLAG_TRACE | TORC_WRITE_IF_PRESENT;
    op_id = torc_rig_add(client, &second);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_TRUE_FATAL(marks_of(op_id, TORC_ERR_OK, &marks));
    CU_ASSERT_TRUE(marks.logged_ns >= marks.tree_ns + 10000);
    CU_ASSERT_TRUE(marks.durable_ns >= marks.logged_ns + 10000);
    close_rig();
}

static void each_write_of_a_packet_that_asks_is_traced(void)
{
    uint32_t traced_ids[3];
    uint32_t traces = 0;
    struct torc_reply reply;
    struct torc_trace_marks marks[3] = {{0}};

    open_ticking(TORC_DURABILITY_DURABLE);
    for (uint32_t i = 0; i < 4; i++) {
        struct torc_request request = torc_rig_put(rig, client, i, "x", 1);
        uint32_t op_id;

        request.flags |= i > 0 ? TORC_FLAG_TRACE : 0;
        op_id = torc_rig_add(client, &request);
        if (i > 0) {
            traced_ids[i - 1] = op_id;
        }
    }
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t answers = 0; answers < 7; answers++) {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        if (reply.opcode == TORC_OPCODE_TRACE) {
            CU_ASSERT_EQUAL(reply.op_id, traced_ids[traces]);
            CU_ASSERT_TRUE_FATAL(torc_trace_decode(&reply, &marks[traces]));
            traces++;
        }
    }
    CU_ASSERT_EQUAL_FATAL(traces, 3);
    for (uint32_t i = 0; i < 3; i++) {
        CU_ASSERT_TRUE(marks[i].logged_ns > marks[i].tree_ns);
        CU_ASSERT_TRUE(marks[i].durable_ns >= marks[i].logged_ns + 10000);
        CU_ASSERT_TRUE(i == 0 || marks[i].dequeued_ns > marks[i - 1].logged_ns);
    }
    close_rig();
}

static void a_value_that_fills_the_packet_has_no_trace_beside_it(void)
{
    static const unsigned char value[1200];
    struct torc_trace_marks marks = {0};
    struct torc_request request;
    // What a reply packet of the least size holds beside the operation's header.
    uint32_t bytes = TORC_PAYLOAD_MIN - TORC_DATA_OVERHEAD - TORC_REPLY_HEAD_BYTES;

    open_ticking(TORC_DURABILITY_DURABLE);
    client->reply_bytes = TORC_PAYLOAD_MIN;
    client->reply_packets = 2;
    request = torc_rig_put(rig, client, 7, value, 1000);
    (void)expect(&request, TORC_ERR_OK);
    client->reply_packets = 1;
    CU_ASSERT_TRUE(traced(torc_rig_get(7), TORC_ERR_OK, &marks));
    client->reply_packets = 2;
    request = torc_rig_put(rig, client, 7, value, bytes - 40);
    (void)expect(&request, TORC_ERR_OK);
    client->reply_packets = 1;
    CU_ASSERT_TRUE(traced(torc_rig_get(7), TORC_ERR_OK, &marks));
    client->reply_packets = 2;
    request = torc_rig_put(rig, client, 7, value, bytes - 39);
    (void)expect(&request, TORC_ERR_OK);
    client->reply_packets = 1;
    CU_ASSERT_FALSE(traced(torc_rig_get(7), TORC_ERR_OK, &marks));
    close_rig();
}

static void without_a_clock_a_turn_has_one_time(void)
{
    struct torc_trace_marks marks = {0};

    open_plain();
    CU_ASSERT_TRUE_FATAL(traced(torc_rig_put(rig, client, 7, "seven", 5), TORC_ERR_OK, &marks));
    CU_ASSERT_EQUAL(marks.logged_ns, 0);
    CU_ASSERT_TRUE(marks.durable_ns >= 10000);
    CU_ASSERT_EQUAL(marks.sent_ns, marks.durable_ns);
    CU_ASSERT_TRUE_FATAL(traced(torc_rig_get(7), TORC_ERR_OK, &marks));
    CU_ASSERT_EQUAL(marks.sent_ns, 0);
    close_rig();
}

// -- The engine -----------------------------------------------------------------------------------

static struct torc_net *net;
static struct torc_engine *engine;

static void open_engine(void)
{
    open_ticking(TORC_DURABILITY_DURABLE);
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(net != NULL);
    torc_net_open(net, rig, 1, torc_test_seed(), 64);
    engine = net->clients[0];
    torc_net_await(net);
}

static void close_engine(void)
{
    torc_net_close(net);
    free(net);
    close_rig();
}

static enum torc_err finish(enum torc_err accepted)
{
    struct torc_completion done;
    uint32_t count = 0;

    CU_ASSERT_EQUAL_FATAL(accepted, TORC_ERR_OK);
    for (uint32_t i = 0; i < 2000000 && count == 0; i++) {
        torc_net_step(net, 20000);
        count = torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    return done.status;
}

static enum torc_err get_traced(uint64_t key, struct torc_trace *trace)
{
    struct torc_read_options options = {.flags = TORC_TRACED};
    enum torc_err err = finish(torc_engine_get(engine, key, &options, key + 1000, NULL));

    CU_ASSERT_TRUE(torc_engine_trace(engine, trace));
    CU_ASSERT_EQUAL(trace->user_data, key + 1000);
    return err;
}

static enum torc_err put_traced(uint64_t key, const void *data, uint32_t bytes,
                                struct torc_trace *trace)
{
    struct torc_engine_write write = {
        .key = key, .data = data, .bytes = bytes, .user_data = key, .traced = true};
    enum torc_err err = finish(torc_engine_write(engine, &write, NULL));

    CU_ASSERT_TRUE(torc_engine_trace(engine, trace));
    CU_ASSERT_EQUAL(trace->user_data, key);
    return err;
}

static uint64_t parts_sum(const struct torc_trace *trace)
{
    return trace->wire_ns + trace->queue_ns + trace->tree_ns + trace->log_ns + trace->sync_ns +
           trace->reply_ns;
}

static void the_parts_add_up_to_the_total(void)
{
    struct torc_trace trace;

    open_engine();
    CU_ASSERT_FALSE(torc_engine_trace(engine, &trace));
    CU_ASSERT_EQUAL(put_traced(7, "seven", 5, &trace), TORC_ERR_OK);
    CU_ASSERT_EQUAL(trace.known, 127);
    CU_ASSERT_EQUAL(trace.sends, 1);
    CU_ASSERT_TRUE(trace.total_ns > 0);
    CU_ASSERT_EQUAL(parts_sum(&trace), trace.total_ns);
    CU_ASSERT_TRUE(trace.sync_ns > 0 && trace.tree_ns > 0 && trace.log_ns > 0);
    CU_ASSERT_EQUAL(get_traced(7, &trace), TORC_ERR_OK);
    CU_ASSERT_EQUAL(trace.known, 127 & ~(TORC_TRACE_LOG | TORC_TRACE_SYNC));
    CU_ASSERT_EQUAL(parts_sum(&trace), trace.total_ns);
    CU_ASSERT_EQUAL(trace.sync_ns + trace.log_ns, 0);
    CU_ASSERT_EQUAL(get_traced(8, &trace), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(parts_sum(&trace), trace.total_ns);
    close_engine();
}

static void others_leave_the_last_trace_alone(void)
{
    struct torc_trace first;
    struct torc_trace second;
    struct torc_read_options strange = {.flags = 4};

    open_engine();
    CU_ASSERT_EQUAL(put_traced(7, "seven", 5, &first), TORC_ERR_OK);
    CU_ASSERT_EQUAL(finish(torc_engine_get(engine, 7, NULL, 1, NULL)), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_engine_trace(engine, &second));
    CU_ASSERT_EQUAL(memcmp(&first, &second, sizeof(first)), 0);
    CU_ASSERT_EQUAL(torc_engine_get(engine, 7, &strange, 1, NULL), TORC_ERR_INVALID_ARGUMENT);
    close_engine();
}

static void a_value_over_one_packet_has_a_total_only(void)
{
    static const unsigned char value[100000];
    struct torc_trace trace;

    open_engine();
    CU_ASSERT_EQUAL(put_traced(7, value, sizeof(value), &trace), TORC_ERR_OK);
    CU_ASSERT_EQUAL(trace.known, TORC_TRACE_TOTAL);
    CU_ASSERT_EQUAL(parts_sum(&trace), 0);
    CU_ASSERT_EQUAL(get_traced(7, &trace), TORC_ERR_OK);
    CU_ASSERT_EQUAL(trace.known, TORC_TRACE_TOTAL);
    CU_ASSERT_TRUE(trace.total_ns > 0);
    close_engine();
}

// Loss, repeats and damage: whatever comes, parts are never more than the whole.
static void a_bad_network_shows_in_the_wire_and_the_sends(void)
{
    struct torc_trace trace;
    uint32_t sends = 0;

    open_engine();
    net->faults =
        (struct torc_net_faults){.loss_ppm = 300000, .double_ppm = 100000, .delay_max_ns = 500000};
    for (uint32_t i = 0; i < 50; i++) {
        CU_ASSERT_EQUAL(put_traced(i, "seven", 5, &trace), TORC_ERR_OK);
        sends = trace.sends > sends ? trace.sends : sends;
        CU_ASSERT_TRUE(trace.known == TORC_TRACE_TOTAL || parts_sum(&trace) == trace.total_ns);
        CU_ASSERT_EQUAL(get_traced(i, &trace), TORC_ERR_OK);
        sends = trace.sends > sends ? trace.sends : sends;
        CU_ASSERT_TRUE(trace.known == TORC_TRACE_TOTAL || parts_sum(&trace) == trace.total_ns);
    }
    CU_ASSERT_TRUE(sends > 1);
    close_engine();
}

// -- What is shown --------------------------------------------------------------------------------

static void medians_are_of_each_part(void)
{
    struct torc_trace traces[101] = {{0}};
    uint64_t numbers[101];
    struct torc_trace median;

    for (uint32_t i = 0; i < 101; i++) {
        traces[i].total_ns = (i * UINT64_C(37) % 101) * 10; // each of 0 .. 1000
        traces[i].tree_ns = i % 2 == 0 ? 5 : 7;
        traces[i].known = TORC_TRACE_TOTAL | (i < 3 ? TORC_TRACE_TREE : 0);
        traces[i].sends = 1;
    }
    torc_trace_median(traces, 101, numbers, &median);
    CU_ASSERT_EQUAL(median.total_ns, 500);
    CU_ASSERT_EQUAL(median.tree_ns, 5);
    CU_ASSERT_EQUAL(median.known, TORC_TRACE_TOTAL | TORC_TRACE_TREE);
    CU_ASSERT_EQUAL(median.sends, 101);
    torc_trace_median(traces, 1, numbers, &median);
    CU_ASSERT_EQUAL(median.total_ns, traces[0].total_ns);
}

// Against counting: exactly as many are below the median as there should be.
static void the_median_is_the_middle_of_any_numbers(void)
{
    struct torc_trace traces[64] = {{0}};
    uint64_t numbers[64];
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t count = 1 + (uint32_t)torc_rng_below(&rng, 64);
        uint32_t below = 0;
        uint32_t equal = 0;
        struct torc_trace median;

        for (uint32_t i = 0; i < count; i++) {
            traces[i].total_ns = torc_rng_below(&rng, 1 + round % 40);
            traces[i].known = TORC_TRACE_TOTAL;
        }
        torc_trace_median(traces, count, numbers, &median);
        for (uint32_t i = 0; i < count; i++) {
            below += traces[i].total_ns < median.total_ns ? 1 : 0;
            equal += traces[i].total_ns == median.total_ns ? 1 : 0;
        }
        CU_ASSERT_TRUE(below <= (count - 1) / 2 && below + equal > (count - 1) / 2);
    }
}

static void a_trace_is_shown_in_each_format(void)
{
    struct torc_trace trace = {.total_ns = 31250,
                               .wire_ns = 30000,
                               .queue_ns = 500,
                               .tree_ns = 700,
                               .reply_ns = 50,
                               .known = 127 & ~(TORC_TRACE_LOG | TORC_TRACE_SYNC),
                               .sends = 1};
    struct torc_trace_said said = {
        .verb = "get", .key = 42, .status = "OK", .count = 1, .trace = &trace};
    struct torc_show show = {.format = TORC_SHOW_JSON, .key_format = TORC_KEY_DEC};
    char text[TORC_TRACE_TEXT_BYTES];

    CU_ASSERT_EQUAL(torc_trace_show(&show, &said, text), strlen(text));
    CU_ASSERT_STRING_EQUAL(text,
                           "{\"verb\":\"get\",\"key\":42,\"status\":\"OK\",\"count\":1,\"sends\":1,"
                           "\"total_ns\":31250,\"wire_ns\":30000,\"queue_ns\":500,\"tree_ns\":700,"
                           "\"log_ns\":null,\"sync_ns\":null,\"reply_ns\":50}\n");
    show.format = TORC_SHOW_CSV;
    (void)torc_trace_show(&show, &said, text);
    CU_ASSERT_STRING_EQUAL(text, "total,31250\nwire,30000\nqueue,500\ntree,700\nreply,50\n");
    show.format = TORC_SHOW_TABLE;
    (void)torc_trace_show(&show, &said, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "get 42: OK\n  total        31.2 us  from the call"));
    CU_ASSERT_PTR_NULL(strstr(text, "sync"));
    said.count = 100;
    trace.sends = 103;
    trace.known = TORC_TRACE_TOTAL;
    (void)torc_trace_show(&show, &said, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "medians of 100, sent 103 times\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "the server said nothing"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a traced get says when it was taken, looked up and answered",
         a_traced_get_says_when_it_was_taken_looked_up_and_answered},
        {"a traced put says how long the disk took", a_traced_put_says_how_long_the_disk_took},
        {"a put that waits for no disk has next to no sync",
         a_put_that_waits_for_no_disk_has_next_to_no_sync},
        {"a condition that fails is traced up to the tree",
         a_condition_that_fails_is_traced_up_to_the_tree},
        {"a put behind another of its key waits to be logged",
         a_put_behind_another_of_its_key_waits_to_be_logged},
        {"each write of a packet that asks is traced", each_write_of_a_packet_that_asks_is_traced},
        {"a value that fills the packet has no trace beside it",
         a_value_that_fills_the_packet_has_no_trace_beside_it},
        {"without a clock a turn has one time", without_a_clock_a_turn_has_one_time},
        {"the parts add up to the total", the_parts_add_up_to_the_total},
        {"others leave the last trace alone", others_leave_the_last_trace_alone},
        {"a value over one packet has a total only", a_value_over_one_packet_has_a_total_only},
        {"a bad network shows in the wire and the sends",
         a_bad_network_shows_in_the_wire_and_the_sends},
        {"medians are of each part", medians_are_of_each_part},
        {"the median is the middle of any numbers", the_median_is_the_middle_of_any_numbers},
        {"a trace is shown in each format", a_trace_is_shown_in_each_format},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("traces", tests);
}
