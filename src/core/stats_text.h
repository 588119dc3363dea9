// The snapshot struct and the text forms of the statistics, from the one list.
#pragma once

#include "base/alloc.h"
#include "base/result.h"
#include "core/stats.h"

namespace larder {

larder_stats stats_snapshot(const Stats& stats) noexcept;
Result<String> stats_text(const Allocator& a, const Stats& stats, larder_stats_format format);

}  // namespace larder
