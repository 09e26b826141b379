// Torc control: addresses of names, found while everything else goes on.
//
// What    asks the system's resolver for one name at a time; whoever waits for an answer sees a
//         descriptor become readable. What was found is kept, and looked up again every minute: a
//         resolver that fails takes nothing away. A number is known from the start.
// Owner   control's one thread. A lookup has a thread of its own, since the system's blocks for as
//         long as name servers are silent (10 to 30 s); never is there a second one that asks.
// Memory  the struct; a lookup's few hundred bytes, which it frees itself when nobody waits any
//         more.
// Why     libcurl begins a lookup for each transfer and throws it away with it: a transfer that
//         has less time than a dead name server costs never learns its address, and each try
//         leaves a thread behind.
#ifndef TORC_CONTROL_NAMES_OS_H
#define TORC_CONTROL_NAMES_OS_H

#include "kit/base.h"

#define TORC_NAMES_MAX        9u
#define TORC_NAMES_HOST_BYTES 128u
#define TORC_NAMES_TEXT_BYTES 800u // 16 addresses
#define TORC_NAMES_WHY_BYTES  64u

struct torc_name {
    char host[TORC_NAMES_HOST_BYTES];
    char found[TORC_NAMES_TEXT_BYTES]; // "10.0.0.1,[fd00::1]"; of a number empty
    char why[TORC_NAMES_WHY_BYTES];    // of the last lookup that failed
    bool known;
    uint64_t due_ns;
};

struct torc_names {
    struct torc_name names[TORC_NAMES_MAX];
    uint32_t count;
    struct torc_names_job *job; // under way, or NULL
    int fd;                     // readable when a step would find something
};

// `first` is looked up before the others.
void torc_names_begin(struct torc_names *names, uint32_t first);

// Does not wait for a lookup that is under way.
void torc_names_end(struct torc_names *names);

// Before torc_names_begin; `host` as in an address, an IPv6 number in brackets.
void torc_names_add(struct torc_names *names, const char *host, uint64_t host_bytes);

// Takes what was found, and looks up the next one that is due.
void torc_names_step(struct torc_names *names, uint64_t now_ns);

// When to step although the descriptor is silent; UINT64_MAX: never.
uint64_t torc_names_deadline_ns(const struct torc_names *names);

#endif
