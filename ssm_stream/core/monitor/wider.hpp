// An event of which the events before do not tell how large its error is: a feature is unknown in it, or it comes after a gap.
//
// What that adds to the square of the usual error follows from how alike neighbouring values are. How much of it there is in truth,
// a pool learns from such events: unknown features may matter less than their weights say, and what is predicted from features
// may not care for a gap. Interval, anomaly score and drift detector judge such an event by its wider scale.
#pragma once
#include "error_scale.hpp"

namespace ssm::SSM_ISA::error_scale {

constexpr double WIDER_MOST = 1e4;       // times the square of the scale, for what the events before do not tell
constexpr double WIDER_TAUGHT = 0.2;     // from which on an event teaches how much it is
constexpr double WIDER_PRIOR = 3.0, WIDER_MEMORY = 30.0;  // events
constexpr double USUAL_RATE = 0.002;      // of the other events' errors over their scale
constexpr double WIDER_LOG_LEAST = -8.0, WIDER_LOG_MOST = 3.0;
constexpr double UNKNOWN_HEARD = 0.2;    // from which on the drift detector leaves an event out, for unknown features
constexpr double GAPS_LEAST = 30.0, GAP_FROM = 1.5;  // gaps that are known before one is long; usual ones from which on it is

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

// The scale of an event, in the scratch as what the usual one is multiplied by. unsure: `Scratch::unsure`
SSM_INLINE void widen(const Scale& s, const double* unsure) {
    const double square = s.room[BARE] * s.room[BARE], *number = s.pool_number;
    double& gap = s.room[BY_GAP] = 0.0;
    double& unknown = s.room[BY_UNKNOWN] = 0.0;
    s.room[WIDER] = 1.0;
    if (!(square > 0.0) || (unsure[0] == 0.0 && unsure[1] == 0.0)) return;
    unknown = min(series::exp(number[LOG_UNKNOWN]) * unsure[0] / square, WIDER_MOST);
    gap = min(series::exp(number[LOG_GAP]) * unsure[1], WIDER_MOST);
    s.room[WIDER] = std::sqrt(1.0 + unknown + gap);
}
// Learn what an event of which the others do not tell was like beside them. over: its error over its scale
SSM_INLINE void learn_wider(const Scale& s, double over) {
    const double unknown = s.room[BY_UNKNOWN], gap = s.room[BY_GAP], both = unknown + gap;
    double* number = s.pool_number;
    over = min(over, CLIP);
    if (both == 0.0) number[USUAL_MORE] += USUAL_RATE * (over - 1.0 - number[USUAL_MORE]);
    if (both < WIDER_TAUGHT) return;
    const double surprise = over / (1.0 + number[USUAL_MORE]) - 1.0;
    const auto learn = [&](double& log, double& count, double part) {
        log = between(log + part * surprise / (min(count, WIDER_MEMORY) + WIDER_PRIOR), WIDER_LOG_LEAST, WIDER_LOG_MOST);
        count += part;
    };
    learn(number[LOG_UNKNOWN], number[UNKNOWNS], unknown / both);
    learn(number[LOG_GAP], number[AFTER_GAPS], gap / both);
}

}  // namespace ssm::SSM_ISA::error_scale
