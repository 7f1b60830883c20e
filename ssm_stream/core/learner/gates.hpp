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
constexpr double SEASON_NEAR = 0.02;    // part of the clip by which losses are less where a seasonal answer counts without limit
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

// What the gates' weights are made of: numbers in proportion to them, of which each gate takes a part, and a bit for each answer.
struct Gates {
    double* worths;                         // (GATES, width)
    i64 width;
    alignas(64) double part[GATES], bit[GATES], moment[GATES];  // moment: Σ worth · (answer − mean)
    SSM_INLINE Gates(double* worths, i64 width) : worths(worths), width(width) {}
    SSM_INLINE double* of(int gate) { return worths + gate * width; }
    SSM_INLINE void set(int gate, const Norm& norm, const Vec<double>& moments) {
        part[gate] = norm.part, bit[gate] = norm.bit, moment[gate] = total(moments);
    }
};

// By regrets: of all events, and of the situation.
SSM_INLINE void weigh_by_regrets(const Params& p, const Pool& pool, const Answers& of, double level, i64 hour, Gates& gates) {
    const double *slow = pool.regret + p.wide_T, *slow2 = pool.regret2 + p.wide_T;  // of all events
    const Interpolated at = at_level(p, pool, level);
    const Sums in = in_hour(p, pool, hour);
    constexpr int PLACES[4] = {POLY, POLY + 1, BY_LEVEL, BY_HOUR};
    Vec<double> masses[4]{}, moments[4]{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> all_of = load(slow + i), all_of2 = load(slow2 + i), active = load(of.active + i), off = load(of.off + i);
        const Vec<double> regret[4] = {load(pool.regret + i), all_of, beside(at.low.regret + i, at.high.regret + i, at.part, all_of),
                                       beside(in.regret + i, all_of)};
        const Vec<double> regret2[4] = {load(pool.regret2 + i), all_of2, beside(at.low.regret2 + i, at.high.regret2 + i, at.part, all_of2),
                                        beside(in.regret2 + i, all_of2)};
        Vec<double> worths[4];
        worth_of_four(regret, regret2, worths);
        repeat<4>([&](auto r) SSM_STEP {
            const Vec<double> worth = worths[r] * active;
            store(gates.of(PLACES[r]) + i, worth);
            masses[r] = masses[r] + worth, moments[r] = fma(worth, off, moments[r]);
        });
    }
    repeat<4>([&](auto r) SSM_STEP { gates.set(PLACES[r], norm_of(total(masses[r]), of.alive), moments[r]); });
}

// By losses: falling with sharpness · loss, the pool's mean loss counted as some events of the entity's; a share for all.
SSM_INLINE void weigh_by_losses(const Params& p, const float* own, const Pool& pool, const Answers& of, Gates& gates) {
    const double losses = max(pool.losses, 1e-9);
    Vec<double> low[2] = {all(INFINITE), all(INFINITE)}, masses[2]{}, moments[2]{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> shared = load(pool.loss + i);
        const auto on = load(of.active + i) > Vec<double>{};
        repeat<2>([&](auto r) SSM_STEP {
            const Vec<double> loss = either(on, fma(all(p.soft[4 * r + 2] / losses), shared, load_floats(own + r * p.wide_T + i)), all(INFINITE));
            store(gates.of(SOFT + r) + i, loss);
            low[r] = lesser(low[r], loss);
        });
    }
    const double least_of[2] = {least(low[0]), least(low[1])};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> off = load(of.off + i);
        repeat<2>([&](auto r) SSM_STEP {
            double* worths = gates.of(SOFT + r) + i;
            // `decline` in 64 bits
            Vec<double> t = all(1.0) - all(p.soft[4 * r] * static_cast<double>(1.0f / 256)) * (load(worths) - all(least_of[r]));
            t = greater(t, Vec<double>{});
            for (int k = 0; k < 8; ++k) t = t * t;
            store(worths, t);
            masses[r] = masses[r] + t, moments[r] = fma(t, off, moments[r]);
        });
    }
    repeat<2>([&](auto r) SSM_STEP {
        const double share = p.soft[4 * r + 3];
        gates.set(SOFT + r, {(1.0 - share) / total(masses[r]), share / of.alive}, moments[r]);
    });
}

// As the answers are stacked: weights that may be below zero, and what they leave of 1 for all alike.
SSM_INLINE void weigh_by_stack(const Params& p, const Pool& pool, const Answers& of, Gates& gates) {
    Vec<double> masses[2]{}, moments[2]{};
    for (i64 i = 0; i < of.n; i += lanes<double>) {
        const Vec<double> active = load(of.active + i), off = load(of.off + i);
        repeat<2>([&](auto r) SSM_STEP {
            const Vec<double> W = load(pool.stack_W + r * p.wide_T + i);
            store(gates.of(STACK + r) + i, W);
            masses[r] = fma(W, active, masses[r]), moments[r] = fma(W, off, moments[r]);
        });
    }
    repeat<2>([&](auto r) SSM_STEP { gates.set(STACK + r, {1.0, (1.0 - total(masses[r])) / of.alive}, moments[r]); });
}

// The entity's usual absolute error; the pool's for a new one, and for one that had none but rounding.
SSM_INLINE double usual_error(const Entity& s, const Pool& pool, double rounding, double otherwise) {
    return s.unit > rounding ? s.unit : pool.unit > rounding ? pool.unit : otherwise;
}

// The prediction from the first `count` answers in an hour of the day; fills `gate`, `made` and the total weights `g`.
SSM_ALONE double mix(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, i64 count, i64 hour) {
    double *a = w.a, *active = w.active;
    const i64 n = whole_doubles(count);
    for (i64 i = count; i < n; ++i) a[i] = active[i] = 0.0;
    const double alive = sum(active, n), mean = dot(a, active, n) / alive;
    if (!p.learned_gate) {
        for (i64 i = 0; i < count; ++i) w.g[i] = active[i] / alive;
        for (int i = 0; i < MADE; ++i) w.made[i] = mean;
        return w.made[PREDICTION] = possible(w.base, mean);
    }
    for (i64 i = 0; i < n; i += lanes<double>) store(w.off + i, (load(a + i) - all(mean)) * load(active + i));
    const Answers of{active, w.off, alive, n};
    Gates gates(w.gate, p.answers);
    w.made[AT_LEVEL] = level_of(w, mean);
    weigh_by_losses(p, s.loss, pool, of, gates);
    weigh_by_stack(p, pool, of, gates);
    weigh_by_regrets(p, pool, of, w.made[AT_LEVEL], hour, gates);
    // Deviations from the mean sum up to zero: what a gate leaves for all answers alike moves its answer not at all.
    const Vec<double> made = fma(load(gates.part), load(gates.moment), all(mean));
    store(w.made, lesser(greater(made, all(w.base[LOW])), all(w.base[HIGH])));
    Vec<double> top;
    const double answer = see(w, s, pool, hour, usual_error(s, pool, ROUNDING * std::fabs(mean), 0.0), top);
    alignas(64) double parts[GATES];
    store(parts, top * load(gates.part));
    const Vec<double> bits = all(total(top * load(gates.bit)));
    for (i64 i = 0; i < n; i += lanes<double>) {
        Vec<double> sum = bits;
        repeat<GATES>([&](auto r) SSM_STEP { sum = fma(all(parts[r]), load(gates.of(r) + i), sum); });
        store(w.g + i, sum * load(active + i));
    }
    w.made[ANSWER] = answer;
    if (!p.banded) return w.made[PREDICTION] = possible(w.base, answer);
    const double unit = usual_error(s, pool, ROUNDING * max(std::fabs(answer), std::fabs(w.a[LAST_TARGET])), 0.0);
    return w.made[PREDICTION] = possible(w.base, hold(w, pool, answer, unit > 0.0 ? max(unit, LEAST_UNIT) : 0.0));
}

// Regrets of the answers against those of the gates of regrets.
SSM_INLINE void learn_regrets(const Params& p, const Scratch& w, Pool& pool, i64 hour, double y, double unit, i64 n) {
    alignas(64) double slopes[GATES];
    slopes_at(w.made, y, unit, BEND, slopes);
    const auto regrets_of = [&](int gate) SSM_STEP { return Regrets{w.a, w.active, w.made[gate], slopes[gate], y, 1.0}; };
    for (int r = 0; r < 2; ++r)
        learn_sums(pool.regret + r * p.wide_T, pool.regret2 + r * p.wide_T, p.poly_decay[r], regrets_of(POLY + r), n);
    learn_sums(in_hour(p, pool, hour), SITUATION_DECAY, regrets_of(BY_HOUR), n);
    learn_sums(at_level(p, pool, w.made[AT_LEVEL]), SITUATION_DECAY, regrets_of(BY_LEVEL), n);
}

// Sweeps of the moments of the answers' deviations, as in the moment heads; in 64 bits, as they nearly agree.
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
    const Chosen every{count, w.others, 0, n};
    sweep_waiting(moments, 2, x, every);
    // Where answers nearly agree a sweep goes a small part of the way: the quick gate, which soon forgets, is swept twice.
    sweep_again(swept(moments), every);
}

// Decayed losses of the answers, of the entity and of the pool, in units of the usual error.
SSM_INLINE void learn_losses(const Params& p, const Scratch& w, Entity& s, Pool& pool, i64 count, double y, double unit) {
    const i64 n = whole_doubles(count);
    const Vec<double> part = all(1.0 / unit);
    for (i64 i = 0; i < n; i += lanes<double>) {
        Vec<double> loss = lesser(magnitude(load(w.a + i) - all(y)) * part, all(LOSS_CLIP));
        const auto used = load(LANES) < all(static_cast<double>(count - i));
        loss = either(load(w.active + i) > Vec<double>{}, loss, only(used, all(LOSS_CLIP)));
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

// An event as the gates learn it: its answers in use, its hour of the day, its target, as it is and as it is kept. most: events that may
// wait to be swept
struct GateLesson { i64 count, hour; double y, kept; i64 most; };

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
        learn_corrections(p, w, s, pool, count, y, unit, event.kept == y);
        if (p.banded) learn_band(w, pool, answer, y, unit);
    }
    learn_unit(s.unit, static_cast<double>(s.n), error, rounding, unit);
    learn_unit(pool.unit, static_cast<double>(pool.n), error, rounding, unit);
}

}  // namespace ssm::SSM_ISA
