// Torc control: waiting for a metastore. See control/metastore_os.h.
#include "control/metastore_os.h"
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
