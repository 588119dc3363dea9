// Planner and worker as handles of their own: a replica spread over processes (larder/plan.h).
#pragma once

#include <condition_variable>
#include <mutex>

#include "core/job.h"
#include "kv/planner.h"
#include "kv/worker.h"

namespace larder {

// What all ranks have said that their tiers hold. Guarded by the planner's mutex.
class ReportedDirectory final : public TierDirectory {
  public:
    ReportedDirectory(const Allocator& a, uint32_t n_ranks)
        : all_(n_ranks == 64 ? ~uint64_t(0) : (uint64_t(1) << n_ranks) - 1), known_(a) {}
    StoredAt find(const larder_key& key, larder_quality min_quality) noexcept override;
    void stored(const larder_key& key, larder_quality quality) override;
    void lost(const larder_key& key) noexcept override;
    void rank_lost(uint32_t rank) noexcept override;
    void rank_has(uint32_t rank, const larder_key& key, larder_quality quality) override;

  private:
    struct Known {
        uint64_t ranks = 0;
        larder_quality quality = 0;
    };
    const uint64_t all_;
    HashMap<larder_key, Known, KeyHash, KeyEqual> known_;
};

// What a worker's tiers hold, as bytes (docs/formats/plan.md).
inline constexpr size_t inventory_header_bytes = 64, inventory_entry_bytes = 72;
void inventory_write(const larder_key& layout, std::span<const InventoryEntry> entries, MutByteSpan out) noexcept;
// Checks everything; entry i is read by inventory_at().
larder_status inventory_check(ByteSpan bytes, const larder_key& layout, uint64_t& out_n) noexcept;
InventoryEntry inventory_at(ByteSpan bytes, uint64_t i) noexcept;

}  // namespace larder

struct larder_planner final : larder::Handle {
    explicit larder_planner(larder_context& c) : Handle(larder::HandleType::planner, c) {}
    ~larder_planner();
    static larder_status create(larder_context& c, larder_layout& layout, const larder_planner_options* options,
                                larder_planner** out);
    // Run what may make a plan; one with operations becomes the caller's handle. The handle is there first: a plan that
    // is out and that nobody holds would keep its blocks for ever.
    template <class Make> larder_status hand_out(larder_plan** out, Make make) {
        auto handle = larder::make_owned<larder_plan>(context->alloc, *context, larder::Plan(context->alloc));
        const larder_status s = make(handle->plan);
        if (handle->plan.id) *out = context->adopt_handle(handle.release());
        return s;
    }
    larder_status import_inventory(uint32_t rank, larder::ByteSpan bytes);

    larder_layout* layout = nullptr;
    larder::Owned<larder::ReportedDirectory> below;
    larder::Owned<larder::Planner> planner;
};

struct larder_worker final : larder::Handle {
    explicit larder_worker(larder_context& c) : Handle(larder::HandleType::worker, c), reports_(c.alloc) {}
    ~larder_worker();
    static larder_status create(larder_context& c, larder_layout& layout, const larder_worker_options* options,
                                larder_worker** out);

    larder_status submit(const larder::Plan& plan, larder_queue* queue, uint64_t user_data, larder_job* out_job);
    larder_status take_report(larder_plan_id plan, larder_status* statuses, uint64_t n, uint64_t& out_n);
    larder_status inventory(void* buffer, uint64_t capacity, uint64_t& out_n_bytes);

    larder::Owned<larder::Worker> worker;

  private:
    struct PlanTask;
    struct Report {
        Report() = default;
        explicit Report(const larder::Allocator& a) : statuses(a) {}
        larder::Vec<larder_status> statuses;
        bool done = false;
    };
    larder::Result<larder_job> begin_job(larder_queue& queue, uint64_t user_data, larder_plan_id plan);
    void run_task(PlanTask& t) noexcept;
    std::mutex mutex_;
    std::condition_variable ran_;
    uint32_t n_running_ = 0;
    larder::HashMap<larder_plan_id, Report> reports_;
};
