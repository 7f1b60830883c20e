// Is the target, hour for hour, where its context puts it? What is wrong for hours moves less from event to event than noise does, and the
// past targets among the inputs follow it: a belt that slips, a burner that weakens, a temperature below its setpoint. So the mean of each
// hour is predicted without them, from the means of the hour's inputs, the shares of its categories, and what is usual at this time:
//
//     gap = mean − usual mean − w·(context − its usual means)
//
// w by least squares over the hours of the pool, what an entity's hours are off its own means (the within estimator of panels). Hours differ in
// how well that predicts them, as day and night: |gap| is predicted by the same regression, as its mean at least, since of less than that
// nobody reads anything, and judged is
//
//     z = gap / predicted |gap|, over its own rms,    ν log(1 + z²/ν) of the smallest |z| of three hours in a row on one side
//
// with as many degrees of freedom ν as the entity's hours are independent of each other: of what wanders, as the weather, few.
//
// An hour with few events is a part of one, and counts for nothing; so do events at rest, as in `days.hpp`.
#pragma once
#include "../learner/seasons.hpp"
#include "days.hpp"

namespace ssm::SSM_ISA::hours {

constexpr double QUARTERS = 4.0;     // of an hour
constexpr double FROM = 7 * 24.0;    // hours after an entity's first, from which on one is judged: each weekday is known
constexpr double LEAST = 24.0;       // hours that have been compared
constexpr double POOL_FROM = 100.0;  // hours of a pool from which on its regression is one
constexpr double RATE = 1.0 / (14 * 24.0), GAP_RATE = 1.0 / (7 * 24.0);  // of means, of the gap's rms, an hour
constexpr double RAREST = 100 * 24.0;  // hours between false alarms at least
constexpr double EVENTS_LEAST = 5.0, EVENTS_RATE = 0.05;  // of an hour
constexpr double RIDGE = 0.1, RIDGE_HOURS = 50.0, RIDGE_LEAST = 0.02;  // of the context's variances; while hours are few; at last, of that
constexpr double RIDGE_CODE = 1.0;   // hours: what a small part of one shows of a category is not believed of a whole one
constexpr double MOST = 2.5;         // rms that a gap counts for in it
constexpr double WINSOR_GAP = 3.0, SIZE_MOST = 8.0;  // rms of the pool, mean sizes, that a gap teaches as
constexpr double ALONG_MOST = 0.999;
constexpr double ROUNDING = 1e-12;   // of a mean: what an input that is always the same seems to move by
constexpr int SWEEPS = 2;            // of Gauss and Seidel, an hour

// columns of `number`: the hour since 1970, of the clock; sum and number of its targets; of a usual one; hours; the first one; the usual mean;
// mean square of the gap and mean product with the one before; the last two gaps, over what they were predicted to be; how far the last three are
// off, over the limit, with their sign; mean of the last hour, and what its context made it; hours compared
enum { HOUR, SUM, EVENTS, USUAL, SEEN, FIRST, MEAN, SQUARE, ALONG, GAP, FORMER, FAR, LATEST, EXPECTED, COMPARED };
static_assert(COMPARED + 1 == static_cast<int>(HOUR_NUMBERS));
// columns of the pool's `learned`: hours; mean size of gaps, mean square of those that teach; codes that have a column
enum { LEARNED, SIZE, TAUGHT, NAMED_CODES };
static_assert(NAMED_CODES + 1 == static_cast<int>(HOUR_POOL_NUMBERS));
// rows of `weight` and `product`: what the context does to the target, and to the size of its gap
enum { OF_TARGET, OF_SIZE };
// columns of the context after the features: what is usual at this hour of the week, of the day
enum { OF_WEEK, OF_DAY };

// Columns of the context: F features, what is usual at this hour of the week and of the day, codes.
struct Hours {
    double *number, *sum, *base;                      // of the entity: (D,) of the hour so far; (D,) usual means
    double *pool, *scatter, *product, *weight;        // of the pool: (D, D), (2, D), (2, D)
    std::uint8_t* place;                              // (SLOTS,) columns of codes, from 1; 0: none
    double* off;                                      // room
    i64 F, D;
    SSM_INLINE Hours(const EngineState& state, i64 k, i64 e) : F(state.learner.p.features), D(F + HOUR_MORE) {
        const MonitorState& m = state.monitor;
        char *row = m.hours.row(e), *shared = m.hours_pool.row(k);
        number = m.hours_fields.number.in(row), sum = m.hours_fields.sum.in(row), base = m.hours_fields.base.in(row);
        pool = m.hours_pool_fields.learned.in(shared), scatter = m.hours_pool_fields.scatter.in(shared);
        product = m.hours_pool_fields.product.in(shared), weight = m.hours_pool_fields.weight.in(shared);
        place = m.hours_pool_fields.place.in(shared);
        off = state.learner.w.levels;
    }
    SSM_INLINE i64 used() const { return F + SEASONS_OF_HOUR + static_cast<i64>(pool[NAMED_CODES]); }
};

// One more step of both regressions towards (C + ridge) w = c, from where they are.
// shared: rate of the mean products
inline void solve(const Hours& s, double shared) {
    const i64 used = s.used();
    const double ridge = RIDGE * min(RIDGE_HOURS / s.pool[LEARNED] + RIDGE_LEAST, 1.0), code = RIDGE_CODE * shared;
    for (int which : {OF_TARGET, OF_SIZE}) {
        double* w = s.weight + which * s.D;
        const double* c = s.product + which * s.D;
        for (int sweep = 0; sweep < SWEEPS; ++sweep)
            for (i64 j = 0; j < used; ++j) {
                const double* row = s.scatter + j * s.D;
                if (!(row[j] > 0.0)) continue;
                const double lean = ridge * row[j] + (j < s.F + SEASONS_OF_HOUR ? 0.0 : code);
                double left = c[j] - lean * w[j];
                for (i64 i = 0; i < used; ++i) left -= row[i] * w[i];
                w[j] += left / (row[j] + lean);
            }
    }
}

// How far the latest hours are off. gap: over what it was predicted to be; least: the unit's
inline void compare(double* number, double gap, double least, double budget) {
    const double n = ++number[COMPARED], before = number[GAP], square = number[SQUARE];
    const double unit = max(std::sqrt(square), least), along = square > 0.0 ? min(max(number[ALONG] / square, 0.0), ALONG_MOST) : 0.0;
    const double df = max(min(n, 1.0 / GAP_RATE) * (1.0 - along) / (1.0 + along), 1.0);
    const bool alike = gap * before > 0.0 && gap * number[FORMER] > 0.0, known = square > 0.0 && number[HOUR] - number[FIRST] >= FROM && n > LEAST;
    const double size = alike ? min(std::fabs(gap), min(std::fabs(before), std::fabs(number[FORMER]))) : 0.0, z = size / unit;
    const double limit = mean_shift::chi_square_limit(1.0, 2.0, mean_shift::normal_limit(2.0 * max(budget, RAREST)));
    const double far = known ? df * series::log(1.0 + z * z / df) / limit : 0.0;
    if (!(far > mean_shift::HOLD)) {
        // What counts for more would be usual after it, and what stays would hide itself.
        const double most = known ? MOST * unit : INFINITE, moved = clip(gap, most), rate = max(GAP_RATE, 1.0 / n);
        number[ALONG] += rate * (moved * clip(before, most) - number[ALONG]);
        number[SQUARE] += rate * (moved * moved - square);
    }
    number[FORMER] = before, number[GAP] = gap, number[FAR] = std::copysign(far, gap);
}

// The target's smallest step; hours between false alarms; of the pool the entities, and the range of targets
struct Setting { double step, budget, entities, low, high; };

inline void end_hour(const Hours& s, const Setting& with) {
    double *hour = s.number, *pool = s.pool;
    const double events = hour[EVENTS], mean = hour[SUM] / events, usual = hour[USUAL];
    if (events < EVENTS_LEAST) return;
    hour[USUAL] += usual > 0.0 ? EVENTS_RATE * (events - usual) : events;
    if (usual == 0.0 || events < days::PART * usual) return;  // the first hour began before the first event
    const i64 used = s.used();
    const double n = hour[SEEN]++;
    double made = 0.0, wide = 0.0;
    for (i64 j = 0; j < used; ++j) {
        const bool season = j >= s.F && j < s.F + SEASONS_OF_HOUR;
        const double now = season ? s.sum[j] : s.sum[j] / events;
        if (n == 0.0) s.base[j] = now;
        s.off[j] = unknown(now) || unknown(s.base[j]) ? 0.0 : now - s.base[j];
        if (std::fabs(s.off[j]) <= ROUNDING * std::fabs(s.base[j])) s.off[j] = 0.0;
        if (unknown(s.base[j])) s.base[j] = now;
        made += s.weight[OF_TARGET * s.D + j] * s.off[j], wide += s.weight[OF_SIZE * s.D + j] * s.off[j];
    }
    hour[LATEST] = mean;
    if (n == 0.0) {
        hour[MEAN] = hour[EXPECTED] = mean;
        return;
    }
    hour[EXPECTED] = min(max(hour[MEAN] + made, with.low), with.high), made = hour[EXPECTED] - hour[MEAN];
    const double gap = mean - hour[EXPECTED], size = pool[SIZE];
    const bool known = pool[LEARNED] >= POOL_FROM && size > 0.0;
    const double usually = size + max(wide, 0.0), counts = known ? (size / usually) * (size / usually) : 1.0;
    if (known) {
        compare(hour, gap / usually, mean_shift::QUANTUM * with.step / usually, with.budget);
    }
    const double taught = known ? clip(gap, WINSOR_GAP * std::sqrt(pool[TAUGHT])) : gap, large = known ? min(std::fabs(gap), SIZE_MOST * size) : std::fabs(gap);
    // What is off, as by a fault, is not what is usual: else the hours after it are measured by it, and what moves meanwhile seems to make it.
    const double part = known && std::fabs(hour[FAR]) > mean_shift::HOLD ? mean_shift::HELD : 1.0;
    const double rate = part * max(RATE, 1.0 / (n + 1.0)), shared = part * max(RATE / max(with.entities, 1.0), 1.0 / ++pool[LEARNED]), moved = made + taught;
    for (i64 i = 0; i < used; ++i) {
        double* __restrict row = s.scatter + i * s.D;
        const double by = counts * s.off[i];
        for (i64 j = 0; j < used; ++j) row[j] += shared * (by * s.off[j] - row[j]);
        s.product[OF_TARGET * s.D + i] += shared * (by * moved - s.product[OF_TARGET * s.D + i]);
        s.product[OF_SIZE * s.D + i] += shared * (by * (large - size) - s.product[OF_SIZE * s.D + i]);
        s.base[i] += rate * s.off[i];
    }
    hour[MEAN] += rate * moved;
    pool[SIZE] += shared * (large - size), pool[TAUGHT] += shared * (taught * taught - pool[TAUGHT]);
    solve(s, shared);
}

// Begin an hour: what is usual in its quarters.
inline void begin_hour(const Hours& s, const Params& p, const Scratch& w, const Entity& entity, const i64* steps) {
    for (i64 j = 0; j < s.D; ++j) s.sum[j] = 0.0;
    s.number[SUM] = s.number[EVENTS] = 0.0;
    double usual[SEASONS_OF_HOUR]{}, known[SEASONS_OF_HOUR]{};
    if (p.seasons && w.flag[SEASONS] && entity.bin[BIN_TARGETS] > 0.0)
        for (i64 place = 4 * (24 * steps[1] + steps[0]), i = 0; i < 4; ++i) {
            const double of[SEASONS_OF_HOUR] = {usual_of_week(entity, place + i, 0), usual_of_day(entity, {0, place + i}, 0)};
            for (int which = 0; which < SEASONS_OF_HOUR; ++which)
                if (!unknown(of[which])) usual[which] += of[which], known[which] += 1.0;
        }
    const double day = known[OF_DAY] > 0.0 ? usual[OF_DAY] / known[OF_DAY] : UNKNOWN;
    s.sum[s.F + OF_DAY] = day, s.sum[s.F + OF_WEEK] = known[OF_WEEK] > 0.0 ? usual[OF_WEEK] / known[OF_WEEK] : day;
}

// Learn a target of an event in the scratch. u: (F,) inputs; steps: hour and weekday of the target; time: its, ms
inline void observe(const Hours& s, const Params& p, const Scratch& w, const Entity& entity, const days::Usual& of, const double* u, double y,
                    const i64* steps, double time, const Setting& with) {
    double* number = s.number;
    const double hour = std::floor((static_cast<double>(quarter_of(p, steps, time).number + p.quarters)) / QUARTERS);
    if (number[HOUR] != hour) {
        if (number[EVENTS] > 0.0) end_hour(s, with);
        if (number[FIRST] == 0.0) number[FIRST] = hour;
        number[HOUR] = hour;
        begin_hour(s, p, w, entity, steps);
    }
    number[SUM] += y, number[EVENTS] += 1.0;
    for (i64 j = 0; j < s.F; ++j) s.sum[j] += days::within(of, u, j);
    for (i64 i = 0; i < w.flag[NAMED]; ++i) {
        std::uint8_t& place = s.place[w.slots[i]];
        if (place == 0 && s.pool[NAMED_CODES] < HOUR_CODES) place = static_cast<std::uint8_t>(++s.pool[NAMED_CODES]);
        if (place > 0) s.sum[s.F + SEASONS_OF_HOUR + place - 1] += 1.0;
    }
}

// The codes are others from now on: those of a challenger that has taken its place.
inline void forget(const Hours& s) {
    for (i64 i = 0; i < HOUR_POOL_NUMBERS; ++i) s.pool[i] = 0.0;
    for (i64 i = 0; i < s.D * s.D; ++i) s.scatter[i] = 0.0;
    for (i64 i = 0; i < 2 * s.D; ++i) s.product[i] = s.weight[i] = 0.0;
    for (i64 i = 0; i < SLOTS; ++i) s.place[i] = 0;
}

// How far the latest hours are off, over the limit: more than 1 is an alarm. usual: error of an event
inline double off(const double* number, double usual) {
    const double far = std::fabs(number[FAR]);
    return std::fabs(number[LATEST] - number[EXPECTED]) >= usual ? far : min(far, 1.0);
}

// The hours are from now on as the last one was, and that they may be so is known in part, as in `days.hpp`.
inline void rebase(double* number) {
    number[SQUARE] += days::LEARNED * max(number[GAP] * number[GAP] - number[SQUARE], 0.0);
    number[MEAN] += number[LATEST] - number[EXPECTED];
    number[GAP] = number[FORMER] = number[FAR] = 0.0;
}

}  // namespace ssm::SSM_ISA::hours
