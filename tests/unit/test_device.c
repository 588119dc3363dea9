/* Devices through the C ABI: one suite for the host, the simulated device and, where there is one, a GPU. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

static larder_context* context;

static int setup(void** state) {
    (void)state;
    return larder_context_create(NULL, &context);
}

static int teardown(void** state) {
    (void)state;
    return larder_context_destroy(context);
}

static larder_device* open_or_skip(const char* name) {
    larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
    o.name = name;
    larder_device* d = NULL;
    const larder_status s = larder_device_open(context, &o, &d);
    if (s == LARDER_E_NO_DEVICE) {
        larder_error_info e = LARDER_ERROR_INFO_INIT;
        larder_last_error(&e);
        assert_true(e.message[0] != 0);
        print_message("SKIPPED: %s: %s\n", name, e.message);
        return NULL;
    }
    assert_int_equal(s, LARDER_OK);
    return d;
}

static void round_trip(larder_device* d) {
    enum { n = 100000 };
    unsigned char* in = malloc(n);
    unsigned char* out = malloc(n);
    for (int i = 0; i < n; ++i) in[i] = (unsigned char)(i * 7 + i / 256);
    memset(out, 0, n);
    larder_device_ptr a = 0, b = 0;
    larder_stream_id s = 0, t = 0;
    larder_event_id e = 0, f = 0;
    assert_int_equal(larder_device_alloc(d, n, &a), LARDER_OK);
    assert_int_equal(larder_device_alloc(d, n, &b), LARDER_OK);
    assert_int_equal(a % 256, 0);
    assert_int_equal(larder_device_stream_create(d, &s), LARDER_OK);
    assert_int_equal(larder_device_stream_create(d, &t), LARDER_OK);
    assert_int_equal(larder_device_event_create(d, &e), LARDER_OK);
    assert_int_equal(larder_device_event_create(d, &f), LARDER_OK);
    assert_int_equal(larder_device_event_query(d, e), LARDER_OK); /* nothing was recorded */
    assert_int_equal(larder_device_fill_zero(d, b, n, t), LARDER_OK);
    assert_int_equal(larder_device_copy_in(d, a, in, 1 << 20, s), LARDER_E_INVALID); /* more than a has */
    assert_int_equal(larder_device_copy_out(d, out, a + 8, 1 << 20, s), LARDER_E_INVALID);
    assert_int_equal(larder_device_copy_in(d, a, in, n, s), LARDER_OK);
    assert_int_equal(larder_device_event_record(d, e, s), LARDER_OK);
    assert_int_equal(larder_device_stream_wait(d, t, e), LARDER_OK);
    assert_int_equal(larder_device_copy(d, b + 16, a + 16, n - 32, t), LARDER_OK);
    assert_int_equal(larder_device_copy_out(d, out, b, n, t), LARDER_OK);
    assert_int_equal(larder_device_event_record(d, f, t), LARDER_OK);
    const larder_status q = larder_device_event_query(d, f);
    assert_true(q == LARDER_OK || q == LARDER_PENDING);
    assert_int_equal(larder_device_event_wait(d, f), LARDER_OK);
    assert_int_equal(larder_device_event_query(d, f), LARDER_OK);
    assert_memory_equal(out + 16, in + 16, n - 32);
    for (int i = 0; i < 16; ++i) assert_true(out[i] == 0 && out[n - 1 - i] == 0);
    larder_device_event_destroy(d, e);
    larder_device_event_destroy(d, f);
    larder_device_stream_destroy(d, s);
    larder_device_stream_destroy(d, t);
    larder_device_free(d, a, n);
    larder_device_free(d, b, n);
    free(in);
    free(out);
}

static void suite(const char* name, larder_device_kind kind) {
    larder_device* d = open_or_skip(name);
    if (!d) return;
    larder_device_info info = LARDER_DEVICE_INFO_INIT;
    assert_int_equal(larder_device_get_info(d, &info), LARDER_OK);
    assert_int_equal(info.kind, kind);
    assert_true(info.memory_bytes > 0 && info.granularity_bytes >= 4096 && info.name[0]);
    for (int i = 0; i < 3; ++i) round_trip(d);
    larder_device_ptr p = 0;
    assert_int_equal(larder_device_alloc(d, 0, &p), LARDER_E_INVALID);
    assert_int_equal(larder_device_alloc(d, UINT64_MAX / 2, &p), LARDER_E_DEVICE_NOMEM);
    assert_int_equal(larder_device_alloc(d, 16, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_device_event_wait(d, 0), LARDER_E_INVALID);
    assert_int_equal(larder_device_copy_in(d, 0, NULL, 1, 0), LARDER_E_INVALID);
    larder_device_free(d, 0, 0);
    assert_int_equal(larder_context_destroy(context), LARDER_E_BUSY);
    larder_device_close(d);
}

static void host(void** state) {
    (void)state;
    suite("host", LARDER_DEVICE_HOST);
    suite(NULL, LARDER_DEVICE_HOST);
}
static void simulated(void** state) {
    (void)state;
    suite("sim", LARDER_DEVICE_SIMULATED);
}
static void cuda(void** state) {
    (void)state;
    suite("cuda:0", LARDER_DEVICE_CUDA);
}

static void bad_options_are_named(void** state) {
    (void)state;
    larder_device* d = NULL;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    static const char* const bad[] = {"", "gpu", "cuda:", "cuda:x", "cuda:0x", "cuda:99999", "host:0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
        o.name = bad[i];
        assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_INVALID);
        assert_null(d);
        larder_last_error(&e);
        assert_string_equal(e.field, "name");
    }
    larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
    o.sim_memory_bytes = 1 << 20;
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_INVALID);
    o.sim_memory_bytes = 0;
    o.sim_latency_ns = 1;
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_INVALID);
    larder_last_error(&e);
    assert_string_equal(e.field, "sim_latency_ns");
    o.sim_latency_ns = 0;
    o.name = "sim";
    o.sim_granularity_bytes = 5000;
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_RANGE);
    larder_last_error(&e);
    assert_string_equal(e.field, "sim_granularity_bytes");
    o.sim_granularity_bytes = 0;
    o.reserved0 = 1;
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_INVALID);
    assert_int_equal(larder_device_open(context, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_device_open(NULL, NULL, &d), LARDER_E_INVALID);
    larder_device_close(NULL);
}

/* A plug-in that is absent, that is no plug-in, or that finds no GPU: said politely, and nothing else is harmed. */
static void absence_is_polite(void** state) {
    (void)state;
    larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
    larder_device* d = NULL;
    larder_error_info e = LARDER_ERROR_INFO_INIT;
    o.name = "cuda:0";
    setenv("LARDER_CUDA_PLUGIN", "/nonexistent/liblarder-cuda.so", 1);
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_NO_DEVICE);
    larder_last_error(&e);
    assert_non_null(strstr(e.message, "not here"));
    larder_capabilities c = LARDER_CAPABILITIES_INIT;
    assert_int_equal(larder_context_capabilities(context, &c), LARDER_OK);
    assert_int_equal(c.cuda_plugin, 0);
    setenv("LARDER_CUDA_PLUGIN", "libm.so.6", 1);
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_UNSUPPORTED);
    unsetenv("LARDER_CUDA_PLUGIN");
    o.name = "cuda:1000";
    assert_int_equal(larder_device_open(context, &o, &d), LARDER_E_NO_DEVICE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(host, setup, teardown),
        cmocka_unit_test_setup_teardown(simulated, setup, teardown),
        cmocka_unit_test_setup_teardown(cuda, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(absence_is_polite, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
