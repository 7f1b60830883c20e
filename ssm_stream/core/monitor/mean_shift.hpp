// Have the levels of an entity's columns moved? Fast means against slow baselines, joined, scaled to a budget.
//
// A column is the target or a feature, or the size of its steps, √|xₜ − xₜ₋₁| (the root tames heavy tails): a signal that
// trembles more, or is stuck, need not have moved. Of each:
//
//     gap = fast mean − baseline                     (exponential means over about 10 and 1,000 events)
//     z   = gap / its own prequential rms
//     w   = ν log(1 + z²/ν)                           about χ² with 1 degree of freedom, as z² is Student's t squared
//
// (w is the leading term of Wallace's normalising transformation of t, 1959.) ν, the degrees of freedom that stand behind the
// rms, is not the number of events: a gap that wanders slowly tells little about its own spread. It is counted as the gap's
// zero crossings, of which white noise gives acos(1 − FAST)/π an event (Rice 1944). So a column that has drifted to one side
// ever since, as a motor that warms up, does not alarm by going on, while a quiet one does by a small step.
//
// Two statistics share the budget: the mean of w over columns, their steps left out (many that move a little), whose limit is
// a χ² scaled to the mean and the variance that were observed (Box 1954; Nomikos & MacGregor 1995 for process monitoring),
// which needs no covariance matrix; and the largest w, of a column or its steps (one that moves alone), whose limit is χ²
// with 1 degree of freedom, by Bonferroni. The score is the larger of the two over its limit.
//
// While the score is high, baseline and rms stand nearly still, so that a fault of hours does not become the new normal while
// it lasts; a level that stays for thousands of events does, as there are no zero crossings then, so that ν falls. An excursion
// that was an alarm and comes back was a visit: when it ends, the rms is as if its first events had been learned, so that a mode
// that the process often changes to is usual, while a fault that was repaired is found again. Until then it is one alert, however
// often its score comes below the limit meanwhile. A mode that is far away is usual from its third visit on, if it comes more often
// than the budget's alarms.
//
// A category that stays for longer than a column needs to count, as the product that is made, moves levels on purpose, and so does a
// setpoint. What moves in as many events after its change, is the change: baselines go along, nothing is judged, and what they moved by
// is usual like a visit. A gap from before stays as it is, if it was no excursion. So it is where an entity has been away for as long as
// so many events: of the way from then to now nothing is known.
//
// What the limits get wrong (gaps that come in bursts, as of a controlled value after each change of its setpoint) is taken back
// as in interval.hpp: up a step of their log when an excursion ends that was an alarm, not before, so that it stays one while
// it lasts; down as much in a budget's worth of events; so that in the long run alarms come at the budget's rate.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"
#include "recurring.hpp"

namespace ssm::SSM_ISA::mean_shift {

constexpr double FAST = 0.1, SLOW = 0.001;
constexpr double HOLD = 0.5;   // score from which the baseline is held: before the alarm, as a ramp would be absorbed
constexpr double QUANTUM = 0.25;  // of a column's smallest step: its least scale, so that a step that stays is below every limit
constexpr double HELD = 0.1;   // share of the baseline's rate while it is held
constexpr i64 START = 30;      // events before the gap is measured: fast mean and baseline are the same at first
constexpr i64 WARMUP = 100;    // events of a column before it counts
constexpr double STEP_MOST = 1.0 / FAST;  // rms of the gap: one event moves z by at most 1
constexpr double W_MOST = 1.5; // of the largest w's limit; a mean that went further would take as long to come back
constexpr double SET_BACK = 0.95, STEPS_SET_BACK = 0.6;  // of that: a mean is there because it was set back; steps, that vary more, have been
constexpr double FARTHEST = 1e37;  // from the first value, in float32
constexpr i64 QUICK = 10, SETTLED = 1000 + START;  // events from which 1/n is below FAST; below all rates
constexpr i64 COUNT_MOST = 2000;   // events; then events and crossings are halved, and old ones are forgotten
constexpr double CROSSING = 0.6965423277339247;  // FAST π / acos(1 − FAST): degrees of freedom of one zero crossing
constexpr double VISIT_MOST = 100.0;  // events of an excursion that teach what is usual: of one visit, that is not yet much
constexpr double VISITED = 0.09520785288108556;  // 1 − (1 − SLOW)^VISIT_MOST
constexpr double STEP_LIMIT = 0.1;    // of the limits' log, an alarm
constexpr double AGAIN = 1.5 * STEP_LIMIT;  // of that correction: two alarms more than the budget's
constexpr double LIMIT_MOST = 3.0;    // of that correction: more than four times in size
constexpr double FADED = 2.6561398887587544e-06;  // FAST (1 − FAST)^WARMUP: of a step, so many events later
constexpr double PRIOR_DF = 4.0;   // columns that count as independent of each other before more is known
constexpr double JOINT_LEAST = 0.03, SCORE_MOST = 1e3;  // least mean and deviation of the joint statistic

// Columns of `number`: what the limits' log is off by; mean and mean square of the joint statistic, minus the prior's; events in
// a row in which the baseline is held; 1 if one of them was an alarm; events until the levels of a new stay are known.
enum { CORRECTION, JOINT, JOINT_SQUARE, HELD_FOR, ALARMED, STAY };

// D columns, then the sizes of their steps, W numbers with what fills the last vector. Means are from the first value on.
struct Levels {
    double* number;
    float *origin, *last, *quantum;    // (D,) the first value; the last, from the first on; the smallest step, 0: none yet
    float *mean, *base, *rms;          // (W,) fast mean, baseline, rms of their gap
    float* visit;                      // (W,) the rms, had it learned what is held
    std::uint16_t *events, *crossings; // (W,) zero crossings of the gap
    SSM_INLINE Levels(const MonitorState& m, i64 e) {
        char* row = m.levels.row(e);
        const LevelsFields& f = m.levels_fields;
        number = f.number.in(row), origin = f.origin.in(row), last = f.last.in(row), quantum = f.quantum.in(row), mean = f.mean.in(row), base = f.base.in(row);
        rms = f.rms.in(row), visit = f.visit.in(row), events = f.events.in(row), crossings = f.crossings.in(row);
    }
};

// Working space of an event, (W,) each, and a vector to spare.
enum { BUDGET, COLUMNS, JOINT_Z, SINGLE };  // of `limit`
struct Room {
    double *value;   // from the first value on
    double *heard;   // 1 where there is one, else 0
    double *origin;  // |first value|; of steps 0
    double *least;   // of the unit: a share of the smallest step, or its root
    double *df;      // ν
    double *square;  // z²
    double *far;     // w, before it is bounded
    double *part;    // w of the columns that count, else 0
    double *before;  // fast mean before the event
    double *limit;   // of the last budget
    SSM_INLINE Room(double* room, i64 D) {
        const i64 width = level_room(D);
        value = room, heard = room + width, origin = room + 2 * width, least = room + 3 * width, df = room + 4 * width;
        square = room + 5 * width, far = room + 6 * width, part = room + 7 * width, before = room + 8 * width, limit = room + 9 * width;
    }
};

// What a normal number exceeds in one event of `events` (Hastings 1955; Abramowitz & Stegun 26.2.23).
inline double normal_limit(double events) {
    const double r = std::sqrt(2.0 * series::log(max(events, 2.0)));
    return r - (2.515517 + r * (0.802853 + r * 0.010328)) / (1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308)));
}
// What a scaled χ² of this mean and variance exceeds as often as a normal number exceeds z (Wilson & Hilferty 1931). The fewer the
// degrees of freedom, the further it is off; from where it would turn back, it stays.
inline double chi_square_limit(double mean, double variance, double z) {
    const double df = 2.0 * mean * mean / variance;
    const double h = min(2.0 / (9.0 * df), 0.25 * z * z), cube = max(1.0 - h + z * std::sqrt(h), 0.1);
    return mean * cube * cube * cube;
}
// What w of one column or its steps exceeds, of D columns, at most once in so many events.
inline double single_limit(i64 D, double events) { return chi_square_limit(1.0, 2.0, normal_limit(4.0 * static_cast<double>(D) * events)); }
// What both limits are off by, as a factor.
inline double correction_of(const double* number) { return number[CORRECTION] > 0.0 ? series::exp(number[CORRECTION]) : 1.0; }
// The limits of a budget and so many columns; most events have those of the event before.
inline void set_limits(const Room& room, i64 D, double events) {
    double* limit = room.limit;
    const double columns = static_cast<double>(D);
    if (limit[BUDGET] == events && limit[COLUMNS] == columns) return;
    limit[BUDGET] = events, limit[COLUMNS] = columns;
    limit[JOINT_Z] = normal_limit(2.0 * events);
    limit[SINGLE] = single_limit(D, events);
}

// What a gap is measured in: its rms, and what rounding leaves of values of this size. origin: |first value|
// A column that has hardly moved has its smallest step for a scale: a flag that is set, a counter that counts, is no change.
SSM_INLINE double unit_of(double rms, double least, double origin, double base) {
    return max(rms, least) + 1e-9 * (origin + std::fabs(base)) + 1e-30;
}
SSM_INLINE double freedom_of(std::uint16_t crossings) { return max(CROSSING * crossings, 1.0); }
SSM_INLINE double bounded(double x) { return clip(x, FARTHEST); }
SSM_INLINE Vec<double> from(double whole) { return all(whole - 0.5); }  // whole numbers above this are not below `whole`

// How large the target's errors are: usually, in its unit, and that over what they are in this context. changed: a category has, which
// usually stays for `WARMUP` events, or the entity was away for so many; expected: at this time
struct Errors { double usual, calm; bool changed; const recurring::Expected* expected = nullptr; };
// The target's usual step over that of this context. Of its square, what the errors make (two in a step, independent of each
// other) is as the context's errors; the rest, which the prediction follows, is as large in every context.
inline double calm_steps(const Levels& s, i64 D, const Errors& errors) {
    const double root = s.base[2 * D - 1], step = root * root, size = std::sqrt(2.0) * errors.usual;
    const double share = size < step ? (size / step) * (size / step) : 1.0;
    return 1.0 / std::sqrt(1.0 - share + share / (errors.calm * errors.calm));
}

// What there is to hear: the columns' values, and the sizes of their steps since the last ones. Returns the fewest events
// that one of them has had.
//
// From the last columns to the first: what the last vector has beyond them are steps, and the rows of the state that follow, to
// be written back as they are.
SSM_INLINE i64 listen(const Levels& s, const Room& room, double value, const double* columns, i64 D, i64 W, double calm) {
    constexpr i64 L = lanes<double>;
    for (double* row : {room.value, room.heard, room.origin, room.least}) store(row + W - L, Vec<double>{});
    const Vec<double> none{}, one = all(1.0), unheard = all(static_cast<double>(COUNT_MOST));
    Vec<double> fewest = unheard;
    for (i64 i = (D - 1) / L * L; i >= 0; i -= L) {
        const Vec<double> lane = load(LANES);
        const auto inside = lane < all(static_cast<double>(D - i)), target = lane == all(static_cast<double>(D - 1 - i));
        Vec<double> x{};
        if (i + L < D) {
            x = load(columns + i);
        } else if (i < D - 1) {
            for (i64 k = 0; k < L; ++k) room.part[k] = i + k < D - 1 ? columns[i + k] : 0.0;
            x = load(room.part);
        }
        x = either(target, all(value), x);
        const Vec<double> events = load_counts(s.events + i);
        const auto heard = (magnitude(x) < all(INFINITE)) & inside, again = heard & (events > none);
        const Vec<double> start = load_floats(s.origin + i), last = load_floats(s.last + i), least = load_floats(s.quantum + i);
        const Vec<double> origin = either(heard ^ again, rounded(clipped(x, FARTHEST)), start);
        const Vec<double> off = clipped(x - origin, FARTHEST), step = magnitude(off - last), size = magnitude(origin);
        const auto moved = step > all(1e-6) * magnitude(off) + all(1e-9) * size;  // more than float32 rounds off
        const auto smaller = step < either(least == none, all(INFINITE), least);
        const Vec<double> quantum = either(again & moved & smaller, rounded(greater(step, all(1e-37))), least);
        store_floats(s.origin + i, origin);
        store_floats(s.last + i, either(heard, off, last));
        store_floats(s.quantum + i, quantum);
        const Vec<double> unit = only(heard, all(QUANTUM) * quantum);
        const Vec<double> judged = either(target, lesser(step * all(calm), all(FARTHEST)), step);
        store(room.value + i, only(heard, off)), store(room.value + D + i, root(only(again, judged)));
        store(room.heard + i, only(heard, one)), store(room.heard + D + i, only(again, one));
        store(room.origin + i, only(heard, size)), store(room.origin + D + i, none);
        store(room.least + i, unit), store(room.least + D + i, root(unit));
        fewest = lesser(fewest, either(heard, lesser(events, load_counts(s.events + D + i)), unheard));
    }
    return static_cast<i64>(least(fewest));
}

// Does a feature move that has not for `WARMUP` events, and in the mean stays for twice as many, as a setpoint? The fast mean of its
// steps has faded then, and has been above the slow one, and below it again, that seldom.
SSM_INLINE bool stirs(const Levels& s, const Room& room, i64 features) {
    bool any = false;
    for (i64 i = features + 1; i < 2 * features + 1; ++i)
        any |= (s.events[i] >= WARMUP) & ((s.crossings[i] + 1) * WARMUP <= s.events[i]) & (s.mean[i] < FADED * room.heard[i] * room.value[i]);
    return any;
}

// A category or a setpoint has changed, or the entity was away. An excursion ends with it, as many a level moves before its flag does.
inline void begin_stay(const Levels& s, i64 D, i64 W) {
    double* number = s.number;
    const bool held = number[HELD_FOR] > 0.0;
    if (number[ALARMED] > 0.0) {
        std::memcpy(s.rms, s.visit, sizeof(float) * W);
        number[CORRECTION] = min(number[CORRECTION] + STEP_LIMIT, LIMIT_MOST);
    }
    std::memcpy(s.visit, s.base, sizeof(float) * D);  // it is free until an excursion begins
    if (held) std::memcpy(s.base, s.mean, sizeof(float) * D);
    number[HELD_FOR] = number[ALARMED] = 0.0, number[STAY] = static_cast<double>(WARMUP);
}
// The levels of the new stay are known: what they moved by is usual, as a visit would be.
inline void end_stay(const Levels& s, i64 D) {
    for (i64 j = 0; j < D; ++j) {
        if (s.events[j] <= START) continue;
        const double moved = static_cast<double>(s.base[j]) - s.visit[j], square = static_cast<double>(s.rms[j]) * s.rms[j];
        s.rms[j] = static_cast<float>(std::sqrt(square + VISITED * max(moved * moved - square, 0.0)));
    }
    s.number[STAY] = 0.0;
}
// The levels of a stay that began so many events ago: the means of the values since then, later ones in proportion to their place, as a
// level takes its time. Baselines go with them. The steps on the way count for nothing but to see what stands still.
inline void go_along(const Levels& s, const Room& room, double since, i64 D) {
    const double rate = 2.0 / (since + 2.0);
    for (i64 j = 0; j < D; ++j) {
        const double moved = rate * room.heard[j] * (room.value[j] - s.mean[j]);
        s.mean[j] = static_cast<float>(bounded(s.mean[j] + moved)), s.base[j] = static_cast<float>(bounded(s.base[j] + moved));
    }
    for (i64 j = D; j < 2 * D; ++j) {
        if (room.heard[j] == 0.0) continue;
        const bool above = s.mean[j] > s.base[j], bounds = s.events[j] > WARMUP && s.rms[j] > 0.0f;
        const double step = room.value[j] - s.mean[j];
        s.mean[j] = static_cast<float>(s.mean[j] + FAST * (bounds ? clip(step, STEP_MOST * s.rms[j]) : step));
        if (s.events[j] >= COUNT_MOST) s.events[j] /= 2, s.crossings[j] /= 2;
        ++s.events[j], s.crossings[j] += above != (s.mean[j] > s.base[j]);
    }
}

// The fast means follow, and how far they are off: a column a lane. quick: 1/n is below FAST
template <bool quick> SSM_INLINE void follow_values(const Levels& s, const Room& room, i64 W) {
    const Vec<double> one = all(1.0);
    for (i64 i = 0; i < W; i += lanes<double>) {
        const Vec<double> before = load_floats(s.mean + i), base = load_floats(s.base + i), rms = load_floats(s.rms + i);
        const Vec<double> n = load_counts(s.events + i), step = load(room.value + i) - before, most = all(STEP_MOST) * rms;
        const Vec<double> within = lesser(greater(step, -most), most);  // one wild reading is no level
        const Vec<double> rate = (quick ? all(FAST) : greater(all(FAST), one / (n + one))) * load(room.heard + i);
        const Vec<double> mean = rounded(before + rate * either((n > from(WARMUP)) & (rms > Vec<double>{}), within, step));
        store(room.before + i, before);
        store_floats(s.mean + i, mean);
        const Vec<double> gap = mean - base, df = greater(all(CROSSING) * load_counts(s.crossings + i), one);
        const Vec<double> unit = greater(rms, load(room.least + i)) + all(1e-9) * (load(room.origin + i) + magnitude(base)) + all(1e-30);
        const Vec<double> ratio = gap * gap / (unit * unit * df);
        store(room.df + i, df);
        store(room.square + i, ratio * df);
        store(room.far + i, lesser(one + ratio, all(1e300)));  // not log1p, which takes longer: 1e-13 of w
    }
    series::logs_from_one(room.far, room.df, room.far, W);
}

// w of column j. Beyond `most` the fast mean is set back to where w is `most`.
SSM_INLINE double surprise(const Levels& s, const Room& room, i64 j, double most) {
    const double w = room.far[j], df = room.df[j];
    if (!(w > most)) return w;
    const double base = s.base[j], unit = unit_of(s.rms[j], room.least[j], room.origin[j], base);
    const double far = std::copysign(std::sqrt(df * series::expm1(most / df)), s.mean[j] - base) * unit;
    s.mean[j] = static_cast<float>(bounded(base + far));
    return most;
}

// How far off the columns are: Σw, the largest w, of steps too, and how many columns count.
struct Off { double total, largest; i64 used; };
SSM_INLINE Off how_far(const Levels& s, const Room& room, i64 D, double most) {
    constexpr i64 L = lanes<double>;
    const Vec<double> none{}, lane = load(LANES);
    Vec<double> columns{}, steps{}, counted{};
    for (i64 i = 0; i < D; i += L) {
        const auto inside = lane < all(static_cast<double>(D - i));
        const auto counts = [&](i64 at) SSM_STEP { return inside & (load(room.heard + at) > none) & (load_counts(s.events + at) > from(WARMUP)); };
        const auto column = counts(i), size = counts(D + i);
        const Vec<double> w = only(column, load(room.far + i));
        store(room.part + i, w);
        columns = greater(columns, w), steps = greater(steps, only(size, load(room.far + D + i)));
        counted = counted + only(column, all(1.0));
    }
    Off off{0.0, greatest(columns), static_cast<i64>(total(counted))};
    const double step = greatest(steps);
    if (off.largest > most || step > most) {  // seldom
        off.largest = 0.0;
        for (i64 j = 0; j < 2 * D; ++j) {
            if (room.heard[j] == 0.0 || s.events[j] < WARMUP) continue;
            if (j >= D && room.square[j] < 0.999 * off.largest) continue;  // as w ≤ z²
            const double w = surprise(s, room, j, most);
            off.largest = max(off.largest, w);
            if (j < D) off.total += w;
        }
        return off;
    }
    off.largest = max(off.largest, step);
    for (i64 j = 0; j < D; ++j) off.total += room.part[j];
    return off;
}

// Baselines and rms follow; one event more. visit: of an excursion that lasts, or is over and was an alarm
//
// What a fast mean was set back to is a part of the way only, by which each visit to a level of a thousand deviations, as of a machine
// that is off, makes the rms twice what it was: ten alarms. So an excursion after two alarms more than the budget's teaches how far
// the values of such a column are. Until then a fault that was repaired is found again. most: w from which means are set back
template <bool settled> SSM_INLINE void settle(const Levels& s, const Room& room, bool held, bool visit, double most, i64 W) {
    const Vec<double> none{}, one = all(1.0), share = all(held ? HELD : 1.0);
    const float* known = visit ? s.visit : s.rms;
    float* learned = held ? s.visit : s.rms;
    const Vec<double> teaches = all(s.number[HELD_FOR] > VISIT_MOST ? 0.0 : 1.0);
    const Vec<double> limit = all(held && s.number[CORRECTION] > AGAIN ? most : INFINITE);
    for (i64 i = 0; i < W; i += lanes<double>) {
        const Vec<double> base = load_floats(s.base + i), rms = load_floats(known + i), mean = load_floats(s.mean + i);
        const Vec<double> heard = load(room.heard + i), n = load_counts(s.events + i), gap = mean - base;
        const auto measured = n > from(START);
        // The square root of a mean square, as the squares of large values are beyond float32.
        const Vec<double> rate = settled ? all(SLOW) : greater(all(SLOW), one / (greater(n - all(static_cast<double>(START)), none) + one));
        const Vec<double> slow = settled ? all(SLOW) : greater(all(SLOW), one / (n + one));
        const Vec<double> far = either(load(room.far + i) > limit, load(room.value + i) - base, gap);
        const Vec<double> square = rms * rms + rate * teaches * (far * far - rms * rms);
        store_floats(learned + i, either(measured & (heard > none), root(greater(square, none)), rms));
        store_floats(s.base + i, base + slow * share * gap * heard);
        const auto crossed = measured & ((load(room.before + i) > base) ^ (mean > base));
        const Vec<double> crossings = load_counts(s.crossings + i) + only(crossed, heard), events = n + heard;
        const auto many = events > from(COUNT_MOST);
        store_counts(s.crossings + i, either(many, all(0.5) * crossings, crossings));
        store_counts(s.events + i, either(many, all(static_cast<double>(COUNT_MOST / 2)), events));
    }
}

// w from which fast means are set back. D columns; events: mean number between false alarms
inline double most_of(const Levels& s, i64 D, double events) { return W_MOST * single_limit(D, events) * correction_of(s.number); }
// w of a column or of its steps, with the sign of the gap, as the state has it.
inline double surprise_of(const Levels& s, i64 D, i64 j) {
    const double base = s.base[j], gap = s.mean[j] - base, df = freedom_of(s.crossings[j]);
    const double smallest = QUANTUM * s.quantum[j < D ? j : j - D], least = j < D ? smallest : std::sqrt(smallest);
    const double unit = unit_of(s.rms[j], least, j < D ? std::fabs(static_cast<double>(s.origin[j])) : 0.0, base);
    return std::copysign(df * series::log(1.0 + gap * gap / (unit * unit * df)), gap);
}

// The levels are from now on what they have become, and their gaps are as usual as the one that lasted. Where a mean has been set back it
// is only a part of the way there, and would be off again with the next event: the latest value says where its level is. A column whose steps
// have so another size wanders otherwise, too, and begins anew. most: w from which means are set back
inline void rebase(const Levels& s, i64 D, double most) {
    s.number[HELD_FOR] = 0.0;
    const auto set_back = [&](i64 j, double share) { return std::fabs(surprise_of(s, D, j)) >= share * most; };
    for (i64 j = 0; j < 2 * D; ++j) {
        const double base = s.base[j], level = j < D && set_back(j, SET_BACK) ? s.last[j] : s.mean[j];
        if (j < D && set_back(D + j, STEPS_SET_BACK)) s.events[j] = s.events[D + j] = s.crossings[j] = s.crossings[D + j] = 0;
        s.rms[j] = static_cast<float>(max(static_cast<double>(s.rms[j]), std::fabs(level - base)));
        s.mean[j] = s.base[j] = static_cast<float>(level);
    }
}

// Is the target on its way to what it was at this time before, or on its way back, and off itself? Its latest value is no further beyond
// than that is off: a mean that has been set back does not show it. limit: of w
SSM_INLINE bool recurs(const Levels& s, const Room& room, i64 D, const recurring::Expected* expected, double limit) {
    const i64 j = D - 1;
    if (!expected || unknown(expected->low) || !(room.far[j] > limit)) return false;
    const double base = s.base[j], mean = s.mean[j], df = room.df[j], value = room.value[j];
    const double low = min(base, expected->low - s.origin[j]), high = max(base, expected->high - s.origin[j]), off = high - low;
    if (value < low - off || value > high + off) return false;
    const double beyond = max(max(low - mean, mean - high), 0.0) / unit_of(s.rms[j], room.least[j], room.origin[j], base);
    return df * series::log(1.0 + beyond * beyond / df) <= limit && recurring::repeats(*expected).level <= recurring::ALIKE * off;
}

// How far the levels are off, over the limit: more than 1 is an alarm; and whether that is what the clock brings, and none.
struct Found { double score; bool recurs = false; };
// Learn one event.
// value: the target; columns (features,); what is not finite is skipped; events: mean number between false alarms
// absorb: events in a row after which what is held off is normal; errors: the target's steps are judged by their size
SSM_ALONE Found observe(const Levels& s, double value, const double* columns, i64 features, double events, double absorb,
                         const Errors& errors, double* space) {
    double* number = s.number;
    const i64 D = features + 1, W = whole_doubles(2 * D);
    const Room room(space, D);
    const i64 fewest = listen(s, room, value, columns, D, W, calm_steps(s, D, errors));
    if (errors.changed || stirs(s, room, features)) {
        if (number[STAY] > 0.0) end_stay(s, D);
        begin_stay(s, D, W);
    }
    if (number[STAY] > 0.0) {
        go_along(s, room, static_cast<double>(WARMUP) - number[STAY], D);
        if (--number[STAY] == 0.0) end_stay(s, D);
        return {0.0};
    }
    const bool quick = fewest >= QUICK, settled = fewest >= SETTLED;
    quick ? follow_values<true>(s, room, W) : follow_values<false>(s, room, W);
    set_limits(room, D, events);
    const double correction = correction_of(number), single = room.limit[SINGLE] * correction, most = W_MOST * single;
    const auto [total, largest, used] = how_far(s, room, D, most);
    double score = 0.0;
    bool again = false;
    if (used > 0) {
        const double joint = total / static_cast<double>(used), variance = 2.0 / min(PRIOR_DF, static_cast<double>(used));
        const double mean = 1.0 + number[JOINT], square = 1.0 + variance + number[JOINT_SQUARE];
        const double limit = chi_square_limit(max(mean, JOINT_LEAST), max(square - mean * mean, JOINT_LEAST * JOINT_LEAST), room.limit[JOINT_Z]);
        score = min(max(joint / (limit * correction), largest / single), SCORE_MOST);
        again = score > HOLD && recurs(s, room, D, errors.expected, HOLD * single);
        if (again) score = min(score, 1.0);
        if (score < 1.0) {
            number[JOINT] += SLOW * (joint - mean);
            number[JOINT_SQUARE] += SLOW * (joint * joint - square);
        }
        number[CORRECTION] = max(number[CORRECTION] - STEP_LIMIT / events, 0.0);
        if (score > 1.0) number[ALARMED] = 1.0;
    }
    const bool held = score > HOLD, over = !held && number[ALARMED] > 0.0, visit = over || (held && number[HELD_FOR] > 0.0);
    if (over) {  // not at the alarm: it may have been just over the limit
        number[CORRECTION] = min(number[CORRECTION] + STEP_LIMIT, LIMIT_MOST);
        number[ALARMED] = 0.0;
    }
    number[HELD_FOR] = held ? number[HELD_FOR] + 1.0 : 0.0;
    settled ? settle<true>(s, room, held, visit, most, W) : settle<false>(s, room, held, visit, most, W);
    if (number[HELD_FOR] >= absorb) rebase(s, D, most);
    return {score, again};
}

// Are levels off already, so that the next event may be an alarm?
SSM_INLINE bool are_off(const Levels& s) { return s.number[HELD_FOR] > 0.0; }

// Has an excursion that was an alarm not come back yet? Its score may be below 1 meanwhile: that ends no alert.
SSM_INLINE bool lasts(const Levels& s) { return s.number[ALARMED] > 0.0; }

// Each column's part in the score, then each one's steps', out (2 D,): w with the sign of the gap.
inline void causes(const Levels& s, double* out, i64 count) {
    for (i64 j = 0; j < count; ++j) out[j] = s.events[j] < WARMUP ? 0.0 : surprise_of(s, count / 2, j);
}

}  // namespace ssm::SSM_ISA::mean_shift
