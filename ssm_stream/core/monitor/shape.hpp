// Does the last cycle look like those before? The lag window as a whole, against the windows of earlier cycles.
//
// A beat or a batch of another shape, none of whose values is new, is hardly an error of one step: the next prediction starts
// from the odd value. Here the latest events are compared with what the signal did one, two, three, … cycles ago:
//
//     D[L] ← γ D[L] + (x − x_L)²           squared distance to the window L samples ago, later samples weigh more
//
// one multiplication a lag, so that the nearest window is known at every sample without a search of its own. A sample is the
// mean of so many events that a cycle has 16 to 32 of them. Of each earlier cycle the best lag within ±¼ cycle counts, as
// cycles differ in length; the second nearest cycle gives the distance, so that one odd cycle does not excuse the next, and
// the latest two are left out, so that a fault of some cycles does not excuse itself. A distance is judged by those that the
// matched windows had at their time: an edge that comes a sample late every time is far from all others, and normal.
// The nearest neighbour of a window among those before it is the left matrix profile (Yeh et al. 2016).
//
// The period is the signal's own, from the autocorrelation of its first samples, at ever coarser ones until it is found: a peak
// of so high a correlation, after a dip, and as high again at twice the lag. Where there is none the channel is silent, costs
// nearly nothing, and has no share of the budget. Every so often it is asked again: a signal whose period is gone starts anew.
//
// Lags are times, and samples count them only while no row is lost. So where values come in even steps (`cadence.hpp`), those that
// a gap lacks take their places: a sample that lacks more than a few of its values is unknown, changes no distance, and is for
// later ones what it was a cycle before. After a longer gap nobody knows where in its cycle a machine is: windows begin anew.
//
// The log of a distance is nearly normal, which says what is too far; the bound is then corrected online, up at an alarm, down
// by as much in a budget's worth of samples. Below it the score is about the log of how rare such a distance is.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"
#include "cadence.hpp"
#include "drift.hpp"

namespace ssm::SSM_ISA::shape {

enum { SAMPLES = SHAPE_SAMPLES };
constexpr double CYCLE_MOST = 28.0;    // samples of a cycle
enum { SPAN = 16 };                    // lags of a cycle that are tried, at most
constexpr double MEMORY = 0.4;         // cycles: of the window's weights
constexpr double AWAY = 0.25;          // cycles: how far from a whole number of them a lag may be
constexpr i64 LEFT_OUT = 2;            // latest cycles that are not compared with
constexpr i64 CYCLES_LEAST = 3, CYCLES_MOST = 16;  // that are
constexpr double PEAK = 0.4, PEAK_STILL = 0.2; // least autocorrelation of a period; of one that is known
constexpr double PEAK_FEW = 3.0;       // more of few samples: by 1/√n
constexpr double DIP = 0.3, AGAIN = 0.15;     // how much lower it is before the period; may be at twice the period
constexpr double FIRST_PEAK = 0.1;     // a multiple of the period may be higher by so much
constexpr i64 LAG_LEAST = 8;           // samples of a period
constexpr double STEPS_MOST = 6.0;     // mean deviations: beyond, a value counts as this where the period is sought
constexpr i64 EVERY_MOST = 32;         // events of a sample, while the period is sought
constexpr double SAME_PERIOD = 0.3;    // share by which a period may have changed
constexpr i64 MISSED_MOST = 2;         // times in a row that no period is found, before the channel starts anew
constexpr double FLOOR = 0.5;          // of the mean distance: added to what is usual
constexpr double MEAN_RATE = 0.01, LOG_UNIT = 8.0;
constexpr double RESOLUTION = 4096.0, FARTHEST = 32000.0;  // units of the largest sample; of any
constexpr double WIDE = 16384.0, NARROW = 1024.0;  // units of the largest sample, from which they are doubled, halved
constexpr double LEAST = 0.25;         // units: of a distance, as samples are whole numbers
constexpr i64 YOUNG = 150;             // distances before the first alarm
constexpr double STRETCH = 1.5;        // of the bound: logs of distances have a somewhat heavier tail than a normal number
constexpr double LOG_RATE = 1.0 / 1000, PRIOR = 30.0, PRIOR_VARIANCE = 0.16;  // of the logs
constexpr double Z_MOST = 3.0;         // deviations: what a distance counts for at most
constexpr double STEP_BOUND = 0.2, BOUND_MOST = 2.0, REST = 50.0;  // of the bound, in deviations: an alarm, at most; samples
constexpr double BASE = 1.0;           // deviations below the mean where the score begins
constexpr double SCORE_MOST = 1e3;
constexpr double LACKS_LEAST = 0.1, LACKS_USUAL = 4.0, LACKS_MOST = 0.3;  // of its values, times the usual: a sample that lacks more is unknown
constexpr double LACKING = 1.0 / 1024; // what a value that is lacking adds to IN_SAMPLE beyond its place
constexpr std::int8_t NONE = -128;
constexpr std::int32_t FARTHEST_KEY = 0x7FFFFFFF;

// columns of `number`. IN_SAMPLE: places of the sample, and as a fraction how many of them lack a value
enum { TIME, ORIGIN, UNIT, SUM, IN_SAMPLE, EVERY, COUNT, PLACE, PERIOD, SINCE, STEADY, JUDGED, MEAN_OF, SCORE, STEP };
static_assert(STEP + 1 == SHAPE_NUMBERS);
static_assert(2.0 * AWAY * CYCLE_MOST + 1.0 < SPAN);

// columns of `tail`
enum { MEAN, VARIANCE, LEARNED, CORRECTION, RESTING, TAILS };
static_assert(TAILS == static_cast<int>(SHAPE_TAIL));

// past, usual: rings, the latest at PLACE and each older one a place further; past: in units of UNIT; distance: by lag, and
// the ring of the first samples until the period is known
struct Shape {
    double *number, *tail;
    float* distance;
    std::int16_t* past;
    std::int8_t* usual;
    SSM_INLINE Shape(const MonitorState& m, i64 e) {
        char* row = m.shape.row(e);
        const ShapeFields& f = m.shape_fields;
        number = f.number.in(row), tail = f.tail.in(row), distance = f.distance.in(row), past = f.past.in(row), usual = f.usual.in(row);
    }
};

SSM_INLINE bool is_periodic(const Shape& s) { return s.number[PERIOD] > 0.0; }
inline void set_period(const Shape& s, double period) {
    s.number[PERIOD] = min(max(period, static_cast<double>(LAG_LEAST)), CYCLE_MOST);
}
// What a squared step keeps of its weight a sample later.
SSM_INLINE float decay_of(const Shape& s) { return static_cast<float>(series::exp(-1.0 / (MEMORY * s.number[PERIOD]))); }

// The samples from the latest on, in one piece.
template <class T> void straighten(const Shape& s, const T* ring, float* out, i64 n) {
    const i64 place = static_cast<i64>(s.number[PLACE]);
    for (i64 i = 0; i < n; ++i) out[i] = static_cast<float>(ring[(place + i) % SAMPLES]);
}

// The period in samples, 0 where there is none. u: n samples; they are overwritten; peak: least autocorrelation
SSM_ALONE double find_period(float* u, i64 n, double peak) {
    double mean = 0.0, size = 0.0;
    for (i64 i = 0; i < n; ++i) mean += u[i];
    mean /= static_cast<double>(n);
    for (i64 i = 0; i < n; ++i) size += std::fabs(u[i] - mean);
    size /= static_cast<double>(n);
    if (!(size > 1e-9 * std::fabs(mean)) || !(size < INFINITE)) return 0.0;
    for (i64 i = 0; i < n; ++i) u[i] = static_cast<float>(clip((u[i] - mean) / size, STEPS_MOST));
    const i64 most = n / 4, lags = 2 * most + 3;
    alignas(64) float sum[SAMPLES / 2 + 16] = {};
    for (i64 i = 0; i < n; ++i) {
        const i64 count = min(lags, n - i);
        const float x = u[i], *other = u + i;
        SSM_VECTORS
        for (i64 L = 0; L < count; ++L) sum[L] += x * other[L];
    }
    // Over the energies of the two parts that are compared.
    double newer = sum[0], older = sum[0], r[SAMPLES / 2 + 16];
    for (i64 L = 0; L < lags; ++L) {
        r[L] = sum[L] / std::sqrt(max(newer * older, 1e-30));
        older -= static_cast<double>(u[L]) * u[L];
        newer -= static_cast<double>(u[n - 1 - L]) * u[n - 1 - L];
    }
    const double least = peak + PEAK_FEW / std::sqrt(static_cast<double>(n));
    double best = 0.0, low = 1.0;
    const auto peaks = [&](i64 L) { return r[L] >= r[L - 1] && r[L] >= r[L + 1] && r[L] - low > DIP; };
    for (i64 L = 1; L <= most; ++L) {
        low = min(low, r[L]);
        if (L >= LAG_LEAST && peaks(L)) best = max(best, r[L]);
    }
    if (best < least) return 0.0;
    low = 1.0;
    for (i64 L = 1; L <= most; ++L) {
        low = min(low, r[L]);
        if (L < LAG_LEAST || !peaks(L) || r[L] < best - FIRST_PEAK) continue;
        double twice = 0.0;
        for (i64 at = 2 * L - 2; at <= 2 * L + 2; ++at) twice = max(twice, r[at]);
        if (twice < least - AGAIN) return 0.0;
        const double bend = r[L - 1] - 2.0 * r[L] + r[L + 1];
        return static_cast<double>(L) + (bend < 0.0 ? 0.5 * (r[L - 1] - r[L + 1]) / bend : 0.0);
    }
    return 0.0;
}

// Means of `factor` samples each take the samples' place. u: the n samples, the latest first; returns how many there are
inline i64 coarsen(const Shape& s, float* u, i64 n, i64 factor) {
    const i64 count = n / factor;
    for (i64 i = 0; i < count; ++i) {
        double sum = 0.0;
        for (i64 j = 0; j < factor; ++j) sum += u[i * factor + j];
        s.distance[i] = u[i] = static_cast<float>(sum / static_cast<double>(factor));
    }
    s.number[PLACE] = 0.0, s.number[COUNT] = static_cast<double>(count), s.number[EVERY] *= static_cast<double>(factor);
    return count;
}

// All but the cadence, which is not the signal's.
inline void restart(const Shape& s) {
    for (int i = 0; i < SHAPE_NUMBERS; ++i)
        if (i != TIME && i != STEP && i != STEADY) s.number[i] = 0.0;
    for (int i = 0; i < SHAPE_TAIL; ++i) s.tail[i] = 0.0;
    for (i64 i = 0; i < SAMPLES; ++i) s.past[i] = 0, s.distance[i] = 0.0f, s.usual[i] = 0;
}

// A category has changed, as the product that is made, or there was a pause: no window is compared with what was before.
inline void part(const Shape& s) {
    double* number = s.number;
    number[COUNT] = number[SUM] = number[IN_SAMPLE] = number[SCORE] = 0.0;
    if (is_periodic(s)) std::memset(s.distance, 0, sizeof(float) * SAMPLES);
}

// A sample as a whole number of units.
SSM_INLINE std::int16_t in_units(const Shape& s, double mean) {
    const double x = mean / s.number[UNIT];
    if (!(std::fabs(x) < FARTHEST)) return static_cast<std::int16_t>(x > 0.0 ? FARTHEST : -FARTHEST);
    return static_cast<std::int16_t>(x < 0.0 ? x - 0.5 : x + 0.5);
}

// The period is known: as many samples a cycle as it is to have, in the signal's unit, and the distances so far.
inline void begin(const Shape& s, float* u, i64 n, double period) {
    const double factor = std::ceil(period / CYCLE_MOST);
    n = coarsen(s, u, n, static_cast<i64>(factor));
    double* number = s.number;
    set_period(s, period / factor);
    double unit = 0.0;
    for (i64 i = 0; i < n; ++i) unit = max(unit, std::fabs(static_cast<double>(u[i])));
    if (!(unit > 0.0)) return restart(s);
    number[UNIT] = unit / RESOLUTION;
    for (i64 i = 0; i < SAMPLES; ++i) s.past[i] = i < n ? in_units(s, u[i]) : std::int16_t(0);
    straighten(s, s.past, u, n);
    const float decay = decay_of(s);
    for (i64 i = 0; i < SAMPLES; ++i) s.distance[i] = 0.0f, s.usual[i] = NONE;
    for (i64 i = n; i-- > 0;) {
        SSM_VECTORS
        for (i64 L = 1; L < n - i; ++L) {
            const float off = u[i] - u[i + L];
            s.distance[L] = decay * s.distance[L] + off * off;
        }
    }
    number[SINCE] = number[JUDGED] = number[MEAN_OF] = number[SCORE] = 0.0;
}

// While the period is sought.
inline void seek(const Shape& s) {
    const i64 n = static_cast<i64>(s.number[COUNT]), every = static_cast<i64>(s.number[EVERY]);
    const bool early = every == 1 && (n == SAMPLES / 4 || n == SAMPLES / 2);
    if (!early && n < SAMPLES) return;
    alignas(64) float u[SAMPLES], bent[SAMPLES];
    straighten(s, s.distance, u, n);
    for (i64 i = 0; i < n; ++i) bent[i] = u[i];
    const double period = find_period(bent, n, PEAK);
    if (period > 0.0) begin(s, u, n, period);
    else if (n == SAMPLES && every >= EVERY_MOST) restart(s);
    else if (n == SAMPLES) coarsen(s, u, n, 2);
}

// Where samples have become much larger or smaller, so does their unit.
inline void refine(const Shape& s, const float* u, i64 n) {
    double most = 0.0;
    for (i64 i = 0; i < n; ++i) most = max(most, std::fabs(static_cast<double>(u[i])));
    const bool wide = most > WIDE;
    if (!wide && (most >= NARROW || most == 0.0)) return;
    const double factor = wide ? 0.5 : 2.0;
    s.number[UNIT] /= factor, s.number[MEAN_OF] *= factor;
    const int more = wide ? -6 : 6;  // log 2 in units of LOG_UNIT, rounded
    for (i64 i = 0; i < SAMPLES; ++i) {
        s.past[i] = static_cast<std::int16_t>(s.past[i] * factor);
        s.distance[i] *= static_cast<float>(factor * factor);
        if (s.usual[i] != NONE) s.usual[i] = static_cast<std::int8_t>(min(max(i64(s.usual[i] + more), i64(-127)), i64(127)));
    }
}

// Is the period still there?
inline void seek_again(const Shape& s) {
    double* number = s.number;
    alignas(64) float u[SAMPLES];
    const i64 n = static_cast<i64>(number[COUNT]);
    if (n < SAMPLES / 4) {
        number[SINCE] -= 1.0;  // at the next sample
        return;
    }
    straighten(s, s.past, u, n);
    refine(s, u, n);
    const double period = find_period(u, n, PEAK_STILL), change = period / number[PERIOD] - 1.0;
    if (std::fabs(change) < SAME_PERIOD) set_period(s, period);
    if (period > 0.0) number[SINCE] = 0.0;
    else if (number[SINCE] >= static_cast<double>(MISSED_MOST * SAMPLES)) restart(s);
}

// The nearest of the first `count` of SPAN lags: its distance, the last bits of which are replaced by the place of the lag.
// Distances are not negative, so that their bits are in the same order.
SSM_INLINE std::int32_t nearest(const float* distance, std::int32_t count) {
    std::int32_t best = FARTHEST_KEY;
    for (std::int32_t i = 0; i < SPAN; ++i) {
        const std::int32_t key = (__builtin_bit_cast(std::int32_t, distance[i]) & ~(SPAN - 1)) | i;
        const std::int32_t counted = i < count ? key : FARTHEST_KEY;
        best = counted < best ? counted : best;
    }
    return best;
}
SSM_INLINE double distance_of(std::int32_t key) { return static_cast<double>(__builtin_bit_cast(float, key & ~(SPAN - 1))); }

// How far the window is from those of earlier cycles, over what is usual at this point of the cycle. 0: not known yet
inline double unlike(const Shape& s, float decay) {
    double* number = s.number;
    const double period = number[PERIOD];
    const i64 count = static_cast<i64>(number[COUNT]), place = static_cast<i64>(number[PLACE]);
    // Once older samples are forgotten, the distances of the lags are sums over a whole window each.
    const i64 ripe = count < SAMPLES ? count - static_cast<i64>(MEMORY * period) : count;
    std::int32_t first = FARTHEST_KEY, second = FARTHEST_KEY;
    i64 cycles = 0, known = 0, sum = 0;
    for (i64 j = LEFT_OUT + 1; j <= LEFT_OUT + CYCLES_MOST; ++j) {
        const i64 from = static_cast<i64>(std::ceil((static_cast<double>(j) - AWAY) * period));
        const i64 to = static_cast<i64>((static_cast<double>(j) + AWAY) * period);
        if (to >= ripe || from + SPAN > SAMPLES) break;
        const std::int32_t key = nearest(s.distance + from, static_cast<std::int32_t>(to - from + 1));
        second = key < first ? first : key < second ? key : second;
        first = key < first ? key : first;
        ++cycles;
        const std::int8_t usual = s.usual[(place + from + static_cast<i64>(key & (SPAN - 1))) % SAMPLES];
        if (usual != NONE) sum += usual, ++known;
    }
    std::int8_t& own = s.usual[place];
    own = NONE;
    if (cycles < CYCLES_LEAST) return 0.0;
    const double raw = std::sqrt(distance_of(second) * (1.0 - static_cast<double>(decay))) + LEAST;
    own = static_cast<std::int8_t>(std::nearbyint(min(series::log(raw) * LOG_UNIT, 127.0)));
    number[MEAN_OF] += max(MEAN_RATE, 1.0 / (number[JUDGED] + 1.0)) * (raw - number[MEAN_OF]);
    number[JUDGED] += 1.0;
    const double mean = number[MEAN_OF];
    const double usual = known > 1 ? series::exp(static_cast<double>(sum) / (LOG_UNIT * static_cast<double>(known))) : mean;
    return raw / (usual + FLOOR * mean);
}

// The score of a distance, given as its log, which is then learned. rate: of false alarms, a sample
inline double weigh(const Shape& s, double size, double rate) {
    double* tail = s.tail;
    const double n = tail[LEARNED], weight = max(1.0 / (n + 1.0), LOG_RATE);
    const double spread = std::sqrt((n * tail[VARIANCE] + PRIOR * PRIOR_VARIANCE) / (n + PRIOR));
    const double z = n > 0.0 ? (size - tail[MEAN]) / spread : 0.0;
    const double bound = STRETCH * drift::normal_quantile(1.0 - min(rate, 0.1)) + tail[CORRECTION];
    const bool old = n >= static_cast<double>(YOUNG), beyond = old && z > bound;
    tail[RESTING] -= 1.0;
    if (old) tail[CORRECTION] = max(tail[CORRECTION] - STEP_BOUND * rate, -BOUND_MOST);
    if (beyond && tail[RESTING] <= 0.0) {
        tail[CORRECTION] = min(tail[CORRECTION] + STEP_BOUND, BOUND_MOST);
        tail[RESTING] = REST;
    }
    // What is far off teaches little: a fault must not become the new normal.
    const double off = n > 10.0 ? clip(z, Z_MOST) * spread : size - tail[MEAN];
    tail[VARIANCE] += weight * (off * off * n / (n + 1.0) - tail[VARIANCE]);
    tail[MEAN] += weight * off;
    tail[LEARNED] = min(n + 1.0, 1e9);
    if (beyond) return min(series::exp((z - bound) * spread), SCORE_MOST);
    const double below = max(z + BASE, 0.0) / (bound + BASE);
    return old ? min(below * below, 1.0) : 1.0 - series::exp(-below * below);  // a young one ranks, and never alarms
}

// A sample more, of a signal whose period is known, and which is known itself.
inline void judge(const Shape& s, double events) {
    double* number = s.number;
    const i64 count = static_cast<i64>(number[COUNT]), place = static_cast<i64>(number[PLACE]), ahead = min(count, SAMPLES - place);
    const float decay = decay_of(s), x = s.past[place];
    SSM_VECTORS
    for (i64 L = 0; L < ahead; ++L) {
        const float off = x - static_cast<float>(s.past[place + L]);
        s.distance[L] = decay * s.distance[L] + off * off;
    }
    SSM_VECTORS
    for (i64 L = ahead; L < count; ++L) {
        const float off = x - static_cast<float>(s.past[place + L - SAMPLES]);
        s.distance[L] = decay * s.distance[L] + off * off;
    }
    const double odd = unlike(s, decay);
    if (odd > 0.0) number[SCORE] = weigh(s, series::log(odd), number[EVERY] / events);
}

// The sample is full: it takes its place among the others.
inline void end_sample(const Shape& s, double events) {
    double* number = s.number;
    const double places = std::floor(number[IN_SAMPLE]), lacks = std::nearbyint((number[IN_SAMPLE] - places) / LACKING);
    const double mean = places > lacks ? number[SUM] / (places - lacks) : 0.0;
    const bool known = is_periodic(s), whole = lacks <= min(max(LACKS_USUAL * (1.0 - number[STEADY]), LACKS_LEAST), LACKS_MOST) * places;
    number[SUM] = number[IN_SAMPLE] = 0.0;
    const i64 last = static_cast<i64>(number[PLACE]), place = (last + SAMPLES - 1) % SAMPLES, count = static_cast<i64>(number[COUNT]);
    if (!whole && count == 0) return;
    if (known) {
        const i64 cycle = static_cast<i64>(std::nearbyint(number[PERIOD]));
        s.past[place] = whole ? in_units(s, mean) : s.past[count >= cycle ? (place + cycle) % SAMPLES : last];
        if (!whole) s.usual[place] = NONE;
    } else {
        s.distance[place] = whole ? static_cast<float>(clip(mean, 1e37)) : s.distance[last];
    }
    number[PLACE] = static_cast<double>(place);
    number[COUNT] = static_cast<double>(min(count + 1, i64(SAMPLES)));
    if (!known) return seek(s);
    number[SINCE] += 1.0;
    if (whole) judge(s, events);
    if (static_cast<i64>(number[SINCE]) % SAMPLES == 0) seek_again(s);
}

// Values that a value at this time shows to be lacking before it, as of `cadence::lacking`.
SSM_INLINE double lacking(const Shape& s, double time, double longest) {
    double* number = s.number;
    const double period = number[PERIOD], samples = number[COUNT];
    return cadence::lacking({number[TIME], number[STEP], number[STEADY]}, {period * number[EVERY], samples, samples / max(period, 1.0)}, time, longest);
}

// So many values are lacking.
SSM_ALONE void pass(const Shape& s, double values, double events) {
    double* number = s.number;
    const bool known = is_periodic(s);
    if (values > cadence::FILLED * (known ? number[PERIOD] : static_cast<double>(LAG_LEAST)) * number[EVERY]) {
        if (known) part(s);
        return;
    }
    while (values > 0.0 && number[EVERY] > 0.0) {  // 0: none has been seen, or none since it began anew
        const double some = min(values, number[EVERY] - std::floor(number[IN_SAMPLE]));
        number[IN_SAMPLE] += some * (1.0 + LACKING), values -= some;
        if (number[IN_SAMPLE] >= number[EVERY]) end_sample(s, events);
    }
}

// Learn one value; returns how unlike earlier cycles the latest one is, over the bound: more than 1 is an alarm.
// value: not finite is skipped; events: mean number between false alarms; lacks: values before it, as of `lacking`
SSM_ALONE double observe(const Shape& s, double value, double events, double lacks) {
    double* number = s.number;
    if (!(std::fabs(value) < INFINITE)) return 0.0;
    if (lacks == cadence::NO_PLACE) return number[SCORE];
    if (lacks > 0.0) pass(s, lacks, events);
    if (number[EVERY] == 0.0) restart(s), number[ORIGIN] = value, number[EVERY] = 1.0;
    number[SUM] += clip(value - number[ORIGIN], 1e300);
    number[IN_SAMPLE] += 1.0;
    if (number[IN_SAMPLE] >= number[EVERY]) end_sample(s, events);
    return number[SCORE];
}

}  // namespace ssm::SSM_ISA::shape
