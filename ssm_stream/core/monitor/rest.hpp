// A target at rest: it stands still, as predicted.
//
// It then has no error from which a size could be learned: a night at rest would make the first events of the morning a surprise, and
// what the pool's answer wanders by, of no size at all, an anomaly. So such events teach nothing, and the interval of the next one
// is as narrow as that. As predicted is what differs by less than a part of the smallest step that a target of the pool has made, or of
// a usual error.
#pragma once
#include "error_scale.hpp"

namespace ssm::SSM_ISA::error_scale {

constexpr double QUARTER = 0.25, HALF = 0.5;  // of the smallest step: the mean error of what is read in such steps, and its largest
constexpr double TENTH = 0.1;                 // of the usual error
constexpr double STILL = 1e-9;                // of a value: what it may move by and stand still

// What differences of a target that stands still, and its prediction, are nothing. rounding: as of `predict`
SSM_INLINE double nothing(const Scale& s, double rounding) {
    return max(rounding, max(QUARTER * s.pool_number[STEP], TENTH * s.number[SIZE]));
}
SSM_INLINE bool stands(const Scale& s, double y) {
    const double last = s.number[TARGET];
    return s.number[STANDING] != NO_TARGET && std::fabs(y - last) <= STILL * max(std::fabs(y), std::fabs(last));
}
// Is the target predicted to stand still, after it did?
SSM_INLINE bool rest_expected(const Scale& s, double answer, double rounding) {
    return s.number[STANDING] == STOOD && std::fabs(answer - s.number[TARGET]) <= nothing(s, rounding);
}
// A target is the latest. stood: it rested, as predicted
SSM_INLINE void take_target(const Scale& s, double y, bool stood) {
    const double step = std::fabs(y - s.number[TARGET]);
    double& least = s.pool_number[STEP];
    if (s.number[STANDING] != NO_TARGET && !stands(s, y) && (step < least || least == 0.0)) least = step;
    s.number[TARGET] = y, s.number[STANDING] = stood ? STOOD : MOVED;
}

}  // namespace ssm::SSM_ISA::error_scale
