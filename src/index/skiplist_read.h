// Reading a B-skiplist: descent, look-up, scans. Included by skiplist.h.
#pragma once

namespace larder::bskip {

// Rank k in p.x, moving right where the key lies beyond the node. False when p.x was freed.
template <uint32_t KW, uint32_t VW>
template <class L>
bool Skiplist<KW, VW>::settle(Place& p, const KeyType& k) const noexcept {
    for (;;) {
        p.n = L::count(p.x);
        p.rank = L::template rank<false>(p.x, p.n, k);
        if (p.rank < p.n) [[likely]]
            return true;
        const uint32_t right = p.x->right();
        if (!right) return true;
        if (L::high(p.x) > k) return true;
        // `right` may be garbage until the version is checked.
        if (unchanged(p.x, p.v)) {
            Node* y = node(right);
            const uint64_t v = stable(y);
            if (unchanged(p.x, p.v)) {
                p.x = y;
                p.v = v;
                continue;
            }
        }
        const uint64_t now = stable(p.x);
        if (!same_life(p.v, now)) return false;
        p.v = now;
    }
}

// Go down from the top to the node of `level` that covers k or lies left of the one that does. On the way to a leaf,
// fetch as many leaves behind it as n_pairs take: their parent names them, so they come together. Fetching only the
// lines that will be read, key lines and value lines in turn, made scans a quarter slower.
template <uint32_t KW, uint32_t VW>
void Skiplist<KW, VW>::descend(Place& p, const KeyType& k, uint32_t level, size_t n_pairs) const noexcept {
    const uint32_t n_ahead = leaves_ahead(n_pairs);
restart:
    uint32_t l = top_.load(acquire);
    p.x = node(heads_[l].load(acquire));
    p.v = stable(p.x);
    while (l > level) {
        if (!settle<Inner>(p, k)) goto restart;
        const uint32_t i = p.rank ? p.rank - 1 : 0, child = Inner::payload(p.x, i);
        uint32_t ahead[most_ahead], n = 0;
        if (l == 1)
            for (; n < n_ahead && i + n + 1 < p.n; ++n) ahead[n] = Inner::payload(p.x, i + n + 1);
        if (unchanged(p.x, p.v)) {
            Node* y = node(child);
            l > 1 ? Inner::prefetch_all(y) : Leaf::prefetch_all(y);
            for (uint32_t j = 0; j < n; ++j) Leaf::prefetch_all(node(ahead[j]));
            const uint64_t v = stable(y);
            if (unchanged(p.x, p.v)) {
                p.x = y;
                p.v = v;
                --l;
                continue;
            }
        }
        const uint64_t now = stable(p.x);
        if (!same_life(p.v, now)) goto restart;
        p.v = now;
    }
}

template <uint32_t KW, uint32_t VW>
template <class L>
void Skiplist<KW, VW>::find(Place& p, const KeyType& k, uint32_t level, size_t n_pairs) const noexcept {
    do descend(p, k, level, n_pairs);
    while (!settle<L>(p, k));
}

// After p.x changed: rank again from the same node while it lives, otherwise from the top.
template <uint32_t KW, uint32_t VW>
template <class L>
void Skiplist<KW, VW>::find_again(Place& p, const KeyType& k, uint32_t level) const noexcept {
    const uint64_t now = stable(p.x);
    const bool alive = same_life(p.v, now);
    p.v = now;
    if (!alive || !settle<L>(p, k)) find<L>(p, k, level);
}

template <uint32_t KW, uint32_t VW>
typename Skiplist<KW, VW>::Place Skiplist<KW, VW>::find_leaf(const KeyType& k) const noexcept {
    Place p;
    find<Leaf>(p, k, 0);
    return p;
}

template <uint32_t KW, uint32_t VW> bool Skiplist<KW, VW>::get(const KeyType& k, ValueType& out) const noexcept {
    Place p = find_leaf(k);
    for (;;) {
        const bool found = holds(p, k);
        if (found) out = Leaf::payload(p.x, p.rank - 1);
        if (unchanged(p.x, p.v)) [[likely]]
            return found;
        find_again<Leaf>(p, k, 0);
    }
}

inline bool KeySink<any_length>::put(size_t i, const Key<any_length>& k) noexcept {
    const size_t begin = i ? ends_[i - 1] : 0;
    full_ = begin + k.n_bytes + (i + 1) * beside_ > n_bytes_;
    if (full_) return false;
    std::byte* out = buffer_ + begin;
    const uint64_t head = __builtin_bswap64(k.first);
    std::memcpy(out, &head, std::min(k.n_bytes, 8u));
    for (uint32_t at = 8; at < k.n_bytes; at += 8) {
        const uint64_t w = __builtin_bswap64(load_at(k.rest + at / 8 - 1));
        std::memcpy(out + at, &w, std::min(k.n_bytes - at, 8u));
    }
    ends_[i] = uint32_t(begin) + k.n_bytes;
    return true;
}

template <uint32_t KW, uint32_t VW>
size_t Skiplist<KW, VW>::scan_up(const KeyType* k, bool strict, size_t n, Sink keys, ValueType* values) const noexcept {
    Held from;
    if (k) from.hold(*k);
    strict = strict && k;
    Place p;
    uint32_t n_fetched = leaves_ahead(n);
    find<Leaf>(p, from.key(), 0, n);
    size_t done = 0;
    while (done < n) {
        // `from` is ranked in p.x; an equal key stands at rank - 1.
        const uint32_t begin = !strict && holds(p, from.key()) ? p.rank - 1 : p.rank;
        const uint32_t most = uint32_t(std::min<size_t>(n - done, p.n > begin ? p.n - begin : 0));
        const uint32_t right = p.x->right();
        if (n_fetched)
            --n_fetched;
        else if (right && done + most < n && unchanged(p.x, p.v))
            Leaf::prefetch_all(node(right));
        uint32_t take = 0;
        for (; take < most && keys.put(done + take, Leaf::key(p.x, begin + take)); ++take)
            if (values) values[done + take] = Leaf::payload(p.x, begin + take);
        Held high;
        if (right) high.hold(Leaf::high(p.x));
        if (!unchanged(p.x, p.v)) {
            find_again<Leaf>(p, from.key(), 0);
            continue;
        }
        done += take;
        if (!right || done == n || take < most) break;
        from.hold(high.key());  // everything below it has been seen
        strict = false;
        Node* y = node(right);
        const uint64_t v = stable(y);
        if (unchanged(p.x, p.v)) {
            p.x = y;
            p.v = v;
            if (settle<Leaf>(p, from.key())) continue;
        }
        find<Leaf>(p, from.key(), 0);
    }
    return done;
}

template <uint32_t KW, uint32_t VW>
size_t Skiplist<KW, VW>::scan_down(const KeyType* k, bool strict, size_t n, Sink keys,
                                   ValueType* values) const noexcept {
    Held below, low;
    if (k)
        below.hold(*k);
    else
        below.hold_highest();
    strict = strict && k;
    size_t done = 0;
    while (done < n) {
        // The leaf of the keys just below `below`, and that leaf's own lower bound: the largest separator passed on the
        // way.
        Place p;
        bool has_low = false;
        if (!find_with_low(p, below.key(), strict, low, has_low)) continue;
        const uint32_t most = uint32_t(std::min<size_t>(n - done, p.rank));
        uint32_t take = 0;
        for (; take < most && keys.put(done + take, Leaf::key(p.x, p.rank - 1 - take)); ++take)
            if (values) values[done + take] = Leaf::payload(p.x, p.rank - 1 - take);
        if (!unchanged(p.x, p.v)) continue;
        done += take;
        if (!has_low || take < most) break;
        below.hold(low.key());
        strict = true;
    }
    return done;
}

// One attempt; false when something changed on the way.
template <uint32_t KW, uint32_t VW>
bool Skiplist<KW, VW>::find_with_low(Place& p, const KeyType& k, bool strict, Held& low, bool& has_low) const noexcept {
    const auto beyond = [&](const KeyType& bound) { return strict ? bound < k : bound <= k; };
    uint32_t l = top_.load(acquire);
    p.x = node(heads_[l].load(acquire));
    p.v = stable(p.x);
    for (;;) {
        const uint32_t right = p.x->right();
        uint32_t next;
        if (right && beyond(l ? Inner::high(p.x) : Leaf::high(p.x))) {
            next = right;
            low.hold(l ? Inner::high(p.x) : Leaf::high(p.x));
            has_low = true;
        } else if (l) {
            p.n = Inner::count(p.x);
            p.rank = strict ? Inner::template rank<true>(p.x, p.n, k) : Inner::template rank<false>(p.x, p.n, k);
            const uint32_t i = p.rank ? p.rank - 1 : 0;
            next = Inner::payload(p.x, i);
            if (i) {
                low.hold(Inner::key(p.x, i));
                has_low = true;
            }
            --l;
        } else {
            p.n = Leaf::count(p.x);
            p.rank = strict ? Leaf::template rank<true>(p.x, p.n, k) : Leaf::template rank<false>(p.x, p.n, k);
            return unchanged(p.x, p.v);
        }
        if (!unchanged(p.x, p.v)) return false;
        Node* y = node(next);
        const uint64_t v = stable(y);
        if (!unchanged(p.x, p.v)) return false;
        p.x = y;
        p.v = v;
    }
}

// The nodes of a level are taken to hold equally many keys. A level's first node is reached from the head; on the top
// level there may be several.
template <uint32_t KW, uint32_t VW> double Skiplist<KW, VW>::share_below(const KeyType& k) const noexcept {
    for (;;) {
        uint32_t l = top_.load(acquire);
        double begin = 0, share = 1;
        Place p;
        p.x = node(heads_[l].load(acquire));
        p.v = stable(p.x);
        for (;;) {
            if (!(l ? settle<Inner>(p, k) : settle<Leaf>(p, k))) break;
            const bool here = l ? p.rank > 0 : holds(p, k);
            const uint32_t below = p.rank - here, n = p.n;
            const uint32_t child = l ? Inner::payload(p.x, below) : 0;
            if (!unchanged(p.x, p.v)) break;
            if (n) {
                begin += share * below / n;
                share /= n;
            }
            if (!l) return begin;
            Node* y = node(child);
            const uint64_t v = stable(y);
            if (!unchanged(p.x, p.v)) break;
            p.x = y;
            p.v = v;
            --l;
        }
    }
}

// ---- batches: one state per look-up, a line asked for before it is needed
// --------------------------------------------

template <uint32_t KW, uint32_t VW> struct Skiplist<KW, VW>::Flight {
    enum Stage : uint32_t {
        arrived,
        near,
        nearer,
        ranked
    };  // on its way: the header, the stretch, a record, the payload
    Place p;
    Node* from;  // where p.x was reached from, under version from_v; null at the top
    uint64_t from_v;
    uint32_t level;
    Stage stage;
    size_t i;  // which key

    void start(const Skiplist& s, size_t key) noexcept {
        level = s.top_.load(acquire);
        p.x = s.node(s.heads_[level].load(acquire));
        from = nullptr;
        stage = arrived;
        i = key;
    }

    // Do what can be done without waiting for memory. True once p is ranked in a leaf.
    bool advance(const Skiplist& s, const KeyType& k) noexcept {
        for (;;) {
            if (stage == arrived) {
                p.v = load_at(&p.x->version, acquire);
                if (p.v & 1) return cpu_relax(), false;
                if (from && !unchanged(from, from_v)) return start(s, i), false;
                stage = near;
                if (level == 0) return Leaf::prefetch_stretch(p.x, k.head()), false;
                if (level == 1) return Inner::prefetch_stretch(p.x, k.head()), false;
            }
            if (KW == any_length && stage == near && level == 0) {
                stage = nearer;
                return Leaf::prefetch_record(p.x, k.head()), false;
            }
            if (stage != ranked) {
                if (!(level ? s.settle<Inner>(p, k) : s.settle<Leaf>(p, k))) return start(s, i), false;
                stage = ranked;
                if (level == 0) return Leaf::prefetch_payload(p.x, p.rank), false;
                if (level == 1) return Inner::prefetch_payload(p.x, p.rank), false;
            }
            if (!level) return true;
            const uint32_t child = Inner::payload(p.x, p.rank ? p.rank - 1 : 0);
            if (!unchanged(p.x, p.v)) return start(s, i), false;
            from = p.x;
            from_v = p.v;
            p.x = s.node(child);
            stage = arrived;
            if (--level < 2) return prefetch(p.x), false;
        }
    }
};

template <uint32_t KW, uint32_t VW>
size_t Skiplist<KW, VW>::get_many(const KeyType* keys, size_t n, ValueType* out, bool* found) const noexcept {
    Flight flights[width];
    const size_t n_flights = std::min(n, width);
    size_t next = 0, n_found = 0, n_active = n_flights;
    for (; next < n_flights; ++next) flights[next].start(*this, next);
    while (n_active) {
        for (size_t f = 0; f < n_active;) {
            Flight& q = flights[f];
            if (!q.advance(*this, keys[q.i])) {
                ++f;
                continue;
            }
            const bool there = holds(q.p, keys[q.i]);
            const ValueType v = there ? Leaf::payload(q.p.x, q.p.rank - 1) : ValueType{};
            if (!unchanged(q.p.x, q.p.v)) {
                q.start(*this, q.i);
                continue;
            }
            found[q.i] = there;
            if (out) out[q.i] = v;
            n_found += there;
            if (next < n) {
                q.start(*this, next++);
                ++f;
            } else {
                q = flights[--n_active];
            }
        }
    }
    return n_found;
}

template <uint32_t KW, uint32_t VW> void Skiplist<KW, VW>::warm(const KeyType* keys, size_t n) const noexcept {
    Flight flights[width];
    n = std::min(n, width);
    size_t n_active = n;
    for (size_t i = 0; i < n; ++i) flights[i].start(*this, i);
    while (n_active)
        for (size_t f = 0; f < n_active;) {
            if (flights[f].advance(*this, keys[flights[f].i]))
                flights[f] = flights[--n_active];
            else
                ++f;
        }
}

}  // namespace larder::bskip
