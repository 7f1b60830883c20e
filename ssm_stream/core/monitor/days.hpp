// Does the target creep from day to day? The mean of each day against those of the days before, scaled to a budget.
//
// What moves by some per cent a day moves from event to event by less than anything else does: the learner follows it, and what is
// compared with the latest thousand events is compared with itself. So days are compared, as `mean_shift.hpp` compares events:
//
//     gap = mean of the day − baseline             (exponential mean of the days before)
//     w   = ν log(1 + z²/ν), z = gap / its own prequential rms, and ν by the gap's zero crossings
//
// of the smaller gap of two days in a row on one side: one day may be a holiday, or a stop. What creeps stays there, and holds the
// baseline. What has crept ever since the first days, as the weather does in autumn, has never crossed its baseline, and is no news.
// A shift by less than the usual error of one event is none that matters, whether the target rests or not.
//
// A day is that of the entity's calendar. One with few events is a part of a day, and counts for nothing. So do those in which the target
// rests, and the day of a change of a category that usually stays for longer than two days, as of a machine that stands by every other week:
// the baseline begins anew with the next one.
#pragma once
#include "drift.hpp"
#include "mean_shift.hpp"

namespace ssm::SSM_ISA::days {

constexpr double FROM = 7.0;         // days before one is judged: each weekday is known
constexpr double AGAIN = 2.0;        // days for which a category stays where it makes other days; days known when the baseline begins anew
constexpr double RATE = 1.0 / 28;    // of baseline and rms, a day
constexpr double RAREST = 100.0;     // days between false alarms at least
constexpr double PART = 0.5;         // of a usual day's events: a day with fewer counts for nothing
constexpr double EVENTS_LEAST = 12.0, EVENTS_RATE = 0.2;  // of a day
constexpr double FREEDOM = 2.0, FREEDOM_MOST = 2.0 / RATE;  // degrees of freedom of a zero crossing: independent days have one in two
constexpr double MOST = 2.0;         // deviations of a gap that teach baseline and rms
constexpr double LEARNED = 0.25;     // of the square of a gap that has become the new normal
constexpr double LASTS = 0.9;        // of a day: an alert

// columns, behind those of `drift::Drift::number`: weekday, from 1; sum and events of the day; events of a usual one; days; baseline; mean
// square and zero crossings of the gap; the last gap; how far the last two are off, over the limit, with their sign; 1 where the baseline is
// to begin anew
enum { DAY, SUM, EVENTS, USUAL, DAYS, BASE, SQUARE, CROSSED, GAP, FAR, ANEW, NUMBERS };
static_assert(static_cast<int>(drift::NUMBERS) + static_cast<int>(NUMBERS) == static_cast<int>(DRIFT_NUMBERS));

// step: the target's smallest
inline void end_day(double* day, double step, double budget) {
    const double events = day[EVENTS], mean = day[SUM] / events, usual = day[USUAL];
    if (events < EVENTS_LEAST) return;
    day[USUAL] += usual > 0.0 ? EVENTS_RATE * (events - usual) : events;
    if (usual == 0.0 || events < PART * usual) return;  // the first day began before the first event
    const double n = day[DAYS]++;
    if (n == 0.0 || day[ANEW] > 0.0) {
        day[BASE] = mean, day[GAP] = day[FAR] = day[ANEW] = 0.0;
        day[DAYS] = min(day[DAYS], AGAIN);
        return;
    }
    const double gap = mean - day[BASE], before = day[GAP], size = gap * before > 0.0 ? min(std::fabs(gap), std::fabs(before)) : 0.0;
    const double unit = mean_shift::unit_of(std::sqrt(day[SQUARE]), mean_shift::QUANTUM * step, 0.0, day[BASE]), df = max(min(FREEDOM * day[CROSSED], FREEDOM_MOST), 1.0);
    const double limit = mean_shift::chi_square_limit(1.0, 2.0, mean_shift::normal_limit(2.0 * max(budget, RAREST)));
    const bool known = n >= FROM && day[SQUARE] > 0.0;
    const double z = size / unit, far = known ? df * series::log(1.0 + z * z / df) / limit : 0.0;
    const bool held = far > mean_shift::HOLD;
    // What counts for more than so many deviations, as a holiday, would move the days after it, and what stays would hide itself.
    const double moved = known ? clip(gap, MOST * unit) : gap;
    if (!held) day[SQUARE] += max(RATE, 1.0 / n) * (moved * moved - day[SQUARE]);
    day[CROSSED] += gap * before < 0.0 ? 1.0 : 0.0;
    day[BASE] += (held ? mean_shift::HELD : 1.0) * max(RATE, 1.0 / (n + 1.0)) * moved;
    day[GAP] = gap, day[FAR] = std::copysign(far, gap);
}

// A category has changed that usually stays for so long, in days: where that is some, the day is none.
inline void change(double* day, double stay) {
    if (stay >= AGAIN) day[ANEW] = 1.0, day[SUM] = day[EVENTS] = day[GAP] = day[FAR] = 0.0;
}

// Learn a target. weekday: from 0; budget: days between false alarms
inline void observe(double* day, double y, double weekday, double step, double budget) {
    if (day[DAY] != weekday + 1.0) {
        if (day[EVENTS] > 0.0) end_day(day, step, budget);
        day[DAY] = weekday + 1.0, day[SUM] = day[EVENTS] = 0.0;
    }
    day[SUM] += y, day[EVENTS] += 1.0;
}

// How far the latest whole days are off, over the limit: more than 1 is an alarm. usual: error of an event
inline double crept(const double* day, double usual) {
    const double far = std::fabs(day[FAR]);
    return std::fabs(day[GAP]) >= usual ? far : min(far, 1.0);
}

// The days are from now on as the last one was, and that they may move so is known in part: else what is made for weeks, and then
// something else, would be an alarm each time; and what creeps on would be none any more, were it known at all.
inline void rebase(double* day) {
    day[SQUARE] += LEARNED * max(day[GAP] * day[GAP] - day[SQUARE], 0.0);
    day[BASE] += day[GAP], day[GAP] = day[FAR] = 0.0;
}

}  // namespace ssm::SSM_ISA::days
