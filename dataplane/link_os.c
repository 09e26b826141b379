// Torc dataplane: what the kernel says about one of its network links. See dataplane/link_os.h.
#include "dataplane/link_os.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static bool link_ask(int fd, const char *name, unsigned long what, struct ifreq *request)
{
    memcpy(request->ifr_name, name, strlen(name) + 1);
    return ioctl(fd, what, request) == 0;
}

static void link_look_driver(int fd, const char *name, struct torc_link *link)
{
    struct ifreq request = {0};
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};

    request.ifr_data = (void *)&driver;
    link->pair = link_ask(fd, name, SIOCETHTOOL, &request) && strcmp(driver.driver, "veth") == 0;
    request.ifr_data = (void *)&channels;
    link->queue_count = 1;
    if (link_ask(fd, name, SIOCETHTOOL, &request)) {
        uint64_t pairs = torc_min_u64(channels.rx_count, channels.tx_count);

        link->queue_count =
            torc_narrow_u32(torc_max_u64(torc_max_u64(pairs, channels.combined_count), 1));
    }
}

enum torc_err torc_link_look(const char *name, struct torc_link *link, struct torc_fail *why)
{
    struct ifreq request = {0};
    enum torc_err err = TORC_ERR_OK;
    int fd;

    *link = (struct torc_link){0};
    if (name[0] == '\0' || strlen(name) >= TORC_LINK_NAME_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "link %.40s: a name of 1 to %d bytes",
                         name, TORC_LINK_NAME_BYTES - 1);
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "link %s: socket: %s", name, strerrordesc_np(errno));
    }
    link->index = if_nametoindex(name);
    if (link->index == 0) {
        err = torc_fail(why, TORC_ERR_NOT_FOUND,
                        "there is no link %s: `torc serve` makes it, or: ip link add %s type veth "
                        "peer name %sh",
                        name, name, name);
        goto out;
    }
    if (!link_ask(fd, name, SIOCGIFFLAGS, &request)) {
        err = torc_fail(why, TORC_ERR_IO, "link %s: %s", name, strerrordesc_np(errno));
        goto out;
    }
    link->up = (request.ifr_flags & IFF_UP) != 0;
    if (!link_ask(fd, name, SIOCGIFMTU, &request)) {
        err = torc_fail(why, TORC_ERR_IO, "link %s: %s", name, strerrordesc_np(errno));
        goto out;
    }
    link->mtu = (uint16_t)torc_min_u64((uint64_t)(unsigned)request.ifr_mtu, UINT16_MAX);
    link_look_driver(fd, name, link);
out:
    (void)close(fd);
    return err;
}

void torc_link_sockets(struct torc_link_sockets *sockets)
{
    struct rlimit limit = {.rlim_cur = 1024};
    int most;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    // Descriptors are given out from the lowest: those of a program's start lie far below this.
    most = (int)torc_min_u64(limit.rlim_cur, 8192);
    sockets->count = 0;
    for (int fd = 3; fd < most && sockets->count < TORC_LINK_SOCKETS_MAX; fd++) {
        int domain = 0;
        socklen_t bytes = sizeof(domain);

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 &&
            (domain == AF_PACKET || domain == AF_XDP)) {
            sockets->fds[sockets->count++] = fd;
        }
    }
}

void torc_link_sockets_new(struct torc_link_sockets *after, const struct torc_link_sockets *before)
{
    uint32_t kept = 0;
    uint32_t seen = 0;

    for (uint32_t i = 0; i < after->count; i++) {
        while (seen < before->count && before->fds[seen] < after->fds[i]) {
            seen++;
        }
        if (seen == before->count || before->fds[seen] != after->fds[i]) {
            after->fds[kept++] = after->fds[i];
        }
    }
    after->count = kept;
}
