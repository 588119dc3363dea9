// Leases: holds with an owner. A lease ends when it is used, released, or when its owner is gone.
#pragma once

#include "base/ids.h"
#include "os/os.h"

namespace larder {

// T is what a lease holds. Not synchronised.
template <class T> class LeaseTable {
  public:
    LeaseTable(const Allocator& a, uint32_t first_generation) : table_(a, IdKind::lease, first_generation) {}

    larder_lease insert(T value, const ProcessRef& owner) { return table_.insert(Held{std::move(value), owner}); }
    T* find(larder_lease id) noexcept {
        Held* h = table_.find(id);
        return h ? &h->value : nullptr;
    }
    bool remove(larder_lease id) noexcept { return table_.remove(id); }
    size_t size() const noexcept { return table_.size(); }
    template <class F> void for_each(F f) {
        table_.for_each([&](uint64_t id, Held& h) { f(id, h.value); });
    }
    // Ends the leases whose owners have died; f gives back what each held.
    template <class F> size_t expire(Os& os, F f) {
        size_t n = 0;
        table_.for_each([&](uint64_t id, Held& h) {
            if (os.alive(h.owner)) return;
            f(h.value);
            table_.remove(id);
            ++n;
        });
        return n;
    }

  private:
    struct Held {
        T value{};
        ProcessRef owner;
    };
    IdTable<Held> table_;
};

}  // namespace larder
