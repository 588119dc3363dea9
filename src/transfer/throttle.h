// A budget of bytes over time: what one path may move, or a disk may take, and how much of it may come at once.
#pragma once

#include <algorithm>
#include <cstdint>

namespace larder {

// A bucket that fills at `rate` bytes per `period_ns` up to `burst`. Who finds anything in it may take all he needs and
// leaves a debt; so no size is too large, and over any time no more than rate * time + burst + one item is taken.
// Not synchronised.
class Throttle {
    using Wide = unsigned __int128;

  public:
    Throttle() noexcept = default;  // no limit
    Throttle(uint64_t rate, uint64_t period_ns, uint64_t burst, uint64_t now_ns) noexcept
        : rate_(rate), period_ns_(period_ns), burst_(int64_t(std::max<uint64_t>(burst, 1))), left_(burst_),
          filled_ns_(now_ns) {}

    bool limited() const noexcept { return rate_ != 0; }
    // Bytes that may be taken at once; negative: a debt.
    int64_t left(uint64_t now_ns) noexcept {
        fill(now_ns);
        return limited() ? left_ : INT64_MAX;
    }
    bool open(uint64_t now_ns) noexcept { return left(now_ns) > 0; }
    void take(uint64_t n_bytes) noexcept {
        if (limited()) left_ -= int64_t(n_bytes);
    }
    // Until something may be taken again; 0: now.
    uint64_t wait_ns(uint64_t now_ns) noexcept {
        const int64_t have = left(now_ns);
        if (have > 0) return 0;
        const Wide whole = (Wide(uint64_t(1 - have)) * period_ns_ + rate_ - 1) / rate_;
        const uint64_t gone = now_ns > filled_ns_ ? now_ns - filled_ns_ : 0;  // and not given out yet
        return whole > gone ? uint64_t(whole) - gone : 1;
    }

  private:
    void fill(uint64_t now_ns) noexcept {
        if (!limited() || now_ns <= filled_ns_) return;
        const uint64_t most = uint64_t(burst_ - left_);  // until it is full
        const Wide due = Wide(now_ns - filled_ns_) * rate_ / period_ns_;
        if (due >= most) {
            left_ = burst_;
            filled_ns_ = now_ns;
            return;
        }
        // Time moves on by what was given out, so that fractions are not lost however often this is called.
        left_ += int64_t(due);
        filled_ns_ += uint64_t((due * period_ns_ + rate_ - 1) / rate_);
    }

    uint64_t rate_ = 0, period_ns_ = 1;
    int64_t burst_ = 0, left_ = 0;
    uint64_t filled_ns_ = 0;
};

}  // namespace larder
