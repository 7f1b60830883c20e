// The streaming learner, fused for one CPU core: events one after another, float32 heads, float64 statistics.
//
// `reference/` is the definition of the same recurrence in torch; tests hold the two together. Two calls an event, always
// in this order: `predict`, which changes nothing but the scratch, and `learn`. In between, `wants` says whether the arrays
// must grow first.
#pragma once
#include <memory>

#include "../state.hpp"
#include "attention.hpp"
#include "corrections.hpp"
#include "gates.hpp"
#include "inputs.hpp"
#include "products.hpp"

namespace ssm::SSM_ISA {

// One pool and one entity of the state, and the working space.
struct Learner {
    const Params& p;
    const Scratch& w;
    Entity s;
    Pool pool;
    Heads fleet, norm;
    bool has_norm;
    SSM_INLINE Learner(const LearnerState& of, i64 k, i64 e)
        : p(of.p), w(of.w), s(of.entity_fields, of.entity.row(e)), pool(of.pool_fields, of.pool.row(k)),
          fleet(of.fleet_fields, of.fleet.row(k), of.p.L, of.p.wide_L),
          norm(of.norm.rows > 0 ? Heads(of.norm_fields, of.norm.row(k), of.p.N, of.p.wide_N) : fleet), has_norm(of.norm.rows > 0) {}
    // Another entity of the pool.
    SSM_INLINE void enter(const LearnerState& of, i64 e) { std::construct_at(&s, of.entity_fields, of.entity.row(e)); }
    SSM_INLINE i64 inputs_in_use() const { return 1 + p.F + pool.used; }  // of the fleet's scope
    // The event that was predicted last, with a wild reading that is not believed as unknown.
    SSM_INLINE Event taken(const Event& event) const { return w.wild[0] < 0 ? Event{w.taken, event.steps, event.ts} : event; }
};

// The answers are put one after another.
struct Put {
    const Scratch& w;
    i64 at;
    // What a head answers that says q on a scale of scale (4, 2), in the target's unit and within its bounds.
    SSM_INLINE void operator()(const double* scale, int kind, double q, bool on) {
        w.active[at] = on ? 1.0 : 0.0;
        if (!on) {
            w.a[at++] = 0.0;
            return;
        }
        double answer = clip(q, Q_CLIP) * scale[2 * kind + 1] + scale[2 * kind];
        if (kind == RESIDUAL) answer += w.base[BASE];
        else if (kind == LOG_RESIDUAL) answer += w.base[LOG_BASE];
        if (kind >= LOG_RESIDUAL) answer = series::expm1(min(answer, 60.0));
        w.a[at++] = min(max(answer, w.base[LOW]), w.base[HIGH]);
    }
    SSM_INLINE void operator()(double answer, double active) {
        w.a[at] = answer;
        w.active[at++] = active;
    }
};

// Answers of the attention.
SSM_ALONE void answer_attention(const Params& p, const Scratch& w, const Heads& h, const Scope& c, i64 D, bool logs, double* q, Put& put) {
    const Keys k(p, w, h);
    for (int r = 0; r < HELD; ++r) c.least[r] = h.near[r];  // what is not measured now teaches nothing
    bool on = k.count > 0;
    const Attended said = on ? attend(p, k, h, c, D) : Attended{};
    q[0] = said.local, q[1] = said.aged, q[2] = said.raw, q[3] = said.plain, q[4] = said.alike;
    const i64 plain = 4 + (p.lags > 0);
    for (i64 i = 0; i < plain; ++i) put(c.scale, RESIDUAL, q[i], on);
    if (!p.log) return;
    q += plain;
    on = on && logs;
    const Attended logged = on ? attend_log(p, k, h, c, D) : Attended{};
    q[0] = logged.local, q[1] = logged.aged, q[2] = logged.raw;
    for (int r = 0; r < 3; ++r) put(c.scale, r < 2 ? LOG_RESIDUAL : LOG_VALUE, q[r], on);
}

// Answers of a pooled scope's heads on the first D inputs.
SSM_ALONE void answer_scope(const Params& p, const Scratch& w, const Heads& h, const Scope& c, i64 D, bool logs, Put& put) {
    const i64 n = whole(D), R = c.R;
    double* q = c.q;
    for (i64 m = 0; m < p.M * p.moments; ++m, ++q) put(c.scale, RESIDUAL, *q = dot(h.W + m * h.width, c.x, n), true);
    if (c.prox)
        for (i64 r = 0; r <= c.prox; ++r, ++q)
            put(c.scale, r < c.prox ? RESIDUAL : VALUE, *q = dot(h.gradient + r * h.width, c.x, n), true);
    if (R) {
        embed(p, w);
        put(c.scale, RESIDUAL, *q = dot(h.embedding, w.phi, R) + dot(h.embedding + R, c.x, n), true), ++q;
    }
    if (p.gd) put(c.scale, RESIDUAL, *q = dot(h.gd, c.x, n), true), ++q;
    if (p.log) {
        for (i64 r = 0; r < c.prox; ++r, ++q)
            put(c.scale, LOG_RESIDUAL, *q = dot(h.gradient + (c.prox + 1 + r) * h.width, c.x, n), logs);
        if (R) {
            const float* W = h.embedding + R + h.width;
            put(c.scale, LOG_RESIDUAL, *q = dot(W, w.phi, R) + dot(W + R, c.x, n), logs), ++q;
        }
    }
    if (p.window) answer_attention(p, w, h, c, D, logs, q, put);
}

// Answers of the heads on products.
SSM_ALONE void answer_products(const Params& p, const Scratch& w, const Pool& pool, bool logs, Put& put) {
    place_products(p, w, pool);
    const i64 n = whole(product_inputs(p, pool));
    double* q = w.q + PRODUCTS * p.heads;
    for (i64 i = 0; i < p.product_heads; ++i)
        put(w.scale, i ? LOG_RESIDUAL : RESIDUAL, q[i] = dot(pool.product_W + i * p.wide_X, w.product, n), !i || logs);
}

// base to the power of n ≥ 0, by squaring: the same bits on any machine.
SSM_INLINE double power(double base, i64 n) {
    double made = 1.0;
    for (; n > 0 && base > 1e-100; n >>= 1, base *= base)
        if (n & 1) made *= base;
    return n > 0 ? 0.0 : made;
}

// Up to how far seasonal answers count from the last known target. They come for all entities at once, and are weighed by the first of
// them, to which they may be near: of the next they may be hundreds of usual errors off. So one whose losses of this entity have all been
// clipped, as are those of one that was never there, counts up to STACK_CLIP usual errors; as they are less by SEASON_NEAR, without limit.
// An entity's first event has no last target and no losses.
struct SeasonLimit {
    const float* losses;  // of the entity, decayed slowly
    double clip;          // what a loss is if all were clipped
    double nearest;       // STACK_CLIP usual errors; infinite where there is no last target or no usual error
    SSM_INLINE SeasonLimit(const Learner& l, double from)
        : losses(l.s.loss + l.p.wide_T), clip(LOSS_CLIP * (1.0 - power(l.p.soft[5], l.s.n - 1)) / (1.0 - l.p.soft[5])) {
        const double unit = usual_error(l.s, l.pool, ROUNDING * std::fabs(from), 0.0);
        nearest = l.p.learned_gate && unit > 0.0 && clip > 0.0 && (l.p.lags > 0 || l.p.known) ? STACK_CLIP * unit : INFINITE;
    }
    SSM_INLINE double of(i64 place) const {
        if (nearest == INFINITE) return INFINITE;
        const double limited = min(1.0 - (1.0 - losses[place] / clip) / SEASON_NEAR, 1.0);
        return limited > 0.0 ? nearest / limited : INFINITE;
    }
};

// All answers, the bases first; returns how many places are in use.
inline i64 answers(const Learner& l) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    const bool logs = l.pool.negative == 0;
    const i64 D = l.inputs_in_use();
    Put put{w, 0};
    const double bases = p.heads_only ? 0.0 : 1.0;
    put(w.base[MEAN], bases);
    if (p.lags > 0 || p.known) put(l.s.n > 0 ? l.s.y_last[0] : w.base[MEAN], bases);
    const double from = w.a[put.at - 1];
    const SeasonLimit limit(l, from);
    for (i64 i = 0; i < p.seasonal; ++i) {
        const bool on = !unknown(w.season[i]) && !p.heads_only;
        const double far = limit.of(put.at), near = min(max(w.season[i], from - far), from + far);
        put(on ? min(max(near, w.base[LOW]), w.base[HIGH]) : 0.0, on);
    }
    for (i64 i = 0; i < p.corrected; ++i) put(0.0, 0.0);
    answer_scope(p, w, l.fleet, scope_of(p, w, FLEET), D, logs, put);
    if (p.products) answer_products(p, w, l.pool, logs, put);
    if (w.flag[MANY]) {
        double* q = w.q + ENTITY * p.heads;
        if (p.prox)
            for (i64 r = 0; r <= p.prox; ++r)
                put(w.scale + 8, r < p.prox ? RESIDUAL : VALUE, q[r] = dot(l.s.W + r * p.wide_L, w.entity, whole(D)), true);
        answer_scope(p, w, l.norm, scope_of(p, w, NORM), D + p.F, logs, put);
    }
    correct(p, w, l.pool, put.at);
    return put.at;
}

// The targets before, standardised: keys of the attention to like pasts.
inline void past_keys(const Learner& l) {
    const Params& p = l.p;
    for (int side = 0; side < 2; ++side) {
        const double mean = l.w.scale[8 * side + 2 * VALUE], deviation = l.w.scale[8 * side + 2 * VALUE + 1];
        for (i64 i = 0; i < p.lags; ++i) {
            const double value = l.s.n > 0 ? l.s.y_last[i] : l.w.base[MEAN];
            l.w.past[side * p.lags + i] = static_cast<float>(deviation > 0.0 ? clip((value - mean) / deviation, Z_CLIP) : 0.0);
        }
    }
}

// Mean square of what the prediction is wrong by for what the features that are unknown in the event, or were before it, are in truth:
// by the long memory's moment head, which weighs them and their changes. Errors of events before are of such events as well, in so
// far as a feature has often been unknown; and what an absence does, other heads and the recent past of errors learn in time.
SSM_ALONE double unsure_of(const Learner& l, const double* u) {
    const Params& p = l.p;
    const Entity& s = l.s;
    if (p.M == 0) return 0.0;
    const i64 f = p.features, changes = f + p.cycles;
    const float* W = l.fleet.W + 1;
    const double *deviation = l.w.deviation, *age = s.holding + AGE * f, *known = s.holding + KNOWN * f, *passed = s.holding + PASSED * f;
    double sum = 0.0;
    for (i64 j = 0; j < f; ++j) {
        const bool here = !unknown(u[j]);
        if ((here && age[j] == 0.0) || !(known[j] > 0.0)) continue;
        double weight = p.differences && deviation[changes + j] > 0.0 ? W[changes + j] / deviation[changes + j] : 0.0, open;
        if (here) {
            open = bridged(p, s, j, u[j]).open;
        } else {
            const double near = nearness(p, s, j);
            open = series::exp(-LATELY_RATE * age[j]) * (1.0 - near * near);
            if (deviation[j] > 0.0) weight += W[j] / deviation[j];
        }
        sum += known[j] / (passed[j] + age[j] + 1.0) * s.v_var[j] * open * weight * weight;
    }
    const double of = l.w.scale[2 * RESIDUAL + 1];
    return min(sum * of * of, SQUARE_MOST);
}
// In which span after a change of a category, and after a jump of a number, it is; how long a category stays that changes with it.
SSM_INLINE void place_change(const Scratch& w, const Change& change, double jumped) {
    place_span(w.unsure + DOUBTS - 2 * CHANGES, change.since);
    place_span(w.unsure + DOUBTS - CHANGES, jumped - 1.0);
    w.unsure[DOUBTS] = change.stay, w.unsure[SINCE_JUMP] = jumped;
}
SSM_INLINE bool any_unknown(const Params& p, const Entity& s, const double* u) {
    const double* age = s.holding + AGE * p.features;
    bool any = false;
    for (i64 j = 0; j < p.features; ++j) any |= unknown(u[j]) | (age[j] > 0.0);
    return any;
}

// The answer for an event as it is; fills the scratch only. first: the entity has had no event before, labelled or not
SSM_ALONE double answer(const Learner& l, const Event& event, bool first) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    look(p, w, l.s, l.pool, l.has_norm, event, first);
    w.base[LOG_BASE] = p.log && p.lags > 0 ? log1p_of(w.base[BASE]) : 0.0;
    place(p, w, l.s, l.pool);
    scales(p, w, l.s, l.pool, p.log && l.pool.negative == 0);  // nothing answers in log space once a target was negative
    if (p.window) past_keys(l);
    if (p.seasons) answer_seasons(p, w, l.s, l.pool, event.steps, event.ts + p.ahead);
    w.unsure[0] = any_unknown(p, l.s, event.u) ? unsure_of(l, event.u) : 0.0;
    place_change(w, since_change(p, l.s, event.u, first), since_jump(p, w, l.s, l.pool, first));
    w.places[0] = answers(l);
    const double prediction = mix(p, w, l.s, l.pool, w.places[0], event.steps[0]);
    doubt_leap(w, leap(p, w, l.s, l.pool));
    if (w.base[SHIFT] == 0.0) return w.made[PREDICTION] = prediction;
    w.made[PREDICTION] = possible(w.base, shifted(prediction, w.base));
    w.base[SHIFT] = w.made[PREDICTION] - prediction;  // as far as it went
    return w.made[PREDICTION];
}

// The event in the scratch as `Learner::taken` is to have it. wild: the feature of its wild reading, plus one; negative where it is unknown
inline void take(const Params& p, const Scratch& w, i64 wild, const double* u) {
    w.wild[0] = wild;
    if (wild >= 0) return;
    std::memcpy(w.taken, u, sizeof(double) * p.C);
    w.taken[-wild - 1] = UNKNOWN;
}
// An event with a wild reading: as it is, or with that unknown, whichever has predicted such events of the pool better.
SSM_ALONE double answer_wild(const Learner& l, const Event& event, i64 wild) {
    const bool believes = l.pool.believed[wild - 1] > 0.0;
    take(l.p, l.w, -wild, event.u);
    const Event unknown = l.taken(event);
    l.w.otherwise[0] = answer(l, believes ? unknown : event, false);
    if (believes) l.w.wild[0] = wild;
    return answer(l, believes ? event : unknown, false);
}
SSM_ALONE void learn_belief(const Learner& l, double y) {
    const i64 wild = l.w.wild[0];
    const double error = std::fabs(y - l.w.made[PREDICTION]), other = std::fabs(y - l.w.otherwise[0]);
    const double unit = usual_error(l.s, l.pool, ROUNDING * std::fabs(y), max(error, other));
    if (!(unit > 0.0)) return;
    const double gain = clip((other - error) / unit, BELIEF_CLIP);
    double& believed = l.pool.believed[(wild > 0 ? wild : -wild) - 1];
    believed = BELIEF_KEEP * believed + (wild > 0 ? gain : -gain);
}

// The answer for an event, of which a wild reading may be taken for unknown: see `taken`.
SSM_INLINE double predict(const Learner& l, const Event& event, bool first) {
    l.w.wild[0] = 0;
    const i64 wild = wild_reading(l.p, l.s, l.pool, event.u);
    return wild > 0 ? answer_wild(l, event, wild) : answer(l, event, first);
}

// What the arrays need before the event that was predicted can be told, and learned where it is labelled.
SSM_INLINE Want wants(const Learner& l, bool labelled) {
    if (!l.has_norm && l.pool.entities + (l.s.n == 0) > 1) return WANT_ENTITY;
    if (labelled && l.pool.used + l.w.flag[FRESH] > l.p.K && l.p.K < SLOTS) return WANT_SLOTS;
    return ENOUGH;
}

SSM_INLINE double standard_target(const double* scale, int i, double value) {
    const double deviation = scale[2 * i + 1], off = value - scale[2 * i];
    return clip(off / (deviation > 0.0 ? deviation : max(std::fabs(off), 1e-300)), Q_CLIP);
}
SSM_INLINE Targets standard_targets(const Scratch& w, const double* scale, double y, bool logs) {
    Targets q{standard_target(scale, RESIDUAL, y - w.base[BASE]), standard_target(scale, VALUE, y), 0.0, 0.0};
    if (logs) {
        q.log_residual = standard_target(scale, LOG_RESIDUAL, log1p_of(y) - w.base[LOG_BASE]);
        q.log_value = standard_target(scale, LOG_VALUE, log1p_of(y));
    }
    return q;
}

// An event as the heads learn it. most: events that may wait to be swept
struct Lesson { double y; bool logs; i64 most; };

// One event for the heads of a pooled scope on its first D inputs.
SSM_ALONE void learn_scope(const Params& p, const Scratch& w, const Heads& h, const Scope& c, i64 D, const Lesson& lesson) {
    const i64 n = whole(D), R = c.R;
    const float size = w.size[FLEET];  // no other has gradient heads
    const double* q = c.q;
    const Targets target = standard_targets(w, c.scale, lesson.y, lesson.logs);
    for (i64 m = 0; m < p.M; ++m) {
        const double said = p.moments ? *q++ : static_cast<double>(dot(h.W + m * h.width, c.x, n));
        moment_rate(p, w, m, m, target.residual - said);
    }
    i64 heads = p.M;
    if (lesson.logs && p.rows > p.M) {
        const double said = static_cast<double>(dot(h.W + p.M * h.width, c.x, n));
        moment_rate(p, w, p.M, 0, target.log_residual - said);
        ++heads;
    }
    learn_moments(p, w, h, c, D, heads, lesson.most);
    if (c.prox) {
        for (i64 r = 0; r < c.prox; ++r) learn_gradient(h.gradient + r * h.width, c.x, n, p.steps[r], target.residual - *q++, size);
        learn_gradient(h.gradient + c.prox * h.width, c.x, n, p.slow_step, target.value - *q++, size);
    }
    float wide = size;
    const auto learn_embedding = [&](float* W, double error) {
        learn_gradient(W, w.phi, R, p.embedding_step, error, wide);
        learn_gradient(W + R, c.x, n, p.embedding_step, error, wide);
    };
    if (R) {
        wide = size + dot(w.phi, w.phi, R);
        learn_embedding(h.embedding, target.residual - *q++);
    }
    if (p.gd) learn_direct(h.gd, c.x, n, w.decay[0], target.residual), ++q;
    if (p.log && lesson.logs) {
        for (i64 r = 0; r < c.prox; ++r)
            learn_gradient(h.gradient + (c.prox + 1 + r) * h.width, c.x, n, p.steps[r], target.log_residual - *q++, size);
        if (R) learn_embedding(h.embedding + R + h.width, target.log_residual - *q);
    }
    if (p.window) hold(p, h, c, D, lesson.logs, target);
}

// Which part of what they hold the quick moment heads keep: the surprise gate, from a fast and a slow mean of the first
// head's error. What they forget, the slow mean forgets too, so that one change is one surprise.
inline double kept_by(const Learner& l, double y) {
    const Params& p = l.p;
    const double strength = p.surprise[0], threshold = p.surprise[1], rate = p.surprise[2], n = static_cast<double>(l.pool.n);
    if (strength <= 0.0 || !p.moments || p.M == 0) return 1.0;
    double &fast = l.pool.surprise[0], &slow = l.pool.surprise[1], &held = l.pool.surprise[2];
    const double error = std::fabs(standard_target(l.w.scale, RESIDUAL, y - l.w.base[BASE]) - l.w.q[0]);
    fast += max(rate, 1.0 / (n + 1.0)) * (error - fast);
    held = (1.0 - 0.1 * rate) * held + 1.0;
    slow += (error - slow) / held;
    const double ratio = (fast + 1e-9) / (slow + 1e-9);
    if (threshold > 0.0 && ratio - 1.0 < 0.999 * threshold) return 1.0;  // as log r ≤ r − 1: mostly without a logarithm
    const double excess = max(series::log(ratio) - threshold, 0.0);
    if (excess == 0.0) return 1.0;
    const double keep = series::exp(-excess);
    held = max(keep * held, 1.0);
    slow += (1.0 - keep) * (fast - slow);
    return series::exp(-strength * excess);
}

inline void learn_heads(Learner& l, const Event& event, double y) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    const double gap = max(event.ts - l.pool.time, 0.0), kept = kept_by(l, y);
    for (i64 m = 0; m < p.decays; ++m) {
        const double keep = p.half_life[m] == 0.0 ? p.decay[m] : series::exp2(-gap / p.half_life[m]);
        w.decay[m] = m > 0 || p.decays == 1 ? keep * kept : keep;  // the first of several is sure, whatever happens
    }
    const i64 D = l.inputs_in_use();
    const Lesson lesson{y, p.log == 1 && l.pool.negative == 0 && y >= 0.0, may_wait(p.window, l.pool.entities, l.pool.n)};
    learn_scope(p, w, l.fleet, scope_of(p, w, FLEET), D, lesson);
    if (p.products) {
        const Targets target = standard_targets(w, w.scale, lesson.y, lesson.logs);
        learn_products(p, w, l.pool, event.u, target.residual, target.log_residual, lesson.logs, lesson.most);
    }
    if (!w.flag[MANY]) return;
    if (p.prox) {
        const double *scale = w.scale + 8, *q = w.q + ENTITY * p.heads;
        const double target = standard_target(scale, RESIDUAL, y - w.base[BASE]), value = standard_target(scale, VALUE, y);
        const auto [x, size] = centred(p, w, l.s.lately, whole(D));
        for (i64 r = 0; r < p.prox; ++r) learn_gradient(l.s.W + r * p.wide_L, x, whole(D), p.steps[r], target - q[r], size);
        learn_gradient(l.s.W + p.prox * p.wide_L, x, whole(D), p.slow_step, value - q[p.prox], size);
        if (l.s.n >= LATELY_FROM) learn_lately(p, w, l.s.lately);
    }
    learn_scope(p, w, l.norm, scope_of(p, w, NORM), D + p.F, lesson);
}

// Codes, heads, gates and running statistics learn target y of the event in the scratch; `learn_past` is to follow.
// kept: of `kept_target`
SSM_ALONE void teach(Learner& l, const Event& event, double y, double kept, bool heads, bool gates) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    if (w.wild[0] != 0 && !unknown(w.otherwise[0])) learn_belief(l, y);
    register_codes(p, w, l.pool, event);
    if (heads) {
        learn_heads(l, event, y);
        if (gates) learn_gates(p, w, l.s, l.pool, {w.places[0], event.steps[0], y, kept, may_wait(p.window, l.pool.entities, l.pool.n)});
    }
    // What an unknown feature was taken for has been an input, and is no value.
    for (i64 j = 0; j < p.features; ++j)
        if (unknown(event.u[j])) w.v[j] = UNKNOWN;
    learn_inputs(p.F, w.v, statistics_of(p, w, l.pool));
    learn_inputs(p.F, w.v, statistics_of(p, w, l.s));
    if (p.effects) learn_effects(p, w, l.s, l.pool, event.u, y);
    learn_target(p, w, l.s, l.pool, y, kept);
}

// Learn target y of the event that `predict` has just answered (its scratch is used).
inline void learn(Learner& l, const Event& as_it_is, double y) {
    const Event event = l.taken(as_it_is);
    // An entity's first event has no past: as its own base it teaches no residual.
    const bool taught = l.pool.n > 0 && (l.p.lags == 0 || l.s.n > 0);
    const double kept = kept_target(l.p, l.s, l.pool, y);
    teach(l, event, y, kept, taught, taught);
    learn_past(l.p, l.w, l.s, l.pool, event, kept);
}

}  // namespace ssm::SSM_ISA
