#include "core/stages.h"

#include <cstring>

#include "base/options.h"

namespace larder {

namespace {

bool is_name(const char* name, size_t max) noexcept {
    if (!name || *name < 'a' || *name > 'z') return false;
    const size_t n = strnlen(name, max);
    for (size_t i = 0; i < n; ++i) {
        const char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) return false;
    }
    return n < max;
}

}  // namespace

StageRegistry::~StageRegistry() {
    for (uint32_t i = 0; i < n_; ++i)
        if (stages_[i].drop) stages_[i].drop(stages_[i].ctx);
}

larder_status StageRegistry::add(const larder_codec_stage* user) noexcept {
    larder_codec_stage s;
    LARDER_TRY(read_options(user, s, "larder_codec_stage"));
    LARDER_TRY(check_reserved(s.reserved0, "reserved0"));
    LARDER_TRY(check_range(s.id, LARDER_CODEC_STAGE_FIRST_ID, 0xffff, "id"));
    LARDER_TRY(check_range(s.version, 1, 255, "version"));
    if (!s.bound || !s.encode || !s.decode)
        return fail(LARDER_E_INVALID, "stage", "a stage needs bound, encode and decode");
    if (!is_name(s.name, max_name))
        return fail(LARDER_E_INVALID, "name", "a stage's name is a letter and up to 30 more of a-z, 0-9, '-', '_'");
    const std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < n_; ++i)
        if (stages_[i].id == s.id || !std::strcmp(names_[i], s.name))
            return fail(LARDER_E_EXISTS, "stage", "stage %#x or the name \"%s\" is registered already", s.id, s.name);
    if (n_ == max_stages) return fail(LARDER_E_NOSPACE, "stage", "a context has at most %u stages", max_stages);
    std::strcpy(names_[n_], s.name);
    s.name = names_[n_];
    stages_[n_++] = s;
    return LARDER_OK;
}

const larder_codec_stage* StageRegistry::find(uint32_t id, uint32_t version) noexcept {
    const std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < n_; ++i)
        if (stages_[i].id == id && stages_[i].version == version) return &stages_[i];
    return nullptr;
}

const larder_codec_stage* StageRegistry::find(const char* name, size_t n) noexcept {
    const std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < n_; ++i)
        if (std::strlen(names_[i]) == n && !std::memcmp(names_[i], name, n)) return &stages_[i];
    return nullptr;
}

}  // namespace larder
