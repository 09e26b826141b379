// Torc dataplane: messages to and from other nodes. See worker_replica.h, wire/peer_codec.h.
#include "dataplane/worker_state.h"

static void post_bytes(struct torc_worker *worker, struct torc_peer_to to, uint32_t bytes)
{
    const struct torc_post *post = worker->config.post;

    post->send(post->context, worker->index, to, worker->posting.bytes, bytes);
}

void torc_worker_post(struct torc_worker *worker, struct torc_peer_to to,
                      const struct torc_peer_op *op)
{
    uint32_t first = to.core;
    uint32_t end = to.core + 1;

    if (worker->config.post != NULL) {
        post_bytes(worker, to, torc_peer_op_encode(worker->posting.bytes, op));
        return;
    }
    if (to.core == TORC_POST_EACH) {
        first = 0;
        end = worker->peers == NULL ? 0 : torc_peers_cores(worker->peers, to.node);
    }
    for (uint32_t core = first; core < end && worker->peers != NULL; core++) {
        (void)torc_peers_send(worker->peers, (struct torc_peer_to){to.node, core}, op);
    }
}

// -- APPEND ---------------------------------------------------------------------------------------

static void post_open(struct torc_worker *worker)
{
    torc_peer_append_begin(&worker->posting.builder, worker->posting.bytes,
                           sizeof(worker->posting.bytes), &worker->posting.append);
}

static void post_close(struct torc_worker *worker)
{
    if (worker->posting.builder.count > 0) {
        post_bytes(worker, worker->posting.to, torc_peer_append_end(&worker->posting.builder));
    }
}

void torc_worker_post_begin(struct torc_worker *worker, struct torc_peer_to to,
                            const struct torc_peer_message *append)
{
    worker->posting.to = to;
    worker->posting.append = *append;
    if (worker->peers != NULL) {
        torc_peers_ship_begin(worker->peers, &worker->posting.ship, to, append);
    } else {
        post_open(worker);
    }
}

bool torc_worker_post_record(struct torc_worker *worker, const struct torc_peer_record *record,
                             uint32_t *value_done)
{
    const struct torc_post *post = worker->config.post;

    if (worker->peers != NULL) {
        return torc_peers_ship_record(worker->peers, &worker->posting.ship, record, value_done);
    }
    *value_done = 0; // whole or not at all
    if (post == NULL || (post->room != NULL && !post->room(post->context, worker->index))) {
        return false;
    }
    if (torc_peer_append_add(&worker->posting.builder, record)) {
        return true;
    }
    // Another epoch, or no room.
    post_close(worker);
    post_open(worker);
    return torc_peer_append_add(&worker->posting.builder, record);
}

void torc_worker_post_end(struct torc_worker *worker)
{
    if (worker->peers != NULL) {
        torc_peers_ship_end(worker->peers, &worker->posting.ship);
    } else if (worker->config.post != NULL) {
        post_close(worker);
    }
}

bool torc_worker_post_piece(struct torc_worker *worker, struct torc_peer_to to,
                            const struct torc_peer_message *snap,
                            const struct torc_worker_piece *piece, uint32_t *done)
{
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_SNAP,
                              .message = *snap,
                              .cargo = {.bytes = piece->bytes,
                                        .byte_count = piece->byte_count,
                                        .total_bytes = piece->byte_count,
                                        .part_bytes = piece->byte_count}};

    if (worker->peers != NULL) {
        to.core = to.core == TORC_POST_EACH ? 0 : to.core;
        return torc_peers_ship_piece(worker->peers, to, snap, &op.cargo, done);
    }
    torc_worker_post(worker, to, &op);
    return true;
}

// -- What comes -----------------------------------------------------------------------------------

void torc_worker_peer_op(struct torc_worker *worker, const struct torc_peer_from *from,
                         struct torc_peer_op *op)
{
    if (worker->replicas.council == NULL || !worker->configured) {
        return;
    }
    switch (op->opcode) {
    case TORC_PEER_OP_BEAT:
    case TORC_PEER_OP_BEAT_ACK:
    case TORC_PEER_OP_CLAIM: torc_worker_watch_message(worker, from, op); return;
    case TORC_PEER_OP_MARK: torc_worker_stale_mark(worker, from, &op->mark); return;
    case TORC_PEER_OP_EPOCH:
    case TORC_PEER_OP_APPEND:
    case TORC_PEER_OP_ACK:
    case TORC_PEER_OP_REFUSE:
    case TORC_PEER_OP_PROBE:
    case TORC_PEER_OP_PROBE_ACK:
    case TORC_PEER_OP_TRANSFER:
    case TORC_PEER_OP_SNAP: torc_worker_replica_message(worker, from, op); return;
    }
    torc_unreachable("the decoder lets no other opcode through");
}

bool torc_worker_peer_heard(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_op *op, uint64_t hlc, bool ahead)
{
    torc_worker_watch_held(worker, from, hlc);
    if (ahead) {
        torc_worker_watch_wall(worker, from, op);
        torc_worker_drop(worker, TORC_DROP_PEER);
    }
    return !ahead;
}

// Whether the HLC of a node is too far ahead to be taken over (H3).
static bool post_is_ahead(struct torc_worker *worker, uint64_t hlc)
{
    return hlc != 0 &&
           torc_shard_hear(&worker->pool, hlc, 2 * TORC_SHARD_MAX_AHEAD_US) != TORC_ERR_OK;
}

void torc_worker_post_take(struct torc_worker *worker)
{
    const struct torc_post *post = worker->config.post;
    struct torc_peer_from from;
    const unsigned char *bytes;
    uint32_t byte_count;
    uint64_t hlc;

    while (post != NULL &&
           post->take(post->context, worker->index, &from, &hlc, &bytes, &byte_count)) {
        struct torc_framing framing = {.bytes = bytes, .byte_count = byte_count};
        struct torc_peer_op op;
        const unsigned char *at;
        uint32_t length; // without its padding
        uint32_t count;
        uint32_t offset;
        struct torc_fail why;

        if (torc_framing_check(bytes, byte_count, &count, &offset) == TORC_ERR_OK &&
            torc_framing_next(&framing, &at, &length) &&
            torc_peer_op_decode(&op, at, length, &why) == TORC_ERR_OK &&
            torc_worker_peer_heard(worker, &from, &op, hlc, post_is_ahead(worker, hlc))) {
            torc_worker_peer_op(worker, &from, &op);
        }
    }
}
