// The B-skiplist under every schedule of two threads with up to two preemptions (three in long runs): splits, merges,
// hops over right links that the level above does not know yet, nodes and key records that are used again while
// somebody still looks at them. Every answer must be linearizable, every scan complete, every invariant hold.
//
// The code under test is compiled here a second time, with schedule points and nodes of 256 bytes, in a namespace of
// its own.
#define LARDER_SCHEDULE_EXPLORER 1
#define larder larder_explored
#include "base/alloc.cpp"
#include "base/result.cpp"
#include "index/key_store.cpp"
#include "index/node_slots.cpp"
#include "index/skiplist.h"
#undef larder

#include <map>
#include <memory>

#include "support/cmocka.h"
#include "support/explorer.h"
#include "support/linear.h"
#include "support/seed.h"

using explorer::Explorer;

void larder_explored::schedule_point() noexcept {
    Explorer::point();
}

namespace {

using namespace larder_explored;
using bskip::any_length;
using bskip::HeldKey;
using bskip::Key;
using Value = bskip::Value<1>;

// Keys are numbers to the scenarios. Those of any length begin alike, so that only their records tell them apart.
template <uint32_t W> void hold(HeldKey<W>& h, uint64_t n) {
    if constexpr (W == any_length) {
        char text[32];
        h.hold_bytes(text, uint32_t(std::snprintf(text, sizeof text, "the same for all %05u", unsigned(n))));
    } else {
        h.hold({{n}});
    }
}
template <uint32_t W> uint64_t number_of(const Key<W>& k) {
    if constexpr (W == any_length) {
        uint64_t n = 0;
        for (int byte = 1; byte < 6; ++byte) n = 10 * n + ((k.rest[1] >> (56 - 8 * byte)) & 0xff) - '0';
        return n;
    } else {
        return k.w[0];
    }
}

// One list, what was done to it, and when, in steps of the explorer.
template <uint32_t W> class World {
  public:
    using List = bskip::Skiplist<W, 1>;
    static constexpr uint64_t full = List::Leaf::capacity;

    World() { assert_int_equal(list_.init(), LARDER_OK); }

    // Leaves with the given keys each, values equal to the keys.
    void reset(const std::vector<std::vector<uint64_t>>& leaves) {
        clear();
        initial_.clear();
        history_.clear();
        scans_bad_ = 0;
        // In ascending order full leaves stay behind; then what is not wanted goes, without reaching a merge.
        for (auto& leaf : leaves) {
            std::vector<uint64_t> keys = leaf;
            for (uint64_t k = leaf.back() + 1; keys.size() < full; ++k) keys.push_back(k);
            for (uint64_t k : keys) put(k, k);
        }
        for (auto& leaf : leaves) {
            for (uint64_t i = 1; leaf.size() + i <= full; ++i) remove(leaf.back() + i);
            for (uint64_t k : leaf) initial_[k] = k;
        }
        history_.clear();
    }

    void get(uint64_t k) {
        record(LinearOp::get, k, 0, [&](const Key<W>& key, LinearOp& o) {
            Value v;
            o.done = list_.get(key, v);
            if (o.done) o.seen = v.w[0];
        });
    }
    void put(uint64_t k, uint64_t v) {
        record(LinearOp::put, k, v,
               [&](const Key<W>& key, LinearOp& o) { o.done = list_.put(key, {{v}}) == LARDER_OK; });
    }
    void insert(uint64_t k, uint64_t v) {
        record(LinearOp::insert, k, v, [&](const Key<W>& key, LinearOp& o) {
            Value present;
            o.done = list_.insert(key, {{v}}, &present) == LARDER_OK;
            if (!o.done) o.seen = present.w[0];
        });
    }
    void remove(uint64_t k) {
        record(LinearOp::remove, k, 0, [&](const Key<W>& key, LinearOp& o) {
            Value v;
            o.done = list_.remove(key, &v);
            if (o.done) o.seen = v.w[0];
        });
    }
    void get_many(std::vector<uint64_t> keys) {
        std::vector<HeldKey<W>> held(keys.size());
        std::vector<Key<W>> views;
        std::vector<Value> values(keys.size());
        auto found = std::make_unique<bool[]>(keys.size());
        for (size_t i = 0; i < keys.size(); ++i) hold<W>(held[i], keys[i]), views.push_back(held[i].key());
        const uint64_t began = now();
        list_.get_many(views.data(), views.size(), values.data(), found.get());
        for (size_t i = 0; i < keys.size(); ++i) {
            LinearOp o{};
            o.kind = LinearOp::get;
            o.key = keys[i];
            o.done = found[i];
            if (o.done) o.seen = values[i].w[0];
            o.began = began;
            o.ended = now();
            history_.push_back(o);
        }
    }
    // Ascending and without the keys that are named, all that was there at the beginning must be seen.
    void scan(bool up, const std::vector<uint64_t>& may_miss) {
        std::vector<uint64_t> seen = read_all(up);
        if (!up) std::reverse(seen.begin(), seen.end());
        for (size_t i = 1; i < seen.size(); ++i) scans_bad_ += seen[i - 1] >= seen[i];
        for (auto& [k, v] : initial_)
            if (std::find(may_miss.begin(), may_miss.end(), k) == may_miss.end())
                scans_bad_ += std::find(seen.begin(), seen.end(), k) == seen.end();
    }

    void judge() {
        const larder_status s = list_.verify(context_.alloc);
        if (s < 0) print_error("%s\n", last_error().message);
        assert_int_equal(s, LARDER_OK);
        assert_int_equal(scans_bad_, 0);
        std::map<uint64_t, std::vector<LinearOp>> by_key;
        for (auto& [k, v] : initial_) by_key[k];
        for (auto& o : history_) by_key[o.key].push_back(o);
        for (auto& [k, ops] : by_key) {
            get(k);  // what is there in the end belongs to the history
            history_.back().began = history_.back().ended = UINT64_MAX;
            ops.push_back(history_.back());
            auto it = initial_.find(k);
            const std::optional<uint64_t> before = it == initial_.end() ? std::nullopt : std::optional(it->second);
            const bool good = ops.size() == 1 ? ops[0].seen == before : LinearChecker::linearizable(ops, before);
            if (!good) print_error("key %llu\n%s", (unsigned long long)k, LinearChecker::text(ops).c_str());
            assert_true(good);
        }
    }
    Explorer* explorer = nullptr;

  private:
    uint64_t now() const { return explorer ? explorer->now() : 0; }
    template <class F> void record(LinearOp::Kind kind, uint64_t k, uint64_t argument, F f) {
        HeldKey<W> held;
        hold<W>(held, k);
        LinearOp o{};
        o.kind = kind;
        o.key = k;
        o.argument = argument;
        o.began = now();
        f(held.key(), o);
        o.ended = now();
        history_.push_back(o);
    }
    std::vector<uint64_t> read_all(bool up) {
        std::vector<uint64_t> seen(64);
        if constexpr (W == any_length) {
            std::vector<std::byte> bytes(4096);
            std::vector<uint32_t> ends(64);
            bool is_full = false;
            bskip::KeySink<W> sink(bytes.data(), bytes.size(), ends.data(), is_full);
            seen.resize(up ? list_.scan_up(nullptr, false, 64, sink, nullptr)
                           : list_.scan_down(nullptr, false, 64, sink, nullptr));
            for (size_t i = 0; i < seen.size(); ++i) {
                HeldKey<W> k;
                k.hold_bytes(sink.begin_of(i), sink.length_of(i));
                seen[i] = number_of<W>(k.key());
            }
        } else {
            std::vector<Key<W>> keys(64);
            seen.resize(up ? list_.scan_up(nullptr, false, 64, keys.data(), nullptr)
                           : list_.scan_down(nullptr, false, 64, keys.data(), nullptr));
            for (size_t i = 0; i < seen.size(); ++i) seen[i] = number_of<W>(keys[i]);
        }
        return seen;
    }
    void clear() {
        for (uint64_t k : read_all(true)) remove(k);
    }

    explored_context context_;
    SlabPool slabs_;
    List list_{context_, slabs_};
    std::map<uint64_t, uint64_t> initial_;
    std::vector<LinearOp> history_;
    uint64_t scans_bad_ = 0;
};

std::vector<uint64_t> tens(uint64_t from, uint64_t n) {
    std::vector<uint64_t> k;
    for (uint64_t i = 0; i < n; ++i) k.push_back(from + 20 * i);
    return k;
}

template <uint32_t W>
void run(const char* name, const std::vector<std::vector<uint64_t>>& leaves, std::function<void(World<W>&)> one,
         std::function<void(World<W>&)> other, uint32_t n_preemptions = 2) {
    World<W> w;
    Explorer e({[&] { one(w); }, [&] { other(w); }}, 50);
    w.explorer = &e;
    const uint32_t deeper = test_long();
    const uint64_t n = explorer::explore(
        e, 2, n_preemptions + deeper, test_percent() < 100 ? 3 : 1, [&] { w.reset(leaves); }, [&] { w.judge(); });
    print_message("%s: %llu schedules\n", name, (unsigned long long)n);
}

template <uint32_t W> void splits(void**) {
    constexpr uint64_t full = World<W>::full;
    using Here = World<W>&;
    const std::vector<std::vector<uint64_t>> two = {tens(20, full), tens(1000, full)};
    const uint64_t last = 20 + 20 * (full - 1);
    // The right half is reached over the link before its parent knows it.
    run<W>(
        "split, reads of the right half", two, [](Here w) { w.put(55, 1); },
        [=](Here w) {
            w.get(last);
            w.get(55);
            w.get(last);
        });
    run<W>(
        "split, writes to the right half", two, [](Here w) { w.put(55, 1); },
        [=](Here w) {
            w.put(last, 2);
            w.remove(last - 20);
        });
    run<W>(
        "two splits of one leaf", two, [](Here w) { w.insert(55, 1); }, [](Here w) { w.insert(55, 2); }, 3);
    run<W>(
        "two splits of one leaf, other keys", two, [](Here w) { w.put(55, 1); }, [=](Here w) { w.put(last - 5, 2); });
    run<W>(
        "split, scans", two, [](Here w) { w.put(55, 1); },
        [](Here w) {
            w.scan(true, {});
            w.scan(false, {});
        });
    run<W>(
        "split, batch", two, [](Here w) { w.put(55, 1); },
        [=](Here w) {
            w.get_many({last, 55, 20, 1000});
        });
}

template <uint32_t W> void merges(void**) {
    using Here = World<W>&;
    // A leaf below a quarter merges: the last key but one of eleven, the last one of seven.
    const std::vector<uint64_t> first = W == any_length ? std::vector<uint64_t>{40} : std::vector<uint64_t>{20, 40};
    const std::vector<std::vector<uint64_t>> thin = {first, {1000, 1020, 1040}, tens(2000, World<W>::full)};
    run<W>(
        "merge, reads", thin, [](Here w) { w.remove(40); },
        [](Here w) {
            w.get(1020);
            w.get(40);
            w.get(1040);
        });
    run<W>(
        "merge, writes", thin, [](Here w) { w.remove(40); },
        [](Here w) {
            w.put(1010, 1);
            w.remove(1020);
        },
        3);
    run<W>(
        "two merges", thin, [](Here w) { w.remove(40); },
        [](Here w) {
            w.remove(1000);
            w.remove(1020);
        });
    run<W>(
        "merge, scans", thin, [](Here w) { w.remove(40); },
        [](Here w) {
            w.scan(true, {40});
            w.scan(false, {40});
        });
    run<W>(
        "merge, batch", thin, [](Here w) { w.remove(40); },
        [](Here w) {
            w.get_many({1040, 20, 40, 2000});
        });
    // The freed node becomes another leaf's right half.
    run<W>(
        "a node in its next life, reads", thin,
        [](Here w) {
            w.remove(40);
            w.put(2005, 1);
        },
        [](Here w) {
            w.get(1020);
            w.get(1040);
        });
    run<W>(
        "a node in its next life, batch", thin,
        [](Here w) {
            w.remove(40);
            w.put(2005, 1);
        },
        [](Here w) {
            w.get_many({1020, 1040});
        });
    run<W>(
        "a node in its next life, writes", thin,
        [](Here w) {
            w.remove(40);
            w.put(2005, 1);
        },
        [](Here w) { w.put(1020, 2); });
    run<W>(
        "a split beside a merge",
        {tens(20, World<W>::full),
         W == any_length ? std::vector<uint64_t>{1020} : std::vector<uint64_t>{1000, 1020},
         {2000, 2020, 2040}},
        [](Here w) { w.put(55, 1); }, [](Here w) { w.remove(1020); });
}

// The key that goes and the one that comes have records of one class.
void records_in_their_next_life(void**) {
    using Here = World<any_length>&;
    const std::vector<std::vector<uint64_t>> leaves = {{20, 40, 60}, {1000, 1020, 1040}};
    run<any_length>(
        "record, reads", leaves,
        [](Here w) {
            w.remove(40);
            w.put(30, 1);
        },
        [](Here w) {
            w.get(40);
            w.get(30);
            w.get(60);
        });
    run<any_length>(
        "record, scans", leaves,
        [](Here w) {
            w.remove(1000);
            w.put(50, 1);
        },
        [](Here w) {
            w.scan(true, {1000});
            w.scan(false, {1000});
        });
    run<any_length>(
        "record, writes", leaves,
        [](Here w) {
            w.remove(40);
            w.put(30, 1);
        },
        [](Here w) {
            w.insert(40, 2);
            w.remove(30);
        });
}

// A reader stops on its way, at every step of it, while others put and remove: freed nodes serve again all the same,
// and when the reader goes on it finds what is there.
void a_stalled_reader_holds_nothing(void**) {
    using List = bskip::Skiplist<1, 1>;
    constexpr uint64_t window = 300, kept = 5;
    const uint64_t n = test_long() ? 1'000'000 : 20'000 * test_percent() / 100;
    for (uint32_t stop_at = 1; stop_at < 12; ++stop_at) {
        explored_context context;
        SlabPool slabs;
        List list(context, slabs);
        assert_int_equal(list.init(), LARDER_OK);
        uint64_t next = 10, most = 0;
        for (; next < window; ++next) list.put({{next}}, {{next}});
        list.put({{kept}}, {{kept}});
        Value seen{};
        bool found = false;
        Explorer e({[&] { found = list.get({{kept}}, seen); },
                    [&] {
                        for (uint64_t i = 0; i < n; ++i, ++next) {
                            list.put({{next}}, {{next}});
                            list.remove({{next - window + 10}}, nullptr);
                            if (i % 100 == 0) most = std::max(most, list.totals().n_nodes + list.totals().n_free_nodes);
                        }
                    }},
                   UINT32_MAX);
        e.run({{stop_at, 1}});
        assert_true(found && seen.w[0] == kept);
        assert_in_range(most, 1, window);
        assert_int_equal(list.verify(context.alloc), LARDER_OK);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(splits<1>),
        cmocka_unit_test(merges<1>),
        cmocka_unit_test(splits<any_length>),
        cmocka_unit_test(merges<any_length>),
        cmocka_unit_test(records_in_their_next_life),
        cmocka_unit_test(a_stalled_reader_holds_nothing),
    };
    return cmocka_run_group_tests_name("skiplist schedules", tests, nullptr, nullptr);
}
