/* What every C source of the library shares. */
#ifndef ABSORB_NATIVE_H
#define ABSORB_NATIVE_H

#include <stdint.h>

/* Version of all exported functions together; `ABI` of library.py is the same number. */
#define ABSORB_NATIVE_ABI 1

#if defined(_WIN32)
#define ABSORB_API __declspec(dllexport)
#else
#define ABSORB_API __attribute__((visibility("default")))
#endif

/* Instruction sets, in ascending order. Their numbers are part of the ABI. */
enum { ABSORB_GENERIC = 0, ABSORB_AVX2 = 1, ABSORB_AVX512 = 2, ABSORB_NUM_ISAS = 3 };

ABSORB_API int32_t absorb_native_abi(void);

/* 1 if this library has code for an instruction set and this CPU runs it, else 0. */
ABSORB_API int32_t absorb_isa_supported(int32_t isa);

#endif
