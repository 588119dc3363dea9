/* The expert cache through the C ABI: what options are refused, and an engine's way through it. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { n_layers = 2, n_experts = 16, n_bytes = 1000 };

static unsigned char weights[n_layers][n_experts][n_bytes];
static int n_drops;

static larder_context* make_context(void) {
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    for (size_t i = 0; i < sizeof weights; ++i) ((unsigned char*)weights)[i] = (unsigned char)(i * 2654435761u >> 13);
    return c;
}

static larder_status load(void* ctx, uint32_t layer, uint32_t expert, uint64_t offset, void* dst, uint64_t n) {
    (void)ctx;
    memcpy(dst, weights[layer][expert] + offset, n);
    return LARDER_OK;
}
static void drop(void* ctx) {
    ++*(int*)ctx;
}

static larder_expert_precision from_memory(uint32_t slots) {
    larder_expert_precision p = LARDER_EXPERT_PRECISION_INIT;
    p.source = LARDER_EXPERT_SOURCE_MEMORY;
    p.memory = weights;
    p.n_bytes = n_bytes;
    p.layer_slots = slots;
    return p;
}

static larder_expert_options options_of(const larder_expert_precision* p) {
    larder_expert_options o = LARDER_EXPERT_OPTIONS_INIT;
    o.n_layers = n_layers;
    o.n_experts = n_experts;
    o.n_precisions = 1;
    o.precisions = p;
    o.precision_stride = sizeof *p;
    return o;
}

static void refused(larder_context* c, larder_expert_options o, larder_status expected, const char* field) {
    larder_expert_cache* cache = (larder_expert_cache*)1;
    assert_int_equal(larder_expert_create(c, &o, &cache), expected);
    assert_null(cache);
    larder_error_info info = LARDER_ERROR_INFO_INIT;
    larder_last_error(&info);
    assert_string_equal(info.field, field);
}

static void options(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_expert_precision p = from_memory(4);
    larder_expert_options o = options_of(&p);
    o.n_layers = 0, refused(c, o, LARDER_E_RANGE, "n_layers"), o.n_layers = n_layers;
    o.n_experts = 70000, refused(c, o, LARDER_E_RANGE, "n_experts"), o.n_experts = n_experts;
    o.n_precisions = 2, refused(c, o, LARDER_E_RANGE, "n_precisions"), o.n_precisions = 1;
    o.precisions = NULL, refused(c, o, LARDER_E_INVALID, "precisions"), o.precisions = &p;
    o.precision_stride = 0, refused(c, o, LARDER_E_INVALID, "precision_stride"), o.precision_stride = sizeof p;
    o.policy = 77, refused(c, o, LARDER_E_NOT_FOUND, "policy");
    o.policy = LARDER_EXPERT_BELADY, refused(c, o, LARDER_E_UNSUPPORTED, "policy"), o.policy = 0;
    o.max_leases = 5000, refused(c, o, LARDER_E_RANGE, "max_leases"), o.max_leases = 0;
    o.n_channels = 17, refused(c, o, LARDER_E_RANGE, "n_channels"), o.n_channels = 0;
    o.chunk_bytes = 100, refused(c, o, LARDER_E_RANGE, "chunk_bytes"), o.chunk_bytes = 0;
    p.n_bytes = 0, refused(c, o, LARDER_E_RANGE, "n_bytes"), p.n_bytes = n_bytes;
    p.layer_slots = 0, refused(c, o, LARDER_E_RANGE, "layer_slots"), p.layer_slots = 4;
    p.memory = NULL, refused(c, o, LARDER_E_INVALID, "memory"), p.memory = weights;
    p.expert_stride_bytes = 10, refused(c, o, LARDER_E_RANGE, "expert_stride_bytes"), p.expert_stride_bytes = 0;
    p.n_bytes = (uint64_t)1 << 40, o.n_layers = 4096;
    refused(c, o, LARDER_E_RANGE, "layer_slots"), p.n_bytes = n_bytes, o.n_layers = n_layers;
    p.source = 9, refused(c, o, LARDER_E_INVALID, "source");
    p.source = LARDER_EXPERT_SOURCE_FILE, refused(c, o, LARDER_E_INVALID, "path");
    p.source = LARDER_EXPERT_SOURCE_STORE, refused(c, o, LARDER_E_INVALID, "store");
    p.source = LARDER_EXPERT_SOURCE_CALLBACK, refused(c, o, LARDER_E_INVALID, "load");
    /* A callback is given back by a cache that was made, and by no other. */
    n_drops = 0;
    p.load.fn = load, p.load.ctx = &n_drops, p.load.drop = drop;
    o.n_channels = 17, refused(c, o, LARDER_E_RANGE, "n_channels"), o.n_channels = 0;
    assert_int_equal(n_drops, 0);
    larder_expert_cache* cache = NULL;
    assert_int_equal(larder_expert_create(c, &o, &cache), LARDER_OK);
    larder_expert_destroy(cache);
    assert_int_equal(n_drops, 1);
    larder_expert_destroy(NULL);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void no_such_file(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_expert_precision p = from_memory(4);
    p.source = LARDER_EXPERT_SOURCE_FILE;
    p.path = "/nowhere/experts";
    larder_expert_options o = options_of(&p);
    larder_expert_cache* cache = NULL;
    assert_int_equal(larder_expert_create(c, &o, &cache), LARDER_E_NOT_FOUND);
    p.path = "/dev/null";
    assert_int_equal(larder_expert_create(c, &o, &cache), LARDER_E_TRUNCATED);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

/* Three things an engine may get wrong, each with its answer. */
static void too_much(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_expert_precision p = from_memory(4);
    larder_expert_options o = options_of(&p);
    o.max_leases = 2;
    larder_expert_cache* cache = NULL;
    assert_int_equal(larder_expert_create(c, &o, &cache), LARDER_OK);
    const uint32_t ids[] = {3, 1, 4, 15, 9};
    larder_expert_view v[5];
    larder_expert_lease a = 0, b = 0, none = 0;
    larder_error_info info = LARDER_ERROR_INFO_INIT;
    assert_int_equal(larder_expert_acquire(cache, 0, ids, 5, v, sizeof v[0], NULL, 0, NULL, &a), LARDER_E_NOSPACE);
    larder_last_error(&info);
    assert_non_null(strstr(info.message, "5 experts"));
    assert_non_null(strstr(info.message, "4 slots"));
    assert_int_equal(larder_expert_acquire(cache, 0, ids, 3, v, sizeof v[0], NULL, 0, NULL, &a), LARDER_OK);
    assert_int_equal(larder_expert_acquire(cache, 0, ids + 3, 2, v, sizeof v[0], NULL, 0, NULL, &b), LARDER_E_BUSY);
    assert_int_equal(b, 0);
    assert_int_equal(larder_expert_acquire(cache, 0, ids, 2, v, sizeof v[0], NULL, 0, NULL, &b), LARDER_OK);
    assert_int_equal(larder_expert_acquire(cache, 0, ids, 1, v, sizeof v[0], NULL, 0, NULL, &none), LARDER_E_BUSY);
    larder_last_error(&info);
    assert_string_equal(info.field, "max_leases");
    assert_int_equal(larder_expert_release(cache, a), LARDER_OK);
    assert_int_equal(larder_expert_release(cache, a), LARDER_E_STALE);
    /* 3 and 1 are held by b all the same. */
    assert_int_equal(larder_expert_acquire(cache, 0, ids + 2, 3, v, sizeof v[0], NULL, 0, NULL, &a), LARDER_E_BUSY);
    assert_int_equal(larder_expert_acquire(cache, 0, ids + 3, 2, v, sizeof v[0], NULL, 0, NULL, &a), LARDER_OK);
    assert_memory_equal((const void*)(uintptr_t)v[0].address, weights[0][15], n_bytes);
    assert_memory_equal((const void*)(uintptr_t)v[1].address, weights[0][9], n_bytes);
    assert_int_equal(larder_expert_verify(cache), LARDER_OK);
    larder_expert_destroy(cache); /* with leases */
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void policies(void** state) {
    (void)state;
    uint32_t n = 0, n_online = 0;
    larder_expert_policy_info info = LARDER_EXPERT_POLICY_INFO_INIT;
    for (; larder_expert_policy_get(n, &info) == LARDER_OK; ++n) {
        assert_true(info.policy != 0 && strlen(info.name) > 0 && strlen(info.description) > 0);
        n_online += info.online;
    }
    assert_int_equal(n, 7);
    assert_int_equal(n_online, 5);
    assert_int_equal(larder_expert_policy_get(n, &info), LARDER_E_NOT_FOUND);
}

/* Destroyed while a job is under way: it finishes. */
static void destroyed_early(void** state) {
    (void)state;
    larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
    co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(&co, &c), LARDER_OK);
    larder_queue* q = NULL;
    assert_int_equal(larder_queue_create(c, NULL, &q), LARDER_OK);
    larder_expert_precision p = from_memory(4);
    larder_expert_options o = options_of(&p);
    larder_expert_cache* cache = NULL;
    assert_int_equal(larder_expert_create(c, &o, &cache), LARDER_OK);
    const uint32_t ids[] = {3, 1, 4};
    larder_expert_view v[3];
    larder_expert_lease lease = 0;
    larder_job job = 0;
    assert_int_equal(larder_expert_acquire(cache, 1, ids, 3, v, sizeof v[0], q, 42, &job, &lease), LARDER_PENDING);
    assert_int_equal(v[0].status, LARDER_PENDING);
    larder_expert_destroy(cache);
    larder_completion done;
    uint32_t n = 0;
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(done.user_data, 42);
    assert_int_equal(done.status, LARDER_PARTIAL);
    for (int i = 0; i < 3; ++i) assert_int_equal(v[i].status, LARDER_E_CANCELLED);
    larder_queue_destroy(q);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),  cmocka_unit_test(no_such_file),    cmocka_unit_test(too_much),
        cmocka_unit_test(policies), cmocka_unit_test(destroyed_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
