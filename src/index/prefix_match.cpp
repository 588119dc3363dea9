#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

namespace {
constexpr size_t wave = 16, in_flight = 64;  // look-ups at once: to find a length, to hold blocks
}

// The id of the entry in a slot if it is alive and has this key. A key is fixed before its entry comes to life.
uint64_t PrefixIndex::Impl::id_if_live(uint32_t slot, const larder_key& key) const noexcept {
    const PrefixEntry& e = *at(slot);
    const uint32_t g = e.generation.load(acquire);
    if (!(e.state.load(acquire) & live) || !has_key(e, key)) return 0;
    fence(acquire);
    return e.generation.load(relaxed) == g ? Id::make(IdKind::prefix_entry, slot, g + first_generation_) : 0;
}

uint64_t PrefixIndex::Impl::find(const larder_key& key, uint64_t hash) const noexcept {
    uint64_t id = 0;
    by_key_.find(hash, [&](uint32_t slot) { return (id = id_if_live(slot, key)) != 0; });
    return id;
}

// Up to 64 at once: what the next step of a look-up reads is fetched for all before any of them takes it.
void PrefixIndex::Impl::find_many(std::span<const larder_key> keys, uint64_t* ids) const noexcept {
    uint64_t hash[in_flight];
    uint32_t guess[in_flight];
    const size_t n = keys.size();
    for (size_t j = 0; j < n; ++j) by_key_.warm_shard(hash[j] = by_key_.hash(keys[j]));
    for (size_t j = 0; j < n; ++j) by_key_.warm_bucket(hash[j]);
    for (size_t j = 0; j < n; ++j) {
        guess[j] = by_key_.guess(hash[j]);
        if (!guess[j]) continue;
        const PrefixEntry* e = at(guess[j]);
        prefetch(e);
        prefetch(e->location);
    }
    for (size_t j = 0; j < n; ++j) {
        ids[j] = guess[j] ? id_if_live(guess[j], keys[j]) : 0;
        if (!ids[j]) ids[j] = find(keys[j], hash[j]);
    }
}

// If a block is published, all before it are. So the length is found by asking for `wave` evenly spread keys at once,
// and again between the last hit and the first miss.
size_t PrefixIndex::Impl::match_length(std::span<const larder_key> keys) noexcept {
    size_t known = 0, open = keys.size();  // the length is between them
    while (known < open) {
        const size_t m = std::min(wave, open - known);
        size_t length[wave];
        larder_key probe[wave];
        uint64_t ids[wave];
        for (size_t j = 0; j < m; ++j) {
            length[j] = known + ((open - known) * (j + 1) + m - 1) / m;
            probe[j] = keys[length[j] - 1];
        }
        find_many({probe, m}, ids);
        size_t hits = 0;
        while (hits < m && ids[hits]) ++hits;
        if (hits < m) open = length[hits] - 1;
        if (hits) known = length[hits - 1];
    }
    return known;
}

// Describe leading blocks until one is not there. With `pin` each is held, so the result is gapless whatever others
// remove meanwhile.
size_t PrefixIndex::Impl::match_blocks(std::span<const larder_key> keys, bool pin,
                                       std::span<PrefixBlock> out) noexcept {
    const size_t n = std::min(keys.size(), out.size());
    uint64_t ids[in_flight];
    for (size_t done = 0; done < n;) {
        const size_t m = std::min(in_flight, n - done);
        find_many(keys.subspan(done, m), ids);
        for (size_t j = 0; j < m; ++j, ++done) {
            const uint64_t id = ids[j];
            uint64_t s;
            if (!id) return done;
            if (!pin) {
                if (!peek(id, out[done])) return done;
            } else {
                if (!try_pin(id, &s)) return done;
                PrefixEntry& e = *at(Id::index(id));
                if (is_root(e)) return unpin(e), done;
                describe(id, e, s, out[done]);
            }
        }
    }
    return n;
}

// After the last full block: which published block begins with the most of the tokens that follow?
void PrefixIndex::Impl::match_partial(const larder_prefix_query& q, size_t n_blocks, uint64_t last,
                                      larder_prefix_match_info& info) noexcept {
    const int32_t* tokens =
        n_blocks < q.n_keys ? (q.tokens ? q.tokens + n_blocks * block_tokens_ : nullptr) : q.next_tokens;
    // Never a whole block: one that was published a moment ago will be found as such next time.
    uint64_t n = std::min<uint64_t>(n_blocks < q.n_keys ? block_tokens_ : q.n_next, block_tokens_ - 1);
    if (q.max_partial_tokens) n = std::min(n, q.max_partial_tokens);
    if (!tokens || !n || (flags_ & LARDER_PREFIX_NO_TOKENS) || (q.no_partial && q.no_partial[n_blocks])) return;
    const uint64_t parent = n_blocks ? last : find(q.root);
    if (!parent) return;
    const uint32_t slot = Id::index(parent);
    const std::span wanted(tokens, size_t(n));
    // Whatever is chosen may be removed before it is held: then choose again.
    for (int attempt = 0; attempt < 8; ++attempt) {
        uint32_t shared = 0;
        const uint64_t id = best_child(slot, wanted, shared);
        if (!id || !shared) return;
        uint64_t s;
        if (!try_pin(id, &s)) continue;
        PrefixEntry& e = *at(Id::index(id));
        const bool ours = load_at(&e.parent) == slot && at_id(parent) && (n_blocks || has_key(*at(slot), q.root));
        if (ours) {
            describe(id, e, s, info.partial);
            info.n_partial_tokens = shared;
        }
        if (!ours || (q.flags & LARDER_PREFIX_PEEK))
            unpin(e);
        else
            e.last_use.store(tick(1), relaxed);
        if (ours) return;
    }
}

}  // namespace larder
