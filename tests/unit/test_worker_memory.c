// Torc tests: large values of a worker, in pieces and packed, and leaves put in order while it is
// idle; through a whole node in one process (worker_rig.h).
#include "dataplane/worker_state.h"
#include "tests/unit/worker_rig.h"

#include <string.h>

// -- Large values ---------------------------------------------------------------------------------

#define LARGE_BYTES 100000u
#define PIECE_BYTES 1024u

static unsigned char *large_value(void)
{
    unsigned char *value = malloc(LARGE_BYTES);

    torc_assert(value != NULL);
    for (uint32_t i = 0; i < LARGE_BYTES; i++) {
        value[i] = (unsigned char)(i * 7 + i / 251);
    }
    return value;
}

static void send_piece(uint64_t key, const unsigned char *value, uint32_t op_id, uint32_t number)
{
    uint32_t at = number * PIECE_BYTES;
    struct torc_request piece = {.opcode = TORC_OPCODE_FRAG,
                                 .op_id = op_id,
                                 .key = key,
                                 .fragment = number,
                                 .data = value + at,
                                 .data_bytes = LARGE_BYTES - at < PIECE_BYTES ? LARGE_BYTES - at
                                                                              : PIECE_BYTES};

    (void)torc_rig_add(client, &piece);
    (void)torc_rig_flush(rig, client, 0);
}

// Sends all pieces, the odd ones backwards first; the PUT's answer.
static struct torc_reply put_large(uint64_t key, const unsigned char *value)
{
    struct torc_request put = torc_rig_put(rig, client, key, value, PIECE_BYTES);
    uint32_t count = (LARGE_BYTES + PIECE_BYTES - 1) / PIECE_BYTES;
    struct torc_frag_state state = {0};
    struct torc_reply reply = {0};
    uint32_t states = 0;

    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = LARGE_BYTES;
    put.fragment_bytes = PIECE_BYTES;
    put.op_id = torc_rig_add(client, &put);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = i < count / 2 ? count - 1 - 2 * i : 2 * (i - count / 2);

        send_piece(key, value, put.op_id, number < count ? number : 0);
        torc_rig_step(rig, 10000);
    }
    for (uint32_t i = 1; i < count; i++) {
        send_piece(key, value, put.op_id, i); // what is there is not taken twice
        torc_rig_step(rig, 10000);
    }
    while (torc_rig_await(rig, client, &reply, 50) &&
           reply.opcode != (TORC_OPCODE_PUT | TORC_REPLY_BIT)) {
        states += reply.opcode == (TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT) ? 1 : 0;
        CU_ASSERT(reply.opcode != (TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT) ||
                  torc_frag_state_decode(&reply, &state));
    }
    CU_ASSERT(states > 2);
    CU_ASSERT_EQUAL_FATAL(reply.opcode, TORC_OPCODE_PUT | TORC_REPLY_BIT);
    return reply;
}

// Shows that the key's version has total_bytes, those of `value`.
static void pull(uint64_t key, const unsigned char *value, uint64_t version, uint32_t total_bytes)
{
    uint32_t count = (total_bytes + PIECE_BYTES - 1) / PIECE_BYTES;
    uint32_t pulled = 0;

    for (uint32_t first = 0; first < count; first += 8) {
        struct torc_request pull = {.opcode = TORC_OPCODE_PULL,
                                    .key = key,
                                    .version = version,
                                    .fragment = first,
                                    .fragment_bytes = PIECE_BYTES,
                                    .bitmap = 0xff};
        const unsigned char *bytes;
        struct torc_reply reply;
        uint32_t byte_count;
        uint32_t number;

        (void)torc_rig_add(client, &pull);
        (void)torc_rig_flush(rig, client, 0);
        while (torc_rig_await(rig, client, &reply, 20)) {
            CU_ASSERT_FATAL(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
            CU_ASSERT_EQUAL(memcmp(bytes, value + (uint64_t)number * PIECE_BYTES, byte_count), 0);
            pulled += byte_count;
        }
    }
    CU_ASSERT_EQUAL(pulled, total_bytes);
}

static void a_large_value_goes_in_and_out_in_pieces(void)
{
    unsigned char *value = large_value();
    struct torc_request request;
    struct torc_reply reply;
    const unsigned char *bytes;
    uint32_t total;
    uint32_t byte_count;
    uint64_t version;

    open_plain();
    reply = put_large(77, value);
    CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
    version = reply.info;
    request = torc_rig_get(77);
    reply = expect(&request, TORC_ERR_PARTIAL);
    CU_ASSERT_EQUAL(reply.info, version);
    CU_ASSERT_FATAL(torc_partial_decode(&reply, &total, &bytes, &byte_count));
    CU_ASSERT_EQUAL(total, LARGE_BYTES);
    CU_ASSERT(byte_count > 1000);
    CU_ASSERT_EQUAL(memcmp(bytes, value, byte_count), 0);
    pull(77, value, version, LARGE_BYTES);
    (void)put_text(77, "small");
    request = (struct torc_request){.opcode = TORC_OPCODE_PULL,
                                    .key = 77,
                                    .version = version,
                                    .fragment_bytes = PIECE_BYTES,
                                    .bitmap = 1};
    (void)expect(&request, TORC_ERR_VERSION_GONE);
    reply = put_large(78, value);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
    request = torc_rig_get(78);
    version = expect(&request, TORC_ERR_PARTIAL).info;
    pull(78, value, version, LARGE_BYTES);
    free(value);
    close_rig();
}

static void a_piece_without_its_put_is_told_to_start_again(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_FRAG,
                                   .key = 5,
                                   .fragment = 1,
                                   .data = (const unsigned char *)"12345678",
                                   .data_bytes = 8};

    open_plain();
    (void)expect(&request, TORC_ERR_NO_MESSAGE);
    request = (struct torc_request){.opcode = TORC_OPCODE_FRAG_QUERY, .key = 5};
    (void)expect(&request, TORC_ERR_NO_MESSAGE);
    request = torc_rig_put(rig, client, 5, "12345678", 8);
    request.flags = TORC_WRITE_FRAGMENTED;
    request.total_bytes = (1u << 20) + 1;
    request.fragment_bytes = 8;
    (void)expect(&request, TORC_ERR_TOO_LARGE);
    close_rig();
}

// The write was refused when its last piece came, and the client was told. What is late of that
// attempt must not execute it; the next attempt finds the pieces there (K2).
static void a_refused_put_is_not_executed_by_a_late_piece(void)
{
    unsigned char *value = large_value();
    struct torc_request put;
    struct torc_request late = {.opcode = TORC_OPCODE_FRAG,
                                .key = 5,
                                .fragment = 1,
                                .data = value + PIECE_BYTES,
                                .data_bytes = PIECE_BYTES};
    struct torc_request get = torc_rig_get(5);

    open_plain();
    put = torc_rig_put(rig, client, 5, value, PIECE_BYTES);
    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = 2 * PIECE_BYTES;
    put.fragment_bytes = PIECE_BYTES;
    rig->controls[0].away = true;
    for (uint32_t i = 0; i < 60; i++) {
        torc_rig_step(rig, UINT64_C(10000000));
    }
    late.op_id = put.op_id = client->next_op++;
    CU_ASSERT_EQUAL(expect(&put, TORC_ERR_OK).opcode, TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT);
    (void)expect(&late, TORC_ERR_BUSY);
    rig->controls[0].away = false;
    torc_rig_settle(rig, 20);
    (void)expect(&late, TORC_ERR_NO_MESSAGE);
    late.opcode = TORC_OPCODE_FRAG_QUERY;
    late.data_bytes = 0;
    (void)expect(&late, TORC_ERR_NO_MESSAGE);
    torc_rig_settle(rig, 20);
    (void)expect(&get, TORC_ERR_NOT_FOUND);
    put.attempt = 1;
    (void)expect(&put, TORC_ERR_OK);
    (void)expect(&get, TORC_ERR_PARTIAL);
    free(value);
    close_rig();
}

static void send(const struct torc_request *request)
{
    (void)torc_rig_add(client, request);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_step(rig, 10000);
}

// Op ids come round: a piece and a question of the put before that had this one, of the same key
// and sizes, come after the put that has it now. The number of a packet says that it was earlier.
static void a_late_piece_of_the_put_before_does_not_enter_a_later_one(void)
{
    unsigned char *value = large_value();
    struct torc_request late = {.opcode = TORC_OPCODE_FRAG,
                                .key = 5,
                                .fragment = 1,
                                .data = value + UINT64_C(2) * PIECE_BYTES,
                                .data_bytes = PIECE_BYTES};
    struct torc_request piece = late;
    struct torc_request get = torc_rig_get(5);
    struct torc_request put;
    uint64_t version;
    uint64_t seq;

    open_plain();
    put = torc_rig_put(rig, client, 5, value, PIECE_BYTES);
    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = 2 * PIECE_BYTES;
    put.fragment_bytes = PIECE_BYTES;
    late.op_id = piece.op_id = put.op_id = client->next_op++;
    piece.data = value + PIECE_BYTES;
    client->lane.seq[0] += 2; // of the late ones
    CU_ASSERT_EQUAL(expect(&put, TORC_ERR_OK).opcode, TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT);
    seq = client->lane.seq[0];
    client->lane.seq[0] -= 3;
    (void)expect(&late, TORC_ERR_NO_MESSAGE);
    late.opcode = TORC_OPCODE_FRAG_QUERY;
    late.data_bytes = 0;
    (void)expect(&late, TORC_ERR_NO_MESSAGE);
    client->lane.seq[0] = seq;
    version = expect(&piece, TORC_ERR_OK).info;
    CU_ASSERT_EQUAL(expect(&get, TORC_ERR_PARTIAL).info, version);
    pull(5, value, version, 2 * PIECE_BYTES);
    free(value);
    close_rig();
}

// The same write twice under two op ids, as of a client that heard of a later epoch: the second is
// told that the first is in progress, and is answered once that is done.
static void a_put_in_pieces_that_is_in_progress_is_answered_later(void)
{
    unsigned char *value = large_value();
    struct torc_request put;
    struct torc_request piece = {.opcode = TORC_OPCODE_FRAG,
                                 .key = 5,
                                 .fragment = 1,
                                 .data = value + PIECE_BYTES,
                                 .data_bytes = PIECE_BYTES};

    open_plain();
    put = torc_rig_put(rig, client, 5, value, PIECE_BYTES);
    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = 2 * PIECE_BYTES;
    put.fragment_bytes = PIECE_BYTES;
    rig->controls[0].away = true; // nothing becomes durable
    piece.op_id = put.op_id = client->next_op++;
    send(&put);
    send(&piece);
    piece.op_id = put.op_id = client->next_op++;
    put.attempt = 1;
    CU_ASSERT_EQUAL(expect(&put, TORC_ERR_OK).opcode, TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT);
    (void)expect(&piece, TORC_ERR_PENDING);
    put.attempt = 2;
    (void)expect(&put, TORC_ERR_PENDING); // not merely which pieces are here
    rig->controls[0].away = false;
    torc_rig_settle(rig, 20);
    put.attempt = 3;
    CU_ASSERT_EQUAL(expect(&put, TORC_ERR_OK).opcode, TORC_OPCODE_PUT | TORC_REPLY_BIT);
    free(value);
    close_rig();
}

// -- Memory --------------------------------------------------------------------------------------

#define PACK_KEYS 2000u

static void value_of(uint64_t key, unsigned char value[1000])
{
    for (uint32_t i = 0; i < 1000; i++) {
        value[i] = (unsigned char)(key * 7 + i);
    }
}

// Large values come and half of them goes, at random; the undo window forgets them meanwhile.
static void sparse_values_fill(void)
{
    struct torc_rng rng = {torc_test_seed()};
    unsigned char value[1000];

    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request;

        value_of(key, value);
        request = torc_rig_put(rig, client, key, value, 700 + (uint32_t)(key % 4) * 100);
        (void)expect(&request, TORC_ERR_OK);
    }
    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request = torc_rig_delete(rig, client, key);

        if (torc_rng_below(&rng, 2) == 0) {
            (void)expect(&request, TORC_ERR_OK);
        }
    }
}

static uint32_t sparse_values_check(void)
{
    unsigned char value[1000];
    uint32_t found = 0;

    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request = torc_rig_get(key);
        struct torc_reply reply;

        torc_rig_call(rig, client, &request, &reply);
        value_of(key, value);
        if (reply.status == TORC_ERR_OK) {
            CU_ASSERT_EQUAL_FATAL(reply.body_bytes, 700 + key % 4 * 100);
            CU_ASSERT_EQUAL(memcmp(reply.body, value, reply.body_bytes), 0);
            found++;
        }
    }
    return found;
}

static void sparse_values_are_packed_while_there_is_time(void)
{
    const struct torc_heap *heap;
    const struct torc_stats *stats;
    uint64_t user_bytes = 0;

    open_plain();
    heap = &rig->heaps[0];
    stats = torc_rig_stats(rig, 0);
    sparse_values_fill();
    for (uint32_t i = 0; i < 1000; i++) {
        torc_rig_step(rig, 100000000);
    }
    user_bytes = heap->user_bytes;
    CU_ASSERT(torc_stats_get(&stats->counters[TORC_COUNTER_PACKED_BYTES]) > user_bytes / 10);
    CU_ASSERT(heap->used_bytes < user_bytes * 5 / 4);
    CU_ASSERT_PTR_NULL(torc_heap_check(heap));
    CU_ASSERT_EQUAL(torc_stats_get(&stats->memory[TORC_MEMORY_LARGE_VALUES]), user_bytes);
    CU_ASSERT_EQUAL(sparse_values_check(), heap->block_count);
    close_rig();
}

// -- Idling ---------------------------------------------------------------------------------------

static void an_idle_worker_puts_leaves_in_order(void)
{
    struct torc_rig_config config = {.workers = 1, .shards = 2, .steered = true};
    struct torc_rng rng = {torc_test_seed()};
    const struct torc_worker *worker;

    open_rig(&config);
    for (uint32_t i = 0; i < 6000; i++) {
        (void)put_text(torc_rng_below(&rng, KEYS), "a value of some length, as there are many");
    }
    (void)put_text(7, "seven");
    for (uint32_t i = 0; i < 200; i++) {
        torc_rig_step(rig, 10000000);
    }
    worker = rig->workers[0];
    CU_ASSERT_EQUAL(worker->order_settled, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct torc_tree *tree = &worker->shards[i].engine.tree;

        CU_ASSERT(tree->leaf_count > 100);
        CU_ASSERT_EQUAL(tree->order.mark, 0);
        CU_ASSERT(tree->order.shape_stamp > 100); // a pass came to its end
        CU_ASSERT(tree->shape_stamp - tree->order.shape_stamp < 64 + tree->leaf_count / 16);
    }
    check_value(7, "seven");
    close_rig();
}

static void chunks_that_deletes_left_sparse_go_back(void)
{
    struct torc_rig_config config = {.workers = 1, .shards = 2, .steered = true};
    struct torc_worker *worker;
    uint32_t free_chunks;

    open_rig(&config);
    for (uint64_t i = 0; i < 16000; i++) {
        (void)put_text(i * (KEYS / 16000),
                       "a value of one hundred and twenty bytes, so that not too many "
                       "of them are needed to fill some chunks of 256 KiB each ......");
    }
    for (uint64_t i = 0; i < 16000; i++) {
        if (i % 16 != 0) {
            struct torc_request request = torc_rig_delete(rig, client, i * (KEYS / 16000));

            (void)expect(&request, TORC_ERR_OK);
        }
    }
    worker = rig->workers[0];
    free_chunks = torc_chunk_pool_free(&worker->chunks);
    for (uint32_t i = 0; i < 300; i++) {
        torc_rig_step(rig, 10000000);
    }
    CU_ASSERT(torc_chunk_pool_free(&worker->chunks) > free_chunks);
    CU_ASSERT_FALSE(worker->compact.more);
    for (uint32_t i = 0; i < 2; i++) {
        const struct torc_tree *tree = &worker->shards[i].engine.tree;

        CU_ASSERT(torc_tree_spare(tree) <= torc_tree_spare_max(tree));
    }
    CU_ASSERT(torc_stats_get(&worker->stats->counters[TORC_COUNTER_COMPACTED_NODES]) > 0);
    close_rig();
}

// -- Answers kept for exactly-once ----------------------------------------------------------------

#define GREEDY_CLIENTS 8u
#define GREEDY_PACKET  16u

// Writes of conditions that fail, whose answers must be kept: as many as the window takes, never
// one to be let go. How many were refused for want of room.
static uint32_t take_all(struct torc_rig_client *greedy)
{
    uint32_t refused = 0;

    for (uint32_t i = 0; i < 4096 / GREEDY_PACKET; i++) {
        struct torc_reply reply;

        for (uint32_t k = 0; k < GREEDY_PACKET; k++) {
            struct torc_request request = torc_rig_put(rig, greedy, 7, "x", 1);

            request.flags = TORC_WRITE_IF_PRESENT;
            request.lowest = 1;
            (void)torc_rig_add(greedy, &request);
        }
        (void)torc_rig_flush(rig, greedy, 0);
        while (torc_rig_await(rig, greedy, &reply, 2)) {
            refused += reply.status == TORC_ERR_BUSY ? 1 : 0;
            CU_ASSERT_FATAL(reply.status == TORC_ERR_BUSY ||
                            reply.status == TORC_ERR_CONDITION_FAILED);
        }
    }
    return refused;
}

static void a_principal_leaves_room_for_another(void)
{
    static struct torc_rig_client greedy[GREEDY_CLIENTS];
    struct torc_rig_config config = {.shards = 1, .sealed = true};
    struct torc_chan_principal both[2];
    uint32_t refused = 0;

    open_rig(&config);
    both[0] = torc_rig_principal(rig);
    both[1] = both[0];
    both[1].number = TORC_RIG_PRINCIPAL + 1;
    torc_rig_keys(rig, both, 2);
    torc_rig_settle(rig, 100);
    for (uint16_t i = 0; i < GREEDY_CLIENTS; i++) {
        torc_rig_connect(rig, &greedy[i], (uint16_t)(6000 + i));
        refused += take_all(&greedy[i]);
    }
    CU_ASSERT(refused > 0);
    rig->config.principal = TORC_RIG_PRINCIPAL + 1;
    for (uint16_t i = 0; i < 20; i++) { // each a new client, which the node has never heard of
        torc_rig_connect(rig, client, (uint16_t)(7000 + i));
        (void)put_text(i, "quiet");
        (void)put_text(i, "again");
    }
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"sparse values are packed while there is time",
         sparse_values_are_packed_while_there_is_time},
        {"a large value goes in and out in pieces", a_large_value_goes_in_and_out_in_pieces},
        {"a piece without its put is told to start again",
         a_piece_without_its_put_is_told_to_start_again},
        {"a refused put is not executed by a late piece",
         a_refused_put_is_not_executed_by_a_late_piece},
        {"a late piece of the put before does not enter a later one",
         a_late_piece_of_the_put_before_does_not_enter_a_later_one},
        {"a put in pieces that is in progress is answered later",
         a_put_in_pieces_that_is_in_progress_is_answered_later},
        {"an idle worker puts leaves in order", an_idle_worker_puts_leaves_in_order},
        {"chunks that deletes left sparse go back", chunks_that_deletes_left_sparse_go_back},
        {"a principal leaves room for another", a_principal_leaves_room_for_another},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker_memory", tests);
}
