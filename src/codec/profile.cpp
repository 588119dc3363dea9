#include "codec/profile.h"

void larder_profile::unref() const noexcept {
    if (refs_.fetch_sub(1, larder::acq_rel) == 1) context->drop_handle(const_cast<larder_profile*>(this));
}
