// Devices of plug-ins: finding liblarder-cuda.so, and the Device over its table.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/atomic.h"
#include "device/device.h"
#include "device/sim_device.h"
#include "larder/plugin/device_v1.h"

namespace larder {
namespace {

const char* const plugin_file = "liblarder-cuda.so";

class PluginDevice final : public Device {
  public:
    PluginDevice(const Allocator& a, const larder_device_table_v1& t) noexcept
        : alloc_(a), t_(t), gate_pages_(a), free_words_(a) {
        host_ = {sizeof host_, 0, this, host_alloc, host_free, host_fail};
    }
    ~PluginDevice() override {
        if (!d_) return;
        for (const GatePage& page : gate_pages_) t_.pinned_free(d_, page.words);
        t_.close(d_);
    }
    larder_status open(int32_t ordinal) {
        LARDER_TRY(t_.open(&host_, ordinal, &d_));
        larder_device_info_v1 i{};
        t_.info(d_, &i);
        info_.kind = DeviceKind(i.kind);
        info_.ordinal = i.ordinal;
        info_.memory_bytes = i.memory_bytes;
        info_.granularity_bytes = i.granularity_bytes;
        info_.host_visible = i.host_visible;
        info_.can_map = i.can_map;
        std::snprintf(info_.name, sizeof info_.name, "%.63s", i.name);
        return LARDER_OK;
    }

    const DeviceInfo& info() const noexcept override { return info_; }
    Result<DevicePtr> alloc(uint64_t n) override { return made(&larder_device_table_v1::alloc, n); }
    void free(DevicePtr p, uint64_t n) noexcept override { t_.free(d_, p, n); }
    Result<DevicePtr> reserve(uint64_t n) override { return made(&larder_device_table_v1::reserve, n); }
    void unreserve(DevicePtr p, uint64_t n) noexcept override { t_.unreserve(d_, p, n); }
    Result<uint64_t> page_create(uint64_t n) override { return made(&larder_device_table_v1::page_create, n); }
    void page_release(uint64_t page) noexcept override { t_.page_release(d_, page); }
    larder_status map(DevicePtr p, uint64_t n, uint64_t page, uint64_t offset) override {
        return t_.map(d_, p, n, page, offset);
    }
    larder_status unmap(DevicePtr p, uint64_t n) override { return t_.unmap(d_, p, n); }
    Result<StreamId> stream_create() override { return made(&larder_device_table_v1::stream_create); }
    void stream_destroy(StreamId s) noexcept override { t_.stream_destroy(d_, s); }
    Result<EventId> event_create() override { return made(&larder_device_table_v1::event_create); }
    void event_destroy(EventId e) noexcept override { t_.event_destroy(d_, e); }
    larder_status event_record(EventId e, StreamId s) override { return t_.event_record(d_, e, s); }
    larder_status stream_wait(StreamId s, EventId e) override { return t_.stream_wait(d_, s, e); }
    larder_status event_query(EventId e) override { return t_.event_query(d_, e); }
    larder_status event_wait(EventId e) override { return t_.event_wait(d_, e); }
    Result<GateId> gate_create() override;
    void gate_open(GateId gate) noexcept override;
    larder_status stream_wait_gate(StreamId s, GateId gate) override;
    larder_status copy_in(DevicePtr dst, const void* src, uint64_t n, StreamId s) override {
        return t_.copy_in(d_, dst, src, n, s);
    }
    larder_status copy_out(void* dst, DevicePtr src, uint64_t n, StreamId s) override {
        return t_.copy_out(d_, dst, src, n, s);
    }
    larder_status copy(DevicePtr dst, DevicePtr src, uint64_t n, StreamId s) override {
        return t_.copy(d_, dst, src, n, s);
    }
    larder_status fill_zero(DevicePtr dst, uint64_t n, StreamId s) override { return t_.fill_zero(d_, dst, n, s); }
    larder_status gather(const BlockGather& g, StreamId s) override {
        const larder_device_gather_v1 v{g.pool,     g.packed, g.table, g.block_bytes, g.pool_stride_bytes,
                                        g.n_blocks, g.scatter};
        return t_.gather(d_, &v, s);
    }

  private:
    template <class F, class... Args> Result<uint64_t> made(F f, Args... args) {
        uint64_t v = 0;
        LARDER_TRY((t_.*f)(d_, args..., &v));
        return v;
    }
    static void* host_alloc(void* ctx, uint64_t n, uint64_t align) {
        return static_cast<PluginDevice*>(ctx)->alloc_.try_alloc(n, align);
    }
    static void host_free(void* ctx, void* p, uint64_t n, uint64_t align) {
        static_cast<PluginDevice*>(ctx)->alloc_.free(p, n, align);
    }
    static void host_fail(void*, larder_status status, int32_t code, const char* message) {
        fail_device(status, code, "", "%s", message);
    }

    // A gate is a word of pinned memory and the round in which it opens. Streams wait for that round or a later one, so
    // a word serves the next gate as soon as it has opened, whether the streams have come past it or not.
    static constexpr uint32_t words_per_page = 1024;
    struct GatePage {
        uint32_t* words;
        DevicePtr ptr;
    };
    static uint32_t word_of(GateId g) noexcept { return uint32_t(g); }
    static uint32_t round_of(GateId g) noexcept { return uint32_t(g >> 32); }

    const Allocator alloc_;
    const larder_device_table_v1& t_;
    larder_device_host_v1 host_;
    void* d_ = nullptr;
    DeviceInfo info_;
    std::mutex gates_mutex_;
    Vec<GatePage> gate_pages_;
    Vec<uint32_t> free_words_;
};

Result<GateId> PluginDevice::gate_create() {
    std::lock_guard lock(gates_mutex_);
    if (free_words_.empty()) {
        const uint32_t first = uint32_t(gate_pages_.size()) * words_per_page;
        gate_pages_.reserve(gate_pages_.size() + 1);
        free_words_.reserve(first + words_per_page);
        void* words = nullptr;
        GatePage page{};
        LARDER_TRY(t_.pinned_alloc(d_, words_per_page * sizeof(uint32_t), &words, &page.ptr));
        page.words = static_cast<uint32_t*>(words);
        std::memset(words, 0, words_per_page * sizeof(uint32_t));
        gate_pages_.push_back(page);
        for (uint32_t i = 0; i < words_per_page; ++i) free_words_.push_back(first + words_per_page - 1 - i);
    }
    const uint32_t word = free_words_.back();
    free_words_.pop_back();
    const uint32_t round = load_at(&gate_pages_[word / words_per_page].words[word % words_per_page], relaxed) + 1;
    return uint64_t(round) << 32 | word;
}

void PluginDevice::gate_open(GateId gate) noexcept {
    std::lock_guard lock(gates_mutex_);
    const uint32_t word = word_of(gate);
    store_at(&gate_pages_[word / words_per_page].words[word % words_per_page], round_of(gate), release);
    free_words_.push_back(word);  // reserved when the page came
}

larder_status PluginDevice::stream_wait_gate(StreamId s, GateId gate) {
    std::lock_guard lock(gates_mutex_);
    const uint32_t word = word_of(gate);
    if (word / words_per_page >= gate_pages_.size()) return fail(LARDER_E_INVALID, "gate", "no such gate");
    const DevicePtr at = gate_pages_[word / words_per_page].ptr + word % words_per_page * sizeof(uint32_t);
    return t_.stream_wait_u32(d_, s, at, round_of(gate));
}

// LARDER_CUDA_PLUGIN when set; otherwise beside this library, then wherever the system looks. Never closed: a GPU
// driver does not like to be unloaded.
void* open_plugin() noexcept {
    if (const char* path = ::secure_getenv("LARDER_CUDA_PLUGIN"); path && *path)
        return ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
    Dl_info self{};
    if (::dladdr(reinterpret_cast<void*>(&larder_version), &self) && self.dli_fname) {
        char path[4096];
        const char* slash = std::strrchr(self.dli_fname, '/');
        const int dir = slash ? int(slash - self.dli_fname) + 1 : 0;
        if (dir && std::snprintf(path, sizeof path, "%.*s%s", dir, self.dli_fname, plugin_file) < int(sizeof path))
            if (void* h = ::dlopen(path, RTLD_NOW | RTLD_LOCAL)) return h;
    }
    return ::dlopen(plugin_file, RTLD_NOW | RTLD_LOCAL);
}

larder_status find_table(const larder_device_table_v1*& out) noexcept {
    void* h = open_plugin();
    if (!h) {
        const char* why = ::dlerror();
        return fail(LARDER_E_NO_DEVICE, "name", "the CUDA plug-in is not here: %s", why ? why : "not found");
    }
    const auto entry = reinterpret_cast<larder_device_plugin_v1_fn>(::dlsym(h, LARDER_DEVICE_PLUGIN_V1_SYMBOL));
    const larder_device_table_v1* table = entry ? entry() : nullptr;
    if (!table || table->version != 1 || table->struct_size < sizeof *table)
        return fail(LARDER_E_UNSUPPORTED, "name", "the CUDA plug-in is of another version than this library");
    out = table;
    return LARDER_OK;
}

Result<Owned<Device>> open_cuda(const Allocator& a, int32_t ordinal) {
    const larder_device_table_v1* table = nullptr;
    LARDER_TRY(find_table(table));
    if (table->score() <= 0)
        return fail(LARDER_E_NO_DEVICE, "name", "the CUDA plug-in is here, but no driver with a usable GPU answers");
    Owned<PluginDevice> d = make_owned<PluginDevice>(a, a, *table);
    LARDER_TRY(d->open(ordinal));
    return Owned<Device>(std::move(d));
}

}  // namespace

uint32_t n_cuda_devices() noexcept {
    const larder_error_info before = last_error();
    const larder_device_table_v1* table = nullptr;
    const int32_t n = find_table(table) == LARDER_OK && table->score() > 0 ? table->count() : 0;
    set_last_error(before);  // absence is no failure
    return n > 0 ? uint32_t(n) : 0;
}

Result<Owned<Device>> open_device(const Allocator& a, Os& os, const char* name, const SimDeviceOptions& sim) {
    if (!std::strcmp(name, "sim")) {
        LARDER_TRY(SimDevice::check_options(sim));
        return Owned<Device>(make_owned<SimDevice>(a, a, os, sim));
    }
    const std::pair<const char*, uint64_t> sim_fields[] = {{"sim_memory_bytes", sim.memory_bytes},
                                                           {"sim_granularity_bytes", sim.granularity_bytes},
                                                           {"sim_bandwidth_bytes_per_s", sim.bandwidth_bytes_per_s},
                                                           {"sim_latency_ns", sim.latency_ns}};
    for (auto [field, value] : sim_fields)
        if (value) return fail(LARDER_E_INVALID, field, "%s is for the device \"sim\" only", field);
    if (!std::strcmp(name, "host")) return make_host_device(a, os);
    if (!std::strcmp(name, "cuda")) return open_cuda(a, 0);
    if (!std::strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9') {
        char* end = nullptr;
        const unsigned long n = std::strtoul(name + 5, &end, 10);
        if (!*end && n < 1024) return open_cuda(a, int32_t(n));
    }
    return fail(LARDER_E_INVALID, "name", "a device is called \"host\", \"sim\" or \"cuda:N\", not \"%.32s\"", name);
}

}  // namespace larder
