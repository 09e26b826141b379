// Torc control: who has a session with this node. See control/node_os.h, and "The list of sessions"
// in kit/chan.h.
//
// What    page after page is asked for and merged; of many sessions those heard of last are kept.
//         Whoever asks while a list is being made gets the next one: each list is of a time after
//         its question.
#include "control/node_os.h"
#include "kit/clock_os.h"
#include "wire/aead.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS_KEPT    4096u // shown at most
#define SESSIONS_DEFAULT 100u  // shown when no limit is given
#define SESSIONS_ROOM    (2 * SESSIONS_KEPT + TORC_CHAN_SESSIONS_PAGE)
// A page comes within a second also when the session thread was not rung.
#define SESSIONS_WAIT_NS (5 * TORC_NS_PER_S)

struct sessions_asker {
    uint32_t asked; // of the admin socket
    uint32_t limit;
};

struct torc_node_sessions {
    struct sessions_asker askers[TORC_ADMIN_CLIENTS_MAX];
    uint32_t asker_count;
    uint32_t served; // the first of them are who the present list is for
    uint64_t asked;  // the number of our question
    uint64_t asked_ns;
    uint64_t open; // sessions seen so far
    uint32_t count;
    struct torc_chan_session rows[SESSIONS_ROOM];
};

// Those heard of last come first.
static int rows_order(const void *a, const void *b)
{
    const struct torc_chan_session *left = a;
    const struct torc_chan_session *right = b;

    if (left->seen_s != right->seen_s) {
        return left->seen_s > right->seen_s ? -1 : 1;
    }
    if (left->made_ns != right->made_ns) {
        return left->made_ns > right->made_ns ? -1 : 1;
    }
    return (left->index > right->index) - (left->index < right->index);
}

static void sessions_sort(struct torc_node_sessions *sessions)
{
    qsort(sessions->rows, sessions->count, sizeof(sessions->rows[0]), rows_order);
    sessions->count = (uint32_t)torc_min_u64(sessions->count, SESSIONS_KEPT);
}

static void sessions_ask(struct torc_node *node, uint32_t from)
{
    struct torc_chan_sessions *page = torc_chan_sessions(node->attach.chan);
    struct torc_node_sessions *sessions = node->sessions;

    sessions->asked = atomic_load_explicit(&page->asked, memory_order_relaxed) + 1;
    sessions->asked_ns = node->now_ns;
    atomic_store_explicit(&page->from, from, memory_order_relaxed);
    // Release: pairs with the session thread's acquire, which then has the page.
    atomic_store_explicit(&page->asked, sessions->asked, memory_order_release);
}

// A list for all who ask now.
static void sessions_begin(struct torc_node *node)
{
    const struct torc_cmd order = {.kind = TORC_CMD_SESSIONS_ASKED};

    node->sessions->served = node->sessions->asker_count;
    node->sessions->open = 0;
    node->sessions->count = 0;
    sessions_ask(node, 0);
    (void)!torc_attach_cmd(&node->attach, 0, &order); // no room: the thread looks by itself
}

// -- Showing -------------------------------------------------------------------------------------

static const char *suite_text(uint8_t suite)
{
    switch (suite) {
    case TORC_SUITE_CLEAR: return "CLEAR";
    case TORC_SUITE_AES_256_GCM: return "AES-256-GCM";
    case TORC_SUITE_CHACHA20_POLY1305: return "ChaCha20-Poly1305";
    default: return "?";
    }
}

static const char *principal_name(const struct torc_node *node, uint32_t number)
{
    for (uint32_t i = 0; i < node->keys.count; i++) {
        if (node->keys.known[i].number == number) {
            return node->keys.known[i].name;
        }
    }
    return number == 0 ? "-" : "?";
}

static void address_text(const struct torc_chan_session *row, char *text, uint32_t bytes)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char ip[INET6_ADDRSTRLEN] = "";
    bool four = memcmp(row->ip, mapped, sizeof(mapped)) == 0;

    (void)inet_ntop(four ? AF_INET : AF_INET6, four ? row->ip + 12 : row->ip, ip, sizeof(ip));
    (void)snprintf(text, bytes, four ? "%s:%u" : "[%s]:%u", ip, row->port);
}

// Bytes of a stranger's choice: what is not printable is shown as '?'.
static void agent_text(const struct torc_chan_session *row, char text[TORC_CHAN_AGENT_BYTES + 1])
{
    uint32_t count = 0;

    while (count < TORC_CHAN_AGENT_BYTES && row->agent[count] != '\0') {
        char byte = row->agent[count];

        text[count++] = (char)(byte >= 0x20 && byte < 0x7f ? byte : '?');
    }
    text[count] = '\0';
}

static json_t *row_answer(const struct torc_node *node, const struct torc_chan_session *row)
{
    char agent[TORC_CHAN_AGENT_BYTES + 1];
    char address[INET6_ADDRSTRLEN + 16];
    char index[16];
    uint64_t now_s = node->now_ns / TORC_NS_PER_S;

    agent_text(row, agent);
    address_text(row, address, sizeof(address));
    (void)snprintf(index, sizeof(index), "%08" PRIx32, row->index);
    return json_pack(
        "{s:s, s:I, s:s, s:s, s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "index", index,
        "principal", (json_int_t)row->principal, "name", principal_name(node, row->principal),
        "address", address, "lane", (int)row->lane, "agent", agent, "suite", suite_text(row->suite),
        "state", row->state == TORC_CHAN_SESSION_OPEN ? "open" : "half-open", "age_s",
        (json_int_t)(now_s - torc_min_u64(row->made_ns / TORC_NS_PER_S, now_s)), "idle_s",
        (json_int_t)(now_s - torc_min_u64(row->seen_s, now_s)), "packets_in",
        (json_int_t)(row->packets_in & INT64_MAX), "packets_out",
        (json_int_t)(row->packets_out & INT64_MAX), "in_flight", (json_int_t)row->in_flight);
}

static json_t *list_answer(const struct torc_node *node, uint32_t limit)
{
    const struct torc_node_sessions *sessions = node->sessions;
    uint32_t shown = (uint32_t)torc_min_u64(sessions->count, limit);
    json_t *rows = json_array();

    for (uint32_t i = 0; i < shown; i++) {
        int failed = json_array_append_new(rows, row_answer(node, &sessions->rows[i]));

        torc_assert(failed == 0);
    }
    return json_pack("{s:b, s:I, s:I, s:o}", "ok", 1, "open", (json_int_t)sessions->open,
                     "left_out", (json_int_t)(sessions->open - shown), "sessions", rows);
}

// -- Life ----------------------------------------------------------------------------------------

// Answers whom the list was for, then begins anew for the others, if there are any.
static void sessions_finish(struct torc_node *node, enum torc_err err, const char *text)
{
    struct torc_node_sessions *sessions = node->sessions;
    uint32_t done = err == TORC_ERR_OK ? sessions->served : sessions->asker_count;

    for (uint32_t i = 0; i < done; i++) {
        torc_admin_finish(node->admin, sessions->askers[i].asked,
                          err == TORC_ERR_OK ? list_answer(node, sessions->askers[i].limit)
                                             : torc_admin_error(err, text));
    }
    sessions->asker_count -= done;
    memmove(sessions->askers, sessions->askers + done,
            sessions->asker_count * sizeof(sessions->askers[0]));
    if (sessions->asker_count > 0) {
        sessions_begin(node);
    } else {
        free(sessions);
        node->sessions = NULL;
    }
}

static void sessions_take(struct torc_node *node, const struct torc_chan_sessions *page)
{
    struct torc_node_sessions *sessions = node->sessions;
    uint32_t count = page->count;
    uint32_t next = page->next;

    if (count > TORC_CHAN_SESSIONS_PAGE) {
        sessions_finish(node, TORC_ERR_CORRUPT, "the dataplane's list of sessions makes no sense");
        return;
    }
    memcpy(sessions->rows + sessions->count, page->rows, count * sizeof(page->rows[0]));
    sessions->count += count;
    sessions->open += count;
    if (sessions->count >= 2 * SESSIONS_KEPT || next == UINT32_MAX) {
        sessions_sort(sessions);
    }
    if (next == UINT32_MAX) {
        sessions_finish(node, TORC_ERR_OK, NULL);
    } else {
        sessions_ask(node, next);
    }
}

void torc_node_sessions_step(struct torc_node *node)
{
    const struct torc_chan_sessions *page;

    if (node->sessions == NULL) {
        return;
    }
    if (!node->attached) {
        sessions_finish(node, TORC_ERR_UNAVAILABLE, "the dataplane went away meanwhile");
        return;
    }
    page = torc_chan_sessions(node->attach.chan);
    // Acquire: pairs with the session thread's release.
    if (atomic_load_explicit(&page->answered, memory_order_acquire) == node->sessions->asked) {
        sessions_take(node, page);
    } else if (node->now_ns - node->sessions->asked_ns > SESSIONS_WAIT_NS) {
        sessions_finish(node, TORC_ERR_UNAVAILABLE, "the dataplane's session thread says nothing");
    }
}

json_t *torc_node_answer_sessions(struct torc_node *node, uint32_t asked, const json_t *request)
{
    const json_t *limit = json_object_get(request, "limit");
    json_int_t wanted = limit != NULL ? json_integer_value(limit) : SESSIONS_DEFAULT;

    if (wanted < 1 || wanted > SESSIONS_KEPT) {
        return torc_admin_error(TORC_ERR_INVALID_ARGUMENT, "\"limit\": a number from 1 to 4096");
    }
    if (!node->attached) {
        return torc_admin_error(TORC_ERR_UNAVAILABLE,
                                "torc-dataplane is not running: nobody has a session");
    }
    if (node->sessions == NULL) {
        node->sessions = calloc(1, sizeof(*node->sessions));
        torc_assert(node->sessions != NULL);
    }
    if (node->sessions->asker_count == TORC_ADMIN_CLIENTS_MAX) {
        return torc_admin_error(TORC_ERR_BUSY, "too many wait for a list of sessions");
    }
    node->sessions->askers[node->sessions->asker_count++] =
        (struct sessions_asker){.asked = asked, .limit = (uint32_t)wanted};
    if (node->sessions->asker_count == 1) {
        sessions_begin(node);
    }
    return NULL;
}
