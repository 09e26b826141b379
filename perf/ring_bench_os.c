// Torc perf: placement: how fast, how even, and how little moves.
//
//     torc-ring-bench [--quick] [--nodes N] [--shards N] [--changes N]
//
// --changes: of the long series (100; 0 leaves it out, as --quick does); it tells of partners.
//
// Prints a JSON line a row, table `scale` of GOALS.md. Times are this thread's CPU, medians of
// several runs; everything else is counted by this program from the lists alone. Less is better:
// `peer` is the limit, and the ratio is its part of ours.
#include "control/placement.h"
#include "kit/rng.h"
#include "perf/limits_os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REPLICAS = 3,
    IDS = TORC_PLACEMENT_IDS,
    TIMED = 5, // runs of what is timed
    CAPACITY = 1000
};

struct world {
    struct torc_placement placement;
    struct torc_placement_node nodes[IDS];
    uint32_t node_count;
    struct torc_placement_shard *shards;
    struct torc_placement_shard *before;
    uint32_t shard_count;
    struct torc_rng rng;
    // What was seen, over all changes of a world.
    double moved_max; // of the changed node's part of all replicas
    double load_max;  // of a node's share, right after a change
    double partners_max;
    double seconds_max;
    uint64_t together; // replicas that share a domain
};

static struct world world;

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

static _Noreturn void die(const char *text)
{
    (void)fprintf(stderr, "ring-bench: %s\n", text);
    exit(1); // NOLINT(concurrency-mt-unsafe): one thread
}

// Less is better: the ratio is the limit's over ours.
static void row(const char *name, double ours, double limit)
{
    double ratio = ours > 0 ? limit / ours : 1;

    (void)printf("{\"table\":\"scale\",\"name\":\"%s\",\"ours\":%.4f,\"peer\":%.4f,\"ratio\":%.3f,"
                 "\"goal\":1.00,\"met\":%s}\n",
                 name, ours, limit, ratio, ours <= limit ? "true" : "false");
    (void)fflush(stdout);
}

// -- What is there -------------------------------------------------------------------------------

static void count_partners(void)
{
    static uint8_t seen[IDS][IDS / 8];
    uint32_t most = 0;

    memset(seen, 0, sizeof(seen));
    for (uint32_t s = 0; s < world.shard_count; s++) {
        const struct torc_placement_shard *shard = &world.shards[s];

        for (uint32_t i = 0; i < shard->count; i++) {
            for (uint32_t k = 0; k < shard->count; k++) {
                seen[shard->nodes[i]][shard->nodes[k] / 8] |= (uint8_t)(1u << shard->nodes[k] % 8);
            }
        }
    }
    for (uint32_t node = 0; node < IDS; node++) {
        uint32_t partners = 0;

        for (uint32_t i = 0; i < IDS / 8; i++) {
            partners += (uint32_t)__builtin_popcount(seen[node][i]);
        }
        most = partners > most ? partners : most;
    }
    world.partners_max = most > world.partners_max + 1 ? most - 1 : world.partners_max;
}

// Loads beside capacities: no domain of these worlds is too large or too small for its part.
static void count_loads(void)
{
    static double loads[IDS];
    double capacity = 0;
    double sum = 0;

    memset(loads, 0, sizeof(loads));
    for (uint32_t s = 0; s < world.shard_count; s++) {
        for (uint32_t i = 0; i < world.shards[s].count; i++) {
            loads[world.shards[s].nodes[i]] += world.shards[s].weight;
            sum += world.shards[s].weight;
        }
    }
    for (uint32_t i = 0; i < world.node_count; i++) {
        capacity += world.nodes[i].member.capacity;
    }
    for (uint32_t i = 0; i < world.node_count; i++) {
        double load =
            loads[world.nodes[i].member.node] * capacity / (sum * world.nodes[i].member.capacity);

        world.load_max = load > world.load_max ? load : world.load_max;
    }
}

static void count_domains(void)
{
    static uint16_t domains[IDS];

    for (uint32_t i = 0; i < world.node_count; i++) {
        domains[world.nodes[i].member.node] = world.nodes[i].member.domain;
    }
    for (uint32_t s = 0; s < world.shard_count; s++) {
        const uint16_t *nodes = world.shards[s].nodes;

        for (uint32_t i = 0; i < world.shards[s].count; i++) {
            for (uint32_t k = 0; k < i; k++) {
                uint16_t domain = domains[nodes[i]];

                world.together +=
                    nodes[i] == nodes[k] || (domain != 0 && domain == domains[nodes[k]]) ? 1 : 0;
            }
        }
        world.together += world.shards[s].count == REPLICAS ? 0 : 1;
    }
}

// Replicas that lie where there was none of their shard before.
static uint64_t count_moved(void)
{
    uint64_t moved = 0;

    for (uint32_t s = 0; s < world.shard_count; s++) {
        const struct torc_placement_shard *now = &world.shards[s];
        const struct torc_placement_shard *before = &world.before[s];

        for (uint32_t i = 0; i < now->count; i++) {
            bool was = false;

            for (uint32_t k = 0; k < before->count; k++) {
                was = was || before->nodes[k] == now->nodes[i];
            }
            moved += was ? 0 : 1;
        }
    }
    return moved;
}

// -- Changes -------------------------------------------------------------------------------------

static void add_node(uint32_t node, uint32_t capacity, uint32_t domain)
{
    static struct torc_ring_member members[IDS];
    struct torc_ring_member member = {
        .capacity = capacity, .node = (uint16_t)node, .domain = (uint16_t)domain};

    for (uint32_t i = 0; i < world.node_count; i++) {
        members[i] = world.nodes[i].member;
    }
    member.slot = torc_ring_free_slot(members, world.node_count, (uint16_t)domain);
    world.nodes[world.node_count++] = (struct torc_placement_node){.member = member};
}

// Plans; returns this thread's seconds.
static double plan(void)
{
    struct torc_placement_result result;
    struct torc_fail why;
    double start = limits_cpu_s();

    if (torc_placement_nodes(&world.placement, world.nodes, world.node_count, REPLICAS, &why) !=
        TORC_ERR_OK) {
        die(why.text);
    }
    torc_placement_plan(&world.placement, world.shards, world.shard_count, &result);
    return limits_cpu_s() - start;
}

// One change of the nodes: what it moves, and what then is.
static void change(double part)
{
    double seconds;
    double moved;

    memcpy(world.before, world.shards, world.shard_count * sizeof(*world.shards));
    seconds = plan();
    world.seconds_max = seconds > world.seconds_max ? seconds : world.seconds_max;
    moved = (double)count_moved() / ((double)world.shard_count * REPLICAS * part);
    world.moved_max = moved > world.moved_max ? moved : world.moved_max;
    count_loads();
    count_partners();
}

// A node's part of all capacity: 1 / N where all are equal.
static double part_of(const struct torc_placement_node *node)
{
    double sum = 0;

    for (uint32_t i = 0; i < world.node_count; i++) {
        sum += world.nodes[i].member.capacity;
    }
    return node->member.capacity / sum;
}

static uint32_t free_node(void)
{
    static bool taken[IDS];

    memset(taken, 0, sizeof(taken));
    for (uint32_t i = 0; i < world.node_count; i++) {
        taken[world.nodes[i].member.node] = true;
    }
    for (uint32_t node = 1; node < IDS; node++) {
        if (!taken[node]) {
            return node;
        }
    }
    die("no number is free");
}

// Shards of a cluster that splits them in halves: bytes evenly between one size and its double.
static void open_world(uint32_t node_count, const uint32_t *capacities, uint32_t domains)
{
    world.rng = (struct torc_rng){7};
    world.node_count = 0;
    world.moved_max = world.load_max = world.partners_max = world.seconds_max = 0;
    world.together = 0;
    for (uint32_t i = 0; i < node_count; i++) {
        add_node(i + 1, capacities[i % 3] * CAPACITY, domains == 0 ? 0 : 1 + i % domains);
    }
    for (uint32_t s = 0; s < world.shard_count; s++) {
        world.shards[s] = (struct torc_placement_shard){
            .shard = s + 1, .weight = 1000 + (uint32_t)torc_rng_below(&world.rng, 1000)};
    }
}

// Puts all shards into order and places them; returns the seconds for both.
static double place(void)
{
    double start = limits_cpu_s();

    torc_placement_sort(world.shards, world.before, world.shard_count);
    return limits_cpu_s() - start + plan();
}

// A join or a leave of one node, chosen by the number; domains stay as large as one another.
static void churn_one(uint32_t number, bool join, const uint32_t *capacities, uint32_t domains)
{
    uint32_t domain = domains == 0 ? 0 : 1 + number / 2 % domains;
    double part;
    uint32_t at;

    if (join) {
        add_node(free_node(), capacities[number / 2 % 3] * CAPACITY, domain);
        part = part_of(&world.nodes[world.node_count - 1]);
    } else {
        do {
            at = (uint32_t)torc_rng_below(&world.rng, world.node_count);
        } while (world.nodes[at].member.domain != domain ||
                 world.nodes[at].member.capacity != capacities[number / 2 % 3] * CAPACITY);
        part = part_of(&world.nodes[at]);
        world.nodes[at] = world.nodes[--world.node_count];
    }
    change(part);
}

// One shard in sixteen grows to as much as eight times its bytes: then the plan balances.
static void grow(void)
{
    for (uint32_t s = 0; s < world.shard_count; s++) {
        if (torc_rng_below(&world.rng, 16) == 0) {
            world.shards[s].weight *= 1 + (uint32_t)torc_rng_below(&world.rng, 8);
        }
    }
    count_loads();
}

static void rows_of(const char *what, uint32_t node_count, const uint32_t *capacities,
                    uint32_t domains, uint32_t changes)
{
    char name[160];
    double seconds[TIMED];
    double grown;

    for (uint32_t i = 0; i < TIMED; i++) {
        open_world(node_count, capacities, domains);
        seconds[i] = place();
    }
    for (uint32_t i = 1; i < TIMED; i++) {
        for (uint32_t k = i; k > 0 && seconds[k - 1] > seconds[k]; k--) {
            double swapped = seconds[k];

            seconds[k] = seconds[k - 1];
            seconds[k - 1] = swapped;
        }
    }
    count_loads();
    count_partners();
    count_domains();
    (void)snprintf(name, sizeof(name), "%s: seconds to place %u x 3 replicas, against 1", what,
                   world.shard_count);
    row(name, seconds[TIMED / 2], 1.0);
    (void)snprintf(name, sizeof(name), "%s: max / mean load by bytes, placed, against 1.05", what);
    row(name, world.load_max, 1.05);
    (void)snprintf(name, sizeof(name), "%s: partners of a node, placed, against 64", what);
    row(name, world.partners_max, 64);
    world.load_max = 0;
    for (uint32_t i = 0; i < changes; i++) {
        churn_one(i, i % 2 == 0, capacities, domains);
    }
    count_domains();
    (void)snprintf(name, sizeof(name), "%s: milliseconds for a change of one node, the worst of %u",
                   what, changes);
    row(name, world.seconds_max * 1000, 50);
    (void)snprintf(name, sizeof(name),
                   "%s: moved when one joins or leaves, of its part (1 / N), the worst of %u", what,
                   changes);
    row(name, world.moved_max, 1.05);
    (void)snprintf(name, sizeof(name), "%s: max / mean load by bytes, the worst of %u changes",
                   what, changes);
    row(name, world.load_max, 1.05);
    (void)snprintf(name, sizeof(name), "%s: partners of a node, the most in %u changes, against 64",
                   what, changes);
    row(name, world.partners_max, 64);
    world.load_max = 0;
    grow();
    grown = world.load_max;
    world.load_max = 0;
    (void)plan();
    count_loads();
    count_domains();
    (void)snprintf(name, sizeof(name),
                   "%s: max / mean load by bytes after shards grew, before balancing", what);
    row(name, grown, 1.10);
    (void)snprintf(name, sizeof(name), "%s: the same, balanced", what);
    row(name, world.load_max, 1.05);
    (void)snprintf(name, sizeof(name), "%s: replicas that share a domain, or are missing", what);
    row(name, (double)world.together, 0);
}

// Many changes: what a cluster is after them, rather than what the worst of them does.
static void rows_of_many(const char *what, uint32_t node_count, const uint32_t *capacities,
                         uint32_t domains, uint32_t changes)
{
    char name[160];

    if (changes == 0) {
        return;
    }
    open_world(node_count, capacities, domains);
    (void)place();
    for (uint32_t i = 0; i < changes; i++) {
        churn_one(i, i % 2 == 0, capacities, domains);
    }
    (void)snprintf(name, sizeof(name), "%s: partners of a node, the most in %u changes, against 64",
                   what, changes);
    row(name, world.partners_max, 64);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"nodes", required_argument, NULL, 'n'},
                                            {"shards", required_argument, NULL, 's'},
                                            {"changes", required_argument, NULL, 'c'},
                                            {"quick", no_argument, NULL, 'q'},
                                            {0}};
    static const struct {
        const char *what;
        uint32_t capacities[3];
        uint32_t domains;
    } worlds[] = {{"equal nodes", {1, 1, 1}, 0},
                  {"capacities 1 : 2 : 3", {1, 2, 3}, 0},
                  {"3 domains", {1, 1, 1}, 3},
                  {"20 domains", {1, 1, 1}, 20}};
    uint64_t node_count = 1000;
    uint64_t shard_count = 1000000;
    uint64_t changes = 100;
    bool quick = false;
    int option;

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n': node_count = strtoull(optarg, NULL, 10); break;
        case 's': shard_count = strtoull(optarg, NULL, 10); break;
        case 'c': changes = strtoull(optarg, NULL, 10); break;
        case 'q': quick = true; break;
        default:
            (void)fprintf(stderr, "usage: ring-bench [--quick] [--nodes N] [--shards N] "
                                  "[--changes N]\n");
            return 2;
        }
    }
    if (node_count < 12 || node_count > 4000 || shard_count < 1000 || shard_count > 20000000 ||
        changes > 100000) {
        die("from 12 to 4000 nodes, from 1000 to 20000000 shards, to 100000 changes");
    }
    world.shard_count = (uint32_t)shard_count;
    world.shards = calloc(shard_count, sizeof(*world.shards));
    world.before = calloc(shard_count, sizeof(*world.before));
    if (world.shards == NULL || world.before == NULL) {
        die("out of memory");
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(worlds); i++) {
        rows_of(worlds[i].what, (uint32_t)node_count, worlds[i].capacities, worlds[i].domains,
                quick ? 4 : 20);
        rows_of_many(worlds[i].what, (uint32_t)node_count, worlds[i].capacities, worlds[i].domains,
                     quick ? 0 : (uint32_t)changes);
    }
    free(world.shards);
    free(world.before);
    return 0;
}
