// Torc wire: the replay window and a client's lane; see session.h.
#include "wire/session.h"

#define WORD_BITS     64u
#define WORN_PACKETS  (UINT64_C(1) << 28)
#define WORN_LARGE    (UINT64_C(1) << 25)
#define LARGE_PAYLOAD 2048u

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

void torc_lane_init(struct torc_lane *lane, const struct torc_accept *accept, uint32_t client_index,
                    uint32_t lane_number)
{
    torc_assert(lane_number < accept->lanes);
    torc_assert(accept->cores >= 1 && accept->cores <= TORC_LANE_CORES_MAX);
    memset(lane, 0, sizeof(*lane));
    lane->session_index = accept->session_index + lane_number;
    lane->client_index = client_index + lane_number;
    lane->cores = accept->cores;
    lane->to_server = (struct torc_seal){.token = accept->token_to_server, .suite = accept->suite};
    lane->to_client = (struct torc_seal){.token = accept->token_to_client, .suite = accept->suite};
}

uint32_t torc_lane_seal(struct torc_lane *lane, unsigned char *packet, uint32_t ops_bytes,
                        struct torc_data *data)
{
    torc_assert(data->core < lane->cores);
    torc_assert(ops_bytes >= 16 && ops_bytes % 8 == 0);
    data->type = TORC_TYPE_CLEAR;
    data->flags = 0;
    data->index = lane->session_index;
    data->seq = ++lane->seq[data->core];
    lane->sent++;
    torc_assert(data->seq < TORC_DATA_SEQ_END); // torc_lane_is_worn came long before
    torc_data_encode(packet, data);
    return torc_data_seal(&lane->to_server, packet, TORC_DATA_HEAD_BYTES + ops_bytes);
}

bool torc_lane_matches(const struct torc_lane *lane, const unsigned char *packet,
                       uint32_t byte_count)
{
    return byte_count >= TORC_DATA_BYTES_MIN && packet[0] == TORC_WIRE_MAGIC &&
           packet[1] == torc_wire_type_byte(TORC_TYPE_CLEAR) &&
           torc_data_peek_index(packet) == lane->client_index;
}

enum torc_drop torc_lane_open(struct torc_lane *lane, unsigned char *packet, uint32_t byte_count,
                              struct torc_data *data)
{
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
    if (!torc_data_open(&lane->to_client, packet, byte_count)) {
        return TORC_DROP_AUTH;
    }
    torc_window_set(&window->high, window->bits, data->seq);
    return TORC_DROP_NONE;
}

bool torc_lane_is_worn(const struct torc_lane *lane, uint32_t payload_bytes)
{
    return lane->sent >= (payload_bytes > LARGE_PAYLOAD ? WORN_LARGE : WORN_PACKETS);
}
