#include "codec/loader.h"

#include <algorithm>
#include <cmath>

#include "base/options.h"

using namespace larder;

larder_status larder_loader::create(larder_context& c, const larder_loader_options* options, larder_loader** out) {
    larder_loader_options o;
    LARDER_TRY(read_options(options, o, "larder_loader_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    LARDER_TRY(check_range(o.n_chunks, 1, 65536, "n_chunks"));
    LARDER_TRY(check_range(o.n_levels, 1, LARDER_LOADER_MAX_LEVELS, "n_levels"));
    LARDER_TRY(check_range(o.bytes_per_s, 1, uint64_t(1) << 50, "bytes_per_s"));
    if (!o.level_bytes) return fail(LARDER_E_INVALID, "level_bytes", "level_bytes is NULL");
    auto* loader = c.make_handle<larder_loader>(c);
    try {
        const larder_status st = loader->open(o);
        if (st < 0) return c.drop_handle(loader), st;
    } catch (...) {
        c.drop_handle(loader);
        throw;
    }
    *out = loader;
    return LARDER_OK;
}

larder_status larder_loader::open(const larder_loader_options& o) {
    n_levels_ = o.n_levels;
    for (uint32_t l = 0; l <= n_levels_; ++l) {
        values_[l] = o.values ? o.values[l] : std::min(l + 1, n_levels_);
        if (!(values_[l] > 0) || !std::isfinite(values_[l]) || (l && l < n_levels_ && values_[l] < values_[l - 1]))
            return fail(LARDER_E_INVALID, "values", "values[%u] is not positive, or smaller than the one before", l);
    }
    bytes_.assign(o.level_bytes, o.level_bytes + size_t(o.n_chunks) * n_levels_);
    chunks_.resize(o.n_chunks);
    upgrades_.reserve(size_t(o.n_chunks) * max_choices);
    for (uint32_t i = 0; i < o.n_chunks; ++i) {
        const uint64_t* b = bytes_.data() + size_t(i) * n_levels_;
        chunks_[i].n_levels = uint32_t(std::find(b, b + n_levels_, 0u) - b);
        chunks_[i].recompute_ns = o.recompute_ns ? o.recompute_ns[i] : LARDER_LOADER_NEVER;
        if (!chunks_[i].n_levels) return fail(LARDER_E_INVALID, "level_bytes", "the base of chunk %u has no bytes", i);
        for (uint32_t l = 0; l < chunks_[i].n_levels; ++l)
            LARDER_TRY(check_range(b[l], 1, uint64_t(1) << 50, "level_bytes"));
    }
    deadline_ = o.deadline_ns;
    request_ns_ = o.request_ns;
    ns_per_byte_ = 1e9 / double(o.bytes_per_s);
    at_first_ = ns_per_byte_;
    deviation_ = ns_per_byte_ / 4;
    return LARDER_OK;
}

uint64_t larder_loader::level_bytes(const Chunk& c, uint32_t from, uint32_t to) const noexcept {
    const uint64_t* b = bytes_.data() + size_t(&c - chunks_.data()) * n_levels_;
    uint64_t n = 0;
    for (uint32_t l = from; l < to; ++l) n += b[l];
    return n;
}

double larder_loader::fetch_ns(const Chunk& c, uint32_t levels, double ns_per_byte) const noexcept {
    return double(request_ns_) + double(level_bytes(c, c.have, levels)) * ns_per_byte;
}

double larder_loader::value_of(const Chunk& c) const noexcept {
    return c.recomputed ? values_[n_levels_] : c.have ? values_[c.have - 1] : 0;
}

// All ways to go on, the fastest first; of equally fast ones the better first.
uint32_t larder_loader::choices(const Chunk& c, double ns_per_byte, Choice* out) const noexcept {
    uint32_t n = 0;
    if (c.recomputed) return 0;
    for (uint32_t l = c.have + 1; l <= c.n_levels; ++l)
        out[n++] = {l, false, fetch_ns(c, l, ns_per_byte), values_[l - 1]};
    if (c.recompute_ns != LARDER_LOADER_NEVER) out[n++] = {0, true, double(c.recompute_ns), values_[n_levels_]};
    std::sort(out, out + n,
              [](const Choice& a, const Choice& b) { return a.ns < b.ns || (a.ns == b.ns && a.value > b.value); });
    return n;
}

// For each chunk that is not usable: the fastest choice, then the upgrades that give the most for their time, as long
// as they fit. A chunk's upgrades are the upper hull of its choices, so their order over all chunks is right for each.
void larder_loader::plan_open(double budget_ns) noexcept {
    upgrades_.clear();
    double total = 0;
    for (uint32_t i = first_open_; i < chunks_.size(); ++i) {
        Choice list[max_choices];
        const uint32_t n = choices(chunks_[i], careful(), list);
        chunks_[i].planned = list[0];
        total += list[0].ns;
        for (uint32_t at = 0; at + 1 < n;) {
            uint32_t best = 0;
            double best_rate = 0;
            for (uint32_t k = at + 1; k < n; ++k) {
                const double rate = (list[k].value - list[at].value) / std::max(list[k].ns - list[at].ns, 1e-3);
                if (rate > best_rate) best = k, best_rate = rate;
            }
            if (!best) break;
            upgrades_.push_back({i, list[best], list[best].value - list[at].value, list[best].ns - list[at].ns});
            at = best;
        }
    }
    std::sort(upgrades_.begin(), upgrades_.end(), [](const Upgrade& a, const Upgrade& b) {
        const double x = a.gain * b.ns, y = b.gain * a.ns;
        return x != y ? x > y : a.chunk != b.chunk ? a.chunk < b.chunk : a.to.ns < b.to.ns;
    });
    for (const Upgrade& u : upgrades_) {
        Choice& now = chunks_[u.chunk].planned;
        if (total - now.ns + u.to.ns > budget_ns || u.to.value <= now.value) continue;
        total += u.to.ns - now.ns;
        now = u.to;
    }
}

// The planned choice of the first open chunk, lowered until the rest could be made usable at half the bandwidth.
larder_loader::Choice larder_loader::guarded(const Chunk& c, double budget_ns) const noexcept {
    Choice choice = c.planned;
    if (choice.recompute) return choice;
    double rest = 0;
    for (const Chunk* other = &c + 1; other < chunks_.data() + chunks_.size(); ++other) {
        Choice list[max_choices];
        choices(*other, 2 * careful(), list);
        rest += list[0].ns;
    }
    while (choice.levels > 1 && fetch_ns(c, choice.levels, 2 * careful()) + rest > budget_ns) --choice.levels;
    return choice;
}

bool larder_loader::best_refinement(double budget_ns, uint32_t& chunk, Choice& out) const noexcept {
    double best = 0;
    for (uint32_t i = 0; i < chunks_.size(); ++i) {
        Choice list[max_choices];
        const uint32_t n = choices(chunks_[i], careful(), list);
        for (uint32_t k = 0; k < n; ++k) {
            const double rate = (list[k].value - value_of(chunks_[i])) / std::max(list[k].ns, 1e-3);
            if (list[k].ns > budget_ns || rate <= best) continue;
            best = rate, chunk = i, out = list[k];
        }
    }
    return best > 0;
}

void larder_loader::give(uint32_t chunk, const Choice& choice, larder_loader_step& out) noexcept {
    const Chunk& c = chunks_[chunk];
    out = LARDER_LOADER_STEP_INIT;
    out.chunk = chunk;
    out.action = choice.recompute ? LARDER_LOADER_RECOMPUTE : LARDER_LOADER_FETCH;
    if (!choice.recompute) {
        out.first_level = c.have;
        out.n_levels = choice.levels - c.have;
        out.n_bytes = level_bytes(c, c.have, choice.levels);
    }
    out.expected_ns = uint64_t(choice.recompute ? choice.ns : fetch_ns(c, choice.levels, ns_per_byte_));
    busy_ = true;
    step_chunk_ = chunk;
    step_ = choice;
    step_bytes_ = out.n_bytes;
    step_began_ = now_;
}

larder_status larder_loader::next(uint64_t now_ns, larder_loader_step& out) noexcept {
    if (busy_) return fail(LARDER_E_STATE, "loader", "the step before has not been reported");
    if (now_ns < now_) return fail(LARDER_E_INVALID, "now_ns", "time runs backwards");
    now_ = now_ns;
    const double budget = now_ < deadline_ ? double(deadline_ - now_) : 0;
    if (first_open_ < chunks_.size()) {
        plan_open(budget);
        give(first_open_, guarded(chunks_[first_open_], budget), out);
        return LARDER_OK;
    }
    uint32_t chunk = 0;
    Choice choice;
    if (!best_refinement(budget, chunk, choice)) return LARDER_MISS;
    give(chunk, choice, out);
    return LARDER_OK;
}

larder_status larder_loader::report(uint64_t now_ns, bool succeeded) noexcept {
    if (!busy_) return fail(LARDER_E_STATE, "loader", "no step is under way");
    if (now_ns < now_) return fail(LARDER_E_INVALID, "now_ns", "time runs backwards");
    now_ = now_ns;
    busy_ = false;
    Chunk& c = chunks_[step_chunk_];
    if (!step_.recompute && succeeded) {
        // The newest measurement counts half: links change, and one read tells much about the next.
        const double elapsed = double(now_ - step_began_);
        const double sample = std::max(elapsed - double(request_ns_), 1.0) / double(step_bytes_);
        deviation_ += (std::fabs(sample - ns_per_byte_) - deviation_) / 2;
        ns_per_byte_ += (sample - ns_per_byte_) / 2;
        c.have = step_.levels;
        fetched_ += step_bytes_;
    } else if (step_.recompute && succeeded) {
        c.recomputed = true;
        // Nothing was measured meanwhile: what a slow moment taught fades, or nothing would ever be read again.
        ns_per_byte_ += (at_first_ - ns_per_byte_) / 2;
    } else if (step_.recompute) {
        c.recompute_ns = LARDER_LOADER_NEVER;
    }
    if (first_open_ == chunks_.size()) return LARDER_OK;
    while (first_open_ < chunks_.size() && (chunks_[first_open_].have || chunks_[first_open_].recomputed))
        ++first_open_;
    if (first_open_ == chunks_.size()) usable_ns_ = now_;
    return LARDER_OK;
}

void larder_loader::inspect(larder_loader_info& out) const noexcept {
    out = LARDER_LOADER_INFO_INIT;
    for (const Chunk& c : chunks_) {
        out.n_usable += c.have || c.recomputed;
        out.n_recomputed += c.recomputed;
        out.value += value_of(c);
    }
    out.usable_ns = usable_ns_;
    out.bytes_per_s = uint64_t(1e9 / ns_per_byte_);
    out.fetched_bytes = fetched_;
}
