// Inside of the prefix index.
//
// An entry is a 128-byte slot. What leads to entries:
//   by_key_     a hash table, chain key -> slot
//   child       in the parent: its only child. Most blocks have one at most, so most chains touch no ordered map
//   by_tokens_  {parent's slot, first six tokens, own slot} -> entry id, once a parent has had two children: they are
//               one range, in token order, so the child that shares the most tokens with a query is next to the query
//   queue_      {place, time of last use, slot} -> entry id: what may be evicted, with lazily corrected times
//
// What must be decided atomically stands in one word, `state`: {children 32, pins 24, location lock 1, residency 6,
// live 1}. A live entry may be pinned; an entry dies when it has no child, no pin (but the killer's) and no residency
// left; a child may be added only to a live entry. So a parent outlives its children, and a pinned entry keeps its
// places. The location lock is held while a place comes or goes and until its event is in the log, so that the events
// of an entry come in the order of its states. Everything else is a hint that is corrected later (below, queued,
// last_use), or changes only while nobody can look (key, parent, depth, tokens).
#pragma once

#include "base/bytes.h"
#include "base/ids.h"
#include "index/key_table.h"
#include "index/prefix_index.h"
#include "index/skiplist.h"

namespace larder {

inline constexpr uint32_t n_places = LARDER_PREFIX_N_PLACES;
inline constexpr uint32_t all_places = (1u << n_places) - 1;

struct PrefixEntry {
    atomic<uint64_t> state;
    uint64_t key[4];
    atomic<uint32_t> generation;
    uint32_t parent;  // slot; 0: a root
    uint32_t depth;
    uint16_t n_tokens;
    uint8_t flags;
    atomic<uint8_t> queued;  // places whose queue has a record of this entry
    atomic<uint32_t> tag;
    atomic<uint32_t> child;  // slot of the only child; 0: none yet; many_children: ask by_tokens_
    atomic<uint64_t> location[n_places];
    atomic<uint64_t> last_use;
    atomic<uint32_t> below[n_places];  // children that lie in each place
    uint32_t tokens_slot;              // 0: none kept
    uint32_t link;                     // the pool's
};
static_assert(sizeof(PrefixEntry) == 128);

namespace prefix_state {
inline constexpr uint64_t live = 1, residency_shift = 1, location_lock = 1 << 7;
inline constexpr uint64_t one_pin = 1 << 8, pins_mask = uint64_t(0xffffff) << 8;
inline constexpr uint64_t one_child = uint64_t(1) << 32;
constexpr uint32_t residency(uint64_t s) noexcept {
    return uint32_t(s >> residency_shift) & all_places;
}
constexpr uint64_t with_residency(uint64_t s, uint32_t r) noexcept {
    return (s & ~(uint64_t(all_places) << residency_shift)) | uint64_t(r) << residency_shift;
}
constexpr uint32_t pins(uint64_t s) noexcept {
    return uint32_t((s & pins_mask) >> 8);
}
constexpr uint32_t child_count(uint64_t s) noexcept {
    return uint32_t(s >> 32);
}
}  // namespace prefix_state

inline constexpr uint32_t many_children = UINT32_MAX;

enum PrefixEntryFlag : uint8_t { prefix_root_entry = 1, prefix_no_partial = 2 };

class PrefixIndex::Impl {
  public:
    using ByTokens = bskip::Skiplist<4, 1>;
    using Queue = bskip::Skiplist<2, 1>;
    using WideKey = bskip::Key<4>;

    Impl(larder_context& c, const larder_prefix_options& checked);
    larder_status init() noexcept;

    // prefix_match.cpp
    size_t match_length(std::span<const larder_key> keys) noexcept;
    size_t match_blocks(std::span<const larder_key> keys, bool pin, std::span<PrefixBlock> out) noexcept;
    void match_partial(const larder_prefix_query& q, size_t n_blocks, uint64_t last,
                       larder_prefix_match_info& info) noexcept;
    uint64_t find(const larder_key& key) const noexcept { return find(key, by_key_.hash(key)); }
    uint64_t find(const larder_key& key, uint64_t hash) const noexcept;
    uint64_t id_if_live(uint32_t slot, const larder_key& key) const noexcept;
    void find_many(std::span<const larder_key> keys, uint64_t* ids) const noexcept;

    // prefix_entry.cpp
    PrefixEntry* at(uint32_t slot) const noexcept {
        return reinterpret_cast<PrefixEntry*>(entries_.at_fixed<sizeof(PrefixEntry)>(slot));
    }
    PrefixEntry* at_id(uint64_t id) const noexcept;
    uint64_t id_of(uint32_t slot) const noexcept {
        return Id::make(IdKind::prefix_entry, slot, at(slot)->generation.load(relaxed) + first_generation_);
    }
    bool try_pin(uint64_t id, uint64_t* out_state) noexcept;
    larder_status pin(uint64_t id, uint64_t* out_state) noexcept;  // E_STALE with its message
    void unpin(PrefixEntry& e) noexcept { e.state.fetch_sub(prefix_state::one_pin, release); }
    void describe(uint64_t id, const PrefixEntry& e, uint64_t state, PrefixBlock& out) const noexcept;
    bool peek(uint64_t id, PrefixBlock& out) const noexcept;
    uint64_t tick(uint64_t n) noexcept { return clock_.fetch_add(n, relaxed) + 1; }
    static bool has_key(const PrefixEntry& e, const larder_key& k) noexcept {
        uint64_t w[4];
        std::memcpy(w, k.bytes, sizeof w);
        return load_at(e.key) == w[0] && load_at(e.key + 1) == w[1] && load_at(e.key + 2) == w[2] &&
               load_at(e.key + 3) == w[3];
    }
    static larder_key key_of(const PrefixEntry& e) noexcept {
        larder_key k;
        for (int i = 0; i < 4; ++i) {
            const uint64_t w = load_at(e.key + i);
            std::memcpy(k.bytes + 8 * i, &w, 8);
        }
        return k;
    }

    // prefix_publish.cpp
    Result<uint64_t> root_for_child(const larder_key& root);
    bool reserve_child(uint64_t id) noexcept;
    void release_child(uint32_t slot) noexcept;
    // Free slots in a publisher's hands. Taken many at a time: the pools' heads are written by every thread.
    struct Supply {
        uint64_t n_wanted;
        uint32_t n = 0;
        bool with_tokens = false;
        uint32_t entries[32], tokens[32];
    };
    larder_status refill(Supply& s) noexcept;
    void give_back(Supply& s) noexcept;
    uint64_t make_entry(Supply& s, const larder_key& key, uint32_t parent, uint32_t depth, const PrefixItem* item,
                        uint64_t last_use) noexcept;
    void discard(uint64_t id) noexcept;
    larder_status list_and_publish(uint64_t id, const larder_key& key, uint64_t hash, uint64_t first_state) noexcept;
    bool join(uint64_t id, uint32_t parent_slot, const PrefixItem& item, uint64_t now, PrefixPublished& out,
              larder_status& status) noexcept;
    larder_status publish_one(uint64_t parent, const PrefixItem& item, uint64_t hash, uint64_t now, Supply& supply,
                              PrefixPublished& out);
    void warm(std::span<const PrefixItem> items, uint64_t* hashes) const noexcept;
    larder_status publish_under(uint64_t parent, std::span<const PrefixItem> items, bool keep_pins,
                                std::span<PrefixPublished> out, uint64_t& out_n);
    larder_status add_place(uint64_t id, uint32_t bit, uint64_t location, bool replace) noexcept;

    // prefix_evict.cpp
    bool try_kill(PrefixEntry& e, uint64_t* out_state) noexcept;
    void bury(uint64_t id, uint64_t last_state) noexcept;
    larder_status drop(uint64_t id, uint32_t bit, PrefixBlock* out) noexcept;
    larder_status remove_tree(uint64_t id, std::span<PrefixBlock> out, uint64_t& out_n);
    bool evictable(const PrefixEntry& e, uint64_t state, uint32_t place) const noexcept;
    void enqueue(uint64_t id, uint32_t places) noexcept;
    void activate(uint32_t place);
    larder_status candidates(uint32_t place, std::span<PrefixBlock> out, uint64_t& out_n);

    // prefix_tree.cpp
    WideKey token_key(uint32_t parent, const int32_t* tokens, uint32_t n, uint32_t child) const noexcept;
    WideKey token_key_of(uint32_t slot) const noexcept;
    uint32_t shared_tokens(uint64_t id, std::span<const int32_t> tokens) const noexcept;
    uint64_t best_child(uint32_t parent, std::span<const int32_t> tokens, uint32_t& out_shared) const noexcept;
    larder_status link_child(uint32_t parent, uint64_t id) noexcept;
    void unlink_child(uint32_t parent, uint64_t id) noexcept;
    size_t scan_children(uint32_t parent, const WideKey& from, bool strict, std::span<WideKey> keys,
                         uint64_t* ids) const noexcept;
    larder_status children(uint32_t parent, uint64_t after, std::span<PrefixBlock> out, uint64_t& out_n);
    int32_t* tokens_of(const PrefixEntry& e) const noexcept {
        return reinterpret_cast<int32_t*>(tokens_.at(load_at(&e.tokens_slot)));
    }
    static uint32_t n_tokens(const PrefixEntry& e) noexcept { return load_at(&e.n_tokens); }
    static bool is_root(const PrefixEntry& e) noexcept { return load_at(&e.flags) & prefix_root_entry; }

    // prefix_events.cpp
    void fill_event(larder_event& out, uint64_t id, const PrefixEntry& e) const noexcept;
    void tell(larder_event_kind kind, uint64_t id, const PrefixEntry& e, uint32_t before, uint32_t after) noexcept;
    larder_status snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                           uint64_t& out_n) noexcept;

    // prefix_export.cpp
    class Writer;
    class Loader;
    larder_status save(uint32_t places, const larder_index_sink& sink);
    larder_status load(const larder_index_source& source, larder_prefix_import_info& out);

    // prefix_check.cpp
    void info(larder_prefix_info& out) noexcept;
    larder_status verify();
    larder_status verify_entry(uint32_t slot, uint64_t& n_entries, uint64_t& n_roots, uint64_t& n_in_map) const;

    static uint32_t bit_to_place(uint32_t bit) noexcept { return uint32_t(std::countr_zero(bit)); }

    larder_context& context_;
    const uint32_t flags_, block_tokens_;
    const uint64_t max_entries_;
    SlabPool slabs_;
    NodeSlots entries_, tokens_;
    KeyTable by_key_;
    ByTokens by_tokens_;
    Queue queue_;
    EventLog events_;
    alignas(64) atomic<uint64_t> n_used_{0};  // entries and roots, and room that publishers hold
    alignas(64) atomic<uint64_t> clock_{0};
    atomic<uint32_t> active_places_{
        0};  // places that somebody evicts from; the queues of others would only take memory
    std::mutex evict_mutex_;
    const uint32_t first_generation_;
};

}  // namespace larder
