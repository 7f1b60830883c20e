// All state: a table of rows for each group, and the rules by which events are judged.
#pragma once
#include "entity.hpp"
#include "pool.hpp"

namespace ssm {

struct IntervalFields { Field<double> scale, width, tail, largest; Field<std::int16_t> hours; };
struct DriftFields { Field<double> number, bets; Field<float> histogram, waiting; };
struct DaysFields { Field<double> number, mean, base; };
struct DaysPoolFields { Field<double> events, scatter, fourth; };
struct HoursFields { Field<double> number, sum, base; };
struct HoursPoolFields { Field<double> learned, scatter, product, weight; Field<std::uint8_t> place; };
struct ErrorScaleFields { Field<double> number; Field<float> rest, value, mean, w, v; Field<std::int16_t> cell; Field<std::uint8_t> visits; };
struct ErrorScalePoolFields { Field<double> number, tail, w, v, P; };
struct NoveltyFields { Field<double> number, smooth, slow, grid; Field<u64> visited; Field<float> cell, range, week; Field<std::uint8_t> cell_events; };
struct ShapeFields { Field<double> number, tail; Field<float> distance; Field<std::int16_t> past; Field<std::int8_t> usual; };
struct LevelsFields { i64 size; Field<double> number; Field<float> origin, last, quantum, mean, base, rms, visit; Field<std::uint16_t> events, crossings; };
struct NumberFields { Field<double> number; };   // episodes (2, 9); clock (4,); trial (5,)
struct ReferenceFields { Field<float> weights; };  // (L,) running mean of the implicit weights, in the target's unit

// The learner's groups. norm.rows is 0 while no pool has a second entity.
struct LearnerState {
    Params p;
    Scratch w;
    Table entity, pool, fleet, norm;
    EntityFields entity_fields;
    PoolFields pool_fields;
    HeadFields fleet_fields, norm_fields;
};
// A learner that runs beside the other for a while, after a change of inputs: no rows while there is none.
struct Challenger {
    LearnerState learner{};
    Table trial{};
    NumberFields trial_fields{};              // (5,) by pool
    std::size_t entity_bytes = 0, pool_bytes = 0, fleet_bytes = 0, norm_bytes = 0;  // of a row
};
struct MonitorState {
    Table interval, drift, novelty, shape, levels, episodes, clock, reference, error_scale, error_scale_pool, days, days_pool, hours, hours_pool;
    IntervalFields interval_fields;
    DriftFields drift_fields;
    NoveltyFields novelty_fields;
    ShapeFields shape_fields;
    LevelsFields levels_fields;
    NumberFields episode_fields, clock_fields;
    ReferenceFields reference_fields;
    ErrorScaleFields error_scale_fields;
    ErrorScalePoolFields error_scale_pool_fields;
    DaysFields days_fields;
    DaysPoolFields days_pool_fields;
    HoursFields hours_fields;
    HoursPoolFields hours_pool_fields;
};

// What the configuration says, as numbers. Budgets: mean events, or mean seconds, between false alarms (0 = other).
struct Rules {
    i64 warmup;
    double level, ttl;
    bool anomaly;
    double anomaly_events, anomaly_seconds;
    i64 direction;                            // 1 above, −1 below, 0 both
    double deviation, deviation_relative;     // smallest |y − yhat| that counts, absolute and relative to |yhat|
    bool drift;
    double drift_events, drift_seconds;
    bool channels[4];                         // which look for anomalies; the last is that of shapes, where there is a period
    i64 learn[2];                             // what an open episode of each kind does to learning
    i64 consecutive, recover_after[2], cooldown[2], ongoing_every;
    i64 absorb_after[2];                      // events after which an episode ends as absorbed; 0: by the budget
};
// What the loop tells of an event that changed an episode.
struct Reported {
    i64* phase;      // (6,) by kind, whether the event is learned, the channel of the score; by kind how an episode ended
    double* number;  // (2, 3) score, since, absorbed after
    float* weights;  // (L,) implicit weights before learning
};
struct Predictions {
    double *yhat, *lower, *upper, *score;
    bool* warmup;
    i64* n;
    double* fleet;
};
// Events start, start + 1, …; own: hour and weekday of the event itself, where `steps` are those of the time predicted.
struct Events {
    i64 count, rows, pools;  // rows and pools in use: an index beyond is refused
    const i64 *pool_of, *row_of, *ts;
    const double* u;
    const i64 *steps, *own;
    const double* y;
    const i64* key;
    double* allowance = nullptr;  // how much larger a score may be that is normal; replaced by the score as it was. None: all 1
    // Of the targets that share a budget, those that the event has a value of: it is divided over these alone. None: all 1.
    const double* share = nullptr;
    const std::int8_t* stopped = nullptr;  // kinds of episodes, a bit each, that are over before this event, as its entity stood still
};
// Channels that another package brings: called for each target that is judged.
struct OwnScore { double score; i64 channel; };
struct OwnChannels {
    i64 count = 0;
    OwnScore (*score)(void* with, i64 e, double time, double y, double answer, const double* u, double events) = nullptr;
    void* with = nullptr;
};
struct EngineState {
    LearnerState learner;
    MonitorState monitor;
    Rules rules;
    Reported told;
    OwnChannels own;
    Challenger challenger;
};

// Where targets come after their predictions. All times in ms.
struct Late {
    bool labels, by_id;
    double wait;
    i64 most;
    bool fleet;
    i64 events;
    double ahead, late;
    bool is_ahead() const { return events > 0 || ahead > 0.0; }  // are targets those of later events or times?
};
enum { WITH_MANY, WITH_HOUR, WITH_WEEKDAY, WITH_SEASONS, YOUNG, KNEW, RECORD_FLAGS };  // columns of PendingTables.flag
// columns of PendingTables.number: distances from the gates' answer to the interval's bounds; the fleet's share; of a wild reading
// `Scratch::wild` and `Scratch::otherwise`; `Scratch::unsure`
enum { BELOW, ABOVE, SHARE, WILD, OTHERWISE, UNSURE, RECORD_NUMBERS = UNSURE + DOUBTS + 1 };
enum { EPISODE_NUMBERS = 9 };  // columns of an episode
enum { BOTH, BOTH_ANSWER, BOTH_PREDICTION, PREDICTED };  // columns of LateState.predicted
// Rings of records an entity; places: H.
struct PendingTables {
    i64 places;
    i64 *met, *oldest;
    std::int8_t* open;
    i64 *ts, *key, *pool;
    std::int8_t* flag;
    double *number, *v, *named;
    std::int8_t* steps;
    double* base;
    i64* at;
    double* a;
    std::int8_t* active;
    double* made;
    float* past;
};
struct Room { double* u; i64* steps; };
struct Settled {
    i64 rows;
    i64 *item, *ts;
    double *y, *yhat, *lower, *upper, *score;
    bool* warmup;
    i64* n;
    double* fleet;
};
struct LateState {
    Late late;
    PendingTables q;
    PendingTables challenger;                 // as `q`, with the answers of the challenger
    double* predicted;                        // (E, H, 3) has it any; what both predicted; null where there is no challenger
    Room room;
    Settled settled;
    i64 *todo, *tally;
};

// Why a loop stopped, and where.
enum Why { DONE, REPORT, EXPIRED, MORE_SLOTS, SECOND_ENTITY, MORE_PLACES, MORE_ROWS, STOPPED, NO_ROW };
enum Want { ENOUGH, WANT_SLOTS, WANT_ENTITY };
struct Stop { i64 at, why; };

// What an instruction set offers.
struct Functions {
    const char* name;
    Stop (*run)(const EngineState&, const Events&, i64 start, double* mark, const Predictions&);
    Stop (*run_late)(const EngineState&, const LateState&, const Events&, i64 start, double* mark, const Predictions&, bool predicting);
    double (*predict_event)(const EngineState&, i64 pool, i64 row, const double* u, const i64* steps, double ts);
    Stop (*learner_run)(const LearnerState&, const Events&, i64 start, double* out);
    double (*predict)(const LearnerState&, i64 pool, i64 row, const double* u, const i64* steps, double ts);
    void (*learn)(const LearnerState&, i64 pool, i64 row, const double* u, const i64* steps, double ts, double y);
    double (*weights)(const LearnerState&, i64 pool, i64 row, float* out);
    i64 (*wants)(const LearnerState&, i64 pool, i64 row, bool labelled);
    double (*half_width)(const MonitorState&, i64 row, i64 hour);
    double (*anomaly_bound)(const MonitorState&, i64 row, double rate, double* pool, double errors, double unit);
    void (*interval_observe)(const MonitorState&, i64 row, i64 n, double error, double level, double rate, i64 hour);
    double (*error_scale_observe)(const EngineState&, i64 pool, i64 row, double error, const i64* steps, const float* inputs);
    double (*drift_observe)(const MonitorState&, i64 row, double error, double budget, bool hold);
    double (*novelty_observe)(const MonitorState&, i64 row, double value, double week_seconds, double events);
    double (*shape_observe)(const MonitorState&, i64 row, double value, double events, double time);  // time: ms, NaN: not known
    double (*levels_observe)(const MonitorState&, i64 row, double value, const double* columns, i64 features, double events, double absorb, double* room);
    void (*levels_causes)(const MonitorState&, i64 row, double* out, i64 count);
    double (*challenger_share)(const double* trial);
    i64 (*episode_step)(const MonitorState&, i64 row, i64 kind, i64 n, double ts, double score, bool alarm, bool calm, double absorb, const Rules&);
};

}  // namespace ssm
