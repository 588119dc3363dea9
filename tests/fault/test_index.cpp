// Out of memory at every allocation: the index and the prefix index stay whole, and nothing leaks.
#include "support/cmocka.h"

#include <cstring>
#include <memory>
#include <vector>

#include "larder/index.h"
#include "larder/prefix.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

template <auto Destroy> struct Destroyer {
    template <class T> void operator()(T* p) const { Destroy(p); }
};
using Index = std::unique_ptr<larder_index, Destroyer<larder_index_destroy>>;
using Prefix = std::unique_ptr<larder_prefix, Destroyer<larder_prefix_destroy>>;

larder_status make(larder_context* c, Index& out, uint32_t key_bytes = 8) {
    larder_index* raw = nullptr;
    larder_index_options o = LARDER_INDEX_OPTIONS_INIT;
    o.key_bytes = key_bytes;
    const larder_status s = larder_index_create(c, &o, &raw);
    out.reset(raw);
    return s;
}

larder_status fill(larder_index* index) {
    larder_status worst = LARDER_OK;
    for (uint64_t i = 0; i < 300; ++i) {
        const uint64_t k = mix64(i);
        const larder_status s = larder_index_put(index, &k, &i);
        if (s < 0 && worst == LARDER_OK) worst = s;
    }
    return worst;
}

void the_index(void**) {
    FaultCase c;
    c.name = "index";
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        Index index;
        LARDER_TRY(env.make_context(context));
        LARDER_TRY(make(context.get(), index));
        const larder_status s = fill(index.get());
        assert_int_not_equal(larder_index_verify(index.get()), LARDER_E_CORRUPT);
        return s;
    };
    run_fault_loop(c);
}

struct Stream {
    std::vector<char> bytes;
    size_t at = 0;
};

larder_status stream_write(void* ctx, const void* data, uint64_t n) {
    auto& s = *static_cast<Stream*>(ctx);
    s.bytes.insert(s.bytes.end(), static_cast<const char*>(data), static_cast<const char*>(data) + n);
    return LARDER_OK;
}

larder_status stream_read(void* ctx, void* data, uint64_t n) {
    auto& s = *static_cast<Stream*>(ctx);
    if (s.bytes.size() - s.at < n) return LARDER_E_TRUNCATED;
    std::memcpy(data, s.bytes.data() + s.at, n);
    s.at += n;
    return LARDER_OK;
}

void a_snapshot(void**) {
    FaultCase c;
    c.name = "index snapshot";
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        Index a, b;
        LARDER_TRY(env.make_context(context));
        LARDER_TRY(make(context.get(), a));
        LARDER_TRY(make(context.get(), b));
        LARDER_TRY(fill(a.get()));
        Stream stream;
        const larder_index_sink sink = {stream_write, &stream};
        const larder_index_source source = {stream_read, &stream};
        LARDER_TRY(larder_index_save(a.get(), &sink));
        const larder_status s = larder_index_load(b.get(), &source);
        uint64_t n = 0;
        assert_int_equal(larder_index_count(b.get(), &n), LARDER_OK);
        assert_int_equal(n, s < 0 ? 0 : 300);
        return s;
    };
    run_fault_loop(c);
}

// Keys of every class of length, removed again in part; a snapshot, read in place and loaded.
larder_status live_with_bytes(larder_context* context) {
    Index a, b;
    LARDER_TRY(make(context, a, LARDER_INDEX_ANY_LENGTH));
    LARDER_TRY(make(context, b, LARDER_INDEX_ANY_LENGTH));
    larder_status worst = LARDER_OK;
    uint64_t n_put = 0, n = 0;
    for (uint64_t i = 0; i < 200; ++i) {
        std::vector<char> bytes(1 + i * 7 % 1024, 'k');
        std::memcpy(bytes.data(), &i, std::min<size_t>(bytes.size(), sizeof i));
        const larder_index_key k{bytes.data(), bytes.size()};
        const larder_status s = larder_index_insert(a.get(), &k, &i, nullptr);
        n_put += s == LARDER_OK;
        if (s < 0 && s != LARDER_E_EXISTS && worst == LARDER_OK) worst = s;
        if (i % 3 == 0 && larder_index_remove(a.get(), &k, nullptr) == LARDER_OK) --n_put;
    }
    assert_int_not_equal(larder_index_verify(a.get()), LARDER_E_CORRUPT);
    assert_int_equal(larder_index_count(a.get(), &n), LARDER_OK);
    assert_int_equal(n, n_put);
    LARDER_TRY(worst);
    Stream stream;
    const larder_index_sink sink = {stream_write, &stream};
    const larder_index_source source = {stream_read, &stream};
    LARDER_TRY(larder_index_save(a.get(), &sink));
    larder_index_view* view = nullptr;
    LARDER_TRY(larder_index_view_open(context, stream.bytes.data(), stream.bytes.size(), &view));
    assert_int_equal(larder_index_view_verify(view), LARDER_OK);
    larder_index_view_close(view);
    const larder_status s = larder_index_load(b.get(), &source);
    assert_int_equal(larder_index_count(b.get(), &n), LARDER_OK);
    assert_int_equal(n, s < 0 ? 0 : n_put);
    return s;
}

void keys_of_any_length(void**) {
    FaultCase c;
    c.name = "index with keys of any length";
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        LARDER_TRY(env.make_context(context));
        return live_with_bytes(context.get());
    };
    run_fault_loop(c);
}

// Publish a chain of eight blocks, evict one, remove the rest.
larder_status live_a_little(larder_prefix* index) {
    larder_key root{}, keys[8];
    std::vector<int32_t> tokens(8 * 16);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = int32_t(i);
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    t.block_tokens = 16;
    t.tokens = tokens.data();
    t.n_tokens = tokens.size();
    LARDER_TRY(larder_prefix_keys(&root, &t, keys, 8, nullptr));
    larder_prefix_item items[8]{};
    for (int i = 0; i < 8; ++i)
        items[i] = {keys[i], tokens.data() + 16 * i, 16, 0, LARDER_PREFIX_IN_ARENA, 0, uint64_t(i)};
    larder_prefix_published out[8];
    uint64_t n = 0;
    const larder_status published = larder_prefix_publish(index, &root, 0, items, 8, 0, out, &n);
    larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
    q.flags = LARDER_PREFIX_PEEK;
    q.root = root;
    q.keys = keys;
    q.n_keys = 8;
    larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
    assert_int_equal(larder_prefix_match(index, &q, nullptr, 0, 0, &info), LARDER_OK);
    assert_int_equal(info.n_blocks, n);
    if (published != LARDER_OK) return published;
    larder_prefix_block gone[8];
    uint64_t n_gone = 0;
    LARDER_TRY(larder_prefix_candidates(index, LARDER_PREFIX_IN_ARENA, gone, 1, &n_gone));
    assert_int_equal(n_gone, 1);
    assert_int_equal(gone[0].entry, out[7].block.entry);
    LARDER_TRY(larder_prefix_drop(index, gone[0].entry, LARDER_PREFIX_IN_ARENA, nullptr));
    const larder_status removed = larder_prefix_remove(index, out[0].block.entry, gone, 8, &n_gone);
    if (removed == LARDER_OK) assert_int_equal(n_gone, 7);
    return removed;
}

void the_prefix_index(void**) {
    FaultCase c;
    c.name = "prefix index";
    c.also_allowed = {LARDER_PARTIAL};
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        LARDER_TRY(env.make_context(context));
        larder_prefix* raw = nullptr;
        LARDER_TRY(larder_prefix_create(context.get(), nullptr, &raw));
        Prefix index(raw);
        const larder_status s = live_a_little(raw);
        assert_int_not_equal(larder_prefix_verify(raw), LARDER_E_CORRUPT);
        return s;
    };
    run_fault_loop(c);
}

// A prefix index written out, and taken in by another one that keeps events.
void a_prefix_export(void**) {
    FaultCase c;
    c.name = "prefix export";
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        LARDER_TRY(env.make_context(context));
        larder_prefix *from = nullptr, *to = nullptr;
        LARDER_TRY(larder_prefix_create(context.get(), nullptr, &from));
        Prefix a(from);
        larder_prefix_options o = LARDER_PREFIX_OPTIONS_INIT;
        o.n_events = 16;
        LARDER_TRY(larder_prefix_create(context.get(), &o, &to));
        Prefix b(to);
        const int32_t tokens[16] = {};
        larder_prefix_item items[8]{};
        for (uint8_t i = 0; i < 8; ++i) items[i] = {{{i}}, tokens, 16, 0, LARDER_PREFIX_IN_FILE, 0, i};
        larder_prefix_published out[8];
        const larder_key root{{99}};
        uint64_t n = 0, n_told = 0, cursor = 0;
        LARDER_TRY(larder_prefix_publish(from, &root, 0, items, 8, 0, out, &n));
        if (n < 8) return LARDER_E_NOMEM;
        Stream bytes;
        const larder_index_sink sink{stream_write, &bytes};
        const larder_index_source source{stream_read, &bytes};
        LARDER_TRY(larder_prefix_export(from, LARDER_PREFIX_IN_FILE, &sink));
        larder_prefix_import_info info = LARDER_PREFIX_IMPORT_INFO_INIT;
        const larder_status s = larder_prefix_import(to, &source, &info);
        assert_int_not_equal(larder_prefix_verify(to), LARDER_E_CORRUPT);
        larder_event e[16];
        assert_int_equal(larder_prefix_events_read(to, &cursor, e, sizeof *e, 16, &n_told), LARDER_OK);
        assert_int_equal(n_told, info.n_new);
        if (s == LARDER_OK) assert_int_equal(info.n_new, 8);
        return s;
    };
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(the_index), cmocka_unit_test(a_snapshot),
                                cmocka_unit_test(keys_of_any_length), cmocka_unit_test(the_prefix_index),
                                cmocka_unit_test(a_prefix_export)};
    return cmocka_run_group_tests_name("fault index", tests, nullptr, nullptr);
}
