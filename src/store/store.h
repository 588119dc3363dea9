// The store: objects under content keys over a host tier and a file tier.
//
// One mutex guards the bookkeeping (object table, policies, segment books); payloads are copied and files are read and
// written outside of it, while whoever does so holds a count on what it uses. Appends to the file are ordered by the
// file tier's own mutex, which is taken first.
#pragma once

#include <condition_variable>
#include <mutex>
#include <span>

#include "core/context.h"
#include "core/event_log.h"
#include "core/job.h"
#include "larder/store.h"
#include "store/departures.h"
#include "store/hint_table.h"
#include "store/object_table.h"
#include "store/recorder.h"
#include "store/store_remote.h"
#include "store/tiers/file_reader.h"
#include "store/tiers/file_tier.h"
#include "transfer/throttle.h"

struct larder_store final : larder::Handle, private larder::FileTier::Visitor {
    // `o` was read by read_options(); ranges are checked and defaults filled in here.
    static larder_status open(larder_context& c, const larder_store_options& o, larder_store** out);
    larder_store(larder_context& c, const larder_store_options& o);
    ~larder_store();
    larder_store(const larder_store&) = delete;

    // --- verbs, each as its namesake in larder/store.h; they do their work on the calling thread
    // -----------------------------
    larder_status put(const larder_store_put_item& item);
    // Told how many items at the front of the array are done and how many bytes that were; returns false to stop the
    // rest.
    struct Progress {
        bool (*fn)(void* ctx, size_t n_done, uint64_t n_bytes);
        void* ctx;
    };
    void get(std::span<const larder_store_get_item> items, larder_store_get_result* results,
             Progress progress = {nullptr, nullptr});
    // Without the remote.
    void get_local(std::span<const larder_store_get_item> items, larder_store_get_result* results) {
        get_items(items, results, {nullptr, nullptr}, false);
    }
    // The caller's want, checked and with its default filled in, as lookup() takes it.
    static larder_status read_want(const larder_object_want* user, larder_object_want& want) noexcept;
    larder_object_info lookup(const larder_key& key, const larder_object_want* want);
    void lookup_within(const larder_key* keys, uint32_t n, const larder_object_want* want, uint64_t timeout_ns,
                       larder_object_info* infos);
    larder_status remote_flush(uint64_t timeout_ns);
    larder_status remote_info(larder_remote_info& out);
    larder_status scan(larder_store_scan_fn fn, void* ctx);
    larder_status read_events(uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                              uint64_t& out_n) const noexcept {
        return events_.read(cursor, out, stride, n, out_n);
    }
    larder_status snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                           uint64_t& out_n) noexcept;
    larder_status evict(const larder_key& key, uint32_t tiers);
    larder_status check_move(uint32_t to_tier, uint32_t flags) const noexcept;
    larder_status move(const larder_key& key, uint32_t to_tier, uint32_t flags);
    larder_status lease_owner(int32_t pid, larder::ProcessRef& owner) const noexcept;
    larder_status reserve(const larder_store_put_item& item, const larder::ProcessRef& owner, larder_lease* out);
    larder_status commit(const larder_lease* leases, uint32_t n, const uint64_t* n_bytes);
    larder_status acquire(const larder_key& key, const larder_object_want& want, uint32_t flags,
                          const larder::ProcessRef& owner, larder_lease* out);
    // Of those that write: give up. Of those that read: release.
    larder_status end_leases(const larder_lease* leases, uint32_t n, bool writes) noexcept;
    larder_status release_after(const larder_lease* leases, uint32_t n, larder_queue& queue, larder_job job);
    larder_status view(larder_lease lease, larder_piece* pieces, uint32_t capacity, uint32_t* out_n);
    uint64_t expire() noexcept;
    larder_status pin(const larder_key& key);
    larder_status unpin(const larder_key& key);
    larder_status drop_tenant(uint32_t tenant, uint64_t* out_n);
    larder_status hint(const larder_key* keys, uint32_t n, uint64_t request, larder_outcome* outcomes);
    larder_status hint_served(uint64_t request);
    larder_status protect(const larder_key* keys, uint32_t n, uint8_t priority, uint64_t ttl_ns,
                          larder_outcome* outcomes);
    larder_status plan(const larder_key* keys, const uint64_t* prefill_ns, uint32_t n, const larder_object_want* want,
                       larder_load_step* steps, larder_load_plan& out);
    larder_status drop(const larder_object_filter& filter, uint64_t* out_n);
    // Of the keys at the front, as many as one turn takes; returns how many.
    uint32_t prefetch_some(const larder_key* keys, uint32_t n, larder_status* statuses);
    larder_status set_quota(uint32_t tenant, uint64_t host_bytes, uint64_t file_bytes);
    larder_status flush();
    larder_status scrub(larder_store_report& report);
    larder_status verify();
    larder_store_explanation explain(const larder_key& key);
    larder_store_info info();

    // --- the same as jobs
    // -------------------------------------------------------------------------------------------------
    larder_status put_async(const larder_store_put_item* items, uint32_t stride, uint32_t n, larder_status* statuses,
                            larder_queue& queue, uint64_t user_data, larder_job* out_job);
    larder_status get_async(const larder_store_get_item* items, uint32_t stride, uint32_t n,
                            larder_store_get_result* results, larder_queue& queue, uint64_t user_data,
                            larder_job* out_job);
    larder_status prefetch_async(const larder_key* keys, uint32_t n, uint64_t deadline_ns, larder_status* statuses,
                                 larder_queue& queue, uint64_t user_data, larder_job* out_job);
    larder_status move_async(const larder_key* keys, uint32_t n, uint32_t to_tier, uint32_t flags,
                             larder_status* statuses, larder_queue& queue, uint64_t user_data, larder_job* out_job);
    larder_status flush_async(larder_queue& queue, uint64_t user_data, larder_job* out_job);

  private:
    using Object = larder::Object;
    using Lock = std::unique_lock<std::mutex>;
    using AppendLock = larder::FileTier::AppendLock;
    struct Tenant {
        larder::ObjectList<&Object::in_tenant> objects;  // in the order they were put
        uint64_t host_bytes = 0, file_bytes = 0;
        uint64_t host_quota = 0, file_quota = 0;  // 0: none
    };
    using Expiry = std::pair<uint64_t, larder_key>;  // when, of what
    struct ExpiryOrder {
        bool operator()(const Expiry& a, const Expiry& b) const noexcept {
            const int order = std::memcmp(a.second.bytes, b.second.bytes, sizeof a.second.bytes);
            return a.first != b.first ? a.first < b.first : order < 0;
        }
    };
    // What lives in a segment.
    struct SegmentBook {
        larder::ObjectList<&Object::in_segment> objects;
        uint32_t n_objects = 0;
        uint32_t n_removals = 0;
        uint64_t live_bytes = 0, pinned_bytes = 0;  // of records
        bool in_policy = false;
    };
    // A recorded removal that still has something to remove in an older segment of the file.
    struct Removal {
        larder::format::Record record;
        uint32_t segment;
    };
    // Memory of an object in another's hands.
    struct Lease {
        uint32_t slot = larder::no_slot;
        bool writes = false;       // a reservation
        bool busy = false;         // being committed
        larder::ProcessRef owner;  // no pid: this process
    };
    struct Job;
    struct JobLeases;
    struct GetBatch;
    struct Prefetch;
    // What a way into the caller's memory gave lately; 0: not measured yet.
    struct PathRate {
        uint64_t bytes_per_s = 0;
        void sample(uint64_t n_bytes, uint64_t ns) noexcept;
        uint64_t cost_ns(uint64_t n_bytes, uint64_t unmeasured) const noexcept;
    };
    struct Kept;
    struct DrainTask : larder::Task {
        larder_store* store;
    };

    // store.cpp
    void open_throttles(const larder_store_options& o, uint64_t now_ns) noexcept;
    larder_status open_tiers(const larder_store_options& o);
    void segment(larder::SegmentScan& scan) override;
    void recover_object(larder::SegmentScan& scan, larder::ScannedRecord& r);
    void recover_removal(larder::SegmentScan& scan, const larder::ScannedRecord& r);
    void close() noexcept;

    // store_lists.cpp: all under the table mutex
    Tenant& tenant(uint32_t id) { return tenants_[id]; }
    uint32_t add_object(const larder_key& key, const larder::ObjectMeta& meta, uint32_t n_bytes,
                        larder::ExtentSums sums);
    void attach_host(uint32_t slot, larder::HostExtent extent) noexcept;
    void detach_host(uint32_t slot) noexcept;
    void attach_file(uint32_t slot, larder::RecordPlace place) noexcept;
    void detach_file(uint32_t slot) noexcept;
    void update_host_policy(uint32_t slot) noexcept;
    void touch(uint32_t slot) noexcept;
    void set_dirty(uint32_t slot, bool dirty) noexcept;
    void remove_object(uint32_t slot, larder_absence why, uint32_t tier) noexcept;
    void remove_if_nowhere(uint32_t slot, larder_absence why, uint32_t tier) noexcept;
    void leave(uint32_t slot, uint32_t tier, larder_absence why) noexcept;
    void end_host_read(uint32_t slot) noexcept;
    void end_file_read(uint32_t segment, bool buffer) noexcept;
    larder_status pin_slot(uint32_t slot) noexcept;
    void count_pinned(bool more) noexcept;
    void note_departure(const larder_key& key, larder_absence why, uint32_t tier) noexcept;
    void drop_failed_segments(AppendLock& append);

    // store_events.cpp: all under the table mutex
    void tell(const Object& o, uint32_t before, uint32_t after, larder_absence why) noexcept;
    void tell_added(uint32_t slot, uint32_t tier) noexcept;
    void tell_removed(const Object& o, uint32_t tiers, larder_absence why) noexcept;

    // store_hints.cpp
    larder::Reference reference(uint32_t slot) noexcept;
    larder_status expect_hints();
    larder_outcome hint_use(const larder_key& key, uint64_t request);
    larder_outcome protect_one(const larder_key& key, uint8_t priority, uint64_t until_ns, bool clipped);
    void forget_protection(Object& o) noexcept;
    void end_protection() noexcept;

    // store_remote.cpp
    larder_status open_remote(const larder_remote_options* user);
    void queue_remote(uint32_t slot) noexcept;
    static void remote_turn(larder::Task* task) noexcept;
    void begin_remote_write();
    uint64_t add_remote_write(const larder_key& key);
    void end_remote_write() noexcept;
    void tell_bad_remote(const larder_key& key) noexcept;
    larder_status judge_remote(const larder::RemoteRead& read, const larder_object_want& want) noexcept;
    void get_remote(std::span<larder::RemoteGet> gets, uint64_t timeout_ns);
    void get_remote_part(larder::RemoteGet& get, uint64_t size, uint64_t timeout_ns);
    bool adopt_remote(const larder::RemoteRead& read);
    void bring_remote(std::span<const larder_key> keys);

    // store_prefetch.cpp
    larder_status prefetch_state(uint32_t slot) noexcept;
    uint64_t prefetch_wait_ns() noexcept;

    // store_lease.cpp
    Lease* find_lease(larder_lease id, bool writes) noexcept;
    void end_lease(larder_lease id) noexcept;
    uint64_t expire_leases(uint32_t slot) noexcept;
    uint32_t slot_of(const larder_key& key) noexcept;
    void sum_payload(const Object& o, uint64_t n_bytes, larder::ExtentSums& sums) const noexcept;
    void prepare_commit(const larder_lease* leases, uint32_t n, const uint64_t* n_bytes,
                        larder::Vec<larder::ExtentSums>& sums);
    void publish(uint32_t slot, uint64_t n_bytes, larder::ExtentSums sums) noexcept;
    larder_status try_acquire(const larder_key& key, const larder_object_want& want, const larder::ProcessRef& owner,
                              larder_lease* out);
    larder_status bring_and_acquire(const larder_key& key, const larder_object_want& want,
                                    const larder::ProcessRef& owner, larder_lease* out, uint32_t* tier);
    larder_status verify_lease(larder_lease* id, uint32_t tier, bool verify) noexcept;

    // store_put.cpp
    larder_status check_put(const larder_store_put_item& item, larder::ObjectMeta& meta) const noexcept;
    larder_status meet_existing(const larder_key& key, const larder::ObjectMeta& meta, uint32_t flags) noexcept;
    uint32_t replace_object(const larder_store_put_item& item, const larder::ObjectMeta& meta, larder::ExtentSums sums);
    larder_status begin_write(const larder_store_put_item& item, const larder::ObjectMeta& meta, uint32_t* out_slot);
    void end_write(uint32_t slot) noexcept;
    void note_rejection(const larder_key& key, larder_status status) noexcept;
    void help_to_write();
    larder_status put_host(const larder_store_put_item& item, const larder::ObjectMeta& meta);
    larder_status put_file(const larder_store_put_item& item, const larder::ObjectMeta& meta);
    larder_status reserve_host(const larder_store_put_item& item, const larder::ObjectMeta& meta,
                               larder::ExtentSums& sums, uint32_t* out_slot);
    bool make_host_room(uint64_t n_bytes) noexcept;
    bool make_host_quota(Tenant& t, uint64_t n_bytes) noexcept;
    bool file_takes(uint32_t flags) const noexcept;

    // store_move.cpp
    larder_status offload(const larder_key& key, bool keep);
    larder_status onboard(const larder_key& key, bool keep);

    // store_writeback.cpp
    bool write_back_one();
    uint64_t drain_wait_ns() noexcept;
    uint32_t take_dirty(const larder_key* key) noexcept;
    larder_status write_back(const larder_key* key);
    void settle_write_back(AppendLock& append, uint32_t slot, const larder::Result<larder::RecordPlace>& placed,
                           larder_absence why);
    bool make_file_quota(Tenant& t, uint64_t n_bytes) noexcept;
    bool file_may_write(AppendLock& append) noexcept;
    larder_status make_file_room(AppendLock& append, const larder::format::Record& r);
    uint32_t choose_victim();
    larder_status evict_segment(AppendLock& append, uint32_t victim);
    larder_status keep_records(AppendLock& append, uint32_t victim);
    larder_status keep_removals(AppendLock& append, uint32_t victim);
    larder_status append_removal(AppendLock& append, larder::format::RecordKind kind, const larder_key& key,
                                 uint32_t tenant);
    void schedule_drain() noexcept;
    static void drain(larder::Task* task) noexcept;

    // store_get.cpp
    void get_items(std::span<const larder_store_get_item> items, larder_store_get_result* results, Progress progress,
                   bool from_remote);
    void read_remote(GetBatch& batch, uint64_t timeout_ns);
    larder_status check_want(const Object& o, const larder_object_want* want) const noexcept;
    larder_status find_readable(const larder_key& key, const larder_object_want& want, uint32_t* out_slot) noexcept;
    void record_get(const larder_key& key, const larder_object_want& want) noexcept;
    void resolve(GetBatch& batch, size_t i);
    bool copy_host(const Object& o, uint64_t offset, uint64_t n_bytes, std::byte* out) const noexcept;
    void count_read(uint32_t tier, bool holds, uint64_t n_bytes) noexcept;
    void read_host(GetBatch& batch, size_t h);
    void drop_bad_host(uint32_t slot) noexcept;
    void read_files(GetBatch& batch);
    void file_read_done(GetBatch& batch, size_t i, larder::FileRead& read);
    void promote(const larder::FileRead& read);
    void drop_bad_record(const larder::FileRead& read);
    void fill_file_read(uint32_t slot, larder::FileRead& read);

    // store_admin.cpp
    bool verify_host(const larder_key& key, bool* out_there);
    larder_status verify_host_books();
    larder_status verify_file_books();

    // store_jobs.cpp
    larder_status submit(Job* job, larder_queue& queue, uint64_t user_data, uint32_t n_layers, larder_job* out_job);
    void finish_job() noexcept;

    std::mutex mutex_;
    std::condition_variable idle_;          // no job is left
    std::condition_variable readers_gone_;  // of a segment
    larder_store_options options_;
    larder::ObjectTable objects_;
    larder::HashMap<uint32_t, Tenant> tenants_;
    larder::Departures departures_;
    larder::EventLog events_;  // appended to under the mutex
    larder::Owned<larder::HostTier> host_;
    larder::Owned<larder::Recorder> recorder_;
    larder::Owned<larder::RecordedPolicy> host_policy_;
    bool tail_first_ = false;  // of a get, the last item is touched first
    larder::HintTable hints_;
    uint64_t n_served_ = 0;  // requests before this one are over
    std::set<Expiry, ExpiryOrder, larder::StdAlloc<Expiry>> protected_until_;
    larder::ObjectList<&Object::in_dirty> dirty_;
    uint64_t dirty_bytes_ = 0, n_host_objects_ = 0, n_file_objects_ = 0, n_pinned_ = 0;
    PathRate host_rate_, file_rate_;
    uint64_t reading_bytes_ = 0;  // asked of the file and not there yet
    uint64_t clock_ = 0;          // counts references
    larder::IdTable<Lease> leases_;
    uint64_t n_reserved_ = 0;  // of these, that write

    larder::Owned<larder::FileTier> file_;
    larder::Owned<larder::FileReader> reader_;
    larder::Owned<larder::Policy> file_policy_;
    larder::Vec<SegmentBook> books_;
    larder::Vec<Removal> removals_;  // under the append mutex
    uint64_t put_bytes_ = 0, reinserted_bytes_ = 0, n_recovered_ = 0, recovery_ns_ = 0;
    larder::Throttle endurance_, write_back_, prefetching_;
    uint64_t charged_bytes_ = 0;  // to the first, so far
    uint64_t n_unplaced_ = 0;     // objects that found no room in the file since the last flush

    larder::Owned<larder::RemoteState> remote_;
    std::condition_variable remote_idle_;  // nothing waits to be written there

    DrainTask drain_{};
    bool drain_scheduled_ = false;
    bool closing_ = false;
    bool open_ = false;    // what comes and goes is told
    uint32_t n_jobs_ = 0;  // submitted and not finished, the drain task included
};
