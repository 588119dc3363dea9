// The node of the B-skiplist: 1 KiB, one header line, then columns.
//
//    0  version  uint64      {lives 24, changes 39, locked 1}: odd while a writer is inside
//    8  next     uint32      the right neighbour on the same level, 0: none
//   12  info     uint32      {level 8, 0 8, count 16}
//   16  pivots   6 x uint64  heads of every step-th entry: the header line alone tells which key line to fetch
//   64  heads                the first eight bytes of each key
//       tails                what else a node holds of a key (key_store.h)
//       payloads             values or child ids
//       high key             of the last bytes; means something while there is a right neighbour
//
// Everything but the version is read while others may write; such reads mean something only once the version was found
// unchanged.
#pragma once

#include <array>
#include <cstring>

#include "base/atomic.h"
#include "index/key_store.h"

namespace larder::bskip {

#if defined(LARDER_SCHEDULE_EXPLORER)
inline constexpr uint32_t node_bytes = 256;  // so that a few keys make a node split
#else
inline constexpr uint32_t node_bytes = 1024;
#endif
inline constexpr uint32_t header_bytes = 64;
inline constexpr uint32_t n_pivots = 6;
inline constexpr uint32_t max_levels = 8;

template <uint32_t W> struct Value {
    std::array<uint64_t, W> w;
    friend bool operator==(const Value&, const Value&) = default;
};
using ChildId = uint32_t;

template <class P> inline constexpr uint32_t payload_bytes = sizeof(P);

struct Node {
    uint64_t version;
    uint32_t next;
    uint32_t info;
    uint64_t pivots[n_pivots];
    unsigned char columns[node_bytes - header_bytes];

    uint32_t count() const noexcept { return load_at(&info) & 0xffff; }
    uint32_t level() const noexcept { return load_at(&info) >> 24; }
    void set_info(uint32_t level, uint32_t count) noexcept { store_at(&info, level << 24 | count); }
    uint32_t right() const noexcept { return load_at(&next); }
    void set_right(uint32_t id) noexcept { store_at(&next, id); }
};
static_assert(sizeof(Node) == node_bytes);

// ---- the version lock
// ------------------------------------------------------------------------------------------------

inline constexpr uint64_t one_reuse = uint64_t(1) << 40;

// The version, once no writer is inside.
inline uint64_t stable(const Node* x) noexcept {
    for (;;) {
        schedule_point();
        const uint64_t v = load_at(&x->version, acquire);
        if (!(v & 1)) [[likely]]
            return v;
        cpu_relax();
    }
}
// Everything read from x since stable() belongs to one state.
inline bool unchanged(const Node* x, uint64_t v) noexcept {
    fence(acquire);
    schedule_point();
    return load_at(&x->version) == v;
}
// The node has not been freed since version v was read: its level and lower bound are still the same.
inline bool same_life(uint64_t v, uint64_t now) noexcept {
    return (v ^ now) < one_reuse;
}

inline bool try_lock(Node* x, uint64_t v) noexcept {
    schedule_point();
    if (!exchange_at(&x->version, v, v + 1, acquire, relaxed)) return false;
    fence(release);  // no change may become visible before the version is odd
    return true;
}
inline void lock(Node* x) noexcept {
    while (!try_lock(x, stable(x))) {
    }
}
inline void unlock(Node* x) noexcept {
    schedule_point();
    store_at(&x->version, load_at(&x->version) + 1, release);
}
// Nothing was changed under the lock: readers need not notice.
inline void unlock_unchanged(Node* x) noexcept {
    schedule_point();
    store_at(&x->version, load_at(&x->version) - 1, release);
}
inline void unlock_dead(Node* x) noexcept {
    schedule_point();
    store_at(&x->version, load_at(&x->version) + 1 + one_reuse, release);
}

// ---- columns
// ---------------------------------------------------------------------------------------------------------

// One key and one P (a Value or a ChildId) per entry; at most `Most` entries.
template <uint32_t W, class P, uint32_t Most = UINT32_MAX> struct Columns {
    using KeyType = Key<W>;
    using StoredType = Stored<W>;
    static constexpr uint32_t words = stored_words<W>;
    static constexpr uint32_t high_bytes = 8 * words;
    static constexpr uint32_t entry_bytes = 8 * words + payload_bytes<P>;
    static constexpr uint32_t capacity = std::min(Most, (node_bytes - header_bytes - high_bytes) / entry_bytes);
    static constexpr uint32_t step = capacity / (n_pivots + 1);
    static constexpr uint32_t tails_at = 8 * capacity;
    static constexpr uint32_t payloads_at = 8 * words * capacity;
    static constexpr uint32_t high_at = node_bytes - header_bytes - high_bytes;
    static constexpr uint32_t payload_words = sizeof(P) < 8 ? 1 : sizeof(P) / 8;
    using Word = std::conditional_t<(sizeof(P) < 8), uint32_t, uint64_t>;
    static_assert(payloads_at + capacity * payload_bytes<P> <= high_at && step >= 1);

    static uint64_t* heads(Node* x) noexcept { return reinterpret_cast<uint64_t*>(x->columns); }
    static const uint64_t* heads(const Node* x) noexcept { return heads(const_cast<Node*>(x)); }
    static uint64_t* tails(Node* x) noexcept { return reinterpret_cast<uint64_t*>(x->columns + tails_at); }
    static const uint64_t* tails(const Node* x) noexcept { return tails(const_cast<Node*>(x)); }
    static Word* payloads(Node* x) noexcept { return reinterpret_cast<Word*>(x->columns + payloads_at); }
    static const Word* payloads(const Node* x) noexcept { return payloads(const_cast<Node*>(x)); }

    static uint32_t count(const Node* x) noexcept { return std::min(x->count(), capacity); }  // garbage stays in bounds

    static StoredType stored(const Node* x, uint32_t i) noexcept {
        return gather(heads(x) + i, tails(x) + i * (words - 1));
    }
    static void set_stored(Node* x, uint32_t i, const StoredType& k) noexcept {
        scatter(k, heads(x) + i, tails(x) + i * (words - 1));
    }
    static KeyType key(const Node* x, uint32_t i) noexcept { return key_of(stored(x, i)); }
    static P payload(const Node* x, uint32_t i) noexcept {
        Word w[payload_words];
        for (uint32_t j = 0; j < payload_words; ++j) w[j] = load_at(payloads(x) + i * payload_words + j);
        P p;
        std::memcpy(&p, w, sizeof p);
        return p;
    }
    static void set_payload(Node* x, uint32_t i, const P& p) noexcept {
        Word w[payload_words];
        std::memcpy(w, &p, sizeof p);
        for (uint32_t j = 0; j < payload_words; ++j) store_at(payloads(x) + i * payload_words + j, w[j]);
    }
    static StoredType stored_high(const Node* x) noexcept {
        auto* h = reinterpret_cast<const uint64_t*>(x->columns + high_at);
        return gather(h, h + 1);
    }
    static void set_high(Node* x, const StoredType& k) noexcept {
        auto* h = reinterpret_cast<uint64_t*>(x->columns + high_at);
        scatter(k, h, h + 1);
    }
    static KeyType high(const Node* x) noexcept { return key_of(stored_high(x)); }

    // Which stretch of `step` entries holds the last entry not above `head`; from the header line alone.
    static uint32_t stretch(const Node* x, uint32_t n, uint64_t head) noexcept {
        uint32_t s = 0;
        for (uint32_t i = 0; i < n_pivots; ++i)
            s += uint32_t((i + 1) * step < n) & uint32_t(load_at(x->pivots + i) <= head);
        return s;
    }
    // How many of the n heads are <= head.
    static uint32_t rank_of_head(const Node* x, uint32_t n, uint64_t head) noexcept {
        const uint32_t s = stretch(x, n, head);
        const uint32_t begin = s * step;
        const uint32_t end = s == n_pivots ? n : std::min(n, begin + step);
        uint32_t r = begin;
        for (uint32_t i = begin; i < end; ++i) r += load_at(heads(x) + i) <= head;
        return r;
    }
    // How many of the n keys are <= key (Strict: < key).
    template <bool Strict> static uint32_t rank(const Node* x, uint32_t n, const KeyType& k) noexcept {
        uint32_t high = rank_of_head(x, n, k.head());
        if constexpr (!Strict && W == 1) return high;
        // Among equal heads the whole keys decide.
        uint32_t low = high;
        while (low > 0 && load_at(heads(x) + low - 1) == k.head()) --low;
        while (low < high) {
            const uint32_t mid = (low + high) / 2;
            if (Strict ? key(x, mid) < k : key(x, mid) <= k)
                low = mid + 1;
            else
                high = mid;
        }
        return low;
    }
    // After the header line has come: fetch what rank() will read.
    static void prefetch_stretch(const Node* x, uint64_t head) noexcept {
        const uint32_t n = count(x);
        const uint32_t i = stretch(x, n, head) * step;
        prefetch(heads(x) + i);
        prefetch(heads(x) + std::min(i + step, capacity) - 1);
        if constexpr (words > 1) prefetch(tails(x) + i * (words - 1));
    }
    // After the stretch has come: fetch the record that rank() will compare with.
    static void prefetch_record(const Node* x, uint64_t head) noexcept {
        if constexpr (W == any_length) {
            const uint32_t r = rank_of_head(x, count(x), head);
            if (r && load_at(heads(x) + r - 1) == head) prefetch(key(x, r - 1).rest);
        }
    }
    static void prefetch_payload(const Node* x, uint32_t rank) noexcept {
        prefetch(payloads(x) + (rank ? rank - 1 : 0) * payload_words);
    }
    // Before anything of the node has come: fetch all that a reader may look at. The lines come together, in hardly
    // more time than one takes; fetching fewer and guessing which (by spreading the keys evenly) was slower.
    static void prefetch_all(const Node* x) noexcept {
        constexpr uint32_t end = sizeof(P) < 8 ? header_bytes + 8 * capacity : node_bytes;
        for (uint32_t at = 0; at < end; at += 64) prefetch(reinterpret_cast<const char*>(x) + at);
    }

    // ---- changes, under the lock
    // -------------------------------------------------------------------------------------

    static void refresh_pivots(Node* x, uint32_t from, uint32_t n) noexcept {
        for (uint32_t i = from <= step ? 0 : (from - 1) / step; i < n_pivots && (i + 1) * step < n; ++i)
            if ((i + 1) * step >= from) store_at(x->pivots + i, load_at(heads(x) + (i + 1) * step));
    }
    static void insert(Node* x, uint32_t at, const StoredType& k, const P& p) noexcept {
        const uint32_t n = x->count();
        move_up(heads(x), at, n, 1);
        if constexpr (words > 1) move_up(tails(x), at, n, words - 1);
        move_up(payloads(x), at, n, payload_words);
        set_stored(x, at, k);
        set_payload(x, at, p);
        x->set_info(x->level(), n + 1);
        refresh_pivots(x, at, n + 1);
    }
    static void remove(Node* x, uint32_t at) noexcept {
        const uint32_t n = x->count();
        move_down(heads(x), at, n, 1);
        if constexpr (words > 1) move_down(tails(x), at, n, words - 1);
        move_down(payloads(x), at, n, payload_words);
        x->set_info(x->level(), n - 1);
        refresh_pivots(x, at, n - 1);
    }
    // Append entries [from, to) of src to dst.
    static void append(Node* dst, const Node* src, uint32_t from, uint32_t to) noexcept {
        const uint32_t n = dst->count();
        for (uint32_t i = from; i < to; ++i) {
            set_stored(dst, n + i - from, stored(src, i));
            set_payload(dst, n + i - from, payload(src, i));
        }
        dst->set_info(dst->level(), n + to - from);
        refresh_pivots(dst, n, n + to - from);
    }
    static void truncate(Node* x, uint32_t n) noexcept { x->set_info(x->level(), n); }

  private:
    static StoredType gather(const uint64_t* head, const uint64_t* tail) noexcept {
        uint64_t w[words] = {load_at(head)};
        for (uint32_t j = 1; j < words; ++j) w[j] = load_at(tail + j - 1);
        StoredType k;
        std::memcpy(&k, w, sizeof k);
        return k;
    }
    static void scatter(const StoredType& k, uint64_t* head, uint64_t* tail) noexcept {
        uint64_t w[words];
        std::memcpy(w, &k, sizeof k);
        store_at(head, w[0]);
        for (uint32_t j = 1; j < words; ++j) store_at(tail + j - 1, w[j]);
    }
    template <class T> static void move_up(T* a, uint32_t at, uint32_t n, uint32_t words) noexcept {
        for (uint32_t i = n * words; i-- > at * words;) store_at(a + i + words, load_at(a + i));
    }
    template <class T> static void move_down(T* a, uint32_t at, uint32_t n, uint32_t words) noexcept {
        for (uint32_t i = at * words; i < (n - 1) * words; ++i) store_at(a + i, load_at(a + i + words));
    }
};

}  // namespace larder::bskip
