// Jobs and queues: polling, waiting, cancelling and tearing down, with worker threads and without.
#include "support/cmocka.h"

#include <poll.h>

#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "core/job.h"
#include "larder/larder.h"
#include "os/sim_os.h"

using namespace larder;

namespace {

struct World {
    larder_context* context = nullptr;
    larder_queue* queue = nullptr;
    World(uint32_t n_workers, uint32_t max_jobs = 0, Os& os = posix_os()) {
        larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
        o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        o.n_workers = n_workers;
        assert_int_equal(larder_context::create(&o, os, &context), LARDER_OK);
        larder_queue_options q = LARDER_QUEUE_OPTIONS_INIT;
        q.max_jobs = max_jobs;
        assert_int_equal(larder_queue_create(context, &q, &queue), LARDER_OK);
    }
    ~World() {
        larder_queue_destroy(queue);
        assert_int_equal(larder_context_destroy(context), LARDER_OK);
    }
};

// A job as a task: some steps, each a layer; ends early when cancelled.
struct StepTask : Task {
    larder_queue* queue;
    larder_job job;
    uint32_t n_steps, at = 0;
    larder_status end;
    bool resubmit;  // one step per run
};

void step(Task* t) noexcept {
    auto* s = static_cast<StepTask*>(t);
    do {
        if (s->queue->cancelled(s->job)) {
            s->queue->finish(s->job, LARDER_E_CANCELLED);
            delete s;
            return;
        }
        s->queue->add_bytes(s->job, 10);
        s->queue->layers_done(s->job, ++s->at);
        if (s->at < s->n_steps && s->resubmit) return s->queue->context->scheduler.submit(s);
    } while (s->at < s->n_steps);
    if (s->end < 0) fail(s->end, "step", "failed on purpose");
    s->queue->finish(s->job, s->end);
    delete s;
}

larder_job start(World& w, uint64_t user_data, uint32_t n_steps = 1, larder_status end = LARDER_OK,
                 bool resubmit = false) {
    auto job = w.queue->begin(user_data, n_steps);
    assert_true(job.ok());
    auto* t = new StepTask{{}, w.queue, *job, n_steps, 0, end, resubmit};
    t->run = step;
    w.context->scheduler.submit(t);
    return *job;
}

void every_job_completes_once(void**) {
    for (uint32_t n_workers : {0u, 2u}) {
        World w(n_workers, 100);
        std::set<uint64_t> seen;
        for (uint64_t i = 0; i < 100; ++i) start(w, i, uint32_t(1 + i % 3));
        assert_int_equal(w.queue->begin(0, 1).status(), LARDER_E_BUSY);
        larder_completion c[16];
        while (seen.size() < 100) {
            uint32_t n = 0;
            assert_int_equal(larder_queue_wait(w.queue, c, sizeof *c, 16, UINT64_MAX, &n), LARDER_OK);
            assert_true(n >= 1 && n <= 16);
            for (uint32_t i = 0; i < n; ++i) {
                assert_true(seen.insert(c[i].user_data).second);
                assert_int_equal(c[i].status, LARDER_OK);
                assert_int_equal(c[i].n_bytes, 10 * (1 + c[i].user_data % 3));
                assert_int_equal(larder_job_wait(w.queue, c[i].job, 0), LARDER_E_STALE);
            }
        }
        uint32_t n = 0;
        assert_int_equal(larder_queue_wait(w.queue, c, sizeof *c, 16, UINT64_MAX, &n), LARDER_E_NOT_FOUND);
        larder_stats s{.struct_size = sizeof s};
        assert_int_equal(larder_context_stats(w.context, &s), LARDER_OK);
        assert_int_equal(s.jobs_submitted, 100);
        assert_int_equal(s.jobs_completed, 100);
    }
}

void completions_fit_an_older_struct(void**) {
    World w(0);
    start(w, 5);
    start(w, 6);
    larder_context_progress(w.context, 0);
    alignas(8) unsigned char out[2 * 24];
    std::memset(out, 0x55, sizeof out);
    uint32_t n = 0;
    assert_int_equal(larder_queue_poll(w.queue, reinterpret_cast<larder_completion*>(out), 16, 2, &n), LARDER_OK);
    assert_int_equal(n, 2);
    uint64_t user_data;
    std::memcpy(&user_data, out + 24, 8);
    assert_int_equal(user_data, 6);
    assert_int_equal(out[32], 0x55);
}

void waits_end_in_time(void**) {
    World w(2);
    auto job = w.queue->begin(1, 3);
    assert_int_equal(larder_job_wait(w.queue, *job, 2000000), LARDER_E_TIMEOUT);
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 1, 0), LARDER_E_TIMEOUT);
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 3, 0), LARDER_E_RANGE);
    larder_completion c;
    uint32_t n = 9;
    assert_int_equal(larder_queue_wait(w.queue, &c, sizeof c, 1, 2000000, &n), LARDER_E_TIMEOUT);
    assert_int_equal(n, 0);
    w.queue->layers_done(*job, 2);
    w.queue->layers_done(*job, 1);  // never back
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 1, 0), LARDER_OK);
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 2, 0), LARDER_E_TIMEOUT);
    fail(LARDER_E_CORRUPT, "layer", "the third layer is bad");
    w.queue->finish(*job, LARDER_E_CORRUPT);
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 1, 0), LARDER_OK);
    fail(LARDER_E_INVALID, "", "something else");
    assert_int_equal(larder_job_wait_layer(w.queue, *job, 2, 0), LARDER_E_CORRUPT);
    assert_string_equal(last_error().message, "the third layer is bad");
    assert_int_equal(larder_job_wait(w.queue, *job, 0), LARDER_E_CORRUPT);
}

// With a virtual clock and no workers nothing else moves time: a wait must do it.
void waits_end_in_virtual_time(void**) {
    SimOs os;
    World w(0, 0, os);
    auto job = w.queue->begin(1, 1);
    const uint64_t before = os.now_ns();
    assert_int_equal(larder_job_wait(w.queue, *job, 60000000000ull), LARDER_E_TIMEOUT);
    assert_true(os.now_ns() - before >= 60000000000ull);
    int32_t fd;
    assert_int_equal(larder_queue_fd(w.queue, &fd), LARDER_E_UNSUPPORTED);
    w.queue->finish(*job, LARDER_OK);
}

void cancelled_jobs_still_complete(void**) {
    for (uint32_t n_workers : {0u, 2u}) {
        World w(n_workers);
        const larder_job job = start(w, 1, UINT32_MAX - 1, LARDER_OK, true);
        if (n_workers) assert_int_equal(larder_job_wait_layer(w.queue, job, 10, UINT64_MAX), LARDER_OK);
        assert_int_equal(larder_job_cancel(w.queue, job), LARDER_OK);
        assert_int_equal(larder_job_wait(w.queue, job, UINT64_MAX), LARDER_E_CANCELLED);
        assert_int_equal(last_error().status, LARDER_E_CANCELLED);
        assert_int_equal(larder_job_cancel(w.queue, job), LARDER_OK);
        larder_completion c;
        uint32_t n = 0;
        assert_int_equal(larder_queue_poll(w.queue, &c, sizeof c, 1, &n), LARDER_OK);
        assert_int_equal(n, 1);
        assert_int_equal(c.status, LARDER_E_CANCELLED);
        larder_stats s{.struct_size = sizeof s};
        larder_context_stats(w.context, &s);
        assert_int_equal(s.jobs_cancelled, 1);
        assert_int_equal(s.jobs_failed, 0);
    }
}

// Work that submits itself again must not hold a poll or a progress call for ever.
void polls_do_not_wait_for_endless_work(void**) {
    World w(0);
    const larder_job job = start(w, 1, UINT32_MAX - 1, LARDER_OK, true);
    larder_completion c;
    uint32_t n = 0;
    assert_int_equal(larder_context_progress(w.context, 0), LARDER_PENDING);
    assert_int_equal(larder_queue_poll(w.queue, &c, sizeof c, 1, &n), LARDER_OK);
    assert_int_equal(n, 0);
    assert_int_equal(larder_job_wait(w.queue, job, 1000000), LARDER_E_TIMEOUT);
    larder_job_cancel(w.queue, job);
}

void failed_items_are_named(void**) {
    World w(0, 2);
    auto job = w.queue->begin(1, 1);
    for (uint64_t i = 0; i < 300; ++i) {
        fail(LARDER_E_IO, "item", "item %llu", (unsigned long long)i);
        w.queue->item_failed(*job, i, LARDER_E_IO);
    }
    w.queue->finish(*job, LARDER_OK);
    assert_int_equal(larder_job_wait(w.queue, *job, 0), LARDER_PARTIAL);
    larder_completion c;
    uint32_t n = 0;
    assert_int_equal(larder_queue_poll(w.queue, &c, sizeof c, 1, &n), LARDER_OK);
    assert_int_equal(c.status, LARDER_PARTIAL);
    assert_int_equal(c.n_failed, 300);
    std::vector<larder_job_error> e(400);
    assert_int_equal(larder_job_errors(w.queue, *job, e.data(), sizeof e[0], 400, &n), LARDER_PARTIAL);
    assert_int_equal(n, 256);
    assert_true(e[7].item == 7 && e[7].status == LARDER_E_IO);
    assert_int_equal(larder_job_errors(w.queue, *job, e.data(), sizeof e[0], 10, &n), LARDER_PARTIAL);
    assert_int_equal(n, 10);
    // Kept until max_jobs further completions were taken.
    for (int i = 0; i < 2; ++i) {
        assert_int_equal(larder_job_errors(w.queue, *job, e.data(), sizeof e[0], 1, &n), LARDER_PARTIAL);
        start(w, 2);
        assert_int_equal(larder_queue_wait(w.queue, &c, sizeof c, 1, UINT64_MAX, &n), LARDER_OK);
    }
    assert_int_equal(larder_job_errors(w.queue, *job, e.data(), sizeof e[0], 1, &n), LARDER_E_STALE);
}

// An error of which the worker left no detail gets a plain one, not that of some earlier failure.
void details_belong_to_their_job(void**) {
    World w(0);
    auto job = w.queue->begin(1, 1);
    fail(LARDER_E_RANGE, "earlier", "an earlier failure");
    w.queue->finish(*job, LARDER_E_IO);
    assert_int_equal(larder_job_wait(w.queue, *job, 0), LARDER_E_IO);
    assert_int_equal(last_error().status, LARDER_E_IO);
    assert_string_equal(last_error().field, "");
}

// Work on a stream starts when the layer is there; a job that fails before it releases the stream as well.
void streams_wait_for_layers(void**) {
    World w(0);
    larder_device_options o = LARDER_DEVICE_OPTIONS_INIT;
    o.name = "sim";
    larder_device* d = nullptr;
    assert_int_equal(larder_device_open(w.context, &o, &d), LARDER_OK);
    larder_stream_id s = 0;
    larder_event_id e = 0;
    assert_int_equal(larder_device_stream_create(d, &s), LARDER_OK);
    assert_int_equal(larder_device_event_create(d, &e), LARDER_OK);
    const larder_job job = *w.queue->begin(1, 3), failing = *w.queue->begin(2, 3);
    const auto held = [&] {
        assert_int_equal(larder_device_event_record(d, e, s), LARDER_OK);
        return larder_device_event_query(d, e) == LARDER_PENDING;
    };
    assert_int_equal(larder_job_stream_wait(w.queue, job, 3, d, s), LARDER_E_RANGE);
    assert_int_equal(larder_job_stream_wait(w.queue, job, 0, d, 12345), LARDER_E_INVALID);
    assert_int_equal(larder_job_stream_wait(w.queue, job + 1, 0, d, s), LARDER_E_STALE);
    assert_false(held());
    assert_int_equal(larder_job_stream_wait(w.queue, job, 1, d, s), LARDER_OK);
    assert_true(held());
    w.queue->layers_done(job, 1);
    assert_true(held());
    w.queue->layers_done(job, 2);
    assert_false(held());
    assert_int_equal(larder_job_stream_wait(w.queue, job, 1, d, s), LARDER_OK);
    assert_false(held());
    assert_int_equal(larder_job_stream_wait(w.queue, failing, 2, d, s), LARDER_OK);
    w.queue->layers_done(failing, 2);
    assert_true(held());
    w.queue->finish(failing, LARDER_E_IO);
    assert_false(held());
    assert_int_equal(larder_job_stream_wait(w.queue, failing, 1, d, s), LARDER_OK);
    assert_int_equal(larder_job_stream_wait(w.queue, failing, 2, d, s), LARDER_E_IO);
    larder_device* host = nullptr;
    assert_int_equal(larder_device_open(w.context, nullptr, &host), LARDER_OK);
    assert_int_equal(larder_job_stream_wait(w.queue, job, 1, host, 0), LARDER_OK);
    larder_device_close(host);
    w.queue->finish(job, LARDER_OK);
    larder_device_event_destroy(d, e);
    larder_device_stream_destroy(d, s);
    larder_device_close(d);
}

bool readable(int fd) {
    pollfd p{fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
}

void the_descriptor_tells(void**) {
    World w(0);
    int32_t fd = -1;
    assert_int_equal(larder_queue_fd(w.queue, &fd), LARDER_OK);
    assert_false(readable(fd));
    start(w, 1);
    start(w, 2);
    assert_false(readable(fd));
    larder_context_progress(w.context, 0);
    assert_true(readable(fd));
    larder_completion c;
    uint32_t n = 0;
    larder_queue_poll(w.queue, &c, sizeof c, 1, &n);
    assert_true(readable(fd));  // one is left
    larder_queue_poll(w.queue, &c, sizeof c, 1, &n);
    assert_false(readable(fd));
}

void destroying_a_queue_ends_its_jobs(void**) {
    for (uint32_t n_workers : {0u, 2u}) {
        World w(n_workers);
        for (uint64_t i = 0; i < 5; ++i) start(w, i, UINT32_MAX - 1, LARDER_OK, true);
    }
}

// Several threads wait on one queue for fewer jobs than there are threads: nobody is left behind.
void no_waiter_is_left_behind(void**) {
    World w(2);
    for (uint64_t i = 0; i < 2; ++i) start(w, i, 2000, LARDER_OK, true);
    std::vector<std::thread> threads;
    std::atomic<int> taken{0}, none{0};
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            larder_completion c;
            uint32_t n = 0;
            const larder_status s = larder_queue_wait(w.queue, &c, sizeof c, 1, UINT64_MAX, &n);
            (s == LARDER_OK ? taken : none) += 1;
        });
    for (auto& t : threads) t.join();
    assert_int_equal(taken, 2);
    assert_int_equal(none, 2);
}

void priorities_order_ready_work(void**) {
    World w(0);
    std::vector<int> order;
    struct Note : Task {
        std::vector<int>* order;
        int value;
    } notes[3];
    for (int i = 0; i < 3; ++i) {
        notes[i].order = &order;
        notes[i].value = i;
        notes[i].priority = Priority(2 - i);
        notes[i].run = [](Task* t) noexcept { static_cast<Note*>(t)->order->push_back(static_cast<Note*>(t)->value); };
        w.context->scheduler.submit(&notes[i]);
    }
    assert_int_equal(larder_context_progress(w.context, 1), LARDER_PENDING);
    assert_int_equal(larder_context_progress(w.context, 0), LARDER_OK);
    assert_true(order == (std::vector<int>{2, 1, 0}));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_job_completes_once),
        cmocka_unit_test(completions_fit_an_older_struct),
        cmocka_unit_test(waits_end_in_time),
        cmocka_unit_test(waits_end_in_virtual_time),
        cmocka_unit_test(cancelled_jobs_still_complete),
        cmocka_unit_test(polls_do_not_wait_for_endless_work),
        cmocka_unit_test(failed_items_are_named),
        cmocka_unit_test(details_belong_to_their_job),
        cmocka_unit_test(streams_wait_for_layers),
        cmocka_unit_test(the_descriptor_tells),
        cmocka_unit_test(destroying_a_queue_ends_its_jobs),
        cmocka_unit_test(no_waiter_is_left_behind),
        cmocka_unit_test(priorities_order_ready_work),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
