/* What a store's host tier keeps: every policy on line, hints of coming requests, priorities. Through the C ABI. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { OBJECT = 4096, N_HELD = 16 };

static larder_key key_of(uint64_t i) {
    larder_key k;
    memset(&k, 0, sizeof k);
    for (int b = 0; b < 32; ++b) k.bytes[b] = (uint8_t)((i + 1) * 0x9e3779b97f4a7c15u >> (b % 8 * 8));
    return k;
}

static larder_store* open_store(larder_context* c, uint32_t policy) {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.host_bytes = N_HELD * OBJECT;
    o.host_policy = policy;
    larder_store* s = NULL;
    assert_int_equal(larder_store_open(c, &o, &s), LARDER_OK);
    return s;
}

static larder_status put(larder_store* s, uint64_t i) {
    static unsigned char bytes[OBJECT];
    memset(bytes, (int)i, sizeof bytes);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    meta.n_tokens = i % 7 ? 16 : 0;
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.key = key_of(i);
    item.meta = &meta;
    item.data = bytes;
    item.n_bytes = sizeof bytes;
    if (i % 3) meta.parent = key_of(i - 1);
    larder_status status = LARDER_E_INTERNAL;
    larder_store_put(s, &item, sizeof item, 1, &status, NULL, 0, NULL);
    return status;
}

/* 1: a hit, whose bytes are right. */
static int get(larder_store* s, uint64_t i) {
    static unsigned char bytes[OBJECT];
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
    larder_store_get_result r = {0, 0, 0};
    item.key = key_of(i);
    item.want = &want;
    item.buffer = bytes;
    item.capacity = sizeof bytes;
    assert_int_equal(larder_store_get(s, &item, sizeof item, 1, &r, NULL, 0, NULL), LARDER_OK);
    if (r.status != LARDER_OK) {
        assert_int_equal(r.status, LARDER_MISS);
        return 0;
    }
    for (size_t b = 0; b < sizeof bytes; ++b) assert_int_equal(bytes[b], (unsigned char)i);
    return 1;
}

static int is_there(larder_store* s, uint64_t i) {
    const larder_key k = key_of(i);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    assert_int_equal(larder_store_lookup(s, &k, 1, NULL, &info, sizeof info), LARDER_OK);
    return info.status == LARDER_OK;
}

static larder_context* make_context(void) {
    larder_context* c = NULL;
    assert_int_equal(larder_context_create(NULL, &c), LARDER_OK);
    return c;
}

static uint64_t next_random(uint64_t* state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* Each row that may serve a store serves one, hints and priorities included; LRU and FIFO hit as replay says. */
static void every_policy_on_line(void** state) {
    (void)state;
    enum { N = 4000 };
    larder_context* c = make_context();
    larder_policy_info info = LARDER_POLICY_INFO_INIT;
    uint32_t n_online = 0;
    for (uint32_t row = 0; larder_policy_get(row, &info) == LARDER_OK; ++row) {
        if (!info.online) {
            larder_store_options o = LARDER_STORE_OPTIONS_INIT;
            larder_store* none = NULL;
            o.host_bytes = 1 << 20;
            o.host_policy = info.policy;
            assert_int_equal(larder_store_open(c, &o, &none), LARDER_E_RANGE);
            continue;
        }
        ++n_online;
        static uint64_t blocks[N], ends[N];
        for (int hinted = 0; hinted < 2; ++hinted) {
            larder_store* s = open_store(c, info.policy);
            uint64_t hits = 0, seed = 88172645463325252u;
            for (uint32_t i = 0; i < N; ++i) {
                blocks[i] = next_random(&seed) % (next_random(&seed) % 3 ? 12 : 60);
                ends[i] = i + 1;
                if (hinted) {
                    larder_key k = key_of(next_random(&seed) % 60);
                    if (i % 2)
                        larder_store_hint(s, &k, 1, i + next_random(&seed) % 30, NULL);
                    else
                        larder_store_protect(s, &k, 1, (uint32_t)(next_random(&seed) % 101), next_random(&seed) % 1000,
                                             NULL);
                    assert_int_equal(larder_store_hint_served(s, i / 2), LARDER_OK);
                }
                if (get(s, blocks[i]))
                    ++hits;
                else
                    assert_int_equal(put(s, blocks[i]), LARDER_OK);
            }
            assert_int_equal(larder_store_verify(s), LARDER_OK);
            larder_store_info held = LARDER_STORE_INFO_INIT;
            assert_int_equal(larder_store_info_get(s, &held), LARDER_OK);
            assert_int_equal(held.n_host_objects, N_HELD);
            assert_true(hits > N / 4);
            larder_store_close(s);
            if (hinted || (info.policy != LARDER_POLICY_LRU && info.policy != LARDER_POLICY_FIFO)) continue;
            larder_replay_trace t = LARDER_REPLAY_TRACE_INIT;
            larder_replay_options o = LARDER_REPLAY_OPTIONS_INIT;
            larder_replay_result r = LARDER_REPLAY_RESULT_INIT;
            t.blocks = blocks, t.ends = ends, t.n_requests = N;
            o.policy = info.policy, o.capacity_blocks = N_HELD;
            assert_int_equal(larder_replay_run(c, &t, &o, &r), LARDER_OK);
            assert_int_equal(r.n_hits, hits);
        }
    }
    assert_true(n_online >= 17);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void hints(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, LARDER_POLICY_LRU);
    for (uint64_t i = 0; i < N_HELD; ++i) assert_int_equal(put(s, i), LARDER_OK);
    const larder_key soon[] = {key_of(0), key_of(1)}, later[] = {key_of(2), key_of(100)};
    larder_outcome outcomes[2];
    assert_int_equal(larder_store_hint(s, soon, 2, 10, outcomes), LARDER_OK);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_ACCEPTED);
    assert_int_equal(larder_store_hint(s, later, 2, 20, outcomes), LARDER_PARTIAL);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_ACCEPTED);
    assert_int_equal(outcomes[1], LARDER_OUTCOME_DEFERRED);
    assert_int_equal(larder_store_hint(s, soon, 1, UINT64_MAX, outcomes), LARDER_PARTIAL);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_REJECTED);
    assert_int_equal(larder_store_hint(s, NULL, 1, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_store_hint_served(s, UINT64_MAX), LARDER_E_RANGE);

    /* The oldest of all stay, and so does what was announced before it came. */
    assert_int_equal(put(s, 100), LARDER_OK);
    for (uint64_t i = 200; i < 200 + 2 * N_HELD; ++i) assert_int_equal(put(s, i), LARDER_OK);
    for (uint64_t i = 0; i < 3; ++i) assert_true(is_there(s, i));
    assert_true(is_there(s, 100) && !is_there(s, 3));

    /* Served: 0 and 1 are as others, 2 and 100 are still waited for. */
    assert_int_equal(larder_store_hint_served(s, 10), LARDER_OK);
    assert_int_equal(larder_store_hint(s, soon, 1, 10, outcomes), LARDER_PARTIAL);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_REJECTED);
    for (uint64_t i = 300; i < 300 + 2 * N_HELD; ++i) assert_int_equal(put(s, i), LARDER_OK);
    assert_true(!is_there(s, 0) && !is_there(s, 1) && is_there(s, 2) && is_there(s, 100));

    /* All that is held is waited for: what is needed last goes. */
    larder_key many[N_HELD];
    for (uint64_t i = 0; i < N_HELD; ++i) {
        many[i] = key_of(400 + i);
        larder_store_hint(s, &many[i], 1, 30 + i, NULL);
        assert_int_equal(put(s, 400 + i), LARDER_OK);
    }
    assert_true(is_there(s, 2) && is_there(s, 100) && is_there(s, 400));
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void protection(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, LARDER_POLICY_LRU);
    for (uint64_t i = 0; i < N_HELD; ++i) assert_int_equal(put(s, i), LARDER_OK);
    const larder_key high[] = {key_of(0), key_of(1), key_of(999)}, low = key_of(15), brief = key_of(2);
    larder_outcome outcomes[3];
    assert_int_equal(larder_store_protect(s, high, 3, 101, 0, outcomes), LARDER_E_RANGE);
    assert_int_equal(larder_store_protect(s, high, 3, 90, 0, outcomes), LARDER_PARTIAL);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_ACCEPTED);
    assert_int_equal(outcomes[2], LARDER_OUTCOME_MISSING);
    assert_int_equal(larder_store_protect(s, &low, 1, 0, 0, outcomes), LARDER_OK);
    assert_int_equal(larder_store_protect(s, &brief, 1, 100, 1, outcomes), LARDER_OK);
    assert_int_equal(larder_store_protect(s, &high[1], 1, 90, UINT64_MAX, outcomes), LARDER_PARTIAL);
    assert_int_equal(outcomes[0], LARDER_OUTCOME_CLIPPED);

    assert_int_equal(put(s, 200), LARDER_OK);
    assert_true(!is_there(s, 15) && is_there(s, 3));
    for (uint64_t i = 201; i < 201 + 2 * N_HELD; ++i) assert_int_equal(put(s, i), LARDER_OK);
    assert_true(is_there(s, 0) && is_there(s, 1) && !is_there(s, 2) && !is_there(s, 3));

    /* A wish, not a pin. */
    for (uint64_t i = 300; i < 300 + N_HELD; ++i) {
        const larder_key k = key_of(i);
        assert_int_equal(put(s, i), LARDER_OK);
        assert_int_equal(larder_store_protect(s, &k, 1, 100, 0, NULL), LARDER_OK);
    }
    assert_true(!is_there(s, 0) && !is_there(s, 1) && is_there(s, 300));
    assert_int_equal(put(s, 400), LARDER_OK);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_close(s);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

static void strides(void** state) {
    (void)state;
    larder_context* c = make_context();
    larder_store* s = open_store(c, LARDER_POLICY_AUTO);
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    larder_store_put_item in = LARDER_STORE_PUT_ITEM_INIT;
    larder_store_get_item out = LARDER_STORE_GET_ITEM_INIT;
    larder_store_get_result r = {0, 0, 0};
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    out.want = &want;
    assert_int_equal(larder_store_put(s, &in, sizeof in - 8, 1, NULL, NULL, 0, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_store_get(s, &out, sizeof out - 8, 1, &r, NULL, 0, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_store_lookup(s, &in.key, 1, NULL, &info, sizeof info - 8), LARDER_E_INVALID);
    larder_store_close(s);
    assert_int_equal(larder_context_destroy(c), LARDER_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_on_line),
        cmocka_unit_test(hints),
        cmocka_unit_test(protection),
        cmocka_unit_test(strides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
