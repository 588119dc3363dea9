#include "larder/swap.h"

#include <algorithm>

#include "api/guard.h"
#include "memory/swap_plan.h"

using namespace larder;

larder_status larder_swap_plan(larder_arena* arena, uint32_t group, const larder_swap_seq* seqs, uint32_t seq_stride,
                               uint32_t n_seqs, larder_swap_run* runs, uint64_t capacity,
                               larder_swap_plan_info* info) noexcept {
    LARDER_API_BEGIN
    LARDER_API_HANDLE(arena, arena);
    if (n_seqs) LARDER_API_NONNULL(seqs);
    if (n_seqs) LARDER_TRY(check_range(seq_stride, sizeof(larder_swap_seq), 4096, "seq_stride"));
    if (capacity) LARDER_API_NONNULL(runs);
    LARDER_API_NONNULL(info);
    larder_swap_plan_info filled;
    LARDER_TRY(read_options(info, filled, "larder_swap_plan_info"));
    Vec<larder_swap_seq> all(n_seqs, larder_swap_seq{}, arena->context->alloc);
    const auto* at = reinterpret_cast<const std::byte*>(seqs);
    for (larder_swap_seq& s : all) {
        LARDER_TRY(read_options(reinterpret_cast<const larder_swap_seq*>(at), s, "larder_swap_seq"));
        LARDER_TRY(check_reserved(s.reserved0, "reserved0"));
        at += seq_stride;
    }
    Vec<larder_swap_run> plan(arena->context->alloc);
    LARDER_TRY(plan_swap(*arena, group, all, plan, filled));
    LARDER_TRY(write_struct(info, filled, "larder_swap_plan_info"));
    std::copy_n(plan.begin(), std::min<uint64_t>(plan.size(), capacity), runs);
    if (plan.size() > capacity)
        return fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "%zu runs do not fit %llu", plan.size(),
                    (unsigned long long)capacity);
    return LARDER_OK;
    LARDER_API_END
}
