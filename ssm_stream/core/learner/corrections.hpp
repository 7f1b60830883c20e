// Corrected answers, of soft sensors whose labels come by themselves: what a head answers, and of what it missed last as much as usually
// comes again.
//
// e is the entity's last known error of the head when the event is predicted, so the older labels are, the older it is. The
// target shows how much of it came again: ρ = Σ e e′ / (Σ e² + prior) over pairs of an error e′ and the one that was known
// when it was made, decayed sums of the pool in units of the entity's usual error. With labels that come late ρ is that of
// late labels: an AR(1) of the error at the lag that there is.
#pragma once
#include "../entity.hpp"
#include "../numbers.hpp"
#include "../pool.hpp"

namespace ssm::SSM_ISA {

// A prediction as far as the target can be so.
SSM_INLINE double possible(const double* base, double answer) { return min(max(answer, base[LEAST]), base[MOST]); }

constexpr double CARRY_DECAY = 0.99, CARRY_PRIOR = 10.0, CARRY_CLIP = 4.0;

// Place of the i-th head that is corrected among the answers: the first moment head of the fleet scope, the one on products,
// and the first moment head of the norm scope.
SSM_INLINE i64 corrected_head(const Params& p, i64 i) {
    const i64 moments = p.M * p.moments > 0;
    if (i < moments) return p.bases;
    if (i < moments + p.products) return p.bases + p.B;
    return p.bases + p.B + p.product_heads + p.prox + (p.prox > 0);
}
SSM_INLINE i64 first_corrected(const Params& p) { return p.bases - p.corrected; }

// The corrected answers of the first `count`; w.base has the errors that are known.
SSM_INLINE void correct(const Params& p, const Scratch& w, const Pool& pool, i64 count) {
    for (i64 i = 0; i < p.corrected; ++i) {
        const i64 from = corrected_head(p, i), at = first_corrected(p) + i;
        if (p.heads_only || !p.learned_gate || from >= count || w.active[from] == 0.0) continue;
        const double rho = clip(pool.carry[i] / (pool.carry[CORRECTED + i] + CARRY_PRIOR), 1.0);
        w.a[at] = min(max(w.a[from] + rho * w.base[MISSED + i], w.base[LOW]), w.base[HIGH]);
        w.active[at] = 1.0;
    }
}

// Target y of the event in the scratch, in which `count` answers are in use. unit: usual error; keep: the errors are the last ones
SSM_INLINE void learn_corrections(const Params& p, const Scratch& w, Entity& s, Pool& pool, i64 count, double y, double unit, bool keep) {
    for (i64 i = 0; i < p.corrected; ++i) {
        const i64 from = corrected_head(p, i);
        if (from >= count || w.active[from] == 0.0) continue;
        const double missed = y - w.a[from], now = clip(missed / unit, CARRY_CLIP), before = clip(w.base[MISSED + i] / unit, CARRY_CLIP);
        pool.carry[i] = CARRY_DECAY * pool.carry[i] + now * before;
        pool.carry[CORRECTED + i] = CARRY_DECAY * pool.carry[CORRECTED + i] + before * before;
        if (keep) s.missed[i] = missed;
    }
}

}  // namespace ssm::SSM_ISA
