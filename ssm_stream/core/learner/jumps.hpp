// Numbers that jump: a feature that changes by far more than it usually does, as where a machine starts or stops.
//
// What a jump does to the target, rare as it is, no head has learned, and such a change is bounded as an input. So the event of one and
// the next ones are in doubt, as after a change of a category: see `monitor/wider.hpp`.
#pragma once
#include "effects.hpp"

namespace ssm::SSM_ISA {

constexpr double JUMPS_FROM = 30.0;    // changes of a feature that are known
constexpr i64 SINCE_JUMP = DOUBTS + 1;  // place in `Scratch::unsure`: events since the latest jump, from 1, or pause, from 1.5; 0 where that is long ago
constexpr double AFTER_PAUSE = 1.5;    // where the jump was a pause: counted by halves, so that it is known by its number
constexpr i64 GAPS_PASSED = DOUBTS + 2;  // the next place: usual gaps since the event before

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
SSM_INLINE double since_jump(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, bool first) {
    if (first) return 0.0;
    if (jumps(p, w, s, pool)) return 1.0;
    return s.jumped > 0.0 && s.jumped < CHANGED_LATELY ? s.jumped + 1.0 : 0.0;
}
// Is the event the second after a pause?
SSM_INLINE bool follows_pause(const Scratch& w) { return w.unsure[SINCE_JUMP] == AFTER_PAUSE + 1.0 && w.unsure[GAPS_PASSED] > 0.0; }

}  // namespace ssm::SSM_ISA
