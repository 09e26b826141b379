// Torc kit: where a failed assertion of a server program ends. Tests have their own, with the seed.
#include "kit/log_os.h"

#include <stdlib.h>

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    torc_log(TORC_LOG_ERROR, "assert", "failed", "at=%s:%d function=%s condition=\"%s\"", file,
             line, function, expression);
    abort();
}
