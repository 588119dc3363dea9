// CRC32C by instruction: for base/crc32c.cpp alone. All take and give the inverted register, as the instruction does.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
namespace larder::crc32c_x86 {

// SSE4.2 and PCLMULQDQ: three streams at once, as the instruction takes three cycles and one can start in each.
uint32_t update_streams(uint32_t state, const unsigned char* p, size_t n) noexcept;

// AVX-512 and VPCLMULQDQ: 256 bytes folded at once.
inline constexpr size_t fold_bytes = 256;
uint32_t update_fold(uint32_t state, const unsigned char* p, size_t n) noexcept;
// The same, and copies. `bypass`: dst is aligned to 64 bytes and written past the cache.
uint32_t copy_fold(uint32_t state, unsigned char* dst, const unsigned char* src, size_t n, bool bypass) noexcept;

// Copy past the cache; dst is aligned to 16 bytes.
void copy_bypass(unsigned char* dst, const unsigned char* src, size_t n) noexcept;

}  // namespace larder::crc32c_x86
#endif
