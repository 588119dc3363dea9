// Building a B-skiplist from sorted pairs, and checking one. Included by skiplist_write.h.
#pragma once

#include "base/assert.h"

namespace larder::bskip {

// Appends keys in ascending order to an empty list that nobody else uses. Nodes are filled to seven eighths, so that
// later puts do not split at once.
template <uint32_t KW, uint32_t VW> class Skiplist<KW, VW>::Builder {
  public:
    explicit Builder(Skiplist& s) noexcept : s_(s) { last_[0] = s.node(s.heads_[0].load(relaxed)); }

    // k must be above the last key: E_INVALID otherwise.
    larder_status append(const KeyType& k, const ValueType& v) noexcept {
        if (n_ && !(last_key_.key() < k))
            return fail(LARDER_E_INVALID, "keys", "key %llu is not above the one before it", (unsigned long long)n_);
        StoredType stored{};
        LARDER_TRY(s_.keys_.make(k, stored));
        LARDER_TRY(append_to<Leaf>(0, stored, v));
        last_key_.hold(k);
        ++n_;
        s_.count_one(1);
        return LARDER_OK;
    }

  private:
    template <class L, class P>
    larder_status append_to(uint32_t level, const StoredType& k, const P& payload) noexcept {
        Node* x = last_[level];
        if (x->count() >= L::capacity - L::capacity / 8) {
            LARDER_ASSIGN(const uint32_t id, s_.pool_.alloc());
            Node* y = s_.node(id);
            y->set_info(level, 0);
            y->set_right(0);
            if (level + 1 < max_levels) {
                if (!s_.grow_to(level + 1)) return LARDER_E_NOMEM;
                if (!last_[level + 1]) last_[level + 1] = s_.node(s_.heads_[level + 1].load(relaxed));
                LARDER_TRY(append_to<Inner>(level + 1, s_.keys_.share(k), ChildId(id)));
            }
            L::set_high(x, s_.keys_.share(k));
            x->set_right(id);
            last_[level] = x = y;
        }
        L::insert(x, x->count(), k, payload);
        return LARDER_OK;
    }

    Skiplist& s_;
    std::array<Node*, max_levels> last_{};
    Held last_key_;
    uint64_t n_ = 0;
};

template <uint32_t KW, uint32_t VW> Totals Skiplist<KW, VW>::totals() const noexcept {
    Totals t;
    t.n_levels = top_.load(acquire) + 1;
    t.n_keys = count();
    t.n_free_nodes = pool_.n_free();
    const uint64_t given_out = pool_.end() - 1;
    t.n_nodes = given_out > t.n_free_nodes ? given_out - t.n_free_nodes : 0;
    // Entries of level 1 name the leaves.
    if (t.n_levels == 1) return t.n_leaves = 1, t;
    for (uint32_t id = heads_[1].load(acquire); id;) {
        const Node* x = node(id);
        const uint64_t v = stable(x);
        const uint32_t n = x->count(), right = x->right();
        if (!unchanged(x, v)) continue;
        if (x->level() != 1) break;  // merged away under us: an estimate it is
        t.n_leaves += n;
        id = right;
    }
    return t;
}

template <uint32_t KW, uint32_t VW>
template <class L>
larder_status Skiplist<KW, VW>::verify_node(const Node* x, uint32_t id, uint32_t level, const KeyType& low) const {
    const auto bad = [&](const char* what) {
        return fail(LARDER_E_CORRUPT, "index", "node %u of level %u: %s", id, level, what);
    };
    const uint32_t n = x->count();
    if (load_at(&x->version) & 1) return bad("it is locked");
    if (x->level() != level) return bad("it thinks to be on another level");
    if (n > L::capacity) return bad("too many entries");
    for (uint32_t i = 0; i < n; ++i) {
        if (L::key(x, i) < low) return bad("a key below the lower bound");
        if (i && !(L::key(x, i - 1) < L::key(x, i))) return bad("keys are not ascending");
    }
    if (n && x->right() && !(L::key(x, n - 1) < L::high(x))) return bad("a key not below the high key");
    if (x->right() && !(low < L::high(x)) && level == 0 && low != KeyType{})
        return bad("the high key is not above the lower bound");
    for (uint32_t i = 0; i < n_pivots && (i + 1) * L::step < n; ++i)
        if (x->pivots[i] != L::key(x, (i + 1) * L::step).head()) return bad("a pivot is wrong");
    return LARDER_OK;
}

template <uint32_t KW, uint32_t VW>
template <class L>
larder_status Skiplist<KW, VW>::verify_level(uint32_t level, Vec<uint8_t>& used, Vec<Span>& out) const {
    out.clear();
    KeyType low{};
    for (uint32_t id = heads_[level].load(acquire); id;) {
        if (id >= used.size())
            return fail(LARDER_E_CORRUPT, "index", "level %u links to node %u, which does not exist", level, id);
        if (used[id]) return fail(LARDER_E_CORRUPT, "index", "node %u of level %u is in use twice, or free", id, level);
        used[id] = 1;
        const Node* x = node(id);
        LARDER_TRY(verify_node<L>(x, id, level, low));
        out.push_back({id, low});
        low = L::high(x);
        id = x->right();
    }
    return LARDER_OK;
}

// Every entry of `above` names a node of `below` with its lower bound, in order, the first one the first.
template <uint32_t KW, uint32_t VW>
larder_status Skiplist<KW, VW>::verify_links(uint32_t level, const Vec<Span>& above, const Vec<Span>& below,
                                             uint64_t& n_unknown) const {
    size_t at = 0;
    for (const Span& s : above) {
        const Node* x = node(s.id);
        for (uint32_t i = 0; i < x->count(); ++i) {
            const uint32_t child = Inner::payload(x, i);
            while (at < below.size() && below[at].id != child) ++at, ++n_unknown;
            if (at == below.size())
                return fail(LARDER_E_CORRUPT, "index", "entry %u of node %u on level %u names a node that is not there",
                            i, s.id, level);
            if (Inner::key(x, i) != below[at].low)
                return fail(LARDER_E_CORRUPT, "index", "entry %u of node %u on level %u has a wrong separator", i, s.id,
                            level);
            if (i == 0 && Inner::key(x, i) != s.low)
                return fail(LARDER_E_CORRUPT, "index", "node %u on level %u does not begin at its lower bound", s.id,
                            level);
            ++at;
        }
        if (!x->count()) return fail(LARDER_E_CORRUPT, "index", "node %u on level %u is empty", s.id, level);
    }
    n_unknown += below.size() - at;
    if (above.empty() || Inner::payload(node(above[0].id), 0) != below[0].id)
        return fail(LARDER_E_CORRUPT, "index", "level %u does not begin with the first node below", level);
    return LARDER_OK;
}

template <uint32_t KW, uint32_t VW>
template <class L>
uint64_t Skiplist<KW, VW>::count_refs(uint32_t level) const noexcept {
    uint64_t n = 0;
    for (uint32_t id = heads_[level].load(acquire); id;) {
        const Node* x = node(id);
        for (uint32_t i = 0; i < x->count(); ++i) n += L::key(x, i).rest != nullptr;
        id = x->right();
        if (id) n += L::high(x).rest != nullptr;
    }
    return n;
}

// Each record is referred to as often as it thinks.
template <uint32_t KW, uint32_t VW> larder_status Skiplist<KW, VW>::verify_records(const Allocator& a) const {
    if constexpr (KW == any_length) {
        uint64_t n_counted = 0, n_seen = count_refs<Leaf>(0);
        if (!keys_.count_refs(a, n_counted)) return fail(LARDER_E_CORRUPT, "index", "a free list of keys is damaged");
        for (uint32_t l = 1; l <= top_.load(acquire); ++l) n_seen += count_refs<Inner>(l);
        if (n_seen != n_counted)
            return fail(LARDER_E_CORRUPT, "index", "keys are referred to %llu times, %llu times were counted",
                        (unsigned long long)n_seen, (unsigned long long)n_counted);
    }
    return LARDER_OK;
}

template <uint32_t KW, uint32_t VW> larder_status Skiplist<KW, VW>::verify(const Allocator& a) const {
    Vec<uint8_t> used(a);
    pool_.mark_free(used);
    uint64_t n_free = 0;
    for (uint8_t u : used) n_free += u;
    if (n_free != pool_.n_free()) return fail(LARDER_E_CORRUPT, "index", "the free list is damaged");
    Vec<Span> below(a), above(a);
    LARDER_TRY(verify_level<Leaf>(0, used, below));
    uint64_t n_keys = 0, n_unknown = 0, n_used = below.size();
    for (const Span& s : below) n_keys += node(s.id)->count();
    if (n_keys != count())
        return fail(LARDER_E_CORRUPT, "index", "%llu keys are there, %llu were counted", (unsigned long long)n_keys,
                    (unsigned long long)count());
    for (uint32_t l = 1; l <= top_.load(acquire); ++l) {
        LARDER_TRY(verify_level<Inner>(l, used, above));
        LARDER_TRY(verify_links(l, above, below, n_unknown));
        n_used += above.size();
        below.swap(above);
    }
    if (below.size() != 1) n_unknown += below.size() - 1;
    if (n_unknown > n_unposted_.load(relaxed))
        return fail(LARDER_E_CORRUPT, "index", "%llu nodes are not known above", (unsigned long long)n_unknown);
    if (n_used + n_free + 1 != pool_.end())
        return fail(LARDER_E_CORRUPT, "index", "%llu nodes used and %llu free of %u", (unsigned long long)n_used,
                    (unsigned long long)n_free, pool_.end() - 1);
    return verify_records(a);
}

}  // namespace larder::bskip
