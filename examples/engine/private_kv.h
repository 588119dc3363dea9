// A cache without Larder: one contiguous buffer for one sequence, forgotten with it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv_view.h"
#include "engine/model.h"

namespace engine {

class PrivateKv {
  public:
    explicit PrivateKv(const Shape& shape)
        : bytes_(size_t(2) * shape.n_layers * shape.context * shape.kv_width() * sizeof(uint16_t)) {
        const size_t row = shape.kv_width() * sizeof(uint16_t), layer = row * shape.context;
        for (size_t l = 0; l < shape.n_layers; ++l)
            view_.layers.push_back({bytes_.data() + 2 * l * layer, bytes_.data() + (2 * l + 1) * layer});
        view_.k_token_stride = view_.v_token_stride = row;
        view_.block_tokens = shape.context;  // one block that holds everything
        view_.blocks = &only_block_;
    }
    PrivateKv(const PrivateKv&) = delete;
    PrivateKv& operator=(const PrivateKv&) = delete;

    const KvView& view() const { return view_; }

  private:
    const int32_t only_block_ = 0;
    std::vector<std::byte> bytes_;
    KvView view_;
};

}  // namespace engine
