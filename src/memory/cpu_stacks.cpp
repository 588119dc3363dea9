#include "memory/cpu_stacks.h"

#include <algorithm>
#include <bit>

#include "base/cpu.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LARDER_THREAD_SANITIZER 1
#endif
#endif
// ThreadSanitizer sees neither the sequences nor what the system orders by them.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(LARDER_THREAD_SANITIZER) &&                       \
    !defined(LARDER_SCHEDULE_EXPLORER) && __has_include(<sys/rseq.h>)
#define LARDER_RSEQ 1
#include <sys/rseq.h>
#endif

namespace larder {
namespace {

// With locks at least two, so that a thread which was put to sleep inside one does not stop the others.
uint32_t stacks_for(const Cpus& cpus, bool restartable) {
    return restartable ? cpus.os->topology().n_restartable_cpus : std::bit_ceil(std::clamp(cpus.n, 2u, 64u));
}

bool can_restart([[maybe_unused]] const Cpus& cpus) {
#if defined(LARDER_RSEQ)
    return cpus.os && cpus.os->topology().n_restartable_cpus && __rseq_size;
#else
    return false;
#endif
}

uint32_t home_stack() noexcept {
#if defined(LARDER_SCHEDULE_EXPLORER)
    return 0;  // the same in every replay
#else
    return current_cpu();
#endif
}

}  // namespace

CpuStacks::CpuStacks(const Allocator& a, const Cpus& cpus)
    : os_(cpus.os), restartable_(can_restart(cpus)), stacks_(stacks_for(cpus, restartable_), a) {}

uint64_t CpuStacks::n_items() const noexcept {
    uint64_t sum = 0;
    for (const Stack& s : stacks_) sum += size_of(s);
    return sum;
}

uint64_t CpuStacks::n_popped() const noexcept {
    uint64_t sum = 0;
    for (const Stack& s : stacks_) sum += load_at(&s.word) / (size_mask + 1);
    return sum;
}

#if defined(LARDER_RSEQ)

// A restartable sequence: from label 1 to label 2, the store before label 2 commits. An abort goes to `again`. The
// signature in front of the abort address is what glibc registered.
#define LARDER_RSEQ_BEGIN                                                                                              \
    ".pushsection __rseq_cs, \"aw\"\n\t"                                                                               \
    ".balign 32\n"                                                                                                     \
    "3:\t.long 0, 0\n\t"                                                                                               \
    ".quad 1f, 2f - 1f, 4f\n\t"                                                                                        \
    ".popsection\n\t"                                                                                                  \
    "leaq 3b(%%rip), %%rax\n\t"                                                                                        \
    "movq %%rax, %%fs:8(%[area])\n"                                                                                    \
    "1:\tcmpl %[cpu], %%fs:4(%[area])\n\t"                                                                             \
    "jne %l[again]\n\t"                                                                                                \
    "cmpl $0, 8(%[stack])\n\t"                                                                                         \
    "jne %l[no]\n\t"                                                                                                   \
    "movq (%[stack]), %%rax\n\t"                                                                                       \
    "movzbl %%al, %%ecx\n\t"
#define LARDER_RSEQ_COMMIT                                                                                             \
    "movq %%rax, (%[stack])\n"                                                                                         \
    "2:\tmovq $0, %%fs:8(%[area])\n\t"                                                                                 \
    ".pushsection __rseq_abort, \"ax\"\n\t"                                                                            \
    ".byte 0x0f, 0xb9, 0x3d\n\t"                                                                                       \
    ".long 0x53053053\n"                                                                                               \
    "4:\tjmp %l[again]\n\t"                                                                                            \
    ".popsection\n\t"

namespace {
uint32_t this_cpu() noexcept {
    uint32_t cpu;
    asm volatile("movl %%fs:(%1), %0" : "=r"(cpu) : "r"(__rseq_offset));
    return cpu;
}

// The system must not be left with the address of a sequence: the library may be unloaded. False.
bool leave() noexcept {
    asm volatile("movq $0, %%fs:8(%0)" : : "r"(__rseq_offset));
    return false;
}
}  // namespace

bool CpuStacks::pop_here(std::span<uint32_t> out) noexcept {
    static_assert(offsetof(Stack, closed) == 8 && offsetof(Stack, items) == 64 && RSEQ_SIG == 0x53053053);
again:
    const uint32_t cpu = this_cpu();
    if (cpu >= stacks_.size() || out.empty()) [[unlikely]]
        return out.empty();
    asm goto(LARDER_RSEQ_BEGIN "cmpl %[n], %%ecx\n\t"
                               "jb %l[no]\n\t"
                               "leaq 60(%[stack], %%rcx, 4), %%rcx\n\t"  // the newest
                               "xorl %%edx, %%edx\n\t"
                               "leal -4(%q[n]), %%r8d\n\t"
                               "testl %%r8d, %%r8d\n\t"
                               "js 6f\n"
                               "5:\tmovups -12(%%rcx), %%xmm0\n\t"  // four at a time, turned round
                               "pshufd $0x1b, %%xmm0, %%xmm0\n\t"
                               "movups %%xmm0, (%[items], %%rdx, 4)\n\t"
                               "subq $16, %%rcx\n\t"
                               "addl $4, %%edx\n\t"
                               "cmpl %%r8d, %%edx\n\t"
                               "jle 5b\n\t"
                               "cmpl %[n], %%edx\n\t"
                               "je 7f\n"
                               "6:\tmovl (%%rcx), %%r8d\n\t"
                               "movl %%r8d, (%[items], %%rdx, 4)\n\t"
                               "subq $4, %%rcx\n\t"
                               "incl %%edx\n\t"
                               "cmpl %[n], %%edx\n\t"
                               "jb 6b\n"
                               "7:\t"
                               "shlq $8, %%rdx\n\t"  // n pops more, n items less
                               "addq %%rdx, %%rax\n\t"
                               "shrq $8, %%rdx\n\t"
                               "subq %%rdx, %%rax\n\t" LARDER_RSEQ_COMMIT
             :
             : [area] "r"(__rseq_offset), [cpu] "r"(cpu), [stack] "r"(&stacks_[cpu]), [n] "r"(uint32_t(out.size())),
               [items] "r"(out.data())
             : "rax", "rcx", "rdx", "r8", "xmm0", "cc", "memory"
             : again, no);
    return true;
no:
    return leave();
}

bool CpuStacks::push_here(std::span<const uint32_t> items) noexcept {
again:
    const uint32_t cpu = this_cpu();
    if (cpu >= stacks_.size() || items.empty()) [[unlikely]]
        return items.empty();
    asm goto(LARDER_RSEQ_BEGIN "leal (%%rcx, %q[n]), %%edx\n\t"
                               "cmpl %[capacity], %%edx\n\t"
                               "ja %l[no]\n\t"
                               "leaq 64(%[stack], %%rcx, 4), %%rcx\n\t"  // behind the newest
                               "xorl %%edx, %%edx\n\t"
                               "leal -4(%q[n]), %%r8d\n\t"
                               "testl %%r8d, %%r8d\n\t"
                               "js 6f\n"
                               "5:\tmovups (%[items], %%rdx, 4), %%xmm0\n\t"
                               "movups %%xmm0, (%%rcx, %%rdx, 4)\n\t"
                               "addl $4, %%edx\n\t"
                               "cmpl %%r8d, %%edx\n\t"
                               "jle 5b\n\t"
                               "cmpl %[n], %%edx\n\t"
                               "je 7f\n"
                               "6:\tmovl (%[items], %%rdx, 4), %%r8d\n\t"
                               "movl %%r8d, (%%rcx, %%rdx, 4)\n\t"
                               "incl %%edx\n\t"
                               "cmpl %[n], %%edx\n\t"
                               "jb 6b\n"
                               "7:\t"
                               "addq %%rdx, %%rax\n\t" LARDER_RSEQ_COMMIT
             :
             : [area] "r"(__rseq_offset), [cpu] "r"(cpu), [stack] "r"(&stacks_[cpu]), [n] "r"(uint32_t(items.size())),
               [items] "r"(items.data()), [capacity] "i"(capacity)
             : "rax", "rcx", "rdx", "r8", "xmm0", "cc", "memory"
             : again, no);
    return true;
no:
    return leave();
}

uint32_t CpuStacks::pop_one_here() noexcept {
    uint32_t item;
again:
    const uint32_t cpu = this_cpu();
    if (cpu >= stacks_.size()) [[unlikely]]
        return none;
    asm goto(LARDER_RSEQ_BEGIN "testl %%ecx, %%ecx\n\t"
                               "je %l[no]\n\t"
                               "movl 60(%[stack], %%rcx, 4), %[item]\n\t"
                               "addq $255, %%rax\n\t" LARDER_RSEQ_COMMIT
             : [item] "=&r"(item)
             : [area] "r"(__rseq_offset), [cpu] "r"(cpu), [stack] "r"(&stacks_[cpu])
             : "rax", "rcx", "cc", "memory"
             : again, no);
    return item;
no:
    leave();
    return none;
}

bool CpuStacks::push_one_here(uint32_t item) noexcept {
again:
    const uint32_t cpu = this_cpu();
    if (cpu >= stacks_.size()) [[unlikely]]
        return false;
    asm goto(LARDER_RSEQ_BEGIN "cmpl %[capacity], %%ecx\n\t"
                               "jae %l[no]\n\t"
                               "movl %[item], 64(%[stack], %%rcx, 4)\n\t"
                               "incq %%rax\n\t" LARDER_RSEQ_COMMIT
             :
             : [area] "r"(__rseq_offset), [cpu] "r"(cpu), [stack] "r"(&stacks_[cpu]), [item] "r"(item),
               [capacity] "i"(capacity)
             : "rax", "rcx", "cc", "memory"
             : again, no);
    return true;
no:
    return leave();
}

#else

uint32_t CpuStacks::pop_one_here() noexcept {
    return none;
}
bool CpuStacks::push_one_here(uint32_t) noexcept {
    return false;
}
bool CpuStacks::pop_here(std::span<uint32_t>) noexcept {
    return false;
}
bool CpuStacks::push_here(std::span<const uint32_t>) noexcept {
    return false;
}

#endif

bool CpuStacks::pop_locked(std::span<uint32_t> out) noexcept {
    Stack& s = lock_one();
    const uint32_t n = size_of(s);
    const bool enough = n >= out.size();
    if (enough) {
        for (size_t i = 0; i < out.size(); ++i) out[i] = s.items[n - 1 - i];
        store_at(&s.word, load_at(&s.word) + out.size() * size_mask, relaxed);
    }
    open(s);
    return enough;
}

bool CpuStacks::push_locked(std::span<const uint32_t> items) noexcept {
    Stack& s = lock_one();
    const uint32_t n = size_of(s);
    const bool room = items.size() <= capacity - n;
    if (room) {
        std::copy(items.begin(), items.end(), s.items + n);
        store_at(&s.word, load_at(&s.word) + items.size(), relaxed);
    }
    open(s);
    return room;
}

CpuStacks::Stack& CpuStacks::lock_one() noexcept {
    const uint32_t mask = uint32_t(stacks_.size()) - 1, start = home_stack() & mask;
    for (uint32_t i = start;;) {
        if (try_lock(stacks_[i])) return stacks_[i];
        i = (i + 1) & mask;
        if (i == start) cpu_relax();
    }
}

bool CpuStacks::try_lock(Stack& s) noexcept {
    uint32_t was = 0;
    schedule_point();
    return !load_at(&s.closed) && exchange_at(&s.closed, was, 1u, acquire, relaxed);
}

void CpuStacks::lock(Stack& s) noexcept {
    while (!try_lock(s)) cpu_relax();
}

void CpuStacks::open(Stack& s) noexcept {
    schedule_point();
    store_at(&s.closed, 0u, release);
}

// After the fence no sequence that began before is under way, and one that begins now finds its stack closed.
bool CpuStacks::close_all() noexcept {
    if (!restartable_) return true;
    for (Stack& s : stacks_) store_at(&s.closed, 1u, relaxed);
    if (os_->restart_cpus()) return true;
    for (Stack& s : stacks_) open(s);
    return false;
}

}  // namespace larder
