// Torc control: the folder of the log: what is there, what is let go of. See control/log_uring.h.
#include "control/log_impl_uring.h"
#include "kit/log_os.h"
#include "storage/log_format.h"

#include <stdlib.h>

void torc_log_segment_name(char *name, uint32_t stream, uint32_t segment)
{
    (void)snprintf(name, TORC_LOG_NAME_BYTES, "%" PRIu32 "-%" PRIu32, stream, segment);
}

void torc_log_spare_name(char *name, const char *kind, uint32_t number)
{
    (void)snprintf(name, TORC_LOG_NAME_BYTES, "%s-%" PRIu32, kind, number);
}

// -- Looking around ------------------------------------------------------------------------------

void torc_log_store_forget(struct torc_log_store *store)
{
    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct torc_log_store_stream *stream = store->streams[i];

        torc_assert(stream->worker == TORC_LOG_NOBODY);
        torc_assert(stream->job.busy == 0);
        for (uint32_t at = 0; at < TORC_LOG_FLIGHTS_MAX; at++) {
            torc_assert(stream->ops[at].tag == 0);
        }
        for (uint32_t at = 0; at < stream->plan.segment_count; at++) {
            if (stream->plan.segments[at].file != 0) {
                torc_disk_file_close(store->disk, stream->plan.segments[at].file);
            }
        }
        free(stream->plan.segments);
        free(stream->job.header);
        free(stream);
    }
    store->stream_count = 0;
    store->spare_count = 0;
}

struct torc_log_store_stream *torc_log_store_stream_make(struct torc_log_store *store,
                                                         uint32_t number)
{
    uint32_t at = 0;
    struct torc_log_store_stream *stream;

    while (at < store->stream_count && store->streams[at]->plan.stream < number) {
        at++;
    }
    if (at < store->stream_count && store->streams[at]->plan.stream == number) {
        return store->streams[at];
    }
    if (store->stream_count == TORC_LOG_STREAMS_MAX) {
        return NULL;
    }
    stream = calloc(1, sizeof(*stream));
    torc_assert(stream != NULL);
    stream->store = store;
    stream->worker = TORC_LOG_NOBODY;
    stream->window = TORC_LOG_NOBODY;
    torc_log_plan_init(&stream->plan, number, store->config.inflight,
                       calloc(TORC_LOG_SEGMENTS_MAX, sizeof(struct torc_log_plan_segment)),
                       TORC_LOG_SEGMENTS_MAX);
    stream->job.header = aligned_alloc(TORC_DISK_ALIGN_BYTES, TORC_LOG_SLOT_BYTES);
    torc_assert(stream->plan.segments != NULL);
    torc_assert(stream->job.header != NULL);
    memmove(store->streams + at + 1, store->streams + at,
            (store->stream_count - at) * sizeof(struct torc_log_store_stream *));
    store->streams[at] = stream;
    store->stream_count++;
    return stream;
}

// "12-7" into 12 and 7.
static bool store_parse(const char *name, uint32_t *stream, uint32_t *segment)
{
    char again[TORC_LOG_NAME_BYTES];
    uint64_t numbers[2] = {0};
    uint32_t which = 0;

    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-' && which == 0) {
            which = 1;
        } else if (*at < '0' || *at > '9' || numbers[which] > UINT32_MAX / 10) {
            return false;
        } else {
            numbers[which] = numbers[which] * 10 + (uint64_t)(*at - '0');
        }
    }
    if (numbers[0] > UINT32_MAX || numbers[1] > UINT32_MAX) {
        return false;
    }
    *stream = (uint32_t)numbers[0];
    *segment = (uint32_t)numbers[1];
    torc_log_segment_name(again, *stream, *segment);
    return strcmp(again, name) == 0; // as we would write it
}

// The sequence of the block in the segment's second slot, if it is of this use of the file.
static uint64_t store_first_sequence(const unsigned char *slot, const struct torc_log_segment *head)
{
    struct torc_log_block_header header;

    memcpy(&header, slot, sizeof(header));
    if (torc_log_block_peek(slot, UINT32_MAX) == 0 ||
        torc_get_le64(header.generation) != head->generation ||
        torc_get_le32(header.stream) != head->stream ||
        torc_get_le32(header.segment) != head->segment ||
        torc_get_le32(header.offset_bytes) != TORC_LOG_SLOT_BYTES) {
        return 0;
    }
    return torc_get_le64(header.sequence);
}

static enum torc_err store_read_segment(struct torc_log_store *store, const char *name,
                                        uint32_t number, uint32_t segment, struct torc_fail *why)
{
    unsigned char slots[2 * TORC_LOG_SLOT_BYTES] = {0};
    struct torc_log_segment head;
    struct torc_fail inner = {0};
    struct torc_disk_piece piece = {.bytes = slots, .byte_count = sizeof(slots)};
    int32_t got = torc_disk_peek(store->disk, store->config.folder_fd, name, &piece);
    struct torc_log_store_stream *stream;

    if (got < 0) {
        return torc_fail(why, TORC_ERR_IO, "read log/%s: %s", name, strerrordesc_np(-got));
    }
    if (torc_log_segment_check(slots, &head, &inner) != TORC_ERR_OK) {
        return torc_fail(why, inner.err, "log/%s: %.100s", name, inner.text);
    }
    if (head.cluster != store->config.cluster || head.node != store->config.node ||
        head.stream != number || head.segment != segment) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log/%s is segment %" PRIu32 " of stream %" PRIu32 " of node %" PRIu32
                         ": put here from elsewhere?",
                         name, head.segment, head.stream, head.node);
    }
    stream = torc_log_store_stream_make(store, number);
    if (stream == NULL) {
        return torc_fail(why, TORC_ERR_LIMIT, "log/: over %u streams", TORC_LOG_STREAMS_MAX);
    }
    if (stream->plan.segment_count == TORC_LOG_SEGMENTS_MAX) {
        return torc_fail(why, TORC_ERR_LIMIT, "log/: over %u segments of stream %" PRIu32,
                         TORC_LOG_SEGMENTS_MAX, number);
    }
    stream->plan.segments[stream->plan.segment_count++] = (struct torc_log_plan_segment){
        .generation = head.generation,
        .first_sequence = store_first_sequence(slots + TORC_LOG_SLOT_BYTES, &head),
        .cut_sequence = head.first_sequence,
        .segment = segment,
        .segment_bytes = head.segment_bytes};
    return TORC_ERR_OK;
}

// `spare-<k>` of the right size is kept, anything else of ours that is none is removed.
static bool store_take_spare(struct torc_log_store *store, const char *name)
{
    bool spare = strncmp(name, "spare-", 6) == 0;
    struct torc_disk_piece piece = {0};
    uint32_t number;
    uint32_t none;
    char shape[TORC_LOG_NAME_BYTES + 8];

    if (!spare && strncmp(name, "new-", 4) != 0) {
        return false;
    }
    (void)snprintf(shape, sizeof(shape), "0-%.30s", strchr(name, '-') + 1);
    if (!store_parse(shape, &none, &number)) {
        return false;
    }
    store->next_spare = (uint32_t)torc_max_u64(store->next_spare, number + UINT64_C(1));
    if (store->config.look_only) {
        return true;
    }
    if (spare && store->spare_count < store->config.spares_max &&
        torc_disk_peek(store->disk, store->config.folder_fd, name, &piece) >= 0 &&
        piece.file_bytes == store->config.segment_bytes) {
        store->spares[store->spare_count++] = (struct torc_log_store_spare){number, false};
    } else {
        // It is found again at the next start, if it stays.
        (void)torc_disk_remove(store->disk, store->config.folder_fd, name);
    }
    return true;
}

static int store_by_segment(const void *a, const void *b)
{
    const struct torc_log_plan_segment *one = a;
    const struct torc_log_plan_segment *two = b;

    return one->segment < two->segment ? -1 : one->segment > two->segment;
}

enum torc_err torc_log_store_list(struct torc_log_store *store, struct torc_fail *why)
{
    struct torc_disk_names names = {0};
    int32_t listed = torc_disk_list(store->disk, store->config.folder_fd, &names);
    enum torc_err err = TORC_ERR_OK;

    if (listed < 0) {
        return torc_fail(why, TORC_ERR_IO, "read log/: %s", strerrordesc_np(-listed));
    }
    torc_log_store_forget(store);
    for (uint32_t i = 0; i < names.count && err == TORC_ERR_OK; i++) {
        const char *name = names.names[i];
        uint32_t stream;
        uint32_t segment;

        if (name[0] == '.' || store_take_spare(store, name)) {
            continue;
        }
        if (!store_parse(name, &stream, &segment)) {
            torc_log(TORC_LOG_WARN, "log", "unknown-file", "name=log/%.60s", name);
            continue;
        }
        err = store_read_segment(store, name, stream, segment, why);
    }
    torc_disk_names_free(&names);
    for (uint32_t i = 0; i < store->stream_count; i++) {
        qsort(store->streams[i]->plan.segments, store->streams[i]->plan.segment_count,
              sizeof(struct torc_log_plan_segment), store_by_segment);
    }
    return err;
}

// -- Letting go ----------------------------------------------------------------------------------

static void store_remove(const struct torc_log_store *store, const char *name)
{
    int32_t removed = torc_disk_remove(store->disk, store->config.folder_fd, name);

    if (removed != 0) {
        torc_log(TORC_LOG_WARN, "log", "not-removed", "name=log/%s reason=\"%s\"", name,
                 strerrordesc_np(-removed));
    }
}

// Makes the file of `segment` a spare, or removes it.
static void store_recycle(struct torc_log_store *store, uint32_t stream,
                          const struct torc_log_plan_segment *segment)
{
    char name[TORC_LOG_NAME_BYTES];
    char spare[TORC_LOG_NAME_BYTES];
    uint32_t number = store->next_spare++;

    if (segment->file != 0) {
        torc_disk_file_close(store->disk, segment->file);
    }
    torc_log_segment_name(name, stream, segment->segment);
    torc_log_spare_name(spare, "spare", number);
    if (segment->segment_bytes == store->config.segment_bytes &&
        store->spare_count < store->config.spares_max &&
        torc_disk_rename(store->disk, store->config.folder_fd, name, spare) == 0) {
        store->spares[store->spare_count++] = (struct torc_log_store_spare){number, false};
        return;
    }
    store_remove(store, name);
}

void torc_log_store_hold(struct torc_log_store *store, bool held)
{
    store->held = held;
}

void torc_log_store_shed(struct torc_log_store *store, uint32_t keep)
{
    char name[TORC_LOG_NAME_BYTES];

    while (store->spare_count > keep) {
        torc_log_spare_name(name, "spare", store->spares[--store->spare_count].number);
        store_remove(store, name);
    }
}

void torc_log_store_drop(struct torc_log_store *store, uint32_t index, uint32_t at)
{
    struct torc_log_plan *plan = torc_log_store_plan(store, index);

    torc_assert(at < plan->segment_count);
    store_recycle(store, plan->stream, plan->segments + at);
    plan->segment_count--;
    memmove(plan->segments + at, plan->segments + at + 1,
            (plan->segment_count - at) * sizeof(*plan->segments));
}

void torc_log_store_trim(struct torc_log_store *store, uint32_t index, uint64_t floor)
{
    struct torc_log_plan *plan = torc_log_store_plan(store, index);
    struct torc_log_plan_segment segment;

    while (torc_log_plan_trim(plan, floor, &segment)) {
        store_recycle(store, plan->stream, &segment);
    }
    while (floor == UINT64_MAX && store->streams[index]->worker == TORC_LOG_NOBODY &&
           plan->segment_count > 0) {
        torc_log_store_drop(store, index, plan->segment_count - 1);
    }
}
