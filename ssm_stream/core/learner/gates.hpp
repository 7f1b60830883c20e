// The in-context gate: weights over the answers from what they were worth so far, and gates over such gates.
//
// Four gates hold decayed regrets (`regrets.hpp`): quick and slow ones, those of each hour of the day, and of each level of the target; two
// are a softmax of decayed losses of the entity, which begin at the pool's; two stack the answers, that is, are moment heads
// themselves with the answers' deviations from their mean as inputs, and so may answer beyond them. What weighs the gates is in
// `views.hpp`. All errors count in units of the entity's usual one, so that entities of any size may share a gate; all weights
// are continuous in what has been seen.
#pragma once
#include "corrections.hpp"
#include "dead_band.hpp"
#include "heads.hpp"
#include "views.hpp"

namespace ssm::SSM_ISA {

constexpr double LOSS_CLIP = 4.0;
constexpr double POOL_DECAY = 0.999;  // of the pool's losses
constexpr double UNIT_RATE = 0.02;
constexpr double ROUNDING = 1e-12;     // of target and prediction: an error up to here is rounding, which is no unit
constexpr double LEAST_UNIT = 1e-300;  // below it one over the unit is no number
constexpr double STACK_CLIP = 20.0;    // usual errors that the stacking gates hear
constexpr double BEND = 0.5;             // usual errors from which on a gate's loss is linear
constexpr double SITUATION_DECAY = 0.995;  // of the regrets of an hour or a level, an event in it
enum { POLY = 0, SOFT = 2, STACK = 4, BY_HOUR = 6, BY_LEVEL = 7 };  // places of the gates: two of each kind, and those by situation

// Regrets of the answers at a level, and in an hour.
SSM_INLINE Interpolated at_level(const Params& p, const Pool& pool, double level) {
    return sums_between(pool.level_regret, pool.level_regret2, p.hour_T, level);
}
SSM_INLINE Sums in_hour(const Params& p, const Pool& pool, i64 hour) {
    return {pool.hour_regret + hour * p.hour_T, pool.hour_regret2 + hour * p.hour_T};
}

// Falling with sharpness · loss, the pool's mean loss counted as some events of the entity's; a share for all.
SSM_INLINE void softmax(const double* soft, const float* own, const Pool& pool, double* weights, const Answers& of) {
    const double sharpness = soft[0], prior = soft[2] / max(pool.losses, 1e-9), share = soft[3];
    Vec<double> low = all(INFINITE), sums{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> loss = load_floats(own + i) + all(prior) * load(pool.loss + i);
        const Vec<double> weight = either(load(of.active + i) > Vec<double>{}, loss, all(INFINITE));
        store(weights + i, weight);
        low = either(weight < low, weight, low);
    }
    const Vec<double> least_of = all(least(low));
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        // `decline` in 64 bits
        Vec<double> t = all(1.0) - all(sharpness) * (load(weights + i) - least_of) * all(static_cast<double>(1.0f / 256));
        t = greater(t, Vec<double>{});
        for (int k = 0; k < 8; ++k) t = t * t;
        store(weights + i, t);
        sums = sums + t;
    }
    const double part = (1.0 - share) / total(sums), floor = share / of.alive;
    for (i64 i = 0; i < of.n; i += lanes<double>)
        store(weights + i, (load(weights + i) * all(part) + all(floor)) * load(of.active + i));
}

// The entity's usual absolute error; the pool's for a new one, and for one that had none but rounding.
SSM_INLINE double usual_error(const Entity& s, const Pool& pool, double rounding, double otherwise) {
    return s.unit > rounding ? s.unit : pool.unit > rounding ? pool.unit : otherwise;
}

// The prediction from the first `count` answers in an hour of the day; fills `gate`, `made` and the total weights `g`.
SSM_ALONE double mix(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, i64 count, i64 hour) {
    double *a = w.a, *active = w.active;
    const i64 n = whole_doubles(count), width = p.answers;
    for (i64 i = count; i < n; ++i) a[i] = active[i] = 0.0;
    const double alive = sum(active, n), mean = dot(a, active, n) / alive;
    if (!p.learned_gate) {
        for (i64 i = 0; i < count; ++i) w.g[i] = active[i] / alive;
        for (int i = 0; i < MADE; ++i) w.made[i] = mean;
        return mean;
    }
    const Answers of{active, alive, count, n};
    const double *slow = pool.regret + p.wide_T, *slow2 = pool.regret2 + p.wide_T;  // of all events
    w.made[AT_LEVEL] = level_of(w, mean);
    poly_of(pool.regret, pool.regret2, w.gate + POLY * width, of);
    poly_of(slow, slow2, w.gate + (POLY + 1) * width, of);
    poly_in(at_level(p, pool, w.made[AT_LEVEL]), slow, slow2, w.gate + BY_LEVEL * width, of);
    poly_in(in_hour(p, pool, hour), slow, slow2, w.gate + BY_HOUR * width, of);
    for (int r = 0; r < 2; ++r) {
        const double* W = pool.stack_W + r * p.wide_T;
        double* weights = w.gate + (STACK + r) * width;
        const Vec<double> rest = all((1.0 - dot(W, active, n)) / alive);
        for (i64 i = 0; i < n; i += lanes<double>) store(weights + i, (rest + load(W + i)) * load(active + i));
        softmax(p.soft + 4 * r, s.loss + r * p.wide_T, pool, w.gate + (SOFT + r) * width, of);
    }
    for (i64 i = 0; i < n; i += lanes<double>) store(w.off + i, load(a + i) - all(mean));
    for (int r = 0; r < GATES; ++r)
        w.made[r] = min(max(mean + dot(w.gate + r * width, w.off, n), w.base[LOW]), w.base[HIGH]);
    double* top = w.gate + GATES * width;
    const double answer = see(w, s, pool, hour, usual_error(s, pool, ROUNDING * std::fabs(mean), 0.0), top);
    for (i64 i = 0; i < n; i += lanes<double>) store(w.g + i, Vec<double>{});
    weigh(w.g, top, w.gate, GATES, width, n);
    w.made[ANSWER] = w.made[PREDICTION] = answer;
    if (!p.banded) return answer;
    const double unit = usual_error(s, pool, ROUNDING * max(std::fabs(answer), std::fabs(w.a[LAST_TARGET])), 0.0);
    return w.made[PREDICTION] = hold(w, pool, answer, unit > 0.0 ? max(unit, LEAST_UNIT) : 0.0);
}

// Regrets of the answers against those of the gates of regrets.
SSM_INLINE void learn_regrets(const Params& p, const Scratch& w, Pool& pool, i64 hour, double y, double unit, i64 n) {
    alignas(64) double slopes[GATES];
    slopes_at(w.made, y, unit, BEND, slopes);
    const auto regrets_of = [&](int gate) SSM_STEP { return Regrets{w.a, w.active, w.made[gate], slopes[gate]}; };
    for (int r = 0; r < 2; ++r)
        learn_sums(pool.regret + r * p.wide_T, pool.regret2 + r * p.wide_T, p.poly_decay[r], regrets_of(POLY + r), n);
    learn_sums(in_hour(p, pool, hour), SITUATION_DECAY, regrets_of(BY_HOUR), n);
    learn_sums(at_level(p, pool, w.made[AT_LEVEL]), SITUATION_DECAY, regrets_of(BY_LEVEL), n);
}

// One sweep of the moments of the answers' deviations, as in the moment heads; in 64 bits, as they nearly agree.
SSM_ALONE void learn_stack(const Params& p, const Scratch& w, Pool& pool, i64 count, double mean, double y, double unit, i64 most) {
    const Moments<double> moments{pool.stack_S, pool.stack_R, pool.stack_W, pool.stack_level, pool.stack_batch,
                                  pool.stack_kept, pool.stack_waiting, p.T, p.wide_T, w.stack_rate};
    const i64 n = whole_doubles(count);
    const double part = 1.0 / unit, off = clip((y - mean) * part, STACK_CLIP);
    double* x = w.stack;
    for (i64 i = 0; i < n; i += lanes<double>)
        store(x + i, clipped((load(w.a + i) - all(mean)) * all(part), STACK_CLIP) * load(w.active + i));
    for (i64 i = count; i < n; ++i) x[i] = 0.0;
    for (int r = 0; r < 2; ++r) {
        const double error = off - dot(pool.stack_W + r * p.wide_T, x, n);
        const double weight = min(1.0, p.sweep_huber[r] / (std::fabs(error) + 1e-12));
        double* rate = w.stack_rate + r * RATES;
        rate[KEEP] = p.sweep_decay[r];
        rate[PUSH] = weight;
        rate[PULL] = weight * error;
        rate[RIDGE] = p.sweep_ridge[r];
        decay(moments, r, count, n);
        add(pool.stack_R + r * p.wide_T, x, rate[PULL], n);
    }
    if (wait(moments, 2, most, x, n)) return;
    sweep_waiting(moments, 2, x, {count, w.others, 0, n});
}

// Decayed losses of the answers, of the entity and of the pool, in units of the usual error.
SSM_INLINE void learn_losses(const Params& p, const Scratch& w, Entity& s, Pool& pool, i64 count, double y, double unit) {
    const i64 n = whole_doubles(count);
    const Vec<double> part = all(1.0 / unit);
    for (i64 i = 0; i < n; i += lanes<double>) {
        Vec<double> loss = lesser(magnitude(load(w.a + i) - all(y)) * part, all(LOSS_CLIP));
        const auto used = load(LANES) < all(static_cast<double>(count - i));
        loss = either(load(w.active + i) > Vec<double>{}, loss, either(used, all(LOSS_CLIP), Vec<double>{}));
        for (int r = 0; r < 2; ++r) {
            float* own = s.loss + r * p.wide_T + i;
            store_floats(own, all(p.soft[4 * r + 1]) * load_floats(own) + loss);
        }
        store(pool.loss + i, all(POOL_DECAY) * load(pool.loss + i) + loss);
    }
    pool.losses = POOL_DECAY * pool.losses + 1.0;
}

SSM_INLINE void learn_unit(double& unit, double n, double error, double rounding, double start) {
    if (unit <= rounding) unit = start;
    if (n > 30.0) error = min(error, WINSOR * unit);
    unit += max(UNIT_RATE, 1.0 / (n + 2.0)) * (error - unit);
}

// An event as the gates learn it: its answers in use, its hour of the day, its target. most: events that may wait to be swept
struct GateLesson { i64 count, hour; double y; i64 most; };

// Judge the answers and the gates by the target.
SSM_ALONE void learn_gates(const Params& p, const Scratch& w, Entity& s, Pool& pool, const GateLesson& event) {
    const double y = event.y;
    const i64 count = event.count;
    const double answer = w.made[ANSWER];
    const double rounding = ROUNDING * max(std::fabs(y), std::fabs(answer)), off = std::fabs(answer - y);
    const double error = off > rounding ? off : 0.0;
    double unit = usual_error(s, pool, rounding, error);
    if (unit > 0.0 && p.learned_gate) {
        unit = max(unit, LEAST_UNIT);
        const i64 n = whole_doubles(count);
        const double mean = dot(w.a, w.active, n) / sum(w.active, n);
        learn_regrets(p, w, pool, event.hour, y, unit, n);
        learn_stack(p, w, pool, count, mean, y, unit, event.most);
        learn_views(p, w, s, pool, event.hour, y, unit);
        learn_losses(p, w, s, pool, count, y, unit);
        learn_corrections(p, w, s, pool, count, y, unit);
        if (p.banded) learn_band(w, pool, answer, y, unit);
    }
    learn_unit(s.unit, static_cast<double>(s.n), error, rounding, unit);
    learn_unit(pool.unit, static_cast<double>(pool.n), error, rounding, unit);
}

}  // namespace ssm::SSM_ISA
