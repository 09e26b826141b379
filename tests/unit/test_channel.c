// Torc tests: dataplane/channel_os.h: one control at a time, and what both sides' deaths leave.
#include "dataplane/channel_os.h"
#include "kit/clock_os.h"
#include "tests/torc_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    WORKERS = 2,
    FDS_MAX = 8
};

static const struct torc_channel_self self = {.cluster = 7, .boot = 3, .node = 1};

struct folder {
    char path[64];
    char socket[96];
};

static void folder_make(struct folder *folder)
{
    (void)snprintf(folder->path, sizeof(folder->path), "/tmp/torc-channel-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder->path));
    (void)snprintf(folder->socket, sizeof(folder->socket), "%s/channel.sock", folder->path);
}

static void folder_remove(const struct folder *folder)
{
    CU_ASSERT_EQUAL(access(folder->socket, F_OK), -1); // the channel took its file away
    CU_ASSERT_EQUAL(rmdir(folder->path), 0);
}

// A control's end.
struct control {
    int socket;
    int fds[FDS_MAX];
    uint32_t fd_count;
    struct torc_chan_hello answer;
    ssize_t answered;
};

static int control_connect(const struct folder *folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", folder->socket);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void control_hello(int fd, uint32_t version)
{
    struct torc_chan_hello hello = {
        .magic = TORC_CHAN_MAGIC, .version = version, .pid = (uint32_t)getpid()};

    CU_ASSERT_EQUAL_FATAL(send(fd, &hello, sizeof(hello), MSG_NOSIGNAL), (ssize_t)sizeof(hello));
}

static void control_hear(struct control *control)
{
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } room;
    struct iovec piece = {.iov_base = &control->answer, .iov_len = sizeof(control->answer)};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof(room)};
    const struct cmsghdr *head;

    control->answered = recvmsg(control->socket, &message, MSG_CMSG_CLOEXEC);
    head = control->answered > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    control->fd_count = 0;
    if (head != NULL) {
        control->fd_count = (uint32_t)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(control->fds, CMSG_DATA(head), control->fd_count * sizeof(int));
    }
}

static void control_end(struct control *control)
{
    (void)close(control->socket);
    for (uint32_t i = 0; i < control->fd_count; i++) {
        (void)close(control->fds[i]);
    }
}

// Steps until something happens: what has arrived takes no time here.
static enum torc_channel_event step(struct torc_channel *channel, struct torc_fail *why)
{
    enum torc_channel_event event = TORC_CHANNEL_NOTHING;

    for (uint32_t i = 0; i < 3 && event == TORC_CHANNEL_NOTHING; i++) {
        event = torc_channel_step(channel, torc_clock_now_ns(), &self, why);
    }
    return event;
}

static void control_attach(struct control *control, struct torc_channel *channel,
                           const struct folder *folder)
{
    struct torc_fail why = {0};

    memset(control, 0, sizeof(*control));
    control->socket = control_connect(folder);
    control_hello(control->socket, TORC_CHAN_VERSION);
    CU_ASSERT_EQUAL_FATAL(step(channel, &why), TORC_CHANNEL_ATTACHED);
    control_hear(control);
    CU_ASSERT_EQUAL_FATAL(control->answered, (ssize_t)sizeof(control->answer));
    CU_ASSERT_EQUAL(control->answer.status, TORC_ERR_OK);
}

static void test_control_gets_everything(void)
{
    struct folder folder;
    struct torc_channel channel;
    struct control control;
    struct torc_chan_ports ports;
    struct torc_fail why = {0};
    uint64_t rings = 0;
    void *memory;

    folder_make(&folder);
    TORC_TEST_OK(torc_channel_open(&channel, folder.socket, WORKERS, &why), &why);
    control_attach(&control, &channel, &folder);
    CU_ASSERT_EQUAL_FATAL(control.fd_count, 2 + WORKERS); // memory, ours, one a worker
    CU_ASSERT_EQUAL(control.answer.cluster, 7);
    CU_ASSERT_EQUAL(control.answer.boot, 3);
    CU_ASSERT_EQUAL(control.answer.worker_count, WORKERS);
    memory =
        mmap(NULL, control.answer.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, control.fds[0], 0);
    CU_ASSERT_PTR_NOT_EQUAL_FATAL(memory, MAP_FAILED);
    TORC_TEST_OK(torc_chan_attach(&ports, TORC_CHAN_CONTROL, memory, control.answer.bytes, 1, &why),
                 &why);
    // The same memory on both sides, sealed; and the doorbells ring where they should.
    atomic_store(&torc_chan_worker_page(channel.memory, 1)->turned_ns, 99);
    CU_ASSERT_EQUAL(atomic_load(&ports.worker->turned_ns), 99);
    CU_ASSERT_EQUAL(ftruncate(control.fds[0], 4096), -1);
    torc_channel_ring(control.fds[3]);
    CU_ASSERT_EQUAL(read(channel.doorbells[1], &rings, sizeof(rings)), (ssize_t)sizeof(rings));
    torc_channel_ring(channel.control_doorbell);
    CU_ASSERT_EQUAL(read(control.fds[1], &rings, sizeof(rings)), (ssize_t)sizeof(rings));
    // The dataplane dies: control has the end at once, and still all of the memory.
    torc_channel_close(&channel);
    control_hear(&control);
    CU_ASSERT_EQUAL(control.answered, 0);
    control.fd_count = 4;
    CU_ASSERT_EQUAL(atomic_load(&ports.worker->turned_ns), 99);
    (void)munmap(memory, control.answer.bytes);
    control_end(&control);
    folder_remove(&folder);
}

// S2. A worker is rung: what it owes is told by when it was, never by when somebody meant to.
static void test_a_bell_counts_when_it_has_rung(void)
{
    static struct torc_chan_worker worker;
    struct torc_chan_worker *page = &worker;
    const uint64_t ms = TORC_NS_PER_MS;
    uint64_t bell_ns;
    uint64_t other_ns;

    memset(page, 0, sizeof(*page));
    CU_ASSERT_FALSE(torc_chan_wants_bell(page));
    atomic_store(&page->turned_ns, 100 * ms);
    atomic_store(&page->sleeping, 1);
    // Who is to ring it is held up: the worker sleeps on, and owes nothing.
    CU_ASSERT_TRUE(torc_chan_wants_bell(page));
    bell_ns = torc_chan_bell_ns(page, 101 * ms);
    CU_ASSERT_EQUAL(torc_chan_owes_since_ns(page, 150 * ms), 150 * ms);
    torc_chan_rang(page, bell_ns, 150 * ms); // within these 49 ms
    CU_ASSERT_EQUAL(torc_chan_owes_since_ns(page, 151 * ms), 151 * ms);
    // Another rings, and is not: it owes a turn since, however often it is rung.
    other_ns = torc_chan_bell_ns(page, 152 * ms);
    torc_chan_rang(page, other_ns, 152 * ms + 1);
    torc_chan_rang(page, torc_chan_bell_ns(page, 160 * ms), 160 * ms + 1);
    torc_chan_rang(page, bell_ns, bell_ns + 1); // it was held up before it noted
    CU_ASSERT_EQUAL(torc_chan_owes_since_ns(page, 170 * ms), 152 * ms);
    // It turns before the bell that made it turn is noted.
    bell_ns = torc_chan_bell_ns(page, 171 * ms);
    atomic_store(&page->turned_ns, 171 * ms + 1000);
    torc_chan_rang(page, bell_ns, 171 * ms + 2000);
    CU_ASSERT_EQUAL(torc_chan_owes_since_ns(page, 190 * ms), 190 * ms);
    // Its turn began after that of whoever rings.
    bell_ns = torc_chan_bell_ns(page, 171 * ms);
    torc_chan_rang(page, bell_ns, 171 * ms + 2000);
    CU_ASSERT_EQUAL(torc_chan_owes_since_ns(page, 190 * ms), 171 * ms + 1001);
}

static void test_one_control_at_a_time(void)
{
    struct folder folder;
    struct torc_channel channel;
    struct control first;
    struct control second = {0};
    struct torc_fail why = {0};

    folder_make(&folder);
    TORC_TEST_OK(torc_channel_open(&channel, folder.socket, WORKERS, &why), &why);
    control_attach(&first, &channel, &folder);
    second.socket = control_connect(&folder);
    control_hello(second.socket, TORC_CHAN_VERSION);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_REFUSED);
    control_hear(&second);
    CU_ASSERT_EQUAL(second.answer.status, TORC_ERR_IN_USE);
    CU_ASSERT_EQUAL(second.fd_count, 0);
    CU_ASSERT_EQUAL(recv(second.socket, &second.answer, 1, 0), 0); // and closed
    control_end(&second);
    // The first one dies and the third comes right behind it: it is let in.
    control_end(&first);
    second.socket = control_connect(&folder);
    control_hello(second.socket, TORC_CHAN_VERSION);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_LOST);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_ATTACHED);
    control_end(&second);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_LOST);
    torc_channel_close(&channel);
    folder_remove(&folder);
}

static void test_strangers_are_refused(void)
{
    struct folder folder;
    struct torc_channel channel;
    struct control control = {0};
    struct torc_fail why = {0};
    struct pollfd fds[TORC_CHANNEL_POLL_MAX];
    int timeout_ms = -1;
    uint64_t now_ns = torc_clock_now_ns();

    folder_make(&folder);
    TORC_TEST_OK(torc_channel_open(&channel, folder.socket, WORKERS, &why), &why);
    control.socket = control_connect(&folder);
    control_hello(control.socket, TORC_CHAN_VERSION + 1);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_REFUSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "restart both"));
    control_hear(&control);
    CU_ASSERT_EQUAL(control.answer.status, TORC_ERR_UNSUPPORTED_VERSION);
    control_end(&control);
    control.socket = control_connect(&folder);
    CU_ASSERT_EQUAL(send(control.socket, "hello", 5, MSG_NOSIGNAL), 5);
    CU_ASSERT_EQUAL(step(&channel, &why), TORC_CHANNEL_REFUSED);
    control_end(&control);
    // One who says nothing is waited for no longer than told.
    control.socket = control_connect(&folder);
    CU_ASSERT_EQUAL(torc_channel_step(&channel, now_ns, &self, &why), TORC_CHANNEL_NOTHING);
    (void)torc_channel_poll_fds(&channel, now_ns, fds, &timeout_ms);
    CU_ASSERT_EQUAL(timeout_ms, TORC_CHANNEL_HELLO_MS);
    now_ns += TORC_CHANNEL_HELLO_MS * TORC_NS_PER_MS;
    CU_ASSERT_EQUAL(torc_channel_step(&channel, now_ns, &self, &why), TORC_CHANNEL_REFUSED);
    control_end(&control);
    torc_channel_close(&channel);
    folder_remove(&folder);
}

static void test_one_dataplane_a_directory(void)
{
    struct folder folder;
    struct torc_channel first;
    struct torc_channel second;
    struct torc_fail why = {0};
    int left;

    folder_make(&folder);
    TORC_TEST_OK(torc_channel_open(&first, folder.socket, WORKERS, &why), &why);
    CU_ASSERT_EQUAL(torc_channel_open(&second, folder.socket, WORKERS, &why), TORC_ERR_IN_USE);
    CU_ASSERT_EQUAL(access(folder.socket, F_OK), 0); // still the first one's
    torc_channel_close(&first);
    left = open(folder.socket, O_CREAT | O_CLOEXEC, 0600); // a dead one's file is replaced
    (void)close(left);
    TORC_TEST_OK(torc_channel_open(&second, folder.socket, WORKERS, &why), &why);
    torc_channel_close(&second);
    CU_ASSERT_EQUAL(torc_channel_open(&second, folder.socket, 0, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_channel_open(&second, folder.socket, TORC_CHANNEL_WORKERS_MAX + 1, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    folder_remove(&folder);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"control gets memory and doorbells, and keeps them", test_control_gets_everything},
        {"a bell counts when it has rung", test_a_bell_counts_when_it_has_rung},
        {"one control at a time", test_one_control_at_a_time},
        {"strangers are refused", test_strangers_are_refused},
        {"one dataplane a data directory", test_one_dataplane_a_directory},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("channel", tests);
}
