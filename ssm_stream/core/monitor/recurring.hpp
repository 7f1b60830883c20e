// What a target was at this time a week ago, or, in an entity's first week, a day ago: what comes again is no anomaly.
//
// Levels and ranges know no clock, and the learner needs many nights to believe one against the last target: a backup at one, what is
// set back at midnight, would be an alert each night, of one machine or another. A first time is one all the same.
//
// A day ago counts only while the week is not known: else a line that stands on a Monday would be as it was on Sunday.
#pragma once
#include "../learner/seasons.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::recurring {

constexpr double FOLLOWS = 20.0;  // events until a level's fast mean has come where the target has
constexpr i64 MOST_BACK = 4;      // bins
constexpr double FORESEEN = 0.5;  // of the bound: errors up to here count as predicted
constexpr double ALIKE = 0.25;    // of a bound, or of how far a level is off
constexpr double KNOWN = 12.0;    // quarters of an hour

// By the bins of `learner/seasons.hpp`; UNKNOWN where they have nothing.
struct Expected {
    const LearnerState* of = nullptr;
    i64 e = 0;
    double level = UNKNOWN, mean = UNKNOWN;  // at this time, at all times
    double last = UNKNOWN;   // target
    double moves[2] = {UNKNOWN, UNKNOWN};  // what it was at this time more than at the last one's: a week ago, a day ago
    double low = UNKNOWN, high = UNKNOWN;  // bounds of the levels that a fast mean at this time is of, and of a bin (an event, where these are rarer) after
};

// By what the last day is usually off another one, in its quarters of an hour, and in what they move by; the day of the week before that it
// is nearest to. Infinite while fewer than `KNOWN` quarters have both.
struct Repeats { double level = INFINITE, moved = INFINITE; };
SSM_ALONE Repeats repeats(const Expected& expected) {
    const Entity s(expected.of->entity_fields, expected.of->entity.row(expected.e));
    const i64 last = static_cast<i64>(s.bin[BIN_PLACE]);
    Repeats out;
    for (i64 days = 1; days < 7; ++days) {
        double before = UNKNOWN, off[2] = {0.0, 0.0}, known[2] = {0.0, 0.0};
        for (i64 i = 1; i <= DAY_BINS; ++i) {
            const i64 place = wrapped(last - i, WEEK_BINS);
            const double apart = static_cast<double>(s.day[place % DAY_BINS]) - static_cast<double>(s.season[wrapped(place - days * DAY_BINS, WEEK_BINS)]);
            if (unknown(apart)) continue;
            off[0] += std::fabs(apart), known[0] += 1.0;
            if (!unknown(before)) off[1] += std::fabs(apart - before), known[1] += 1.0;
            before = apart;
        }
        if (known[0] >= KNOWN) out.level = min(out.level, off[0] / known[0]);
        if (known[1] >= KNOWN) out.moved = min(out.moved, off[1] / known[1]);
    }
    return out;
}

// Is a target as it was at this time? bound: of the errors that are no anomaly. Days that differ by more than a part of that show nothing:
// one of them is near by chance.
SSM_INLINE bool stands(const Expected& expected, double y, double bound) {
    return std::fabs(y - expected.level) <= FORESEEN * bound && repeats(expected).level <= ALIKE * bound;
}
// So far from its mean, too?
SSM_INLINE bool stands_apart(const Expected& expected, double y, double bound) {
    return std::fabs(y - expected.level) <= ALIKE * std::fabs(expected.level - expected.mean) && stands(expected, y, bound);
}
// Has it moved by what it moves by at this time? That alone must be more than an error: each step on the way to a new level is as small as
// it was then.
SSM_INLINE bool jumps(const Expected& expected, double y, double bound) {
    const double by = y - expected.last;
    const auto does = [&](double move) { return std::fabs(move) > bound && std::fabs(by - move) <= FORESEEN * bound; };
    return (does(expected.moves[0]) || does(expected.moves[1])) && repeats(expected).moved <= ALIKE * bound;
}

// The usual target of that bin as it was before today: of one that is over, what today has added is taken off again.
SSM_INLINE double before_today(const Entity& s, const Quarter& at) {
    const double usual = s.season[at.place], added = s.day[at.place % DAY_BINS];
    const i64 ago = static_cast<i64>(s.bin[BIN_NUMBER]) - at.number;
    if (ago <= 0 || ago >= DAY_BINS || unknown(added)) return usual;
    return usual == added ? UNKNOWN : (usual - USUAL_RATE * added) / (1.0 - USUAL_RATE);
}
// Of the bin, or of the nearest one within `reach`; on the day before.
SSM_INLINE double week_ago(const Entity& s, const Quarter& at, i64 reach) {
    for (i64 off = 0; off <= reach; ++off)
        for (const i64 by : {-off, off}) {
            const double value = before_today(s, {at.number + by, wrapped(at.place + by, WEEK_BINS)});
            if (!unknown(value)) return value;
        }
    return UNKNOWN;
}
SSM_INLINE double yesterday(const Entity& s, const Quarter& at, i64 reach) { return usual_of_week(s, wrapped(at.place - DAY_BINS, WEEK_BINS), reach); }

// steps, time: hour and weekday of the target, and when it is, ms
SSM_ALONE Expected expected(const LearnerState& l, i64 k, i64 e, const i64* steps, double time) {
    const Entity s(l.entity_fields, l.entity.row(e));
    Expected out{&l, e};
    if (!l.p.seasons || !l.w.flag[SEASONS] || s.bin[BIN_TARGETS] == 0.0) return out;
    const double *gaps = l.pool_fields.gaps.in(l.pool.row(k)), shift = l.w.base[SHIFT];
    const double bins = 1000.0 * gaps[0] / static_cast<double>(QUARTER);
    const i64 reach = season_reach(gaps), after = max(static_cast<i64>(bins), i64(1)), before = max(after, min(static_cast<i64>(std::ceil(FOLLOWS * bins)), MOST_BACK));
    const Quarter at = quarter_of(l.p, steps, time), last{static_cast<i64>(s.bin[BIN_NUMBER]), static_cast<i64>(s.bin[BIN_PLACE])};
    const auto near = [&](i64 by) {
        const Quarter there{at.number + by, wrapped(at.place + by, WEEK_BINS)};
        const double week = week_ago(s, there, reach);
        return shift + (unknown(week) ? yesterday(s, there, reach) : week);
    };
    out.level = out.low = out.high = near(0), out.mean = l.w.base[MEAN] + shift;
    if (at.number != last.number) {  // what it moves by on a Monday may be that of a Sunday, where it is may not
        out.last = s.y_last[0] + shift;
        out.moves[0] = week_ago(s, at, reach) - week_ago(s, last, reach), out.moves[1] = yesterday(s, at, reach) - yesterday(s, last, reach);
    }
    for (i64 by = -before; by <= after; by += after) {
        const double there = near(by);  // the first of two where they do not compare
        out.low = min(out.low, there), out.high = max(out.high, there);
    }
    return out;
}

}  // namespace ssm::SSM_ISA::recurring
