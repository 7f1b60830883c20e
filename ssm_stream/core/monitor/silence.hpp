// Silence: entities whose events stop, columns without a value, and columns that repeat one. Each is a length (of a gap, of
// a run) that is judged by the lengths before it: by their mean, their variance, and the tail that all of a source share.
//
// Where lengths are of two kinds, as of a machine that is off at night, no tail of the many short ones knows the long ones. So
// what was too long is remembered: the limit is a little more than it was, though each time at most so many times what it was
// before, and loses that little in a budget's worth of lengths. So what comes as long again within a budget's worth is no alarm,
// and what comes more rarely alarms at no more than the budget's rate.
//
// The clock τ (ms) of a source is that of its events: the median of the latest times of a few entities moves it, so that no
// single clock can, and a pause of all entities moves it by no more than twice their usual gap. It goes forward only: a row that
// comes late would send that median back, and its return would count as time a second time.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cmath>
#include <queue>
#include <vector>

#include "../array.hpp"
#include "../series.hpp"
#include "pauses.hpp"
#include "range_ends.hpp"

namespace ssm {
namespace silence {

namespace own = SSM_ISA::series;

constexpr i64 RING = 9;
constexpr double STEP = 1.05, PAUSE = 0.5, WHOLE = 1.1;  // of the usual gap: a step of its median; how far a pause counts; and with `after`
constexpr double DAY = 86'400'000.0, SET_BACK = 60.0;   // ms, usual gaps: times that fall by more than both are of clocks set back
constexpr double LEAD_STEP = 0.01, FEW = 0.1;        // of the usual gap: a step of LEAD; share of the events that are less ahead
constexpr double FLOOR = 0.004;                      // least rate of mean and variance
constexpr double LEAN = 10.0, SPREAD = 0.05;         // lengths for which an own variance counts half; least deviation
constexpr double SPACING_RATE = 0.05;                // rate of the mean of events from one reading to the next
constexpr double FIRST = 3.0;                        // lengths before a variance
constexpr double OWN = 30.0, SHARED = 100.0;         // lengths before anything is judged: of the series, of the source
constexpr double TAIL = 0.05, CALM = 1.5;            // share of lengths in the tail; times the mean that is never too long
constexpr double NEW_CALM = 2.5;                     // the same of an entity with fewer gaps than a budget has events
constexpr double COUNTED = 0.4;                      // of an event: least mean of the tail of a run of equal values
constexpr double MORE = 0.02;                        // of an event: least mean by which a gap in the tail is longer than the first in it
constexpr double DOUBT = 2.0;                        // rarer than asked for: mean and deviation are estimates
constexpr double FIRST_OF = 1.0, ONE_OF = 2.0, NEW = 3.0;  // a column that has stopped: of those that did together, as of this event
constexpr double ONE_OF_MATES = 4.0;                  // that of another entity did before it
constexpr double MATES = 2.0, MATES_SHARE = 0.5;      // others, and share of all entities, whose column stands still as well: a state of the plant
constexpr i64 LOOKS = 64;                             // events after which one of mates is looked at again: the first may be gone
constexpr double POSITIVE = 1.0, NEGATIVE = 2.0, BOTH = POSITIVE + NEGATIVE;  // that a column has had
constexpr double UNKNOWN_EVENTS = 3.0, EQUAL_EVENTS = 4.0;  // lengths that are never too long
// Of the limit after a length that was too long: times that length; at most so many times the limit before, as one outage is no
// usual gap. It keeps that margin for a budget's worth of lengths or for so many times itself, as a day may have many events.
constexpr double MARGIN = 1.25, RAISE = 4.0, KEPT = 100.0;
constexpr double EXCESS_EVENTS = 2.0, EXCESS_SHARE = 0.1;  // of a run that is stuck, over the longest that is usual: at least, and of that
constexpr double LONGER = 2.0;  // times the longest rest at a value: what is still rest, and no sensor that is stuck

// Of the lengths of a series: mean, variance of length/mean, number; of those that were too long: the limit now, and when it was
// set.  Of a source: variance, tail's start and mean, number.
constexpr i64 MEAN = 0, VARIANCE = 1, NUMBER = 2, LONG = 3, SET = 4, LENGTHS = 5;
constexpr i64 ALL_VARIANCE = 0, START = 1, EXCESS = 2, ALL_NUMBER = 3, ALL_LENGTHS = 4;
// Of an entity: TS, its latest time; while it is silent, DEADLINE is the time (ms) at which that was found; LEANS: ms that its gap may
// last as those of the others do, 0: it is judged by its own.
constexpr i64 GAPS = 0, LAST = LENGTHS, TS = LAST + 1, DEADLINE = TS + 1, KEY = DEADLINE + 1, OF_SOURCE = KEY + 1,
              SILENT = OF_SOURCE + 1, LEANS = SILENT + 1, PAUSES = LEANS + 1, ENTITY = PAUSES + pauses::SIZE;
// Of a column of an entity: gaps between values, runs of equal ones; its latest value; events since that have no reading of their own, and
// the mean of events from one reading to the next.
constexpr i64 MISSING = 0, RUN = LENGTHS, MISSED = RUN + 1, MISSED_TS = MISSED + 1, EQUAL = MISSED_TS + 1, SAME = EQUAL + LENGTHS,
              VALUE = SAME + 1, STUCK = VALUE + 1, STUCK_TS = STUCK + 1, SIGNS = STUCK_TS + 1, REST = SIGNS + 1,
              LATEST = REST + 1, ENDS = LATEST + 1, HELD_EVENTS = ENDS + range_ends::SIZE,
              SPACING = HELD_EVENTS + 1, COLUMN = SPACING + 1;
// Of a source. LEAD: ms by which nearly all events are ahead of the clock.
constexpr i64 TAU = 0, MEDIAN = 1, USUAL = 2, TURN = 3, HELD = 4, ROWS = 5, TIMES = ROWS + RING, TURNS = TIMES + RING, LEAD = TURNS + RING, POOL = LEAD + 1,
              SOURCE = POOL + ALL_LENGTHS;

// An entity without events, and a source.
inline void clear(double* e) {
    std::fill(e, e + ENTITY, 0.0);
    e[LAST] = e[TS] = NAN;
    e[DEADLINE] = e[KEY] = INFINITY;
}
inline std::vector<double> new_source() {
    std::vector<double> out(static_cast<std::size_t>(SOURCE));
    out[POOL + ALL_VARIANCE] = 0.1;
    out[POOL + START] = 2.0;
    out[POOL + EXCESS] = 1.0;
    return out;
}

inline double least(double a, double b) { return b < a ? b : a; }
inline double most(double a, double b) { return b > a ? b : a; }

inline double deviation(const double* s, const double* pool) {
    const double n = s[NUMBER];
    return most(std::sqrt((n * s[VARIANCE] + LEAN * pool[ALL_VARIANCE]) / (n + LEAN)), SPREAD);
}

// The longest length that is usual. rarity: lengths among which one may be falsely too long; unit: of a length that is
// a number of events, whose tail cannot be shorter than a part of one
inline double allowed(const double* s, const double* pool, double rarity, double unit = 0.0) {
    if (s[NUMBER] == 0.0) return INFINITY;
    const double scale = deviation(s, pool), excess = most(pool[EXCESS], COUNTED * unit / (s[MEAN] * scale));
    const double z = pool[START] + excess * most(own::log(most(DOUBT * TAIL * rarity, 1.0)), 0.0);
    return s[MEAN] * most(1.0 + scale * z, CALM);
}

// As `allowed`, of a gap between values, in events: in its tail, each event without one is followed by another with the same
// chance. Where values are hardly ever missing, the tail begins with the first that is, and is rarer than `TAIL`. Runs of equal
// values are not judged so: in quiet hours a signal repeats itself more often than the chance of a repeat says.
inline double allowed_missing(const double* s, const double* pool, double rarity) {
    if (s[NUMBER] == 0.0) return INFINITY;
    const double step = s[MEAN] * deviation(s, pool), start = std::floor(s[MEAN] + step * pool[START]);
    const double share = start > 1.0 ? TAIL : least(TAIL, most(s[MEAN] - 1.0, 1.0 / s[NUMBER]));
    const double more = most(pool[EXCESS] * step, MORE);
    return most(start + 1.0 + own::log(most(DOUBT * share * rarity, 1.0)) / own::log(1.0 + 1.0 / more), s[MEAN] * CALM);
}

inline bool judged(const double* s, const double* pool) { return s[NUMBER] >= OWN && pool[ALL_NUMBER] >= SHARED; }

// The longest length that is no alarm, by the longest that is usual.
inline double limit(const double* s, double usual) { return most(usual, s[LONG]); }

// Mean and variance of the lengths, and of the source's tail, by what is usual; a length beyond twice that counts as that much.
// usual(): the longest that is usual, which is at least `CALM` times the mean; computed only where it matters
// rarity(): as of `allowed`; alarmed: it was found too long, by what was usual then: meanwhile the others may have taught the source
// a longer tail; missing: of a gap in events, whose excess is that over the first one of the tail; believed: the limit that it may set
// however long it was
template <class Usual, class Rarity>
void learn(double* s, double* pool, double length, Usual usual, Rarity rarity, bool alarmed, bool missing = false, double believed = 0.0) {
    bool beyond = false;
    if (s[LONG] > 0.0) s[LONG] = most(s[LONG] - (1.0 - 1.0 / MARGIN) * least(length / KEPT, s[SET] / rarity()), 0.0);
    if (length > CALM * s[MEAN]) {
        const double longest = usual();
        beyond = alarmed || (length > longest && judged(s, pool));
        if (beyond && MARGIN * length > s[LONG]) s[LONG] = s[SET] = least(MARGIN * length, most(RAISE * limit(s, longest), believed));
        length = least(length, most(2.0 * longest, s[MEAN]));
    }
    const double n = s[NUMBER];
    if (n == 0.0) s[MEAN] = most(length, 1.0);
    const double off = length / s[MEAN] - 1.0;
    if (n >= OWN && !beyond) {
        const double scale = deviation(s, pool), z = off / scale, count = pool[ALL_NUMBER], start = pool[START];
        const double rate = most(1.0 / (count + 1.0), 0.001);
        pool[START] = most(start + 4.0 * most(1.0 / (count + 20.0), 0.002) * ((z > start ? 1.0 : 0.0) - TAIL), 0.0);
        if (z > pool[START]) {
            const double step = s[MEAN] * scale;
            const double excess = missing ? most(length - std::floor(s[MEAN] + step * pool[START]) - 1.0, 0.0) / step : z - pool[START];
            pool[EXCESS] += most(1.0 / (TAIL * count + 10.0), 0.01) * (excess - pool[EXCESS]);
        }
        pool[ALL_VARIANCE] += rate * (least(off * off, 100.0) - pool[ALL_VARIANCE]);
        pool[ALL_NUMBER] = count + 1.0;
    }
    const double rate = most(1.0 / (n + 1.0), FLOOR);
    // The first lengths have no mean yet to be measured from.
    if (n >= FIRST) s[VARIANCE] += most(1.0 / (n - FIRST + 1.0), rate) * (least(off * off, 100.0) - s[VARIANCE]);
    s[MEAN] = most(s[MEAN] + rate * (length - s[MEAN]), 1e-3);
    s[NUMBER] = n + 1.0;
}

// A false alarm in so many events, or in so much event time (ms); `after`: the longest gap, ms, in place of both.
struct Limits { double events, ms, after; i64 parts; bool columns; };
enum What : i64 { GONE, BACK, EMPTY, FILLED, FIXED, MOVES };
// since, at: ms, at: when it was found; value: of a column that repeats it, or that it had last; others: columns that stopped with it;
// still, machines: in how many entities of how many the column stands still, its own among them, where these are most of a source; else 0
struct Found { i64 event, row, what, column; double since, value, others, at, still = 0.0, machines = 0.0; };
// What a column may stop to do; where its lengths, and those of the source, are.
struct Part { i64 lengths, run, flag, since, value, pool; What stops, goes; };
constexpr Part MISSES{MISSING, RUN, MISSED, MISSED_TS, LATEST, 0, EMPTY, FILLED},
    REPEATS{EQUAL, SAME, STUCK, STUCK_TS, VALUE, ALL_LENGTHS, FIXED, MOVES};

class Silence {
  public:
    // rows (n,), ts (n,) ms, values (n, C) of the columns, see `look`; entity (E, ENTITY + C COLUMN), source (S, SOURCE + 2 C ALL_LENGTHS)
    // held (n, C or 0): the value is that of the event before, and no reading of its own; repeats (C,): 0: the column may repeat a value
    // for as long as it likes
    nb::list run(nb::handle entity_, nb::handle source_, i64 at, nb::handle rows_, nb::handle ts_, nb::handle values_, nb::handle held_, nb::handle repeats_,
                 double events, double ms, double after) {
        const Array<i64> rows(rows_, "rows", {-1});
        const i64 n = rows.size();
        const Array<i64> ts(ts_, "ts", {n});
        const Array<double> values(values_, "values", {n, -1});
        columns_ = values.size(1);
        const Array<bool> held(held_, "held", {n, -1});
        if (held.size(1) != 0 && held.size(1) != columns_) throw nb::value_error("held: another number of columns");
        const Array<double> repeats(repeats_, "repeats", {columns_});
        repeats_of_ = columns_ ? &repeats[0] : nullptr;
        const Array<double> entity(entity_, "entity", {-1, ENTITY + columns_ * COLUMN}, true);
        const Array<double> source(source_, "source", {-1, SOURCE + columns_ * 2 * ALL_LENGTHS}, true);
        if (at < 0 || at >= source.size()) throw nb::index_error("no such source");
        for (i64 i = 0; i < n; ++i)
            if (rows[i] < 0 || rows[i] >= entity.size()) throw nb::index_error("no such entity");
        entities_ = n ? &entity[0] : nullptr;
        count_ = entity.size();
        limits_ = {events, ms, after, 1 + 2 * columns_, columns_ > 0};
        if (static_cast<i64>(heaps_.size()) <= at) heaps_.resize(static_cast<std::size_t>(at) + 1);
        double* s = &source[at * (SOURCE + columns_ * 2 * ALL_LENGTHS)];
        nb::list out;
        for (i64 i = 0; i < n; ++i) {
            found_.clear();
            step(s, at, i, rows[i], static_cast<double>(ts[i]), values.size(1) ? &values[i * columns_] : nullptr,
                 held.size(1) ? &held[i * columns_] : nullptr);
            for (const Found& f : found_) 
                out.append(nb::make_tuple(f.event, f.row, f.what, f.column, f.since, f.value, f.others, f.at, f.still, f.machines));
        }
        return out;
    }
    // An event of an entity without columns, at ts (ms). Returns what is found.
    const std::vector<Found>& observe(double* entities, i64 count, double* source, i64 row, double ts, const Limits& limits) {
        columns_ = 0;
        entities_ = entities;
        count_ = count;
        limits_ = limits;
        if (heaps_.empty()) heaps_.resize(1);
        found_.clear();
        step(source, 0, 0, row, ts, nullptr);
        return found_;
    }
    // Forgets what waits, and takes the deadlines of the arrays, as after they were loaded.
    void reset(nb::handle entity_, i64 width) {
        const Array<double> entity(entity_, "entity", {-1, width}, true);
        reset(entity.size() ? &entity[0] : nullptr, entity.size(), width);
    }
    void reset(double* entities, i64 count, i64 width) {
        heaps_.clear();
        for (i64 row = 0; row < count; ++row) {
            double* e = entities + row * width;
            e[KEY] = INFINITY;
            const double source = e[OF_SOURCE];
            if (e[SILENT] != 0.0 || !(e[DEADLINE] < INFINITY) || !(source >= 0.0 && source < 1e6)) continue;
            if (heaps_.size() <= static_cast<std::size_t>(source)) heaps_.resize(static_cast<std::size_t>(source) + 1);
            push(static_cast<i64>(source), row, e);
        }
    }

  private:
    using Entry = std::pair<double, i64>;
    struct Later { bool operator()(const Entry& a, const Entry& b) const { return a > b; } };

    double* of(i64 row) const { return entities_ + row * (ENTITY + columns_ * COLUMN); }
    void push(i64 at, i64 row, double* e) {
        e[KEY] = e[DEADLINE];
        heaps_[static_cast<std::size_t>(at)].emplace(e[DEADLINE], row);
    }
    double rarity(double events, double gap) const {
        const double one = limits_.events > 0.0 ? limits_.events / events : limits_.ms / most(gap * events, 1.0);
        return one * static_cast<double>(limits_.parts);
    }

    void step(double* s, i64 at, i64 i, i64 row, double ts, const double* values, const bool* held = nullptr) {
        double* e = of(row);
        move(s, row, ts, e);
        arrive(e, s, at, i, row, ts);
        unsettled_ = false;
        for (i64 j = 0; j < columns_; ++j) {
            double *c = e + ENTITY + j * COLUMN, *pools = s + SOURCE + 2 * j * ALL_LENGTHS;
            if (c[MISSED] == FIRST_OF && std::isfinite(values[j])) teach_columns(e, s, j);
            look(c, pools, e[MEAN], i, row, j, e[TS], values[j], held && held[j]);
        }
        if (unsettled_)
            for (const Part& part : {MISSES, REPEATS}) settle(e, s, part, i, row);
        expire(s, at, i, ts);
    }
    // An entity's event, from which its next gap counts.
    void arrive(double* e, double* s, i64 at, i64 i, i64 row, double ts) {
        // Ahead of the clock it is as far as that will count to its time: where all come at the same times, whether one is before the
        // step of the clock or after it is no part of its gaps, or a single missing row would be three steps. Without that by which
        // nearly all are ahead of a median: they would only be missed later.
        const double now = s[TAU] + lead_;
        // Until every place of the ring has been filled twice the clock has not begun; while it stands, gaps have no length.
        if (e[LAST] == e[LAST] && s[TURN] > 2.0 * static_cast<double>(RING) && !stands_) learn_gap(e, s, most(now - e[LAST], 0.0));
        e[LEANS] = 0.0;
        // A row that comes late, as those that `every` makes of readings when the next one comes, ends it at the time of the clock: its
        // own may be of before the silence was found.
        if (e[SILENT] != 0.0) found_.push_back({i, row, BACK, -1, e[TS], NAN, 0.0, most(most(ts, s[MEDIAN]), e[DEADLINE])});
        if (!(e[LAST] > now)) e[LAST] = now;
        // Of a row that comes late, the time is not when its entity came last.
        if (!(ts < e[TS] && e[TS] - ts <= set_back(s))) e[TS] = ts;
        e[SILENT] = 0.0;
        e[OF_SOURCE] = static_cast<double>(at);
        const bool by_gaps = limits_.after <= 0.0;
        e[DEADLINE] = e[LAST] + (!by_gaps ? limits_.after : judged(e, s + POOL) ? most(limit(e + GAPS, usual(e, s)), of_new(e)) : INFINITY);
        if (e[DEADLINE] < e[KEY]) push(at, row, e);
    }
    void learn_gap(double* e, double* s, double gap) const {
        // Where most entities pause the clock stands, and the gaps of one that does not have no length.
        if (e[NUMBER] >= FIRST) pauses::note(e + PAUSES, gap, most(e[MEAN], s[USUAL]), KEPT, rarity(1.0, e[MEAN]));
        learn(e + GAPS, s + POOL, gap, [&] { return usual(e, s); }, [&] { return rarity(1.0, e[MEAN]); },
              limits_.after <= 0.0 && e[SILENT] != 0.0, false, e[LEANS]);
    }
    // What an entity's gap may last, ms, as those of its source pause. The first entities show it: a million may fall silent at once.
    // tau: the clock of the source; usual: gap in it, ms
    double leaning(i64 row, double tau, double usual) {
        const double* e = of(row);
        pool_.clear();
        for (i64 k = 0; k < count_ && k < pauses::SHOWN; ++k) {
            const double* o = of(k);
            if (o[LAST] == o[LAST] && o[OF_SOURCE] == e[OF_SOURCE])
                pool_.add(o + PAUSES, o[NUMBER], most(o[MEAN], usual), o[SILENT] != 0.0 ? tau - o[LAST] : 0.0);
        }
        return pool_.allowed(e + PAUSES, e[NUMBER]);
    }
    double set_back(const double* s) const { return most(DAY, SET_BACK * s[USUAL]); }
    // A row that is missing now and then, more often than the budget allows alarms, may not have been missing yet: until it can
    // have been, the gap that one leaves is learned and no alarm, or each machine of a new source would raise one.
    double of_new(const double* e) const {
        const double budget = limits_.events > 0.0 ? limits_.events : limits_.ms / most(e[MEAN], 1.0);
        return e[NUMBER] < budget ? NEW_CALM * e[MEAN] : 0.0;
    }
    double usual(const double* e, const double* s) const { return allowed(e + GAPS, s + POOL, rarity(1.0, e[MEAN])); }

    // The clock of the source, at an event of an entity.
    void move(double* s, i64 row, double ts, const double* e) {
        i64 place = -1, oldest = 0;
        const i64 held = static_cast<i64>(s[HELD]);
        for (i64 k = 0; k < held; ++k) {
            if (s[ROWS + k] == static_cast<double>(row)) place = k;
            if (s[TURNS + k] < s[TURNS + oldest]) oldest = k;
        }
        // One that has been away for long makes room, so that those that are left are the clock.
        const bool stale = held > 1 && s[TURN] - s[TURNS + oldest] > 8.0 * static_cast<double>(held);
        if (place < 0) place = held < RING && !stale ? held : oldest;
        else if (stale && oldest != place) {
            const i64 last = held - 1;
            for (const i64 part : {ROWS, TIMES, TURNS}) s[part + oldest] = s[part + last];
            if (place == last) place = oldest;
            s[HELD] -= 1.0;
        }
        if (place == static_cast<i64>(s[HELD])) s[HELD] += 1.0;
        s[ROWS + place] = static_cast<double>(row);
        s[TIMES + place] = ts;
        s[TURNS + place] = ++s[TURN];
        double sorted[RING];
        const i64 now = static_cast<i64>(s[HELD]);
        for (i64 k = 0; k < now; ++k) {
            i64 m = k;
            for (; m > 0 && sorted[m - 1] > s[TIMES + k]; --m) sorted[m] = sorted[m - 1];
            sorted[m] = s[TIMES + k];
        }
        if (e[TS] == e[TS] && ts > e[TS]) {
            // A pause of all, of which the clock has counted a part, is one gap and not one of each entity: many would quadruple
            // what is usual in one round, and the next pause would count as four. Of each, its share of the events so far.
            const double gap = ts - e[TS];
            const bool across = e[NUMBER] >= OWN && gap > s[TAU] - e[LAST] + s[USUAL];
            const double step = across ? 1.0 + (STEP - 1.0) * least((e[NUMBER] + 1.0) / s[TURN], 1.0) : STEP;
            s[USUAL] = s[USUAL] == 0.0 ? gap : s[USUAL] * (gap > s[USUAL] ? step : gap < s[USUAL] ? 1.0 / STEP : 1.0);
        }
        const double median = sorted[now / 2], moved = s[TURN] == 1.0 ? 0.0 : median - s[MEDIAN];
        // One entity that sends what it has kept for days is no clock that was set back.
        const bool follows = moved >= 0.0 || (now > 1 && moved < -set_back(s));
        stands_ = !follows && moved < -s[USUAL];
        // Where all entities come at the same times, as windows do, the clock moves by a whole gap at once.
        const double most_counted = limits_.after > 0.0 ? least(WHOLE * s[USUAL], limits_.after / 4.0) : PAUSE * s[USUAL];
        if (moved > 0.0) s[TAU] += s[USUAL] > 0.0 ? least(moved, most_counted) : moved;
        if (follows) s[MEDIAN] = median;
        const double ahead = s[USUAL] > 0.0 ? most(least(ts - s[MEDIAN], most_counted), 0.0) : 0.0;
        s[LEAD] = most(s[LEAD] + LEAD_STEP * s[USUAL] * ((ahead > s[LEAD] ? 1.0 : 0.0) - 1.0 + FEW), 0.0);
        lead_ = most(ahead - s[LEAD], 0.0);
    }

    // The deadlines that the clock has passed: of entities of this source that are not silent already.
    void expire(double* s, i64 at, i64 i, double ts) {
        auto& heap = heaps_[static_cast<std::size_t>(at)];
        while (!heap.empty() && heap.top().first <= s[TAU]) {
            const auto [key, row] = heap.top();
            heap.pop();
            if (row >= count_) continue;
            double* e = of(row);
            if (e[KEY] == key) e[KEY] = INFINITY;
            if (e[SILENT] != 0.0 || !(e[DEADLINE] < INFINITY) || e[OF_SOURCE] != static_cast<double>(at)) continue;
            if (e[DEADLINE] <= s[TAU] && limits_.after <= 0.0) {
                e[LEANS] = leaning(row, s[TAU], s[USUAL]);
                e[DEADLINE] = most(e[DEADLINE], e[LAST] + e[LEANS]);
            }
            if (e[DEADLINE] <= s[TAU]) {
                e[SILENT] = 1.0;
                e[DEADLINE] = most(ts, s[MEDIAN]);  // no row that is late itself
                found_.push_back({i, row, GONE, -1, e[TS], NAN, 0.0, e[DEADLINE]});
            } else if (e[DEADLINE] < e[KEY]) push(at, row, e);
        }
    }

    // The longest length of a column that is usual. pools: of the column
    double usual(const Part& part, const double* c, const double* pools, double gap) const {
        const double *own = c + part.lengths, *pool = pools + part.pool, rare = rare_of(part, c, gap);
        return part.flag == MISSED ? most(allowed_missing(own, pool, rare), UNKNOWN_EVENTS) : most(allowed(own, pool, rare, 1.0), EQUAL_EVENTS);
    }
    double rare_of(const Part& part, const double* c, double gap) const { return rarity(most(c[part.lengths + MEAN], 1.0), gap); }
    void learn_length(const Part& part, double* c, double* pools, double gap, double length) const {
        learn(c + part.lengths, pools + part.pool, length, [&] { return usual(part, c, pools, gap); }, [&] { return rare_of(part, c, gap); }, c[part.flag] != 0.0,
              part.flag == MISSED);
    }
    // A gap between values that was an alert is one of the entity's: its columns share what brings values, a bus, a module, a gateway,
    // and each would have to learn by an alert of its own how long that is away. Not those that are missing as well, which learn by
    // themselves, and none that is far less often missing.
    void teach_columns(double* e, const double* s, i64 j) const {
        const auto longest = [&](i64 k) { return usual(MISSES, e + ENTITY + k * COLUMN, s + SOURCE + 2 * k * ALL_LENGTHS, e[MEAN]); };
        for (i64 k = 0; k < columns_; ++k) {
            double* o = e + ENTITY + k * COLUMN;
            if (k == j || o[MISSED] != 0.0 || 2.0 * longest(k) < longest(j)) continue;
            const double taught = least(MARGIN * (e[ENTITY + j * COLUMN + RUN] + 1.0), RAISE * limit(o + MISSING, longest(k)));
            if (taught > o[MISSING + LONG]) o[MISSING + LONG] = o[MISSING + SET] = taught;
        }
    }
    // The longest run of the column's value that is rest: see `range_ends.hpp`.
    static double rest(const Part& part, const double* c) { return part.flag == STUCK ? LONGER * range_ends::rested(c + ENDS, c[VALUE]) : 0.0; }
    // Whether so many events without a value, or with the same, are too long: by so many times.
    bool too_long(const Part& part, const double* c, const double* pools, double gap, double length, double times = 1.0) const {
        const double* own = c + part.lengths;
        const double least_length = most(part.flag == MISSED ? UNKNOWN_EVENTS : EQUAL_EVENTS, rest(part, c));
        if (!(length > times * least_length) || !judged(own, pools + part.pool)) return false;
        double longest = usual(part, c, pools, gap);
        // Most runs that are barely longer end with the next event, whatever the budget is, and leave nothing to be done.
        if (part.flag == STUCK) longest += most(EXCESS_EVENTS, EXCESS_SHARE * longest);
        return length > times * limit(own, longest);
    }

    // A column's value at an event: is it missing for too long, or the same for too long? Infinite: not judged, and the
    // lengths that it cuts are not learned. What is stuck or missing stays so until a value shows that it is not.
    // Negative infinite: missing as is usual in the state of the process, which is no gap; runs of equal values go on after it.
    void look(double* c, double* pools, double gap, i64 i, i64 row, i64 j, double ts, double value, bool held) {
        if (std::isinf(value)) {
            if (c[MISSED] == 0.0) c[RUN] = 0.0;
            if (value < 0.0) return;
            if (c[STUCK] == 0.0) {
                c[SAME] = 0.0;
                c[VALUE] = NAN;
            }
            return;
        }
        if (value != value) {
            if (c[RUN] == 0.0) c[MISSED_TS] = ts;
            c[RUN] += 1.0;
            if (c[MISSED] == 0.0 && too_long(MISSES, c, pools, gap, c[RUN] + 1.0)) {
                c[MISSED] = NEW;
                unsettled_ = true;
            }
            return;
        }
        c[LATEST] = value;
        learn_length(MISSES, c, pools, gap, c[RUN] + 1.0);
        go_on(MISSES, c, i, row, j, ts, value);
        c[RUN] = 0.0;
        if (repeats_of_[j] == 0.0) return;
        // A row of readings has the last value of a signal that has had none since: what repeats it is a reading of its own, and one
        // that comes late, as where a value is sent when it has changed and once an hour, counts as those that did not come.
        if (held) {
            c[HELD_EVENTS] += 1.0;
            return;
        }
        const double since = c[HELD_EVENTS] + 1.0, repeats = most(since / most(c[SPACING], 1.0), 1.0);
        c[SPACING] += c[SPACING] == 0.0 ? since : SPACING_RATE * (since - c[SPACING]);
        c[HELD_EVENTS] = 0.0;
        const double rested = rest(REPEATS, c);
        const bool at_end = range_ends::reached_often(c + ENDS, value);
        if (value > 0.0 && c[SIGNS] != POSITIVE && c[SIGNS] != BOTH) c[SIGNS] += POSITIVE;
        if (value < 0.0 && c[SIGNS] < NEGATIVE) c[SIGNS] += NEGATIVE;
        if (value == c[VALUE]) {
            const i64 looks = static_cast<i64>(c[SAME]) / LOOKS;
            c[SAME] += repeats;
            if (c[STUCK] == ONE_OF_MATES && static_cast<i64>(c[SAME]) / LOOKS > looks) unsettled_ = true;
            if (c[STUCK] == 0.0 && too_long(REPEATS, c, pools, gap, c[SAME])) {
                c[STUCK] = NEW;
                c[REST] = value;
                unsettled_ = true;
            }
            return;
        }
        // A rest is no run by which those of other values are judged: they would be stuck for as long before it is found.
        if (c[SAME] > 0.0 && (c[SAME] > rested || c[SAME] <= usual(REPEATS, c, pools, gap))) learn_length(REPEATS, c, pools, gap, c[SAME]);
        if (c[STUCK] == FIRST_OF || c[STUCK] == ONE_OF) teach_mates(pools, row, j);
        go_on(REPEATS, c, i, row, j, ts, value);
        // Zero, of what is never on both sides of it, is rest: a machine that is off has no load, no current, no flow. So is the value
        // at which it stood for too long before: a sensor that is stuck hardly comes back to that; and an end of its range at which it
        // has often been.
        const bool rests = value == c[REST] || at_end || (value == 0.0 && c[SIGNS] != BOTH);
        c[SAME] = rests ? 0.0 : 1.0;
        c[VALUE] = rests ? NAN : value;
        c[STUCK_TS] = ts;
    }
    void go_on(const Part& part, double* c, i64 i, i64 row, i64 j, double ts, double value) {
        if (c[part.flag] == 0.0) return;
        if (c[part.flag] == FIRST_OF) {
            found_.push_back({i, row, part.goes, j, c[part.since], value, 0.0, ts});
            unsettled_ = true;
        }
        c[part.flag] = 0.0;
    }

    // Columns that stop together, as all of a source that is frozen do, are one alert: that of the first. When it goes on, one of
    // those that do not is the first. Together: stopped for at least half as long, and for half of what is too long for it alone.
    void settle(double* e, const double* s, const Part& part, i64 i, i64 row) {
        for (i64 j = 0; j < columns_; ++j) {
            double* c = e + ENTITY + j * COLUMN;
            if (c[part.flag] < ONE_OF) continue;
            bool first = true;
            double others = 0.0;
            for (i64 k = 0; k < columns_; ++k) {
                const double *o = e + ENTITY + k * COLUMN, *pools = s + SOURCE + 2 * k * ALL_LENGTHS;
                if (k == j || 2.0 * least(c[part.run], o[part.run]) < most(c[part.run], o[part.run])) continue;
                if (o[part.flag] == FIRST_OF) first = false;
                if (o[part.flag] != 0.0 || too_long(part, o, pools, e[MEAN], o[part.run], 0.5)) others += 1.0;
            }
            const Mates still = first && part.flag == STUCK ? mates(row, j) : Mates{};
            if (still.are_most() && still.alarmed) {
                c[part.flag] = ONE_OF_MATES;
                continue;
            }
            c[part.flag] = first ? FIRST_OF : ONE_OF;
            if (!first) continue;
            const bool most_of_site = still.are_most();
            found_.push_back({i, row, part.stops, j, c[part.since], c[part.value], others, e[TS], most_of_site ? still.still + 1.0 : 0.0,
                              most_of_site ? still.machines : 0.0});
        }
    }

    // A site that is idle has columns that stand still in all its machines, each at a value of its own, and each for a little less or
    // more than what is too long. That is one alert, of the first that is found. One value in all of them is left to `SharedSignals`.

    // Column j of entity k where it is of the same source as that of `row`, and has a value at which it may stand; else none.
    double* mate(i64 k, i64 row, i64 j) const {
        double *e = of(k), *o = e + ENTITY + j * COLUMN;
        return k != row && e[LAST] == e[LAST] && e[OF_SOURCE] == of(row)[OF_SOURCE] && o[VALUE] == o[VALUE] ? o : nullptr;
    }
    // Of the entities of a source but one: those whose column has a value at which it may stand, those in which it stands still for at
    // least half as long, whether that of one of these is an alert at another value; all that send, that one among them.
    struct Mates {
        double others = 0.0, still = 0.0, machines = 0.0;
        bool alarmed = false;
        bool are_most() const { return still >= MATES && still >= MATES_SHARE * others; }
    };
    Mates mates(i64 row, i64 j) const {
        const double* c = of(row) + ENTITY + j * COLUMN;
        Mates out;
        for (i64 k = 0; k < count_; ++k) {
            const double* e = of(k);
            if (e[LAST] == e[LAST] && e[OF_SOURCE] == of(row)[OF_SOURCE] && (k == row || e[SILENT] == 0.0)) out.machines += 1.0;
            const double* o = mate(k, row, j);
            if (!o) continue;
            out.others += 1.0;
            if (2.0 * o[SAME] < c[SAME]) continue;
            out.still += 1.0;
            out.alarmed |= (o[STUCK] == FIRST_OF || o[STUCK] == ONE_OF) && o[SAME] <= 2.0 * c[SAME] && o[VALUE] != c[VALUE];
        }
        out.machines = most(out.machines, out.still + 1.0);  // one that is silent may stand still
        return out;
    }
    // One that was an alert goes on: what so long a run teaches its own entity, it teaches those that stand still as well. One that is
    // stuck all the same is found when it has stood for that much longer. pools: of the column
    void teach_mates(const double* pools, i64 row, i64 j) const {
        const double* c = of(row) + ENTITY + j * COLUMN;
        for (i64 k = 0; k < count_; ++k) {
            double* o = mate(k, row, j);
            if (!o || 2.0 * o[SAME] < c[SAME] || o[VALUE] == c[VALUE] || (o[STUCK] != 0.0 && o[STUCK] != ONE_OF_MATES)) continue;
            double* own = o + EQUAL;
            const double taught = least(MARGIN * c[SAME], RAISE * limit(own, usual(REPEATS, o, pools, of(k)[MEAN])));
            if (taught > own[LONG]) own[LONG] = own[SET] = taught;
            o[STUCK] = 0.0;
        }
    }

    double* entities_ = nullptr;
    i64 columns_ = 0, count_ = 0;
    const double* repeats_of_ = nullptr;  // of each column, while `run` runs
    double lead_ = 0.0;       // ms by which the clock of the event's source will count to its time, beyond LEAD
    bool stands_ = false;     // whether the clock of the event's source waits for the times that it has had
    bool unsettled_ = false;  // whether a column of the event's entity has stopped or goes on
    Limits limits_{};
    std::vector<std::priority_queue<Entry, std::vector<Entry>, Later>> heaps_;
    std::vector<Found> found_;
    pauses::Pool pool_;
};

}  // namespace silence
}  // namespace ssm
