// Torc dataplane: whether a local socket is a dead one's, whose name may be taken.
//
// Owner   the main thread, at a start.
#ifndef TORC_DATAPLANE_SOCKET_OS_H
#define TORC_DATAPLANE_SOCKET_OS_H

#include <stdbool.h>

// Whether a living process has the socket at `path`, which is shorter than a socket's address, or
// it may not be asked for. Whoever has it does not notice.
bool torc_socket_is_alive(const char *path);

#endif
