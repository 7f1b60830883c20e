// From an event's columns to the inputs of the heads: numbers, codes, standardisation, running statistics.
//
// `look` and `place` change nothing; `register_codes`, `learn_inputs` and `learn_target` are called once the target is
// known, and `learn_past` last: `take_target` and `count` for the target, `follow` for the event.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"
#include "effects.hpp"
#include "jumps.hpp"
#include "seasons.hpp"

namespace ssm::SSM_ISA {

constexpr double DAY = 86400.0;
// s between events at which an hour of the day is worth an input. With more than the longest memory of the heads holds between two of its
// days, a thousand, the weight of an hour is what the end of that hour was yesterday, and wrong in its first event today.
constexpr double LEAST_GAP_HOUR = DAY / 1000.0, MOST_GAP_HOUR = 4 * 3600.0;
constexpr double LEAST_GAP_WEEKDAY = 60.0, MOST_GAP_WEEKDAY = DAY;
constexpr double LEAN = 10.0;                         // events in which an entity's scale leans on the pool's

// An event: columns (C,), hour and weekday, time in ms.
struct Event {
    const double* u;
    const i64* steps;
    double ts;
};

// Is the hour (which = 0), the weekday (1) a code, in a pool whose first event was `age` seconds ago?
inline bool step_is_code(const Params& p, const Pool& pool, double gap, double age, int which) {
    const i64 mode = which == 0 ? p.step_hour : p.step_weekday;
    if (mode == NEVER || age < (which == 0 ? DAY : 7 * DAY)) return false;
    if (mode == ALWAYS) return true;
    if (which == 0 ? !(LEAST_GAP_HOUR <= gap && gap <= MOST_GAP_HOUR) : !(LEAST_GAP_WEEKDAY <= gap && gap <= MOST_GAP_WEEKDAY)) return false;
    for (i64 j = 0; j < p.features; ++j)
        if (pool.differs[2 * j + which] == 0) return false;
    return true;
}

// The value of coded column j, NaN if unknown, infinite where it is no category.
SSM_INLINE double coded(const Params& p, const Scratch& w, const Pool& pool, const Event& event, i64 j) {
    const i64 columns = p.features + p.categories;
    if (j >= columns) return w.on[j - columns] ? static_cast<double>(event.steps[j - columns]) : INFINITE;
    const double value = event.u[j];
    if (j < p.features && (pool.dead[j] != 0 || (value != std::floor(value) && !unknown(value))))
        return unknown(value) ? UNKNOWN : INFINITE;  // a number that is no category may still be unknown: a code of its own
    return value;
}

// Values that a column must show before they are given slots.
SSM_INLINE i64 least_values(const Params& p, i64 j) { return j < p.features ? 3 : 2; }

// Slots of the codes that are 1, and how many new ones learning the event will need; w.on is known.
inline void find_codes(const Params& p, const Scratch& w, const Pool& pool, const Event& event) {
    i64 count = 0, fresh = 0;
    w.flag[NAMED] = 0;
    for (i64 j = 0; j < p.Q; ++j) {
        const double value = coded(p, w, pool, event, j);
        i64 slot = 0;
        if (unknown(value)) {
            slot = pool.missing[j];
            if (slot == 0 && pool.seen[j] + pool.dead[j] > 0) ++fresh;
        } else if (value != INFINITE) {
            const i64 i = find(pool.value + j * VALUES, pool.seen[j], value), least = least_values(p, j);
            if (i >= 0) {
                slot = pool.slot[j * VALUES + i];
            } else if (pool.seen[j] < VALUES) {
                fresh += pool.seen[j] >= least ? 1 : (pool.seen[j] == least - 1 ? least : 0);
            } else if (j >= p.features) {
                slot = pool.other[j];
                fresh += slot == 0;
            }
        }
        if (slot > 0) w.slots[count++] = slot - 1;
        if (j < p.features + p.categories) w.flag[NAMED] = count;
    }
    w.flag[CODES] = count;
    w.flag[FRESH] = min(fresh, SLOTS - pool.used);
}

// Of each feature, how alike its values are over time, by which an unknown one is held at the last known: events since that,
// and decayed sums over known values: how many, the events that each came after, the squared change. Rows of `Entity::holding`.
enum Holding { AGE, KNOWN, PASSED, MOVED };
constexpr double HOLDING_KEEP = 1.0 - FLOOR_RATE;

// An event's known features are the last ones. All is computed for each, and then chosen, so that vectors do it.
SSM_INLINE void learn_holding(const Params& p, Entity& s, const double* __restrict u, bool first) {
    const i64 f = p.features;
    double* __restrict age = s.holding + AGE * f;
    double* __restrict known = s.holding + KNOWN * f;
    double* __restrict passed = s.holding + PASSED * f;
    double* __restrict moved = s.holding + MOVED * f;
    const double* __restrict last = s.u_last;
    for (i64 j = 0; j < f; ++j) {
        const bool here = u[j] == u[j], counts = here & (last[j] == last[j]) & !first;
        const double since = min(age[j] + 1.0, AGE_MOST), change = u[j] - last[j], square = min(change * change, SQUARE_MOST);
        const double limit = WINSOR * WINSOR * moved[j] / known[j], bounded = (known[j] > WINSOR_FROM) & (limit > 0.0) ? min(square, limit) : square;
        const double more = HOLDING_KEEP * moved[j] + bounded, longer = HOLDING_KEEP * passed[j] + since, again = HOLDING_KEEP * known[j] + 1.0;
        moved[j] = counts ? more : moved[j];
        passed[j] = counts ? longer : passed[j];
        known[j] = counts ? again : known[j];
        age[j] = here ? 0.0 : since;
    }
}

// Correlation of feature j's values in neighbouring events, in the logarithm; NaN where nothing is known of that, −∞ where it is not
// positive. Values a usual gap apart correlate by 1 − mean squared change / (2 variance), and as in an autoregression of the first order
// the more the nearer they are.
inline double log_alike(const Params& p, const Entity& s, i64 j) {
    const i64 f = p.features;
    const double known = s.holding[KNOWN * f + j], variance = s.v_var[j];
    if (!(known > 0.0) || !(variance > 0.0) || unknown(s.u_last[j])) return UNKNOWN;
    const double alike = min(1.0 - s.holding[MOVED * f + j] / (2.0 * known * variance), ALIKE_MOST);
    return alike > 0.0 ? series::log(alike) * known / s.holding[PASSED * f + j] : -INFINITE;
}
// How much it is like its last known value where it is unknown in this event: their correlation, 0 where nothing is known of that.
inline double nearness(const Params& p, const Entity& s, i64 j) {
    const i64 f = p.features;
    const double log = log_alike(p, s, j), known = s.holding[KNOWN * f + j];
    return log > -INFINITE ? known / (known + LEAN) * series::exp((s.holding[AGE * f + j] + 1.0) * log) : 0.0;
}
// What it is taken for: from its mean as near to that value as it is like it.
SSM_ALONE double held(const Params& p, const Entity& s, i64 j) {
    const double near = nearness(p, s, j);
    return near > 0.0 ? s.v_mean[j] + near * (s.u_last[j] - s.v_mean[j]) : UNKNOWN;
}
// Its value in the event before, unknown there, where it is `now` in this one: between that and its last known value. open: share of the
// variance that this leaves open.
struct Bridged { double value, open; };
SSM_ALONE Bridged bridged(const Params& p, const Entity& s, i64 j, double now) {
    const double last = s.u_last[j], mean = s.v_mean[j], log = log_alike(p, s, j);
    if (unknown(log)) return {last, 0.0};
    if (log == -INFINITE) return {mean, 1.0};
    const double a = series::exp(log), b = series::exp(s.holding[AGE * p.features + j] * log), all = 1.0 - a * a * b * b;
    return {mean + (a * (1.0 - b * b) * (now - mean) + b * (1.0 - a * a) * (last - mean)) / all, (1.0 - a * a) * (1.0 - b * b) / all};
}

// A reading is wild that is off its feature's mean, and off the last value, by more than the running statistics let a value count for.
// A bad one is rarely in company: where several are wild the plant has changed. And what stays for WILD_MOST events is usual now.
constexpr double WILD_FROM = 500.0;  // known values of a feature before one is wild
constexpr double WILD_MOST = 10.0;   // events
constexpr double BELIEF_KEEP = 0.9, BELIEF_CLIP = 3.0;  // of what it has gained to believe such readings
// The feature of which this event has a wild reading, plus one; 0 where there is none.
SSM_INLINE i64 wild_reading(const Params& p, const Entity& s, const Pool& pool, const double* __restrict u) {
    const i64 f = p.features;
    const double *__restrict age = s.holding + AGE * f, *__restrict known = s.holding + KNOWN * f, *__restrict moved = s.holding + MOVED * f;
    const double *__restrict last = s.u_last, *__restrict mean = s.v_mean, *__restrict variance = s.v_var;
    const auto is_wild = [&](i64 j) SSM_STEP {
        const double change = u[j] - last[j], off = u[j] - mean[j], most = WINSOR * WINSOR;
        return (off * off > most * variance[j]) & (change * change * known[j] > most * moved[j]) & (moved[j] > 0.0) & (known[j] > WILD_FROM) &
               (age[j] < WILD_MOST);
    };
    double any = 0.0;  // of doubles, so that vectors do it
    for (i64 j = 0; j < f; ++j) any = max(any, is_wild(j) ? 1.0 : 0.0);
    if (any == 0.0) return 0;
    i64 found = 0;
    for (i64 j = 0; j < f; ++j) {
        if (!is_wild(j)) continue;
        if (found > 0) return 0;
        found = j + 1;
    }
    return pool.dead[found - 1] != 0 ? found : 0;  // what may be a category is none
}

// What is counted, flows or takes time is not below zero, as so many targets of a pool show: then no prediction is, nor an interval. Gates,
// scale and detectors go by the answer as it is: errors that end at zero have no size of their own.
constexpr i64 POSITIVE_FROM = 100;
// No prediction is beyond the least or the greatest target of a pool either, where so large a share of its targets was just that: a valve
// that is open, a battery that is full, a power factor of 1.
constexpr double OFTEN_AT_END = 0.05;

// Numeric inputs v and the slots of the codes. first: the entity has no earlier event to differ from
inline void look(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, bool norm, const Event& event, bool first) {
    double* v = w.v;
    const bool fresh = s.n == 0;
    w.flag[MANY] = pool.entities + fresh > 1 && norm;
    const double gap = pool.gaps[GAPS] >= GAPS ? pool.gaps[0] : UNKNOWN;
    const double age = pool.n > 0 ? (event.ts - pool.begun) / 1000.0 : 0.0;
    w.flag[SEASONS] = p.seasons && 0.0 < gap && gap <= MOST_GAP_HOUR && age >= DAY;
    const double mean = fresh ? pool.target[Y_MEAN] : s.target[Y_MEAN];
    const double last = p.lags > 0 && !fresh ? s.y_last[0] : mean;
    w.base[BASE] = p.lags > 0 ? last : 0.0;
    w.base[MEAN] = mean;
    place_turns(p, w, s, event.u);
    w.base[SHIFT] = p.effects ? shift_of(p, w, s, pool, event.u) : 0.0;
    for (i64 i = 0; i < CORRECTED; ++i) w.base[MISSED + i] = i < p.corrected ? s.missed[i] : 0.0;
    const double reach = pool.n > 0 ? REACH * (pool.high - pool.low) : INFINITE;
    w.base[LOW] = pool.low - reach;
    w.base[HIGH] = pool.high + reach;
    const bool known = pool.n >= POSITIVE_FROM;
    w.base[LEAST] = known && pool.ends[0] >= OFTEN_AT_END ? pool.low : known && pool.negative == 0 ? 0.0 : -INFINITE;
    w.base[MOST] = known && pool.ends[1] >= OFTEN_AT_END ? pool.high : INFINITE;
    const i64 f = p.features;
    i64 at = f;
    for (i64 j = 0; j < f; ++j) v[j] = unknown(event.u[j]) && !first ? held(p, s, j) : event.u[j];
    for (i64 j = 0; j < p.cycles; ++j) v[at + j] = event.u[f + p.categories + j];
    at += p.cycles;
    if (p.differences) {
        const double* away = s.holding + AGE * f;
        for (i64 j = 0; j < f; ++j)
            v[at + j] = first ? 0.0 : event.u[j] - (away[j] == 0.0 || unknown(event.u[j]) ? s.u_last[j] : bridged(p, s, j, event.u[j]).value);
        at += f;
    }
    for (i64 i = 2; i <= p.feature_lags; ++i) {
        for (i64 j = 0; j < f; ++j) v[at + j] = first ? UNKNOWN : event.u[j] - s.u_last[i * f + j];
        at += f;
    }
    for (i64 j = f; j < f + p.categories; ++j) {
        const double* values = pool.value + j * VALUES;
        for (i64 i = 0; i < INDICATED; ++i) v[at++] = unknown(event.u[j]) ? UNKNOWN : i < pool.seen[j] && event.u[j] == values[i] ? 1.0 : 0.0;
    }
    if (p.lags > 0) {
        v[at] = last;
        for (i64 i = 1; i < p.lags; ++i) v[at + i] = fresh ? 0.0 : s.y_last[i - 1] - s.y_last[i];
        at += p.lags;
    }
    if (p.usual) {
        const UsualHours usual = usual_hours(p, s, event.steps, event.ts + p.ahead);
        // From the last target as the seasons hold it: what that rounds off is nothing to be standardised.
        const double held = static_cast<double>(static_cast<float>(last));
        v[at] = unknown(usual.of[0]) ? mean - last : usual.of[0] - held;
        v[at + 1] = unknown(usual.of[1]) ? v[at] : usual.of[1] - held;
    }
    w.on[0] = step_is_code(p, pool, gap, age, 0);
    w.on[1] = step_is_code(p, pool, gap, age, 1);
    find_codes(p, w, pool, event);
}

// The next free slot plus one, 0 where there is none; `now`: this event's code is 1.
inline i64 give(const Params& p, const Scratch& w, Pool& pool, bool now) {
    if (pool.used >= p.K) return 0;
    const i64 slot = pool.used++, F = p.F;
    // The scratch is shared by pools: what a larger one left here must not be taken for this event's code.
    w.fleet[1 + F + slot] = w.entity[1 + F + slot] = w.norm[1 + 2 * F + slot] = 0.0f;
    if (now) {
        w.slots[w.flag[CODES]++] = slot;
        w.fleet[1 + F + slot] = w.entity[1 + F + slot] = w.norm[1 + 2 * F + slot] = 1.0f;
        w.size[FLEET] += 1.0f;
    }
    return slot + 1;
}

// Give slots to what this event shows for the first time, and add them to its inputs.
inline void register_codes(const Params& p, const Scratch& w, Pool& pool, const Event& event) {
    const i64 f = p.features;
    const double* u = event.u;
    for (i64 j = 0; j < f; ++j)
        for (int which = 0; which < 2; ++which)
            if (pool.differs[2 * j + which] == 0 && std::fabs(u[j] - static_cast<double>(event.steps[which])) >= 1.0)
                pool.differs[2 * j + which] = 1;
    for (i64 j = 0; j < f; ++j)
        if (pool.dead[j] == 0 && u[j] != std::floor(u[j]) && !unknown(u[j])) pool.dead[j] = 1;
    for (i64 j = 0; j < p.Q; ++j) {
        const double value = coded(p, w, pool, event, j);
        double* values = pool.value + j * VALUES;
        i64 *slots = pool.slot + j * VALUES, &seen = pool.seen[j];
        if (unknown(value)) {
            if (pool.missing[j] == 0 && seen + pool.dead[j] > 0) pool.missing[j] = give(p, w, pool, true);
            continue;
        }
        if (value == INFINITE || find(values, seen, value) >= 0) continue;
        if (seen == VALUES) {
            if (j < f) pool.dead[j] = 1;
            else if (pool.other[j] == 0) pool.other[j] = give(p, w, pool, true);
            continue;
        }
        values[seen++] = value;
        if (seen >= least_values(p, j))
            for (i64 i = 0; i < seen; ++i)
                if (slots[i] == 0) slots[i] = give(p, w, pool, i == seen - 1);
    }
}

// Running mean and variance of the numeric inputs and how many values of each are known, (F,) with padding; and in the
// scratch the deviation, the root of the variance.
struct Statistics { double *mean, *variance, *count, *deviation; };
SSM_INLINE Statistics statistics_of(const Params&, const Scratch& w, const Pool& pool) {
    return {pool.v_mean, pool.v_var, pool.v_count, w.deviation};
}
SSM_INLINE Statistics statistics_of(const Params& p, const Scratch& w, const Entity& s) {
    return {s.v_mean, s.v_var, s.v_count, w.deviation + whole_doubles(p.F)};
}

// The roots of the variances are taken once an event, before it is learned.
SSM_INLINE void place_deviations(const Statistics& of, i64 F) {
    for (i64 j = 0; j < F; j += lanes<double>) store(of.deviation + j, root(load(of.variance + j)));
}

// out[1 + j] = clip((vⱼ − mean) / deviation, ±5); 0 for an unknown value and while nothing varies.
SSM_INLINE void standardise(const double* v, const Statistics& of, i64 F, float* out) {
    for (i64 j = 0; j < F; j += lanes<double>) {
        const Vec<double> deviation = load(of.deviation + j), x = load(v + j), mean = load(of.mean + j);
        const auto varies = (load(of.count + j) > all(1.5)) &
                            (deviation > all(1e-9) * (all(1e-12) + magnitude(mean))) & (x == x);
        const Vec<double> z = clipped((x - mean) / either(varies, deviation, all(1.0)), Z_CLIP);
        store_floats(out + 1 + j, only(varies, z));
    }
}

// The inputs of each scope from v and the slots: [1, z, codes].
inline void place(const Params& p, const Scratch& w, const Entity& s, const Pool& pool) {
    const i64 F = p.F;
    const bool no_seasons = p.usual && !w.flag[SEASONS];  // their statistics are learned from the first event on
    const Statistics of_pool = statistics_of(p, w, pool), own = statistics_of(p, w, s);
    place_deviations(of_pool, F);
    place_deviations(own, F);
    w.fleet[0] = 1.0f;
    standardise(w.v, of_pool, F, w.fleet);
    if (no_seasons) w.fleet[F - 1] = w.fleet[F] = 0.0f;
    // The scratch is shared by pools, of which another may have more codes.
    std::memset(w.fleet + 1 + F, 0, sizeof(float) * (p.wide_L - 1 - F));
    for (i64 i = 0; i < w.flag[CODES]; ++i) w.fleet[1 + F + w.slots[i]] = 1.0f;
    w.size[FLEET] = dot(w.fleet, w.fleet, p.wide_L);
    if (!w.flag[MANY]) return;
    w.norm[0] = w.entity[0] = 1.0f;
    standardise(w.v, own, F, w.entity);
    if (no_seasons) w.entity[F - 1] = w.entity[F] = 0.0f;
    std::memcpy(w.norm + 1, w.entity + 1, sizeof(float) * F);
    std::memcpy(w.norm + 1 + F, w.fleet + 1, sizeof(float) * F);
    std::memcpy(w.entity + 1 + F, w.fleet + 1 + F, sizeof(float) * (p.wide_L - 1 - F));
    std::memset(w.norm + 1 + 2 * F, 0, sizeof(float) * (p.wide_N - 1 - 2 * F));
    std::memcpy(w.norm + 1 + 2 * F, w.fleet + 1 + F, sizeof(float) * pool.used);
}

// Mean and deviation of each scale for the pool and the entity; a young one leans on the pool. logs: those in log space, too
inline void scales(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, bool logs) {
    const double n = static_cast<double>(s.n), n_pool = static_cast<double>(pool.n);
    const int kinds = logs ? 4 : 2;
    for (int i = 0; i < kinds; ++i) {
        const double late = p.lags > 0 && (i == RESIDUAL || i == LOG_RESIDUAL) ? 1.0 : 0.0;  // a first event has no residual
        const double lent = pool.spread[i];
        for (int side = 0; side < 2; ++side) {
            const double count = max(side == 0 ? n_pool - late * static_cast<double>(pool.entities) : n - late, 0.0);
            const double* target = side == 0 ? pool.target : s.target;
            double mean = target[SCALES + 2 * i], variance = target[SCALES + 2 * i + 1];
            if (count < LEAN) {
                variance = (variance * count + 2.0 * lent) / (count + 2.0);
                if (side == 1) {
                    const double lean = late > 0.0 || count == 0.0 ? 0.5 : 0.0;
                    mean = (mean * count + lean * pool.target[SCALES + 2 * i]) / (count + lean);
                }
            }
            w.scale[8 * side + 2 * i] = mean;
            w.scale[8 * side + 2 * i + 1] = std::sqrt(variance);
        }
    }
}

// A step within ±WINSOR usual deviations; free while nothing has varied, so that the first change is heard.
SSM_INLINE double winsorised(double delta, double deviation, double mean) {
    const double limit = WINSOR * deviation;
    return limit > 1e-9 * (1e-12 + std::fabs(mean)) ? clip(delta, limit) : delta;
}

// Running mean and variance of the numbers, winsorised: one wild value must not blind the learner for years.
SSM_INLINE void learn_inputs(i64 F, const double* v, const Statistics& of) {
    for (i64 j = 0; j < F; j += lanes<double>) {
        const Vec<double> count = load(of.count + j), mean = load(of.mean + j), variance = load(of.variance + j);
        const Vec<double> x = load(v + j), away = x - mean, one = all(1.0);
        const auto known = x == x;
        const Vec<double> rate = one / (count + one), limit = all(WINSOR) * load(of.deviation + j);
        const auto bounded = (count > all(WINSOR_FROM)) & (limit > all(1e-9) * (all(1e-12) + magnitude(mean)));
        const Vec<double> delta = either(bounded, lesser(greater(away, -limit), limit), away);
        const Vec<double> spread = (one - rate) * (variance + rate * delta * delta);
        store(of.mean + j, either(known, mean + rate * delta, mean));
        store(of.variance + j, either(known, spread, variance));
        store(of.count + j, either(known, lesser(count + one, all(1.0 / FLOOR_RATE - 1.0)), count));
    }
}

// Running mean and variance of one scale; returns the winsorised step.
SSM_INLINE double learn_scale(double* target, int i, double count, double value, double size) {
    double &mean = target[SCALES + 2 * i], &variance = target[SCALES + 2 * i + 1];
    const double rate = max(1.0 / (count + 1.0), FLOOR_RATE);
    double delta = value - mean;
    if (count > WINSOR_FROM && delta * delta > WINSOR * WINSOR * variance) delta = winsorised(delta, std::sqrt(variance), size);
    mean += rate * delta;
    variance = (1.0 - rate) * (variance + rate * delta * delta);
    return count > 0.0 ? delta : 0.0;
}

// What target y leaves behind, as a lag, in seasons and as a last error: itself, or the one before where it may be misread. It may be where it
// lies outside of all that is answered and is off the one before by more than the running statistics let a change count for. That widens
// the range, so that of some in a row the next ones are kept.
constexpr i64 GROSS_FROM = 100;  // targets of an entity before one may be misread
inline double kept_target(const Params& p, const Entity& s, const Pool& pool, double y) {
    const double range = pool.high - pool.low, *change = s.target + SCALES + 2 * RESIDUAL;
    if (s.n < GROSS_FROM || (pool.low - REACH * range <= y && y <= pool.high + REACH * range)) return y;
    const double last = p.lags > 0 || p.known ? s.y_last[0] : s.target[Y_MEAN], off = y - (p.lags > 0 ? last : 0.0) - change[0];
    return change[1] > 0.0 && off * off > WINSOR * WINSOR * change[1] ? last : y;
}

// The range of targets, by which answers are bounded. What is not kept widens it by so many times what it was.
SSM_INLINE void widen(Pool& pool, double y, double kept) {
    const double most = kept == y ? INFINITE : WINSOR * (pool.high - pool.low), low = pool.low, high = pool.high;
    const double rate = max(1.0 / (static_cast<double>(pool.n) + 1.0), FLOOR_RATE);
    pool.ends[0] = y < low ? 0.0 : pool.ends[0] + rate * ((y == low) - pool.ends[0]);
    pool.ends[1] = y > high ? 0.0 : pool.ends[1] + rate * ((y == high) - pool.ends[1]);
    pool.low = min(low, max(y, low - most));
    pool.high = max(high, min(y, high + most));
    if (y < 0.0) pool.negative = 1;
}

// Statistics of the target and of what the heads are to answer, of entity and pool.
inline void learn_target(const Params& p, const Scratch& w, Entity& s, Pool& pool, double y, double kept) {
    const double n = static_cast<double>(s.n), n_pool = static_cast<double>(pool.n), entities = static_cast<double>(pool.entities);
    for (int side = 0; side < 2; ++side) {
        double* target = side == 0 ? pool.target : s.target;
        const double count = side == 0 ? n_pool : n;
        double off = y - target[Y_MEAN];
        if (count > WINSOR_FROM) off = winsorised(off, target[Y_SPREAD], target[Y_MEAN]);
        const double rate = max(1.0 / (count + 1.0), FLOOR_RATE);
        target[Y_MEAN] += rate * off;
        if (count > 0.0) target[Y_SPREAD] += rate * (std::fabs(off) - target[Y_SPREAD]);
    }
    const bool logs = p.log && pool.negative == 0;
    for (int i = 0; i < 4; ++i) {
        const bool residual = i == RESIDUAL || i == LOG_RESIDUAL;
        if (residual && p.lags > 0 && n == 0.0) continue;
        if (i >= LOG_RESIDUAL && (!logs || (i == LOG_VALUE && p.window == 0))) continue;
        double value = i == RESIDUAL ? y - w.base[BASE] : y;
        if (i >= LOG_RESIDUAL) value = log1p_of(y) - (residual ? w.base[LOG_BASE] : 0.0);
        const double late = p.lags > 0 && residual ? 1.0 : 0.0, size = i < LOG_RESIDUAL ? pool.target[Y_MEAN] : 1.0;
        learn_scale(pool.target, i, max(n_pool - late * entities, 0.0), value, size);
        const double step = learn_scale(s.target, i, max(n - late, 0.0), value, size);
        if (n - late > 0.0) {  // of each entity the first step has no mean yet to be measured from
            const double rate = max(1.0 / (max(n_pool - (1.0 + late) * entities, 0.0) + 1.0), FLOOR_RATE);
            const double limit = n_pool > WINSOR_FROM && pool.spread[i] > 0.0 ? WINSOR * WINSOR * pool.spread[i] : INFINITE;
            pool.spread[i] += rate * (min(step * step, limit) - pool.spread[i]);
        }
    }
    if (n_pool == 0.0) pool.low = pool.high = y;
    widen(pool, y, kept);
}

// Lags and seasons, of an event at that time; called before `count`. y: as it is kept
inline void take_target(const Params& p, Entity& s, const i64* steps, double ts, double y) {
    const bool fresh = s.n == 0;
    for (i64 i = p.lags - 1; i > 0; --i) s.y_last[i] = fresh ? y : s.y_last[i - 1];
    if (p.lags > 0 || p.known) s.y_last[0] = y;
    learn_seasons(p, s, steps, ts, y);
}

// Insert a gap in order; once all are known, the median moves to the first place.
inline void learn_gap(double* gaps, double gap) {
    const i64 count = static_cast<i64>(gaps[GAPS]);
    i64 i = count;
    for (; i > 0 && gaps[i - 1] > gap; --i) gaps[i] = gaps[i - 1];
    gaps[i] = gap;
    gaps[GAPS] = static_cast<double>(count) + 1.0;
    if (count + 1 == GAPS) gaps[0] = 0.5 * (gaps[GAPS / 2 - 1] + gaps[GAPS / 2]);
}

// Last features, those of the events before, and the gap since the entity's event before.
inline void follow(const Params& p, const Scratch& w, Entity& s, Pool& pool, const Event& event, bool first) {
    const i64 f = p.features;
    learn_holding(p, s, event.u, first);
    const double usual = pool.gaps[GAPS] >= GAPS ? 1000.0 * pool.gaps[0] : 0.0;
    follow_categories(p, s, event.u, first, usual > 0.0 && event.ts - s.time > EFFECTS_PAUSE * usual);
    s.jumped = w.unsure[SINCE_JUMP];
    for (i64 j = 0; j < f; ++j) {
        if (!unknown(event.u[j])) s.u_last[j] = event.u[j];
        else if (first) s.u_last[j] = UNKNOWN;
    }
    if (p.feature_lags > 1) {
        for (i64 i = p.feature_lags; i > 1; --i)
            for (i64 j = 0; j < f; ++j) s.u_last[i * f + j] = first ? UNKNOWN : s.u_last[(i - 1) * f + j];
        for (i64 j = 0; j < f; ++j) s.u_last[f + j] = event.u[j];
    }
    if (!first && pool.gaps[GAPS] < GAPS) learn_gap(pool.gaps, (event.ts - s.time) / 1000.0);
    s.time = event.ts;
}

// One labelled event more.
SSM_INLINE void count(Entity& s, Pool& pool, double ts) {
    if (s.n == 0) ++pool.entities;
    if (pool.n == 0) pool.begun = ts;
    pool.time = ts;
    ++s.n;
    ++pool.n;
}

// Lags, last features, seasons, gaps and counts. y: as it is kept
inline void learn_past(const Params& p, const Scratch& w, Entity& s, Pool& pool, const Event& event, double y) {
    take_target(p, s, event.steps, event.ts, y);
    follow(p, w, s, pool, event, s.n == 0);
    count(s, pool, event.ts);
}

}  // namespace ssm::SSM_ISA
