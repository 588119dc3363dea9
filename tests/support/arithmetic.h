// A plain arithmetic coder, the oracle of the entropy stage: one symbol after the other, one bit after the other, by
// the interval of Witten, Neal and Cleary (Communications of the ACM 30:6, 1987). 32-bit interval, cumulative
// frequencies of 16 bits: cdf[0 .. n], from 0 to 65536.
#pragma once

#include <cstdint>
#include <vector>

namespace arithmetic {

inline constexpr uint64_t half = uint64_t(1) << 31, quarter = half / 2;

struct Interval {
    uint64_t low = 0, size = 2 * half;  // within 32 bits

    void narrow(uint32_t from, uint32_t to) {
        const uint64_t a = size * from >> 16, b = size * to >> 16;
        low += a;
        size = b - a;
    }
};

class Encoder {
  public:
    void put(const uint32_t* cdf, uint32_t symbol) {
        at_.narrow(cdf[symbol], cdf[symbol + 1]);
        for (;;) {
            if (at_.low + at_.size <= half) {
                settle(false);
            } else if (at_.low >= half) {
                settle(true);
                at_.low -= half;
            } else if (at_.low >= quarter && at_.low + at_.size <= 3 * quarter) {
                ++undecided_;  // the next bit decides these, each the other way
                at_.low -= quarter;
            } else {
                return;
            }
            at_.low *= 2, at_.size *= 2;
        }
    }
    // The bits, first to last.
    std::vector<bool> finish() {
        ++undecided_;
        settle(at_.low >= quarter);
        return std::move(bits_);
    }

  private:
    void settle(bool bit) {
        bits_.push_back(bit);
        for (; undecided_; --undecided_) bits_.push_back(!bit);
    }
    Interval at_;
    uint64_t undecided_ = 0;
    std::vector<bool> bits_;
};

class Decoder {
  public:
    explicit Decoder(const std::vector<bool>& bits) : bits_(bits) {
        for (int i = 0; i < 32; ++i) value_ = 2 * value_ + next();
    }
    uint32_t get(const uint32_t* cdf) {
        uint32_t symbol = 0;
        while (at_.low + (at_.size * cdf[symbol + 1] >> 16) <= value_) ++symbol;
        at_.narrow(cdf[symbol], cdf[symbol + 1]);
        for (;;) {
            uint64_t less = 0;
            if (at_.low >= half)
                less = half;
            else if (at_.low >= quarter && at_.low + at_.size <= 3 * quarter)
                less = quarter;
            else if (at_.low + at_.size > half)
                return symbol;
            at_.low = 2 * (at_.low - less), at_.size *= 2;
            value_ = 2 * (value_ - less) + next();
        }
    }

  private:
    uint64_t next() { return at_bit_ < bits_.size() && bits_[at_bit_++]; }
    const std::vector<bool>& bits_;
    size_t at_bit_ = 0;
    Interval at_;
    uint64_t value_ = 0;
};

}  // namespace arithmetic
