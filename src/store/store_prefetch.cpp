// From the file into RAM before it is asked for.
#include <algorithm>

#include "store/store.h"

using namespace larder;

namespace {

// What one turn reads at most; demand gets its turn in between.
constexpr uint64_t turn_bytes = 4 << 20;
constexpr size_t turn_reads = 64;

}  // namespace

// Promotes as reads arrive.
struct larder_store::Prefetch final : FileReader::Sink {
    explicit Prefetch(larder_store& s) : store(s), reads(s.context->alloc), items(s.context->alloc) {}
    void done(size_t i) override {
        FileRead& read = reads[i];
        if (read.status >= 0) store.promote(read);
        Lock lock(store.mutex_);
        if (read.status < 0) store.drop_bad_record(read);
        store.end_file_read(read.segment, read.buffer != nullptr);
        read.segment = no_segment;
    }
    larder_store& store;
    Vec<FileRead> reads;
    Vec<uint32_t> items;  // whose reads they are
};

// Under the table mutex: OK when nothing is to be done, PENDING when it is to be read.
larder_status larder_store::prefetch_state(uint32_t slot) noexcept {
    if (slot == no_slot) return LARDER_MISS;
    const Object& o = objects_[slot];
    if (o.writing) return LARDER_RETRY;
    return o.in_host() ? LARDER_OK : LARDER_PENDING;
}

uint64_t larder_store::prefetch_wait_ns() noexcept {
    Lock lock(mutex_);
    return prefetching_.wait_ns(context->os.now_ns());
}

// The front of the keys, as many as one turn takes. Gives each of them a status and returns how many there were.
uint32_t larder_store::prefetch_some(const larder_key* keys, uint32_t n, larder_status* statuses) {
    if (remote_) {
        n = std::min<uint32_t>(n, turn_reads);
        bring_remote({keys, n});
    }
    Prefetch batch(*this);
    Vec<std::byte> scratch(context->alloc);
    batch.reads.reserve(std::min<size_t>(n, turn_reads));
    batch.items.reserve(std::min<size_t>(n, turn_reads));
    uint32_t taken = 0;
    uint64_t n_bytes = 0;
    {
        Lock lock(mutex_);
        for (; taken < n && batch.reads.size() < turn_reads; ++taken) {
            const uint32_t slot = objects_.slot_of(keys[taken]);
            statuses[taken] = prefetch_state(slot);
            if (statuses[taken] != LARDER_PENDING) continue;
            const uint64_t size = objects_[slot].n_bytes;
            if (n_bytes && n_bytes + size > turn_bytes) break;
            FileRead read;
            fill_file_read(slot, read);
            read.want_bytes = read.n_bytes;
            n_bytes += size;
            batch.reads.push_back(std::move(read));
            batch.items.push_back(taken);
        }
        prefetching_.take(n_bytes);
        scratch.resize(n_bytes);
        std::byte* out = scratch.data();
        for (FileRead& read : batch.reads) {
            read.out = out;
            out += read.n_bytes;
            file_->hold(read.segment, read.buffer != nullptr);
        }
    }
    if (batch.reads.empty()) return taken;
    larder_status ran;
    try {
        ran = reader_->run(batch.reads, batch);
    } catch (const std::bad_alloc&) {
        ran = fail(LARDER_E_NOMEM, "", "the allocator gave no memory");
    }
    Lock lock(mutex_);
    for (size_t i = 0; i < batch.reads.size(); ++i) {
        if (batch.reads[i].segment != no_segment)
            end_file_read(batch.reads[i].segment, batch.reads[i].buffer != nullptr);
        larder_status& status = statuses[batch.items[i]];
        status = prefetch_state(objects_.slot_of(keys[batch.items[i]]));
        // It is where it was: nothing in RAM could make room for it.
        if (status == LARDER_PENDING) status = ran == LARDER_E_NOMEM ? LARDER_E_NOMEM : LARDER_E_NOSPACE;
    }
    return taken;
}
