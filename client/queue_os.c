// Torc client: the queue of torc.h: the engine, a transport, clocks, randomness and the fork check.
//
// Owner   the caller's thread; a queue has none of its own.
// Memory  two mappings made at open: the engine's, and a page that a fork wipes, as it does with
//         the part of the engine's where keys lie, which core dumps leave out as well.
#include "client/queue_os.h"

#include "client/guard_os.h"
#include "client/key_os.h"
#include "client/transport.h"
#include "kit/clock_os.h"
#include "wire/aead_os.h"

#include <sodium.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TIMEOUT_DEFAULT_US UINT64_C(10000000)
#define MEMORY_DEFAULT     (UINT64_C(64) << 20)
#define MEMORY_LEAST       (UINT64_C(4) << 20)
#define MEMORY_MOST        (UINT64_C(1) << 38) // what a pool can count
#define OPERATIONS_DEFAULT 1024u
#define RECEIVE_ROUNDS     16u // bursts a turn: a flood must not keep a caller from its completions
#define ADDRESS_BYTES      4096
// A reading of the clock is good for so many ticks of the processor's counter, 20 to 70 us: for
// deadlines and time-outs that is now, and a reading an operation would cost a third of it.
#define FRESH_TICKS 100000u
#define ALIVE       UINT64_C(0x746f72636c697665)
#define ARMED_NOW   1u // a time that is over

struct torc_queue {
    struct torc_queue *self; // for torc_queue_fd, which makes its descriptor on first use
    struct torc_engine *engine;
    const struct torc_transport_code *code;
    void *transport;
    uint64_t *alive; // ALIVE, or 0 in a child: the page is wiped by fork()
    uint8_t *buffers;
    void *mapping;
    uint64_t mapping_bytes;
    uint64_t timeout_us;
    uint64_t spin_ns;
    uint64_t now_ns; // as the engine knows it
    uint64_t now_wall_us;
    uint64_t read_ticks; // the processor's counter when the clocks were read
    uint64_t wall_us;    // of CLOCK_REALTIME, read seldom, since the server's HLC counts
    uint64_t wall_at_ns;
    uint64_t armed_ns; // what the timer of torc_queue_fd() is set to
    int epoll;
    int timer;
    bool broken; // a bug was met: only INTERNAL from now on
    uint32_t abandoned;
    uint32_t payload_bytes;
    struct torc_fail fail;
    char broken_text[TORC_GUARD_TEXT_BYTES];
    struct torc_datagram out[TORC_TRANSPORT_BURST];
    struct torc_datagram in[TORC_TRANSPORT_BURST];
};

// ---- The guard

// The descriptor becomes readable at that time, and stays so until another one is set.
static void queue_arm_at(struct torc_queue *queue, uint64_t at_ns)
{
    struct itimerspec time = {0};

    if (at_ns == queue->armed_ns) {
        return;
    }
    queue->armed_ns = at_ns;
    if (at_ns != UINT64_MAX) {
        at_ns = torc_max_u64(at_ns, ARMED_NOW); // 0 would disarm it
        time.it_value.tv_sec = (time_t)(at_ns / TORC_NS_PER_S);
        time.it_value.tv_nsec = (long)(at_ns % TORC_NS_PER_S);
    }
    (void)timerfd_settime(queue->timer, TFD_TIMER_ABSTIME, &time, NULL);
}

static enum torc_err queue_refuse(struct torc_queue *queue)
{
    if (*queue->alive != ALIVE) {
        return torc_fail(
            &queue->fail, TORC_ERR_CLOSED,
            "this process was forked from the one that opened the queue: open its own");
    }
    return torc_fail(&queue->fail, TORC_ERR_INTERNAL, "%s", queue->broken_text);
}

// All work with the engine goes through here: a failed assertion comes back as INTERNAL.
static enum torc_err queue_do(struct torc_queue *queue, void (*work)(struct torc_queue *, void *),
                              void *argument)
{
    struct torc_guard guard;
    struct torc_guard *before;

    if (*queue->alive != ALIVE || queue->broken) {
        return queue_refuse(queue);
    }
    guard.text = queue->broken_text;
    before = torc_guard_set(&guard);
    if (setjmp(guard.jump) != 0) { // NOLINT(cert-err52-cpp): the one way back out of a bug
        (void)torc_guard_set(NULL);
        queue->broken = true;
        if (queue->timer >= 0) {
            queue_arm_at(queue, ARMED_NOW); // for what was in flight
        }
        return queue_refuse(queue);
    }
    work(queue, argument);
    (void)torc_guard_set(before);
    return TORC_ERR_OK;
}

// ---- Turning

static uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

// Whether what the engine takes for now is so no more.
static bool queue_is_stale(const struct torc_queue *queue)
{
    uint64_t now_ticks = ticks();

    return now_ticks == 0 || now_ticks - queue->read_ticks > FRESH_TICKS;
}

// Reads the clocks; the engine's timers run later (queue_timers).
static void queue_time(struct torc_queue *queue)
{
    uint64_t now_ns = torc_clock_now_ns();

    if (queue->wall_us == 0 || now_ns - queue->wall_at_ns > TORC_NS_PER_S) {
        queue->wall_us = torc_clock_wall_ns() / TORC_NS_PER_US;
        queue->wall_at_ns = now_ns;
    }
    queue->now_ns = now_ns;
    queue->now_wall_us = queue->wall_us + (now_ns - queue->wall_at_ns) / TORC_NS_PER_US;
    queue->read_ticks = ticks();
    torc_engine_time(queue->engine, now_ns, queue->now_wall_us);
}

static void queue_timers(struct torc_queue *queue)
{
    torc_engine_clock(queue->engine, queue->now_ns, queue->now_wall_us);
}

static void queue_send(struct torc_queue *queue)
{
    uint32_t count;

    do {
        count = 0;
        while (count < TORC_TRANSPORT_BURST) {
            queue->out[count].payload = queue->buffers + (uint64_t)count * queue->payload_bytes;
            if (!torc_engine_transmit(queue->engine, &queue->out[count])) {
                break;
            }
            count++;
        }
        if (count > 0) {
            queue->code->send(queue->transport, queue->out, count);
        }
    } while (count == TORC_TRANSPORT_BURST);
}

// All that has arrived, then the timers: what lies here is not lost.
static void queue_receive(struct torc_queue *queue)
{
    uint32_t rounds = 0;
    uint32_t count;

    do {
        count = queue->code->receive(queue->transport, queue->in);
        if (rounds == 0) {
            if (count == 0 && !queue_is_stale(queue)) {
                return;
            }
            queue_time(queue); // behind the packets: a round trip is measured to here
        }
        for (uint32_t i = 0; i < count; i++) {
            torc_engine_receive(queue->engine, &queue->in[i].to, queue->in[i].payload,
                                queue->in[i].bytes);
        }
    } while (count == TORC_TRANSPORT_BURST && ++rounds < RECEIVE_ROUNDS);
    queue_timers(queue);
}

// A caller with an event loop sleeps on the descriptor: its timer follows the engine's, and it is
// readable as long as completions lie here that nobody has taken.
static void queue_arm(struct torc_queue *queue)
{
    if (queue->timer >= 0) {
        queue_arm_at(queue, torc_engine_poll_due(queue->engine)
                                ? ARMED_NOW
                                : torc_engine_deadline_ns(queue->engine));
    }
}

static void turn_work(struct torc_queue *queue, void *argument)
{
    (void)argument;
    queue_receive(queue);
    queue_send(queue);
    queue_arm(queue);
}

static void submit_work(struct torc_queue *queue, void *argument)
{
    (void)argument;
    if (queue_is_stale(queue)) {
        queue_time(queue);
    }
    queue_send(queue);
    queue_arm(queue);
}

// ---- Opening

// The address of the node of this machine, as `torc serve` wrote it down.
static enum torc_err default_address(char *address, struct torc_fail *why)
{
    const char *named = getenv("TORC_CLUSTER"); // NOLINT(concurrency-mt-unsafe)
    char path[TORC_CLIENT_PATH_BYTES];
    enum torc_err err;
    ssize_t bytes;
    int file;

    if (named != NULL && named[0] != '\0') {
        if (strlen(named) >= ADDRESS_BYTES) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "TORC_CLUSTER is too long");
        }
        memcpy(address, named, strlen(named) + 1);
        return TORC_ERR_OK;
    }
    err = torc_client_path("run/cluster", path, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED,
                         "no address given, no TORC_CLUSTER set, and no node here (%s: %s)", path,
                         strerrordesc_np(errno));
    }
    bytes = read(file, address, ADDRESS_BYTES - 1);
    (void)close(file);
    bytes = bytes < 0 ? 0 : bytes;
    while (bytes > 0 && (address[bytes - 1] == '\n' || address[bytes - 1] == ' ')) {
        bytes--;
    }
    address[bytes] = '\0';
    if (bytes == 0) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED, "%s holds no address", path);
    }
    return TORC_ERR_OK;
}

static enum torc_err options_check(const struct torc_options *options, struct torc_fail *why)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(options->reserved); i++) {
        if (options->reserved[i] != 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "options: `reserved` must be zero; start from {0}");
        }
    }
    if (options->operations > TORC_ENGINE_OPERATIONS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "options: %u operations, at most %u",
                         options->operations, TORC_ENGINE_OPERATIONS_MAX);
    }
    if (options->memory_bytes != 0 &&
        (options->memory_bytes < MEMORY_LEAST || options->memory_bytes > MEMORY_MOST)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "options: %" PRIu64 " bytes of memory, from %" PRIu64 " to %" PRIu64,
                         options->memory_bytes, MEMORY_LEAST, MEMORY_MOST);
    }
    return TORC_ERR_OK;
}

static enum torc_err config_make(struct torc_engine_config *config,
                                 const struct torc_options *options,
                                 const struct torc_transport_facts *facts, struct torc_fail *why)
{
    uint64_t random[2];
    uint8_t secret[sizeof(config->secret)];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random) ||
        getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret)) {
        return torc_fail(why, TORC_ERR_IO, "getrandom: %s", strerrordesc_np(errno));
    }
    // The client id never follows from the seed: two runs under one would share their exactly-once
    // memory on the server, and the second would get the first one's answers.
    *config = (struct torc_engine_config){
        .client_id = random[0] & ~UINT64_C(0xff),
        .seed = options->seed != 0 ? options->seed : random[1],
        .pool_bytes = options->memory_bytes != 0 ? options->memory_bytes : MEMORY_DEFAULT,
        .timeout_us = options->timeout_us != 0 ? options->timeout_us : TIMEOUT_DEFAULT_US,
        .operations = options->operations != 0 ? options->operations : OPERATIONS_DEFAULT,
        .nodes = TORC_ENGINE_NODES_MAX,
        .payload_bytes = facts->payload_bytes,
        .read_rto_us = facts->read_rto_us,
        .one_node = facts->one_node,
        .may_nap = options->transport_spin == 0,
        .aead = torc_aead_code_best()};
    memcpy(config->secret, secret, sizeof(secret));
    sodium_memzero(secret, sizeof(secret));
    return torc_client_key_find(options->key_file, &config->key, config->key_text,
                                sizeof(config->key_text), why);
}

static enum torc_err queue_map_memory(struct torc_queue *queue,
                                      const struct torc_engine_config *config,
                                      struct torc_fail *why)
{
    uint64_t engine_bytes = torc_engine_bytes(config);
    void *page;

    queue->mapping_bytes = engine_bytes + (uint64_t)config->payload_bytes * TORC_TRANSPORT_BURST;
    queue->mapping = mmap(NULL, queue->mapping_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        queue->alive = page;
        *queue->alive = ALIVE; // before anything that may fail: else it looks like a forked one's
    }
    if (queue->mapping == MAP_FAILED || page == MAP_FAILED ||
        madvise(page, 4096, MADV_WIPEONFORK) != 0 ||
        madvise(queue->mapping, torc_engine_secret_bytes(config), MADV_WIPEONFORK) != 0 ||
        madvise(queue->mapping, torc_engine_secret_bytes(config), MADV_DONTDUMP) != 0) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "a queue of %" PRIu64 " bytes: %s",
                         queue->mapping_bytes, strerrordesc_np(errno));
    }
    queue->buffers = (uint8_t *)queue->mapping + engine_bytes;
    return TORC_ERR_OK;
}

static void queue_free(struct torc_queue *queue)
{
    bool forked = queue->alive != NULL && *queue->alive != ALIVE;

    if (queue->transport != NULL) {
        queue->code->close(queue->transport, forked);
    }
    if (queue->timer >= 0) {
        (void)close(queue->timer);
        (void)close(queue->epoll);
    }
    if (queue->mapping != MAP_FAILED) {
        (void)munmap(queue->mapping, queue->mapping_bytes);
    }
    if (queue->alive != NULL) {
        (void)munmap(queue->alive, 4096);
    }
    free(queue);
}

struct start {
    const struct torc_engine_config *config;
    const struct torc_transport_facts *facts;
    enum torc_err err;
};

static void start_work(struct torc_queue *queue, void *argument)
{
    struct start *start = argument;

    queue->engine = torc_engine_init(queue->mapping, start->config, torc_clock_now_ns(),
                                     torc_clock_wall_ns() / TORC_NS_PER_US);
    for (uint32_t i = 0; i < start->facts->seed_count && start->err == TORC_ERR_OK; i++) {
        start->err = torc_engine_seed(queue->engine, &start->facts->seeds[i], &queue->fail);
    }
}

static enum torc_err queue_start(struct torc_queue *queue, const char *address,
                                 const struct torc_options *options, struct torc_fail *why)
{
    struct torc_transport_facts facts = {.seed_count = 0};
    struct torc_engine_config config = {.operations = 0};
    struct start start = {.config = &config, .facts = &facts};
    enum torc_err err;

    queue->code = torc_transport_find(address, why);
    if (queue->code == NULL) {
        return why->err;
    }
    err = queue->code->open(&queue->transport, address, &facts, why);
    if (err == TORC_ERR_OK) {
        err = config_make(&config, options, &facts, why);
    }
    if (err == TORC_ERR_OK) {
        err = queue_map_memory(queue, &config, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    queue->timeout_us = config.timeout_us;
    queue->spin_ns = (uint64_t)options->transport_spin * TORC_NS_PER_US;
    queue->payload_bytes = config.payload_bytes;
    err = queue_do(queue, start_work, &start);
    err = err == TORC_ERR_OK ? start.err : err;
    sodium_memzero(&config, sizeof(config));
    if (err != TORC_ERR_OK) {
        *why = queue->fail;
    }
    return err;
}

static void message_set(struct torc_message *message, const struct torc_fail *fail)
{
    if (message != NULL) {
        message->err = fail->err;
        (void)snprintf(message->text, sizeof(message->text), "%s", fail->text);
    }
}

enum torc_err torc_queue_open(const char *address, const struct torc_options *options,
                              struct torc_queue **queue, struct torc_message *why)
{
    static const struct torc_options defaults;
    struct torc_fail fail = {.err = TORC_ERR_OK};
    char named[ADDRESS_BYTES];
    struct torc_queue *made = calloc(1, sizeof(*made));
    enum torc_err err;

    *queue = NULL;
    options = options == NULL ? &defaults : options;
    if (made == NULL) {
        err = torc_fail(&fail, TORC_ERR_NO_SPACE, "no memory for a queue");
        message_set(why, &fail);
        return err;
    }
    made->mapping = MAP_FAILED;
    made->epoll = made->timer = -1;
    err = options_check(options, &fail);
    if (err == TORC_ERR_OK && (address == NULL || address[0] == '\0')) {
        err = default_address(named, &fail);
        address = named;
    }
    if (err == TORC_ERR_OK) {
        err = queue_start(made, address, options, &fail);
    }
    if (err != TORC_ERR_OK) {
        queue_free(made);
        message_set(why, &fail);
        return err;
    }
    made->self = made;
    *queue = made;
    message_set(why, &fail);
    return TORC_ERR_OK;
}

static void close_work(struct torc_queue *queue, void *argument)
{
    (void)argument;
    queue_time(queue);
    torc_engine_close(queue->engine);
    queue_send(queue);
}

void torc_queue_close(struct torc_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    (void)queue_do(queue, close_work, NULL); // a broken or forked queue says no good-bye
    queue_free(queue);
}

// ---- Asking

const char *torc_queue_message(const struct torc_queue *queue)
{
    return queue->fail.text;
}

unsigned torc_queue_pending(const struct torc_queue *queue)
{
    if (*queue->alive != ALIVE) {
        return 0;
    }
    return queue->broken ? torc_engine_abandoned(queue->engine, queue->abandoned)
                         : torc_engine_pending(queue->engine);
}

uint64_t torc_queue_timeout_us(const struct torc_queue *queue)
{
    return queue->timeout_us;
}

enum torc_err torc_queue_limits(struct torc_queue *queue, struct torc_limits *limits)
{
    *limits = (struct torc_limits){0};
    if (*queue->alive != ALIVE) {
        return queue_refuse(queue);
    }
    torc_engine_limits(queue->engine, limits);
    if (limits->keys == 0) {
        return torc_fail(&queue->fail, TORC_ERR_NOT_CONNECTED,
                         "limits are known once the first session stands");
    }
    return TORC_ERR_OK;
}

void torc_queue_counters(const struct torc_queue *queue, struct torc_counters *counters)
{
    *counters = (struct torc_counters){0};
    if (*queue->alive == ALIVE) {
        torc_engine_counters(queue->engine, counters);
    }
}

enum torc_err torc_queue_last_trace(const struct torc_queue *queue, struct torc_trace *trace)
{
    *trace = (struct torc_trace){0};
    return *queue->alive == ALIVE && torc_engine_trace(queue->engine, trace) ? TORC_ERR_OK
                                                                             : TORC_ERR_NOT_FOUND;
}

uint32_t torc_queue_shards(const struct torc_queue *queue, struct torc_shard *shards, uint32_t max)
{
    return *queue->alive == ALIVE ? torc_engine_shards(queue->engine, shards, max) : 0;
}

int torc_queue_fd(const struct torc_queue *queue_const)
{
    // The descriptor is made when it is asked for first, and nothing that the caller can see
    // changes.
    struct torc_queue *queue = queue_const->self;
    struct epoll_event event = {.events = EPOLLIN};
    int packets = *queue->alive == ALIVE ? queue->code->descriptor(queue->transport) : -1;

    if (packets < 0 || queue->timer >= 0) {
        return packets < 0 ? -1 : queue->epoll;
    }
    queue->epoll = epoll_create1(EPOLL_CLOEXEC);
    queue->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (queue->epoll < 0 || queue->timer < 0 ||
        epoll_ctl(queue->epoll, EPOLL_CTL_ADD, packets, &event) != 0 ||
        epoll_ctl(queue->epoll, EPOLL_CTL_ADD, queue->timer, &event) != 0) {
        if (queue->epoll >= 0) {
            (void)close(queue->epoll);
        }
        if (queue->timer >= 0) {
            (void)close(queue->timer);
        }
        queue->epoll = queue->timer = -1;
        return -1;
    }
    queue->armed_ns = UINT64_MAX;
    queue_arm(queue);
    return queue->epoll;
}

// ---- Preparing

enum prep_kind {
    PREP_GET,
    PREP_WRITE,
    PREP_RANGE,
    PREP_STATUS
};

struct prep {
    enum prep_kind kind;
    enum torc_err err;
    uint64_t key;
    uint64_t user_data;
    uint64_t timeout_us;
    uint32_t node;
    const struct torc_read_options *read;
    const struct torc_engine_write *write;
    const struct torc_engine_range *range;
};

static void prep_work(struct torc_queue *queue, void *argument)
{
    struct prep *prep = argument;
    bool traced = (prep->read != NULL && (prep->read->flags & TORC_TRACED) != 0) ||
                  (prep->write != NULL && prep->write->traced);

    if (traced || queue_is_stale(queue)) {
        queue_time(queue);
    }
    switch (prep->kind) {
    case PREP_GET:
        prep->err =
            torc_engine_get(queue->engine, prep->key, prep->read, prep->user_data, &queue->fail);
        return;
    case PREP_WRITE:
        prep->err = torc_engine_write(queue->engine, prep->write, &queue->fail);
        return;
    case PREP_RANGE:
        prep->err = torc_engine_range(queue->engine, prep->range, &queue->fail);
        return;
    case PREP_STATUS:
        prep->err = torc_engine_status(queue->engine, prep->node, prep->timeout_us, prep->user_data,
                                       &queue->fail);
        return;
    }
    torc_unreachable("a kind of the enum");
}

static enum torc_err queue_prepare(struct torc_queue *queue, struct prep *prep)
{
    enum torc_err err = queue_do(queue, prep_work, prep);

    return err == TORC_ERR_OK ? prep->err : err;
}

enum torc_err torc_prep_get(struct torc_queue *queue, uint64_t key,
                            const struct torc_read_options *options, uint64_t user_data)
{
    return queue_prepare(
        queue,
        &(struct prep){.kind = PREP_GET, .key = key, .read = options, .user_data = user_data});
}

enum torc_err torc_prep_put(struct torc_queue *queue, uint64_t key, const void *data, size_t bytes,
                            uint64_t user_data)
{
    return torc_prep_put_if(queue, key, data, bytes, NULL, user_data);
}

static enum torc_err write_options(struct torc_queue *queue, struct torc_engine_write *write,
                                   const struct torc_write_options *options)
{
    if (options == NULL) {
        return TORC_ERR_OK;
    }
    if ((options->flags & ~TORC_TRACED) != 0 || options->reserved[0] != 0 ||
        options->reserved[1] != 0) {
        return torc_fail(&queue->fail, TORC_ERR_INVALID_ARGUMENT,
                         "write options: flags 0x%x, and `reserved` must be zero; start from {0}",
                         options->flags);
    }
    write->traced = (options->flags & TORC_TRACED) != 0;
    write->condition = options->condition;
    write->version = options->version;
    write->timeout_us = options->timeout_us;
    return TORC_ERR_OK;
}

enum torc_err torc_prep_put_if(struct torc_queue *queue, uint64_t key, const void *data,
                               size_t bytes, const struct torc_write_options *options,
                               uint64_t user_data)
{
    struct torc_engine_write write = {
        .key = key, .data = data, .bytes = bytes, .user_data = user_data};
    enum torc_err err = write_options(queue, &write, options);

    return err != TORC_ERR_OK
               ? err
               : queue_prepare(queue, &(struct prep){.kind = PREP_WRITE, .write = &write});
}

enum torc_err torc_prep_delete(struct torc_queue *queue, uint64_t key,
                               const struct torc_write_options *options, uint64_t user_data)
{
    struct torc_engine_write write = {.key = key, .is_delete = true, .user_data = user_data};
    enum torc_err err = write_options(queue, &write, options);

    return err != TORC_ERR_OK
               ? err
               : queue_prepare(queue, &(struct prep){.kind = PREP_WRITE, .write = &write});
}

enum torc_err torc_prep_range(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                              const struct torc_range_options *options, uint64_t user_data)
{
    struct torc_engine_range range = {.lo = lo, .hi = hi, .user_data = user_data};

    if (options != NULL) {
        range.options = *options;
    }
    return queue_prepare(queue, &(struct prep){.kind = PREP_RANGE, .range = &range});
}

enum torc_err torc_prep_count_with(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                                   const struct torc_range_options *options, uint64_t user_data)
{
    struct torc_engine_range range = {
        .lo = lo, .hi = hi, .user_data = user_data, .count_only = true};

    if (options != NULL) {
        range.options = *options;
    }
    return queue_prepare(queue, &(struct prep){.kind = PREP_RANGE, .range = &range});
}

enum torc_err torc_prep_count(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                              uint64_t timeout_us, uint64_t user_data)
{
    struct torc_range_options options = {.timeout_us = timeout_us};

    return torc_prep_count_with(queue, lo, hi, &options, user_data);
}

enum torc_err torc_prep_status(struct torc_queue *queue, uint32_t node, uint64_t timeout_us,
                               uint64_t user_data)
{
    return queue_prepare(queue, &(struct prep){.kind = PREP_STATUS,
                                               .node = node,
                                               .timeout_us = timeout_us,
                                               .user_data = user_data});
}

// ---- Working

enum torc_err torc_submit(struct torc_queue *queue)
{
    enum torc_err err = queue_do(queue, submit_work, NULL);

    return err;
}

struct harvest {
    struct torc_completion *completions;
    unsigned max;
    unsigned count;
};

static void poll_work(struct torc_queue *queue, void *argument)
{
    struct harvest *harvest = argument;

    queue_receive(queue);
    queue_send(queue);
    harvest->count = torc_engine_poll(queue->engine, harvest->completions, harvest->max);
    queue_arm(queue);
}

static void release_work(struct torc_queue *queue, void *argument)
{
    (void)argument;
    torc_engine_release(queue->engine);
}

void torc_queue_release(struct torc_queue *queue)
{
    (void)queue_do(queue, release_work, NULL); // a broken or forked queue says so in what follows
}

// What was in flight when the bug was met.
static unsigned poll_broken(struct torc_queue *queue, struct torc_completion *completions,
                            unsigned max)
{
    unsigned count = 0;

    if (*queue->alive == ALIVE && queue->engine != NULL) {
        count = torc_engine_abandon(queue->engine, &queue->abandoned, completions, max);
    }
    if (*queue->alive == ALIVE && queue->timer >= 0) {
        queue_arm_at(queue, count > 0 ? ARMED_NOW : UINT64_MAX);
    }
    for (unsigned i = 0; i < count; i++) {
        completions[i].text = queue->broken_text;
    }
    return count;
}

unsigned torc_poll(struct torc_queue *queue, struct torc_completion *completions, unsigned max)
{
    struct harvest harvest = {.completions = completions, .max = max};

    if (queue_do(queue, poll_work, &harvest) != TORC_ERR_OK) {
        return poll_broken(queue, completions, max);
    }
    return harvest.count;
}

struct nap {
    uint64_t until_ns;
    uint64_t spin_until_ns;
};

static void nap_work(struct torc_queue *queue, void *argument)
{
    struct nap *nap = argument;
    uint64_t until_ns = torc_min_u64(nap->until_ns, torc_engine_deadline_ns(queue->engine));

    if (torc_clock_now_ns() >= nap->spin_until_ns) {
        queue->code->wait(queue->transport, until_ns);
    }
}

// Sleeps, or spins as the options say, until something may have happened.
static bool queue_nap(struct torc_queue *queue, struct nap *nap)
{
    return torc_clock_now_ns() < nap->until_ns && queue_do(queue, nap_work, nap) == TORC_ERR_OK;
}

static struct nap nap_from(const struct torc_queue *queue, uint64_t timeout_us)
{
    uint64_t now_ns = torc_clock_now_ns();
    uint64_t left_ns = torc_min_u64(timeout_us, UINT64_C(1) << 40) * TORC_NS_PER_US;

    return (struct nap){.until_ns = now_ns + left_ns, .spin_until_ns = now_ns + queue->spin_ns};
}

unsigned torc_wait(struct torc_queue *queue, struct torc_completion *completions, unsigned max,
                   uint64_t timeout_us)
{
    struct nap nap = nap_from(queue, timeout_us);
    unsigned count = torc_poll(queue, completions, max);

    while (count == 0 && torc_queue_pending(queue) > 0 && queue_nap(queue, &nap)) {
        count = torc_poll(queue, completions, max);
    }
    return count;
}

enum torc_err torc_queue_ready(struct torc_queue *queue, uint64_t timeout_us)
{
    struct nap nap = nap_from(queue, timeout_us == 0 ? queue->timeout_us : timeout_us);

    do {
        enum torc_err err = queue_do(queue, turn_work, NULL);

        if (err != TORC_ERR_OK) {
            return err;
        }
        if (torc_engine_ready(queue->engine)) {
            return TORC_ERR_OK;
        }
    } while (queue_nap(queue, &nap));
    return torc_fail(&queue->fail, TORC_ERR_NOT_CONNECTED, "%s",
                     torc_engine_trouble(queue->engine));
}

static void map_work(struct torc_queue *queue, void *argument)
{
    (void)argument;
    queue_time(queue);
    torc_engine_map_refresh(queue->engine);
}

enum torc_err torc_queue_map(struct torc_queue *queue, uint64_t timeout_us)
{
    struct nap nap = nap_from(queue, timeout_us == 0 ? queue->timeout_us : timeout_us);
    enum torc_err err = queue_do(queue, map_work, NULL);

    while (err == TORC_ERR_OK) {
        err = queue_do(queue, turn_work, NULL);
        if (err != TORC_ERR_OK || torc_engine_map_fresh(queue->engine)) {
            return err;
        }
        if (!queue_nap(queue, &nap)) {
            return torc_fail(&queue->fail, TORC_ERR_DEADLINE, "no shard map came in time: %s",
                             torc_engine_trouble(queue->engine));
        }
    }
    return err;
}
