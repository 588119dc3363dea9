#include "memory/translation.h"

#include <algorithm>
#include <bit>

#include "base/hash.h"
#include "base/options.h"

using namespace larder;

larder_translation::larder_translation(larder_context& c, const larder_translation_options& o)
    : Handle(HandleType::translation, c), o_(o), sets_(o.n_lines / n_ways, Set{}, c.alloc),
      lines_(o.n_lines, Line{}, c.alloc) {}

larder_translation::~larder_translation() {
    if (o_.walk.drop) o_.walk.drop(o_.walk.ctx);
}

larder_status larder_translation::create(larder_context& c, const larder_translation_options* options,
                                         larder_translation** out) {
    larder_translation_options o;
    LARDER_TRY(read_options(options, o, "larder_translation_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (!o.n_lines) o.n_lines = 4096;
    if (!o.min_walk_cost) o.min_walk_cost = 1;
    LARDER_TRY(check_range(o.n_lines, n_ways, 1u << 24, "n_lines"));
    if (!std::has_single_bit(o.n_lines))
        return fail(LARDER_E_RANGE, "n_lines", "n_lines %u is no power of two", o.n_lines);
    if (!o.walk.fn) return fail(LARDER_E_INVALID, "walk", "walk.fn is NULL");
    *out = c.make_handle<larder_translation>(c, o);
    return LARDER_OK;
}

uint32_t larder_translation::set_of(uint64_t cluster) const noexcept {
    return uint32_t(mix64(cluster) & (sets_.size() - 1));
}

// The first line that is expected last; all come nearer until there is one.
uint32_t larder_translation::victim(Set& s) noexcept {
    for (;;) {
        for (uint32_t way = 0; way < n_ways; ++way)
            if (s.distance[way] == far) return way;
        for (uint8_t& d : s.distance) ++d;
    }
}

const int64_t* larder_translation::walk(uint64_t cluster, uint32_t set) noexcept {
    ++n_walks_;
    const uint32_t cost = o_.walk.fn(o_.walk.ctx, cluster * n_wide, scratch_.values);
    if (cost < o_.min_walk_cost) return scratch_.values;
    ++n_kept_;
    Set& s = sets_[set];
    const uint32_t way = victim(s);
    s.tags[way] = cluster;
    s.distance[way] = far - 1;  // one that is used once goes before one that was used again
    Line& line = lines_[set * n_ways + way];
    line = scratch_;
    return line.values;
}

larder_status larder_translation::lookup(const uint64_t* keys, uint64_t n, int64_t* out) noexcept {
    for (uint64_t i = 0; i < n; ++i) {
        if (keys[i] >> 63)
            return fail(LARDER_E_RANGE, "keys", "key %llu is not below 2^63", (unsigned long long)keys[i]);
        const uint64_t cluster = keys[i] / n_wide;
        const uint32_t set = set_of(cluster);
        Set& s = sets_[set];
        const int64_t* values = nullptr;
        for (uint32_t way = 0; way < n_ways; ++way)
            if (s.tags[way] == cluster) {
                s.distance[way] = 0;
                values = lines_[set * n_ways + way].values;
                ++n_hits_;
            }
        if (!values) values = walk(cluster, set);
        out[i] = values[keys[i] % n_wide];
    }
    return LARDER_OK;
}

void larder_translation::drop(uint64_t first, uint64_t n) noexcept {
    if (!n) return;
    const uint64_t last = first + std::min(n - 1, UINT64_MAX - first);
    if ((last / n_wide) - first / n_wide >= lines_.size()) {
        std::fill(sets_.begin(), sets_.end(), Set{});
        return;
    }
    for (uint64_t cluster = first / n_wide; cluster <= last / n_wide; ++cluster) {
        Set& s = sets_[set_of(cluster)];
        for (uint32_t way = 0; way < n_ways; ++way)
            if (s.tags[way] == cluster) s.tags[way] = no_tag, s.distance[way] = far;
    }
}

void larder_translation::query(larder_translation_state& out) const noexcept {
    out = LARDER_TRANSLATION_STATE_INIT;
    out.n_lines = uint32_t(lines_.size());
    out.n_hits = n_hits_;
    out.n_walks = n_walks_;
    out.n_kept = n_kept_;
}
