// What the entities of a pool have taught together: statistics, codes and gates; and the heads of a scope.
#pragma once
#include "sizes.hpp"

namespace ssm {

struct PoolFields {
    Field<i64> n, entities;                   // labelled events; entities met
    Field<double> time, begun;                // of the last event and of the first, ms
    Field<double> low, high;                  // least and greatest target
    Field<double> ends;                       // (2,) shares of the targets that were just these
    Field<i64> negative;                      // has one been below zero?
    Field<i64> used;                          // slots given out
    Field<double> unit, losses;               // usual absolute error; events in `loss`, decayed
    Field<double> surprise;                   // (3,) fast and slow mean of the first moment head's |error|, and how many events the slow one holds
    Field<double> spread;                     // (4,) running mean square deviation of each scale
    Field<double> target;                     // (10,) statistics of the target
    Field<double> v_mean, v_var, v_count;     // (F,) of the numeric inputs
    Field<double> believed;                   // (f,) what it has gained to believe a wild reading of each feature, decayed
    Field<double> gaps;                       // (GAPS + 1,) gaps between an entity's events, s, and how many are known
    Field<i64> differs;                       // (Q, 2) does the column say something else than the hour, the weekday?
    Field<i64> seen, dead, missing, other;    // (Q,) values of each coded column; no category after all; slots
    Field<double> top, top2;                  // (VIEWS,) regrets of the views
    Field<double> view;                       // (2, GATES) regrets of the gates; the squares
    Field<float> hour_view, difference_view, level_view;  // (HOURS, 2, GATES), (LEVELS, 2, GATES) the same, by situation
    Field<double> carry;                      // (2, CORRECTED) Σ e e′ and Σ e² of the corrected heads' errors
    Field<double> band;                       // (2, BANDS) what leaving the last target gained, by distance; the squares
    Field<double> regret, regret2;            // (2, T) of the answers
    Field<float> hour_regret, hour_regret2;   // (HOURS, T) the same, by hour of the day
    Field<float> level_regret, level_regret2;  // (LEVELS, T) the same, by level
    Field<double> loss;                       // (T,) decayed losses of the answers
    Field<double> stack_level, stack_kept;    // (2,), (2, BATCH) as of the moment heads
    Field<i64> stack_waiting;
    Field<double> stack_R, stack_W;           // (2, T)
    Field<double> stack_batch;                // (BATCH, T)
    Field<double> stack_S;                    // (2, T, T)
    Field<i64> product_n, product_waiting;    // events that the heads on products have learned; those that wait
    Field<i64> product_of;                    // (factors,) numeric inputs that are multiplied, plus one; 0 = not chosen yet
    Field<double> product_mean, product_var, product_count;  // (pairs,) of the products
    Field<float> product_level, product_kept;  // (1,), (BATCH,) as of the moment heads
    Field<float> product_R, product_W;        // (heads, X)
    Field<float> product_batch;               // (BATCH, X)
    Field<float> product_S;                   // (X, X)
    Field<double> value;                      // (Q, VALUES) values of each coded column
    Field<i64> slot;                          // (Q, VALUES) their slots plus one; 0 = none yet
    Field<double> effect, effect_known;       // (2 RESPONSE, categories, VALUES) what a change to and from a value does; 1/variance of that, less 1
    Field<double> part;                       // (3, categories) sums of how far changes of the target are those of effects; changes
};

struct Pool {
    i64 &n, &entities;
    double &time, &begun, &low, &high;
    double* ends;
    i64 &negative, &used;
    double &unit, &losses, *surprise, *spread, *target, *v_mean, *v_var, *v_count, *believed, *gaps;
    i64 *differs, *seen, *dead, *missing, *other;
    double *top, *top2, *view, *carry, *band, *regret, *regret2;
    float *hour_view, *difference_view, *level_view, *hour_regret, *hour_regret2, *level_regret, *level_regret2;
    double *loss, *stack_level, *stack_kept;
    i64& stack_waiting;
    double *stack_R, *stack_W, *stack_batch, *stack_S;
    i64 &product_n, *product_of, &product_waiting;
    double *product_mean, *product_var, *product_count;
    float *product_level, *product_kept, *product_R, *product_W, *product_batch, *product_S;
    double* value;
    i64* slot;
    double *effect, *effect_known, *part;
    SSM_INLINE Pool(const PoolFields& f, char* row)
        : n(*f.n.in(row)), entities(*f.entities.in(row)), time(*f.time.in(row)), begun(*f.begun.in(row)), low(*f.low.in(row)),
          high(*f.high.in(row)), ends(f.ends.in(row)), negative(*f.negative.in(row)), used(*f.used.in(row)), unit(*f.unit.in(row)),
          losses(*f.losses.in(row)), surprise(f.surprise.in(row)), spread(f.spread.in(row)), target(f.target.in(row)),
          v_mean(f.v_mean.in(row)), v_var(f.v_var.in(row)), v_count(f.v_count.in(row)), believed(f.believed.in(row)), gaps(f.gaps.in(row)),
          differs(f.differs.in(row)), seen(f.seen.in(row)), dead(f.dead.in(row)), missing(f.missing.in(row)),
          other(f.other.in(row)), top(f.top.in(row)), top2(f.top2.in(row)), view(f.view.in(row)), carry(f.carry.in(row)), band(f.band.in(row)),
          regret(f.regret.in(row)), regret2(f.regret2.in(row)), hour_view(f.hour_view.in(row)), difference_view(f.difference_view.in(row)),
          level_view(f.level_view.in(row)),
          hour_regret(f.hour_regret.in(row)), hour_regret2(f.hour_regret2.in(row)),
          level_regret(f.level_regret.in(row)), level_regret2(f.level_regret2.in(row)), loss(f.loss.in(row)), stack_level(f.stack_level.in(row)),
          stack_kept(f.stack_kept.in(row)), stack_waiting(*f.stack_waiting.in(row)), stack_R(f.stack_R.in(row)),
          stack_W(f.stack_W.in(row)), stack_batch(f.stack_batch.in(row)), stack_S(f.stack_S.in(row)),
          product_n(*f.product_n.in(row)), product_of(f.product_of.in(row)), product_waiting(*f.product_waiting.in(row)), product_mean(f.product_mean.in(row)),
          product_var(f.product_var.in(row)), product_count(f.product_count.in(row)), product_level(f.product_level.in(row)),
          product_kept(f.product_kept.in(row)), product_R(f.product_R.in(row)), product_W(f.product_W.in(row)),
          product_batch(f.product_batch.in(row)), product_S(f.product_S.in(row)), value(f.value.in(row)),
          slot(f.slot.in(row)), effect(f.effect.in(row)), effect_known(f.effect_known.in(row)), part(f.part.in(row)) {}
};

// Weights of a pooled scope on D inputs, n of them with padding; M' moment heads.
struct HeadFields {
    Field<i64> waiting;                       // events that S does not know yet
    Field<float> level;                       // (M',) S and R stand for so many times what is stored (0: once)
    Field<float> kept;                        // (M', BATCH) ω of the events that wait
    Field<float> R, W;                        // (M', n) P − S W; weights
    Field<float> batch;                       // (BATCH, n) inputs of the events that wait
    Field<float> gradient;                    // (2 prox + 1, n) proximal, slow, proximal in log space
    Field<float> embedding;                   // (2, R + n) linear, log
    Field<float> gd;                          // (n,)
    Field<double> near;                       // (5,) usual distance of the nearest key, by metric; last, keys held so far
    Field<float> S;                           // (M', D, n) decayed second moments
    Field<float> held;                        // (4, window) attention's residuals, values, and both in log space
    Field<float> past;                        // (lags, window) attention's other keys, the targets before
    Field<float> keys;                        // (D, window) attention's inputs
};

struct Heads {
    i64 inputs, width;                        // D, n
    i64& waiting;
    float *level, *kept, *R, *W, *batch, *gradient, *embedding, *gd;
    double* near;
    float *S, *held, *past, *keys;
    SSM_INLINE Heads(const HeadFields& f, char* row, i64 inputs, i64 width)
        : inputs(inputs), width(width), waiting(*f.waiting.in(row)), level(f.level.in(row)), kept(f.kept.in(row)), R(f.R.in(row)),
          W(f.W.in(row)), batch(f.batch.in(row)), gradient(f.gradient.in(row)), embedding(f.embedding.in(row)), gd(f.gd.in(row)),
          near(f.near.in(row)), S(f.S.in(row)), held(f.held.in(row)),
          past(f.past.in(row)), keys(f.keys.in(row)) {}
};

}  // namespace ssm
