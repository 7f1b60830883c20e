// An event of which the events before do not tell how large its error is: a feature is unknown in it, it comes after a gap, or a
// category has just changed, a number jumped or the prediction leapt with the clock (`learner/jumps.hpp`).
//
// What the first two add to the square of the usual error follows from how alike neighbouring values are. How much of it there is in
// truth, a pool learns from such events: unknown features may matter less than their weights say, and what is predicted from features
// may not care for a gap, while an engine that stands between two trips cools by far more than it ever does on one; so of gaps by their
// length. What a change of a category, or a jump, adds in the event where it comes, in the two after it, the next
// four and the next eight, nobody knows: as much again as usual until such changes have shown it, and of jumps little until there
// have been some. A leap that all that is known of its time makes alike is in doubt by the share of such leaps that has not come (where what
// begins takes minutes, the first event brings none of it). Interval, anomaly score and drift detector judge such an event by its wider scale.
#pragma once
#include "error_scale.hpp"

namespace ssm::SSM_ISA::error_scale {

constexpr double WIDER_MOST = 1e4;       // times the square of the scale, for what the events before do not tell
constexpr double PAUSE_MOST = 1e6;       // for what a pause has done, and for leaps
constexpr double WIDER_TAUGHT = 0.2;     // from which on an event teaches how much it is
constexpr double WIDER_PRIOR = 3.0, WIDER_MEMORY = 30.0;  // events
constexpr double USUAL_RATE = 0.002;      // of the other events' errors over their scale
constexpr double WIDER_LOG_LEAST = -8.0;
constexpr double USUAL_LEAP_PRIOR = 0.5;  // leaps as usual that have come, of each pool
// For what theory gives, the most; a change, or a pause, may be the whole range of the target.
constexpr double WIDER_LOG_MOST = 3.0, CHANGED_LOG_MOST = 9.2;
// Events of a span after jumps that a pool has learned from, before which they do no more than double the scale: a fault of several
// signals jumps, too.
constexpr double JUMPS_LEARNED = 6.0, FEW_JUMPS_MOST = 3.0;
constexpr double VAGUE_HEARD = 0.2;      // from which on the drift detector leaves an event out, as of `vague`
constexpr double GAPS_LEAST = 30.0, GAP_FROM = 1.5;  // gaps that are known before one is long; usual ones from which on it is
constexpr double PAUSE_FROM = 8.0;       // usual gaps from which on one is a pause, and by which it is a longer one

// What a prediction that leans on the last target adds to the square of its error, over the usual square, so many usual gaps after it.
// In an autoregression of the first order, r the correlation of neighbouring targets, the last one is wrong by 2 (1 − rᵏ)/(1 − r²)
// times that square after k gaps.
SSM_ALONE double after_gap(const LearnerState& state, i64 e, double gaps) {
    if (!(gaps > GAP_FROM) || state.p.lags == 0) return 0.0;
    const double* target = state.entity_fields.target.in(state.entity.row(e)) + SCALES;
    const double mean = target[2 * RESIDUAL], change = target[2 * RESIDUAL + 1] + mean * mean, variance = target[2 * VALUE + 1];
    const double alike = variance > 0.0 ? min(1.0 - change / (2.0 * variance), ALIKE_MOST) : 0.0;
    return alike > 0.0 ? 2.0 * (alike - series::exp(gaps * series::log(alike))) / (1.0 - alike * alike) : 0.0;
}

// How much an event's error is in doubt, by kind, over the square of the usual one and by theory alone.
enum Doubt { UNKNOWNS, LEAP, USUAL_LEAP, GAP, CHANGE = GAP + PAUSES, JUMP = CHANGE + CHANGES, KINDS = JUMP + CHANGES };
static_assert(KINDS == static_cast<int>(DOUBTS) && static_cast<int>(BY_GAP) == BY_UNKNOWN + static_cast<int>(GAP));
static_assert(LEAP == static_cast<int>(BY_LEAP) - BY_UNKNOWN && LEAP == static_cast<int>(LEAPT) && USUAL_LEAP == static_cast<int>(LEAPT_AS_USUAL));
// How much is in doubt after so many usual gaps, by their length.
SSM_INLINE void place_gap(double* unsure, double gaps, double doubt) {
    i64 length = 0;
    for (double longest = PAUSE_FROM; length < PAUSES - 1 && !(gaps < longest); longest *= PAUSE_FROM) ++length;
    for (i64 i = 0; i < PAUSES; ++i) unsure[GAP + i] = i == length ? doubt : 0.0;
}
SSM_INLINE bool is_pause(int kind) { return GAP < kind && kind < CHANGE; }
SSM_INLINE double most_of(int kind) { return kind == LEAP || kind == USUAL_LEAP || is_pause(kind) ? PAUSE_MOST : WIDER_MOST; }
constexpr int NOT_COME = static_cast<int>(LOG_PART) + USUAL_LEAP;  // of the pool's numbers: mean share of leaps as usual, in place of a log
struct Doubts { double of[DOUBTS]; };
SSM_INLINE Doubts doubts_of(const Scale& s, const double* unsure) {
    const double square = s.room[BARE] * s.room[BARE];
    Doubts doubts;
    for (int kind = GAP; kind < KINDS; ++kind) doubts.of[kind] = unsure[kind];
    for (const int kind : {UNKNOWNS, LEAP, USUAL_LEAP}) doubts.of[kind] = unsure[kind] != 0.0 ? min(std::fabs(unsure[kind]) / square, most_of(kind)) : 0.0;
    return doubts;
}
SSM_INLINE bool any_of(const double* unsure) {
    bool any = false;
    for (int kind = 0; kind < KINDS; ++kind) any |= unsure[kind] != 0.0;
    return any;
}
SSM_INLINE double sum_from(int kind, const double* of) {
    double sum = 0.0;
    for (; kind < KINDS; ++kind) sum += of[kind];
    return sum;
}
// How much is in doubt of what differs from event to event: which feature is unknown, where the prediction leaps, and from what to what a category changed.
SSM_INLINE double vague(const Scale& s) { return s.room[BY_UNKNOWN] + s.room[BY_LEAP] + s.room[BY_USUAL_LEAP] + sum_from(CHANGE, s.room + BY_UNKNOWN); }
// What is over with the event, or soon: errors after it know nothing of it. As a factor of this error's scale.
SSM_INLINE double passing(const Scale& s) { return std::sqrt(1.0 + sum_from(LEAP, s.room + BY_UNKNOWN)); }

// The scale of an event, in the scratch as what the usual one is multiplied by. unsure: `Scratch::unsure`
SSM_INLINE void widen(const Scale& s, const double* unsure) {
    double* part = s.room + BY_UNKNOWN;
    s.room[WIDER] = 1.0;
    for (int kind = 0; kind < KINDS; ++kind) part[kind] = 0.0;
    if (!(s.room[BARE] > 0.0) || !any_of(unsure)) return;
    const Doubts doubts = doubts_of(s, unsure);
    for (int kind = 0; kind < KINDS; ++kind)
        if (doubts.of[kind] > 0.0) {
            const bool few = kind >= JUMP && s.pool_number[DOUBTED + kind] < JUMPS_LEARNED;
            const double share = s.pool_number[NOT_COME], times = kind == USUAL_LEAP ? share * share : series::exp(s.pool_number[LOG_PART + kind]);
            part[kind] = min(times * doubts.of[kind], few ? FEW_JUMPS_MOST : most_of(kind));
        }
    s.room[WIDER] = std::sqrt(1.0 + sum_from(UNKNOWNS, part));
}
// How much of a leap does not come, in the mean, that all that is known of its time makes alike: all of it does until some have not.
// leapt: its square, negative where it is down; error: that is left of it has the other sign
SSM_INLINE void learn_usual_leap(double* number, double leapt, double error) {
    double &share = number[NOT_COME], &count = number[static_cast<int>(DOUBTED) + USUAL_LEAP];
    const double lacking = error * leapt < 0.0 ? min(std::fabs(error) / std::sqrt(std::fabs(leapt)), 1.0) : 0.0;
    share += (lacking - share) / (min(count, WIDER_MEMORY) + USUAL_LEAP_PRIOR + 1.0);
    count += 1.0;
}
// Learn what such an event was like beside the others. over: size of its error over its scale
SSM_INLINE void learn_wider(const Scale& s, const double* unsure, double error, double over) {
    double* number = s.pool_number;
    over = min(over, CLIP);
    if (!any_of(unsure)) {
        number[USUAL_MORE] += USUAL_RATE * (over - 1.0 - number[USUAL_MORE]);
        return;
    }
    Doubts doubts = doubts_of(s, unsure);
    if (unsure[USUAL_LEAP] != 0.0) learn_usual_leap(number, unsure[USUAL_LEAP], error), doubts.of[USUAL_LEAP] = 0.0;
    const double all = sum_from(UNKNOWNS, doubts.of);
    if (!(all >= WIDER_TAUGHT)) return;
    const double surprise = over / (1.0 + number[USUAL_MORE]) - 1.0;
    for (int kind = 0; kind < KINDS; ++kind) {
        double &log = number[LOG_PART + kind], &count = number[DOUBTED + kind];
        const double share = doubts.of[kind] / all;
        log = between(log + share * surprise / (min(count, WIDER_MEMORY) + WIDER_PRIOR), WIDER_LOG_LEAST, kind <= GAP ? WIDER_LOG_MOST : CHANGED_LOG_MOST);
        count += share;
    }
}

}  // namespace ssm::SSM_ISA::error_scale
