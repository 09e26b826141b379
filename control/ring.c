// Torc control: see ring.h.
#include "control/ring.h"

// Continued fractions [0; a, b, 1, 1, …] with a and b of 1..4.
#define ALPHAS 16u

static uint64_t ring_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

// 2^64 times the alpha of this number. After n terms its convergent p/q is off by less than 1/q^2;
// q grows like the Fibonacci numbers and ends near 2^60.
static uint64_t ring_alpha(uint32_t number)
{
    uint64_t a = 1 + number / 4 % 4;
    uint64_t b = 1 + number % 4;
    uint64_t p_before = 1;
    uint64_t q_before = a;
    uint64_t p = b;
    uint64_t q = a * b + 1;

    torc_assert(number < ALPHAS);
    while (q < UINT64_C(1) << 60) {
        uint64_t p_next = p + p_before;
        uint64_t q_next = q + q_before;

        p_before = p;
        q_before = q;
        p = p_next;
        q = q_next;
    }
    return (uint64_t)(((unsigned __int128)p << 64) / q);
}

static bool ring_before(const struct torc_ring_token *a, const struct torc_ring_token *b)
{
    return a->position != b->position ? a->position < b->position : a->node < b->node;
}

// Lets the token at `root` sink in the heap of the first `count`.
static void ring_sink(struct torc_ring_token *tokens, uint32_t root, uint32_t count)
{
    struct torc_ring_token sinking = tokens[root];

    for (;;) {
        uint32_t child = 2 * root + 1;

        if (child + 1 < count && ring_before(&tokens[child], &tokens[child + 1])) {
            child++;
        }
        if (child >= count || !ring_before(&sinking, &tokens[child])) {
            break;
        }
        tokens[root] = tokens[child];
        root = child;
    }
    tokens[root] = sinking;
}

static void ring_sort(struct torc_ring_token *tokens, uint32_t count)
{
    for (uint32_t root = count / 2; root > 0; root--) {
        ring_sink(tokens, root - 1, count);
    }
    for (uint32_t last = count; last > 1; last--) {
        struct torc_ring_token largest = tokens[0];

        tokens[0] = tokens[last - 1];
        tokens[last - 1] = largest;
        ring_sink(tokens, 0, last - 1);
    }
}

static uint32_t ring_tokens_of(uint32_t capacity, uint64_t mean)
{
    uint64_t count = ((uint64_t)capacity * TORC_RING_TOKENS + mean / 2) / mean;

    return (uint32_t)torc_min_u64(torc_max_u64(count, 1), TORC_RING_TOKENS_MAX);
}

static void ring_add(struct torc_ring *ring, const struct torc_ring_member *member, uint32_t count,
                     const uint64_t *alphas)
{
    // Who has few tokens has them in sectors of its own choice.
    uint32_t first = count < TORC_RING_TOKENS ? member->node % TORC_RING_TOKENS : 0;

    for (uint32_t i = first; i < first + count; i++) {
        uint32_t k = count < TORC_RING_TOKENS ? i % TORC_RING_TOKENS : i;
        uint64_t phase = ring_mix((uint64_t)member->domain << 32 | (k + 1));
        uint64_t within = member->slot * alphas[k % ALPHAS] + phase;

        ring->tokens[ring->token_count++] = (struct torc_ring_token){
            .position =
                UINT64_MAX / TORC_RING_TOKENS * (k % TORC_RING_TOKENS) + within / TORC_RING_TOKENS,
            .node = member->node};
    }
}

void torc_ring_build(struct torc_ring *ring, struct torc_ring_token *tokens,
                     const struct torc_ring_member *members, uint32_t member_count)
{
    uint64_t alphas[ALPHAS];
    uint64_t sum = 0;

    torc_assert(member_count > 0);
    *ring = (struct torc_ring){.tokens = tokens};
    for (uint32_t i = 0; i < ALPHAS; i++) {
        alphas[i] = ring_alpha(i);
    }
    for (uint32_t i = 0; i < member_count; i++) {
        torc_assert(members[i].capacity > 0);
        sum += members[i].capacity;
    }
    for (uint32_t i = 0; i < member_count; i++) {
        ring_add(ring, &members[i],
                 ring_tokens_of(members[i].capacity, torc_max_u64(sum / member_count, 1)), alphas);
    }
    ring_sort(tokens, ring->token_count);
}

uint32_t torc_ring_find(const struct torc_ring *ring, uint64_t position)
{
    uint32_t low = 0;
    uint32_t high = ring->token_count;

    torc_assert(ring->token_count > 0);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ring->tokens[middle].position < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == ring->token_count ? 0 : low;
}

uint16_t torc_ring_free_slot(const struct torc_ring_member *members, uint32_t member_count,
                             uint16_t domain)
{
    uint32_t slot = 0;
    bool taken = true;

    while (taken) {
        taken = false;
        for (uint32_t i = 0; i < member_count; i++) {
            taken = taken || (members[i].domain == domain && members[i].slot == slot);
        }
        slot += taken ? 1 : 0;
    }
    torc_assert(slot <= UINT16_MAX);
    return (uint16_t)slot;
}
