// The loops over events: predict, judge and learn one after another. Compiled once an instruction set.
#include <optional>

#include "late.hpp"
#include "learner/challenger.hpp"
#include "learner/implicit.hpp"
#include "monitor/days.hpp"
#include "monitor/drift.hpp"
#include "monitor/error_scale.hpp"
#include "monitor/episodes.hpp"
#include "monitor/hours.hpp"
#include "monitor/interval.hpp"
#include "monitor/mean_shift.hpp"
#include "monitor/novelty.hpp"
#include "monitor/recurring.hpp"
#include "monitor/returned.hpp"
#include "monitor/shape.hpp"
#include "monitor/rest.hpp"
#include "monitor/wider.hpp"

#define SSM_TEXT(name) #name
#define SSM_NAME(name) SSM_TEXT(name)

namespace ssm::SSM_ISA {

constexpr double SCORE_MOST = 1e6;
constexpr double OVER_MOST = 1e9;  // of an error over its scale
constexpr double MARKS_A_TTL = 100.0;  // one event moves the watermark by at most ttl / 100: a wrong clock cannot evict the fleet
constexpr i64 WEIGHT_EVERY = 8;        // events between updates of the weights that drift alerts compare with
constexpr double WEIGHT_RATE = 0.02;
constexpr i64 SLOW_EVERY = 8;          // events of an episode, or of a rest, of which one is learned
// Events at rest that are learned one and all. Those after them show nothing new, and would have what is known of work forgotten.
constexpr double REST_TAUGHT = 30.0;
constexpr i64 HOLD_FROM = 4000;          // events of an entity before learning is held
constexpr double HOLD_MOST = 500.0, HOLD_BACK = 0.1;  // held events; what an event that is learned takes back
constexpr double CALMED_OFTEN = 2.5, CALMED_MEMORY = 1e5;  // drifts of smaller errors in a pool, of so many of its events
constexpr double HOLD_DEAREST = 100.0;  // of one held event: a few gross errors must not end all holds to come
constexpr double GAP_RATE = 0.01;      // of the mean gap between events, once 100 are known
constexpr i64 NEARBY = 1000;           // entities whose states a processor keeps close: of more, the next is asked for ahead
enum { LAST, MARK, GAP, GAPS_COUNTED };  // columns of the clock
constexpr double UNLEARNED = -1.0;       // as gaps counted: it has had events, and learned none
enum { ADAPT, SLOW, HOLD };              // of Rules.learn
enum { LEARNS = 2, CHANNEL = 3, ENDED = 4 };  // places of Reported.phase
constexpr double ABSORB_SHARE = 1.0 / 3.0, ABSORB_LEAST = 100.0, ABSORB_MOST = 1000.0;  // of a budget, events
enum { RESIDUAL_CHANNEL, NOVELTY_CHANNEL, LEVELS_CHANNEL, SHAPE_CHANNEL, FIRST_OWN_CHANNEL };

// Mean events between false alarms, at the entity's own rate where the budget is in time. share: of the event, as of `Events`
static SSM_INLINE double budget_events(double events, double seconds, double gap, double share) {
    return share * (events > 0.0 ? events : max(seconds / max(gap, 1e-3), 20.0));
}

// Events after which an episode ends as absorbed.
static SSM_INLINE double absorb_after(const Rules& r, int kind, double budget) {
    if (r.absorb_after[kind] > 0) return static_cast<double>(r.absorb_after[kind]);
    return min(max(ABSORB_SHARE * budget, ABSORB_LEAST), ABSORB_MOST);
}

// The later of an entity's last time and that of an event. An event that is further back than the TTL shows that the last
// time was of a clock far ahead: the entity goes on from it, else nothing would be newer for years.
static SSM_INLINE double later(double last, double ts, double ttl) { return ts < last - ttl ? ts : max(ts, last); }
// The entity's clock: its mean gap counts time that passes, not time that goes back, or jumps by more than the TTL.
static SSM_INLINE void advance(double* clock, double ts, double mark, double ttl) {
    if (clock[GAPS_COUNTED] > 0.0 && ts > clock[LAST] && ts - clock[LAST] <= ttl) {
        const double rate = max(1.0 / clock[GAPS_COUNTED], GAP_RATE);
        clock[GAP] += rate * ((ts - clock[LAST]) / 1000.0 - clock[GAP]);
    }
    clock[GAPS_COUNTED] = min(max(clock[GAPS_COUNTED], 0.0) + 1.0, 1e9);
    clock[LAST] = clock[GAPS_COUNTED] > 1.0 ? later(clock[LAST], ts, ttl) : ts;
    clock[MARK] = mark;
}
// Of an entity that has learned nothing yet, as in a planned stop: its next prediction depends on what it has seen, so its
// TTL counts from there.
static SSM_INLINE void advance_unlearned(double* clock, double ts, double mark, double ttl) {
    if (clock[GAPS_COUNTED] > 0.0) return;
    clock[LAST] = clock[GAPS_COUNTED] < 0.0 ? later(clock[LAST], ts, ttl) : ts;
    clock[GAPS_COUNTED] = UNLEARNED;
    clock[MARK] = mark;
}
static SSM_INLINE double moved_mark(double mark, double time, double ttl) {
    if (unknown(mark)) mark = time;
    return mark + min(max(time - mark, 0.0), ttl / MARKS_A_TTL);
}
// Both clocks must agree: a watermark that began in the past still catches up with the entities.
static SSM_INLINE bool expired(const double* clock, double mark, double ttl) {
    return clock[GAPS_COUNTED] != 0.0 && mark - max(clock[MARK], clock[LAST]) > ttl;
}
static SSM_INLINE double* clock_of(const EngineState& state, i64 e) {
    return state.monitor.clock_fields.number.in(state.monitor.clock.row(e));
}

// The mean number of events in a gap of an entity that have values of other targets only: each adds its part, and what was known before
// gives way once a gap. So it needs no count of those in the gap that goes on. Known where a budget is in time.
static SSM_INLINE float& others_of(const EngineState& state, i64 e) {
    const MonitorState& m = state.monitor;
    return m.error_scale_fields.value.in(m.error_scale.row(e))[error_scale::OTHERS];
}
// The mean gap of an entity while it runs, s: of a pause counts what may pass for a gap. The mean of all of them is that of an entity after a
// weekend for hundreds of events, and its breaks would be none.
static SSM_INLINE double& running_gap_of(const EngineState& state, i64 e) { return episodes::episode(state.monitor, e, episodes::DRIFT)[episodes::RUNNING_GAP]; }
static SSM_INLINE void learn_running_gap(const EngineState& state, i64 e, double ts) {
    const double* clock = clock_of(state, e);
    if (!(clock[GAPS_COUNTED] > 0.0) || !(ts > clock[LAST]) || ts - clock[LAST] > state.rules.ttl) return;
    double& usual = running_gap_of(state, e);
    const double gap = (ts - clock[LAST]) / 1000.0, before = usual, rate = max(1.0 / clock[GAPS_COUNTED], GAP_RATE);
    usual = before > 0.0 ? before + rate * (min(gap, error_scale::PAUSE_FROM * before) - before) : gap;
}
static SSM_INLINE float others_rate(const double* clock) { return static_cast<float>(max(1.0 / clock[GAPS_COUNTED], GAP_RATE)); }
static SSM_INLINE void count_other(const EngineState& state, i64 e) {
    const double* clock = clock_of(state, e);
    if (clock[GAPS_COUNTED] > 0.0) others_of(state, e) += others_rate(clock);
}
static SSM_INLINE void begin_gap(const EngineState& state, i64 e) { others_of(state, e) *= 1.0f - others_rate(clock_of(state, e)); }
// Mean gap, s, between events that have a value of any target: what a budget in time allows is divided over these.
static SSM_INLINE double gap_of_any(const EngineState& state, i64 e) {
    return clock_of(state, e)[GAP] / (1.0 + static_cast<double>(others_of(state, e)));
}

// A target and its prediction, to be judged.
struct Judged {
    i64 k, n;            // pool; labelled events before
    double time, y, answer;
    bool known;          // the entity had a label when the answer was given
    const double* u;
    const i64 *steps, *context;  // hour and weekday of the target; those that the prediction was made for
    double* allowance;   // as of `Events`, of this one; none where the score is judged as it is
    double share;        // as of `Events`, of this one
    double target_time;  // ms; `time` is that of the event that was predicted from
};

// 1 if the event is to be learned: an open episode may hold learning, so that a fault is not taken for normal.
//
// A model that stands still gets worse by itself. So a young one goes on, and what a hold may cost is bounded: an event that
// is not learned counts by how much worse than the last target its prediction is, in usual errors, at least once, up to
// HOLD_MOST; others take that back, slowly, so that in the long run holds add no more than HOLD_BACK of the usual error. What
// nobody could have predicted costs nothing by being held.
// cost: |error| less that of the last target, over the usual one
static SSM_INLINE i64 learns(const EngineState& state, i64 e, i64 n, double cost) {
    bool held = false;
    for (int kind = 0; kind < episodes::KINDS; ++kind) {
        const i64 rule = state.rules.learn[kind];
        double* episode = episodes::episode(state.monitor, e, kind);
        const bool holds = rule == HOLD || (rule == SLOW && n % SLOW_EVERY != 0);
        double& spent = episode[episodes::HELD];  // −∞: frozen (`Engine.freeze_learning`), whatever that costs
        const bool old = n >= HOLD_FROM || spent == -INFINITE;
        const bool hold = holds && episode[episodes::OPEN] == 1.0 && old && spent < HOLD_MOST;
        spent = hold ? spent + min(max(cost, 1.0), HOLD_DEAREST) : max(spent - HOLD_BACK, 0.0);
        held = held || hold;
    }
    return held ? 0 : 1;
}

// What differences of target and prediction below are rounding.
static SSM_INLINE double rounding_of(const EngineState& state, double y, double answer) {
    const Scratch& w = state.learner.w;
    return 1e-12 * max(std::fabs(y), std::fabs(answer)) + 1e-6 * w.scale[8 * w.flag[MANY] + 2 * RESIDUAL + 1];
}

// Pool and entity.
struct Place { i64 k, e; };
static SSM_INLINE interval::Interval interval_of(const EngineState& state, const Place& at) {
    const MonitorState& m = state.monitor;
    return {m, at.e, m.error_scale_pool_fields.tail.in(m.error_scale_pool.row(at.k))};
}
static SSM_INLINE error_scale::Moment moment_of(const EngineState& state, i64 k, const i64* steps, double ts) {
    const LearnerState& l = state.learner;
    char* row = l.pool.row(k);
    return {steps, *l.pool_fields.n.in(row) > 0 ? ts - *l.pool_fields.begun.in(row) : 0.0};
}
// The scale of errors of a prediction, placed in the scratch. y: the target, where it is known
static SSM_INLINE error_scale::Scale place_scale(const EngineState& state, const Place& at, double answer, const error_scale::Moment& when, double y) {
    const Scratch& w = state.learner.w;
    const error_scale::Scale scale(state, at.k, at.e);
    error_scale::predict(scale, answer, when, w.flag[MANY] ? w.entity : w.fleet, rounding_of(state, y, answer));
    error_scale::widen(scale, w.unsure);
    return scale;
}
// The least and the greatest target of a pool so far.
struct Range {
    double low, high;
    SSM_INLINE double size() const { return high - low; }
    SSM_INLINE bool has(double y) const { return low <= y && y <= high; }
};
static SSM_INLINE Range range_of(const EngineState& state, i64 k) {
    const PoolFields& f = state.learner.pool_fields;
    char* row = state.learner.pool.row(k);
    return {*f.low.in(row), *f.high.in(row)};
}
// Distances from the prediction to the bounds of its interval.
struct HalfWidths { double below, above; };
static SSM_INLINE HalfWidths half_widths(const EngineState& state, const Place& at, double answer, const Event& event) {
    const double* clock = clock_of(state, at.e);
    const double running = running_gap_of(state, at.e);
    const double gaps = clock[GAPS_COUNTED] < error_scale::GAPS_LEAST || !(running > 0.0) ? 1.0 : (event.ts - clock[LAST]) / (1000.0 * running);
    state.learner.w.unsure[GAPS_PASSED] = gaps;
    error_scale::place_gap(state.learner.w.unsure, gaps, error_scale::after_gap(state.learner, at.e, gaps));
    const error_scale::Scale scale = place_scale(state, at, answer, moment_of(state, at.k, event.steps, event.ts), answer);
    const interval::Interval width(state.monitor, at.e);
    const double rounding = rounding_of(state, answer, answer), half = interval::half_width(width, event.steps[0]);
    const double least = error_scale::rest_expected(scale, answer, rounding) ? error_scale::nothing(scale, rounding) : rounding;
    // What stood still before a pause need not after it.
    if (least > rounding && gaps < error_scale::PAUSE_FROM && interval::may_rest(width, interval::left_of(error_scale::stood(scale), state.rules.level))) return {least, least};
    const double wider = half * scale.room[error_scale::WIDER];
    HalfWidths out{wider * scale.room[error_scale::LOWER], wider * scale.room[error_scale::UPPER]};
    if (gaps >= error_scale::PAUSE_FROM) {
        // What comes next has not settled: as after a jump. And no pause does more than all that has ever been seen.
        state.learner.w.unsure[SINCE_JUMP] = AFTER_PAUSE;
        const double range = range_of(state, at.k).size();
        out = {min(out.below, max(range, half * scale.room[error_scale::LOWER])), min(out.above, max(range, half * scale.room[error_scale::UPPER]))};
    }
    return {max(out.below, least), max(out.above, least)};
}

constexpr double RANGE_IN_STEPS = 8.0;  // mean distance of predictions from their mean, in steps, from which on a target is measured in them
constexpr double PLASTIC = 0.7548776662466927;  // its multiples, less their whole parts, fill 0 to 1 evenly

// A value is known to its step only. The drift detector hears an error as if the value were any within half a step of what was read:
// else counts, and what a sensor rounds, would follow the prediction's wander, and no change be any.
static SSM_INLINE double within_step(i64 n, double step) {
    const double turn = PLASTIC * static_cast<double>(n);
    return step * (turn - std::floor(turn) - 0.5);
}

// What a mean error must move by to matter: a step of the target, as nobody reads less from it. Not of what has few values, as counts and
// codes: there the step is no resolution, and a share that doubles moves the mean by less.
static SSM_INLINE double least_shift(const error_scale::Scale& s) {
    const double step = s.pool_number[error_scale::STEP];
    return s.number[error_scale::SPREAD] > RANGE_IN_STEPS * step ? step : 0.0;
}

// Does a category change with the event that is judged, which stays for so many events that levels show what is usual while it does?
static SSM_INLINE bool new_stay(const Scratch& w) { return w.unsure[DOUBTS] >= static_cast<double>(mean_shift::WARMUP); }

// Has a category changed within the last events, of those that seldom do?
static SSM_INLINE bool changed_lately(const Scratch& w) {
    for (i64 span = 0; span < CHANGES; ++span)
        if (w.unsure[error_scale::CHANGE + span] > 0.0) return true;
    return false;
}

// Has the entity been away for as long as so many events in which levels show what is usual?
static SSM_INLINE bool returns(const Scratch& w) { return w.unsure[GAPS_PASSED] >= static_cast<double>(mean_shift::WARMUP); }

// The answer as far as it is published: a target that has never been negative is not predicted to be. An anomaly is measured from there,
// as nobody reads what is below. Sizes of errors are learned, and drifts found, from the answer as it was given: were all that is below
// an error of nothing, what stands at 0 would seem to be known exactly, and each start from there be an anomaly.
static SSM_INLINE double published_answer(const EngineState& state, double answer) { return possible(state.learner.w.base, answer); }

// The last known target.
static SSM_INLINE double last_of(const EngineState& state, i64 e) {
    return state.learner.entity_fields.y_last.in(state.learner.entity.row(e))[0] + state.learner.w.base[SHIFT];
}

// How often a budget lets a score pass, and which channel's score is the largest; whether the target is where it was before at this time, or
// after a pause.
struct Anomaly { double score; i64 channel; bool known = false; };
// unit: the scale of errors of this side, not widened; context: as it was placed; absorb: events after which a level is normal
static inline Anomaly anomaly_score(const EngineState& state, i64 e, const Judged& j, double events, double unit,
                                    const error_scale::Scale& context, double absorb) {
    const Rules& r = state.rules;
    Anomaly out{0.0, RESIDUAL_CHANNEL};
    const double published = published_answer(state, j.answer);
    // No nearer than half a step: the least that a target of the pool has moved by. Before the first error of an entity, the pool
    // alone moves its prediction, and what it moves by is all that is known of how wrong that may be.
    double floor = max(1e-9 * max(std::fabs(j.y), std::fabs(j.answer)) + 1e-300, error_scale::HALF * context.pool_number[error_scale::STEP]);
    if (context.number[error_scale::SIZE] <= 0.0 && context.rest[error_scale::STANDING] != error_scale::NO_TARGET)
        floor = max(floor, 2.0 * std::fabs(j.answer - context.number[error_scale::TARGET]));
    const bool paused = state.learner.w.unsure[GAPS_PASSED] >= error_scale::PAUSE_FROM;
    const double usual_bound = unit * interval::anomaly_bound(interval_of(state, {j.k, e}), 1.0 / events, {context.number[error_scale::SEEN], unit}), wider_bound = context.room[error_scale::WIDER] * usual_bound;
    const double bound = max(paused ? min(wider_bound, max(range_of(state, j.k).size(), usual_bound)) : wider_bound, floor);
    double missed = min(std::fabs(j.y - published) / bound, SCORE_MOST);
    // After a pause the target has been judged as it came back. Most past targets are of before it, so that the next prediction may go half
    // the way there: a target that stays is no news.
    if (missed > 1.0 && follows_pause(state.learner.w)) missed = min(missed, max(std::fabs(j.y - last_of(state, e)) / bound, 1.0));
    const mean_shift::Levels levels(state.monitor, e);
    std::optional<recurring::Expected> expected;  // seldom
    const auto expect = [&]() -> const recurring::Expected& {
        if (!expected) expected = recurring::expected(state.learner, j.k, e, j.steps, j.target_time);
        return *expected;
    };
    // Only where the target has moved: where inputs have moved the prediction, a target that goes on as a week ago belies them.
    const double last = last_of(state, e);
    if (missed > 1.0 && std::fabs(j.y - last) >= (1.0 - recurring::ALIKE) * std::fabs(j.y - j.answer) &&
        (recurring::stands(expect(), j.y, bound) || recurring::jumps(*expected, j.y, bound)))
        missed = 1.0;
    bool known = paused && returned::as_before(context, j.y - published, missed > 1.0);
    if (known) missed = 1.0;
    if (r.channels[RESIDUAL_CHANNEL]) out.score = missed;
    // A machine that joins a pool of days has not seen the hours of its own first day: what the pool predicts well is nothing new.
    const bool joined = 1000.0 * clock_of(state, e)[GAP] * static_cast<double>(j.n) < error_scale::DAY_MS &&
        moment_of(state, j.k, j.context, j.time).age >= error_scale::DAY_MS;
    const bool foreseen = joined && missed <= recurring::FORESEEN;
    // Nor is what another product was predicted to bring: this machine may never have made it, or not for all that it remembers.
    // So it is with what a machine comes back with, after it was away for long, if any of its pool has ever been there.
    const bool back = returns(state.learner.w) && range_of(state, j.k).has(j.y);
    const bool turned = (changed_lately(state.learner.w) || back) && missed <= 1.0;
    if (r.channels[NOVELTY_CHANNEL]) {
        const double week = 86400.0 * static_cast<double>(j.steps[1]) + 3600.0 * static_cast<double>(j.steps[0]);
        const double step = context.pool_number[error_scale::STEP];
        const double found = novelty::observe(novelty::Novelty(state.monitor, e), j.y, week, events, step, turned);
        if (found > out.score && !foreseen && !turned && !(found > 1.0 && recurring::stands_apart(expect(), j.y, bound))) out = {found, NOVELTY_CHANNEL};
    }
    if (r.channels[LEVELS_CHANNEL]) {
        if (mean_shift::are_off(levels)) expect();
        const double usual = error_scale::usual(context);
        const auto [found, again] = mean_shift::observe(levels, j.y, j.u, state.learner.p.features, events, absorb,
                                                 {usual, error_scale::usual_by_context(context, usual), new_stay(state.learner.w) || returns(state.learner.w), expected ? &*expected : nullptr}, state.learner.w.levels);
        if (found > out.score) out = {found, LEVELS_CHANNEL};
        known = known || again;
    }
    if (r.channels[SHAPE_CHANNEL]) {
        const shape::Shape cycles(state.monitor, e);
        if (new_stay(state.learner.w)) shape::part(cycles);
        const double found = shape::observe(cycles, j.y, events, shape::lacking(cycles, j.target_time, r.ttl));
        if (found > out.score) out = {found, SHAPE_CHANNEL};
    }
    if (state.own.count > 0) {
        const OwnScore found = state.own.score(state.own.with, e, j.time, j.y, published, j.u, events);
        if (found.score > out.score) out = {min(found.score, SCORE_MOST), FIRST_OWN_CHANNEL + found.channel};
    }
    out.known = known;
    return out;
}

static SSM_INLINE double entities_of(const EngineState& state, i64 k) { return static_cast<double>(state.learner.pool_fields.entities.in(state.learner.pool.row(k))[0]); }
static SSM_INLINE days::Usual usual_of(const EngineState& state, i64 e) {
    const EntityFields& f = state.learner.entity_fields;
    char* row = state.learner.entity.row(e);
    return {f.v_mean.in(row), f.v_var.in(row), f.target.in(row)[Y_SPREAD]};
}

// The anomaly score of a target; episodes, detector and interval go on.
static inline double judge(const EngineState& state, i64 e, const Judged& j) {
    const Rules& r = state.rules;
    i64* phase = state.told.phase;
    double* number = state.told.number;
    phase[0] = phase[1] = episodes::UNCHANGED;
    phase[ENDED] = phase[ENDED + 1] = episodes::OPEN_STILL;
    phase[LEARNS] = 1;
    const double allowed = j.allowance ? *j.allowance : 1.0;
    if (j.allowance) *j.allowance = 0.0;
    if (!j.known) return 0.0;
    const double error = j.y - j.answer, size = std::fabs(error), gap = gap_of_any(state, e);
    const bool shapes = r.channels[SHAPE_CHANNEL] && shape::is_periodic(shape::Shape(state.monitor, e));
    const double channels = max(static_cast<double>(r.channels[0] + r.channels[1] + r.channels[2] + shapes + state.own.count), 1.0);
    const double budget_of = budget_events(r.anomaly_events, r.anomaly_seconds, gap, j.share), events = budget_of * channels;
    const double absorb = absorb_after(r, episodes::ANOMALY, budget_of);
    // Judged is the error over the scale of its side.
    const error_scale::Scale context(state, j.k, e);
    const double rounding = rounding_of(state, j.y, j.answer), heard_size = size > rounding ? size : 0.0;
    const bool still = error_scale::stands(context, j.y), rests = still && size <= error_scale::nothing(context, rounding);
    const double wider = context.room[error_scale::WIDER];
    const double unit = context.room[error > 0.0 ? error_scale::UPPER : error_scale::LOWER], scale = wider * unit;
    const auto [found, channel, known] = anomaly_score(state, e, j, events, unit, context, absorb);
    double score = found / allowed;
    if (j.allowance && j.n >= r.warmup) *j.allowance = found;
    const double published = published_answer(state, j.answer), read_error = j.y - published, read_size = std::fabs(read_error);
    const bool sided = r.direction == 0 || read_error * static_cast<double>(r.direction) > 0.0;
    const bool counts =
        sided && read_size >= r.deviation && read_size >= r.deviation_relative * std::fabs(published) && score > 1.0;
    if (j.n < r.warmup) {
        score = 0.0;
    } else if (r.anomaly) {
        phase[CHANNEL] = channel;
        double* episode = episodes::episode(state.monitor, e, episodes::ANOMALY);
        const mean_shift::Levels levels(state.monitor, e);
        const i64 columns = state.learner.p.features + 1;
        const bool lasts = r.channels[LEVELS_CHANNEL] && mean_shift::lasts(levels);
        phase[0] = episodes::step(episode, episodes::ANOMALY, {j.n, j.time, score, counts, !counts && !lasts && (allowed == 1.0 || found <= 1.0), absorb}, r, phase + ENDED);
        if (phase[ENDED] == episodes::ABSORBED && r.channels[LEVELS_CHANNEL])
            mean_shift::rebase(levels, columns, mean_shift::most_of(levels, columns, events));
        number[0] = score;
    }
    const interval::Tail left = interval::left_of(error_scale::stood(context), r.level);
    const bool expected = error_scale::rest_expected(context, j.answer, rounding);
    const double entities = entities_of(state, j.k);
    if (r.drift && allowed == 1.0) {
        context.pool_number[error_scale::CALMED] *= 1.0 - 1.0 / CALMED_MEMORY;
        const double budget = budget_events(r.drift_events, r.drift_seconds, gap, j.share);
        const drift::Drift detector(state.monitor, e, error_scale::KNOWN_FROM);
        // Nobody reads less than a step: over a scale of a part of one, a sensor's last digit would be an error that grows and shrinks.
        const double readable = least_shift(context), over = max(wider * context.room[error_scale::BOTH], error_scale::HALF * readable);
        const double any = error + within_step(j.n, context.pool_number[error_scale::STEP]);
        const double heard = heard_size > 0.0 && scale > 0.0 ? clip(any / over, OVER_MOST) : 0.0;
        const double stop = error_scale::stopped_after(context);
        const bool quiet = rests || (still && error_scale::stood(context) >= stop && size <= context.number[error_scale::SIZE]);
        // What stands still for longer than a pause, within a usual error, rests, too: that its errors are smaller than those at work,
        // of which alone the size is learned, is no change of these.
        const bool longer = left == interval::LEFT, standing = still && longer && size <= context.number[error_scale::SIZE];
        // Nor is heard what ends such a standstill that is expected to go on: of a count that is zero for most of a night each such event is
        // above its prediction, and without those between them, which are not heard, they would be a shift.
        const bool ends_rest = longer && expected;
        double evidence = 0.0;
        // What the clock brings is learned slowly against the last target: a few errors of one side each night are no drift. Nor is what a pause has
        // often brought.
        if (error_scale::is_known(context) && !quiet && !standing && !ends_rest && !known && error_scale::vague(context) < error_scale::VAGUE_HEARD) {
            // Nor less than an error usually is, in a state in which they are smaller, as of a motor that idles.
            const double usually = error_scale::usual(context), matters = over < usually ? max(readable, usually) : readable;
            const drift::Least least = over > 0.0 ? drift::Least{readable / over, matters / over} : drift::Least{};
            const bool noticed = !episodes::is_unnoticed(episodes::episode(state.monitor, e, episodes::DRIFT));
            // A drift that holds learning is heard all the same: of targets that are gross in turn, the others' errors become smaller by their
            // context alone, and are all that shows so.
            const bool holds = r.learn[1] == HOLD, less = holds || context.number[error_scale::PLAIN] < error_scale::usual(context);
            evidence = min(drift::observe(detector, heard, budget, holds, counts && r.anomaly, least, noticed, less), SCORE_MOST);
        }
        const days::Days by_day(state, j.k, e);
        const days::Usual of = usual_of(state, e);
        double* day = by_day.number;
        const double day_part = 1000.0 * gap / error_scale::DAY_MS, days_part = days::part_of(day_part);
        if (new_stay(state.learner.w)) days::change(day, state.learner.w.unsure[DOUBTS] * days_part);
        const bool pulses = error_scale::comes_in_pulses(context, j.y);
        const bool held = pulses || days::is_held(context.number[error_scale::SEEN], static_cast<double>(j.n), day_part);
        if (held || (!quiet && !standing)) {
            // A fault that goes one way for a day goes along with whatever input does so, and the slope is that of the whole pool.
            const bool teaches = !held && !episodes::any_open(state.monitor, e, 3);
            days::observe(by_day, of, j.u, j.y, static_cast<double>(j.steps[1]), {context.pool_number[error_scale::STEP], budget * days_part, entities, teaches, pulses});
        }
        const hours::Hours by_hour(state, j.k, e);
        const double hour_part = HOURS * day_part;
        if (!quiet && !standing && hours::EVENTS_LEAST * hour_part <= 1.0) {
            const LearnerState& l = state.learner;
            const Range range = range_of(state, j.k);
            const Entity entity(l.entity_fields, l.entity.row(e));
            hours::observe(by_hour, l.p, l.w, entity, of, j.u, j.y, j.steps, j.target_time, {context.pool_number[error_scale::STEP], budget * hour_part, entities, range.low, range.high});
        }
        const double usual_error = error_scale::usual(context), off = hours::off(by_hour.number, usual_error);
        double* episode = episodes::episode(state.monitor, e, episodes::DRIFT);
        // Of pulses one event shows little, and their mean of a day much.
        const double usual_of_day = pulses ? usual_error / max(day[days::USUAL], 1.0) : usual_error;
        // Days and hours are judged at work: of a machine that has stopped they are as they were, which neither begins an alert nor keeps one
        // of errors open. What comes in pulses stops with each, and its days go on.
        const bool of_days = detector.number[drift::CHANGE] >= drift::BY_DAYS && episode[episodes::OPEN] != 0.0;
        const bool stopped = quiet && error_scale::stood(context) >= stop && !of_days;
        const double at_work = stopped ? 0.0 : off, of_day = stopped && !pulses ? 0.0 : days::crept(day, usual_of_day);
        const double crept = min(max(of_day, at_work), SCORE_MOST);
        if (j.n >= r.warmup) {
            // What creeps from day to day is the new normal before the next one is over, with which others may begin.
            const bool creeps = crept > mean_shift::HOLD, by_days = detector.number[drift::CHANGE] >= drift::BY_DAYS && creeps;
            const double longest = by_days && r.absorb_after[episodes::DRIFT] == 0 ? days::LASTS / days_part : absorb_after(r, episodes::DRIFT, budget);
            // A rest says nothing of errors to come: a machine that pauses has not recovered. One that has stopped has no errors any more.
            const bool calm = drift::is_calm(detector);
            const double score = max(evidence, crept);
            if (crept > 1.0 && evidence < 1.0 && episode[episodes::OPEN] == 0.0) detector.number[drift::CHANGE] = at_work == crept ? drift::BY_HOURS + (by_hour.number[hours::FAR] > 0.0 ? 0.0 : 1.0) : drift::BY_DAYS + (day[days::judged(day) + days::FAR] > 0.0 ? 0.0 : 1.0);
            episodes::Heard event{j.n, j.time, score, evidence >= 1.0 || crept > 1.0, (calm || quiet) && !creeps, longest, calm ? 0.0 : stop};
            if (evidence >= 1.0) {
                // Machines that stand several times a day: what has been an alert of a few of them is none of the others.
                double& calmed = context.pool_number[error_scale::CALMED];
                const bool smaller = detector.number[drift::CHANGE] == drift::SMALLER;
                event.often = smaller && calmed >= CALMED_OFTEN, event.back = detector.number[drift::CHANGE] == drift::LARGER;
                if (smaller) calmed += 1.0;
            }
            phase[1] = episodes::step(episode, episodes::DRIFT, event, r, phase + ENDED + 1);
            if (phase[ENDED + 1] == episodes::ABSORBED) {
                if (!by_days) drift::rebase(detector);
                // Else the last one is as those before, and no better a baseline than these.
                if (days::crept(day, usual_of_day) > mean_shift::HOLD) days::rebase(day);
                if (off > mean_shift::HOLD) hours::rebase(by_hour.number);
            }
            number[3] = score;
        }
    }
    const double usual = context.number[error_scale::SIZE];
    const double last = last_of(state, e);
    const double naive = state.learner.p.lags > 0 ? std::fabs(j.y - last) : size;  // without past targets an event counts once
    phase[LEARNS] = learns(state, e, j.n, usual > 0.0 ? (size - naive) / usual : HOLD_MOST);
    if (rests && (r.anomaly || r.drift) && error_scale::stood(context) >= REST_TAUGHT && j.n % SLOW_EVERY != 0) phase[LEARNS] = 0;
    // Whatever an episode does to the learner, the interval and the scale go on: errors of a model that stands still grow.
    const interval::Interval width = interval_of(state, {j.k, e});
    const i64 learned = static_cast<i64>(context.number[error_scale::SEEN]);  // of all but those at rest
    const bool apart = expected && interval::rest_apart(width, left, j.n - learned);
    if (expected) interval::learn_rest(width, left, still, r.level);
    error_scale::take_target(context, j.y, still, rests);
    if (rests) {
        if (!apart) interval::hold(width, learned, r.level, j.context[0]);
        return score;
    }
    const double over = scale > 0.0 ? min(heard_size / scale, OVER_MOST) : heard_size > 0.0 ? 1.0 : 0.0;
    error_scale::learn_wider(context, state.learner.w.unsure, error, over);
    const double passing = error_scale::passing(context);
    error_scale::learn(context, j.answer, error / passing, heard_size / passing, moment_of(state, j.k, j.context, j.time), entities);
    interval::observe(width, learned, over, unit, r.level, 1.0 / events, j.context[0], allowed == 1.0, apart);
    return score;
}

// Is there something to report? The weights before learning are told then, and every now and again.
static inline bool heed(const EngineState& state, const Learner& l, i64 e, i64 n) {
    const Reported& told = state.told;
    const bool loud = told.phase[0] != episodes::UNCHANGED || told.phase[1] != episodes::UNCHANGED;
    if (loud || n % WEIGHT_EVERY == 0) implicit_weights(l, told.weights);
    if (loud)
        for (int kind = 0; kind < episodes::KINDS; ++kind) {
            const double* episode = episodes::episode(state.monitor, e, kind);
            told.number[3 * kind + 1] = episode[episodes::SINCE_TS];
            told.number[3 * kind + 2] = episodes::absorbed_after(episode, n);
        }
    return loud;
}

static SSM_INLINE void keep_reference(const EngineState& state, i64 e, i64 n) {
    if (n % WEIGHT_EVERY != 0) return;
    float* reference = state.monitor.reference_fields.weights.in(state.monitor.reference.row(e));
    for (i64 j = 0; j < state.learner.p.L; ++j)
        reference[j] += static_cast<float>(WEIGHT_RATE) * (state.told.weights[j] - reference[j]);
}

// Half of an interval while no error of the entity is known, in the target's unit; 0 once one is. Where labels come late, hundreds of events
// may be predicted by then: as wide as Laplace's distribution with the spread of its labels, which leans on the pool's while there are few.
static SSM_INLINE double width_by_labels(const EngineState& state, const Learner& l, const Place& at) {
    if (error_scale::Scale(state, at.k, at.e).number[error_scale::SIZE] > 0.0) return 0.0;
    return l.w.scale[8 + 2 * VALUE + 1] * std::sqrt(0.5) * -series::log(1.0 - state.rules.level);
}

// The interval is that of the gates' answer, whose errors have a size; in the dead band it may have to reach the last target.
static SSM_INLINE HalfWidths tell(const EngineState& state, const Learner& l, const Predictions& out, i64 t, const Place& at, const Said& said, const Event& event, bool labels = false) {
    const double answer = l.w.judged[0] = said.answer;
    HalfWidths half = half_widths(state, at, answer, event);
    const double least = labels ? width_by_labels(state, l, at) : 0.0;
    half.below = max(half.below, least), half.above = max(half.above, least);
    half.below = min(half.below, answer - l.w.base[LEAST]), half.above = min(half.above, l.w.base[MOST] - answer);
    out.yhat[t] = said.prediction, out.lower[t] = min(answer - half.below, said.prediction), out.upper[t] = max(answer + half.above, said.prediction);
    out.score[t] = 0.0, out.warmup[t] = l.s.n < state.rules.warmup, out.n[t] = l.s.n;
    out.fleet[t] = fleet_share(l.p, l.w);
    return half;
}

// Ask for what an event will touch, so that it is in the cache by then: of the entity after next its rows, of the next
// what lies further, at places that the rows say. A processor can wait for some lines only at a time, so each step of an
// event asks for a part.
static SSM_INLINE void prefetch(const void* from, i64 bytes) {
    for (i64 i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i, 1, 2);
}
static SSM_INLINE void prefetch(const Table& table, i64 row, i64 from, i64 to) { prefetch(table.row(row) + from, to - from); }
enum Part { FOR_ANSWER, FOR_LEARNING, FOR_JUDGING, FOR_DRIFT };
static SSM_ALONE void prefetch_entity(const EngineState& state, i64 e, Part part) {
    const LearnerState& l = state.learner;
    const MonitorState& m = state.monitor;
    switch (part) {
        case FOR_ANSWER:
            prefetch(m.clock, e, 0, 32);
            prefetch(m.episodes, e, 0, 144);
            prefetch(m.interval, e, 0, 64);
            prefetch(m.error_scale, e, 0, m.error_scale_fields.cell.at);
            return prefetch(l.entity, e, 0, l.entity_fields.v_mean.at);
        case FOR_LEARNING: return prefetch(l.entity, e, l.entity_fields.v_mean.at, l.entity_fields.day.at);
        case FOR_JUDGING:
            if (state.rules.channels[LEVELS_CHANNEL]) prefetch(m.levels, e, 0, m.levels_fields.size);
            if (state.rules.channels[NOVELTY_CHANNEL]) prefetch(m.novelty, e, 0, m.novelty_fields.cell.at);
            if (state.rules.channels[SHAPE_CHANNEL]) prefetch(m.shape, e, 0, m.shape_fields.distance.at);
            return;
        case FOR_DRIFT:
            if (!state.rules.drift) return;
            prefetch(m.drift, e, 0, m.drift_fields.histogram.at);
            prefetch(m.days, e, 0, m.days_fields.base.at);  // which the end of a day reads only
            prefetch(m.hours, e, 0, m.hours_fields.base.at);
    }
}
static inline void prefetch_further(const EngineState& state, i64 e, const i64* steps) {
    const MonitorState& m = state.monitor;
    const EntityFields& f = state.learner.entity_fields;
    const i64 hour = min(max(steps[0], i64(0)), i64(HOURS - 1)), week = min(max(24 * steps[1] + steps[0], i64(0)), i64(WEEK - 1));
    if (state.learner.p.seasons)
        for (i64 day = 0; day < 7; ++day) prefetch(f.season.in(state.learner.entity.row(e)) + 4 * (24 * day + hour), 16);
    for (const i64 at : {hour, HOURS + week}) {
        char* scale = m.error_scale.row(e);
        prefetch(m.error_scale_fields.cell.in(scale) + at, 2), prefetch(m.error_scale_fields.visits.in(scale) + at, 1);
    }
    if (state.rules.channels[NOVELTY_CHANNEL]) {
        const novelty::Novelty s(m, e);
        prefetch(s.cell + 2 * week, 8);
        prefetch(s.cell_events + week, 1);
    }
    if (state.rules.drift) drift::prefetch(drift::Drift(m, e));
}

static SSM_INLINE bool inside(const Events& events, i64 t) {
    return static_cast<u64>(events.pool_of[t]) < static_cast<u64>(events.pools) &&
           static_cast<u64>(events.row_of[t]) < static_cast<u64>(events.rows);
}
static SSM_INLINE double share_of(const Events& events, i64 t) { return events.share ? events.share[t] : 1.0; }
static SSM_INLINE Event event_of(const Params& p, const Events& events, i64 t) {
    return {events.u + t * p.C, events.steps + 2 * t, static_cast<double>(events.ts[t])};
}

// The numbers of a pool's trial, null without a challenger. One that has won takes the entity's place.
static SSM_INLINE double* enter(const EngineState& state, i64 k, i64 e) {
    double* trial = trial_of(state.challenger, k);
    if (trial && trial[STAGE_OF_TRIAL] == TRIAL_WON) take_entity(state.learner, state.challenger, e);
    return trial;
}
static SSM_INLINE void end_of_trial(const EngineState& state, double* trial, i64 k, i64 e) {
    const bool on = trial[STAGE_OF_TRIAL] == TRIAL_ON;
    advance_trial(state.learner, state.challenger, trial, k);
    if (on && trial[STAGE_OF_TRIAL] == TRIAL_WON) hours::forget(hours::Hours(state, k, e));
}
// Of an event that is not learned, past values and counts go on all the same.
static SSM_INLINE void learn_or_follow(Learner& l, const Event& event, double y, bool learned) {
    if (learned) return learn(l, event, y);
    const double kept = kept_target(l.p, l.s, l.pool, y);
    widen(l.pool, y, kept);
    learn_past(l.p, l.w, l.s, l.pool, l.taken(event), kept);
}
// The challenger of learner `l` meets the target, before `l` learns it.
static SSM_ALONE void challenge(const EngineState& state, const Place& at, const Event& event, double y, const Learner& l, double* trial) {
    Learner challenger(state.challenger.learner, at.k, at.e);
    const double kept = l.w.made[PREDICTION], fresh = challenger.w.made[PREDICTION];
    if (challenger.s.n > 0) compare(trial, y, kept, fresh, usual_error(l.s, l.pool, ROUNDING * std::fabs(y), 0.0));
    learn_or_follow(challenger, l.taken(event), y, state.told.phase[LEARNS]);
}

// Events start, start + 1, … until the end, a report, an expired entity or lack of room.
static Stop run(const EngineState& state, const Events& events, i64 start, double* mark_of, const Predictions& out) {
    const Params& p = state.learner.p;
    const Rules& r = state.rules;
    const bool far = state.monitor.clock.rows > NEARBY, in_time = r.anomaly_seconds > 0.0 || r.drift_seconds > 0.0;
    std::optional<Learner> learner;  // most events are of the pool of the event before
    i64 pool = -1;
    for (i64 t = start; t < events.count; ++t) {
        if (!inside(events, t)) return {t, NO_ROW};
        const i64 k = events.pool_of[t], e = events.row_of[t];
        const Event event = event_of(p, events, t);
        const double y = events.y[t];
        const i64 next = far && t + 1 < events.count && inside(events, t + 1) ? events.row_of[t + 1] : -1;
        const i64 after = far && t + 2 < events.count && inside(events, t + 2) ? events.row_of[t + 2] : -1;
        if (after >= 0) prefetch_entity(state, after, FOR_ANSWER);
        const double mark = moved_mark(*mark_of, event.ts, r.ttl);
        double* clock = clock_of(state, e);
        if (expired(clock, mark, r.ttl)) return {t, EXPIRED};
        if (events.stopped && episodes::any_open(state.monitor, e, events.stopped[t])) return {t, STOPPED};
        double* trial = enter(state, k, e);
        const bool challenged = trial && trial[STAGE_OF_TRIAL] == TRIAL_ON;
        if (k == pool) learner->enter(state.learner, e);
        else learner.emplace(state.learner, pool = k, e);
        Learner& l = *learner;
        const i64 n = l.s.n;
        const double prediction = predict(l, event, n == 0);
        Want want = wants(l, !unknown(y));
        Said said{shifted(l.w.made[ANSWER], l.w.base), prediction};
        if (challenged) {
            const Learner challenger(state.challenger.learner, k, e);
            said = consult(challenger, trial, l.taken(event), said, challenger.s.n == 0);
            if (want == ENOUGH) want = wants(challenger, !unknown(y));
        }
        if (want != ENOUGH) return {t, want == WANT_SLOTS ? MORE_SLOTS : SECOND_ENTITY};
        if (after >= 0) prefetch_entity(state, after, FOR_LEARNING);
        *mark_of = mark;
        tell(state, l, out, t, {k, e}, said, event);
        if (after >= 0) prefetch_entity(state, after, FOR_JUDGING);
        if (next >= 0) prefetch_further(state, next, events.steps + 2 * (t + 1));
        if (unknown(y)) {
            advance_unlearned(clock, event.ts, mark, r.ttl);
            if (in_time && events.share && events.share[t] > 0.0) count_other(state, e);
            continue;
        }
        learn_running_gap(state, e, event.ts);
        advance(clock, event.ts, mark, r.ttl);
        out.score[t] = judge(state, e, {k, n, event.ts, y, said.answer, n > 0, event.u, event.steps, event.steps,
                                       events.allowance ? events.allowance + t : nullptr, share_of(events, t), event.ts});
        begin_gap(state, e);
        if (after >= 0) prefetch_entity(state, after, FOR_DRIFT);
        const bool loud = heed(state, l, e, n), learned = state.told.phase[LEARNS];
        if (challenged) challenge(state, {k, e}, event, y, l, trial);
        learn_or_follow(l, event, y, learned);
        if (trial && trial[STAGE_OF_TRIAL] != TRIAL_OVER) end_of_trial(state, trial, k, e);
        if (loud) return {t + 1, REPORT};
        if (learned) keep_reference(state, e, n);
    }
    return {events.count, DONE};
}

// Room for one record more: those that have waited too long, or are too many, wait no more.
static void drop(Ring& ring, const Late& late, i64* tally, double now, double ttl) {
    while (ring.oldest < ring.met) {
        const i64 i = ring.oldest;
        const double since = static_cast<double>(ring.q.ts[ring.place(i)]);
        const bool waited = late.labels && since < now - late.wait, ahead = since > now + ttl;
        if (i > ring.met - late.most && !waited && !ahead) return;
        ring.close(i, tally, DROPPED);
    }
}

// The record that an event brings the target of, −1 where there is none; records whose target failed to come go.
static i64 due(Ring& ring, const Late& late, i64* tally, double time, bool known) {
    if (late.events > 0) {
        const i64 i = ring.met - late.events;
        if (i < ring.oldest || !ring.open(i)) return -1;
        if (known) return i;
        ring.close(i, tally, MISSED);
        return -1;
    }
    for (i64 i = ring.oldest; i < ring.met; ++i) {
        const double since = static_cast<double>(ring.q.ts[ring.place(i)]), at = since + late.ahead;
        if (!ring.open(i) || since > time) continue;  // a clock that is ahead keeps nothing behind it from its target
        if (at > time) return -1;
        if (time <= at + late.late) return known ? i : -1;
        ring.close(i, tally, MISSED);
    }
    return -1;
}

// A target that nothing was predicted for: the entity's first is its beginning, others are lags only.
static void take(const Learner& l, Entity& s, Pool& pool, const i64* steps, double time, double y) {
    const bool first = s.n == 0;
    const double kept = kept_target(l.p, s, pool, y);
    if (first) {
        l.w.base[BASE] = l.w.base[LOG_BASE] = 0.0;
        learn_target(l.p, l.w, s, pool, y, kept);
    } else {
        widen(pool, y, kept);
    }
    take_target(l.p, s, steps, time, kept);
    if (first) count(s, pool, time);
}

// places of `todo`: how far an item is, whether its target is among the lags already, rows of Settled in use, its pool
enum { STAGE, TAKEN, ROWS, POOL };
enum { BEFORE, PREDICT, ITSELF };

// One record meets its target: judged, and learned. Returns whether there is something to report.
struct Meeting {
    i64 t, row, at, k;     // the item; the row of Settled; the record's place; the pool
    const PendingTables& q;  // with the learner's answers
    bool both;             // a challenger has predicted, too
    double y;
    const i64* own;        // hour and weekday of the item itself
    bool push;             // the target is not among the lags yet
    double allowance, share;  // as of `Events`, of the item
    double time;           // of the item, ms
};

// The learner meets the target of a record, which is in its scratch if it counts. learned: as far as an episode lets it
static void learn_record(const LateState& late, Learner& l, const Meeting& m, const Event& event, bool counts, bool learned) {
    const Params& p = l.p;
    const PendingTables& q = m.q;
    const std::int8_t* flag = q.flag + m.at * RECORD_FLAGS;
    const double kept = kept_target(p, l.s, l.pool, m.y);
    if (counts && learned) {
        const bool heads = l.pool.n > 0 && (p.lags == 0 || flag[YOUNG] != 1);
        teach(l, l.taken(event), m.y, kept, heads, heads && flag[KNEW] == 1);
    } else {
        widen(l.pool, m.y, kept);
    }
    if (m.push) {
        const i64 steps[2] = {q.steps[2 * m.at], q.steps[2 * m.at + 1]};  // not every record has been recalled
        const bool ahead = late.late.is_ahead();
        if (ahead) take_target(p, l.s, m.own, m.time, kept);
        else take_target(p, l.s, steps, event.ts, kept);
    }
    if (counts) count(l.s, l.pool, event.ts);
}
static SSM_INLINE bool counts_for(const Learner& l, const PendingTables& q, i64 at) {
    return l.p.lags == 0 || q.flag[at * RECORD_FLAGS + YOUNG] != 1 || l.s.n == 0;
}

// The challenger of learner `l` meets the target of a record, before `l` learns it; of one that it has not predicted it
// takes the target alone.
static SSM_ALONE void challenge_record(const EngineState& state, const LateState& late, const Learner& l, i64 e, const Meeting& m, double* trial, bool learned) {
    Learner challenger(state.challenger.learner, m.k, e);
    const PendingTables& q = late.challenger;
    const double then = static_cast<double>(q.ts[m.at]);
    if (!m.both) {
        const bool ahead = late.late.is_ahead();
        const i64 steps[2] = {q.steps[2 * m.at], q.steps[2 * m.at + 1]};
        if (m.push) take(challenger, challenger.s, challenger.pool, ahead ? m.own : steps, ahead ? m.time : then, m.y);
        else widen(challenger.pool, m.y, kept_target(challenger.p, challenger.s, challenger.pool, m.y));
        return;
    }
    const double kept = m.q.made[m.at * MADE + PREDICTION], fresh = q.made[m.at * MADE + PREDICTION];
    if (q.flag[m.at * RECORD_FLAGS + YOUNG] != 1) compare(trial, m.y, kept, fresh, usual_error(l.s, l.pool, ROUNDING * std::fabs(m.y), 0.0));
    challenger.w.otherwise[0] = UNKNOWN;  // of the learner's answers alone
    const Meeting own{m.t, m.row, m.at, m.k, q, true, m.y, m.own, m.push, m.allowance, m.share, m.time};
    learn_record(late, challenger, own, {late.room.u, late.room.steps, then}, counts_for(challenger, q, m.at), learned);
}

static bool settle(const EngineState& state, const LateState& late, Learner& l, i64 e, const Meeting& m) {
    const PendingTables& q = m.q;
    const Settled& settled = late.settled;
    const std::int8_t* flag = q.flag + m.at * RECORD_FLAGS;
    const bool ahead = late.late.is_ahead(), young = flag[YOUNG] == 1;
    const i64 n = l.s.n;
    const double then = static_cast<double>(q.ts[m.at]);
    const double* number = q.number + RECORD_NUMBERS * m.at;
    const double* both = m.both ? late.predicted + m.at * PREDICTED : nullptr;
    const double answer = both ? both[BOTH_ANSWER] : shifted(q.made[m.at * MADE + ANSWER], q.base + m.at * BASES);
    const double prediction = both ? both[BOTH_PREDICTION] : q.made[m.at * MADE + PREDICTION];
    const bool counts = counts_for(l, q, m.at);
    settled.item[m.row] = m.t, settled.ts[m.row] = q.ts[m.at], settled.y[m.row] = m.y;
    settled.yhat[m.row] = prediction, settled.lower[m.row] = min(answer - number[BELOW], prediction);
    settled.upper[m.row] = max(answer + number[ABOVE], prediction);
    settled.warmup[m.row] = n < state.rules.warmup, settled.n[m.row] = n;
    settled.fleet[m.row] = number[SHARE];
    const Event event{late.room.u, late.room.steps, then};
    double score = 0.0;
    bool loud = false;
    state.told.phase[LEARNS] = 1;
    if (counts) {
        const i64* predicted = late.room.steps;
        place_scale(state, {m.k, e}, answer, moment_of(state, m.k, predicted, then), m.y);
        double allowance = m.allowance;  // an item may bring the targets of several records
        score = judge(state, e, {m.k, n, then, m.y, answer, !young, late.room.u, ahead ? m.own : predicted, predicted, &allowance, m.share, ahead ? m.time : then});
        loud = heed(state, l, e, n);
    }
    const bool learned = state.told.phase[LEARNS];
    double* trial = trial_of(state.challenger, m.k);
    if (trial && trial[STAGE_OF_TRIAL] == TRIAL_ON) challenge_record(state, late, l, e, m, trial, learned);
    learn_record(late, l, m, event, counts, learned);
    if (counts && learned && !loud) keep_reference(state, e, n);
    if (trial && counts && trial[STAGE_OF_TRIAL] != TRIAL_OVER) end_of_trial(state, trial, m.k, e);
    settled.score[m.row] = score;
    return loud;
}

// Events (predicting) or labels start, start + 1, … as in `run`; one may be left and taken up again at its stage.
static Stop run_late(const EngineState& state, const LateState& late, const Events& events, i64 start, double* mark_of,
                     const Predictions& out, bool predicting) {
    const Params& p = state.learner.p;
    const Rules& r = state.rules;
    const Late& rule = late.late;
    i64 *todo = late.todo, *tally = late.tally, t = start;
    const bool ahead = rule.is_ahead();
    while (t < events.count) {
        const i64 e = events.row_of[t];
        if (predicting ? !inside(events, t) : static_cast<u64>(e) >= static_cast<u64>(events.rows)) return {t, NO_ROW};
        i64 k = todo[POOL] = events.pool_of[t], i = -1;
        const double time = static_cast<double>(events.ts[t]), y = events.y[t];
        double* clock = clock_of(state, e);
        const bool known = !unknown(y);
        bool push = true;
        Ring ring(late.q, e);
        if (predicting) {
            const double mark = moved_mark(*mark_of, time, r.ttl);
            const Event event = event_of(p, events, t);
            if (todo[STAGE] == BEFORE) {
                if (expired(clock, mark, r.ttl)) return {t, EXPIRED};
                // Before it brings any target.
                if (events.stopped && todo[TAKEN] == 0 && episodes::any_open(state.monitor, e, events.stopped[t])) return {t, STOPPED};
                if (ahead) i = due(ring, rule, tally, time, known);
                if (i < 0) {
                    const double* trial = enter(state, k, e);
                    if (ahead && known && todo[TAKEN] == 0) {
                        Learner l(state.learner, k, e);
                        take(l, l.s, l.pool, events.own + 2 * t, time, y);
                        if (trial && trial[STAGE_OF_TRIAL] == TRIAL_ON) {
                            Learner challenger(state.challenger.learner, k, e);
                            take(challenger, challenger.s, challenger.pool, events.own + 2 * t, time, y);
                        }
                    }
                    todo[STAGE] = PREDICT, todo[TAKEN] = 0;
                    continue;
                }
                push = todo[TAKEN] == 0;
                todo[TAKEN] = 1;
            } else if (todo[STAGE] == PREDICT) {
                drop(ring, rule, tally, clock[GAPS_COUNTED] > 0.0 ? later(clock[LAST], time, r.ttl) : time, r.ttl);
                if (ring.open(ring.met)) return {t, MORE_PLACES};
                const double* trial = enter(state, k, e);
                Learner l(state.learner, k, e);
                const bool first = ring.met == 0, both = trial && trial[STAGE_OF_TRIAL] == TRIAL_ON;
                const double prediction = predict(l, event, first);
                Said said{shifted(l.w.made[ANSWER], l.w.base), prediction};
                if (wants(l, false) == WANT_ENTITY) return {t, SECOND_ENTITY};
                const i64 at = ring.place(ring.met);
                if (both) {
                    Learner challenger(state.challenger.learner, k, e);
                    const bool fresh = challenger.s.time == 0.0;
                    said = consult(challenger, trial, l.taken(event), said, fresh);
                    if (wants(challenger, false) == WANT_ENTITY) return {t, SECOND_ENTITY};
                    follow(p, challenger.w, challenger.s, challenger.pool, l.taken(event), fresh);
                    remember(late.challenger, at, challenger, events, t, {});
                }
                *mark_of = mark;
                const HalfWidths half = tell(state, l, out, t, {k, e}, said, event, rule.labels && p.lags == 0);
                learn_running_gap(state, e, time);
                advance(clock, time, mark, r.ttl);
                follow(p, l.w, l.s, l.pool, l.taken(event), first);
                remember(late.q, at, l, events, t, {half.below, half.above, out.fleet[t]});
                if (late.predicted) {
                    double* kept = late.predicted + at * PREDICTED;
                    kept[BOTH] = both, kept[BOTH_ANSWER] = said.answer, kept[BOTH_PREDICTION] = said.prediction;
                }
                ++ring.met;
                if (rule.labels && known) {
                    todo[STAGE] = ITSELF;
                } else {
                    todo[STAGE] = BEFORE;
                    ++t;
                }
                continue;
            } else {
                i = ring.met - 1;
            }
        } else {
            i = rule.by_id ? ring.find(late.q.key, events.key[t]) : ring.find(late.q.ts, events.ts[t]);
            if (i >= 0 && static_cast<double>(late.q.ts[ring.place(i)]) < clock[LAST] - rule.wait) {
                ring.close(i, tally, DROPPED);
                continue;
            }
            if (i < 0) {
                ++t;
                continue;
            }
        }
        const i64 at = ring.place(i), row = todo[ROWS];
        k = todo[POOL] = rule.fleet ? late.q.pool[at] : e;  // labels come from another source than events
        if (static_cast<u64>(k) >= static_cast<u64>(events.pools)) return {t, NO_ROW};
        if (row == late.settled.rows) {
            todo[TAKEN] = push ? 0 : 1;
            return {t, MORE_ROWS};
        }
        const double* trial = enter(state, k, e);
        const bool both = late.predicted && late.predicted[at * PREDICTED + BOTH] == 1.0;
        // What the challenger said is the learner's own once it has its place.
        const PendingTables& q = both && trial && trial[STAGE_OF_TRIAL] == TRIAL_WON ? late.challenger : late.q;
        Learner l(state.learner, k, e);
        Want want = ENOUGH;
        if (counts_for(l, q, at)) {
            recall(q, at, late.room, l);
            want = wants(l, true);
        }
        if (want == ENOUGH && both && trial && trial[STAGE_OF_TRIAL] == TRIAL_ON) {
            const Learner challenger(state.challenger.learner, k, e);
            if (counts_for(challenger, late.challenger, at)) {
                recall(late.challenger, at, late.room, challenger);
                want = wants(challenger, true);
            }
        }
        if (want != ENOUGH) {
            todo[TAKEN] = push ? 0 : 1;
            return {t, want == WANT_SLOTS ? MORE_SLOTS : SECOND_ENTITY};
        }
        ++todo[ROWS];
        ring.close(i, tally, MATCHED);
        const bool loud = settle(state, late, l, e, {t, row, at, k, q, both, y, events.own + 2 * t, push, events.allowance ? events.allowance[t] : 1.0, share_of(events, t), time});
        if (todo[STAGE] == ITSELF || !predicting) {
            todo[STAGE] = BEFORE;
            ++t;
        }
        if (loud) return {t, REPORT};
    }
    return {t, DONE};
}

// What `run` would predict of an event; fills the scratch. An entity whose challenger has won takes its place, as at its next event.
static double predict_event(const EngineState& state, i64 k, i64 e, const double* u, const i64* steps, double ts) {
    const Event event{u, steps, ts};
    const double* trial = enter(state, k, e);
    const Learner l(state.learner, k, e);
    // Where targets come later, events have gone by before the first of them is learned: `follow` has their time.
    const double prediction = predict(l, event, l.s.n == 0 && l.s.time == 0.0);
    if (!trial || trial[STAGE_OF_TRIAL] != TRIAL_ON) return prediction;
    const Learner challenger(state.challenger.learner, k, e);
    const bool first = challenger.s.n == 0 && challenger.s.time == 0.0;
    return consult(challenger, trial, l.taken(event), {shifted(l.w.made[ANSWER], l.w.base), prediction}, first).prediction;
}

// The learner alone: predict, then learn.
static Stop learner_run(const LearnerState& state, const Events& events, i64 start, double* out) {
    for (i64 t = start; t < events.count; ++t) {
        if (!inside(events, t)) return {t, NO_ROW};
        Learner l(state, events.pool_of[t], events.row_of[t]);
        const Event event = event_of(state.p, events, t);
        out[t] = predict(l, event, l.s.n == 0);
        const bool labelled = !unknown(events.y[t]);
        const Want want = wants(l, labelled);
        if (want != ENOUGH) return {t, want};
        if (labelled) learn(l, event, events.y[t]);
    }
    return {events.count, ENOUGH};
}

extern const Functions functions;
const Functions functions{
    SSM_NAME(SSM_ISA), run, run_late, predict_event, learner_run,
    [](const LearnerState& state, i64 k, i64 e, const double* u, const i64* steps, double ts) {
        Learner l(state, k, e);
        return predict(l, {u, steps, ts}, l.s.n == 0);
    },
    [](const LearnerState& state, i64 k, i64 e, const double* u, const i64* steps, double ts, double y) {
        Learner l(state, k, e);
        learn(l, {u, steps, ts}, y);
    },
    [](const LearnerState& state, i64 k, i64 e, float* out) {
        implicit_weights(Learner(state, k, e), out);
        return fleet_share(state.p, state.w);
    },
    [](const LearnerState& state, i64 k, i64 e, bool labelled) { return static_cast<i64>(wants(Learner(state, k, e), labelled)); },
    [](const MonitorState& m, i64 e, i64 hour) { return interval::half_width(interval::Interval(m, e), hour); },
    [](const MonitorState& m, i64 e, double rate, double* pool, double errors, double unit) { return interval::anomaly_bound(interval::Interval(m, e, pool), rate, {errors, unit}); },
    [](const MonitorState& m, i64 e, i64 n, double error, double level, double rate, i64 hour) {
        interval::observe(interval::Interval(m, e), n, error, 1.0, level, rate, hour);
    },
    [](const EngineState& state, i64 k, i64 e, double error, const i64* steps, const float* inputs) {
        const error_scale::Scale s(state, k, e);
        const error_scale::Moment at{steps, 1e6 * error_scale::WEEK_MS};  // all inputs have counted for long
        error_scale::predict(s, 0.0, at, inputs, 0.0);
        const double over = s.number[error_scale::SIZE] > 0.0 ? error / s.room[error_scale::BOTH] : 0.0;
        error_scale::learn(s, 0.0, error, std::fabs(error), at, 1.0);
        return over;
    },
    [](const MonitorState& m, i64 e, double error, double budget, bool hold) {
        return drift::observe(drift::Drift(m, e), error, budget, hold);
    },
    [](const MonitorState& m, i64 e, double value, double week_seconds, double events) {
        return novelty::observe(novelty::Novelty(m, e), value, week_seconds, events, 0.0, false);
    },
    [](const MonitorState& m, i64 e, double value, double events, double time) {
        const shape::Shape s(m, e);
        return shape::observe(s, value, events, unknown(time) || unknown(value) ? 0.0 : shape::lacking(s, time, INFINITE));
    },
    [](const MonitorState& m, i64 e, double value, const double* columns, i64 features, double events, double absorb, double* room) {
        return mean_shift::observe(mean_shift::Levels(m, e), value, columns, features, events, absorb, {0.0, 1.0, false}, room).score;
    },
    [](const MonitorState& m, i64 e, double* out, i64 count) { mean_shift::causes(mean_shift::Levels(m, e), out, count); },
    [](const double* trial) { return share_of_challenger(trial); },
    [](const MonitorState& m, i64 e, i64 kind, i64 n, double ts, double score, bool alarm, bool calm, double absorb, const Rules& rules) {
        i64 ended;
        return static_cast<i64>(episodes::step(episodes::episode(m, e, kind), kind, {n, ts, score, alarm, calm, absorb}, rules, &ended));
    },
};

}  // namespace ssm::SSM_ISA
