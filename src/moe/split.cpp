#include "moe/split.h"

#include <algorithm>
#include <bit>

#include "base/options.h"

namespace larder {
namespace {

constexpr size_t max_experts = 4096, max_enumerated = 12;
constexpr uint64_t max_sum = uint64_t(1) << 62;

struct Sums {
    uint64_t in_place = 0, device = 0;
    uint64_t makespan() const noexcept { return std::max(in_place, device); }
};

// The experts that can go either way, and what the others have cost already.
class Split {
  public:
    Split(std::span<const uint64_t> in_place, std::span<const uint64_t> device, uint8_t* out) noexcept
        : in_place_(in_place), device_(device), out_(out) {}

    // What costs nothing at one place, or cannot be done at the other, goes where that says.
    void settle_obvious() noexcept {
        for (size_t i = 0; i < in_place_.size(); ++i) {
            out_[i] = in_place_[i] == 0;
            if (in_place_[i] == UINT64_MAX)
                base_.device += device_[i];
            else if (in_place_[i] && device_[i])
                open_[n_++] = uint16_t(i);
        }
    }

    // Among experts that cost the device the same, those computed in place are the cheapest there. With two classes at
    // most: where the sums cross, the more of the cheap class is in place the less of the dear one is, so one walk sees
    // every crossing.
    bool by_classes(Sums& best) noexcept {
        uint64_t dear = 0, cheap = UINT64_MAX;
        for (uint16_t i : open()) dear = std::max(dear, device_[i]), cheap = std::min(cheap, device_[i]);
        for (uint16_t i : open())
            if (device_[i] != dear && device_[i] != cheap) return false;
        std::sort(open_, open_ + n_, [this](uint16_t x, uint16_t y) {
            return device_[x] != device_[y] ? device_[x] < device_[y] : in_place_[x] < in_place_[y];
        });
        size_t n_cheap = 0;
        while (n_cheap < n_ && device_[open_[n_cheap]] == cheap) ++n_cheap;
        Sums s = all_on_device();
        size_t y = n_cheap, best_x = 0, best_y = n_cheap;  // y: one past the last dear one in place
        best = s;
        auto look = [&](size_t x) {
            if (s.makespan() < best.makespan()) best = s, best_x = x, best_y = y;
        };
        for (; y < n_ && s.in_place < s.device; look(0)) move(s, open_[y++], 1);
        for (size_t x = 0; x < n_cheap;) {
            move(s, open_[x++], 1);
            look(x);
            while (y > n_cheap && s.in_place >= s.device) move(s, open_[--y], -1), look(x);
            if (s.in_place >= s.device) break;
        }
        for (size_t i = 0; i < n_; ++i) out_[open_[i]] = i < best_x || (i >= n_cheap && i < best_y);
        return true;
    }

    // In the order of their ratio, experts that could be cut in pieces are best divided at one place: that is the
    // bound. What differs from it in the best division of whole ones is near that place, so the experts there are tried
    // in every division, each one expert away from the one before it (Gray code). Up to 12 experts, that is all of
    // them.
    void by_ratio(Sums& best, uint64_t& bound) noexcept {
        std::sort(open_, open_ + n_, [this](uint16_t x, uint16_t y) {
            return double(in_place_[x]) * double(device_[y]) < double(in_place_[y]) * double(device_[x]);
        });
        const size_t cut = cut_in_pieces(bound), n_tried = std::min(n_, max_enumerated);
        const size_t first = std::min(cut - std::min(cut, n_tried / 2), n_ - n_tried);
        Sums s = all_on_device();
        for (size_t i = 0; i < n_; ++i) out_[open_[i]] = i < first;
        for (size_t i = 0; i < first; ++i) move(s, open_[i], 1);
        uint32_t at = 0, best_at = 0;
        best = s;
        for (uint32_t i = 1; i < 1u << n_tried; ++i) {
            const uint32_t bit = uint32_t(std::countr_zero(i));
            at ^= 1u << bit;
            move(s, open_[first + bit], at >> bit & 1 ? 1 : -1);
            if (s.makespan() < best.makespan()) best = s, best_at = at;
        }
        for (size_t i = 0; i < n_tried; ++i) out_[open_[first + i]] = best_at >> i & 1;
        if (n_tried == n_) bound = best.makespan();
    }

  private:
    std::span<const uint16_t> open() const noexcept { return {open_, n_}; }
    Sums all_on_device() const noexcept {
        Sums s = base_;
        for (uint16_t i : open()) s.device += device_[i];
        return s;
    }
    void move(Sums& s, uint16_t i, int to_place) const noexcept {
        s.in_place += to_place > 0 ? in_place_[i] : 0 - in_place_[i];
        s.device += to_place > 0 ? 0 - device_[i] : device_[i];
    }
    // Gives the place in the order, and the makespan, rounded down by more than a double can be wrong.
    size_t cut_in_pieces(uint64_t& makespan) const noexcept {
        Sums s = all_on_device();
        size_t at = 0;
        for (; at < n_; ++at) {
            const Sums before = s;
            const uint16_t e = open_[at];
            move(s, e, 1);
            if (s.in_place < s.device) continue;
            const double part = double(before.device - before.in_place) / (double(in_place_[e]) + double(device_[e]));
            makespan = uint64_t((double(before.in_place) + part * double(in_place_[e])) * (1 - 1e-12));
            break;
        }
        if (at == n_) makespan = s.device;
        for (uint16_t e : open()) makespan = std::max(makespan, std::min(in_place_[e], device_[e]));
        return at;
    }

    std::span<const uint64_t> in_place_, device_;
    uint8_t* out_;
    size_t n_ = 0;
    Sums base_;
    uint16_t open_[max_experts];
};

}  // namespace

larder_status split_work(std::span<const uint64_t> in_place_ns, std::span<const uint64_t> device_ns,
                         uint8_t* out_in_place, larder_moe_split& out) noexcept {
    LARDER_TRY(check_range(in_place_ns.size(), 0, max_experts, "n"));
    Sums total;
    for (size_t i = 0; i < in_place_ns.size(); ++i) {
        total.in_place += in_place_ns[i] == UINT64_MAX ? 0 : std::min(in_place_ns[i], max_sum);
        total.device += std::min(device_ns[i], max_sum);
        if (total.makespan() >= max_sum)
            return fail(LARDER_E_RANGE, total.in_place >= max_sum ? "in_place_ns" : "device_ns",
                        "the times up to expert %zu add up to more than 2^62 ns", i);
    }
    Split split(in_place_ns, device_ns, out_in_place);
    split.settle_obvious();
    Sums best;
    uint64_t bound = UINT64_MAX;
    if (!split.by_classes(best)) split.by_ratio(best, bound);
    out.makespan_ns = best.makespan();
    out.in_place_ns = best.in_place;
    out.device_ns = best.device;
    out.bound_ns = std::min(bound, out.makespan_ns);
    out.exact = out.bound_ns == out.makespan_ns;
    return LARDER_OK;
}

}  // namespace larder
