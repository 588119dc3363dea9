// Reading option structs that may be older or newer than this library, and filling output structs to the caller's size.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/result.h"

namespace larder {

// Copy the caller's struct into a zeroed local one. NULL means all defaults. A larger struct is accepted when its
// unknown tail is zero.
template <class T> larder_status read_options(const T* user, T& out, const char* type_name) noexcept {
    std::memset(&out, 0, sizeof out);
    out.struct_size = sizeof(T);
    if (!user) return LARDER_OK;
    const uint32_t size = user->struct_size;
    if (size < 8 || size > 65536)
        return fail(LARDER_E_INVALID, "struct_size", "%s.struct_size is %u; initialise the struct with its _INIT macro",
                    type_name, size);
    std::memcpy(&out, user, std::min<size_t>(size, sizeof(T)));
    out.struct_size = sizeof(T);
    const auto* bytes = reinterpret_cast<const unsigned char*>(user);
    for (size_t i = sizeof(T); i < size; ++i)
        if (bytes[i])
            return fail(LARDER_E_TOO_NEW, "struct_size", "%s has a field at byte %zu that this library does not know",
                        type_name, i);
    return LARDER_OK;
}

// Whether the caller's output struct can be filled: asked first where the call makes something that would be lost with
// it.
template <class T> larder_status check_output(const T* user, const char* type_name) noexcept {
    if (!user) return fail(LARDER_E_INVALID, type_name, "the output struct %s is NULL", type_name);
    const uint32_t size = user->struct_size;
    if (size >= 8 && size <= 65536) return LARDER_OK;
    return fail(LARDER_E_INVALID, "struct_size", "%s.struct_size is %u; initialise the struct with its _INIT macro",
                type_name, size);
}

// Fill the caller's output struct up to the size it states.
template <class T> larder_status write_struct(T* user, T value, const char* type_name) noexcept {
    LARDER_TRY(check_output(user, type_name));
    const uint32_t size = user->struct_size;
    value.struct_size = size;
    std::memset(user, 0, size);
    std::memcpy(user, &value, std::min<size_t>(size, sizeof(T)));
    return LARDER_OK;
}

// Reserved members must be zero, so that they can gain a meaning.
inline larder_status check_reserved(uint64_t value, const char* field) noexcept {
    return value ? fail(LARDER_E_INVALID, field, "%s must be zero", field) : LARDER_OK;
}

inline larder_status check_range(uint64_t value, uint64_t min, uint64_t max, const char* field) noexcept {
    if (value >= min && value <= max) return LARDER_OK;
    return fail(LARDER_E_RANGE, field, "%s is %llu; it must be %llu to %llu", field, (unsigned long long)value,
                (unsigned long long)min, (unsigned long long)max);
}

}  // namespace larder
