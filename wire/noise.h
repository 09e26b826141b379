// Torc wire: Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b, to the letter.
//
// What    the symmetric state of the Noise protocol framework and the one pattern that Torc speaks:
//             -> psk, e          payload 1 is sealed by the pre-shared key alone
//             <- e, ee           payload 2 is sealed by both ephemeral keys as well
//         Both ends make the same calls, one with seal where the other has open:
//             initiator                            responder
//             torc_noise_begin(own e)              torc_noise_begin(the initiator's e)
//             torc_noise_seal(payload 1)           torc_noise_open   false: another key
//             torc_noise_reply(the responder's e)  torc_noise_reply(own e)
//             torc_noise_open(payload 2)           torc_noise_seal
//             torc_noise_split                     torc_noise_split
//         The responder's first expensive step, the Diffie-Hellman of torc_noise_reply, comes after
//         the proof that its peer has the key.
// Owner   whoever holds the struct.
// Memory  inside the struct; torc_noise_wipe when it is no longer needed, torc_noise_split does it.
// Secrets come in as arguments, also ephemeral ones: nothing here draws random numbers.
// Sources noiseprotocol.org, "The Noise Protocol Framework", revision 34, sections 4, 5 and 9;
//         RFC 2104 and RFC 7693 for HMAC-BLAKE2b; RFC 7748; docs/PROTOCOL.md, section 2.
#ifndef TORC_WIRE_NOISE_H
#define TORC_WIRE_NOISE_H

#include "kit/base.h"

#define TORC_NOISE_HASH_BYTES 64u
#define TORC_NOISE_KEY_BYTES  32u
#define TORC_NOISE_TAG_BYTES  16u

struct torc_noise {
    uint8_t hash[TORC_NOISE_HASH_BYTES];     // h
    uint8_t chaining[TORC_NOISE_HASH_BYTES]; // ck
    uint8_t key[TORC_NOISE_KEY_BYTES];       // k; each is used for one message, with nonce 0
};

// A pair of ephemeral keys for Diffie-Hellman, and what torc_noise_reply makes of them.
struct torc_noise_ephemeral {
    uint8_t secret[TORC_NOISE_KEY_BYTES];
    uint8_t public[TORC_NOISE_KEY_BYTES];
};

// Fills `public` from `secret`, any 32 random bytes. 38 us.
void torc_noise_ephemeral_make(struct torc_noise_ephemeral *ephemeral);

// The PSK of one node of one cluster, made from a principal's (docs/PROTOCOL.md, section 2): a node
// that has this one cannot use it elsewhere.
void torc_noise_bind(uint8_t bound[TORC_NOISE_KEY_BYTES], const uint8_t psk[TORC_NOISE_KEY_BYTES],
                     uint64_t cluster, uint32_t node);

// The PSK of a node as a caller of its peers, made from the cluster's secret (docs/PROTOCOL.md,
// section 13); then bound to the peer like any other.
void torc_noise_caller(uint8_t psk[TORC_NOISE_KEY_BYTES],
                       const uint8_t secret[TORC_NOISE_KEY_BYTES], uint32_t node);

// What the two messages are bound to.
struct torc_noise_start {
    const void *prologue;
    uint64_t prologue_bytes;
    const uint8_t *psk;              // TORC_NOISE_KEY_BYTES
    const uint8_t *initiator_public; // TORC_NOISE_KEY_BYTES
};

void torc_noise_begin(struct torc_noise *noise, const struct torc_noise_start *start);

// Writes byte_count + TORC_NOISE_TAG_BYTES bytes to `sealed`; may be in place.
void torc_noise_seal(struct torc_noise *noise, uint8_t *sealed, const uint8_t *text,
                     uint32_t byte_count);

// Reads byte_count + TORC_NOISE_TAG_BYTES bytes of `sealed`. False: not sealed with this state;
// `text` and the state are worth nothing then.
bool torc_must_use torc_noise_open(struct torc_noise *noise, uint8_t *text, const uint8_t *sealed,
                                   uint32_t byte_count);

// The second message's keys: own secret, the peer's public key, and the responder's. False: the
// shared secret is all zero, so the peer's key is not one. 42 us.
bool torc_must_use torc_noise_reply(struct torc_noise *noise,
                                    const uint8_t secret[TORC_NOISE_KEY_BYTES],
                                    const uint8_t peer_public[TORC_NOISE_KEY_BYTES],
                                    const uint8_t responder_public[TORC_NOISE_KEY_BYTES]);

// The two directions' keys, cut to 32 bytes; wipes the state.
void torc_noise_split(struct torc_noise *noise, uint8_t from_initiator[TORC_NOISE_KEY_BYTES],
                      uint8_t from_responder[TORC_NOISE_KEY_BYTES]);

void torc_noise_wipe(struct torc_noise *noise);

#endif
