// Torc dataplane: reads that wait until the shards they need are confirmed (read-mode = confirm).
// See confirm.h.
//
// What    a packet that has been opened and checked waits here, copied, when it has operations that
//         read what this node leads together with others: gets, begins and credits of ranges, clock
//         requests, conditional writes and deletes, and pieces of large values (which may belong to
//         a conditional write). Reads of a bounded age too: this node's clock, which may have stood
//         still, says nothing of an age. All else passes. Outside of a release such shards are not
//         readable, so that what found no place, or waited too long, is refused as without a lease.
// Owner   the worker.
// Memory  TORC_WORKER_KEPT slots, carved with the worker where the setting asks for it.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define AGAIN_NS UINT64_C(1000000) // a question without an answer is asked again: worker 0 was away

_Static_assert(TORC_CONFIRM_BATCH <= TORC_WORKER_BURST, "they are looked up together");

// Where a packet and its operations lie while they wait.
struct confirm_kept {
    struct torc_packet packet;
    unsigned char ops[];
};

static struct confirm_kept *confirm_slot(const struct torc_worker *worker, uint32_t slot)
{
    return (struct confirm_kept *)(void *)(worker->kept + (uint64_t)slot * worker->kept_bytes);
}

uint32_t torc_worker_kept_bytes(const struct torc_worker_config *config)
{
    uint32_t frame_bytes = 0;

    for (uint32_t i = 0; i < config->port_count && i < TORC_WORKER_PORTS_MAX; i++) {
        frame_bytes = (uint32_t)torc_max_u64(frame_bytes, config->ports[i].mtu);
    }
    return ((uint32_t)sizeof(struct confirm_kept) + frame_bytes + 63) / 64 * 64;
}

void torc_worker_confirm_init(struct torc_worker *worker, void *memory)
{
    struct torc_confirm_config config = {
        .wait_ns = TORC_WORKER_CONFIRM_NS, .again_ns = AGAIN_NS, .slots = TORC_WORKER_KEPT};

    if (worker->confirm != NULL) {
        torc_confirm_init(worker->confirm, memory, &config);
    }
}

// -- What waits -----------------------------------------------------------------------------------

// It serves the shard as one of several members.
static bool confirm_leads(const struct torc_worker_shard *shard)
{
    return torc_worker_leads(shard) &&
           torc_replica_confirmed_ns(&shard->replica->machine) != UINT64_MAX;
}

static uint64_t confirm_place(const struct torc_worker *worker, uint32_t place)
{
    return place != TORC_WORKER_NONE && confirm_leads(&worker->shards[place])
               ? torc_confirm_bit(place)
               : 0;
}

static uint64_t confirm_clock(const struct torc_worker *worker, uint64_t lo, uint64_t hi)
{
    uint64_t shards = 0;

    for (uint32_t i = 0; i < worker->open_count; i++) {
        uint32_t place = worker->shard_order[i];
        const struct torc_shard *shard = &worker->shards[place].engine;

        if (shard->hi > lo && shard->lo < hi) {
            shards |= confirm_place(worker, place);
        }
    }
    return shards;
}

static uint64_t confirm_range(const struct torc_worker *worker, const struct torc_request *request)
{
    bool reverse = (request->flags & TORC_RANGE_REVERSE) != 0;

    return confirm_place(worker,
                         torc_worker_shard_of(worker, reverse ? request->hi - 1 : request->lo));
}

static uint64_t confirm_op(struct torc_worker *worker, const unsigned char *op, uint32_t length)
{
    struct torc_request request;
    struct torc_fail why;
    uint32_t place;

    if (torc_request_decode(&request, op, length, &why) != TORC_ERR_OK) {
        return 0;
    }
    place = torc_worker_shard_of(worker, request.key);
    switch (request.opcode) {
    case TORC_OPCODE_GET: return confirm_place(worker, place);
    case TORC_OPCODE_PUT:
    case TORC_OPCODE_DELETE:
        return torc_worker_write_reads(&request) ? confirm_place(worker, place) : 0;
    case TORC_OPCODE_FRAG:
    case TORC_OPCODE_RANGE_CREDIT: return confirm_place(worker, place);
    case TORC_OPCODE_RANGE_READ:
    case TORC_OPCODE_RANGE_OPEN: return confirm_range(worker, &request);
    case TORC_OPCODE_CLOCK: return confirm_clock(worker, request.lo, request.hi);
    default: return 0;
    }
}

static uint64_t confirm_packet(struct torc_worker *worker, const struct torc_packet *packet)
{
    struct torc_framing framing = {.bytes = packet->ops, .byte_count = packet->ops_bytes};
    const unsigned char *op;
    uint64_t shards = 0;
    uint32_t length;

    while (torc_framing_next(&framing, &op, &length)) {
        shards |= confirm_op(worker, op, length);
    }
    return shards;
}

bool torc_worker_confirm_keeps(struct torc_worker *worker, const struct torc_packet *packet)
{
    struct confirm_kept *kept;
    uint64_t shards;
    uint32_t slot;

    if (packet->session->principal >= TORC_PRINCIPAL_NODE || packet->clock_ahead) {
        return false;
    }
    shards = confirm_packet(worker, packet);
    if (shards == 0) {
        return false;
    }
    slot = torc_confirm_keep(worker->confirm, worker->now_ns, shards);
    if (slot == TORC_CONFIRM_NONE) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_CONFIRM_REFUSED], 1);
        return false;
    }
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_CONFIRM_WAITED], 1);
    kept = confirm_slot(worker, slot);
    torc_assert(sizeof(*kept) + packet->ops_bytes <= worker->kept_bytes);
    kept->packet = *packet;
    memcpy(kept->ops, packet->ops, packet->ops_bytes);
    kept->packet.ops = kept->ops;
    worker->confirm_again = worker->confirm_again || TORC_BUG(CONFIRM_NOT_ASKED);
    return true;
}

// -- Asking ---------------------------------------------------------------------------------------

void torc_worker_confirm_ask(struct torc_worker *worker)
{
    struct torc_council_note note = {.kind = TORC_COUNCIL_ASK};
    struct torc_confirm *confirm = worker->confirm;

    if (confirm == NULL || !torc_confirm_asks(confirm, worker->now_ns)) {
        return;
    }
    note.life = torc_confirm_ask(confirm, worker->now_ns);
    if (!torc_council_say(&worker->replicas.up, &note)) {
        return; // it is asked again in time
    }
    if (worker->index != 0) {
        worker->turn->ring_workers[0] |= 1;
    } else {
        worker->turn->more = true;
    }
}

void torc_worker_confirm_told(struct torc_worker *worker, const struct torc_council_note *note)
{
    torc_assert(worker->confirm != NULL);
    torc_confirm_told(worker->confirm, note->life, note->bound_ns);
    worker->confirm_again = true;
}

// -- Release --------------------------------------------------------------------------------------

// The shards that are led here with others. Returns the sum of when they were confirmed.
static uint64_t confirm_look(const struct torc_worker *worker, struct torc_confirm_view *view)
{
    uint64_t sum = 0;

    view->count = 0;
    for (uint32_t place = 0; place < worker->shard_count; place++) {
        const struct torc_worker_shard *shard = &worker->shards[place];

        if (torc_worker_is_open(worker, place) && confirm_leads(shard)) {
            torc_assert(view->count < TORC_CONFIRM_LED_MAX);
            view->led[view->count] = (struct torc_confirm_led){
                .shards = torc_confirm_bit(place),
                .confirmed_ns = torc_replica_confirmed_ns(&shard->replica->machine),
                .place = place};
            sum += view->led[view->count++].confirmed_ns;
        }
    }
    return sum;
}

// What may be read for packets of that bound. NEVER: nothing.
static void confirm_open(struct torc_worker *worker, const struct torc_confirm_view *view,
                         uint64_t bound_ns)
{
    for (uint32_t i = 0; i < view->count; i++) {
        worker->shards[view->led[i].place].readable = view->led[i].confirmed_ns >= bound_ns;
    }
}

// The packets of those slots whose sessions live, into the burst.
static uint32_t confirm_burst(struct torc_worker *worker, const struct torc_confirm_batch *batch)
{
    uint32_t packet_count = 0;

    worker->get_count = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct torc_packet *packet = &worker->burst[packet_count];

        *packet = confirm_slot(worker, batch->slots[i])->packet;
        packet->session = torc_session_find(worker->sessions, packet->to.index);
        if (packet->session != NULL && packet->session->serial == packet->to.serial) {
            torc_worker_note_gets(worker, packet);
            packet_count++;
        }
    }
    return packet_count;
}

static void confirm_answer(struct torc_worker *worker, const struct torc_confirm_batch *batch)
{
    uint64_t delay_ns = worker->queue_delay_ns;
    uint32_t packet_count = confirm_burst(worker, batch);

    worker->tx_owed = packet_count;
    torc_worker_look_up(worker);
    for (uint32_t pass = 0; pass < 2; pass++) { // ranges stand before nobody's point request
        for (uint32_t i = 0; i < packet_count; i++) {
            struct torc_packet *packet = &worker->burst[i];

            if (packet->late == (pass == 1)) {
                worker->queue_delay_ns = worker->now_ns - packet->to.arrived_ns;
                worker->tx_owed--;
                torc_worker_answer_packet(worker, packet);
            }
        }
    }
    worker->queue_delay_ns = delay_ns;
    for (uint32_t i = 0; i < batch->count; i++) {
        torc_confirm_free(worker->confirm, batch->slots[i]);
    }
}

void torc_worker_confirm_release(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    struct torc_confirm_batch batch;
    struct torc_confirm_view view;
    uint64_t sum;
    uint32_t room;

    if (worker->confirm == NULL || worker->confirm->count == 0) {
        return;
    }
    sum = confirm_look(worker, &view);
    if (sum == worker->confirm_sum && !worker->confirm_again &&
        worker->now_ns < torc_confirm_deadline_ns(worker->confirm)) {
        return;
    }
    worker->confirm_sum = sum;
    room = turn->tx_room - turn->tx_count;
    while (torc_confirm_take(worker->confirm, worker->now_ns, &view,
                             (uint32_t)torc_min_u64(room, TORC_CONFIRM_BATCH), &batch)) {
        turn->futile = false;
        confirm_open(worker, &view, batch.bound_ns);
        confirm_answer(worker, &batch);
        room = turn->tx_room - turn->tx_count;
    }
    worker->confirm_again = room == 0;
    turn->more = turn->more || worker->confirm_again;
    confirm_open(worker, &view, TORC_CONFIRM_NEVER);
}

uint64_t torc_worker_confirm_deadline_ns(const struct torc_worker *worker)
{
    return worker->confirm == NULL ? UINT64_MAX : torc_confirm_deadline_ns(worker->confirm);
}
