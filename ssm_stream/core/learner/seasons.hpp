// What a target was at this time: a day ago, usually at this time of the week, usually at this time of the day.
//
// Kept by bins of a quarter of an hour of local time: what the target was in each of the last day, and what it usually is in
// each of the week. A bin is learned when it is over, that is, with the first target of another one: before, it would tell of
// the target that has just come and be believed for that. A target counts for the bin of its own event, however late it is.
// An answer is one of the three, or the last known target and what they have changed since, if that was in another bin: in
// the same one nothing has changed, and they would be believed for the last target. Where the bin is unknown, the nearest one
// within the usual gap between events is taken.
//
// A place is the hour of the week and its quarter, so that the calendar's time zone decides and clocks that are put forward
// or back need no rule: the bins are those of the clock. In a zone that is half an hour off UTC's hours, or a quarter,
// `Params::quarters` turns UTC's quarters into those of its clock. One constant for all times: where a zone once was off by
// another part of an hour, an hour's places begin with another quarter.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

constexpr i64 QUARTER = 900'000;     // ms
constexpr double HALF_SECOND = 500.0;  // ms: times count to the whole second, as those of steps; else clocks that jitter about it would be of two quarters
constexpr double USUAL_RATE = 0.3;   // of a bin's usual target, once it is known
constexpr double SEASON_REACH = 0.6;  // usual gaps within which the nearest bin is taken

// A quarter of an hour: its number since 1970, and its place in the week.
struct Quarter { i64 number, place; };
SSM_INLINE Quarter quarter_of(const Params& p, const i64* steps, double ts) {
    const i64 number = static_cast<i64>(std::floor((ts + HALF_SECOND) / static_cast<double>(QUARTER)));
    return {number, 4 * (24 * steps[1] + steps[0]) + ((number + p.quarters) & 3)};
}
SSM_INLINE i64 wrapped(i64 i, i64 n) { return i < 0 ? i + n : i >= n ? i - n : i; }

// The value that is nearest to `place` of n, at most `reach` off; the earlier one of two.
template <class F> SSM_INLINE double nearest(const float* of, i64 n, i64 place, i64 reach, F there) {
    for (i64 off = 0; off <= reach; ++off)
        for (const i64 at : {-off, off}) {
            const float value = of[wrapped(place + at, n)];
            if (value == value && there(at)) return static_cast<double>(value);
        }
    return UNKNOWN;
}
SSM_INLINE double day_ago(const Entity& s, const Quarter& at, i64 reach) {
    const i64 back = at.number - DAY_BINS - static_cast<i64>(s.bin[BIN_NUMBER]);  // those of the last day are −96 to −1
    return nearest(s.day, DAY_BINS, at.place % DAY_BINS, reach, [&](i64 off) { return back + off < 0 && back + off >= -DAY_BINS; });
}
SSM_INLINE double usual_of_week(const Entity& s, i64 place, i64 reach) {
    return nearest(s.season, WEEK_BINS, place, reach, [](i64) { return true; });
}
inline double usual_of_day(const Entity& s, const Quarter& at, i64 reach) {
    double sum = 0.0, known = 0.0;
    for (i64 place = at.place % DAY_BINS; place < WEEK_BINS; place += DAY_BINS) {
        const double value = usual_of_week(s, place, reach);
        if (!unknown(value)) sum += value, known += 1.0;
    }
    return known > 0.0 ? sum / known : UNKNOWN;
}
struct Recalled { double of[SEASONAL]; };
SSM_INLINE Recalled recalled(const Entity& s, const Quarter& at, i64 reach) {
    return {{day_ago(s, at, reach), usual_of_week(s, at.place, reach), usual_of_day(s, at, reach)}};
}

// Bins within which the nearest one is taken. gaps: of the pool
SSM_INLINE i64 season_reach(const double* gaps) { return static_cast<i64>(SEASON_REACH * 1000.0 * gaps[0] / static_cast<double>(QUARTER)); }

// The seasonal answers, UNKNOWN where there are none, and in `w.season`.
inline void answer_seasons(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, const i64* steps, double ts) {
    double* out = w.season;
    for (i64 i = 0; i < p.seasonal; ++i) out[i] = UNKNOWN;
    if (!w.flag[SEASONS] || s.bin[BIN_TARGETS] == 0.0) return;
    const i64 reach = season_reach(pool.gaps);
    const Quarter at = quarter_of(p, steps, ts);
    const Recalled now = recalled(s, at, reach);
    for (i64 i = 0; i < SEASONAL; ++i) out[i] = now.of[i];
    if (p.seasonal == SEASONAL) return;
    const Quarter last{static_cast<i64>(s.bin[BIN_NUMBER]), static_cast<i64>(s.bin[BIN_PLACE])};
    if (at.number == last.number) return;
    const Recalled then = recalled(s, last, reach);
    for (i64 i = 0; i < SEASONAL; ++i) out[SEASONAL + i] = s.y_last[0] + (now.of[i] - then.of[i]);
}

// The usual targets of the hour around now (0) and of that hour of the week (1), as inputs; UNKNOWN where there are none. The
// hour goes from half an hour before to half an hour after, and its first and last quarter count by the part that is in it: in
// place of the hour of the clock, whose mean would be another one from its first event on.
struct UsualHours { double of[2]; };
inline UsualHours usual_hours(const Params& p, const Entity& s, const i64* steps, double ts) {
    if (s.bin[BIN_TARGETS] == 0.0) return {{UNKNOWN, UNKNOWN}};
    const Quarter at = quarter_of(p, steps, ts);
    const double in = max(ts / static_cast<double>(QUARTER) - static_cast<double>(at.number), 0.0);  // part of this quarter that is over
    double sum = 0.0, known = 0.0, own = 0.0, own_known = 0.0;
    for (i64 day = 0; day < 7; ++day) {
        double part = 0.0, there = 0.0;
        for (i64 i = -2; i <= 2; ++i) {
            const double value = static_cast<double>(s.season[wrapped(at.place % DAY_BINS + DAY_BINS * day + i, WEEK_BINS)]);
            const double weight = i == -2 ? 1.0 - in : i == 2 ? in : 1.0;
            if (value == value) part += weight * value, there += weight;
        }
        sum += part, known += there;
        if (day == at.place / DAY_BINS) own = part, own_known = there;
    }
    return {{known > 0.0 ? sum / known : UNKNOWN, own_known > 0.0 ? own / own_known : UNKNOWN}};
}

// A bin is over.
SSM_INLINE void close_bin(Entity& s, i64 number, i64 place, double mean, i64 newest) {
    float& usual = s.season[place];
    const double before = static_cast<double>(usual), held = static_cast<double>(static_cast<float>(mean));
    usual = unknown(before) ? static_cast<float>(mean) : static_cast<float>(before + USUAL_RATE * (held - before));
    if (number >= newest - DAY_BINS) s.day[place % DAY_BINS] = static_cast<float>(mean);
}

// Target y of an event at that time.
inline void learn_seasons(const Params& p, Entity& s, const i64* steps, double ts, double y) {
    if (!p.seasons) return;
    const Quarter at = quarter_of(p, steps, ts);
    double* bin = s.bin;
    if (bin[BIN_TARGETS] == 0.0) {
        for (i64 i = 0; i < WEEK_BINS; ++i) s.season[i] = NAN;
        for (i64 i = 0; i < DAY_BINS; ++i) s.day[i] = NAN;
    } else {
        const i64 number = static_cast<i64>(bin[BIN_NUMBER]);
        if (at.number < number) return close_bin(s, at.number, at.place, y, number);  // of one that is over already
        if (at.number > number) {
            close_bin(s, number, static_cast<i64>(bin[BIN_PLACE]), bin[BIN_SUM] / bin[BIN_TARGETS], number);
            for (i64 i = min(at.number - number - 1, i64(DAY_BINS)); i > 0; --i) s.day[wrapped(at.place % DAY_BINS - i, DAY_BINS)] = NAN;
            bin[BIN_TARGETS] = bin[BIN_SUM] = 0.0;
        }
    }
    bin[BIN_NUMBER] = static_cast<double>(at.number), bin[BIN_PLACE] = static_cast<double>(at.place);
    bin[BIN_SUM] += y, bin[BIN_TARGETS] += 1.0;
}

}  // namespace ssm::SSM_ISA
