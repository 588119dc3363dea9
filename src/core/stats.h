// Statistics counters, striped over cache lines; read by summing.
#pragma once

#include <array>
#include <mutex>

#include "base/atomic.h"
#include "larder/stats.h"

namespace larder {

enum class Stat : uint32_t {
#define LARDER_STATS_ENUM(name, kind, help) name,
    LARDER_STATS_MAP(LARDER_STATS_ENUM)
#undef LARDER_STATS_ENUM
        count
};

using StatSums = std::array<uint64_t, size_t(Stat::count)>;

// Something that counts by itself, because its hot path cannot afford a shared counter, and is asked when statistics
// are read.
class StatSource {
  public:
    // Add to the sums. Called from any thread.
    virtual void collect(StatSums& sums) const noexcept = 0;

  protected:
    ~StatSource() = default;

  private:
    friend class Stats;
    StatSource* next_ = nullptr;
};

class Stats {
  public:
    static constexpr size_t n_stats = size_t(Stat::count);
    static constexpr size_t n_stripes = 8;

    void attach(StatSource& source) noexcept {
        std::lock_guard lock(sources_mutex_);
        source.next_ = sources_;
        sources_ = &source;
    }
    // What the source has counted is no longer seen: it adds its counters to these statistics itself.
    void detach(StatSource& source) noexcept {
        std::lock_guard lock(sources_mutex_);
        for (StatSource** at = &sources_; *at; at = &(*at)->next_) {
            if (*at != &source) continue;
            *at = source.next_;
            return;
        }
    }

    void add(Stat s, uint64_t n = 1) noexcept { stripes_[stripe()].v[size_t(s)].fetch_add(n, relaxed); }
    void sub(Stat s, uint64_t n = 1) noexcept { add(s, uint64_t(0) - n); }
    StatSums sums() const noexcept {
        StatSums out{};
        for (auto& line : stripes_)
            for (size_t i = 0; i < n_stats; ++i) out[i] += line.v[i].load(relaxed);
        std::lock_guard lock(sources_mutex_);
        for (const StatSource* s = sources_; s; s = s->next_) s->collect(out);
        return out;
    }
    uint64_t get(Stat s) const noexcept { return sums()[size_t(s)]; }

  private:
    static size_t stripe() noexcept;
    struct alignas(64) Stripe {
        std::array<atomic<uint64_t>, n_stats> v{};
    };
    std::array<Stripe, n_stripes> stripes_;
    mutable std::mutex sources_mutex_;
    StatSource* sources_ = nullptr;
};

}  // namespace larder
