// Weights by regrets: ML-Poly (Gaillard, Stoltz & van Erven 2014), and regrets by situation.
//
// The weight of an answer is in proportion to its positive regret over 1 + the squares of its regrets, sums decayed. Where a
// situation has sums of its own (an hour of the day, a level, an entity), a part of those of all events counts beside them: what
// the situation has not shown yet, the rest has. A situation that is a number lies between two places, which share an event
// and are interpolated, so that weights are continuous in it.
// Regrets are linearised, so that an answer may be good in company that is beyond the target from another's side. While little is known of an
// answer it must be good alone: one that is beyond the target by more than the gate's is before it has been no better. By its linearised
// regret of one event, a day's first seasonal answer, far off, outweighed all that were known.
// Beyond the answers in use, what is known of answers is zero, to whole vectors.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

constexpr double PRIOR = 1e-2;                // keeps rounding from deciding while all regrets are small
constexpr double KNOWN_BY = 16.0;              // sum of an answer's squared regrets, of which one event adds 25 at most, from which on it is known
constexpr double SHARE_OF_ALL = 1.0 / HOURS;  // of the regrets of all events that counts in every situation

// The answers in use: which count, how far they are from their mean, how many count, and how many vectors they take.
struct Answers { const double *active, *off; double alive; i64 n; };

// What answers are worth by their sums.
SSM_INLINE Vec<double> worth(const Vec<double>& regret, const Vec<double>& regret2) {
    return greater(regret, Vec<double>{}) / (all(1.0) + regret2);
}
// From worths, which sum up to `mass`, to weights, which sum up to 1: a part of the worth, and a bit each. That bit is
// prior²/(prior + mass) of all of it, and as much for each answer: it fades as evidence comes.
struct Norm { double part, bit; };
SSM_INLINE Norm norm_of(double mass, double alive) {
    const double whole = PRIOR + mass, scale = 1.0 / (mass * whole + alive * (PRIOR * PRIOR));
    return {whole * scale, PRIOR * PRIOR * scale};
}

// Those of four by four sums, with one division, as divisions take the longest: 1/a = bcd/(abcd).
SSM_INLINE void worth_of_four(const Vec<double>* regret, const Vec<double>* regret2, Vec<double>* worths) {
    Vec<double> top[4], bottom[4];
    repeat<4>([&](auto r) SSM_STEP { top[r] = greater(regret[r], Vec<double>{}), bottom[r] = all(1.0) + regret2[r]; });
    const Vec<double> first = bottom[0] * bottom[1], second = bottom[2] * bottom[3], part = all(1.0) / (first * second);
    const Vec<double> of_first = part * second, of_second = part * first;
    worths[0] = top[0] * bottom[1] * of_first, worths[1] = top[1] * bottom[0] * of_first;
    worths[2] = top[2] * bottom[3] * of_second, worths[3] = top[3] * bottom[2] * of_second;
}

// Decayed sums of regrets and of their squares in a situation.
struct Sums { float *regret, *regret2; };
// The sums of two of LEVELS places. width: numbers from one to the next
struct Interpolated { Sums low, high; double part; };
SSM_INLINE Interpolated sums_between(float* regret, float* regret2, i64 width, double place) {
    const Between at = between(place, LEVELS - 1);
    float *first = regret + at.first * width, *first2 = regret2 + at.first * width;
    return {{first, first2}, {first + width, first2 + width}, at.part};
}
// Those of a situation, beside which those of all events count a little. shared: of these
SSM_INLINE Vec<double> beside(const float* own, const Vec<double>& shared) {
    return fma(all(SHARE_OF_ALL), shared, load_floats(own));
}
SSM_INLINE Vec<double> beside(const float* low, const float* high, double part, const Vec<double>& shared) {
    return fma(all(1.0 - part), load_floats(low), fma(all(part), load_floats(high), all(SHARE_OF_ALL) * shared));
}

// Slopes of the loss at eight answers. A wild target's regrets are in units of its own error, so that it weighs no more
// than a bad one. bend: usual errors from which on the loss is linear
SSM_INLINE void slopes_at(const double* made, double y, double unit, double bend, double* slopes) {
    const Vec<double> error = load(made) - all(y);
    const Vec<double> scale = greater(all(unit), magnitude(error) * all(1.0 / Z_CLIP));
    store(slopes, clipped(error * all(1.0 / (bend * unit)), 1.0) / scale);
}
// Linearised regrets of answers against one that was made of them. y: the target; young: 1, or 0 where no answer is ever new
struct Regrets {
    const double *a, *active;
    double made, slope, y, young;
    // squares: the sums of theirs, squared
    SSM_INLINE Vec<double> operator()(i64 i, const Vec<double>& squares) const {
        const double off = made - y;
        const Vec<double> answer = load(a + i), over = answer - all(y);
        const Vec<double> together = all(std::copysign(1.0, off)) * (all(made) - answer), alone = all(std::fabs(off)) - magnitude(over);
        const Vec<double> share = greater(all(young) - squares * all(1.0 / KNOWN_BY), Vec<double>{});  // of what it must be good for alone
        const Vec<double> gained = together + only(over * all(off) < Vec<double>{}, share * (alone - together));
        return clipped(all(std::fabs(slope)) * gained, Z_CLIP) * load(active + i);
    }
};
SSM_INLINE void learn_sums(double* regret, double* regret2, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> keep = all(decay);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regrets(i, load(regret2 + i));
        store(regret + i, keep * load(regret + i) + of);
        store(regret2 + i, keep * load(regret2 + i) + of * of);
    }
}
SSM_INLINE void learn_sums(const Sums& own, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> keep = all(decay);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regrets(i, load_floats(own.regret2 + i));
        store_floats(own.regret + i, keep * load_floats(own.regret + i) + of);
        store_floats(own.regret2 + i, keep * load_floats(own.regret2 + i) + of * of);
    }
}
// Two places share the event, and forget by their part of it.
SSM_INLINE void learn_sums(const Interpolated& own, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> low = all(1.0 - own.part), high = all(own.part);
    const Vec<double> keep_low = all(1.0 - (1.0 - own.part) * (1.0 - decay)), keep_high = all(1.0 - own.part * (1.0 - decay));
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> known = lesser(load_floats(own.low.regret2 + i), load_floats(own.high.regret2 + i));
        const Vec<double> of = regrets(i, known), squares = of * of;
        store_floats(own.low.regret + i, keep_low * load_floats(own.low.regret + i) + low * of);
        store_floats(own.low.regret2 + i, keep_low * load_floats(own.low.regret2 + i) + low * squares);
        store_floats(own.high.regret + i, keep_high * load_floats(own.high.regret + i) + high * of);
        store_floats(own.high.regret2 + i, keep_high * load_floats(own.high.regret2 + i) + high * squares);
    }
}

}  // namespace ssm::SSM_ISA
