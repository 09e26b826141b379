// Torc wire: the handshake's packets; see handshake.h. The client's side: handshake_client.c.
#include "wire/handshake.h"

#include "kit/crc32c.h"

#define INIT_FLAG_COOKIE 1u
#define INIT_CRC_BYTES   offsetof(struct torc_init_wire, crc32c)
#define ACCEPT_CRC_BYTES offsetof(struct torc_accept_wire, crc32c)
#define INIT_TEXT_AT     offsetof(struct torc_init_wire, payload)
#define ACCEPT_PUBLIC_AT offsetof(struct torc_accept_wire, token_to_server)
#define ACCEPT_TEXT_AT   offsetof(struct torc_accept_wire, payload)

_Static_assert(INIT_TEXT_AT + sizeof(struct torc_init_payload_wire) + TORC_NOISE_TAG_BYTES ==
                   TORC_INIT_BYTES,
               "wire format");
_Static_assert(ACCEPT_TEXT_AT + sizeof(struct torc_accept_payload_wire) + TORC_NOISE_TAG_BYTES ==
                   TORC_ACCEPT_BYTES,
               "wire format");
_Static_assert(ACCEPT_PUBLIC_AT + TORC_NOISE_KEY_BYTES == ACCEPT_TEXT_AT, "wire format");

static bool all_zero(const uint8_t *bytes, uint32_t byte_count)
{
    uint8_t any = 0;

    for (uint32_t i = 0; i < byte_count; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

static bool payload_is_sane(uint32_t payload_max)
{
    return payload_max >= TORC_PAYLOAD_MIN;
}

static bool lanes_are_sane(uint32_t lanes)
{
    return torc_is_power_of_two(lanes) && lanes <= TORC_LANES_MAX;
}

// -- INIT ----------------------------------------------------------------------------------------

enum torc_drop torc_init_decode(struct torc_init *init, const unsigned char *packet,
                                uint32_t byte_count)
{
    struct torc_init_wire wire;

    if (byte_count != sizeof(wire)) {
        return TORC_DROP_INIT_LENGTH;
    }
    memcpy(&wire, packet, sizeof(wire));
    if (torc_get_le16(wire.length) != sizeof(wire)) {
        return TORC_DROP_INIT_LENGTH;
    }
    if ((wire.flags & ~INIT_FLAG_COOKIE) != 0) {
        return TORC_DROP_FLAGS;
    }
    *init = (struct torc_init){.core = wire.core,
                               .has_cookie = wire.flags != 0,
                               .versions = torc_get_le16(wire.versions),
                               .versions_seen = torc_get_le16(wire.versions_seen),
                               .node = torc_get_le32(wire.node),
                               .principal = torc_get_le32(wire.principal),
                               .key = wire.key,
                               .suites = wire.suites,
                               .lanes = wire.lanes};
    memcpy(init->random, wire.random, sizeof(init->random));
    memcpy(init->cookie, wire.cookie, sizeof(init->cookie));
    memcpy(init->ephemeral, wire.ephemeral, sizeof(init->ephemeral));
    return TORC_DROP_NONE;
}

static void init_agent(struct torc_init *init, const uint8_t agent[TORC_AGENT_BYTES])
{
    for (uint32_t i = 0; i < TORC_AGENT_BYTES; i++) {
        bool prints = agent[i] >= 0x20 && agent[i] < 0x7f;

        init->agent[i] = (char)(agent[i] == 0 ? 0 : (prints ? agent[i] : '?'));
    }
    init->agent[TORC_AGENT_BYTES] = '\0';
}

// Head and payload of an INIT that was found whole.
static enum torc_drop init_open(struct torc_init *init,
                                const struct torc_init_payload_wire *payload, uint8_t pattern)
{
    init->client_id = torc_get_le64(payload->client_id);
    init->client_index = torc_get_le32(payload->client_index);
    init->payload_max = torc_get_le16(payload->payload_max);
    init->features = torc_get_le64(payload->features);
    init->boot = torc_get_le64(payload->boot);
    init_agent(init, payload->agent);
    if ((init->versions & TORC_WIRE_VERSIONS) == 0 || init->node == TORC_NODE_UNKNOWN ||
        pattern != TORC_PATTERN_NNPSK0 || !lanes_are_sane(init->lanes) ||
        !payload_is_sane(init->payload_max) || (init->client_id & 0xff) != 0 ||
        init->client_index > UINT32_MAX - init->lanes) {
        return TORC_DROP_INIT_FIELD;
    }
    return TORC_DROP_NONE;
}

enum torc_drop torc_init_open_clear(struct torc_init *init, const unsigned char *packet)
{
    struct torc_init_wire wire;

    memcpy(&wire, packet, sizeof(wire));
    torc_assert(init->has_cookie);
    if (torc_get_le32(wire.crc32c) != torc_crc32c(0, packet, INIT_CRC_BYTES) ||
        !all_zero(wire.zero_244, sizeof(wire.zero_244))) {
        return TORC_DROP_INIT_CHECK;
    }
    return init_open(init, &wire.payload, wire.pattern);
}

enum torc_drop torc_init_open(struct torc_init *init, const unsigned char *packet,
                              const uint8_t psk[TORC_NOISE_KEY_BYTES], struct torc_noise *noise)
{
    struct torc_noise_start start = {.prologue = packet,
                                     .prologue_bytes = TORC_PROLOGUE_BYTES,
                                     .psk = psk,
                                     .initiator_public = init->ephemeral};
    struct torc_init_payload_wire payload;
    enum torc_drop drop = TORC_DROP_INIT_CHECK;

    torc_assert(init->has_cookie);
    torc_noise_begin(noise, &start);
    if (torc_noise_open(noise, (uint8_t *)&payload, packet + INIT_TEXT_AT, sizeof(payload))) {
        drop = init_open(init, &payload, packet[offsetof(struct torc_init_wire, pattern)]);
    }
    if (drop != TORC_DROP_NONE) {
        torc_noise_wipe(noise);
    }
    return drop;
}

static void init_payload_encode(struct torc_init_payload_wire *payload,
                                const struct torc_init *init)
{
    torc_assert(payload_is_sane(init->payload_max));
    torc_assert((init->client_id & 0xff) == 0);
    *payload = (struct torc_init_payload_wire){
        .client_id = torc_le64(init->client_id),
        .client_index = torc_le32(init->client_index),
        .payload_max = torc_le16(init->payload_max),
        .features = torc_le64(init->features),
        .boot = torc_le64(init->boot),
    };
    memcpy(payload->agent, init->agent, strnlen(init->agent, TORC_AGENT_BYTES));
}

static void init_head_encode(struct torc_init_wire *wire, const struct torc_init *init)
{
    torc_assert(lanes_are_sane(init->lanes));
    torc_assert_implies(init->has_cookie, init->node != TORC_NODE_UNKNOWN);
    *wire = (struct torc_init_wire){
        .magic = TORC_WIRE_MAGIC,
        .version_type = torc_wire_type_byte(TORC_TYPE_INIT),
        .core = init->core,
        .flags = init->has_cookie ? INIT_FLAG_COOKIE : 0,
        .length = torc_le16(TORC_INIT_BYTES),
        .versions = torc_le16(init->versions),
        .node = torc_le32(init->node),
        .principal = torc_le32(init->principal),
        .key = init->key,
        .suites = init->suites,
        .lanes = init->lanes,
        .pattern = TORC_PATTERN_NNPSK0,
        .versions_seen = torc_le16(init->versions_seen),
    };
    memcpy(wire->random, init->random, sizeof(wire->random));
    if (init->has_cookie) {
        memcpy(wire->cookie, init->cookie, sizeof(wire->cookie));
    }
}

void torc_init_encode(unsigned char packet[TORC_INIT_BYTES], const struct torc_init *init)
{
    struct torc_init_wire wire;

    init_head_encode(&wire, init);
    if (init->has_cookie) {
        init_payload_encode(&wire.payload, init);
        wire.crc32c = torc_le32(torc_crc32c(0, &wire, INIT_CRC_BYTES));
    }
    memcpy(packet, &wire, sizeof(wire));
}

void torc_init_seal(unsigned char packet[TORC_INIT_BYTES], const struct torc_init *init,
                    const uint8_t psk[TORC_NOISE_KEY_BYTES], struct torc_noise *noise)
{
    struct torc_init_wire wire;
    struct torc_init_payload_wire payload;
    struct torc_noise_start start = {.prologue = packet,
                                     .prologue_bytes = TORC_PROLOGUE_BYTES,
                                     .psk = psk,
                                     .initiator_public = init->ephemeral};

    torc_assert(init->has_cookie);
    torc_assert((init->suites & ~(unsigned)TORC_SUITES_SEALED) == 0);
    init_head_encode(&wire, init);
    init_payload_encode(&payload, init);
    memcpy(wire.ephemeral, init->ephemeral, sizeof(wire.ephemeral));
    memcpy(packet, &wire, sizeof(wire));
    torc_noise_begin(noise, &start);
    torc_noise_seal(noise, packet + INIT_TEXT_AT, (const uint8_t *)&payload, sizeof(payload));
}

void torc_init_peek_random(const unsigned char *packet, uint8_t random[TORC_RANDOM_BYTES])
{
    memcpy(random, packet + offsetof(struct torc_init_wire, random), TORC_RANDOM_BYTES);
}

// -- RETRY, REFUSE, VERSION, NOSESSION -----------------------------------------------------------

void torc_retry_encode(unsigned char packet[TORC_RETRY_BYTES], const struct torc_retry *retry)
{
    struct torc_retry_wire wire = {
        .magic = TORC_WIRE_MAGIC,
        .version_type = torc_wire_type_byte(TORC_TYPE_RETRY),
        .core = retry->core,
        .length = torc_le16(TORC_RETRY_BYTES),
        .versions = torc_le16(retry->versions),
        .node = torc_le32(retry->node),
        .suites = retry->suites,
        .cluster = torc_le64(retry->cluster),
    };

    memcpy(wire.random, retry->random, sizeof(wire.random));
    memcpy(wire.cookie, retry->cookie, sizeof(wire.cookie));
    memcpy(packet, &wire, sizeof(wire));
}

// What each decoder begins with. `length` is the field of packets that have one, else byte_count.
static enum torc_err head_check(const unsigned char *packet, uint32_t byte_count, uint8_t type_byte,
                                uint32_t bytes_wanted, const char *name, struct torc_fail *why)
{
    if (byte_count != bytes_wanted) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "%s of %" PRIu32 " bytes: it has %" PRIu32, name,
                         byte_count, bytes_wanted);
    }
    if (packet[0] != TORC_WIRE_MAGIC || packet[1] != type_byte) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "%s begins with %02x %02x, not %02x %02x", name,
                         packet[0], packet[1], TORC_WIRE_MAGIC, type_byte);
    }
    return TORC_ERR_OK;
}

static enum torc_err length_check(struct torc_le16 length, uint32_t bytes_wanted, const char *name,
                                  struct torc_fail *why)
{
    if (torc_get_le16(length) != bytes_wanted) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "%s says %u bytes: it has %" PRIu32, name,
                         torc_get_le16(length), bytes_wanted);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_retry_decode(struct torc_retry *retry, const unsigned char *packet,
                                uint32_t byte_count, struct torc_fail *why)
{
    struct torc_retry_wire wire;
    enum torc_err err = head_check(packet, byte_count, torc_wire_type_byte(TORC_TYPE_RETRY),
                                   sizeof(wire), "RETRY", why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    err = length_check(wire.length, sizeof(wire), "RETRY", why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    *retry = (struct torc_retry){.core = wire.core,
                                 .suites = wire.suites,
                                 .versions = torc_get_le16(wire.versions),
                                 .node = torc_get_le32(wire.node),
                                 .cluster = torc_get_le64(wire.cluster)};
    if (retry->node == TORC_NODE_UNKNOWN) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "RETRY names no node");
    }
    memcpy(retry->random, wire.random, sizeof(retry->random));
    memcpy(retry->cookie, wire.cookie, sizeof(retry->cookie));
    return TORC_ERR_OK;
}

void torc_refuse_encode(unsigned char packet[TORC_REFUSE_BYTES], const struct torc_refuse *refuse)
{
    struct torc_refuse_wire wire = {
        .magic = TORC_WIRE_MAGIC,
        .version_type = torc_wire_type_byte(TORC_TYPE_REFUSE),
        .core = refuse->core,
        .length = torc_le16(TORC_REFUSE_BYTES),
        .versions = torc_le16(refuse->versions),
        .node = torc_le32(refuse->node),
        .code = torc_le16(refuse->code),
        .retry_ms = torc_le32(refuse->retry_ms),
    };

    memcpy(wire.random, refuse->random, sizeof(wire.random));
    memcpy(packet, &wire, sizeof(wire));
}

enum torc_err torc_refuse_decode(struct torc_refuse *refuse, const unsigned char *packet,
                                 uint32_t byte_count, struct torc_fail *why)
{
    struct torc_refuse_wire wire;
    enum torc_err err = head_check(packet, byte_count, torc_wire_type_byte(TORC_TYPE_REFUSE),
                                   sizeof(wire), "REFUSE", why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    err = length_check(wire.length, sizeof(wire), "REFUSE", why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    *refuse = (struct torc_refuse){.core = wire.core,
                                   .versions = torc_get_le16(wire.versions),
                                   .code = torc_get_le16(wire.code),
                                   .node = torc_get_le32(wire.node),
                                   .retry_ms = torc_get_le32(wire.retry_ms)};
    memcpy(refuse->random, wire.random, sizeof(refuse->random));
    return TORC_ERR_OK;
}

void torc_version_encode(unsigned char packet[TORC_VERSION_BYTES],
                         const struct torc_version *version)
{
    struct torc_version_wire wire = {
        .magic = TORC_WIRE_MAGIC,
        .version_type = TORC_TYPE_VERSION,
        .versions = torc_le16(version->versions),
        .node = torc_le32(version->node),
    };

    memcpy(wire.random, version->random, sizeof(wire.random));
    memcpy(packet, &wire, sizeof(wire));
}

enum torc_err torc_version_decode(struct torc_version *version, const unsigned char *packet,
                                  uint32_t byte_count, struct torc_fail *why)
{
    struct torc_version_wire wire;
    enum torc_err err =
        head_check(packet, byte_count, TORC_TYPE_VERSION, sizeof(wire), "VERSION", why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    *version = (struct torc_version){.versions = torc_get_le16(wire.versions),
                                     .node = torc_get_le32(wire.node)};
    memcpy(version->random, wire.random, sizeof(version->random));
    return TORC_ERR_OK;
}

void torc_nosession_encode(unsigned char packet[TORC_NOSESSION_BYTES],
                           const struct torc_nosession *nosession)
{
    struct torc_nosession_wire wire = {
        .magic = TORC_WIRE_MAGIC,
        .version_type = torc_wire_type_byte(TORC_TYPE_NOSESSION),
        .core = nosession->core,
        .index = torc_le32(nosession->index),
        .seq = torc_le64(nosession->seq),
        .node = torc_le32(nosession->node),
    };

    memcpy(wire.cookie, nosession->cookie, sizeof(wire.cookie));
    memcpy(packet, &wire, sizeof(wire));
}

enum torc_err torc_nosession_decode(struct torc_nosession *nosession, const unsigned char *packet,
                                    uint32_t byte_count, struct torc_fail *why)
{
    struct torc_nosession_wire wire;
    enum torc_err err = head_check(packet, byte_count, torc_wire_type_byte(TORC_TYPE_NOSESSION),
                                   sizeof(wire), "NOSESSION", why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    *nosession = (struct torc_nosession){.core = wire.core,
                                         .index = torc_get_le32(wire.index),
                                         .seq = torc_get_le64(wire.seq),
                                         .node = torc_get_le32(wire.node)};
    memcpy(nosession->cookie, wire.cookie, sizeof(nosession->cookie));
    return TORC_ERR_OK;
}

// -- ACCEPT --------------------------------------------------------------------------------------

// What is wrong with an ACCEPT's values, or NULL.
static const char *accept_fault(const struct torc_accept *accept)
{
    if (accept->cores < 1 || accept->cores > 255) {
        return "cores";
    }
    if (!lanes_are_sane(accept->lanes)) {
        return "lanes";
    }
    if (accept->session_index == 0 || accept->session_index > UINT32_MAX - accept->lanes) {
        return "session index";
    }
    if (accept->base_port == 0 || accept->base_port > UINT16_MAX - accept->cores + 1) {
        return "base port";
    }
    if (!payload_is_sane(accept->payload_max)) {
        return "largest payload";
    }
    if (accept->key_count == 0) {
        return "key count";
    }
    if (accept->packet_ops_max == 0 || accept->core_ops_max == 0 || accept->packets_max == 0 ||
        accept->fragments_max == 0 || accept->write_window == 0) {
        return "limits";
    }
    return NULL;
}

static void accept_payload_encode(struct torc_accept_payload_wire *wire,
                                  const struct torc_accept *accept)
{
    *wire = (struct torc_accept_payload_wire){
        .session_index = torc_le32(accept->session_index),
        .lanes = accept->lanes,
        .suite = accept->suite,
        .cores = torc_le16(accept->cores),
        .base_port = torc_le16(accept->base_port),
        .payload_max = torc_le16(accept->payload_max),
        .roles = torc_le32(accept->roles),
        .cluster = torc_le64(accept->cluster),
        .key_count = torc_le64(accept->key_count),
        .boot = torc_le64(accept->boot),
        .map_version = torc_le64(accept->map_version),
        .features = torc_le64(accept->features),
        .node = torc_le32(accept->node),
        .value_bytes_max = torc_le32(accept->value_bytes_max),
        .packet_ops_max = torc_le16(accept->packet_ops_max),
        .core_ops_max = torc_le16(accept->core_ops_max),
        .packets_max = torc_le16(accept->packets_max),
        .cursors_max = torc_le16(accept->cursors_max),
        .fragments_max = torc_le16(accept->fragments_max),
        .idle_s = torc_le16(accept->idle_s),
        .age_s = torc_le16(accept->age_s),
        .durability = accept->durability,
        .versions = torc_le16(accept->versions),
        .suites = accept->suites,
        .deadline_ms_max = torc_le32(accept->deadline_ms_max),
        .message_bytes_max = torc_le32(accept->message_bytes_max),
        .write_window = torc_le32(accept->write_window),
        .hlc = torc_le64(accept->hlc),
    };
    memcpy(wire->ticket, accept->ticket, sizeof(wire->ticket));
}

static void accept_head_encode(struct torc_accept_wire *wire, const struct torc_accept *accept)
{
    torc_assert(accept_fault(accept) == NULL);
    *wire = (struct torc_accept_wire){
        .magic = TORC_WIRE_MAGIC,
        .version_type = torc_wire_type_byte(TORC_TYPE_ACCEPT),
        .core = accept->core,
        .length = torc_le16(TORC_ACCEPT_BYTES),
        .node = torc_le32(accept->node),
    };
    memcpy(wire->random, accept->random, sizeof(wire->random));
}

void torc_accept_encode(unsigned char packet[TORC_ACCEPT_BYTES], const struct torc_accept *accept)
{
    struct torc_accept_wire wire;

    torc_assert(accept->suite == TORC_SUITE_CLEAR);
    accept_head_encode(&wire, accept);
    wire.token_to_server = torc_le64(accept->token_to_server);
    wire.token_to_client = torc_le64(accept->token_to_client);
    accept_payload_encode(&wire.payload, accept);
    wire.crc32c = torc_le32(torc_crc32c(0, &wire, ACCEPT_CRC_BYTES));
    memcpy(packet, &wire, sizeof(wire));
}

void torc_accept_seal(unsigned char packet[TORC_ACCEPT_BYTES], const struct torc_accept *accept,
                      const uint8_t ephemeral[TORC_NOISE_KEY_BYTES], struct torc_noise *noise)
{
    struct torc_accept_wire wire;
    struct torc_accept_payload_wire payload;

    torc_assert(accept->suite == torc_aead_best_suite(accept->suite) && accept->suite != 0);
    accept_head_encode(&wire, accept);
    accept_payload_encode(&payload, accept);
    memcpy(packet, &wire, sizeof(wire));
    memcpy(packet + ACCEPT_PUBLIC_AT, ephemeral, TORC_NOISE_KEY_BYTES);
    torc_noise_seal(noise, packet + ACCEPT_TEXT_AT, (const uint8_t *)&payload, sizeof(payload));
}

static void accept_payload_decode(struct torc_accept *accept,
                                  const struct torc_accept_payload_wire *wire)
{
    accept->session_index = torc_get_le32(wire->session_index);
    accept->lanes = wire->lanes;
    accept->suite = wire->suite;
    accept->cores = torc_get_le16(wire->cores);
    accept->base_port = torc_get_le16(wire->base_port);
    accept->payload_max = torc_get_le16(wire->payload_max);
    accept->roles = torc_get_le32(wire->roles);
    accept->cluster = torc_get_le64(wire->cluster);
    accept->key_count = torc_get_le64(wire->key_count);
    accept->boot = torc_get_le64(wire->boot);
    accept->map_version = torc_get_le64(wire->map_version);
    accept->features = torc_get_le64(wire->features);
    accept->node = torc_get_le32(wire->node);
    accept->value_bytes_max = torc_get_le32(wire->value_bytes_max);
    accept->packet_ops_max = torc_get_le16(wire->packet_ops_max);
    accept->core_ops_max = torc_get_le16(wire->core_ops_max);
    accept->packets_max = torc_get_le16(wire->packets_max);
    accept->cursors_max = torc_get_le16(wire->cursors_max);
    accept->fragments_max = torc_get_le16(wire->fragments_max);
    accept->idle_s = torc_get_le16(wire->idle_s);
    accept->age_s = torc_get_le16(wire->age_s);
    accept->durability = wire->durability;
    accept->versions = torc_get_le16(wire->versions);
    accept->suites = wire->suites;
    accept->deadline_ms_max = torc_get_le32(wire->deadline_ms_max);
    accept->message_bytes_max = torc_get_le32(wire->message_bytes_max);
    accept->write_window = torc_get_le32(wire->write_window);
    accept->hlc = torc_get_le64(wire->hlc);
    memcpy(accept->ticket, wire->ticket, sizeof(accept->ticket));
}

// Of an ACCEPT in either mode: what is open in it.
static enum torc_err accept_head_decode(struct torc_accept *accept, const unsigned char *packet,
                                        uint32_t byte_count, struct torc_fail *why)
{
    struct torc_accept_wire wire;
    enum torc_err err = head_check(packet, byte_count, torc_wire_type_byte(TORC_TYPE_ACCEPT),
                                   sizeof(wire), "ACCEPT", why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    err = length_check(wire.length, sizeof(wire), "ACCEPT", why);
    *accept = (struct torc_accept){.core = wire.core};
    memcpy(accept->random, wire.random, sizeof(accept->random));
    return err;
}

// Values in their ranges; `suites`: those of which the chosen one must be.
static enum torc_err accept_check(const struct torc_accept *accept, const unsigned char *packet,
                                  unsigned suites, struct torc_fail *why)
{
    const char *fault = accept_fault(accept);
    struct torc_le32 node;

    memcpy(&node, packet + offsetof(struct torc_accept_wire, node), sizeof(node));
    if (fault == NULL && (!torc_is_power_of_two(accept->suite) || (accept->suite & suites) == 0)) {
        fault = "suite";
    }
    if (fault == NULL && torc_get_le32(node) != accept->node) {
        fault = "node";
    }
    if (fault != NULL) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "ACCEPT's %s is out of range", fault);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_accept_decode(struct torc_accept *accept, const unsigned char *packet,
                                 uint32_t byte_count, struct torc_fail *why)
{
    struct torc_accept_wire wire;
    enum torc_err err = accept_head_decode(accept, packet, byte_count, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memcpy(&wire, packet, sizeof(wire));
    if (torc_get_le32(wire.crc32c) != torc_crc32c(0, packet, ACCEPT_CRC_BYTES) ||
        !all_zero(wire.zero_228, sizeof(wire.zero_228))) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "ACCEPT fails its check");
    }
    accept->token_to_server = torc_get_le64(wire.token_to_server);
    accept->token_to_client = torc_get_le64(wire.token_to_client);
    accept_payload_decode(accept, &wire.payload);
    return accept_check(accept, packet, TORC_SUITE_CLEAR, why);
}

enum torc_err torc_accept_open(struct torc_accept *accept,
                               const unsigned char packet[TORC_ACCEPT_BYTES],
                               const uint8_t secret[TORC_NOISE_KEY_BYTES], struct torc_noise *noise,
                               struct torc_fail *why)
{
    struct torc_accept_payload_wire payload;
    const uint8_t *public = packet + ACCEPT_PUBLIC_AT;
    enum torc_err err = accept_head_decode(accept, packet, TORC_ACCEPT_BYTES, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!torc_noise_reply(noise, secret, public, public) ||
        !torc_noise_open(noise, (uint8_t *)&payload, packet + ACCEPT_TEXT_AT, sizeof(payload))) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "ACCEPT was not sealed for this handshake");
    }
    accept_payload_decode(accept, &payload);
    return accept_check(accept, packet, TORC_SUITES_SEALED, why);
}
