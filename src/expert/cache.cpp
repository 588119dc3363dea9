#include "expert/cache.h"

#include <algorithm>

#include "base/options.h"

using namespace larder;

static constexpr uint64_t slot_align = 256, map_align = uint64_t(2) << 20, max_bytes = uint64_t(1) << 46;

larder_expert_cache::larder_expert_cache(larder_context& c, const larder_expert_options& o)
    : Handle(HandleType::expert, c), o_(o), row_(*find_expert_policy(o.policy)),
      device_(o.device ? o.device->ref() : nullptr), n_words_((o.n_experts + 63) / 64), precisions_(c.alloc),
      layers_(c.alloc), channels_(c.alloc), queue_(c.alloc, c.scheduler) {}

larder_expert_cache::~larder_expert_cache() {
    queue_.stop();
    cancel_waits();
    for (auto& channel : channels_) {
        if (channel->has_event) device_->device->event_destroy(channel->event);
        if (channel->has_stream) device_->device->stream_destroy(channel->stream);
    }
    for (auto& p : precisions_) {
        if (open_) p->source.close();
        if (p->memory && device_)
            device_->device->free(p->memory, p->memory_bytes);
        else if (p->memory)
            context->os.release(reinterpret_cast<std::byte*>(p->memory), p->memory_bytes);
    }
    // A copy without an end reads it until the device's memory is free.
    for (auto& channel : channels_) context->alloc.free(channel->staging, o_.chunk_bytes, slot_align);
    if (device_) device_->unref();
}

static larder_status read_expert_options(larder_context& c, const larder_expert_options* options,
                                         larder_expert_options& o) {
    LARDER_TRY(read_options(options, o, "larder_expert_options"));
    LARDER_TRY(check_range(o.n_layers, 1, 4096, "n_layers"));
    LARDER_TRY(check_range(o.n_experts, 1, 65536, "n_experts"));
    LARDER_TRY(check_range(o.n_precisions, 1, 1, "n_precisions"));
    if (!o.precisions) return fail(LARDER_E_INVALID, "precisions", "precisions is NULL");
    if (o.precision_stride < 8) return fail(LARDER_E_INVALID, "precision_stride", "precision_stride is too small");
    if (!o.policy) o.policy = LARDER_EXPERT_AUTO;
    const ExpertPolicyRow* row = find_expert_policy(o.policy);
    if (!row) return fail(LARDER_E_NOT_FOUND, "policy", "there is no expert policy %u", o.policy);
    if (!row->online) return fail(LARDER_E_UNSUPPORTED, "policy", "%s knows the future: for replay only", row->name);
    if (!o.max_leases) o.max_leases = 16;
    LARDER_TRY(check_range(o.max_leases, 1, 4096, "max_leases"));
    if (!o.n_channels) o.n_channels = 2;
    LARDER_TRY(check_range(o.n_channels, 1, 16, "n_channels"));
    if (!o.chunk_bytes) o.chunk_bytes = uint64_t(2) << 20;
    LARDER_TRY(check_range(o.chunk_bytes, 4096, uint64_t(1) << 30, "chunk_bytes"));
    return o.device ? check_handle_of(&c, o.device, HandleType::device, "device") : LARDER_OK;
}

larder_status larder_expert_cache::create(larder_context& c, const larder_expert_options* options,
                                          larder_expert_cache** out) {
    larder_expert_options o;
    LARDER_TRY(read_expert_options(c, options, o));
    auto cache = make_owned<larder_expert_cache>(c.alloc, c, o);
    LARDER_TRY(cache->make_layers());
    for (uint32_t i = 0; i < o.n_precisions; ++i) LARDER_TRY(cache->read_precision(o, i));
    for (auto& l : cache->layers_) {
        size_t n_slots = 0;
        for (auto& slots : l->slots) n_slots = std::max(n_slots, slots.size());
        l->ranks.reserve(n_slots);
        l->missing.reserve(o.n_experts);
    }
    LARDER_TRY(cache->make_channels());
    cache->open_ = true;
    *out = c.adopt_handle(cache.release());
    return LARDER_OK;
}

larder_status larder_expert_cache::make_layers() {
    const Allocator& a = context->alloc;
    layers_.reserve(o_.n_layers);
    for (uint32_t i = 0; i < o_.n_layers; ++i) {
        layers_.push_back(make_owned<Layer>(a, a));
        Layer& l = *layers_.back();
        l.experts.resize(size_t(o_.n_precisions) * o_.n_experts);
        l.held.resize(size_t(o_.max_leases) * o_.n_precisions * n_words_);
        l.asked.resize(n_words_);
        l.hinted.reserve(o_.n_experts);
        l.hints.resize(o_.n_experts);
        l.leases.resize(o_.max_leases, Lease{context->random_generation(), false});
        l.free_leases.reserve(o_.max_leases);
        for (uint32_t lease = o_.max_leases; lease--;) l.free_leases.push_back(lease);
        l.ledger = make_owned<ExpertLedger>(a, a, o_.n_experts, row_);
    }
    return LARDER_OK;
}

larder_status larder_expert_cache::read_precision(const larder_expert_options& o, uint32_t index) {
    const auto* bytes = reinterpret_cast<const std::byte*>(o.precisions) + size_t(index) * o.precision_stride;
    larder_expert_precision p;
    LARDER_TRY(read_options(reinterpret_cast<const larder_expert_precision*>(bytes), p, "larder_expert_precision"));
    LARDER_TRY(check_reserved(p.reserved0, "reserved0"));
    LARDER_TRY(check_range(p.n_bytes, 1, uint64_t(1) << 40, "n_bytes"));
    LARDER_TRY(check_range(p.layer_slots, 1, UINT32_MAX, "layer_slots"));
    precisions_.reserve(o_.n_precisions);
    precisions_.push_back(make_owned<Precision>(context->alloc, *context));
    Precision& mine = *precisions_.back();
    LARDER_TRY(mine.source.open(p, o_.n_layers, o_.n_experts));
    mine.slot_bytes = (p.n_bytes + slot_align - 1) / slot_align * slot_align;
    return make_slots(mine, index, std::min(p.layer_slots, o_.n_experts));
}

larder_status larder_expert_cache::make_slots(Precision& p, uint32_t index, uint32_t n_per_layer) {
    const uint64_t n = uint64_t(n_per_layer) * o_.n_layers;
    if (p.slot_bytes > max_bytes / n)
        return fail(LARDER_E_RANGE, "layer_slots", "%llu slots of %llu bytes do not fit the address space",
                    (unsigned long long)n, (unsigned long long)p.slot_bytes);
    LARDER_TRY(map_memory(p, n * p.slot_bytes));
    p.slots.resize(n);
    for (uint32_t i = 0; i < o_.n_layers; ++i) {
        Layer& l = *layers_[i];
        l.slots.resize(index + 1, Vec<uint32_t>(context->alloc));
        l.free_slots.resize(index + 1, Vec<uint32_t>(context->alloc));
        for (uint32_t s = 0; s < n_per_layer; ++s) l.slots[index].push_back(i * n_per_layer + s);
        l.free_slots[index].assign(l.slots[index].rbegin(), l.slots[index].rend());
        for (uint32_t s : l.slots[index]) p.slots[s].layer = i;
    }
    return LARDER_OK;
}

larder_status larder_expert_cache::map_memory(Precision& p, uint64_t n_bytes) {
    if (device_) {
        LARDER_ASSIGN(p.memory, device_->device->alloc(n_bytes));
        p.memory_bytes = n_bytes;
        return LARDER_OK;
    }
    const uint64_t page = std::max<uint64_t>(context->os.topology().page_bytes, 4096);
    n_bytes = (n_bytes + page - 1) / page * page;
    LARDER_ASSIGN(std::byte * memory, context->os.reserve(n_bytes, std::max(page, map_align)));
    p.memory = reinterpret_cast<DevicePtr>(memory);
    p.memory_bytes = n_bytes;
    const bool huge = context->param(LARDER_PARAM_HUGE_PAGES) && context->os.topology().huge_pages;
    return context->os.commit(memory, n_bytes, huge ? map_flag::huge : 0);
}

larder_status larder_expert_cache::make_channels() {
    size_t n_slots = 0;
    for (auto& p : precisions_) n_slots += p->slots.size();
    queue_.reserve(n_slots, o_.n_channels);
    channels_.reserve(o_.n_channels);
    for (uint32_t i = 0; i < o_.n_channels; ++i) {
        channels_.push_back(make_owned<Channel>(context->alloc));
        Channel& c = *channels_.back();
        c.run = run_channel;
        c.cache = this;
        if (!device_) continue;
        c.staging = static_cast<std::byte*>(context->alloc.alloc(o_.chunk_bytes, slot_align));
        LARDER_ASSIGN(c.stream, device_->device->stream_create());
        c.has_stream = true;
        LARDER_ASSIGN(c.event, device_->device->event_create());
        c.has_event = true;
    }
    for (auto& c : channels_) queue_.add_channel(c.get());
    return LARDER_OK;
}

void larder_expert_cache::begin_sequence() noexcept {
    for (auto& l : layers_) {
        Guard lock(l->mutex);
        l->ledger->begin_sequence();
    }
}

void larder_expert_cache::query(larder_expert_state& out) noexcept {
    out = LARDER_EXPERT_STATE_INIT;
    for (auto& p : precisions_) {
        out.n_slots += p->slots.size();
        out.slot_bytes += p->slots.size() * p->slot_bytes;
    }
    for (auto& l : layers_) {
        Guard lock(l->mutex);
        out.n_leases += o_.max_leases - uint32_t(l->free_leases.size());
        out.n_acquired += l->n_acquired;
        out.n_hits += l->n_hits;
        out.n_evictions += l->n_evictions;
        out.n_loads += l->n_loads;
        out.n_failed += l->n_failed;
        out.loaded_bytes += l->loaded_bytes;
        out.n_late += l->n_late;
        out.n_foreseen += l->n_foreseen;
    }
}

larder_status larder_expert_cache::verify() {
    for (uint32_t i = 0; i < o_.n_layers; ++i) LARDER_TRY(verify_layer(i));
    return LARDER_OK;
}

static larder_status broken(uint32_t layer, const char* what, uint32_t which) {
    return fail(LARDER_E_INTERNAL, "expert", "layer %u: %s (%u)", layer, what, which);
}

larder_status larder_expert_cache::verify_layer(uint32_t layer) {
    Layer& l = *layers_[layer];
    Guard lock(l.mutex);
    for (uint32_t p = 0; p < o_.n_precisions; ++p) {
        size_t n_used = 0;
        for (uint32_t s : l.slots[p]) {
            const Slot& slot = precisions_[p]->slots[s];
            if (slot.layer != layer) return broken(layer, "a slot of another layer", s);
            if (slot.expert == none) {
                if (slot.queued) return broken(layer, "an empty slot is queued", s);
                continue;
            }
            ++n_used;
            const Expert& x = expert(l, p, slot.expert);
            if (x.slot != s) return broken(layer, "a slot's expert is elsewhere", s);
            if ((x.where == Where::loading) != slot.queued) return broken(layer, "a load that nobody does", s);
        }
        if (n_used + l.free_slots[p].size() != l.slots[p].size()) return broken(layer, "slots were lost", p);
        for (uint32_t e = 0; e < o_.n_experts; ++e) {
            const Expert& x = expert(l, p, e);
            uint32_t n_holders = 0;
            for (uint32_t lease = 0; lease < o_.max_leases; ++lease)
                n_holders += held(l, lease, p)[e / 64] >> e % 64 & 1;
            if (n_holders != x.n_holders) return broken(layer, "an expert's holders", e);
            if ((x.where == Where::absent) != (x.slot == none)) return broken(layer, "an expert without a slot", e);
            if (x.where == Where::failed && !n_holders) return broken(layer, "a failed load keeps its slot", e);
        }
    }
    return LARDER_OK;
}
