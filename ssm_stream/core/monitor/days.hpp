// Does the target creep from day to day? The mean of each day against those of the days before, scaled to a budget.
//
// What moves by some per cent a day moves from event to event by less than anything else does: the learner follows it, and what is
// compared with the latest thousand events is compared with itself. So days are compared, as `mean_shift.hpp` compares events:
//
//     gap = mean of the day − baseline − β·(means of the inputs − their baselines)      (exponential means of the days before)
//     w   = ν log(1 + z²/ν), z = gap / its own prequential rms, and ν by the gap's zero crossings
//
// of the smaller gap of two days in a row on one side: one day may be a holiday, or a stop. The rms is of gaps up to the first day on that side,
// for a week: what creeps would else be the yardstick that it is measured by (a line's gaps never are three times their own rms). What lasts for
// longer teaches it all the same, as a season does. What creeps stays there, and holds the
// baseline. What has crept ever since the first days, as the weather does in autumn, has never crossed its baseline, and is no news.
// A shift by less than the usual error of one event is none that matters, whether the target rests or not.
//
// β is what the inputs do to the target within days, by least squares on what the pool's targets and inputs are off the means of their
// entity's day (the within estimator of panels; Wooldridge, Econometric Analysis, ch. 10): what creeps from one day to the next has no part in
// that. A day of another load is no other day then, and a fault not hidden behind it. Where inputs make days differ by more than they do
// anyway, as where both follow the clock and else have nothing in common, days are compared without. β is known up to its standard error: what a
// day's inputs are off by far more than they move within days makes z smaller by it. That error takes each event for news of β. What moved within a
// few days only, as a setpoint that is changed for the first time in weeks, has shown itself with whatever else these days did: while moves come
// from so few days, a day of them counts as one event. In an alert an entity teaches none of it.
//
// A day is that of the entity's calendar. Where it usually has few events, as of one reading, or a flight, a day, as many are joined as have
// enough. Else one with few is a part of a day, and counts for nothing. So do those in which the target rests, unless it does nearly always
// (`is_held`), or comes in pulses, and the day of a change of a category that usually stays for longer than two days, as of a machine that stands
// by every other week: the baseline begins anew with the next one.
#pragma once
#include "drift.hpp"
#include "mean_shift.hpp"

namespace ssm::SSM_ISA::days {

constexpr double FROM = 7.0;         // days before one is judged: each weekday is known
constexpr double AGAIN = 2.0;        // days for which a category stays where it makes other days; days known when the baseline begins anew
constexpr double RATE = 1.0 / 28;    // of baseline and rms, a day
constexpr double RAREST = 100.0;     // days between false alarms at least
constexpr double PART = 0.5;         // of a usual day's events: a day with fewer counts for nothing
constexpr double EVENTS_LEAST = 6.0, EVENTS_RATE = 0.2;  // of a day: those with fewer are joined
constexpr double HELD_EVENTS = 12.0, HELD_PART = 0.5;  // of a day, and of all: a target that moves at fewer is held
constexpr double FREEDOM = 2.0, FREEDOM_MOST = 2.0 / RATE;  // degrees of freedom of a zero crossing: independent days have one in two
constexpr double FREEDOM_OF_PULSES = 3.0;  // as of rain, whose dry weeks are usual
constexpr double MOST = 2.0;         // deviations of a gap that teach baseline and rms
constexpr double LEARNED = 0.25;     // of the square of a gap that has become the new normal
constexpr double BACK = 10.0;        // days within which the new normal may be over, as after a holiday
constexpr double LASTS = 0.9;        // of a day: an alert
constexpr double MEMORY = 3000.0;    // events of an entity that β is of
constexpr double RIDGE = 0.01;       // of the inputs' variances
constexpr double WORSE = 1.5;        // times as far off as without inputs days may usually be
constexpr double SOLVED = 1e-12;     // of the square of what is left
constexpr double NORMAL = 3.0;       // fourth power over the square of the variance, of what moves alike at all events
constexpr double POWER_MOST = 1e150;  // of a square that is squared again

// columns of a comparison: baseline; mean square and zero crossings of the gap; the last gap; how far the last two are off, over the limit,
// with their sign; days on its side that the mean square has not learned yet, and the sum of their squares; baseline and mean square before an
// alert of it, 0: none
enum { BASE, SQUARE, CROSSED, GAP, FAR, RUN, RUN_SQUARES, OLD_BASE, OLD_SQUARE, COMPARED };
// columns: weekday, from 1; sum and events of the day; events of a usual one; days; 1 where the baselines are to begin anew; mean of the last
// whole day; 1 where inputs count; days since an alert of them, from 1; the comparisons without and with inputs
enum { DAY, SUM, EVENTS, USUAL, DAYS, ANEW, LATEST, BY_INPUTS, SINCE, PLAIN, WITH_INPUTS = PLAIN + static_cast<int>(COMPARED) };
constexpr int COMPARISONS[2] = {PLAIN, WITH_INPUTS};
static_assert(WITH_INPUTS + static_cast<int>(COMPARED) == static_cast<int>(DAY_NUMBERS));

// What is usual of the entity: mean and variance of each input, and how far the target is off its mean.
struct Usual { const double *mean, *variance; double spread; };

struct Days {
    double *number, *mean, *base;     // of the entity: (F,) means of the inputs, of the day so far and of the days before; NaN: not known
    double *events, *scatter;         // of the pool: events, and (F + 1, F + 1) mean products of what inputs and target are off their day's means
    double* fourth;                   // of the pool: (F,) means of the fourth power of what inputs are off them
    double* room;
    i64 F, width;
    SSM_INLINE Days(const EngineState& state, i64 k, i64 e) : F(state.learner.p.features), width(level_room(F + 1)) {
        const MonitorState& m = state.monitor;
        char *row = m.days.row(e), *pool = m.days_pool.row(k);
        number = m.days_fields.number.in(row), mean = m.days_fields.mean.in(row), base = m.days_fields.base.in(row);
        events = m.days_pool_fields.events.in(pool), scatter = m.days_pool_fields.scatter.in(pool);
        fourth = m.days_pool_fields.fourth.in(pool);
        room = state.learner.w.levels;
    }
};

// What the inputs of the day, off those before, do to its target, and how sure that is: its standard error.
struct ByInputs { double by, error; };

// Solve (C + ridge) b = the room's `left` by conjugate gradients, in deviations: b and its product with that are left.
inline double solve(const Days& s) {
    const i64 F = s.F, n = F + 1;
    double *b = s.room, *left = b + s.width, *along = left + s.width, *product = along + s.width, *unit = product + s.width;
    double square = 0.0, out = 0.0;
    for (i64 j = 0; j < F; ++j) b[j] = 0.0, along[j] = left[j], square += left[j] * left[j];
    const double least = SOLVED * square;
    for (i64 step = 0; step < 2 * F && square > least; ++step) {
        double curved = 0.0, next = 0.0;
        for (i64 i = 0; i < F; ++i) {
            double sum = 0.0;
            for (i64 j = 0; j < F; ++j) sum += s.scatter[i * n + j] * (unit[j] * along[j]);
            product[i] = unit[i] * sum + RIDGE * along[i];
            curved += along[i] * product[i];
        }
        const double by = square / curved;
        out += by * square;  // what the quadratic form grows by
        for (i64 j = 0; j < F; ++j) b[j] += by * along[j], left[j] -= by * product[j], next += left[j] * left[j];
        for (i64 j = 0; j < F; ++j) along[j] = left[j] + next / square * along[j];
        square = next;
    }
    return out;
}

// By how much more than an event each the events in which input j moves are alike: those of a day, while it has moved in few. Days in which it has
// moved are all of them where its kurtosis is that of noise, and fewer by what that is more.
inline double alike(const Days& s, i64 j, double events) {
    const double variance = s.scatter[j * (s.F + 1) + j], day = max(s.number[USUAL], 1.0);
    const double shown = events / day * min(NORMAL * variance * variance / s.fourth[j], 1.0);
    return s.fourth[j] > 0.0 ? min(day / (shown * shown), day) : 0.0;
}

// entities: of the pool
inline ByInputs by_inputs(const Days& s, double entities) {
    const i64 F = s.F, n = F + 1;
    double *b = s.room, *left = b + s.width, *unit = s.room + 4 * s.width;
    const auto off = [&](i64 j) { return unknown(s.base[j]) ? 0.0 : s.mean[j] - s.base[j]; };
    for (i64 j = 0; j < F; ++j) {
        const double variance = s.scatter[j * n + j];
        unit[j] = variance > 0.0 ? 1.0 / std::sqrt(variance) : 0.0;
        left[j] = unit[j] * s.scatter[F * n + j];
    }
    const double explained = solve(s);
    const double events = min(*s.events, MEMORY * max(entities, 1.0));
    double by = 0.0, parts = 0.0, more = 0.0;
    for (i64 j = 0; j < F; ++j) {
        const double part = b[j] * unit[j] * off(j);
        by += part, parts += std::fabs(part), more += std::fabs(part) * alike(s, j, events);
    }
    for (i64 j = 0; j < F; ++j) left[j] = unit[j] * off(j);
    const double leverage = solve(s), unexplained = max(s.scatter[F * n + F] - explained, 0.0), variance = unexplained * leverage / events;
    const double error = events > 0.0 ? std::sqrt(variance * (1.0 + (parts > 0.0 ? more / parts : 0.0))) : 0.0;
    return std::isfinite(by) && std::isfinite(error) ? ByInputs{by, error} : ByInputs{0.0, 0.0};
}

// What a day's judgement needs beside its mean: days before; the target's least scale; the limit; the most degrees of freedom
struct Judgement { double days, least, limit, freedom; };

// Learn the gaps of the days on one side that are not learned yet. n: days
SSM_INLINE void learn_run(double* row, double n) {
    const double run = row[RUN];
    if (run > 0.0) row[SQUARE] += (row[RUN_SQUARES] - run * row[SQUARE]) / (run + min(max(n - 1.0 - run, 0.0), 1.0 / RATE));
    row[RUN] = row[RUN_SQUARES] = 0.0;
}

// Compare a day's mean with a baseline. row: of `Days::number`
inline void compare(double* row, double mean, const ByInputs& inputs, const Judgement& of) {
    const double n = of.days, by = inputs.by, gap = mean - row[BASE] - by, before = row[GAP];
    const double size = gap * before > 0.0 ? min(std::fabs(gap), std::fabs(before)) : 0.0;
    const double unit = mean_shift::unit_of(std::sqrt(row[SQUARE]), of.least, 0.0, row[BASE]), df = max(min(FREEDOM * row[CROSSED], of.freedom), 1.0);
    const double unsure = std::sqrt(unit * unit + inputs.error * inputs.error);
    const bool known = n >= FROM && row[SQUARE] > 0.0;
    const double z = size / unsure, far = known ? df * series::log(1.0 + z * z / df) / of.limit : 0.0, rate = max(RATE, 1.0 / (n + 1.0));
    const bool held = far > mean_shift::HOLD;
    // What counts for more than so many deviations, as a holiday, would move the days after it, and what stays would hide itself.
    const double moved = known ? clip(gap, MOST * max(unit, inputs.error)) : gap;
    const bool crossed = gap * before < 0.0;
    row[CROSSED] += crossed ? 1.0 : 0.0;
    if (crossed || row[RUN] >= FROM) learn_run(row, n);
    if (!held) row[RUN] += 1.0, row[RUN_SQUARES] += moved * moved;
    // The first day of a side is learned at once, and what inputs far from usual bring: that is what they do to the target.
    if (crossed || !known || inputs.error > unit) learn_run(row, n + 1.0);
    row[BASE] += rate * (by + (held ? mean_shift::HELD : 1.0) * moved);
    row[GAP] = gap, row[FAR] = std::copysign(far, gap);
}

// The comparison that is reported.
SSM_INLINE int judged(const double* day) { return day[BY_INPUTS] > 0.0 ? WITH_INPUTS : PLAIN; }

// What was the new normal is over with a day that is as those before it, by the comparison that is reported: of one change both have it.
// by: what inputs do to it
SSM_INLINE void come_back(double* day, double mean, double by) {
    const double *row = day + judged(day), moved = day[BY_INPUTS] > 0.0 ? by : 0.0, off = std::fabs(mean - row[OLD_BASE] - moved);
    if (row[OLD_SQUARE] == 0.0 || off > MOST * std::sqrt(row[OLD_SQUARE]) || off >= std::fabs(mean - row[BASE] - moved)) return;
    for (int at : COMPARISONS) {
        double* each = day + at;
        each[BASE] = each[OLD_BASE], each[SQUARE] = each[OLD_SQUARE];
        each[GAP] = each[FAR] = each[RUN] = each[RUN_SQUARES] = each[OLD_SQUARE] = 0.0;
    }
}

// Is it over with the day of the calendar? One with few events goes on into the next, where those of the entity usually have few.
SSM_INLINE bool is_whole(const double* day) { return day[EVENTS] >= EVENTS_LEAST || day[USUAL] * PART >= EVENTS_LEAST; }

// The target's smallest step; days (`part_of`) between false alarms; entities of the pool; does the target show what inputs do to it, and come in
// pulses?
struct Setting { double step, budget, entities; bool teaches, pulses; };

inline void end_day(const Days& s, const Setting& of_target) {
    double *day = s.number, *plain = day + PLAIN, *with = day + WITH_INPUTS;
    const double events = day[EVENTS], mean = day[SUM] / events, usual = day[USUAL];
    day[USUAL] += usual > 0.0 ? EVENTS_RATE * (events - usual) : events;
    if (usual == 0.0 || events < PART * usual) return;  // the first day began before the first event
    const double n = day[DAYS]++;
    day[LATEST] = mean;
    if (n == 0.0 || day[ANEW] > 0.0) {
        for (double* row : {plain, with}) row[BASE] = mean, row[GAP] = row[FAR] = row[RUN] = row[RUN_SQUARES] = 0.0;
        for (i64 j = 0; j < s.F; ++j) s.base[j] = s.mean[j];
        day[ANEW] = day[SINCE] = 0.0, day[DAYS] = min(day[DAYS], AGAIN);
        return;
    }
    const double least = mean_shift::QUANTUM * of_target.step / (of_target.pulses ? events : 1.0), freedom = of_target.pulses ? FREEDOM_OF_PULSES : FREEDOM_MOST;
    const double limit = mean_shift::chi_square_limit(1.0, 2.0, mean_shift::normal_limit(2.0 * max(of_target.budget, RAREST)));
    const Judgement of{n, least, limit, freedom};
    const ByInputs inputs = s.F > 0 ? by_inputs(s, of_target.entities) : ByInputs{0.0, 0.0};
    if (day[SINCE] > 0.0 && ++day[SINCE] <= BACK) come_back(day, mean, inputs.by);
    compare(plain, mean, {0.0, 0.0}, of);
    if (s.F == 0) return;
    compare(with, mean, inputs, of);
    for (i64 j = 0; j < s.F; ++j) s.base[j] = unknown(s.base[j]) ? s.mean[j] : s.base[j] + max(RATE, 1.0 / (n + 1.0)) * (s.mean[j] - s.base[j]);
    // What creeps makes both more alike: days that were compared without inputs are so until these make them differ by less.
    const double worse = n <= FROM || day[BY_INPUTS] > 0.0 ? WORSE : 1.0;
    day[BY_INPUTS] = with[SQUARE] <= worse * worse * plain[SQUARE] ? 1.0 : 0.0;
}

// A category has changed that usually stays for so long, in days (`part_of`): where that is some, the day is none.
inline void change(double* day, double stay) {
    if (stay < AGAIN) return;
    day[ANEW] = 1.0, day[SUM] = day[EVENTS] = 0.0;
    for (int at : COMPARISONS) day[at + GAP] = day[at + FAR] = 0.0;
}

// Is a target sampled now and then and held in between, as what a laboratory finds is? It moves at few events, and at rest it has a value
// that is as new as any. moved: events at which it has; n: all; day_part: between two events
SSM_INLINE bool is_held(double moved, double n, double day_part) { return moved < min(HELD_EVENTS * day_part, HELD_PART) * n; }

// What is between two events, in days, or in what is joined of them.
SSM_INLINE double part_of(double day_part) { return min(day_part, 1.0 / EVENTS_LEAST); }

// Input j, within so many deviations of its mean, to the bit where it is; where it is unknown, that mean.
SSM_INLINE double within(const Usual& of, const double* u, i64 j) {
    const double usual = of.mean[j], limit = WINSOR * std::sqrt(of.variance[j]), off = u[j] - usual;
    if (unknown(u[j])) return usual;
    return limit > 0.0 && std::fabs(off) > limit ? usual + std::copysign(limit, off) : u[j];
}

// Learn what inputs and target are off the means of the day so far, and the means of the inputs; no value counts for more than so many
// deviations. entities: of the pool; teaches: the target shows what inputs do to it, as what is held within a day, or in an alert, does not
inline void learn_inputs(const Days& s, const Usual& of, const double* u, double y, double entities, bool teaches) {
    const i64 F = s.F, n = F + 1;
    const double before = s.number[EVENTS], share = 1.0 / (before + 1.0);
    double* off = s.room;
    for (i64 j = 0; j < F; ++j) {
        const double x = within(of, u, j);
        const bool first = before == 0.0 || unknown(s.mean[j]);
        off[j] = first ? 0.0 : x - s.mean[j];
        s.mean[j] = first ? x : s.mean[j] + share * off[j];
    }
    if (before == 0.0 || s.number[USUAL] == 0.0 || !teaches) return;  // on its first day an entity does not know yet what counts for too much
    off[F] = clip(y - s.number[SUM] / before, WINSOR * of.spread);
    const double rate = max(1.0 / ++*s.events, 1.0 / (MEMORY * max(entities, 1.0))), weight = before * share;
    for (i64 j = 0; j < F; ++j) {
        const double square = min(weight * off[j] * off[j], POWER_MOST);
        s.fourth[j] += rate * (square * square - s.fourth[j]);
    }
    for (i64 i = 0; i < n; ++i) {
        double* __restrict row = s.scatter + i * n;
        const double by = weight * off[i];
        for (i64 j = 0; j < n; ++j) row[j] += rate * (by * off[j] - row[j]);
    }
}

// Learn a target. u: (F,) inputs; weekday: from 0
inline void observe(const Days& s, const Usual& of, const double* u, double y, double weekday, const Setting& with) {
    double* day = s.number;
    if (day[DAY] != weekday + 1.0) {
        if (is_whole(day)) {
            if (day[EVENTS] > 0.0) end_day(s, with);
            day[SUM] = day[EVENTS] = 0.0;
        }
        day[DAY] = weekday + 1.0;
    }
    if (s.F > 0) learn_inputs(s, of, u, y, with.entities, with.teaches);
    day[SUM] += y, day[EVENTS] += 1.0;
}

// How far the latest whole days are off, over the limit: more than 1 is an alarm. usual: error of an event, or what it is of the mean of a day where
// the target comes in pulses
inline double crept(const double* day, double usual) {
    const double* row = day + judged(day);
    const double far = std::fabs(row[FAR]);
    return std::fabs(row[GAP]) >= usual ? far : min(far, 1.0);
}

// The days are from now on as the last one was, and that they may move so is known in part: else what is made for weeks, and then
// something else, would be an alarm each time; and what creeps on would be none any more, were it known at all. Days that are as those before
// again, as after a holiday, have these for their baseline and rms: else nothing were found for two months. What comes back and goes again within
// a memory of days is what they do.
inline void rebase(double* day) {
    const bool again = day[SINCE] > 0.0 && day[SINCE] <= 1.0 / RATE;
    day[SINCE] = 1.0;
    for (int at : COMPARISONS) {
        double* row = day + at;
        row[OLD_BASE] = row[BASE], row[OLD_SQUARE] = again ? 0.0 : row[SQUARE];
        row[SQUARE] += LEARNED * max(row[GAP] * row[GAP] - row[SQUARE], 0.0);
        row[BASE] += row[GAP], row[GAP] = row[FAR] = row[RUN] = row[RUN_SQUARES] = 0.0;
    }
}

}  // namespace ssm::SSM_ISA::days
