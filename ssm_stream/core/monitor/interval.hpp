// How large an error may be: a prediction interval that keeps its coverage, and the bound of the anomaly level.
//
// Both are online quantiles of |error| over its running mean, so that they follow the entity's unit and its noise:
// * the interval's half-width is moved by the pinball loss's gradient on a log scale (adaptive conformal inference,
//   Gibbs & Candès 2021): up at a miss, down at a hit, so that in the long run misses make up 1 − level. A part of each step
//   is the hour's own, so that they do so at every hour of the day, too, whatever shape its errors have (coverage in groups:
//   Bastani et al. 2022). Both parts together are one step: the interval reacts as quickly as without hours;
// * the anomaly level (one event in 10,000, say) is too rare to be tracked so. Errors beyond the 98 % quantile are taken as
//   generalised Pareto (peaks over threshold; Pickands 1975) with decayed moments: the bound in closed form. What the
//   closed form gets wrong (few exceedances, other tails) is taken back by the same pinball steps on the bound's log, one
//   up an alarm, one down a budget's worth of events, so that in the long run alarms come at the budget's rate.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::interval {

constexpr double SCALE_RATE = 0.01;
constexpr double STEP = 0.04, HOUR_STEP = 0.03;  // of the log half-width an event: of all hours, of its own
constexpr double HOUR_UNIT = 1.0 / 4096.0, HOUR_MOST = 7.0;
constexpr double TAIL_STEP = 0.02;   // of the log of the tail's threshold
constexpr double TAIL = 0.02;        // share of errors that the tail model is fitted to
constexpr double TAIL_RATE = 1.0 / 400;  // of the tail's moments, an exceedance
constexpr double STEP_BOUND = 0.1;   // of the bound's log, an alarm
constexpr double BOUND_MOST = 0.5;   // of that correction, so that entities that are often at fault stay audible
constexpr double PRIOR = 20.0;       // exceedances that the prior counts for: those of the entity's pool
// Before a pool knows better: an excess as of a tail a little heavier than Laplace's (shape 0.1), mean and mean square.
constexpr double EXCESS_FIRST = 1.0, SQUARE_FIRST = 2.25, POOL_RATE = 1.0 / 2000;
constexpr double POOL_EXCESS_MOST = 8.0;  // times the usual one: faults of some entities must not make those of all normal
constexpr double SHAPE_MAX = 0.45;
// Of the tail's share in what is asked for: the rarest level that the bound has been measured at. What is asked for beyond it is
// taken as rarer by as much again, since a tail goes on as fitted only as far as anyone has seen it.
constexpr double SEEN_RATIO = 1000.0;
// However heavy the fitted tail: so many times the largest error lately is an alarm, and by the power of it more where the budget asks for
// more events than there have been, as of a tail of shape 1/5.
constexpr double BEYOND = 1.25, BEYOND_POWER = 0.2;
constexpr double KNOWN = 1000.0, MEMORY = 50000.0;  // errors before that counts; within which they are the largest
constexpr i64 YOUNG = 100;           // errors before the bound is corrected
constexpr i64 SCALED = 30;           // errors before the scale is known: until then one may be any number of times as large
constexpr double LEAST_HELD = -0.36651292058166435;  // log of the half-width over scale within which half of Laplace's errors lie: ln ln 2
constexpr double REST = 50.0;        // events after an alarm in which others are the same one
constexpr double LEFT_RATE = 1.0 / 200;  // an event at which a target was expected to rest
constexpr double RESTLESS = 1.0;     // is added to how often it left that rest, once it is none
// Of the share that the interval may miss: beyond, it is none; below that share it is one again. A share of 10 % wanders at that rate by
// √(0.1 · 0.9 / 400), 1.5 points: 15 % is hardly chance.
constexpr double LEFT_MOST = 1.5;
constexpr i64 REST_KNOWN = 1000;     // events at rest after which a share of 90 % is known to one point: √(0.9 · 0.1 / 1000)

// scale: running mean of |error|; width: log of the half-width over scale; tail (8,); largest (2,): error lately, and in the target's unit
enum Tail { THRESHOLD, EXCESS, SQUARE, EXCEEDED, CORRECTION, RESTING, LEFT, LEFT_PAUSE };
// pool: (3,) the tail of all entities of the pool, as EXCESS, SQUARE and EXCEEDED of `tail`; null: none
struct Interval {
    double &scale, &width, *tail, *largest, *pool;
    std::int16_t* hours;
    SSM_INLINE Interval(const MonitorState& m, i64 e, double* pool = nullptr)
        : scale(*m.interval_fields.scale.in(m.interval.row(e))), width(*m.interval_fields.width.in(m.interval.row(e))),
          tail(m.interval_fields.tail.in(m.interval.row(e))), largest(m.interval_fields.largest.in(m.interval.row(e))), pool(pool), hours(m.interval_fields.hours.in(m.interval.row(e))) {}
};
enum { POOL_EXCESS, POOL_SQUARE, POOL_EXCEEDED };

// Distance from the prediction to the interval's bounds, in the target's unit.
SSM_INLINE double half_width(const Interval& s, i64 hour) { return s.scale * series::exp(s.width + HOUR_UNIT * s.hours[hour]); }

// What an error is measured by: so many errors of the entity, and what it is over, in the target's unit.
struct Measure { double errors, unit; };
// |error| that one event in 1/rate exceeds while nothing changes, in that unit.
inline double anomaly_bound(const Interval& s, double rate, const Measure& by) {
    const bool known = s.pool && s.pool[POOL_EXCEEDED] > 0.0;
    const double lent = PRIOR / (PRIOR + s.tail[EXCEEDED]);
    const double mean = s.tail[EXCESS] + lent * ((known ? s.pool[POOL_EXCESS] : EXCESS_FIRST) - s.tail[EXCESS]);
    const double square = s.tail[SQUARE] + lent * ((known ? s.pool[POOL_SQUARE] : SQUARE_FIRST) - s.tail[SQUARE]);
    const double variance = max(square - mean * mean, 1e-12);
    const double shape = min(max(0.5 * (1.0 - mean * mean / variance), 0.0), SHAPE_MAX), size = mean * (1.0 - shape);
    const double asked = max(TAIL / rate, 1.0), ratio = asked * max(asked / SEEN_RATIO, 1.0);
    const double excess = shape < 1e-6 ? size * series::log(ratio) : size / shape * (series::power(ratio, shape) - 1.0);
    double bound = s.scale * (series::exp(s.tail[THRESHOLD]) + excess);
    if (by.errors >= KNOWN && by.unit > 0.0) {
        const double most = BEYOND * min(s.largest[0], s.largest[1] / by.unit);
        if (bound > most) bound = min(bound, most * series::power(max(1.0 / (rate * min(by.errors, MEMORY)), 1.0), BEYOND_POWER));
    }
    return bound * series::exp(s.tail[CORRECTION]);
}

SSM_INLINE void learn_largest(const Interval& s, double error, double unit) {
    constexpr double KEEP = 1.0 - 1.0 / MEMORY;
    s.largest[0] = max(KEEP * s.largest[0], error);
    s.largest[1] = max(KEEP * s.largest[1], error * unit);
}
SSM_INLINE void learn_tail(const Interval& s, double excess) {
    double *tail = s.tail, *pool = s.pool;
    // Later ones weigh more: the first were made while the model learned.
    const double weight = max(2.0 / (tail[EXCEEDED] + 2.0), TAIL_RATE);
    tail[EXCESS] += weight * (excess - tail[EXCESS]);
    tail[SQUARE] += weight * (excess * excess - tail[SQUARE]);
    tail[EXCEEDED] = min(tail[EXCEEDED] + 1.0, 2.0 / TAIL_RATE);
    if (!pool) return;
    if (pool[POOL_EXCEEDED] == 0.0) pool[POOL_EXCESS] = EXCESS_FIRST, pool[POOL_SQUARE] = SQUARE_FIRST;
    excess = min(excess, POOL_EXCESS_MOST * max(pool[POOL_EXCESS], EXCESS_FIRST));
    const double share = max(1.0 / (pool[POOL_EXCEEDED] + PRIOR + 1.0), POOL_RATE);
    pool[POOL_EXCESS] += share * (excess - pool[POOL_EXCESS]);
    pool[POOL_SQUARE] += share * (excess * excess - pool[POOL_SQUARE]);
    pool[POOL_EXCEEDED] = min(pool[POOL_EXCEEDED] + 1.0, 1.0 / POOL_RATE);
}

// Is the interval as narrow as rest where the target is expected to stand still? A rare event's count stands still at zero, too, and
// its mean is less than a part of a step; but it leaves zero again and again, and no narrow interval holds its share of that.
//
// Nor is each standstill alike: a valve that is closed at night pauses by day, too, wherever it is, until its load has moved by a step. What
// is left more often than an interval may miss lasts for less than one over that in the mean. So what stood still for less is a pause,
// with a share of its own: else nights, which are hardly ever left, pay for pauses that are left at every other event.
SSM_INLINE Tail left_of(double stood, double level) { return stood * (1.0 - level) < 1.0 ? LEFT_PAUSE : LEFT; }
SSM_INLINE bool may_rest(const Interval& s, Tail left) { return s.tail[left] < RESTLESS; }
SSM_INLINE void learn_rest(const Interval& s, Tail left, bool still, double level) {
    const double part = may_rest(s, left) ? 0.0 : RESTLESS, missed = 1.0 - level, before = s.tail[left] - part;
    const double share = before + LEFT_RATE * ((still ? 0.0 : 1.0) - before);
    s.tail[left] = share + (share > LEFT_MOST * missed ? RESTLESS : share < missed ? 0.0 : part);
}

// Is rest a group of its own? Where a target is expected to rest, rest has its own interval, which holds nearly all. What lies in that
// says nothing about the half-width: hits of a night off would pay for misses of a day's work (coverage in groups, as of the hours).
// Before that is known, as of any target that only seems to rest, each event counts, so that their share of all is kept.
SSM_INLINE bool rest_apart(const Interval& s, Tail left, i64 rested) { return may_rest(s, left) && rested >= REST_KNOWN; }

// The target stood still, as predicted: no error, but inside the interval, whose share of all events it counts for, as long as
// half of the errors stay inside: of days at rest the first events after them would know nothing.
inline void hold(const Interval& s, i64 n, double level, i64 hour) {
    const double part = HOUR_UNIT * s.hours[hour], inside = level - 1.0;
    if (s.scale == 0.0 || s.width + part <= LEAST_HELD) return;
    s.width += max(STEP, 1.0 / (static_cast<double>(n) + 10.0)) * inside;
    s.hours[hour] = static_cast<std::int16_t>(std::floor(max(HOUR_STEP * inside + part, -HOUR_MOST) / HOUR_UNIT + 0.5));
}

// Learn one error, over the unit; n errors of the entity came before. hour: that the prediction was made for;
// usual: it tells how large errors are, else the interval's width alone follows, so that it still holds its share of all;
// apart: its interval was that of rest, and not of the width.
inline void observe(const Interval& s, i64 n, double error, double unit, double level, double rate, i64 hour, bool usual = true, bool apart = false) {
    double* tail = s.tail;
    const double count = static_cast<double>(n);
    if (n == 0 || s.scale == 0.0) {
        s.width = series::log(-series::log(1.0 - level));
        tail[THRESHOLD] = series::log(-series::log(TAIL));
        s.scale = error;
        return;
    }
    const double step = max(STEP, 1.0 / (count + 10.0)), tail_step = max(TAIL_STEP, 1.0 / (count + 10.0));
    if (usual) tail[RESTING] -= 1.0;
    if (usual && n >= YOUNG) tail[CORRECTION] = max(tail[CORRECTION] - STEP_BOUND * rate, -BOUND_MOST);
    const double missed = error > half_width(s, hour) ? level : level - 1.0, place = HOUR_STEP * missed + HOUR_UNIT * s.hours[hour];
    if (!apart) {
        s.width = min(max(s.width + step * missed, -7.0), 7.0);
        s.hours[hour] = static_cast<std::int16_t>(std::floor(min(max(place, -HOUR_MOST), HOUR_MOST) / HOUR_UNIT + 0.5));
    }
    if (!usual) return;
    const double excess = error / s.scale - series::exp(tail[THRESHOLD]);
    if (excess > 0.0) {
        // What lies beyond the bound teaches the tail nothing: a few spikes must not make the next one normal. If they are no
        // faults, the correction follows; where it has gone as far as it may, alarms come at many times the budget's rate, as
        // of a target that is mostly zero: then each counts as the bound, so that what is usual here becomes so. And so it does
        // of a young entity, whose bound is the pool's or the prior's.
        const double most = anomaly_bound(s, rate, {count, unit});
        const bool beyond = n >= YOUNG && error > most, alarm = beyond && tail[RESTING] <= 0.0;
        if (alarm) {
            tail[CORRECTION] = min(tail[CORRECTION] + STEP_BOUND, BOUND_MOST);
            tail[RESTING] = REST;
        }
        if (n >= SCALED && (!beyond || (alarm && tail[CORRECTION] > BOUND_MOST - STEP_BOUND))) learn_tail(s, max(min(error, most) / s.scale - series::exp(tail[THRESHOLD]), 0.0));
        if (n >= YOUNG && (!beyond || alarm)) learn_largest(s, min(error, most), unit);
        tail[THRESHOLD] += tail_step * (1.0 - TAIL);
    } else {
        tail[THRESHOLD] -= tail_step * TAIL;
        if (n >= YOUNG) learn_largest(s, error, unit);
    }
    tail[THRESHOLD] = min(max(tail[THRESHOLD], -7.0), 7.0);
    const double weight = max(1.0 / (count + 1.0), SCALE_RATE);
    error = min(error, 10.0 * (n > SCALED ? s.scale : max(s.scale, 1.0)));  // over its scale an error is about 1
    s.scale += weight * (error - s.scale);
}

}  // namespace ssm::SSM_ISA::interval
