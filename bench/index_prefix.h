// Rows of the prefix index: matching and publishing chains beside a hash map of chain keys under a shared_mutex, which
// is what most engines have.
#pragma once

#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "bench/bench.h"
#include "larder/prefix.h"

namespace bench {

constexpr uint64_t chain_blocks = 1000;

// The keys of chain c. Keys are made up here: what is measured is the index, not the hash.
inline std::vector<larder_key> chain_keys(uint64_t c) {
    std::vector<larder_key> keys(chain_blocks);
    for (uint64_t i = 0; i < chain_blocks; ++i)
        for (uint64_t w = 0; w < 4; ++w) {
            const uint64_t v = larder::mix64((c * chain_blocks + i) * 4 + w + 1);
            std::memcpy(keys[i].bytes + 8 * w, &v, 8);
        }
    return keys;
}

class LarderPrefix {
  public:
    LarderPrefix() : blocks_(2, std::vector<larder_prefix_block>(chain_blocks)), items_(2), published_(2) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        larder_prefix_options p = LARDER_PREFIX_OPTIONS_INIT;
        p.flags = LARDER_PREFIX_NO_TOKENS;
        if (larder_context_create(&o, &context_) < 0 || larder_prefix_create(context_, &p, &prefix_) < 0) std::abort();
    }
    ~LarderPrefix() {
        larder_prefix_destroy(prefix_);
        larder_context_destroy(context_);
    }
    uint64_t length(const std::vector<larder_key>& keys) { return match(keys, nullptr, LARDER_PREFIX_PEEK); }
    // With pins and residency, given back at once.
    uint64_t match_and_pin(size_t thread, const std::vector<larder_key>& keys) {
        auto& b = blocks_[thread];
        const uint64_t n = match(keys, b.data(), 0);
        larder_prefix_entry entries[chain_blocks];
        for (uint64_t i = 0; i < n; ++i) entries[i] = b[i].entry;
        larder_prefix_unpin(prefix_, entries, n);
        return n;
    }
    void publish(size_t thread, const std::vector<larder_key>& keys) {
        auto& items = items_[thread];
        auto& out = published_[thread];
        items.resize(keys.size());
        out.resize(keys.size());
        for (size_t i = 0; i < keys.size(); ++i) items[i] = {keys[i], nullptr, 16, 0, LARDER_PREFIX_IN_ARENA, 0, i};
        uint64_t n = 0;
        larder_prefix_publish(prefix_, &root_, 0, items.data(), items.size(), 0, out.data(), &n);
    }

  private:
    uint64_t match(const std::vector<larder_key>& keys, larder_prefix_block* out, uint32_t flags) {
        larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
        q.flags = flags;
        q.root = root_;
        q.keys = keys.data();
        q.n_keys = keys.size();
        larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
        larder_prefix_match(prefix_, &q, out, sizeof *out, keys.size(), &info);
        return info.n_blocks;
    }
    larder_context* context_ = nullptr;
    larder_prefix* prefix_ = nullptr;
    larder_key root_{};
    // Of each thread, as an engine keeps them.
    std::vector<std::vector<larder_prefix_block>> blocks_;
    std::vector<std::vector<larder_prefix_item>> items_;
    std::vector<std::vector<larder_prefix_published>> published_;
};

// What most engines have, doing the same job: whole keys, the block before it and the number of those after it,
// residency, location, pins, time of last use, and leaves in the order of last use, corrected when somebody evicts.
class HashChain {
  public:
    struct Block {
        Block* parent;
        uint64_t location;
        std::atomic<uint64_t> last_use;
        std::atomic<uint32_t> pins{0};
        uint32_t residency = 1, n_children = 0;
        Block(Block* p, uint64_t l, uint64_t now) : parent(p), location(l), last_use(now) {}
    };
    uint64_t length(const std::vector<larder_key>& keys) {
        std::shared_lock lock(mutex_);
        uint64_t n = 0;
        while (n < keys.size() && map_.count(keys[n])) ++n;
        return n;
    }
    // Tells of each block what larder_prefix_block does.
    uint64_t match_and_pin(size_t thread, const std::vector<larder_key>& keys) {
        auto& held = held_[thread];
        held.clear();
        {
            std::shared_lock lock(mutex_);
            const uint64_t now = clock_.fetch_add(keys.size(), std::memory_order_relaxed) + keys.size();
            for (auto& k : keys) {
                auto it = map_.find(k);
                if (it == map_.end()) break;
                Block& b = it->second;
                b.pins.fetch_add(1, std::memory_order_acquire);
                b.last_use.store(now - held.size(), std::memory_order_relaxed);
                held.push_back({&b, b.location, b.residency});
            }
        }
        for (const Held& h : held) h.block->pins.fetch_sub(1, std::memory_order_release);
        return held.size();
    }
    void publish(size_t, const std::vector<larder_key>& keys) {
        std::unique_lock lock(mutex_);
        Block* parent = nullptr;
        const uint64_t now = clock_.fetch_add(keys.size(), std::memory_order_relaxed);
        for (size_t i = 0; i < keys.size(); ++i) {
            auto [it, fresh] = map_.try_emplace(keys[i], parent, i, now + i);
            if (fresh && parent) ++parent->n_children;
            parent = &it->second;
        }
        if (parent && !parent->n_children) leaves_.emplace(parent->last_use.load(std::memory_order_relaxed), parent);
    }

  private:
    struct Held {
        Block* block;
        uint64_t location;
        uint32_t residency;
    };
    std::shared_mutex mutex_;
    std::atomic<uint64_t> clock_{0};
    std::unordered_map<larder_key, Block, larder::KeyHash, larder::KeyEqual> map_;
    std::set<std::pair<uint64_t, Block*>> leaves_;
    std::vector<Held> held_[2];
};

// Microseconds per chain, on n_threads threads at once: of CPU time, and by the clock, which sees waiting for locks.
struct ChainTime {
    double cpu_us, wall_us;
};
template <class F> ChainTime us_per_chain(size_t n_threads, uint64_t n_chains, F f) {
    std::vector<std::thread> threads;
    std::vector<double> seconds(n_threads);
    const auto began = std::chrono::steady_clock::now();
    for (size_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            seconds[t] = cpu_seconds([&] {
                for (uint64_t i = t; i < n_chains; i += n_threads) f(t, i);
            });
        });
    for (auto& t : threads) t.join();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;
    double sum = 0;
    for (double s : seconds) sum += s;
    return {sum * 1e6 / double(n_chains), wall.count() * 1e6 / double(n_chains)};
}

inline void prefix_rows(Run& run) {
    const uint64_t n_chains = run.size<uint64_t>(10'000, 1'000), n_queries = 200;
    std::map<std::string, std::vector<double>> larder, peer;
    std::vector<std::vector<larder_key>> queries(n_queries);
    larder::Rng r(5);
    for (auto& q : queries) q = chain_keys(r.below(n_chains));
    const auto measure = [&](auto& index, auto& out) {
        for (uint64_t c = 0; c < n_chains; ++c) index.publish(0, chain_keys(c));
        out["prefix-length-1t"].push_back(
            us_per_chain(1, n_queries, [&](size_t, uint64_t i) { keep(index.length(queries[i])); }).cpu_us);
        for (size_t n : {size_t(1), size_t(2)})
            out["prefix-match-pin-" + std::to_string(n) + "t"].push_back(
                us_per_chain(n, n_queries, [&](size_t t, uint64_t i) {
                    keep(index.match_and_pin(t, queries[i]));
                }).cpu_us);
        std::vector<std::vector<larder_key>> fresh(256);
        for (size_t i = 0; i < fresh.size(); ++i) fresh[i] = chain_keys(n_chains + i);
        const ChainTime both = us_per_chain(2, fresh.size(), [&](size_t t, uint64_t i) {
            index.publish(t, fresh[i]);
            keep(index.match_and_pin(t, fresh[i]));
            keep(index.length(queries[i % queries.size()]));
        });
        out["prefix-publish-and-match-2t"].push_back(both.cpu_us);
        out["prefix-publish-and-match-2t-wall"].push_back(both.wall_us);
    };
    for (int round = 0; round < (run.quick() ? 2 : 3); ++round) {
        measure(*std::make_unique<LarderPrefix>(), larder);
        measure(*std::make_unique<HashChain>(), peer);
    }
    const double chase_us = run.pointer_chase_ns() * 1e-3;
    for (auto& [name, v] : larder)
        run.row({.name = name,
                 .metric = "time of a chain of 1000 blocks",
                 .unit = "us",
                 .larder = median(v),
                 .peers = {{"unordered_map+shared_mutex", median(peer[name])}, {"pointer chase", chase_us}}});
    // Beside it, what making the keys costs.
    std::vector<int32_t> tokens(chain_blocks * 16, 1);
    std::vector<larder_key> keys(chain_blocks);
    larder_key root{};
    larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
    t.block_tokens = 16;
    t.tokens = tokens.data();
    t.n_tokens = tokens.size();
    std::vector<double> us;
    for (int i = 0; i < 50; ++i)
        us.push_back(cpu_seconds([&] { larder_prefix_keys(&root, &t, keys.data(), chain_blocks, nullptr); }) * 1e6);
    run.row({.name = "prefix-keys",
             .metric = "time of a chain of 1000 blocks",
             .unit = "us",
             .larder = median(us),
             .peers = {{"pointer chase", chase_us}}});
}

}  // namespace bench
