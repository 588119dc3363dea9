// Which of n cells are free: a bitmap, and above it one bit per word for "some are free" and one for "all are free".
//
// Single cells come from words that are in use already, so that whole words stay for those who need adjacent cells.
#pragma once

#include <cstdint>
#include <span>

#include "base/alloc.h"

namespace larder {

class CellMap {
  public:
    static constexpr uint32_t none = UINT32_MAX;

    CellMap(const Allocator& a, uint32_t n_cells);  // all free

    uint32_t n_free() const noexcept { return n_free_; }
    bool is_free(uint32_t cell) const noexcept { return words_[cell / 64] >> cell % 64 & 1; }
    void take(uint32_t cell) noexcept;
    void give(uint32_t cell) noexcept;

    // Any out.size() cells; there must be as many.
    void take_any(std::span<int32_t> out) noexcept;
    // The first of n adjacent free cells that begins at a multiple of `align` (a power of two; n at most 64 unless
    // align is 1), or none.
    uint32_t find(uint32_t n, uint32_t align) const noexcept;

  private:
    uint32_t find_in_word(uint64_t word, uint32_t n, uint32_t align) const noexcept;
    uint32_t find_long(uint32_t n) const noexcept;
    void note(uint32_t word) noexcept;

    const uint32_t n_cells_;
    uint32_t n_free_;
    uint32_t hint_ = 0;         // no summary word before it has a bit of some_
    Vec<uint64_t> words_;       // 1: free
    Vec<uint64_t> some_, all_;  // by word
};

}  // namespace larder
