// Torc client: where a failed assertion of libtorc ends: at the queue that was working.
#include "client/guard_os.h"
#include "kit/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    struct torc_guard *guard = torc_guard_get();

    if (guard == NULL) {
        abort(); // outside every call of the library: nobody could be told
    }
    (void)snprintf(guard->text, TORC_GUARD_TEXT_BYTES, "bug in libtorc: %s:%d: %s: %s", file, line,
                   function, expression);
    longjmp(guard->jump, 1);
}
