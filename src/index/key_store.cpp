#include "index/key_store.h"

namespace larder::bskip {

static KeyRecord* record_of(const Tailed& s) noexcept {
    return reinterpret_cast<KeyRecord*>(s.tail >> 16);
}

template <size_t... I>
static std::array<NodeSlots, sizeof...(I)> make_slots(larder_context& c, SlabPool& slabs, std::index_sequence<I...>) {
    return {NodeSlots(c, slabs, 16u << I, offsetof(KeyRecord, id))...};
}

KeyStore<any_length>::KeyStore(larder_context& c, SlabPool& slabs)
    : slots_(make_slots(c, slabs, std::make_index_sequence<n_classes>())) {}

larder_status KeyStore<any_length>::make(const Key<any_length>& k, Tailed& out) noexcept {
    out = {k.first, k.n_bytes};
    if (k.n_bytes <= 8) return LARDER_OK;
    NodeSlots& slots = slots_[class_of(k.n_bytes)];
    LARDER_ASSIGN(const uint32_t id, slots.alloc());
    auto* record = reinterpret_cast<KeyRecord*>(slots.at(id));
    fence(release);  // readers of its former life see the change of the node that gave it up before these bytes
    store_at(&record->id, id);
    record->n_refs.store(1, relaxed);
    for (uint32_t i = 0; i < k.n_rest(); ++i) store_at(record->rest + i, k.rest[i]);
    const auto address = reinterpret_cast<uint64_t>(record);
    LARDER_ASSERT(address >> 48 == 0);
    out.tail |= address << 16;
    return LARDER_OK;
}

Tailed KeyStore<any_length>::share(const Tailed& s) noexcept {
    if (KeyRecord* r = record_of(s)) r->n_refs.fetch_add(1, relaxed);
    return s;
}

void KeyStore<any_length>::drop(const Tailed& s) noexcept {
    KeyRecord* r = record_of(s);
    if (r && r->n_refs.fetch_sub(1, acq_rel) == 1) slots_[class_of(uint32_t(s.tail & 0xffff))].free(load_at(&r->id));
}

void KeyStore<any_length>::reset() noexcept {
    for (auto& s : slots_) s.reset();
}

uint64_t KeyStore<any_length>::record_bytes() const noexcept {
    uint64_t n = 0;
    for (uint32_t c = 0; c < n_classes; ++c) n += (slots_[c].end() - 1 - slots_[c].n_free()) << (smallest_shift + c);
    return n;
}

bool KeyStore<any_length>::count_refs(const Allocator& a, uint64_t& out_n) const {
    out_n = 0;
    Vec<uint8_t> is_free(a);
    for (const NodeSlots& slots : slots_) {
        slots.mark_free(is_free);
        uint64_t n_free = 0;
        for (uint32_t id = 1; id < slots.end(); ++id) {
            n_free += is_free[id];
            const auto* r = reinterpret_cast<const KeyRecord*>(slots.at(id));
            if (!is_free[id]) out_n += r->n_refs.load(relaxed);
        }
        if (n_free != slots.n_free()) return false;
    }
    return true;
}

}  // namespace larder::bskip
