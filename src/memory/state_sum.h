// Sums of states: fp32 in the order given, rounded once to the element's type.
#pragma once

#include <cstddef>
#include <span>

#include "larder/layout.h"

namespace larder {

// 0 for a type that does not add.
size_t state_element_bytes(larder_dtype t) noexcept;
// n_bytes is a multiple of the element's size. dst may be among the sources only as the first summand it is.
void add_states(larder_dtype t, void* dst, std::span<const void* const> srcs, size_t n_bytes) noexcept;

}  // namespace larder
