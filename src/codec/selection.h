// Parts of a stream: layers and tokens that a caller asks for.
#pragma once

#include <algorithm>

#include "base/result.h"

namespace larder {

// n 0 means all from first on. E_RANGE when it is not within the stream's.
inline larder_status check_part(uint32_t have, uint32_t first, uint32_t& n, const char* what) noexcept {
    if (!n && first < have) n = have - first;
    return n && uint64_t(first) + n <= have
               ? LARDER_OK
               : fail(LARDER_E_RANGE, what, "%s: %u..+%u are not within the stream's %u", what, first, n, have);
}

// The tokens from .. from + n - 1 of a generation that a selection asks for.
struct Overlap {
    uint32_t from = 0, n = 0;
};
inline Overlap overlap(uint32_t generation_first, uint32_t generation_n, uint32_t first, uint32_t n) noexcept {
    const uint32_t from = std::max(generation_first, first), to = std::min(generation_first + generation_n, first + n);
    return from < to ? Overlap{from - generation_first, to - from} : Overlap{};
}

}  // namespace larder
