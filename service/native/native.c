/* Version of the library, and the instruction sets of the CPU. */
#include "native.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int32_t absorb_native_abi(void) { return ABSORB_NATIVE_ABI; }

#if defined(__x86_64__)
/* Register states that the operating system saves. */
static uint32_t saved_states(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* By cpuid, since `__builtin_cpu_supports` is always 0 in a shared library that ziglang links. */
static int32_t fastest(void) {
    uint32_t a, b, c, d, more, states;
    const uint32_t fma = 1u << 12, saves = 1u << 27, avx = 1u << 28, avx2 = 1u << 5;
    const uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | saves | avx)) != (fma | saves | avx)) return ABSORB_GENERIC;
    states = saved_states();
    if ((states & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &more, &c, &d) || !(more & avx2)) return ABSORB_GENERIC;
    return (states & 0xe6) == 0xe6 && (more & avx512) == avx512 ? ABSORB_AVX512 : ABSORB_AVX2;
}
#else
static int32_t fastest(void) { return ABSORB_GENERIC; }
#endif

int32_t absorb_isa_supported(int32_t isa) {
    /* Threads may ask at once: all write the same number. In a virtual machine, cpuid takes 20 to 70 µs. */
    static _Atomic int32_t known = -1;
    if (known < 0) known = fastest();
    return isa >= ABSORB_GENERIC && isa <= known;
}
