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
// it lasts; a level that stays for thousands of events does, as there are no zero crossings then, so that ν falls.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::mean_shift {

constexpr double FAST = 0.1, SLOW = 0.001;
constexpr i64 FAST_SETTLED = 10, SLOW_SETTLED = 1000;  // events from which 1/(n + 1) is below the rate
constexpr double HOLD = 0.5;   // score from which the baseline is held: before the alarm, as a ramp would be absorbed
constexpr double HELD = 0.1;   // share of the baseline's rate while it is held
constexpr i64 START = 30;      // events before the gap is measured: fast mean and baseline are the same at first
constexpr i64 WARMUP = 100;    // events of a column before it counts
constexpr double STEP_MOST = 1.0 / FAST;  // rms of the gap: one event moves z by at most 1
constexpr double W_MOST = 1.5; // of the largest w's limit; a mean that went further would take as long to come back
constexpr double FARTHEST = 1e37;  // from the first value, in float32
constexpr i64 COUNT_MOST = 2000;   // events; then events and crossings are halved, and old ones are forgotten
constexpr double CROSSING = 0.6965423277339247;  // FAST π / acos(1 − FAST): degrees of freedom of one zero crossing
constexpr double PRIOR = 1000.0;   // events that the prior of the joint statistic counts for
constexpr double PRIOR_DF = 4.0;   // columns that count as independent of each other before more is known
constexpr double VARIANCE_LEAST = 1e-3, SCORE_MOST = 1e3;

enum { SEEN, JOINT, JOINT_SQUARE };  // columns of `number`

// A column, or the sizes of its steps: the first value; fast mean and baseline, both from it on; rms of their gap.
struct Column {
    float &origin, &mean, &base, &rms;
    std::uint16_t &events, &crossings;
    SSM_INLINE Column(float* c, std::uint16_t* counts)
        : origin(c[0]), mean(c[1]), base(c[2]), rms(c[3]), events(counts[0]), crossings(counts[1]) {}
};
struct Levels {
    double* number;
    float *last, *columns;
    std::uint16_t* counts;
    SSM_INLINE Levels(const MonitorState& m, i64 e) {
        char* row = m.levels.row(e);
        const LevelsFields& f = m.levels_fields;
        number = f.number.in(row), last = f.last.in(row), columns = f.column.in(row), counts = f.counts.in(row);
    }
    SSM_INLINE Column column(i64 j) const { return Column(columns + 4 * j, counts + 2 * j); }
};

// What a scaled χ² of this mean and variance exceeds in one event of `events`.
// Wilson & Hilferty 1931 for χ², Hastings 1955 (Abramowitz & Stegun 26.2.23) for the normal quantile.
inline double chi_square_limit(double mean, double variance, double events) {
    const double df = 2.0 * mean * mean / variance, r = std::sqrt(2.0 * std::log(max(events, 2.0)));
    const double z = r - (2.515517 + r * (0.802853 + r * 0.010328)) / (1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308)));
    const double h = 2.0 / (9.0 * df), cube = max(1.0 - h + z * std::sqrt(h), 0.1);
    return mean * cube * cube * cube;
}

// 1/(n + 1), or `least` once that is more, from `settled` events on: without a division.
SSM_INLINE double rate_of(i64 n, double least, i64 settled) {
    return n >= settled ? least : max(least, 1.0 / (static_cast<double>(n) + 1.0));
}
SSM_INLINE double bounded(double x) { return min(max(x, -FARTHEST), FARTHEST); }

SSM_INLINE void follow_value(const Column& c, double x) {
    const double mean = c.mean, rms = c.rms;
    double step = bounded(x - c.origin) - mean;
    if (c.events >= WARMUP && rms > 0.0) step = min(max(step, -STEP_MOST * rms), STEP_MOST * rms);  // one wild reading is no level
    c.mean = static_cast<float>(mean + rate_of(c.events, FAST, FAST_SETTLED) * step);
}

// w of a column; 0 where it is less than `least`. Beyond `most` the fast mean is set back to where w is `most`.
SSM_INLINE double surprise(const Column& c, double most, double least) {
    const double base = c.base, gap = c.mean - base;
    const double unit = c.rms + 1e-9 * (std::fabs(static_cast<double>(c.origin)) + std::fabs(base)) + 1e-30;
    if (gap * gap < 0.999 * least * unit * unit) return 0.0;  // as w ≤ z²: most need neither the division nor the logarithm
    const double df = max(CROSSING * c.crossings, 1.0);
    // Not log1p, which takes three times as long: what 1 + x rounds off is 1e-13 of w.
    double w = df * std::log(1.0 + gap * gap / (unit * unit * df));
    if (w > most) {
        w = most;
        const double far = std::copysign(std::sqrt(df * std::expm1(w / df)), gap) * unit;
        c.mean = static_cast<float>(bounded(base + far));
    }
    return w;
}

// The fast mean follows x; returns w (0 where it is less than `least`), −1 while the column is too young.
SSM_INLINE double hear(const Column& c, double x, double most, double least) {
    const bool above = c.mean > c.base;
    follow_value(c, x);
    const double w = c.events >= WARMUP ? surprise(c, most, least) : -1.0;
    if (c.events >= START && above != (c.mean > c.base)) ++c.crossings;
    return w;
}

// Baseline and rms follow; one event more.
SSM_INLINE void settle(const Column& c, bool held) {
    const i64 n = c.events;
    const double base = c.base, rms = c.rms, gap = c.mean - base;
    if (n >= START && !held) {
        // The square root of a mean square, as the squares of large values are beyond float32.
        const double rate = rate_of(n - START, SLOW, SLOW_SETTLED);
        c.rms = static_cast<float>(std::sqrt(max(rms * rms + rate * (gap * gap - rms * rms), 0.0)));
    }
    c.base = static_cast<float>(base + rate_of(n, SLOW, SLOW_SETTLED) * (held ? HELD : 1.0) * gap);
    ++c.events;
    if (c.events >= COUNT_MOST) {
        c.events = COUNT_MOST / 2;
        c.crossings /= 2;
    }
}

// Learn one event; returns how far the levels are off, over the limit: more than 1 is an alarm.
// value: the target; columns (features,); what is not finite is skipped; events: mean number between false alarms
SSM_ALONE double observe(const Levels& s, double value, const double* columns, i64 features, double events) {
    double* number = s.number;
    const i64 D = features + 1;
    number[SEEN] += 1.0;
    const auto column = [&](i64 j) { return j < features ? columns[j] : value; };
    const double single = chi_square_limit(1.0, 2.0, 4.0 * static_cast<double>(D) * events);
    double total = 0.0, largest = 0.0;
    i64 used = 0;
    for (i64 j = 0; j < D; ++j) {
        const double x = column(j);
        if (!(std::fabs(x) < INFINITE)) continue;
        const Column c = s.column(j);
        const bool first = c.events == 0;
        if (first) c.origin = static_cast<float>(bounded(x));
        const double w = hear(c, x, W_MOST * single, 0.0);
        if (w >= 0.0) total += w, largest = max(largest, w), ++used;
        const double off = bounded(x - c.origin);
        if (!first) {
            const double step = std::sqrt(std::fabs(off - s.last[j]));
            largest = max(largest, hear(s.column(D + j), step, W_MOST * single, largest));
        }
        s.last[j] = static_cast<float>(off);
    }
    double score = 0.0;
    if (used > 0) {
        const double joint = total / static_cast<double>(used), variance = 2.0 / min(PRIOR_DF, static_cast<double>(used));
        const double mean = 1.0 + number[JOINT], square = 1.0 + variance + number[JOINT_SQUARE];
        const double limit = chi_square_limit(mean, max(square - mean * mean, VARIANCE_LEAST), 2.0 * events);
        score = min(max(joint / limit, largest / single), SCORE_MOST);
        if (score < 1.0) {
            const double rate = max(SLOW, 1.0 / (number[SEEN] + PRIOR));
            number[JOINT] += rate * (joint - mean);
            number[JOINT_SQUARE] += rate * (joint * joint - square);
        }
    }
    for (i64 j = 0; j < D; ++j) {
        if (!(std::fabs(column(j)) < INFINITE)) continue;
        const Column c = s.column(j);
        if (c.events > 0) settle(s.column(D + j), score > HOLD);
        settle(c, score > HOLD);
    }
    return score;
}

// Each column's part in the score, then each one's steps', out (2 D,): w with the sign of the gap.
inline void causes(const Levels& s, double* out, i64 count) {
    for (i64 j = 0; j < count; ++j) {
        const Column c = s.column(j);
        out[j] = 0.0;
        if (c.events >= WARMUP) {
            const double gap = static_cast<double>(c.mean) - static_cast<double>(c.base);
            out[j] = std::copysign(surprise(c, INFINITE, 0.0), gap);
        }
    }
}

}  // namespace ssm::SSM_ISA::mean_shift
