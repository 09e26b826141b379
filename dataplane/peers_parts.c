// Torc dataplane: long values and pieces that come in parts, put together; see peers.h.
//
// A place for each one under way. When all are taken, or one peer has half of them, a new one gets
// the place of one (of the same peer's) whose parts have stopped coming, or none: were one given up
// that moves, as many lanes with long values as places and one more would keep each other from
// getting whole. What was refused or given up comes again from its sender.
#include "dataplane/peers_impl.h"

#include <string.h>

#define PEER_MAX (TORC_PEERS_PARTS / 2)
// Twice the default resend of replicas: what still moves was touched since.
#define STALE_NS UINT64_C(10000000)

// What the part is of.
static struct peers_part part_name(const struct torc_peer_from *from, const struct torc_peer_op *op)
{
    const struct torc_peer_message *message = &op->message;
    struct torc_peer_records records = op->records;
    struct torc_peer_record record;
    struct peers_part part = {.opcode = op->opcode,
                              .node = from->node,
                              .boot = from->boot,
                              .shard = message->shard,
                              .total_bytes = op->cargo.total_bytes,
                              .part_bytes = op->cargo.part_bytes};

    if (op->opcode == TORC_PEER_OP_SNAP) {
        part.epoch = message->snap.epoch;
        part.number = message->snap.stream;
        part.second = message->snap.piece;
    } else if (torc_peer_record_next(&records, &record)) {
        part.epoch = record.epoch;
        part.number = record.lsn;
        part.second = record.hlc;
    }
    return part;
}

static bool part_same(const struct peers_part *a, const struct peers_part *b)
{
    return a->opcode == b->opcode && a->node == b->node && a->boot == b->boot &&
           a->shard == b->shard && a->epoch == b->epoch && a->number == b->number &&
           a->second == b->second && a->total_bytes == b->total_bytes &&
           a->part_bytes == b->part_bytes;
}

// The least recently touched place that is in use, of `node` or (any) of all.
static struct peers_part *part_oldest(struct torc_peers *peers, uint32_t node, bool any)
{
    struct peers_part *oldest = NULL;

    for (uint32_t i = 0; i < TORC_PEERS_PARTS; i++) {
        struct peers_part *part = &peers->parts[i];

        if (part->used && (any || part->node == node) &&
            (oldest == NULL || part->touched_ns < oldest->touched_ns)) {
            oldest = part;
        }
    }
    torc_assert(oldest != NULL);
    return oldest;
}

// A place for one more thing of the node; NULL: none.
static struct peers_part *part_place(struct torc_peers *peers, uint32_t node)
{
    struct peers_part *place = NULL;
    uint32_t own = 0;

    for (uint32_t i = 0; i < TORC_PEERS_PARTS; i++) {
        own += peers->parts[i].used && peers->parts[i].node == node ? 1 : 0;
        place = peers->parts[i].used ? place : &peers->parts[i];
    }
    if (own < PEER_MAX && place != NULL) {
        return place;
    }
    place = part_oldest(peers, node, own < PEER_MAX);
    if (peers->now_ns - place->touched_ns < STALE_NS) {
        return NULL;
    }
    peers->counters.evicted++;
    return place;
}

static struct peers_part *part_begin(struct torc_peers *peers, const struct peers_part *name)
{
    struct peers_part *place = part_place(peers, name->node);
    struct peers_part fresh = *name;

    if (place == NULL) {
        return NULL;
    }
    fresh.used = true;
    fresh.left = torc_peer_parts(name->total_bytes, name->part_bytes);
    fresh.bytes = place->bytes;
    fresh.bitmap = place->bitmap;
    *place = fresh;
    memset(place->bitmap, 0, PEERS_BITMAP_BYTES(name->total_bytes));
    return place;
}

// The place of what is named so, a new one if need be; NULL: there is none for it now.
static struct peers_part *part_find(struct torc_peers *peers, const struct peers_part *name)
{
    for (uint32_t i = 0; i < TORC_PEERS_PARTS; i++) {
        if (peers->parts[i].used && part_same(&peers->parts[i], name)) {
            return &peers->parts[i];
        }
    }
    return part_begin(peers, name);
}

// All is there: the operation says so as if it had come in one.
static void part_give(struct peers_part *part, struct torc_peer_op *op)
{
    part->whole = true;
    if (op->opcode == TORC_PEER_OP_SNAP) {
        op->cargo = (struct torc_peer_cargo){.bytes = part->bytes,
                                             .byte_count = part->total_bytes,
                                             .total_bytes = part->total_bytes,
                                             .part_bytes = part->total_bytes};
        return;
    }
    op->cargo = (struct torc_peer_cargo){0};
    op->records.whole = part->bytes;
}

bool torc_peers_take(struct torc_peers *peers, const struct torc_peer_from *from,
                     struct torc_peer_op *op)
{
    const struct torc_peer_cargo *cargo = &op->cargo;
    struct peers_part name;
    struct peers_part *part;
    uint64_t bit;

    for (uint32_t i = 0; i < TORC_PEERS_PARTS; i++) { // handed out before
        peers->parts[i].used = peers->parts[i].used && !peers->parts[i].whole;
        peers->parts[i].whole = false;
    }
    if (cargo->byte_count == cargo->total_bytes) {
        return true;
    }
    peers->counters.parts++;
    if (cargo->total_bytes > peers->config.cargo_bytes_max) {
        peers->counters.too_long++;
        return false;
    }
    name = part_name(from, op);
    part = part_find(peers, &name);
    if (part == NULL) {
        peers->counters.refused_parts++;
        return false;
    }
    part->touched_ns = peers->now_ns;
    bit = UINT64_C(1) << cargo->part % 64;
    if ((part->bitmap[cargo->part / 64] & bit) == 0) {
        part->bitmap[cargo->part / 64] |= bit;
        memcpy(part->bytes + (uint64_t)cargo->part * cargo->part_bytes, cargo->bytes,
               cargo->byte_count);
        part->left--;
    }
    if (part->left > 0) {
        return false;
    }
    part_give(part, op);
    return true;
}
