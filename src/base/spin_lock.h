// A lock for sections of a few dozen instructions.
#pragma once

#include "base/atomic.h"

namespace larder {

class SpinLock {
  public:
    void lock() noexcept {
        while (taken_.exchange(1, acquire))
            while (taken_.load(relaxed)) cpu_relax();
    }
    void unlock() noexcept { taken_.store(0, release); }

  private:
    atomic<uint32_t> taken_{0};
};

}  // namespace larder
