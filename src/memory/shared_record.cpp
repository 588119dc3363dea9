#include "memory/shared_record.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace larder {
namespace {

constexpr uint64_t magic = 0x316572616873414c;  // "LAshare1"
constexpr uint32_t max_groups = 64;             // of a layout
constexpr uint64_t align_up(uint64_t n, uint64_t a) {
    return (n + a - 1) / a * a;
}

}  // namespace

struct SharedRecord::Head {
    uint64_t magic;
    SharedTerms terms;
    uint32_t n_groups;
    uint64_t n_blocks[max_groups];
    Seat seats[max_processes];
};

uint32_t SharedRecord::chunk_blocks(uint64_t n_blocks) noexcept {
    return uint32_t(std::clamp<uint64_t>(std::bit_floor(n_blocks / 16), 1, max_chunk_blocks));
}

uint32_t SharedRecord::n_chunks(uint64_t n_blocks) noexcept {
    return uint32_t((n_blocks - 1 + chunk_blocks(n_blocks) - 1) / chunk_blocks(n_blocks));
}

uint64_t SharedRecord::bytes_for(std::span<const uint64_t> n_blocks) noexcept {
    static_assert(sizeof(Head) <= head_bytes && sizeof(atomic<uint32_t>) == 4);
    uint64_t n = head_bytes;
    for (uint64_t b : n_blocks) n += 4 * uint64_t(n_chunks(b));
    return align_up(n, head_bytes);
}

larder_status SharedRecord::read_head(const std::byte* at, uint64_t file_bytes, uint32_t n_groups, SharedTerms& out,
                                      Vec<uint64_t>& n_blocks) {
    Head h;
    std::memcpy(static_cast<void*>(&h), at, sizeof h);  // once: a peer may go on writing
    if (h.magic != magic) return fail(LARDER_E_INVALID, "fd", "the shared memory holds no arena of this version");
    if (h.n_groups != n_groups)
        return fail(LARDER_E_INVALID, "layout", "the shared arena has %u groups; the layout has %u", h.n_groups,
                    n_groups);
    n_blocks.assign(h.n_blocks, h.n_blocks + n_groups);
    for (uint64_t b : n_blocks)
        if (b < 2 || b > Id::max_index) return fail(LARDER_E_INVALID, "fd", "the shared arena's head is damaged");
    if (bytes_for(n_blocks) > file_bytes)
        return fail(LARDER_E_INVALID, "fd", "the shared memory of %llu bytes is too short for its blocks",
                    (unsigned long long)file_bytes);
    out = h.terms;
    return LARDER_OK;
}

SharedRecord::SharedRecord(const Allocator& a, Os& os, std::byte* at, std::span<const uint64_t> n_blocks)
    : os_(os), head_(reinterpret_cast<Head*>(at)), groups_(a) {
    auto* owners = reinterpret_cast<atomic<uint32_t>*>(at + head_bytes);
    for (uint64_t b : n_blocks) {
        groups_.push_back({uint32_t(b), chunk_blocks(b), n_chunks(b), owners});
        owners += n_chunks(b);
    }
}

void SharedRecord::write_head(const SharedTerms& terms) noexcept {
    head_->terms = terms;
    head_->n_groups = uint32_t(groups_.size());
    for (size_t g = 0; g < groups_.size(); ++g) head_->n_blocks[g] = groups_[g].n_blocks;
    head_->magic = magic;
}

larder_status SharedRecord::enter() noexcept {
    const ProcessRef me = os_.self();
    for (bool reaped = false;; reaped = true) {
        for (uint32_t i = 0; i < max_processes; ++i) {
            Seat& s = head_->seats[i];
            uint64_t w = s.word.load(acquire);
            const uint64_t mine = ((w >> 32) + 1) << 32 | uint32_t(me.pid);
            // A seat whose tickets are used up stays empty.
            if (uint32_t(w) || ticket(mine, i) >> 6 != uint32_t(mine >> 32) ||
                !s.word.compare_exchange_strong(w, mine, acq_rel, relaxed))
                continue;
            s.start_time.store(me.start_time, release);
            seat_ = i;
            ticket_ = ticket(mine, i);
            return LARDER_OK;
        }
        if (reaped) return fail(LARDER_E_NOSPACE, "fd", "%u processes share this arena already", max_processes);
        reap();
    }
}

SharedRecord::Chunk SharedRecord::chunk(const Group& g, uint32_t i) const noexcept {
    const uint32_t first = 1 + i * g.chunk_blocks;
    return {first, std::min(g.chunk_blocks, g.n_blocks - first)};
}

SharedRecord::Chunk SharedRecord::claim(uint32_t group) noexcept {
    const Group& g = groups_[group];
    for (uint32_t i = 0; i < g.n_chunks; ++i) {
        uint32_t nobody = 0;
        if (!g.owners[i].load(relaxed) && g.owners[i].compare_exchange_strong(nobody, ticket_, acq_rel, relaxed))
            return chunk(g, i);
    }
    return {};
}

uint64_t SharedRecord::n_unclaimed(uint32_t group) const noexcept {
    const Group& g = groups_[group];
    uint64_t n = 0;
    for (uint32_t i = 0; i < g.n_chunks; ++i)
        if (!g.owners[i].load(relaxed)) n += chunk(g, i).n;
    return n;
}

uint64_t SharedRecord::release_all(uint32_t of) noexcept {
    uint64_t n = 0;
    for (const Group& g : groups_)
        for (uint32_t i = 0; i < g.n_chunks; ++i)
            if (uint32_t expected = of;
                g.owners[i].load(relaxed) == of && g.owners[i].compare_exchange_strong(expected, 0, acq_rel, relaxed))
                n += chunk(g, i).n;
    return n;
}

uint64_t SharedRecord::reap() noexcept {
    uint64_t n = 0;
    for (uint32_t i = 0; i < max_processes; ++i) {
        Seat& s = head_->seats[i];
        uint64_t w = s.word.load(acquire);
        const ProcessRef who{int32_t(uint32_t(w)), s.start_time.load(acquire)};
        // The seat may have changed hands between the two loads.
        if (!who.pid || i == seat_ || s.word.load(acquire) != w || os_.alive(who)) continue;
        n += release_all(ticket(w, i));
        // The next one must not be judged by this one's start.
        s.start_time.store(0, release);
        s.word.compare_exchange_strong(w, w >> 32 << 32, acq_rel, relaxed);
    }
    return n;
}

void SharedRecord::leave() noexcept {
    if (seat_ == UINT32_MAX) return;
    release_all(ticket_);
    Seat& s = head_->seats[seat_];
    s.start_time.store(0, release);
    s.word.store(s.word.load(relaxed) >> 32 << 32, release);
    seat_ = UINT32_MAX;
}

}  // namespace larder
