// Torc dataplane: the shard map as clients see it: MAP, CLOCK, and what goes with WRONG_SHARD. See
// worker.h, kit/chan.h.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define CLOCK_PAIR    16u
#define MAP_END_BYTES (TORC_REPLY_HEAD_BYTES + 8u)

// -- Control's table ------------------------------------------------------------------------------

// Believes nothing (C3): the other process may write what it likes.
static enum torc_err map_entry_check(const struct torc_chan_map_entry *from, uint64_t last_hi,
                                     uint32_t index, struct torc_fail *why)
{
    if (from->lo >= from->hi || from->lo < last_hi || from->member_count == 0 ||
        from->member_count > TORC_CHAN_MEMBERS_MAX ||
        (from->primary != TORC_MAP_NO_PRIMARY && from->primary >= from->member_count)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "map entry %" PRIu32 " (shard %" PRIu32 ", %" PRIu64 " to %" PRIu64
                         ", %u members) makes no sense",
                         index, from->shard, from->lo, from->hi, from->member_count);
    }
    return TORC_ERR_OK;
}

// A node's line; one that has never run says nothing.
static enum torc_err map_node_check(const struct torc_chan_node *from, struct torc_fail *why)
{
    if (from->cores == 0 ||
        (from->address_count <= TORC_COUNT_OF(from->addresses) && from->base_port != 0 &&
         from->base_port <= UINT16_MAX - from->cores + 1)) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "map: node %" PRIu32
                     " with %u addresses, %u cores from port %u makes no sense",
                     from->node, from->address_count, from->cores, from->base_port);
}

static enum torc_err map_copy_nodes(struct torc_worker *worker, const struct torc_chan_map *from,
                                    struct torc_fail *why)
{
    uint32_t count = from->node_count;

    worker->node_count = 0;
    if (count > TORC_CHAN_NODES_MAX) {
        return torc_fail(why, TORC_ERR_CORRUPT, "map of %" PRIu32 " nodes: at most %u", count,
                         TORC_CHAN_NODES_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct torc_chan_node node = from->nodes[i];
        enum torc_err err = map_node_check(&node, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        if (node.cores > 0 && node.node != worker->cluster.node) {
            worker->nodes[worker->node_count++] = node;
        }
    }
    return TORC_ERR_OK;
}

static enum torc_err map_copy(struct torc_worker *worker, const struct torc_chan_map *from,
                              struct torc_fail *why)
{
    uint32_t count = from->entry_count;
    uint64_t last_hi = 0;

    if (count > TORC_CHAN_MAP_ENTRIES) {
        return torc_fail(why, TORC_ERR_CORRUPT, "map of %" PRIu32 " entries: at most %u", count,
                         TORC_CHAN_MAP_ENTRIES);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct torc_chan_map_entry entry = from->entries[i];
        struct torc_map_entry *to = &worker->map.entries[i];
        enum torc_err err = map_entry_check(&entry, last_hi, i, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        last_hi = entry.hi;
        *to = (struct torc_map_entry){.lo = entry.lo,
                                      .hi = entry.hi,
                                      .version = entry.version != 0 ? entry.version : from->version,
                                      .shard = entry.shard,
                                      .epoch = entry.epoch,
                                      .member_count = entry.member_count,
                                      .primary = entry.primary};
        for (uint32_t m = 0; m < entry.member_count; m++) {
            to->members[m] = (struct torc_map_member){.node = entry.members[m].node,
                                                      .core = entry.members[m].core,
                                                      .state = entry.members[m].state};
        }
    }
    worker->map.count = count;
    worker->map.version = from->version;
    return map_copy_nodes(worker, from, why);
}

enum torc_err torc_worker_map_read(struct torc_worker *worker, struct torc_fail *why)
{
    struct torc_chan_map *from = torc_chan_map(worker->config.chan);
    // Acquire: pairs with control's store of the even number after it wrote.
    uint64_t before = atomic_load_explicit(&from->sequence, memory_order_acquire);
    enum torc_err err;

    // Its writer may have no processor, or have died, which leaves us what we had.
    if (before % 2 != 0) {
        return torc_fail(why, TORC_ERR_BUSY, "the map is being written");
    }
    err = map_copy(worker, from, why);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&from->sequence, memory_order_relaxed) != before) {
        err = torc_fail(why, TORC_ERR_BUSY, "the map was written meanwhile");
    }
    for (uint32_t i = 0; err == TORC_ERR_OK && i < worker->shard_count; i++) {
        if (worker->shards[i].replica != NULL && worker->shards[i].replica->live) {
            torc_worker_map_learn(worker, &worker->shards[i]);
        }
    }
    if (err != TORC_ERR_OK) { // what was copied in part is no map
        worker->map.count = 0;
    }
    if (worker->index == 0) {
        atomic_store_explicit(&worker->sessions->map_version, worker->map.version,
                              memory_order_relaxed);
    }
    return err;
}

void torc_worker_map_learn(struct torc_worker *worker, const struct torc_worker_shard *shard)
{
    const struct torc_configuration *from = &shard->replica->machine.configuration;
    uint32_t at = torc_map_from(&worker->map, shard->engine.lo);
    struct torc_map_entry *entry = at < worker->map.count ? &worker->map.entries[at] : NULL;
    struct torc_map_entry made;

    if (entry == NULL || entry->shard != shard->engine.shard || entry->epoch >= from->epoch) {
        return;
    }
    made = *entry;
    made.epoch = from->epoch;
    made.primary = TORC_MAP_NO_PRIMARY;
    made.member_count = (uint8_t)from->member_count;
    for (uint32_t i = 0; i < from->member_count; i++) {
        made.members[i] = (struct torc_map_member){.node = from->members[i].node,
                                                   .core = TORC_MAP_CORE_UNKNOWN,
                                                   .state = TORC_MAP_IN_SYNC};
        for (uint32_t m = 0; m < entry->member_count; m++) {
            if (entry->members[m].node == made.members[i].node) {
                made.members[i].core = entry->members[m].core;
            }
        }
        if (from->members[i].node == from->primary_node) {
            made.primary = (uint8_t)i;
        }
    }
    *entry = made;
}

// -- Entries in answers ---------------------------------------------------------------------------

static bool map_put_entry(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                          const struct torc_map_entry *entry)
{
    uint32_t bytes = TORC_REPLY_HEAD_BYTES + torc_map_entry_bytes(entry);
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_MAP_ENTRY, .op_id = op_id, .info = entry->version};
    unsigned char *body;

    if (torc_answer_room(worker, answer, bytes, bytes) < bytes) {
        return false;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    reply.body = body;
    reply.body_bytes = torc_map_entry_body(body, entry);
    torc_answer_put(worker, answer, &reply);
    return true;
}

#define MAP_NODE_BYTES (TORC_REPLY_HEAD_BYTES + TORC_NODE_ENTRY_HEAD_BYTES + 32u) // at most

static void map_put_node_entry(struct torc_worker *worker, struct torc_answer *answer,
                               uint32_t op_id, const struct torc_node_entry *node)
{
    uint32_t bytes = TORC_REPLY_HEAD_BYTES + TORC_NODE_ENTRY_HEAD_BYTES + 16u * node->address_count;
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_NODE_ENTRY, .op_id = op_id, .info = worker->map.version};
    unsigned char *body;

    if (node->address_count == 0 || torc_answer_room(worker, answer, bytes, bytes) < bytes) {
        return;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    reply.body = body;
    reply.body_bytes = torc_node_entry_body(body, node);
    torc_answer_put(worker, answer, &reply);
}

// This node: its addresses and ports.
static void map_put_self(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id)
{
    unsigned char addresses[32];
    struct torc_node_entry node = {.node = worker->cluster.node,
                                   .base_port = worker->config.base_port,
                                   .cores = (uint8_t)worker->count,
                                   .addresses = addresses};

    if (worker->config.ipv4_prefix != 0) {
        memcpy(addresses, worker->ip4, 16);
        node.address_count = 1;
    }
    if (worker->config.ipv6_prefix != 0) {
        memcpy(addresses + (uint64_t)16 * node.address_count, worker->ip6, 16);
        node.address_count++;
    }
    map_put_node_entry(worker, answer, op_id, &node);
}

// Another node; which line of the table, or TORC_WORKER_NONE: it is not known.
static uint32_t map_node_line(const struct torc_worker *worker, uint32_t node)
{
    for (uint32_t i = 0; i < worker->node_count; i++) {
        if (worker->nodes[i].node == node) {
            return i;
        }
    }
    return TORC_WORKER_NONE;
}

static void map_put_other(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                          uint32_t line)
{
    const struct torc_chan_node *from = worker->nodes + line;
    const struct torc_node_entry node = {.node = from->node,
                                         .base_port = from->base_port,
                                         .cores = from->cores,
                                         .address_count = from->address_count,
                                         .addresses = from->addresses[0]};

    map_put_node_entry(worker, answer, op_id, &node);
}

// Optional operations must leave what is owed; torc_answer_room gives any operation its least.
static bool map_has_room(const struct torc_answer *answer, uint32_t bytes)
{
    uint64_t capacity = answer->limit_bytes - TORC_DATA_HEAD_BYTES;
    uint32_t left = answer->to->packets_left - answer->packets_kept;
    uint64_t free_bytes = answer->payload == NULL ? 0 : answer->limit_bytes - answer->used_bytes;

    free_bytes += answer->held ? 0 : left * capacity;
    return free_bytes >= (uint64_t)answer->owed_bytes + torc_op_padded(bytes);
}

// Where the entry's primary is, if there is room.
static void map_put_owner(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                          const struct torc_map_entry *entry)
{
    uint32_t owner = entry->primary == TORC_MAP_NO_PRIMARY ? worker->cluster.node
                                                           : entry->members[entry->primary].node;
    uint32_t line = map_node_line(worker, owner);

    if (!map_has_room(answer, MAP_NODE_BYTES)) {
        return;
    }
    if (owner == worker->cluster.node) {
        map_put_self(worker, answer, op_id);
    } else if (line != TORC_WORKER_NONE) {
        map_put_other(worker, answer, op_id, line);
    }
}

void torc_worker_map_attach(struct torc_worker *worker, struct torc_packet *packet,
                            struct torc_answer *answer, uint32_t op_id, uint64_t key)
{
    const struct torc_map_entry *entry = torc_map_find(&worker->map, key);
    uint32_t number;

    if (entry == NULL) {
        return;
    }
    number = (uint32_t)(entry - worker->map.entries) + 1;
    // Sixteen gets of one shard that moved need its entry once.
    if (packet->map_sent == number ||
        !map_has_room(answer, TORC_REPLY_HEAD_BYTES + TORC_MAP_ENTRY_BYTES_MAX)) {
        return;
    }
    if (map_put_entry(worker, answer, op_id, entry)) {
        packet->map_sent = number;
        map_put_owner(worker, answer, op_id, entry);
    }
}

enum torc_err torc_worker_not_here(const struct torc_worker *worker, uint64_t key, uint64_t *info)
{
    const struct torc_map_entry *entry = torc_map_find(&worker->map, key);
    const struct torc_map_member *primary = entry == NULL || entry->primary == TORC_MAP_NO_PRIMARY
                                                ? NULL
                                                : &entry->members[entry->primary];
    uint32_t place = torc_worker_shard_of(worker, key);

    if (place != TORC_WORKER_NONE && worker->shards[place].replica != NULL) {
        return torc_worker_replica_refusal(worker, &worker->shards[place], info);
    }
    *info = worker->map.version;
    if (primary == NULL) {
        *info = torc_info_reason(TORC_UNAVAILABLE_NO_PRIMARY, TORC_WORKER_WAIT_US);
        return TORC_ERR_UNAVAILABLE;
    }
    if (primary->node == worker->cluster.node && primary->core == worker->index &&
        (place == TORC_WORKER_NONE || worker->shards[place].engine.state != TORC_SHARD_ACTIVE)) {
        *info = torc_info_reason(TORC_UNAVAILABLE_RECOVERING, TORC_WORKER_WAIT_US);
        return TORC_ERR_UNAVAILABLE;
    }
    return TORC_ERR_WRONG_SHARD;
}

// -- Operations -----------------------------------------------------------------------------------

// Which lines of the table of nodes an answer carries.
struct map_sent {
    uint64_t lines[TORC_CHAN_NODES_MAX / 64];
};

// The entry, and before it the nodes of its members that were not told yet. False: no room for all.
static bool map_put_whole(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                          const struct torc_map_entry *entry, struct map_sent *sent)
{
    uint32_t bytes = TORC_REPLY_HEAD_BYTES + torc_map_entry_bytes(entry);
    uint32_t lines[TORC_MAP_MEMBERS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < entry->member_count; i++) {
        uint32_t line = map_node_line(worker, entry->members[i].node);

        if (line != TORC_WORKER_NONE && (sent->lines[line / 64] >> line % 64 & 1) == 0) {
            lines[count++] = line;
            bytes += torc_op_padded(MAP_NODE_BYTES);
        }
    }
    if (!map_has_room(answer, bytes)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        map_put_other(worker, answer, op_id, lines[i]);
        sent->lines[lines[i] / 64] |= UINT64_C(1) << lines[i] % 64;
    }
    return map_put_entry(worker, answer, op_id, entry);
}

void torc_worker_map(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request)
{
    struct map_sent sent = {{0}};
    uint32_t at = torc_map_from(&worker->map, request->lo);
    uint32_t most = request->entries_max == 0 ? UINT32_MAX : request->entries_max;
    uint64_t next = request->hi;
    struct torc_le64 body;
    struct torc_reply reply = {.opcode = TORC_OPCODE_MAP | TORC_REPLY_BIT,
                               .op_id = request->op_id,
                               .info = worker->map.version,
                               .body_bytes = sizeof(body)};

    (void)packet;
    answer->owed_bytes += MAP_END_BYTES; // comes last
    if (map_has_room(answer, MAP_NODE_BYTES)) {
        map_put_self(worker, answer, request->op_id);
    }
    for (uint32_t i = 0; at + i < worker->map.count; i++) {
        const struct torc_map_entry *entry = &worker->map.entries[at + i];

        if (entry->lo >= request->hi) {
            break;
        }
        if (i >= most || !map_put_whole(worker, answer, request->op_id, entry, &sent)) {
            next = torc_max_u64(entry->lo, request->lo);
            break;
        }
    }
    answer->owed_bytes -= MAP_END_BYTES;
    body = torc_le64(next);
    reply.body = body.bytes;
    if (torc_answer_room(worker, answer, MAP_END_BYTES, MAP_END_BYTES) == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    torc_answer_put(worker, answer, &reply);
}

void torc_worker_clock(struct torc_worker *worker, struct torc_answer *answer,
                       const struct torc_request *request)
{
    uint32_t room = torc_answer_room(worker, answer, TORC_REPLY_HEAD_BYTES,
                                     TORC_REPLY_HEAD_BYTES + CLOCK_PAIR * worker->open_count);
    struct torc_reply reply = {.opcode = TORC_OPCODE_CLOCK | TORC_REPLY_BIT,
                               .op_id = request->op_id};
    unsigned char *body;

    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    reply.body = body;
    for (uint32_t i = 0; i < worker->open_count; i++) {
        uint32_t place = worker->shard_order[i];
        const struct torc_shard *shard = &worker->shards[place].engine;
        struct torc_le64 pair[2] = {torc_le64(torc_max_u64(shard->lo, request->lo)),
                                    torc_le64(torc_min_u64(shard->hi, request->hi))};

        bool is_told = torc_worker_is_readable(worker, place) ||
                       (TORC_BUG(CLOCK_WITHOUT_LEASE) && shard->state == TORC_SHARD_ACTIVE);

        if (!is_told || shard->hi <= request->lo || shard->lo >= request->hi) {
            continue;
        }
        if (TORC_REPLY_HEAD_BYTES + reply.body_bytes + CLOCK_PAIR > room) {
            break;
        }
        reply.info = torc_max_u64(reply.info, shard->applied_hlc);
        memcpy(body + reply.body_bytes, pair, sizeof(pair));
        reply.body_bytes += CLOCK_PAIR;
    }
    torc_worker_pin(worker, reply.info); // it will be read at that moment, or at a later one
    torc_answer_put(worker, answer, &reply);
}
