// Torc tests: the small words of model_shard.c: what is wrong, chance, values. See shard_world.h.
#include "tests/model/shard_world.h"

#include <inttypes.h>

void wrong(struct world *world, const char *what, uint64_t a, uint64_t b)
{
    if (!world->broken && !world->quiet) {
        (void)fprintf(stderr,
                      "model_shard: TORC_SEED=%" PRIu64 " op %" PRIu64 ": %s: %" PRIu64 " (%" PRIx64
                      "), %" PRIu64 " (%" PRIx64 ")\n",
                      world->seed, world->ops, what, a, a, b, b);
    }
    world->broken = true;
}

void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds) {
        wrong(world, what, a, b);
    }
}

uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

bool chance(struct world *world, uint32_t percent)
{
    return below(world, 100) < percent;
}

struct side *side_of(struct world *world, uint64_t key)
{
    return &world->sides[(key - KEY_BASE) / KEYS_EACH];
}

void value_make(unsigned char *bytes, uint64_t seed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = (unsigned char)((seed * 131 + UINT64_C(7) * i) >> (i % 3));
    }
}

bool value_is(const void *value, uint64_t seed, uint32_t count)
{
    const unsigned char *bytes = value;

    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != (unsigned char)((seed * 131 + UINT64_C(7) * i) >> (i % 3))) {
            return false;
        }
    }
    return true;
}
