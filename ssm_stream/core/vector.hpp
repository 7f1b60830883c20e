// Vectors of 64 bytes: 16 floats or 8 doubles, in as many registers as the processor needs for them.
//
// The only file that knows an instruction set. Every operation rounds each lane alone, every sum has one order (`total`),
// and a product is fused with a sum only where `fma` says so: so all instruction sets come to the same bits.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SSM_INLINE inline __attribute__((always_inline))
// Before a loop: its iterations do not touch each other's numbers.
#if defined(__clang__)
#define SSM_VECTORS _Pragma("clang loop vectorize(assume_safety)")
#else
#define SSM_VECTORS _Pragma("GCC ivdep")
#endif
#define SSM_ALONE inline __attribute__((noinline))  // not once more at every call
#ifndef SSM_ISA
#define SSM_ISA native
#endif

#if defined(__AVX512F__)
#define SSM_REGISTER 64
#elif defined(__AVX__)
#define SSM_REGISTER 32
#else
#define SSM_REGISTER 16
#endif

namespace ssm {
using i64 = std::int64_t;
using u64 = std::uint64_t;

namespace SSM_ISA {

template <class T> struct Lanes;  // of one register
template <> struct Lanes<float> {
    typedef float Register __attribute__((vector_size(SSM_REGISTER)));
    typedef std::int32_t Bits __attribute__((vector_size(SSM_REGISTER)));
};
template <> struct Lanes<double> {
    typedef double Register __attribute__((vector_size(SSM_REGISTER)));
    typedef std::int64_t Bits __attribute__((vector_size(SSM_REGISTER)));
};
typedef float HalfRegister __attribute__((vector_size(SSM_REGISTER / 2)));  // as many floats as a register has doubles

template <class T> constexpr i64 lanes = 64 / sizeof(T);
constexpr int PARTS = 64 / SSM_REGISTER;
alignas(64) constexpr double LANES[8] = {0, 1, 2, 3, 4, 5, 6, 7};  // the place of each of a vector's doubles

// As many registers as 64 bytes take. By name, not in an array: compilers keep those in registers.
template <class R> struct Parts {
    R a;
#if SSM_REGISTER <= 32
    R b;
#endif
#if SSM_REGISTER <= 16
    R c, d;
#endif
};
template <class T> struct Vec : Parts<typename Lanes<T>::Register> {};
template <class T> struct Mask : Parts<typename Lanes<T>::Bits> {};  // all ones where a condition holds, else all zeros

// f of the parts of each, as a V.
template <class V, class F, class... X> SSM_INLINE V each(F f, const X&... x) {
    V out;
    out.a = f(x.a...);
#if SSM_REGISTER <= 32
    out.b = f(x.b...);
#endif
#if SSM_REGISTER <= 16
    out.c = f(x.c...);
    out.d = f(x.d...);
#endif
    return out;
}
// The part of a vector at a place, which is known to the compiler.
template <int I, class R> SSM_INLINE R part(const Parts<R>& v) {
#if SSM_REGISTER <= 32
    if constexpr (I == 1) return v.b;
#endif
#if SSM_REGISTER <= 16
    if constexpr (I == 2) return v.c;
    if constexpr (I == 3) return v.d;
#endif
    if constexpr (I == 0) return v.a;
}

// f(0), f(1), … f(N − 1), each place known to the compiler.
#define SSM_STEP __attribute__((always_inline))
template <int N, class F> SSM_INLINE void repeat(F f) {
    [&]<int... I>(std::integer_sequence<int, I...>) SSM_STEP { (f(std::integral_constant<int, I>{}), ...); }
    (std::make_integer_sequence<int, N>{});
}

template <class R> SSM_INLINE R load_register(const void* from) {
    R r;
    std::memcpy(&r, from, sizeof(R));
    return r;
}
// A vector of what f makes of as many numbers as a register has, at each part's place; and back.
template <class T, class A, class F> SSM_INLINE Vec<T> take_parts(const A* from, F f) {
    [[maybe_unused]] constexpr i64 n = SSM_REGISTER / sizeof(T);
    Vec<T> v;
    v.a = f(from);
#if SSM_REGISTER <= 32
    v.b = f(from + n);
#endif
#if SSM_REGISTER <= 16
    v.c = f(from + 2 * n);
    v.d = f(from + 3 * n);
#endif
    return v;
}
template <class T, class A, class F> SSM_INLINE void place_parts(A* to, const Vec<T>& v, F f) {
    [[maybe_unused]] constexpr i64 n = SSM_REGISTER / sizeof(T);
    f(to, v.a);
#if SSM_REGISTER <= 32
    f(to + n, v.b);
#endif
#if SSM_REGISTER <= 16
    f(to + 2 * n, v.c);
    f(to + 3 * n, v.d);
#endif
}
template <class T> SSM_INLINE Vec<T> load(const T* from) {
    return take_parts<T>(from, [](const T* at) SSM_STEP { return load_register<typename Lanes<T>::Register>(at); });
}
template <class T> SSM_INLINE void store(T* to, const Vec<T>& v) {
    place_parts(to, v, [](T* at, auto r) SSM_STEP { std::memcpy(at, &r, sizeof(r)); });
}
template <class T> SSM_INLINE Vec<T> same(typename Lanes<T>::Register r) {
    return each<Vec<T>>([&](auto) SSM_STEP { return r; }, Vec<T>{});
}
template <class T> SSM_INLINE Vec<T> all(T x) { return same<T>(x - typename Lanes<T>::Register{}); }

#define SSM_EACH(OPERATOR)                                                                               \
    template <class T> SSM_INLINE Vec<T> operator OPERATOR(const Vec<T>& x, const Vec<T>& y) {           \
        return each<Vec<T>>([](auto a, auto b) SSM_STEP { return a OPERATOR b; }, x, y);                 \
    }
SSM_EACH(+)
SSM_EACH(-)
SSM_EACH(*)
SSM_EACH(/)
#undef SSM_EACH
template <class T> SSM_INLINE Vec<T> operator-(const Vec<T>& x) {
    return each<Vec<T>>([](auto a) SSM_STEP { return -a; }, x);
}
#define SSM_EACH(OPERATOR)                                                                               \
    template <class T> SSM_INLINE Mask<T> operator OPERATOR(const Vec<T>& x, const Vec<T>& y) {          \
        return each<Mask<T>>([](auto a, auto b) SSM_STEP { return a OPERATOR b; }, x, y);                \
    }
SSM_EACH(<)
SSM_EACH(>)
SSM_EACH(==)
#undef SSM_EACH
template <class T> SSM_INLINE Mask<T> operator&(const Mask<T>& x, const Mask<T>& y) {
    return each<Mask<T>>([](auto a, auto b) SSM_STEP { return a & b; }, x, y);
}
template <class T> SSM_INLINE Mask<T> operator^(const Mask<T>& x, const Mask<T>& y) {
    return each<Mask<T>>([](auto a, auto b) SSM_STEP { return a ^ b; }, x, y);
}

// x where the mask is set, y elsewhere.
template <class T> SSM_INLINE Vec<T> either(const Mask<T>& m, const Vec<T>& x, const Vec<T>& y) {
    return each<Vec<T>>([](auto c, auto a, auto b) SSM_STEP { return c ? a : b; }, m, x, y);
}
// x where the mask is set, 0 elsewhere.
template <class T> SSM_INLINE Vec<T> only(const Mask<T>& m, const Vec<T>& x) {
    return each<Vec<T>>([](auto c, auto a) SSM_STEP {
#if SSM_REGISTER == 64
        return c ? a : decltype(a){};
#else
        return (decltype(a))(c & (decltype(c))a);
#endif
    }, m, x);
}

// b < a ? b : a, which compilers do not always take for the instruction that it is.
SSM_INLINE Lanes<double>::Register lesser(Lanes<double>::Register a, Lanes<double>::Register b) {
#if defined(__AVX512F__)
    return (Lanes<double>::Register)_mm512_min_pd((__m512d)b, (__m512d)a);
#elif defined(__AVX__)
    return (Lanes<double>::Register)_mm256_min_pd((__m256d)b, (__m256d)a);
#elif defined(__SSE2__)
    return (Lanes<double>::Register)_mm_min_pd((__m128d)b, (__m128d)a);
#else
    return b < a ? b : a;
#endif
}
SSM_INLINE Lanes<double>::Register greater(Lanes<double>::Register a, Lanes<double>::Register b) {
#if defined(__AVX512F__)
    return (Lanes<double>::Register)_mm512_max_pd((__m512d)b, (__m512d)a);
#elif defined(__AVX__)
    return (Lanes<double>::Register)_mm256_max_pd((__m256d)b, (__m256d)a);
#elif defined(__SSE2__)
    return (Lanes<double>::Register)_mm_max_pd((__m128d)b, (__m128d)a);
#else
    return b > a ? b : a;
#endif
}
SSM_INLINE Lanes<float>::Register lesser(Lanes<float>::Register a, Lanes<float>::Register b) { return b < a ? b : a; }
SSM_INLINE Lanes<float>::Register greater(Lanes<float>::Register a, Lanes<float>::Register b) { return b > a ? b : a; }
template <class T> SSM_INLINE Vec<T> lesser(const Vec<T>& x, const Vec<T>& y) {
    return each<Vec<T>>([](auto a, auto b) SSM_STEP { return lesser(a, b); }, x, y);
}
template <class T> SSM_INLINE Vec<T> greater(const Vec<T>& x, const Vec<T>& y) {
    return each<Vec<T>>([](auto a, auto b) SSM_STEP { return greater(a, b); }, x, y);
}
template <class T> SSM_INLINE Vec<T> clipped(const Vec<T>& v, T bound) { return lesser(greater(v, all(-bound)), all(bound)); }

template <class T> SSM_INLINE Vec<T> magnitude(const Vec<T>& v) {
    using Register = typename Lanes<T>::Register;
    using Bits = typename Lanes<T>::Bits;
    const Bits sign = (Bits)(T(-0.0) - Register{});
    return each<Vec<T>>([&](auto a) SSM_STEP { return (Register)((Bits)a & ~sign); }, v);
}

SSM_INLINE Vec<double> root(const Vec<double>& v) {
    return each<Vec<double>>([](Lanes<double>::Register a) SSM_STEP {
#if defined(__AVX512F__)
        return (Lanes<double>::Register)_mm512_sqrt_pd((__m512d)a);
#elif defined(__AVX__)
        return (Lanes<double>::Register)_mm256_sqrt_pd((__m256d)a);
#elif defined(__SSE2__)
        return (Lanes<double>::Register)_mm_sqrt_pd((__m128d)a);
#else
        for (int i = 0; i < SSM_REGISTER / 8; ++i) a[i] = std::sqrt(a[i]);
        return a;
#endif
    }, v);
}

// a b + c, rounded once. Without an instruction for it, by the mathematics library: slow, and the same bits.
SSM_INLINE Lanes<float>::Register fma(Lanes<float>::Register a, Lanes<float>::Register b, Lanes<float>::Register c) {
#if defined(__AVX512F__)
    return (Lanes<float>::Register)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (Lanes<float>::Register)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    for (int i = 0; i < SSM_REGISTER / 4; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}
SSM_INLINE Lanes<double>::Register fma(Lanes<double>::Register a, Lanes<double>::Register b, Lanes<double>::Register c) {
#if defined(__AVX512F__)
    return (Lanes<double>::Register)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
    return (Lanes<double>::Register)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    for (int i = 0; i < SSM_REGISTER / 8; ++i) c[i] = __builtin_fma(a[i], b[i], c[i]);
    return c;
#endif
}
#if defined(__FMA__) || defined(__aarch64__)
#define SSM_FUSED SSM_INLINE
#else
#define SSM_FUSED SSM_ALONE
#endif
template <class T> SSM_FUSED Vec<T> fma(const Vec<T>& x, const Vec<T>& y, const Vec<T>& z) {
    return each<Vec<T>>([](auto a, auto b, auto c) SSM_STEP { return fma(a, b, c); }, x, y, z);
}

// Half a register of floats to a register of doubles and back. In one instruction: g++ 12 would take each half by itself.
SSM_INLINE Lanes<double>::Register widened(HalfRegister half) {
#if defined(__AVX512F__)
    return (Lanes<double>::Register)_mm512_cvtps_pd((__m256)half);
#elif defined(__AVX__)
    return (Lanes<double>::Register)_mm256_cvtps_pd((__m128)half);
#else
    return __builtin_convertvector(half, Lanes<double>::Register);
#endif
}
SSM_INLINE HalfRegister narrowed(Lanes<double>::Register r) {
#if defined(__AVX512F__)
    return (HalfRegister)_mm512_cvtpd_ps((__m512d)r);
#elif defined(__AVX__)
    return (HalfRegister)_mm256_cvtpd_ps((__m256d)r);
#else
    return __builtin_convertvector(r, HalfRegister);
#endif
}
// Eight floats to doubles and back.
SSM_INLINE Vec<double> load_floats(const float* from) {
    const auto wide = [](const float* at) SSM_STEP { return widened(load_register<HalfRegister>(at)); };
    return take_parts<double>(from, wide);
}
SSM_INLINE void store_floats(float* to, const Vec<double>& v) {
    const auto narrow = [](float* at, Lanes<double>::Register r) SSM_STEP {
        const HalfRegister half = narrowed(r);
        std::memcpy(at, &half, sizeof(half));
    };
    place_parts(to, v, narrow);
}

// As a float has it.
SSM_INLINE Vec<double> rounded(const Vec<double>& v) {
    return each<Vec<double>>([](Lanes<double>::Register r) SSM_STEP { return widened(narrowed(r)); }, v);
}
// Eight counts to doubles and back.
SSM_INLINE Vec<double> load_counts(const std::uint16_t* from) {
    [[maybe_unused]] constexpr i64 n = SSM_REGISTER / 8;
    using Register = typename Lanes<double>::Register;
    const auto wide = [](const std::uint16_t* at) SSM_STEP {
#if defined(__AVX512F__)
        return (Register)_mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(load_register<__m128i>(at)));
#elif defined(__AVX2__)
        return (Register)_mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
#else
        Register out;
        for (i64 i = 0; i < n; ++i) out[i] = static_cast<double>(at[i]);
        return out;
#endif
    };
    return take_parts<double>(from, wide);
}
SSM_INLINE void store_counts(std::uint16_t* to, const Vec<double>& v) {
    [[maybe_unused]] constexpr i64 n = SSM_REGISTER / 8;
    const auto narrow = [](std::uint16_t* at, Lanes<double>::Register r) SSM_STEP {
#if defined(__AVX512VL__)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_cvtepi32_epi16(_mm512_cvttpd_epi32((__m512d)r)));
#elif defined(__AVX2__)
        const __m128i whole = _mm256_cvttpd_epi32((__m256d)r);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packus_epi32(whole, whole));
#else
        for (i64 i = 0; i < n; ++i) at[i] = static_cast<std::uint16_t>(r[i]);
#endif
    };
    place_parts(to, v, narrow);
}

// One number of all lanes: one half joined with the other, again and again.
template <class T, class Join> SSM_INLINE T halved(const Vec<T>& v, Join join) {
#if SSM_REGISTER == 64
    typedef T Half __attribute__((vector_size(32)));
    Half y;
    if constexpr (sizeof(T) == 4)
        y = join((Half)__builtin_shufflevector(v.a, v.a, 0, 1, 2, 3, 4, 5, 6, 7),
                 (Half)__builtin_shufflevector(v.a, v.a, 8, 9, 10, 11, 12, 13, 14, 15));
    else
        y = join((Half)__builtin_shufflevector(v.a, v.a, 0, 1, 2, 3), (Half)__builtin_shufflevector(v.a, v.a, 4, 5, 6, 7));
#elif SSM_REGISTER == 32
    const auto y = join(v.a, v.b);
#else
    const auto y = join(join(v.a, v.c), join(v.b, v.d));
#endif
#if SSM_REGISTER >= 32
    if constexpr (sizeof(T) == 4) {
        const auto x = join(__builtin_shufflevector(y, y, 0, 1, 2, 3), __builtin_shufflevector(y, y, 4, 5, 6, 7));
        return join(join(x[0], x[2]), join(x[1], x[3]));
    } else {
        return join(join(y[0], y[2]), join(y[1], y[3]));
    }
#else
    if constexpr (sizeof(T) == 4)
        return join(join(y[0], y[2]), join(y[1], y[3]));
    else
        return join(y[0], y[1]);
#endif
}
struct Sum {
    template <class A> SSM_INLINE A operator()(A a, A b) const { return a + b; }
};
struct Least {
    template <class A> SSM_INLINE A operator()(A a, A b) const { return a < b ? a : b; }
};
struct Greatest {
    template <class A> SSM_INLINE A operator()(A a, A b) const { return a > b ? a : b; }
};
template <class T> SSM_INLINE T total(const Vec<T>& v) { return halved(v, Sum{}); }
template <class T> SSM_INLINE T greatest(const Vec<T>& v) { return halved(v, Greatest{}); }
template <class T> SSM_INLINE T least(const Vec<T>& v) { return halved(v, Least{}); }

// Lane I of a register in all lanes of it.
template <int I, class R> SSM_INLINE R spread(R r) {
    return [&]<int... J>(std::integer_sequence<int, J...>) SSM_STEP {
        return __builtin_shufflevector(r, r, (J * 0 + I)...);
    }(std::make_integer_sequence<int, int(sizeof(R) / sizeof(r[0]))>{});
}

// Rows: n is a multiple of the lanes.

// Σ aᵢbᵢ
template <class T> SSM_INLINE T dot(const T* a, const T* b, i64 n) {
    Vec<T> sums{};
    for (i64 i = 0; i < n; i += lanes<T>) sums = fma(load(a + i), load(b + i), sums);
    return total(sums);
}
// Σ aᵢ
template <class T> SSM_INLINE T sum(const T* a, i64 n) {
    Vec<T> sums{};
    for (i64 i = 0; i < n; i += lanes<T>) sums = sums + load(a + i);
    return total(sums);
}
// y ← y + b x
template <class T> SSM_INLINE void add(T* y, const T* x, T b, i64 n) {
    const Vec<T> factor = all(b);
    for (i64 i = 0; i < n; i += lanes<T>) store(y + i, fma(factor, load(x + i), load(y + i)));
}
// y ← a y + b x
template <class T> SSM_INLINE void decay_add(T* y, T a, const T* x, T b, i64 n) {
    const Vec<T> keep = all(a), factor = all(b);
    for (i64 i = 0; i < n; i += lanes<T>) store(y + i, fma(factor, load(x + i), keep * load(y + i)));
}
// y ← y + Σⱼ xⱼ · row j, over `count` rows at a distance of `width`; so many vectors at once, whose sums do not wait for
// each other
template <int ABREAST, class T> SSM_INLINE void weigh_abreast(T* y, const T* x, const T* rows, i64 count, i64 width) {
    Vec<T> sums[ABREAST];
    repeat<ABREAST>([&](auto q) SSM_STEP { sums[q] = load(y + q * lanes<T>); });
    for (i64 j = 0; j < count; ++j) {
        const Vec<T> factor = all(x[j]);
        repeat<ABREAST>([&](auto q) SSM_STEP { sums[q] = fma(factor, load(rows + j * width + q * lanes<T>), sums[q]); });
    }
    repeat<ABREAST>([&](auto q) SSM_STEP { store(y + q * lanes<T>, sums[q]); });
}
template <class T> SSM_INLINE void weigh(T* y, const T* x, const T* rows, i64 count, i64 width, i64 n) {
    constexpr i64 L = lanes<T>;
    i64 i = 0;
    for (; i + 8 * L <= n; i += 8 * L) weigh_abreast<8>(y + i, x, rows + i, count, width);  // as many as hide the latency of a sum
    switch ((n - i) / L) {
        case 7: return weigh_abreast<7>(y + i, x, rows + i, count, width);
        case 6: return weigh_abreast<6>(y + i, x, rows + i, count, width);
        case 5: return weigh_abreast<5>(y + i, x, rows + i, count, width);
        case 4: return weigh_abreast<4>(y + i, x, rows + i, count, width);
        case 3: return weigh_abreast<3>(y + i, x, rows + i, count, width);
        case 2: return weigh_abreast<2>(y + i, x, rows + i, count, width);
        case 1: return weigh_abreast<1>(y + i, x, rows + i, count, width);
    }
}

}  // namespace SSM_ISA
}  // namespace ssm
