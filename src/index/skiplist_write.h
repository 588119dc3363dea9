// Changing a B-skiplist: insertion with splits, removal with merges. Included by skiplist.h.
#pragma once

#include "index/skiplist_check.h"

namespace larder::bskip {

template <uint32_t KW, uint32_t VW> size_t Skiplist<KW, VW>::stripe() noexcept {
    static atomic<uint32_t> next{0};
    thread_local const uint32_t mine = next.fetch_add(1, relaxed);
    return mine % n_stripes;
}

template <uint32_t KW, uint32_t VW> larder_status Skiplist<KW, VW>::init() noexcept {
    LARDER_ASSIGN(const uint32_t id, pool_.alloc());
    heads_[0].store(id, release);
    return LARDER_OK;
}

template <uint32_t KW, uint32_t VW> larder_status Skiplist<KW, VW>::clear() noexcept {
    pool_.reset();
    keys_.reset();
    top_.store(0, relaxed);
    for (auto& h : heads_) h.store(0, relaxed);
    for (auto& c : counts_) c.n.store(0, relaxed);
    n_unposted_.store(0, relaxed);
    return init();
}

// Put an entry into the locked node p.x at p.rank and unlock it. When the node is full it splits: the right half's id
// and lower bound are given out, to be posted to the level above. Without memory for the split nothing changes.
template <uint32_t KW, uint32_t VW>
template <class L, class P>
larder_status Skiplist<KW, VW>::add(Place& p, const StoredType& k, const P& payload, uint32_t level,
                                    uint32_t& out_right, StoredType& out_separator) noexcept {
    Node* x = p.x;
    out_right = 0;
    if (p.n < L::capacity) {
        L::insert(x, p.rank, k, payload);
        unlock(x);
        return LARDER_OK;
    }
    Result<uint32_t> id = pool_.alloc();
    if (!id.ok()) {
        unlock_unchanged(x);
        return id.status();
    }
    Node* y = node(*id);
    lock(y);  // nobody can reach it, but somebody may still look at it from its former life
    y->set_info(level, 0);
    // Keys that come in ascending (descending) order leave full nodes behind.
    const bool at_end = !x->right() && p.rank == p.n;
    const bool at_begin = !level && x == node(heads_[0].load(relaxed)) && p.rank == 0;
    const uint32_t cut = at_end ? p.n : at_begin ? 0 : p.n / 2;
    L::append(y, x, cut, p.n);
    L::set_high(y, L::stored_high(x));
    y->set_right(x->right());
    L::truncate(x, cut);
    if (p.rank > cut || at_end)
        L::insert(y, p.rank - cut, k, payload);
    else
        L::insert(x, p.rank, k, payload);
    out_separator = keys_.share(L::stored(y, 0));
    out_right = *id;
    L::set_high(x, keys_.share(out_separator));
    x->set_right(*id);
    unlock(y);
    unlock(x);
    return LARDER_OK;
}

// Make node `id`, whose lower bound is `separator`, known to `level`. Without memory it stays unknown there, which
// costs its readers a step to the right. Takes over the separator.
template <uint32_t KW, uint32_t VW>
void Skiplist<KW, VW>::post(StoredType separator, uint32_t id, uint32_t level) noexcept {
    for (; id; ++level) {
        StoredType next{};
        uint32_t right = 0;
        bool posted = level < max_levels && grow_to(level);
        if (posted) {
            const KeyType k = key_of(separator);
            Place p;
            find<Inner>(p, k, level);
            while (!try_lock(p.x, p.v)) find_again<Inner>(p, k, level);
            posted = add<Inner>(p, separator, ChildId(id), level, right, next) >= 0;
        }
        if (!posted) {
            n_unposted_.fetch_add(1, relaxed);
            return keys_.drop(separator);
        }
        separator = next;
        id = right;
    }
}

template <uint32_t KW, uint32_t VW> bool Skiplist<KW, VW>::grow_to(uint32_t level) noexcept {
    if (top_.load(acquire) >= level) return true;
    std::lock_guard guard(grow_mutex_);
    if (top_.load(relaxed) >= level) return true;
    Result<uint32_t> id = pool_.alloc();
    if (!id.ok()) return false;
    Node* x = node(*id);
    lock(x);
    x->set_info(level, 0);
    x->set_right(0);
    Inner::insert(x, 0, StoredType{}, ChildId(heads_[level - 1].load(relaxed)));
    unlock(x);
    heads_[level].store(*id, release);
    top_.store(level, release);
    return true;
}

// A new pair into the locked leaf p.x at p.rank; unlocks it.
template <uint32_t KW, uint32_t VW>
larder_status Skiplist<KW, VW>::add_pair(Place& p, NewKey<KW>& k, const ValueType& v) noexcept {
    uint32_t right;
    StoredType separator;
    LARDER_TRY(add<Leaf>(p, k.stored(), v, 0, right, separator));
    k.placed();
    count_one(1);
    post(separator, right, 1);
    return LARDER_OK;
}

template <uint32_t KW, uint32_t VW> larder_status Skiplist<KW, VW>::put(const KeyType& k, const ValueType& v) noexcept {
    NewKey<KW> fresh(keys_);
    Place p = find_leaf(k);
    for (;; find_again<Leaf>(p, k, 0)) {
        const bool there = holds(p, k);
        if (!there) LARDER_TRY(fresh.make(k));
        if (!try_lock(p.x, p.v)) continue;
        if (!there) return add_pair(p, fresh, v);
        Leaf::set_payload(p.x, p.rank - 1, v);
        unlock(p.x);
        return LARDER_OK;
    }
}

template <uint32_t KW, uint32_t VW>
larder_status Skiplist<KW, VW>::insert(const KeyType& k, const ValueType& v, ValueType* present) noexcept {
    NewKey<KW> fresh(keys_);
    Place p = find_leaf(k);
    for (;; find_again<Leaf>(p, k, 0)) {
        if (holds(p, k)) {
            const ValueType there = Leaf::payload(p.x, p.rank - 1);
            if (!unchanged(p.x, p.v)) continue;
            if (present) *present = there;
            return LARDER_E_EXISTS;
        }
        LARDER_TRY(fresh.make(k));
        if (try_lock(p.x, p.v)) return add_pair(p, fresh, v);
    }
}

template <uint32_t KW, uint32_t VW>
larder_status Skiplist<KW, VW>::swap(const KeyType& k, ValueType& expected, const ValueType& v) noexcept {
    Place p = find_leaf(k);
    for (;; find_again<Leaf>(p, k, 0)) {
        const bool there = holds(p, k);
        const ValueType now = there ? Leaf::payload(p.x, p.rank - 1) : ValueType{};
        if (there && now == expected) {
            if (!try_lock(p.x, p.v)) continue;
            Leaf::set_payload(p.x, p.rank - 1, v);
            unlock(p.x);
            return LARDER_OK;
        }
        if (!unchanged(p.x, p.v)) continue;
        if (!there) return LARDER_MISS;
        expected = now;
        return LARDER_E_STATE;
    }
}

template <uint32_t KW, uint32_t VW>
template <class Condition>
bool Skiplist<KW, VW>::take_out(const KeyType& k, Condition condition, ValueType* out) noexcept {
    Place p = find_leaf(k);
    ValueType now;
    for (;; find_again<Leaf>(p, k, 0)) {
        const bool there = holds(p, k) && (now = Leaf::payload(p.x, p.rank - 1), condition(now));
        if (there && try_lock(p.x, p.v)) break;
        if (!there && unchanged(p.x, p.v)) return false;
    }
    const StoredType gone = Leaf::stored(p.x, p.rank - 1);
    Leaf::remove(p.x, p.rank - 1);
    unlock(p.x);
    keys_.drop(gone);
    count_one(-1);
    if (out) *out = now;
    if (underfull<Leaf>(p.n - 1)) merge_around(k, 0);
    return true;
}

template <uint32_t KW, uint32_t VW> bool Skiplist<KW, VW>::remove(const KeyType& k, ValueType* out) noexcept {
    return take_out(
        k, [](const ValueType&) { return true; }, out);
}

template <uint32_t KW, uint32_t VW>
bool Skiplist<KW, VW>::remove_if(const KeyType& k, const ValueType& expected) noexcept {
    return take_out(
        k, [&](const ValueType& now) { return now == expected; }, nullptr);
}

// The node of `level` around k has become thin: let it and a neighbour become one, if both fit, and go on above.
// Nothing depends on its success.
template <uint32_t KW, uint32_t VW> void Skiplist<KW, VW>::merge_around(const KeyType& k, uint32_t level) noexcept {
    for (; level < top_.load(acquire); ++level) {
        Place p;
        find<Inner>(p, k, level + 1);
        while (!try_lock(p.x, p.v)) find_again<Inner>(p, k, level + 1);
        const uint32_t i = p.rank ? p.rank - 1 : 0;
        const auto pair = [&](uint32_t left) {
            return level ? merge_pair<Inner>(p.x, left, level) : merge_pair<Leaf>(p.x, left, level);
        };
        const bool merged = (i > 0 && pair(i - 1)) || (i + 1 < p.n && pair(i));
        if (!merged) return unlock_unchanged(p.x);
        unlock(p.x);
        if (!underfull<Inner>(p.n - 1)) return;
    }
}

// Entries left and left + 1 of the locked parent: the right child's keys move to the left one, the right child is
// freed.
template <uint32_t KW, uint32_t VW>
template <class L>
bool Skiplist<KW, VW>::merge_pair(Node* parent, uint32_t left, uint32_t level) noexcept {
    const uint32_t id_a = Inner::payload(parent, left), id_b = Inner::payload(parent, left + 1);
    Node *a = node(id_a), *b = node(id_b);
    lock(a);
    // Between them may be a node that the parent does not know yet.
    if (a->right() != id_b) return unlock_unchanged(a), false;
    lock(b);
    const uint32_t n_a = a->count(), n_b = b->count();
    const bool fits = n_a + n_b <= L::capacity - L::capacity / 8 || ((!n_a || !n_b) && n_a + n_b <= L::capacity);
    if (!fits) {
        unlock_unchanged(b);
        unlock_unchanged(a);
        return false;
    }
    keys_.drop(L::stored_high(a));
    keys_.drop(Inner::stored(parent, left + 1));
    L::append(a, b, 0, n_b);
    L::set_high(a, L::stored_high(b));
    a->set_right(b->right());
    Inner::remove(parent, left + 1);
    unlock_dead(b);
    unlock(a);
    LARDER_ASSERT(a->level() == level);
    pool_.free(id_b);
    return true;
}

template <uint32_t KW, uint32_t VW> uint64_t Skiplist<KW, VW>::count() const noexcept {
    int64_t n = 0;
    for (auto& c : counts_) n += c.n.load(relaxed);
    return n < 0 ? 0 : uint64_t(n);
}

}  // namespace larder::bskip
