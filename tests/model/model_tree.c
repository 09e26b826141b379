// Torc tests: the trees of all SIMD variants against a sorted array, by random operations.
//
// What    worlds run one after the other, face by face (tree_faces.c): each draws keys, versions,
//         values and memory that meet some edge of the layout, then writes, deletes, looks up,
//         scans, counts, appends, takes and cancels tickets, sweeps and orders, on one tree for
//         each variant that this CPU has. Every answer is compared with the array; the checker
//         walks all trees after every so many operations, and then their bytes are compared with
//         each other. What encodings and borders were met is counted, and none may be missing.
//           Sibling runs with a planted fault must be found: a lookup or a descent that goes wrong,
//         and bytes of one tree changed behind its back.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations, over all faces;
//         TORC_TEST_FACE=name runs one face alone.
#include "tests/model/tree_world.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef TORC_TEST_SANITIZED
#define OPS_DEFAULT 3500000
#else
#define OPS_DEFAULT 10000000
#endif

// A face that gets fewer operations may well miss what it is there for.
#define FACE_OPS_MIN   150000
#define FACE_RUNS_MORE 4u // at most, of the same length

static struct world the_world; // large, and one at a time
static uint64_t reached_all[REACH_KINDS];

static const char *environment(const char *name)
{
    return getenv(name); // NOLINT(concurrency-mt-unsafe): one thread
}

static uint64_t ops_wanted(void)
{
    const char *text = environment("TORC_TEST_OPS");

    return text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
}

static void world_say(uint64_t seed)
{
    (void)fprintf(stderr, "\nface %s, world %" PRIu64 " (%s, records %u): %s\n",
                  the_world.face->name, seed, the_world.roomy ? "roomy" : "little memory",
                  the_world.records_max, the_world.said);
}

// Worlds of one face, until so many operations; what they reached. False: one is broken.
static bool face_run(struct stage *stage, const struct face *face, struct torc_rng *rng,
                     uint64_t wanted)
{
    uint64_t ops = 0;
    uint64_t refused = 0;
    uint32_t worlds = 0;

    while (ops < wanted && !the_world.broken) {
        uint64_t seed = torc_rng_next(rng);

        world_init(&the_world, stage, face, seed);
        world_run(&the_world);
        if (!the_world.broken) {
            world_close(&the_world);
        }
        if (the_world.broken) {
            world_say(seed);
        }
        ops += the_world.ops;
        refused += the_world.refused;
        worlds++;
    }
    (void)printf("\n    %s: %" PRIu64 " operations, %u worlds, %" PRIu64 " refused", face->name,
                 ops, worlds, refused);
    return !the_world.broken;
}

// What the face is there for and has not reached; NULL: all of it, or it was run for too short.
static const char *face_missing(const struct stage *stage, const struct face *face, uint64_t wanted)
{
    return wanted < FACE_OPS_MIN ? NULL : reach_missing(stage->reached, face->reaches);
}

static void face_test(struct stage *stage, const struct face *face, uint64_t wanted)
{
    struct torc_rng rng = {torc_test_seed() + (uint64_t)(face - faces)};
    const char *missing;

    memset(stage->reached, 0, sizeof(stage->reached));
    CU_ASSERT_TRUE_FATAL(face_run(stage, face, &rng, wanted));
    missing = face_missing(stage, face, wanted);
    // A seed whose worlds happened to pass an edge by goes on for longer.
    for (uint32_t i = 0; missing != NULL && i < FACE_RUNS_MORE; i++) {
        CU_ASSERT_TRUE_FATAL(face_run(stage, face, &rng, wanted));
        missing = face_missing(stage, face, wanted);
    }
    if (missing != NULL) {
        (void)fprintf(stderr, "\nface %s did not reach %s\n", face->name, missing);
    }
    CU_ASSERT_PTR_NULL(missing);
    for (uint32_t i = 0; i < REACH_KINDS; i++) {
        reached_all[i] += stage->reached[i];
    }
}

static void test_trees_agree_with_a_sorted_array(void)
{
    const char *only = environment("TORC_TEST_FACE");
    uint64_t wanted = ops_wanted() / (only == NULL ? face_count : 1);
    struct stage stage;

    CU_ASSERT_TRUE_FATAL(only == NULL || face_named(only) != NULL);
    stage_open(&stage, NULL);
    for (uint32_t i = 0; i < face_count; i++) {
        if (only == NULL || strcmp(only, faces[i].name) == 0) {
            face_test(&stage, &faces[i], wanted);
        }
    }
    stage_close(&stage);
    (void)printf("\n    %u variants … ", stage.side_count);
}

static void test_every_edge_was_met(void)
{
    const char *missing = reach_missing(reached_all, NULL);
    bool whole = environment("TORC_TEST_FACE") == NULL && ops_wanted() / face_count >= FACE_OPS_MIN;

    reach_print(reached_all);
    if (whole && missing != NULL) {
        (void)fprintf(stderr, "no face reached %s\n", missing);
    }
    CU_ASSERT_TRUE(!whole || missing == NULL);
}

// -- Planted faults: functions -------------------------------------------------------------------

static void lookup_losing(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                          struct torc_tree_hit *hits)
{
    torc_tree_code_plain.lookup(tree, keys, count, hits);
    for (uint32_t i = 0; i < count; i++) {
        hits[i].found = hits[i].found && keys[i] % 1021 != 3;
    }
}

// Above the middle of a batch, the leaf of the key before.
static bool locate_aside(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                         uint32_t *leaves)
{
    (void)torc_tree_code_plain.locate(tree, keys, count, leaves);
    if (count > 14 && keys[14] % 64 == 1) {
        leaves[14] = leaves[13];
    }
    return false;
}

// Runs worlds with a broken table until one is found broken; false when none is.
static bool code_fault_found(const struct torc_tree_code *code, uint32_t worlds)
{
    struct torc_rng rng = {torc_test_seed()};
    struct stage stage;
    bool found = false;

    stage_open(&stage, code);
    for (uint32_t i = 0; i < worlds && !found; i++) {
        world_init(&the_world, &stage, face_named("mixed"), torc_rng_next(&rng));
        world_run(&the_world);
        found = the_world.broken;
        if (!found) {
            world_close(&the_world);
        }
    }
    stage_close(&stage);
    return found;
}

// The same in a process of its own: a tree that writes into a wrong leaf may meet an assertion of
// its own before the model looks, and that finds the fault as well.
static bool code_fault_found_apart(const struct torc_tree_code *code, uint32_t worlds)
{
    int status = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    torc_assert(child >= 0);
    if (child == 0) {
        (void)freopen("/dev/null", "w", stderr);
        _exit(code_fault_found(code, worlds) ? 0 : 1);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_finds_a_lookup_that_loses_a_key(void)
{
    struct torc_tree_code code = torc_tree_code_plain;

    code.lookup = lookup_losing;
    CU_ASSERT_TRUE(code_fault_found(&code, 20));
    CU_ASSERT_PTR_NOT_NULL(strstr(the_world.said, "not found"));
}

static void test_finds_a_descent_to_the_wrong_leaf(void)
{
    struct torc_tree_code code = torc_tree_code_plain;

    code.locate = locate_aside;
    CU_ASSERT_TRUE(code_fault_found_apart(&code, 400)); // the first that shows it ends it
}

// -- Planted faults: bytes -----------------------------------------------------------------------

// The way to a leaf, and its parent, in a tree of two levels or more.
static struct torc_leaf *leaf_of(struct torc_tree *tree, uint64_t key, struct torc_tree_path *path)
{
    torc_tree_path_find(tree, key, path);
    return torc_tree_leaf(tree, path->nodes[0]);
}

// One separator goes past the first key of the leaf on its right.
static bool plant_separator(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;
    const struct torc_leaf *leaf = leaf_of(tree, key, &path);
    struct torc_tree_pair first;

    torc_leaf_get(leaf, 0, &first);
    return tree->levels > 1 && path.indices[1] > 0 && first.key < UINT64_MAX &&
           torc_inner_move(torc_tree_inner(tree, path.nodes[1]), path.indices[1] - 1u,
                           first.key + 1);
}

// Two children change places.
static bool plant_children(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;
    struct torc_inner *parent;
    uint32_t first;

    (void)leaf_of(tree, key, &path);
    if (tree->levels == 1 || path.indices[1] == 0) {
        return false;
    }
    parent = torc_tree_inner(tree, path.nodes[1]);
    first = torc_inner_children(parent)[0];
    torc_inner_child_set(parent, 0, path.nodes[0]);
    torc_inner_child_set(parent, path.indices[1], first);
    return true;
}

static bool plant_hint(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;

    leaf_of(tree, key, &path)->hints[0] ^= 1;
    return true;
}

static bool plant_order(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;
    struct torc_leaf *leaf = leaf_of(tree, key, &path);
    uint8_t *order = (uint8_t *)(leaf->hints + leaf->capacity);
    uint8_t first = order[0];

    order[0] = order[leaf->count - 1];
    order[leaf->count - 1] = first;
    return leaf->count > 1;
}

static bool plant_value(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;
    struct torc_leaf *leaf = leaf_of(tree, key, &path);
    struct torc_tree_pair pair;

    torc_leaf_get(leaf, 0, &pair);
    if (pair.value_bytes == 0 || pair.value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        return false;
    }
    ((unsigned char *)leaf)[(const unsigned char *)pair.value - (const unsigned char *)leaf] ^=
        0x40;
    return true;
}

static bool plant_version(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;

    leaf_of(tree, key, &path)->version_base--;
    return true;
}

static bool plant_stamp(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;
    struct torc_leaf *leaf = leaf_of(tree, key, &path);
    struct torc_tree_pair pair;

    torc_leaf_get(leaf, 0, &pair);
    leaf->stamp = pair.version - 1;
    return pair.version > 0;
}

static bool plant_count(struct torc_tree *tree, uint64_t key)
{
    (void)key;
    tree->large_bytes++;
    return true;
}

// No answer changes by this one, and no invariant is hurt: only the other variants' bytes tell.
static bool plant_run(struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;

    leaf_of(tree, key, &path)->run ^= 1;
    return true;
}

struct planted {
    const char *name;
    bool (*plant)(struct torc_tree *tree, uint64_t key); // false: not here
    bool by_bytes;                                       // found by comparing variants alone
};

static const struct planted planted[] = {
    {"a separator moved", plant_separator, false}, {"children swapped", plant_children, false},
    {"a hint's bit", plant_hint, false},           {"an order changed", plant_order, false},
    {"a value's bit", plant_value, false},         {"versions shifted", plant_version, false},
    {"a stamp lowered", plant_stamp, false},       {"an account off by one", plant_count, false},
    {"a field nobody checks", plant_run, true}};

// A world of some face runs soundly, then the last side's tree is changed: that must be seen, by
// the checker, the array, or the other sides.
static bool byte_fault_found(struct stage *stage, const struct planted *fault, struct torc_rng *rng)
{
    struct torc_tree *tree = &stage->sides[stage->side_count - 1].tree;
    uint32_t tries = 0;
    bool done = false;

    world_init(&the_world, stage, face_named("beside-large"), torc_rng_next(rng));
    the_world.records_max = 2000;
    the_world.records_low = 500;
    the_world.ops_wanted = 4000;
    world_run(&the_world);
    CU_ASSERT_FALSE_FATAL(the_world.broken);
    while (!done && tries++ < 1000 && the_world.count > 0) {
        done = fault->plant(tree, the_world.entries[torc_rng_below(rng, the_world.count)].key);
    }
    CU_ASSERT_TRUE_FATAL(done);
    world_check(&the_world);
    if (!the_world.broken) {
        world_read_all(&the_world);
    }
    return the_world.broken;
}

static void test_finds_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < TORC_COUNT_OF(planted); i++) {
        struct stage stage;

        stage_open(&stage, NULL);
        if (!planted[i].by_bytes || stage.side_count > 1) {
            CU_ASSERT_TRUE(byte_fault_found(&stage, &planted[i], &rng));
            (void)printf("\n    %s: %s", planted[i].name, the_world.said);
        }
        stage_close(&stage);
    }
    (void)printf(" … ");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"trees agree with a sorted array and with each other",
         test_trees_agree_with_a_sorted_array},
        {"every edge of the layout was met", test_every_edge_was_met},
        {"a lookup that loses a key is found", test_finds_a_lookup_that_loses_a_key},
        {"a descent to the wrong leaf is found", test_finds_a_descent_to_the_wrong_leaf},
        {"bytes changed in one tree are found", test_finds_planted_faults},
        CU_TEST_INFO_NULL};

    return torc_test_run("tree", tests);
}
