// Numbers that jump: a feature that changes by far more than it usually does, as where a machine starts or stops, and predictions that leap
// with the clock.
//
// What a jump does to the target, rare as it is, no head has learned, and such a change is bounded as an input. So the event of one and
// the next ones are in doubt, as after a change of a category: see `monitor/wider.hpp`.
#pragma once
#include "dead_band.hpp"
#include "effects.hpp"
#include "seasons.hpp"

namespace ssm::SSM_ISA {

constexpr double JUMPS_FROM = 30.0;    // changes of a feature that are known
constexpr i64 SINCE_JUMP = DOUBTS + 1;  // place in `Scratch::unsure`: events since the latest jump, from 1, leap, from 1.25, or pause, from 1.5; 0 where that is long ago
constexpr double AFTER_PAUSE = 1.5;    // where the jump was a pause: counted by halves, so that it is known by its number
constexpr double AFTER_LEAP = 1.25;    // and a leap by quarters
constexpr double ALIKE_LEAPS = 0.6;     // share of the largest change from which on another one is like it: more than one day of two, less than five of seven
constexpr double LEAPS_LATELY = 2.0;    // events after a leap in which the gate may still lean on it
constexpr i64 LEAPT = 1, LEAPT_AS_USUAL = 2;  // places in `Scratch::unsure`: square of the prediction's leap with the clock; of one as usual, negative where it is down
constexpr i64 GAPS_PASSED = DOUBTS + 2;  // the next place: usual gaps since the event before

// In which span an event is that comes so many after the one that began it.
SSM_INLINE void place_span(double* unsure, double since) {
    for (i64 span = 0; span < CHANGES; ++span) unsure[span] = since >= (1 << span) - 1 && since < (2 << span) - 1;
}
// Whether a change stands at its bound. Where features are no inputs as changes, nothing jumps.
SSM_INLINE bool jumps(const Params& p, const Scratch& w, const Entity& s, const Pool& pool) {
    if (!p.differences) return false;
    const i64 changes = p.features + p.cycles;
    const bool own = w.flag[MANY];
    const float* z = (own ? w.entity : w.fleet) + 1 + changes;
    const double* count = (own ? s.v_count : pool.v_count) + changes;
    bool any = false;
    for (i64 j = 0; j < p.features; ++j) any |= count[j] >= JUMPS_FROM && std::fabs(z[j]) >= static_cast<float>(Z_CLIP);
    return any;
}
// Whether a machine begins to work, or ceases, by a feature of which that is known to do something: its size need be no jump of the feature's.
SSM_INLINE bool turns(const Params& p, const Scratch& w, const Entity& s, const Pool& pool) {
    bool any = false;
    for (i64 j = p.categories; j < p.turns; ++j)
        any |= w.turn[j] == 0.0 && s.category[STAY * p.turns + j] >= CHANGED_LATELY && certainty(pool, p.turns, j) > 0.0;
    return any;
}
SSM_INLINE double since_jump(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, bool first) {
    if (first) return 0.0;
    if (jumps(p, w, s, pool) || turns(p, w, s, pool)) return 1.0;
    return s.jumped > 0.0 && s.jumped < CHANGED_LATELY ? s.jumped + 1.0 : 0.0;
}
SSM_INLINE bool leapt_lately(const Scratch& w) {
    const double since = w.unsure[SINCE_JUMP] - AFTER_LEAP;
    return since > 0.0 && since <= LEAPS_LATELY && since == std::floor(since);
}
// By how much seasonal answers, by their weights, take the prediction from the last target at the first event of a quarter of an hour
// that has several, and at the next ones after a leap. What began at this time yesterday need not begin today, and all that the means of
// two quarters differ by would come at once. Where all three leap alike, it is as usual: then there is as much doubt as such leaps have
// been wrong, as where what begins takes minutes, or comes a few of them later.
struct Leap { double by = 0.0; bool as_usual = false; };
SSM_INLINE Leap leap(const Params& p, const Scratch& w, const Entity& s, const Pool& pool) {
    if (p.seasonal <= SEASONAL || !w.flag[SEASONS] || !(s.unit > 0.0) || 2000.0 * pool.gaps[0] > static_cast<double>(QUARTER)) return {};
    const double *answers = w.a + LAST_TARGET + 1, *weights = w.g + LAST_TARGET + 1, last = w.a[LAST_TARGET], least = Z_CLIP * s.unit;
    double by = 0.0, most = 0.0, alike = std::numeric_limits<double>::infinity();
    for (i64 i = 0; i < p.seasonal; ++i) by += weights[i] * (answers[i] - last);
    if (!(std::fabs(by) >= least)) return {};
    const bool lately = leapt_lately(w);
    const double* seasons = w.season + (lately ? 0 : SEASONAL);  // as changes they are there at first events only
    for (i64 i = 0; i < SEASONAL; ++i) {
        const double change = by < 0.0 ? last - seasons[i] : seasons[i] - last;
        if (unknown(change)) continue;
        most = max(most, change), alike = min(alike, max(change, 0.0));
    }
    if (lately || seasons[0] == seasons[2]) alike = 0.0;  // of one day alone
    return most >= least ? Leap{by, alike >= ALIKE_LEAPS * most} : Leap{};
}
// The prediction's leap as a doubt: of its event, and of those that follow.
SSM_INLINE void doubt_leap(const Scratch& w, const Leap& leap) {
    const double square = min(leap.by * leap.by, SQUARE_MOST);
    w.unsure[LEAPT] = leap.as_usual ? 0.0 : square, w.unsure[LEAPT_AS_USUAL] = leap.as_usual ? std::copysign(square, leap.by) : 0.0;
    if (leap.by == 0.0 || leap.as_usual || leapt_lately(w)) return;
    place_span(w.unsure + DOUBTS - CHANGES, 0.0), w.unsure[SINCE_JUMP] = AFTER_LEAP;
}
// Is the event the second after a pause?
SSM_INLINE bool follows_pause(const Scratch& w) { return w.unsure[SINCE_JUMP] == AFTER_PAUSE + 1.0 && w.unsure[GAPS_PASSED] > 0.0; }

}  // namespace ssm::SSM_ISA
