// Sizes, constants and the working space of the streaming learner: section 2 of docs/model.md; glossary in shapes.py.
//
//   C  columns of an event        F  numeric inputs         K  slots for codes (grows)      Q  columns that may be coded
//   L = 1 + F + K                 inputs of the fleet and entity scope: the constant, the numbers, the codes
//   N = 1 + 2F + K                inputs of the norm scope
//   M  moment heads               B  heads of the fleet scope          A  of the norm scope   T  answers
//   R  embedding's features
#pragma once
#include <cstdint>

#include "vector.hpp"

namespace ssm {

enum { VALUES = 32, RESTING = 2, INDICATED = 4, SLOTS = 256, GAPS = 20, GATES = 8, VIEWS = 5, LEVELS = 8, HOURS = 24, WEEK = 168, PLAIN = 128, BATCH = 7, FACTORS = 8, CORRECTED = 3, SEASONAL = 3, BANDS = 5 };
// Of `made`: answers of the gates, of the views, of the top gate, the prediction; then places between two levels, and between two differences of the gates
enum { VIEWED = GATES, ANSWER = VIEWED + VIEWS, PREDICTION, AT_LEVEL, AT_DIFFERENCE, MADE };
enum { DAY_BINS = 96, WEEK_BINS = 672 };                     // quarters of an hour
enum Bin { BIN_NUMBER, BIN_PLACE, BIN_SUM, BIN_TARGETS, BIN_NUMBERS };  // of Entity.bin: since 1970, in the week; of its targets
enum { LEVEL_ROOMS = 10 };  // working space of mean_shift.hpp, rows
constexpr i64 level_room(i64 D) { return (2 * D + 7) / 8 * 8 + 8; }  // of D columns and their steps: numbers a row, one vector to spare
enum { SHAPE_SAMPLES = 288, SHAPE_NUMBERS = 15, SHAPE_TAIL = 5 };  // of shape.hpp
enum { DRIFT_NUMBERS = 34, DAY_NUMBERS = 27 };  // of drift.hpp, of days.hpp
enum { HOUR_NUMBERS = 15, HOUR_POOL_NUMBERS = 4, SEASONS_OF_HOUR = 2, HOUR_CODES = 16, HOUR_MORE = SEASONS_OF_HOUR + HOUR_CODES };  // of hours.hpp
enum Trial { STAGE_OF_TRIAL, EVENTS_LEFT, EVENTS_OF_TRIAL, GAIN, GAIN_SQUARES, TRIAL_NUMBERS };  // of challenger.hpp
enum { CONTEXT = 9, SCALE_ROOMS = 5 };  // inputs of error_scale.hpp beside the features; rows of its working space
enum Scale { RESIDUAL, VALUE, LOG_RESIDUAL, LOG_VALUE };    // what a head answers
enum Statistic { Y_MEAN, Y_SPREAD, SCALES };                // of `target`; then mean and variance of each scale
enum Flag { CODES, FRESH, MANY, SEASONS, NAMED, FLAGS };    // of Scratch.flag; NAMED: codes of columns, which come before those of time
enum Base { BASE, LOG_BASE, MEAN, LOW, HIGH, LEAST, MOST, SHIFT, MISSED, BASES = MISSED + CORRECTED };  // of Scratch.base
enum Which { FLEET, ENTITY, NORM, PRODUCTS, ANSWERING };     // scopes, and the products: who answers
enum Rate { PUSH, RIDGE, LEVEL, PULL, KEEP, RATES };        // ω, ρ, level, ωe and λ of an event for a moment head
enum Near { NEAR, NEAR_LOG, NEAR_PLAIN, NEAR_PAST, HELD };  // of `near`
enum Kept { HELD_RESIDUAL, HELD_VALUE, HELD_LOG, HELD_LOG_VALUE };  // rows of `held`
enum Attend { DISTANCE, FIT, WEIGHT, ONES };                // rows of Scratch.attend
enum Mode { NEVER, BY_RULE, ALWAYS };                       // is the hour, the weekday a code?

constexpr double Z_CLIP = 5.0;         // standardised inputs
constexpr double Q_CLIP = 6.0;         // standardised targets and answers
constexpr double ERROR_CLIP = 3.0;     // errors of the gradient heads
constexpr double WINSOR = 10.0;        // deviations a value may count for in the running statistics
constexpr double WINSOR_FROM = 5.0;    // values from which on they are known for that: a sensor may begin with 9999
constexpr double FLOOR_RATE = 5e-4;    // rate of the running statistics once 2,000 events have been seen
constexpr i64 RESPONSE = 4;            // events from a change of a category on in which it has an effect on the target
constexpr i64 CHANGES = 4;             // spans of events after a change of a category, or a jump of a number, each twice as long as the one before
constexpr i64 PAUSES = 4;              // lengths of gaps between events, each eight times as long as the one before
constexpr i64 DOUBTS = 3 + PAUSES + 2 * CHANGES;  // kinds of what the events before do not tell: see `Doubt`
constexpr i64 HOLDINGS = 4;            // rows of what is known of how alike a feature's values are over time
constexpr double ALIKE_MOST = 1.0 - 1e-9;  // correlation of neighbouring values
constexpr double AGE_MOST = 1e9;       // events since its last known value
constexpr double SQUARE_MOST = 1e300;  // squares of changes of a feature, and of what unknown ones do to the target
constexpr double LATELY_RATE = 0.04;   // of the inputs' means lately: some 25 events of the entity
constexpr i64 LATELY_FROM = 100;       // events of an entity from which on they are learned: before, its statistics follow as fast
constexpr double OFF_CENTRE = 1.0;     // deviations from which on an input stands off its mean
constexpr i64 BATCH_FROM = 1000;       // events from which on a pool's sweeps may wait for each other
constexpr i64 WAIT_SHARE = 10;         // entities for each event that may wait
constexpr i64 CHOOSE_AT = 200;         // events that the heads on products learn before they choose what to multiply

// The same for every pool and entity; arrays belong to Python.
struct Params {
    i64 features, categories, cycles;  // columns of an event by kind, in that order
    i64 C, F, Q, K, L, N, M, R, B, A, T;
    i64 moments, products, prox, log, gd, window;  // heads: there or not, how many, how many events attended to
    i64 bases;                         // answers that need no head
    i64 lags, differences, feature_lags, seasons;
    i64 quarters;                      // of an hour by which local time is ahead of UTC beyond whole hours, 0 to 3
    i64 effects;                       // whether changes of categories, and of features from and to zero, shift predictions
    i64 turns, effect_places;          // columns whose changes are followed: categories, then features; places of their values
    i64 known;                         // whether the last known target answers, and corrects heads; without lags only
    i64 step_hour, step_weekday;       // Mode
    i64 learned_gate, heads_only;      // whether the gate learns; whether the bases do not answer
    double ahead;                      // ms by which a target is predicted ahead of its time
    double slow_step, embedding_step, top_decay;
    double product_decay, product_ridge, product_huber;
    const double *half_life, *decay;   // (M,) ms, 0 where the decay counts events
    const float *ridge, *huber;        // (M,)
    const double *steps, *surprise;    // (prox,), (3,)
    const float *omega, *phase;        // (F + SLOTS, R), (R,)
    const double *poly_decay, *soft, *sweep_decay, *sweep_ridge, *sweep_huber;  // (2,), (2, 4), (2,) each
    // what follows from these
    i64 decays;                        // of `decay`: M, or more where no moment head answers
    i64 past_features;                 // width of `u_last`
    i64 rows;                          // moment heads of a pooled scope: with attention one more, in log space
    i64 factors, pairs, product_heads; // inputs that are multiplied, their products, and the heads on these
    i64 X;                             // inputs of these heads
    i64 usual, seasonal;               // usual targets among the numeric inputs; seasonal answers
    i64 banded;                        // whether there is a dead band around the last known target
    i64 corrected;                     // heads whose answers are corrected by what they missed last
    i64 wide_L, wide_N, wide_X, wide_T;  // rounded up to whole vectors
    i64 hour_T;                        // T, to whole vectors of 32-bit floats
    i64 answers;                       // room for answers and gates in the scratch
    i64 heads;                         // room for the answers of a scope
};

// What is known of one event before its target; a row each as `Scratch` in shapes.py has it.
struct Scratch {
    double *v, *season;
    i64 *slots, *flag, *on, *wild;
    float *fleet, *norm, *entity, *centred, *size, *phi;
    double *q, *scale, *base, *a, *active, *gate, *made, *judged, *unsure, *turn, *taken, *otherwise, *g, *off;
    float* attend;
    double* least;
    float* past;
    i64* places;
    double *ratio, *decay;
    float* rate;
    double *stack_rate, *stack;
    i64* others;
    double *levels, *error_scale, *deviation;
    float *product, *product_rate;
    double *product_raw, *product_deviation;
};

// Rows of one size in memory.
struct Table {
    char* base;
    i64 stride, rows;
    SSM_INLINE char* row(i64 i) const { return base + i * stride; }
};
// Where a field lies in a row.
template <class T> struct Field {
    i64 at;
    SSM_INLINE T* in(char* row) const { return reinterpret_cast<T*>(row + at); }
};

}  // namespace ssm
