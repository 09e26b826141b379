// Torc cli: see links_os.h.
#include "client/cli/links_os.h"

#include "kit/network_os.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LINKS_WORDS_MAX = 32
};

// -- What is wanted

// Both addresses of one family as text: the node's, and the host's: number 1 of the same network.
static enum torc_err links_text(int family, const uint8_t *node, uint8_t prefix, char *text,
                                char *host, struct torc_fail *why)
{
    uint8_t bytes[16] = {0};
    uint32_t size = family == AF_INET ? 4 : 16;
    char first[TORC_LINKS_ADDRESS_BYTES];

    if (prefix == 0) { // switched off
        return TORC_ERR_OK;
    }
    memcpy(bytes, node, size);
    for (uint32_t bit = prefix; bit < size * 8; bit++) {
        bytes[bit / 8] &= (uint8_t)(0xff - (0x80u >> bit % 8));
    }
    bytes[size - 1] |= 1;
    (void)inet_ntop(family, node, text, TORC_LINKS_ADDRESS_BYTES);
    (void)inet_ntop(family, bytes, first, sizeof(first));
    (void)snprintf(host, TORC_LINKS_ADDRESS_BYTES, "%.45s/%u", first, prefix);
    if (memcmp(node, bytes, size) == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "address %s/%u: the first address of the network is the host's own", text,
                         prefix);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_links_want(struct torc_links *links, const struct torc_settings *settings,
                              uint32_t workers, struct torc_fail *why)
{
    static const char *const kernel_ports[] = {"auto", "af_xdp", "af_packet", "tap"};
    struct torc_network network;
    const uint8_t *last;
    enum torc_err err = torc_network_of(&network, settings, why);

    *links = (struct torc_links){.queue_count = workers, .mtu = (uint32_t)settings->mtu};
    if (err != TORC_ERR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(kernel_ports); i++) {
        links->wanted = links->wanted || strcmp(settings->port, kernel_ports[i]) == 0;
    }
    links->tap = strcmp(settings->port, "tap") == 0;
    (void)snprintf(links->near, sizeof(links->near), "%.15s", network.link);
    if (snprintf(links->far, sizeof(links->far), "%sh", links->near) >= (int)sizeof(links->far)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "link=%s: at most %d letters (its peer gets an h behind)", links->near,
                         TORC_LINKS_NAME_BYTES - 2);
    }
    // Locally administered (RFC 7042), a T, and what tells the node from others of its network.
    last = network.ipv4_prefix != 0 ? network.ipv4 : network.ipv6 + 12;
    (void)snprintf(links->mac, sizeof(links->mac), "02:54:%02x:%02x:%02x:%02x", last[0], last[1],
                   last[2], last[3]);
    err = links_text(AF_INET, network.ipv4, network.ipv4_prefix, links->address, links->host, why);
    if (err == TORC_ERR_OK) {
        err = links_text(AF_INET6, network.ipv6, network.ipv6_prefix, links->address6, links->host6,
                         why);
    }
    return err;
}

// -- What there is

static bool links_same_address(const struct sockaddr *address, const char *text)
{
    char copy[TORC_LINKS_ADDRESS_BYTES];
    uint8_t wanted[16];

    (void)snprintf(copy, sizeof(copy), "%s", text);
    copy[strcspn(copy, "/")] = '\0';
    if (copy[0] == '\0' || address == NULL || inet_pton(address->sa_family, copy, wanted) != 1) {
        return false;
    }
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;

        return memcmp(&v4->sin_addr, wanted, 4) == 0;
    }
    return memcmp(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, wanted, 16) ==
           0;
}

static void links_look(const struct torc_links *links, struct torc_links_seen *seen)
{
    struct ifaddrs *all = NULL;

    *seen = (struct torc_links_seen){.near = if_nametoindex(links->near) != 0,
                                     .bridge = if_nametoindex(TORC_LINKS_BRIDGE) != 0};
    if (getifaddrs(&all) != 0) {
        return;
    }
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr != NULL &&
            (one->ifa_addr->sa_family == AF_INET || one->ifa_addr->sa_family == AF_INET6) &&
            (links_same_address(one->ifa_addr, links->host) ||
             links_same_address(one->ifa_addr, links->host6))) {
            (void)snprintf(seen->holder, sizeof(seen->holder), "%.15s", one->ifa_name);
        }
    }
    freeifaddrs(all);
}

// -- Doing

static bool links_write_file(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

// Runs one command; its messages end in `said`.
static bool links_run(const char *command, char *said, size_t said_bytes)
{
    extern char **environ;
    char copy[TORC_LINKS_COMMAND_BYTES];
    char *words[LINKS_WORDS_MAX] = {NULL};
    uint32_t count = 0;
    posix_spawn_file_actions_t actions;
    int pipes[2];
    pid_t pid = -1;
    int status = -1;
    ssize_t got = 0;
    size_t used = 0;

    (void)snprintf(copy, sizeof(copy), "%s", command);
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;) {
        torc_assert(count + 1 < LINKS_WORDS_MAX);
        words[count++] = word;
    }
    if (strcmp(words[0], "echo") == 0) {
        torc_assert(count == 4);
        torc_assert(words[3] != NULL);
        (void)snprintf(said, said_bytes, "%s cannot be written", words[3]);
        return links_write_file(words[3], words[1]);
    }
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        (void)snprintf(said, said_bytes, "pipe: %s", strerrordesc_np(errno));
        return false;
    }
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, pipes[1], STDERR_FILENO);
    if (posix_spawnp(&pid, words[0], &actions, NULL, words, environ) != 0) {
        (void)snprintf(said, said_bytes, "%s is not installed", words[0]);
        pid = -1;
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(pipes[1]);
    while (pid > 0 && used + 1 < said_bytes &&
           (got = read(pipes[0], said + used, said_bytes - used - 1)) > 0) {
        used += (size_t)got;
    }
    (void)close(pipes[0]);
    if (pid < 0) {
        return false;
    }
    said[used] = '\0';
    said[strcspn(said, "\n")] = '\0';
    (void)waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void links_undo(const char *record)
{
    char lines[64][TORC_LINKS_COMMAND_BYTES];
    char said[256];
    uint32_t count = 0;
    FILE *file = fopen(record, "re");

    while (file != NULL && count < TORC_COUNT_OF(lines) &&
           fgets(lines[count], sizeof(lines[0]), file) != NULL) {
        lines[count][strcspn(lines[count], "\n")] = '\0';
        count++;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    while (count-- > 0) {
        // Only what this program writes there is run.
        if (strncmp(lines[count], "ip link del ", strlen("ip link del ")) == 0) {
            (void)links_run(lines[count], said, sizeof(said)); // gone already is as good
        }
    }
    (void)unlink(record);
}

// The bridge, if a serve made it and nothing is in it any more.
static void links_drop_bridge(void)
{
    char alias[32] = "";
    char said[256];
    uint32_t ports = 0;
    FILE *file = fopen("/sys/class/net/" TORC_LINKS_BRIDGE "/ifalias", "re");
    DIR *folder = opendir("/sys/class/net/" TORC_LINKS_BRIDGE "/brif");

    if (file != NULL && fgets(alias, sizeof(alias), file) != NULL) {
        alias[strcspn(alias, "\n")] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (folder == NULL) {
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) { // NOLINT: one thread
        ports += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(folder);
    if (ports == 0 && strcmp(alias, "torc-serve") == 0) {
        (void)links_run("ip link del " TORC_LINKS_BRIDGE, said, sizeof(said));
    }
}

void torc_links_remove(const char *record)
{
    if (access(record, F_OK) == 0) {
        links_undo(record);
        links_drop_bridge();
    }
}

// A name in the kernel's abstract space: it belongs to the network namespace, as the link does, and
// goes with its process.
enum torc_err torc_links_lock(const struct torc_links *links, int *fd, struct torc_fail *why)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct ucred holder = {0};
    socklen_t holder_bytes = sizeof(holder);
    socklen_t bytes;

    *fd = -1;
    if (!links->wanted) {
        return TORC_ERR_OK;
    }
    bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1) +
            (socklen_t)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "torc-link-%s",
                                links->near);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd >= 0 && bind(*fd, (const struct sockaddr *)(const void *)&name, bytes) == 0 &&
        listen(*fd, 1) == 0) {
        return TORC_ERR_OK;
    }
    if (*fd < 0 || errno != EADDRINUSE) {
        return torc_fail(why, TORC_ERR_IO, "the lock of link %s: %s", links->near,
                         strerrordesc_np(errno));
    }
    if (connect(*fd, (const struct sockaddr *)(const void *)&name, bytes) == 0) {
        (void)getsockopt(*fd, SOL_SOCKET, SO_PEERCRED, &holder, &holder_bytes);
    }
    (void)close(*fd);
    *fd = -1;
    return torc_fail(why, TORC_ERR_IN_USE,
                     "another node (process %d) has link %s: stop that, or give this node another "
                     "--node number",
                     (int)holder.pid, links->near);
}

static enum torc_err links_do(const struct torc_links_plan *plan, const char *record, bool say,
                              struct torc_fail *why)
{
    char said[256];

    for (uint32_t i = 0; i < plan->count; i++) {
        const struct torc_links_step *step = &plan->steps[i];
        FILE *file;

        if (say) {
            (void)printf("  %s\n", step->command);
        }
        said[0] = '\0';
        if (!links_run(step->command, said, sizeof(said))) {
            if (step->may_fail) {
                (void)fprintf(stderr, "torc: %s: %s; going on without\n", step->command, said);
                continue;
            }
            return torc_fail(why, geteuid() == 0 ? TORC_ERR_IO : TORC_ERR_FORBIDDEN,
                             "%.24s…: %.60s%s", step->command, said,
                             geteuid() == 0 ? "" : "; a node makes its link as root: sudo");
        }
        if (step->undo[0] == '\0') {
            continue;
        }
        file = fopen(record, "ae");
        if (file == NULL || fprintf(file, "%s\n", step->undo) < 0 || fclose(file) != 0) {
            return torc_fail(why, TORC_ERR_IO, "%.100s: %s", record, strerrordesc_np(errno));
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_links_make(const struct torc_links *links, const char *record, bool say,
                              struct torc_fail *why)
{
    struct torc_links_seen seen;
    struct torc_links_plan plan;
    enum torc_err err;

    // Left by a start that was killed: its sizes may be others than today's.
    torc_links_remove(record);
    links_look(links, &seen);
    err = torc_links_steps(links, &seen, &plan, why);
    if (err == TORC_ERR_OK && plan.count > 0) {
        if (say) {
            (void)printf("making the link %s, removed again at the stop:\n", links->near);
        }
        err = links_do(&plan, record, say, why);
        if (err != TORC_ERR_OK) {
            torc_links_remove(record);
        }
    }
    return err;
}

bool torc_links_tap_ready(const struct torc_links *links)
{
    struct torc_links_plan plan;
    struct torc_links_seen seen;
    char said[256];

    links_look(links, &seen);
    if (!seen.near) {
        return false;
    }
    if (strcmp(seen.holder, links->near) != 0) {
        torc_links_tap_steps(links, &plan);
        for (uint32_t i = 0; i < plan.count; i++) {
            (void)links_run(plan.steps[i].command, said, sizeof(said));
        }
    }
    return true;
}
