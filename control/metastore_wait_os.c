// Torc control: waiting for a metastore. See control/metastore_os.h.
#include "control/data_dir_os.h"
#include "control/metastore_os.h"
#include "control/records.h"
#include "control/swap.h"
#include "kit/clock_os.h"

#include <poll.h>

enum torc_err torc_metastore_ask(struct torc_metastore *store,
                                 const struct torc_meta_request *request,
                                 struct torc_meta_answer *answer)
{
    struct torc_meta_request timed = *request;
    uint64_t now_ns = torc_clock_now_ns();
    enum torc_err err;

    torc_assert(store->inflight == 0);
    torc_assert(store->watch_count == 0);
    timed.deadline_ns = now_ns + TORC_META_WAIT_NS;
    *answer = (struct torc_meta_answer){0};
    err = torc_metastore_submit(store, &timed, now_ns, &answer->why);
    if (err != TORC_ERR_OK) {
        answer->err = err;
        return err;
    }
    while (!torc_metastore_take(store, answer)) {
        uint64_t until_ns = torc_min_u64(torc_metastore_deadline_ns(store), timed.deadline_ns);
        struct pollfd fd = {.fd = torc_metastore_fd(store), .events = POLLIN};

        now_ns = torc_clock_now_ns();
        if (until_ns > now_ns) {
            // Late by up to a millisecond, never early. It may be interrupted.
            (void)poll(&fd, 1, (int)((until_ns - now_ns) / TORC_NS_PER_MS + 1));
        }
        torc_metastore_step(store, torc_clock_now_ns());
    }
    return answer->err;
}

enum torc_err torc_metastore_get(struct torc_metastore *store, const char *key,
                                 struct torc_meta_record *record, struct torc_fail *why)
{
    struct torc_meta_request request = {.verb = TORC_META_GET, .key = key};
    struct torc_meta_answer answer;
    enum torc_err err = torc_metastore_ask(store, &request, &answer);

    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "%s", answer.why.text);
    }
    torc_assert(answer.record_count == 1);
    *record = answer.records[0];
    return TORC_ERR_OK;
}

enum torc_err torc_metastore_list(struct torc_metastore *store, const char *prefix,
                                  uint32_t record_max, const struct torc_meta_record **records,
                                  uint32_t *record_count, struct torc_fail *why)
{
    struct torc_meta_request request = {
        .verb = TORC_META_LIST, .key = prefix, .record_max = record_max};
    struct torc_meta_answer answer;
    enum torc_err err = torc_metastore_ask(store, &request, &answer);

    *records = answer.records;
    *record_count = answer.record_count;
    return err == TORC_ERR_OK ? err : torc_fail(why, err, "%s", answer.why.text);
}

enum torc_err torc_metastore_txn(struct torc_metastore *store, const struct torc_meta_op *ops,
                                 uint32_t op_count, uint64_t *revision, struct torc_fail *why)
{
    struct torc_meta_request request = {.verb = TORC_META_TXN, .ops = ops, .op_count = op_count};
    struct torc_meta_answer answer;
    enum torc_err err = torc_metastore_ask(store, &request, &answer);

    *revision = answer.revision;
    return err == TORC_ERR_OK ? err : torc_fail(why, err, "%s", answer.why.text);
}

static void wait_until(uint64_t until_ns)
{
    struct timespec pause = {0};
    uint64_t now_ns = torc_clock_now_ns();

    if (until_ns > now_ns) {
        pause.tv_sec = (time_t)((until_ns - now_ns) / TORC_NS_PER_S);
        pause.tv_nsec = (long)((until_ns - now_ns) % TORC_NS_PER_S);
        (void)nanosleep(&pause, NULL); // shorter is as good
    }
}

enum torc_err torc_metastore_swap(struct torc_metastore *store, const struct torc_meta_op *ops,
                                  uint32_t op_count, uint64_t *version, struct torc_fail *why)
{
    uint64_t end_ns = torc_clock_now_ns() + 2 * TORC_META_WAIT_NS;
    struct torc_meta_answer answer = {0};
    struct torc_swap swap = {0};

    torc_swap_begin(&swap, ops, op_count, 1);
    while (!torc_swap_is_over(&swap)) {
        struct torc_meta_request request;
        uint64_t now_ns = torc_clock_now_ns();

        if (now_ns >= end_ns) {
            return torc_fail(why, swap.doubt ? TORC_ERR_IN_DOUBT : TORC_ERR_UNAVAILABLE, "%s",
                             answer.why.text);
        }
        if (!torc_swap_next(&swap, now_ns, &request)) {
            wait_until(torc_swap_deadline_ns(&swap));
            continue;
        }
        if (torc_metastore_ask(store, &request, &answer) == TORC_ERR_INVALID_ARGUMENT ||
            answer.err == TORC_ERR_TOO_LARGE) {
            return torc_fail(why, answer.err, "%s", answer.why.text); // it was not submitted
        }
        torc_swap_take(&swap, torc_clock_now_ns(), &answer);
    }
    *version = swap.version;
    if (swap.state == TORC_SWAP_WON) {
        return TORC_ERR_OK;
    }
    if (swap.state == TORC_SWAP_LOST) {
        return torc_fail(why, TORC_ERR_CONDITION_FAILED,
                         "%s was changed by another process (revision %" PRIu64 ", %" PRIu64
                         " was expected)",
                         ops[0].key, swap.version, ops[0].expected);
    }
    return torc_fail(why, swap.err, "%s", answer.why.text);
}

enum torc_err torc_metastore_draw(struct torc_metastore *store, const char *counter, uint64_t floor,
                                  uint64_t count, uint64_t *first, struct torc_fail *why)
{
    char text[TORC_RECORD_BYTES_MAX];
    enum torc_err err;

    *first = 0;
    do { // each round that is lost was won by another
        struct torc_meta_op op = {.kind = TORC_META_PUT, .key = counter, .value = text};
        struct torc_counter_fields fields = {0};
        struct torc_meta_record record = {0};
        uint64_t version;

        err = torc_metastore_get(store, counter, &record, why);
        if (err == TORC_ERR_OK) {
            op.expected = record.version;
            err = torc_record_decode(TORC_RECORD_COUNTER, &fields, record.value, record.value_bytes,
                                     why);
        } else if (err == TORC_ERR_NOT_FOUND) {
            err = TORC_ERR_OK;
        }
        if (err != TORC_ERR_OK) {
            return err;
        }
        *first = torc_max_u64(fields.value, floor) + 1;
        fields.value = *first + count - 1;
        torc_random(&fields.nonce, sizeof(fields.nonce));
        op.value_bytes = torc_record_encode(TORC_RECORD_COUNTER, &fields, text);
        err = torc_metastore_swap(store, &op, 1, &version, why);
    } while (err == TORC_ERR_CONDITION_FAILED);
    return err;
}
