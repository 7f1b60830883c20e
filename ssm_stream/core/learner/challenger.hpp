// A challenger: after its inputs have changed, a learner that begins anew runs beside the one that goes on.
//
// What goes on knows much at once, and a fresh start has nothing to unlearn: statistics as old as the state, weights
// that stood for what a new input says now. Which of the two is better cannot be known beforehand. So for a number of events
// both learn, and the prediction is a mean of theirs, weighted by how sure it is from their errors of late that the challenger is
// better; then the better one stays. Where it is the challenger, it takes the other's place: the pool at once, each entity at
// its next event. In doubt it is the challenger: who changes inputs is to be no worse off than who starts anew.
#pragma once
#include "learner.hpp"

namespace ssm::SSM_ISA {

constexpr double TRIAL_DECAY = 0.995;  // of what the challenger has gained, an event of the pool
constexpr double TRIAL_PRIOR = 1e-4;   // of the squares: keeps rounding from deciding
constexpr double SURE = 1.0, HOPELESS = -3.0;  // standard errors that it has gained: it is believed wholly, and not at all
constexpr double YOUTH = 100.0;        // events that a new learner learns before it may alert by default
enum { TRIAL_OVER, TRIAL_ON, TRIAL_WON };

// The numbers of a pool's trial; null where no pool is on trial.
SSM_INLINE double* trial_of(const Challenger& of, i64 k) {
    return of.trial.rows ? of.trial_fields.number.in(of.trial.row(k)) : nullptr;
}

// What is predicted: of the gates, and with the dead band.
struct Said { double answer, prediction; };

// The challenger's share of the prediction, 0 to 1; none before the first target.
SSM_INLINE double share_of_challenger(const double* trial) {
    if (!(trial[GAIN_SQUARES] > 0.0)) return 0.0;
    const double gained = trial[GAIN] / std::sqrt(trial[GAIN_SQUARES] + TRIAL_PRIOR);
    return min(max((gained - HOPELESS) / (SURE - HOPELESS), 0.0), 1.0);
}

// What both say together, of an event that the learner has just predicted; fills the challenger's own scratch. While the challenger
// has learned few events of the pool its part grows with them: that it is young is no doubt about what goes on.
// event: as the learner takes it; first: the challenger has met no event of the entity
SSM_ALONE Said consult(const Learner& challenger, const double* trial, const Event& event, const Said& kept, bool first) {
    challenger.w.wild[0] = 0;
    answer(challenger, event, first);
    const double* made = challenger.w.made;
    const double share = share_of_challenger(trial) * min(static_cast<double>(challenger.pool.n) / YOUTH, 1.0);
    return {kept.answer + share * (shifted(made[ANSWER], challenger.w.base) - kept.answer), kept.prediction + share * (made[PREDICTION] - kept.prediction)};
}

// The challenger's rows in the place of the learner's. Counts go on: of warm-ups, of the entities met, and since when.
inline void take_pool(const LearnerState& of, const Challenger& from, i64 k) {
    Pool was(of.pool_fields, of.pool.row(k));
    const double begun = was.begun, low = was.low, high = was.high, ends[2] = {was.ends[0], was.ends[1]};
    const i64 n = was.n, entities = was.entities, negative = was.negative;
    std::memcpy(of.pool.row(k), from.learner.pool.row(k), from.pool_bytes);
    std::memcpy(of.fleet.row(k), from.learner.fleet.row(k), from.fleet_bytes);
    if (of.norm.rows) std::memcpy(of.norm.row(k), from.learner.norm.row(k), from.norm_bytes);
    Pool pool(of.pool_fields, of.pool.row(k));
    pool.begun = begun, pool.n = n, pool.entities = entities;
    if (low < pool.low) pool.ends[0] = ends[0];
    if (high > pool.high) pool.ends[1] = ends[1];
    pool.low = min(low, pool.low), pool.high = max(high, pool.high), pool.negative = negative;
}
inline void take_entity(const LearnerState& of, const Challenger& from, i64 e) {
    i64* fresh = from.learner.entity_fields.n.in(from.learner.entity.row(e));
    if (*fresh == 0) return;  // it has not been met since, or is there already
    const i64 n = *of.entity_fields.n.in(of.entity.row(e));
    std::memcpy(of.entity.row(e), from.learner.entity.row(e), from.entity_bytes);
    *of.entity_fields.n.in(of.entity.row(e)) = n;
    *fresh = 0;
}

// A target that both have predicted. usual: the entity's usual error, 0 while there is none
inline void compare(double* trial, double y, double kept, double fresh, double usual) {
    const double kept_error = std::fabs(y - kept), fresh_error = std::fabs(y - fresh);
    const double unit = usual > 0.0 ? usual : max(kept_error, fresh_error);
    if (!(unit > 0.0)) return;
    const double gain = clip((kept_error - fresh_error) / unit, LOSS_CLIP);
    trial[GAIN] = TRIAL_DECAY * trial[GAIN] + gain;
    trial[GAIN_SQUARES] = TRIAL_DECAY * trial[GAIN_SQUARES] + gain * gain;
}

// One labelled event more; at the last one the better learner stays.
inline void advance_trial(const LearnerState& of, const Challenger& from, double* trial, i64 k) {
    if (--trial[EVENTS_LEFT] > 0.0) return;
    if (trial[STAGE_OF_TRIAL] == TRIAL_ON && share_of_challenger(trial) > 0.5) {
        take_pool(of, from, k);
        trial[STAGE_OF_TRIAL] = TRIAL_WON;
        trial[EVENTS_LEFT] = trial[EVENTS_OF_TRIAL];
    } else {
        for (int i = 0; i < TRIAL_NUMBERS; ++i) trial[i] = 0.0;
    }
}

}  // namespace ssm::SSM_ISA
