// The cache behind larder/expert.h.
//
// Each layer has a mutex of its own, which covers its experts, their slots, its leases and those who wait. Loads go
// through channels: tasks of the scheduler that move one chunk at a time, the most urgent first; which slots have
// chunks to come is known to the LoadQueue, whose mutex is taken last.
#pragma once

#include <array>
#include <condition_variable>
#include <mutex>

#include "core/device_handle.h"
#include "core/job.h"
#include "expert/ledger.h"
#include "expert/load_queue.h"
#include "expert/source.h"

struct larder_expert_cache final : larder::Handle {
    larder_expert_cache(larder_context& c, const larder_expert_options& o);
    ~larder_expert_cache();
    larder_expert_cache(const larder_expert_cache&) = delete;
    static larder_status create(larder_context& c, const larder_expert_options* options, larder_expert_cache** out);

    larder_status acquire(uint32_t layer, std::span<const uint32_t> experts, larder_expert_view* out, uint32_t stride,
                          larder_queue* queue, uint64_t user_data, larder_job* out_job, larder_expert_lease* out_lease);
    larder_status release(larder_expert_lease lease) noexcept;
    larder_status hint(uint32_t layer, std::span<const uint32_t> experts, const float* probabilities, uint32_t source,
                       uint64_t deadline_ns) noexcept;
    void begin_sequence() noexcept;
    void query(larder_expert_state& out) noexcept;
    larder_status verify();

  private:
    static constexpr uint32_t none = UINT32_MAX;

    enum class Where : uint8_t { absent, loading, ready, failed };
    // An expert in one precision.
    struct Expert {
        larder::DevicePtr address = 0;
        uint32_t slot = none;
        uint32_t n_holders = 0;
        Where where = Where::absent;
        larder_status why = LARDER_OK;  // failed
    };
    struct Slot {
        uint32_t layer = none, expert = none;
        uint64_t n_loaded = 0;
        uint32_t sum = 0;
        uint32_t n_starts = 0;  // of loads: a chunk that was under way for another one does not count
        bool queued = false;    // the LoadQueue or a channel has it
        larder::Urgency urgency;
    };
    struct Lease {
        uint32_t generation = 0;
        bool live = false;
    };
    struct Missing {
        uint32_t index, expert, precision;
    };
    struct Hint {
        float likely = 0;     // probability times trust, the best of the sources
        uint8_t sources = 0;  // a bit for each
    };
    // Where an acquire's answers go, and how many of its experts were there.
    struct Answer {
        std::byte* views;
        uint32_t stride, n_ready;
    };
    // Who is told when the rest is there: a queue by a job, or nobody when the caller waits.
    struct Ticket {
        larder_queue* queue;
        uint64_t user_data;
        larder_job* out_job;
    };
    // An acquire that waits for loads.
    struct Wait {
        struct Item {
            uint32_t expert, precision, index;
            bool done;
        };
        Wait* next = nullptr;
        larder_queue* queue = nullptr;
        larder_job job = 0;
        Answer answer{};
        uint32_t capacity = 0, n_items = 0, n_done = 0, n_failed = 0;
        uint32_t n_front = 0;  // items at the front that are done
        Item* items() noexcept { return reinterpret_cast<Item*>(this + 1); }
        static size_t size(size_t n) noexcept { return sizeof(Wait) + n * sizeof(Item); }
    };
    struct alignas(64) Layer {
        explicit Layer(const larder::Allocator& a) noexcept
            : experts(a), held(a), asked(a), leases(a), free_leases(a), slots(a), free_slots(a), ranks(a), missing(a),
              hinted(a), hints(a) {
            trust.fill(0.75f);
        }
        std::mutex mutex;
        larder::Vec<Expert> experts;  // [precision][n_experts]
        larder::Vec<uint64_t> held;   // [max_leases][precision][words]: which experts each lease holds
        larder::Vec<uint64_t> asked;  // [words] room to work in, all zero between calls
        larder::Vec<Lease> leases;
        larder::Vec<uint32_t> free_leases;
        larder::Vec<larder::Vec<uint32_t>> slots, free_slots;  // [precision]
        larder::Vec<larder::ExpertLedger::Rank> ranks;         // room to work in
        larder::Vec<Missing> missing;                          // likewise
        larder::Vec<uint32_t> hinted;                          // experts with a hint that is not settled
        larder::Vec<Hint> hints;                               // [n_experts]
        std::array<float, LARDER_EXPERT_MAX_SOURCES> trust;    // share of each source's hints that came true of late
        larder::Owned<larder::ExpertLedger> ledger;
        std::condition_variable loaded;
        Wait* waits = nullptr;
        uint64_t n_acquired = 0, n_hits = 0, n_evictions = 0, n_loads = 0, n_failed = 0, loaded_bytes = 0;
        uint64_t n_late = 0, n_foreseen = 0;
    };
    struct Precision {
        explicit Precision(larder_context& c) : source(c), slots(c.alloc) {}
        larder::ExpertSource source;
        larder::Vec<Slot> slots;
        uint64_t slot_bytes = 0, memory_bytes = 0;
        larder::DevicePtr memory = 0;
    };
    struct Channel : larder::Task {
        larder_expert_cache* cache = nullptr;
        std::byte* staging = nullptr;
        larder::StreamId stream = 0;
        larder::EventId event = 0;
        bool has_stream = false, has_event = false;
    };
    struct Chunk {
        uint32_t layer, expert, n_starts, sum;
        uint64_t offset, n_bytes;
    };
    using Guard = std::unique_lock<std::mutex>;

    // cache.cpp
    larder_status read_precision(const larder_expert_options& o, uint32_t index);
    larder_status make_slots(Precision& p, uint32_t index, uint32_t n_per_layer);
    larder_status make_layers();
    larder_status make_channels();
    larder_status map_memory(Precision& p, uint64_t n_bytes);
    larder_status verify_layer(uint32_t layer);
    // acquire.cpp
    uint64_t* held(Layer& l, uint32_t lease, uint32_t precision) noexcept {
        return &l.held[(size_t(lease) * o_.n_precisions + precision) * n_words_];
    }
    Expert& expert(Layer& l, uint32_t precision, uint32_t e) noexcept {
        return l.experts[size_t(precision) * o_.n_experts + e];
    }
    static larder_expert_view& view(const Answer& a, uint32_t i) noexcept {
        return *reinterpret_cast<larder_expert_view*>(a.views + size_t(a.stride) * i);
    }
    larder_status check_experts(Layer& l, std::span<const uint32_t> experts) noexcept;
    void hold(Layer& l, uint32_t lease, uint32_t precision, uint32_t e) noexcept {
        ++expert(l, precision, e).n_holders;
        held(l, lease, precision)[e / 64] |= uint64_t(1) << e % 64;
    }
    void let_go(Layer& l, uint32_t lease) noexcept;
    void count_use(Layer& l, uint32_t lease, std::span<const uint32_t> experts) noexcept;
    larder_status load_missing(Layer& l, uint32_t layer, uint32_t lease, std::span<const uint32_t> experts,
                               const Answer& answer, const Ticket& ticket, Wait** out_wait);
    larder_status check_room(Layer& l, uint32_t layer, uint32_t precision, size_t n, size_t n_absent) noexcept;
    void rank_victims(Layer& l, uint32_t precision, size_t n_absent) noexcept;
    uint32_t take_slot(Layer& l, uint32_t precision) noexcept;
    Wait* make_wait(size_t n, const Answer& answer, const Ticket& ticket);
    void drop_wait(Wait* w) noexcept;
    larder_status wait_for(Guard& lock, Layer& l, Wait* w) noexcept;
    // hints.cpp
    void settle_hints(Layer& l, uint32_t lease) noexcept;
    uint32_t slot_for_hint(Layer& l) noexcept;
    // loads.cpp
    void start_load(Layer& l, uint32_t precision, uint32_t e, uint32_t slot, larder::Urgency urgency) noexcept;
    void hurry(uint32_t precision, uint32_t slot, larder::Urgency urgency) noexcept;
    static void run_channel(larder::Task* task) noexcept;
    void move_chunk(Channel& c) noexcept;
    larder_status transfer(Channel& c, Precision& p, uint32_t slot, Chunk& chunk) noexcept;
    larder_status copy_in(Channel& c, larder::DevicePtr dst, const void* src, uint64_t n_bytes);
    void end_chunk(uint32_t precision, uint32_t slot, const Chunk& chunk, larder_status status) noexcept;
    void free_slot(Layer& l, uint32_t precision, uint32_t slot) noexcept;
    void tell(Layer& l, uint32_t precision, uint32_t expert, larder_status status) noexcept;
    void cancel_waits() noexcept;

    const larder_expert_options o_;
    const larder::ExpertPolicyRow& row_;
    larder_device* device_ = nullptr;
    const uint32_t n_words_;  // of a set of experts
    bool open_ = false;       // it was made: callbacks are to be given back
    larder::Vec<larder::Owned<Precision>> precisions_;
    larder::Vec<larder::Owned<Layer>> layers_;
    larder::Vec<larder::Owned<Channel>> channels_;
    larder::atomic<bool> broken_{false};  // a copy to the device has no end that can be seen
    larder::LoadQueue queue_;
};
