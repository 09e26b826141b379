// Torc wire: the first bytes of a payload, and the data packet; see data.h.
#include "wire/data.h"

#include "kit/crc32c.h"

#define INIT_BYTES_MIN 256u // an INIT of any version is at least so long: room for a VERSION answer

enum torc_drop torc_payload_classify(const unsigned char *payload, uint32_t byte_count,
                                     enum torc_payload_kind *kind, uint8_t *type)
{
    uint8_t version;

    if (byte_count < 2) {
        return TORC_DROP_SHORT;
    }
    if (payload[0] != TORC_WIRE_MAGIC) {
        return TORC_DROP_MAGIC;
    }
    version = payload[1] >> 4;
    *type = payload[1] & 0x0f;
    if (version == TORC_WIRE_VERSION) {
        *kind = TORC_PAYLOAD_PACKET;
        return TORC_DROP_NONE;
    }
    if (version == 0 || *type != TORC_TYPE_INIT || byte_count < INIT_BYTES_MIN) {
        return TORC_DROP_VERSION;
    }
    *kind = TORC_PAYLOAD_NEWER;
    return TORC_DROP_NONE;
}

enum torc_drop torc_data_decode(struct torc_data *data, const unsigned char *packet,
                                uint32_t byte_count)
{
    const uint8_t reply_flags = TORC_DATA_FROM_RESPONDER | TORC_DATA_CONGESTION | TORC_DATA_HANDOFF;
    struct torc_data_wire wire;
    uint32_t credit_or_hold;

    if (byte_count < TORC_DATA_BYTES_MIN) {
        return TORC_DROP_SHORT;
    }
    memcpy(&wire, packet, sizeof(wire));
    if ((wire.flags & ~reply_flags) != 0 ||
        (wire.flags != 0 && (wire.flags & TORC_DATA_FROM_RESPONDER) == 0)) {
        return TORC_DROP_FLAGS;
    }
    credit_or_hold = torc_get_le32(wire.credit_or_hold);
    *data = (struct torc_data){.type = wire.version_type & 0x0f,
                               .core = wire.core,
                               .flags = wire.flags,
                               .index = torc_get_le32(wire.index),
                               .clock_us = torc_get_le32(wire.clock_us),
                               .seq = torc_get_le64(wire.seq)};
    if (wire.flags != 0) {
        data->hold_ns = credit_or_hold;
    } else {
        data->reply_bytes = (uint16_t)(credit_or_hold & 0xffff);
        data->reply_packets = (uint16_t)(credit_or_hold >> 16);
    }
    return TORC_DROP_NONE;
}

void torc_data_encode(unsigned char *packet, const struct torc_data *data)
{
    bool is_reply = (data->flags & TORC_DATA_FROM_RESPONDER) != 0;
    uint32_t credit = (uint32_t)data->reply_bytes | (uint32_t)data->reply_packets << 16;
    struct torc_data_wire wire = {
        .magic = TORC_WIRE_MAGIC,
        .version_type = (uint8_t)(TORC_WIRE_VERSION << 4 | data->type),
        .core = data->core,
        .flags = data->flags,
        .index = torc_le32(data->index),
        .seq = torc_le64(data->seq),
        .clock_us = torc_le32(data->clock_us),
        .credit_or_hold = torc_le32(is_reply ? data->hold_ns : credit),
        .hlc = torc_le64(data->hlc),
    };

    torc_assert(data->type == TORC_TYPE_DATA || data->type == TORC_TYPE_CLEAR);
    torc_assert_implies(!is_reply, data->flags == 0);
    memcpy(packet, &wire, sizeof(wire));
}

// -- Trailers ------------------------------------------------------------------------------------

// core u8, direction u8, 0 u16, seq u64.
static void data_nonce(uint8_t nonce[TORC_AEAD_NONCE_BYTES], const unsigned char *packet,
                       uint8_t direction)
{
    nonce[0] = packet[offsetof(struct torc_data_wire, core)];
    nonce[1] = direction;
    nonce[2] = 0;
    nonce[3] = 0;
    memcpy(nonce + 4, packet + offsetof(struct torc_data_wire, seq), sizeof(struct torc_le64));
}

static void clear_seal(const struct torc_seal *seal, unsigned char *packet, uint32_t byte_count)
{
    struct torc_clear_tag tag = {.crc32c = torc_le32(torc_crc32c(0, packet, byte_count)),
                                 .token = torc_le64(seal->token)};

    memcpy(packet + byte_count, &tag, sizeof(tag));
}

static bool clear_open(const struct torc_seal *seal, const unsigned char *packet,
                       uint32_t byte_count)
{
    struct torc_clear_tag tag;

    memcpy(&tag, packet + byte_count, sizeof(tag));
    return torc_get_le64(tag.token) == seal->token && torc_get_le32(tag.zero) == 0 &&
           torc_get_le32(tag.crc32c) == torc_crc32c(0, packet, byte_count);
}

uint32_t torc_data_seal(const struct torc_seal *seal, unsigned char *packet, uint32_t byte_count)
{
    uint8_t nonce[TORC_AEAD_NONCE_BYTES];

    torc_assert(byte_count >= TORC_DATA_BYTES_MIN - TORC_DATA_TAG_BYTES);
    torc_assert(packet[1] == (TORC_WIRE_VERSION << 4 | torc_data_type(seal->suite)));
    if (seal->suite == TORC_SUITE_CLEAR) {
        clear_seal(seal, packet, byte_count);
    } else {
        data_nonce(nonce, packet, seal->direction);
        torc_aead_cipher(seal->code, seal->suite)
            ->seal(seal->code->manager, seal->key, nonce, packet, TORC_DATA_AAD_BYTES, byte_count);
    }
    return byte_count + TORC_DATA_TAG_BYTES;
}

bool torc_data_open(const struct torc_seal *seal, unsigned char *packet, uint32_t byte_count)
{
    uint8_t nonce[TORC_AEAD_NONCE_BYTES];

    torc_assert(byte_count >= TORC_DATA_BYTES_MIN);
    if (packet[1] != (TORC_WIRE_VERSION << 4 | torc_data_type(seal->suite))) {
        return false;
    }
    byte_count -= TORC_DATA_TAG_BYTES;
    if (seal->suite == TORC_SUITE_CLEAR) {
        return clear_open(seal, packet, byte_count);
    }
    data_nonce(nonce, packet, seal->direction);
    return torc_aead_cipher(seal->code, seal->suite)
        ->open(seal->code->manager, seal->key, nonce, packet, TORC_DATA_AAD_BYTES, byte_count);
}
