/* The kernel for every CPU: registers of 4 floats, which is SSE2 on x86-64 and NEON on ARM. */
#define LANES 4
#define VECS 2
#define KERNEL(name) absorb_##name##_generic
#include "item_slots_kernel.h"
