// Larder's status codes as the engine's exceptions.
#pragma once

#include <string>

#include "engine/error.h"
#include "larder/status.h"

namespace demo {

inline void check(larder_status status, const char* what) {
    if (status >= 0) return;
    larder_error_info info = LARDER_ERROR_INFO_INIT;
    larder_last_error(&info);
    throw engine::Error(std::string(what) + ": " + larder_status_name(status) + ": " +
                        info.message);
}

} // namespace demo
