// What is known of one entity: a block of bytes, with the fields that every event touches side by side.
#pragma once
#include "sizes.hpp"

namespace ssm {

struct EntityFields {
    Field<i64> n;                             // labelled events learned
    Field<double> time;                       // of the last one, ms
    Field<double> unit;                       // usual absolute error
    Field<double> target;                     // (10,) statistics of the target
    Field<double> y_last;                     // (max(lags, 1),) past targets, newest first
    Field<double> missed;                     // (corrected,) last known errors of the heads that are corrected
    Field<double> u_last;                     // (U,) last known features, then those of the last events
    Field<double> v_mean, v_var, v_count;     // (F,) of the numeric inputs
    Field<double> category;                   // (7, categories): the last ones, those before; events since they changed; usual ones between changes; changes; sums of its part in effects
    Field<double> holding;                    // (4, f) of each feature: see Holding
    Field<float> loss;                        // (2, T) decayed losses of the answers
    Field<float> view;                        // (2, GATES) regrets of the gates; the squares
    Field<float> W;                           // (prox + 1, L) weights of the entity's own proximal heads, the slow one last
    Field<float> lately;                      // (1 + F,) [0, means of the standardised numbers lately], see `centred`
    Field<double> jumped;                     // events since the latest jump of a feature, from 1, leap, from 1.25, or pause, from 1.5; 0 where that is long ago
    Field<double> bin;                        // (4,) the quarter of an hour that is not over: see Bin
    Field<float> day, season;                 // (96,), (672,) target of each quarter of an hour of the last day, usual one of the week's
};

// The fields of a row.
struct Entity {
    i64& n;
    double &time, &unit, &jumped, *target, *y_last, *missed, *bin, *u_last, *v_mean, *v_var, *v_count, *category, *holding;
    float *loss, *view, *W, *lately, *day, *season;
    SSM_INLINE Entity(const EntityFields& f, char* row)
        : n(*f.n.in(row)), time(*f.time.in(row)), unit(*f.unit.in(row)), jumped(*f.jumped.in(row)), target(f.target.in(row)), y_last(f.y_last.in(row)),
          missed(f.missed.in(row)), bin(f.bin.in(row)), u_last(f.u_last.in(row)), v_mean(f.v_mean.in(row)), v_var(f.v_var.in(row)), v_count(f.v_count.in(row)), category(f.category.in(row)), holding(f.holding.in(row)),
          loss(f.loss.in(row)), view(f.view.in(row)), W(f.W.in(row)), lately(f.lately.in(row)), day(f.day.in(row)), season(f.season.in(row)) {}
};

}  // namespace ssm
