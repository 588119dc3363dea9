// Channel sorting for block formats: channels of about the same strength share a block, so that a strong one does not
// take the precision of 31 weak ones (the K-sort of arXiv 2403.20137, done to what is stored instead of to the
// weights).
//
// Which block a channel belongs to is side data of the extent; within a block channels keep their order, so the block
// numbers say everything: block of channel 0, 1, ..., each in the bits that the largest needs, lowest bits first,
// padded to a byte.
#pragma once

#include "codec/extent.h"

namespace larder {

size_t sort_side_bytes(const ExtentShape& e) noexcept;
// From all elements of the extent: s.order becomes the channels block by block; their block numbers are appended to
// side.
void sort_channels(const Kernels& k, const ExtentShape& e, const ExtentScratch& s, std::byte*& side) noexcept;
// Side data to s.order. E_CORRUPT when a block has not the channels of a group.
larder_status read_order(const ExtentShape& e, const ExtentScratch& s, ByteSpan side) noexcept;

}  // namespace larder
