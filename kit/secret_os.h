// Torc kit: files with secrets in them, and memory for secrets.
//
// What    a file is read only when nobody but its owner could have read or changed it, and written
//         so that nobody ever could; memory for it is locked as far as the system allows, left out
//         of core dumps, and wiped.
// Owner   the caller's thread.
// Memory  a mapping, until torc_secret_close.
#ifndef TORC_KIT_SECRET_OS_H
#define TORC_KIT_SECRET_OS_H

#include "kit/fail.h"

struct torc_secret {
    void *bytes;
    uint64_t byte_count; // of what was read
    uint64_t room;
};

// What a file must be like to be believed.
struct torc_secret_rules {
    uint64_t bytes_max;
    uint32_t mode;  // permission bits that it may have
    uint32_t owner; // uid that must own it; or TORC_SECRET_OURS
};

// The process's own user, or root; root takes anybody's.
#define TORC_SECRET_OURS UINT32_MAX

// Zeroed memory. NO_SPACE when there is none.
enum torc_err torc_must_use torc_secret_open(struct torc_secret *secret, uint64_t room,
                                             struct torc_fail *why);

// A whole file, with a zero byte behind it. NOT_FOUND; FORBIDDEN: not readable, or others could
// have read it; TOO_LARGE; IO.
enum torc_err torc_must_use torc_secret_read(struct torc_secret *secret, const char *path,
                                             const struct torc_secret_rules *rules,
                                             struct torc_fail *why);

// Wipes it. One that was never opened (all zero) may be closed.
void torc_secret_close(struct torc_secret *secret);

// The file's old bytes or its new ones, never a mixture; mode 0600; `uid`'s and `gid`'s when this
// process is root. Durable. FORBIDDEN: something that is no file has the name, a link for one.
enum torc_err torc_must_use torc_secret_write(const char *path, const void *bytes,
                                              uint64_t byte_count, uint32_t uid, uint32_t gid,
                                              struct torc_fail *why);

// Keeps other memory, whole pages, out of core dumps and locks it. False: not locked, so it may
// reach swap space.
bool torc_secret_hide(void *memory, uint64_t byte_count);

#endif
