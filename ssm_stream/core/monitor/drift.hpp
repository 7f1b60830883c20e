// Has the relation changed? A Shiryaev–Roberts e-detector on the normal scores of whitened errors.
//
// error → whitened by the last one → rank p among the entity's own past → z = Φ⁻¹(p), standard normal while nothing changes → less
// what the slow means of z and of z² say of the next → likelihood ratios of shifted and of rescaled normals against N(0, 1),
// `R ← (R + 1)·LR(z)`. A weighted mean of the R is an e-detector: while the z are independent and standard normal, the mean number of
// events to a false alarm is at least the threshold (Shin, Ramdas & Rinaldo 2022). Whitening makes that nearly so for a model's
// errors; not for any data.
// A second scale does the same with the means of blocks of errors, not whitened, and a longer memory: for what creeps too
// slowly for the first. Their scores shrink by how much more their running mean moves than that of independent ones.
//
// An error joins the reference that later ones are ranked in after a lag, so that a change does not hide itself. The lag is
// a share of the reference's size: ranks in a small reference that stands still share its error, ranks in one that grows at
// once do not (conformal p-values: Vovk, Gammerman & Shafer 2005).
//
// The errors of a model that still learns get smaller all the time, and that is no change. So while an entity is young, the
// centre and the scale that its errors are ranked by follow them, at a rate that falls with the number of events seen, and
// what the reference holds weighs the more the later it came.
//
// Where the z are not independent all the same (errors that are mostly one small value follow the prediction's wander; sizes
// come in clusters), their running means move by more than those of independent ones. How much more is learned, with a long
// memory, of z and of z² apart, and both are shrunk so that their sums vary as those of independent ones do: evidence then
// counts for as many events as it is worth.
//
// Errors that have become smaller by their context alone are no change either: a start is a burst of errors, which teaches the context
// large ones, and the calm work after it would be another size of errors each morning. So the evidence waits until their running
// mean is below what they usually are.
//
// A shift that is too small to matter, below the step that the target is read in, is no alarm: its evidence waits below the threshold,
// so that there is one at once when it has grown.
//
// After an alarm the next errors are still ranked in the old reference. If they fit it (a false alarm, a fault that has
// passed, or a change that the learner has taken up), it stays; if not, a new reference is made of them. Where it stays, the
// threshold is raised for a while: errors whose size comes in clusters then keep the budget in the long run too.
#pragma once
#include "../numbers.hpp"
#include "../state.hpp"

namespace ssm::SSM_ISA::drift {

enum { BINS = 128, COARSE = 8, EACH = BINS / COARSE };  // of the reference; its sums over so many bins each
enum { BLOCK = 32 };                                    // events of a block
enum { LAG = 240, BLOCK_LAG = 16 };                     // most errors (blocks) that wait to join the reference
enum { BETS = 10, BETS_ALL = 14 };                      // on events; and on block means
constexpr double LAG_SHARE = 1.0 / 8;                   // of the reference's size that waits at most
constexpr double GROWTH = 1.000173301810164;        // 2^(1/4000): half-life of the reference, 4,000 events
constexpr double BLOCK_GROWTH = 1.0013872557113346;  // 2^(1/500): 16,000 events
constexpr double RESCALE = 1e20;
constexpr double SETTLE = 50.0;                         // events that fix the histogram's centre and scale
constexpr double FIRST = 250.0, BLOCK_FIRST = 16.0;     // errors (blocks) of the first reference before the first bet
constexpr i64 AGAIN = 100;                              // events after an alarm that are held against the old reference
constexpr double YOUNG = 4000.0;                        // events in which centre and scale follow the errors
constexpr double FOLLOW = 2.0, FOLLOW_FIRST = 4.0;      // how fast: so many events' worth of those seen
// The evidence of a young entity counts for less, by so much more of its logarithm: scores that are not quite standard normal
// yet grow evidence of nothing at a rate of their own, so that the rarer a budget, the more it would be passed. It ends with youth.
constexpr double AT_FIRST = 0.3;
// Of the slow means that a score and its square may follow: their memory; how soon that is learned, and from which event on that is
// known at all; square of the standard error of what is learned; times as much for squares, of which a few count for most.
// Of blocks: memory of their running mean, and of how much more than of independent ones it moves.
constexpr double LEVEL_RATE = 1.0 / 64, LEVEL_LEARN = 1.0 / 8000, LEVEL_FROM = 2000.0, LEVEL_ERROR = 0.02, SQUARES = 15.0;
constexpr double BLOCK_RATE = 0.1, BLOCK_LEARN = 1.0 / 256;
constexpr double AR_RATE = 1.0 / 1000, Z_RATE = 0.04, GOLDEN = 0.6180339887498949;
// Of the squares of the running means of z and z², over those of independent ones: events' memory; the most that one counts;
// standard error of what is learned, as of independent z.
constexpr double WANDER_RATE = 1.0 / 8000, WANDER_MOST = 9.0, WANDER_ERROR = 0.15, WANDER_ONE = (2.0 - Z_RATE) / Z_RATE;
// The evidence passes the threshold by a jump: at OVERSHOOT × budget alarms come a little less than once in a budget.
// What an error that is an anomaly is bet on as, in deviations: its alert has come, and a drift is what lasts. As three of them would be
// one else.
constexpr double ANOMALY_MOST = 2.0;
constexpr double OVERSHOOT = 0.45;
constexpr double WAITS = 0.999;  // of the threshold: where evidence waits of a shift that is too small to matter
// Of the threshold's log: each false alarm doubles what it is raised by, and adds; a budget's worth of events takes back.
constexpr double MORE_CAUTION = 1.0, LESS_CAUTION = 0.5, CAUTION_MOST = 12.0;
// Shifts ±¼, ±½, ±1; standard deviations ½, √½, √2, 2; on block means: shifts ±½, ±1
constexpr double WEIGHTS[BETS_ALL] = {2.0 / 14.0, 1.0 / 14.0, 1.0 / 14.0, 2.0 / 14.0, 1.0 / 14.0, 1.0 / 14.0, 1.0 / 14.0,
                                      1.0 / 14.0, 1.0 / 14.0, 1.0 / 14.0, 0.5 / 14.0, 0.5 / 14.0, 0.5 / 14.0, 0.5 / 14.0};

constexpr double STEPS_AROUND = 1.25;  // a step, and what `within_step` adds to it in the mean
constexpr double SMALLER = 3.0, LARGER = 4.0;  // of CHANGE: what errors have become
constexpr double BY_DAYS = 7.0, BY_HOURS = 9.0;  // of CHANGE: days creep up, and the next one down; hours are higher, and the next one lower
constexpr double CHANGE_LAST = BY_HOURS + 1.0;

// columns of `number`
enum { SEEN, CENTRE, SCALE, WARM, MEAN_OF, SPREAD, CROSS, POWER, LAST, TOTAL, MASS, DITHER, Z_MEAN, Z_SQUARE, WAITING, CHANGE,
       TESTING, IN_BLOCK, BLOCK_SUM, BLOCK_TOTAL, BLOCK_MASS, BLOCK_SEEN, BLOCK_WAITING, CAUTION, WANDER, WANDER_SQUARE,
       LEVEL, LEVEL_CROSS, LEVEL_POWER, SIZE, SIZE_CROSS, SIZE_POWER, BLOCK_Z, BLOCK_WANDER, NUMBERS };

// before: errors of the entity that came before the first that is observed
struct Drift {
    double *number, *bets;
    float *histogram, *blocks, *waiting, *blocks_waiting;
    double before;
    SSM_INLINE Drift(const MonitorState& m, i64 e, double before = 0.0) : before(before) {
        char* row = m.drift.row(e);
        number = m.drift_fields.number.in(row);
        bets = m.drift_fields.bets.in(row);
        histogram = m.drift_fields.histogram.in(row);
        blocks = histogram + BINS + COARSE;
        waiting = m.drift_fields.waiting.in(row);
        blocks_waiting = waiting + LAG;
    }
};

// Φ⁻¹(p) to about 1e-7, 0 < p < 1 (Wichura 1988, algorithm AS 241, PPND7).
inline double normal_quantile(double p) {
    const double q = p - 0.5;
    if (std::fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        const double top = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179;
        return q * top / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
    }
    double r = std::sqrt(-series::log(q < 0.0 ? p : 1.0 - p)), x;
    if (r <= 5.0) {
        r -= 1.6;
        const double top = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777;
        x = top / ((0.12021132975 * r + 0.73700164250) * r + 1.0);
    } else {
        r -= 5.0;
        const double top = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150;
        x = top / ((0.012258202635 * r + 0.24197894225) * r + 1.0);
    }
    return q < 0.0 ? -x : x;
}

// The bin of an error. asinh, in a third of its time; what it loses near 0 is less than 1e-15 of a bin.
// A float's square is a float.
template <class T> SSM_INLINE i64 bin(T value) {
    const double square = static_cast<double>(static_cast<T>(value * value));
    const double size = static_cast<double>(std::fabs(value));
    const double place = std::copysign(series::log(size + std::sqrt(square + 1.0)), static_cast<double>(value));
    return static_cast<i64>(min(max(0.0, (place + 5.0) * (BINS / 10.0)), BINS - 1.0));  // what is no number: the first bin
}
SSM_INLINE void insert(float* histogram, i64 b, double mass) {
    histogram[b] += static_cast<float>(mass);
    histogram[BINS + b / EACH] += static_cast<float>(mass);
}
// Later entries weigh more than those before. total, mass: places of the histogram's total and next weight
SSM_INLINE void age(double* number, float* histogram, int total, int mass, double growth) {
    number[mass] *= growth;
    if (number[mass] > RESCALE) {
        for (int i = 0; i < BINS + COARSE; ++i) histogram[i] /= static_cast<float>(number[mass]);
        number[total] /= number[mass];
        number[mass] = 1.0;
    }
}
// z of an error in bin b: its rank among the reference and itself, dithered, as a normal quantile.
inline double score(const float* histogram, i64 b, double total, double mass, double dither) {
    const i64 c = b / EACH;
    double below = 0.0;
    for (i64 j = BINS; j < BINS + c; ++j) below += histogram[j];
    for (i64 j = c * EACH; j < b; ++j) below += histogram[j];
    const double p = (below + dither * (histogram[b] + mass)) / (total + mass), least = 0.5 * mass / (total + mass);
    return normal_quantile(min(max(p, least), 1.0 - least));
}

// R ← (R + 1)·LR(z) for the bets on events: exp(δz − δ²/2), and exp(½z²(1 − 1/σ²))/σ. square: z²
inline void bet(double* R, double z, double square) {
    const double up = series::exp(0.25 * z), h = series::exp(0.125 * square);
    const double down = 1.0 / up, up2 = up * up, h2 = h * h, down2 = down * down, h4 = h2 * h2;
    R[0] = (R[0] + 1.0) * up * 0.9692332344763441;           // exp(−1/32)
    R[1] = (R[1] + 1.0) * up2 * 0.8824969025845955;          // exp(−1/8)
    R[2] = (R[2] + 1.0) * up2 * up2 * 0.6065306597126334;    // exp(−1/2)
    R[3] = (R[3] + 1.0) * down * 0.9692332344763441;
    R[4] = (R[4] + 1.0) * down2 * 0.8824969025845955;
    R[5] = (R[5] + 1.0) * down2 * down2 * 0.6065306597126334;
    R[6] = (R[6] + 1.0) * 2.0 / (h4 * h4 * h4);
    R[7] = (R[7] + 1.0) * 1.4142135623730951 / h4;
    R[8] = (R[8] + 1.0) * h2 * 0.7071067811865476;
    R[9] = (R[9] + 1.0) * h2 * h * 0.5;
}
inline void bet_block(double* R, double z) {
    const double up = series::exp(0.5 * z), down = 1.0 / up;
    R[BETS] = (R[BETS] + 1.0) * up * 0.8824969025845955;
    R[BETS + 1] = (R[BETS + 1] + 1.0) * up * up * 0.6065306597126334;
    R[BETS + 2] = (R[BETS + 2] + 1.0) * down * 0.8824969025845955;
    R[BETS + 3] = (R[BETS + 3] + 1.0) * down * down * 0.6065306597126334;
}

// How much the next error follows the last one. A negative autocorrelation stays: taking it out would raise slow waves, which are as
// shifts are.
SSM_INLINE double follows_last(const double* number) { return min(max(number[CROSS] / (number[POWER] + 1e-9), 0.0), 0.95); }

// What z, and z² − 1, follow of their slow means. What wanders over hundreds of events (weather, a load that no input has, part
// programs) hardly shows from one error to the next, and would be a shift, or another size, all the time. Of scores, not of errors:
// where most errors are small and a few large, the mean of the errors says nothing of the next one's rank.
// first: LEVEL or SIZE, the slow mean, before its products with the next value and with itself. What may be chance counts for little.
SSM_INLINE double expected(const double* number, int first) {
    if (number[SEEN] < LEVEL_FROM) return 0.0;
    const double c = min(max(number[first + 1] / (number[first + 2] + 1e-9), 0.0), 1.0), square = c * c;
    const double chance = (first == SIZE ? SQUARES : 1.0) * (LEVEL_ERROR + 2.0 / (LEVEL_RATE * number[SEEN]));
    return c * square / (square + chance) * number[first];
}
SSM_INLINE void learn_level(double* number, int first, double value) {
    const double rate = max(LEVEL_LEARN, 1.0 / number[SEEN]), level = number[first];
    number[first + 1] += rate * (value * level - number[first + 1]);
    number[first + 2] += rate * (level * level - number[first + 2]);
    number[first] += LEVEL_RATE * (value - level);
}

// Centre and scale move with the learner. x: the error in their unit, clipped; 1.25: |x| is 0.8 in the mean.
SSM_INLINE void follow(double* number, double x, double age) {
    const double rate = (number[WARM] > 0.0 ? FOLLOW_FIRST : FOLLOW) / age;
    number[CENTRE] += rate * x * number[SCALE];
    number[SCALE] *= 1.0 + rate * (1.25 * std::fabs(x) - 1.0);
}

// A new reference, centred and scaled on the latest errors, of the last of those that wait.
inline void restart(const Drift& s, double events) {
    double* number = s.number;
    const double centre = number[MEAN_OF], scale = 1.25 * number[SPREAD];
    const double wider = number[SCALE], moved = (1.0 - follows_last(number)) * (number[CENTRE] - centre);
    if (number[SCALE] > 0.0)
        number[LAST] = min(max((number[LAST] * number[SCALE] + number[CENTRE] - centre) / scale, -4.0), 4.0);
    number[CENTRE] = centre, number[SCALE] = scale, number[WARM] = events;
    number[TOTAL] = 0.0, number[MASS] = 1.0, number[BLOCK_TOTAL] = 0.0, number[BLOCK_MASS] = 1.0;
    number[IN_BLOCK] = number[BLOCK_SUM] = number[BLOCK_SEEN] = 0.0;
    for (int i = 0; i < BINS + COARSE; ++i) s.histogram[i] = s.blocks[i] = 0.0f;
    const i64 seen = static_cast<i64>(number[SEEN]), few = min(static_cast<i64>(number[WAITING]), AGAIN / 2);
    for (i64 i = seen - few; i < seen; ++i)
        insert(s.histogram, bin((static_cast<double>(s.waiting[i % LAG]) * wider + moved) / scale), 1.0);
    number[TOTAL] = static_cast<double>(few);
    number[WAITING] = number[BLOCK_WAITING] = number[LEVEL] = number[SIZE] = 0.0;
}

// The errors of now are the reference from here on.
inline void rebase(const Drift& s) {
    for (int i = 0; i < BETS_ALL; ++i) s.bets[i] = 0.0;
    s.number[TESTING] = 0.0;
    if (s.number[SCALE] > 0.0 && s.number[SPREAD] > 0.0) restart(s, 0.0);
}

// The bet that has won most.
SSM_INLINE int best_bet(const Drift& s) {
    int best = 0;
    for (int i = 0; i < BETS_ALL; ++i)
        if (WEIGHTS[i] * s.bets[i] > WEIGHTS[best] * s.bets[best]) best = i;
    return best;
}
SSM_INLINE bool is_shift(int bet) { return bet < 6 || bet >= BETS; }
// Does a bet win where errors have become smaller?
SSM_INLINE bool is_smaller(int bet) { return bet >= 6 && bet < 8; }
// How far the mean of the latest errors has moved: of the 8, 16, 32, 64 or 128 whose mean is most unlike no change. A running mean would
// lag behind a shift that the learner takes up in the meantime. Any, where fewer are kept in this reference's unit.
SSM_ALONE double latest_shift(const Drift& s) {
    const double* number = s.number;
    const double kept = min(number[SEEN] - SETTLE - FIRST, number[TOTAL] / number[MASS] - static_cast<double>(AGAIN / 2));
    if (!(kept >= 8.0)) return INFINITE;
    const i64 seen = static_cast<i64>(number[SEEN]), most = static_cast<i64>(min(kept, 128.0));
    double sum = 0.0, best = 0.0, mean = 0.0;
    i64 n = 0;
    for (i64 next = 8; next <= most; next *= 2) {
        for (; n < next; ++n) sum += min(max(static_cast<double>(s.waiting[(seen - 1 - n) % LAG]), -8.0), 8.0);
        const double square = sum * sum / static_cast<double>(n);
        if (square > best) best = square, mean = sum / static_cast<double>(n);
    }
    return std::fabs(mean) / (1.0 - follows_last(number)) * number[SCALE];
}

// What the alarm says; from here on errors are held against the old reference. Those that wait join it if later ones fit it: what
// comes each night is known in time.
inline void alarm(const Drift& s) {
    double* number = s.number;
    const int best = best_bet(s);
    if (best < 6) number[CHANGE] = best < 3 ? 1.0 : 2.0;
    else if (best < BETS) number[CHANGE] = is_smaller(best) ? SMALLER : LARGER;
    else number[CHANGE] = best < BETS + 2 ? 5.0 : 6.0;
    for (int i = 0; i < BETS_ALL; ++i) s.bets[i] = 0.0;
    number[TESTING] = 1.0, number[WARM] = static_cast<double>(AGAIN);
    number[BLOCK_WAITING] = number[IN_BLOCK] = number[BLOCK_SUM] = 0.0;
}

// The whitened error waits, and joins the reference once too many do.
inline void join(const Drift& s, double w) {
    double* number = s.number;
    const i64 seen = static_cast<i64>(number[SEEN]);
    s.waiting[(seen - 1) % LAG] = static_cast<float>(w);
    number[WAITING] = min(number[WAITING] + 1.0, static_cast<double>(LAG));
    if (number[TESTING] > 0.0) return;
    while (number[WAITING] > 0.0 && number[WAITING] > min(LAG_SHARE * number[TOTAL] / number[MASS], LAG - 1.0)) {
        insert(s.histogram, bin(s.waiting[(seen - static_cast<i64>(number[WAITING])) % LAG]), number[MASS]);
        number[TOTAL] += number[MASS];
        number[WAITING] -= 1.0;
    }
}

SSM_INLINE double next_dither(double* number) {
    const double next = number[DITHER] + GOLDEN;
    return number[DITHER] = next >= 1.0 ? next - 1.0 : next;
}

// Over 1: how much more than of independent z the running means of z and z² move. What begins is learned as quickly as the
// first reference allows; a change moves it little before the alarm.
SSM_INLINE void learn_wander(double* number) {
    const double rate = max(WANDER_RATE, 1.0 / number[SEEN]), mean = number[Z_MEAN], square = number[Z_SQUARE] - 1.0;
    number[WANDER] += rate * (min(WANDER_ONE * mean * mean, WANDER_MOST) - 1.0 - number[WANDER]);
    number[WANDER_SQUARE] += rate * (min(0.5 * WANDER_ONE * square * square, WANDER_MOST) - 1.0 - number[WANDER_SQUARE]);
}

// What z shrinks to, so that its sums vary as those of independent ones. Less wander than theirs stays (it makes false alarms
// rarer), and what may be chance counts for little.
SSM_INLINE double independent(double wander) {
    if (wander <= 0.0) return 1.0;
    const double square = wander * wander;
    return 1.0 / std::sqrt(1.0 + wander * square / (square + WANDER_ERROR * WANDER_ERROR));
}

// A block is full: its mean is ranked, bet on, and waits.
inline void end_block(const Drift& s) {
    double* number = s.number;
    const double w = number[BLOCK_SUM] / (BLOCK / 4.0);
    number[IN_BLOCK] = number[BLOCK_SUM] = 0.0;
    if (number[BLOCK_TOTAL] >= BLOCK_FIRST * number[BLOCK_MASS]) {
        const double dither = next_dither(number);
        const double z = score(s.blocks, bin(w), number[BLOCK_TOTAL], number[BLOCK_MASS], dither);
        bet_block(s.bets, independent(number[BLOCK_WANDER]) * z);
        double& mean = number[BLOCK_Z];
        mean += BLOCK_RATE * (z - mean);
        const double rate = max(BLOCK_LEARN, 1.0 / (number[BLOCK_SEEN] + 1.0));
        number[BLOCK_WANDER] += rate * ((2.0 - BLOCK_RATE) / BLOCK_RATE * mean * mean - 1.0 - number[BLOCK_WANDER]);
    }
    const i64 seen = static_cast<i64>(number[BLOCK_SEEN]);
    number[BLOCK_SEEN] += 1.0;
    s.blocks_waiting[seen % BLOCK_LAG] = static_cast<float>(w);
    number[BLOCK_WAITING] = min(number[BLOCK_WAITING] + 1.0, static_cast<double>(BLOCK_LAG));
    const double most = min(LAG_SHARE * number[BLOCK_TOTAL] / number[BLOCK_MASS], BLOCK_LAG - 1.0);
    while (number[BLOCK_WAITING] > 0.0 && number[BLOCK_WAITING] > most) {
        const float oldest = s.blocks_waiting[(seen + 1 - static_cast<i64>(number[BLOCK_WAITING])) % BLOCK_LAG];
        insert(s.blocks, bin(oldest), number[BLOCK_MASS]);
        number[BLOCK_TOTAL] += number[BLOCK_MASS];
        number[BLOCK_WAITING] -= 1.0;
    }
    age(number, s.blocks, BLOCK_TOTAL, BLOCK_MASS, max(BLOCK_GROWTH, 1.0 + BLOCK / (s.before + number[SEEN])));
}

SSM_INLINE bool fits(const double* number) {
    return std::fabs(number[Z_MEAN]) < 0.5 && std::fabs(number[Z_SQUARE] - 1.0) < 0.7;
}

// The test after an alarm goes on by one event; returns the evidence.
inline double test(const Drift& s, bool hold, bool noticed) {
    double* number = s.number;
    number[WARM] -= 1.0;
    if (number[WARM] > 0.0) return 0.0;
    number[TESTING] = 0.0;
    if (fits(number)) {
        if (noticed) number[CAUTION] = min(2.0 * number[CAUTION] + MORE_CAUTION, CAUTION_MOST);
        return 0.0;
    }
    // It is no false alarm: said once more, should the change have come after it.
    if (hold) number[TESTING] = 1.0, number[WARM] = static_cast<double>(AGAIN);
    else restart(s, 0.0);
    return 1.0;
}

// In the errors' unit: a step of the target; what a mean error must move by, and errors that grow must be, to matter, a step or more.
struct Least { double step = 0.0, matters = 0.0; };

// Is what the evidence is of less than anyone reads from the target: a mean that moved by less than a step, or errors that are about one
// at most before and after, as of a temperature that is steady at night and then steps?
SSM_INLINE bool is_slight(const Drift& s, const Least& least) {
    const double* number = s.number;
    const int best = best_bet(s);
    if (is_shift(best)) return latest_shift(s) < least.matters;
    const double lately = std::fabs(number[MEAN_OF]) + number[SPREAD];
    return is_smaller(best) ? max(lately, number[SCALE]) < STEPS_AROUND * least.step : lately < STEPS_AROUND * least.matters;
}

// Bet on a normal score; returns the evidence over the threshold. x: the error in the reference's unit; least, less: as of `observe`
inline double wager(const Drift& s, double x, double z, double size, double budget, const Least& least, bool less) {
    double* number = s.number;
    number[BLOCK_SUM] += min(max(x, -8.0), 8.0);
    number[IN_BLOCK] += 1.0;
    bet(s.bets, independent(number[WANDER]) * z, 1.0 + independent(number[WANDER_SQUARE]) * size);
    if (number[IN_BLOCK] >= BLOCK) end_block(s);
    double total = 0.0;
    for (int i = 0; i < BETS_ALL; ++i) total += WEIGHTS[i] * s.bets[i];
    number[CAUTION] = max(number[CAUTION] - LESS_CAUTION / budget, 0.0);
    const double threshold = OVERSHOOT * budget, youth = 1.0 - (s.before + number[SEEN]) / YOUNG;
    const double caution = number[CAUTION] + (youth > 0.0 ? AT_FIRST * youth * max(series::log(threshold), 0.0) : 0.0);
    const double evidence = total / (caution > 0.0 ? threshold * series::exp(caution) : threshold);
    if (evidence < 1.0) return evidence;
    if ((least.matters > 0.0 && is_slight(s, least)) || (!less && is_smaller(best_bet(s)))) {
        // It waits just below the threshold: no alarm while it is so small, or no less than usual, and one at once when that has changed.
        for (int i = 0; i < BETS_ALL; ++i) s.bets[i] *= WAITS / evidence;
        return WAITS;
    }
    alarm(s);
    return evidence;
}

// Ask for what an event reads beyond the numbers: the reference, and the errors that come and that join it.
inline void prefetch(const Drift& s) {
    const i64 seen = static_cast<i64>(s.number[SEEN]), oldest = seen + 1 - static_cast<i64>(s.number[WAITING]);
    for (int i = 0; i < BINS + COARSE; i += 16) __builtin_prefetch(s.histogram + i, 1, 2);
    __builtin_prefetch(s.waiting + (seen % LAG + LAG) % LAG, 1, 2);
    __builtin_prefetch(s.waiting + (oldest % LAG + LAG) % LAG, 1, 2);
}

// Learn one signed error; returns the evidence over the threshold: 1 or more is an alarm.
// budget: mean events between false alarms; hold: the old reference is kept after an alarm even if errors do not fit it
// least: what matters; noticed: an alarm was an alert; less: errors are smaller than they usually are
SSM_ALONE double observe(const Drift& s, double error, double budget, bool hold, bool anomalous = false, const Least& least = {}, bool noticed = true, bool less = true) {
    double* number = s.number;
    const double seen = number[SEEN];
    number[SEEN] = seen + 1.0;
    double rate = max(1.0 / (seen + 1.0), 0.02), step = error - number[MEAN_OF];
    if (seen > 30.0) step = min(max(step, -10.0 * number[SPREAD]), 10.0 * number[SPREAD]);
    number[MEAN_OF] += rate * step;
    number[SPREAD] += rate * (std::fabs(step) - number[SPREAD]);
    if (number[SCALE] <= 0.0) {
        if (seen + 1.0 >= SETTLE && number[SPREAD] > 0.0) {
            restart(s, FIRST);
        }
        return 0.0;
    }
    const double x = min(max((error - number[CENTRE]) / number[SCALE], -1000.0), 1000.0), clipped = min(max(x, -4.0), 4.0);
    const double w = x - follows_last(number) * number[LAST];
    rate = max(AR_RATE, 1.0 / (seen - SETTLE + 3.0));
    if (number[TESTING] == 0.0) {  // an offset that lasts would pass for autocorrelation
        number[CROSS] += rate * (clipped * number[LAST] - number[CROSS]);
        number[POWER] += rate * (clipped * clipped - number[POWER]);
    }
    number[LAST] = clipped;
    if (s.before + seen < YOUNG && number[TESTING] == 0.0) follow(number, clipped, s.before + number[SEEN]);
    double evidence = 0.0;
    if (number[WARM] > 0.0 && number[TESTING] == 0.0) {
        number[WARM] -= 1.0;
        insert(s.histogram, bin(w), number[MASS]);
        number[TOTAL] += number[MASS];
    } else {
        const double dither = next_dither(number);
        const double z = score(s.histogram, bin(w), number[TOTAL], number[MASS], dither);
        const double more = z * z - 1.0, beyond = z - expected(number, LEVEL), size = more - expected(number, SIZE);
        number[Z_MEAN] += Z_RATE * (beyond - number[Z_MEAN]);
        number[Z_SQUARE] += Z_RATE * (z * z - number[Z_SQUARE]);
        if (number[TESTING] == 0.0) learn_level(number, LEVEL, z), learn_level(number, SIZE, more), learn_wander(number);
        join(s, w);
        const double most = anomalous ? ANOMALY_MOST : INFINITE;
        evidence = number[TESTING] > 0.0 ? test(s, hold, noticed) : wager(s, x, clip(beyond, most), min(size, most * most - 1.0), budget, least, less);
    }
    age(number, s.histogram, TOTAL, MASS, max(GROWTH, 1.0 + 1.0 / (s.before + number[SEEN])));
    return evidence;
}

// Are the latest scores standard normal again (mean 0, mean square 1, over about 25 events)?
SSM_INLINE bool is_calm(const Drift& s) { return s.number[WARM] <= 0.0 && s.number[TESTING] == 0.0 && fits(s.number); }

}  // namespace ssm::SSM_ISA::drift
