// The implicit linear model behind a prediction: the gate's mean of the weights that the heads have learned.
//
// A prediction's slope by each input, in the target's unit per standard deviation of the entity's input; per presence for
// the constant and the codes. Heads in log space count with their slope at their answer, attention with the moment head
// that it corrects; what the embedding's waves and the corrections of attention add bends locally and is left out.
#pragma once
#include "learner.hpp"

namespace ssm::SSM_ISA {

constexpr double LARGEST_WEIGHT = 1e37;  // keeps weights of targets near ±3e38, and their differences, within 32-bit floats
constexpr double MOST_RATIO = 1e3;       // of an entity's to the pool's deviation of an input

enum class Own { pool, entity, both };   // whose the numeric inputs are; `both`: first the entity's, then the pool's

struct Implicit {
    const Params& p;
    const Scratch& w;
    i64 used, at;  // codes; place of the next answer
    float* out;

    // Weights of one head, times the answer's weight in the gate and the scale's deviation.
    SSM_INLINE void add(const float* W, double share, Own own) { add_part(W, W + 1 + (own == Own::both ? 2 : 1) * p.F, share, own); }
    SSM_ALONE void add_part(const float* W, const float* codes, double share, Own own) {
        share = clip(share, LARGEST_WEIGHT);
        const i64 F = p.F, shared = own == Own::both ? 1 + F : 1;
        put(0, share * W[0]);
        i64 j = 0;
        for (; j + lanes<double> <= F; j += lanes<double>) {
            Vec<double> part{};
            if (own != Own::pool) part = load_floats(W + 1 + j);
            if (own != Own::entity) part = part + load_floats(W + shared + j) * load(w.ratio + j);
            put(1 + j, all(share) * part);
        }
        for (; j < F; ++j) {
            double part = own == Own::pool ? 0.0 : static_cast<double>(W[1 + j]);
            if (own != Own::entity) part += W[shared + j] * w.ratio[j];
            put(1 + j, share * part);
        }
        for (j = 0; j + lanes<double> <= used; j += lanes<double>) put(1 + F + j, all(share) * load_floats(codes + j));
        for (; j < used; ++j) put(1 + F + j, share * codes[j]);
    }
    SSM_INLINE void put(i64 j, double more) { out[j] = static_cast<float>(clip(out[j] + more, LARGEST_WEIGHT)); }
    SSM_INLINE void put(i64 j, const Vec<double>& more) {
        store_floats(out + j, clipped(load_floats(out + j) + more, LARGEST_WEIGHT));
    }
    // of the answer at hand, or of one after it; with what is answered by its correction
    SSM_INLINE double share(const double* scale, int kind, i64 further = 0) const {
        double weight = w.g[at + further];
        for (i64 i = 0; i < p.corrected; ++i)
            if (corrected_head(p, i) == at + further) weight += w.g[first_corrected(p) + i];
        const double share = weight * scale[2 * kind + 1];
        return kind == LOG_RESIDUAL ? share * (1.0 + w.a[at + further]) : share;
    }

    // Their weights on the inputs themselves: the products are no inputs of the whole.
    SSM_ALONE void add_products(const Pool& pool, const double* scale) {
        for (i64 i = 0; i < p.product_heads; ++i, ++at) {
            const float* W = pool.product_W + i * p.wide_X;
            const double part = share(scale, i ? LOG_RESIDUAL : RESIDUAL);
            add_part(W, W + 1 + p.F + p.pairs, part, Own::pool);
        }
    }
    SSM_ALONE void add_scope(const Heads& h, const Scope& c, Own own) {
        const i64 width = h.width;
        const double* scale = c.scale;
        for (i64 m = 0; m < p.M * p.moments; ++m, ++at) add(h.W + m * width, share(scale, RESIDUAL), own);
        if (c.prox)
            for (i64 r = 0; r <= c.prox; ++r, ++at) add(h.gradient + r * width, share(scale, r < c.prox ? RESIDUAL : VALUE), own);
        if (c.R) add(h.embedding + c.R, share(scale, RESIDUAL), own), ++at;
        if (p.gd) add(h.gd, share(scale, RESIDUAL), own), ++at;
        if (p.log) {
            for (i64 r = 0; r < c.prox; ++r, ++at) add(h.gradient + (c.prox + 1 + r) * width, share(scale, LOG_RESIDUAL), own);
            if (c.R) add(h.embedding + c.R + width + c.R, share(scale, LOG_RESIDUAL), own), ++at;
        }
        if (p.window) {
            for (i64 i = 0; i < 2; ++i) add(h.W, share(scale, RESIDUAL, i), own);
            at += 4 + (p.lags > 0);
            if (p.log) {
                for (i64 i = 0; i < 2; ++i) add(h.W + p.M * width, share(scale, LOG_RESIDUAL, i), own);
                at += 3;
            }
        }
    }
};

// Fill `out` (L,) for the event in the scratch, before it is learned.
SSM_ALONE void implicit_weights(const Learner& l, float* out) {
    const Params& p = l.p;
    const Scratch& w = l.w;
    const bool many = w.flag[MANY];
    for (i64 i = 0; i < p.L; ++i) out[i] = 0.0f;
    for (i64 j = 0; j < p.F; ++j)
        w.ratio[j] = many ? min(l.pool.v_var[j] > 0.0 ? std::sqrt(l.s.v_var[j] / l.pool.v_var[j]) : 0.0, MOST_RATIO) : 1.0;
    Implicit sum{p, w, l.pool.used, p.bases, out};
    sum.add_scope(l.fleet, scope_of(p, w, FLEET), Own::pool);
    sum.add_products(l.pool, w.scale);
    if (!many) return;
    if (p.prox)
        for (i64 r = 0; r <= p.prox; ++r, ++sum.at)
            sum.add(l.s.W + r * p.wide_L, sum.share(w.scale + 8, r < p.prox ? RESIDUAL : VALUE), Own::entity);
    sum.add_scope(l.norm, scope_of(p, w, NORM), Own::both);
}

// Share of the prediction that stands on what other entities taught: the weights of the pooled heads, of all.
inline double fleet_share(const Params& p, const Scratch& w) {
    if (!w.flag[MANY]) return 0.0;
    double all_of = 0.0, shared = 0.0;
    const i64 count = w.places[0], own = min(p.bases + p.B + p.product_heads, count), stop = min(own + p.prox + (p.prox > 0), count);
    i64 i = 0;
    for (; i < first_corrected(p); ++i) all_of += std::fabs(w.g[i]);
    for (; i < own; ++i) all_of += std::fabs(w.g[i]), shared += std::fabs(w.g[i]);
    for (; i < stop; ++i) all_of += std::fabs(w.g[i]);
    for (; i < count; ++i) all_of += std::fabs(w.g[i]), shared += std::fabs(w.g[i]);
    return all_of > 0.0 ? shared / all_of : 0.0;
}

}  // namespace ssm::SSM_ISA
