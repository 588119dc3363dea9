// The children of one block while several threads publish and drop some: none, an only child that stands in its parent,
// many that stand in the map, and the moments between.
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "index/prefix_index.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t bt = 4, n_threads = 2, n_own = 2, n_steps = 4;

struct World {
    larder_context* context = nullptr;
    Owned<PrefixIndex> index;
    std::atomic<uint64_t> n_bad{0};

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
    // Child `which` of a parent; children 0 and 1 differ in their last token only, 2 in its first, 3 has none.
    uint64_t publish(const larder_key& root, uint64_t parent, uint8_t which, uint64_t parent_number) {
        const int32_t tokens[4][bt] = {{1, 1, 1, 1}, {1, 1, 1, 2}, {7, 1, 1, 1}, {}};
        PrefixItem item{};
        item.key = {{uint8_t(1 + which)}};
        std::memcpy(item.key.bytes + 8, &parent_number, 8);
        item.tokens = which == 3 ? nullptr : tokens[which % 4];
        item.n_tokens = bt;
        item.residency = LARDER_PREFIX_IN_ARENA;
        PrefixPublished out;
        uint64_t n = 0;
        if (index->publish(root, parent, {&item, 1}, false, {&out, 1}, n) == LARDER_OK) return out.block.entry;
        return ++n_bad, 0;
    }
    std::vector<uint64_t> children(uint64_t parent, size_t at_once) {
        std::vector<uint64_t> got;
        std::vector<PrefixBlock> out(at_once);
        for (uint64_t after = 0, n = 0;;) {
            const larder_status s = index->children(nullptr, parent, after, out, n);
            for (uint64_t i = 0; i < n; ++i) got.push_back(out[i].entry);
            if (s == LARDER_E_STALE) return got;  // `after` has gone
            if (s != LARDER_PARTIAL) return got;
            after = got.back();
        }
    }
};

// Threads meet here after every step.
class Meeting {
  public:
    explicit Meeting(uint32_t n) : n_(n) {}
    void wait() {
        const uint32_t round = round_;
        if (++n_here_ == n_) {
            n_here_ = 0;
            ++round_;
        }
        while (round_ == round) std::this_thread::yield();
    }

  private:
    const uint32_t n_;
    std::atomic<uint32_t> n_here_{0}, round_{0};
};

struct Parent {
    larder_key root{{0xee}};
    uint64_t entry = 0, number = 0, kept = 0;
    uint64_t own[n_threads][n_own] = {};
};

void change(World& w, Parent& p, uint32_t t, Rng& r) {
    const auto i = uint32_t(r.below(n_own));
    uint64_t& mine = p.own[t][i];
    if (!mine) {
        mine = w.publish(p.root, p.entry, uint8_t(t * n_own + i), p.number);
    } else if (r.below(3)) {
        w.n_bad += w.index->drop(mine, LARDER_PREFIX_IN_ARENA, nullptr) != LARDER_OK;
        mine = 0;
    } else if (p.kept) {
        const auto seen = w.children(p.entry, 8);
        w.n_bad += std::count(seen.begin(), seen.end(), p.kept) != 1;
        w.n_bad += std::count(seen.begin(), seen.end(), mine) != 1;
    }
}

void none_one_many(void**) {
    World w;
    const uint64_t seed = test_seed(), n_parents = test_rounds(20'000);
    Meeting meeting(n_threads + 1);
    Parent p;
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            Rng r(seed + t);
            for (uint64_t i = 0; i < n_parents * n_steps; ++i) {
                meeting.wait();
                change(w, p, t, r);
                meeting.wait();
            }
        });
    Rng r(seed ^ 3);
    for (uint64_t n = 0; n < n_parents; ++n) {
        p = {};
        p.number = n + 1;
        PrefixItem item{};
        item.key = {{0xdd}};
        std::memcpy(item.key.bytes + 8, &n, 8);
        item.n_tokens = bt;
        item.residency = LARDER_PREFIX_IN_ARENA;
        PrefixPublished out;
        uint64_t n_out = 0;
        w.n_bad += w.index->publish(p.root, 0, {&item, 1}, true, {&out, 1}, n_out) != LARDER_OK;
        p.entry = out.block.entry;
        if (r.below(2)) p.kept = w.publish(p.root, p.entry, 77, p.number);
        for (uint32_t step = 0; step < n_steps; ++step) {
            meeting.wait();
            meeting.wait();
            std::vector<uint64_t> want, got = w.children(p.entry, 1 + size_t(r.below(6)));
            if (p.kept) want.push_back(p.kept);
            for (auto& own : p.own)
                for (uint64_t e : own)
                    if (e) want.push_back(e);
            std::sort(want.begin(), want.end());
            std::sort(got.begin(), got.end());
            w.n_bad += want != got;
        }
        w.n_bad += w.index->unpin({&p.entry, 1}) != LARDER_OK;
        PrefixBlock gone[8];
        w.n_bad += w.index->remove(p.entry, gone, n_out) != LARDER_OK;
        if (n % 500 == 0 && w.index->verify() < 0) {
            print_error("%s\n", last_error().message);
            ++w.n_bad;
        }
    }
    for (auto& t : threads) t.join();
    assert_int_equal(w.n_bad.load(), 0);
    assert_int_equal(w.index->verify(), LARDER_OK);
    larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
    w.index->info(info);
    assert_int_equal(info.n_entries + info.n_roots, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(none_one_many)};
    return cmocka_run_group_tests_name("prefix_children", tests, nullptr, nullptr);
}
