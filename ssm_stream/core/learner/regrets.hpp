// Weights by regrets: ML-Poly (Gaillard, Stoltz & van Erven 2014), and regrets by situation.
//
// The weight of an answer is in proportion to its positive regret over 1 + the squares of its regrets, sums decayed. Where a
// situation has sums of its own (an hour of the day, a level, an entity), a part of those of all events counts beside them: what
// the situation has not shown yet, the rest has. A situation that is a number lies between two places, which share an event
// and are interpolated, so that weights are continuous in it.
// Beyond the answers in use, what is known of answers is zero, to whole vectors.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

constexpr double PRIOR = 1e-2;                // keeps rounding from deciding while all regrets are small
constexpr double SHARE_OF_ALL = 1.0 / HOURS;  // of the regrets of all events that counts in every situation

// The answers in use: which count, how many do, and how many vectors they take.
struct Answers { const double* active; double alive; i64 count, n; };

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

// Weights of the answers from their sums from place i on; uniform at first.
template <class R, class R2> SSM_INLINE void poly(const R& regret, const R2& regret2, double* weights, const Answers& of) {
    Vec<double> sums{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> weight = worth(regret(i), regret2(i)) * load(of.active + i);
        store(weights + i, weight);
        sums = sums + weight;
    }
    const Norm norm = norm_of(total(sums), of.alive);
    const Vec<double> part = all(norm.part), bit = all(norm.bit);
    for (i64 i = 0; i < of.n; i += lanes<double>) store(weights + i, fma(load(weights + i), part, bit) * load(of.active + i));
}
SSM_INLINE void poly_of(const double* regret, const double* regret2, double* weights, const Answers& of) {
    poly([&](i64 i) { return load(regret + i); }, [&](i64 i) { return load(regret2 + i); }, weights, of);
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
// Those of a situation from place i on, beside which those of all events count a little. shared: of these
SSM_INLINE Vec<double> beside(const float* own, const double* shared, i64 i) {
    return load_floats(own + i) + all(SHARE_OF_ALL) * load(shared + i);
}
SSM_INLINE Vec<double> beside(const float* low, const float* high, double part, const double* shared, i64 i) {
    return all(1.0 - part) * load_floats(low + i) + all(part) * load_floats(high + i) + all(SHARE_OF_ALL) * load(shared + i);
}
SSM_INLINE void poly_in(const Sums& own, const double* regret, const double* regret2, double* weights, const Answers& of) {
    poly([&](i64 i) { return beside(own.regret, regret, i); }, [&](i64 i) { return beside(own.regret2, regret2, i); }, weights, of);
}
SSM_INLINE void poly_in(const Interpolated& own, const double* regret, const double* regret2, double* weights, const Answers& of) {
    poly([&](i64 i) { return beside(own.low.regret, own.high.regret, own.part, regret, i); },
         [&](i64 i) { return beside(own.low.regret2, own.high.regret2, own.part, regret2, i); }, weights, of);
}

// Slopes of the loss at eight answers. A wild target's regrets are in units of its own error, so that it weighs no more
// than a bad one. bend: usual errors from which on the loss is linear
SSM_INLINE void slopes_at(const double* made, double y, double unit, double bend, double* slopes) {
    const Vec<double> error = load(made) - all(y);
    const Vec<double> scale = greater(all(unit), magnitude(error) * all(1.0 / Z_CLIP));
    store(slopes, clipped(error * all(1.0 / (bend * unit)), 1.0) / scale);
}
// Linearised regrets of answers against one that was made of them.
struct Regrets {
    const double *a, *active;
    double made, slope;
    SSM_INLINE Vec<double> operator()(i64 i) const {
        return clipped(all(slope) * (all(made) - load(a + i)), Z_CLIP) * load(active + i);
    }
};
SSM_INLINE void learn_sums(double* regret, double* regret2, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> keep = all(decay);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regrets(i);
        store(regret + i, keep * load(regret + i) + of);
        store(regret2 + i, keep * load(regret2 + i) + of * of);
    }
}
SSM_INLINE void learn_sums(const Sums& own, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> keep = all(decay);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regrets(i);
        store_floats(own.regret + i, keep * load_floats(own.regret + i) + of);
        store_floats(own.regret2 + i, keep * load_floats(own.regret2 + i) + of * of);
    }
}
// Two places share the event, and forget by their part of it.
SSM_INLINE void learn_sums(const Interpolated& own, double decay, const Regrets& regrets, i64 n) {
    const Vec<double> low = all(1.0 - own.part), high = all(own.part);
    const Vec<double> keep_low = all(1.0 - (1.0 - own.part) * (1.0 - decay)), keep_high = all(1.0 - own.part * (1.0 - decay));
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regrets(i), squares = of * of;
        store_floats(own.low.regret + i, keep_low * load_floats(own.low.regret + i) + low * of);
        store_floats(own.low.regret2 + i, keep_low * load_floats(own.low.regret2 + i) + low * squares);
        store_floats(own.high.regret + i, keep_high * load_floats(own.high.regret + i) + high * of);
        store_floats(own.high.regret2 + i, keep_high * load_floats(own.high.regret2 + i) + high * squares);
    }
}

}  // namespace ssm::SSM_ISA
