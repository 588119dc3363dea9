// Statistics counters, striped over cache lines; read by summing.
#pragma once

#include <array>

#include "base/atomic.h"
#include "larder/stats.h"

namespace larder {

enum class Stat : uint32_t {
#define LARDER_STATS_ENUM(name, kind, help) name,
    LARDER_STATS_MAP(LARDER_STATS_ENUM)
#undef LARDER_STATS_ENUM
    count
};

class Stats {
  public:
    static constexpr size_t n_stats = size_t(Stat::count);
    static constexpr size_t n_stripes = 8;

    void add(Stat s, uint64_t n = 1) noexcept { stripes_[stripe()].v[size_t(s)].fetch_add(n, relaxed); }
    void sub(Stat s, uint64_t n = 1) noexcept { add(s, uint64_t(0) - n); }
    uint64_t get(Stat s) const noexcept {
        uint64_t sum = 0;
        for (auto& line : stripes_) sum += line.v[size_t(s)].load(relaxed);
        return sum;
    }

  private:
    static size_t stripe() noexcept;
    struct alignas(64) Stripe {
        std::array<atomic<uint64_t>, n_stats> v{};
    };
    std::array<Stripe, n_stripes> stripes_;
};

} // namespace larder
