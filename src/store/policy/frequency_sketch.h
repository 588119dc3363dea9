// How often an id was seen of late, about: a count-min sketch of 4-bit counters that are halved now and then.
#pragma once

#include <algorithm>

#include "base/alloc.h"
#include "base/hash.h"

namespace larder {

class FrequencySketch {
  public:
    explicit FrequencySketch(const Allocator& a) : counters_(16, 0, a) {}

    // For n ids. What was counted is forgotten when it grows.
    void reserve(size_t n) {
        size_t size = counters_.size();
        while (size < 2 * n) size *= 2;
        if (size > counters_.size()) counters_ = Vec<uint8_t>(size, 0, counters_.get_allocator().a), n_counted_ = 0;
    }
    // n_held sets how far back "of late" reaches: ten times as many references.
    void count(uint64_t id, size_t n_held) noexcept {
        const uint32_t least = estimate(id);
        if (least < most)
            for (uint32_t row = 0; row < n_rows; ++row)
                if (uint8_t& c = counters_[place(id, row)]; c == least) ++c;
        if (++n_counted_ < 10 * std::max<size_t>(n_held, 16)) return;
        for (uint8_t& c : counters_) c /= 2;
        n_counted_ /= 2;
    }
    uint32_t estimate(uint64_t id) const noexcept {
        uint32_t least = most;
        for (uint32_t row = 0; row < n_rows; ++row) least = std::min<uint32_t>(least, counters_[place(id, row)]);
        return least;
    }

  private:
    static constexpr uint32_t n_rows = 4, most = 15;
    size_t place(uint64_t id, uint32_t row) const noexcept {
        return mix64(id + row * 0x9e3779b97f4a7c15u) & (counters_.size() - 1);
    }
    Vec<uint8_t> counters_;
    size_t n_counted_ = 0;
};

}  // namespace larder
