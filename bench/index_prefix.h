// Rows of the prefix index: matching and publishing chains beside a hash map of chain keys under a shared_mutex, which
// is what most engines have.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>
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

class HashChain {
  public:
    struct Block {
        uint64_t location;
        std::atomic<uint32_t> pins{0};
        uint32_t residency;
        explicit Block(uint64_t l) : location(l), residency(1) {}
    };
    uint64_t length(const std::vector<larder_key>& keys) {
        std::shared_lock lock(mutex_);
        uint64_t n = 0;
        while (n < keys.size() && map_.count(keys[n])) ++n;
        return n;
    }
    uint64_t match_and_pin(size_t, const std::vector<larder_key>& keys) {
        std::vector<Block*> held;
        {
            std::shared_lock lock(mutex_);
            for (auto& k : keys) {
                auto it = map_.find(k);
                if (it == map_.end()) break;
                it->second.pins.fetch_add(1, std::memory_order_acquire);
                held.push_back(&it->second);
            }
        }
        for (Block* b : held) b->pins.fetch_sub(1, std::memory_order_release);
        return held.size();
    }
    void publish(size_t, const std::vector<larder_key>& keys) {
        std::unique_lock lock(mutex_);
        for (size_t i = 0; i < keys.size(); ++i) map_.try_emplace(keys[i], i);
    }

  private:
    std::shared_mutex mutex_;
    std::unordered_map<larder_key, Block, larder::KeyHash, larder::KeyEqual> map_;
};

// Microseconds of CPU time per chain, on n_threads threads at once.
template <class F> double us_per_chain(size_t n_threads, uint64_t n_chains, F f) {
    std::vector<std::thread> threads;
    std::vector<double> seconds(n_threads);
    for (size_t t = 0; t < n_threads; ++t)
        threads.emplace_back([&, t] {
            seconds[t] = cpu_seconds([&] {
                for (uint64_t i = t; i < n_chains; i += n_threads) f(t, i);
            });
        });
    for (auto& t : threads) t.join();
    double sum = 0;
    for (double s : seconds) sum += s;
    return sum * 1e6 / double(n_chains);
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
            us_per_chain(1, n_queries, [&](size_t, uint64_t i) { keep(index.length(queries[i])); }));
        for (size_t n : {size_t(1), size_t(2)})
            out["prefix-match-pin-" + std::to_string(n) + "t"].push_back(
                us_per_chain(n, n_queries, [&](size_t t, uint64_t i) { keep(index.match_and_pin(t, queries[i])); }));
        std::vector<std::vector<larder_key>> fresh(64);
        for (size_t i = 0; i < fresh.size(); ++i) fresh[i] = chain_keys(n_chains + i);
        out["prefix-publish-and-match-2t"].push_back(us_per_chain(2, fresh.size(), [&](size_t t, uint64_t i) {
            index.publish(t, fresh[i]);
            keep(index.match_and_pin(t, fresh[i]));
            keep(index.length(queries[i]));
        }));
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
