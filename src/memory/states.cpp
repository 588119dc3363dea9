#include "memory/states.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/options.h"
#include "memory/state_sum.h"

using namespace larder;

larder_states::larder_states(larder_context& c, const larder_states_options& o)
    : Handle(HandleType::states, c), o_(o), stride_((o.state_bytes + 63) / 64 * 64),
      entries_(o.max_states, Entry{none, c.random_generation(), 0, false}, c.alloc), free_entries_(c.alloc),
      free_slots_(c.alloc), refs_(o.n_slots, 0, c.alloc) {
    free_entries_.reserve(o.max_states);
    for (uint32_t i = o.max_states; i--;) free_entries_.push_back(i);
    free_slots_.reserve(o.n_slots);
    for (uint32_t i = o.n_slots; i--;) free_slots_.push_back(i);
}

larder_states::~larder_states() {
    context->os.release(memory_, memory_bytes_);
}

larder_status larder_states::create(larder_context& c, const larder_states_options* options, larder_states** out) {
    larder_states_options o;
    LARDER_TRY(read_options(options, o, "larder_states_options"));
    LARDER_TRY(check_range(o.n_slots, 1, 1u << 24, "n_slots"));
    LARDER_TRY(check_range(o.state_bytes, 1, uint64_t(1) << 36, "state_bytes"));
    if (!o.max_states) o.max_states = 4 * o.n_slots;
    LARDER_TRY(check_range(o.max_states, o.n_slots, 1u << 26, "max_states"));
    const size_t element = state_element_bytes(o.dtype);
    if (o.dtype && !element) return fail(LARDER_E_INVALID, "dtype", "states of dtype %d cannot be added", o.dtype);
    if (element && o.state_bytes % element)
        return fail(LARDER_E_RANGE, "state_bytes", "%llu bytes are not whole elements of %zu",
                    (unsigned long long)o.state_bytes, element);
    auto pool = make_owned<larder_states>(c.alloc, c, o);
    const uint64_t page = c.os.topology().page_bytes;
    if (pool->stride_ > (uint64_t(1) << 46) / o.n_slots)
        return fail(LARDER_E_RANGE, "n_slots", "%u states of %llu bytes do not fit the address space", o.n_slots,
                    (unsigned long long)o.state_bytes);
    const uint64_t n_bytes = (pool->stride_ * o.n_slots + page - 1) / page * page;
    const bool huge = c.param(LARDER_PARAM_HUGE_PAGES) && c.os.topology().huge_pages;
    LARDER_ASSIGN(pool->memory_, c.os.reserve(n_bytes, std::max<uint64_t>(page, uint64_t(2) << 20)));
    pool->memory_bytes_ = n_bytes;
    LARDER_TRY(c.os.commit(pool->memory_, n_bytes, huge ? map_flag::huge : 0));
    *out = c.adopt_handle(pool.release());
    return LARDER_OK;
}

larder_states::Entry* larder_states::find(uint64_t state) noexcept {
    const uint32_t i = Id::index(state);
    if (Id::kind(state) != IdKind::state || i >= entries_.size()) return nullptr;
    Entry& e = entries_[i];
    return e.slot != none && e.generation == Id::generation(state) ? &e : nullptr;
}

larder_status larder_states::stale() const noexcept {
    return fail(LARDER_E_STALE, "state", "the state was freed, or is none of this pool");
}

// An id is there: the caller has looked.
uint64_t larder_states::name(uint32_t slot, bool frozen) noexcept {
    const uint32_t i = free_entries_.back();
    free_entries_.pop_back();
    Entry& e = entries_[i];
    e.slot = slot;
    e.frozen = frozen;
    ++refs_[slot];
    return Id::make(IdKind::state, i, e.generation);
}

void larder_states::drop_slot(uint32_t slot) noexcept {
    LARDER_ASSERT(refs_[slot]);
    if (--refs_[slot] == 0) free_slots_.push_back(slot);
}

larder_status larder_states::alloc(std::span<uint64_t> out) noexcept {
    std::unique_lock lock(mutex_);
    if (out.size() > free_slots_.size())
        return fail(LARDER_E_NOSPACE, "n_slots", "%zu states are asked for; %zu slots are free", out.size(),
                    free_slots_.size());
    if (out.size() > free_entries_.size())
        return fail(LARDER_E_NOSPACE, "max_states", "%zu states are asked for; %zu ids are free", out.size(),
                    free_entries_.size());
    for (uint64_t& id : out) {
        id = name(free_slots_.back(), false);
        free_slots_.pop_back();
    }
    // Nobody else knows these slots yet: they are cleared without the lock.
    for (const uint64_t id : out) {
        std::byte* p = at(find(id)->slot);
        lock.unlock();
        std::memset(p, 0, o_.state_bytes);
        lock.lock();
    }
    return LARDER_OK;
}

larder_status larder_states::free(std::span<const uint64_t> ids) noexcept {
    std::lock_guard lock(mutex_);
    larder_status status = LARDER_OK;
    for (const uint64_t id : ids) {
        Entry* e = find(id);
        if (!e) {
            status = stale();
            continue;
        }
        drop_slot(e->slot);
        e->slot = none;
        ++e->generation;
        if (++e->n_uses == UINT32_MAX)
            ++n_retired_;
        else
            free_entries_.push_back(Id::index(id));
    }
    return status;
}

larder_status larder_states::fork(uint64_t state, std::span<uint64_t> out, bool frozen) noexcept {
    std::lock_guard lock(mutex_);
    const Entry* e = find(state);
    if (!e) return stale();
    if (out.size() > free_entries_.size())
        return fail(LARDER_E_NOSPACE, "max_states", "%zu states are asked for; %zu ids are free", out.size(),
                    free_entries_.size());
    const uint32_t slot = e->slot;
    for (uint64_t& id : out) id = name(slot, frozen);
    return LARDER_OK;
}

larder_status larder_states::slot_of(uint64_t state, uint32_t& slot) noexcept {
    std::lock_guard lock(mutex_);
    const Entry* e = find(state);
    if (!e) return stale();
    slot = e->slot;
    return LARDER_OK;
}

larder_status larder_states::get(uint64_t state, const void** out) noexcept {
    uint32_t slot = 0;
    LARDER_TRY(slot_of(state, slot));
    *out = at(slot);
    return LARDER_OK;
}

// The old slot keeps this state's reference until the copy is done, so that nobody writes it meanwhile.
larder_status larder_states::write(uint64_t state, void** out) noexcept {
    std::unique_lock lock(mutex_);
    Entry* e = find(state);
    if (!e) return stale();
    if (e->frozen) return fail(LARDER_E_STATE, "state", "a snapshot cannot be written; fork it");
    const uint32_t old = e->slot;
    *out = at(old);
    if (refs_[old] == 1) return LARDER_OK;
    if (free_slots_.empty())
        return fail(LARDER_E_NOSPACE, "n_slots", "the state is shared and all %u slots are taken", o_.n_slots);
    const uint32_t fresh = free_slots_.back();
    free_slots_.pop_back();
    lock.unlock();
    std::memcpy(at(fresh), at(old), o_.state_bytes);
    lock.lock();
    ++refs_[fresh];
    e->slot = fresh;
    drop_slot(old);
    ++n_copies_;
    *out = at(fresh);
    return LARDER_OK;
}

larder_status larder_states::add(uint64_t dst, const uint64_t* srcs, uint32_t n) noexcept {
    if (!o_.dtype) return fail(LARDER_E_UNSUPPORTED, "dtype", "the pool was made without a dtype");
    LARDER_TRY(check_range(n, 0, max_summands, "n"));
    const void* from[max_summands];
    const void* mine = nullptr;
    LARDER_TRY(get(dst, &mine));
    bool again = false;
    for (uint32_t i = 0; i < n; ++i) {
        LARDER_TRY(get(srcs[i], &from[i]));
        again |= srcs[i] == dst;
    }
    void* to = nullptr;
    LARDER_TRY(write(dst, &to));
    // dst as a source of its own: where it went, if it had to be copied.
    if (again)
        for (uint32_t i = 0; i < n; ++i)
            if (srcs[i] == dst) from[i] = to;
    add_states(o_.dtype, to, {from, n}, o_.state_bytes);
    return LARDER_OK;
}

larder_status larder_states::checksum(uint64_t state, uint32_t& out) noexcept {
    uint32_t slot;
    LARDER_TRY(slot_of(state, slot));
    out = crc32c(0, at(slot), o_.state_bytes);
    return LARDER_OK;
}

void larder_states::query(larder_states_state& out) const noexcept {
    std::lock_guard lock(mutex_);
    out = LARDER_STATES_STATE_INIT;
    out.n_states = uint32_t(entries_.size() - free_entries_.size()) - n_retired_;
    out.n_slots_free = uint32_t(free_slots_.size());
    out.n_slots_used = o_.n_slots - out.n_slots_free;
    out.n_copies = n_copies_;
    out.memory_bytes = memory_bytes_;
}

larder_status larder_states::verify() {
    Vec<uint32_t> refs(o_.n_slots, 0, context->alloc);
    for (const Entry& e : entries_)
        if (e.slot != none) ++refs[e.slot];
    for (const uint32_t slot : free_slots_)
        if (refs[slot]++)
            return fail(LARDER_E_INTERNAL, "slot", "slot %u is free twice, or free and named by a state", slot);
    for (const uint32_t slot : free_slots_) --refs[slot];
    for (uint32_t slot = 0; slot < o_.n_slots; ++slot)
        if (refs[slot] != refs_[slot])
            return fail(LARDER_E_INTERNAL, "slot", "slot %u is named %u times and counted %u times", slot, refs[slot],
                        refs_[slot]);
    const size_t n_used = size_t(std::count_if(refs_.begin(), refs_.end(), [](uint32_t r) { return r > 0; }));
    if (n_used + free_slots_.size() != o_.n_slots)
        return fail(LARDER_E_INTERNAL, "slot", "%zu slots are used and %zu free, of %u", n_used, free_slots_.size(),
                    o_.n_slots);
    return LARDER_OK;
}
