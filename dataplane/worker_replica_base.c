// Torc dataplane: bases: made piece by piece for learners, and taken from a primary. See
// worker_replica.h, storage/base.h.
//
// A piece is made once and kept until it is acknowledged: the last ones of a stream lie in a ring.
// Streams and loads are bounded for a worker; who finds no place waits.
#include "dataplane/worker_state.h"

#include <string.h>

#define MAKE_TRIES    64u // slices of a shard without a byte to send
#define ASK_AGAIN_NS  UINT64_C(200000000)
#define PIECES_PLACES TORC_REPLICA_PIECES_MAX

// -- Making ---------------------------------------------------------------------------------------

static struct torc_worker_stream *base_stream(struct torc_worker *worker,
                                              const struct torc_worker_shard *shard, uint32_t node)
{
    for (uint32_t i = 0; i < TORC_WORKER_STREAMS; i++) {
        struct torc_worker_stream *stream = &worker->replicas.streams[i];

        if (stream->node == node && stream->shard == shard->engine.shard) {
            return stream;
        }
    }
    return NULL;
}

static void base_follow_up(struct torc_worker_shard *shard,
                           const struct torc_replica_base_event *event)
{
    struct torc_worker_follow_up *follow_up = &shard->replica->follow_up;

    torc_assert(follow_up->base_count < TORC_COUNT_OF(follow_up->bases));
    follow_up->bases[follow_up->base_count++] = *event;
}

// Whether the node may be away for long, or takes nothing: it keeps no place from another.
static bool base_is_gone(const struct torc_worker *worker, uint32_t node)
{
    for (uint32_t i = 0; i < worker->replicas.peer_count; i++) {
        const struct torc_peer_state *state = &worker->replicas.peers[i];

        if (state->node == node) {
            return state->silent || state->mute || state->health != 0;
        }
    }
    return false;
}

// Takes the place of a stream to a node that is gone, for one to `node`; NULL: there is none. What
// was sent is sent again when it is back.
static struct torc_worker_stream *base_evict(struct torc_worker *worker, uint32_t node)
{
    for (uint32_t i = 0; i < TORC_WORKER_STREAMS && !base_is_gone(worker, node); i++) {
        struct torc_worker_stream *stream = &worker->replicas.streams[i];
        struct torc_worker_shard *shard = torc_worker_shard_number(worker, stream->shard);

        if (shard == NULL || shard->replica == NULL || !base_is_gone(worker, stream->node) ||
            shard->replica->follow_up.base_count ==
                TORC_COUNT_OF(shard->replica->follow_up.bases)) {
            continue;
        }
        base_follow_up(shard, &(struct torc_replica_base_event){.kind = TORC_REPLICA_BASE_LOST,
                                                                .node = stream->node});
        shard->replica->touched = true;
        return stream;
    }
    return NULL;
}

// Begins the stream that a learner waits for, if there is a place.
static bool base_begin(struct torc_worker *worker, struct torc_worker_shard *shard, uint32_t node)
{
    struct torc_worker_stream *stream = base_stream(worker, shard, node);

    for (uint32_t i = 0; i < TORC_WORKER_STREAMS && stream == NULL; i++) {
        stream = worker->replicas.streams[i].node == 0 ? &worker->replicas.streams[i] : NULL;
    }
    stream = stream == NULL ? base_evict(worker, node) : stream;
    if (stream == NULL) {
        return false;
    }
    stream->node = node;
    stream->shard = shard->engine.shard;
    stream->made = 0;
    for (uint32_t i = 0; i < PIECES_PLACES; i++) {
        stream->pieces[i].due = false;
    }
    torc_base_begin(&stream->writer, &shard->engine);
    base_follow_up(shard, &(struct torc_replica_base_event){.kind = TORC_REPLICA_BASE_READY,
                                                            .node = node,
                                                            .base_lsn = stream->writer.base_lsn});
    return true;
}

// The next piece. False: not now, or there is none behind the last.
static bool base_make(struct torc_worker_shard *shard, struct torc_worker_stream *stream)
{
    struct torc_worker_piece *piece = &stream->pieces[stream->made % PIECES_PLACES];

    for (uint32_t i = 0; i < MAKE_TRIES && !torc_base_done(&stream->writer); i++) {
        piece->byte_count =
            torc_base_next(&stream->writer, &shard->engine, piece->bytes, sizeof(piece->bytes));
        if (piece->byte_count > 0) {
            piece->due = false;
            stream->made++;
            return true;
        }
    }
    return false;
}

// Sends what is due of a stream. False: no room for more in this turn.
static bool base_pump(struct torc_worker *worker, struct torc_worker_shard *shard,
                      struct torc_worker_stream *stream)
{
    for (uint32_t i = 0; i < PIECES_PLACES; i++) {
        struct torc_worker_piece *piece = &stream->pieces[(stream->made + i) % PIECES_PLACES];

        if (piece->due &&
            !torc_worker_post_piece(worker, torc_worker_replica_to(worker, shard, stream->node),
                                    &piece->message, piece, &piece->done)) {
            return false;
        }
        piece->due = false;
    }
    return true;
}

static void base_piece(struct torc_worker *worker, struct torc_worker_shard *shard,
                       const struct torc_replica_action *action)
{
    struct torc_worker_stream *stream = base_stream(worker, shard, action->node);
    uint32_t number = action->message.snap.piece;
    struct torc_worker_piece *piece;

    if (stream == NULL || number > stream->made || number + PIECES_PLACES < stream->made) {
        return; // it is asked for again
    }
    if (number == stream->made && !base_make(shard, stream)) {
        if (torc_base_done(&stream->writer)) {
            base_follow_up(shard,
                           &(struct torc_replica_base_event){.kind = TORC_REPLICA_BASE_LAST,
                                                             .node = action->node,
                                                             .piece = stream->made,
                                                             .end_lsn = stream->writer.end_lsn,
                                                             .end_hlc = stream->writer.end_hlc});
        }
        return;
    }
    piece = &stream->pieces[number % PIECES_PLACES];
    if (!piece->due) {
        piece->due = true;
        piece->done = 0;
        piece->message = action->message;
    }
    (void)base_pump(worker, shard, stream); // what finds no room goes on in the next turn
}

static void base_settle(struct torc_worker *worker, struct torc_worker_shard *shard, uint32_t node)
{
    struct torc_worker_stream *stream = base_stream(worker, shard, node);

    if (stream != NULL) {
        stream->node = 0;
    }
}

// Streams that are not gone on with leave their places: a demoted primary has none any more, and a
// learner that is not wished may have left its own in the machine to another.
static void base_leave(struct torc_worker *worker, const struct torc_worker_shard *shard)
{
    for (uint32_t i = 0; i < TORC_WORKER_STREAMS; i++) {
        struct torc_worker_stream *stream = &worker->replicas.streams[i];
        const struct torc_replica_peer *peer =
            torc_worker_replica_peer(shard->replica, stream->node);

        if (stream->shard == shard->engine.shard &&
            (peer == NULL || peer->stream == TORC_REPLICA_STREAM_NONE)) {
            stream->node = 0;
        }
    }
}

// What the machine wants of each peer, once a turn: who waited may find a place.
static void base_look(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;

    base_leave(worker, shard);
    for (uint32_t i = 0; i < machine->peer_count; i++) {
        const struct torc_replica_peer *peer = &machine->peers[i];
        struct torc_worker_stream *stream = base_stream(worker, shard, peer->node);
        struct torc_worker_follow_up *follow_up = &shard->replica->follow_up;

        if (stream != NULL) {
            worker->turn->more = !base_pump(worker, shard, stream) || worker->turn->more;
        } else if (peer->stream == TORC_REPLICA_STREAM_ASKED &&
                   follow_up->base_count < TORC_COUNT_OF(follow_up->bases) &&
                   base_begin(worker, shard, peer->node)) {
            shard->replica->touched = true;
        }
    }
}

// -- Taking ---------------------------------------------------------------------------------------

static struct torc_worker_load *base_load(struct torc_worker *worker, uint32_t shard)
{
    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        if (worker->replicas.loads[i].shard == shard) {
            return &worker->replicas.loads[i];
        }
    }
    return NULL;
}

void torc_worker_base_give_up(struct torc_worker_load *load)
{
    if (load->shard != 0 && !load->broken) {
        torc_base_drop(&load->reader);
    }
    load->shard = 0;
}

bool torc_worker_base_may_begin(struct torc_worker *worker, const struct torc_worker_shard *shard,
                                const struct torc_peer_message *message)
{
    bool begins = message->kind == TORC_PEER_SNAP && message->snap.kind != TORC_SNAP_ACK &&
                  message->snap.stream != shard->replica->machine.base_stream;

    if (worker->quiescing && worker->cluster.durability == TORC_DURABILITY_REPLICATED &&
        message->kind == TORC_PEER_SNAP && message->snap.kind != TORC_SNAP_ACK) {
        return false; // it would count, and nobody would write it any more
    }
    return !begins ||
           ((base_load(worker, shard->engine.shard) != NULL || base_load(worker, 0) != NULL) &&
            torc_log_writer_admit(&worker->log, 0).err == TORC_ERR_OK);
}

// Its place is another shard's at once, and its primary is told.
static void base_break(struct torc_worker *worker, struct torc_worker_shard *shard,
                       const struct torc_fail *why)
{
    torc_worker_alarm(worker, why->err, shard->engine.shard, why->text);
    base_follow_up(shard, &(struct torc_replica_base_event){.kind = TORC_REPLICA_BASE_BROKEN,
                                                            .node = worker->cluster.node});
}

// The log says so at once: whatever it has of the shard is of what was.
static void base_reset(struct torc_worker *worker, struct torc_worker_shard *shard, uint64_t lsn)
{
    struct torc_worker_load *load = base_load(worker, shard->engine.shard);
    struct torc_log_record record;
    struct torc_fail why;

    if (load != NULL && !load->broken) {
        torc_base_drop(&load->reader);
    } else if (load == NULL) {
        load = base_load(worker, 0);
    }
    torc_assert(load != NULL); // torc_worker_base_may_begin
    load->shard = shard->engine.shard;
    shard->replica->base_wanted = false;
    torc_worker_stale_forget(shard);
    if (shard->engine.state != TORC_SHARD_FOLLOWING) {
        torc_shard_follow(&shard->engine, shard->replica->machine.epoch);
        torc_worker_writes_forget(worker, &shard->engine);
    }
    shard->checkpoint_void = shard->checkpoint_number != 0; // it is of what was
    shard->replica->kept_checkpoint = 0;                    // so is the last one that was told
    load->broken =
        torc_base_reset(&load->reader, load->memory, &shard->engine, lsn,
                        torc_replica_epoch_at(&shard->replica->machine, lsn), &why) != TORC_ERR_OK;
    if (load->broken) {
        base_break(worker, shard, &why);
    }
    while (torc_shard_begin(&shard->engine, &record)) {
        torc_worker_append(worker, &shard->engine, &record);
    }
    shard->replica->begun_sequence = worker->log.next_sequence;
    shard->has_base = false; // a new control hears so
    torc_shipped_open(&worker->replicas.shipped, shard->engine.shard, lsn);
}

static void base_store(struct torc_worker *worker, struct torc_worker_shard *shard, uint32_t number)
{
    struct torc_worker_load *load = base_load(worker, shard->engine.shard);
    const struct torc_peer_cargo *cargo = worker->replicas.cargo;
    struct torc_fail why;

    torc_assert(load != NULL && cargo != NULL);
    if (load->broken) {
        return;
    }
    if (torc_base_feed(&load->reader, cargo->bytes, cargo->byte_count, &why) != TORC_ERR_OK) {
        torc_base_break(&load->reader); // other shards of this core may need the memory
        load->broken = true;            // the next stream begins anew
        base_break(worker, shard, &why);
        return;
    }
    base_follow_up(shard, &(struct torc_replica_base_event){.kind = TORC_REPLICA_BASE_TAKEN,
                                                            .node = worker->cluster.node,
                                                            .piece = number});
}

static void base_whole(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_load *load = base_load(worker, shard->engine.shard);
    const struct torc_replica *machine = &shard->replica->machine;
    struct torc_fail why;

    torc_assert(load != NULL && !load->broken);
    if (torc_base_whole(&load->reader, machine->base_end_lsn, machine->base_end_hlc, &why) !=
        TORC_ERR_OK) {
        torc_base_break(&load->reader);
        load->broken = true;
        base_break(worker, shard, &why);
        return;
    }
    load->shard = 0;
    shard->replica->base_wanted = true;
    shard->replica->base_asked_ns = 0;
}

// It had nothing, and has the shard's records from the first on, by a base or by the log alone.
// Control let the log go under it (K2), and has to hear so in the turn in which the first of them
// are logged: before it hears of another shard's checkpoint that was begun behind them.
// Should it lack records later, these are of use.
static void base_has_begun(struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;

    if (replica->begun_sequence != 0 && torc_replica_has_prefix(&replica->machine)) {
        replica->begun_sequence = 0;
        replica->base_wanted = true;
        replica->base_asked_ns = 0;
    }
}

// J2: control is asked for a checkpoint until one that has the whole base is kept.
static void base_ask(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;
    struct torc_evt event = {.kind = TORC_EVT_CHECKPOINT};

    if (!replica->base_wanted || replica->machine.applied_lsn < replica->machine.base_end_lsn ||
        worker->now_ns < replica->base_asked_ns + ASK_AGAIN_NS) {
        return;
    }
    event.role.shard = shard->engine.shard;
    if (torc_worker_say(worker, &event)) {
        replica->base_asked_ns = worker->now_ns;
    }
}

void torc_worker_base_kept(struct torc_worker *worker, struct torc_worker_shard *shard,
                           uint64_t checkpoint)
{
    struct torc_worker_replica *replica = shard->replica;
    struct torc_replica_base_event base = {.kind = TORC_REPLICA_BASE_DURABLE,
                                           .node = worker->cluster.node,
                                           .base_lsn = replica->machine.base_lsn};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &base};

    if (replica->base_wanted && checkpoint == replica->kept_checkpoint &&
        replica->kept_lsn >= replica->machine.base_end_lsn) {
        replica->base_wanted = false;
        torc_worker_replica_step(worker, shard, &event);
    }
}

// Another shard may need the place of one that is not gone on with, and its memory.
static void base_free(struct torc_worker *worker, const struct torc_worker_shard *shard)
{
    struct torc_worker_load *load = torc_replica_base_given_up(&shard->replica->machine)
                                        ? base_load(worker, shard->engine.shard)
                                        : NULL;

    if (load != NULL) {
        if (!load->broken) {
            torc_base_break(&load->reader);
            load->broken = true;
        }
        torc_worker_base_give_up(load);
    }
}

// -- Both -----------------------------------------------------------------------------------------

void torc_worker_base_turn(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    base_look(worker, shard);
    base_free(worker, shard);
    base_has_begun(shard);
    base_ask(worker, shard);
}

void torc_worker_replica_base(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_action *action)
{
    switch ((unsigned)action->kind) {
    case TORC_REPLICA_RESET: base_reset(worker, shard, action->lsn); return;
    case TORC_REPLICA_STREAM:
        base_settle(worker, shard, action->node);
        (void)base_begin(worker, shard, action->node); // else it waits
        return;
    case TORC_REPLICA_PIECE: base_piece(worker, shard, action); return;
    case TORC_REPLICA_SETTLE: base_settle(worker, shard, action->node); return;
    case TORC_REPLICA_STORE: base_store(worker, shard, action->piece); return;
    case TORC_REPLICA_WHOLE: base_whole(worker, shard); return;
    default: break;
    }
    torc_unreachable("no action of a base");
}
