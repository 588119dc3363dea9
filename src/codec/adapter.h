// Adapter containers: header, directory, matrices. docs/formats/adapter.md gives every byte.
#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "larder/adapter.h"

namespace larder {

inline constexpr uint32_t adapter_magic = 0x3144414c;  // "LAD1"
inline constexpr size_t adapter_header_bytes = 128, adapter_entry_bytes = 32;

struct AdapterHeader {
    larder_adapter_kind kind;
    uint32_t bits, n_modules, n_matrices, has_base, names_bytes;
    uint64_t total_bytes, matrices_offset;
    larder_key identity;
    float levels[16];  // coded: what a code stands for, in deviations from the mean
    ByteSpan bytes;
};
// Total; checks everything before the matrices.
larder_status read_adapter(ByteSpan bytes, AdapterHeader& out) noexcept;
larder_status adapter_entry(const AdapterHeader& h, uint32_t index, larder_adapter_entry& out) noexcept;

larder_status adapter_encode(const larder_adapter_options* options, const larder_adapter_matrix* matrices,
                             uint32_t n_matrices, MutByteSpan out, uint64_t& n_bytes) noexcept;
larder_status adapter_decode(ByteSpan bytes, uint32_t index, const larder_key* identity, const uint32_t* modules,
                             uint32_t n_modules, float* out, uint64_t n_weights) noexcept;

// adapter_coded.cpp: 1, 2 or 4 bits per weight.
// 2^bits medians of the cells that lie around them, ascending: the fixed point of published code, to a double's
// precision.
void median_levels(uint32_t bits, float* out) noexcept;
constexpr uint64_t coded_matrix_bytes(uint64_t n, uint32_t bits) noexcept {
    return (n * bits + 7) / 8 + 8;
}
void code_matrix(const float* values, uint64_t n, uint32_t bits, const float* levels, std::byte* out) noexcept;
larder_status decode_matrix(ByteSpan in, uint64_t n, uint32_t bits, const float* levels, float* out) noexcept;

// adapter_modules.cpp: a map of owners and the values of each module.
// Bits of one owner: the modules, and nobody when some weights have no owner.
uint32_t owner_bits(uint32_t n_modules, bool has_gaps) noexcept;
uint64_t module_matrix_bytes(const larder_adapter_matrix& m, uint32_t n_modules) noexcept;
larder_status check_disjoint(const larder_adapter_matrix& m, uint32_t n_modules) noexcept;
void write_modules(const larder_adapter_matrix& m, uint32_t n_modules, std::byte* out) noexcept;
// chosen: one bit per module.
larder_status merge_modules(ByteSpan in, uint64_t n, const AdapterHeader& h, const uint64_t chosen[4],
                            float* out) noexcept;

}  // namespace larder
