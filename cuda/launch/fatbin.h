#pragma once

extern "C" __attribute__((visibility("hidden"))) const unsigned char larder_cuda_fatbin[];
