// Memory of the codec room: every allocation may fail, nothing leaks, and with a caller's workspace there is none.
#include "support/cmocka.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "larder/larder.h"

namespace {

long g_news = 0;  // of the C++ heap, anywhere in the program

struct Counting {
    long live = 0, calls = 0, fail_at = -1;
    bool for_ever = false;
};

void* count_alloc(void* ctx, uint64_t n, uint64_t align) {
    auto& c = *static_cast<Counting*>(ctx);
    const long i = c.calls++;
    if (c.fail_at >= 0 && (c.for_ever ? i >= c.fail_at : i == c.fail_at)) return nullptr;
    void* p = std::aligned_alloc(align < 16 ? 16 : align, (n + 63) / 64 * 64 + 64);
    c.live += p != nullptr;
    return p;
}
void count_free(void* ctx, void* p, uint64_t, uint64_t) {
    --static_cast<Counting*>(ctx)->live;
    std::free(p);
}

constexpr uint32_t layers = 2, tokens = 70, heads = 2, dim = 32;

struct Data {
    std::vector<std::vector<uint16_t>> planes{2 * layers, std::vector<uint16_t>(tokens* heads* dim)};
    std::vector<larder_stream_plane> views;
    std::vector<float> saliency = std::vector<float>(tokens, 1.0f);
    larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
    Data() {
        uint32_t x = 9;
        for (auto& p : planes) {
            for (auto& v : p) x = x * 1664525u + 1013904223u, v = uint16_t((x >> 16 & 0x83ff) | (13 + (x >> 30)) << 10);
            larder_stream_plane one = LARDER_STREAM_PLANE_INIT;
            one.base = p.data();
            views.push_back(one);
        }
        source.shape.n_layers = layers, source.shape.n_tokens = tokens, source.shape.n_kv_heads = heads,
        source.shape.k_dim = source.shape.v_dim = dim;
        source.planes = views.data();
        source.saliency = saliency.data();
    }
};

larder_context* open_context(Counting& c) {
    larder_allocator a = LARDER_ALLOCATOR_INIT;
    a.ctx = &c, a.alloc = count_alloc, a.free = count_free;
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.allocator = &a;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(&o, &context), LARDER_OK);
    return context;
}

// Everything that allocates, once. Stops at the first failure, which must be E_NOMEM; gives all handles back.
larder_status everything(larder_context* context, const Data& d) {
    larder_profile_options po = LARDER_PROFILE_OPTIONS_INIT;
    po.shape = d.source.shape;
    po.n_levels = 1;
    larder_profile *profile = nullptr, *loaded = nullptr;
    larder_codec* codec = nullptr;
    std::vector<char> saved, out;
    uint64_t n = 0, bound = 0;
    larder_status st = larder_profile_create(context, &po, &profile);
    if (st >= 0) st = larder_profile_add(profile, &d.source);
    if (st >= 0) st = larder_profile_finish(profile);
    if (st >= 0) {
        (void)larder_profile_save(profile, nullptr, 0, &n);
        saved.resize(n);
        st = larder_profile_save(profile, saved.data(), n, &n);
    }
    if (st >= 0) st = larder_profile_load(context, {saved.data(), saved.size()}, &loaded);
    larder_codec_options co = LARDER_CODEC_OPTIONS_INIT;
    co.chain = "step level=0 entropy=rans";
    co.profile = loaded;
    if (st >= 0) st = larder_codec_open(context, &co, &codec);
    if (st >= 0) st = larder_codec_sizes(codec, &d.source.shape, &bound, nullptr);
    if (st >= 0) {
        out.resize(bound);
        st = larder_stream_encode(codec, &d.source, out.data(), bound, nullptr, 0, &n);
    }
    Data back;
    larder_stream_target t = LARDER_STREAM_TARGET_INIT;
    t.planes = back.views.data();
    const larder_profile* list[] = {profile};
    t.profiles = list, t.n_profiles = 1;
    if (st >= 0) st = larder_stream_decode(context, {out.data(), n}, &t);
    larder_codec_close(codec);
    larder_profile_destroy(profile);
    larder_profile_destroy(loaded);
    return st;
}

void every_allocation_may_fail(void**) {
    Data d;
    for (bool for_ever : {false, true}) {
        int failures = 0;
        for (long n = 0;; ++n) {
            Counting c;
            larder_context* context = open_context(c);
            const long before = c.live;
            c.calls = 0;
            c.fail_at = n;
            c.for_ever = for_ever;
            const larder_status st = everything(context, d);
            c.fail_at = -1;
            if (st != LARDER_OK) assert_int_equal(st, LARDER_E_NOMEM);
            failures += st != LARDER_OK;
            const bool reached = c.calls > n;
            // Debug builds keep dropped handles in quarantine until the context goes.
            assert_true(c.live >= before);
            assert_int_equal(larder_context_destroy(context), LARDER_OK);
            assert_int_equal(c.live, 0);
            if (!reached) break;
        }
        assert_true(failures > 10);
    }
}

void nothing_is_allocated_with_a_workspace(void**) {
    Counting c;
    larder_context* context = open_context(c);
    Data d, back;
    for (const char* chain : {"lossless", "int8", "int4", "kivi2 entropy=rans", "mxfp4", "mustafar70", "cachegen-2",
                              "zipcache", "bfp12", "zstd"}) {
        larder_codec_options co = LARDER_CODEC_OPTIONS_INIT;
        co.chain = chain;
        larder_codec* codec = nullptr;
        assert_int_equal(larder_codec_open(context, &co, &codec), LARDER_OK);
        uint64_t bound = 0, workspace = 0, n = 0;
        assert_int_equal(larder_codec_sizes(codec, &d.source.shape, &bound, &workspace), LARDER_OK);
        std::vector<char> out(bound), scratch(workspace), scratch2(size_t(1) << 22);
        larder_stream_target t = LARDER_STREAM_TARGET_INIT;
        t.planes = back.views.data();
        t.workspace = scratch2.data(), t.workspace_bytes = scratch2.size();
        for (int round = 0; round < 2; ++round) {
            const long calls = c.calls, news = g_news;
            assert_int_equal(larder_stream_encode(codec, &d.source, out.data(), bound, scratch.data(), workspace, &n),
                             LARDER_OK);
            larder_stream_info info = LARDER_STREAM_INFO_INIT;
            assert_int_equal(larder_stream_inspect({out.data(), n}, &info), LARDER_OK);
            assert_int_equal(larder_stream_verify({out.data(), n}, nullptr, nullptr), LARDER_OK);
            assert_int_equal(larder_stream_decode(context, {out.data(), n}, &t), LARDER_OK);
            assert_int_equal(c.calls, calls);
            assert_int_equal(g_news, news);
        }
        larder_codec_close(codec);
    }
    assert_int_equal(larder_context_destroy(context), LARDER_OK);
}

}  // namespace

[[gnu::noinline]] void* operator new(size_t n) {
    ++g_news;
    if (void* p = std::malloc(n ? n : 1)) return p;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
    std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept {
    std::free(p);
}

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail),
                                cmocka_unit_test(nothing_is_allocated_with_a_workspace)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
