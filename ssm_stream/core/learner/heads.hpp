// The heads: each a linear state that an event moves by a gradient step, and that the next event's inputs read.
//
// All work on one pool's (or entity's) rows and on standardised targets q. D inputs are in use; rows of inputs and weights
// are zero from there to the next whole vector, n.
#pragma once
#include "../numbers.hpp"
#include "../pool.hpp"
#include "sweep.hpp"

namespace ssm::SSM_ISA {

constexpr double LEAST_LEVEL = 1e-9;

// What differs between the scopes of a pool: the inputs of the event, room for what the heads make of them, and which heads
// there are: the norm scope has no gradient heads and no embedding, as the fleet's and the entity's own leave them nothing to add.
struct Scope {
    const float* x;        // inputs [1, numbers, codes]
    const double* scale;   // (4, 2) mean and deviation of each scale
    double* q;             // standardised answers
    double* least;         // least distance of the attention by metric
    float* past;           // attention's other key, the targets before
    i64 numbers, prox, R;
};
SSM_INLINE Scope scope_of(const Params& p, const Scratch& w, Which which) {
    if (which == FLEET)
        return {w.fleet, w.scale, w.q, w.least, w.past, p.F, p.prox, p.R};
    return {w.norm, w.scale + 8, w.q + NORM * p.heads, w.least + 4, w.past + p.lags, 2 * p.F, 0, 0};
}

// The level of state m sinks by λ, and ω and ωe of its event are put in what is stored.
// Long before a level is too small for its numbers, S, R and what waits take it over.
template <class T> struct Moments {
    T *S, *R, *W, *level, *batch, *kept;
    i64& waiting;
    i64 height, width;
    T* rate;  // (heads, RATES) of the event
    i64 targets = 1;  // R and W of one S, where heads share it: then there is one
};
template <class T> SSM_INLINE void decay(const Moments<T>& h, i64 m, i64 D, i64 n) {
    T* rate = h.rate + m * RATES;
    double now = (h.level[m] > T(0) ? static_cast<double>(h.level[m]) : 1.0) * rate[KEEP];
    if (now < LEAST_LEVEL) {
        for (i64 i = 0; i < D; ++i)
            for (i64 j = 0; j < n; ++j) {
                T& cell = h.S[(m * h.height + i) * h.width + j];
                cell = static_cast<T>(cell * now);
            }
        for (i64 t = m * h.targets; t < (m + 1) * h.targets; ++t)
            for (i64 j = 0; j < n; ++j) h.R[t * h.width + j] = static_cast<T>(h.R[t * h.width + j] * now);
        for (i64 i = 0; i < BATCH; ++i) h.kept[m * BATCH + i] = static_cast<T>(h.kept[m * BATCH + i] * now);
        now = 1.0;
    }
    h.level[m] = static_cast<T>(now);
    rate[LEVEL] = h.level[m];
    rate[PUSH] /= h.level[m];
    rate[PULL] /= h.level[m];
}

// Events that may wait to be swept with a later one, in a pool of so many entities that has learned n events: a tenth of
// what comes, on average, between two of an entity's own. Beside the attention, sweeps cost little.
SSM_INLINE i64 may_wait(i64 window, i64 entities, i64 n) {
    return window == 0 && n >= BATCH_FROM ? min(entities / WAIT_SHARE, i64(BATCH)) : 0;
}

// Put the event with those that wait, if it may; else it is to be swept with them.
template <class T> SSM_INLINE bool wait(const Moments<T>& h, i64 heads, i64 most, const T* x, i64 n) {
    const i64 i = h.waiting;
    if (i >= most) return false;
    std::memcpy(h.batch + i * h.width, x, n * sizeof(T));
    for (i64 m = 0; m < heads; ++m) h.kept[m * BATCH + i] = h.rate[m * RATES + PUSH];
    h.waiting = i + 1;
    return true;
}

template <class T> SSM_INLINE Swept<T> swept(const Moments<T>& h) {
    return {h.S, h.R, h.W, h.width, h.height, h.rate, h.batch, h.kept};
}
// Sweep the event with those that wait; then none waits any more. SHARED: the heads have one S
template <bool SHARED = false, class T> SSM_INLINE void sweep_waiting(const Moments<T>& h, i64 heads, const T* x, const Chosen& chosen) {
    const Swept<T> of = swept(h);
    if constexpr (SHARED) sweep_all_of_one<T>(of, heads, h.waiting, x, chosen);
    else sweep_all<T>(of, heads, h.waiting, x, chosen);
    if (h.waiting == 0) return;
    h.waiting = 0;
    for (i64 i = 0; i < (SHARED ? 1 : heads) * BATCH; ++i) h.kept[i] = T(0);
}

// The codes among the first D inputs that are 1 in the event or in one that waits; returns how many.
SSM_INLINE i64 codes_to_sweep(const Moments<float>& h, const float* x, i64 lead, i64 D, i64* codes) {
    i64 more = 0;
    for (i64 j = lead; j < D; ++j) {
        bool there = x[j] != 0.0f;
        for (i64 i = 0; i < h.waiting; ++i) there = there || h.batch[i * h.width + j] != 0.0f;
        if (there) codes[more++] = j;
    }
    return more;
}

// S ← λS + ωxxᵀ, P ← λP + ωqx with ω = min(1, c/|e|), then one Gauss–Seidel sweep on ½WᵀSW − PᵀW + ½ρ‖W‖².
//
// Only the residual R = P − SW is kept: with the new moments it is λR + ωx(q − W·x), and a step δ of one weight takes δ
// times that weight's row of S from it. So the sweep adds rows and never sums along one, and S is read once. The weights
// of codes that are 0 are not swept. In a pool of several entities up to `most` events wait, and are swept with the next:
// R knows of each at once, S when they are swept.
inline void learn_moments(const Params& p, const Scratch& w, const Heads& h, const Scope& c, i64 D, i64 heads, i64 most) {
    const Moments<float> moments{h.S, h.R, h.W, h.level, h.batch, h.kept, h.waiting, h.inputs, h.width, w.rate};
    const i64 n = whole(D), lead = 1 + c.numbers;
    (void)p;
    for (i64 m = 0; m < heads; ++m) {
        decay(moments, m, D, n);
        add(h.R + m * h.width, c.x, w.rate[m * RATES + PULL], n);
    }
    if (wait(moments, heads, most, c.x, n)) return;
    sweep_waiting(moments, heads, c.x, {lead, w.others, codes_to_sweep(moments, c.x, lead, D, w.others), n});
}

// Constants of head m for an event that it missed by `error`: λ, ω, ρ and ωe.
SSM_INLINE void moment_rate(const Params& p, const Scratch& w, i64 row, i64 m, double error) {
    float* rate = w.rate + row * RATES;
    const float weight = static_cast<float>(min(1.0, static_cast<double>(p.huber[m]) / (std::fabs(error) + 1e-12)));
    rate[KEEP] = static_cast<float>(w.decay[m]);
    rate[PUSH] = weight;
    rate[PULL] = weight * static_cast<float>(error);
    rate[RIDGE] = p.ridge[m];
}

// W ← W + β clip(e, ±3) x / ‖x‖²: implicit online gradient descent.
SSM_INLINE void learn_gradient(float* W, const float* x, i64 n, double step, double error, float size) {
    add(W, x, static_cast<float>(step * clip(error, ERROR_CLIP)) / size, n);
}

// The direction of a step about the centre c of the inputs z, where that of [1, z, codes] would be for steps about 0:
// [1 − c·(z − c), z − c, codes], the gradient by what the head answers at c and its slopes, as weights of [1, z, codes].
// lately: [0, running means of z], a centre where an input has stood off its mean. size: ‖[1, z − c, codes]‖², so much a step of 1
// along this direction changes the answer.
struct Direction { const float* x; float size; };
SSM_INLINE Direction centred(const Params& p, const Scratch& w, const float* lately, i64 n) {
    bool off = false;  // mostly none is
    for (i64 j = 1; j <= p.F; ++j) off |= std::fabs(lately[j]) > static_cast<float>(OFF_CENTRE);
    if (!off) return {w.entity, dot(w.entity, w.entity, n)};
    std::memcpy(w.centred, w.entity, sizeof(float) * n);
    float across = 0.0f;
    for (i64 j = 1; j <= p.F; ++j) {
        const float c = std::fabs(lately[j]) > static_cast<float>(OFF_CENTRE) ? lately[j] : 0.0f;
        w.centred[j] -= c;
        across += c * w.centred[j];
    }
    const float size = dot(w.centred, w.centred, n);
    w.centred[0] = 1.0f - across;
    return {w.centred, size};
}
SSM_INLINE void learn_lately(const Params& p, const Scratch& w, float* lately) {
    constexpr float rate = static_cast<float>(LATELY_RATE);
    for (i64 j = 1; j <= p.F; ++j) lately[j] += rate * (w.entity[j] - lately[j]);
}

// P ← λP + (1 − λ) q x: the paper's layer with decay, one gradient step from zero weights on the decayed mean.
SSM_INLINE void learn_direct(float* P, const float* x, i64 n, double decay, double q) {
    decay_add(P, static_cast<float>(decay), x, static_cast<float>((1.0 - decay) * q), n);
}

// φ = cos 2π(Ωᵀx + phase), (R,) from the numbers and the codes of the fleet scope.
SSM_ALONE void embed(const Params& p, const Scratch& w) {
    const i64 R = p.R;
    float* phi = w.phi;
    std::memcpy(phi, p.phase, sizeof(float) * R);
    weigh(phi, w.fleet + 1, p.omega, p.F, R, R);
    for (i64 i = 0; i < w.flag[CODES]; ++i) add(phi, p.omega + (p.F + w.slots[i]) * R, 1.0f, R);
    for (i64 r = 0; r < R; ++r) {
        // cos 2πf = 1 − 2 sin² πf, with f within a half turn; the sine by its series, to the last bit of a 32-bit float
        const float f = phi[r] - std::floor(phi[r] + 0.5f), t = 3.14159265358979323846f * f, g = t * t;
        float sine = -2.5052108e-8f;
        sine = sine * g + 2.7557319e-6f;
        sine = sine * g - 1.9841270e-4f;
        sine = sine * g + 8.3333333e-3f;
        sine = sine * g - 1.6666667e-1f;
        sine = sine * g + 1.0f;
        sine = sine * t;
        phi[r] = 1.0f - 2.0f * sine * sine;
    }
}

}  // namespace ssm::SSM_ISA
