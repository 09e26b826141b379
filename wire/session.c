// Torc wire: the replay window and a client's lane; see session.h.
#include "wire/session.h"

#include <sodium.h>

#define WORD_BITS     64u
#define WORN_PACKETS  (UINT64_C(1) << 28)
#define WORN_LARGE    (UINT64_C(1) << 25)
#define LARGE_PAYLOAD 2048u
#define LANE_CONTEXT  "torc-dat" // of the key derivation: exactly 8 bytes

_Static_assert(sizeof(LANE_CONTEXT) - 1 == crypto_kdf_CONTEXTBYTES, "key derivation");
_Static_assert(crypto_kdf_KEYBYTES == TORC_NOISE_KEY_BYTES, "key derivation");

static uint64_t window_bit(uint64_t seq)
{
    return UINT64_C(1) << (seq % WORD_BITS);
}

static uint64_t window_word(uint64_t seq)
{
    return seq / WORD_BITS % TORC_WINDOW_WORDS;
}

enum torc_drop torc_window_check(uint64_t high, const uint64_t bits[TORC_WINDOW_WORDS],
                                 uint64_t seq)
{
    if (seq >= TORC_DATA_SEQ_END) {
        return TORC_DROP_LIMIT;
    }
    if (seq > high) {
        return TORC_DROP_NONE;
    }
    if (seq == 0 || high - seq >= TORC_WINDOW_BITS) {
        return TORC_DROP_REPLAY_OLD;
    }
    return (bits[window_word(seq)] & window_bit(seq)) != 0 ? TORC_DROP_REPLAY_DUPLICATE
                                                           : TORC_DROP_NONE;
}

void torc_window_set(uint64_t *high, uint64_t bits[TORC_WINDOW_WORDS], uint64_t seq)
{
    torc_assert(torc_window_check(*high, bits, seq) == TORC_DROP_NONE);
    if (seq > *high + TORC_WINDOW_BITS) {
        memset(bits, 0, TORC_WINDOW_WORDS * sizeof(bits[0]));
        *high = seq;
    }
    // The places of numbers passed over still hold those of 256 before.
    while (*high < seq) {
        *high += 1;
        bits[window_word(*high)] &= ~window_bit(*high);
    }
    bits[window_word(seq)] |= window_bit(seq);
}

void torc_lane_key(struct torc_aead_key *key, const struct torc_aead_code *code, uint8_t suite,
                   const uint8_t session_key[TORC_NOISE_KEY_BYTES], uint32_t lane_number)
{
    uint8_t secret[TORC_AEAD_SECRET_BYTES];

    (void)crypto_kdf_derive_from_key(secret, sizeof(secret), lane_number, LANE_CONTEXT,
                                     session_key);
    torc_aead_expand(code, suite, key, secret);
    sodium_memzero(secret, sizeof(secret));
}

void torc_lane_init(struct torc_lane *lane, const struct torc_accept *accept, uint32_t client_index,
                    uint32_t lane_number, const struct torc_session_keys *keys,
                    const struct torc_aead_code *code)
{
    torc_assert(lane_number < accept->lanes);
    torc_assert(accept->cores >= 1 && accept->cores <= TORC_LANE_CORES_MAX);
    torc_assert((accept->suite == TORC_SUITE_CLEAR) == (keys == NULL));
    memset(lane, 0, sizeof(*lane));
    lane->session_index = accept->session_index + lane_number;
    lane->client_index = client_index + lane_number;
    lane->cores = accept->cores;
    lane->suite = accept->suite;
    if (keys == NULL) {
        lane->tokens[TORC_TO_SERVER] = accept->token_to_server;
        lane->tokens[TORC_TO_CLIENT] = accept->token_to_client;
        return;
    }
    lane->code = code;
    torc_lane_key(&lane->keys[TORC_TO_SERVER], code, lane->suite, keys->to_server, lane_number);
    torc_lane_key(&lane->keys[TORC_TO_CLIENT], code, lane->suite, keys->to_client, lane_number);
}

struct torc_seal torc_lane_direction(const struct torc_lane *lane, enum torc_direction direction)
{
    return (struct torc_seal){.code = lane->code,
                              .key = &lane->keys[direction],
                              .token = lane->tokens[direction],
                              .suite = lane->suite,
                              .direction = (uint8_t)direction};
}

void torc_lane_wipe(struct torc_lane *lane)
{
    sodium_memzero(lane->keys, sizeof(lane->keys));
    sodium_memzero(lane->tokens, sizeof(lane->tokens));
}

uint32_t torc_lane_seal(struct torc_lane *lane, unsigned char *packet, uint32_t ops_bytes,
                        struct torc_data *data)
{
    struct torc_seal seal = torc_lane_direction(lane, TORC_TO_SERVER);

    torc_assert(data->core < lane->cores);
    torc_assert(ops_bytes >= 16 && ops_bytes % 8 == 0);
    data->type = torc_data_type(lane->suite);
    data->flags = 0;
    data->index = lane->session_index;
    data->seq = ++lane->seq[data->core];
    lane->sent++;
    torc_assert(data->seq < TORC_DATA_SEQ_END); // torc_lane_is_worn came long before
    torc_data_encode(packet, data);
    return torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + ops_bytes);
}

bool torc_lane_matches(const struct torc_lane *lane, const unsigned char *packet,
                       uint32_t byte_count)
{
    return byte_count >= TORC_DATA_BYTES_MIN && packet[0] == TORC_WIRE_MAGIC &&
           packet[1] == (TORC_WIRE_VERSION << 4 | torc_data_type(lane->suite)) &&
           torc_data_peek_index(packet) == lane->client_index;
}

enum torc_drop torc_lane_open(struct torc_lane *lane, unsigned char *packet, uint32_t byte_count,
                              struct torc_data *data)
{
    struct torc_seal seal = torc_lane_direction(lane, TORC_TO_CLIENT);
    struct torc_window *window;
    enum torc_drop drop = torc_data_decode(data, packet, byte_count);

    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    if (!torc_lane_matches(lane, packet, byte_count)) {
        return TORC_DROP_SESSION;
    }
    if ((data->flags & TORC_DATA_FROM_RESPONDER) == 0) {
        return TORC_DROP_FLAGS;
    }
    if (data->core >= lane->cores) {
        return TORC_DROP_CORE;
    }
    window = &lane->windows[data->core];
    drop = torc_window_check(window->high, window->bits, data->seq);
    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    if (!torc_data_open(&seal, packet, byte_count)) {
        return TORC_DROP_AUTH;
    }
    data->hlc = torc_data_hlc(packet);
    lane->received++;
    torc_window_set(&window->high, window->bits, data->seq);
    return TORC_DROP_NONE;
}

bool torc_lane_is_worn(const struct torc_lane *lane, uint32_t payload_bytes)
{
    // ChaCha20-Poly1305 has no such limit; a lane's sequence numbers end the same way, though.
    uint64_t most = payload_bytes > LARGE_PAYLOAD && lane->suite != TORC_SUITE_CHACHA20_POLY1305
                        ? WORN_LARGE
                        : WORN_PACKETS;

    return torc_max_u64(lane->sent, lane->received) >= most;
}
