// The categories of an entity, and its features that are zero at times: since when they are what they are, and what a change does to the target.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

// Place of a value among those that a column has shown, or −1.
SSM_INLINE i64 find(const double* values, i64 seen, double value) {
    for (i64 i = 0; i < seen; ++i)
        if (values[i] == value) return i;
    return -1;
}

// Events since a category of the entity changed: 0 in the one where it does, −1 where that is long ago. One that changes so often that no
// event would be free of doubt counts for nothing. stay: how many events the one that changes now usually stays
constexpr double CHANGED_LATELY = (1 << CHANGES) - 1, RUN_RATE = 0.05;  // events; of the usual number between changes, a change
constexpr double EFFECTS_PAUSE = 8.0;  // usual gaps, after which no event is known to be the second of a change
enum { NOW, FORMER, RUN, STAY, TIMES, EXPLAINED, EXPECTED };  // rows of `Entity::category`
SSM_INLINE bool changes(double now, double last) { return now != last && !(unknown(now) && unknown(last)); }
// What turns: the categories, and of each feature whether it is zero: there a machine rests.
SSM_INLINE double turning(const Params& p, const double* u, i64 j) {
    if (j < p.categories) return u[p.features + j];
    const double value = u[j - p.categories];
    return unknown(value) ? UNKNOWN : value == 0.0 ? 1.0 : 0.0;
}
struct Change { double since, stay; };
SSM_INLINE Change since_change(const Params& p, const Entity& s, const double* u, bool first) {
    Change found{-1.0, 0.0};
    for (i64 j = 0; j < p.categories && !first; ++j) {
        const double* column = s.category + j;
        const bool now = changes(u[p.features + j], column[NOW * p.turns]);
        const double run = column[RUN * p.turns] + 1.0, usual = column[STAY * p.turns], stay = now && usual == 0.0 ? run : usual;
        if (now) found.stay = max(found.stay, stay);
        const double since = now ? 0.0 : run;
        if (stay >= CHANGED_LATELY && since < CHANGED_LATELY && (found.since < 0.0 || since < found.since)) found.since = since;
    }
    return found;
}
// paused: it comes after so long that a change may have been at any time since the event before
SSM_INLINE void follow_categories(const Params& p, Entity& s, const double* u, bool first, bool paused) {
    for (i64 j = 0; j < p.turns; ++j) {
        double* column = s.category + j;
        double &last = column[NOW * p.turns], &run = column[RUN * p.turns], &stay = column[STAY * p.turns], &times = column[TIMES * p.turns];
        const double now = turning(p, u, j);
        run = first ? 0.0 : run + 1.0;
        if (!first && changes(now, last)) {
            stay += max(1.0 / ++times, RUN_RATE) * (run - stay);
            run = paused ? static_cast<double>(RESPONSE) : 0.0;
            column[FORMER * p.turns] = last;
        }
        last = now;
    }
}

// Where past targets are inputs, a change of a category, as of the product that is made, would be known one event late, and so would that a
// machine begins to work: its load leaves zero, or comes to it, and what runs with it jumps by as much at any load. So a change to a value
// and one from a value have effects on the target, in its event and in the next ones, and the prediction is shifted by their difference, times
// the entity's part in it. Heads and gates know of no shift. The effects follow what is missing from their predictions in such events, as a
// Kalman filter of which each effect knows its own variance only; parts are regressions of that on the differences.
constexpr double REACH = 0.5;  // of the range of targets: how far outside of it an answer may be
constexpr double EFFECT_NOISE = 0.5;    // variance of a change of the target besides the effects, over that of an effect that is not known
constexpr double EFFECT_FORGETS = 0.5;  // of what an event brings, the part by which an effect is more certain: later events weigh more, as heads are young at first
constexpr double EFFECT_KNOWN = 99.0;   // what of an effect is known at most: 1/variance, less 1
constexpr double PART_KEEP = 0.99, PART_LEAN = 0.5;  // of the sums, an event; events of the pool's that an entity leans on
constexpr double PART_ROUNDING = 1e-6;  // of the range of answers: heads are in 32 bits, and a part of what they round off is none
constexpr double PART_SURE = 2.0;       // standard errors
constexpr double PART_MOST = 4.0;       // times the difference of the effects: a part, and what an event tells of it
enum { POOL_EXPLAINED, POOL_EXPECTED, POOL_CHANGED, POOL_EVENTS };  // rows of `Pool::part`

// Into the scratch: events since each column changed, −1 where that is long ago, and its value before.
SSM_INLINE void place_turns(const Params& p, const Scratch& w, const Entity& s, const double* u) {
    for (i64 j = 0; j < p.turns; ++j) {
        const double* column = s.category + j;
        const double last = column[NOW * p.turns], run = column[RUN * p.turns] + 1.0;
        const bool turns = s.n > 0 && changes(turning(p, u, j), last);
        const bool lately = s.n > 0 && run < static_cast<double>(RESPONSE) && column[TIMES * p.turns] > 0.0;
        w.turn[j] = turns ? 0.0 : lately ? run : -1.0;
        w.turn[p.turns + j] = turns ? last : column[FORMER * p.turns];
    }
}
// Of column j: events since it changed, and the places of its values before that and now; −1 where one is not known.
struct Turn { i64 since, from, to; };
SSM_INLINE Turn turn_of(const Params& p, const Scratch& w, const Pool& pool, const double* u, i64 j) {
    const double since = w.turn[j], before = w.turn[p.turns + j], now = turning(p, u, j);
    if (!(since >= 0.0 && since < static_cast<double>(RESPONSE)) || unknown(now) || unknown(before)) return {0, -1, -1};
    if (j >= p.categories) return {static_cast<i64>(since), before != 0.0, now != 0.0};
    const i64 at = p.features + j, seen = pool.seen[at];
    const double* values = pool.value + at * VALUES;
    return {static_cast<i64>(since), find(values, seen, before), find(values, seen, now)};
}
// An effect, in the target's unit, and what of it is known.
struct Effect { double &by, &known; };
// That of the value now, and that of the one before; of category j, in events that are so far from its change.
struct Effects {
    Effect come, gone;
    SSM_INLINE double difference() const { return come.by - gone.by; }
    SSM_INLINE bool known() const { return come.known > 0.0 && gone.known > 0.0; }
};
SSM_INLINE Effects effects_of(const Params& p, const Pool& pool, i64 j, const Turn& turn) {
    const i64 step = p.effect_places, first = j < p.categories ? j * VALUES : p.categories * VALUES + (j - p.categories) * RESTING;
    const i64 come = 2 * turn.since * step + first, gone = come + step;
    const auto at = [&](i64 i) { return Effect{pool.effect[i], pool.effect_known[i]}; };
    return {at(come + turn.to), at(gone + turn.from)};
}
// How sure it is that the effects of column j are any, 0 to 1, by Stein's rule: a part that is less than PART_SURE standard errors of its
// regression over the pool is none.
SSM_INLINE double certainty(const Pool& pool, i64 n, i64 j) {
    const double explained = pool.part[POOL_EXPLAINED * n + j], changed = pool.part[POOL_CHANGED * n + j];
    const double share = explained > 0.0 ? explained / pool.part[POOL_EXPECTED * n + j] * (explained / changed) : 0.0;  // of what changed
    return share > 0.0 ? max(1.0 - PART_SURE * PART_SURE * max(1.0 / share - 1.0, 0.0) / pool.part[POOL_EVENTS * n + j], 0.0) : 0.0;
}
// The entity's part in the effects: Σ change · difference / Σ difference², leaning on the pool's.
SSM_INLINE double part_of(const Params& p, const Entity& s, const Pool& pool, i64 j) {
    const i64 n = p.turns;
    const double expected = pool.part[POOL_EXPECTED * n + j];
    if (!(expected > 0.0)) return 0.0;
    const double lean = PART_LEAN / pool.part[POOL_EVENTS * n + j];
    const double part = (s.category[EXPLAINED * n + j] + lean * pool.part[POOL_EXPLAINED * n + j]) / (s.category[EXPECTED * n + j] + lean * expected);
    return certainty(pool, n, j) * min(max(part, 0.0), PART_MOST);
}
// Each column that has changed lately, and its effects.
template <class F> SSM_INLINE void each_turn(const Params& p, const Scratch& w, const Pool& pool, const double* u, F step) {
    for (i64 j = 0; j < p.turns; ++j) {
        const Turn turn = turn_of(p, w, pool, u, j);
        if (turn.from >= 0 && turn.to >= 0 && turn.from != turn.to) step(j, effects_of(p, pool, j, turn));
    }
}
// What the prediction is shifted by in an event with these columns.
SSM_INLINE double shift_of(const Params& p, const Scratch& w, const Entity& s, const Pool& pool, const double* u) {
    double sum = 0.0;
    each_turn(p, w, pool, u, [&](i64 j, const Effects& of) {
        if (of.known()) sum += part_of(p, s, pool, j) * of.difference();
    });
    return sum;
}
// An answer with that; base: of `Scratch`. What changes do in the mean takes no answer further than targets have been, where less of it is right.
SSM_INLINE double shifted(double answer, const double* base) {
    if (base[SHIFT] == 0.0) return answer;
    const double reach = REACH / (1.0 + 2.0 * REACH) * (base[HIGH] - base[LOW]);
    return min(max(answer + base[SHIFT], min(answer, base[LOW] + reach)), max(answer, base[HIGH] - reach));
}
// The event in the scratch, whose values are among those shown, with target y.
SSM_ALONE void learn_effects(const Params& p, const Scratch& w, Entity& s, Pool& pool, const double* u, double y) {
    const i64 n = p.turns;
    // change: of the target, less what is predicted of it without the shift
    const double change = min(max(y, w.base[LOW]), w.base[HIGH]) - w.made[PREDICTION] + w.base[SHIFT];
    double variance = 0.0, shift = 0.0, unknown = 0.0;  // of the effects that are known, in their parts, and of the others
    each_turn(p, w, pool, u, [&](i64 j, const Effects& of) {
        variance += 1.0 / (1.0 + of.come.known) + 1.0 / (1.0 + of.gone.known);
        (of.known() ? shift : unknown) += of.known() ? part_of(p, s, pool, j) * of.difference() : of.difference();
    });
    if (!(variance > 0.0)) return;
    const double error = change - shift - unknown, noise = variance + EFFECT_NOISE;
    each_turn(p, w, pool, u, [&](i64 j, const Effects& of) {
        const double usual = of.difference();
        // What the others have not explained, by what this one was to.
        if (of.known() && std::fabs(usual) > PART_ROUNDING * (w.base[HIGH] - w.base[LOW])) {
            const double own = clip(change - shift + part_of(p, s, pool, j) * usual, PART_MOST * std::fabs(usual));
            for (double* sums : {s.category + EXPLAINED * n, pool.part}) {
                sums[j] = PART_KEEP * sums[j] + own * usual;
                sums[n + j] = PART_KEEP * sums[n + j] + usual * usual;
            }
            double& events = pool.part[POOL_EVENTS * n + j];
            events = PART_KEEP * events + 1.0;
            double& all = pool.part[POOL_CHANGED * n + j];
            all = PART_KEEP * all + own * own;
        }
        const auto learn = [&](const Effect& effect, double sign) {
            const double before = 1.0 / (1.0 + effect.known), gain = before / noise;
            effect.by += sign * gain * error;
            effect.known = min(1.0 / (before * (1.0 - EFFECT_FORGETS * gain)) - 1.0, EFFECT_KNOWN);
        };
        learn(of.come, 1.0), learn(of.gone, -1.0);
    });
}

}  // namespace ssm::SSM_ISA
