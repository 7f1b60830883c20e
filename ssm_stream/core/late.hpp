// Predictions that wait for their targets: a ring of records an entity, and how a record is taken up again.
//
// An event whose target comes later, or is to predict a later one, is remembered with what its prediction knew. When the
// target is there, the heads learn on what they would answer now, in their present weights on the inputs as they were then;
// the gates judge the answers as they were given, for an answer is worth what it said at the time. Where the target comes at
// once, both are the same numbers, and so is all that is learned.
//
// Record i of an entity (counted from 0) stands in place i mod H of its ring.
#pragma once
#include "learner/learner.hpp"

namespace ssm::SSM_ISA {

struct Issued { double below, above, share; };
enum { MATCHED, DROPPED, MISSED };  // places of `tally`

// The ring of an entity.
struct Ring {
    const PendingTables& q;
    i64 e, H;
    i64 &met, &oldest;
    SSM_INLINE Ring(const PendingTables& q, i64 e) : q(q), e(e), H(q.places), met(q.met[e]), oldest(q.oldest[e]) {}
    SSM_INLINE i64 place(i64 i) const { return e * H + i % H; }  // of record i, in all rings
    SSM_INLINE bool open(i64 i) const { return q.open[place(i)] != 0; }
    // Record i waits no more.
    inline void close(i64 i, i64* tally, int why) {
        q.open[place(i)] = 0;
        ++tally[why];
        while (oldest < met && (oldest < met - H || !open(oldest))) ++oldest;
    }
    // The oldest record that waits of which the place's number in `of` is `value`, −1 where there is none.
    inline i64 find(const i64* of, i64 value) const {
        for (i64 i = max(oldest, met - H); i < met; ++i)
            if (open(i) && of[place(i)] == value) return i;
        return -1;
    }
};

template <class A, class B> SSM_INLINE void copy(A* to, const B* from, i64 n) {
    for (i64 j = 0; j < n; ++j) to[j] = static_cast<A>(from[j]);
}

// Keep the prediction in the scratch as a record: in the entity's next place, which is free.
inline void remember(const PendingTables& q, i64 at, const Learner& l, const Events& events, i64 t, const Issued& issued) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    q.open[at] = 1;
    q.ts[at] = events.ts[t], q.key[at] = events.key[t], q.pool[at] = events.pool_of[t];
    std::int8_t* flag = q.flag + at * RECORD_FLAGS;
    flag[WITH_MANY] = static_cast<std::int8_t>(w.flag[MANY]);
    flag[WITH_HOUR] = static_cast<std::int8_t>(w.on[0]), flag[WITH_WEEKDAY] = static_cast<std::int8_t>(w.on[1]);
    flag[WITH_SEASONS] = static_cast<std::int8_t>(w.flag[SEASONS]);
    flag[YOUNG] = l.s.n == 0, flag[KNEW] = l.pool.n > 0;
    double* number = q.number + RECORD_NUMBERS * at;
    number[BELOW] = issued.below, number[ABOVE] = issued.above, number[SHARE] = issued.share;
    number[WILD] = static_cast<double>(w.wild[0]), number[OTHERWISE] = w.otherwise[0];
    copy(number + UNSURE, w.unsure, DOUBTS + 1);
    double* v = q.v + at * (p.F + p.features);
    copy(v, w.v, p.F);
    copy(v, events.u + t * p.C, p.features);
    copy(v + p.F, w.v, p.features);
    double* named = q.named + at * (p.categories + 2 * p.turns);
    copy(named, events.u + t * p.C + p.features, p.categories);
    copy(named + p.categories, w.turn, 2 * p.turns);
    copy(q.steps + 2 * at, events.steps + 2 * t, 2);
    copy(q.base + BASES * at, w.base, BASES);
    const i64 used = q.at[at] = w.places[0];
    for (i64 j = 0; j < p.T; ++j) {
        q.a[at * p.T + j] = j < used ? w.a[j] : 0.0;
        q.active[at * p.T + j] = j < used ? static_cast<std::int8_t>(w.active[j]) : 0;
    }
    copy(q.made + at * MADE, w.made, MADE);
    if (p.window) copy(q.past + at * 2 * p.lags, w.past, 2 * p.lags);
}

// The record in this place as if it had just been predicted: its columns in the room, the rest in the scratch.
inline void recall(const PendingTables& q, i64 at, const Room& room, const Learner& l) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    const std::int8_t* flag = q.flag + at * RECORD_FLAGS;
    w.flag[MANY] = flag[WITH_MANY], w.on[0] = flag[WITH_HOUR], w.on[1] = flag[WITH_WEEKDAY];
    w.flag[SEASONS] = flag[WITH_SEASONS];
    const double* v = q.v + at * (p.F + p.features);
    copy(w.v, v, p.F);
    copy(room.u, v, p.features);
    copy(w.v, v + p.F, p.features);
    const double* named = q.named + at * (p.categories + 2 * p.turns);
    copy(room.u + p.features, named, p.categories);
    copy(w.turn, named + p.categories, 2 * p.turns);
    copy(room.u + p.features + p.categories, w.v + p.features, p.cycles);
    copy(room.steps, q.steps + 2 * at, 2);
    copy(w.base, q.base + BASES * at, BASES);
    if (p.window) copy(w.past, q.past + at * 2 * p.lags, 2 * p.lags);
    const double* number = q.number + RECORD_NUMBERS * at;
    take(p, w, static_cast<i64>(number[WILD]), room.u);
    w.otherwise[0] = number[OTHERWISE];
    find_codes(p, w, l.pool, l.taken({room.u, room.steps, static_cast<double>(q.ts[at])}));
    place(p, w, l.s, l.pool);
    scales(p, w, l.s, l.pool, p.log);  // in log space has been answered where the first negative target came after it
    answers(l);
    copy(w.a, q.a + at * p.T, p.T);
    copy(w.active, q.active + at * p.T, p.T);
    w.places[0] = q.at[at];
    mix(p, w, l.s, l.pool, w.places[0], room.steps[0]);
    copy(w.made, q.made + at * MADE, MADE);
    copy(w.unsure, number + UNSURE, DOUBTS + 1);
    w.unsure[GAPS_PASSED] = 0.0;  // records do not have it
}

}  // namespace ssm::SSM_ISA
