// Torc dataplane: what DPDK's memif driver forgets when a client dies. See dataplane/memif_dpdk.h.
#include "dataplane/memif_dpdk.h"

#include "dataplane/grace_os.h"
#include "kit/base.h"

#include <rte_interrupts.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Of the driver's messages (drivers/net/memif/memif.h, version 2.0): how long each is, and the
// kinds that matter here, which are the first two bytes.
#define MEMIF_MESSAGE_BYTES 128
#define MEMIF_INIT          3u
#define MEMIF_ADD_REGION    4u
#define MEMIF_CONNECT       6u
// Regions of clients that are half connected: a client has one, with zero copy a few more. One that
// finds no place may be forgotten.
#define MEMIF_REGIONS_MAX 256u

// A descriptor that came over a socket; `file` tells it from a later one of the same number.
struct memif_region {
    int socket;
    int fd;
    struct stat file;
};

static struct memif_region memif_regions[MEMIF_REGIONS_MAX];
static uint32_t memif_region_count;

// The descriptor that came with the message; -1: none did. Credentials come too.
static int memif_descriptor(const struct msghdr *message)
{
    struct msghdr headers = *message; // CMSG_NXTHDR wants one that may change
    int fd = -1;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(&headers); head != NULL;
         head = CMSG_NXTHDR(&headers, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
            memcpy(&fd, CMSG_DATA(head), sizeof(fd));
        }
    }
    return fd;
}

static void memif_take(int socket, const struct msghdr *message)
{
    struct memif_region *region = &memif_regions[memif_region_count];

    if (memif_region_count == MEMIF_REGIONS_MAX) {
        return;
    }
    region->socket = socket;
    region->fd = memif_descriptor(message);
    if (fstat(region->fd, &region->file) == 0) {
        memif_region_count++;
    }
}

// Regions of the socket are the driver's own care, or nobody's: then they are closed here.
static void memif_drop(int socket, bool closes)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < memif_region_count; i++) {
        const struct memif_region *region = &memif_regions[i];
        struct stat file;

        if (region->socket != socket) {
            memif_regions[kept++] = *region;
        } else if (closes && fstat(region->fd, &file) == 0 && file.st_dev == region->file.st_dev &&
                   file.st_ino == region->file.st_ino) {
            (void)close(region->fd);
        }
    }
    memif_region_count = kept;
}

void torc_memif_heard(int socket, const struct msghdr *message, ssize_t byte_count)
{
    uint16_t kind = 0;

    if (byte_count <= 0) {
        memif_drop(socket, true);
        return;
    }
    if (byte_count != MEMIF_MESSAGE_BYTES || message->msg_iovlen != 1) {
        return; // of another driver
    }
    memcpy(&kind, message->msg_iov[0].iov_base, sizeof(kind));
    if (kind == MEMIF_INIT || kind == MEMIF_CONNECT) {
        memif_drop(socket, kind == MEMIF_INIT); // of one before it that had this number
    } else if (kind == MEMIF_ADD_REGION) {
        memif_take(socket, message);
    }
}

// Both take libc's place, as munmap of grace_os.c does: dataplane/meson.build exports them.
#ifndef TORC_GRACE_SANITIZED
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are its own
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    bool is_driver = rte_thread_is_intr() != 0;
    ssize_t sent =
        syscall(SYS_sendmsg, fd, message, is_driver ? flags | MSG_NOSIGNAL | MSG_DONTWAIT : flags);

    if (sent >= 0 || !is_driver || (errno != EPIPE && errno != ECONNRESET && errno != EAGAIN)) {
        return sent;
    }
    sent = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        sent += (ssize_t)message->msg_iov[i].iov_len;
    }
    return sent;
}

// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are its own
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got = syscall(SYS_recvmsg, fd, message, flags);

    if (rte_thread_is_intr() != 0) {
        int error = errno;

        torc_memif_heard(fd, message, got);
        errno = error;
    }
    return got;
}
#endif
