// A target at rest: it stands still, as predicted.
//
// It then has no error from which a size could be learned: a night at rest would make the first events of the morning a surprise, and
// what the pool's answer wanders by, of no size at all, an anomaly. So such events teach nothing, and the interval of the next one
// is as narrow as that. As predicted is what differs by less than a part of the smallest step that a target of the pool has made, or of
// a usual error.
//
// A rest that lasts for longer than usual is a stop. An alert about errors is over by then, as there are none. What a prediction still
// moves by, at an hour at which the target used to, is no news of its errors, as long as it is no more than a usual one of them.
//
// A target that is zero but for pulses, as a feeder, a pump that doses, or rain, rests between them: nearly each of its moves up ends a rest,
// and each down begins one. There a rest is no stop, but a value as any other: only its mean shows that pulses no longer come.
#pragma once
#include "error_scale.hpp"

namespace ssm::SSM_ISA::error_scale {

constexpr double QUARTER = 0.25, HALF = 0.5;  // of the smallest step: the mean error of what is read in such steps, and its largest
constexpr double TENTH = 0.1;                 // of the usual error
constexpr double STILL = 1e-9;                // of a value: what it may move by and stand still
constexpr float RISES_RATE = 1.0f / 32, PULSES = -0.1f;  // of the share of moves that end a rest; what it is at least with pulses, less a half
// A rest is a stop once it has lasted so many times as long as usual, in events, and so many at least. Usual is the mean over events at
// rest, not over rests: single events at which a reading does not move between two nights make no night a stop. Their memory, and the
// most events that are counted.
constexpr double STOPPED = 3.0, STOPPED_LEAST = 50.0, REST_MEMORY = 500.0, REST_MOST = 1e6;

// What differences of a target that stands still, and its prediction, are nothing. rounding: as of `predict`
SSM_INLINE double nothing(const Scale& s, double rounding) {
    return max(rounding, max(QUARTER * s.pool_number[STEP], TENTH * s.number[SIZE]));
}
SSM_INLINE bool stands(const Scale& s, double y) {
    const double last = s.number[TARGET];
    return s.rest[STANDING] != NO_TARGET && std::fabs(y - last) <= STILL * max(std::fabs(y), std::fabs(last));
}
// Is the target predicted to stand still, after it did?
SSM_INLINE bool rest_expected(const Scale& s, double answer, double rounding) {
    return s.rest[STANDING] > MOVED && std::fabs(answer - s.number[TARGET]) <= nothing(s, rounding);
}
// Events in a row, before this one, at which the target has stood still; and those from which on it has for longer than usual.
SSM_INLINE double stood(const Scale& s) { return max(std::fabs(static_cast<double>(s.rest[STANDING])) - 1.0, 0.0); }
SSM_INLINE double stopped_after(const Scale& s) { return max(STOPPED * static_cast<double>(s.rest[USUAL_REST]), STOPPED_LEAST); }
// Is the target zero but for pulses? From its first events on, until it moves otherwise.
SSM_INLINE bool comes_in_pulses(const Scale& s, double y) { return (y == 0.0 || s.number[TARGET] == 0.0) && s.rest[RISES] > PULSES; }
// A target is the latest. still: it is the one before; rests: and as predicted
SSM_INLINE void take_target(const Scale& s, double y, bool still, bool rests) {
    const double step = std::fabs(y - s.number[TARGET]), length = stood(s);
    double& least = s.pool_number[STEP];
    if (s.rest[STANDING] != NO_TARGET && !still && (step < least || least == 0.0)) least = step;
    float& usual = s.rest[USUAL_REST];
    if (!still && length > 0.0) usual += static_cast<float>(length / (length + REST_MEMORY)) * (static_cast<float>(length) - usual);
    const float events = static_cast<float>(min(length + 1.0, REST_MOST)) + MOVED;
    if (s.rest[STANDING] != NO_TARGET && !still) s.rest[RISES] += RISES_RATE * ((length > 0.0 ? 0.5f : -0.5f) - s.rest[RISES]);
    s.number[TARGET] = y, s.rest[STANDING] = !still ? MOVED : rests ? events : -events;
}

}  // namespace ssm::SSM_ISA::error_scale
