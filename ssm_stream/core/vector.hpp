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
#define SSM_ALONE __attribute__((noinline))
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

// All ones where a condition holds, all zeros elsewhere.
template <class T> struct Mask {
    typename Lanes<T>::Bits part[PARTS];
};
template <class T> SSM_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) {
    for (int i = 0; i < PARTS; ++i) a.part[i] = a.part[i] & b.part[i];
    return a;
}

template <class T> struct Vec {
    using Register = typename Lanes<T>::Register;
    Register part[PARTS];
};

template <class T> SSM_INLINE Vec<T> load(const T* from) {
    Vec<T> v;
    std::memcpy(&v, from, 64);
    return v;
}
template <class T> SSM_INLINE void store(T* to, Vec<T> v) { std::memcpy(to, &v, 64); }

template <class T> SSM_INLINE Vec<T> all(T x) {
    Vec<T> v;
    for (int i = 0; i < PARTS; ++i) v.part[i] = x - typename Vec<T>::Register{};
    return v;
}

#define SSM_EACH(OPERATOR)                                                                        \
    template <class T> SSM_INLINE Vec<T> operator OPERATOR(Vec<T> a, Vec<T> b) {                  \
        for (int i = 0; i < PARTS; ++i) a.part[i] = a.part[i] OPERATOR b.part[i];                 \
        return a;                                                                                 \
    }
SSM_EACH(+)
SSM_EACH(-)
SSM_EACH(*)
SSM_EACH(/)
#undef SSM_EACH
template <class T> SSM_INLINE Vec<T> operator-(Vec<T> a) {
    for (int i = 0; i < PARTS; ++i) a.part[i] = -a.part[i];
    return a;
}
#define SSM_EACH(OPERATOR)                                                                        \
    template <class T> SSM_INLINE Mask<T> operator OPERATOR(Vec<T> a, Vec<T> b) {                 \
        Mask<T> m;                                                                                \
        for (int i = 0; i < PARTS; ++i) m.part[i] = a.part[i] OPERATOR b.part[i];                 \
        return m;                                                                                 \
    }
SSM_EACH(<)
SSM_EACH(>)
SSM_EACH(==)
#undef SSM_EACH

// a where the mask is set, b elsewhere.
template <class T> SSM_INLINE Vec<T> either(Mask<T> m, Vec<T> a, Vec<T> b) {
    for (int i = 0; i < PARTS; ++i) a.part[i] = m.part[i] ? a.part[i] : b.part[i];
    return a;
}
template <class T> SSM_INLINE Vec<T> lesser(Vec<T> a, Vec<T> b) { return either(b < a, b, a); }
template <class T> SSM_INLINE Vec<T> greater(Vec<T> a, Vec<T> b) { return either(b > a, b, a); }
template <class T> SSM_INLINE Vec<T> clipped(Vec<T> v, T bound) { return lesser(greater(v, all(-bound)), all(bound)); }

template <class T> SSM_INLINE Vec<T> magnitude(Vec<T> v) {
    using Bits = typename Lanes<T>::Bits;
    for (int i = 0; i < PARTS; ++i) {
        const Bits sign = (Bits)(T(-0.0) - typename Vec<T>::Register{});
        v.part[i] = (typename Vec<T>::Register)((Bits)v.part[i] & ~sign);
    }
    return v;
}

SSM_INLINE Vec<double> root(Vec<double> v) {
    for (int i = 0; i < PARTS; ++i) {
#if defined(__AVX512F__)
        v.part[i] = (Lanes<double>::Register)_mm512_sqrt_pd((__m512d)v.part[i]);
#elif defined(__AVX__)
        v.part[i] = (Lanes<double>::Register)_mm256_sqrt_pd((__m256d)v.part[i]);
#elif defined(__SSE2__)
        v.part[i] = (Lanes<double>::Register)_mm_sqrt_pd((__m128d)v.part[i]);
#else
        for (int j = 0; j < SSM_REGISTER / 8; ++j) v.part[i][j] = std::sqrt(v.part[i][j]);
#endif
    }
    return v;
}

// a b + c, rounded once. Without an instruction for it, by the mathematics library: slow, and the same bits.
#if defined(__FMA__) || defined(__aarch64__)
#define SSM_FUSED SSM_INLINE
#else
#define SSM_FUSED [[maybe_unused]] static SSM_ALONE
#endif
SSM_FUSED Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    for (int i = 0; i < PARTS; ++i) {
#if defined(__AVX512F__)
        c.part[i] = (Lanes<float>::Register)_mm512_fmadd_ps((__m512)a.part[i], (__m512)b.part[i], (__m512)c.part[i]);
#elif defined(__FMA__)
        c.part[i] = (Lanes<float>::Register)_mm256_fmadd_ps((__m256)a.part[i], (__m256)b.part[i], (__m256)c.part[i]);
#else
        for (int j = 0; j < SSM_REGISTER / 4; ++j) c.part[i][j] = __builtin_fmaf(a.part[i][j], b.part[i][j], c.part[i][j]);
#endif
    }
    return c;
}
SSM_FUSED Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    for (int i = 0; i < PARTS; ++i) {
#if defined(__AVX512F__)
        c.part[i] = (Lanes<double>::Register)_mm512_fmadd_pd((__m512d)a.part[i], (__m512d)b.part[i], (__m512d)c.part[i]);
#elif defined(__FMA__)
        c.part[i] = (Lanes<double>::Register)_mm256_fmadd_pd((__m256d)a.part[i], (__m256d)b.part[i], (__m256d)c.part[i]);
#else
        for (int j = 0; j < SSM_REGISTER / 8; ++j) c.part[i][j] = __builtin_fma(a.part[i][j], b.part[i][j], c.part[i][j]);
#endif
    }
    return c;
}

// Eight floats to doubles and back.
SSM_INLINE Vec<double> load_floats(const float* from) {
    HalfRegister half[PARTS];
    std::memcpy(&half, from, 32);
    Vec<double> v;
    for (int i = 0; i < PARTS; ++i) v.part[i] = __builtin_convertvector(half[i], Lanes<double>::Register);
    return v;
}
SSM_INLINE void store_floats(float* to, Vec<double> v) {
    HalfRegister half[PARTS];
    for (int i = 0; i < PARTS; ++i) half[i] = __builtin_convertvector(v.part[i], HalfRegister);
    std::memcpy(to, &half, 32);
}

// One number of all lanes: one half joined with the other, again and again.
template <class T, class Join> SSM_INLINE T halved(Vec<T> v, Join join) {
    typename Vec<T>::Register part[PARTS];
    for (int i = 0; i < PARTS; ++i) part[i] = v.part[i];
    for (int half = PARTS / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) part[i] = join(part[i], part[i + half]);
#if SSM_REGISTER == 64
    typedef T Y __attribute__((vector_size(32)));
    Y y;
    if constexpr (sizeof(T) == 4)
        y = join(__builtin_shufflevector(part[0], part[0], 0, 1, 2, 3, 4, 5, 6, 7),
                 __builtin_shufflevector(part[0], part[0], 8, 9, 10, 11, 12, 13, 14, 15));
    else
        y = join(__builtin_shufflevector(part[0], part[0], 0, 1, 2, 3), __builtin_shufflevector(part[0], part[0], 4, 5, 6, 7));
#else
    auto y = part[0];
#endif
#if SSM_REGISTER >= 32
    if constexpr (sizeof(T) == 4) {
        auto x = join(__builtin_shufflevector(y, y, 0, 1, 2, 3), __builtin_shufflevector(y, y, 4, 5, 6, 7));
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
template <class T> SSM_INLINE T total(Vec<T> v) { return halved(v, Sum{}); }
template <class T> SSM_INLINE T least(Vec<T> v) { return halved(v, Least{}); }

// Lane I of a register in all lanes of it.
template <int I, class R> SSM_INLINE R spread(R r) {
    return [&]<int... J>(std::integer_sequence<int, J...>) {
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
// y ← y + Σⱼ xⱼ · row j, over `count` rows at a distance of `width`
template <class T> SSM_INLINE void weigh(T* y, const T* x, const T* rows, i64 count, i64 width, i64 n) {
    constexpr i64 L = lanes<T>;
    i64 i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
        Vec<T> a = load(y + i), b = load(y + i + L);
        for (i64 j = 0; j < count; ++j) {
            const Vec<T> factor = all(x[j]);
            const T* row = rows + j * width + i;
            a = fma(factor, load(row), a);
            b = fma(factor, load(row + L), b);
        }
        store(y + i, a);
        store(y + i + L, b);
    }
    for (; i < n; i += L) {
        Vec<T> a = load(y + i);
        for (i64 j = 0; j < count; ++j) a = fma(all(x[j]), load(rows + j * width + i), a);
        store(y + i, a);
    }
}

}  // namespace SSM_ISA
}  // namespace ssm
