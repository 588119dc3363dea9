#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "os/posix.h"

namespace larder {

namespace {

// Where this library was loaded from: what was installed with it lies beside it.
void* open_beside(const char* name) noexcept {
    Dl_info self{};
    if (!::dladdr(reinterpret_cast<void*>(&larder_version), &self) || !self.dli_fname) return nullptr;
    const char* slash = std::strrchr(self.dli_fname, '/');
    if (!slash) return nullptr;
    char path[4096];
    const int n = std::snprintf(path, sizeof path, "%.*s/%s", int(slash - self.dli_fname), self.dli_fname, name);
    return n < int(sizeof path) ? ::dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
}

}  // namespace

Result<void*> PosixOs::library_symbol(const char* library, const char* symbol) {
    void* h = std::strchr(library, '/') ? nullptr : open_beside(library);
    if (!h) h = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!h) {
        const char* why = ::dlerror();
        return fail(LARDER_E_NOT_FOUND, "library", "cannot be opened: %s", why ? why : "not found");
    }
    void* s = ::dlsym(h, symbol);
    if (!s) return fail(LARDER_E_UNSUPPORTED, "library", "it has no symbol %s", symbol);
    return s;
}

}  // namespace larder
