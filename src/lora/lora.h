// The cache of low-rank adapters behind larder/lora.h.
#pragma once

#include <mutex>
#include <span>

#include "base/ids.h"
#include "core/context.h"
#include "larder/lora.h"
#include "memory/cells.h"

struct larder_lora final : larder::Handle {
    larder_lora(larder_context& c, const larder_lora_options& o);
    ~larder_lora();
    static larder_status create(larder_context& c, const larder_lora_options* options, larder_lora** out);

    larder_status add(uint32_t rank, float scaling, uint64_t user_data, larder_lora_adapter& out);
    larder_status remove(larder_lora_adapter id) noexcept;
    larder_status prefetch(std::span<const larder_lora_adapter> ids, larder_status* statuses);
    larder_status acquire(std::span<const larder_lora_adapter> ids, larder_status* statuses) noexcept;
    larder_status release(std::span<const larder_lora_adapter> ids) noexcept;
    larder_status loaded(larder_lora_adapter id, larder_status result) noexcept;
    larder_status tables(std::span<const larder_lora_adapter> ids, std::span<int32_t> cells, uint32_t* starts,
                         float* scalings) noexcept;
    larder_status make_room(uint32_t n_cells) noexcept;
    larder_status move(std::span<const larder_cells_move> moves);
    void query(larder_lora_state& out) noexcept;

  private:
    enum class Presence : uint8_t { absent, loading, there, failed };
    struct Adapter {
        Presence presence = Presence::absent;
        bool is_next = false, is_idle = false;  // idle: may be evicted, and is linked
        bool in_call = false;                   // of the load: must not go, whatever the load says of itself meanwhile
        uint32_t rank = 0, n_holders = 0;
        float scaling = 0;
        uint64_t user_data = 0;
        larder_lora_adapter id = 0;
        larder_status failure = LARDER_OK;  // of the last load
        larder::Vec<int32_t> cells;         // room for all from the beginning: acquiring allocates nothing
        Adapter *older = nullptr, *newer = nullptr;
    };

    Adapter* find(larder_lora_adapter id, larder_status& status) noexcept;
    bool has_cells(const Adapter& a) const noexcept { return a.presence != Presence::absent; }
    larder_status bring(std::unique_lock<std::mutex>& lock, Adapter& a) noexcept;
    larder_status take_cells(Adapter& a) noexcept;
    void give_cells(Adapter& a) noexcept;
    void ended(Adapter& a, larder_status result) noexcept;
    void settle(Adapter& a) noexcept;
    void unlink(Adapter& a) noexcept;
    void evict_oldest() noexcept;
    void mark_next(std::span<const larder_lora_adapter> ids);

    mutable std::mutex mutex_;
    const larder_lora_options o_;
    larder::IdTable<Adapter> adapters_;
    larder::Vec<larder_lora_adapter> next_;  // the next batch, each once
    Adapter *oldest_ = nullptr, *newest_ = nullptr;
    uint64_t n_idle_cells_ = 0;
    larder_lora_state state_ = LARDER_LORA_STATE_INIT;
};
