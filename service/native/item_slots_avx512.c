/* The kernel with AVX-512: 32 registers of 16 floats. */
#define LANES 16
#define VECS 4
#define KERNEL(name) absorb_##name##_avx512
#include "item_slots_kernel.h"
