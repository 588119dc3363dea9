// Loading experts, chunk by chunk.
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"
#include "expert/cache.h"

using namespace larder;

void larder_expert_cache::start_load(Layer& l, uint32_t precision, uint32_t e, uint32_t slot,
                                     Urgency urgency) noexcept {
    Precision& p = *precisions_[precision];
    Expert& x = expert(l, precision, e);
    x.where = Where::loading;
    x.why = LARDER_OK;
    x.slot = slot;
    x.address = p.memory + slot * p.slot_bytes;
    Slot& s = p.slots[slot];
    s.expert = e;
    s.n_loaded = 0;
    s.sum = 0;
    s.urgency = urgency;
    ++s.n_starts;
    if (s.queued) return queue_.change(precision, slot, urgency);
    s.queued = true;
    queue_.add(precision, slot, urgency);
}

void larder_expert_cache::hurry(uint32_t precision, uint32_t slot, Urgency urgency) noexcept {
    Slot& s = precisions_[precision]->slots[slot];
    if (!(urgency < s.urgency)) return;
    s.urgency = urgency;
    queue_.change(precision, slot, urgency);
}

void larder_expert_cache::run_channel(Task* task) noexcept {
    auto& c = *static_cast<Channel*>(task);
    c.cache->move_chunk(c);
    c.cache->queue_.next(&c);
}

void larder_expert_cache::move_chunk(Channel& c) noexcept {
    LoadQueue::Entry entry;
    if (!queue_.pop(entry)) return;
    Precision& p = *precisions_[entry.precision];
    Slot& s = p.slots[entry.slot];
    Chunk chunk;
    {
        Guard lock(layers_[s.layer]->mutex);
        chunk = {s.layer, s.expert, s.n_starts, s.sum, s.n_loaded, 0};
    }
    chunk.n_bytes = std::min(o_.chunk_bytes, p.source.n_bytes() - chunk.offset);
    end_chunk(entry.precision, entry.slot, chunk, transfer(c, p, entry.slot, chunk));
}

larder_status larder_expert_cache::transfer(Channel& c, Precision& p, uint32_t slot, Chunk& chunk) noexcept {
    const DevicePtr to = p.memory + slot * p.slot_bytes + chunk.offset;
    void* const host = device_ ? c.staging : reinterpret_cast<std::byte*>(to);
    const std::byte* from = p.source.memory(chunk.layer, chunk.expert);
    try {
        if (from && device_) {
            from += chunk.offset;
        } else if (from && p.source.has_sums()) {
            chunk.sum = crc32c_copy(chunk.sum, host, from + chunk.offset, chunk.n_bytes);
            return LARDER_OK;
        } else {
            LARDER_TRY(p.source.read(chunk.layer, chunk.expert, chunk.offset, host, chunk.n_bytes));
            from = static_cast<const std::byte*>(host);
        }
        if (p.source.has_sums()) chunk.sum = crc32c(chunk.sum, from, chunk.n_bytes);
        return device_ ? copy_in(c, to, from, chunk.n_bytes) : LARDER_OK;
    } catch (const std::bad_alloc&) {
        return fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
}

// Done when it returns: what is told ready may be read on any stream. A copy of which the end cannot be seen may still
// write to its slot: then nothing is loaded any more.
larder_status larder_expert_cache::copy_in(Channel& c, DevicePtr dst, const void* src, uint64_t n_bytes) {
    Device& d = *device_->device;
    if (broken_.load(larder::acquire))
        return fail(LARDER_E_DEVICE, "device", "an earlier copy to the device has no end");
    LARDER_TRY(d.copy_in(dst, src, n_bytes, c.stream));
    const auto settle = [&] {
        LARDER_TRY(d.event_record(c.event, c.stream));
        return d.event_wait(c.event);
    };
    const larder_status status = settle();
    if (status >= 0) return status;
    const larder_error_info why = last_error();
    if (settle() < 0) broken_.store(true, larder::release);
    set_last_error(why);
    return status;
}

void larder_expert_cache::end_chunk(uint32_t precision, uint32_t slot, const Chunk& chunk,
                                    larder_status status) noexcept {
    Precision& p = *precisions_[precision];
    Slot& s = p.slots[slot];
    Layer& l = *layers_[chunk.layer];
    Guard lock(l.mutex);
    l.loaded_bytes += chunk.n_bytes;
    if (s.n_starts != chunk.n_starts) return queue_.add(precision, slot, s.urgency);
    s.n_loaded += chunk.n_bytes;
    s.sum = chunk.sum;
    const bool ended = s.n_loaded == p.source.n_bytes();
    if (status >= 0 && !ended) return queue_.add(precision, slot, s.urgency);
    if (status >= 0 && p.source.has_sums() && s.sum != p.source.sum(chunk.layer, chunk.expert))
        status = fail(LARDER_E_CORRUPT, "crc32c", "expert %u of layer %u does not have its checksum", chunk.expert,
                      chunk.layer);
    s.queued = false;
    Expert& x = expert(l, precision, chunk.expert);
    x.where = status < 0 ? Where::failed : Where::ready;
    x.why = status < 0 ? status : LARDER_OK;
    ++(status < 0 ? l.n_failed : l.n_loads);
    tell(l, precision, chunk.expert, x.why);
    if (status < 0 && !x.n_holders) free_slot(l, precision, slot);
}

void larder_expert_cache::free_slot(Layer& l, uint32_t precision, uint32_t slot) noexcept {
    Slot& s = precisions_[precision]->slots[slot];
    expert(l, precision, s.expert) = Expert{};
    s.expert = none;
    l.free_slots[precision].push_back(slot);
}

// Those who wait for an expert learn what became of it. A failure's detail is this thread's last error.
void larder_expert_cache::tell(Layer& l, uint32_t precision, uint32_t e, larder_status status) noexcept {
    for (Wait** at = &l.waits; *at;) {
        Wait& w = **at;
        for (uint32_t i = 0; i < w.n_items; ++i) {
            Wait::Item& item = w.items()[i];
            if (item.done || item.expert != e || item.precision != precision) continue;
            item.done = true;
            ++w.n_done;
            larder_expert_view& v = view(w.answer, item.index);
            v.status = status;
            if (status >= 0) {
                if (w.queue) w.queue->add_bytes(w.job, precisions_[precision]->source.n_bytes());
                continue;
            }
            v.address = 0;
            ++w.n_failed;
            if (w.queue) w.queue->item_failed(w.job, item.index, status);
        }
        const uint32_t before = w.n_front;
        while (w.n_front < w.n_items && w.items()[w.n_front].done) ++w.n_front;
        if (w.queue && w.n_front != before) w.queue->layers_done(w.job, w.answer.n_ready + w.n_front);
        if (w.n_done < w.n_items) {
            at = &w.next;
            continue;
        }
        *at = w.next;
        if (w.queue) {
            w.queue->finish(w.job, LARDER_OK);
            drop_wait(&w);
        } else {
            l.loaded.notify_all();
        }
    }
}

void larder_expert_cache::cancel_waits() noexcept {
    for (auto& l : layers_) {
        Guard lock(l->mutex);
        for (uint32_t p = 0; p < precisions_.size(); ++p)
            for (uint32_t e = 0; e < o_.n_experts; ++e)
                if (expert(*l, p, e).where == Where::loading)
                    tell(*l, p, e, fail(LARDER_E_CANCELLED, "cache", "the cache was destroyed"));
    }
}
