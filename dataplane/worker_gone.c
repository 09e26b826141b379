// Torc dataplane: shards that leave this worker, and what a new control is told of those that are
// here. See worker_replica.h, kit/chan.h.
//
// A place in the table of shards is free when its number is 0. What others keep by place (sweeps,
// jobs of ranges, rows of leases) is ended here, or tells one shard from the next by its number.
#include "dataplane/worker_state.h"

#include <string.h>

// -- SHARD_GONE -----------------------------------------------------------------------------------

// There is room: orders are taken only then.
static void gone_say(struct torc_worker *worker, uint32_t number, uint32_t turn, enum torc_err err)
{
    struct torc_evt event = {.kind = TORC_EVT_SHARD_GONE};

    event.role.shard = number;
    event.role.epoch = turn;
    event.role.role = (uint32_t)err;
    (void)torc_worker_say(worker, &event);
}

void torc_worker_shard_refuse(struct torc_worker *worker, const struct torc_cmd_shard *order,
                              enum torc_err err)
{
    gone_say(worker, order->shard, order->turn, err);
}

// A member's records count: it goes only after another said that it is none. Whoever is being
// replayed, or written to a checkpoint, goes later.
static bool gone_may(const struct torc_worker_shard *shard)
{
    const struct torc_worker_replica *replica = shard->replica;

    if (replica == NULL || shard->checkpoint_number != 0) {
        return false;
    }
    return replica->live ? replica->machine.role == TORC_REPLICA_LEARNER : !shard->has_base;
}

// Worker 0 forgets promises, claims and leases.
static bool gone_tell(struct torc_worker *worker, const struct torc_worker_shard *shard)
{
    struct torc_council_note note = {.kind = TORC_COUNCIL_DROP,
                                     .shard = shard->engine.shard,
                                     .place = (uint32_t)(shard - worker->shards)};

    return torc_worker_replica_note(worker, &note);
}

static void gone_bases(struct torc_worker *worker, uint32_t number)
{
    for (uint32_t i = 0; i < TORC_WORKER_STREAMS; i++) {
        if (worker->replicas.streams[i].shard == number) {
            worker->replicas.streams[i].node = 0;
        }
    }
    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        if (worker->replicas.loads[i].shard == number) {
            torc_worker_base_give_up(&worker->replicas.loads[i]);
        }
    }
}

static void gone_order(struct torc_worker *worker, uint32_t place)
{
    uint32_t at = 0;

    while (worker->shard_order[at] != place) {
        at++;
        torc_assert(at < worker->open_count);
    }
    worker->open_count--;
    memmove(worker->shard_order + at, worker->shard_order + at + 1,
            (worker->open_count - at) * sizeof(worker->shard_order[0]));
    memmove(worker->shard_starts + at, worker->shard_starts + at + 1,
            (worker->open_count - at) * sizeof(worker->shard_starts[0]));
    worker->replicas.numbers[place] = 0;
    while (worker->shard_count > 0 && worker->replicas.numbers[worker->shard_count - 1] == 0) {
        worker->shard_count--;
    }
}

// Sweeps that were in the middle of its tree go on with the next one.
static void gone_sweeps(struct torc_worker *worker, uint32_t place)
{
    if (worker->pack.shard == place) {
        worker->pack.sweep.next = 0;
    }
    worker->look.sweep.next = 0;
}

// Its log lies here still. Whoever gives the shard back, to whatever worker, must begin a later
// turn (torc_worker_turn_above); control hears of SHARD_GONE in between.
static void gone_turn(struct torc_worker *worker, uint32_t turn)
{
    _Atomic uint32_t *highest = &worker->replicas.council->gone_turns[worker->index];

    if (turn > atomic_load_explicit(highest, memory_order_relaxed)) {
        atomic_store_explicit(highest, turn,
                              memory_order_release); // pairs with torc_worker_turn_above
    }
}

uint32_t torc_worker_turn_above(const struct torc_worker *worker, uint32_t turn)
{
    const struct torc_council *council = worker->replicas.council;

    for (uint32_t i = 0; i < council->worker_count; i++) {
        uint32_t gone = atomic_load_explicit(&council->gone_turns[i], memory_order_acquire);

        turn = gone > turn ? gone : turn;
    }
    return turn;
}

void torc_worker_shard_gone(struct torc_worker *worker, uint32_t number)
{
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, number);
    uint32_t place;
    uint32_t turn;

    if (shard == NULL) {
        gone_say(worker, number, 0, TORC_ERR_OK); // it was told before
        return;
    }
    if (!gone_may(shard) || !gone_tell(worker, shard)) {
        return; // ordered again
    }
    place = (uint32_t)(shard - worker->shards);
    turn = shard->engine.turn;
    gone_turn(worker, turn);
    gone_bases(worker, number);
    gone_sweeps(worker, place);
    if (shard->replica->live) {
        torc_shipped_close(&worker->replicas.shipped, number);
        worker->replicas.count--;
    }
    torc_worker_writes_forget(worker, &shard->engine);
    torc_shard_drop(&shard->engine);
    memset(shard->replica, 0, sizeof(*shard->replica));
    memset(shard, 0, sizeof(*shard));
    gone_order(worker, place);
    gone_say(worker, number, turn, TORC_ERR_OK);
}

// -- CONTROL_HELLO --------------------------------------------------------------------------------

static bool hello_here(struct torc_worker *worker, uint32_t place)
{
    const struct torc_worker_shard *shard = &worker->shards[place];
    struct torc_evt event = {.kind = TORC_EVT_SHARD_HERE};

    if (shard->replica != NULL) {
        shard->replica->role_told = false; // a new control has not heard it
    }
    event.here = (struct torc_evt_here){.lo = shard->engine.lo,
                                        .hi = shard->engine.hi,
                                        .copy = shard->replica == NULL ? 0 : shard->replica->copy,
                                        .shard = shard->engine.shard,
                                        .epoch = shard->opened_epoch,
                                        .turn = shard->engine.turn,
                                        .has_base = shard->has_base ? 1 : 0,
                                        .hello = worker->hello};
    return torc_worker_say(worker, &event);
}

void torc_worker_hello_step(struct torc_worker *worker)
{
    struct torc_evt event = {.kind = TORC_EVT_CONTROL_SEEN};

    while (worker->hello_at != 0 && worker->hello_at <= worker->shard_count) {
        uint32_t place = worker->hello_at - 1;

        if (torc_worker_is_open(worker, place) && !hello_here(worker, place)) {
            return;
        }
        worker->hello_at++;
    }
    if (worker->hello_at == 0) {
        return;
    }
    event.seen = (struct torc_evt_control_seen){.sealed_sequence = worker->log.next_sequence - 1,
                                                .durable_sequence = worker->log.durable,
                                                .segment = worker->log.segment.segment,
                                                .segment_prepared = worker->log.segment_last,
                                                .offset_bytes = worker->log.offset_bytes,
                                                .shard_count = worker->open_count,
                                                .log_failed = worker->log.failed ? 1 : 0,
                                                .hello = worker->hello};
    if (torc_worker_say(worker, &event)) {
        worker->hello_at = 0;
    }
}
