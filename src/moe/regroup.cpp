#include "moe/regroup.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/options.h"
#include "moe/measure.h"

namespace larder {
namespace {

uint32_t count(const uint64_t* mask, uint32_t n_words) noexcept {
    uint32_t n = 0;
    for (uint32_t w = 0; w < n_words; ++w) n += uint32_t(std::popcount(mask[w]));
    return n;
}

uint64_t count_touched(const Allocator& a, const uint64_t* masks, uint32_t n_words, uint32_t n_items, uint32_t batch,
                       const uint32_t* order) {
    Vec<uint64_t> touched(n_words, 0, a);
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_items; ++i) {
        const uint64_t* mask = masks + uint64_t(order[i]) * n_words;
        for (uint32_t w = 0; w < n_words; ++w) touched[w] |= mask[w];
        if ((i + 1) % batch && i + 1 < n_items) continue;
        n += count(touched.data(), n_words);
        std::fill(touched.begin(), touched.end(), 0);
    }
    return n;
}

// One batch after the other, each filled greedily.
class Grouping {
  public:
    Grouping(const Allocator& a, const uint64_t* masks, uint32_t n_words, uint32_t n_items)
        : masks_(masks), n_words_(n_words), waiting_(n_items, 0, a), n_all_(n_items, 0, a), n_new_(n_items, 0, a),
          touched_(n_words, 0, a), grown_(a) {
        std::iota(waiting_.begin(), waiting_.end(), 0);
        for (uint32_t i = 0; i < n_items; ++i) n_all_[i] = count(masks + uint64_t(i) * n_words, n_words);
        grown_.reserve(n_words);
    }

    void fill(uint32_t n, uint32_t* out) noexcept {
        std::fill(touched_.begin(), touched_.end(), 0);
        for (uint32_t i : waiting_) n_new_[i] = n_all_[i];
        for (uint32_t at = 0; at < n; ++at) {
            const auto next = at ? fewest_new() : waiting_.begin();
            const uint32_t item = out[at] = *next;
            waiting_.erase(next);
            touch(masks_ + uint64_t(item) * n_words_);
        }
    }

  private:
    // Of those that add as few, the one that needs most: it would be the hardest to place later. Then the one that has
    // waited longest.
    Vec<uint32_t>::iterator fewest_new() noexcept {
        auto best = waiting_.begin();
        for (auto i = best; i != waiting_.end(); ++i)
            if (n_new_[*i] < n_new_[*best] || (n_new_[*i] == n_new_[*best] && n_all_[*i] > n_all_[*best])) best = i;
        return best;
    }
    // Only the words that grew can change what an item adds.
    void touch(const uint64_t* mask) noexcept {
        grown_.clear();
        for (uint32_t w = 0; w < n_words_; ++w)
            if (const uint64_t bits = mask[w] & ~touched_[w]) touched_[w] |= bits, grown_.push_back({w, bits});
        if (grown_.empty()) return;
        for (uint32_t i : waiting_)
            for (const Grown& g : grown_)
                n_new_[i] -= uint32_t(std::popcount(masks_[uint64_t(i) * n_words_ + g.word] & g.bits));
    }

    struct Grown {
        uint32_t word;
        uint64_t bits;
    };
    const uint64_t* masks_;
    uint32_t n_words_;
    Vec<uint32_t> waiting_;        // in order of arrival
    Vec<uint32_t> n_all_, n_new_;  // [item] experts, and those that the batch at hand has not
    Vec<uint64_t> touched_;        // by the batch at hand
    Vec<Grown> grown_;
};

}  // namespace

void regroup(const Allocator& a, const uint64_t* masks, uint32_t n_words, uint32_t n_items, uint32_t batch,
             uint32_t* out_order, larder_moe_regrouping& out) {
    Vec<uint32_t> arrival(n_items, 0, a);
    std::iota(arrival.begin(), arrival.end(), 0);
    out.n_arrival = count_touched(a, masks, n_words, n_items, batch, arrival.data());
    Grouping grouping(a, masks, n_words, n_items);
    out.n_batches = 0;
    for (uint32_t at = 0; at < n_items; at += std::min(batch, n_items - at), ++out.n_batches)
        grouping.fill(std::min(batch, n_items - at), out_order + at);
    out.n_touched = count_touched(a, masks, n_words, n_items, batch, out_order);
    if (out.n_touched <= out.n_arrival) return;
    std::copy(arrival.begin(), arrival.end(), out_order);
    out.n_touched = out.n_arrival;
}

larder_status regroup_masks(RoutingReader& routing, uint64_t item_tokens, uint32_t n_words, uint64_t* out_masks) {
    const larder_moe_routing& r = routing.shape();
    LARDER_TRY(check_range(item_tokens, 1, r.n_tokens, "item_tokens"));
    const uint64_t n_bits = uint64_t(r.n_layers) * r.n_experts;
    if (n_words != (n_bits + 63) / 64)
        return fail(LARDER_E_INVALID, "n_words", "n_words is %u; %llu bits take %llu", n_words,
                    (unsigned long long)n_bits, (unsigned long long)((n_bits + 63) / 64));
    std::fill(out_masks, out_masks + (r.n_tokens + item_tokens - 1) / item_tokens * n_words, 0);
    for (uint32_t layer = 0; layer < r.n_layers; ++layer) {
        LARDER_TRY(routing.read(layer));
        for (uint64_t i = 0; i < routing.ids().size(); ++i) {
            const uint64_t bit = uint64_t(layer) * r.n_experts + routing.ids()[i];
            out_masks[i / r.k / item_tokens * n_words + bit / 64] |= uint64_t(1) << bit % 64;
        }
    }
    return LARDER_OK;
}

}  // namespace larder
