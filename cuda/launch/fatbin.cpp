// The compiled kernels, taken into the library as they are.
#include "fatbin.h"

asm(".section .rodata\n"
    ".balign 64\n"
    ".global larder_cuda_fatbin\n"
    ".hidden larder_cuda_fatbin\n"
    "larder_cuda_fatbin:\n"
    ".incbin \"" LARDER_CUDA_FATBIN "\"\n"
    ".byte 0\n"
    ".previous\n");
