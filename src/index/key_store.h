// Keys as a skiplist searches for them and as they stand in its nodes.
//
// Keys of W words (8, 16, 32 bytes) stand whole in the nodes. A key of any length (W = 0) leaves its first eight bytes,
// the head, in the node, and the rest in a record that all entries with this key share: the pair in the leaf, and the
// separators and high keys that were made of it. Heads decide nearly every comparison without a look at a record.
//
// Records are type-stable like nodes: a reader that was overtaken finds some record's bytes behind a stale tail, and
// the version of the node tells it. So that a tail is always one, inner nodes and leaves of such a list keep their
// tails at the same offsets.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstring>

#include "base/assert.h"
#include "base/atomic.h"
#include "index/node_slots.h"

namespace larder::bskip {

inline constexpr uint32_t any_length = 0;
inline constexpr uint32_t max_key_bytes = 1024;

// A key as W numbers, compared from the first on.
template <uint32_t W> struct Key {
    std::array<uint64_t, W> w;
    uint64_t head() const noexcept { return w[0]; }
    friend auto operator<=>(const Key&, const Key&) = default;
};

// A view of a key of any length: its bytes as big-endian numbers, the last one filled up with zeros.
template <> struct Key<any_length> {
    uint64_t first = 0;
    const uint64_t* rest = nullptr;
    uint32_t n_bytes = 0;

    uint64_t head() const noexcept { return first; }
    uint32_t n_rest() const noexcept { return n_bytes > 8 ? (n_bytes - 1) / 8 : 0; }
    friend std::strong_ordering operator<=>(const Key& a, const Key& b) noexcept {
        if (a.first != b.first) return a.first <=> b.first;
        for (uint32_t i = 0, n = std::min(a.n_rest(), b.n_rest()); i < n; ++i) {
            const uint64_t x = load_at(a.rest + i), y = load_at(b.rest + i);
            if (x != y) return x <=> y;
        }
        return a.n_bytes <=> b.n_bytes;
    }
    friend bool operator==(const Key& a, const Key& b) noexcept {
        return a.first == b.first && a.n_bytes == b.n_bytes && (a <=> b) == 0;
    }
};

// What a node holds of a key: all of it, or {head, tail} with tail {address of the record 48, length 16}.
struct Tailed {
    uint64_t head = 0, tail = 0;
};
template <uint32_t W> using Stored = std::conditional_t<W == any_length, Tailed, Key<W>>;
template <uint32_t W> inline constexpr uint32_t stored_words = W == any_length ? 2 : W;

struct KeyRecord {
    atomic<uint32_t> n_refs;
    uint32_t id;  // the pool's link while the record is free
    uint64_t rest[1];
};

template <uint32_t W> Key<W> key_of(const Key<W>& k) noexcept {
    return k;
}
inline Key<any_length> key_of(const Tailed& s) noexcept {
    const auto* record = reinterpret_cast<const KeyRecord*>(s.tail >> 16);
    return {s.head, record ? record->rest : nullptr, uint32_t(s.tail & 0xffff)};
}

// A key that outlives the node it was read from.
template <uint32_t W> class HeldKey {
  public:
    void hold(const Key<W>& k) noexcept { k_ = k; }
    void hold_highest() noexcept { k_.w.fill(UINT64_MAX); }
    const Key<W>& key() const noexcept { return k_; }

  private:
    Key<W> k_{};
};
template <> class HeldKey<any_length> {
  public:
    HeldKey() noexcept = default;
    HeldKey(const HeldKey&) = delete;
    void hold(const Key<any_length>& k) noexcept {
        const uint32_t n = k.n_rest();
        for (uint32_t i = 0; i < n; ++i) rest_[i] = load_at(k.rest + i);
        k_ = {k.first, rest_, k.n_bytes};
    }
    void hold_highest() noexcept {
        std::memset(rest_, 0xff, sizeof rest_);
        k_ = {UINT64_MAX, rest_, max_key_bytes};
    }
    void hold_bytes(const void* data, uint32_t n_bytes) noexcept {
        uint64_t head = 0;
        std::memcpy(&head, data, std::min(n_bytes, 8u));
        const uint32_t n = n_bytes > 8 ? (n_bytes - 1) / 8 : 0;
        if (n) {
            rest_[n - 1] = 0;
            std::memcpy(rest_, static_cast<const char*>(data) + 8, n_bytes - 8);
        }
        for (uint32_t i = 0; i < n; ++i) rest_[i] = __builtin_bswap64(rest_[i]);
        k_ = {__builtin_bswap64(head), rest_, n_bytes};
    }
    const Key<any_length>& key() const noexcept { return k_; }

  private:
    Key<any_length> k_;
    uint64_t rest_[max_key_bytes / 8 - 1];
};

// Where keys of any length lie. Fixed ones need no store.
template <uint32_t W> class KeyStore {
  public:
    KeyStore(larder_context&, SlabPool&) noexcept {}
    larder_status make(const Key<W>& k, Stored<W>& out) noexcept { return out = k, LARDER_OK; }
    static const Stored<W>& share(const Stored<W>& s) noexcept { return s; }
    void drop(const Stored<W>&) noexcept {}
    void reset() noexcept {}
    uint64_t record_bytes() const noexcept { return 0; }
};

template <> class KeyStore<any_length> {
  public:
    KeyStore(larder_context& c, SlabPool& slabs);
    // A record with one reference, given to the caller. E_NOSPACE, E_NOMEM.
    larder_status make(const Key<any_length>& k, Tailed& out) noexcept;
    // One more reference. The caller must know of one that cannot go away meanwhile.
    static Tailed share(const Tailed& s) noexcept;
    void drop(const Tailed& s) noexcept;
    // Nobody else may be about.
    void reset() noexcept;
    uint64_t record_bytes() const noexcept;
    // References to all records, and whether the free lists are whole.
    bool count_refs(const Allocator& a, uint64_t& out_n) const;

  private:
    static constexpr uint32_t n_classes = 7, smallest_shift = 4;
    static uint32_t class_of(uint32_t n_bytes) noexcept {
        return uint32_t(std::bit_width(n_bytes - 1)) - smallest_shift;
    }
    std::array<NodeSlots, n_classes> slots_;  // of 16, 32, ... 1024 bytes
};

// A new key on its way into a node; given back unless it was placed.
template <uint32_t W> class NewKey {
  public:
    explicit NewKey(KeyStore<W>& store) noexcept : store_(store) {}
    ~NewKey() {
        if (made_) store_.drop(s_);
    }
    NewKey(const NewKey&) = delete;
    larder_status make(const Key<W>& k) noexcept {
        if (made_) return LARDER_OK;
        LARDER_TRY(store_.make(k, s_));
        made_ = true;
        return LARDER_OK;
    }
    const Stored<W>& stored() const noexcept { return s_; }
    void placed() noexcept { made_ = false; }

  private:
    KeyStore<W>& store_;
    Stored<W> s_{};
    bool made_ = false;
};

}  // namespace larder::bskip
