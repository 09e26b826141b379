// Torc tests: the C API as programs use it, against the node named on the command line.
//
// What    one call at a time, many in flight, an event loop over torc_queue_fd, fork, errors. Links
//         libtorc.so alone, as a user's program does. Last line: `N passed, N failed`.
//           torc-api ADDRESS KEYS
// Owner   tests/e2e/api_test.py starts it.
#include "torc/torc.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned passed;
static unsigned failed;
static const char *address;
static uint64_t keys;

static void that(bool good, const char *sentence)
{
    passed += good ? 1 : 0;
    failed += good ? 0 : 1;
    if (!good) {
        (void)printf("FAIL  %s\n", sentence);
    }
}

static void is(enum torc_err seen, enum torc_err wanted, const char *sentence)
{
    that(seen == wanted, sentence);
    if (seen != wanted) {
        (void)printf("      %s instead of %s\n", torc_error_name((int)seen),
                     torc_error_name((int)wanted));
    }
}

// ---- One call at a time

static void test_points(struct torc_store *store)
{
    struct torc_value value;
    struct torc_read_options read = {.flags = TORC_VERSION_ONLY};
    uint64_t version = 0;

    is(torc_put(store, 42, "forty-two", 9, &version), TORC_ERR_OK, "put");
    that(version != 0, "put gives a version");
    is(torc_get(store, 42, &value), TORC_ERR_OK, "get");
    that(value.bytes == 9 && memcmp(value.data, "forty-two", 9) == 0, "the value is the one put");
    that(value.version == version, "and so is its version");
    torc_value_free(&value);
    is(torc_get_with(store, 42, &read, &value), TORC_ERR_OK, "get of the version alone");
    that(value.bytes == 0 && value.version == version, "has no value");
    torc_value_free(&value);
    is(torc_get(store, 43, &value), TORC_ERR_NOT_FOUND, "get of a missing key");
    that(value.data == NULL, "gives no data");
    is(torc_put(store, 44, NULL, 0, NULL), TORC_ERR_OK, "put of an empty value");
    is(torc_get(store, 44, &value), TORC_ERR_OK, "which is a value");
    that(value.data != NULL && value.bytes == 0, "with data that is not NULL");
    torc_value_free(&value);
    is(torc_delete(store, 44, NULL), TORC_ERR_OK, "delete");
    is(torc_delete(store, 44, NULL), TORC_ERR_NOT_FOUND, "delete again");
}

static void test_conditions(struct torc_store *store)
{
    struct torc_write_options options = {.condition = TORC_IF_ABSENT};
    uint64_t first = 0;
    uint64_t version = 0;

    is(torc_put_if(store, 50, "a", 1, &options, &first), TORC_ERR_OK, "put if absent");
    is(torc_put_if(store, 50, "b", 1, &options, &version), TORC_ERR_CONDITION_FAILED, "once only");
    that(version == first, "a failed condition gives the present version");
    options = (struct torc_write_options){.condition = TORC_IF_VERSION, .version = first};
    is(torc_put_if(store, 50, "c", 1, &options, &version), TORC_ERR_OK, "put if version");
    is(torc_delete_if(store, 50, &options, NULL), TORC_ERR_CONDITION_FAILED, "another version");
    options.version = version;
    is(torc_delete_if(store, 50, &options, NULL), TORC_ERR_OK, "delete if version");
}

static void test_trace(struct torc_store *store)
{
    struct torc_write_options write = {.flags = TORC_TRACED};
    struct torc_read_options read = {.flags = TORC_TRACED | TORC_VERSION_ONLY};
    struct torc_trace trace;
    struct torc_value value;

    is(torc_last_trace(store, &trace), TORC_ERR_NOT_FOUND, "no trace before the first");
    is(torc_put_if(store, 60, "a", 1, &write, NULL), TORC_ERR_OK, "a traced put");
    is(torc_last_trace(store, &trace), TORC_ERR_OK, "has its trace");
    that((trace.known & TORC_TRACE_SYNC) != 0 && trace.sync_ns > 0, "with the disk's part");
    that(trace.total_ns == trace.wire_ns + trace.queue_ns + trace.tree_ns + trace.log_ns +
                               trace.sync_ns + trace.reply_ns,
         "whose parts make the total");
    is(torc_get_with(store, 60, &read, &value), TORC_ERR_OK, "a traced get");
    torc_value_free(&value);
    is(torc_last_trace(store, &trace), TORC_ERR_OK, "has its trace too");
    that((trace.known & TORC_TRACE_SYNC) == 0 && trace.total_ns > 0, "without a disk");
    write.flags = 1;
    is(torc_put_if(store, 60, "a", 1, &write, NULL), TORC_ERR_INVALID_ARGUMENT, "another flag");
}

static void test_errors(struct torc_store *store)
{
    struct torc_page page;
    struct torc_value value;
    struct torc_write_options options = {.reserved = {1}};

    is(torc_get(store, keys, &value), TORC_ERR_INVALID_ARGUMENT, "a key beyond the store");
    that(strstr(torc_message(store), "outside") != NULL, "is said to be outside");
    is(torc_range(store, 9, 3, NULL, &page), TORC_ERR_INVALID_ARGUMENT, "start above end");
    that(strstr(torc_message(store), "[9, 3)") != NULL, "names the range");
    that(page.count == 0 && page.rows == NULL, "the page is empty after an error");
    is(torc_range(store, 0, keys + 1, NULL, &page), TORC_ERR_INVALID_ARGUMENT, "end beyond");
    is(torc_put_if(store, 1, "x", 1, &options, NULL), TORC_ERR_INVALID_ARGUMENT, "reserved words");
    options = (struct torc_write_options){.condition = 3};
    is(torc_put_if(store, 1, "x", 1, &options, NULL), TORC_ERR_INVALID_ARGUMENT, "condition 3");
    is(torc_range(store, keys, keys, NULL, &page), TORC_ERR_OK, "an empty range at the end");
    torc_page_free(&page);
}

// Whoever calls one at a time cannot poll: what the call before was given is free all the same.
static void test_few_slots(void)
{
    struct torc_options options = {.operations = 1, .memory_bytes = 4 << 20};
    struct torc_item items[100];
    struct torc_message why;
    struct torc_store *store = NULL;
    struct torc_value value;

    is(torc_open(address, &options, &store, &why), TORC_ERR_OK, "a store of one operation");
    is(torc_put(store, 60, "sixty", 5, NULL), TORC_ERR_OK, "puts");
    is(torc_get(store, 60, &value), TORC_ERR_OK, "gets");
    torc_value_free(&value);
    is(torc_get(store, 60, &value), TORC_ERR_OK, "gets again");
    torc_value_free(&value);
    torc_close(store);
    options.operations = 16;
    is(torc_open(address, &options, &store, &why), TORC_ERR_OK, "a store of 16 operations");
    for (uint64_t i = 0; i < 100; i++) {
        items[i] = (struct torc_item){.action = TORC_GET, .key = 60};
    }
    is(torc_multi(store, items, 100, 0), TORC_ERR_OK, "does 100");
    that(items[99].status == TORC_ERR_OK && items[99].value.bytes == 5, "to the last");
    torc_items_free(items, 100);
    torc_close(store);
}

static void test_open(void)
{
    struct torc_options options = {.timeout_us = 200000};
    struct torc_message why;
    struct torc_store *store;

    is(torc_open("127.0.0.1:9", &options, &store, &why), TORC_ERR_NOT_CONNECTED, "nobody there");
    that(store == NULL && strlen(why.text) > 0, "is said, and gives no store");
    is(torc_open("host:port", NULL, &store, &why), TORC_ERR_INVALID_ARGUMENT, "a bad address");
    options.reserved[0] = 1;
    is(torc_open(address, &options, &store, &why), TORC_ERR_INVALID_ARGUMENT, "reserved options");
    options = (struct torc_options){.operations = 70000};
    is(torc_open(address, &options, &store, &why), TORC_ERR_INVALID_ARGUMENT, "70000 operations");
    options = (struct torc_options){.memory_bytes = UINT64_MAX - 5000};
    is(torc_open(address, &options, &store, &why), TORC_ERR_INVALID_ARGUMENT, "too much memory");
}

// ---- Ranges

static uint64_t rows_in(struct torc_store *store, uint64_t lo, uint64_t hi,
                        const struct torc_range_options *options)
{
    struct torc_page page = {.next_lo = lo, .next_hi = hi, .more = true};
    uint64_t rows = 0;

    while (page.more &&
           torc_range(store, page.next_lo, page.next_hi, options, &page) == TORC_ERR_OK) {
        rows += page.count;
        torc_page_free(&page);
    }
    return rows;
}

static void test_ranges(struct torc_store *store)
{
    struct torc_item items[200] = {{0}};
    struct torc_range_options options = {.limit = 7};
    const struct torc_read_options old = {.max_age_us = 1000000};
    uint64_t count = 0;

    for (uint64_t i = 0; i < 200; i++) {
        items[i] = (struct torc_item){
            .key = 1000 + i, .action = TORC_PUT, .data = &items[i].key, .bytes = 8};
    }
    is(torc_multi(store, items, 200, 0), TORC_ERR_OK, "200 puts at once");
    is(torc_count(store, 1000, 1200, &count), TORC_ERR_OK, "count");
    that(count == 200, "counts them");
    that(rows_in(store, 1000, 1200, &options) == 200, "pages of 7 rows find all");
    options = (struct torc_range_options){.bytes = 100, .flags = TORC_REVERSE};
    that(rows_in(store, 1000, 1200, &options) == 200, "pages of 100 bytes too, backward");
    for (uint64_t i = 0; i < 200; i++) {
        items[i] = (struct torc_item){.key = 1000 + i, .action = i < 100 ? TORC_GET : TORC_DELETE};
    }
    items[150].key = keys;
    is(torc_multi_with(store, items, 200, &old), TORC_ERR_INVALID_ARGUMENT,
       "the first bad status is told");
    that(items[150].status == TORC_ERR_INVALID_ARGUMENT, "each item has its own");
    that(items[5].value.bytes == 8 && memcmp(items[5].value.data, &items[5].key, 8) == 0,
         "gets among them have values");
    torc_items_free(items, 200);
    is(torc_count(store, 1000, 1200, &count), TORC_ERR_OK, "count again");
    that(count == 101, "99 were deleted");
}

// ---- Many in flight

enum {
    FLIGHT = 100,
    LEFTOVERS = 8
};

static void queue_harvest(struct torc_queue *queue, unsigned *ended, uint64_t *sum)
{
    struct torc_completion completions[16];
    unsigned count = torc_poll(queue, completions, 16);

    for (unsigned i = 0; i < count; i++) {
        *ended += completions[i].status == TORC_ERR_OK ? 1 : 0;
        *sum += completions[i].user_data;
    }
}

// Sleeps on the descriptor alone, as an event loop does.
static void queue_loop(struct torc_queue *queue, unsigned *ended, uint64_t *sum)
{
    struct pollfd wanted = {.fd = torc_queue_fd(queue), .events = POLLIN};
    unsigned wakes = 0;

    that(wanted.fd >= 0, "a queue has a descriptor");
    while (torc_queue_pending(queue) > 0 && wakes++ < 100000) {
        if (poll(&wanted, 1, 5000) != 1) {
            that(false, "the descriptor wakes an event loop");
            return;
        }
        queue_harvest(queue, ended, sum);
    }
}

static void test_queue(void)
{
    struct torc_options options = {.operations = FLIGHT};
    struct torc_message why;
    struct torc_queue *queue;
    unsigned ended = 0;
    uint64_t sum = 0;

    is(torc_queue_open(address, &options, &queue, &why), TORC_ERR_OK, "a queue opens");
    for (uint64_t i = 0; i < FLIGHT; i++) {
        is(torc_prep_put(queue, 2000 + i, "value", 5, i), TORC_ERR_OK, "prepared before a session");
    }
    is(torc_prep_get(queue, 1, NULL, 0), TORC_ERR_LIMIT, "one more than fits");
    that(torc_queue_pending(queue) == FLIGHT, "all are pending");
    is(torc_submit(queue), TORC_ERR_OK, "submit");
    queue_loop(queue, &ended, &sum);
    that(ended == FLIGHT, "every one ended well");
    that(sum == FLIGHT * (FLIGHT - 1) / 2, "each with its own user_data, once");
    that(torc_wait(queue, NULL, 0, 1000) == 0, "waiting for nothing ends at once");
    torc_queue_close(queue);
}

// Whoever takes one completion at a time is woken for each, though they came in one packet.
static void test_leftovers(void)
{
    struct torc_message why;
    struct torc_queue *queue;
    struct torc_counters counters;
    struct pollfd wanted = {.events = POLLIN};
    unsigned returned = 0;
    unsigned left = 0;
    unsigned woken = 0;

    is(torc_queue_open(address, NULL, &queue, &why), TORC_ERR_OK, "a queue for an event loop");
    is(torc_queue_ready(queue, 0), TORC_ERR_OK, "is ready");
    wanted.fd = torc_queue_fd(queue);
    for (uint64_t i = 0; i < LEFTOVERS; i++) {
        is(torc_prep_get(queue, 2000 + i, NULL, i), TORC_ERR_OK, "a get");
    }
    is(torc_submit(queue), TORC_ERR_OK, "all of them in a packet");
    while (torc_queue_pending(queue) > 0 && poll(&wanted, 1, 5000) == 1) {
        struct torc_completion completion;

        returned += torc_poll(queue, &completion, 1);
        torc_queue_counters(queue, &counters);
        if (returned < counters.ops_completed) {
            left++;
            woken += poll(&wanted, 1, 0) == 1 ? 1 : 0;
        }
    }
    that(returned == LEFTOVERS, "are returned");
    that(left > 0, "some after others");
    that(woken == left, "and the descriptor is readable as long as there are any");
    torc_queue_close(queue);
}

static void test_wait(void)
{
    struct torc_completion completion;
    struct torc_message why;
    struct torc_queue *queue;

    is(torc_queue_open(address, NULL, &queue, &why), TORC_ERR_OK, "another queue");
    is(torc_queue_ready(queue, 0), TORC_ERR_OK, "is ready");
    is(torc_prep_range(queue, 2000, 2000 + FLIGHT, NULL, 7), TORC_ERR_OK, "a range");
    that(torc_wait(queue, &completion, 1, 5000000) == 1, "is waited for");
    that(completion.status == TORC_ERR_OK && completion.count == FLIGHT, "has all rows");
    that(completion.user_data == 7 && completion.rows[1].key == 2001, "in order");
    is(torc_prep_count(queue, 0, keys, 0, 8), TORC_ERR_OK, "a count");
    that(torc_wait(queue, &completion, 1, 5000000) == 1, "is waited for");
    that(completion.count >= FLIGHT, "counts at least those");
    is(torc_prep_status(queue, 0, 0, 9), TORC_ERR_OK, "a status");
    that(torc_wait(queue, &completion, 1, 5000000) == 1, "is waited for");
    that(completion.bytes > 10 && memcmp(completion.data, "node ", 5) == 0, "is text");
    torc_queue_close(queue);
}

// ---- Fork

static int child_of(struct torc_store *store)
{
    struct torc_value value;
    enum torc_err err = torc_get(store, 42, &value);

    torc_close(store);
    return err == TORC_ERR_CLOSED ? 7 : 1;
}

// Mappings that a fork wipes (wf) and core dumps leave out (dd): where keys lie.
static uint32_t secret_mappings(void)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    uint32_t count = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " wf") != NULL &&
            strstr(line, " dd") != NULL) {
            count++;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

static void test_fork(struct torc_store *store)
{
    struct torc_value value;
    int status = 0;
    pid_t child;

    that(secret_mappings() == 1, "keys are in no child and no core dump");
    child = fork();
    if (child == 0) {
        _exit(child_of(store));
    }
    that(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7,
         "a child's calls answer CLOSED");
    is(torc_get(store, 42, &value), TORC_ERR_OK, "the parent's go on");
    torc_value_free(&value);
}

static void test_cluster(struct torc_store *store)
{
    struct torc_limits limits;
    struct torc_counters counters;
    struct torc_shard shards[64];
    struct torc_value text;
    size_t count = 64;

    is(torc_limits(store, &limits), TORC_ERR_OK, "limits");
    that(limits.keys == keys && limits.value_bytes_max > 0 && limits.node == 1, "are published");
    is(torc_shards(store, shards, &count), TORC_ERR_OK, "shards");
    that(count > 0 && shards[0].lo == 0 && shards[count - 1].hi == keys, "cover all keys");
    is(torc_node_status(store, 0, &text), TORC_ERR_OK, "status of the first node");
    torc_value_free(&text);
    is(torc_node_status(store, 99, &text), TORC_ERR_INVALID_ARGUMENT, "of an unknown node");
    torc_counters(store, &counters);
    that(counters.handshakes == 1 && counters.ops_completed > 100, "counters count");
}

int main(int argc, char **argv)
{
    struct torc_message why;
    struct torc_store *store = NULL;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: torc-api ADDRESS KEYS\n");
        return 2;
    }
    address = argv[1];
    keys = strtoull(argv[2], NULL, 10);
    test_open();
    test_few_slots();
    if (torc_open(address, NULL, &store, &why) != TORC_ERR_OK) {
        (void)fprintf(stderr, "torc-api: %s\n", why.text);
        return 1;
    }
    test_points(store);
    test_conditions(store);
    test_trace(store);
    test_errors(store);
    test_ranges(store);
    test_queue();
    test_leftovers();
    test_wait();
    test_fork(store);
    test_cluster(store);
    torc_close(store);
    torc_close(NULL);
    (void)printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
