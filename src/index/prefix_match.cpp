#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

namespace {
constexpr size_t wave = 16;  // look-ups in flight
}

uint64_t PrefixIndex::Impl::find(const larder_key& key) const noexcept {
    bskip::Value<1> v;
    return by_key_.get(wide(key), v) ? v.w[0] : 0;
}

// If a block is published, all before it are. So the length is found by asking for `wave` evenly spread keys at once,
// and again between the last hit and the first miss.
size_t PrefixIndex::Impl::match_length(std::span<const larder_key> keys) noexcept {
    size_t known = 0, open = keys.size();  // the length is between them
    while (known < open) {
        const size_t m = std::min(wave, open - known);
        size_t length[wave];
        WideKey probe[wave];
        bool there[wave];
        for (size_t j = 0; j < m; ++j) {
            length[j] = known + ((open - known) * (j + 1) + m - 1) / m;
            probe[j] = wide(keys[length[j] - 1]);
        }
        by_key_.get_many(probe, m, nullptr, there);
        size_t hits = 0;
        while (hits < m && there[hits]) ++hits;
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
    WideKey probe[4 * wave];
    bskip::Value<1> ids[4 * wave];
    bool there[4 * wave];
    for (size_t done = 0; done < n;) {
        const size_t m = std::min(4 * wave, n - done);
        for (size_t j = 0; j < m; ++j) probe[j] = wide(keys[done + j]);
        by_key_.get_many(probe, m, ids, there);
        for (size_t j = 0; j < m; ++j)
            if (there[j]) {
                const PrefixEntry* e = at(Id::index(ids[j].w[0]));
                prefetch(e);
                prefetch(e->location);
            }
        for (size_t j = 0; j < m; ++j, ++done) {
            const uint64_t id = ids[j].w[0];
            if (!there[j]) return done;
            uint64_t s;
            if (!pin) {
                if (!peek(id, out[done])) return done;
            } else {
                if (!try_pin(id, &s)) return done;
                PrefixEntry& e = *at(Id::index(id));
                if (is_root(e) || !(e.key == keys[done])) return unpin(e), done;
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
        const bool ours = load_at(&e.parent) == slot && at_id(parent) && (n_blocks || at(slot)->key == q.root);
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
