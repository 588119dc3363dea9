// Carving scratch arrays out of one buffer. With a NULL start the same code computes the size.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder {

inline constexpr size_t scratch_align = 64;

template <class T> T* carve(std::byte*& at, size_t n) noexcept {
    // Room to read and write whole vectors past the end.
    std::byte* p = at;
    at = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(at) + n * sizeof(T) + 64 + scratch_align - 1) /
                                      scratch_align * scratch_align);
    return reinterpret_cast<T*>(p);
}

inline size_t carved(const std::byte* at) noexcept {
    return reinterpret_cast<uintptr_t>(at);
}

}  // namespace larder
