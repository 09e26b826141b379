// Torc control: the admin socket. See control/admin_os.h.
#include "control/admin_os.h"

#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "kit/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ADMIN_GROUPS_MAX = 1024
};

#define ADMIN_PAUSE_NS (100 * TORC_NS_PER_MS) // control's own beat, without which nobody looks
#define ADMIN_SAID_NS  (60 * TORC_NS_PER_S)

struct admin_client {
    int fd;          // -1: free
    bool waits;      // for an answer that comes later
    bool ended;      // says nothing more; closed once its answers are out
    uint32_t asked;  // number of the request it waits for
    uint32_t events; // of its descriptor in the epoll set; 0: not in it
    uint64_t moved;  // the turn in which it last said or took something
    uint32_t line_bytes;
    char line[TORC_ADMIN_LINE_BYTES];
    char *out; // what the socket did not take
    uint64_t out_bytes;
};

struct torc_admin {
    int listener;
    int epoll_fd;
    gid_t group;
    bool has_group;
    uint32_t asked; // requests so far
    uint64_t turn;
    uint64_t again_ns; // the listener is out of the epoll set until then; 0: it is in it
    uint64_t said_ns;  // that there is no descriptor
    char path[108];
    struct admin_client clients[TORC_ADMIN_CLIENTS_MAX];
};

json_t *torc_admin_text(const char *text)
{
    char *copy = strdup(text);
    json_t *json;

    torc_assert(copy != NULL);
    torc_utf8_mend(copy);
    json = json_string(copy);
    torc_assert(json != NULL);
    free(copy);
    return json;
}

json_t *torc_admin_error(enum torc_err err, const char *text)
{
    return json_pack("{s:b, s:s, s:o}", "ok", 0, "error", torc_err_name(err), "text",
                     torc_admin_text(text));
}

static void admin_watch(struct torc_admin *admin, int fd, uint32_t before, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    int change = before == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    int failed = before == events ? 0 : epoll_ctl(admin->epoll_fd, change, fd, &event);

    torc_assert(failed == 0); // a descriptor of ours, in an epoll set of ours
}

// It is listened to while what it says can be used: who takes no answers gets no more of them.
static uint32_t admin_events(const struct admin_client *client)
{
    if (client->out_bytes > 0) {
        return EPOLLOUT;
    }
    return !client->ended && client->line_bytes < sizeof(client->line) ? EPOLLIN : 0;
}

static void admin_rewatch(struct torc_admin *admin, struct admin_client *client, uint32_t events)
{
    admin_watch(admin, client->fd, client->events, events);
    client->events = events;
}

static void admin_drop(struct torc_admin *admin, struct admin_client *client)
{
    admin_rewatch(admin, client, 0);
    (void)close(client->fd);
    free(client->out);
    *client = (struct admin_client){.fd = -1};
}

enum torc_err torc_admin_open(struct torc_admin **out, const char *run, const char *group,
                              int epoll_fd, struct torc_fail *why)
{
    struct torc_admin *admin = calloc(1, sizeof(*admin));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct group *found = getgrnam(group); // NOLINT(concurrency-mt-unsafe): one thread
    int bytes;

    torc_assert(admin != NULL);
    bytes = snprintf(admin->path, sizeof(admin->path), "%s/admin.sock", run);
    if (bytes < 0 || bytes >= (int)sizeof(admin->path)) {
        free(admin);
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.90s/admin.sock: over 107 bytes; choose a shorter --data", run);
    }
    admin->epoll_fd = epoll_fd;
    admin->has_group = found != NULL;
    admin->group = found != NULL ? found->gr_gid : 0;
    for (uint32_t i = 0; i < TORC_ADMIN_CLIENTS_MAX; i++) {
        admin->clients[i].fd = -1;
    }
    memcpy(address.sun_path, admin->path, sizeof(admin->path));
    (void)unlink(admin->path); // a dead control's: the lock of the data directory is ours
    admin->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (admin->listener < 0 ||
        bind(admin->listener, (const struct sockaddr *)(const void *)&address, sizeof(address)) !=
            0 ||
        chmod(admin->path, 0660) != 0 || listen(admin->listener, TORC_ADMIN_CLIENTS_MAX) != 0) {
        enum torc_err err = torc_fail(why, TORC_ERR_IO, "listen on %.100s: %s", admin->path,
                                      strerrordesc_np(errno));

        if (admin->listener >= 0) {
            (void)close(admin->listener);
        }
        free(admin);
        return err;
    }
    if (admin->has_group && chown(admin->path, (uid_t)-1, admin->group) != 0) {
        torc_log(TORC_LOG_WARN, "admin", "group-not-set", "group=%s reason=\"%s\"", group,
                 strerrordesc_np(errno));
    }
    admin_watch(admin, admin->listener, 0, EPOLLIN);
    *out = admin;
    return TORC_ERR_OK;
}

void torc_admin_let_pass(const struct torc_admin *admin, int folder_fd, const char *name)
{
    const mode_t looked_at = S_IXGRP | S_IWGRP | S_IXOTH | S_ISGID; // by the last its files get it
    struct stat at;

    if (!admin->has_group || geteuid() != 0 || fstat(folder_fd, &at) != 0 || at.st_uid != 0 ||
        at.st_gid != getegid() || at.st_gid == admin->group ||
        (at.st_mode & looked_at) != S_IXGRP) {
        return;
    }
    if (fchown(folder_fd, (uid_t)-1, admin->group) != 0) {
        torc_log(TORC_LOG_WARN, "admin", "group-not-set", "folder=%s reason=\"%s\"", name,
                 strerrordesc_np(errno));
    }
}

void torc_admin_close(struct torc_admin *admin)
{
    for (uint32_t i = 0; i < TORC_ADMIN_CLIENTS_MAX; i++) {
        if (admin->clients[i].fd >= 0) {
            admin_drop(admin, admin->clients + i);
        }
    }
    admin_watch(admin, admin->listener, admin->again_ns > 0 ? 0 : EPOLLIN, 0);
    (void)close(admin->listener);
    (void)unlink(admin->path);
    free(admin);
}

// Root, our own user, or a member of the group. The groups are those that the process had when it
// connected: no name service is asked, which could stand and the log with it.
static bool admin_may(const struct torc_admin *admin, int fd)
{
    struct ucred peer = {0};
    socklen_t bytes = sizeof(peer);
    gid_t groups[ADMIN_GROUPS_MAX];
    socklen_t groups_bytes = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        return false;
    }
    if (peer.uid == 0 || peer.uid == geteuid() || (admin->has_group && peer.gid == admin->group)) {
        return true;
    }
    if (!admin->has_group ||
        getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_bytes) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < groups_bytes / sizeof(groups[0]); i++) {
        if (groups[i] == admin->group) {
            return true;
        }
    }
    return false;
}

// A free place; else that of who has been silent longest, of those who wait for no answer if there
// is one: connections that were forgotten keep nobody out.
static struct admin_client *admin_place(struct torc_admin *admin)
{
    struct admin_client *place = admin->clients;

    for (uint32_t i = 0; i < TORC_ADMIN_CLIENTS_MAX; i++) {
        struct admin_client *client = admin->clients + i;

        if (client->fd < 0) {
            return client;
        }
        if (client->waits == place->waits ? client->moved < place->moved : place->waits) {
            place = client;
        }
    }
    torc_log(TORC_LOG_WARN, "admin", "dropped", "note=\"silent longest of %d connections\"",
             TORC_ADMIN_CLIENTS_MAX);
    admin_drop(admin, place);
    return place;
}

// Whoever waits to be let in stays there, and its readable listener would keep control turning.
static void admin_pause(struct torc_admin *admin, int reason)
{
    uint64_t now_ns = torc_clock_now_ns();

    if (admin->again_ns == 0) {
        admin_watch(admin, admin->listener, EPOLLIN, 0);
    }
    admin->again_ns = now_ns + ADMIN_PAUSE_NS;
    if (admin->said_ns == 0 || now_ns - admin->said_ns >= ADMIN_SAID_NS) {
        admin->said_ns = now_ns;
        torc_log(TORC_LOG_WARN, "admin", "no-descriptor",
                 "reason=\"%s\" note=\"who connects to admin.sock waits\"",
                 strerrordesc_np(reason));
    }
}

static void admin_accept(struct torc_admin *admin)
{
    struct admin_client *client;
    int fd;

    if (admin->again_ns > 0 && torc_clock_now_ns() < admin->again_ns) {
        return;
    }
    fd = accept4(admin->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
        admin_pause(admin, errno);
        return;
    }
    if (admin->again_ns > 0) {
        admin->again_ns = 0;
        admin_watch(admin, admin->listener, 0, EPOLLIN);
    }
    if (fd < 0) {
        return;
    }
    if (!admin_may(admin, fd)) {
        torc_log(TORC_LOG_WARN, "admin", "refused", "reason=\"not root, nor our user or group\"");
        (void)close(fd);
        return;
    }
    client = admin_place(admin);
    client->fd = fd;
    client->moved = admin->turn;
    admin_rewatch(admin, client, EPOLLIN);
}

// Sends what waits, as far as the socket takes it.
static void admin_send(struct torc_admin *admin, struct admin_client *client)
{
    int64_t sent = 0;

    if (client->out_bytes > 0) {
        sent = send(client->fd, client->out, client->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        admin_drop(admin, client);
        return;
    }
    if (sent > 0) {
        client->moved = admin->turn;
        client->out_bytes -= (uint64_t)sent;
        memmove(client->out, client->out + sent, client->out_bytes);
    }
    if (client->ended && client->out_bytes == 0 && !client->waits &&
        memchr(client->line, '\n', client->line_bytes) == NULL) {
        admin_drop(admin, client);
    }
}

static void admin_say(struct torc_admin *admin, struct admin_client *client, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    uint64_t bytes = text != NULL ? strlen(text) : 0;

    torc_assert(text != NULL); // our own values are valid UTF-8
    client->out = realloc(client->out, client->out_bytes + bytes + 1);
    torc_assert(client->out != NULL);
    memcpy(client->out + client->out_bytes, text, bytes);
    client->out[client->out_bytes + bytes] = '\n';
    client->out_bytes += bytes + 1;
    free(text);
    json_decref(answer);
    admin_send(admin, client);
}

void torc_admin_finish(struct torc_admin *admin, uint32_t asked, json_t *answer)
{
    for (uint32_t i = 0; i < TORC_ADMIN_CLIENTS_MAX; i++) {
        struct admin_client *client = admin->clients + i;

        if (client->fd >= 0 && client->waits && client->asked == asked) {
            client->waits = false;
            admin_say(admin, client, answer);
            return;
        }
    }
    json_decref(answer); // it has gone
}

// One request of `bytes` at the head of the client's line.
static void admin_request(struct torc_admin *admin, struct admin_client *client, uint32_t bytes,
                          torc_admin_answer answer, void *context)
{
    json_error_t error;
    json_t *request = json_loadb(client->line, bytes, 0, &error);
    json_t *said = NULL;

    client->waits = true;
    client->asked = ++admin->asked;
    if (request == NULL || !json_is_object(request)) {
        said = torc_admin_error(TORC_ERR_INVALID_ARGUMENT,
                                "one JSON object a line expected, as {\"command\":\"status\"}");
    } else {
        said = answer(context, client->asked, request);
    }
    json_decref(request);
    if (said != NULL) {
        client->waits = false;
        admin_say(admin, client, said);
    }
}

// Takes what the socket has.
static void admin_receive(struct torc_admin *admin, struct admin_client *client)
{
    int64_t got;

    if (admin_events(client) != EPOLLIN) {
        return;
    }
    got = recv(client->fd, client->line + client->line_bytes,
               sizeof(client->line) - client->line_bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got < 0) {
        admin_drop(admin, client);
        return;
    }
    client->ended = got == 0; // it may still wait for an answer
    client->moved = admin->turn;
    client->line_bytes += (uint32_t)got;
}

static void admin_read(struct torc_admin *admin, struct admin_client *client,
                       torc_admin_answer answer, void *context)
{
    admin_receive(admin, client);
    while (client->fd >= 0 && !client->waits && client->out_bytes == 0) {
        char *end = memchr(client->line, '\n', client->line_bytes);
        uint32_t bytes = end != NULL ? (uint32_t)(end - client->line) : 0;

        if (end == NULL && client->line_bytes == sizeof(client->line)) {
            client->ended = true;
            client->line_bytes = 0;
            admin_say(admin, client,
                      torc_admin_error(TORC_ERR_TOO_LARGE, "a line of over 4096 bytes"));
            return;
        }
        if (end == NULL) {
            return;
        }
        admin_request(admin, client, bytes, answer, context);
        if (client->fd >= 0) {
            client->line_bytes -= bytes + 1;
            memmove(client->line, end + 1, client->line_bytes);
        }
    }
}

void torc_admin_step(struct torc_admin *admin, torc_admin_answer answer, void *context)
{
    admin->turn++;
    admin_accept(admin);
    for (uint32_t i = 0; i < TORC_ADMIN_CLIENTS_MAX; i++) {
        if (admin->clients[i].fd >= 0) {
            admin_send(admin, admin->clients + i);
        }
        if (admin->clients[i].fd >= 0) {
            admin_read(admin, admin->clients + i, answer, context);
        }
        if (admin->clients[i].fd >= 0) {
            admin_send(admin, admin->clients + i);
        }
        if (admin->clients[i].fd >= 0) {
            admin_rewatch(admin, admin->clients + i, admin_events(admin->clients + i));
        }
    }
}
