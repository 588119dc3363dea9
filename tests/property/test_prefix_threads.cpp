// The prefix index under several threads that publish, match, evict and remove the same few chains.
#include "support/cmocka.h"

#include <atomic>
#include <thread>
#include <vector>

#include "index/prefix_index.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t bt = 4;
constexpr size_t depth = 6;

struct World {
    larder_context* context = nullptr;
    Owned<PrefixIndex> index;
    larder_key root{};
    std::atomic<uint64_t> n_bad{0}, n_blocks_held{0}, n_evicted{0}, n_removed{0};

    World() {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context::create(&o, posix_os(), &context), LARDER_OK);
        larder_prefix_options po = LARDER_PREFIX_OPTIONS_INIT;
        po.block_tokens = bt;
        assert_int_equal(PrefixIndex::create(*context, &po, index), LARDER_OK);
    }
    ~World() {
        index.reset();
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
    void bad(const char* what) {
        if (!n_bad++) print_error("%s (%s)\n", what, last_error().message);
    }
};

struct Chain {
    std::vector<int32_t> tokens;
    std::vector<larder_key> keys;
};

Chain random_chain(const World& w, Rng& r) {
    Chain c;
    c.tokens.resize(bt * (1 + r.below(depth)));
    for (size_t i = 0; i < c.tokens.size(); ++i) c.tokens[i] = i % bt == bt - 1 ? int32_t(r.below(3)) : 1;
    c.keys.resize(c.tokens.size() / bt);
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    t.block_tokens = bt;
    t.tokens = c.tokens.data();
    t.n_tokens = c.tokens.size();
    prefix_keys(w.root, t, c.keys);
    return c;
}

// A location tells whose it is: the first bytes of the key.
uint64_t location_of(const larder_key& k) {
    uint64_t v;
    std::memcpy(&v, k.bytes, 8);
    return v;
}

// What a request does: match, hold, publish the rest after the last match, look at what it holds, let go.
void requests(World& w, uint64_t seed, uint64_t n) {
    Rng r(seed);
    std::vector<PrefixBlock> held(depth);
    std::vector<PrefixPublished> made(depth);
    for (uint64_t i = 0; i < n; ++i) {
        const Chain c = random_chain(w, r);
        larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
        q.root = w.root;
        q.keys = c.keys.data();
        q.n_keys = c.keys.size();
        q.tokens = c.tokens.data();
        larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
        if (w.index->match(q, held, info) != LARDER_OK) return w.bad("match");
        std::vector<uint64_t> pins;
        for (size_t j = 0; j < info.n_blocks; ++j) {
            const PrefixBlock& b = held[j];
            pins.push_back(b.entry);
            if (b.depth != j || !b.residency) w.bad("a block of another depth, or nowhere");
            for (int p = 0; p < 2; ++p)
                if (b.residency >> p & 1 && b.location[p] != location_of(c.keys[j]) + uint64_t(p))
                    w.bad("a wrong location");
        }
        if (info.partial.entry) {
            pins.push_back(info.partial.entry);
            if (info.partial.depth != info.n_blocks || !info.n_partial_tokens || info.n_partial_tokens >= bt)
                w.bad("a wrong partial match");
        }
        std::vector<PrefixItem> items;
        const uint32_t place = uint32_t(r.below(2));
        for (size_t j = info.n_blocks; j < c.keys.size(); ++j)
            items.push_back(
                {c.keys[j], c.tokens.data() + j * bt, bt, 0, 1u << place, 0, location_of(c.keys[j]) + place});
        uint64_t n_made = 0;
        const uint64_t parent = info.n_blocks ? held[info.n_blocks - 1].entry : 0;
        if (w.index->publish(w.root, parent, items, true, {made.data(), items.size()}, n_made) != LARDER_OK ||
            n_made != items.size())
            return w.bad("publish under a held parent");
        for (uint64_t j = 0; j < n_made; ++j) pins.push_back(made[j].block.entry);
        // Whatever the others do, what is held stays.
        w.n_blocks_held += pins.size();
        if (w.index->match_length(c.keys) != c.keys.size()) w.bad("a held chain has a gap");
        for (uint64_t id : pins) {
            larder_key k;
            if (w.index->describe(id, &k, nullptr, {}, nullptr) != LARDER_OK) w.bad("a held entry is gone");
        }
        if (w.index->unpin(pins) != LARDER_OK) w.bad("unpin");
    }
}

void evictor(World& w, uint64_t seed, const std::atomic<bool>& stop) {
    Rng r(seed);
    PrefixBlock out[16];
    while (!stop.load()) {
        const uint32_t bit = 1u << r.below(2);
        uint64_t n = 0;
        if (w.index->candidates(bit, {out, 1 + r.below(16)}, n) != LARDER_OK) return w.bad("candidates");
        for (uint64_t i = 0; i < n; ++i) {
            PrefixBlock b;
            const larder_status s = w.index->drop(out[i].entry, bit, &b);
            if (s == LARDER_OK && (b.entry != out[i].entry || !(b.residency & bit))) w.bad("dropped another block");
            if (s != LARDER_OK && s != LARDER_MISS && s != LARDER_E_BUSY && s != LARDER_E_STALE) w.bad("drop");
            w.n_evicted += s == LARDER_OK;
        }
        PrefixBlock b;
        const Chain c = random_chain(w, r);
        uint64_t n_out = 0;
        if (r.below(8) || w.index->lookup(c.keys.back(), b) != LARDER_OK) continue;
        const larder_status s = w.index->remove(b.entry, out, n_out);
        if (s != LARDER_OK && s != LARDER_PARTIAL && s != LARDER_E_BUSY && s != LARDER_E_STALE) w.bad("remove");
        w.n_removed += n_out;
    }
}

void many_at_once(void**) {
    World w;
    const uint64_t seed = test_seed(), n = test_rounds(40'000);
    std::atomic<bool> stop{false};
    std::vector<std::thread> workers;
    for (uint64_t t = 0; t < 3; ++t) workers.emplace_back([&, t] { requests(w, seed + t, n); });
    std::thread evict([&] { evictor(w, seed ^ 77, stop); });
    for (auto& t : workers) t.join();
    stop = true;
    evict.join();
    assert_int_equal(w.n_bad.load(), 0);
    if (w.index->verify() < 0) print_error("%s\n", last_error().message);
    assert_int_equal(w.index->verify(), LARDER_OK);
    larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
    w.index->info(info);
    assert_int_equal(info.n_pinned, 0);
    print_message("%llu blocks held, %llu evicted, %llu removed, %llu left\n",
                  (unsigned long long)w.n_blocks_held.load(), (unsigned long long)w.n_evicted.load(),
                  (unsigned long long)w.n_removed.load(), (unsigned long long)info.n_entries);
    assert_true(w.n_evicted.load() > 0);
    // Evict what is left, leaves first: nothing remains, not even roots.
    for (;;) {
        PrefixBlock out[16];
        uint64_t n_out = 0, n_all = 0;
        for (uint32_t bit : {1u, 2u}) {
            assert_int_equal(w.index->candidates(bit, out, n_out), LARDER_OK);
            for (uint64_t i = 0; i < n_out; ++i) assert_int_equal(w.index->drop(out[i].entry, bit, nullptr), LARDER_OK);
            n_all += n_out;
        }
        if (!n_all) break;
    }
    w.index->info(info);
    assert_int_equal(info.n_entries, 0);
    assert_int_equal(info.n_roots, 0);
    assert_int_equal(w.index->verify(), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(many_at_once)};
    return cmocka_run_group_tests_name("prefix_threads", tests, nullptr, nullptr);
}
