/* Version of the library, and the instruction sets of the CPU. */
#include "native.h"

int32_t absorb_native_abi(void) { return ABSORB_NATIVE_ABI; }

int32_t absorb_isa_supported(int32_t isa) {
    if (isa == ABSORB_GENERIC) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == ABSORB_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ABSORB_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}
