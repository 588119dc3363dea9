// CRC32C (Castagnoli, reflected, init and final xor of all ones): the checksum of every stored extent.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder {

// Continue `crc` (0 to begin) over n bytes. The same on every machine.
uint32_t crc32c(uint32_t crc, const void* data, size_t n) noexcept;
// Copy and checksum in one pass; large copies bypass the cache on the way out. dst and src do not overlap.
uint32_t crc32c_copy(uint32_t crc, void* dst, const void* src, size_t n) noexcept;
// The CRC of A followed by B from those of A and B and the length of B.
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t n_bytes_b) noexcept;
// Table-driven reference, for tests and other processors.
uint32_t crc32c_portable(uint32_t crc, const void* data, size_t n) noexcept;
bool crc32c_is_hardware() noexcept;

}  // namespace larder
