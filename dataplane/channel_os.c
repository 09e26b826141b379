// Torc dataplane: making the channel and handing it to control. See dataplane/channel_os.h.
#include "dataplane/channel_os.h"

#include "dataplane/socket_os.h"
#include "kit/clock_os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *channel_errno(void)
{
    return strerrordesc_np(errno) != NULL ? strerrordesc_np(errno) : "unknown error";
}

static void channel_shut(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void torc_channel_ring(int doorbell)
{
    uint64_t one = 1;

    (void)!write(doorbell, &one, sizeof(one)); // full: it rings already
}

void torc_channel_ring_worker(const int *doorbells, void *chan, uint32_t index)
{
    struct torc_chan_worker *page = torc_chan_worker_page(chan, index);
    uint64_t bell_ns = torc_chan_bell_ns(page, torc_clock_now_ns());

    torc_channel_ring(doorbells[index]);
    torc_chan_rang(page, bell_ns, torc_clock_now_ns());
}

void torc_channel_hush(int doorbell)
{
    uint64_t count;

    (void)!read(doorbell, &count, sizeof(count)); // empty: it was quiet
}

static enum torc_err channel_make_memory(struct torc_channel *channel, struct torc_fail *why)
{
    channel->memory_bytes = torc_chan_bytes(channel->worker_count);
    channel->memfd = memfd_create("torc-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (channel->memfd < 0 || ftruncate(channel->memfd, (off_t)channel->memory_bytes) != 0) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "channel: memfd of %" PRIu64 " bytes: %s",
                         channel->memory_bytes, channel_errno());
    }
    channel->memory =
        mmap(NULL, channel->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, channel->memfd, 0);
    if (channel->memory == MAP_FAILED) {
        channel->memory = NULL;
        return torc_fail(why, TORC_ERR_NO_SPACE, "channel: map %" PRIu64 " bytes: %s",
                         channel->memory_bytes, channel_errno());
    }
    // A file that cannot shrink cannot end either process by SIGBUS.
    if (fcntl(channel->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return torc_fail(why, TORC_ERR_IO, "channel: seal: %s", channel_errno());
    }
    return torc_chan_format(channel->memory, channel->memory_bytes, channel->worker_count, why);
}

static enum torc_err channel_make_doorbells(struct torc_channel *channel, struct torc_fail *why)
{
    bool made;

    channel->control_doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made = channel->control_doorbell >= 0;
    for (uint32_t i = 0; i < channel->worker_count && made; i++) {
        channel->doorbells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        made = channel->doorbells[i] >= 0;
    }
    return made ? TORC_ERR_OK
                : torc_fail(why, TORC_ERR_IO, "channel: doorbell: %s", channel_errno());
}

static enum torc_err channel_make_listener(struct torc_channel *channel, struct torc_fail *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int bound;

    memcpy(address.sun_path, channel->path, strlen(channel->path) + 1);
    if (torc_socket_is_alive(channel->path)) {
        channel->path[0] = '\0'; // not ours to remove
        return torc_fail(why, TORC_ERR_IN_USE,
                         "%.90s: another dataplane serves this data directory", address.sun_path);
    }
    (void)unlink(channel->path);
    channel->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (channel->listener < 0) {
        return torc_fail(why, TORC_ERR_IO, "channel: socket: %s", channel_errno());
    }
    mask = umask(0177); // 0600 from the first moment
    bound = bind(channel->listener, (const struct sockaddr *)&address, sizeof(address));
    (void)umask(mask);
    if (bound != 0 || listen(channel->listener, 4) != 0) {
        return torc_fail(why, TORC_ERR_IO, "%.90s: %s", address.sun_path, channel_errno());
    }
    return TORC_ERR_OK;
}

enum torc_err torc_channel_open(struct torc_channel *channel, const char *path,
                                uint32_t worker_count, struct torc_fail *why)
{
    enum torc_err err;

    *channel = (struct torc_channel){.worker_count = worker_count,
                                     .memfd = -1,
                                     .listener = -1,
                                     .control = -1,
                                     .guest = -1,
                                     .control_doorbell = -1};
    memset(channel->doorbells, 0xff, sizeof(channel->doorbells)); // -1
    if (worker_count == 0 || worker_count > TORC_CHANNEL_WORKERS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%" PRIu32 " workers: 1 to %u",
                         worker_count, TORC_CHANNEL_WORKERS_MAX);
    }
    if (strlen(path) >= sizeof(channel->path)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.60s…: a socket's path has at most %zu bytes; use a shorter --data",
                         path, sizeof(channel->path) - 1);
    }
    memcpy(channel->path, path, strlen(path) + 1);
    err = channel_make_memory(channel, why);
    if (err == TORC_ERR_OK) {
        err = channel_make_doorbells(channel, why);
    }
    if (err == TORC_ERR_OK) {
        err = channel_make_listener(channel, why);
    }
    if (err != TORC_ERR_OK) {
        torc_channel_close(channel);
    }
    return err;
}

void torc_channel_close(struct torc_channel *channel)
{
    if (channel->listener >= 0 && channel->path[0] != '\0') {
        (void)unlink(channel->path);
    }
    channel_shut(&channel->listener);
    channel_shut(&channel->control);
    channel_shut(&channel->guest);
    channel_shut(&channel->control_doorbell);
    for (uint32_t i = 0; i < TORC_CHANNEL_WORKERS_MAX; i++) {
        channel_shut(&channel->doorbells[i]);
    }
    if (channel->memory != NULL) {
        (void)munmap(channel->memory, channel->memory_bytes);
        channel->memory = NULL;
    }
    channel_shut(&channel->memfd);
}

uint32_t torc_channel_poll_fds(const struct torc_channel *channel, uint64_t now_ns,
                               struct pollfd fds[TORC_CHANNEL_POLL_MAX], int *timeout_ms)
{
    uint32_t count = 0;

    if (channel->control >= 0) {
        fds[count++] = (struct pollfd){.fd = channel->control, .events = POLLIN};
    }
    if (channel->guest >= 0) {
        uint64_t waited_ms = (now_ns - channel->guest_at_ns) / TORC_NS_PER_MS;
        int left_ms =
            waited_ms < TORC_CHANNEL_HELLO_MS ? (int)(TORC_CHANNEL_HELLO_MS - waited_ms) : 0;

        fds[count++] = (struct pollfd){.fd = channel->guest, .events = POLLIN};
        *timeout_ms = *timeout_ms < 0 || left_ms < *timeout_ms ? left_ms : *timeout_ms;
    } else {
        fds[count++] = (struct pollfd){.fd = channel->listener, .events = POLLIN};
    }
    return count;
}

// Sends our hello, with the descriptors when `whole`. One message that fits an empty socket buffer.
static bool channel_say(const struct torc_channel *channel, int to,
                        const struct torc_chan_hello *hello, bool whole)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE((2 + TORC_CHANNEL_WORKERS_MAX) * sizeof(int))];
    } control;
    size_t fd_count = 2 + channel->worker_count;
    struct iovec piece = {.iov_len = sizeof(*hello)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    memcpy(&piece.iov_base, &(const void *){hello}, sizeof(piece.iov_base)); // sendmsg only reads
    if (whole) {
        int fds[2 + TORC_CHANNEL_WORKERS_MAX];
        struct cmsghdr *head = &control.align;

        memset(&control, 0, sizeof(control));
        fds[0] = channel->memfd;
        fds[1] = channel->control_doorbell;
        memcpy(fds + 2, channel->doorbells, channel->worker_count * sizeof(int));
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
    }
    return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(*hello);
}

static void channel_accept(struct torc_channel *channel, uint64_t now_ns)
{
    struct ucred peer = {0};
    socklen_t peer_bytes = sizeof(peer);
    int guest = accept4(channel->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (guest < 0) {
        return; // it went away again
    }
    // The file's mode keeps others out; this also holds where somebody loosened it.
    if (getsockopt(guest, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) != 0 ||
        (peer.uid != geteuid() && peer.uid != 0)) {
        channel_shut(&guest);
        return;
    }
    channel->guest = guest;
    channel->guest_at_ns = now_ns;
}

// Control says nothing after its hello: whatever can be read is its end, or noise to be thrown
// away.
static bool channel_is_lost(struct torc_channel *channel)
{
    unsigned char noise[64];
    ssize_t got = recv(channel->control, noise, sizeof(noise), MSG_DONTWAIT);

    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static enum torc_err channel_judge(const struct torc_channel *channel,
                                   const struct torc_chan_hello *theirs, ssize_t got,
                                   struct torc_fail *why)
{
    if (got != (ssize_t)sizeof(*theirs) || theirs->magic != TORC_CHAN_MAGIC) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "channel: a hello of %zd bytes", got);
    }
    if (theirs->version != TORC_CHAN_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "channel: control %" PRIu32 " speaks version %" PRIu32
                         ", this dataplane %u: restart both",
                         theirs->pid, theirs->version, TORC_CHAN_VERSION);
    }
    if (channel->control >= 0) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "channel: control %" PRIu32 " while control %" PRIu32 " is attached",
                         theirs->pid, channel->control_pid);
    }
    return TORC_ERR_OK;
}

static enum torc_channel_event channel_greet(struct torc_channel *channel,
                                             const struct torc_channel_self *self,
                                             struct torc_fail *why)
{
    struct torc_chan_hello theirs = {0};
    struct torc_chan_hello ours = {.magic = TORC_CHAN_MAGIC,
                                   .version = TORC_CHAN_VERSION,
                                   .worker_count = channel->worker_count,
                                   .bytes = channel->memory_bytes,
                                   .cluster = self->cluster,
                                   .boot = self->boot,
                                   .pid = (uint32_t)getpid(),
                                   .node = self->node};
    ssize_t got = recv(channel->guest, &theirs, sizeof(theirs), MSG_DONTWAIT | MSG_TRUNC);
    enum torc_err err;

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return TORC_CHANNEL_NOTHING;
    }
    err = channel_judge(channel, &theirs, got, why);
    ours.status = (uint32_t)err;
    if (!channel_say(channel, channel->guest, &ours, err == TORC_ERR_OK) && err == TORC_ERR_OK) {
        err = torc_fail(why, TORC_ERR_IO, "channel: answer control: %s", channel_errno());
    }
    if (err != TORC_ERR_OK) {
        channel_shut(&channel->guest);
        return TORC_CHANNEL_REFUSED;
    }
    channel->control = channel->guest;
    channel->control_pid = theirs.pid;
    channel->guest = -1;
    return TORC_CHANNEL_ATTACHED;
}

enum torc_channel_event torc_channel_step(struct torc_channel *channel, uint64_t now_ns,
                                          const struct torc_channel_self *self,
                                          struct torc_fail *why)
{
    enum torc_channel_event event;

    // The end first: a control that comes right after a dead one must not be refused.
    if (channel->control >= 0 && channel_is_lost(channel)) {
        channel_shut(&channel->control);
        return TORC_CHANNEL_LOST;
    }
    if (channel->guest < 0) {
        channel_accept(channel, now_ns);
    }
    if (channel->guest < 0) {
        return TORC_CHANNEL_NOTHING;
    }
    event = channel_greet(channel, self, why);
    if (event == TORC_CHANNEL_NOTHING &&
        now_ns - channel->guest_at_ns >= TORC_CHANNEL_HELLO_MS * TORC_NS_PER_MS) {
        (void)torc_fail(why, TORC_ERR_DEADLINE, "channel: no hello within %d ms",
                        TORC_CHANNEL_HELLO_MS);
        channel_shut(&channel->guest);
        return TORC_CHANNEL_REFUSED;
    }
    return event;
}
