// The bounds of loaded state: every number that the core takes for an index or a count, or that steers a loop.
//
// The checksums of a snapshot find damage. These bounds hold for content that was made to mislead, too: none may lead the
// core outside its arrays, or into a loop without an end.
#pragma once
#include <cmath>
#include <cstdio>

#include "layout.hpp"
#include "monitor/drift.hpp"
#include "monitor/hours.hpp"
#include "monitor/mean_shift.hpp"
#include "monitor/novelty.hpp"
#include "monitor/shape.hpp"

namespace ssm {

constexpr double MAX_COUNT = 1e15;    // events seen: beyond, counts would be no whole numbers any more
constexpr double MAX_SIGNAL = 1e18;   // of the novelty detector, in its own units, and of its bins

// Collects the first number that is out of its bounds.
class Bounds {
  public:
    const std::string& found() const { return found_; }

    // `count` numbers from `first`; NaN is within no bounds.
    template <class T> void check(const char* name, const T* first, i64 count, double low, double high, i64 step = 1) {
        for (i64 i = 0; found_.empty() && i < count; ++i) {
            const double value = static_cast<double>(first[i * step]);
            if (!(value >= low && value <= high)) refuse(name, low, high);
        }
    }
    void check_whole(const char* name, double value) {
        if (found_.empty() && value != std::floor(value)) found_ = std::string(name) + " has a number that is no whole number";
    }
    // of: larger or as large
    void check_order(const char* name, double value, double of) {
        if (found_.empty() && !(value <= of)) found_ = std::string(name) + " has a number that is too large";
    }

  private:
    void refuse(const char* name, double low, double high) {
        char text[80];
        std::snprintf(text, sizeof text, " has a number that is not between %g and %g", low, high);
        found_ = name + std::string(text);
    }
    std::string found_;
};

inline void check_pool(Bounds& bounds, const LearnerState& of, i64 k) {
    const Params& p = of.p;
    const PoolFields& f = of.pool_fields;
    char* row = of.pool.row(k);
    const double slots = static_cast<double>(p.K);
    bounds.check("pool.n", f.n.in(row), 1, 0, MAX_COUNT);
    bounds.check("pool.entities", f.entities.in(row), 1, 0, MAX_COUNT);
    bounds.check("pool.ends", f.ends.in(row), 2, 0, 1);
    bounds.check("pool.negative", f.negative.in(row), 1, 0, 1);
    bounds.check("pool.used", f.used.in(row), 1, 0, slots);
    bounds.check("pool.gaps", f.gaps.in(row) + GAPS, 1, 0, GAPS);
    bounds.check("pool.differs", f.differs.in(row), 2 * p.Q, 0, 1);
    bounds.check("pool.seen", f.seen.in(row), p.Q, 0, VALUES);
    bounds.check("pool.dead", f.dead.in(row), p.Q, 0, 1);
    bounds.check("pool.missing", f.missing.in(row), p.Q, 0, slots);
    bounds.check("pool.other", f.other.in(row), p.Q, 0, slots);
    bounds.check("pool.slot", f.slot.in(row), p.Q * VALUES, 0, slots);
    bounds.check("pool.product_n", f.product_n.in(row), 1, 0, MAX_COUNT);
    const i64* chosen = f.product_of.in(row);  // all of them, or none
    bounds.check("pool.product_of", chosen, p.factors, p.factors > 0 && chosen[0] > 0 ? 1 : 0, static_cast<double>(p.F));
    bounds.check("pool.product_waiting", f.product_waiting.in(row), 1, 0, BATCH);
    bounds.check("pool.stack_waiting", f.stack_waiting.in(row), 1, 0, BATCH);
    const auto heads = [&](const char* waiting, const char* near, const Table& table, const HeadFields& fields) {
        if (!table.rows) return;
        bounds.check(waiting, fields.waiting.in(table.row(k)), 1, 0, BATCH);
        bounds.check(near, fields.near.in(table.row(k)) + HELD, 1, 0, MAX_COUNT);
    };
    heads("fleet.waiting", "fleet.near", of.fleet, of.fleet_fields);
    heads("norm.waiting", "norm.near", of.norm, of.norm_fields);
}

inline void check_entity(Bounds& bounds, const LearnerState& of, i64 e) {
    char* row = of.entity.row(e);
    const EntityFields& f = of.entity_fields;
    bounds.check("learner.n", f.n.in(row), 1, 0, MAX_COUNT);
    bounds.check("learner.lately", f.lately.in(row), of.p.prox > 0 ? 1 + of.p.F : 0, -Z_CLIP, Z_CLIP);
    bounds.check("learner.jumped", f.jumped.in(row), 1, 0, (1 << CHANGES) - 0.5);
    if (!of.p.seasons) return;
    const double* bin = f.bin.in(row);
    bounds.check("learner.bin (number)", bin + BIN_NUMBER, 1, -MAX_COUNT, MAX_COUNT);
    bounds.check("learner.bin (place)", bin + BIN_PLACE, 1, 0, WEEK_BINS - 1);
    bounds.check("learner.bin (targets)", bin + BIN_TARGETS, 1, 0, MAX_COUNT);
}

inline void check_drift(Bounds& bounds, const MonitorState& of, i64 e) {
    using namespace SSM_ISA::drift;
    const double* number = of.drift_fields.number.in(of.drift.row(e));
    bounds.check("detector.number (seen)", number + SEEN, 1, 0, MAX_COUNT);
    bounds.check("detector.number (waiting)", number + WAITING, 1, 0, LAG);
    bounds.check("detector.number (change)", number + CHANGE, 1, 0, CHANGE_LAST);
    bounds.check("detector.number (blocks seen)", number + BLOCK_SEEN, 1, 0, MAX_COUNT);
    bounds.check("detector.number (blocks waiting)", number + BLOCK_WAITING, 1, 0, BLOCK_LAG);
    bounds.check_order("detector.number (waiting)", number[WAITING], number[SEEN]);
    bounds.check_order("detector.number (blocks waiting)", number[BLOCK_WAITING], number[BLOCK_SEEN]);
}

inline void check_hours(Bounds& bounds, const MonitorState& of, i64 e) {
    bounds.check("hours.number (hours)", of.hours_fields.number.in(of.hours.row(e)) + SSM_ISA::hours::SEEN, 1, 0, MAX_COUNT);
}

inline void check_hours_pool(Bounds& bounds, const MonitorState& of, i64 k) {
    using namespace SSM_ISA::hours;
    char* row = of.hours_pool.row(k);
    const double* learned = of.hours_pool_fields.learned.in(row);
    bounds.check("hours.learned (hours)", learned + LEARNED, 1, 0, MAX_COUNT);
    bounds.check("hours.learned (codes)", learned + NAMED_CODES, 1, 0, HOUR_CODES);
    bounds.check("hours.place", of.hours_pool_fields.place.in(row), SLOTS, 0, learned[NAMED_CODES]);
}

inline void check_novelty(Bounds& bounds, const MonitorState& of, i64 e) {
    using namespace SSM_ISA::novelty;
    const NoveltyFields& f = of.novelty_fields;
    char* row = of.novelty.row(e);
    const double* number = f.number.in(row);
    constexpr double LARGEST_DOUBLE = std::numeric_limits<double>::max();
    bounds.check("novelty.number (seen)", number + SEEN, 1, 0, MAX_COUNT);
    bounds.check_whole("novelty.number (seen)", number[SEEN]);  // it is compared with SETTLE, and divided by what is beyond
    bounds.check("novelty.number (centre)", number + CENTRE, 1, -LARGEST_DOUBLE, LARGEST_DOUBLE);
    bounds.check("novelty.number (spread)", number + SPREAD, 1, 0, LARGEST_DOUBLE);
    bounds.check("novelty.number (events of the generation)", number + AGE, 1, 0, MAX_COUNT);
    bounds.check("novelty.number (last)", number + LAST, 1, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.number (activity)", number + ACTIVITY, 1, 0, MAX_SIGNAL);
    bounds.check("novelty.smooth", f.smooth.in(row), SIGNALS * SPANS, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.slow", f.slow.in(row), 2, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.cell", f.cell.in(row), 2 * CELLS, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.range", f.range.in(row), 2 * RANGES, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.week (alike)", f.week.in(row) + ALIKE, 1, -MAX_SIGNAL, MAX_SIGNAL);
    bounds.check("novelty.week (hour)", f.week.in(row) + HOUR, 1, 0, CELLS);
    bounds.check("novelty.grid", f.grid.in(row), CHANNELS, -MAX_SIGNAL, MAX_SIGNAL, 2);
    bounds.check("novelty.grid (widths)", f.grid.in(row) + 1, CHANNELS, 0, MAX_SIGNAL, 2);
}

inline void check_shape(Bounds& bounds, const MonitorState& of, i64 e) {
    using namespace SSM_ISA::shape;
    char* row = of.shape.row(e);
    const double *number = of.shape_fields.number.in(row), *tail = of.shape_fields.tail.in(row);
    constexpr double LARGEST_DOUBLE = std::numeric_limits<double>::max(), LARGEST_FLOAT = std::numeric_limits<float>::max();
    const bool known = number[PERIOD] != 0.0;
    bounds.check("shape.number (time)", number + TIME, 1, -LARGEST_DOUBLE, LARGEST_DOUBLE);
    bounds.check("shape.number (first)", number + ORIGIN, 1, -LARGEST_DOUBLE, LARGEST_DOUBLE);
    bounds.check("shape.number (unit)", number + UNIT, 1, known ? std::numeric_limits<double>::denorm_min() : 0.0, LARGEST_DOUBLE);
    bounds.check("shape.number (sum)", number + SUM, 1, -LARGEST_DOUBLE, LARGEST_DOUBLE);
    bounds.check("shape.number (events of the sample)", number + IN_SAMPLE, 1, 0, MAX_COUNT);
    bounds.check("shape.number (events of a sample)", number + EVERY, 1, known || number[EVERY] != 0.0 ? 1.0 : 0.0, MAX_COUNT);
    bounds.check("shape.number (samples)", number + COUNT, 1, 0, SAMPLES);
    bounds.check("shape.number (place)", number + PLACE, 1, 0, SAMPLES - 1);
    bounds.check("shape.number (period)", number + PERIOD, 1, known ? static_cast<double>(LAG_LEAST) : 0.0, CYCLE_MOST);
    bounds.check("shape.number (step)", number + STEP, 1, 0, LARGEST_DOUBLE);
    bounds.check("shape.number (steady)", number + STEADY, 1, 0, 1);
    bounds.check("shape.number (samples since)", number + SINCE, 1, 0, MAX_COUNT);
    bounds.check("shape.number (judged)", number + JUDGED, 1, 0, MAX_COUNT);
    bounds.check("shape.number (mean)", number + MEAN_OF, 1, 0, LARGEST_FLOAT);
    bounds.check("shape.tail (learned)", tail + LEARNED, 1, 0, MAX_COUNT);
    bounds.check("shape.tail (variance)", tail + VARIANCE, 1, 0, LARGEST_FLOAT);
    bounds.check("shape.distance", of.shape_fields.distance.in(row), SAMPLES, known ? 0.0 : -LARGEST_FLOAT, LARGEST_FLOAT);
}

inline void check_levels(Bounds& bounds, const MonitorState& of, i64 e) {
    using namespace SSM_ISA::mean_shift;
    const double* number = of.levels_fields.number.in(of.levels.row(e));
    bounds.check("levels.number (events of a stay)", number + STAY, 1, 0, WARMUP);
}

// The rows of so many entities and pools. Returns what is wrong, empty if nothing is.
inline std::string out_of_bounds(const EngineState& of, i64 entities, i64 pools) {
    Bounds bounds;
    for (i64 k = 0; k < pools; ++k) check_pool(bounds, of.learner, k);
    for (i64 k = 0; of.monitor.hours_pool.rows && k < pools; ++k) check_hours_pool(bounds, of.monitor, k);
    const Challenger& challenger = of.challenger;
    for (i64 k = 0; challenger.trial.rows && k < pools; ++k) {
        check_pool(bounds, challenger.learner, k);
        const double* trial = challenger.trial_fields.number.in(challenger.trial.row(k));
        bounds.check("trial.number", trial, GAIN, 0, MAX_COUNT);
        bounds.check("trial.number (gain)", trial + GAIN, 1, -MAX_COUNT, MAX_COUNT);
        bounds.check("trial.number (squares)", trial + GAIN_SQUARES, 1, 0, MAX_COUNT);
    }
    for (i64 e = 0; e < entities; ++e) {
        check_entity(bounds, of.learner, e);
        if (challenger.trial.rows) check_entity(bounds, challenger.learner, e);
        if (of.monitor.error_scale.rows)
            bounds.check("error_scale.number (seen)", of.monitor.error_scale_fields.number.in(of.monitor.error_scale.row(e)), 1, 0, MAX_COUNT);
        if (of.monitor.drift.rows) check_drift(bounds, of.monitor, e);
        if (of.monitor.hours.rows) check_hours(bounds, of.monitor, e);
        if (of.monitor.novelty.rows) check_novelty(bounds, of.monitor, e);
        if (of.monitor.shape.rows) check_shape(bounds, of.monitor, e);
        if (of.monitor.levels.rows) check_levels(bounds, of.monitor, e);
    }
    return bounds.found();
}

// The predictions of so many entities that wait. pools: that entities share, −1 where each is its own pool; longest: records
// of a ring from its oldest that waits; norm: the pools have a norm scope
inline std::string out_of_bounds(const PendingTables& q, const Params& p, i64 entities, i64 pools, i64 longest, bool norm) {
    Bounds bounds;
    const i64 records = entities * q.places;
    const double answers = static_cast<double>(p.T);
    bounds.check("met", q.met, entities, 0, MAX_COUNT);
    bounds.check("oldest", q.oldest, entities, 0, MAX_COUNT);
    for (i64 e = 0; bounds.found().empty() && e < entities; ++e) {
        const i64 span = q.met[e] - q.oldest[e];
        bounds.check("met after oldest", &span, 1, 0, static_cast<double>(longest));
    }
    bounds.check("open", q.open, records, 0, 1);
    if (pools >= 0) bounds.check("pool", q.pool, records, 0, static_cast<double>(pools > 0 ? pools - 1 : 0));
    bounds.check("flag", q.flag, records * RECORD_FLAGS, 0, 1);
    if (!norm) bounds.check("flag (many)", q.flag + WITH_MANY, records, 0, 0, RECORD_FLAGS);
    bounds.check("steps (hour)", q.steps, records, 0, HOURS - 1, 2);
    bounds.check("steps (weekday)", q.steps + 1, records, 0, 6, 2);
    const double features = static_cast<double>(p.features);
    bounds.check("number (wild)", q.number + WILD, records, -features, features, RECORD_NUMBERS);
    bounds.check("places", q.at, records, 0, answers);
    bounds.check("active", q.active, records * p.T, 0, 1);
    return bounds.found();
}

}  // namespace ssm
