/* The index through the C ABI: every call, its answers and its refusals. */
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "larder/index.h"

static larder_context* context;

static int set_up(void** state) {
    (void)state;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    return larder_context_create(&o, &context);
}

static int tear_down(void** state) {
    (void)state;
    return larder_context_destroy(context);
}

static larder_index* make(uint32_t key_bytes, uint32_t value_bytes, larder_index_order order) {
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    larder_index* index = NULL;
    o.key_bytes = key_bytes;
    o.value_bytes = value_bytes;
    o.order = order;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_OK);
    return index;
}

static const char* bad_field(void) {
    static larder_error_info e;
    e = (larder_error_info)LARDER_ERROR_INFO_INIT;
    assert_int_equal(larder_last_error(&e), LARDER_OK);
    return e.field;
}

static void bad_options(void** state) {
    (void)state;
    larder_index* index = (larder_index*)1;
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    assert_int_equal(larder_index_create(context, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_create(NULL, NULL, &index), LARDER_E_INVALID);
    o.key_bytes = 12;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_INVALID);
    assert_string_equal(bad_field(), "key_bytes");
    assert_null(index);
    o.key_bytes = 0;
    o.value_bytes = 1;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_INVALID);
    assert_string_equal(bad_field(), "value_bytes");
    o.value_bytes = 0;
    o.order = 3;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_RANGE);
    assert_string_equal(bad_field(), "order");
    o.order = 0;
    o.max_bytes = 1;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_RANGE);
    o.max_bytes = UINT64_MAX;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_RANGE);
    struct {
        larder_index_options o;
        uint64_t future;
    } newer = {LARDER_INDEX_OPTIONS_INIT, 1};
    newer.o.struct_size = sizeof newer;
    assert_int_equal(larder_index_create(context, &newer.o, &index), LARDER_E_TOO_NEW);
    o = (larder_index_options)LARDER_INDEX_OPTIONS_INIT;
    o.struct_size = 4;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_INVALID);
}

static void null_arguments(void** state) {
    (void)state;
    larder_index* index = make(8, 8, 0);
    uint64_t k = 1, n;
    larder_index_destroy(NULL);
    assert_int_equal(larder_index_get(NULL, &k, &k), LARDER_E_INVALID);
    assert_int_equal(larder_index_get((larder_index*)context, &k, &k), LARDER_E_CLOSED);
    assert_int_equal(larder_index_get(index, NULL, &k), LARDER_E_INVALID);
    assert_int_equal(larder_index_put(index, NULL, &k), LARDER_E_INVALID);
    assert_int_equal(larder_index_put(index, &k, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_insert(index, &k, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_swap(index, &k, NULL, &k), LARDER_E_INVALID);
    assert_int_equal(larder_index_remove(index, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_get_many(index, NULL, 1, NULL, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_get_many(index, NULL, 0, NULL, NULL, &n), LARDER_OK);
    assert_int_equal(n, 0);
    assert_int_equal(larder_index_put_many(index, &k, NULL, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_remove_many(index, NULL, 1, NULL, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_LEAST, NULL, NULL, NULL, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_scan(index, 0, NULL, NULL, NULL, 1, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_scan(index, 5, NULL, NULL, NULL, 1, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_count(index, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_build(index, NULL, &k, 1), LARDER_E_INVALID);
    assert_int_equal(larder_index_save(index, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_load(index, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_get_info(index, NULL), LARDER_E_INVALID);
    larder_index_destroy(index);
}

static void single_keys(void** state) {
    (void)state;
    larder_index* index = make(8, 8, 0);
    uint64_t k = 5, v = 50, got = 0, n = 9;
    assert_int_equal(larder_index_get(index, &k, &got), LARDER_MISS);
    assert_int_equal(larder_index_remove(index, &k, &got), LARDER_MISS);
    assert_int_equal(larder_index_swap(index, &k, &got, &v), LARDER_MISS);
    assert_int_equal(larder_index_insert(index, &k, &v, &got), LARDER_OK);
    v = 51;
    assert_int_equal(larder_index_insert(index, &k, &v, &got), LARDER_E_EXISTS);
    assert_int_equal(got, 50);
    assert_int_equal(larder_index_insert(index, &k, &v, NULL), LARDER_E_EXISTS);
    assert_int_equal(larder_index_put(index, &k, &v), LARDER_OK);
    assert_int_equal(larder_index_get(index, &k, &got), LARDER_OK);
    assert_int_equal(got, 51);
    assert_int_equal(larder_index_get(index, &k, NULL), LARDER_OK);
    uint64_t expected = 50;
    assert_int_equal(larder_index_swap(index, &k, &expected, &v), LARDER_E_STATE);
    assert_int_equal(expected, 51);
    v = 52;
    assert_int_equal(larder_index_swap(index, &k, &expected, &v), LARDER_OK);
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(larder_index_remove(index, &k, &got), LARDER_OK);
    assert_int_equal(got, 52);
    assert_int_equal(larder_index_get(index, &k, &got), LARDER_MISS);
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    larder_index_destroy(index);
}

/* Keys of every width and both orders, at odd addresses. */
static void widths_and_orders(void** state) {
    (void)state;
    static const uint32_t widths[] = {8, 16, 32};
    for (int i = 0; i < 18; ++i) {
        const uint32_t kb = widths[i % 3], vb = widths[i / 3 % 3];
        const larder_index_order order = i < 9 ? LARDER_INDEX_ORDER_BYTES : LARDER_INDEX_ORDER_INTEGER;
        larder_index* index = make(kb, vb, order);
        unsigned char raw[1 + 32], value[1 + 32], keys[1 + 300 * 32], values[1 + 300 * 32];
        /* The number lies in the least significant bytes, whichever end they are at; so both orders count upwards. */
        for (uint32_t j = 0; j < 300; ++j) {
            const uint32_t number = j * 7 % 300;
            memset(raw, 0, sizeof raw);
            const uint32_t low = order == LARDER_INDEX_ORDER_BYTES ? kb - 1 : 0,
                           high = order == LARDER_INDEX_ORDER_BYTES ? kb - 2 : 1;
            raw[1 + low] = (unsigned char)number;
            raw[1 + high] = (unsigned char)(number >> 8);
            memset(value, (int)(number & 0xff), sizeof value);
            assert_int_equal(larder_index_put(index, raw + 1, value + 1), LARDER_OK);
        }
        uint64_t n = 0;
        assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_LEAST, NULL, keys + 1, values + 1, 300, &n),
                         LARDER_OK);
        assert_int_equal(n, 300);
        for (uint32_t j = 0; j < 300; ++j) {
            const unsigned char* k = keys + 1 + j * kb;
            const uint32_t number =
                order == LARDER_INDEX_ORDER_BYTES ? (uint32_t)k[kb - 2] << 8 | k[kb - 1] : (uint32_t)k[1] << 8 | k[0];
            assert_int_equal(number, j);
            assert_int_equal(values[1 + j * vb + vb - 1], j & 0xff);
        }
        assert_int_equal(larder_index_verify(index), LARDER_OK);
        larder_index_destroy(index);
    }
}

static void order(void** state) {
    (void)state;
    larder_index* index = make(8, 8, 0);
    uint64_t n;
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_LEAST, NULL, NULL, NULL, 1, &n), LARDER_MISS);
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_MOST, NULL, NULL, NULL, 1, &n), LARDER_MISS);
    for (uint64_t k = 10; k <= 1000; k += 10) assert_int_equal(larder_index_put(index, &k, &k), LARDER_OK);
    static const struct {
        larder_index_from from;
        uint64_t key;
        int64_t want;
    } rows[] = {
        {LARDER_INDEX_AT_LEAST, 0, 10},           {LARDER_INDEX_AT_LEAST, 10, 10}, {LARDER_INDEX_AT_LEAST, 11, 20},
        {LARDER_INDEX_AT_LEAST, 1001, -1},        {LARDER_INDEX_ABOVE, 10, 20},    {LARDER_INDEX_ABOVE, 9, 10},
        {LARDER_INDEX_ABOVE, 1000, -1},           {LARDER_INDEX_AT_MOST, 10, 10},  {LARDER_INDEX_AT_MOST, 9, -1},
        {LARDER_INDEX_AT_MOST, UINT64_MAX, 1000}, {LARDER_INDEX_BELOW, 20, 10},    {LARDER_INDEX_BELOW, 10, -1},
        {LARDER_INDEX_BELOW, 5000, 1000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i) {
        uint64_t k = 0, v = 0;
        const larder_status s = larder_index_scan(index, rows[i].from, &rows[i].key, &k, &v, 1, &n);
        assert_int_equal(s, rows[i].want < 0 ? LARDER_MISS : LARDER_OK);
        if (rows[i].want >= 0) assert_true(k == (uint64_t)rows[i].want && v == k);
    }
    uint64_t keys[200];
    const uint64_t from = 505;
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_BELOW, &from, keys, NULL, 200, &n), LARDER_OK);
    assert_int_equal(n, 50);
    for (uint64_t i = 0; i < n; ++i) assert_int_equal(keys[i], 500 - 10 * i);
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_LEAST, &from, keys, NULL, 0, &n), LARDER_OK);
    larder_index_destroy(index);
}

static void batches(void** state) {
    (void)state;
    larder_index* index = make(8, 8, 0);
    enum { n = 1000 };
    static uint64_t keys[n], values[n], got[n];
    static larder_status status[n];
    uint64_t n_done = 0;
    for (uint64_t i = 0; i < n; ++i) {
        keys[i] = i % 900 * 3; /* the first hundred twice: the later value wins */
        values[i] = i;
    }
    assert_int_equal(larder_index_put_many(index, keys, values, n, status), LARDER_OK);
    for (int i = 0; i < n; ++i) assert_int_equal(status[i], LARDER_OK);
    for (uint64_t i = 0; i < n; ++i) keys[i] = i * 3;
    assert_int_equal(larder_index_get_many(index, keys, n, got, status, &n_done), LARDER_OK);
    assert_int_equal(n_done, 900);
    for (uint64_t i = 0; i < n; ++i) {
        assert_int_equal(status[i], i < 900 ? LARDER_OK : LARDER_MISS);
        assert_int_equal(got[i], i < 100 ? i + 900 : i < 900 ? i : 0);
    }
    assert_int_equal(larder_index_remove_many(index, keys, n, status, &n_done), LARDER_OK);
    assert_int_equal(n_done, 900);
    assert_int_equal(status[899], LARDER_OK);
    assert_int_equal(status[900], LARDER_MISS);
    assert_int_equal(larder_index_count(index, &n_done), LARDER_OK);
    assert_int_equal(n_done, 0);
    larder_index_destroy(index);
}

/* A stream in memory. */
typedef struct {
    unsigned char* data;
    uint64_t n, at, limit;
} buffer;

static larder_status buffer_write(void* ctx, const void* data, uint64_t n_bytes) {
    buffer* b = ctx;
    if (b->n + n_bytes > b->limit) return LARDER_E_DISK_FULL;
    b->data = realloc(b->data, b->n + n_bytes);
    memcpy(b->data + b->n, data, n_bytes);
    b->n += n_bytes;
    return LARDER_OK;
}

static larder_status buffer_read(void* ctx, void* data, uint64_t n_bytes) {
    buffer* b = ctx;
    if (b->n - b->at < n_bytes) return LARDER_E_TRUNCATED;
    memcpy(data, b->data + b->at, n_bytes);
    b->at += n_bytes;
    return LARDER_OK;
}

static void build_save_load(void** state) {
    (void)state;
    enum { n = 5000 };
    static uint64_t keys[n], values[n], got[n];
    larder_index *a = make(8, 8, 0), *b = make(8, 8, 0), *other = make(16, 8, 0);
    for (uint64_t i = 0; i < n; ++i) {
        keys[i] = i * i;
        values[i] = i;
    }
    keys[4000] = keys[3999];
    assert_int_equal(larder_index_build(a, keys, values, n), LARDER_E_INVALID);
    uint64_t count = 1;
    assert_int_equal(larder_index_count(a, &count), LARDER_OK);
    assert_int_equal(count, 0);
    keys[4000] = 4000u * 4000u;
    assert_int_equal(larder_index_build(a, keys, values, n), LARDER_OK);
    assert_int_equal(larder_index_build(a, keys, values, n), LARDER_E_STATE);
    assert_int_equal(larder_index_verify(a), LARDER_OK);

    buffer stream = {NULL, 0, 0, 100};
    const larder_index_sink sink = {buffer_write, &stream};
    const larder_index_source source = {buffer_read, &stream};
    assert_int_equal(larder_index_save(a, &sink), LARDER_E_DISK_FULL);
    stream.n = 0;
    stream.limit = UINT64_MAX;
    assert_int_equal(larder_index_save(a, &sink), LARDER_OK);
    assert_int_equal(larder_index_load(a, &source), LARDER_E_STATE);
    assert_int_equal(larder_index_load(other, &source), LARDER_E_IDENTITY);
    stream.at = 0;
    assert_int_equal(larder_index_load(b, &source), LARDER_OK);
    assert_int_equal(stream.at, stream.n);
    assert_int_equal(larder_index_verify(b), LARDER_OK);
    assert_int_equal(larder_index_get_many(b, keys, n, got, NULL, &count), LARDER_OK);
    assert_int_equal(count, n);
    assert_memory_equal(got, values, sizeof got);
    assert_int_equal(larder_index_clear(b), LARDER_OK);

    /* Every byte of a small snapshot flipped, and every truncation. */
    larder_index* small = make(8, 8, 0);
    assert_int_equal(larder_index_build(small, keys, values, 20), LARDER_OK);
    stream.n = 0;
    assert_int_equal(larder_index_save(small, &sink), LARDER_OK);
    const uint64_t whole = stream.n;
    for (uint64_t i = 0; i < whole; ++i) {
        stream.at = 0;
        stream.data[i] ^= 0x40;
        const larder_status s = larder_index_load(b, &source);
        assert_true(s == LARDER_E_CORRUPT || s == LARDER_E_FORMAT || s == LARDER_E_TRUNCATED);
        stream.data[i] ^= 0x40;
        assert_int_equal(larder_index_count(b, &count), LARDER_OK);
        assert_int_equal(count, 0);
    }
    for (stream.n = 0; stream.n < whole; ++stream.n) {
        stream.at = 0;
        assert_int_equal(larder_index_load(b, &source), LARDER_E_TRUNCATED);
        assert_int_equal(larder_index_verify(b), LARDER_OK);
    }
    free(stream.data);
    larder_index_destroy(a);
    larder_index_destroy(b);
    larder_index_destroy(other);
    larder_index_destroy(small);
}

static void budget(void** state) {
    (void)state;
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    larder_index* index = NULL;
    o.max_bytes = 4 << 20;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_OK);
    larder_status s = LARDER_OK;
    uint64_t k = 0, n = 0;
    for (; s == LARDER_OK; ++k) {
        const uint64_t scattered = k * 0x9e3779b97f4a7c15u;
        s = larder_index_put(index, &scattered, &k);
    }
    assert_int_equal(s, LARDER_E_NOSPACE);
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    assert_int_equal(n, k - 1);
    assert_in_range(n, 130000, 300000);
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    larder_index_info info = LARDER_INDEX_INFO_INIT;
    assert_int_equal(larder_index_get_info(index, &info), LARDER_OK);
    assert_int_equal(info.memory_bytes, 4 << 20);
    assert_int_equal(info.n_keys, n);
    /* After some keys went there is room again. */
    for (uint64_t i = 0; i < 100000; ++i) {
        const uint64_t scattered = i * 0x9e3779b97f4a7c15u;
        assert_int_equal(larder_index_remove(index, &scattered, NULL), LARDER_OK);
    }
    for (uint64_t i = 0; i < 50000; ++i) {
        const uint64_t scattered = i * 0x9e3779b97f4a7c15u;
        assert_int_equal(larder_index_put(index, &scattered, &i), LARDER_OK);
    }
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    assert_int_equal(larder_index_clear(index), LARDER_OK);
    assert_int_equal(larder_index_get_info(index, &info), LARDER_OK);
    assert_int_equal(info.memory_bytes, 2 << 20);
    larder_index_destroy(index);
}

static void any_length(void** state) {
    (void)state;
    larder_index *index = make(LARDER_INDEX_ANY_LENGTH, 16, 0), *fixed = make(8, 8, 0);
    static char bytes[LARDER_INDEX_MAX_KEY_BYTES + 1];
    char buf[LARDER_INDEX_MAX_KEY_BYTES];
    const uint64_t v[2] = {1, 2};
    uint64_t got[2] = {0, 0}, n = 7;
    const larder_index_key good = {"key", 3}, empty = {"", 0}, longest = {bytes, LARDER_INDEX_MAX_KEY_BYTES},
                           too_long = {bytes, LARDER_INDEX_MAX_KEY_BYTES + 1}, none = {NULL, 3};
    larder_index_key out;

    assert_int_equal(larder_index_put(index, &empty, v), LARDER_E_RANGE);
    assert_string_equal(bad_field(), "n_bytes");
    assert_int_equal(larder_index_put(index, &too_long, v), LARDER_E_RANGE);
    assert_int_equal(larder_index_put(index, &none, v), LARDER_E_INVALID);
    assert_int_equal(larder_index_get(index, &empty, got), LARDER_E_RANGE);
    assert_int_equal(larder_index_get(index, &too_long, got), LARDER_E_RANGE);
    assert_int_equal(larder_index_insert(index, &too_long, v, NULL), LARDER_E_RANGE);
    assert_int_equal(larder_index_swap(index, &empty, got, v), LARDER_E_RANGE);
    assert_int_equal(larder_index_remove(index, &too_long, NULL), LARDER_E_RANGE);
    /* One bad key, and nothing is done. */
    const larder_index_key mixed[2] = {good, too_long};
    const uint64_t two[4] = {1, 2, 3, 4};
    assert_int_equal(larder_index_put_many(index, mixed, two, 2, NULL), LARDER_E_RANGE);
    assert_int_equal(larder_index_get_many(index, mixed, 2, NULL, NULL, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_remove_many(index, mixed, 2, NULL, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_build(index, mixed, two, 2), LARDER_E_RANGE);
    assert_int_equal(larder_index_count(index, &n), LARDER_OK);
    assert_int_equal(n, 0);

    assert_int_equal(larder_index_put(index, &longest, v), LARDER_OK);
    assert_int_equal(larder_index_put(index, &good, v), LARDER_OK);
    assert_int_equal(larder_index_get(index, &longest, got), LARDER_OK);
    assert_int_equal(got[1], 2);
    assert_int_equal(larder_index_scan_keys(index, LARDER_INDEX_AT_LEAST, NULL, buf, sizeof buf - 1, &out, NULL, 1, &n),
                     LARDER_E_RANGE);
    assert_string_equal(bad_field(), "buffer_bytes");
    assert_int_equal(larder_index_scan_keys(index, LARDER_INDEX_AT_LEAST, NULL, buf, sizeof buf, &out, got, 1, &n),
                     LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(out.n_bytes, LARDER_INDEX_MAX_KEY_BYTES);
    assert_ptr_equal(out.data, buf);
    larder_index_key both[2];
    assert_int_equal(larder_index_scan_keys(index, LARDER_INDEX_AT_LEAST, NULL, buf, sizeof buf, both, NULL, 2, &n),
                     LARDER_PARTIAL);
    assert_int_equal(n, 1);
    assert_int_equal(larder_index_scan_keys(index, LARDER_INDEX_AT_MOST, &good, buf, sizeof buf, both, NULL, 2, &n),
                     LARDER_PARTIAL);
    assert_int_equal(n, 1);
    assert_memory_equal(both[0].data, "key", 3);
    assert_int_equal(larder_index_scan_keys(index, 9, NULL, buf, sizeof buf, both, NULL, 2, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_scan(index, LARDER_INDEX_AT_LEAST, NULL, NULL, NULL, 1, &n), LARDER_E_INVALID);
    assert_int_equal(larder_index_scan_keys(fixed, LARDER_INDEX_ABOVE, NULL, buf, sizeof buf, both, NULL, 2, &n),
                     LARDER_E_INVALID);
    assert_int_equal(larder_index_estimate(index, &empty, NULL, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_estimate(index, &longest, &good, &n), LARDER_OK);
    assert_int_equal(n, 1);
    assert_int_equal(larder_index_clear(index), LARDER_OK);

    /* Sorted input: as memcmp orders, a beginning before what it begins. */
    const larder_index_key sorted[3] = {{"a", 1}, {"a\0", 2}, {"b", 1}}, unsorted[2] = {{"a\0", 2}, {"a", 1}};
    const uint64_t values[6] = {0, 0, 1, 1, 2, 2};
    assert_int_equal(larder_index_build(index, unsorted, values, 2), LARDER_E_INVALID);
    assert_int_equal(larder_index_build(index, sorted, values, 3), LARDER_OK);
    assert_int_equal(larder_index_get(index, &sorted[1], got), LARDER_OK);
    assert_int_equal(got[0], 1);
    assert_int_equal(larder_index_verify(index), LARDER_OK);
    larder_index_destroy(index);
    larder_index_destroy(fixed);

    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    o.key_bytes = LARDER_INDEX_ANY_LENGTH;
    o.order = LARDER_INDEX_ORDER_INTEGER;
    assert_int_equal(larder_index_create(context, &o, &index), LARDER_E_INVALID);
    assert_string_equal(bad_field(), "order");
}

static void views(void** state) {
    (void)state;
    larder_index* index = make(8, 8, 0);
    const uint64_t k = 5, v = 50;
    uint64_t got = 0, n = 0;
    assert_int_equal(larder_index_put(index, &k, &v), LARDER_OK);
    buffer stream = {NULL, 0, 0, UINT64_MAX};
    const larder_index_sink sink = {buffer_write, &stream};
    assert_int_equal(larder_index_save(index, &sink), LARDER_OK);

    larder_index_view* view = (larder_index_view*)1;
    assert_int_equal(larder_index_view_open(context, NULL, 100, &view), LARDER_E_INVALID);
    assert_int_equal(larder_index_view_open(context, stream.data, stream.n, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_view_open(context, stream.data, 10, &view), LARDER_E_TRUNCATED);
    assert_null(view);
    static const char foreign[100] = "something else altogether";
    assert_int_equal(larder_index_view_open(context, foreign, sizeof foreign, &view), LARDER_E_FORMAT);
    assert_int_equal(larder_index_view_open(context, stream.data, stream.n, &view), LARDER_OK);
    assert_int_equal(larder_index_view_get(view, &k, &got), LARDER_OK);
    assert_int_equal(got, 50);
    assert_int_equal(larder_index_view_get(view, NULL, &got), LARDER_E_INVALID);
    assert_int_equal(larder_index_view_get((larder_index_view*)index, &k, &got), LARDER_E_CLOSED);
    assert_int_equal(larder_index_get((larder_index*)view, &k, &got), LARDER_E_CLOSED);
    assert_int_equal(larder_index_view_scan(view, 0, &k, NULL, NULL, 1, &n), LARDER_E_RANGE);
    assert_int_equal(larder_index_view_scan(view, LARDER_INDEX_ABOVE, &k, NULL, NULL, 1, &n), LARDER_MISS);
    assert_int_equal(larder_index_view_scan(view, LARDER_INDEX_AT_LEAST, &k, NULL, NULL, 1, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_view_get_info(view, NULL), LARDER_E_INVALID);
    assert_int_equal(larder_index_view_verify(view), LARDER_OK);
    larder_index_view_close(NULL);
    larder_index_view_close(view);
    free(stream.data);
    larder_index_destroy(index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_options),     cmocka_unit_test(null_arguments),
        cmocka_unit_test(single_keys),     cmocka_unit_test(widths_and_orders),
        cmocka_unit_test(order),           cmocka_unit_test(batches),
        cmocka_unit_test(build_save_load), cmocka_unit_test(budget),
        cmocka_unit_test(any_length),      cmocka_unit_test(views),
    };
    return cmocka_run_group_tests_name("index", tests, set_up, tear_down);
}
