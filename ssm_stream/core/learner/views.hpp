// Views of the gates: which gate to believe lately, in this hour of the day, of this entity, where the gates differ so much, at this level.
//
// Each view weighs the gates by their regrets, as a gate weighs answers: one by those of all events, soon forgotten, the others
// by those of a situation. Which gate is best depends on it: stacked answers are best where all is as ever, the losses of an entity
// after a jump. The top gate weighs the views, by their regrets, too.
#pragma once
#include "regrets.hpp"

namespace ssm::SSM_ISA {

constexpr double VIEW_DECAY = 0.998;       // of the regrets of a situation, an event in it
constexpr double VIEW_BEND = 0.25;         // usual errors from which on a view's loss is linear
constexpr double DIFFERENCE_HALF = 0.5;    // usual errors by which the gates differ in the middle of all places
constexpr double LEVEL_CLIP = 1e6;         // deviations from the mean that are told apart
enum { LATELY, OF_HOUR, OF_ENTITY, OF_DIFFERENCE, OF_LEVEL };
constexpr i64 VIEW = 8;                    // numbers a row, whole vectors
alignas(64) constexpr double EVERY_GATE[VIEW] = {1, 1, 1, 1, 1, 1, 1, 1}, EVERY_VIEW[VIEW] = {1, 1, 1, 1, 1, 0, 0, 0};
static_assert(lanes<double> == VIEW && GATES == VIEW && VIEWS == 5 && VIEWED + VIEW <= MADE);

// The sums of an hour, of an entity, of two places: regrets, then their squares.
SSM_INLINE Sums sums_in(float* row) { return {row, row + VIEW}; }
SSM_INLINE Interpolated between_views(float* rows, double place) { return sums_between(rows, rows + VIEW, 2 * VIEW, place); }

// Where an answer stands between two levels, by the pool's mean and deviation of targets.
SSM_INLINE double level_of(const Scratch& w, double answer) {
    const double mean = w.scale[2 * VALUE], deviation = w.scale[2 * VALUE + 1];
    const double z = deviation > 0.0 ? clip((answer - mean) / deviation, LEVEL_CLIP) : 0.0;
    return 0.5 * (LEVELS - 1) * (1.0 + z / (1.0 + std::fabs(z)));
}
// How far the gates differ, between two places. unit: the usual error, 0 while there is none
SSM_INLINE double difference_of(const Vec<double>& made, double unit) {
    const double off = total(magnitude(made - all(total(made) * (1.0 / GATES)))) * (1.0 / GATES);
    const double share = off / (off + DIFFERENCE_HALF * unit);  // no number where they do not differ and there is no usual error
    return (LEVELS - 1) * (share < 1.0 ? share : 1.0);
}

// The top gate's answer, from the answers of the gates in `made`; fills in those of the views, and `top`, the gates' weights.
SSM_INLINE double see(const Scratch& w, const Entity& s, const Pool& pool, i64 hour, double unit, Vec<double>& top) {
    const Vec<double> made = load(w.made);
    const Vec<double> shared = load(pool.view), shared2 = load(pool.view + VIEW);
    w.made[AT_DIFFERENCE] = difference_of(made, unit);
    const auto in = [&](const Sums& own) SSM_STEP { return worth(beside(own.regret, shared), beside(own.regret2, shared2)); };
    const auto at = [&](const Interpolated& own) SSM_STEP {
        return worth(beside(own.low.regret, own.high.regret, own.part, shared),
                     beside(own.low.regret2, own.high.regret2, own.part, shared2));
    };
    const Vec<double> of[VIEWS] = {worth(shared, shared2), in(sums_in(pool.hour_view + hour * 2 * VIEW)),
                                   in(sums_in(s.view)), at(between_views(pool.difference_view, w.made[AT_DIFFERENCE])),
                                   at(between_views(pool.level_view, w.made[AT_LEVEL]))};
    alignas(64) double views[VIEW];  // what the views are worth
    const Vec<double> worths = worth(load(pool.top), load(pool.top2));  // 0 beyond the views, as their regrets
    store(views, worths);
    const Norm best = norm_of(total(worths), VIEWS);
    const double even = total(made);
    double answer = 0.0, bits = 0.0;
    Vec<double> weights{};
    repeat<VIEWS>([&](auto v) SSM_STEP {
        const Norm norm = norm_of(total(of[v]), GATES);
        const double part = views[v] * best.part + best.bit;
        w.made[VIEWED + v] = total(of[v] * made) * norm.part + even * norm.bit;
        answer += part * w.made[VIEWED + v];
        weights = fma(of[v], all(part * norm.part), weights);
        bits += part * norm.bit;
    });
    top = weights + all(bits);
    return answer;
}

// Judge the gates and the views by target y.
SSM_INLINE void learn_views(const Params& p, const Scratch& w, Entity& s, Pool& pool, i64 hour, double y, double unit) {
    const double* made = w.made;
    alignas(64) double slopes[VIEW];  // of the views, and then of the top gate
    slopes_at(made + VIEWED, y, unit, VIEW_BEND, slopes);
    const auto regrets_of = [&](int v) SSM_STEP { return Regrets{made, EVERY_GATE, made[VIEWED + v], slopes[v], y, 0.0}; };
    learn_sums(pool.view, pool.view + VIEW, p.poly_decay[0], regrets_of(LATELY), VIEW);
    learn_sums(sums_in(pool.hour_view + hour * 2 * VIEW), VIEW_DECAY, regrets_of(OF_HOUR), VIEW);
    learn_sums(sums_in(s.view), VIEW_DECAY, regrets_of(OF_ENTITY), VIEW);
    learn_sums(between_views(pool.difference_view, made[AT_DIFFERENCE]), VIEW_DECAY, regrets_of(OF_DIFFERENCE), VIEW);
    learn_sums(between_views(pool.level_view, made[AT_LEVEL]), VIEW_DECAY, regrets_of(OF_LEVEL), VIEW);
    const Regrets views{made + VIEWED, EVERY_VIEW, made[ANSWER], slopes[ANSWER - VIEWED], y, 0.0};
    learn_sums(pool.top, pool.top2, p.top_decay, views, VIEW);
}

}  // namespace ssm::SSM_ISA
