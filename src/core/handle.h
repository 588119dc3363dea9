// What every handle of the C ABI begins with, and how the context makes and drops them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "os/os.h"

struct larder_context;

namespace larder {

enum class HandleType : uint32_t {
    context = 0x4c440001,
    queue,
    layout,
    device,
    arena,
    index,
    prefix,
    codec,
    loader,
    store,
    kv,
    planner,
    worker,
    expert,
    profile,
    plan,
    vtensor,
    cells,
    states,
    topology,
    translation,
    index_view,
    lora,
    n_types  // tables by type are indexed by the low bits: type_slot()
};
constexpr size_t type_slot(HandleType t) noexcept {
    return uint32_t(t) & 0xff;
}
inline constexpr uint32_t dead_handle = 0x4c44dead;

const char* handle_type_name(HandleType t) noexcept;

struct Handle {
    Handle(HandleType t, larder_context& c) noexcept;
    HandleType type;
    const uint64_t fork_epoch;  // of the process that made it
    larder_context* context;
};

// NULL, destroyed (reliable in debug builds, where dropped handles stay in quarantine), of another type, or in a forked
// child.
larder_status check_handle_closely(const Handle* h, HandleType type, const char* name) noexcept;
inline larder_status check_handle(const Handle* h, HandleType type, const char* name) noexcept {
    if (h && h->type == type && h->fork_epoch == fork_word->load(relaxed)) [[likely]]
        return LARDER_OK;
    return check_handle_closely(h, type, name);
}
// The same, and made from this context: jobs of another one's queue would be waited for by threads that cannot do the
// work.
larder_status check_handle_of(const larder_context* context, const Handle* h, HandleType type,
                              const char* name) noexcept;

}  // namespace larder

#define LARDER_API_HANDLE(h, handle_type)                                                                              \
    do {                                                                                                               \
        const larder_status larder_handle_status_ = ::larder::check_handle(h, ::larder::HandleType::handle_type, #h);  \
        if (larder_handle_status_ < 0) return larder_handle_status_;                                                   \
    } while (0)

#define LARDER_API_HANDLE_OF(context, h, handle_type)                                                                  \
    do {                                                                                                               \
        const larder_status larder_handle_status_ =                                                                    \
            ::larder::check_handle_of(context, h, ::larder::HandleType::handle_type, #h);                              \
        if (larder_handle_status_ < 0) return larder_handle_status_;                                                   \
    } while (0)
