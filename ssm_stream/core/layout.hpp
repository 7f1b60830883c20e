// Where every field lies in a row: one place says its name, type, shape and order, and both C++ and Python read that.
#pragma once
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "state.hpp"

namespace ssm {

inline i64 rounded(i64 n, i64 step) { return (n + step - 1) / step * step; }

// Fills in the sizes that follow from the others; returns whether these fit each other.
inline bool complete(Params& p) {
    const i64 window = p.window > 0, embedding = p.R > 0, slow = p.prox > 0, past = p.lags > 0;
    const i64 differences = p.differences + (p.feature_lags > 1 ? p.feature_lags - 1 : i64(0));
    const i64 norm = p.M * p.moments + p.gd + window * (4 + past + 3 * p.log);
    const i64 fleet = norm + p.prox + slow + embedding + p.log * (p.prox + embedding);
    p.factors = p.products * (p.F < FACTORS ? p.F : i64(FACTORS)), p.pairs = p.factors * (p.factors + 1) / 2;
    p.product_heads = p.products * (1 + p.log);
    p.banded = (past || p.known) && p.learned_gate && !p.heads_only;
    p.corrected = p.known ? 2 * (p.M * p.moments > 0) + p.products : 0;
    p.usual = 2 * (p.seasons && past), p.seasonal = p.seasons * (past || p.known ? 2 : 1) * SEASONAL;
    p.wide_X = rounded(p.X, 16);
    p.rows = p.M + (window && p.log);
    p.past_features = p.feature_lags > 1 ? p.features * (1 + p.feature_lags) : p.features;
    p.wide_L = rounded(p.L, 16), p.wide_N = rounded(p.N, 16), p.wide_T = rounded(p.T, 8), p.hour_T = rounded(p.T, 16);
    p.answers = rounded(p.T > GATES ? p.T : i64(GATES), 8);
    p.heads = p.B + p.prox + 2;
    p.turns = p.categories + p.effects * p.features, p.effect_places = p.categories * VALUES + p.effects * p.features * RESTING;
    return p.C == p.features + p.categories + p.cycles && p.F == p.features * (1 + differences) + p.cycles + p.categories * INDICATED + p.lags + p.usual &&
           p.L == 1 + p.F + p.K && p.N == 1 + 2 * p.F + p.K && p.X == p.products * (1 + p.F + p.pairs + p.K) && p.R % 16 == 0 && p.M <= p.decays && p.B == fleet && p.A == norm &&
           p.T == p.bases + p.B + p.A + p.product_heads + p.prox + slow && !(p.known && past) && !(p.effects && !past) && p.bases == 1 + (past || p.known) + p.seasonal + p.corrected && p.Q <= p.features + p.categories + 2;
}

// A field as Python sees it: shape without padding, bytes from one element to the next along each axis.
struct FieldInfo {
    std::string name, type;  // numpy's name of the type
    std::vector<i64> shape, strides;
    i64 at, bytes;
};

template <class T> inline const char* type_name();
template <> inline const char* type_name<double>() { return "<f8"; }
template <> inline const char* type_name<float>() { return "<f4"; }
template <> inline const char* type_name<i64>() { return "<i8"; }
template <> inline const char* type_name<u64>() { return "<u8"; }
template <> inline const char* type_name<std::int8_t>() { return "|i1"; }
template <> inline const char* type_name<std::uint8_t>() { return "|u1"; }
template <> inline const char* type_name<std::uint16_t>() { return "<u2"; }
template <> inline const char* type_name<std::int16_t>() { return "<i2"; }

// Lays out fields one after another, each at a multiple of its element; those that are read as vectors begin at a cache line.
struct Placer {
    i64 size = 0;
    bool vectors = false;
    std::vector<FieldInfo> fields;
    // lanes: what the last axis is rounded up to; room: elements beyond the last
    template <class T> void operator()(const char* name, Field<T>& field, std::vector<i64> shape, i64 lanes = 1, i64 room = 0) {
        FieldInfo info{name, type_name<T>(), shape, std::vector<i64>(shape.size()), 0, 0};
        i64 bytes = sizeof(T);
        for (std::size_t i = shape.size(); i-- > 0;) {
            info.strides[i] = bytes;
            bytes *= i + 1 == shape.size() ? rounded(shape[i], lanes) : shape[i];
        }
        info.bytes = bytes + room * static_cast<i64>(sizeof(T));
        info.at = field.at = rounded(size, lanes > 1 ? i64(64) : i64(sizeof(T)));
        size = info.at + info.bytes;
        vectors = vectors || lanes > 1;
        fields.push_back(std::move(info));
    }
    void finish() { size = rounded(size, vectors ? 64 : 8); }
};

// The order is that of the bytes: what every event touches lies side by side, wide fields last.

inline void place_fields(Placer& put, EntityFields& f, const Params& p) {
    put("n", f.n, {});
    put("time", f.time, {});
    put("unit", f.unit, {});
    put("target", f.target, {10});
    put("y_last", f.y_last, {p.lags > 1 ? p.lags : 1});
    put("missed", f.missed, {p.corrected});
    put("bin", f.bin, {BIN_NUMBERS * p.seasons});
    put("jumped", f.jumped, {});
    put("u_last", f.u_last, {p.past_features});
    put("v_mean", f.v_mean, {p.F}, 8);
    put("v_var", f.v_var, {p.F}, 8);
    put("v_count", f.v_count, {p.F}, 8);
    put("category", f.category, {7, p.turns});
    put("holding", f.holding, {HOLDINGS, p.features});
    put("loss", f.loss, {2, p.T}, 8);
    put("view", f.view, {2, GATES}, 8);
    put("W", f.W, {p.prox + (p.prox > 0), p.wide_L}, 16);
    put("lately", f.lately, {p.prox > 0 ? 1 + p.F : 0}, 16);
    put("day", f.day, {DAY_BINS * p.seasons});
    put("season", f.season, {WEEK_BINS * p.seasons});
    put.finish();
}

inline void place_fields(Placer& put, PoolFields& f, const Params& p) {
    put("n", f.n, {});
    put("entities", f.entities, {});
    put("time", f.time, {});
    put("begun", f.begun, {});
    put("low", f.low, {});
    put("high", f.high, {});
    put("ends", f.ends, {2});
    put("negative", f.negative, {});
    put("used", f.used, {});
    put("unit", f.unit, {});
    put("losses", f.losses, {});
    put("surprise", f.surprise, {3});
    put("spread", f.spread, {4});
    put("target", f.target, {10});
    put("v_mean", f.v_mean, {p.F}, 8);
    put("v_var", f.v_var, {p.F}, 8);
    put("v_count", f.v_count, {p.F}, 8);
    put("believed", f.believed, {p.features});
    put("gaps", f.gaps, {GAPS + 1});
    put("differs", f.differs, {p.Q, 2});
    put("seen", f.seen, {p.Q});
    put("dead", f.dead, {p.Q});
    put("missing", f.missing, {p.Q});
    put("other", f.other, {p.Q});
    put("top", f.top, {VIEWS}, 8);
    put("top2", f.top2, {VIEWS}, 8);
    put("view", f.view, {2, GATES}, 8);
    put("hour_view", f.hour_view, {HOURS, 2, GATES}, 8);
    put("difference_view", f.difference_view, {LEVELS, 2, GATES}, 8);
    put("level_view", f.level_view, {LEVELS, 2, GATES}, 8);
    put("carry", f.carry, {p.corrected ? 2 : 0, CORRECTED});
    put("band", f.band, {p.banded ? 2 : 0, BANDS});
    put("regret", f.regret, {2, p.T}, 8);
    put("regret2", f.regret2, {2, p.T}, 8);
    put("hour_regret", f.hour_regret, {HOURS, p.T}, 16);
    put("hour_regret2", f.hour_regret2, {HOURS, p.T}, 16);
    put("level_regret", f.level_regret, {LEVELS, p.T}, 16);
    put("level_regret2", f.level_regret2, {LEVELS, p.T}, 16);
    put("loss", f.loss, {p.T}, 8);
    put("stack_level", f.stack_level, {2});
    put("stack_kept", f.stack_kept, {2, BATCH});
    put("stack_waiting", f.stack_waiting, {});
    put("stack_R", f.stack_R, {2, p.wide_T}, 8);
    put("stack_W", f.stack_W, {2, p.wide_T}, 8);
    put("stack_batch", f.stack_batch, {BATCH, p.wide_T}, 8);
    put("stack_S", f.stack_S, {2, p.T, p.wide_T}, 8);
    put("product_n", f.product_n, {});
    put("product_of", f.product_of, {p.factors});
    put("product_waiting", f.product_waiting, {});
    put("product_level", f.product_level, {p.products});
    put("product_kept", f.product_kept, {p.products * BATCH});
    put("product_mean", f.product_mean, {p.pairs}, 8);
    put("product_var", f.product_var, {p.pairs}, 8);
    put("product_count", f.product_count, {p.pairs}, 8);
    put("product_R", f.product_R, {p.product_heads, p.wide_X}, 16);
    put("product_W", f.product_W, {p.product_heads, p.wide_X}, 16);
    put("product_batch", f.product_batch, {p.products * BATCH, p.wide_X}, 16);
    put("product_S", f.product_S, {p.X, p.wide_X}, 16);
    put("value", f.value, {p.Q, VALUES});
    put("slot", f.slot, {p.Q, VALUES});
    put("effect", f.effect, {p.effects * 2 * RESPONSE, p.effect_places});
    put("effect_known", f.effect_known, {p.effects * 2 * RESPONSE, p.effect_places});
    put("part", f.part, {p.effects * 4, p.turns});
    put.finish();
}

// which: fleet or norm scope
inline void place_fields(Placer& put, HeadFields& f, const Params& p, Which which) {
    const i64 D = which == FLEET ? p.L : p.N, n = rounded(D, 16), prox = which == FLEET ? p.prox : 0, R = which == FLEET ? p.R : 0;
    put("waiting", f.waiting, {});
    put("level", f.level, {p.rows});
    put("kept", f.kept, {p.rows, BATCH});
    put("R", f.R, {p.rows, n}, 16);
    put("W", f.W, {p.rows, n}, 16);
    put("batch", f.batch, {BATCH, n}, 16);
    put("gradient", f.gradient, {2 * prox + (prox > 0), n}, 16);
    put("embedding", f.embedding, {2, R ? R + n : 0}, 16);
    put("gd", f.gd, {n * p.gd}, 16);
    put("near", f.near, {5});
    put("S", f.S, {p.rows, D, n}, 16);
    put("held", f.held, {4, p.window});
    put("past", f.past, {p.window ? p.lags : 0, p.window});
    put("keys", f.keys, {D, p.window});
    put.finish();
}

inline void place_fields(Placer& put, IntervalFields& f) {
    put("scale", f.scale, {});
    put("width", f.width, {});
    put("tail", f.tail, {8});
    put("largest", f.largest, {2});
    put("hours", f.hours, {HOURS});
    put.finish();
}
inline void place_fields(Placer& put, DriftFields& f) {
    put("number", f.number, {DRIFT_NUMBERS});
    put("bets", f.bets, {14});
    put("histogram", f.histogram, {2, 136});
    put("waiting", f.waiting, {256});
    put.finish();
}
inline void place_fields(Placer& put, DaysFields& f, i64 features) {
    put("number", f.number, {DAY_NUMBERS});
    put("mean", f.mean, {features});
    put("base", f.base, {features});
    put.finish();
}
inline void place_fields(Placer& put, DaysPoolFields& f, i64 features) {
    put("events", f.events, {});
    put("scatter", f.scatter, {features + 1, features + 1});
    put("fourth", f.fourth, {features});
    put.finish();
}
inline void place_fields(Placer& put, HoursFields& f, i64 features) {
    put("number", f.number, {HOUR_NUMBERS});
    put("sum", f.sum, {features + HOUR_MORE});
    put("base", f.base, {features + HOUR_MORE});
    put.finish();
}
inline void place_fields(Placer& put, HoursPoolFields& f, i64 features) {
    const i64 D = features + HOUR_MORE;
    put("learned", f.learned, {HOUR_POOL_NUMBERS});
    put("scatter", f.scatter, {D, D});
    put("product", f.product, {2, D});
    put("weight", f.weight, {2, D});
    put("place", f.place, {SLOTS});
    put.finish();
}
inline void place_fields(Placer& put, NoveltyFields& f) {
    put("number", f.number, {12});
    put("smooth", f.smooth, {4, 3});
    put("slow", f.slow, {2});
    put("grid", f.grid, {13, 2});
    put("visited", f.visited, {13, 3});
    put("cell", f.cell, {WEEK, 2});
    put("range", f.range, {3, 2});
    put("week", f.week, {2});
    put("cell_events", f.cell_events, {WEEK});
    put.finish();
}
inline void place_fields(Placer& put, ShapeFields& f) {
    put("number", f.number, {SHAPE_NUMBERS});
    put("tail", f.tail, {SHAPE_TAIL});
    put("distance", f.distance, {SHAPE_SAMPLES}, 16);
    put("past", f.past, {SHAPE_SAMPLES}, 32);
    put("usual", f.usual, {SHAPE_SAMPLES});
    put.finish();
}
inline void place_fields(Placer& put, LevelsFields& f, i64 columns) {
    put("number", f.number, {6});
    const i64 beyond = rounded(2 * columns, 8) - 2 * columns;  // to whole vectors
    put("origin", f.origin, {columns});
    put("last", f.last, {columns});
    put("quantum", f.quantum, {columns});
    put("mean", f.mean, {2 * columns}, 1, beyond);
    put("base", f.base, {2 * columns}, 1, beyond);
    put("rms", f.rms, {2 * columns}, 1, beyond);
    put("visit", f.visit, {2 * columns}, 1, beyond);
    put("events", f.events, {2 * columns}, 1, beyond);
    put("crossings", f.crossings, {2 * columns}, 1, beyond);
    put.finish();
    f.size = put.size;
}
// D: inputs, with the features
inline void place_fields(Placer& put, ErrorScaleFields& f, i64 D) {
    put("number", f.number, {8});
    put("rest", f.rest, {3});
    put("value", f.value, {12});
    put("mean", f.mean, {CONTEXT});
    const i64 beyond = rounded(D, 8) - D;  // to whole vectors
    put("w", f.w, {D}, 1, beyond);
    put("v", f.v, {D}, 1, beyond);
    put("cell", f.cell, {HOURS + WEEK});
    put("visits", f.visits, {HOURS + WEEK});
    put.finish();
}
inline void place_fields(Placer& put, ErrorScalePoolFields& f, i64 D) {
    const i64 n = rounded(D, 8);
    put("number", f.number, {10 + 2 * DOUBTS});
    put("tail", f.tail, {3});
    put("w", f.w, {D}, 8);
    put("v", f.v, {D}, 8);
    put("P", f.P, {D, n}, 8);
    put.finish();
}
inline void place_fields(Placer& put, NumberFields& f, std::vector<i64> shape) {
    put("number", f.number, std::move(shape));
    put.finish();
}
inline void place_fields(Placer& put, ReferenceFields& f, const Params& p) {
    put("weights", f.weights, {p.L});
    put.finish();
}

struct ScratchFields {
    Field<double> v, season, q, scale, base, a, active, gate, made, judged, unsure, turn, taken, otherwise, g, off, least, ratio, decay, stack_rate, stack, levels, error_scale, deviation, product_raw, product_deviation;
    Field<i64> slots, flag, on, wild, places, others;
    Field<float> fleet, norm, entity, centred, size, phi, attend, past, rate, product, product_rate;
};
// Vectors write up to eight numbers at once: there is room behind what Python sees.
inline void place_fields(Placer& put, ScratchFields& f, const Params& p) {
    put("v", f.v, {p.F}, 8, 8);
    put("season", f.season, {p.seasonal});
    put("slots", f.slots, {p.Q + 2});
    put("flag", f.flag, {FLAGS});
    put("on", f.on, {2});
    put("wild", f.wild, {1});
    put("fleet", f.fleet, {p.wide_L}, 16, 16);
    put("norm", f.norm, {p.wide_N}, 16, 16);
    put("entity", f.entity, {p.wide_L}, 16, 16);
    put("centred", f.centred, {p.wide_L}, 16, 16);
    put("size", f.size, {1});
    put("phi", f.phi, {p.R}, 16);
    put("q", f.q, {ANSWERING, p.heads});
    put("scale", f.scale, {2, 4, 2});
    put("base", f.base, {BASES});
    put("a", f.a, {p.answers}, 8);
    put("active", f.active, {p.answers}, 8);
    put("gate", f.gate, {GATES, p.answers}, 8);
    put("made", f.made, {MADE}, 8);
    put("judged", f.judged, {1});
    put("unsure", f.unsure, {DOUBTS + 3});
    put("turn", f.turn, {2, p.turns});
    put("taken", f.taken, {p.C});
    put("otherwise", f.otherwise, {1});
    put("g", f.g, {p.answers}, 8);
    put("off", f.off, {p.answers}, 8);
    put("attend", f.attend, {4, p.window});
    put("least", f.least, {2, 4});
    put("past", f.past, {2, p.lags});
    put("places", f.places, {1});
    put("ratio", f.ratio, {p.F});
    put("decay", f.decay, {p.decays});
    put("rate", f.rate, {p.rows, RATES});
    put("stack_rate", f.stack_rate, {2, RATES});
    put("stack", f.stack, {p.answers}, 8);
    put("others", f.others, {SLOTS});
    put("levels", f.levels, {LEVEL_ROOMS, level_room(p.features + 1)}, 8);
    put("error_scale", f.error_scale, {SCALE_ROOMS, rounded(CONTEXT + p.features, 8)}, 8);
    put("deviation", f.deviation, {2, rounded(p.F, 8)}, 8);
    put("product", f.product, {p.wide_X}, 16, 16);
    put("product_rate", f.product_rate, {RATES});
    put("product_raw", f.product_raw, {p.pairs}, 8, 8);
    put("product_deviation", f.product_deviation, {rounded(p.pairs, 8)}, 8);
    put.finish();
}
inline Scratch scratch_in(char* row, const ScratchFields& f, const Params& p) {
    Scratch w;
    w.v = f.v.in(row), w.season = f.season.in(row), w.slots = f.slots.in(row), w.flag = f.flag.in(row), w.on = f.on.in(row), w.wild = f.wild.in(row);
    w.fleet = f.fleet.in(row), w.norm = f.norm.in(row), w.entity = f.entity.in(row), w.centred = f.centred.in(row), w.size = f.size.in(row);
    w.phi = f.phi.in(row);
    w.q = f.q.in(row), w.scale = f.scale.in(row), w.base = f.base.in(row), w.a = f.a.in(row), w.active = f.active.in(row);
    w.gate = f.gate.in(row), w.made = f.made.in(row), w.judged = f.judged.in(row), w.unsure = f.unsure.in(row), w.turn = f.turn.in(row), w.taken = f.taken.in(row), w.otherwise = f.otherwise.in(row), w.g = f.g.in(row), w.off = f.off.in(row);
    w.attend = f.attend.in(row), w.least = f.least.in(row), w.past = f.past.in(row), w.places = f.places.in(row);
    w.ratio = f.ratio.in(row), w.decay = f.decay.in(row), w.rate = f.rate.in(row), w.stack_rate = f.stack_rate.in(row);
    w.stack = f.stack.in(row), w.others = f.others.in(row), w.levels = f.levels.in(row);
    w.error_scale = f.error_scale.in(row), w.deviation = f.deviation.in(row);
    w.product = f.product.in(row), w.product_rate = f.product_rate.in(row);
    w.product_raw = f.product_raw.in(row), w.product_deviation = f.product_deviation.in(row);
    // an unknown number teaches nothing
    for (i64 j = p.F; j < rounded(p.F, 8) + 8; ++j) w.v[j] = NAN;
    for (i64 j = p.pairs; j < rounded(p.pairs, 8) + 8; ++j) w.product_raw[j] = NAN;
    return w;
}

}  // namespace ssm
