#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

namespace {

constexpr uint32_t n_head_tokens = 6;  // that take part in the order of by_tokens_

uint32_t ordered(int32_t token) {
    return uint32_t(token) + 1;
}  // 0: no token

}  // namespace

PrefixIndex::Impl::WideKey PrefixIndex::Impl::token_key(uint32_t parent, const int32_t* tokens, uint32_t n,
                                                        uint32_t child) const noexcept {
    const auto t = [&](uint32_t i) { return tokens && i < n ? uint64_t(ordered(load_at(tokens + i))) : 0; };
    return {{uint64_t(parent) << 32 | t(0), t(1) << 32 | t(2), t(3) << 32 | t(4), t(5) << 32 | child}};
}

PrefixIndex::Impl::WideKey PrefixIndex::Impl::token_key_of(uint32_t slot) const noexcept {
    const PrefixEntry& e = *at(slot);
    const bool hidden = load_at(&e.flags) & prefix_no_partial;
    const int32_t* tokens = load_at(&e.tokens_slot) && !hidden ? tokens_of(e) : nullptr;
    return token_key(load_at(&e.parent), tokens, n_tokens(e), slot);
}

// An only child stands in its parent; with the second both go into the map.
larder_status PrefixIndex::Impl::link_child(uint32_t parent, uint64_t id) noexcept {
    const uint32_t slot = Id::index(id);
    atomic<uint32_t>& only = at(parent)->child;
    uint32_t seen = only.load(acquire);
    while (seen != many_children) {
        if (!seen) {
            if (only.compare_exchange_strong(seen, slot, acq_rel, acquire)) return LARDER_OK;
            continue;
        }
        // Held, it cannot be unlinked, so it is still this parent's child if it still stands here.
        const uint64_t other = id_of(seen);
        if (!try_pin(other, nullptr)) {
            cpu_relax();  // being born or dying
            seen = only.load(acquire);
            continue;
        }
        const uint32_t held = seen;
        larder_status s = LARDER_OK;
        if ((seen = only.load(acquire)) == held) {
            s = by_tokens_.put(token_key_of(held), {other});
            if (s >= 0 && only.compare_exchange_strong(seen, many_children, acq_rel, acquire)) seen = many_children;
        }
        unpin(*at(held));
        if (s < 0) return s;
    }
    return by_tokens_.put(token_key_of(slot), {id});
}

void PrefixIndex::Impl::unlink_child(uint32_t parent, uint64_t id) noexcept {
    uint32_t seen = Id::index(id);
    if (!at(parent)->child.compare_exchange_strong(seen, 0, acq_rel, acquire))
        by_tokens_.remove_if(token_key_of(Id::index(id)), {id});
}

// Children from a place in their order on.
size_t PrefixIndex::Impl::scan_children(uint32_t parent, const WideKey& from, bool strict, std::span<WideKey> keys,
                                        uint64_t* ids) const noexcept {
    const atomic<uint32_t>& only = at(parent)->child;
    for (uint32_t seen = only.load(acquire); seen != many_children; seen = only.load(acquire)) {
        if (!seen) return 0;
        ids[0] = id_of(seen);
        keys[0] = token_key_of(seen);
        fence(acquire);
        if (at_id(ids[0]) && only.load(relaxed) == seen) return strict ? from < keys[0] : !(keys[0] < from);
    }
    bskip::Value<1> v[16];
    const size_t n = by_tokens_.scan_up(&from, strict, std::min<size_t>(keys.size(), 16), keys.data(), v);
    size_t m = 0;
    for (; m < n && keys[m].w[0] >> 32 == parent; ++m) ids[m] = v[m].w[0];
    return m;
}

// Leading tokens that a block has in common with `tokens`; 0 when it is gone.
uint32_t PrefixIndex::Impl::shared_tokens(uint64_t id, std::span<const int32_t> tokens) const noexcept {
    const PrefixEntry* e = at_id(id);
    if (!e) return 0;
    const uint32_t t = load_at(&e->tokens_slot);
    if (!t || (load_at(&e->flags) & prefix_no_partial)) return 0;
    const auto* kept = reinterpret_cast<const int32_t*>(tokens_.at(t));
    const uint32_t n = std::min({n_tokens(*e), uint32_t(tokens.size()), block_tokens_});
    uint32_t i = 0;
    while (i < n && load_at(kept + i) == tokens[i]) ++i;
    fence(acquire);
    return at_id(id) && e->state.load(relaxed) & live ? i : 0;
}

// The children of a parent are in the order of their first tokens, so the one that shares most is a neighbour of the
// query; among those that share all the ordered tokens every one is looked at.
uint64_t PrefixIndex::Impl::best_child(uint32_t parent, std::span<const int32_t> tokens,
                                       uint32_t& out_shared) const noexcept {
    const uint32_t n = uint32_t(tokens.size());
    const WideKey q = token_key(parent, tokens.data(), n, 0);
    uint64_t best = 0;
    out_shared = 0;
    const auto consider = [&](uint64_t id) {
        const uint32_t shared = shared_tokens(id, tokens);
        if (shared > out_shared) {
            out_shared = shared;
            best = id;
        }
        return shared;
    };
    if (const uint32_t only = at(parent)->child.load(acquire); only != many_children)
        return only ? consider(id_of(only)), best : 0;
    WideKey keys[8];
    uint64_t ids[8];
    WideKey from = q;
    for (bool strict = false;; strict = true) {
        const size_t m = scan_children(parent, from, strict, keys, ids);
        size_t i = 0;
        for (; i < m; ++i) {
            const uint32_t shared = consider(ids[i]);
            if (shared == n || shared < std::min(n, n_head_tokens)) break;  // later ones share no more
        }
        if (i < 8) break;
        from = keys[7];
    }
    bskip::Value<1> before{};
    if (out_shared < n && by_tokens_.scan_down(&q, true, 1, keys, &before) && keys[0].w[0] >> 32 == parent)
        consider(before.w[0]);
    return best;
}

larder_status PrefixIndex::Impl::children(uint32_t parent, uint64_t after, std::span<PrefixBlock> out,
                                          uint64_t& out_n) {
    out_n = 0;
    WideKey from = token_key(parent, nullptr, 0, 0);
    if (after) {
        LARDER_TRY(pin(after, nullptr));
        from = token_key_of(Id::index(after));
        unpin(*at(Id::index(after)));
    }
    for (;;) {
        WideKey keys[16];
        uint64_t ids[16];
        const size_t n = scan_children(parent, from, true, keys, ids);
        for (size_t i = 0; i < n; ++i) {
            PrefixBlock b;
            if (!peek(ids[i], b)) continue;
            if (out_n == out.size()) return LARDER_PARTIAL;
            out[out_n++] = b;
        }
        if (n < 16) return LARDER_OK;
        from = keys[15];
    }
}

}  // namespace larder
