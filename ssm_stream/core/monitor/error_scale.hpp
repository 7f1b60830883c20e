// How large errors are in this context: a model of the scale of a prediction's error, a gradient step an event.
//
// The size of errors has a season, a level, and a recent past. Judged by one size for all, a busy hour raises alarms and a
// calm night hides what happens in it. So interval, anomaly score and drift detector judge an error over its scale:
//
//     log σ± = b + (w + W)·φ ± (c + (v + V)·φ) + u ρ      of positive and of negative errors
//
// b and c are the entity's own. W and V are the pool's weights, w and v the entity's differences from them (none where the
// pool has one entity). φ, centred on the entity's running means: level and deviation of the prediction, two waves of the
// day, weekend, the usual size of errors at this hour and at this hour of the week, and the features, standardised. ρ is
// how large errors, whitened, have been recently beside what their context explains; u is its weight.
//
// r = |e|/σ± has the gradient ψ = min(r, 8) − 1 in log σ under a Laplace likelihood. A natural-gradient step follows it: P,
// the inverse of the pool's decayed second moments of φ, is kept by recursive least squares (exactly symmetric); W moves by
// P φ ψ, w in the same direction at the rate of the entity's own number of events. ψ of the context leaves ρ out, so that
// nothing that the context can explain is left to the recent past.
//
// A target at rest teaches it nothing (`rest.hpp`).
//
// Far from the contexts that are known (φ'Pφ large), the context counts as at their edge. The scale of interval and anomaly score
// leans on the plain running mean of |e| as far as that has explained recent errors better (a gate on decayed log s + |e|/s).
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::error_scale {

// The prior of the weights counts for so many events an input: log σ varies by 1/3 under it, however many inputs there are.
constexpr double RIDGE = 3.0;
constexpr double RECENT_RIDGE = 30.0;    // and of the recent past's weight
constexpr double MEMORY = 3000.0;        // events of an entity
constexpr double CLIP = 8.0;             // of r
constexpr double STEP_MOST = 0.3;        // of log σ, an event
constexpr double SHARE_LEAST = 1e-3;     // of the usual |e|: the least scale
constexpr double USUAL_MOST = 10.0;      // and the greatest
constexpr double STATISTIC_RATE = 1.0 / 4000.0;
constexpr double PLAIN_RATE = 0.01, LOSS_RATE = 0.01, LOSS_MOST = 20.0;
constexpr double GATE = 30.0, GATE_BIAS = 0.02;
constexpr double RECENT_RATE = 0.1, RECENT_MOST = 6.0, RECENT_LEAST = 0.05, RECENT_CLIP = 1.5;
constexpr double CELL_PRIOR = 6.0;       // visits that the usual |e| of an hour leans on the day's
constexpr double CELL_CLIP = 4.0;        // of an error, over its scale
constexpr double CELL_UNIT = 1.0 / 4096.0, CELL_MOST = 7.9;
constexpr int CELL_VISITS = 200;         // beyond, a cell forgets
constexpr double SIDE_MOST = 1.5;
constexpr double LEVERAGE_MOST = 6.0;    // times the usual: the edge of what is known
constexpr double INPUT_MOST = 5.0, CENTRED_MOST = 6.0;  // of φ
constexpr double FEW = 10.0;             // events before which φ is 0
constexpr double BOUND_FROM = 1.0 + 1.0 / 64;  // times the prior's variance, so that P is not bounded at every event
constexpr i64 BOUND_EVERY = 16;          // errors of an entity: P grows by 1/3000 of itself with each
constexpr double SMALLEST = 1e-300, LARGEST = 1e300;

// inputs; then the features
enum Input { LOG_LEVEL, LEVEL, SINE, COSINE, SINE_2, COSINE_2, WEEKEND, AT_HOUR, AT_WEEK_HOUR, FEATURES };
static_assert(FEATURES == static_cast<int>(CONTEXT));
// Ms from a pool's first event on that an input counts. Errors of a new model get smaller all day: before the hour has come
// again, that would pass for its doing, and so with the weekday.
constexpr double DAY_MS = 86'400'000.0, WEEK_MS = 7.0 * DAY_MS;
constexpr double REPEATS_AFTER[FEATURES] = {0.0, 0.0, DAY_MS, DAY_MS, DAY_MS, DAY_MS, WEEK_MS, DAY_MS, WEEK_MS};
// columns of `number`: errors learned; their running mean size, quick and slow; level of the prediction; b; the last scale; the
// target before
enum { SEEN, SIZE, PLAIN, MEAN_OF, SPREAD, LEVEL_OF, LAST, TARGET };
// columns of `rest`: none yet, or 1 + events in a row at which the target has stood still, negative where it was not as predicted at
// the latest; how long it usually does; of its moves lately the share that ended a rest, less a half
enum { STANDING, USUAL_REST, RISES };
constexpr float NO_TARGET = 0.0f, MOVED = 1.0f;
// columns of `value`: recent size of whitened errors, mean of its log; losses; c; u, and the decayed sum of ρ²; the last error
// over its scale; products of neighbours and squares; usual size of whitened errors; of the clock, as a place is free here: `others_of`
enum { RECENT, RECENT_MEAN, LOSS_PLAIN, LOSS_SCALED, SIDE, OWN_WEIGHT, OWN_MOMENT, BEFORE, CROSS, POWER, WHITE_SIZE, OTHERS, VALUES_OF };
// columns of the pool's `number`: events, decayed; u, and the decayed sum of ρ²; the smallest step of a target, 0: none yet; of
// `widen`: usual error over its scale, less 1; by kind of doubt the log of its true part, and events that it was learned from; of returned.hpp; drifts of errors that
// had become smaller, decayed
enum { TOTAL, WEIGHT, MOMENT, STEP, USUAL_MORE, LOG_PART, DOUBTED = LOG_PART + DOUBTS, JUMPED = DOUBTED + DOUBTS, CALMED = JUMPED + 4 };
// of the scratch: scale without sides; log ratio of the sides, halved; scale of each side and of none, leaning on the plain
// one; of the context alone; ρ; φ'Pφ; log of the scale without sides over the plain one; exp of the halved log ratio; log of
// the recent size; of `widen`: what to multiply the scales by, and the parts of its square
enum { BOTH, SIDED, UPPER, LOWER, BARE, CONTEXT_ONLY, RECENTLY, LEVERAGE, OVER_PLAIN, LEAN, RECENT_LOG, WIDER, BY_UNKNOWN, BY_LEAP, BY_USUAL_LEAP, BY_GAP, SCALE_NUMBERS = BY_UNKNOWN + DOUBTS };
static_assert(SCALE_NUMBERS <= 2 * 16);  // two rows of the working space, of CONTEXT numbers to whole vectors at least

// sin and cos of the hour's angle
constexpr double WAVES[HOURS][2] = {
    {0.13052619222005157, 0.9914448613738104}, {0.3826834323650898, 0.9238795325112867}, {0.6087614290087207, 0.7933533402912352},
    {0.7933533402912352, 0.6087614290087207}, {0.9238795325112867, 0.38268343236508984}, {0.9914448613738104, 0.1305261922200517},
    {0.9914448613738104, -0.1305261922200516}, {0.9238795325112868, -0.3826834323650895}, {0.7933533402912352, -0.6087614290087207},
    {0.6087614290087209, -0.793353340291235}, {0.3826834323650899, -0.9238795325112867}, {0.130526192220052, -0.9914448613738104},
    {-0.13052619222005177, -0.9914448613738104}, {-0.38268343236508967, -0.9238795325112868}, {-0.6087614290087207, -0.7933533402912352},
    {-0.7933533402912349, -0.6087614290087209}, {-0.9238795325112868, -0.3826834323650895}, {-0.9914448613738104, -0.13052619222005163},
    {-0.9914448613738105, 0.13052619222005127}, {-0.923879532511287, 0.38268343236508917}, {-0.7933533402912357, 0.6087614290087199},
    {-0.6087614290087209, 0.7933533402912349}, {-0.38268343236508956, 0.9238795325112868}, {-0.13052619222005168, 0.9914448613738104},
};

struct Scale {
    double *number, *pool_number, *W, *V, *P;
    float *rest, *value, *mean, *w, *v;
    std::int16_t* cell;
    std::uint8_t* visits;
    double *phi, *gain, *room, *raw;  // scratch
    i64 D, width;
    double ridge;
    SSM_INLINE Scale(const EngineState& state, i64 k, i64 e)
        : D(FEATURES + state.learner.p.features), width(whole_doubles(D)), ridge(RIDGE * static_cast<double>(D)) {
        const MonitorState& m = state.monitor;
        char *row = m.error_scale.row(e), *pool = m.error_scale_pool.row(k);
        const ErrorScaleFields& f = m.error_scale_fields;
        const ErrorScalePoolFields& g = m.error_scale_pool_fields;
        number = f.number.in(row), rest = f.rest.in(row), value = f.value.in(row), mean = f.mean.in(row), w = f.w.in(row), v = f.v.in(row);
        cell = f.cell.in(row), visits = f.visits.in(row);
        pool_number = g.number.in(pool), W = g.w.in(pool), V = g.v.in(pool), P = g.P.in(pool);
        double* scratch = state.learner.w.error_scale;
        phi = scratch, gain = scratch + width, raw = scratch + 2 * width, room = scratch + 3 * width;
    }
};

SSM_INLINE double between(double x, double low, double high) { return min(max(x, low), high); }
SSM_INLINE double clipped_log(double x) { return series::log(between(x, SMALLEST, LARGEST)); }

// What a cell adds: its usual log size over that of all hours, as far as it is known.
SSM_INLINE double cell_value(const Scale& s, i64 i) {
    const double count = s.visits[i];
    return count / (count + CELL_PRIOR) * (CELL_UNIT * s.cell[i]);
}

struct Cells { double hour, week_hour; };
SSM_INLINE Cells cells_of(const Scale& s, const i64* steps) {
    const double hour = cell_value(s, steps[0]);
    const i64 week = HOURS + 24 * steps[1] + steps[0];
    const double count = s.visits[week];
    return {between(hour, -6.0, 3.0), between(count / (count + CELL_PRIOR) * (CELL_UNIT * s.cell[week] - hour), -6.0, 3.0)};
}

// When a prediction is for: hour and weekday; ms since the pool's first event.
struct Moment { const i64* steps; double age; };

// φ of an event, centred on the entity's running means. inputs: the learner's standardised features
inline void place_inputs(const Scale& s, double answer, const Moment& at, const float* inputs) {
    const i64* steps = at.steps;
    double *phi = s.phi, *raw = s.raw;
    const double* number = s.number;
    const double sine = WAVES[steps[0]][0], cosine = WAVES[steps[0]][1];
    const Cells cells = cells_of(s, steps);
    raw[LOG_LEVEL] = clipped_log(std::fabs(answer) + number[SIZE]);
    raw[LEVEL] = number[SPREAD] > 0.0 ? clip((answer - number[MEAN_OF]) / (1.25 * number[SPREAD]), INPUT_MOST) : 0.0;
    raw[SINE] = sine, raw[COSINE] = cosine, raw[SINE_2] = 2.0 * sine * cosine, raw[COSINE_2] = 1.0 - 2.0 * sine * sine;
    raw[WEEKEND] = steps[1] >= 5 ? 1.0 : 0.0;
    raw[AT_HOUR] = cells.hour, raw[AT_WEEK_HOUR] = cells.week_hour;
    const bool few = number[SEEN] < FEW;
    for (i64 i = 0; i < FEATURES; ++i) phi[i] = few || at.age < REPEATS_AFTER[i] ? 0.0 : clip(raw[i] - static_cast<double>(s.mean[i]), CENTRED_MOST);
    for (i64 j = FEATURES; j < s.D; ++j) phi[j] = few ? 0.0 : clip(static_cast<double>(inputs[1 + j - FEATURES]), INPUT_MOST);
    for (i64 i = s.D; i < s.width; ++i) phi[i] = 0.0;
}

// (w + W)·φ
SSM_INLINE double weighted(const float* own, const double* pool, const double* phi, i64 width) {
    Vec<double> sums{};
    for (i64 i = 0; i < width; i += lanes<double>) sums = fma(load_floats(own + i) + load(pool + i), load(phi + i), sums);
    return total(sums);
}

// Pφ of the pool, in the scratch as gain; returns φ'Pφ.
inline double place_gain(const Scale& s) {
    constexpr i64 L = lanes<double>;
    const i64 width = s.width;
    if (s.pool_number[TOTAL] == 0.0)
        for (i64 i = 0; i < s.D; ++i) s.P[i * width + i] = 1.0 / s.ridge;
    Vec<double> q{};
    for (i64 j = 0; j < width; j += L) {
        Vec<double> even{}, odd{};  // two sums, which do not wait for each other
        const double* cells = s.P + j;
        i64 i = 0;
        for (; i + 1 < s.D; i += 2, cells += 2 * width) {
            even = fma(all(s.phi[i]), load(cells), even);
            odd = fma(all(s.phi[i + 1]), load(cells + width), odd);
        }
        if (i < s.D) even = fma(all(s.phi[i]), load(cells), even);
        const Vec<double> gain = even + odd;
        store(s.gain + j, gain);
        q = fma(gain, load(s.phi + j), q);
    }
    return total(q);
}

// Events that the pool's moments are of, less those before its latest input began to count. A new input is far from all that is
// known only at first sight: it has no weight yet, and must neither make the others count for less nor learn from single events.
SSM_INLINE double events_of(const Scale& s, double age) {
    const double since = age >= WEEK_MS ? WEEK_MS : age >= DAY_MS ? DAY_MS : 0.0;
    return s.pool_number[TOTAL] * (since > 0.0 ? (age - since) / age : 1.0) + s.ridge;
}

// The scale of positive and negative errors of a prediction, in the scratch; rounding: what differences below are
inline void predict(const Scale& s, double answer, const Moment& at, const float* inputs, double rounding) {
    double* room = s.room;
    const double* number = s.number;
    place_inputs(s, answer, at, inputs);
    if (number[SIZE] <= 0.0) {
        room[UPPER] = room[LOWER] = room[BARE] = 0.0;
        return;
    }
    const double q = room[LEVERAGE] = place_gain(s);
    const double moments = q * events_of(s, at.age), edge = LEVERAGE_MOST * static_cast<double>(s.D);
    const double far = moments > edge ? std::sqrt(edge / moments) : 1.0;
    const double context = far * weighted(s.w, s.W, s.phi, s.width);
    const double least = max(SHARE_LEAST * number[SIZE], rounding);
    const double most = max(USUAL_MOST * max(number[SIZE], number[PLAIN]), least);
    const float* value = s.value;
    room[RECENT_LOG] = series::log(value[RECENT] + RECENT_LEAST);
    room[RECENTLY] = number[SEEN] < FEW ? 0.0 : clip(room[RECENT_LOG] - static_cast<double>(value[RECENT_MEAN]), RECENT_CLIP);
    const double weight = s.pool_number[WEIGHT] + static_cast<double>(value[OWN_WEIGHT]);
    const double log_context = number[LEVEL_OF] + context, log_both = log_context + weight * room[RECENTLY];
    const double both = series::exp(log_both);
    room[CONTEXT_ONLY] = between(series::exp(log_context), least, most);
    room[BOTH] = between(both, least, most);
    room[SIDED] = clip(s.value[SIDE] + far * weighted(s.v, s.V, s.phi, s.width), SIDE_MOST);
    room[LEAN] = series::exp(room[SIDED]);
    const double worse = static_cast<double>(s.value[LOSS_SCALED]) - static_cast<double>(s.value[LOSS_PLAIN]) - GATE_BIAS;
    const double share = 1.0 / (1.0 + series::exp(clip(GATE * worse, 30.0)));
    const double log_plain = clipped_log(max(number[PLAIN], least));
    room[OVER_PLAIN] = (room[BOTH] == both ? log_both : clipped_log(room[BOTH])) - log_plain;
    room[BARE] = series::exp(log_plain + share * room[OVER_PLAIN]);
    const double lean = series::exp(share * room[SIDED]);
    room[UPPER] = room[BARE] * lean, room[LOWER] = room[BARE] / lean;
}

// What does not vary must not be forgotten for ever: its row and its column of P shrink to the prior's variance.
inline void bound_moments(const Scale& s) {
    constexpr i64 L = lanes<double>;
    const double most = 1.0 / s.ridge;
    bool beyond = false;
    for (i64 i = 0; i < s.D; ++i) beyond = beyond || s.P[i * s.width + i] > BOUND_FROM * most;
    if (!beyond) return;
    double* f = s.gain;  // of each row and column; the gain is needed no more
    for (i64 i = 0; i < s.width; ++i) {
        const double here = i < s.D ? s.P[i * s.width + i] : 0.0;
        f[i] = here > most ? std::sqrt(most / here) : 1.0;
    }
    for (i64 j = 0; j < s.width; j += L) {  // fᵢ or fⱼ, whichever place is the smaller, first: so P stays symmetric to the last bit
        const Vec<double> of = load(f + j);
        double* cells = s.P + j;
        i64 i = 0;
        for (; i < j && i < s.D; ++i, cells += s.width) store(cells, load(cells) * all(f[i]) * of);
        for (; i < j + L && i < s.D; ++i, cells += s.width) {
            const auto before = load(LANES) < all(static_cast<double>(i - j));
            store(cells, load(cells) * either(before, of, all(f[i])) * either(before, all(f[i]), of));
        }
        for (; i < s.D; ++i, cells += s.width) store(cells, load(cells) * of * all(f[i]));
    }
}

// Rows of P, in so many vectors beside each other: grown, less what the gain of the row takes of the gain along it.
template <int ABREAST> SSM_INLINE void turn(const Scale& s, i64 place, const Vec<double>& grown) {
    Vec<double> along[ABREAST];
    repeat<ABREAST>([&](auto q) SSM_STEP { along[q] = load(s.gain + place + q * lanes<double>); });
    double* cells = s.P + place;
    for (i64 i = 0; i < s.D; ++i, cells += s.width) {
        const Vec<double> back = all(-s.gain[i]);  // a product of two, so that P stays symmetric to the last bit
        repeat<ABREAST>([&](auto q) SSM_STEP {
            double* at = cells + q * lanes<double>;
            store(at, fma(back, along[q], grown * load(at)));
        });
    }
}

// P with one φ more, whose gain and q = φ'Pφ are known; what was before counts lambda times.
inline void learn_moments(const Scale& s, double q, double lambda, bool bound) {
    const i64 width = s.width;
    const double again = 1.0 / lambda;
    const Vec<double> grown = all(again), root = all(std::sqrt(again / (lambda + q)));
    for (i64 j = 0; j < width; j += lanes<double>) store(s.gain + j, root * load(s.gain + j));
    constexpr i64 L = lanes<double>;
    i64 j = 0;
    for (; j + 3 * L <= width; j += 3 * L) turn<3>(s, j, grown);
    if (j + 2 * L == width) turn<2>(s, j, grown);
    else if (j < width) turn<1>(s, j, grown);
    s.pool_number[TOTAL] = lambda * s.pool_number[TOTAL] + 1.0;
    if (bound) bound_moments(s);
}

// A cell's running mean of sizes, held as its log over the usual size.
SSM_INLINE void learn_cell(const Scale& s, i64 i, double ratio) {
    const int count = s.visits[i];
    // Later visits weigh more: the first were made while the model learned.
    const double rate = 2.0 / (count + 2.0), before = CELL_UNIT * s.cell[i];
    const double after = count == 0 ? clipped_log(ratio) : before + clipped_log(1.0 + rate * (ratio * series::exp(-before) - 1.0));
    s.cell[i] = static_cast<std::int16_t>(std::floor(min(max(-CELL_MOST, after), CELL_MOST) / CELL_UNIT + 0.5));
    s.visits[i] = static_cast<std::uint8_t>(min(i64(count) + 1, i64(CELL_VISITS)));
}

// Learn one error of the event that `predict` has just placed. entities: of the pool; size: |error|, 0 if it is rounding
inline void learn(const Scale& s, double answer, double error, double size, const Moment& at, double entities) {
    double* number = s.number;
    float* value = s.value;
    const double *room = s.room, n = number[SEEN];
    size = size < SMALLEST ? 0.0 : min(size, LARGEST);
    if (number[SIZE] <= 0.0) {  // the first that is none
        if (size <= 0.0) return;
        number[SEEN] = 1.0, number[SIZE] = number[PLAIN] = number[LAST] = size;
        number[MEAN_OF] = answer, number[LEVEL_OF] = series::log(size);
        value[RECENT] = value[WHITE_SIZE] = 1.0f;
        for (i64 i = 0; i < FEATURES; ++i) s.mean[i] = static_cast<float>(i == LOG_LEVEL ? clipped_log(std::fabs(answer) + size) : s.raw[i]);
        return;
    }
    const double side = error >= 0.0 ? 1.0 : -1.0, lean = error >= 0.0 ? room[LEAN] : 1.0 / room[LEAN], mine = room[BOTH] * lean;
    const double r = size / mine, context = room[CONTEXT_ONLY] * lean, psi = min(size / context, CLIP) - 1.0;
    const bool several = entities > 1.0;
    const double q = room[LEVERAGE], events = events_of(s, at.age), moments = q * events;
    const double lambda = 1.0 - 1.0 / (MEMORY * max(entities, 1.0));
    const double seen = min(n, MEMORY), own_rate = events / (seen + s.ridge + moments);
    double step = psi / (lambda + q), own_step = several ? psi * own_rate : 0.0, own_side = psi / (seen + 1.0);
    // b as the log of a running mean, of which the latest count the more: the first errors were made while the model
    // learned, and where most errors are small, the first may all be so.
    const double level_rate = max(2.0 / (n + 2.0), 1.0 / MEMORY), level_psi = n > 30.0 ? psi : size / context - 1.0;
    const double own_level = series::log(1.0 + level_rate * level_psi);
    const double move = std::fabs((step + own_step) * q + own_side);
    if (move > STEP_MOST) step *= STEP_MOST / move, own_step *= STEP_MOST / move, own_side *= STEP_MOST / move;
    number[LEVEL_OF] += own_level;
    value[SIDE] += static_cast<float>(side * own_side);
    add(s.W, s.gain, step, s.width);
    add(s.V, s.gain, side * step, s.width);
    if (several)
        for (i64 i = 0; i < s.D; ++i) {
            s.w[i] += static_cast<float>(own_step * s.gain[i]);
            s.v[i] += static_cast<float>(side * own_step * s.gain[i]);
        }
    learn_moments(s, q, lambda, static_cast<i64>(n) % BOUND_EVERY == 0);

    // Neighbouring errors are large together where they are correlated, too: so the recent past is that of whitened errors.
    const double over = clip(error / room[CONTEXT_ONLY], 8.0), rate = max(STATISTIC_RATE, 1.0 / (n + 1.0));
    const double ar = between(static_cast<double>(value[CROSS]) / (static_cast<double>(value[POWER]) + 1e-9), 0.0, 0.95);
    const double white = std::fabs(over - ar * static_cast<double>(value[BEFORE])), clipped_over = clip(over, 4.0);
    value[CROSS] += static_cast<float>(rate * (clipped_over * static_cast<double>(value[BEFORE]) - static_cast<double>(value[CROSS])));
    value[POWER] += static_cast<float>(rate * (clipped_over * clipped_over - static_cast<double>(value[POWER])));
    value[BEFORE] = static_cast<float>(clipped_over);
    const double recently = room[RECENTLY], white_over = white * room[CONTEXT_ONLY] / room[BOTH];
    const double psi_recent = recently * (min(white_over / max(static_cast<double>(value[WHITE_SIZE]), 0.1), CLIP) - 1.0);
    value[WHITE_SIZE] += static_cast<float>(rate * (white_over - static_cast<double>(value[WHITE_SIZE])));
    double& moment = s.pool_number[MOMENT];
    moment = lambda * moment + recently * recently;
    s.pool_number[WEIGHT] += psi_recent / (moment + RECENT_RIDGE);
    if (several) {
        value[OWN_MOMENT] = static_cast<float>((1.0 - 1.0 / MEMORY) * static_cast<double>(value[OWN_MOMENT]) + recently * recently);
        value[OWN_WEIGHT] += static_cast<float>(psi_recent / (static_cast<double>(value[OWN_MOMENT]) + RECENT_RIDGE));
    }

    if (at.age >= DAY_MS) {
        const i64* steps = at.steps;
        const double bounded = min(size, CELL_CLIP * context);
        learn_cell(s, steps[0], bounded / number[SIZE]);
        learn_cell(s, HOURS + 24 * steps[1] + steps[0], bounded / number[SIZE]);
    }

    const double plain = number[PLAIN];
    value[LOSS_SCALED] += static_cast<float>(LOSS_RATE * (room[OVER_PLAIN] + side * room[SIDED] + min(r, LOSS_MOST) - static_cast<double>(value[LOSS_SCALED])));
    value[LOSS_PLAIN] += static_cast<float>(LOSS_RATE * (min(size / plain, LOSS_MOST) - static_cast<double>(value[LOSS_PLAIN])));
    number[PLAIN] += max(PLAIN_RATE, 1.0 / (n + 1.0)) * ((n > 30.0 ? min(size, 10.0 * plain) : size) - plain);
    number[PLAIN] = max(number[PLAIN], SMALLEST);
    number[SIZE] += rate * ((n > 30.0 ? min(size, 10.0 * number[SIZE]) : size) - number[SIZE]);
    const double away = between(answer - number[MEAN_OF], -LARGEST, LARGEST);
    number[MEAN_OF] += rate * away;
    number[SPREAD] += rate * (std::fabs(away) - number[SPREAD]);
    for (i64 i = 0; i < FEATURES; ++i)
        s.mean[i] += static_cast<float>(rate * clip(s.raw[i] - static_cast<double>(s.mean[i]), CENTRED_MOST));
    value[RECENT] += static_cast<float>(RECENT_RATE * (min(white, RECENT_MOST) - static_cast<double>(value[RECENT])));
    value[RECENT_MEAN] += static_cast<float>(rate * (room[RECENT_LOG] - static_cast<double>(value[RECENT_MEAN])));
    number[LAST] = room[BARE];
    number[SEEN] = n + 1.0;
}

// Is the scale known well enough for the drift detector? Not of a young entity.
constexpr double KNOWN_FROM = 500.0;  // errors of the entity
SSM_INLINE bool is_known(const Scale& s) { return s.number[SIZE] <= 0.0 || s.number[SEEN] >= KNOWN_FROM; }

// The usual size of errors, in the target's unit; and that over the size of this context: 1 where the context says nothing.
SSM_INLINE double usual(const Scale& s) { return s.number[SIZE] > 0.0 ? series::exp(s.number[LEVEL_OF]) : 0.0; }
constexpr double MOST_BY_CONTEXT = 1e30;  // so that its square, and one over it, are numbers
SSM_INLINE double usual_by_context(const Scale& s, double usual) {
    const double ratio = s.number[SIZE] > 0.0 ? usual / s.room[CONTEXT_ONLY] : 1.0;
    return ratio > 0.0 ? between(ratio, 1.0 / MOST_BY_CONTEXT, MOST_BY_CONTEXT) : 1.0;
}

}  // namespace ssm::SSM_ISA::error_scale
