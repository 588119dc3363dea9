#include "larder/base.h"

#include "larder/status.h"

#include <cstring>

#include "base/options.h"

#define LARDER_STR2(x) #x
#define LARDER_STR(x) LARDER_STR2(x)

uint32_t larder_version(void) noexcept {
    return LARDER_VERSION_HEX;
}

const char* larder_version_string(void) noexcept {
    return LARDER_STR(LARDER_VERSION_MAJOR) "." LARDER_STR(LARDER_VERSION_MINOR) "." LARDER_STR(LARDER_VERSION_PATCH);
}

larder_status larder_last_error(larder_error_info* out) noexcept {
    if (!out || out->struct_size < 8) return LARDER_E_INVALID;
    return larder::write_struct(out, larder::last_error(), "larder_error_info");
}

const char* larder_status_name(larder_status status) noexcept {
    switch (status) {
#define LARDER_STATUS_CASE(name, number, text)                                                                         \
    case number:                                                                                                       \
        return #name;
        LARDER_STATUS_MAP(LARDER_STATUS_CASE)
#undef LARDER_STATUS_CASE
    }
    return "UNKNOWN";
}

const char* larder_status_text(larder_status status) noexcept {
    switch (status) {
#define LARDER_STATUS_CASE(name, number, text)                                                                         \
    case number:                                                                                                       \
        return text;
        LARDER_STATUS_MAP(LARDER_STATUS_CASE)
#undef LARDER_STATUS_CASE
    }
    return "not a status of Larder";
}
