/* The store through the C ABI: each documented status, and what each verb promises. */
#include "support/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "larder/larder.h"

enum { SEGMENT = 65536, FILE_BYTES = 8 * SEGMENT + 16384 };

struct fixture {
    larder_context* context;
    char dir[64];
    char command[128];
};

static int set_up(void** state) {
    struct fixture* f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/larder-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(larder_context_create(NULL, &f->context), LARDER_OK);
    *state = f;
    return 0;
}

static int tear_down(void** state) {
    struct fixture* f = *state;
    assert_int_equal(larder_context_destroy(f->context), LARDER_OK);
    snprintf(f->command, sizeof f->command, "rm -rf '%s'", f->dir);
    const int ignored = system(f->command);
    (void)ignored;
    free(f);
    return 0;
}

static larder_store_options both_tiers(const struct fixture* f) {
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.directory = f->dir;
    o.host_bytes = 256 << 10;
    o.file_bytes = FILE_BYTES;
    o.segment_bytes = SEGMENT;
    return o;
}

static larder_store* open_store(const struct fixture* f, const larder_store_options* o) {
    larder_store* s = NULL;
    assert_int_equal(larder_store_open(f->context, o, &s), LARDER_OK);
    return s;
}

static larder_key key_of(unsigned i) {
    larder_key k;
    memset(&k, 0, sizeof k);
    for (int b = 0; b < 32; ++b) k.bytes[b] = (uint8_t)((i + 1) * 2654435761u >> (b % 4 * 8)) ^ (uint8_t)b;
    return k;
}

static larder_status put(larder_store* s, unsigned i, const larder_object_meta* meta, const void* data, uint64_t n,
                         uint32_t flags) {
    larder_store_put_item item = LARDER_STORE_PUT_ITEM_INIT;
    item.flags = flags;
    item.key = key_of(i);
    item.meta = meta;
    item.data = data;
    item.n_bytes = n;
    larder_status status = 0;
    larder_store_put(s, &item, sizeof item, 1, &status, NULL, 0, NULL);
    return status;
}

static larder_store_get_result get(larder_store* s, unsigned i, const larder_object_want* want, void* buffer,
                                   uint64_t capacity, uint64_t offset, uint64_t n) {
    larder_store_get_item item = LARDER_STORE_GET_ITEM_INIT;
    larder_store_get_result r = {0, 0, 0};
    item.key = key_of(i);
    item.want = want;
    item.buffer = buffer;
    item.capacity = capacity;
    item.offset = offset;
    item.n_bytes = n;
    assert_int_equal(larder_store_get(s, &item, sizeof item, 1, &r, NULL, 0, NULL), LARDER_OK);
    return r;
}

static void opening(void** state) {
    struct fixture* f = *state;
    larder_store* s = NULL;
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    assert_int_equal(larder_store_open(f->context, NULL, &s), LARDER_E_INVALID);
    assert_int_equal(larder_store_open(f->context, &o, NULL), LARDER_E_INVALID);
    o.host_bytes = 1;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o.host_bytes = UINT64_MAX;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o = both_tiers(f);
    o.segment_bytes = 100000;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o.segment_bytes = 128 << 20;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o = both_tiers(f);
    o.file_bytes = SEGMENT;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o = both_tiers(f);
    o.reinsert_percent = 51;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o = both_tiers(f);
    o.host_policy = LARDER_POLICY_BELADY;
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_RANGE);
    o = both_tiers(f);
    o.directory = "/nonexistent/store";
    assert_int_equal(larder_store_open(f->context, &o, &s), LARDER_E_NOT_FOUND);
    assert_null(s);

    o = both_tiers(f);
    s = open_store(f, &o);
    larder_store* twice = NULL;
    assert_int_equal(larder_store_open(f->context, &o, &twice), LARDER_E_IN_USE);
    assert_int_equal(larder_context_destroy(f->context), LARDER_E_BUSY);
    larder_store_close(s);
    larder_store_close(NULL);

    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/store.larder", f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true((uint64_t)st.st_size <= FILE_BYTES);
}

static void putting_and_getting(void** state) {
    struct fixture* f = *state;
    const larder_store_options o = both_tiers(f);
    larder_store* s = open_store(f, &o);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    char data[20000], out[20000];
    for (size_t i = 0; i < sizeof data; ++i) data[i] = (char)(i * 7 + i / 251);
    meta.tenant = want.tenant = 3;
    meta.layout = want.layout = key_of(1000);
    meta.n_tokens = 16;
    meta.parent = key_of(9);

    assert_int_equal(put(s, 1, &meta, data, sizeof data, 0), LARDER_OK);
    assert_int_equal(put(s, 1, &meta, data, sizeof data, 0), LARDER_OK);
    larder_store_get_result r = get(s, 1, &want, out, sizeof out, 0, 0);
    assert_int_equal(r.status, LARDER_OK);
    assert_int_equal(r.tier, LARDER_TIER_HOST);
    assert_int_equal(r.n_bytes, sizeof data);
    assert_memory_equal(out, data, sizeof data);
    r = get(s, 1, &want, out, sizeof out, 777, 1000);
    assert_int_equal(r.status, LARDER_OK);
    assert_memory_equal(out, data + 777, 1000);

    assert_int_equal(get(s, 2, &want, out, sizeof out, 0, 0).status, LARDER_MISS);
    r = get(s, 1, &want, out, 10, 0, 0);
    assert_int_equal(r.status, LARDER_E_BUFFER_TOO_SMALL);
    assert_int_equal(r.n_bytes, sizeof data);
    assert_int_equal(get(s, 1, &want, out, sizeof out, sizeof data, 0).status, LARDER_E_RANGE);
    assert_int_equal(get(s, 1, &want, out, sizeof out, 1, sizeof data).status, LARDER_E_RANGE);
    assert_int_equal(get(s, 1, &want, out, sizeof out, UINT64_MAX, 2).status, LARDER_E_RANGE);
    assert_int_equal(get(s, 1, NULL, out, sizeof out, 0, 0).status, LARDER_E_INVALID);
    assert_int_equal(get(s, 1, &want, NULL, 0, 0, 0).status, LARDER_E_INVALID);
    assert_int_equal(put(s, 5, &meta, data, 0, 0), LARDER_E_RANGE);
    assert_int_equal(put(s, 5, &meta, data, UINT64_MAX, 0), LARDER_E_RANGE);
    assert_int_equal(put(s, 5, NULL, data, 1, 0), LARDER_E_INVALID);
    assert_int_equal(put(s, 5, &meta, NULL, 1, 0), LARDER_E_INVALID);
    assert_int_equal(put(s, 5, &meta, data, 1, 64), LARDER_E_INVALID);
    assert_int_equal(put(s, 5, &meta, data, 1, LARDER_PUT_NO_HOST | LARDER_PUT_NO_FILE), LARDER_E_INVALID);

    /* identity: another layout or tenant is refused on both sides */
    larder_object_meta foreign = meta;
    foreign.layout = key_of(1001);
    assert_int_equal(put(s, 1, &foreign, data, 10, 0), LARDER_E_IDENTITY);
    larder_object_want other = want;
    other.layout = key_of(1001);
    assert_int_equal(get(s, 1, &other, out, sizeof out, 0, 0).status, LARDER_E_IDENTITY);
    other = want;
    other.tenant = 4;
    assert_int_equal(get(s, 1, &other, out, sizeof out, 0, 0).status, LARDER_E_IDENTITY);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    const larder_key k1 = key_of(1);
    assert_int_equal(larder_store_lookup(s, &k1, 1, &other, &info, sizeof info), LARDER_OK);
    assert_int_equal(info.status, LARDER_E_IDENTITY);

    /* quality: approximate data never answers an exact request, and gives way to exact data */
    meta.quality = LARDER_QUALITY_APPROXIMATE;
    assert_int_equal(put(s, 6, &meta, "approx", 6, 0), LARDER_OK);
    assert_int_equal(get(s, 6, &want, out, sizeof out, 0, 0).status, LARDER_MISS);
    want.min_quality = LARDER_QUALITY_APPROXIMATE;
    assert_int_equal(get(s, 6, &want, out, sizeof out, 0, 0).status, LARDER_OK);
    meta.quality = LARDER_QUALITY_EXACT;
    assert_int_equal(put(s, 6, &meta, "exactly", 7, 0), LARDER_OK);
    want.min_quality = 0;
    r = get(s, 6, &want, out, sizeof out, 0, 0);
    assert_int_equal(r.status, LARDER_OK);
    assert_memory_equal(out, "exactly", 7);

    assert_int_equal(larder_store_flush(s, NULL, 0, NULL), LARDER_OK);
    larder_store_close(s);
    s = open_store(f, &o);
    r = get(s, 1, &want, out, sizeof out, 0, 0);
    assert_int_equal(r.status, LARDER_OK);
    assert_int_equal(r.tier, LARDER_TIER_FILE);
    assert_memory_equal(out, data, sizeof data);
    assert_int_equal(get(s, 1, &want, out, sizeof out, 0, 0).tier, LARDER_TIER_HOST); /* it was brought up */
    assert_int_equal(larder_store_lookup(s, &k1, 1, &want, &info, sizeof info), LARDER_OK);
    assert_int_equal(info.tiers, LARDER_TIER_HOST | LARDER_TIER_FILE);
    assert_int_equal(info.meta.n_tokens, 16);
    assert_memory_equal(&info.meta.parent, &meta.parent, sizeof meta.parent);
    larder_store_close(s);
}

static void pins_quotas_and_removal(void** state) {
    struct fixture* f = *state;
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.host_bytes = 64 << 10;
    larder_store* s = open_store(f, &o);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    char data[4096] = {1};
    larder_status status;
    const larder_key k0 = key_of(0), k1 = key_of(1), none = key_of(77);
    larder_store_explanation why = LARDER_STORE_EXPLANATION_INIT;

    for (unsigned i = 0; i < 16; ++i)
        assert_int_equal(put(s, i, &meta, data, sizeof data, i == 0 ? LARDER_PUT_PIN : 0), LARDER_OK);
    assert_int_equal(put(s, 16, &meta, data, sizeof data, 0), LARDER_OK); /* evicts 1: 0 is pinned */
    larder_object_info infos[2] = {LARDER_OBJECT_INFO_INIT, LARDER_OBJECT_INFO_INIT};
    const larder_key two[2] = {k0, k1};
    assert_int_equal(larder_store_lookup(s, two, 2, NULL, infos, sizeof infos[0]), LARDER_OK);
    assert_int_equal(infos[0].status, LARDER_OK);
    assert_int_equal(infos[0].n_pins, 1);
    assert_int_equal(infos[1].status, LARDER_MISS);
    assert_int_equal(larder_store_explain(s, &k1, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_EVICTED);
    assert_int_equal(larder_store_explain(s, &none, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_NEVER);
    assert_int_equal(larder_store_explain(s, &k0, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_NOT);

    assert_int_equal(larder_store_evict(s, &k0, 1, LARDER_TIER_HOST, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_BUSY);
    assert_int_equal(larder_store_evict(s, &k0, 1, 0, &status), LARDER_E_RANGE);
    assert_int_equal(larder_store_pin(s, &none, 1, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_MISS);
    assert_int_equal(larder_store_unpin(s, &k0, 1, NULL), LARDER_OK);
    assert_int_equal(larder_store_unpin(s, &k0, 1, &status), LARDER_PARTIAL);
    assert_int_equal(status, LARDER_E_STATE);
    assert_int_equal(larder_store_evict(s, &k0, 1, LARDER_TIER_HOST, NULL), LARDER_OK);
    assert_int_equal(larder_store_explain(s, &k0, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_REMOVED);
    assert_int_equal(larder_store_flush(s, NULL, 0, NULL), LARDER_E_STATE);

    /* everything pinned: full is an answer */
    for (unsigned i = 100; i < 116; ++i)
        assert_int_equal(put(s, i, &meta, data, sizeof data, LARDER_PUT_PIN), LARDER_OK);
    assert_int_equal(put(s, 200, &meta, data, sizeof data, 0), LARDER_E_NOSPACE);
    const larder_key k200 = key_of(200);
    assert_int_equal(larder_store_explain(s, &k200, &why), LARDER_OK);
    assert_int_equal(why.why, LARDER_ABSENT_REJECTED);
    uint64_t n = 0;
    assert_int_equal(larder_store_drop_tenant(s, 0, &n), LARDER_OK);
    assert_int_equal(n, 16);

    /* a tenant over its quota gives up its own */
    meta.tenant = 1;
    assert_int_equal(put(s, 300, &meta, data, sizeof data, 0), LARDER_OK);
    meta.tenant = 2;
    assert_int_equal(larder_store_set_quota(s, 2, 8192, 0), LARDER_OK);
    for (unsigned i = 301; i < 306; ++i) assert_int_equal(put(s, i, &meta, data, sizeof data, 0), LARDER_OK);
    larder_store_info info = LARDER_STORE_INFO_INIT;
    assert_int_equal(larder_store_info_get(s, &info), LARDER_OK);
    assert_int_equal(info.n_objects, 3);
    assert_int_equal(put(s, 400, &meta, data, 4096, LARDER_PUT_PIN), LARDER_OK);
    assert_int_equal(put(s, 401, &meta, data, 4096, LARDER_PUT_PIN), LARDER_OK);
    assert_int_equal(put(s, 402, &meta, data, 4096, 0), LARDER_E_QUOTA);
    assert_int_equal(larder_store_verify(s), LARDER_OK);
    larder_store_report report = LARDER_STORE_REPORT_INIT;
    assert_int_equal(larder_store_scrub(s, &report), LARDER_OK);
    assert_int_equal(report.n_records, 3);
    larder_store_close(s);
}

static void wants_are_checked(void** state) {
    struct fixture* f = *state;
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.host_bytes = 64 << 10;
    larder_store* s = open_store(f, &o);
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    char data[8] = {1}, out[8];
    assert_int_equal(put(s, 1, &meta, data, sizeof data, 0), LARDER_OK);
    const larder_key k1 = key_of(1);
    larder_object_info info = LARDER_OBJECT_INFO_INIT;
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    want.min_quality = 256;
    assert_int_equal(get(s, 1, &want, out, sizeof out, 0, 0).status, LARDER_E_RANGE);
    assert_int_equal(larder_store_lookup(s, &k1, 1, &want, &info, sizeof info), LARDER_E_RANGE);
    want.min_quality = -1;
    assert_int_equal(get(s, 1, &want, out, sizeof out, 0, 0).status, LARDER_E_RANGE);
    want.min_quality = 255;
    assert_int_equal(get(s, 1, &want, out, sizeof out, 0, 0).status, LARDER_OK);
    want.reserved0 = 1;
    assert_int_equal(get(s, 1, &want, out, sizeof out, 0, 0).status, LARDER_E_INVALID);
    larder_store_close(s);
}

static void after_close(void** state) {
    struct fixture* f = *state;
    larder_capabilities k = LARDER_CAPABILITIES_INIT;
    assert_int_equal(larder_context_capabilities(f->context, &k), LARDER_OK);
    if (!k.debug_handles) return;
    larder_store_options o = LARDER_STORE_OPTIONS_INIT;
    o.host_bytes = 64 << 10;
    larder_store* s = open_store(f, &o);
    larder_store_close(s);
    larder_store_info info = LARDER_STORE_INFO_INIT;
    assert_int_equal(larder_store_info_get(s, &info), LARDER_E_CLOSED);
    larder_store_close(s); /* twice: nothing happens */
}

static void as_jobs(void** state) {
    struct fixture* f = *state;
    const larder_store_options o = both_tiers(f);
    larder_store* s = open_store(f, &o);
    larder_queue* q = NULL;
    assert_int_equal(larder_queue_create(f->context, NULL, &q), LARDER_OK);
    enum { N = 40 };
    static char data[N][3000], out[N][3000];
    larder_object_meta meta = LARDER_OBJECT_META_INIT;
    larder_object_want want = LARDER_OBJECT_WANT_INIT;
    larder_store_put_item puts[N];
    larder_store_get_item gets[N];
    larder_store_get_result results[N];
    larder_status statuses[N];
    for (unsigned i = 0; i < N; ++i) {
        memset(data[i], (int)i + 1, sizeof data[i]);
        puts[i] = (larder_store_put_item)LARDER_STORE_PUT_ITEM_INIT;
        puts[i].key = key_of(i);
        puts[i].meta = &meta;
        puts[i].data = data[i];
        puts[i].n_bytes = sizeof data[i];
        gets[i] = (larder_store_get_item)LARDER_STORE_GET_ITEM_INIT;
        gets[i].key = key_of(i);
        gets[i].want = &want;
        gets[i].buffer = out[i];
        gets[i].capacity = sizeof out[i];
    }
    larder_job job = 0;
    larder_completion done;
    uint32_t n = 0;
    assert_int_equal(larder_store_put(s, puts, sizeof puts[0], N, statuses, q, 11, &job), LARDER_PENDING);
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(done.user_data, 11);
    assert_int_equal(done.status, LARDER_OK);
    assert_int_equal(done.n_bytes, sizeof data);
    assert_int_equal(larder_store_flush(s, q, 12, &job), LARDER_PENDING);
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(done.status, LARDER_OK);
    larder_store_close(s);

    s = open_store(f, &o);
    assert_int_equal(larder_store_get(s, gets, sizeof gets[0], N, results, q, 13, &job), LARDER_PENDING);
    assert_int_equal(larder_job_wait_layer(q, job, N / 2, UINT64_MAX), LARDER_OK);
    for (unsigned i = 0; i <= N / 2; ++i) {
        assert_int_equal(results[i].status, LARDER_OK);
        assert_memory_equal(out[i], data[i], sizeof data[i]);
    }
    assert_int_equal(larder_queue_wait(q, &done, sizeof done, 1, UINT64_MAX, &n), LARDER_OK);
    assert_int_equal(done.status, LARDER_OK);
    for (unsigned i = 0; i < N; ++i) assert_memory_equal(out[i], data[i], sizeof data[i]);
    larder_queue_destroy(q);
    larder_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opening, set_up, tear_down),
        cmocka_unit_test_setup_teardown(putting_and_getting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pins_quotas_and_removal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wants_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_jobs, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
