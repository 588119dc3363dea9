// A month of traffic on a simulated system: sessions that come back, tenants that leave, a night without anybody,
// deploys that restart the store, a power cut now and then. Day by day the books agree, nothing wrong is read, the disk
// is written no more than its budget allows, and memory does not grow.
#include "support/sim_store.h"

#include <deque>
#include <map>

using namespace larder;

namespace {

constexpr uint64_t second_ns = 1000000000, day_ns = 24 * 3600 * second_ns;
constexpr uint64_t bytes_per_day = 5 << 20;

size_t size_of(uint64_t key) {
    return size_t(500 + mix64(key) % 12000);
}

StoreSetup setup_of() {
    return {.host_bytes = 256 << 10,
            .file_bytes = 24 * 65536 + 16384,
            .segment_bytes = 65536,
            .max_object = 13000,
            .reinsert_percent = 20,
            .n_workers = 0};
}

class Month {
  public:
    explicit Month(uint64_t seed) : rng_(seed), os_(std::make_unique<SimOs>(seed)) { start(); }

    void live(uint64_t n_days) {
        for (day_ = 0; day_ < n_days; ++day_) {
            // From 6 to 24 o'clock somebody is there.
            pass(6 * 3600 * second_ns);
            for (uint64_t minute = 0; minute < 18 * 60; minute += 3) {
                pass(3 * 60 * second_ns);
                // On the seventh day few come.
                const uint64_t n = day_ % 7 == 6 ? minute % 60 == 0 : 1 + rng_.below(4);
                for (uint64_t i = 0; i < n; ++i) turn();
            }
            end_day();
        }
        print_message("%llu hits, %llu days over the budget, %llu writes pending at power cuts\n",
                      (unsigned long long)n_hits_, (unsigned long long)n_over_budget_, (unsigned long long)n_pending_);
        assert_true(n_hits_ > 10000);
        assert_true(n_over_budget_ > 0 && n_over_budget_ < n_days && n_pending_ > 0 && n_sure_ > 0);
        stop();
    }

  private:
    // A conversation: its blocks are asked for from the first on, then it grows by one.
    struct Session {
        uint64_t id = 0, n_blocks = 0;
        uint32_t tenant = 0;
    };
    uint64_t key_of(const Session& s, uint64_t block) const { return s.id * 64 + block; }

    void start() {
        store_ = std::make_unique<SimStore>(*os_);
        larder_store_options o = setup_of().options("/store");
        o.write_bytes_per_day = bytes_per_day;
        o.n_events = 4096;
        o.host_policy = LARDER_POLICY_AUTO;
        larder_store* s = nullptr;
        assert_int_equal(larder_store_open(store_->context(), &o, &s), LARDER_OK);
        s_ = s;
        written_before_ = 0;
        assert_int_equal(larder_store_verify(s_), LARDER_OK);
    }
    void stop() {
        larder_store_close(s_);
        s_ = nullptr;
        store_.reset();
    }
    void pass(uint64_t ns) { os_->advance_ns(ns); }

    void turn() {
        if (sessions_.empty() || rng_.below(3) == 0) sessions_.push_back({++n_sessions_, 0, uint32_t(rng_.below(4))});
        if (sessions_.size() > 40) sessions_.pop_front();
        const uint64_t recent = std::min<uint64_t>(sessions_.size(), 1 + rng_.below(20));
        Session& s = sessions_[sessions_.size() - 1 - rng_.below(recent)];
        std::vector<unsigned char> bytes;
        for (uint64_t b = 0; b < s.n_blocks; ++b) {
            const uint64_t k = key_of(s, b);
            const larder_status got = get_one(s_, make_key(k), make_want(s.tenant), bytes, 13000);
            if (got == LARDER_OK) {
                assert_true(bytes == make_payload(k, size_of(k)));
                ++n_hits_;
                continue;
            }
            assert_int_equal(got, LARDER_MISS);
            add(s, k);  // computed again
        }
        if (s.n_blocks < 60) add(s, key_of(s, s.n_blocks++));
        manage(s);
    }
    void add(const Session& s, uint64_t k) {
        const auto payload = make_payload(k, size_of(k));
        const larder_status put = rng_.below(4) ? put_one(s_, make_key(k), make_meta(s.tenant), payload)
                                                : write_one(s_, make_key(k), make_meta(s.tenant), payload);
        assert_true(put == LARDER_OK || put == LARDER_E_EXISTS || put == LARDER_E_NOSPACE);
    }
    void manage(const Session& s) {
        const larder_key key = make_key(key_of(s, 0));
        switch (rng_.below(40)) {
        case 0:
            larder_store_protect(s_, &key, 1, uint32_t(rng_.below(101)), rng_.below(3 * day_ns), nullptr);
            break;
        case 1:
            larder_store_hint(s_, &key, 1, ++request_, nullptr);
            break;
        case 2:
            larder_store_hint_served(s_, request_);
            break;
        case 3:
            larder_store_offload(s_, &key, 1, nullptr, nullptr, 0, nullptr);
            break;
        case 4:
            if (rng_.below(20) == 0) larder_store_drop_tenant(s_, s.tenant, nullptr);
            break;
        default:
            break;
        }
    }

    void end_day() {
        const larder_status flushed = larder_store_flush(s_, nullptr, 0, nullptr);
        assert_true(flushed == LARDER_OK || flushed == LARDER_PARTIAL);
        n_over_budget_ += flushed == LARDER_PARTIAL;
        assert_int_equal(larder_store_verify(s_), LARDER_OK);
        larder_store_info info = LARDER_STORE_INFO_INIT;
        assert_int_equal(larder_store_info_get(s_, &info), LARDER_OK);
        // A day's share, the hour's share that may come at once, and what one flush or segment adds.
        assert_true(info.written_bytes - written_before_ <= bytes_per_day + bytes_per_day / 24 + 4 * 65536);
        written_before_ = info.written_bytes;
        assert_true(info.n_objects < 1000);
        assert_int_equal(info.n_leases + info.n_reserved, 0);
        if (day_ % 7 == 3) {  // deploy
            stop();
            start();
        }
        if (day_ % 9 == 5) cut_power();
        if (day_ % 10 == 9) {
            larder_store_report report = LARDER_STORE_REPORT_INIT;
            assert_int_equal(larder_store_scrub(s_, &report), LARDER_OK);
        }
    }
    // The power goes some minutes after a flush: what was flushed, and has not left the file since, is there.
    void cut_power() {
        std::map<std::string, std::pair<uint64_t, uint32_t>> flushed;
        for (const Session& s : sessions_)
            for (uint64_t b = 0; b < s.n_blocks; ++b)
                if (look_up(s_, make_key(key_of(s, b))).tiers & LARDER_TIER_FILE)
                    flushed[to_string(make_key(key_of(s, b)))] = {key_of(s, b), s.tenant};
        uint64_t cursor = newest_event();
        pass(6 * 3600 * second_ns);
        for (int i = 0; i < 30; ++i) turn();
        forget_changed(cursor, flushed);
        SimFs disks = os_->fs();
        PowerCut cut{.seed = rng_.next()};
        for (size_t i = 0; i < disks.pending().size(); ++i) cut.fates.push_back(PowerCut::Fate(rng_.below(3)));
        n_pending_ += disks.pending().size();
        disks.power_cut(cut);
        stop();
        os_ = std::make_unique<SimOs>(rng_.next(), std::move(disks));
        pass(day_ * day_ns);
        start();
        std::vector<unsigned char> bytes;
        for (const auto& [name, what] : flushed) {
            assert_int_equal(get_one(s_, make_key(what.first), make_want(what.second), bytes, 13000), LARDER_OK);
            assert_true(bytes == make_payload(what.first, size_of(what.first)));
        }
    }
    uint64_t newest_event() {
        uint64_t position = 0, cursor = 0, n = 0;
        larder_event event;
        larder_store_events_snapshot(s_, &position, &cursor, &event, sizeof event, 1, &n);
        return cursor;
    }
    template <class M> void forget_changed(uint64_t cursor, M& keys) {
        larder_event events[256];
        for (uint64_t n = 1; n;) {
            assert_int_equal(larder_store_events_read(s_, &cursor, events, sizeof events[0], 256, &n), LARDER_OK);
            for (uint64_t i = 0; i < n; ++i)
                if ((events[i].places ^ events[i].places_before) & LARDER_TIER_FILE)
                    keys.erase(to_string(events[i].key));
        }
        n_sure_ += keys.size();
    }

    Rng rng_;
    std::unique_ptr<SimOs> os_;
    std::unique_ptr<SimStore> store_;
    larder_store* s_ = nullptr;
    std::deque<Session> sessions_;
    uint64_t day_ = 0, n_sessions_ = 0, n_hits_ = 0, n_over_budget_ = 0, written_before_ = 0, request_ = 0,
             n_pending_ = 0, n_sure_ = 0;
};

void a_month(void**) {
    Month(test_seed()).live(test_long() ? 300 : 30);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(a_month)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
