// A remote tier's plug-in: found, looked over, opened, and its requests run to their end.
#pragma once

#include <span>

#include "core/context.h"
#include "larder/plugin/remote_v1.h"

namespace larder {

// The table of a plug-in: a word such as "redis" means liblarder-redis.so, anything with a '/' is the file itself.
// E_NOT_FOUND; E_UNSUPPORTED (not a plug-in, of another version, or of no use on this machine); E_INVALID (the name).
Result<const larder_remote_table_v1*> load_remote_plugin(Os& os, const char* plugin);

// Internally synchronised.
class Remote {
  public:
    static Result<Owned<Remote>> open(larder_context& c, const char* plugin,
                                      std::span<const larder_remote_setting_v1> settings);
    Remote(larder_context& c, const larder_remote_table_v1& t) noexcept;
    ~Remote();
    Remote(const Remote&) = delete;

    const larder_remote_caps_v1& caps() const noexcept { return caps_; }
    larder_remote_counters_v1 counters() const noexcept;
    // All items of a batch, at most caps().max_items, within a time. When this fails nothing was sent; otherwise each
    // item has its status.
    larder_status run(uint32_t op, std::span<larder_remote_item_v1> items, uint32_t ttl_ms, uint64_t timeout_ns);
    // The same in steps: advance() until it is not PENDING any more; end(), which may also come early.
    larder_status begin(uint32_t op, std::span<larder_remote_item_v1> items, uint32_t ttl_ms, uint64_t timeout_ns,
                        void** out_request);
    larder_status advance(void* request, uint64_t wait_ns) noexcept;
    void end(void* request) noexcept { t_.release(r_, request); }

  private:
    const larder_remote_table_v1& t_;
    larder_remote_host_v1 host_;
    larder_remote_caps_v1 caps_{};
    void* r_ = nullptr;
};

}  // namespace larder
