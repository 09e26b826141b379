// Torc tests: the table of principals against a list that remembers every life of every principal
// and key: reloads, rotations, removals, sessions that end and rest, tables that make no sense.
#include "dataplane/principals.h"
#include "tests/torc_test.h"
#include "wire/handshake.h"
#include "wire/op.h"

#include <stdlib.h>
#include <string.h>

#define NUMBERS  24u // principals in play: few, so that they meet often
#define SESSIONS 300u
#define ROUNDS   60u
#define STEPS    3000u

struct model_key {
    bool used;
    uint8_t id;
    uint8_t psk[TORC_CHAN_PSK_BYTES];
    uint32_t life;
};

struct model_principal {
    bool used;
    uint32_t roles;
    uint32_t sessions_max;
    uint32_t range_count;
    struct torc_chan_range ranges[3];
    struct model_key keys[2];
    uint32_t life;
    uint32_t open;
};

struct model_session {
    bool used;
    bool resting;
    uint32_t number;
    uint32_t life;
    uint32_t key_life;
    uint32_t place;
    uint32_t key_serial;
    const struct torc_rights *rights;
    struct torc_rights copy;
};

struct model {
    struct torc_principals *table;
    struct model_principal principals[NUMBERS]; // number = index + 1
    struct model_session sessions[SESSIONS];
    struct torc_chan_principal list[TORC_CHAN_PRINCIPALS_MAX + 1];
    uint8_t dummy[TORC_CHAN_PSK_BYTES];
    uint32_t lives;
    bool readded_is_same; // the planted fault: a key that comes back is believed to be the old one
    struct model_key removed[NUMBERS];
};

// -- What the table is to be ---------------------------------------------------------------------

static void make_key(struct torc_rng *rng, struct model *model, struct model_key *key,
                     uint8_t not_id)
{
    key->used = true;
    do {
        key->id = (uint8_t)(1 + torc_rng_below(rng, 4));
    } while (key->id == not_id);
    torc_test_value(key->psk, torc_rng_next(rng), sizeof(key->psk));
    key->life = ++model->lives;
    memcpy(key->psk, &key->life, sizeof(key->life)); // no two are alike
}

static void make_ranges(struct torc_rng *rng, struct model_principal *principal)
{
    uint64_t at = torc_rng_below(rng, 10);

    principal->range_count = (uint32_t)torc_rng_below(rng, 4);
    for (uint32_t i = 0; i < principal->range_count; i++) {
        principal->ranges[i].lo = at;
        principal->ranges[i].hi = at + 1 + torc_rng_below(rng, 20);
        at = principal->ranges[i].hi + 1 + torc_rng_below(rng, 20);
    }
}

static void make_principal(struct torc_rng *rng, struct model *model,
                           struct model_principal *principal)
{
    memset(principal, 0, sizeof(*principal));
    principal->used = true;
    principal->roles = (uint32_t)(1 + torc_rng_below(rng, 7));
    principal->sessions_max = (uint32_t)(1 + torc_rng_below(rng, 12));
    make_ranges(rng, principal);
    make_key(rng, model, &principal->keys[0], 0);
    principal->life = ++model->lives;
}

// Removes one of two keys, adds one, or puts back the one removed last.
static void rotate(struct torc_rng *rng, struct model *model, uint32_t index)
{
    struct model_principal *principal = &model->principals[index];
    struct model_key *removed = &model->removed[index];

    if (principal->keys[1].used) {
        uint32_t which = (uint32_t)torc_rng_below(rng, 2);

        *removed = principal->keys[which];
        if (which == 0) {
            principal->keys[0] = principal->keys[1];
        }
        principal->keys[1].used = false;
    } else if (removed->used && removed->id != principal->keys[0].id &&
               torc_rng_below(rng, 2) == 0) {
        principal->keys[1] = *removed;
        if (!model->readded_is_same) {
            principal->keys[1].life = ++model->lives;
        }
    } else {
        make_key(rng, model, &principal->keys[1], principal->keys[0].id);
    }
}

// Changes a principal, at most once between two loads: there and back again is no change.
static void change_one(struct torc_rng *rng, struct model *model, uint32_t *changed)
{
    uint32_t index = (uint32_t)torc_rng_below(rng, NUMBERS);
    struct model_principal *principal = &model->principals[index];

    if ((*changed >> index & 1) != 0) {
        return;
    }
    *changed |= 1u << index;
    if (!principal->used) {
        make_principal(rng, model, principal);
        model->removed[index].used = false;
        return;
    }
    switch (torc_rng_below(rng, 7)) {
    case 0:
        principal->used = false;
        principal->open = 0;
        return;
    case 1:
        principal->roles = principal->roles % 7 + 1; // another one
        principal->life = ++model->lives;
        principal->open = 0;
        return;
    case 2: principal->sessions_max = (uint32_t)(1 + torc_rng_below(rng, 12)); return;
    case 3: // its number went to another, with the same rights
        make_key(rng, model, &principal->keys[0], 0);
        principal->keys[1].used = false;
        principal->life = ++model->lives;
        principal->open = 0;
        return;
    default: rotate(rng, model, index); return;
    }
}

// Keys of the table whose principal lives on in another life are new too: nothing is held of them.
static uint32_t write_list(struct model *model)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < NUMBERS; i++) {
        const struct model_principal *from = &model->principals[i];
        struct torc_chan_principal *to = &model->list[count];

        if (!from->used) {
            continue;
        }
        memset(to, 0, sizeof(*to));
        to->number = i + 1;
        to->roles = from->roles;
        to->sessions_max = from->sessions_max;
        to->range_count = from->range_count;
        memcpy(to->ranges, from->ranges, sizeof(from->ranges));
        for (uint32_t k = 0; k < 2 && from->keys[k].used; k++) {
            to->key_ids[k] = from->keys[k].id;
            memcpy(to->psks[k], from->keys[k].psk, sizeof(to->psks[k]));
            to->key_count++;
        }
        count++;
    }
    return count;
}

// -- Steps ---------------------------------------------------------------------------------------

static bool reload(struct torc_rng *rng, struct model *model)
{
    uint32_t changes = (uint32_t)(1 + torc_rng_below(rng, 3));
    uint32_t changed = 0;

    for (uint32_t i = 0; i < changes; i++) {
        change_one(rng, model, &changed);
    }
    return torc_principals_load(model->table, model->list, write_list(model), NULL) == TORC_ERR_OK;
}

// A faulty table is refused whole.
static bool load_nonsense(struct torc_rng *rng, struct model *model)
{
    uint32_t count = write_list(model);
    struct torc_chan_principal *one = &model->list[torc_rng_below(rng, torc_max_u64(count, 1))];

    if (count < 2) {
        return true;
    }
    switch (torc_rng_below(rng, 7)) {
    case 0: one->number = 0; break;
    case 1: one->roles = 0; break;
    case 2: one->roles = TORC_ROLE_NODE | TORC_ROLE_READ; break;
    case 3: one->range_count = TORC_CHAN_RANGES_MAX + 1; break;
    case 4: one->key_count = (uint8_t)(3 * torc_rng_below(rng, 2)); break;
    case 5: model->list[1].number = model->list[0].number; break;
    default:
        one->range_count = 2;
        one->ranges[0] = (struct torc_chan_range){5, 9};
        one->ranges[1] = (struct torc_chan_range){9, 12};
        break;
    }
    return torc_principals_load(model->table, model->list, count, NULL) ==
           TORC_ERR_INVALID_ARGUMENT;
}

static struct model_session *free_session(struct model *model)
{
    for (uint32_t i = 0; i < SESSIONS; i++) {
        if (!model->sessions[i].used) {
            return &model->sessions[i];
        }
    }
    return NULL;
}

static bool rights_agree(const struct torc_rights *rights, const struct model_principal *principal,
                         uint32_t number)
{
    return rights->number == number && rights->roles == principal->roles &&
           rights->range_count == principal->range_count &&
           memcmp(rights->ranges, principal->ranges,
                  rights->range_count * sizeof(rights->ranges[0])) == 0;
}

static void open_session(struct model *model, const struct torc_principal_found *found,
                         const struct model_key *key)
{
    struct model_session *session = free_session(model);
    struct model_principal *principal = &model->principals[found->rights->number - 1];

    if (session == NULL) {
        return;
    }
    torc_principals_open(model->table, found->place, 1);
    principal->open++;
    *session = (struct model_session){.used = true,
                                      .number = found->rights->number,
                                      .life = principal->life,
                                      .key_life = key->life,
                                      .place = found->place,
                                      .key_serial = found->key_serial,
                                      .rights = found->rights,
                                      .copy = *found->rights};
}

// Somebody knocks with a number and a key id.
static bool knock(struct torc_rng *rng, struct model *model)
{
    uint32_t number = (uint32_t)torc_rng_below(rng, NUMBERS + 2);
    uint8_t id = (uint8_t)torc_rng_below(rng, 6);
    const struct model_principal *principal =
        number >= 1 && number <= NUMBERS ? &model->principals[number - 1] : NULL;
    const struct model_key *key = NULL;
    struct torc_principal_found found;
    uint32_t room;

    for (uint32_t k = 0; principal != NULL && principal->used && k < 2; k++) {
        key = principal->keys[k].used && principal->keys[k].id == id ? &principal->keys[k] : key;
    }
    torc_principals_find(model->table, number, id, &found);
    if (key == NULL) {
        return found.rights == NULL && found.place == TORC_PRINCIPAL_NOBODY &&
               memcmp(found.psk, model->dummy, sizeof(model->dummy)) == 0;
    }
    if (found.rights == NULL || memcmp(found.psk, key->psk, sizeof(key->psk)) != 0 ||
        !rights_agree(found.rights, principal, number)) {
        return false;
    }
    room =
        principal->open < principal->sessions_max ? principal->sessions_max - principal->open : 0;
    if (torc_principals_room(model->table, found.place) != room) {
        return false;
    }
    if (room > 0) {
        open_session(model, &found, key);
    }
    return true;
}

static enum torc_principal_fate fate_of(const struct model *model,
                                        const struct model_session *session)
{
    const struct model_principal *principal = &model->principals[session->number - 1];

    if (!principal->used || principal->life != session->life) {
        return TORC_FATE_GONE;
    }
    for (uint32_t k = 0; k < 2; k++) {
        if (principal->keys[k].used && principal->keys[k].life == session->key_life) {
            return TORC_FATE_STAYS;
        }
    }
    return TORC_FATE_KEY_REMOVED;
}

// All sessions: their fates, and that their rights are what they were (P2).
static bool check_sessions(const struct model *model)
{
    for (uint32_t i = 0; i < SESSIONS; i++) {
        const struct model_session *session = &model->sessions[i];

        if (session->used && memcmp(session->rights, &session->copy, sizeof(session->copy)) != 0) {
            return false;
        }
        if (session->used && !session->resting &&
            torc_principals_fate(model->table, session->place, session->key_serial) !=
                fate_of(model, session)) {
            return false;
        }
    }
    return true;
}

// One ends, or one that rests is let go.
static void end_one(struct torc_rng *rng, struct model *model)
{
    struct model_session *session = &model->sessions[torc_rng_below(rng, SESSIONS)];
    struct model_principal *principal =
        &model->principals[session->number - (session->used ? 1 : 0)];

    if (!session->used) {
        return;
    }
    if (session->resting) {
        torc_principals_release(model->table, session->place);
        session->used = false;
        session->number = 0;
        return;
    }
    torc_principals_close(model->table, session->place);
    session->resting = true;
    if (principal->used && principal->life == session->life) {
        principal->open--;
    }
}

static bool run_step(struct torc_rng *rng, struct model *model)
{
    switch (torc_rng_below(rng, 12)) {
    case 0: return reload(rng, model) && check_sessions(model);
    case 1: return load_nonsense(rng, model) && check_sessions(model);
    case 2:
    case 3:
    case 4:
    case 5: return knock(rng, model);
    default: end_one(rng, model); return true;
    }
}

static bool run_rounds(bool readded_is_same)
{
    struct torc_rng rng = {torc_test_seed()};
    void *memory = NULL;
    struct model *model = calloc(1, sizeof(*model));
    bool agreed = true;

    CU_ASSERT_EQUAL_FATAL(posix_memalign(&memory, 64, torc_principals_bytes()), 0);
    torc_assert(model != NULL && memory != NULL);
    for (uint32_t round = 0; round < ROUNDS && agreed; round++) {
        memset(memory, 0, torc_principals_bytes());
        memset(model, 0, sizeof(*model));
        model->readded_is_same = readded_is_same;
        torc_test_fill(model->dummy, sizeof(model->dummy), 77);
        torc_principals_init(&model->table, memory, model->dummy);
        for (uint32_t step = 0; step < STEPS && agreed; step++) {
            agreed = run_step(&rng, model);
        }
    }
    free(model);
    free(memory);
    return agreed;
}

static void test_agrees(void)
{
    CU_ASSERT_TRUE(run_rounds(false));
}

static void test_finds_a_key_that_came_back(void)
{
    CU_ASSERT_FALSE(run_rounds(true));
}

// -- A full table --------------------------------------------------------------------------------

static void fill_list(struct torc_chan_principal *list, uint32_t first, uint32_t roles)
{
    memset(list, 0, TORC_CHAN_PRINCIPALS_MAX * sizeof(list[0]));
    for (uint32_t i = 0; i < TORC_CHAN_PRINCIPALS_MAX; i++) {
        list[i].number = first + i;
        list[i].roles = roles;
        list[i].sessions_max = 1;
        list[i].key_count = 1;
        list[i].key_ids[0] = 1;
        torc_test_value(list[i].psks[0], first + i, sizeof(list[i].psks[0]));
    }
}

// Places that rest are not given to others; when they are free again the table is taken.
static void test_full_table_waits_for_sessions_to_end(void)
{
    struct torc_chan_principal *list = calloc(TORC_CHAN_PRINCIPALS_MAX, sizeof(*list));
    struct torc_principals *table = NULL;
    void *memory = NULL;
    uint8_t dummy[TORC_CHAN_PSK_BYTES] = {1};
    struct torc_principal_found found;
    struct torc_fail why;
    uint32_t places[TORC_CHAN_PRINCIPALS_MAX];

    CU_ASSERT_EQUAL_FATAL(posix_memalign(&memory, 64, torc_principals_bytes()), 0);
    memset(memory, 0, torc_principals_bytes());
    torc_principals_init(&table, memory, dummy);
    fill_list(list, 1, TORC_ROLE_READ);
    TORC_TEST_OK(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX, &why), &why);
    for (uint32_t i = 0; i < TORC_CHAN_PRINCIPALS_MAX; i++) {
        torc_principals_find(table, 1 + i, 1, &found);
        CU_ASSERT_PTR_NOT_NULL_FATAL(found.rights);
        places[i] = found.place;
        torc_principals_open(table, found.place, 1);
        CU_ASSERT_EQUAL(torc_principals_room(table, found.place), 0);
    }
    fill_list(list, 5000, TORC_ROLE_READ);
    TORC_TEST_OK(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX, &why), &why);
    fill_list(list, 9000, TORC_ROLE_READ);
    TORC_TEST_OK(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX, &why), &why);
    torc_principals_find(table, 9000, 1, &found);
    torc_principals_open(table, found.place, 1);
    fill_list(list, 9000, TORC_ROLE_WRITE);
    CU_ASSERT_EQUAL(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX, &why),
                    TORC_ERR_BUSY);
    torc_principals_find(table, 9001, 1, &found); // nothing has changed
    CU_ASSERT_PTR_NOT_NULL_FATAL(found.rights);
    CU_ASSERT_EQUAL(found.rights->roles, TORC_ROLE_READ);
    for (uint32_t i = 0; i < TORC_CHAN_PRINCIPALS_MAX; i++) {
        torc_principals_close(table, places[i]);
        torc_principals_release(table, places[i]);
    }
    TORC_TEST_OK(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX, &why), &why);
    CU_ASSERT_EQUAL(torc_principals_load(table, list, TORC_CHAN_PRINCIPALS_MAX + 1, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    free(list);
    free(memory);
}

// A node's key is made of the cluster's secret, for this node alone.
static void test_nodes_are_known_by_the_secret(void)
{
    struct torc_chan_principal list[2] = {
        {.number = 4, .roles = TORC_ROLE_READ, .sessions_max = 1, .key_count = 1, .key_ids = {1}},
        {.number = 9, .roles = TORC_ROLE_NODE, .sessions_max = 4, .key_count = 1, .key_ids = {3}}};
    struct torc_principal_caller caller = {
        .cluster = 77, .number = TORC_PRINCIPAL_NODE + 5, .node = 2, .key = 3};
    struct torc_principals *table = NULL;
    void *memory = NULL;
    uint8_t dummy[TORC_CHAN_PSK_BYTES] = {1};
    uint8_t psk[TORC_CHAN_PSK_BYTES];
    uint8_t wanted[TORC_CHAN_PSK_BYTES];
    struct torc_principal_found found;
    struct torc_fail why;

    CU_ASSERT_EQUAL_FATAL(posix_memalign(&memory, 64, torc_principals_bytes()), 0);
    memset(memory, 0, torc_principals_bytes());
    torc_principals_init(&table, memory, dummy);
    torc_principals_find_node(table, &caller, psk, &found); // no table yet
    CU_ASSERT_PTR_NULL(found.rights);
    torc_test_value(list[1].psks[0], 5, TORC_CHAN_PSK_BYTES);
    TORC_TEST_OK(torc_principals_load(table, list, 2, &why), &why);
    torc_principals_find_node(table, &caller, psk, &found);
    CU_ASSERT_FATAL(found.rights != NULL && found.rights->roles == TORC_ROLE_NODE);
    CU_ASSERT_PTR_EQUAL(found.psk, psk);
    torc_noise_caller(wanted, list[1].psks[0], 5);
    torc_noise_bind(wanted, wanted, 77, 2);
    CU_ASSERT_EQUAL(memcmp(psk, wanted, sizeof(psk)), 0);
    caller.number++; // another node's is another key
    torc_principals_find_node(table, &caller, psk, &found);
    CU_ASSERT_NOT_EQUAL(memcmp(psk, wanted, sizeof(psk)), 0);
    caller.key = 1;
    torc_principals_find_node(table, &caller, psk, &found);
    CU_ASSERT_PTR_NULL(found.rights);
    torc_principals_find(table, 9, 3, &found); // the secret itself is nobody's key
    CU_ASSERT_PTR_NULL(found.rights);
    caller.key = 3;
    torc_principals_find_node(table, &caller, psk, &found);
    torc_principals_open(table, found.place, 1);
    CU_ASSERT_EQUAL(torc_principals_fate(table, found.place, found.key_serial), TORC_FATE_STAYS);
    list[1].key_ids[0] = 2; // in one reload: sessions of nodes have their minute nonetheless
    torc_test_value(list[1].psks[0], 6, TORC_CHAN_PSK_BYTES);
    TORC_TEST_OK(torc_principals_load(table, list, 2, &why), &why);
    CU_ASSERT_EQUAL(torc_principals_fate(table, found.place, found.key_serial),
                    TORC_FATE_KEY_REMOVED);
    list[0].roles = TORC_ROLE_NODE; // two of them
    CU_ASSERT_EQUAL(torc_principals_load(table, list, 2, &why), TORC_ERR_INVALID_ARGUMENT);
    TORC_TEST_OK(torc_principals_load(table, list, 0, &why), &why);
    caller.key = 2;
    torc_principals_find_node(table, &caller, psk, &found);
    CU_ASSERT_PTR_NULL(found.rights);
    free(memory);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"agrees with a list of lives", test_agrees},
        {"finds a key that came back", test_finds_a_key_that_came_back},
        {"a full table waits for sessions to end", test_full_table_waits_for_sessions_to_end},
        {"nodes are known by the secret", test_nodes_are_known_by_the_secret},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("principals", tests);
}
