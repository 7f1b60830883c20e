// Is this value new for the entity? Distance from everything that it did before, scaled to a false-alarm budget.
//
// Errors of one step miss much: after a jump to a new level the next prediction is right again. Here a value is compared with
// all values of the last 8,000 to 16,000 events, on 13 channels:
//
// * four signals: the value, its asinh (small values beside large ones), and each of the two minus what is usual at this
//   hour of the week; each as it is and as running means over about 4 and 16 events (a small shift that stays);
// * a fifth, the log of the mean absolute step (a line that goes flat, a noise that grows).
//
// A channel keeps which of 64 bins were visited: an occupancy bitmap. Novelty of x is its distance to the nearest visited
// bin over the visited range, at most 1; so outliers and values inside a gap between two regimes both count, and nothing is
// assumed about the distribution. New bins count as visited only after up to 60 events, so that what creeps away does not
// hide itself. The raw score is the mean of √novelty, in [0, 1]; the five signals weigh the same. Maps of which values
// occurred are the idea of the detector CAD OSE (Smirnov 2016, Numenta Anomaly Benchmark).
//
// The hour of the week is compared with its own last week only while weeks have been alike: at the first event of an hour the
// slow mean and the hour's own compete, and while the slow mean was nearer, the hour begins anew. Else what a first day or a
// wandering level was would be news a week later. An hour of hundreds of events goes on from the hour before: its mean follows within
// some of them, so that its first one, compared otherwise than all that are remembered, would be new.
//
// Range. After starts and stops that differ each time, the bound below is high, and what creeps is compared with itself of an hour
// ago. So there is a second rule, without a budget: farther from all values up to a block of events ago than half of their range,
// and than some steps of a sensor that is read in coarse ones. Once it is back, where it was is known.
//
// Budget. Stationary data set new records too, of k events with a rate of c/k. So peaks of the raw score over `FLOOR` are
// modelled (peaks over threshold; Pickands 1975): their rate is c/k, their excess, in units of what k standard normal events
// give (`unit_excess`), is generalised Pareto. c and the tail are the entity's own, from a prior that standard normal events
// fit: entities with heavy tails or many regimes get a higher bound.
//
// Time and space: no loop over bins; bit operations find the nearest visited one.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::novelty {

constexpr double SETTLE = 50.0;        // events that fix the centre and the unit
constexpr double WARMUP = 100.0;       // events before the first score
constexpr double GENERATION = 8000.0;  // events of a bitmap; it is kept for as many more
constexpr i64 REST = 60;               // events of one peak of the raw score
constexpr double FINEST = 1e-6;        // a new channel's bins, in units of the entity's spread: they grow by doubling
enum { BITS = 64, SPANS = 3, SIGNALS = 4, CHANNELS = SIGNALS * SPANS + 1, CELLS = 168 };
constexpr double RATES_OF[SPANS] = {1.0, 2.0 / 5.0, 2.0 / 17.0};  // running means over 1, 4 and 16 events
constexpr double LARGEST = 1e300;      // differences of larger values would overflow
constexpr double FARTHEST = 1e15;      // spreads from the centre: beyond, squares and float32 would overflow
constexpr double ASINH_UNIT = 3.0;     // spreads: up to about here asinh is linear
constexpr double QUIET = 1e-3;         // of the asinh: smaller mean steps are all alike
constexpr double WEEK_SECONDS = 604800.0, CELL_RATE = 0.2;
constexpr int MANY = 255;              // events of an hour: as many as are counted
constexpr double ALIKE_RATE = 0.05, ALIKE_CLIP = 5.0;  // of what the hour's mean was nearer than the slow one, in spreads
constexpr double SLOW_RATE = 0.01;     // of the mean that stands in for cells without events
constexpr i64 BLOCK = 1000;            // events that wait before they are in the range
constexpr double BEYOND = 0.5;         // of the range: from there on, it is new whatever is usual
constexpr float KEPT = 0.96f;          // a generation, of how far the range before goes beyond: a weekly stop may last generations
constexpr double STEPS = 4.0;          // smallest steps of the value: nearer than so many is no distance
constexpr double FLOOR = 0.02;
constexpr double PEAKS = 5.0;          // c of standard normal events, rounded up (2.7 to 4.6 for k from 100 to 16,000)
constexpr double EXPOSURE = 2.0;       // the prior's weight for c: as many peaks as it expects from k to e²·k events
constexpr double EXPOSURE_MOST = 30.0; // about 360,000 events
constexpr double PRIOR = 10.0;         // peaks that the prior of the excess counts for
constexpr double PRIOR_SQUARE = 2.25;  // mean square of a generalised Pareto of mean 1 and shape 0.1
constexpr double SHAPE_MOST = 0.45;
constexpr double SHAPE_MORE = 0.1;     // of few peaks, moments find the shape too low
constexpr double BOUND_MOST = 0.9;     // of a raw score that ends at 1
constexpr double SCORE_MOST = 1e3;

// columns of `number`
enum { SEEN, CENTRE, SPREAD, AGE, LAST, ACTIVITY, PEAK, LEFT, COUNT, EXPOSED, MEAN_OF, SQUARE };
// of `week`: what the hours' means were nearer than the slow one; this hour, from 1
enum { ALIKE, HOUR };
// rows of `range`, each the least and the largest value, in spreads: of the last generation, of this one, of what waits
enum { BEFORE, NOW, WAITING, RANGES };

struct Novelty {
    double *number, *smooth, *slow, *grid;  // (12,), (SIGNALS, SPANS), (2,), (CHANNELS, 2)
    u64* visited;                           // (CHANNELS, 3): this generation, the last, what still waits
    float *cell, *range, *week;             // (CELLS, 2), (RANGES, 2), (2,)
    std::uint8_t* cell_events;              // (CELLS,)
    SSM_INLINE Novelty(const MonitorState& m, i64 e) {
        char* row = m.novelty.row(e);
        const NoveltyFields& f = m.novelty_fields;
        number = f.number.in(row), smooth = f.smooth.in(row), slow = f.slow.in(row), grid = f.grid.in(row);
        visited = f.visited.in(row), cell = f.cell.in(row), range = f.range.in(row), week = f.week.in(row), cell_events = f.cell_events.in(row);
    }
};

constexpr u64 MASKS[5] = {0x0000FFFF0000FFFF, 0x00FF00FF00FF00FF, 0x0F0F0F0F0F0F0F0F, 0x3333333333333333, 0x5555555555555555};
constexpr int SHIFTS[5] = {16, 8, 4, 2, 1};

// Neighbouring bins as one: 64 bins in the lower 32.
inline u64 merged(u64 bits) {
    bits = (bits | (bits >> 1)) & MASKS[4];
    for (int i = 3; i >= 0; --i) bits = (bits | (bits >> SHIFTS[i + 1])) & MASKS[i];
    return (bits | (bits >> SHIFTS[0])) & 0xFFFFFFFF;
}
// The lower 32 bins in two each. Both halves count as visited: coarser than it was, but never a false novelty.
inline u64 split(u64 bits) {
    for (int i = 0; i < 5; ++i) bits = (bits | (bits << SHIFTS[i])) & MASKS[i];
    return bits | (bits << 1);
}
SSM_INLINE int highest(u64 bits) { return 63 - __builtin_clzll(bits); }
SSM_INLINE int lowest(u64 bits) { return __builtin_ctzll(bits); }

// Novelty of x, which is then marked. foreseen: it counts as visited at once, and is nothing new
inline double visit(double* grid, u64* visited, double x, bool foreseen) {
    if (grid[1] == 0.0) grid[0] = x - 0.5 * BITS * FINEST, grid[1] = FINEST;
    double place = (x - grid[0]) / grid[1];
    while (!(0.0 <= place && place < BITS)) {
        for (int i = 0; i < 3; ++i) {
            const u64 bits = merged(visited[i]);
            visited[i] = place < 0.0 ? bits << 32 : bits;
        }
        if (place < 0.0) grid[0] -= BITS * grid[1];
        grid[1] *= 2.0;
        place = (x - grid[0]) / grid[1];
    }
    const u64 known = visited[0] | visited[1], mark = u64(1) << static_cast<u64>(place);
    visited[foreseen ? 0 : 2] |= mark;
    if (foreseen || known == 0 || (known & mark)) return 0.0;
    double near = BITS;
    const u64 below = known & (mark - 1), above = known & ~(mark - 1);
    if (below) near = place - highest(below) - 1.0;
    if (above) near = min(near, static_cast<double>(lowest(above)) - place);
    const double span = static_cast<double>(highest(known)) - static_cast<double>(lowest(known)) + 1.0;
    return min(max(near, 0.0) / span, 1.0);
}

// The older generation goes. Where one outlier had widened the bins, they are narrowed again.
inline void forget(const Novelty& s) {
    for (int c = 0; c < CHANNELS; ++c) {
        u64 *visited = s.visited + 3 * c, bits = visited[0] | visited[2];
        double* grid = s.grid + 2 * c;
        while (bits && grid[1] >= 2.0 * FINEST) {
            int start;
            if (highest(bits) < 32) start = 0;
            else if (lowest(bits) >= 32) start = 32;
            else if (lowest(bits) >= 16 && highest(bits) < 48) start = 16;
            else break;
            bits = split((bits >> start) & 0xFFFFFFFF);
            grid[0] += start * grid[1];
            grid[1] *= 0.5;
        }
        visited[0] = 0, visited[1] = bits, visited[2] = 0;
    }
}

// Of what began as a constant, rounding is the spread.
SSM_INLINE double spread_of(const double* number) { return max(max(number[SPREAD], 1e-9 * std::fabs(number[CENTRE])), 1e-300); }
// A value in spreads from the centre.
SSM_INLINE double in_spreads(const double* number, double value) {
    return min(max((value - number[CENTRE]) / spread_of(number), -FARTHEST), FARTHEST);
}

inline double raw_score(const Novelty& s, double plain, double week_seconds, bool foreseen) {
    double* number = s.number;
    const double bent = series::asinh(plain / ASINH_UNIT);
    i64 hour = 0;
    if (std::fabs(week_seconds) < INFINITE)
        hour = static_cast<i64>(min(max(week_seconds * (CELLS / WEEK_SECONDS), 0.0), CELLS - 1.0));
    int count = s.cell_events[hour];
    const bool first = number[SEEN] == SETTLE;
    // One of the hour before is late, and begins no hour; nor does the next one. Else means of some minutes ago would be taken for a week's.
    const i64 at = hour + 1, now = static_cast<i64>(s.week[HOUR]);
    bool follows = false;  // the hour before
    const bool late = now > 0 && at == (now > 1 ? now - 1 : i64(CELLS));
    if (at != now && !late) {
        const double nearer = std::fabs(plain - s.slow[0]) - std::fabs(plain - static_cast<double>(s.cell[2 * hour]));
        if (count > 0) s.week[ALIKE] += static_cast<float>(ALIKE_RATE * (clip(nearer, ALIKE_CLIP) - static_cast<double>(s.week[ALIKE])));
        if (!(s.week[ALIKE] > 0.0f)) count = 0;
        follows = now > 0 && s.cell_events[now - 1] == MANY;
        if (follows) std::memcpy(s.cell + 2 * hour, s.cell + 2 * (now - 1), 2 * sizeof(float));
        s.week[HOUR] = static_cast<float>(at);
    }
    double total = 0.0;
    for (int i = 0; i < SIGNALS; ++i) {
        double x = i % 2 ? bent : plain;
        if (i >= 2) {
            const double usual = x;
            double& slow = s.slow[i - 2];
            float& cell = s.cell[2 * hour + i - 2];
            if (first) slow = x;
            x -= count > 0 || follows ? static_cast<double>(cell) : slow;
            cell += static_cast<float>(max(CELL_RATE, 1.0 / (count + 1.0)) * (usual - static_cast<double>(cell)));
            slow += SLOW_RATE * (usual - slow);
        }
        for (int k = 0; k < SPANS; ++k) {
            const int c = i * SPANS + k;
            double& smooth = s.smooth[c];
            if (first || foreseen) smooth = x;  // else means of old and new would be new for as long as they take
            smooth += RATES_OF[k] * (x - smooth);
            const double near = visit(s.grid + 2 * c, s.visited + 3 * c, smooth, foreseen);
            if (near > 0.0) total += std::sqrt(near);  // most values are nothing new
        }
    }
    s.cell_events[hour] = static_cast<std::uint8_t>(count + 1 < MANY ? count + 1 : MANY);
    if (!first) {
        const double rate = max(RATES_OF[SPANS - 1], 1.0 / (number[SEEN] - SETTLE));
        number[ACTIVITY] += rate * (std::fabs(bent - number[LAST]) - number[ACTIVITY]);
        const double activity = series::log(number[ACTIVITY] + QUIET);
        total += SPANS * std::sqrt(visit(s.grid + 2 * (CHANNELS - 1), s.visited + 3 * (CHANNELS - 1), activity, foreseen));
    }
    number[LAST] = bent;
    return total / ((SIGNALS + 1) * SPANS);
}

// Mean excess of the raw score's peaks over FLOOR, at k standard normal events (measured, k from 100 to 16,000).
SSM_INLINE double unit_excess(double k) { return 0.017 + 8.0 / k; }

// The raw score whose peaks come once in `events` events, while k events are remembered.
inline double bound(const double* number, double k, double events) {
    const double mean = 1.0 + number[MEAN_OF], square = PRIOR_SQUARE + number[SQUARE];
    const double variance = max(square - mean * mean, 1e-12);
    double shape = min(max(0.5 * (1.0 - mean * mean / variance), 0.0), SHAPE_MOST);
    const double size = mean * (1.0 - shape);
    shape += SHAPE_MORE;
    const double peaks = (EXPOSURE * PEAKS + number[COUNT]) / (EXPOSURE + number[EXPOSED]), ratio = max(peaks / k * events, 1.0);
    const double excess = size / shape * (series::power(ratio, shape) - 1.0);
    return min(FLOOR + unit_excess(k) * excess, BOUND_MOST);
}

inline void learn_peak(double* number, double k, double events) {
    // What lies beyond the bound may be a fault, which must not become the new normal.
    const double unit = unit_excess(k), most = 3.0 * (bound(number, k, events) - FLOOR) + unit;
    const double excess = min(number[PEAK] - FLOOR, most) / unit, weight = 1.0 / (number[COUNT] + PRIOR + 1.0);
    number[MEAN_OF] += weight * (excess - 1.0 - number[MEAN_OF]);
    number[SQUARE] += weight * (excess * excess - PRIOR_SQUARE - number[SQUARE]);
    number[COUNT] += 1.0;
}

inline void widen(float* range, float least, float largest) { range[0] = min(range[0], least), range[1] = max(range[1], largest); }
inline void narrow(float* range) { range[0] = static_cast<float>(2.0 * FARTHEST), range[1] = -range[0]; }

// How far x is from a range, over how far it may be. step: the smallest one of values
inline double off_range(const Novelty& s, const float* known, double x, double step) {
    const double least = static_cast<double>(known[0]), largest = static_cast<double>(known[1]), far = max(x - largest, least - x);
    return far * spread_of(s.number) > STEPS * step ? min(far / (BEYOND * (largest - least)), SCORE_MOST) : 0.0;
}
// How far the mean of the last four or so values is from all values before the last block, over how far it may be; 0 until a
// generation is known. Learns the last value. before: that mean an event ago
inline double beyond(const Novelty& s, double plain, double before, double step, bool foreseen) {
    const double* number = s.number;
    if (number[SEEN] == SETTLE) for (i64 i = 0; i < RANGES; ++i) narrow(s.range + 2 * i);
    float *now = s.range + 2 * NOW, *waiting = s.range + 2 * WAITING;
    float known[2] = {s.range[2 * BEFORE], s.range[2 * BEFORE + 1]};
    widen(known, now[0], now[1]);
    widen(foreseen ? now : waiting, static_cast<float>(plain), static_cast<float>(plain));
    if (number[SEEN] - SETTLE < GENERATION || !(known[0] < known[1])) return 0.0;
    const double score = off_range(s, known, s.smooth[1], step);
    // What was found, and is over, is known: a machine that from now on stops twice a day would be new at each stop for a block.
    if (score <= 1.0 && off_range(s, known, before, step) > 1.0) widen(now, waiting[0], waiting[1]), narrow(waiting);
    return score;
}
// After an event: what has waited for a block is in the range, whose ends come closer to those of the last generation.
inline void move_on(const Novelty& s) {
    const i64 age = static_cast<i64>(s.number[AGE]);
    if (age % BLOCK != 0) return;
    float *now = s.range + 2 * NOW, *waiting = s.range + 2 * WAITING;
    widen(now, waiting[0], waiting[1]);
    narrow(waiting);
    if (age > 0) return;
    float* before = s.range + 2 * BEFORE;
    const bool known = before[0] <= before[1];
    for (int end = 0; end < 2; ++end) {
        const float wider = end ? max(before[1] - now[1], 0.0f) : min(before[0] - now[0], 0.0f);
        before[end] = now[end] + (known ? KEPT * wider : 0.0f);
    }
    narrow(now);
}

// Learn one value; returns its novelty over the bound: more than 1 is an alarm. value: not finite is skipped;
// week_seconds: since Monday 00:00, NaN without a calendar; events: mean number between false alarms; step: the smallest one of
// values, 0: not known; foreseen: it was predicted from what the values before could not show, as another product
SSM_ALONE double observe(const Novelty& s, double value, double week_seconds, double events, double step, bool foreseen) {
    double* number = s.number;
    if (!(std::fabs(value) < INFINITE)) return 0.0;
    const double n = number[SEEN];
    value = min(max(value, -LARGEST), LARGEST);
    if (n < SETTLE) {
        const double step = value - number[CENTRE];
        number[CENTRE] += step / (n + 1.0);
        if (n > 0.0) number[SPREAD] += (std::fabs(step) - number[SPREAD]) / n;
        number[SEEN] += 1.0;
        return 0.0;
    }
    if (number[SPREAD] == 0.0 && number[CENTRE] == 0.0) number[SPREAD] = std::fabs(value);  // it began at zero: no share of that
    const double before = s.smooth[1], plain = in_spreads(number, value), raw = raw_score(s, plain, week_seconds, foreseen);
    const double far = beyond(s, plain, before, step, foreseen), k = number[AGE] + (n - SETTLE >= GENERATION ? GENERATION : 0.0);
    number[SEEN] += 1.0;
    number[AGE] += 1.0;
    if (number[AGE] >= GENERATION) {
        number[AGE] = 0.0;
        forget(s);
    } else if (static_cast<i64>(number[AGE]) % REST == 0) {
        for (int c = 0; c < CHANNELS; ++c) {
            s.visited[3 * c] |= s.visited[3 * c + 2];
            s.visited[3 * c + 2] = 0;
        }
    }
    move_on(s);
    if (n < WARMUP) return 0.0;
    number[EXPOSED] += 1.0 / k;
    if (number[EXPOSED] > EXPOSURE_MOST) {
        number[COUNT] *= 1.0 - 1.0 / k / EXPOSURE_MOST;
        number[EXPOSED] = EXPOSURE_MOST;
    }
    double score = far;
    if (raw > FLOOR && k >= static_cast<double>(REST)) {  // until then nothing but what was foreseen counts as visited
        score = max(score, min(raw / bound(number, k, events), SCORE_MOST));
        if (number[LEFT] <= 0.0) number[PEAK] = 0.0, number[LEFT] = static_cast<double>(REST);
        number[PEAK] = max(number[PEAK], raw);
    }
    if (number[LEFT] > 0.0) {
        number[LEFT] -= 1.0;
        if (number[LEFT] <= 0.0) learn_peak(number, k, events);
    }
    return score;
}

}  // namespace ssm::SSM_ISA::novelty
