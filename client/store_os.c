// Torc client: one call at a time, and the words of the library; see torc.h.
//
// What    each call prepares one operation on a queue of its own and waits for its completion.
// Owner   the caller's thread.
// Memory  values and pages that are handed out are malloc'ed, and freed by the caller through
//         torc.h.
#include "client/queue_os.h"
#include "kit/clock_os.h"

#include <stdlib.h>
#include <string.h>

#define MULTI_BURST 256u

struct torc_store {
    struct torc_queue *queue;
    char text[TORC_MESSAGE_BYTES];
};

// ---- Words

const char *torc_version(void)
{
    return TORC_VERSION;
}

const char *torc_error_name(int err)
{
    return torc_err_name((enum torc_err)err);
}

const char *torc_error_sentence(int err)
{
    return torc_err_sentence((enum torc_err)err);
}

bool torc_retryable(int err)
{
    return torc_err_retryable((enum torc_err)err);
}

bool torc_maybe_applied(int err)
{
    return torc_err_maybe_applied((enum torc_err)err);
}

// ---- Life

enum torc_err torc_open(const char *address, const struct torc_options *options,
                        struct torc_store **store, struct torc_message *why)
{
    struct torc_store *made = calloc(1, sizeof(*made));
    enum torc_err err;

    *store = NULL;
    if (made == NULL) {
        if (why != NULL) {
            *why = (struct torc_message){.err = TORC_ERR_NO_SPACE, .text = "no memory"};
        }
        return TORC_ERR_NO_SPACE;
    }
    err = torc_queue_open(address, options, &made->queue, why);
    if (err == TORC_ERR_OK) {
        err = torc_queue_ready(made->queue, 0);
        if (err != TORC_ERR_OK && why != NULL) {
            why->err = err;
            (void)snprintf(why->text, sizeof(why->text), "%s", torc_queue_message(made->queue));
        }
    }
    if (err != TORC_ERR_OK) {
        torc_close(made);
        return err;
    }
    *store = made;
    return TORC_ERR_OK;
}

void torc_close(struct torc_store *store)
{
    if (store == NULL) {
        return;
    }
    torc_queue_close(store->queue);
    free(store);
}

const char *torc_message(const struct torc_store *store)
{
    return store->text;
}

static enum torc_err store_fail(struct torc_store *store, enum torc_err err, const char *text)
{
    (void)snprintf(store->text, sizeof(store->text), "%s",
                   text != NULL && text[0] != '\0' ? text : torc_err_sentence(err));
    return err;
}

// Its queue for the next operation. What the last call was given has been copied: nobody else will
// say so, as nobody polls.
static struct torc_queue *store_queue(const struct torc_store *store)
{
    torc_queue_release(store->queue);
    return store->queue;
}

// Waits for the one operation that was prepared (`prepared`: how that went). What the completion
// points to is valid until the next call.
static enum torc_err store_finish(struct torc_store *store, enum torc_err prepared,
                                  struct torc_completion *completion)
{
    *completion = (struct torc_completion){.status = prepared};
    if (prepared != TORC_ERR_OK) {
        return store_fail(store, prepared, torc_queue_message(store->queue));
    }
    // Every operation ends at its deadline at the latest; a wait without an end of its own is safe.
    while (torc_wait(store->queue, completion, 1, UINT64_MAX) == 0) {
        if (torc_queue_pending(store->queue) == 0) {
            return store_fail(store, TORC_ERR_CLOSED, torc_queue_message(store->queue));
        }
    }
    if (completion->status == TORC_ERR_OK || completion->status == TORC_ERR_NOT_FOUND) {
        return completion->status;
    }
    return store_fail(store, completion->status, completion->text);
}

// ---- Writes

static enum torc_err store_written(struct torc_store *store, enum torc_err prepared,
                                   uint64_t *version)
{
    struct torc_completion completion;
    enum torc_err err = store_finish(store, prepared, &completion);

    if (version != NULL) {
        *version = completion.version;
    }
    return err;
}

enum torc_err torc_put(struct torc_store *store, uint64_t key, const void *data, size_t bytes,
                       uint64_t *version)
{
    return torc_put_if(store, key, data, bytes, NULL, version);
}

enum torc_err torc_put_if(struct torc_store *store, uint64_t key, const void *data, size_t bytes,
                          const struct torc_write_options *options, uint64_t *version)
{
    return store_written(store, torc_prep_put_if(store_queue(store), key, data, bytes, options, 0),
                         version);
}

enum torc_err torc_delete(struct torc_store *store, uint64_t key, uint64_t *version)
{
    return torc_delete_if(store, key, NULL, version);
}

enum torc_err torc_delete_if(struct torc_store *store, uint64_t key,
                             const struct torc_write_options *options, uint64_t *version)
{
    return store_written(store, torc_prep_delete(store_queue(store), key, options, 0), version);
}

// ---- Reads

// A copy that the caller frees. Never NULL for an empty value.
static bool value_copy(struct torc_value *value, const void *data, uint64_t bytes)
{
    value->data = malloc(bytes > 0 ? bytes : 1);
    if (value->data == NULL) {
        return false;
    }
    if (bytes > 0) {
        memcpy(value->data, data, bytes);
    }
    value->bytes = bytes;
    return true;
}

static enum torc_err store_value(struct torc_store *store, enum torc_err prepared,
                                 struct torc_value *value)
{
    struct torc_completion completion;
    enum torc_err err = store_finish(store, prepared, &completion);

    *value = (struct torc_value){.version = completion.version};
    if (err == TORC_ERR_OK && !value_copy(value, completion.data, completion.bytes)) {
        return store_fail(store, TORC_ERR_NO_SPACE, "no memory here for the value");
    }
    return err;
}

enum torc_err torc_get(struct torc_store *store, uint64_t key, struct torc_value *value)
{
    return torc_get_with(store, key, NULL, value);
}

enum torc_err torc_get_with(struct torc_store *store, uint64_t key,
                            const struct torc_read_options *options, struct torc_value *value)
{
    return store_value(store, torc_prep_get(store_queue(store), key, options, 0), value);
}

enum torc_err torc_node_status(struct torc_store *store, uint32_t node, struct torc_value *text)
{
    return store_value(store, torc_prep_status(store_queue(store), node, 0, 0), text);
}

void torc_value_free(struct torc_value *value)
{
    free(value->data);
    *value = (struct torc_value){0};
}

// ---- Ranges

// Rows and their bytes, copied into one block.
static bool page_copy(struct torc_page *page, const struct torc_completion *completion)
{
    uint64_t bytes = 0;
    uint8_t *to;

    for (uint64_t i = 0; i < completion->count; i++) {
        bytes += completion->rows[i].bytes;
    }
    page->memory = malloc(completion->count * sizeof(struct torc_row) + bytes + 1);
    if (page->memory == NULL) {
        return false;
    }
    page->rows = page->memory;
    to = (uint8_t *)(page->rows + completion->count);
    for (uint64_t i = 0; i < completion->count; i++) {
        page->rows[i] = completion->rows[i];
        if (page->rows[i].data != NULL) {
            memcpy(to, completion->rows[i].data, page->rows[i].bytes);
            page->rows[i].data = to;
            to += page->rows[i].bytes;
        }
    }
    page->count = completion->count;
    return true;
}

enum torc_err torc_range(struct torc_store *store, uint64_t lo, uint64_t hi,
                         const struct torc_range_options *options, struct torc_page *page)
{
    struct torc_completion completion;
    enum torc_err err = torc_prep_range(store_queue(store), lo, hi, options, 0);

    *page = (struct torc_page){0};
    err = store_finish(store, err, &completion);
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!page_copy(page, &completion)) {
        return store_fail(store, TORC_ERR_NO_SPACE, "no memory here for the page");
    }
    page->more = (completion.flags & TORC_MORE) != 0;
    page->truncated = (completion.flags & TORC_TRUNCATED) != 0;
    page->next_lo = completion.next_lo;
    page->next_hi = completion.next_hi;
    page->timestamp = completion.version;
    return TORC_ERR_OK;
}

void torc_page_free(struct torc_page *page)
{
    // What says where to go on stays: a caller's loop frees a page and asks for the next with it.
    free(page->memory);
    page->memory = NULL;
    page->rows = NULL;
    page->count = 0;
}

enum torc_err torc_count(struct torc_store *store, uint64_t lo, uint64_t hi, uint64_t *count)
{
    struct torc_completion completion;
    enum torc_err err =
        store_finish(store, torc_prep_count(store_queue(store), lo, hi, 0, 0), &completion);

    *count = err == TORC_ERR_OK ? completion.count : 0;
    return err;
}

enum torc_err torc_count_with(struct torc_store *store, uint64_t lo, uint64_t hi,
                              const struct torc_range_options *options, uint64_t *count)
{
    struct torc_completion completion;
    enum torc_err err = store_finish(
        store, torc_prep_count_with(store_queue(store), lo, hi, options, 0), &completion);

    *count = err == TORC_ERR_OK ? completion.count : 0;
    return err;
}

// ---- Many at once

static enum torc_err item_prepare(struct torc_store *store, const struct torc_item *item,
                                  const struct torc_read_options *options, uint64_t index)
{
    struct torc_write_options write = {.timeout_us = options->timeout_us,
                                       .version = item->if_version,
                                       .condition = item->condition};

    switch (item->action) {
    case TORC_GET: return torc_prep_get(store->queue, item->key, options, index);
    case TORC_PUT:
        return torc_prep_put_if(store->queue, item->key, item->data, item->bytes, &write, index);
    case TORC_DELETE: return torc_prep_delete(store->queue, item->key, &write, index);
    default: return TORC_ERR_UNSUPPORTED; // its text is the sentence of the code
    }
}

static void item_finish(struct torc_item *item, const struct torc_completion *completion)
{
    item->status = completion->status;
    item->version = completion->version;
    if (item->action == TORC_GET && item->status == TORC_ERR_OK &&
        !value_copy(&item->value, completion->data, completion->bytes)) {
        item->status = TORC_ERR_NO_SPACE;
    }
}

static bool status_is_answer(enum torc_err status)
{
    return status == TORC_ERR_OK || status == TORC_ERR_NOT_FOUND ||
           status == TORC_ERR_CONDITION_FAILED;
}

// The first status that is no answer decides; its text is kept.
static void multi_note(struct torc_store *store, enum torc_err *first, enum torc_err status,
                       const char *text)
{
    if (!status_is_answer(status) && *first == TORC_ERR_OK) {
        *first = store_fail(store, status, text);
    }
}

// Prepares items from *at on, as many as the queue takes. What was given before has been copied.
static void multi_prepare(struct torc_store *store, struct torc_item *items, size_t count,
                          const struct torc_read_options *options, size_t *at, enum torc_err *first)
{
    torc_queue_release(store->queue);
    while (*at < count) {
        struct torc_item *item = &items[*at];
        enum torc_err err = item_prepare(store, item, options, *at);

        if (err == TORC_ERR_LIMIT && torc_queue_pending(store->queue) > 0) {
            return;
        }
        if (err != TORC_ERR_OK) {
            item->status = err;
            multi_note(store, first, err,
                       err == TORC_ERR_UNSUPPORTED ? NULL : torc_queue_message(store->queue));
        }
        (*at)++;
    }
}

enum torc_err torc_multi(struct torc_store *store, struct torc_item *items, size_t count,
                         uint64_t timeout_us)
{
    return torc_multi_with(store, items, count,
                           &(struct torc_read_options){.timeout_us = timeout_us});
}

enum torc_err torc_multi_with(struct torc_store *store, struct torc_item *items, size_t count,
                              const struct torc_read_options *options)
{
    static const struct torc_read_options defaults;
    struct torc_completion completions[MULTI_BURST];
    enum torc_err first = TORC_ERR_OK;
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        items[i].value = (struct torc_value){0};
        items[i].version = 0;
        items[i].status = TORC_ERR_CLOSED;
    }
    options = options == NULL ? &defaults : options;
    do {
        unsigned done;

        multi_prepare(store, items, count, options, &at, &first);
        done = torc_wait(store->queue, completions, MULTI_BURST, UINT64_MAX);
        for (unsigned i = 0; i < done; i++) {
            struct torc_item *item = &items[completions[i].user_data];

            item_finish(item, &completions[i]);
            multi_note(store, &first, item->status, completions[i].text);
        }
    } while (at < count || torc_queue_pending(store->queue) > 0);
    return first;
}

void torc_items_free(struct torc_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        torc_value_free(&items[i].value);
    }
}

// ---- The cluster

enum torc_err torc_limits(struct torc_store *store, struct torc_limits *limits)
{
    enum torc_err err = torc_queue_limits(store->queue, limits);

    return err == TORC_ERR_OK ? err : store_fail(store, err, torc_queue_message(store->queue));
}

enum torc_err torc_last_trace(const struct torc_store *store, struct torc_trace *trace)
{
    return torc_queue_last_trace(store->queue, trace);
}

void torc_counters(const struct torc_store *store, struct torc_counters *counters)
{
    torc_queue_counters(store->queue, counters);
}

enum torc_err torc_shards(struct torc_store *store, struct torc_shard *shards, size_t *count)
{
    uint32_t room = (uint32_t)torc_min_u64(*count, UINT32_MAX);
    enum torc_err err = torc_queue_map(store->queue, 0);

    *count = 0;
    if (err != TORC_ERR_OK) {
        return store_fail(store, err, torc_queue_message(store->queue));
    }
    *count = torc_queue_shards(store->queue, shards, room);
    return TORC_ERR_OK;
}
