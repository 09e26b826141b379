// Torc dataplane: whether a local socket is a dead one's. See dataplane/socket_os.h.
#include "dataplane/socket_os.h"

#include "kit/base.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// Asks as a socket for datagrams. One for connections that lives is of another type (EPROTOTYPE);
// one whose process is gone refuses (ECONNREFUSED). A connection would tell the same, but the other
// side would have to take it, and DPDK's memif driver panics when that one has gone by then
// (dataplane/memif_dpdk.h).
bool torc_socket_is_alive(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive;

    torc_assert(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path) + 1);
    alive =
        probe >= 0 && (connect(probe, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
                       errno == EPROTOTYPE || errno == EPERM || errno == EACCES);
    if (probe >= 0) {
        (void)close(probe); // it has asked
    }
    return alive;
}
