#include "base/result.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace larder {
namespace {

thread_local larder_error_info t_error = LARDER_ERROR_INFO_INIT;

larder_status record(larder_status status, int os_errno, int device_code, const char* field, const char* format,
                     va_list args) noexcept {
    t_error.status = status;
    t_error.os_errno = os_errno;
    t_error.device_code = device_code;
    std::snprintf(t_error.field, sizeof t_error.field, "%s", field ? field : "");
    std::vsnprintf(t_error.message, sizeof t_error.message, format, args);
    return status;
}

}  // namespace

larder_status fail(larder_status status, const char* field, const char* format, ...) noexcept {
    va_list args;
    va_start(args, format);
    record(status, 0, 0, field, format, args);
    va_end(args);
    return status;
}

larder_status fail_os(larder_status status, int os_errno, const char* field, const char* format, ...) noexcept {
    va_list args;
    va_start(args, format);
    record(status, os_errno, 0, field, format, args);
    va_end(args);
    return status;
}

larder_status fail_device(larder_status status, int device_code, const char* field, const char* format, ...) noexcept {
    va_list args;
    va_start(args, format);
    record(status, 0, device_code, field, format, args);
    va_end(args);
    return status;
}

larder_status rename_field(larder_status status, const char* from, const char* to) noexcept {
    if (status < 0 && !std::strcmp(t_error.field, from)) std::snprintf(t_error.field, sizeof t_error.field, "%s", to);
    return status;
}

const larder_error_info& last_error() noexcept {
    return t_error;
}

void set_last_error(const larder_error_info& info) noexcept {
    t_error = info;
}

}  // namespace larder
