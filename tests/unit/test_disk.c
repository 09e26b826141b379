// Torc tests: what ends a wait of control beside the disk (control/disk_uring.h).
#include "control/disk_uring.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LONG_NS (30 * UINT64_C(1000000000)) // nothing below lasts that long unless it is broken

struct rig {
    struct torc_disk *disk;
    int lock_fd;
    int bell;
};

static void rig_open(struct rig *rig)
{
    char name[] = "/tmp/torc-test-disk-XXXXXX";
    struct torc_fail why;

    rig->lock_fd = mkstemp(name);
    CU_ASSERT_FATAL(rig->lock_fd >= 0);
    (void)unlink(name);
    TORC_TEST_OK(torc_disk_open(&rig->disk, rig->lock_fd, &why), &why);
    rig->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CU_ASSERT_FATAL(rig->bell >= 0);
    torc_disk_bell(rig->disk, rig->bell);
}

static void rig_close(struct rig *rig)
{
    torc_disk_close(rig->disk);
    (void)close(rig->bell);
    (void)close(rig->lock_fd);
}

static void ring(int bell)
{
    const uint64_t one = 1;

    CU_ASSERT_FATAL(write(bell, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static void each_ring_ends_one_wait(void)
{
    struct rig rig;

    rig_open(&rig);
    for (uint64_t i = 1; i <= 100; i++) {
        ring(rig.bell); // before the wait: it may not be lost
        CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, LONG_NS));
        CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), i);
        // Nothing is read back from it, and yet it does not ring by itself.
        CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, 100000));
        CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), i);
    }
    rig_close(&rig);
}

static void a_ring_and_a_readable_set_are_told_apart(void)
{
    struct rig rig;
    int ready = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    rig_open(&rig);
    CU_ASSERT_FATAL(ready >= 0);
    ring(rig.bell);
    CU_ASSERT_FALSE(torc_disk_wait(rig.disk, ready, LONG_NS));
    ring(ready);
    CU_ASSERT(torc_disk_wait(rig.disk, ready, LONG_NS));
    CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), 1);
    CU_ASSERT(torc_disk_wait(rig.disk, ready, LONG_NS)); // as long as it is readable
    rig_close(&rig);
    (void)close(ready);
}

static void an_old_bell_is_not_heard(void)
{
    struct rig rig;
    int other = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    rig_open(&rig);
    CU_ASSERT_FATAL(other >= 0);
    ring(rig.bell);
    CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, LONG_NS)); // its poll is out from now on
    torc_disk_bell(rig.disk, other);
    ring(rig.bell);
    CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, 1000000));
    CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), 1);
    ring(other);
    while (torc_disk_rings(rig.disk) < 2) { // what the old one left may end a wait first
        CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, LONG_NS));
    }
    torc_disk_bell(rig.disk, -1);
    ring(other);
    CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, 1000000));
    CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), 2);
    rig_close(&rig);
    (void)close(other);
}

static void bells_come_and_go(void)
{
    struct rig rig;

    rig_open(&rig);
    for (uint64_t i = 0; i < 1000; i++) { // more than there are numbers for them
        int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

        CU_ASSERT_FATAL(bell >= 0);
        torc_disk_bell(rig.disk, bell);
        ring(bell);
        while (torc_disk_rings(rig.disk) == i) {
            CU_ASSERT_FALSE(torc_disk_wait(rig.disk, -1, LONG_NS));
        }
        CU_ASSERT_EQUAL(torc_disk_rings(rig.disk), i + 1);
        (void)close(bell);
    }
    rig_close(&rig);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"each ring ends one wait", each_ring_ends_one_wait},
        {"a ring and a readable set are told apart", a_ring_and_a_readable_set_are_told_apart},
        {"an old bell is not heard", an_old_bell_is_not_heard},
        {"bells come and go", bells_come_and_go},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("disk", tests);
}
