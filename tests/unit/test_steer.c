// Torc tests: dataplane/steer.h against what real devices say of themselves.
//
// Sources of the table: the info functions and documentation of DPDK 22.11's drivers mlx5, ice,
// i40e, ena and virtio; the software ports as dataplane/port_dpdk.c describes them.
#include "dataplane/steer.h"
#include "tests/torc_test.h"

#include <string.h>

#define CHECKSUMS                                                                         \
    (TORC_STEER_RX_IP_CHECKSUM | TORC_STEER_RX_UDP_CHECKSUM | TORC_STEER_TX_IP_CHECKSUM | \
     TORC_STEER_TX_UDP_CHECKSUM)
#define RSS (TORC_STEER_RSS_IP4 | TORC_STEER_RSS_UDP4 | TORC_STEER_RSS_IP6 | TORC_STEER_RSS_UDP6)
#define NIC (TORC_STEER_FLOW | TORC_STEER_HARDWARE)

struct device_case {
    const char *name;
    struct torc_steer_device device;
    // Of 4 workers that want an MTU of 9000 and 1024 descriptors.
    enum torc_steer_method method;
    enum torc_steer_method refused_method; // after a rule was refused
    uint16_t queues;
    uint16_t refused_queues;
    uint16_t mtu;
    uint16_t rx_entries;
    uint32_t features;
};

// What any card gets that takes rules, and spreads by RSS when one is refused.
#define CARD_GETS(count)                                                                  \
    .method = TORC_STEER_BY_FLOW, .refused_method = TORC_STEER_BY_RSS, .queues = (count), \
    .refused_queues = (count), .mtu = 9000, .rx_entries = 1024

static const struct device_case devices[] = {
    {.name = "mlx5",
     .device = {.features = CHECKSUMS | TORC_STEER_RX_SCATTER | TORC_STEER_TX_FAST_FREE | RSS | NIC,
                .frame_bytes_max = 65536,
                .rx_buffer_bytes_min = 32,
                .rx_queues_max = 1024,
                .tx_queues_max = 1024,
                .mtu_max = 9978,
                .reta_entries = 512,
                .rx_ring = {0, UINT16_MAX, 1, 256},
                .tx_ring = {0, UINT16_MAX, 1, 256}},
     CARD_GETS(4),
     .features = CHECKSUMS | TORC_STEER_TX_FAST_FREE | RSS | TORC_STEER_FLOW},
    {.name = "ice",
     .device = {.features = CHECKSUMS | TORC_STEER_RX_SCATTER | TORC_STEER_TX_FAST_FREE | RSS | NIC,
                .frame_bytes_max = 9728,
                .rx_buffer_bytes_min = 1024,
                .rx_queues_max = 64,
                .tx_queues_max = 64,
                .mtu_max = 9702,
                .reta_entries = 512,
                .rx_ring = {64, 4096, 32, 1024},
                .tx_ring = {64, 4096, 32, 1024}},
     CARD_GETS(4),
     .features = CHECKSUMS | TORC_STEER_TX_FAST_FREE | RSS | TORC_STEER_FLOW},
    {.name = "i40e, two queues",
     .device = {.features = CHECKSUMS | TORC_STEER_RX_SCATTER | TORC_STEER_TX_FAST_FREE | RSS | NIC,
                .frame_bytes_max = 9728,
                .rx_buffer_bytes_min = 1024,
                .rx_queues_max = 2,
                .tx_queues_max = 2,
                .mtu_max = 9702,
                .reta_entries = 512,
                .rx_ring = {64, 4096, 32, 256},
                .tx_ring = {64, 4096, 32, 256}},
     CARD_GETS(2),
     .features = CHECKSUMS | RSS | TORC_STEER_FLOW}, // buffers of two pools in a queue
    {.name = "ena",
     .device = {.features = CHECKSUMS | TORC_STEER_TX_FAST_FREE | RSS | NIC,
                .frame_bytes_max = 9234,
                .rx_buffer_bytes_min = 64,
                .rx_queues_max = 8,
                .tx_queues_max = 8,
                .mtu_max = 9216,
                .reta_entries = 128,
                .rx_ring = {128, 8192, 0, 1024},
                .tx_ring = {128, 1024, 0, 1024}},
     CARD_GETS(4),
     .features = CHECKSUMS | TORC_STEER_TX_FAST_FREE | RSS | TORC_STEER_FLOW},
    {.name = "virtio without RSS",
     .device = {.features = TORC_STEER_RX_UDP_CHECKSUM | TORC_STEER_TX_UDP_CHECKSUM | NIC,
                .frame_bytes_max = 9728,
                .rx_buffer_bytes_min = 64,
                .rx_queues_max = 4,
                .tx_queues_max = 4,
                .mtu_max = 1500,
                .rx_ring = {32, 256, 32, 0},
                .tx_ring = {32, 256, 32, 0}},
     .method = TORC_STEER_BY_FLOW,
     .refused_method = TORC_STEER_BY_NOTHING,
     .queues = 4,
     .refused_queues = 1,
     .mtu = 1500,
     .rx_entries = 256,
     .features = TORC_STEER_RX_UDP_CHECKSUM | TORC_STEER_TX_UDP_CHECKSUM | TORC_STEER_FLOW},
    {.name = "af_xdp on a veth of two queues",
     .device = {.features = TORC_STEER_OWN_SPREAD,
                .rx_queues_max = 2,
                .tx_queues_max = 2,
                .mtu_max = 1500},
     .method = TORC_STEER_BY_OTHER,
     .refused_method = TORC_STEER_BY_OTHER,
     .queues = 2,
     .refused_queues = 2,
     .mtu = 1500,
     .rx_entries = 1024,
     .features = 0},
    {.name = "memif",
     .device = {.features = TORC_STEER_OWN_SPREAD,
                .frame_bytes_max = UINT32_MAX,
                .rx_queues_max = 1,
                .tx_queues_max = 255},
     .method = TORC_STEER_BY_NOTHING,
     .refused_method = TORC_STEER_BY_NOTHING,
     .queues = 1,
     .refused_queues = 1,
     .mtu = 9000,
     .rx_entries = 1024,
     .features = 0},
};

static const struct torc_steer_want want = {
    .worker_count = 4, .base_port = 28700, .mtu = 9000, .ring_entries = 1024};

static void show(const struct device_case *this, const struct torc_steer_plan *plan)
{
    char text[200];

    (void)torc_steer_features_text(plan->features, text, sizeof(text));
    (void)printf("%s: %s, %u queues, %u entries, mtu %u, %s\n", this->name,
                 torc_steer_method_name(plan->method), plan->queue_count, plan->rx_entries,
                 plan->mtu, text);
}

static void check_device(const struct device_case *this)
{
    struct torc_steer_plan plan;
    struct torc_fail why = {0};
    uint32_t spread = TORC_STEER_OWN_SPREAD;

    TORC_TEST_OK(torc_steer_choose(&plan, &this->device, &want, &why), &why);
    show(this, &plan);
    CU_ASSERT_EQUAL(plan.method, this->method);
    CU_ASSERT_EQUAL(plan.queue_count, this->queues);
    CU_ASSERT_EQUAL(plan.mtu, this->mtu);
    CU_ASSERT_EQUAL(plan.rx_entries, this->rx_entries);
    CU_ASSERT_EQUAL(plan.features & ~spread, this->features);
    CU_ASSERT_TRUE(plan.buffer_bytes >= plan.mtu + 18u);
    CU_ASSERT_EQUAL((plan.features & ~spread) & ~this->device.features, 0); // never assumed
    if (plan.method == TORC_STEER_BY_FLOW) {
        torc_steer_refused(&plan);
    }
    CU_ASSERT_EQUAL(plan.method, this->refused_method);
    CU_ASSERT_EQUAL(plan.queue_count, this->refused_queues);
    CU_ASSERT_EQUAL(plan.features & TORC_STEER_FLOW, 0);
    CU_ASSERT_EQUAL(torc_steer_rule_count(&plan), 0);
}

static void test_devices(void)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(devices); i++) {
        check_device(&devices[i]);
    }
}

// Each of 4 workers has two rules, for both versions of IP.
static struct torc_steer_plan plan_of_rules(const struct torc_steer_device *device)
{
    struct torc_steer_plan plan;
    struct torc_fail why = {0};

    TORC_TEST_OK(torc_steer_choose(&plan, device, &want, &why), &why);
    CU_ASSERT_EQUAL_FATAL(torc_steer_rule_count(&plan), 8);
    return plan;
}

static void test_rules_name_the_core_by_port(void)
{
    struct torc_steer_plan plan = plan_of_rules(&devices[0].device);
    uint32_t seen = 0;

    for (uint32_t i = 0; i < 8; i++) {
        struct torc_steer_rule rule = torc_steer_rule(&plan, i);
        uint32_t worker = (uint32_t)rule.udp_port - 28700;

        CU_ASSERT_TRUE_FATAL(worker < 4);
        CU_ASSERT_EQUAL(rule.queue, worker);
        seen |= 1u << (2 * worker + (rule.ip_version == 6 ? 1 : 0));
    }
    CU_ASSERT_EQUAL(seen, 0xff); // each worker, both versions
}

static void test_rules_share_few_queues(void)
{
    struct torc_steer_plan plan = plan_of_rules(&devices[2].device);

    for (uint32_t i = 0; i < 8; i++) {
        struct torc_steer_rule rule = torc_steer_rule(&plan, i);

        CU_ASSERT_EQUAL(rule.queue, (rule.udp_port - 28700) % 2);
    }
}

static void test_devices_that_cannot_serve(void)
{
    struct torc_steer_device device = devices[0].device;
    struct torc_steer_plan plan;
    struct torc_fail why = {0};

    device.mtu_max = 1200;
    CU_ASSERT_EQUAL(torc_steer_choose(&plan, &device, &want, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "1200 bytes"));
    device = devices[0].device;
    device.tx_queues_max = 0;
    CU_ASSERT_EQUAL(torc_steer_choose(&plan, &device, &want, &why), TORC_ERR_INVALID_ARGUMENT);
}

static void test_ring_sizes_obey_the_device(void)
{
    static const struct {
        struct torc_steer_ring ring;
        uint16_t wanted;
    } cases[] = {
        {{0, 0, 0, 0}, 1024},     {{64, 4096, 32, 0}, 1024},  {{2048, 4096, 32, 0}, 2048},
        {{64, 1000, 32, 0}, 992}, {{64, 4096, 768, 0}, 1536}, {{0, 512, 1, 0}, 512},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        struct torc_steer_device device = devices[0].device;
        struct torc_steer_plan plan;
        struct torc_fail why = {0};

        device.rx_ring = cases[i].ring;
        TORC_TEST_OK(torc_steer_choose(&plan, &device, &want, &why), &why);
        CU_ASSERT_EQUAL(plan.rx_entries, cases[i].wanted);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"real devices get what they can do", test_devices},
        {"a rule sends a port to its core's queue", test_rules_name_the_core_by_port},
        {"few queues are shared", test_rules_share_few_queues},
        {"devices that cannot serve are refused", test_devices_that_cannot_serve},
        {"ring sizes obey the device", test_ring_sizes_obey_the_device},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("steer", tests);
}
