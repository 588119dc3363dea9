// Many small copies as few large ones: neighbours whose sources and destinations both follow each other become one run.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

struct CopyRun {
    uint64_t dst = 0, src = 0, n = 0;  // rows
};

// f(CopyRun) for each run of dst[i] <- src[i], in order; a run stops at every multiple of `stride` rows (a block's end)
// of either side. Copies onto themselves are left out. Returns the number of runs.
template <class F>
uint64_t for_each_copy_run(std::span<const uint64_t> dst, std::span<const uint64_t> src, uint64_t stride, F f) {
    uint64_t n_runs = 0;
    CopyRun run;
    const auto flush = [&] {
        if (run.n && run.dst != run.src) {
            f(run);
            ++n_runs;
        }
        run.n = 0;
    };
    for (size_t i = 0; i < dst.size(); ++i) {
        const bool follows =
            run.n && dst[i] == run.dst + run.n && src[i] == run.src + run.n && dst[i] % stride && src[i] % stride;
        if (!follows) {
            flush();
            run = {dst[i], src[i], 0};
        }
        ++run.n;
    }
    flush();
    return n_runs;
}

}  // namespace larder
