#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

// The key of a slot that may change hands meanwhile. `alive`: an entry that is being born or dying does not count.
bool PrefixIndex::Impl::has_key(uint32_t slot, const larder_key& key, bool alive) const noexcept {
    const PrefixEntry& e = *at(slot);
    const uint32_t generation = e.generation.load(acquire);
    uint64_t want[4], differs = 0;
    std::memcpy(want, key.bytes, sizeof want);
    const auto* words = reinterpret_cast<const uint64_t*>(e.key.bytes);
    for (int i = 0; i < 4; ++i) differs |= load_at(words + i) ^ want[i];
    if (differs || (alive && !(e.state.load(acquire) & live))) return false;
    fence(acquire);
    return e.generation.load(relaxed) == generation;
}

uint64_t PrefixIndex::Impl::find(const larder_key& key) const noexcept {
    uint64_t id = 0;
    const bool there = by_key_.find(key, [&](uint32_t slot) {
        id = id_of(slot);
        return has_key(slot, key, true) && id_of(slot) == id;
    });
    return there ? id : 0;
}

// Bring near what looking up n keys will read: first the words of the table, then the entries that they name.
void PrefixIndex::Impl::warm(const larder_key* keys, size_t stride, size_t n) const noexcept {
    const auto key = [&](size_t i) -> const larder_key& {
        return *reinterpret_cast<const larder_key*>(reinterpret_cast<const std::byte*>(keys) + i * stride);
    };
    for (size_t i = 0; i < n; ++i) by_key_.prefetch_words(key(i));
    for (size_t i = 0; i < n; ++i) {
        const uint32_t slot = by_key_.likely_slot(key(i));
        if (!slot) continue;
        const PrefixEntry* e = at(slot);
        prefetch(e);
        prefetch(e->location);
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
        for (size_t j = 0; j < m; ++j) {
            length[j] = known + ((open - known) * (j + 1) + m - 1) / m;
            probe[j] = keys[length[j] - 1];
        }
        warm(probe, sizeof probe[0], m);
        size_t hits = 0;
        while (hits < m && find(probe[hits])) ++hits;
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
    for (size_t done = 0; done < n;) {
        const size_t m = std::min(2 * wave, n - done);
        warm(&keys[done], sizeof keys[0], m);
        for (size_t j = 0; j < m; ++j, ++done) {
            const uint64_t id = find(keys[done]);
            if (!id) return done;
            uint64_t s;
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
