#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

namespace {

constexpr uint32_t n_head_tokens = 6;  // that take part in the order of by_tokens_

uint32_t ordered(int32_t token) {
    return uint32_t(token) + 1;
}  // 0: no token

}  // namespace

PrefixIndex::Impl::TokenKey PrefixIndex::Impl::token_key(uint32_t parent, const int32_t* tokens, uint32_t n,
                                                         uint32_t child) const noexcept {
    const auto t = [&](uint32_t i) { return tokens && i < n ? uint64_t(ordered(load_at(tokens + i))) : 0; };
    return {{uint64_t(parent) << 32 | t(0), t(1) << 32 | t(2), t(3) << 32 | t(4), t(5) << 32 | child}};
}

PrefixIndex::Impl::TokenKey PrefixIndex::Impl::token_key_of(uint32_t slot) const noexcept {
    const PrefixEntry& e = *at(slot);
    const bool hidden = load_at(&e.shape) >> 24 & prefix_no_partial;
    const int32_t* tokens = load_at(&e.tokens_slot) && !hidden ? tokens_of(e) : nullptr;
    return token_key(load_at(&e.parent), tokens, n_tokens(e), slot);
}

// Leading tokens that a block has in common with `tokens`; 0 when it is gone.
uint32_t PrefixIndex::Impl::shared_tokens(uint64_t id, std::span<const int32_t> tokens) const noexcept {
    const PrefixEntry* e = at_id(id);
    if (!e) return 0;
    const uint32_t t = load_at(&e->tokens_slot);
    if (!t || (load_at(&e->shape) >> 24 & prefix_no_partial)) return 0;
    const auto* kept = reinterpret_cast<const int32_t*>(tokens_.at(t));
    const uint32_t n = std::min({n_tokens(*e), uint32_t(tokens.size()), block_tokens_});
    uint32_t i = 0;
    while (i < n && load_at(kept + i) == tokens[i]) ++i;
    fence(acquire);
    return at_id(id) && e->state.load(relaxed) & live ? i : 0;
}

// The next children behind `from`, in order; those of by_tokens_ and the one that stands in the parent.
size_t PrefixIndex::Impl::scan_children(uint32_t parent, const TokenKey& from, std::span<TokenKey> keys,
                                        std::span<uint64_t> ids) const noexcept {
    bskip::Value<1> values[16];
    size_t n = by_tokens_.scan_up(&from, true, keys.size(), keys.data(), values);
    while (n && keys[n - 1].w[0] >> 32 != parent) --n;
    for (size_t i = 0; i < n; ++i) ids[i] = values[i].w[0];
    const uint32_t lone = lone_child(parent);
    if (!lone) return n;
    const uint64_t id = id_of(lone);
    const TokenKey k = token_key_of(lone);
    if (k.w[0] >> 32 != parent || k <= from || (n == keys.size() && keys[n - 1] < k)) return n;
    size_t i = n < keys.size() ? n++ : n - 1;
    for (; i && k < keys[i - 1]; --i) keys[i] = keys[i - 1], ids[i] = ids[i - 1];
    keys[i] = k, ids[i] = id;
    return n;
}

// The children of a parent are in the order of their first tokens, so the one that shares most is a neighbour of the
// query; among those that share all the ordered tokens every one is looked at.
uint64_t PrefixIndex::Impl::best_child(uint32_t parent, std::span<const int32_t> tokens,
                                       uint32_t& out_shared) const noexcept {
    const uint32_t n = uint32_t(tokens.size());
    const TokenKey q = token_key(parent, tokens.data(), n, 0);
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
    if (const uint32_t lone = lone_child(parent)) consider(id_of(lone));
    TokenKey keys[8];
    bskip::Value<1> ids[8];
    TokenKey from = q;
    for (bool strict = false;; strict = true) {
        const size_t m = by_tokens_.scan_up(&from, strict, 8, keys, ids);
        size_t i = 0;
        for (; i < m && keys[i].w[0] >> 32 == parent; ++i) {
            const uint32_t shared = consider(ids[i].w[0]);
            if (shared == n || shared < std::min(n, n_head_tokens)) break;  // later ones share no more
        }
        if (i < 8) break;
        from = keys[7];
    }
    if (out_shared < n && by_tokens_.scan_down(&q, true, 1, keys, ids) && keys[0].w[0] >> 32 == parent)
        consider(ids[0].w[0]);
    return best;
}

larder_status PrefixIndex::Impl::children(uint32_t parent, uint64_t after, std::span<PrefixBlock> out,
                                          uint64_t& out_n) {
    out_n = 0;
    TokenKey from = token_key(parent, nullptr, 0, 0);
    if (after) {
        LARDER_TRY(pin(after, nullptr));
        from = token_key_of(Id::index(after));
        unpin(*at(Id::index(after)));
    }
    for (;;) {
        TokenKey keys[16];
        uint64_t ids[16];
        const size_t n = scan_children(parent, from, keys, ids);
        for (size_t i = 0; i < n; ++i) {
            PrefixBlock b;
            if (!peek(ids[i], b) || load_at(&at(Id::index(ids[i]))->parent) != parent) continue;
            if (out_n == out.size()) return LARDER_PARTIAL;
            out[out_n++] = b;
        }
        if (n < 16) return LARDER_OK;
        from = keys[15];
    }
}

}  // namespace larder
