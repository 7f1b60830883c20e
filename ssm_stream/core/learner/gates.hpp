// The in-context gate: weights over the answers from what they were worth so far, and a gate over such gates.
//
// Two gates hold decayed regrets (ML-Poly; Gaillard, Stoltz & van Erven 2014), quick and slow, and one such regrets for each
// hour of the day; two are a softmax of decayed losses of the entity, which begin at the pool's; two stack the answers, that
// is, are moment heads themselves with the answers' deviations from their mean as inputs, and so may answer beyond them. All errors count in units of the entity's
// usual one, so that entities of any size may share a gate; all weights are continuous in what has been seen.
// Beyond the answers in use, what is known of answers is zero, to whole vectors.
#pragma once
#include "../entity.hpp"
#include "corrections.hpp"
#include "dead_band.hpp"
#include "heads.hpp"

namespace ssm::SSM_ISA {

constexpr double PRIOR = 1e-2;     // of the regret gates: keeps rounding from deciding while all regrets are small
constexpr double TOP_PRIOR = 0.01;  // gates of nearly equal worth share until one is clearly better
constexpr double LOSS_CLIP = 4.0;
constexpr double POOL_DECAY = 0.999;  // of the pool's losses
constexpr double UNIT_RATE = 0.02;
constexpr double ROUNDING = 1e-12;     // of target and prediction: an error up to here is rounding, which is no unit
constexpr double LEAST_UNIT = 1e-300;  // below it one over the unit is no number
constexpr double STACK_CLIP = 20.0;    // usual errors that the stacking gates hear
constexpr double HOUR_DECAY = 0.995;   // of an hour's regrets, an event in that hour
constexpr double HOUR_SHARE = 1.0 / HOURS;  // of the slow gate's regrets that counts in every hour
enum { POLY = 0, SOFT = 2, STACK = 4, HOUR = 6 };  // places of the two gates of each kind, and of the one by hour

// The answers in use: which count, how many do, and how many vectors they take.
struct Answers { const double* active; double alive; i64 count, n; };

// Weights in proportion to the positive regrets over 1 + their second moments; uniform at first. regret, regret2: of the
// answers from place i on
template <class R, class R2> SSM_INLINE void poly(const R& regret, const R2& regret2, double* weights, const Answers& of) {
    Vec<double> sums{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> weight = greater(regret(i), Vec<double>{}) / (all(1.0) + regret2(i)) * load(of.active + i);
        store(weights + i, weight);
        sums = sums + weight;
    }
    const double mass = total(sums), prior = PRIOR * PRIOR / (PRIOR + mass), part = 1.0 / (mass + of.alive * prior);
    for (i64 i = 0; i < of.n; i += lanes<double>)
        store(weights + i, (load(weights + i) + all(prior)) * all(part) * load(of.active + i));
}

// By the regrets of all hours, quick (r = 0) or slow.
SSM_INLINE void poly_of(const Params& p, const Pool& pool, int r, double* weights, const Answers& of) {
    const double *regret = pool.regret + r * p.wide_T, *regret2 = pool.regret2 + r * p.wide_T;
    poly([&](i64 i) { return load(regret + i); }, [&](i64 i) { return load(regret2 + i); }, weights, of);
}

// By the hour's regrets, beside which the slow gate's count a little: what an hour has not shown, the day has.
SSM_INLINE void poly_of_hour(const Params& p, const Pool& pool, i64 hour, double* weights, const Answers& of) {
    const float *own = pool.hour_regret + hour * p.hour_T, *own2 = pool.hour_regret2 + hour * p.hour_T;
    const double *slow = pool.regret + p.wide_T, *slow2 = pool.regret2 + p.wide_T;
    poly([&](i64 i) { return load_floats(own + i) + all(HOUR_SHARE) * load(slow + i); },
         [&](i64 i) { return load_floats(own2 + i) + all(HOUR_SHARE) * load(slow2 + i); }, weights, of);
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
    for (int r = 0; r < 2; ++r) {
        poly_of(p, pool, r, w.gate + (POLY + r) * width, of);
        const double* W = pool.stack_W + r * p.wide_T;
        double* weights = w.gate + (STACK + r) * width;
        const Vec<double> rest = all((1.0 - dot(W, active, n)) / alive);
        for (i64 i = 0; i < n; i += lanes<double>) store(weights + i, (rest + load(W + i)) * load(active + i));
        softmax(p.soft + 4 * r, s.loss + r * p.wide_T, pool, w.gate + (SOFT + r) * width, of);
    }
    poly_of_hour(p, pool, hour, w.gate + HOUR * width, of);
    for (i64 i = 0; i < n; i += lanes<double>) store(w.off + i, load(a + i) - all(mean));
    for (int r = 0; r < GATES; ++r)
        w.made[r] = min(max(mean + dot(w.gate + r * width, w.off, n), w.base[LOW]), w.base[HIGH]);
    double *top = w.gate + GATES * width, mass = 0.0, answer = 0.0;
    for (int r = 0; r < GATES; ++r) {
        top[r] = max(pool.top[r], 0.0) / (1.0 + pool.top2[r]);
        mass += top[r];
    }
    const double prior = TOP_PRIOR * TOP_PRIOR / (TOP_PRIOR + mass);
    mass += GATES * prior;
    const double part = 1.0 / mass;
    for (int r = 0; r < GATES; ++r) {
        top[r] = (top[r] + prior) * part;
        answer += top[r] * w.made[r];
    }
    for (i64 i = 0; i < n; i += lanes<double>) store(w.g + i, Vec<double>{});
    weigh(w.g, top, w.gate, GATES, width, n);
    w.made[GATES] = w.made[MADE - 1] = answer;
    if (!p.banded) return answer;
    const double unit = usual_error(s, pool, ROUNDING * max(std::fabs(answer), std::fabs(w.a[LAST_TARGET])), 0.0);
    return w.made[MADE - 1] = hold(w, pool, answer, unit > 0.0 ? max(unit, LEAST_UNIT) : 0.0);
}

// Slope of the loss at what was made. A wild target's regrets are in units of its own error, so that it weighs no more
// than a bad one.
SSM_INLINE double slope_at(double made, double y, double unit) {
    return clip((made - y) / (0.5 * unit), 1.0) / max(unit, std::fabs(made - y) / Z_CLIP);
}

// Linearised regret of the answers from place i on against a gate's own.
SSM_INLINE Vec<double> regret_at(const Scratch& w, double made, double slope, i64 i) {
    return clipped(all(slope) * (all(made) - load(w.a + i)), Z_CLIP) * load(w.active + i);
}

// Decayed regrets of the quick (r = 0) or the slow gate.
SSM_INLINE void learn_regrets(const Params& p, const Scratch& w, Pool& pool, int r, double y, double unit, i64 n) {
    double *regret = pool.regret + r * p.wide_T, *regret2 = pool.regret2 + r * p.wide_T;
    const double made = w.made[POLY + r], slope = slope_at(made, y, unit);
    const Vec<double> keep = all(p.poly_decay[r]);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regret_at(w, made, slope, i);
        store(regret + i, keep * load(regret + i) + of);
        store(regret2 + i, keep * load(regret2 + i) + of * of);
    }
}

// Decayed regrets of the gate by hour, of one hour.
SSM_INLINE void learn_hour(const Params& p, const Scratch& w, Pool& pool, i64 hour, double y, double unit, i64 n) {
    float *regret = pool.hour_regret + hour * p.hour_T, *regret2 = pool.hour_regret2 + hour * p.hour_T;
    const double made = w.made[HOUR], slope = slope_at(made, y, unit);
    for (i64 i = 0; i < n; i += lanes<double>) {
        const Vec<double> of = regret_at(w, made, slope, i);
        store_floats(regret + i, all(HOUR_DECAY) * load_floats(regret + i) + of);
        store_floats(regret2 + i, all(HOUR_DECAY) * load_floats(regret2 + i) + of * of);
    }
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
    const double answer = w.made[GATES];
    const double rounding = ROUNDING * max(std::fabs(y), std::fabs(answer)), off = std::fabs(answer - y);
    const double error = off > rounding ? off : 0.0;
    double unit = usual_error(s, pool, rounding, error);
    if (unit > 0.0 && p.learned_gate) {
        unit = max(unit, LEAST_UNIT);
        const i64 n = whole_doubles(count);
        const double mean = dot(w.a, w.active, n) / sum(w.active, n);
        for (int r = 0; r < 2; ++r) learn_regrets(p, w, pool, r, y, unit, n);
        learn_hour(p, w, pool, event.hour, y, unit, n);
        learn_stack(p, w, pool, count, mean, y, unit, event.most);
        const double slope = slope_at(answer, y, unit);
        for (int r = 0; r < GATES; ++r) {
            const double regret = clip(slope * (answer - w.made[r]), Z_CLIP);
            pool.top[r] = p.top_decay * pool.top[r] + regret;
            pool.top2[r] = p.top_decay * pool.top2[r] + regret * regret;
        }
        learn_losses(p, w, s, pool, count, y, unit);
        learn_corrections(p, w, s, pool, count, y, unit);
        if (p.banded) learn_band(w, pool, answer, y, unit);
    }
    learn_unit(s.unit, static_cast<double>(s.n), error, rounding, unit);
    learn_unit(pool.unit, static_cast<double>(pool.n), error, rounding, unit);
}

}  // namespace ssm::SSM_ISA
