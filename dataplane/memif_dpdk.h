// Torc dataplane: what DPDK's memif driver (22.11) forgets when a client dies.
//
// What    this program has a sendmsg and a recvmsg of its own, which mend three things on EAL's
//         interrupt thread, where the driver talks to clients; on others they are libc's.
//         Hello: the driver accepts a connection, gives its descriptor to the thread, and says
//           hello. Where the client is dead by then, that fails, and the driver closes the
//           descriptor and frees what belongs to it, but the thread keeps it, and panics. Now what
//           nobody will hear counts as sent, as if the client had died a moment later; the driver
//           meets the end where it expects it, when it reads.
//         Regions: the client's memory comes as descriptors, and is mapped when the client
//           connects. The driver closes what it has mapped; of a client that ends before, it
//           forgets the descriptor, and the memory stays. Now it is closed.
//         Floods: a client that asks and does not read its answers fills the socket, and the
//           thread, which all clients share, waits for it. Now the answer is lost.
// Owner   EAL's interrupt thread.
// Not in  builds with sanitizers, which have both calls themselves.
// Sources drivers/net/memif/memif_socket.c; docs/decisions/0042.
#ifndef TORC_DATAPLANE_MEMIF_DPDK_H
#define TORC_DATAPLANE_MEMIF_DPDK_H

#include <sys/socket.h>
#include <sys/types.h>

// The interrupt thread has received a message, the end (0) or an error (-1). Other drivers' pass.
void torc_memif_heard(int socket, const struct msghdr *message, ssize_t byte_count);

#endif
