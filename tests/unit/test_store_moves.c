/* Events of a store, and objects moved between its tiers. Through the C ABI. */
#include "support/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "larder/larder.h"

enum { OBJECT = 10000, N = 12 };

static larder_key key_of(uint64_t i) {
    larder_key k;
    for (int b = 0; b < 32; ++b) k.bytes[b] = (uint8_t)((i + 1) * 0x9e3779b97f4a7c15u >> (b % 8 * 8));
    return k;
}

struct bed {
    char dir[64];
    larder_context* context;
    larder_store* store;
};

static void set_up(struct bed* b, uint64_t n_events, uint64_t host_bytes) {
    strcpy(b->dir, "/tmp/larder-moves-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(larder_context_create(NULL, &b->context), LARDER_OK);
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.directory = b->dir;
    o.file_bytes = 8 << 20;
    o.segment_bytes = 1 << 20;
    o.host_bytes = host_bytes;
    o.write_policy = LARDER_WRITE_BACK;
    o.n_events = n_events;
    assert_int_equal(larder_store_open(b->context, &o, &b->store), LARDER_OK);
}

static void tear_down(struct bed* b) {
    larder_store_close(b->store);
    assert_int_equal(larder_context_destroy(b->context), LARDER_OK);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", b->dir);
    assert_int_equal(system(command), 0);
}

static larder_status put(larder_store* s, uint64_t i, uint32_t flags) {
    static unsigned char bytes[OBJECT];
    memset(bytes, (int)i, sizeof bytes);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    meta.tenant = (uint32_t)i;
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.key = key_of(i);
    item.meta = &meta;
    item.data = bytes;
    item.n_bytes = sizeof bytes;
    item.flags = flags;
    larder_status status = LARDER_E_INTERNAL;
    larder_store_put(s, &item, sizeof item, 1, &status, NULL, 0, NULL);
    return status;
}

static uint32_t tiers_of(larder_store* s, uint64_t i) {
    const larder_key k = key_of(i);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    assert_int_equal(larder_store_lookup(s, &k, 1, NULL, &info, sizeof info), LARDER_OK);
    return info.status == LARDER_OK ? info.tiers : 0;
}

static void in_order(void** state) {
    (void)state;
    struct bed b;
    set_up(&b, 4, 1 << 20);
    uint64_t cursor = 0, n = 9;
    larder_event e[8];
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, sizeof e[0], 8, &n), LARDER_OK);
    assert_int_equal(n, 0);
    const larder_key k = key_of(3);
    larder_status status;
    assert_int_equal(put(b.store, 3, 0), LARDER_OK);
    assert_int_equal(larder_store_offload(b.store, &k, 1, &status, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(larder_store_evict(b.store, &k, 1, LARDER_TIER_FILE, &status), LARDER_OK);
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, sizeof e[0], 8, &n), LARDER_OK);
    assert_int_equal(n, 4);
    assert_int_equal(cursor, 4);
    const uint32_t places[4] = {LARDER_TIER_HOST, LARDER_TIER_HOST | LARDER_TIER_FILE, LARDER_TIER_FILE, 0};
    const int32_t causes[4] = {LARDER_ABSENT_NOT, LARDER_ABSENT_NOT, LARDER_ABSENT_MOVED, LARDER_ABSENT_REMOVED};
    const int32_t kinds[4] = {LARDER_EVENT_PUBLISHED, LARDER_EVENT_PLACED, LARDER_EVENT_PLACED, LARDER_EVENT_REMOVED};
    for (uint32_t i = 0; i < 4; ++i) {
        assert_int_equal(e[i].sequence, i + 1);
        assert_int_equal(e[i].kind, kinds[i]);
        assert_int_equal(e[i].places, places[i]);
        assert_int_equal(e[i].places_before, i ? places[i - 1] : 0);
        assert_int_equal(e[i].cause, causes[i]);
        assert_int_equal(e[i].n_bytes, OBJECT);
        assert_memory_equal(&e[i].key, &k, sizeof k);
    }
    /* One more than the four that are kept. */
    for (uint64_t i = 5; i < 10; ++i) assert_int_equal(put(b.store, i, 0), LARDER_OK);
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, sizeof e[0], 8, &n), LARDER_E_STALE);
    assert_int_equal(n, 0);
    assert_int_equal(cursor, 4);
    uint64_t position = 0;
    assert_int_equal(larder_store_events_snapshot(b.store, &position, &cursor, e, sizeof e[0], 3, &n), LARDER_PARTIAL);
    assert_int_equal(n, 3);
    assert_int_equal(cursor, 9);
    assert_int_equal(larder_store_events_snapshot(b.store, &position, &cursor, e, sizeof e[0], 3, &n), LARDER_OK);
    assert_int_equal(n, 2);
    assert_int_equal(e[0].places, LARDER_TIER_HOST);
    cursor = 10;
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, sizeof e[0], 8, &n), LARDER_E_RANGE);
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, 4, 8, &n), LARDER_E_INVALID);
    tear_down(&b);

    set_up(&b, 0, 1 << 20);
    cursor = 0;
    assert_int_equal(larder_store_events_read(b.store, &cursor, e, sizeof e[0], 8, &n), LARDER_E_STATE);
    tear_down(&b);
}

static void moved(void** state) {
    (void)state;
    struct bed b;
    set_up(&b, 1024, 1 << 20);
    larder_key keys[N + 1];
    larder_status statuses[N + 1];
    for (uint64_t i = 0; i <= N; ++i) keys[i] = key_of(i);
    for (uint64_t i = 0; i < N; ++i) assert_int_equal(put(b.store, i, i == 0 ? LARDER_PUT_NO_FILE : 0), LARDER_OK);
    assert_int_equal(larder_store_pin(b.store, &keys[1], 1, NULL), LARDER_OK);
    assert_int_equal(larder_store_offload(b.store, keys, N + 1, statuses, NULL, 0, NULL), LARDER_PARTIAL);
    assert_int_equal(statuses[0], LARDER_E_STATE);
    assert_int_equal(statuses[1], LARDER_E_BUSY);
    assert_int_equal(tiers_of(b.store, 1), LARDER_TIER_HOST | LARDER_TIER_FILE);
    assert_int_equal(statuses[N], LARDER_MISS);
    for (uint64_t i = 2; i < N; ++i) {
        assert_int_equal(statuses[i], LARDER_OK);
        assert_int_equal(tiers_of(b.store, i), LARDER_TIER_FILE);
    }
    /* As a job, and back. */
    larder_queue* q = NULL;
    assert_int_equal(larder_queue_create(b.context, NULL, &q), LARDER_OK);
    larder_job job;
    assert_int_equal(larder_store_onboard(b.store, keys, N + 1, statuses, q, 5, &job), LARDER_PENDING);
    larder_completion done;
    uint32_t n = 0;
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(done.status, LARDER_OK);
    assert_int_equal(statuses[N], LARDER_MISS);
    for (uint64_t i = 1; i < N; ++i) {
        assert_int_equal(statuses[i], LARDER_OK);
        assert_int_equal(tiers_of(b.store, i), LARDER_TIER_HOST | LARDER_TIER_FILE);
    }
    assert_int_equal(larder_store_move(b.store, keys + 2, 2, LARDER_TIER_HOST, 0, statuses, NULL, 0, NULL), LARDER_OK);
    assert_int_equal(tiers_of(b.store, 2), LARDER_TIER_HOST);
    assert_int_equal(larder_store_offload(b.store, keys + 2, 1, statuses, NULL, 0, NULL), LARDER_PARTIAL);
    assert_int_equal(statuses[0], LARDER_E_STATE); /* it was moved to stay */
    assert_int_equal(
        larder_store_move(b.store, keys, 1, LARDER_TIER_HOST | LARDER_TIER_FILE, 0, statuses, NULL, 0, NULL),
        LARDER_E_RANGE);
    assert_int_equal(larder_store_move(b.store, keys, 1, LARDER_TIER_HOST, 2, statuses, NULL, 0, NULL),
                     LARDER_E_INVALID);
    assert_int_equal(larder_store_verify(b.store), LARDER_OK);
    larder_queue_destroy(q);
    tear_down(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_order), cmocka_unit_test(moved)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
