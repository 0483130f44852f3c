/* The kernel with AVX2 and FMA: 16 registers of 8 floats. */
#define LANES 8
#define VECS 2
#define KERNEL(name) absorb_##name##_avx2
#include "item_slots_kernel.h"
