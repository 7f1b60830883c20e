// What Python sees of the core. Everything from outside is checked here: types, shapes, indices.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>

#include "bounds.hpp"
#include "processor.hpp"

namespace nb = nanobind;
using namespace ssm;

namespace ssm {
#define SSM_DECLARE(isa) namespace isa { extern const Functions functions; }
SSM_DECLARE(v2)
SSM_DECLARE(v3)
SSM_DECLARE(v4)
SSM_DECLARE(native)
void bind_tables(nb::module_& m);
void bind_silence(nb::module_& m);
void bind_hours(nb::module_& m);
void bind_windows(nb::module_& m);
void bind_reader(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_copies(nb::module_& m);
void bind_writer(nb::module_& m);
void bind_client(nb::module_& m);
}  // namespace ssm

namespace {

const Functions* F = nullptr;

// --- arrays -------------------------------------------------------------------------------------------------------

[[noreturn]] void refuse(const std::string& name, const std::string& found, const std::string& wanted) {
    throw nb::type_error((name + ": found " + found + ", want " + wanted).c_str());
}

bool is_type(const char* format, i64 size, const char* type) {
    if (*format == '<' || *format == '=' || *format == '@' || *format == '|') ++format;
    const char kind = *format;
    if (format[1] || size != type[2] - '0') return false;
    if (type[1] == 'f') return kind == 'd' || kind == 'f';
    if (type[1] == 'i') return kind == 'l' || kind == 'q' || kind == 'b' || kind == 'h';
    if (type[1] == 'u') return kind == 'L' || kind == 'Q' || kind == 'B' || kind == 'H';
    return kind == '?';
}
template <class T> const char* type_of() { return type_name<T>(); }
template <> const char* type_of<bool>() { return "|b1"; }

// An array that is looked at; the memory is numpy's, whose owner the caller keeps.
class Buffer {
  public:
    Buffer(nb::handle array, const char* name, bool writable) : name_(name) {
        if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0))) {
            nb::raise_python_error();
        }
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    const Py_buffer& operator*() const { return view_; }
    i64 extent(int axis) const { return view_.shape[axis]; }
    std::string shape() const {
        std::string text = "(";
        for (int i = 0; i < view_.ndim; ++i) text += std::to_string(view_.shape[i]) + (view_.ndim == 1 || i + 1 < view_.ndim ? "," : "");
        return text + ") of " + view_.format;
    }
    void check_type(const char* type) const {
        if (!is_type(view_.format, view_.itemsize, type)) refuse(name_, "type " + std::string(view_.format), type);
    }
    // C order, and of this shape; −1: any
    template <class Shape> void check_shape(const Shape& want) const {
        bool good = view_.ndim == static_cast<int>(want.size());
        const auto extent = want.begin();
        for (std::size_t i = 0; good && i < want.size(); ++i) good = extent[i] < 0 || view_.shape[i] == extent[i];
        if (!good) {
            std::string text = "(";
            for (const i64 n : want) text += (n < 0 ? "n" : std::to_string(n)) + ",";
            refuse(name_, "shape " + shape(), text + ")");
        }
        i64 step = view_.itemsize;
        for (int i = view_.ndim; i-- > 0; step *= view_.shape[i])
            if (view_.len && view_.shape[i] > 1 && view_.strides[i] != step) refuse(name_, "steps between its numbers", "C order");
    }

  private:
    const char* name_;
    Py_buffer view_;
};

// The first number of an array of this shape.
template <class T> T* data(nb::handle array, const char* name, std::initializer_list<i64> shape) {
    Buffer buffer(array, name, !std::is_const_v<T>);
    buffer.check_type(type_of<std::remove_const_t<T>>());
    buffer.check_shape(shape);
    return static_cast<T*>((*buffer).buf);
}
template <class T> T* member(nb::handle of, const char* name, std::initializer_list<i64> shape) {
    return data<T>(of.attr(name), name, shape);
}
i64 length(nb::handle array, const char* name) {
    Buffer buffer(array, name, false);
    if ((*buffer).ndim < 1) refuse(name, "a number", "an array");
    return buffer.extent(0);
}
template <class T> T number(nb::handle of, const char* name) { return nb::cast<T>(of.attr(name)); }

// The rows of a group: its arrays must be views on one block, laid out as `placed` says.
Table table_of(nb::handle group, const Placer& placed, const char* what) {
    Table out{nullptr, placed.size, -1};
    for (const FieldInfo& field : placed.fields) {
        const std::string name = std::string(what) + "." + field.name;
        Buffer buffer(group.attr(field.name.c_str()), name.c_str(), true);
        buffer.check_type(field.type.c_str());
        const Py_buffer& view = *buffer;
        bool good = view.ndim == static_cast<int>(field.shape.size()) + 1;
        for (std::size_t i = 0; good && i < field.shape.size(); ++i) good = view.shape[i + 1] == field.shape[i];
        if (!good) refuse(name, "shape " + buffer.shape(), "the shape that core.schema says");
        const i64 rows = view.shape[0];
        if (out.rows >= 0 && rows != out.rows) refuse(name, std::to_string(rows) + " rows", std::to_string(out.rows));
        out.rows = rows;
        if (view.len == 0) continue;
        for (std::size_t i = 0; i < field.shape.size(); ++i)
            if (field.shape[i] > 1 && view.strides[i + 1] != field.strides[i]) good = false;
        char* base = static_cast<char*>(view.buf) - field.at;
        if (!out.base) {
            out.base = base;
            if (rows > 1) out.stride = view.strides[0];
            if (out.stride < placed.size) good = false;
        }
        if (base != out.base || (rows > 1 && view.strides[0] != out.stride)) good = false;
        if (!good) refuse(name, "an array by itself", "a view on the block that `core.blocks` makes");
    }
    return out;
}

// --- parameters ---------------------------------------------------------------------------------------------------

Params params_of(nb::handle from) {
    Params p{};
    const auto count = [&](const char* name, i64 most) {
        const i64 n = number<i64>(from, name);
        if (n < 0 || n > most) refuse(name, std::to_string(n), "0 to " + std::to_string(most));
        return n;
    };
    constexpr i64 MANY = 1 << 20;
    p.features = count("features", MANY), p.categories = count("categories", MANY), p.cycles = count("cycles", MANY);
    p.C = count("C", MANY), p.F = count("F", MANY), p.Q = count("Q", MANY), p.K = count("K", SLOTS);
    p.L = count("L", MANY), p.N = count("N", MANY), p.M = count("M", 64), p.R = count("R", MANY);
    p.B = count("B", MANY), p.A = count("A", MANY), p.X = count("X", MANY), p.T = count("T", MANY);
    p.moments = count("moments", 1), p.products = count("products", 1), p.prox = count("prox", 64), p.log = count("log", 1), p.gd = count("gd", 1);
    p.window = count("window", MANY), p.bases = count("bases", 11);
    p.lags = count("lags", MANY), p.differences = count("differences", 1), p.feature_lags = count("feature_lags", MANY);
    p.seasons = count("seasons", 1), p.quarters = count("quarters", 3), p.effects = count("effects", 1), p.known = count("known", 1), p.step_hour = count("step_hour", 2), p.step_weekday = count("step_weekday", 2);
    p.learned_gate = count("learned_gate", 1), p.heads_only = count("heads_only", 1);
    p.ahead = number<double>(from, "ahead");
    p.slow_step = number<double>(from, "slow_step"), p.embedding_step = number<double>(from, "embedding_step");
    p.top_decay = number<double>(from, "top_decay");
    p.product_decay = number<double>(from, "product_decay"), p.product_ridge = number<double>(from, "product_ridge");
    p.product_huber = number<double>(from, "product_huber");
    p.decays = length(from.attr("decay"), "decay");
    if (!complete(p))
        throw nb::value_error("the sizes of the learner do not fit each other");
    p.half_life = member<const double>(from, "half_life", {p.decays});
    p.decay = member<const double>(from, "decay", {p.decays});
    p.ridge = member<const float>(from, "ridge", {p.decays});
    p.huber = member<const float>(from, "huber", {p.decays});
    if (length(from.attr("steps"), "steps") < p.prox) refuse("steps", "too few", "one a proximal head");
    p.steps = member<const double>(from, "steps", {-1});
    p.surprise = member<const double>(from, "surprise", {3});
    p.omega = member<const float>(from, "omega", {p.F + SLOTS, p.R});
    p.phase = member<const float>(from, "phase", {p.R});
    p.poly_decay = member<const double>(from, "poly_decay", {2});
    p.soft = member<const double>(from, "soft", {2, 4});
    p.sweep_decay = member<const double>(from, "sweep_decay", {2});
    p.sweep_ridge = member<const double>(from, "sweep_ridge", {2});
    p.sweep_huber = member<const double>(from, "sweep_huber", {2});
    return p;
}

Scratch scratch_of(nb::handle from, const Params& p) {
    Placer placed;
    ScratchFields f;
    place_fields(placed, f, p);
    Table table{nullptr, placed.size, 1};
    for (const FieldInfo& field : placed.fields) {  // one row, without the axis of rows
        Buffer buffer(from.attr(field.name.c_str()), field.name.c_str(), true);
        buffer.check_type(field.type.c_str());
        buffer.check_shape(field.shape);
        if ((*buffer).len == 0) continue;
        char* base = static_cast<char*>((*buffer).buf) - field.at;
        if (!table.base) table.base = base;
        if (base != table.base) refuse(field.name, "an array by itself", "scratch that `shapes.new_scratch` makes");
    }
    return scratch_in(table.base, f, p);
}

template <class... More> Placer placed(auto& fields, More&&... more) {
    Placer put;
    place_fields(put, fields, more...);
    return put;
}

LearnerState learner_state(nb::handle params, nb::handle scratch, nb::handle entity, nb::handle pool, nb::handle fleet, nb::handle norm) {
    LearnerState state;
    state.p = params_of(params);
    state.w = scratch_of(scratch, state.p);
    state.entity = table_of(entity, placed(state.entity_fields, state.p), "entity");
    state.pool = table_of(pool, placed(state.pool_fields, state.p), "pool");
    state.fleet = table_of(fleet, placed(state.fleet_fields, state.p, FLEET), "fleet");
    state.norm = table_of(norm, placed(state.norm_fields, state.p, NORM), "norm");
    if (state.fleet.rows != state.pool.rows || (state.norm.rows && state.norm.rows != state.pool.rows))
        throw nb::value_error("pool, fleet and norm have different numbers of rows");
    return state;
}

// beside: the learner that it runs beside
Challenger challenger_of(nb::handle params, nb::handle scratch, nb::handle state, nb::handle pools, const LearnerState& beside) {
    Challenger out;
    out.learner = learner_state(params, scratch, state.attr("challenger"), pools.attr("challenger_pool"), pools.attr("challenger_fleet"),
                                pools.attr("challenger_norm"));
    out.trial = table_of(pools.attr("trial"), placed(out.trial_fields, std::vector<i64>{TRIAL_NUMBERS}), "trial");
    const auto rows = [](const LearnerState& of) { return std::array{of.entity.rows, of.pool.rows, of.norm.rows}; };
    if (rows(out.learner) != rows(beside) || out.trial.rows != beside.pool.rows)
        throw nb::value_error("the challenger has other numbers of rows than the learner beside it");
    const auto bytes = [](const Placer& of) { return static_cast<std::size_t>(of.size); };
    const Params& p = beside.p;
    LearnerState& fields = out.learner;
    out.entity_bytes = bytes(placed(fields.entity_fields, p)), out.pool_bytes = bytes(placed(fields.pool_fields, p));
    out.fleet_bytes = bytes(placed(fields.fleet_fields, p, FLEET)), out.norm_bytes = bytes(placed(fields.norm_fields, p, NORM));
    return out;
}

Events events_of(const LearnerState& state, nb::handle pools, nb::handle rows, nb::handle ts, nb::handle u, nb::handle steps, nb::handle y, bool columns) {
    Events events{};
    const i64 n = events.count = length(y, "y");
    events.rows = state.entity.rows, events.pools = state.pool.rows;
    events.pool_of = data<const i64>(pools, "pool_of", {n});
    events.row_of = data<const i64>(rows, "rows", {n});
    events.ts = data<const i64>(ts, "ts", {n});
    events.u = columns ? data<const double>(u, "u", {n, state.p.C}) : nullptr;
    events.steps = data<const i64>(steps, "steps", {n, 2});
    events.y = data<const double>(y, "y", {n});
    return events;
}
void check_steps(const i64* steps, i64 n) {
    for (i64 i = 0; i < n; ++i)
        if (steps[2 * i] < 0 || steps[2 * i] >= HOURS || steps[2 * i + 1] < 0 || steps[2 * i + 1] > 6)
            throw nb::value_error("steps: want an hour 0 to 23 and a weekday 0 to 6");
}
void check_rows(const LearnerState& state, i64 k, i64 e) {
    if (k < 0 || k >= state.pool.rows || e < 0 || e >= state.entity.rows) throw nb::index_error("no such pool or entity");
}
std::pair<i64, i64> told(Stop stop) {
    if (stop.why == NO_ROW) throw nb::index_error(("event " + std::to_string(stop.at) + ": no such pool or entity").c_str());
    return {stop.at, stop.why};
}

// --- classes ------------------------------------------------------------------------------------------------------

class PyLearner {
  public:
    PyLearner(nb::object params, nb::object scratch, nb::object learner)
        : state_(learner_state(params, scratch, learner.attr("entity"), learner.attr("pool"), learner.attr("fleet"), learner.attr("norm"))),
          kept_(nb::make_tuple(params, scratch, learner)) {}

    std::pair<i64, i64> run(nb::handle pools, nb::handle rows, nb::handle u, nb::handle steps, nb::handle ts, nb::handle y, i64 start, nb::handle out) {
        const Events events = events_of(state_, pools, rows, ts, u, steps, y, true);
        double* answers = data<double>(out, "out", {-1});
        if (start < 0 || length(out, "out") < events.count) throw nb::value_error("start, out: not of these events");
        check_steps(events.steps, events.count);
        Stop stop;
        {
            nb::gil_scoped_release free;
            stop = F->learner_run(state_, events, start, answers);
        }
        if (stop.why == NO_ROW) told(stop);
        return {stop.at, stop.why};
    }
    double predict(i64 k, i64 e, nb::handle u, nb::handle steps, double ts) {
        check_rows(state_, k, e);
        const i64* step = data<const i64>(steps, "steps", {2});
        check_steps(step, 1);
        return F->predict(state_, k, e, data<const double>(u, "u", {state_.p.C}), step, ts);
    }
    void learn(i64 k, i64 e, nb::handle u, nb::handle steps, double ts, double y) {
        check_rows(state_, k, e);
        const i64* step = data<const i64>(steps, "steps", {2});
        check_steps(step, 1);
        F->learn(state_, k, e, data<const double>(u, "u", {state_.p.C}), step, ts, y);
    }
    double weights(i64 k, i64 e, nb::handle out) {
        check_rows(state_, k, e);
        return F->weights(state_, k, e, data<float>(out, "out", {state_.p.L}));
    }
    i64 wants(i64 k, i64 e, bool labelled) {
        check_rows(state_, k, e);
        return F->wants(state_, k, e, labelled);
    }

  private:
    LearnerState state_;
    nb::object kept_;
};

void set_episodes(Rules& r, nb::handle episodes) {
    r.consecutive = number<i64>(episodes, "consecutive"), r.ongoing_every = number<i64>(episodes, "ongoing_every");
    for (int i = 0; i < 2; ++i) {
        r.recover_after[i] = nb::cast<i64>(episodes.attr("recover_after")[i]);
        r.cooldown[i] = nb::cast<i64>(episodes.attr("cooldown")[i]);
        r.absorb_after[i] = nb::cast<i64>(episodes.attr("absorb_after")[i]);
    }
}
Rules rules_of(nb::handle from) {
    Rules r{};
    r.warmup = number<i64>(from, "warmup"), r.level = number<double>(from, "level"), r.ttl = number<double>(from, "ttl");
    r.anomaly = number<bool>(from, "anomaly"), r.anomaly_events = number<double>(from, "anomaly_events");
    r.anomaly_seconds = number<double>(from, "anomaly_seconds"), r.direction = number<i64>(from, "direction");
    r.deviation = number<double>(from, "deviation"), r.deviation_relative = number<double>(from, "deviation_relative");
    r.drift = number<bool>(from, "drift"), r.drift_events = number<double>(from, "drift_events");
    r.drift_seconds = number<double>(from, "drift_seconds");
    for (int i = 0; i < 4; ++i) r.channels[i] = nb::cast<bool>(from.attr("channels")[i]);
    for (int i = 0; i < 2; ++i) r.learn[i] = nb::cast<i64>(from.attr("learn")[i]);
    set_episodes(r, from.attr("episodes"));
    return r;
}
Rules episode_rules(nb::handle episodes) {
    Rules r{};
    set_episodes(r, episodes);
    return r;
}

Predictions predictions_of(nb::handle out, i64 n) {
    return {member<double>(out, "yhat", {n}), member<double>(out, "lower", {n}), member<double>(out, "upper", {n}),
            member<double>(out, "score", {n}), member<bool>(out, "warmup", {n}), member<i64>(out, "n", {n}),
            member<double>(out, "fleet", {n})};
}
Settled settled_of(nb::handle out) {
    const i64 m = length(out.attr("item"), "item");
    return {m, member<i64>(out, "item", {m}), member<i64>(out, "ts", {m}), member<double>(out, "y", {m}),
            member<double>(out, "yhat", {m}), member<double>(out, "lower", {m}), member<double>(out, "upper", {m}),
            member<double>(out, "score", {m}), member<bool>(out, "warmup", {m}), member<i64>(out, "n", {m}),
            member<double>(out, "fleet", {m})};
}
Late late_of(nb::handle from) {
    return {number<bool>(from, "labels"), number<bool>(from, "by_id"), number<double>(from, "wait"), number<i64>(from, "most"),
            number<bool>(from, "fleet"), number<i64>(from, "events"), number<double>(from, "ahead"), number<double>(from, "late")};
}
PendingTables pending_of(nb::handle q, const Params& p, i64 E) {
    Buffer open(q.attr("open"), "open", true);
    if ((*open).ndim != 2 || open.extent(1) < 1) refuse("open", open.shape(), "(E, H)");
    const i64 H = open.extent(1), past = p.window ? p.lags : 0;
    using i8 = std::int8_t;
    return {H, member<i64>(q, "met", {E}), member<i64>(q, "oldest", {E}), member<i8>(q, "open", {E, H}),
            member<i64>(q, "ts", {E, H}), member<i64>(q, "key", {E, H}), member<i64>(q, "pool", {E, H}), member<i8>(q, "flag", {E, H, 6}),
            member<double>(q, "number", {E, H, RECORD_NUMBERS}), member<double>(q, "v", {E, H, p.F + p.features}), member<double>(q, "named", {E, H, p.categories + 2 * p.turns}),
            member<i8>(q, "steps", {E, H, 2}), member<double>(q, "base", {E, H, BASES}), member<i64>(q, "places", {E, H}),
            member<double>(q, "a", {E, H, p.T}), member<i8>(q, "active", {E, H, p.T}), member<double>(q, "made", {E, H, MADE}),
            member<float>(q, "past", {E, H, 2, past})};
}

// The records as of `q`, with the challenger's answers; predicted: where it is placed, null without a challenger
PendingTables challenger_pending_of(nb::handle q, const PendingTables& of, const Params& p, i64 E, double*& predicted) {
    using i8 = std::int8_t;
    Buffer columns(q.attr("predicted"), "predicted", true);
    predicted = nullptr;
    if ((*columns).ndim != 3) refuse("predicted", columns.shape(), "(E, H, 3)");
    if (columns.extent(2) == 0) return of;
    const i64 H = of.places;
    predicted = member<double>(q, "predicted", {E, H, PREDICTED});
    PendingTables out = of;
    out.flag = member<i8>(q, "challenger_flag", {E, H, RECORD_FLAGS}), out.base = member<double>(q, "challenger_base", {E, H, BASES});
    out.v = member<double>(q, "challenger_v", {E, H, p.F + p.features});
    out.at = member<i64>(q, "challenger_places", {E, H, 1}), out.a = member<double>(q, "challenger_a", {E, H, p.T});
    out.active = member<i8>(q, "challenger_active", {E, H, p.T}), out.made = member<double>(q, "challenger_made", {E, H, MADE});
    out.past = member<float>(q, "challenger_past", {E, H, 2, p.window ? p.lags : 0});
    return out;
}

class PyEngine {
  public:
    // challenger: scratch of its own, where the state has a challenger; else None
    PyEngine(nb::object params, nb::object scratch, nb::object state, nb::object pools, nb::object rules, nb::object reported, nb::object challenger)
        : kept_(nb::make_tuple(params, scratch, state, pools, reported, challenger)) {
        EngineState& s = state_;
        s.learner = learner_state(params, scratch, state.attr("learner"), pools.attr("pool"), pools.attr("fleet"), pools.attr("norm"));
        s.rules = rules_of(rules);
        const Params& p = s.learner.p;
        MonitorState& m = s.monitor;
        m.interval = table_of(state.attr("interval"), placed(m.interval_fields), "interval");
        m.drift = table_of(state.attr("detector"), placed(m.drift_fields), "detector");
        m.days = table_of(state.attr("days"), placed(m.days_fields, p.features), "days");
        m.days_pool = table_of(pools.attr("days"), placed(m.days_pool_fields, p.features), "pools.days");
        m.hours = table_of(state.attr("hours"), placed(m.hours_fields, p.features), "hours");
        m.hours_pool = table_of(pools.attr("hours"), placed(m.hours_pool_fields, p.features), "pools.hours");
        m.novelty = table_of(state.attr("novelty"), placed(m.novelty_fields), "novelty");
        m.shape = table_of(state.attr("shape"), placed(m.shape_fields), "shape");
        m.levels = table_of(state.attr("levels"), placed(m.levels_fields, p.features + 1), "levels");
        m.episodes = table_of(state.attr("lifecycle"), placed(m.episode_fields, std::vector<i64>{2, EPISODE_NUMBERS}), "lifecycle");
        m.clock = table_of(state.attr("clock"), placed(m.clock_fields, std::vector<i64>{4}), "clock");
        m.reference = table_of(state.attr("reference"), placed(m.reference_fields, p), "reference");
        m.error_scale = table_of(state.attr("error_scale"), placed(m.error_scale_fields, CONTEXT + p.features), "error_scale");
        m.error_scale_pool = table_of(pools.attr("error_scale"), placed(m.error_scale_pool_fields, CONTEXT + p.features), "pools.error_scale");
        const i64 E = s.learner.entity.rows;
        const bool short_of = m.interval.rows != E || m.episodes.rows != E || m.clock.rows != E || m.reference.rows != E || m.error_scale.rows != E ||
                              m.error_scale_pool.rows != s.learner.pool.rows ||
                              m.days_pool.rows != s.learner.pool.rows || m.hours_pool.rows != s.learner.pool.rows ||
                              (s.rules.drift && (m.drift.rows != E || m.days.rows != E || m.hours.rows != E)) || (s.rules.channels[1] && m.novelty.rows != E) ||
                              (s.rules.channels[2] && m.levels.rows != E) || (s.rules.channels[3] && m.shape.rows != E);
        if (short_of) throw nb::value_error("the groups of the entities' state have different numbers of rows");
        if (!challenger.is_none()) s.challenger = challenger_of(params, challenger, state, pools, s.learner);
        s.told = {member<i64>(reported, "phase", {6}), member<double>(reported, "number", {2, 3}), member<float>(reported, "weights", {p.L})};
    }

    std::pair<i64, i64> run(nb::handle pools, nb::handle rows, nb::handle ts, nb::handle u, nb::handle steps, nb::handle y, i64 start, nb::handle marks, i64 source, nb::handle out, nb::handle allowance, nb::handle stopped, nb::handle share) {
        Events events = events_of(state_.learner, pools, rows, ts, u, steps, y, true);
        if (!allowance.is_none()) events.allowance = data<double>(allowance, "allowance", {events.count});
        if (!stopped.is_none()) events.stopped = data<const std::int8_t>(stopped, "stopped", {events.count});
        if (!share.is_none()) events.share = data<const double>(share, "share", {events.count});
        const Predictions predictions = predictions_of(out, events.count);
        double* mark = mark_of(marks, source);
        if (start < 0) throw nb::value_error("start: found a negative number");
        check_steps(events.steps, events.count);
        Stop stop;
        {
            nb::gil_scoped_release free;
            stop = F->run(state_, events, start, mark, predictions);
        }
        rethrow();
        return told(stop);
    }
    // pending, room, late, settled, todo, tally: as `loop.Waiting` has them
    std::pair<i64, i64> run_late(nb::handle waiting, nb::handle pools, nb::handle rows, nb::handle ts, nb::handle u, nb::handle steps, nb::handle own, nb::handle y, nb::handle key, i64 start, nb::handle marks, i64 source, nb::handle out, bool predicting, nb::handle allowance, nb::handle stopped, nb::handle share) {
        const Params& p = state_.learner.p;
        Events events = events_of(state_.learner, pools, rows, ts, u, steps, y, predicting);
        const i64 n = events.count;
        if (!allowance.is_none()) events.allowance = data<double>(allowance, "allowance", {n});
        if (!stopped.is_none()) events.stopped = data<const std::int8_t>(stopped, "stopped", {n});
        if (!share.is_none()) events.share = data<const double>(share, "share", {n});
        events.own = data<const i64>(own, "own", {n, 2});
        events.key = data<const i64>(key, "key", {n});
        const Predictions predictions = predicting ? predictions_of(out, n) : Predictions{};
        nb::object room = waiting.attr("room");
        const i64 E = state_.learner.entity.rows;
        const PendingTables records = pending_of(waiting.attr("pending"), p, E);
        double* predicted = nullptr;
        const PendingTables challenger = challenger_pending_of(waiting.attr("pending"), records, p, E, predicted);
        if (state_.challenger.trial.rows && !predicted) throw nb::value_error("the records have no room for the challenger");
        const LateState late{late_of(waiting.attr("late")), records, challenger, predicted,
                             {member<double>(room, "u", {p.C}), member<i64>(room, "steps", {2})}, settled_of(waiting.attr("settled")),
                             member<i64>(waiting, "todo", {4}), member<i64>(waiting, "tally", {3})};
        double* mark = mark_of(marks, source);
        if (start < 0) throw nb::value_error("start: found a negative number");
        check_steps(events.steps, n);
        check_steps(events.own, n);
        Stop stop;
        {
            nb::gil_scoped_release free;
            stop = F->run_late(state_, late, events, start, mark, predictions, predicting);
        }
        rethrow();
        return told(stop);
    }

    // What `run` would predict of an event with columns u (C,), hour and weekday `steps` (2,); fills the scratch. A challenger
    // that has won takes the entity's place, as at its next event.
    double predict(i64 k, i64 e, nb::handle u, nb::handle steps, double ts) const {
        check_rows(state_.learner, k, e);
        const i64* step = data<const i64>(steps, "steps", {2});
        check_steps(step, 1);
        return F->predict_event(state_, k, e, data<const double>(u, "u", {state_.learner.p.C}), step, ts);
    }

    // function(row, time, y, answer, features, events) -> (score, channel), for so many channels
    void own_channels(nb::object function, i64 count) {
        if (count < 1) throw nb::value_error("own_channels: found no channel");
        function_ = std::move(function);
        state_.own = {count, &PyEngine::own_score, this};
    }

    // What is out of its bounds in the rows of loaded state, empty if nothing is; `bounds.hpp`.
    std::string check(i64 entities, i64 pools) const {
        if (entities < 0 || entities > state_.learner.entity.rows || pools < 0 || pools > state_.learner.pool.rows)
            throw nb::index_error("no such pool or entity");
        return out_of_bounds(state_, entities, pools);
    }
    std::string check_pending(nb::handle pending, i64 entities, i64 pools, i64 longest) const {
        const LearnerState& l = state_.learner;
        if (entities < 0 || entities > l.entity.rows) throw nb::index_error("no such entity");
        const PendingTables records = pending_of(pending, l.p, l.entity.rows);
        double* predicted = nullptr;
        const PendingTables challenger = challenger_pending_of(pending, records, l.p, l.entity.rows, predicted);
        const std::string found = out_of_bounds(records, l.p, entities, pools, longest, l.norm.rows > 0);
        return !found.empty() || !predicted ? found : out_of_bounds(challenger, l.p, entities, pools, longest, l.norm.rows > 0);
    }

  private:
    static OwnScore own_score(void* with, i64 e, double time, double y, double answer, const double* u, double events) {
        auto& self = *static_cast<PyEngine*>(with);
        if (self.failed_) return {0.0, 0};
        nb::gil_scoped_acquire held;
        try {
            nb::list features;
            for (i64 j = 0; j < self.state_.learner.p.features; ++j) features.append(u[j]);
            const auto [score, channel] = nb::cast<std::pair<double, i64>>(self.function_(e, time, y, answer, features, events));
            if (channel < 0 || channel >= self.state_.own.count) throw nb::index_error("own_channels: no such channel");
            return {score, channel};
        } catch (...) {
            self.failed_ = std::current_exception();
            return {0.0, 0};
        }
    }
    // The error of an own channel ends the call in which it happened; the state is not to be used any more.
    void rethrow() {
        if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    }
    static double* mark_of(nb::handle marks, i64 source) {
        const i64 n = length(marks, "marks");
        if (source < 0 || source >= n) throw nb::index_error("marks: no such source");
        return data<double>(marks, "marks", {n}) + source;
    }
    EngineState state_;
    nb::object kept_, function_;
    std::exception_ptr failed_;
};

// --- the schema ---------------------------------------------------------------------------------------------------

nb::tuple schema_of(const Placer& put) {
    nb::list fields;
    for (const FieldInfo& field : put.fields) {
        nb::list shape, strides;
        for (i64 n : field.shape) shape.append(n);
        for (i64 n : field.strides) strides.append(n);
        fields.append(nb::make_tuple(field.name, field.type, nb::tuple(shape), nb::tuple(strides), field.at));
    }
    return nb::make_tuple(put.size, fields);
}
nb::tuple schema(const std::string& group, nb::handle params, i64 size) {
    const auto p = [&] { return params_of(params); };
    if (group == "entity") { EntityFields f; return schema_of(placed(f, p())); }
    if (group == "pool") { PoolFields f; return schema_of(placed(f, p())); }
    if (group == "fleet") { HeadFields f; return schema_of(placed(f, p(), FLEET)); }
    if (group == "norm") { HeadFields f; return schema_of(placed(f, p(), NORM)); }
    if (group == "reference") { ReferenceFields f; return schema_of(placed(f, p())); }
    if (group == "scratch") { ScratchFields f; return schema_of(placed(f, p())); }
    if (group == "interval") { IntervalFields f; return schema_of(placed(f)); }
    if (group == "detector") { DriftFields f; return schema_of(placed(f)); }
    if (group == "days") { DaysFields f; return schema_of(placed(f, size)); }
    if (group == "days_pool") { DaysPoolFields f; return schema_of(placed(f, size)); }
    if (group == "hours") { HoursFields f; return schema_of(placed(f, size)); }
    if (group == "hours_pool") { HoursPoolFields f; return schema_of(placed(f, size)); }
    if (group == "novelty") { NoveltyFields f; return schema_of(placed(f)); }
    if (group == "shape") { ShapeFields f; return schema_of(placed(f)); }
    if (group == "error_scale") { ErrorScaleFields f; return schema_of(placed(f, CONTEXT + size)); }
    if (group == "error_scale_pool") { ErrorScalePoolFields f; return schema_of(placed(f, CONTEXT + size)); }
    if (group == "levels") { LevelsFields f; return schema_of(placed(f, size)); }
    if (group == "lifecycle") { NumberFields f; return schema_of(placed(f, std::vector<i64>{2, EPISODE_NUMBERS})); }
    if (group == "trial") { NumberFields f; return schema_of(placed(f, std::vector<i64>{TRIAL_NUMBERS})); }
    if (group == "clock") { NumberFields f; return schema_of(placed(f, std::vector<i64>{4})); }
    throw nb::value_error(("no group of state is called " + group).c_str());
}

// --- detectors alone ----------------------------------------------------------------------------------------------

void check_row(const Table& table, i64 e) {
    if (e < 0 || e >= table.rows) throw nb::index_error("no such entity");
}
MonitorState interval_state(nb::handle s, i64 e) {
    MonitorState m{};
    m.interval = table_of(s, placed(m.interval_fields), "interval");
    check_row(m.interval, e);
    return m;
}
MonitorState drift_state(nb::handle s, i64 e) {
    MonitorState m{};
    m.drift = table_of(s, placed(m.drift_fields), "detector");
    check_row(m.drift, e);
    return m;
}
MonitorState novelty_state(nb::handle s, i64 e) {
    MonitorState m{};
    m.novelty = table_of(s, placed(m.novelty_fields), "novelty");
    check_row(m.novelty, e);
    return m;
}
MonitorState shape_state(nb::handle s, i64 e) {
    MonitorState m{};
    m.shape = table_of(s, placed(m.shape_fields), "shape");
    check_row(m.shape, e);
    return m;
}
MonitorState levels_state(nb::handle s, i64 e, i64 columns) {
    MonitorState m{};
    m.levels = table_of(s, placed(m.levels_fields, columns), "levels");
    check_row(m.levels, e);
    return m;
}
MonitorState episode_state(nb::handle s, i64 e, i64 kind) {
    MonitorState m{};
    m.episodes = table_of(s, placed(m.episode_fields, std::vector<i64>{2, EPISODE_NUMBERS}), "lifecycle");
    check_row(m.episodes, e);
    if (kind < 0 || kind > 1) throw nb::index_error("no such kind of episode");
    return m;
}

i64 check_hour(i64 hour) {
    if (hour < 0 || hour >= HOURS) throw nb::value_error("want an hour 0 to 23");
    return hour;
}

void bind_monitor(nb::module_& m) {
    m.def("half_width", [](nb::handle s, i64 e, i64 hour) { return F->half_width(interval_state(s, e), e, check_hour(hour)); });
    m.def("anomaly_bound", [](nb::handle s, i64 e, double rate, nb::handle tail, double errors, double unit) {
        return F->anomaly_bound(interval_state(s, e), e, rate, tail.is_none() ? nullptr : data<double>(tail, "tail", {3}), errors, unit);
    }, nb::arg("s"), nb::arg("e"), nb::arg("rate"), nb::arg("tail").none(), nb::arg("errors"), nb::arg("unit"));
    m.def("interval_observe", [](nb::handle s, i64 e, i64 n, double error, double level, double rate, i64 hour) {
        F->interval_observe(interval_state(s, e), e, n, error, level, rate, check_hour(hour));
    });
    // Errors of predictions of 0 one after another, inputs (n, 1 + features), out (n,): each over its scale.
    m.def("error_scale_observe_all", [](nb::handle s, nb::handle pools, nb::handle errors, nb::handle steps, nb::handle inputs, i64 features, nb::handle out) {
        if (features < 0 || features > 1000) throw nb::value_error("features: out of range");
        EngineState state{};
        MonitorState& monitor = state.monitor;
        monitor.error_scale = table_of(s, placed(monitor.error_scale_fields, CONTEXT + features), "error_scale");
        monitor.error_scale_pool = table_of(pools, placed(monitor.error_scale_pool_fields, CONTEXT + features), "pools.error_scale");
        check_row(monitor.error_scale, 0);
        check_row(monitor.error_scale_pool, 0);
        const i64 n = length(errors, "errors");
        const double* error = data<const double>(errors, "errors", {n});
        const i64* step = data<const i64>(steps, "steps", {n, 2});
        check_steps(step, n);
        const float* input = data<const float>(inputs, "inputs", {n, 1 + features});
        double* over = data<double>(out, "out", {n});
        std::vector<double> room(SCALE_ROOMS * rounded(CONTEXT + features, 8));
        state.learner.p.features = features;
        state.learner.w.error_scale = room.data();
        nb::gil_scoped_release free;
        for (i64 t = 0; t < n; ++t) over[t] = F->error_scale_observe(state, 0, 0, error[t], step + 2 * t, input + (1 + features) * t);
    });
    m.def("drift_observe", [](nb::handle s, i64 e, double error, double budget, bool hold) {
        return F->drift_observe(drift_state(s, e), e, error, budget, hold);
    });
    // Errors one after another, out (n,): the evidence after each.
    m.def("drift_observe_all", [](nb::handle s, i64 e, nb::handle errors, double budget, bool hold, nb::handle out) {
        const MonitorState state = drift_state(s, e);
        const i64 n = length(errors, "errors");
        const double* error = data<const double>(errors, "errors", {n});
        double* evidence = data<double>(out, "out", {n});
        nb::gil_scoped_release free;
        for (i64 t = 0; t < n; ++t) evidence[t] = F->drift_observe(state, e, error[t], budget, hold);
    });
    // Events one after another, out (n,): the score of each.
    m.def("novelty_observe", [](nb::handle s, i64 e, nb::handle values, nb::handle week_seconds, double events, nb::handle out) {
        const MonitorState state = novelty_state(s, e);
        const i64 n = length(values, "values");
        const double *value = data<const double>(values, "values", {n}), *week = data<const double>(week_seconds, "week_seconds", {n});
        double* score = data<double>(out, "out", {n});
        nb::gil_scoped_release free;
        for (i64 t = 0; t < n; ++t) score[t] = F->novelty_observe(state, e, value[t], week[t], events);
    });
    m.def("shape_observe", [](nb::handle s, i64 e, nb::handle values, nb::handle times, double events, nb::handle out) {
        const MonitorState state = shape_state(s, e);
        const i64 n = length(values, "values");
        const double *value = data<const double>(values, "values", {n}), *time = data<const double>(times, "times", {n});
        double* score = data<double>(out, "out", {n});
        nb::gil_scoped_release free;
        for (i64 t = 0; t < n; ++t) score[t] = F->shape_observe(state, e, value[t], events, time[t]);
    });
    m.def("levels_observe", [](nb::handle s, i64 e, nb::handle values, nb::handle columns, i64 features, double events, double absorb, nb::handle out) {
        if (features < 0 || features > 100'000) throw nb::value_error("no such number of features");
        const MonitorState state = levels_state(s, e, features + 1);
        const i64 n = length(values, "values");
        const double *value = data<const double>(values, "values", {n}), *column = data<const double>(columns, "columns", {n, features});
        double* score = data<double>(out, "out", {n});
        std::vector<double> room(LEVEL_ROOMS * level_room(features + 1));
        nb::gil_scoped_release free;
        for (i64 t = 0; t < n; ++t)
            score[t] = F->levels_observe(state, e, value[t], column + t * features, features, events, absorb, room.data());
    });
    m.def("levels_causes", [](nb::handle s, i64 e, nb::handle out) {
        const i64 count = length(out, "out");
        F->levels_causes(levels_state(s, e, count / 2), e, data<double>(out, "out", {count}), count / 2 * 2);
    });
    m.def("challenger_share", [](nb::handle trial) { return F->challenger_share(data<const double>(trial, "trial", {TRIAL_NUMBERS})); });
    m.def("episode_step", [](nb::handle s, i64 e, i64 kind, i64 n, double ts, double score, bool alarm, bool calm, double absorb, nb::handle rules) {
        return F->episode_step(episode_state(s, e, kind), e, kind, n, ts, score, alarm, calm, absorb, episode_rules(rules));
    });
}

// --- the instruction set ------------------------------------------------------------------------------------------

std::vector<const Functions*> usable() {
    std::vector<const Functions*> out;
#if defined(SSM_HAS_v4)
    if (processor().v4) out.push_back(&v4::functions);
#endif
#if defined(SSM_HAS_v3)
    if (processor().v3) out.push_back(&v3::functions);
#endif
#if defined(SSM_HAS_v2)
    out.push_back(&v2::functions);
#endif
#if defined(SSM_HAS_native)
    out.push_back(&native::functions);
#endif
    return out;
}

std::string choose(const std::string& name) {
    std::string known;
    for (const Functions* each : usable()) {
        if (name.empty() || name == each->name || name == std::string("x86-64-") + each->name) {
            F = each;
            return each->name;
        }
        known += (known.empty() ? "" : ", ") + std::string(each->name);
    }
    if (known.empty()) throw std::runtime_error("it was built for a processor with more instructions than this one has");
    throw nb::value_error(("SSM_STREAM_ISA: found " + name + ", this machine and build have " + known).c_str());
}

}  // namespace

NB_MODULE(_core, m) {
    nb::set_leak_warnings(false);  // an error that ends the process holds an engine in its traceback
    m.def("choose", &choose);
    m.def("isas", [] {
        nb::list out;
        for (const Functions* each : usable()) out.append(each->name);
        return out;
    });
    m.def("schema", &schema, nb::arg("group"), nb::arg("params").none(), nb::arg("size"));
    nb::class_<PyLearner>(m, "Learner")
        .def(nb::init<nb::object, nb::object, nb::object>())
        .def("run", &PyLearner::run)
        .def("predict", &PyLearner::predict)
        .def("learn", &PyLearner::learn)
        .def("weights", &PyLearner::weights)
        .def("wants", &PyLearner::wants);
    nb::class_<PyEngine>(m, "Engine")
        .def(nb::init<nb::object, nb::object, nb::object, nb::object, nb::object, nb::object, nb::object>(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg(), nb::arg(), nb::arg().none() = nb::none())
        .def("run", &PyEngine::run, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg(), nb::arg().none() = nb::none(), nb::arg().none() = nb::none(), nb::arg().none() = nb::none())
        .def("run_late", &PyEngine::run_late, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
             nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none() = nb::none(), nb::arg().none() = nb::none(),
             nb::arg().none() = nb::none())
        .def("predict", &PyEngine::predict)
        .def("own_channels", &PyEngine::own_channels)
        .def("check", &PyEngine::check)
        .def("check_pending", &PyEngine::check_pending);
    bind_monitor(m);
    bind_tables(m);
    bind_silence(m);
    bind_hours(m);
    bind_windows(m);
    bind_reader(m);
    bind_rows(m);
    bind_copies(m);
    bind_writer(m);
    bind_client(m);
    choose("");
}
