// In what steps do an entity's values come, and how many does a gap lack? For what counts values as time: `shape.hpp`.
//
// Only where they come in even steps does a gap tell that. Steady is a cadence by the share of its latest steps that have a
// value; gaps of any other length than a step or a few count against it, so that jitter, events and times in too coarse units are
// taken for values without steps. Gaps that come again every few cycles, as pauses between batches, are a part of the cycle:
// they end the cadence, and values count again as ever.
#pragma once
#include "../numbers.hpp"

namespace ssm::SSM_ISA::cadence {

constexpr double NEAR_STEP = 0.15, NEAR_STEPS = 0.25, FEW_STEPS = 4.0;  // how far a gap is from one step, from a few, at most
constexpr double STEP_RATE = 0.1, STEP_CLIP = 0.5;  // of the usual step; steps: what a gap counts for at most
constexpr double STEP_LEAST = 1e-3;    // ms
constexpr double STEADY_LEAST = 0.8, STEADY_RATE = 0.01, STEADY_PRIOR = 4.0;  // share of steps with a value; of a value; values
constexpr double STEADY_CYCLES = 6.0, STEPS_COUNTED = 8.0;  // its memory at least; steps that one gap counts for, at most
constexpr double STEPS_MOST = 1e9, NO_PLACE = -1.0;
constexpr double FILLED = 0.5;         // cycles: longer gaps are pauses
constexpr double PART_FROM = 0.125, PART_LEAST = 3.0, PART_COSTS = 0.1, PART_CYCLES = 9.0;  // cycles, steps: gaps that may be a part of the cycle

// The latest value's time and the usual step, ms; the share of the latest steps that have a value.
struct Cadence { double &last, &step, &steady; };
// events: of a cycle, 0 while there is none; samples: that are remembered; cycles: of these
struct Cycle { double events, samples, cycles; };

SSM_INLINE void learn(const Cadence& c, const Cycle& cycle, double steps, double lacks, bool steady) {
    const double rate = cycle.events > 0.0 ? min(STEADY_RATE, 1.0 / (STEADY_CYCLES * cycle.events))
                                           : max(STEADY_RATE, 1.0 / (cycle.samples + STEADY_PRIOR));
    if (std::fabs(steps - 1.0) <= NEAR_STEP) c.steady += rate * (1.0 - c.steady);
    else c.steady *= max(1.0 - rate * min(max(lacks, 1.0), STEPS_COUNTED), 0.0);
    if (cycle.events == 0.0 || lacks <= max(PART_FROM * cycle.events, PART_LEAST)) return;
    // Windows that begin anew again and again never get old enough.
    const bool pause = lacks > FILLED * cycle.events, soon = pause && cycle.cycles < PART_CYCLES;
    if (!pause) c.steady -= PART_COSTS;
    if (!steady || soon || c.steady < STEADY_LEAST) c.steady = 0.0;
}

// Values that a value at this time shows to be lacking between the last one and it, NO_PLACE where it comes twice or after its
// place has been passed; 0 where there are no even steps. time: ms; longest: ms, beyond which a gap says nothing
SSM_INLINE double lacking(const Cadence& c, const Cycle& cycle, double time, double longest) {
    const double gap = time - c.last;
    const bool goes_on = c.last != 0.0 && gap >= -longest && gap <= longest, steady = c.steady >= STEADY_LEAST;
    if (!goes_on || gap > 0.0) c.last = time;
    if (!goes_on) return 0.0;
    if (!(gap > 0.0)) {
        learn(c, cycle, 0.0, 0.0, steady);
        return steady ? NO_PLACE : 0.0;
    }
    if (c.steady == 0.0) c.step = gap;
    const double steps = gap / c.step, whole = min(max(std::nearbyint(steps), 1.0), STEPS_MOST);
    c.step = max(c.step * (1.0 + STEP_RATE * clip(steps / (steady ? whole : 1.0) - 1.0, STEP_CLIP)), STEP_LEAST);
    learn(c, cycle, steps, whole - 1.0, steady);
    return steady && (whole > FEW_STEPS || std::fabs(steps - whole) <= NEAR_STEPS) ? whole - 1.0 : 0.0;
}

}  // namespace ssm::SSM_ISA::cadence
