// Attention over the last events, in one pass over the keys: the local correction of the moment heads.
//
// The keys are the inputs of the last events, stored input by input, so that the distances to all of them grow together in
// vector registers. The weights fall with the distance beyond the nearest by `decline`, a softmax that needs no
// exponential.
#pragma once
#include "heads.hpp"

namespace ssm::SSM_ISA {

constexpr float METRIC_FLOOR = 0.05f;  // of an input's part in the metric: without weight it still tells situations apart
constexpr double AGED = 0.02;          // per event
constexpr double NEAR_RATE = 0.02;

// A dot product in eight interleaved sums: the order is fixed and still fits a vector register.
SSM_ALONE float interleaved_dot(const float* a, const float* b, i64 D) {
    float s[8] = {};
    const i64 even = D - D % 8;
    for (i64 i = 0; i < even; i += 8)
        for (int j = 0; j < 8; ++j) s[j] += a[i + j] * b[i + j];
    float total = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    for (i64 i = even; i < D; ++i) total += a[i] * b[i];
    return total;
}

// d → (1 − d/256)²⁵⁶ where d < 256, else 0, in place: exp(−d) within 2 % up to d = 2, in eight multiplications.
SSM_ALONE void decline(float* weights, i64 count) {
    for (i64 i = 0; i < count; ++i) {
        float t = 1.0f - weights[i] * (1.0f / 256);
        t = 0.0f > t ? 0.0f : t;
        for (int k = 0; k < 8; ++k) t = t * t;
        weights[i] = t;
    }
}

// The keys in use, and the working space: distances, W · key, weights and ones, a row of `window` each.
struct Keys {
    i64 window, count, newest;
    float *distance, *fit, *weight;
    const float* ones;
    SSM_INLINE Keys(const Params& p, const Scratch& w, const Heads& h) : window(p.window) {
        const i64 inserted = static_cast<i64>(h.near[HELD]);
        count = min(inserted, window);
        newest = (inserted + window - 1) % window;
        distance = w.attend + DISTANCE * window;
        fit = w.attend + FIT * window;
        weight = w.attend + WEIGHT * window;
        ones = w.attend + ONES * window;
    }
    SSM_INLINE i64 age(i64 b) const { return (newest - b + window) % window; }
    SSM_INLINE float least() const {
        float low = 1e30f;
        for (i64 b = 0; b < count; ++b) low = distance[b] < low ? distance[b] : low;
        return low;
    }
    SSM_INLINE float weighted(const float* of) const { return interleaved_dot(weight, of, count); }
};

// Distances to the keys in the metric of |W|, and W · key; returns the least distance.
// The first input is the constant; the numbers follow it, whose metric is normalised.
SSM_ALONE float measure(const Keys& k, const float* keys, const Scope& c, const float* W, i64 D) {
    float most = 1e-9f, total = 0.0f;
    for (i64 j = 1; j < D; ++j) most = std::fabs(W[j]) > most ? std::fabs(W[j]) : most;
    for (i64 j = 1; j <= c.numbers; ++j) {
        const float a = METRIC_FLOOR + std::fabs(W[j]) / most;
        total += a * a;
    }
    total = 1e-9f > total ? 1e-9f : total;
    for (i64 b = 0; b < k.count; ++b) k.distance[b] = 0.0f, k.fit[b] = W[0];
    float *__restrict distance = k.distance, *__restrict fit = k.fit;
    for (i64 j = 1; j < D; ++j) {
        const float a = METRIC_FLOOR + std::fabs(W[j]) / most;
        const float metric = a * a / total, weight = W[j], here = c.x[j];
        const float* __restrict key = keys + j * k.window;
        for (i64 b = 0; b < k.count; ++b) {
            const float z = here - key[b];
            distance[b] += metric * z * z;
            fit[b] += weight * key[b];
        }
    }
    return k.least();
}

// Unweighted distances over rows first to D of the keys, to those younger than `most`; the others are far away.
struct Plain { const float *keys, *x; i64 first, D, lead, most; };
SSM_ALONE float measure_plain(const Keys& k, const Plain& of) {
    float* __restrict distance = k.distance;
    for (i64 b = 0; b < k.count; ++b) distance[b] = 0.0f;
    const float part = static_cast<float>(1.0 / static_cast<double>(max(of.lead, i64(1))));
    for (i64 j = of.first; j < of.D; ++j) {
        const float* __restrict key = of.keys + j * k.window;
        const float here = of.x[j];
        for (i64 b = 0; b < k.count; ++b) {
            const float z = here - key[b];
            distance[b] += part * z * z;
        }
    }
    for (i64 b = 0; b < k.count; ++b)
        if (k.age(b) >= of.most) distance[b] = 1e9f;
    return k.least();
}

// Weights of the keys, not normalised; returns their sum. `age` a step back in time counts as so much distance.
SSM_ALONE float attend_to(const Keys& k, double least, float width, double age) {
    const float scale = 1.0f / width, here = static_cast<float>(least);
    for (i64 b = 0; b < k.count; ++b) k.weight[b] = (k.distance[b] - here) * scale;
    if (age > 0.0)
        for (i64 b = 0; b < k.count; ++b) k.weight[b] += static_cast<float>(age) * static_cast<float>(k.age(b));
    decline(k.weight, k.count);
    return k.weighted(k.ones) + 1e-12f;
}

// What the moment head says plus what it missed in the like situations of late: local and aged, then plain means.
struct Attended { double local, aged, raw, plain, alike; };
inline Attended attend(const Params& p, const Keys& k, const Heads& h, const Scope& c, i64 D) {
    constexpr float third = 0.3f, small = 1e-3f;
    const float *W = h.W, *target = h.held + HELD_RESIDUAL * k.window;
    Attended out{};
    const float value = interleaved_dot(W, c.x, D);
    c.least[NEAR] = measure(k, h.keys, c, W, D);
    const float width = third * (static_cast<float>(h.near[NEAR]) + small);
    float total = attend_to(k, c.least[NEAR], width, 0.0);
    const float raw = k.weighted(target) / total;
    out.raw = raw;
    out.local = value + raw - k.weighted(k.fit) / total;
    total = attend_to(k, c.least[NEAR], width, AGED);
    out.aged = value + (k.weighted(target) - k.weighted(k.fit)) / total;
    c.least[NEAR_PLAIN] = measure_plain(k, {h.keys, c.x, 1, D, c.numbers, PLAIN});
    total = attend_to(k, c.least[NEAR_PLAIN], third * (static_cast<float>(h.near[NEAR_PLAIN]) + small), 0.0);
    out.plain = k.weighted(target) / total;
    if (p.lags > 0) {
        c.least[NEAR_PAST] = measure_plain(k, {h.past, c.past, 0, p.lags, p.lags, k.window});
        total = attend_to(k, c.least[NEAR_PAST], static_cast<float>(h.near[NEAR_PAST]) + small, 0.0);
        out.alike = k.weighted(target) / total;
    }
    return out;
}
inline Attended attend_log(const Params& p, const Keys& k, const Heads& h, const Scope& c, i64 D) {
    constexpr float third = 0.3f, small = 1e-3f;
    const float *W = h.W + p.M * h.width, *target = h.held + HELD_LOG * k.window;
    Attended out{};
    const float value = interleaved_dot(W, c.x, D);
    c.least[NEAR_LOG] = measure(k, h.keys, c, W, D);
    const float width = static_cast<float>(h.near[NEAR_LOG]) + small;
    float total = attend_to(k, c.least[NEAR_LOG], width, 0.0);
    out.local = value + (k.weighted(target) - k.weighted(k.fit)) / total;
    total = attend_to(k, c.least[NEAR_LOG], third * width, AGED);
    out.aged = value + (k.weighted(target) - k.weighted(k.fit)) / total;
    total = attend_to(k, c.least[NEAR_LOG], third * width, 0.0);
    out.raw = k.weighted(h.held + HELD_LOG_VALUE * k.window) / total;
    return out;
}

// An event's standardised targets by scale.
struct Targets { double residual, value, log_residual, log_value; };

// Keep the event among the keys.
inline void hold(const Params& p, const Heads& h, const Scope& c, i64 D, bool logs, const Targets& q) {
    const i64 window = p.window, at = static_cast<i64>(h.near[HELD]) % window;
    for (i64 j = 0; j < D; ++j) h.keys[j * window + at] = c.x[j];
    for (i64 j = 0; j < p.lags; ++j) h.past[j * window + at] = c.past[j];
    h.held[HELD_RESIDUAL * window + at] = static_cast<float>(q.residual);
    h.held[HELD_VALUE * window + at] = static_cast<float>(q.value);
    if (logs) {
        h.held[HELD_LOG * window + at] = static_cast<float>(q.log_residual);
        h.held[HELD_LOG_VALUE * window + at] = static_cast<float>(q.log_value);
    }
    double& held = h.near[HELD];
    if (held > 0.0)
        for (int r = 0; r < HELD; ++r) {
            if (held == 1.0) h.near[r] = c.least[r] + 1e-3;
            h.near[r] += max(NEAR_RATE, 1.0 / (held + 1.0)) * (c.least[r] - h.near[r]);
        }
    held += 1.0;
}

}  // namespace ssm::SSM_ISA
