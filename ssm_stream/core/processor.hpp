// Which instruction sets this processor and its operating system have, by CPUID. `__builtin_cpu_supports` would need the
// compiler's runtime library, and not every compiler's says so.
#pragma once
#if defined(__x86_64__)
#include <cpuid.h>

#include <initializer_list>

namespace ssm {

struct Processor { bool v3 = false, v4 = false; };

inline Processor processor() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const auto has = [](unsigned word, std::initializer_list<int> bits) {
        for (const int bit : bits)
            if (!(word >> bit & 1)) return false;
        return true;
    };
    // FMA, MOVBE, OSXSAVE, AVX, F16C; then the registers that the operating system keeps
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, {12, 22, 27, 28, 29})) return {};
    unsigned kept = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    if (!has(kept, {1, 2}) || !__get_cpuid(0x80000001, &a, &b, &c, &d) || !has(c, {5})) return {};  // LZCNT
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, {3, 5, 8})) return {};                  // BMI, AVX2, BMI2
    return {true, has(kept, {5, 6, 7}) && has(b, {16, 17, 28, 30, 31})};                            // AVX-512 F, DQ, CD, BW, VL
}

}  // namespace ssm
#endif
