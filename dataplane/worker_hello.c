// Torc dataplane: what a worker does before there is a session: cookies, hints, and the way to the
// session thread. See worker.h, sessions.h; docs/PROTOCOL.md, section 2.
#include "dataplane/worker_state.h"

#include <string.h>

// Continues a hash by 16 bytes.
static uint64_t hello_mix(uint64_t mixed, const unsigned char bytes[16])
{
    for (uint32_t i = 0; i < 16; i += 8) {
        uint64_t word;

        memcpy(&word, bytes + i, sizeof(word));
        mixed = (mixed ^ word) * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 32;
    }
    return mixed;
}

// Of a product only the high bits depend on all of its factors.
static uint64_t hello_mixed(uint64_t mixed)
{
    mixed *= 0xbf58476d1ce4e5b9u;
    return mixed ^ mixed >> 32;
}

// Whether a question from an address that proved nothing is answered; `what` is the same when it
// is asked again.
static bool hello_unproved(struct torc_worker *worker, const struct torc_path *path,
                           const unsigned char what[16])
{
    uint64_t question = hello_mix(hello_mix(worker->config.seed ^ path->udp_port, path->ip), what);

    if (!torc_strangers_may(&worker->strangers, worker->now_ns, hello_mixed(question))) {
        torc_worker_drop(worker, TORC_DROP_BUDGET);
        return false;
    }
    return true;
}

static struct torc_cookie_bearer hello_bearer(const struct torc_path *path, uint32_t principal)
{
    struct torc_cookie_bearer bearer = {.port = path->udp_port, .principal = principal};

    memcpy(bearer.ip, path->ip, sizeof(bearer.ip));
    return bearer;
}

static void hello_send(struct torc_worker *worker, const struct torc_path *path, const void *bytes,
                       uint32_t byte_count, enum torc_counter counter)
{
    if (!torc_answer_bare(worker, path, bytes, byte_count)) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    torc_stats_add(&worker->stats->counters[counter], 1);
}

static void hello_retry(struct torc_worker *worker, const struct torc_init *init,
                        const struct torc_path *path)
{
    struct torc_retry retry = {.core = (uint8_t)worker->index,
                               .suites = worker->cluster.security == TORC_SECURITY_CLEAR
                                             ? TORC_SUITE_CLEAR
                                             : worker->sessions->aead->suites,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = worker->cluster.node,
                               .cluster = worker->cluster.cluster};
    struct torc_cookie_bearer bearer = hello_bearer(path, 0);
    unsigned char packet[TORC_RETRY_BYTES];

    if (!hello_unproved(worker, path, init->random)) {
        return;
    }
    memcpy(retry.random, init->random, sizeof(retry.random));
    torc_cookie_make(&worker->cookie_keys, TORC_COOKIE_ADDRESS, &bearer, worker->wall_s,
                     retry.cookie);
    torc_retry_encode(packet, &retry);
    hello_send(worker, path, packet, sizeof(packet), TORC_COUNTER_RETRIES_SENT);
}

static struct torc_bucket *hello_bucket(struct torc_worker *worker, const struct torc_path *path)
{
    uint64_t mixed = hello_mixed(hello_mix(worker->config.seed, path->ip));

    return &worker->addresses[mixed % TORC_WORKER_ADDRESSES];
}

// On to the session thread, which is not a worker's to wait for.
static void hello_pass_on(struct torc_worker *worker, const struct torc_frame *frame,
                          const struct torc_path *path, enum torc_cookie_kind kind)
{
    struct torc_spsc_port *ring =
        &worker->to_thread[kind == TORC_COOKIE_TICKET ? TORC_SESSION_RING_TICKET
                                                      : TORC_SESSION_RING_COOKIE];
    struct torc_session_note *note;

    if (!torc_bucket_take(hello_bucket(worker, path), worker->now_ns, worker->config.handshakes_max,
                          worker->config.handshakes_max)) {
        torc_worker_drop(worker, TORC_DROP_INIT_BUDGET);
        return;
    }
    if (torc_spsc_writable(ring, 1) == 0) {
        torc_worker_drop(worker, TORC_DROP_INIT_RING_FULL);
        return;
    }
    note = torc_spsc_write_at(ring, 0);
    memset(note, 0, offsetof(struct torc_session_note, bytes));
    note->kind = TORC_SESSION_NOTE_INIT;
    note->index = worker->index;
    note->byte_count = TORC_INIT_BYTES;
    note->path = *path;
    memcpy(note->bytes, frame->payload, TORC_INIT_BYTES);
    torc_spsc_publish(ring, 1);
    worker->notified = true;
}

void torc_worker_hello(struct torc_worker *worker, const struct torc_frame *frame,
                       const struct torc_path *path)
{
    struct torc_init init;
    struct torc_cookie_bearer bearer;
    enum torc_cookie_kind kind;
    enum torc_drop drop = torc_init_decode(&init, frame->payload, frame->payload_bytes);

    if (drop != TORC_DROP_NONE) {
        torc_worker_drop(worker, drop);
        return;
    }
    if (!worker->configured || worker->quiescing) {
        torc_worker_drop(worker, TORC_DROP_NOT_READY);
        return;
    }
    bearer = hello_bearer(path, init.principal);
    if (!init.has_cookie ||
        !torc_cookie_check(&worker->cookie_keys, &bearer, worker->wall_s, init.cookie, &kind)) {
        hello_retry(worker, &init, path);
        return;
    }
    hello_pass_on(worker, frame, path, kind);
}

void torc_worker_hello_newer(struct torc_worker *worker, const struct torc_frame *frame,
                             const struct torc_path *path)
{
    struct torc_version version = {.versions = TORC_WIRE_VERSIONS, .node = worker->cluster.node};
    unsigned char packet[TORC_VERSION_BYTES];

    torc_init_peek_random(frame->payload, version.random);
    if (!hello_unproved(worker, path, version.random)) {
        return;
    }
    torc_version_encode(packet, &version);
    if (!torc_answer_bare(worker, path, packet, sizeof(packet))) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
    }
}

void torc_worker_nosession(struct torc_worker *worker, const struct torc_frame *frame,
                           const struct torc_path *path, uint64_t seq)
{
    struct torc_nosession nosession = {.core = (uint8_t)worker->index,
                                       .index = torc_data_peek_index(frame->payload),
                                       .seq = seq,
                                       .node = worker->cluster.node};
    struct torc_cookie_bearer bearer = hello_bearer(path, 0);
    unsigned char packet[TORC_NOSESSION_BYTES];
    unsigned char what[16] = {0}; // of all that is sent in a session, one needs an answer

    if (!worker->configured) {
        torc_worker_drop(worker, TORC_DROP_NOT_READY);
        return;
    }
    memcpy(what, &nosession.index, sizeof(nosession.index));
    if (!hello_unproved(worker, path, what)) {
        return;
    }
    torc_cookie_make(&worker->cookie_keys, TORC_COOKIE_ADDRESS, &bearer, worker->wall_s,
                     nosession.cookie);
    torc_nosession_encode(packet, &nosession);
    hello_send(worker, path, packet, sizeof(packet), TORC_COUNTER_NOSESSIONS);
}

void torc_worker_send_notes(struct torc_worker *worker)
{
    while (torc_spsc_readable(&worker->from_thread, 1) > 0) {
        const struct torc_session_note *note = torc_spsc_read_at(&worker->from_thread, 0);

        if (note->byte_count == 0) {
            torc_worker_drop(worker, (enum torc_drop)note->drop);
        } else if (worker->turn->tx_count < worker->turn->tx_room) {
            (void)torc_answer_bare(worker, &note->path, note->bytes, note->byte_count);
            torc_stats_add(&worker->stats->counters[TORC_COUNTER_SESSIONS_OPENED],
                           note->serial != 0 ? 1 : 0);
            torc_stats_add(&worker->stats->counters[TORC_COUNTER_HANDSHAKES_REFUSED],
                           note->byte_count == TORC_REFUSE_BYTES ? 1 : 0);
        } else {
            return;
        }
        torc_spsc_release(&worker->from_thread, 1);
    }
}
