// A copy of a prefix index that is made of its events alone, beside the index: with a log too short for its reader, and
// while several threads change the index.
#include <atomic>
#include <cstring>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "index/prefix_index.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t bt = 4;
constexpr size_t depth = 6;

struct KeyLess {
    bool operator()(const larder_key& a, const larder_key& b) const { return std::memcmp(&a, &b, sizeof a) < 0; }
};

// Follows the events, and checks each against what it knows.
class Mirror {
  public:
    struct Block {
        larder_key parent;
        uint32_t places, depth;
        uint64_t entry;
    };

    explicit Mirror(PrefixIndex& index) : index_(index) {}

    // Whatever there is to read. Gives how many events it was.
    uint64_t follow(size_t at_once) {
        std::vector<larder_event> e(at_once);
        uint64_t n = 0, n_read = 0;
        for (;;) {
            const larder_status s = index_.read_events(cursor_, e.data(), sizeof e[0], at_once, n);
            if (s == LARDER_E_STALE) {
                resync(at_once);
                continue;
            }
            assert_int_equal(s, LARDER_OK);
            if (!n) return n_read;
            for (uint64_t i = 0; i < n; ++i) apply(e[i]);
            n_read += n;
            assert_int_equal(cursor_, last_);
        }
    }

    // No change may be under way.
    void check_is_right() {
        Mirror fresh(index_);
        fresh.resync(100);
        assert_int_equal(fresh.blocks_.size(), blocks_.size());
        for (auto& [key, b] : fresh.blocks_) {
            const auto it = blocks_.find(key);
            assert_true(it != blocks_.end());
            assert_memory_equal(&it->second.parent, &b.parent, sizeof b.parent);
            assert_int_equal(it->second.places, b.places);
            assert_int_equal(it->second.depth, b.depth);
            assert_int_equal(it->second.entry, b.entry);
            PrefixBlock now;
            assert_int_equal(index_.lookup(key, now), LARDER_OK);
            assert_int_equal(now.residency, b.places);
            assert_int_equal(now.entry, b.entry);
            assert_int_equal(now.depth, b.depth);
        }
        larder_prefix_info info = LARDER_PREFIX_INFO_INIT;
        index_.info(info);
        assert_int_equal(info.n_entries, blocks_.size());
    }
    uint64_t n_resyncs() const { return n_resyncs_; }
    uint64_t n_seen() const { return n_seen_; }

  private:
    void resync(size_t at_once) {
        blocks_.clear();
        children_.clear();
        std::vector<larder_event> e(at_once);
        uint64_t position = 0, n = 0;
        larder_status s;
        do {
            s = index_.snapshot(position, cursor_, e.data(), sizeof e[0], at_once, n);
            assert_true(s == LARDER_OK || (s == LARDER_PARTIAL && n == at_once));
            for (uint64_t i = 0; i < n; ++i) {
                assert_int_equal(e[i].sequence, 0);
                assert_int_equal(e[i].kind, LARDER_EVENT_PUBLISHED);
                put(e[i]);
            }
        } while (s == LARDER_PARTIAL);
        last_ = cursor_;
        told_.clear();
        position = 0;
        assert_true(index_.snapshot(position, behind_snapshot_, e.data(), sizeof e[0], 1, n) >= 0);
        ++n_resyncs_;
    }
    void put(const larder_event& e) {
        const auto it = blocks_.find(e.key);
        if (it == blocks_.end()) ++children_[e.parent];
        blocks_[e.key] = {e.parent, e.places, e.depth, e.entry};
    }
    void apply(const larder_event& e) {
        assert_int_equal(e.sequence, ++last_);
        // The snapshot may have known of what the first event of a key tells.
        const auto certain = [&](const larder_key& k) { return !n_resyncs_ || told_.count(k); };
        const auto it = blocks_.find(e.key);
        const bool known = it != blocks_.end();
        ++n_seen_;
        if (certain(e.key)) {
            assert_int_equal(known, e.kind != LARDER_EVENT_PUBLISHED);
            assert_int_equal(e.places_before, known ? it->second.places : 0);
            if (known) assert_int_equal(e.entry, it->second.entry);
        }
        if (e.depth && certain(e.parent)) assert_int_equal(blocks_.count(e.parent), 1);
        told_.insert(e.key);
        // The snapshot may have seen the children of this block's next life.
        if (e.kind == LARDER_EVENT_REMOVED && e.sequence > behind_snapshot_)
            assert_int_equal(children_.count(e.key), 0);
        if (e.kind == LARDER_EVENT_REMOVED) {
            assert_int_equal(e.places, 0);
            if (known && !--children_[it->second.parent]) children_.erase(it->second.parent);
            if (known) blocks_.erase(it);
            return;
        }
        assert_true(e.places != e.places_before && e.places);
        put(e);
    }

    PrefixIndex& index_;
    std::map<larder_key, Block, KeyLess> blocks_;
    std::map<larder_key, uint32_t, KeyLess> children_;
    std::set<larder_key, KeyLess> told_;  // an event came since the snapshot
    uint64_t cursor_ = 0, last_ = 0, behind_snapshot_ = 0, n_resyncs_ = 0, n_seen_ = 0;
};

struct World {
    larder_context* context = nullptr;
    Owned<PrefixIndex> index;
    larder_key root{};

    explicit World(uint64_t n_events) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context::create(&o, posix_os(), &context), LARDER_OK);
        larder_prefix_options po = LARDER_PREFIX_OPTIONS_INIT;
        po.block_tokens = bt;
        po.n_events = n_events;
        assert_int_equal(PrefixIndex::create(*context, &po, index), LARDER_OK);
    }
    ~World() {
        index.reset();
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
};

// One change: publish a chain, drop or add a place of a block, remove a subtree, evict. False: something that must
// succeed did not.
bool change(World& w, Rng& r) {
    std::vector<int32_t> tokens(bt * (1 + r.below(depth)));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = i % bt == bt - 1 ? int32_t(r.below(3)) : 1;
    std::vector<larder_key> keys(tokens.size() / bt);
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    t.block_tokens = bt;
    t.tokens = tokens.data();
    t.n_tokens = tokens.size();
    prefix_keys(w.root, t, keys);
    const uint32_t bit = 1u << r.below(3);
    PrefixBlock b, out[16];
    uint64_t n = 0;
    if (r.below(3)) {
        std::vector<PrefixItem> items;
        std::vector<PrefixPublished> made(keys.size());
        for (size_t i = 0; i < keys.size(); ++i) items.push_back({keys[i], tokens.data() + i * bt, bt, 0, bit, 0, i});
        return w.index->publish(w.root, 0, items, false, made, n) == LARDER_OK;
    } else if (r.below(2)) {
        if (w.index->lookup(keys.back(), b) != LARDER_OK) return true;
        switch (r.below(3)) {
        case 0:
            w.index->add(b.entry, bit, 1);
            break;
        case 1:
            w.index->drop(b.entry, bit, nullptr);
            break;
        default:
            w.index->remove(b.entry, out, n);
        }
    } else {
        if (w.index->candidates(bit, out, n) != LARDER_OK) return false;
        for (uint64_t i = 0; i < n; ++i) w.index->drop(out[i].entry, bit, nullptr);
    }
    return true;
}

void one_after_the_other(void**) {
    World w(256);
    Rng r(test_seed());
    Mirror eager(*w.index), lazy(*w.index);
    const uint64_t n = test_rounds(30'000);
    for (uint64_t i = 0; i < n; ++i) {
        assert_true(change(w, r));
        if (r.below(4) == 0) eager.follow(1 + r.below(40));
        if (r.below(300) == 0) lazy.follow(1 + r.below(40));
        if (i % 1000) continue;
        eager.follow(7);
        lazy.follow(7);
        eager.check_is_right();
        lazy.check_is_right();
    }
    assert_int_equal(eager.n_resyncs(), 0);
    assert_true(n < 1000 || lazy.n_resyncs() > 0);
    assert_int_equal(w.index->verify(), LARDER_OK);
}

void beside_writers(void**) {
    World w(4096);
    const uint64_t seed = test_seed(), n = test_rounds(60'000);
    std::atomic<int> n_running{3}, n_bad{0};
    std::vector<std::thread> writers;
    for (uint64_t t = 0; t < 3; ++t)
        writers.emplace_back([&, t] {
            Rng r(seed + t);
            for (uint64_t i = 0; i < n; ++i) {
                n_bad += !change(w, r);
                if (i % 64 == 0) std::this_thread::yield();
            }
            --n_running;
        });
    Mirror mirror(*w.index);
    Rng r(seed ^ 5);
    do mirror.follow(1 + size_t(r.below(200)));
    while (n_running);
    for (auto& t : writers) t.join();
    assert_int_equal(n_bad.load(), 0);
    mirror.follow(100);
    mirror.check_is_right();
    assert_int_equal(w.index->verify(), LARDER_OK);
    print_message("%llu events seen, %llu times lost\n", (unsigned long long)mirror.n_seen(),
                  (unsigned long long)mirror.n_resyncs());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(one_after_the_other), cmocka_unit_test(beside_writers)};
    return cmocka_run_group_tests_name("prefix_events", tests, nullptr, nullptr);
}
