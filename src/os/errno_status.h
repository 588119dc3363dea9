// Which status an errno of a file call becomes.
#pragma once

#include <cerrno>

#include "larder/status.h"

namespace larder {

constexpr larder_status file_status(int error) noexcept {
    switch (error) {
    case ENOENT:
        return LARDER_E_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return LARDER_E_EXISTS;
    case EACCES:
    case EPERM:
        return LARDER_E_PERMISSION;
    case EROFS:
        return LARDER_E_READ_ONLY;
    case ENOSPC:
    case EDQUOT:
        return LARDER_E_DISK_FULL;
    case ENOMEM:
        return LARDER_E_NOMEM;
    case EMFILE:
    case ENFILE:
        return LARDER_E_SYSTEM;
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EINVAL:
        return LARDER_E_INVALID;
    case EOPNOTSUPP:
    case ENOSYS:
        return LARDER_E_UNSUPPORTED;
    default:
        return LARDER_E_IO;
    }
}

}  // namespace larder
