// Numbers: bounds.
#pragma once
#include "series.hpp"

namespace ssm::SSM_ISA {

constexpr double UNKNOWN = std::numeric_limits<double>::quiet_NaN();
constexpr double INFINITE = std::numeric_limits<double>::infinity();

// As Python has them: the first where the two do not compare.
SSM_INLINE double min(double a, double b) { return b < a ? b : a; }
SSM_INLINE double max(double a, double b) { return b > a ? b : a; }
SSM_INLINE i64 min(i64 a, i64 b) { return b < a ? b : a; }
SSM_INLINE i64 max(i64 a, i64 b) { return b > a ? b : a; }

// Within ±bound.
SSM_INLINE double clip(double value, double bound) { return min(max(value, -bound), bound); }

// n, rounded up to whole vectors of floats, of doubles.
SSM_INLINE i64 whole(i64 n) { return (n + 15) / 16 * 16; }
SSM_INLINE i64 whole_doubles(i64 n) { return (n + 7) / 8 * 8; }

// Between two of the places 0 … last: the first, and how far on the way to the second. What is no number is at the first place.
struct Between { i64 first; double part; };
SSM_INLINE Between between(double place, i64 last) {
    const double end = static_cast<double>(last), x = place > 0.0 ? (place < end ? place : end) : 0.0;
    const i64 first = min(static_cast<i64>(x), last - 1);
    return {first, x - static_cast<double>(first)};
}

SSM_INLINE bool unknown(double value) { return value != value; }

// log(1 + value), of a negative value as of zero.
SSM_INLINE double log1p_of(double value) { return series::log1p(max(value, 0.0)); }

}  // namespace ssm::SSM_ISA
