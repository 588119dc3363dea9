#include "memory/cell_map.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace larder {

CellMap::CellMap(const Allocator& a, uint32_t n_cells)
    : n_cells_(n_cells), n_free_(n_cells), words_((size_t(n_cells) + 63) / 64, ~uint64_t(0), a),
      some_((words_.size() + 63) / 64, 0, a), all_(some_.size(), 0, a) {
    if (n_cells % 64) words_.back() = (uint64_t(1) << n_cells % 64) - 1;
    for (uint32_t w = 0; w < words_.size(); ++w) note(w);
}

void CellMap::note(uint32_t word) noexcept {
    const uint64_t bit = uint64_t(1) << word % 64;
    uint64_t &some = some_[word / 64], &all = all_[word / 64];
    some = words_[word] ? some | bit : some & ~bit;
    all = words_[word] == ~uint64_t(0) ? all | bit : all & ~bit;
}

void CellMap::take(uint32_t cell) noexcept {
    LARDER_ASSERT(is_free(cell));
    words_[cell / 64] &= ~(uint64_t(1) << cell % 64);
    note(cell / 64);
    --n_free_;
}

void CellMap::give(uint32_t cell) noexcept {
    LARDER_ASSERT(!is_free(cell));
    words_[cell / 64] |= uint64_t(1) << cell % 64;
    note(cell / 64);
    ++n_free_;
    hint_ = std::min(hint_, cell / 4096);
}

void CellMap::take_any(std::span<int32_t> out) noexcept {
    LARDER_ASSERT(out.size() <= n_free_);
    size_t got = 0;
    n_free_ -= uint32_t(out.size());
    for (const bool whole : {false, true}) {
        for (uint32_t s = hint_; s < some_.size() && got < out.size(); ++s) {
            while (got < out.size()) {
                const uint64_t candidates = whole ? some_[s] : some_[s] & ~all_[s];
                if (!candidates) break;
                const uint32_t w = s * 64 + uint32_t(std::countr_zero(candidates));
                uint64_t& word = words_[w];
                for (; word && got < out.size(); word &= word - 1)
                    out[got++] = int32_t(w * 64 + uint32_t(std::countr_zero(word)));
                note(w);
            }
        }
    }
    while (hint_ < some_.size() && !some_[hint_]) ++hint_;
}

// Bit i of the result: cells i .. i+n-1 of the word are free.
uint32_t CellMap::find_in_word(uint64_t word, uint32_t n, uint32_t align) const noexcept {
    for (uint32_t have = 1; word && have < n;) {
        const uint32_t step = std::min(have, n - have);
        word &= word >> step;
        have += step;
    }
    uint64_t starts = 1;
    for (uint32_t a = align; a < 64; a *= 2) starts |= starts << a;
    if (align == 1) starts = ~uint64_t(0);
    word &= starts;
    return word ? uint32_t(std::countr_zero(word)) : none;
}

uint32_t CellMap::find(uint32_t n, uint32_t align) const noexcept {
    if (n > n_free_) return none;
    if (n <= 64)
        for (const bool whole : {false, true})
            for (uint32_t s = hint_; s < some_.size(); ++s)
                for (uint64_t c = whole ? all_[s] : some_[s] & ~all_[s]; c; c &= c - 1) {
                    const uint32_t w = s * 64 + uint32_t(std::countr_zero(c));
                    const uint32_t at = find_in_word(words_[w], n, align);
                    if (at != none) return w * 64 + at;
                }
    return align == 1 ? find_long(n) : none;
}

// First fit over word borders.
uint32_t CellMap::find_long(uint32_t n) const noexcept {
    uint32_t run = 0;  // free cells up to here
    for (uint32_t w = 0; w < words_.size(); ++w) {
        uint64_t word = words_[w];
        if (word == ~uint64_t(0)) {
            run += 64;
            if (run >= n) return w * 64 + 64 - run;
            continue;
        }
        for (uint32_t bit = 0; bit < 64;) {
            const uint32_t n_set = std::min(64 - bit, uint32_t(std::countr_one(word >> bit)));
            run += n_set;
            bit += n_set;
            if (run >= n) return w * 64 + bit - run;
            if (bit == 64) break;
            run = 0;
            const uint64_t rest = word >> bit;
            bit = rest ? bit + uint32_t(std::countr_zero(rest)) : 64;
        }
    }
    return none;
}

}  // namespace larder
