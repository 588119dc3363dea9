// Larder's status codes as the engine's exceptions, and its handles as owners.
#pragma once

#include <memory>
#include <string>

#include "engine/error.h"
#include "larder/status.h"

namespace demo {

inline void check(larder_status status, const char* what) {
    if (status >= 0) return;
    larder_error_info info = LARDER_ERROR_INFO_INIT;
    larder_last_error(&info);
    throw engine::Error(std::string(what) + ": " + larder_status_name(status) + ": " + info.message);
}

template <auto destroy> struct With {
    void operator()(auto* handle) const { destroy(handle); }
};

template <class T, auto destroy> using Handle = std::unique_ptr<T, With<destroy>>;

}  // namespace demo
