// The failing system fails when told, and only then; and the tests' own tools are trustworthy.
#include "support/cmocka.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "os/fault_os.h"
#include "os/sim_os.h"
#include "support/fault_allocator.h"

using namespace larder;

namespace {

constexpr uint32_t rw = open_flag::read | open_flag::write | open_flag::create;

// One call of each class. The status of the first that failed.
larder_status all_calls(Os& os) {
    char byte = 0;
    LARDER_ASSIGN(std::byte * p, os.reserve(65536, 65536));
    const larder_status committed = os.commit(p, 65536, 0);
    os.release(p, 65536);
    LARDER_TRY(committed);
    LARDER_TRY(os.make_dir("/d"));
    LARDER_TRY(os.list_dir(Allocator(), "/d").status());
    LARDER_TRY(os.random(&byte, 1));
    LARDER_ASSIGN(OsHandle e, os.event_fd());
    os.close(e);
    LARDER_ASSIGN(uint64_t t, os.thread_start([](void*) {}, nullptr, "t"));
    os.thread_join(t);
    LARDER_ASSIGN(OpenFile f, os.open("/d/f", rw));
    struct Closer {
        Os& os;
        OsHandle h;
        ~Closer() { os.close(h); }
    } closer{os, f.handle};
    LARDER_TRY(os.lock(f.handle));
    LARDER_TRY(os.allocate(f.handle, 0, 4096));
    LARDER_TRY(os.write_all(f.handle, "x", 1, 0));
    LARDER_TRY(os.read_all(f.handle, &byte, 1, 0));
    LARDER_TRY(os.sync(f.handle));
    LARDER_ASSIGN(Owned<IoRing> ring, os.io_ring(Allocator(), 2, true));
    char page[4096] = {};
    IoOp op{.kind = IoOp::Kind::read, .file = f.handle, .buffer = page, .n_bytes = sizeof page};
    IoOp *in = &op, *out = nullptr;
    LARDER_TRY(ring->submit({&in, 1}).status());
    LARDER_TRY(ring->reap({&out, 1}, 1).status());
    if (op.result < 0) return fail_os(LARDER_E_IO, int(-op.result), "", "a request failed");
    return op.result == 4096 ? LARDER_OK : LARDER_PARTIAL;
}

void each_class_fails_on_its_own(void**) {
    SimOs sim;
    FaultOs os(sim);
    assert_int_equal(all_calls(os), LARDER_OK);
    assert_int_equal(os.n_live(), 0);
    for (size_t i = 0; i < n_fault_classes; ++i) {
        const auto c = FaultClass(i);
        if (c == FaultClass::socket) continue;
        assert_true(os.n_calls(c) > 0);
        os.arm({.classes = FaultPlan::bit(c), .nth = 1});
        assert_int_equal(all_calls(os), c == FaultClass::ring_short ? LARDER_PARTIAL : fault_class_status(c));
        assert_true(os.fired());
        assert_int_equal(os.n_live(), 0);
        assert_int_equal(all_calls(os), LARDER_OK);  // once
        os.arm({.classes = FaultPlan::bit(c), .nth = 1000});
        assert_int_equal(all_calls(os), LARDER_OK);
        assert_false(os.fired());
    }
    os.arm({.classes = UINT32_MAX, .nth = 3, .sticky = true, .error = EACCES});
    for (int i = 0; i < 3; ++i) assert_true(all_calls(os) < 0);
    assert_int_equal(last_error().os_errno, EACCES);
    os.disarm();
    assert_int_equal(all_calls(os), LARDER_OK);
}

void a_failed_write_may_have_written_in_part(void**) {
    SimOs sim;
    FaultOs os(sim);
    auto f = os.open("/f", rw);
    const std::vector<char> data(4096, 'x');
    os.arm({.classes = FaultPlan::bit(FaultClass::write), .nth = 1});
    assert_int_equal(os.write_all(f->handle, data.data(), data.size(), 0), LARDER_E_DISK_FULL);
    assert_int_equal(last_error().os_errno, ENOSPC);
    assert_int_equal(*os.size(f->handle), 2048);
    os.close(f->handle);
}

void sockets_fail_too(void**) {
    FaultOs os(posix_os());
    os.arm({.classes = FaultPlan::bit(FaultClass::socket), .nth = 1});
    assert_int_equal(os.socket_listen("@larder-fault-test").status(), LARDER_E_PEER_DEAD);
    assert_int_equal(os.socket_connect("@larder-fault-test-nobody").status(), LARDER_E_PEER_DEAD);  // nobody listens
    assert_int_equal(os.n_live(), 0);
}

void the_allocator_sees_everything(void**) {
    FaultAllocator memory;
    const larder_allocator* a = memory.raw();
    void* p = a->alloc(a->ctx, 100, 64);
    assert_int_equal(reinterpret_cast<uintptr_t>(p) % 64, 0);
    assert_int_equal(memory.live_bytes(), 100);
    a->free(a->ctx, p, 99, 64);
    assert_int_equal(memory.n_mismatches(), 1);
    assert_int_equal(memory.n_live(), 0);
    int not_ours;
    a->free(a->ctx, &not_ours, 4, 4);
    assert_int_equal(memory.n_mismatches(), 2);
    memory.arm(2, false);
    p = a->alloc(a->ctx, 1, 1);
    assert_non_null(p);
    assert_null(a->alloc(a->ctx, 1, 1));
    void* q = a->alloc(a->ctx, 1, 1);
    assert_non_null(q);
    memory.arm(1, true);
    assert_null(a->alloc(a->ctx, 1, 1));
    assert_null(a->alloc(a->ctx, 1, 1));
    memory.disarm();
    a->free(a->ctx, p, 1, 1);
    a->free(a->ctx, q, 1, 1);
    assert_int_equal(memory.n_mismatches(), 2);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(each_class_fails_on_its_own),
                                cmocka_unit_test(a_failed_write_may_have_written_in_part),
                                cmocka_unit_test(sockets_fail_too), cmocka_unit_test(the_allocator_sees_everything)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
