// The cache behind larder/translation.h: sets of 4 lines, tags apart from values so that a look-up reads two cache
// lines.
#pragma once

#include "core/context.h"
#include "larder/translation.h"

struct larder_translation final : larder::Handle {
    larder_translation(larder_context& c, const larder_translation_options& o);
    ~larder_translation();
    static larder_status create(larder_context& c, const larder_translation_options* options, larder_translation** out);

    larder_status lookup(const uint64_t* keys, uint64_t n, int64_t* out) noexcept;
    void drop(uint64_t first, uint64_t n) noexcept;
    void query(larder_translation_state& out) const noexcept;

  private:
    static constexpr uint32_t n_ways = 4, n_wide = 8;
    static constexpr uint64_t no_tag = UINT64_MAX;
    static constexpr uint8_t far = 3;  // re-referenced in the distant future: the next to go
    struct alignas(64) Line {
        int64_t values[n_wide];
    };
    struct Set {
        uint64_t tags[n_ways] = {no_tag, no_tag, no_tag, no_tag};
        uint8_t distance[n_ways] = {far, far, far, far};
    };
    uint32_t set_of(uint64_t cluster) const noexcept;
    const int64_t* walk(uint64_t cluster, uint32_t set) noexcept;
    uint32_t victim(Set& s) noexcept;

    const larder_translation_options o_;
    larder::Vec<Set> sets_;
    larder::Vec<Line> lines_;  // [set][way]
    Line scratch_;             // of a walk that is not kept
    uint64_t n_hits_ = 0, n_walks_ = 0, n_kept_ = 0;
};
