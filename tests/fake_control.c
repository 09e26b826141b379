// Torc tests: a control process in memory; see fake_control.h.
#include "tests/fake_control.h"

#include "storage/checkpoint.h"

#include <stdlib.h>

#define ORDERS_FREE    512u // of the ring, before an order is said again
#define SEGMENTS_AHEAD 2u
#define IN_BULK_BYTES  (TORC_CHAN_BULK_BYTES - 32u)

void torc_fake_control_init(struct torc_fake_control *control, uint64_t key_count,
                            uint32_t shard_count)
{
    memset(control, 0, sizeof(*control));
    torc_assert(shard_count > 0 && shard_count <= TORC_FAKE_SHARDS_MAX);
    control->cluster = 0x1122334455667788u;
    control->key_count = key_count;
    control->node = 1;
    control->segment_bytes = 4u << 20;
    control->value_bytes_max = 1u << 20;
    control->sessions_max = 1024;
    control->segments_ahead = SEGMENTS_AHEAD;
    control->next_checkpoint = 1;
    control->shard_count = shard_count;
    for (uint32_t i = 0; i < shard_count; i++) {
        struct torc_fake_shard *shard = &control->shards[i];

        shard->shard = i + 1;
        shard->node = 1;
        shard->lo = (uint64_t)((unsigned __int128)key_count * i / shard_count);
        shard->hi = (uint64_t)((unsigned __int128)key_count * (i + 1) / shard_count);
    }
}

enum torc_err torc_fake_control_attach(struct torc_fake_control *control, void *chan,
                                       uint64_t chan_bytes, uint32_t index, struct torc_fail *why)
{
    control->chan = chan;
    control->chan_bytes = chan_bytes;
    control->index = index;
    return torc_chan_attach(&control->ports, TORC_CHAN_CONTROL, chan, chan_bytes, index, why);
}

static void fake_order(struct torc_fake_control *control, const struct torc_cmd *order)
{
    torc_assert(torc_spsc_writable(&control->ports.cmd, 1) > 0);
    memcpy(torc_spsc_write_at(&control->ports.cmd, 0), order, sizeof(*order));
    torc_spsc_publish(&control->ports.cmd, 1);
}

static void fake_mark(struct torc_fake_control *control, const struct torc_mark *mark)
{
    torc_assert(torc_spsc_writable(&control->ports.mark, 1) > 0);
    memcpy(torc_spsc_write_at(&control->ports.mark, 0), mark, sizeof(*mark));
    torc_spsc_publish(&control->ports.mark, 1);
}

void torc_fake_control_order(struct torc_fake_control *control, enum torc_cmd_kind kind)
{
    struct torc_cmd order = {.kind = kind};

    fake_order(control, &order);
}

void torc_fake_control_hello(struct torc_fake_control *control, uint32_t number)
{
    struct torc_cmd order = {.kind = TORC_CMD_CONTROL_HELLO};

    order.hello = number;
    fake_order(control, &order);
}

// The entry of a shard that several nodes have.
static void fake_map_members(const struct torc_fake_control *control,
                             const struct torc_fake_shard *shard, struct torc_chan_map_entry *entry)
{
    const struct torc_chan_record *record = &control->meta->records[shard->shard];

    entry->epoch = record->epoch;
    entry->member_count = (uint8_t)record->member_count;
    entry->primary = 255;
    for (uint32_t i = 0; i < record->member_count; i++) {
        entry->members[i] = (struct torc_chan_member){
            .node = record->members[i].node, .core = shard->core, .state = 1};
        entry->primary =
            record->members[i].node == record->primary_node ? (uint8_t)i : entry->primary;
    }
}

static void fake_map_write(struct torc_fake_control *control)
{
    struct torc_chan_map *map = torc_chan_map(control->chan);

    atomic_fetch_add_explicit(&map->sequence, 1, memory_order_acq_rel);
    map->version = control->boot + (control->meta == NULL ? 0 : control->meta->wins);
    map->entry_count = control->shard_count;
    for (uint32_t i = 0; i < control->shard_count; i++) {
        const struct torc_fake_shard *shard = &control->shards[i];
        map->entries[i] = (struct torc_chan_map_entry){.lo = shard->lo,
                                                       .hi = shard->hi,
                                                       .shard = shard->shard,
                                                       .epoch = shard->epoch,
                                                       .member_count = 1};
        map->entries[i].members[0] =
            (struct torc_chan_member){.node = shard->node, .core = shard->core, .state = 1};
        if (control->meta != NULL) {
            fake_map_members(control, shard, &map->entries[i]);
        }
    }
    atomic_fetch_add_explicit(&map->sequence, 1, memory_order_acq_rel);
}

static void fake_keys_write(struct torc_fake_control *control)
{
    struct torc_chan_keys *keys = torc_chan_keys(control->chan);

    atomic_fetch_add_explicit(&keys->sequence, 1, memory_order_acq_rel);
    keys->count = control->principal_count;
    memcpy(keys->principals, control->principals,
           control->principal_count * sizeof(control->principals[0]));
    atomic_fetch_add_explicit(&keys->sequence, 1, memory_order_acq_rel);
}

void torc_fake_control_keys(struct torc_fake_control *control,
                            const struct torc_chan_principal *list, uint32_t count)
{
    torc_assert(count <= TORC_FAKE_PRINCIPALS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        control->principals[i] = list[i];
    }
    control->principal_count = count;
    if (control->chan != NULL) {
        fake_keys_write(control);
        torc_fake_control_order(control, TORC_CMD_KEYS_CHANGED);
    }
}

static void fake_configure(struct torc_fake_control *control)
{
    struct torc_cmd order = {.kind = TORC_CMD_CONFIGURE};

    order.configure = (struct torc_cmd_configure){
        .cluster = control->cluster,
        .boot = control->boot,
        .key_count = control->key_count,
        .node = control->node,
        .stream = control->index + 1,
        .next_sequence =
            control->block_count == 0 ? 1 : control->blocks[control->block_count - 1].sequence + 1,
        .durability = control->durability,
        .security = control->security,
        .base_port = 28700,
        .value_bytes_max = control->value_bytes_max,
        .segment_bytes = control->segment_bytes,
        .dedup_ttl_s = 120,
        .sessions_max = control->sessions_max,
        .map_version = (uint32_t)control->boot,
        .copy = control->meta == NULL ? 0 : control->meta->node_copy[control->node],
        .min_in_sync = control->meta == NULL ? 1 : control->meta->min_in_sync,
    };
    memset(order.configure.secret, 0x5a, sizeof(order.configure.secret));
    fake_order(control, &order);
}

// Whether what is kept here is a whole prefix of the shard.
static bool fake_has_base(const struct torc_fake_control *control, struct torc_fake_shard *shard)
{
    shard->based = control->meta != NULL &&
                   (shard->based || shard->kept.complete ||
                    torc_fake_meta_is_member(control->meta, shard->shard, control->node));
    return shard->based;
}

static uint64_t fake_copy(const struct torc_fake_control *control,
                          const struct torc_fake_shard *shard)
{
    return control->meta == NULL ? 0
                                 : torc_fake_meta_copy(control->meta, shard->shard, control->node);
}

// Of what is kept here, checkpoint and log.
static uint32_t fake_turn(const struct torc_fake_control *control,
                          const struct torc_fake_shard *shard)
{
    uint32_t turn = shard->turn;

    if (shard->kept.complete) {
        struct torc_checkpoint_info info;

        torc_assert(torc_checkpoint_header_check(shard->kept.bytes, shard->kept.byte_count, &info,
                                                 NULL) == TORC_ERR_OK);
        turn = info.turn > turn ? info.turn : turn;
    }
    for (uint64_t i = 0; i < control->block_count; i++) {
        struct torc_log_block block;

        torc_assert(torc_log_block_check(control->blocks[i].bytes, control->blocks[i].byte_count,
                                         &block, NULL) == TORC_ERR_OK);
        for (uint32_t j = 0; j < block.shard_count; j++) {
            struct torc_log_builder_shard entry;

            torc_log_block_shard(&block, j, &entry);
            turn = entry.shard == shard->shard && entry.turn > turn ? entry.turn : turn;
        }
    }
    return turn;
}

// Orders that go first in a life: who we are, and the shards of this worker.
// What is being made never counts.
static void fake_forget(struct torc_fake_shard *shard)
{
    free(shard->making.bytes);
    memset(&shard->making, 0, sizeof(shard->making));
    memset(&shard->made, 0, sizeof(shard->made));
}

static void fake_open(struct torc_fake_control *control)
{
    control->boot =
        control->meta == NULL ? control->boot + 1 : control->meta->node_boot[control->node];
    control->told_full = false;
    control->told_failed = false;
    control->quiesced = false;
    control->held.kind = 0;
    control->event_count = 0;
    control->segments_used = control->segment;
    control->durable =
        control->block_count == 0 ? 0 : control->blocks[control->block_count - 1].sequence;
    for (uint32_t i = 0; i < control->shard_count; i++) {
        fake_forget(&control->shards[i]);
        control->shards[i].epoch++;
        control->shards[i].ready = false;
        control->shards[i].leaving = false;
        control->shards[i].changed_told = 0;
        control->shards[i].want_told = UINT64_MAX;
    }
    fake_map_write(control);
    if (control->index == 0) {
        fake_keys_write(control);
    }
    fake_configure(control);
    torc_fake_control_order(control, TORC_CMD_MAP_CHANGED);
    for (uint32_t i = 0; i < control->shard_count; i++) {
        struct torc_fake_shard *shard = &control->shards[i];
        struct torc_cmd order = {.kind = TORC_CMD_SHARD_OPEN};

        order.shard = (struct torc_cmd_shard){.lo = shard->lo,
                                              .hi = shard->hi,
                                              .shard = shard->shard,
                                              .epoch = shard->epoch,
                                              .turn = fake_turn(control, shard),
                                              .copy = fake_copy(control, shard),
                                              .is_replica = control->meta == NULL ? 0 : 1,
                                              .has_base = fake_has_base(control, shard) ? 1 : 0};
        if (shard->core == control->index && shard->node == control->node && !shard->absent) {
            fake_order(control, &order);
        }
    }
}

// -- Shards given and taken while it runs ---------------------------------------------------------

static void fake_give(struct torc_fake_control *control, struct torc_fake_shard *shard)
{
    struct torc_cmd order = {.kind = TORC_CMD_SHARD_OPEN};

    shard->absent = false;
    shard->ready = false;
    shard->based = false;
    shard->turn++;
    shard->changed_told = 0;
    shard->want_told = UINT64_MAX;
    order.shard = (struct torc_cmd_shard){
        .lo = shard->lo,
        .hi = shard->hi,
        .shard = shard->shard,
        .epoch = shard->epoch,
        .turn = shard->turn,
        .is_replica = 1,
        .copy = torc_fake_meta_copy(control->meta, shard->shard, control->node)};
    fake_order(control, &order);
}

static void fake_gone(struct torc_fake_control *control, struct torc_fake_shard *shard)
{
    free(shard->kept.bytes);
    memset(&shard->kept, 0, sizeof(shard->kept));
    fake_forget(shard);
    shard->absent = true;
    shard->leaving = false;
    shard->ready = false;
    control->gone++;
    (void)torc_fake_meta_renew(control->meta, shard->shard, control->node);
}

// Whoever is neither a member nor wished lets go; who is wished again begins anew.
static void fake_give_and_take(struct torc_fake_control *control)
{
    for (uint32_t i = 0; i < control->shard_count && !control->meta->away; i++) {
        struct torc_fake_shard *shard = &control->shards[i];
        struct torc_cmd order = {.kind = TORC_CMD_SHARD_GONE, .wake_shard = shard->shard};
        bool ours = torc_fake_meta_concerns(control->meta, shard->shard, control->node);

        if (shard->core != control->index || shard->node != control->node) {
            continue;
        }
        if (shard->absent && ours) {
            fake_give(control, shard);
        } else if (!shard->absent && !ours && shard->ready &&
                   torc_spsc_writable(&control->ports.cmd, ORDERS_FREE) >= ORDERS_FREE) {
            shard->leaving = true; // no checkpoint is ordered any more
            fake_order(control, &order);
        }
    }
}

static bool fake_bulk(struct torc_fake_control *control, const struct torc_bulk *head,
                      const void *bytes)
{
    struct torc_bulk *slot;

    if (torc_spsc_writable(&control->ports.in, 1) == 0) {
        return false;
    }
    slot = torc_spsc_write_at(&control->ports.in, 0);
    memcpy(slot, head, offsetof(struct torc_bulk, bytes));
    if (head->byte_count > 0) {
        memcpy(slot->bytes, bytes, head->byte_count);
    }
    torc_spsc_publish(&control->ports.in, 1);
    return true;
}

// Sends the kept checkpoint of shard `feed_shard` on; false when the ring is full.
static bool fake_feed_checkpoint(struct torc_fake_control *control)
{
    const struct torc_fake_shard *shard = &control->shards[control->feed_shard];
    struct torc_bulk head = {
        .kind = TORC_BULK_CHECKPOINT, .shard = shard->shard, .checkpoint = shard->kept.number};

    while (shard->kept.complete && control->feed_offset < shard->kept.byte_count) {
        uint64_t left = shard->kept.byte_count - control->feed_offset;

        head.byte_count = (uint32_t)torc_min_u64(left, IN_BULK_BYTES);
        if (!fake_bulk(control, &head, shard->kept.bytes + control->feed_offset)) {
            return false;
        }
        control->feed_offset += head.byte_count;
    }
    head.kind = TORC_BULK_CHECKPOINT_END;
    head.byte_count = 0;
    if (shard->kept.complete && !fake_bulk(control, &head, NULL)) {
        return false;
    }
    control->feed_offset = 0;
    control->feed_shard++;
    return true;
}

static bool fake_feed_block(struct torc_fake_control *control)
{
    const struct torc_fake_block *block = &control->blocks[control->feed_block];
    struct torc_bulk head = {.kind = TORC_BULK_LOG, .stream = control->index + 1};

    while (control->feed_offset < block->byte_count) {
        uint64_t left = block->byte_count - control->feed_offset;

        head.byte_count = (uint32_t)torc_min_u64(left, IN_BULK_BYTES);
        if (!fake_bulk(control, &head, block->bytes + control->feed_offset)) {
            return false;
        }
        control->feed_offset += head.byte_count;
    }
    control->feed_offset = 0;
    control->feed_block++;
    return true;
}

bool torc_fake_control_start(struct torc_fake_control *control)
{
    struct torc_bulk end = {.kind = TORC_BULK_LOG_END, .stream = control->index + 1};

    if (!control->feeding) {
        fake_open(control);
        control->feeding = true;
        control->feed_shard = 0;
        control->feed_block = 0;
        control->feed_offset = 0;
    }
    while (control->feed_shard < control->shard_count) {
        if (!fake_feed_checkpoint(control)) {
            return false;
        }
    }
    while (control->feed_block < control->block_count) {
        if (!fake_feed_block(control)) {
            return false;
        }
    }
    if (!fake_bulk(control, &end, NULL)) {
        return false;
    }
    torc_fake_control_order(control, TORC_CMD_RECOVERED);
    control->feeding = false;
    return true;
}

void torc_fake_control_serve(struct torc_fake_control *control)
{
    torc_fake_control_order(control, TORC_CMD_SERVE);
}

static void fake_segments(struct torc_fake_control *control)
{
    struct torc_mark mark = {.kind = TORC_MARK_SEGMENT};

    if (control->disk_full) {
        mark.kind = TORC_MARK_DISK_FULL;
        if (!control->told_full && control->segment <= control->segments_used) {
            fake_mark(control, &mark);
            control->told_full = true;
        }
        return;
    }
    control->told_full = false;
    while (control->segment < control->segments_used + control->segments_ahead) {
        control->segment++;
        mark.segment = control->segment;
        mark.generation = 1000 + control->segment;
        mark.segment_bytes = control->segment_bytes;
        fake_mark(control, &mark);
    }
}

static void fake_keep_block(struct torc_fake_control *control, const void *bytes,
                            const struct torc_log_block *block)
{
    struct torc_fake_block *kept;

    if (control->block_count == control->block_room) {
        control->block_room = 2 * control->block_room + 64;
        control->blocks =
            realloc(control->blocks, control->block_room * sizeof(control->blocks[0]));
        torc_assert(control->blocks != NULL);
    }
    kept = &control->blocks[control->block_count++];
    kept->bytes = malloc(block->byte_count);
    torc_assert(kept->bytes != NULL);
    memcpy(kept->bytes, bytes, block->byte_count);
    kept->byte_count = block->byte_count;
    kept->sequence = block->place.sequence;
}

// Checks what control must be able to rely on: whole, in order, at a place that was prepared.
static void fake_check_block(struct torc_fake_control *control, const struct torc_log_block *block)
{
    uint64_t last =
        control->block_count == 0 ? 0 : control->blocks[control->block_count - 1].sequence;

    torc_assert(block->place.sequence == last + 1);
    torc_assert(block->place.cluster == control->cluster);
    torc_assert(block->place.segment <= control->segment);
    torc_assert(block->place.generation == 1000 + block->place.segment);
    torc_assert(block->place.segment >= control->segments_used);
    torc_assert(block->place.offset_bytes == (block->place.segment == control->written_segment
                                                  ? control->written_bytes
                                                  : TORC_LOG_SLOT_BYTES));
    torc_assert(block->place.offset_bytes + block->byte_count <= control->segment_bytes);
    torc_assert(block->place.durable <= control->durable);
    control->written_segment = block->place.segment;
    control->written_bytes = block->place.offset_bytes + block->byte_count;
    control->segments_used = (uint32_t)torc_max_u64(control->segments_used, block->place.segment);
}

// Takes the next block or filler out of the ring; false when there is none.
static bool fake_take(struct torc_fake_control *control)
{
    struct torc_log_block block;
    struct torc_fail why;
    const void *slot;
    uint32_t skip;
    uint32_t readable = torc_spsc_readable(&control->ports.log, 1);

    if (readable == 0) {
        return false;
    }
    slot = torc_spsc_read_at(&control->ports.log, 0);
    skip = torc_log_filler_slots(slot);
    if (skip == 0) {
        readable = torc_spsc_readable(&control->ports.log, 64);
        torc_assert(torc_log_block_check(slot, (uint64_t)readable * TORC_CHAN_LOG_SLOT_BYTES,
                                         &block, &why) == TORC_ERR_OK);
        fake_check_block(control, &block);
        fake_keep_block(control, slot, &block);
        skip = block.byte_count / TORC_CHAN_LOG_SLOT_BYTES;
    }
    torc_spsc_release(&control->ports.log, skip);
    return true;
}

static void fake_log(struct torc_fake_control *control)
{
    struct torc_mark mark = {.kind = TORC_MARK_DURABLE};
    uint64_t last;

    if (control->disk_failed) {
        mark.kind = TORC_MARK_LOG_FAILED;
        mark.err = TORC_ERR_IO;
        (void)snprintf(mark.text, sizeof(mark.text), "write: injected error");
        if (!control->told_failed) {
            fake_mark(control, &mark);
            control->told_failed = true;
        }
        return;
    }
    if (control->disk_stuck) {
        return;
    }
    while (fake_take(control)) {
    }
    last = control->block_count == 0 ? 0 : control->blocks[control->block_count - 1].sequence;
    if (last > control->durable) {
        control->durable = last;
        mark.sequence = last;
        fake_mark(control, &mark);
    }
}

static struct torc_fake_shard *fake_shard(struct torc_fake_control *control, uint32_t shard)
{
    for (uint32_t i = 0; i < control->shard_count; i++) {
        if (control->shards[i].shard == shard) {
            return &control->shards[i];
        }
    }
    return NULL;
}

static void fake_checkpoint_end(struct torc_fake_control *control, struct torc_fake_shard *shard,
                                bool given_up)
{
    struct torc_cmd order = {.kind = TORC_CMD_CHECKPOINT_END};

    order.checkpoint.shard = shard->shard;
    order.checkpoint.checkpoint = shard->made.checkpoint;
    order.checkpoint.given_up = given_up ? 1 : 0;
    fake_order(control, &order);
    shard->made.checkpoint = 0;
}

static void fake_checkpoint_done(struct torc_fake_control *control,
                                 const struct torc_evt_checkpoint *done)
{
    struct torc_fake_shard *shard = fake_shard(control, done->shard);

    torc_assert(shard != NULL);
    shard->made = *done;
    if (done->failed != 0) {
        fake_checkpoint_end(control, shard, true);
    }
}

// As control does: a checkpoint counts once the log is durable up to where it ends.
static void fake_keep(struct torc_fake_control *control, struct torc_fake_shard *shard)
{
    struct torc_fake_checkpoint *making = &shard->making;
    struct torc_checkpoint_footer footer;

    if (shard->made.checkpoint == 0) {
        return;
    }
    torc_assert(making->byte_count == shard->made.bytes && making->byte_count >= sizeof(footer));
    memcpy(&footer, making->bytes + making->byte_count - sizeof(footer), sizeof(footer));
    if (control->disk_failed) { // it never gets there
        fake_checkpoint_end(control, shard, true);
    } else if (control->durable >= torc_get_le64(footer.end_sequence)) {
        free(shard->kept.bytes);
        shard->kept = *making;
        shard->kept.complete = true;
        shard->kept.start_sequence = shard->made.start_sequence;
        memset(making, 0, sizeof(*making));
        fake_checkpoint_end(control, shard, false);
    }
}

// Questions of replicas, answered at once.
static void fake_replica_event(struct torc_fake_control *control, const struct torc_evt *event)
{
    struct torc_cmd answer;

    if (event->kind == TORC_EVT_READ && torc_fake_meta_read(control->meta, &event->read, &answer)) {
        if (control->late && control->held.kind == 0) {
            control->held = answer;
        } else {
            fake_order(control, &answer);
        }
    }
    if (event->kind == TORC_EVT_PROPOSE &&
        torc_fake_meta_propose(control->meta, &event->propose, &answer)) {
        fake_order(control, &answer);
    }
    for (uint32_t i = 0; i < control->shard_count && event->kind == TORC_EVT_CHECKPOINT; i++) {
        if (control->shards[i].shard == event->role.shard && !control->shards[i].leaving) {
            torc_fake_control_checkpoint(control, i);
        }
    }
}

static void fake_late(struct torc_fake_control *control)
{
    if (!control->late && control->held.kind != 0) {
        fake_order(control, &control->held);
        control->held.kind = 0;
    }
}

// What the metastore's watches and placement say.
static void fake_replica_watches(struct torc_fake_control *control)
{
    for (uint32_t i = 0; i < control->shard_count; i++) {
        struct torc_fake_shard *shard = &control->shards[i];
        struct torc_cmd wake = {.kind = TORC_CMD_WAKE, .wake_shard = shard->shard};
        struct torc_cmd want = {.kind = TORC_CMD_WANT};

        if (shard->core != control->index || !shard->ready || shard->absent ||
            control->meta->away) {
            continue;
        }
        if (shard->changed_told != control->meta->changed[shard->shard]) {
            shard->changed_told = control->meta->changed[shard->shard];
            fake_order(control, &wake);
            fake_map_write(control);
            torc_fake_control_order(control, TORC_CMD_MAP_CHANGED);
        }
        if (shard->want_told != control->meta->want_changed[shard->shard]) {
            shard->want_told = control->meta->want_changed[shard->shard];
            want.want = control->meta->wants[shard->shard];
            fake_order(control, &want);
        }
    }
}

static void fake_event(struct torc_fake_control *control, const struct torc_evt *event)
{
    if (control->event_count < TORC_FAKE_EVENTS_MAX) {
        control->events[control->event_count++] = *event;
    }
    if (event->kind == TORC_EVT_SHARD_READY) {
        struct torc_fake_shard *shard = fake_shard(control, event->shard.shard);

        torc_assert(shard != NULL && shard->epoch == event->shard.epoch);
        shard->ready = true;
    }
    if (event->kind == TORC_EVT_SHARD_GONE) {
        struct torc_fake_shard *shard = fake_shard(control, event->role.shard);

        torc_assert(shard != NULL);
        if (!shard->absent) { // else it is the answer to an order said twice
            fake_gone(control, shard);
        }
    }
    if (control->meta != NULL) {
        fake_replica_event(control, event);
    }
    if (event->kind == TORC_EVT_CHECKPOINT_DONE) {
        fake_checkpoint_done(control, &event->checkpoint);
    }
    control->quiesced = control->quiesced || event->kind == TORC_EVT_QUIESCED;
}

static void fake_out(struct torc_fake_control *control)
{
    while (torc_spsc_readable(&control->ports.out, 1) > 0) {
        const struct torc_bulk *bulk = torc_spsc_read_at(&control->ports.out, 0);
        struct torc_fake_shard *shard = fake_shard(control, bulk->shard);

        torc_assert(shard != NULL && bulk->byte_count <= sizeof(bulk->bytes));
        if (bulk->kind == TORC_BULK_CHECKPOINT) {
            struct torc_fake_checkpoint *making = &shard->making;

            making->bytes = realloc(making->bytes, making->byte_count + bulk->byte_count + 1);
            torc_assert(making->bytes != NULL);
            memcpy(making->bytes + making->byte_count, bulk->bytes, bulk->byte_count);
            making->byte_count += bulk->byte_count;
            making->number = bulk->checkpoint;
        }
        torc_spsc_release(&control->ports.out, 1);
    }
}

void torc_fake_control_step(struct torc_fake_control *control, uint64_t boottime_ns)
{
    struct torc_chan *chan = control->chan;

    if (control->away) {
        return;
    }
    atomic_store_explicit(&chan->control_turned_ns, boottime_ns, memory_order_relaxed);
    fake_out(control);
    while (torc_spsc_readable(&control->ports.evt, 1) > 0) {
        fake_event(control, torc_spsc_read_at(&control->ports.evt, 0));
        torc_spsc_release(&control->ports.evt, 1);
    }
    if (control->meta != NULL) {
        fake_late(control);
        fake_give_and_take(control);
        fake_replica_watches(control);
    }
    fake_segments(control);
    fake_log(control);
    for (uint32_t i = 0; i < control->shard_count; i++) {
        fake_keep(control, &control->shards[i]);
    }
}

void torc_fake_control_checkpoint(struct torc_fake_control *control, uint32_t index)
{
    struct torc_cmd order = {.kind = TORC_CMD_CHECKPOINT};
    struct torc_fake_shard *shard = &control->shards[index];

    torc_assert(index < control->shard_count);
    if (shard->made.checkpoint != 0) {
        return; // one at a time; the log is not there yet
    }
    fake_forget(shard);
    order.checkpoint.shard = shard->shard;
    order.checkpoint.checkpoint = control->next_checkpoint++;
    fake_order(control, &order);
}

bool torc_fake_control_ready(const struct torc_fake_control *control)
{
    for (uint32_t i = 0; i < control->shard_count; i++) {
        const struct torc_fake_shard *shard = &control->shards[i];

        if (shard->core == control->index && shard->node == control->node && !shard->ready &&
            !shard->absent) {
            return false;
        }
    }
    return true;
}

void torc_fake_control_cut(struct torc_fake_control *control, uint64_t sequence)
{
    while (control->block_count > 0 &&
           control->blocks[control->block_count - 1].sequence > sequence) {
        free(control->blocks[--control->block_count].bytes);
    }
}

void torc_fake_control_wipe(struct torc_fake_control *control)
{
    torc_fake_control_cut(control, 0);
    for (uint32_t i = 0; i < control->shard_count; i++) {
        struct torc_fake_shard *shard = &control->shards[i];

        free(shard->kept.bytes);
        memset(&shard->kept, 0, sizeof(shard->kept));
        fake_forget(shard);
        shard->based = false;
        shard->absent = false;
    }
}

void torc_fake_control_free(struct torc_fake_control *control)
{
    torc_fake_control_wipe(control);
    free(control->blocks);
    memset(control, 0, sizeof(*control));
}
