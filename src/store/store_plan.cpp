// What loading would cost, from what it did cost lately.
#include "store/load_plan.h"
#include "store/store.h"

using namespace larder;

namespace {

// Before anything was measured: a slow core, a slow disk.
constexpr uint64_t first_host_bytes_per_s = 4000000000, first_file_bytes_per_s = 500000000;
constexpr uint64_t least_sample_bytes = 65536;
constexpr uint64_t ns_per_s = 1000000000;

}  // namespace

// An average over about the last eight samples that are large enough to tell something.
void larder_store::PathRate::sample(uint64_t n_bytes, uint64_t ns) noexcept {
    if (n_bytes < least_sample_bytes) return;
    const uint64_t now = uint64_t(double(n_bytes) * ns_per_s / double(std::max<uint64_t>(ns, 1)));
    bytes_per_s = bytes_per_s ? bytes_per_s - bytes_per_s / 8 + now / 8 : now;
}

uint64_t larder_store::PathRate::cost_ns(uint64_t n_bytes, uint64_t unmeasured) const noexcept {
    return uint64_t(double(n_bytes) * ns_per_s / double(std::max<uint64_t>(bytes_per_s ? bytes_per_s : unmeasured, 1)));
}

larder_status larder_store::plan(const larder_key* keys, const uint64_t* prefill_ns, uint32_t n,
                                 const larder_object_want* want, larder_load_step* steps, larder_load_plan& out) {
    Vec<BlockCost> costs(n, BlockCost{}, context->alloc);
    Lock lock(mutex_);
    bool from_file = false;
    for (uint32_t i = 0; i < n; ++i) {
        costs[i].compute_ns = prefill_ns[i];
        steps[i] = {LARDER_STEP_RECOMPUTE, 0, 0};
        const Object* o = objects_.find(keys[i]);
        if (!o || o->writing || check_want(*o, want) != LARDER_OK) continue;
        steps[i].tier = o->in_host() ? LARDER_TIER_HOST : LARDER_TIER_FILE;
        costs[i].load_ns = o->in_host() ? host_rate_.cost_ns(o->n_bytes, first_host_bytes_per_s)
                                        : file_rate_.cost_ns(o->n_bytes, first_file_bytes_per_s);
        from_file = from_file || !o->in_host();
    }
    const uint64_t wait_ns = from_file ? file_rate_.cost_ns(reading_bytes_, first_file_bytes_per_s) : 0;
    out.queued_bytes = reading_bytes_;
    out.host_bytes_per_s = host_rate_.bytes_per_s;
    out.file_bytes_per_s = file_rate_.bytes_per_s;
    lock.unlock();
    const LoadPlan best = plan_load(costs, wait_ns);
    uint64_t at = best.n_load ? wait_ns : 0;
    for (uint32_t i = 0; i < n; ++i) {
        const bool load = i < best.n_load;
        at += load ? costs[i].load_ns : costs[i].compute_ns;
        steps[i] = {load ? LARDER_STEP_LOAD : LARDER_STEP_RECOMPUTE, load ? steps[i].tier : 0, at};
    }
    out.n_load = uint32_t(best.n_load);
    out.total_ns = best.total_ns;
    return LARDER_OK;
}
