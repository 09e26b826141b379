// Torc simulator: the metastore. See sim.h.
//
// What    one record a node (its boot) and one a shard (its epoch), changed by compare-and-swap.
//         The store is linearizable: a request takes effect at one moment on its way, or never. Its
//         answer may be late, or be "unknown": then it may have taken effect, or may yet.
//         A request is one transaction: a node's boot and the epochs of its shards go up together.
#include "tests/sim/sim.h"

#include <stdlib.h>

#define META_NS (300 * SIM_US)

struct meta_request {
    struct sim_meta_answer answer;
    uint32_t node;
    uint64_t boot; // read when it was asked: what the swap expects
    bool is_read;
    bool applies; // at its event; else only its answer comes
    bool answers;
};

void sim_meta_init(void)
{
    sim->meta = (struct sim_meta){.revision = 1, .next_ticket = 1, .delay_ns = META_NS};
}

static void meta_post(const struct meta_request *request, uint64_t delay_ns)
{
    struct meta_request *copy = malloc(sizeof(*copy));

    torc_assert(copy != NULL);
    *copy = *request;
    sim_post(sim->now_ns + delay_ns, SIM_EVENT_META, request->node, 0, copy);
}

static uint64_t meta_delay_ns(void)
{
    return META_NS / 2 + torc_rng_below(&sim->rng, 2 * sim->meta.delay_ns);
}

static uint64_t meta_submit(struct meta_request *request)
{
    bool unknown = !sim->quiet && sim->config.unknown_ppm > 0 &&
                   torc_rng_chance(&sim->rng, sim->config.unknown_ppm);
    uint64_t delay_ns = meta_delay_ns();

    request->answer.ticket = sim->meta.next_ticket++;
    request->boot = sim->meta.nodes[request->node].boot;
    if (sim->meta.away) {
        request->answer.err = TORC_ERR_UNAVAILABLE;
        request->answers = true;
        meta_post(request, 20 * SIM_MS);
        return request->answer.ticket;
    }
    if (!unknown || request->is_read) {
        request->applies = true;
        request->answers = true;
        meta_post(request, delay_ns);
        return request->answer.ticket;
    }
    // The answer says nothing; the swap happens never, before it or long after it.
    sim_cover(SIM_COVER_META_UNKNOWN);
    if (torc_rng_chance(&sim->rng, 600000)) {
        struct meta_request late = *request;

        late.applies = true;
        meta_post(&late, torc_rng_below(&sim->rng, 4 * delay_ns));
        sim_cover(SIM_COVER_META_UNKNOWN_DONE);
    }
    request->answer.err = TORC_ERR_IN_DOUBT;
    request->answers = true;
    meta_post(request, 2 * delay_ns);
    return request->answer.ticket;
}

uint64_t sim_meta_boot(uint32_t node)
{
    struct meta_request request = {.node = node};

    return meta_submit(&request);
}

uint64_t sim_meta_read(uint32_t node)
{
    struct meta_request request = {.node = node, .is_read = true};

    return meta_submit(&request);
}

// The compare-and-swap.
static void meta_apply(struct meta_request *request)
{
    struct sim_meta_node *record = &sim->meta.nodes[request->node];

    if (request->is_read) {
        return;
    }
    if (record->boot != request->boot) {
        request->answer.err = TORC_ERR_CONDITION_FAILED;
        sim_cover(SIM_COVER_META_CONFLICT);
        return;
    }
    record->boot++;
    record->nonce = request->answer.ticket;
    sim->meta.revision++;
    for (uint32_t i = 0; i < sim->config.shards; i++) {
        if (sim->shard_node[i] == request->node) {
            sim->meta.epochs[i]++;
        }
    }
    sim_story("meta    node %u has boot %u", (unsigned)request->node + 1, (unsigned)record->boot);
}

struct sim_meta_answer *sim_meta_take(struct sim_event *event)
{
    struct meta_request *request = event->what;

    if (request->applies) {
        meta_apply(request);
    }
    return request->answers ? &request->answer : NULL;
}
