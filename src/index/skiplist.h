// The concurrent B-skiplist.
//
// Levels are linked lists of nodes, each list covering all keys; an entry of level l+1 names a node of level l and the
// lower bound of its keys. A node that is full splits in place and only then is its new right half made known to the
// level above, so every list is always complete and a reader that comes too early moves right.
//
// Protocol
//  - Readers note a node's version, read, and check the version (node.h). Going from one node to the next they note the
//  new node's version *before* they check the old
//    one: at that moment the old node still led to the new one, which therefore was alive and covers the key or lies
//    left of the node that does.
//  - A writer locks by raising the version that it read, so what it read still holds. Writers lock one node at a time,
//  except a merge: parent, then left, then right
//    node. Locks are thus taken from upper to lower levels and from left to right, and nobody waits for a lock while
//    holding one to its right or below.
//  - Two neighbours merge only when both stand in the same parent, which is locked meanwhile: a freed node can be
//  reached neither from above nor from the left.
//    A node whose separator is not posted yet is never freed. The first node of a level is never freed.
//  - A node's lower bound never changes during its life, so a reader or writer that fails can go on from the same node
//  while it lives (same_life()).
#pragma once

#include "index/node.h"
#include "index/node_slots.h"

namespace larder::bskip {

struct Totals {
    uint32_t n_levels = 0;
    uint64_t n_keys = 0, n_nodes = 0, n_leaves = 0, n_free_nodes = 0;
};

// Where scans put keys: an array, or, for keys of any length, a buffer of bytes.
template <uint32_t W> class KeySink {
  public:
    KeySink(Key<W>* keys) noexcept : keys_(keys) {}
    // The key becomes the i-th; what was put there and beyond is forgotten. False: it does not fit.
    bool put(size_t i, const Key<W>& k) noexcept {
        if (keys_) keys_[i] = k;
        return true;
    }

  private:
    Key<W>* keys_;
};
template <> class KeySink<any_length> {
  public:
    // ends[i]: where the i-th key ends in the buffer. Of the buffer's n_bytes, each pair also takes `beside`.
    KeySink(std::byte* buffer, size_t n_bytes, uint32_t* ends, bool& out_full, size_t beside = 0) noexcept
        : buffer_(buffer), n_bytes_(n_bytes), ends_(ends), full_(out_full), beside_(beside) {}
    bool put(size_t i, const Key<any_length>& k) noexcept;
    std::byte* begin_of(size_t i) const noexcept { return buffer_ + (i ? ends_[i - 1] : 0); }
    uint32_t length_of(size_t i) const noexcept { return ends_[i] - (i ? ends_[i - 1] : 0); }

  private:
    std::byte* buffer_;
    size_t n_bytes_;
    uint32_t* ends_;
    bool& full_;  // the last key did not fit
    size_t beside_;
};

// KeyWords: 1, 2 or 4 eight-byte words, or any_length. ValueWords: 1, 2 or 4.
template <uint32_t KeyWords, uint32_t ValueWords> class Skiplist {
  public:
    using KeyType = Key<KeyWords>;
    using ValueType = Value<ValueWords>;
    using Leaf = Columns<KeyWords, ValueType>;
    using Inner = Columns<KeyWords, ChildId, KeyWords == any_length ? Leaf::capacity : UINT32_MAX>;
    using StoredType = Stored<KeyWords>;
    using Held = HeldKey<KeyWords>;
    using Sink = KeySink<KeyWords>;

    Skiplist(larder_context& c, SlabPool& slabs) : pool_(c, slabs, node_bytes, offsetof(Node, next)), keys_(c, slabs) {}
    Skiplist(const Skiplist&) = delete;
    // Takes the first node. Call once before anything else.
    larder_status init() noexcept;

    bool get(const KeyType& k, ValueType& out) const noexcept;
    larder_status put(const KeyType& k, const ValueType& v) noexcept;
    // E_EXISTS with the value that is there.
    larder_status insert(const KeyType& k, const ValueType& v, ValueType* present) noexcept;
    // OK, MISS, or E_STATE with the value that is there in `expected`.
    larder_status swap(const KeyType& k, ValueType& expected, const ValueType& v) noexcept;
    bool remove(const KeyType& k, ValueType* out) noexcept;
    // Remove only while the value is `expected`.
    bool remove_if(const KeyType& k, const ValueType& expected) noexcept;

    // found[i] tells whether keys[i] is there; many look-ups are in flight at once. Returns how many were found.
    size_t get_many(const KeyType* keys, size_t n, ValueType* out, bool* found) const noexcept;
    // Bring the leaves of up to `width` keys into the cache, all at once, before they are changed one by one.
    static constexpr size_t width = 32;
    void warm(const KeyType* keys, size_t n) const noexcept;

    // Pairs in ascending order from the first key >= k (strict: > k); k null: from the first. Returns how many: fewer
    // than n at the end of the list and when no more fits into the sink.
    size_t scan_up(const KeyType* k, bool strict, size_t n, Sink keys, ValueType* values) const noexcept;
    // Descending from the last key <= k (strict: < k); k null: from the last.
    size_t scan_down(const KeyType* k, bool strict, size_t n, Sink keys, ValueType* values) const noexcept;
    // Which share of all keys lies below k, judged from the nodes on the way to it.
    double share_below(const KeyType& k) const noexcept;

    // Single-threaded: appends a key above all others. Nodes are filled by `density` of 256. Used on an empty list by
    // build().
    class Builder;

    uint64_t count() const noexcept;
    Totals totals() const noexcept;
    uint64_t record_bytes() const noexcept { return keys_.record_bytes(); }
    larder_status clear() noexcept;
    larder_status verify(const Allocator& a) const;

  private:
    // A place in the list: a node, the version under which it was read, and the rank of the key in it.
    struct Place {
        Node* x;
        uint64_t v;
        uint32_t n, rank;
    };
    struct Flight;  // one look-up of a batch

    Node* node(uint32_t id) const noexcept { return reinterpret_cast<Node*>(pool_.at_fixed<node_bytes>(id)); }

    template <class L> bool settle(Place& p, const KeyType& k) const noexcept;
    // Leaves that random insertion made are 0.69 full. A scan over n pairs fetches so many leaves beside the first.
    static constexpr size_t usual = Leaf::capacity * 11 / 16, most_ahead = 3;
    static uint32_t leaves_ahead(size_t n) noexcept {
        return uint32_t(std::min<size_t>(most_ahead, (n + usual / 2) / usual));
    }
    void descend(Place& p, const KeyType& k, uint32_t level, size_t n_pairs = 0) const noexcept;
    template <class L> void find(Place& p, const KeyType& k, uint32_t level, size_t n_pairs = 0) const noexcept;
    template <class L> void find_again(Place& p, const KeyType& k, uint32_t level) const noexcept;
    Place find_leaf(const KeyType& k) const noexcept;
    bool find_with_low(Place& p, const KeyType& k, bool strict, Held& low, bool& has_low) const noexcept;
    static bool holds(const Place& p, const KeyType& k) noexcept {
        return p.rank > 0 && Leaf::key(p.x, p.rank - 1) == k;
    }

    template <class L, class P>
    larder_status add(Place& p, const StoredType& k, const P& payload, uint32_t level, uint32_t& out_right,
                      StoredType& out_separator) noexcept;
    larder_status add_pair(Place& p, NewKey<KeyWords>& k, const ValueType& v) noexcept;
    void post(StoredType separator, uint32_t id, uint32_t level) noexcept;
    bool grow_to(uint32_t level) noexcept;
    template <class Condition> bool take_out(const KeyType& k, Condition condition, ValueType* out) noexcept;
    void merge_around(const KeyType& k, uint32_t level) noexcept;
    template <class L> bool merge_pair(Node* parent, uint32_t left, uint32_t level) noexcept;
    template <class L> static bool underfull(uint32_t n) noexcept { return n < L::capacity / 4; }
    // A node of one level and the lower bound of its keys, in list order.
    struct Span {
        uint32_t id;
        KeyType low;
    };
    template <class L> larder_status verify_level(uint32_t level, Vec<uint8_t>& used, Vec<Span>& out) const;
    template <class L> larder_status verify_node(const Node* x, uint32_t id, uint32_t level, const KeyType& low) const;
    larder_status verify_records(const Allocator& a) const;
    template <class L> uint64_t count_refs(uint32_t level) const noexcept;
    larder_status verify_links(uint32_t level, const Vec<Span>& above, const Vec<Span>& below,
                               uint64_t& n_unknown) const;

    static size_t stripe() noexcept;
    void count_one(int64_t d) noexcept { counts_[stripe()].n.fetch_add(d, relaxed); }
    struct alignas(64) Count {
        atomic<int64_t> n{0};
    };
    static constexpr size_t n_stripes = 16;

    NodeSlots pool_;
    [[no_unique_address]] KeyStore<KeyWords> keys_;
    std::array<atomic<uint32_t>, max_levels> heads_{};  // the first node of each level; never freed
    atomic<uint32_t> top_{0};
    std::mutex grow_mutex_;
    atomic<uint64_t> n_unposted_{0};  // right halves that the level above never learnt of, for want of memory
    std::array<Count, n_stripes> counts_{};
};

}  // namespace larder::bskip

#include "index/skiplist_read.h"
#include "index/skiplist_write.h"
