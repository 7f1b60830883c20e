// The dead band around the last known target: where the gates answer hardly anything else, that target itself is the prediction.
//
// Many targets stand still and then jump: a valve, a sampled analyser, a set point. Of these the last one is often exactly right, and
// a mean of answers that differ from it by a little is wrong by that little at nearly every event. How far is a little is learned:
// by the distance of the gates' answer from the last target, in usual errors, a pool remembers what leaving it has gained. Where
// that is not a gain of a standard error, the prediction goes back, and wholly where it is none. Farther away than a few usual
// errors it never does.
//
// Only what is predicted changes. Gates learn from their own answer, and the interval and the detectors judge its errors: in the
// dead band they are zero or a jump, of which no size could be learned.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

constexpr double BAND_DECAY = 0.998, BAND_CLIP = 4.0;
constexpr double BAND_HALF = 0.25;    // usual errors that lie in the middle of all distances
constexpr double BAND_PRIOR = 1e-4;   // of the squares: keeps rounding from deciding while nothing has been gained or lost
constexpr i64 LAST_TARGET = 1;        // place of the last known target among the answers

// Between two of the distances, BANDS + 1 in all, of which the last is infinite.
SSM_INLINE Between band_of(double distance, double unit) {
    const double share = distance / (distance + BAND_HALF * unit);  // no number where the distance is none
    return between(BANDS * (share < 1.0 ? share : 1.0), BANDS);
}

// Which part of the way back to the last target the prediction takes, 0 to 1, at one of the distances.
SSM_INLINE double held_at(const Pool& pool, i64 i) {
    if (i == BANDS) return 0.0;
    return min(max(1.0 - pool.band[i] / std::sqrt(pool.band[BANDS + i] + BAND_PRIOR), 0.0), 1.0);
}

// The prediction, from the gates' answer. unit: the entity's usual error, 0 while there is none
SSM_INLINE double hold(const Scratch& w, const Pool& pool, double answer, double unit) {
    if (!(unit > 0.0)) return answer;
    const double last = w.a[LAST_TARGET];
    const Between at = band_of(std::fabs(answer - last), unit);
    const double held = (1.0 - at.part) * held_at(pool, at.first) + at.part * held_at(pool, at.first + 1);
    return (1.0 - held) * answer + held * last;  // wholly held it is that target, to the last bit
}

// What the gates' answer has gained against the last target, in usual errors, at target y.
SSM_INLINE void learn_band(const Scratch& w, Pool& pool, double answer, double y, double unit) {
    const double last = w.a[LAST_TARGET], gain = clip((std::fabs(y - last) - std::fabs(y - answer)) / unit, BAND_CLIP);
    const Between at = band_of(std::fabs(answer - last), unit);
    double *gained = pool.band, *squares = pool.band + BANDS;
    for (i64 i = 0; i < BANDS; ++i) {
        const double part = i == at.first ? 1.0 - at.part : i == at.first + 1 ? at.part : 0.0;
        gained[i] = BAND_DECAY * gained[i] + part * gain;
        squares[i] = BAND_DECAY * squares[i] + part * gain * gain;
    }
}

}  // namespace ssm::SSM_ISA
