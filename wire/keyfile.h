// Torc wire: key files: who may talk to a cluster, and what a client shows to prove who it is.
//
// What    the text of a node's `torc.keys` and of a client's key file; parsed, written, edited.
//             torc-keys 1
//             # name  number  roles       ranges            sessions         keys
//             web     2       read,write  0-1000,5000-6000  max_sessions=64  1:9f…e1 2:03…77
//             audit   3       read        1:47…0c
//         Fields are parted by blanks; '#' begins a comment. Ranges are half-open; without any, all
//         keys are meant. A key is `id:64 hex digits`, one or two of them; with `:node=N` it is
//         bound to that node already (torc_psk_bind), so that it is good for nothing elsewhere.
//         A line of the role `node`, one at most, is the nodes' own: its keys are secrets of the
//         cluster, from which each node's key as a caller of its peers is made (wire/noise.h).
//             torc-key 1
//             cluster 51d3a0e2f7c94b18
//             principal 2 web
//             key 1:9f…e1
// Owner   none: pure functions over the caller's bytes.
// Memory  the caller's. Secrets lie in struct torc_psk and the texts alone: wipe both.
// Trust   any bytes. An error says the line and what is wrong with it, never what is in it but a
//         principal's name: a secret may stand in the wrong place.
// Invariants
//   F1  Principals of an accepted file have different names and numbers; each one's ranges rise and
//       neither meet nor overlap (they are sorted and joined here); its key ids differ.
//   F2  parse(write(x)) == x.
// Sources WIRE.md, sections 1 and 6; docs/FORMATS.md has the grammar.
#ifndef TORC_WIRE_KEYFILE_H
#define TORC_WIRE_KEYFILE_H

#include "kit/fail.h"
#include "kit/text.h"

#define TORC_PSK_BYTES             32u
#define TORC_KEYS_PRINCIPALS_MAX   1024u
#define TORC_KEYS_RANGES_MAX       64u
#define TORC_KEYS_NAME_BYTES       33u // letters, digits and any of ._- ; with the end
#define TORC_KEYS_NUMBER_MAX       0x7fffffffu
#define TORC_KEYS_SESSIONS_DEFAULT 4096u
#define TORC_KEYS_SESSIONS_MAX     0x100000u
#define TORC_KEYS_FILE_BYTES_MAX   (4u << 20)
#define TORC_CLIENT_KEY_BYTES_MAX  4096u
#define TORC_KEYS_FIRST_LINE       "torc-keys 1"
#define TORC_CLIENT_KEY_FIRST_LINE "torc-key 1"

// A secret that proves its principal.
struct torc_psk {
    uint8_t id;    // 1 .. 255
    bool bound;    // to `node` already
    uint32_t node; // 0 unless bound
    uint8_t bytes[TORC_PSK_BYTES];
};

struct torc_key_range {
    uint64_t lo;
    uint64_t hi; // exclusive, above lo
};

struct torc_principal {
    char name[TORC_KEYS_NAME_BYTES];
    uint32_t number; // 1 .. TORC_KEYS_NUMBER_MAX
    uint32_t roles;  // of enum torc_role (wire/op.h); never 0
    uint32_t sessions_max;
    uint32_t range_count; // 0: all keys
    uint32_t psk_count;   // 1 or 2
    struct torc_key_range ranges[TORC_KEYS_RANGES_MAX];
    struct torc_psk psks[2];
};

// What a client has.
struct torc_client_key {
    uint64_t cluster;
    uint32_t principal;
    char name[TORC_KEYS_NAME_BYTES];
    struct torc_psk psk;
};

// -- A node's file -------------------------------------------------------------------------------

// The principals of a whole file, in its order, at most TORC_KEYS_PRINCIPALS_MAX. INVALID_ARGUMENT
// begins with "line N: ".
enum torc_err torc_must_use torc_keyfile_parse(const char *text, uint64_t byte_count,
                                               struct torc_principal *principals, uint32_t *count,
                                               struct torc_fail *why);

// One principal's line, with its end.
void torc_principal_write(struct torc_text *text, const struct torc_principal *principal);

// The file with `principal`'s line (by its name) written anew, or added at the end; all other lines
// and the line's comment as they were. With `principal` NULL the line of `name` is left out.
void torc_keyfile_edit(struct torc_text *out, const char *text, uint64_t byte_count,
                       const char *name, const struct torc_principal *principal);

// "read,write" and back; `text` ends with a zero byte. A role's text is in the error.
enum torc_err torc_must_use torc_roles_parse(const char *text, uint32_t *roles,
                                             struct torc_fail *why);
void torc_roles_write(struct torc_text *text, uint32_t roles);

// "0-1000,5000-6000", as in the file, sorted and joined.
enum torc_err torc_must_use torc_ranges_parse(const char *text, uint64_t byte_count,
                                              struct torc_key_range ranges[TORC_KEYS_RANGES_MAX],
                                              uint32_t *count, struct torc_fail *why);
void torc_ranges_write(struct torc_text *text, const struct torc_key_range *ranges, uint32_t count);

bool torc_principal_name_ok(const char *name);

// -- A client's file -----------------------------------------------------------------------------

enum torc_err torc_must_use torc_client_key_parse(struct torc_client_key *key, const char *text,
                                                  uint64_t byte_count, struct torc_fail *why);
void torc_client_key_write(struct torc_text *text, const struct torc_client_key *key);

// -- Binding -------------------------------------------------------------------------------------

// The secret that the handshake with `node` uses (PSKn of docs/PROTOCOL.md); one that is bound
// already is copied. False: it is bound to another node.
bool torc_must_use torc_psk_bind(uint8_t bound[TORC_PSK_BYTES], const struct torc_psk *psk,
                                 uint64_t cluster, uint32_t node);

#endif
