// Byte planes through zstd: for data whose elements are not floating point, and as a yardstick.
#pragma once

#include "base/bytes.h"
#include "larder/status.h"

namespace larder {

// n elements of elem_bytes to at most `room` bytes; planes is scratch of the same size as the elements. 0 when they do
// not fit.
size_t zstd_encode(const std::byte* elems, uint32_t elem_bytes, size_t n, std::byte* planes, std::byte* out,
                   size_t room) noexcept;
larder_status zstd_decode(ByteSpan packed, uint32_t elem_bytes, size_t n, std::byte* planes, std::byte* elems) noexcept;

}  // namespace larder
