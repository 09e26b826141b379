// Torc client: a failed assertion inside libtorc, which must not end its host.
//
// What    while a queue works, its thread has a guard; a failed assertion jumps back to it, and the
//         queue is broken from then on: every call in flight ends with INTERNAL and a text.
// Owner   the thread that set it: the one thread-local variable of the library.
// Use     in libtorc alone (client/assert_os.c). Programs of this tree that link the parts
//         themselves have their own torc_assert_fail, which ends them.
#ifndef TORC_CLIENT_GUARD_OS_H
#define TORC_CLIENT_GUARD_OS_H

#include <setjmp.h>

#define TORC_GUARD_TEXT_BYTES 200

struct torc_guard {
    jmp_buf jump;
    char *text; // TORC_GUARD_TEXT_BYTES
};

// The guard of this thread from now on; NULL for none. Returns the one before.
struct torc_guard *torc_guard_set(struct torc_guard *guard);
struct torc_guard *torc_guard_get(void);

#endif
