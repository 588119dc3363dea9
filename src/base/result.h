// Result<T> and fail(): how a failure travels inside the library.
#pragma once

#include <type_traits>
#include <utility>

#include "larder/status.h"

namespace larder {

// Record the detail of a failure for larder_last_error() and hand the status back. Allocates nothing.
[[gnu::format(printf, 3, 4)]] larder_status fail(larder_status status, const char* field, const char* format,
                                                 ...) noexcept;
// The same for a system call: also keeps errno, given as a positive number.
[[gnu::format(printf, 4, 5)]] larder_status fail_os(larder_status status, int os_errno, const char* field,
                                                    const char* format, ...) noexcept;
// Keeps the device's own error code.
[[gnu::format(printf, 4, 5)]] larder_status fail_device(larder_status status, int device_code, const char* field,
                                                        const char* format, ...) noexcept;

// The same failure, told by the name that the caller knows the field by.
larder_status rename_field(larder_status status, const char* from, const char* to) noexcept;

const larder_error_info& last_error() noexcept;
// Put back a detail that was saved elsewhere (a worker's failure, handed to the thread that asks for it).
void set_last_error(const larder_error_info& info) noexcept;

constexpr bool is_error(larder_status s) noexcept {
    return s < 0;
}

// A value or a negative status. T must be default constructible and movable.
template <class T> class [[nodiscard]] Result {
  public:
    Result(T value) : value_(std::move(value)) {}
    Result(larder_status status) : status_(status) {}

    bool ok() const noexcept { return status_ >= 0; }
    explicit operator bool() const noexcept { return ok(); }
    larder_status status() const noexcept { return status_; }
    T& operator*() noexcept { return value_; }
    const T& operator*() const noexcept { return value_; }
    T* operator->() noexcept { return &value_; }
    const T* operator->() const noexcept { return &value_; }

  private:
    static_assert(!std::is_same_v<T, larder_status>, "a Result<larder_status> is ambiguous");
    T value_{};
    larder_status status_ = LARDER_OK;
};

}  // namespace larder

// Return from the enclosing function when the expression is a negative status.
#define LARDER_TRY(expr)                                                                                               \
    do {                                                                                                               \
        const larder_status larder_try_status_ = (expr);                                                               \
        if (larder_try_status_ < 0) return larder_try_status_;                                                         \
    } while (0)

#define LARDER_CONCAT2_(a, b) a##b
#define LARDER_CONCAT_(a, b) LARDER_CONCAT2_(a, b)
// LARDER_ASSIGN(auto x, f()): declare x from a Result, or return its status.
#define LARDER_ASSIGN(decl, expr)                                                                                      \
    auto LARDER_CONCAT_(larder_result_, __LINE__) = (expr);                                                            \
    if (!LARDER_CONCAT_(larder_result_, __LINE__).ok()) return LARDER_CONCAT_(larder_result_, __LINE__).status();      \
    decl = std::move(*LARDER_CONCAT_(larder_result_, __LINE__))
