#include "memory/contig.h"

#include <algorithm>
#include <cstring>

namespace larder {
namespace {

constexpr uint64_t max_region_bytes = uint64_t(1) << 46;
constexpr uint64_t align_up(uint64_t n, uint64_t a) {
    return (n + a - 1) / a * a;
}

}  // namespace

ContigStorage::ContigStorage(larder_context& c, const Vec<GroupShape>& shapes, const larder_arena_options& o)
    : context_(c), shared_(o.memory == LARDER_ARENA_MEMFD), max_seqs_(o.max_seqs), n_lookahead_(o.n_lookahead),
      map_flags_(c.param(LARDER_PARAM_HUGE_PAGES) ? map_flag::huge : 0), max_seq_tokens_(o.max_seq_tokens),
      budget_bytes_(o.budget_bytes), granule_(o.granule_bytes), shapes_(shapes), pools_(c.alloc),
      idle_(max_seqs_, 0, c.alloc), slot_mutexes_(max_seqs_, c.alloc), background_(o.flags & LARDER_ARENA_BACKGROUND),
      warm_bytes_(o.warm_bytes ? o.warm_bytes : o.budget_bytes), wishes_(c.alloc, max_seqs_) {}

ContigStorage::~ContigStorage() {
    if (thread_) {
        {
            std::lock_guard lock(background_mutex_);
            stopping_ = true;
        }
        background_wakes_.notify_one();
        context_.os.thread_join(thread_);
    }
    for (auto& p : pools_)
        if (p && p->region) context_.os.release(p->region, p->region_bytes);
    if (scratch_) context_.os.release(scratch_, granule_);
    if (memfd_.valid()) context_.os.close(memfd_);
}

larder_status ContigStorage::reserve() {
    uint64_t file_bytes = 0;
    for (const GroupShape& s : shapes_) {
        for (uint32_t p = 0; p < n_planes; ++p) {
            pools_.emplace_back(nullptr, AllocDelete<Pool>{context_.alloc});
            if (s.planes[p].token_bytes) LARDER_TRY(reserve_pool(s, p, file_bytes));
        }
    }
    if (shared_) {
        LARDER_ASSIGN(memfd_, context_.os.memfd("larder-arena", file_bytes));
        LARDER_ASSIGN(scratch_, context_.os.reserve(granule_, std::max(granule_, context_.os.topology().page_bytes)));
    }
    if (!background_) return LARDER_OK;
    LARDER_ASSIGN(thread_, context_.os.thread_start([](void* me) { static_cast<ContigStorage*>(me)->run_background(); },
                                                    this, "larder-mapper"));
    return LARDER_OK;
}

larder_status ContigStorage::reserve_pool(const GroupShape& s, uint32_t plane, uint64_t& file_bytes) {
    const uint64_t token_bytes = s.planes[plane].token_bytes;
    const unsigned __int128 wanted = (unsigned __int128)token_bytes * (s.is_state ? 1 : max_seq_tokens_);
    const unsigned __int128 range = (wanted + granule_ - 1) / granule_ * granule_;
    if (range * max_seqs_ * s.n_layers > max_region_bytes)
        return fail(LARDER_E_RANGE, "max_seq_tokens", "%u sequences of %llu tokens do not fit the address space",
                    max_seqs_, (unsigned long long)max_seq_tokens_);
    // A row is one granule per layer; the budget bounds how many can exist.
    const uint64_t row_bytes = granule_ * s.n_layers;
    const uint64_t n_rows =
        std::min<uint64_t>({budget_bytes_ / row_bytes, uint64_t(range) / granule_ * max_seqs_, SlotPool::none - 1});
    if (n_rows == 0)
        return fail(LARDER_E_NOSPACE, "budget_bytes", "budget_bytes %llu is less than one granule in each of %u layers",
                    (unsigned long long)budget_bytes_, s.n_layers);
    pools_.back() =
        make_owned<Pool>(context_.alloc, context_.alloc, uint32_t(n_rows), Cpus(context_.os), shared_, max_seqs_);
    Pool& p = *pools_.back();
    p.token_bytes = token_bytes;
    p.per_sequence = s.is_state;
    p.n_layers = s.n_layers;
    p.range_bytes = uint64_t(range);
    p.range_granules = uint32_t(p.range_bytes / granule_);
    p.region_bytes = p.range_bytes * max_seqs_ * s.n_layers;
    p.n_rows = uint32_t(n_rows);
    p.n_mapped.assign(max_seqs_, 0);
    if (shared_) p.rows.assign(size_t(max_seqs_) * p.range_granules, SlotPool::none);
    p.file_offset = file_bytes;
    file_bytes += n_rows * row_bytes;
    LARDER_ASSIGN(p.region, context_.os.reserve(p.region_bytes, std::max(granule_, context_.os.topology().page_bytes)));
    // Usable from the start, without memory until touched: growth then splits no mapping and needs no system call of
    // its own.
    return shared_ ? LARDER_OK : context_.os.commit(p.region, p.region_bytes, map_flags_);
}

std::byte* ContigStorage::base(uint32_t slot, uint32_t group, uint32_t layer, uint32_t plane) const noexcept {
    const auto& p = pools_[group * n_planes + plane];
    return p ? range(*p, slot, layer) : nullptr;
}

uint64_t ContigStorage::range_bytes(uint32_t group, uint32_t plane) const noexcept {
    const auto& p = pools_[group * n_planes + plane];
    return p ? p->range_bytes : 0;
}

uint64_t ContigStorage::mapped_bytes(uint32_t group) const noexcept {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n_planes; ++i)
        if (const auto& p = pools_[group * n_planes + i]) sum += p->mapped_rows.load(relaxed) * p->n_layers * granule_;
    return sum;
}

void ContigStorage::activate(uint32_t slot) noexcept {
    std::lock_guard lock(idle_mutex_);
    idle_[slot] = 0;
}

void ContigStorage::retire(uint32_t slot) noexcept {
    wishes_[slot].store(0, relaxed);
    {
        std::lock_guard growing(slot_mutexes_[slot]);
        std::lock_guard lock(idle_mutex_);
        // What others still show is theirs: this range keeps only rows of its own.
        for (auto& owned : pools_) {
            if (!owned || !shared_) continue;
            Pool& p = *owned;
            for (uint32_t g = p.n_mapped[slot]; g-- > 0;) {
                uint32_t& row = row_at(p, slot, g);
                if (row == SlotPool::none || p.refs[row].load(acquire) == 1) continue;
                drop_row(p, row);
                row = SlotPool::none;
                p.n_solid[slot].store(std::min(p.n_solid[slot].load(relaxed), g), release);
            }
        }
        idle_[slot] = 1;
    }
    if (background_) wake();
}

bool ContigStorage::covers(uint32_t slot, uint64_t n_tokens) const noexcept {
    for (auto& p : pools_)
        if (p && granules_for(*p, n_tokens) > p->n_solid[slot].load(acquire)) return false;
    return true;
}

// Without reclaiming anything.
bool ContigStorage::affords(uint32_t slot, uint64_t n_tokens) const noexcept {
    uint64_t n_bytes = 0;
    for (auto& p : pools_)
        if (p)
            if (const uint32_t n = granules_for(*p, n_tokens), have = p->n_solid[slot].load(relaxed); n > have)
                n_bytes += uint64_t(n - have) * p->n_layers * granule_;
    return mapped_bytes_.load(relaxed) + n_bytes <= budget_bytes_;
}

larder_status ContigStorage::grow_all(uint32_t slot, uint64_t n_tokens) noexcept {
    for (auto& owned : pools_)
        if (owned) LARDER_TRY(grow(*owned, slot, granules_for(*owned, n_tokens)));
    return LARDER_OK;
}

larder_status ContigStorage::prepare_write(uint32_t slot, uint64_t first, uint64_t n) noexcept {
    const uint64_t end = first + n, ahead = std::min(max_seq_tokens_, end + n_lookahead_);
    if (!covers(slot, end)) {
        std::lock_guard lock(slot_mutexes_[slot]);
        // Need and wish in one go, so that neighbours are mapped by one call, if that takes nothing from anybody.
        const bool at_once = !background_ && affords(slot, ahead) && grow_all(slot, ahead) >= 0;
        if (!at_once) LARDER_TRY(grow_all(slot, end));
    }
    for (auto& owned : pools_) {
        if (!owned || !shared_ || !n) continue;
        Pool& p = *owned;
        const uint64_t from = p.per_sequence ? 0 : first * p.token_bytes;
        for (auto g = uint32_t(from / granule_); uint64_t(g) * granule_ < bytes_for(p, end); ++g)
            if (p.refs[row_at(p, slot, g)].load(acquire) > 1) {
                std::lock_guard lock(slot_mutexes_[slot]);
                LARDER_TRY(make_private(p, slot, g));
            }
    }
    if (!n_lookahead_ || covers(slot, ahead)) return LARDER_OK;
    if (background_) {
        wish(slot, ahead);
        return LARDER_OK;
    }
    std::lock_guard lock(slot_mutexes_[slot]);
    (void)grow_all(slot, ahead);
    return LARDER_OK;
}

// --- ahead of need, and behind it ---

void ContigStorage::wish(uint32_t slot, uint64_t n_tokens) noexcept {
    // One wish at a time: what is asked for meanwhile is asked for again by the next token.
    uint64_t nothing = 0;
    if (wishes_[slot].load(relaxed) == 0 && wishes_[slot].compare_exchange_strong(nothing, n_tokens, release, relaxed))
        wake();
}

void ContigStorage::wake() noexcept {
    {
        std::lock_guard lock(background_mutex_);
        woken_ = true;
    }
    background_wakes_.notify_one();
}

void ContigStorage::run_background() noexcept {
    std::unique_lock lock(background_mutex_);
    while (!stopping_) {
        if (!woken_) {
            background_wakes_.wait(lock);
            continue;
        }
        woken_ = false;
        lock.unlock();
        std::unique_lock round(round_mutex_);
        for (uint32_t slot = 0; slot < max_seqs_; ++slot) {
            if (!wishes_[slot].load(relaxed)) continue;
            std::lock_guard growing(slot_mutexes_[slot]);
            // Read again: a slot that was retired wishes nothing.
            const uint64_t n = wishes_[slot].load(acquire);
            if (n && affords(slot, n)) (void)grow_all(slot, n);
            wishes_[slot].store(0, release);
        }
        (void)trim(warm_bytes_);
        round.unlock();
        lock.lock();
    }
}

larder_status ContigStorage::grow(Pool& p, uint32_t slot, uint32_t n_granules) noexcept {
    if (n_granules <= p.n_solid[slot].load(relaxed)) return LARDER_OK;
    LARDER_TRY(shared_ ? grow_shared(p, slot, n_granules) : grow_anon(p, slot, n_granules));
    p.n_solid[slot].store(n_granules, release);
    return LARDER_OK;
}

larder_status ContigStorage::grow_anon(Pool& p, uint32_t slot, uint32_t n_granules) noexcept {
    const uint32_t have = p.n_mapped[slot], n = n_granules - have;
    LARDER_TRY(charge(uint64_t(n) * p.n_layers * granule_));
    for (uint32_t l = 0; l < p.n_layers; ++l) {
        const larder_status s = context_.os.commit(range(p, slot, l) + uint64_t(have) * granule_,
                                                   uint64_t(n) * granule_, map_flag::usable | map_flag::populate);
        if (s < 0) {
            // The layers before this one keep their memory until the slot is reclaimed; it is not counted and will be
            // populated again for nothing.
            mapped_bytes_.fetch_sub(uint64_t(n) * p.n_layers * granule_, relaxed);
            for (uint32_t k = 0; k <= l; ++k) discard(p, slot, k, have, n);
            return s;
        }
    }
    p.n_mapped[slot] = n_granules;
    p.mapped_rows.fetch_add(n, relaxed);
    return LARDER_OK;
}

// Give the memory of granules back and leave the range usable.
void ContigStorage::discard(Pool& p, uint32_t slot, uint32_t layer, uint32_t granule, uint32_t n) noexcept {
    std::byte* at = range(p, slot, layer) + uint64_t(granule) * granule_;
    if (context_.os.decommit(at, uint64_t(n) * granule_) >= 0 && !shared_)
        (void)context_.os.commit(at, uint64_t(n) * granule_, map_flags_);
}

// Rows for every granule up to n_granules that has none; neighbours in the file are mapped by one call per layer.
larder_status ContigStorage::grow_shared(Pool& p, uint32_t slot, uint32_t n_granules) noexcept {
    for (uint32_t g = p.n_solid[slot].load(relaxed); g < n_granules;) {
        if (row_at(p, slot, g) != SlotPool::none) {
            ++g;
            continue;
        }
        uint32_t run = 0;
        larder_status s = LARDER_OK;
        uint32_t next = SlotPool::none;
        while (g + run < n_granules && row_at(p, slot, g + run) == SlotPool::none) {
            s = new_row(p, next);
            if (s < 0) break;
            if (run && next != row_at(p, slot, g) + run) break;
            row_at(p, slot, g + run) = next;
            next = SlotPool::none;
            ++run;
        }
        const uint32_t first = run ? row_at(p, slot, g) : SlotPool::none;
        larder_status mapped = run ? map_rows(p, slot, g, first, run) : LARDER_OK;
        if (mapped < 0)
            for (uint32_t i = 0; i < run; ++i) {
                drop_row(p, row_at(p, slot, g + i));
                row_at(p, slot, g + i) = SlotPool::none;
            }
        else
            p.n_mapped[slot] = std::max(p.n_mapped[slot], g + run);
        // A row that did not continue the run begins the next one.
        if (mapped >= 0 && s >= 0 && next != SlotPool::none) {
            mapped = map_rows(p, slot, g + run, next, 1);
            if (mapped >= 0) {
                row_at(p, slot, g + run) = next;
                p.n_mapped[slot] = std::max(p.n_mapped[slot], g + run + 1);
            }
        }
        if (mapped < 0 && next != SlotPool::none) drop_row(p, next);
        LARDER_TRY(mapped);
        LARDER_TRY(s);
        g += run;
    }
    return LARDER_OK;
}

larder_status ContigStorage::map_rows(Pool& p, uint32_t slot, uint32_t granule, uint32_t row, uint32_t n) noexcept {
    for (uint32_t l = 0; l < p.n_layers; ++l)
        LARDER_TRY(context_.os
                       .map_handle(range(p, slot, l) + uint64_t(granule) * granule_, uint64_t(n) * granule_, memfd_,
                                   row_offset(p, l, row), true)
                       .status());
    return LARDER_OK;
}

// A write into a granule that another range shows too: fill a new row and put it in the place of the old one.
larder_status ContigStorage::make_private(Pool& p, uint32_t slot, uint32_t granule) noexcept {
    uint32_t fresh = SlotPool::none;
    LARDER_TRY(new_row(p, fresh));
    larder_status s = LARDER_OK;
    {
        std::lock_guard lock(scratch_mutex_);
        for (uint32_t l = 0; l < p.n_layers && s >= 0; ++l) {
            s = context_.os.map_handle(scratch_, granule_, memfd_, row_offset(p, l, fresh), true).status();
            if (s >= 0) std::memcpy(scratch_, range(p, slot, l) + uint64_t(granule) * granule_, granule_);
        }
    }
    if (s >= 0) s = map_rows(p, slot, granule, fresh, 1);
    uint32_t& row = row_at(p, slot, granule);
    if (s < 0) {
        // Some layers may show the new row already: bring the old one back before giving the new one up.
        (void)map_rows(p, slot, granule, row, 1);
        drop_row(p, fresh);
        return s;
    }
    drop_row(p, row);
    row = fresh;
    return LARDER_OK;
}

larder_status ContigStorage::fork(uint32_t src, uint32_t dst, uint64_t n_tokens) noexcept {
    std::scoped_lock lock(slot_mutexes_[src], slot_mutexes_[dst]);
    for (auto& owned : pools_)
        if (owned) LARDER_TRY(fork_plane(*owned, src, dst, bytes_for(*owned, n_tokens)));
    return LARDER_OK;
}

larder_status ContigStorage::fork_plane(Pool& p, uint32_t src, uint32_t dst, uint64_t n_bytes) noexcept {
    uint32_t n_shared = 0;
    if (shared_) {
        for (; (uint64_t(n_shared) + 1) * granule_ <= n_bytes; ++n_shared) {
            const uint32_t row = row_at(p, src, n_shared);
            uint32_t& mine = row_at(p, dst, n_shared);
            if (mine != SlotPool::none) drop_row(p, mine);
            p.refs[row].fetch_add(1, relaxed);
            mine = row;
            p.n_mapped[dst] = std::max(p.n_mapped[dst], n_shared + 1);
        }
        // Map runs of neighbours at once.
        for (uint32_t g = 0; g < n_shared;) {
            uint32_t run = 1;
            while (g + run < n_shared && row_at(p, dst, g + run) == row_at(p, dst, g) + run) ++run;
            LARDER_TRY(map_rows(p, dst, g, row_at(p, dst, g), run));
            g += run;
        }
        p.n_solid[dst].store(std::max(p.n_solid[dst].load(relaxed), n_shared), release);
    }
    LARDER_TRY(grow(p, dst, uint32_t(align_up(n_bytes, granule_) / granule_)));
    const uint64_t from = uint64_t(n_shared) * granule_;
    for (uint32_t l = 0; l < p.n_layers && from < n_bytes; ++l)
        std::memcpy(range(p, dst, l) + from, range(p, src, l) + from, n_bytes - from);
    return LARDER_OK;
}

larder_status ContigStorage::new_row(Pool& p, uint32_t& out) noexcept {
    if (!p.free_rows.take({&out, 1})) {
        reclaim_idle(granule_ * p.n_layers);
        if (!p.free_rows.take({&out, 1}))
            return fail(LARDER_E_NOSPACE, "budget_bytes", "all %u granule rows of a plane are in use", p.n_rows);
    }
    const larder_status s = charge(granule_ * p.n_layers);
    if (s < 0) {
        p.free_rows.give({&out, 1});
        out = SlotPool::none;
        return s;
    }
    p.refs[out].store(1, relaxed);
    p.mapped_rows.fetch_add(1, relaxed);
    return LARDER_OK;
}

void ContigStorage::drop_row(Pool& p, uint32_t row) noexcept {
    if (p.refs[row].fetch_sub(1, acq_rel) != 1) return;
    p.mapped_rows.fetch_sub(1, relaxed);
    mapped_bytes_.fetch_sub(granule_ * p.n_layers, relaxed);
    p.free_rows.give({&row, 1});
}

larder_status ContigStorage::charge(uint64_t n_bytes) noexcept {
    for (bool reclaimed = false;; reclaimed = true) {
        uint64_t now = mapped_bytes_.load(relaxed);
        while (now + n_bytes <= budget_bytes_)
            if (mapped_bytes_.compare_exchange_weak(now, now + n_bytes, relaxed, relaxed)) return LARDER_OK;
        if (reclaimed || !reclaim_idle(n_bytes))
            return fail(LARDER_E_NOSPACE, "budget_bytes", "%llu of %llu bytes are mapped; %llu more are needed",
                        (unsigned long long)now, (unsigned long long)budget_bytes_, (unsigned long long)n_bytes);
    }
}

bool ContigStorage::reclaim_idle(uint64_t n_bytes) noexcept {
    std::lock_guard lock(idle_mutex_);
    const uint64_t before = mapped_bytes_.load(relaxed);
    for (uint32_t slot = 0; slot < max_seqs_ && before - mapped_bytes_.load(relaxed) < n_bytes; ++slot)
        if (idle_[slot]) reclaim_slot(slot);
    return mapped_bytes_.load(relaxed) < before;
}

// All memory of a retired slot.
void ContigStorage::reclaim_slot(uint32_t slot) noexcept {
    for (auto& owned : pools_) {
        if (!owned || !owned->n_mapped[slot]) continue;
        Pool& p = *owned;
        const uint32_t n = p.n_mapped[slot];
        for (uint32_t l = 0; l < p.n_layers; ++l) discard(p, slot, l, 0, n);
        p.n_mapped[slot] = 0;
        p.n_solid[slot].store(0, release);
        if (!shared_) {
            p.mapped_rows.fetch_sub(n, relaxed);
            mapped_bytes_.fetch_sub(uint64_t(n) * p.n_layers * granule_, relaxed);
            continue;
        }
        for (uint32_t g = 0; g < n; ++g) {
            uint32_t& row = row_at(p, slot, g);
            if (row != SlotPool::none) drop_row(p, row);
            row = SlotPool::none;
        }
    }
}

larder_status ContigStorage::trim(uint64_t keep_bytes) noexcept {
    std::lock_guard lock(idle_mutex_);
    uint64_t kept = 0;
    for (uint32_t slot = 0; slot < max_seqs_; ++slot) {
        if (!idle_[slot]) continue;
        uint64_t mine = 0;
        for (auto& p : pools_)
            if (p) mine += uint64_t(p->n_mapped[slot]) * p->n_layers * granule_;
        if (kept + mine > keep_bytes)
            reclaim_slot(slot);
        else
            kept += mine;
    }
    return LARDER_OK;
}

larder_status ContigStorage::verify() {
    std::lock_guard round(round_mutex_);
    uint64_t bytes = 0;
    for (auto& p : pools_)
        if (p) LARDER_TRY(verify_pool(*p, bytes));
    if (bytes != mapped_bytes_.load(acquire))
        return fail(LARDER_E_INTERNAL, "mapped_bytes", "%llu bytes are mapped; the books say %llu",
                    (unsigned long long)bytes, (unsigned long long)mapped_bytes_.load(relaxed));
    return LARDER_OK;
}

larder_status ContigStorage::verify_pool(Pool& p, uint64_t& bytes) {
    bytes += p.mapped_rows.load(acquire) * p.n_layers * granule_;
    uint64_t n_mapped = 0;
    for (uint32_t s = 0; s < max_seqs_; ++s) n_mapped += p.n_mapped[s];
    if (!shared_)
        return n_mapped == p.mapped_rows.load(relaxed) ? LARDER_OK
                                                       : fail(LARDER_E_INTERNAL, "mapped_bytes", "granules were lost");
    Vec<uint32_t> seen(p.n_rows, 0, context_.alloc);
    for (uint32_t row : p.rows)
        if (row != SlotPool::none) ++seen[row];
    uint64_t used = 0;
    for (uint32_t r = 0; r < p.n_rows; ++r) {
        used += seen[r] != 0;
        if (seen[r] != p.refs[r].load(acquire))
            return fail(LARDER_E_INTERNAL, "rows", "row %u is shown %u times; its count is %u", r, seen[r],
                        p.refs[r].load(relaxed));
    }
    p.free_rows.for_each_free([&](uint32_t r) { ++seen[r]; });
    for (uint32_t r = 0; r < p.n_rows; ++r)
        if (!seen[r]) return fail(LARDER_E_INTERNAL, "rows", "row %u is neither free nor used", r);
    if (used != p.mapped_rows.load(relaxed) || used + p.free_rows.n_free() != p.n_rows)
        return fail(LARDER_E_INTERNAL, "rows", "rows were lost");
    return LARDER_OK;
}

}  // namespace larder
