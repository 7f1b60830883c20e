// exp, log and what follows from them, by series of their own: results do not hang on a machine's mathematics library.
//
// Every step is an operation that IEEE 754 rounds in one way, so that all compilers and processors come to the same bits.
// Relative errors are below 2e-15 (tests/test_series.py), as good as any caller here needs.
//
// log: x = 2^k z with z in [0.6875, 1.375), one of 64 intervals; r = z/c − 1 for about its middle c (1 in the two beside 1,
// so that log is exact to the last places there); log x = k log 2 + log c + log(1 + r).
// exp: x = k/64 log 2 + r; exp x = 2^(k/64) exp r, from a table of 2^(i/64). (Tang 1989, 1990.)
#pragma once
#include <bit>

#include "vector.hpp"

namespace ssm::SSM_ISA::series {

struct Middle { double inverse, log; };  // 1/c and log c
constexpr Middle MIDDLES[64] = {
    {0x1.724287f46debcp+0, -0x1.79e26687cfb3dp-2}, {0x1.6e1f76b4337c7p+0, -0x1.6e60ee6af1973p-2},
    {0x1.6a13cd1537290p+0, -0x1.630030b3aac48p-2}, {0x1.661ec6a5122f9p+0, -0x1.57bf753c8d1fbp-2},
    {0x1.623fa77016240p+0, -0x1.4c9e09e172c3dp-2}, {0x1.5e75bb8d015e7p+0, -0x1.419b423d5e8c6p-2},
    {0x1.5ac056b015ac0p+0, -0x1.36b6776be1116p-2}, {0x1.571ed3c506b3ap+0, -0x1.2bef07cdc9355p-2},
    {0x1.5390948f40febp+0, -0x1.214456d0eb8d5p-2}, {0x1.5015015015015p+0, -0x1.16b5ccbacfb73p-2},
    {0x1.4cab88725af6ep+0, -0x1.0c42d676162e2p-2}, {0x1.49539e3b2d067p+0, -0x1.01eae5626c691p-2},
    {0x1.460cbc7f5cf9ap+0, -0x1.ef5ade4dcffe5p-3}, {0x1.42d6625d51f87p+0, -0x1.db13db0d48941p-3},
    {0x1.3fb013fb013fbp+0, -0x1.c6ffbc6f00f71p-3}, {0x1.3c995a47babe7p+0, -0x1.b31d8575bce3bp-3},
    {0x1.3991c2c187f63p+0, -0x1.9f6c407089663p-3}, {0x1.3698df3de0748p+0, -0x1.8beafeb38fe8fp-3},
    {0x1.33ae45b57bcb2p+0, -0x1.7898d85444c74p-3}, {0x1.30d190130d190p+0, -0x1.6574ebe8c1339p-3},
    {0x1.2e025c04b8097p+0, -0x1.527e5e4a1b58dp-3}, {0x1.2b404ad012b40p+0, -0x1.3fb45a59928cap-3},
    {0x1.288b01288b013p+0, -0x1.2d1610c86813dp-3}, {0x1.25e22708092f1p+0, -0x1.1aa2b7e23f729p-3},
    {0x1.23456789abcdfp+0, -0x1.08598b59e3a07p-3}, {0x1.20b470c67c0d9p+0, -0x1.ec739830a1126p-4},
    {0x1.1e2ef3b3fb874p+0, -0x1.c885801bc4b20p-4}, {0x1.1bb4a4046ed29p+0, -0x1.a4e7640b1bc38p-4},
    {0x1.19453808ca29cp+0, -0x1.8197e2f40e3f0p-4}, {0x1.16e0689427379p+0, -0x1.5e95a4d9791cdp-4},
    {0x1.1485f0e0acd3bp+0, -0x1.3bdf5a7d1ee5ep-4}, {0x1.12358e75d3033p+0, -0x1.1973bd1465561p-4},
    {0x1.0fef010fef011p+0, -0x1.eea31c006b87cp-5}, {0x1.0db20a88f4696p+0, -0x1.aaef2d0fb1108p-5},
    {0x1.0b7e6ec259dc8p+0, -0x1.67c94f2d4bb65p-5}, {0x1.0953f39010954p+0, -0x1.252f32f8d1840p-5},
    {0x1.073260a47f7c6p+0, -0x1.c63d2ec14aad7p-6}, {0x1.05197f7d73404p+0, -0x1.432a925980cbcp-6},
    {0x1.03091b51f5e1ap+0, -0x1.82448a388a283p-7}, {0x1.0000000000000p+0, 0.0}, {0x1.0000000000000p+0, 0.0},
    {0x1.f44659e4a4271p-1, 0x1.7b91b07d5b126p-6}, {0x1.ecc07b301ecc0p-1, 0x1.39e87b9febd68p-5},
    {0x1.e573ac901e574p-1, 0x1.b42dd711971b9p-5}, {0x1.de5d6e3f8868ap-1, 0x1.16536eea37ae3p-4},
    {0x1.d77b654b82c34p-1, 0x1.51b073f06183cp-4}, {0x1.d0cb58f6ec074p-1, 0x1.8c345d6319b23p-4},
    {0x1.ca4b3055ee191p-1, 0x1.c5e548f5bc743p-4}, {0x1.c3f8f01c3f8f0p-1, 0x1.fec9131dbeabcp-4},
    {0x1.bdd2b899406f7p-1, 0x1.1b72ad52f67a2p-3}, {0x1.b7d6c3dda338bp-1, 0x1.371fc201e8f75p-3},
    {0x1.b2036406c80d9p-1, 0x1.526e5e3a1b438p-3}, {0x1.ac5701ac5701bp-1, 0x1.6d60fe719d21bp-3},
    {0x1.a6d01a6d01a6dp-1, 0x1.87fa06520c911p-3}, {0x1.a16d3f97a4b02p-1, 0x1.a23bc1fe2b561p-3},
    {0x1.9c2d14ee4a102p-1, 0x1.bc286742d8cd4p-3}, {0x1.970e4f80cb872p-1, 0x1.d5c216b4fbb94p-3},
    {0x1.920fb49d0e229p-1, 0x1.ef0adcbdc5935p-3}, {0x1.8d3018d3018d3p-1, 0x1.0402594b4d041p-2},
    {0x1.886e5f0abb04ap-1, 0x1.1058bf9ae4ad4p-2}, {0x1.83c977ab2beddp-1, 0x1.1c898c16999fbp-2},
    {0x1.7f405fd017f40p-1, 0x1.2895a13de86a4p-2}, {0x1.7ad2208e0ecc3p-1, 0x1.347dd9a987d56p-2},
    {0x1.767dce434a9b1p-1, 0x1.404308686a7e4p-2}};
constexpr double POWERS[64] = {
    0x1.0000000000000p+0, 0x1.02c9a3e778061p+0, 0x1.059b0d3158574p+0, 0x1.0874518759bc8p+0, 0x1.0b5586cf9890fp+0,
    0x1.0e3ec32d3d1a2p+0, 0x1.11301d0125b51p+0, 0x1.1429aaea92de0p+0, 0x1.172b83c7d517bp+0, 0x1.1a35beb6fcb75p+0,
    0x1.1d4873168b9aap+0, 0x1.2063b88628cd6p+0, 0x1.2387a6e756238p+0, 0x1.26b4565e27cddp+0, 0x1.29e9df51fdee1p+0,
    0x1.2d285a6e4030bp+0, 0x1.306fe0a31b715p+0, 0x1.33c08b26416ffp+0, 0x1.371a7373aa9cbp+0, 0x1.3a7db34e59ff7p+0,
    0x1.3dea64c123422p+0, 0x1.4160a21f72e2ap+0, 0x1.44e086061892dp+0, 0x1.486a2b5c13cd0p+0, 0x1.4bfdad5362a27p+0,
    0x1.4f9b2769d2ca7p+0, 0x1.5342b569d4f82p+0, 0x1.56f4736b527dap+0, 0x1.5ab07dd485429p+0, 0x1.5e76f15ad2148p+0,
    0x1.6247eb03a5585p+0, 0x1.6623882552225p+0, 0x1.6a09e667f3bcdp+0, 0x1.6dfb23c651a2fp+0, 0x1.71f75e8ec5f74p+0,
    0x1.75feb564267c9p+0, 0x1.7a11473eb0187p+0, 0x1.7e2f336cf4e62p+0, 0x1.82589994cce13p+0, 0x1.868d99b4492edp+0,
    0x1.8ace5422aa0dbp+0, 0x1.8f1ae99157736p+0, 0x1.93737b0cdc5e5p+0, 0x1.97d829fde4e50p+0, 0x1.9c49182a3f090p+0,
    0x1.a0c667b5de565p+0, 0x1.a5503b23e255dp+0, 0x1.a9e6b5579fdbfp+0, 0x1.ae89f995ad3adp+0, 0x1.b33a2b84f15fbp+0,
    0x1.b7f76f2fb5e47p+0, 0x1.bcc1e904bc1d2p+0, 0x1.c199bdd85529cp+0, 0x1.c67f12e57d14bp+0, 0x1.cb720dcef9069p+0,
    0x1.d072d4a07897cp+0, 0x1.d5818dcfba487p+0, 0x1.da9e603db3285p+0, 0x1.dfc97337b9b5fp+0, 0x1.e502ee78b3ff6p+0,
    0x1.ea4afa2a490dap+0, 0x1.efa1bee615a27p+0, 0x1.f50765b6e4540p+0, 0x1.fa7c1819e90d8p+0};

constexpr double LOG_2 = 0x1.62e42fefa39efp-1, INFINITY_ = std::numeric_limits<double>::infinity();
constexpr double STEPS = 0x1.71547652b82fep+6;                                   // 64 / log 2
constexpr double STEP_HIGH = 0x1.62e42fef00000p-7, STEP_LOW = 0x1.473de6af278edp-40;  // log 2 / 64: its first 33 bits, the rest
constexpr double ROUND = 0x1.8p52;   // added to a small number, it leaves that rounded in the lower bits
constexpr double LARGEST = 708.0;    // exp of more needs care at its bounds
constexpr i64 FIRST = 0x3fe6000000000000;  // bits of 0.6875
constexpr i64 EXPONENT = i64(0xfff0000000000000);

// log(1 + r), |r| ≤ 1/64
SSM_INLINE double log_near(double r) {
    const double a = __builtin_fma(r, 1.0 / 3, -1.0 / 2), b = __builtin_fma(r, 1.0 / 5, -1.0 / 4);
    const double c = __builtin_fma(r, 1.0 / 7, -1.0 / 6), d = __builtin_fma(r, 1.0 / 9, -1.0 / 8), square = r * r;
    return __builtin_fma(square, __builtin_fma(square, __builtin_fma(square, d, c), b), a) * square + r;
}
// of a normal positive number
SSM_INLINE double log_normal(double x) {
    const i64 bits = std::bit_cast<i64>(x), from = bits - FIRST;
    const Middle& middle = MIDDLES[(from >> 46) & 63];
    const double z = std::bit_cast<double>(bits - (from & EXPONENT)), r = __builtin_fma(z, middle.inverse, -1.0);
    return __builtin_fma(static_cast<double>(from >> 52), LOG_2, middle.log) + log_near(r);
}
// out = a log x for n of x from 1 on, finite: the same bits, a number a lane.
SSM_INLINE void logs_from_one(const double* x, const double* a, double* out, i64 n) {
    constexpr double WHOLE = 0x1p52;
    SSM_VECTORS
    for (i64 i = 0; i < n; ++i) {
        const u64 bits = std::bit_cast<u64>(x[i]), from = bits - u64(FIRST);  // never below zero
        const Middle& middle = MIDDLES[(from >> 46) & 63];
        const double z = std::bit_cast<double>(bits - (from & u64(EXPONENT))), r = __builtin_fma(z, middle.inverse, -1.0);
        const double k = std::bit_cast<double>((from >> 52) | std::bit_cast<u64>(WHOLE)) - WHOLE;
        out[i] = a[i] * (__builtin_fma(k, LOG_2, middle.log) + log_near(r));
    }
}
SSM_ALONE double log_special(double x) {
    if (x == 0.0) return -INFINITY_;
    if (x < 0.0 || x != x) return std::numeric_limits<double>::quiet_NaN();
    return x == INFINITY_ ? x : log_normal(x * 0x1p54) - 54.0 * LOG_2;
}
SSM_INLINE double log(double x) {
    constexpr i64 LEAST = 0x0010000000000000, BEYOND = 0x7ff0000000000000;
    const u64 bits = std::bit_cast<u64>(x);
    return bits - u64(LEAST) < u64(BEYOND - LEAST) ? log_normal(x) : log_special(x);
}
// log(1 + x) for x ≥ 0
SSM_INLINE double log1p(double x) {
    if (x <= 1.0 / 64) return log_near(x);
    const double whole = 1.0 + x;
    return whole < INFINITY_ ? log(whole) + (x - (whole - 1.0)) / whole : whole;
}

// |x| ≤ 708
SSM_INLINE double exp_normal(double x) {
    double steps = x * STEPS + ROUND;
    const i64 k = std::bit_cast<i64>(steps);
    steps -= ROUND;
    const double r = __builtin_fma(steps, -STEP_LOW, __builtin_fma(steps, -STEP_HIGH, x)), square = r * r;
    const double high = __builtin_fma(r, 1.0 / 120, 1.0 / 24), low = __builtin_fma(r, 1.0 / 6, 1.0 / 2);
    const double more = __builtin_fma(square, __builtin_fma(square, high, low), r);
    const double scale = std::bit_cast<double>(std::bit_cast<i64>(POWERS[k & 63]) + ((k >> 6) << 52));
    return __builtin_fma(scale, more, scale);
}
SSM_ALONE double exp_special(double x) {
    if (x != x) return x;
    if (x > 709.782712893384) return INFINITY_;
    if (x < -745.2) return 0.0;
    const double half = exp_normal(0.5 * x);
    return half * half;
}
SSM_INLINE double exp(double x) { return std::fabs(x) <= LARGEST ? exp_normal(x) : exp_special(x); }
// exp(x) − 1
SSM_INLINE double expm1_near(double x) {  // |x| ≤ 0.35: Σ xⁿ/n!, by fours
    const double square = x * x, fourth = square * square;
    const double a = __builtin_fma(x, 1.0 / 6, 1.0 / 2), b = __builtin_fma(x, 1.0 / 120, 1.0 / 24);
    const double c = __builtin_fma(x, 1.0 / 5040, 1.0 / 720), d = __builtin_fma(x, 1.0 / 362880, 1.0 / 40320);
    const double e = __builtin_fma(x, 1.0 / 39916800, 1.0 / 3628800), f = __builtin_fma(x, 1.0 / 6227020800, 1.0 / 479001600);
    const double first = __builtin_fma(square, b, a), second = __builtin_fma(square, d, c), third = __builtin_fma(square, f, e);
    return __builtin_fma(square, __builtin_fma(fourth, __builtin_fma(fourth, third, second), first), x);
}
SSM_INLINE double expm1(double x) { return std::fabs(x) <= 0.35 ? expm1_near(x) : exp(x) - 1.0; }

// aᵇ for a > 0; its relative error grows with |b log a|, from 1e-15 at 5 on.
SSM_INLINE double power(double a, double b) { return exp(b * log(a)); }
// 2ˣ
SSM_INLINE double exp2(double x) {
    if (!(std::fabs(x) < 1100.0)) return exp(x * LOG_2);
    const double whole = (x + ROUND) - ROUND;
    const i64 k = static_cast<i64>(whole), half = k / 2;  // in two steps, as one might be beyond all numbers
    const auto two_to = [](i64 n) { return std::bit_cast<double>((1023 + n) << 52); };
    return exp_normal((x - whole) * LOG_2) * two_to(half) * two_to(k - half);
}
SSM_INLINE double asinh(double x) {
    const double size = std::fabs(x), square = size * size;
    if (size < 1.0) return std::copysign(log1p(size + square / (1.0 + std::sqrt(1.0 + square))), x);
    return std::copysign(size < 1e150 ? log(size + std::sqrt(square + 1.0)) : log(size) + LOG_2, x);
}

// sin 2πx and cos 2πx
struct Wave { double sine, cosine; };
inline Wave wave(double x) {
    const double quarters = (4.0 * x + ROUND) - ROUND, r = (x - 0.25 * quarters) * 6.283185307179586, square = r * r;
    double sine = 0.0, cosine = 0.0;
    for (double n = 16.0; n > 0.0; n -= 2.0) {
        cosine = (cosine + 1.0) * -square / (n * (n - 1.0));
        sine = (sine + 1.0) * -square / (n * (n + 1.0));
    }
    sine = r * (1.0 + sine), cosine = 1.0 + cosine;
    switch (static_cast<i64>(quarters) & 3) {
        case 1: return {cosine, -sine};
        case 2: return {-sine, -cosine};
        case 3: return {-cosine, sine};
        default: return {sine, cosine};
    }
}

}  // namespace ssm::SSM_ISA::series
