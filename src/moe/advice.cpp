#include "moe/advice.h"

#include <cmath>
#include <span>

#include "base/options.h"

namespace larder {
namespace {

constexpr uint64_t max_choices = uint64_t(1) << 32;

// The index of the point farthest above the line from the first to the last; the last when none is above.
uint64_t farthest_above_line(std::span<const uint64_t> y) noexcept {
    const double n = double(y.size() - 1), rise = double(y.back()) - double(y.front());
    uint64_t at = y.size() - 1;
    double farthest = 0;
    for (uint64_t i = 0; i < y.size(); ++i) {
        const double above = (double(y[i]) - double(y.front())) * n - rise * double(i);
        if (above > farthest) farthest = above, at = i;
    }
    return at;
}

// The most hits for every total of slots beyond k for each layer, and who gets them.
class Allotment {
  public:
    Allotment(const Allocator& a, uint32_t n_layers, uint32_t max_extra, uint64_t total_extra)
        : max_extra_(max_extra), n_(total_extra + 1), best_(n_, 0, a), next_(n_, 0, a), choice_(n_ * n_layers, 0, a) {}

    // hits[x]: of this layer with x slots beyond k.
    void add_layer(uint32_t layer, const uint64_t* hits) noexcept {
        for (uint64_t total = 0; total < n_; ++total) {
            uint64_t most = 0, choice = 0;
            for (uint64_t x = 0; x <= std::min<uint64_t>(total, max_extra_); ++x)
                if (const uint64_t h = best_[total - x] + hits[x]; h > most) most = h, choice = x;
            next_[total] = most;
            choice_[layer * n_ + total] = uint16_t(choice);
        }
        best_.swap(next_);
    }
    std::span<const uint64_t> best() const noexcept { return best_; }
    void extra_slots(uint64_t total, std::span<uint32_t> out) const noexcept {
        for (size_t layer = out.size(); layer-- > 0;) total -= out[layer] = choice_[layer * n_ + total];
    }

  private:
    uint32_t max_extra_;
    uint64_t n_;
    Vec<uint64_t> best_, next_;
    Vec<uint16_t> choice_;  // [layer][total]
};

larder_status check(larder_moe_advice_options& o, const uint64_t* hits) {
    LARDER_TRY(check_range(o.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(o.n_experts, 1, 65536, "n_experts"));
    LARDER_TRY(check_range(o.k, 1, std::min<uint32_t>(256, o.n_experts), "k"));
    LARDER_TRY(check_range(o.n_tokens, 1, uint64_t(1) << 26, "n_tokens"));
    const uint64_t all = uint64_t(o.n_layers) * o.n_experts;
    if (!o.total_slots) LARDER_TRY(check_range(all * o.n_layers, 1, max_choices, "n_layers * n_layers * n_experts"));
    if (o.total_slots) {
        LARDER_TRY(check_range(o.total_slots, uint64_t(o.n_layers) * o.k, all, "total_slots"));
        LARDER_TRY(check_range(o.total_slots * o.n_layers, 1, max_choices, "n_layers * total_slots"));
    }
    if (!o.load_ns != !o.step_ns)
        return fail(LARDER_E_INVALID, "step_ns", "load_ns and step_ns are given together or not at all");
    if (o.max_slowdown == 0) o.max_slowdown = 2;
    if (o.min_lift == 0) o.min_lift = 0.1;
    if (!(o.max_slowdown >= 1) || !(o.min_lift > 0 && o.min_lift <= 1))
        return fail(LARDER_E_RANGE, o.max_slowdown >= 1 ? "min_lift" : "max_slowdown",
                    "max_slowdown is at least 1, min_lift above 0 and at most 1");
    for (uint32_t layer = 0; layer < o.n_layers; ++layer) {
        const uint64_t* h = hits + uint64_t(layer) * (o.n_experts + 1);
        for (uint32_t c = 1; c <= o.n_experts; ++c)
            if (h[c] < h[c - 1])
                return fail(LARDER_E_INVALID, "hits", "layer %u: %u slots hit less often than %u", layer, c, c - 1);
        LARDER_TRY(check_range(h[o.n_experts], 0, o.n_tokens * o.k, "hits"));
    }
    return LARDER_OK;
}

double slowdown(const larder_moe_advice_options& o, uint64_t n_hits) noexcept {
    if (!o.load_ns) return 0;
    const double n_steps = double(o.n_tokens) * o.n_layers, n_misses = n_steps * o.k - double(n_hits);
    return 1 + n_misses * double(o.load_ns) / (n_steps * double(o.step_ns));
}

uint64_t choose_extra(const larder_moe_advice_options& o, std::span<const uint64_t> best) noexcept {
    if (o.total_slots) return best.size() - 1;
    if (!o.load_ns) return farthest_above_line(best);
    for (uint64_t extra = 0; extra < best.size(); ++extra)
        if (slowdown(o, best[extra]) <= o.max_slowdown) return extra;
    return best.size() - 1;
}

}  // namespace

uint32_t knee(const uint64_t* hits, uint32_t n_experts, uint32_t k) noexcept {
    return k + uint32_t(farthest_above_line({hits + k, n_experts - k + 1}));
}

larder_status advise(const larder_moe_advice_options& options, const Allocator& a, const uint64_t* hits,
                     uint32_t* out_slots, larder_moe_advice& out) {
    larder_moe_advice_options o = options;
    LARDER_TRY(check(o, hits));
    const uint64_t least = uint64_t(o.n_layers) * o.k, all = uint64_t(o.n_layers) * o.n_experts;
    Allotment allotment(a, o.n_layers, o.n_experts - o.k, (o.total_slots ? o.total_slots : all) - least);
    for (uint32_t layer = 0; layer < o.n_layers; ++layer)
        allotment.add_layer(layer, hits + uint64_t(layer) * (o.n_experts + 1) + o.k);
    const uint64_t extra = choose_extra(o, allotment.best()), n_hits = allotment.best()[extra];
    allotment.extra_slots(extra, {out_slots, o.n_layers});
    out.total_slots = 0;
    for (uint32_t layer = 0; layer < o.n_layers; ++layer) out.total_slots += out_slots[layer] += o.k;
    out.hit_ratio = double(n_hits) / (double(o.n_tokens) * o.n_layers * o.k);
    const double held = double(out.total_slots) / double(all);
    out.lift = held < 1 ? (out.hit_ratio - held) / (1 - held) : 0;
    out.slowdown = slowdown(o, n_hits);
    const bool pays = o.load_ns ? out.slowdown <= o.max_slowdown && held <= 0.9 : out.lift >= o.min_lift;
    out.verdict = pays ? LARDER_MOE_OFFLOAD : LARDER_MOE_KEEP_WHOLE;
    return LARDER_OK;
}

}  // namespace larder
