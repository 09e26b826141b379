// Torc client: the table of nodes: by number, and which of them have anything to send; see
// engine_state.h.
//
// What    a client of a large cluster speaks to all of its nodes: neither an operation's way to its
//         node nor the look for what is to be sent may go through the whole table.
// Memory  of a node that was only heard of two pages are touched; of one with a session, what its
//         cores need.
#include "client/engine_state.h"

#define WINDOW_FIRST 16u
#define SLOT_SHIFT   (32u - TORC_NODE_SLOT_BITS)

_Static_assert(TORC_ENGINE_NODES_MAX <= 1u << TORC_NODE_INDEX_BITS, "an index names each");
_Static_assert(2u * TORC_ENGINE_NODES_MAX <= 1u << TORC_NODE_SLOT_BITS, "half of it stays empty");

static uint32_t slot_of(uint32_t id)
{
    return id * 0x9E3779B1u >> SLOT_SHIFT; // Knuth, "The Art of Computer Programming", section 6.4
}

static uint32_t slot_after(uint32_t slot)
{
    return (slot + 1) & ((1u << TORC_NODE_SLOT_BITS) - 1);
}

static void slot_fill(struct torc_engine *engine, const struct torc_client_node *node)
{
    uint32_t slot = slot_of(node->id);

    while (engine->node_slots[slot] != 0) {
        slot = slot_after(slot);
    }
    engine->node_slots[slot] = (uint16_t)(node->index + 1);
}

// Its place; node_count: not known.
static uint32_t place_of(const struct torc_engine *engine, uint32_t id)
{
    for (uint32_t slot = slot_of(id); engine->node_slots[slot] != 0; slot = slot_after(slot)) {
        uint32_t place = engine->node_slots[slot] - 1u;

        if (engine->nodes[place].id == id && engine->nodes[place].state != TORC_NODE_GONE) {
            return place;
        }
    }
    return engine->node_count;
}

struct torc_client_node *torc_node_of_id(struct torc_engine *engine, uint32_t id)
{
    uint32_t place = place_of(engine, id);

    return place < engine->node_count ? &engine->nodes[place] : NULL;
}

bool torc_node_is_known(const struct torc_engine *engine, uint32_t id)
{
    return place_of(engine, id) < engine->node_count;
}

void torc_node_named(struct torc_engine *engine, struct torc_client_node *node, uint32_t id)
{
    if (node->id == id) {
        return;
    }
    node->id = id; // only a seed's changes: it is no costly thing
    memset(engine->node_slots, 0, sizeof(engine->node_slots));
    for (uint32_t i = 0; i < engine->node_count; i++) {
        if (engine->nodes[i].id != TORC_NODE_UNKNOWN) {
            slot_fill(engine, &engine->nodes[i]);
        }
    }
}

struct torc_client_node *torc_node_add(struct torc_engine *engine, uint32_t id)
{
    struct torc_client_node *node;

    if (engine->node_count == engine->config.nodes) {
        return NULL;
    }
    node = &engine->nodes[engine->node_count];
    node->id = id;
    node->index = (uint16_t)engine->node_count;
    node->paths = engine->paths + 256ull * node->index;
    torc_mtu_init(node);
    torc_node_cores(node, 1);
    node->window = WINDOW_FIRST << TORC_WINDOW_SHIFT;
    node->window_max = TORC_WINDOW_PACKETS << TORC_WINDOW_SHIFT;
    engine->node_count++;
    if (id != TORC_NODE_UNKNOWN) {
        slot_fill(engine, node);
    }
    return node;
}

void torc_node_cores(struct torc_client_node *node, uint8_t cores)
{
    for (; node->path_count < cores; node->path_count++) {
        struct torc_client_path *path = &node->paths[node->path_count];

        for (uint32_t list = 0; list < TORC_COUNT_OF(path->queues); list++) {
            torc_list_init(&path->queues[list]);
            torc_list_init(&path->packets[list]);
        }
    }
    node->cores = cores;
}

// ---- Which have anything to send

static bool node_is_busy(const struct torc_client_node *node)
{
    return torc_node_has_work(node) || node->init_due || node->close_due ||
           (node->previous_close_due && node->has_previous);
}

void torc_node_rest(struct torc_engine *engine, const struct torc_client_node *node)
{
    if (!node_is_busy(node)) {
        engine->nodes_busy[node->index / 64] &= ~(UINT64_C(1) << (node->index % 64));
    }
}

uint32_t torc_node_busy_from(const struct torc_engine *engine, uint32_t index)
{
    while (index < engine->node_count) {
        uint64_t bits = engine->nodes_busy[index / 64] >> (index % 64);

        if (bits != 0) {
            return index + (uint32_t)__builtin_ctzll(bits);
        }
        index = (index / 64 + 1) * 64;
    }
    return engine->node_count;
}
