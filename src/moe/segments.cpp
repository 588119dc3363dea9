#include <algorithm>

#include "base/options.h"
#include "moe/measure.h"

namespace larder {
namespace {

// For how many (expert, start of a segment) the segment has c activations of the expert. A count changes only where an
// activation enters or leaves, so it is booked for the stretch of starts that it held.
class SegmentCounts {
  public:
    SegmentCounts(const Allocator& a, uint32_t n_experts, uint32_t segment_tokens)
        : m_(segment_tokens), n_starts_(size_t(segment_tokens) + 1, 0, a), count_(n_experts, 0, a),
          since_(n_experts, 0, a) {}

    // One text, [n_tokens][k].
    void add(const uint16_t* ids, uint64_t n_tokens, uint32_t k) {
        if (n_tokens < m_) return;
        std::fill(count_.begin(), count_.end(), 0);
        std::fill(since_.begin(), since_.end(), 0);
        for (uint64_t i = 0; i < uint64_t(m_) * k; ++i) ++count_[ids[i]];
        const uint64_t n_starts = n_tokens - m_ + 1;
        for (uint64_t start = 1; start < n_starts; ++start) {
            const uint16_t *leaves = ids + (start - 1) * k, *enters = leaves + uint64_t(m_) * k;
            for (uint32_t j = 0; j < k; ++j) change(leaves[j], start, -1);
            for (uint32_t j = 0; j < k; ++j) change(enters[j], start, 1);
        }
        for (size_t e = 0; e < count_.size(); ++e) n_starts_[count_[e]] += n_starts - since_[e];
        n_segments_ += n_starts;
    }

    // F1 of "active: at least a activations" is 2 true positives / (predicted + actual), all in activations.
    void best(larder_moe_segments& out) const {
        double hits = 0, n_pairs = 0, active = 0;
        for (uint32_t c = 0; c <= m_; ++c) active += double(c) * double(n_starts_[c]);
        for (uint32_t a = m_;; --a) {
            hits += double(a) * double(n_starts_[a]);
            n_pairs += double(n_starts_[a]);
            const double held = double(m_) * n_pairs, f1 = 2 * hits / (held + active);
            if (f1 > out.srp) out.srp = f1, out.threshold = a, out.size_ratio = held / active;
            if (!a) break;
        }
        out.n_segments = n_segments_;
    }

  private:
    void change(uint16_t e, uint64_t start, int by) noexcept {
        n_starts_[count_[e]] += start - since_[e];
        since_[e] = start;
        count_[e] += uint32_t(by);
    }

    uint32_t m_;
    uint64_t n_segments_ = 0;
    Vec<uint64_t> n_starts_;  // [count]
    Vec<uint32_t> count_;     // [expert] in the segment at hand
    Vec<uint64_t> since_;     // [expert] the start from which it has been so
};

}  // namespace

larder_status measure_segments(RoutingReader& routing, const Allocator& a, uint32_t first_layer, uint32_t n_layers,
                               uint32_t segment_tokens, larder_moe_segments& out) {
    const larder_moe_routing& r = routing.shape();
    LARDER_TRY(check_range(first_layer, 0, r.n_layers - 1, "first_layer"));
    LARDER_TRY(check_range(n_layers, 1, r.n_layers - first_layer, "n_layers"));
    LARDER_TRY(check_range(segment_tokens, 1, r.sequence_tokens, "segment_tokens"));
    SegmentCounts counts(a, r.n_experts, segment_tokens);
    for (uint32_t layer = first_layer; layer < first_layer + n_layers; ++layer) {
        LARDER_TRY(routing.read(layer));
        for (uint64_t t = 0; t < r.n_tokens; t += r.sequence_tokens)
            counts.add(routing.ids().data() + t * r.k, std::min(r.sequence_tokens, r.n_tokens - t), r.k);
    }
    counts.best(out);
    return LARDER_OK;
}

}  // namespace larder
