// The moment head on products: of the few numeric inputs that weigh most, every one times every other, and its square.
//
// It begins as a moment head on the numbers and codes of the fleet scope. When it has learned CHOOSE_AT events it chooses
// the inputs with its largest weights, for good, and from there on has their products as inputs, too, standardised as
// numbers are. What acts in products alone has no weight by then, so half the places are for features. Targets on two scales, the
// residual and the one in log space, share S and so a sweep; ω is the residual's.
// The order of inputs: constant, numbers, products, codes.
#pragma once
#include <algorithm>

#include "heads.hpp"
#include "inputs.hpp"

namespace ssm::SSM_ISA {

SSM_INLINE i64 product_inputs(const Params& p, const Pool& pool) { return 1 + p.F + p.pairs + pool.used; }
SSM_INLINE bool has_chosen(const Params& p, const Pool& pool) { return p.factors > 0 && pool.product_of[0] > 0; }
SSM_INLINE Statistics product_statistics(const Scratch& w, const Pool& pool) {
    return {pool.product_mean, pool.product_var, pool.product_count, w.product_deviation};
}

// Codes as the fleet scope has them, which learning may have added to.
SSM_INLINE void place_product_codes(const Params& p, const Scratch& w, const Pool& pool) {
    const i64 lead = 1 + p.F + p.pairs, n = whole(lead + pool.used);
    std::memcpy(w.product + lead, w.fleet + 1 + p.F, sizeof(float) * pool.used);
    for (i64 j = lead + pool.used; j < n; ++j) w.product[j] = 0.0f;
}

// The products themselves; unknown where an input is.
SSM_INLINE void multiply(const Params& p, const Scratch& w, const Pool& pool) {
    float* x = w.product + 1 + p.F;
    if (!has_chosen(p, pool)) {
        for (i64 i = 0; i < p.pairs; ++i) x[i] = 0.0f;
        return;
    }
    static_assert(FACTORS <= lanes<double>);
    double z[2 * lanes<double>] = {};
    for (i64 i = 0; i < p.factors; ++i) {
        const i64 j = pool.product_of[i] - 1;
        z[i] = unknown(w.v[j]) ? UNKNOWN : static_cast<double>(w.fleet[1 + j]);
    }
    double* to = w.product_raw;
    for (i64 i = 0; i < p.factors; to += p.factors - i, ++i) store(to, all(z[i]) * load(z + i));  // what is too much is written over
    const Statistics of = product_statistics(w, pool);
    place_deviations(of, p.pairs);
    standardise(w.product_raw, of, p.pairs, x - 1);
}

// The inputs of an event that is placed.
SSM_INLINE void place_products(const Params& p, const Scratch& w, const Pool& pool) {
    std::memcpy(w.product, w.fleet, sizeof(float) * (1 + p.F));
    multiply(p, w, pool);
    place_product_codes(p, w, pool);
}

// The numeric inputs with the largest weights, in their order; half of them features, where there are so many.
SSM_ALONE void choose_products(const Params& p, Pool& pool) {
    const float* W = pool.product_W + 1;
    i64* to = pool.product_of;
    for (i64 i = 0; i < p.factors; ++i) {
        i64 best = -1;
        const i64 among = i < min(p.features, p.factors / 2) ? p.features : p.F;
        for (i64 j = 0; j < among; ++j) {
            bool there = false;
            for (i64 k = 0; k < i; ++k) there = there || to[k] == j + 1;
            if (!there && (best < 0 || std::fabs(W[j]) > std::fabs(W[best]))) best = j;
        }
        to[i] = best + 1;
    }
    std::sort(to, to + p.factors);
    if (pool.product_n > CHOOSE_AT) return;
    std::memset(pool.product_S, 0, sizeof(float) * p.X * p.wide_X);
    std::memset(pool.product_R, 0, sizeof(float) * p.product_heads * p.wide_X);
    pool.product_level[0] = 0.0f;
    pool.product_waiting = 0;
}

// Products with a feature that is unknown in u are no values, whatever it was taken for.
SSM_INLINE void blank_unknown(const Params& p, const Scratch& w, const Pool& pool, const double* u) {
    bool off[FACTORS], any = false;
    for (i64 i = 0; i < p.factors; ++i) {
        const i64 j = pool.product_of[i] - 1;
        off[i] = j < p.features && unknown(u[j]);
        any = any || off[i];
    }
    if (!any) return;
    double* to = w.product_raw;
    for (i64 i = 0; i < p.factors; ++i)
        for (i64 k = i; k < p.factors; ++k, ++to)
            if (off[i] || off[k]) *to = UNKNOWN;
}

// u: the event's columns
SSM_ALONE void learn_products(const Params& p, const Scratch& w, Pool& pool, const double* u, double residual, double log_residual, bool logs, i64 most) {
    const i64 heads = 1 + (p.log && logs);
    if (p.factors > 0 && !has_chosen(p, pool) && pool.product_n > 0 && pool.product_n % CHOOSE_AT == 0) choose_products(p, pool), multiply(p, w, pool);
    place_product_codes(p, w, pool);
    const i64 D = product_inputs(p, pool), n = whole(D), lead = 1 + p.F + p.pairs;
    const double* q = w.q + PRODUCTS * p.heads;
    const double error = residual - q[0];
    float* rate = w.product_rate;
    const float weight = static_cast<float>(min(1.0, p.product_huber / (std::fabs(error) + 1e-12)));
    rate[KEEP] = static_cast<float>(p.product_decay);
    rate[PUSH] = weight;
    rate[PULL] = weight * static_cast<float>(error);
    rate[RIDGE] = static_cast<float>(p.product_ridge);
    const Moments<float> moments{pool.product_S, pool.product_R, pool.product_W, pool.product_level, pool.product_batch,
                                 pool.product_kept, pool.product_waiting, p.X, p.wide_X, rate, p.product_heads};
    decay(moments, 0, D, n);
    add(pool.product_R, w.product, rate[PULL], n);
    if (heads > 1) add(pool.product_R + p.wide_X, w.product, rate[PUSH] * static_cast<float>(log_residual - q[1]), n);
    if (has_chosen(p, pool)) blank_unknown(p, w, pool, u), learn_inputs(p.pairs, w.product_raw, product_statistics(w, pool));
    ++pool.product_n;
    if (wait(moments, 1, most, w.product, n)) return;
    sweep_waiting<true>(moments, heads, w.product, {lead, w.others, codes_to_sweep(moments, w.product, lead, D, w.others), n});
}

}  // namespace ssm::SSM_ISA
