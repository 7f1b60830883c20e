// A small learner with all its state, in memory of its own for each group: what the sanitizer finds beyond an end is a fault.
#pragma once
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "../../ssm_stream/core/bounds.hpp"

namespace fuzz {
using namespace ssm;

struct Choice {
    i64 features, categories, cycles, lags, feature_lags, window;
    bool seasons, differences, log, gd, norm, fleet, challenger;
    i64 ahead;          // events that the target lies ahead; 0: it comes with its event, −1: labels bring it
    i64 step = 60'000;  // ms; about a hundredth of the mean gap between events
    i64 chunks = 240;   // that the world is trained with
};
inline constexpr Choice CHOICES[] = {
    {3, 0, 0, 0, 0, 0, false, false, true, false, true, true, false, 0},
    {2, 1, 2, 2, 2, 0, true, true, true, true, true, true, true, 0},
    {2, 0, 0, 2, 0, 8, false, false, true, false, false, true, false, 0},
    {2, 1, 0, 0, 0, 0, false, false, false, false, true, true, true, -1},
    {1, 0, 2, 2, 0, 4, true, false, true, false, false, false, true, 2},
    {2, 1, 0, 2, 0, 0, true, false, false, false, true, true, true, 0, 500, 4'000},  // two weeks, so that hours and days are judged
};
inline constexpr i64 KINDS = sizeof CHOICES / sizeof CHOICES[0];
inline constexpr i64 ENTITIES = 3, POOLS = 2, PLACES = 4, LONGEST = 4096, ROWS = 4, EVENTS = 6;

// Memory that begins at a cache line and ends where the sanitizer's begins.
struct Block {
    std::unique_ptr<char, void (*)(void*)> memory{nullptr, std::free};
    std::vector<char> first;  // as it was when the world was made
    i64 size = 0;
    char* make(i64 bytes) {
        size = bytes;
        memory.reset(static_cast<char*>(std::aligned_alloc(64, static_cast<std::size_t>(rounded(bytes, 64)))));
        std::memset(memory.get(), 0, static_cast<std::size_t>(rounded(bytes, 64)));
        return memory.get();
    }
    void keep() { first.assign(memory.get(), memory.get() + size); }
    void restore() { std::memcpy(memory.get(), first.data(), first.size()); }
};

// A field that may be bent: so many numbers of a type.
struct Target {
    std::string type;
    std::function<char*(i64)> number;  // the place of one
    i64 count;
};

struct World {
    Choice choice;
    EngineState state{};
    LateState late{};
    std::vector<std::unique_ptr<Block>> blocks, kept;  // all; those of the state, which is made anew for each input
    std::vector<Target> targets;
    // Constants and working space.
    std::vector<double> numbers[8];
    std::vector<float> floats[4];
    double mark = NAN;
    i64 now = 1'700'000'000'000;  // ms, of the latest event
    i64 phase[6] = {}, todo[4] = {}, tally[3] = {}, room_steps[2] = {};
    double number[6] = {};
    std::vector<float> weights;
    std::vector<double> room;

    explicit World(const Choice& made) : choice(made) {
        sizes();
        constants();
        groups();
        rules();
        if (choice.ahead) waiting();
        weights.resize(static_cast<std::size_t>(state.learner.p.L));
        state.told = {phase, number, weights.data()};
    }
    void keep() {
        for (auto& block : kept) block->keep();
    }
    void restore() {
        for (auto& block : kept) block->restore();
        mark = NAN;
        std::memset(todo, 0, sizeof todo), std::memset(tally, 0, sizeof tally);
    }

  private:
    char* room_for(i64 bytes, bool state_of = true) {
        auto& list = state_of ? kept : blocks;
        list.push_back(std::make_unique<Block>());
        return list.back()->make(bytes > 0 ? bytes : 64);
    }
    void sizes() {
        Params& p = state.learner.p;
        p.features = choice.features, p.categories = choice.categories, p.cycles = choice.cycles;
        p.lags = choice.lags, p.feature_lags = choice.feature_lags, p.differences = choice.differences;
        p.seasons = choice.seasons, p.quarters = 2, p.window = choice.window, p.log = choice.log, p.gd = choice.gd;
        p.moments = p.products = 1, p.M = p.decays = 2, p.prox = 2, p.R = 16, p.K = 8, p.learned_gate = 1;
        p.C = p.features + p.categories + p.cycles;
        p.Q = p.features + p.categories + 2;
        p.step_hour = p.step_weekday = BY_RULE;
        p.F = p.features * (1 + p.differences + (p.feature_lags > 1 ? p.feature_lags - 1 : 0)) + p.cycles + p.categories * INDICATED + p.lags + 2 * (p.seasons && p.lags > 0);
        p.L = 1 + p.F + p.K, p.N = 1 + 2 * p.F + p.K;
        p.effects = p.lags > 0 && p.categories > 0, p.known = p.lags == 0, p.ahead = 3.6e6;
        p.bases = 2 + 6 * p.seasons + 3 * p.known;
        p.A = p.M + p.gd + (p.window ? 4 + (p.lags > 0) + 3 * p.log : 0);
        p.B = p.A + p.prox + 1 + 1 + p.log * (p.prox + 1);
        const i64 factors = p.F < FACTORS ? p.F : FACTORS;
        p.X = 1 + p.F + factors * (factors + 1) / 2 + p.K;
        p.T = p.bases + p.B + p.A + 1 + p.log + p.prox + 1;
        p.slow_step = 0.02, p.embedding_step = 0.2, p.top_decay = 0.99;
        p.product_decay = 0.999, p.product_ridge = 0.6, p.product_huber = 1.3;
        if (!complete(p)) std::abort();
    }
    void constants() {
        Params& p = state.learner.p;
        u64 seed = 1;
        const auto random = [&] {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            return static_cast<double>(seed >> 40) / (1 << 24);
        };
        const auto drawn = [&](auto& into, i64 n) {
            for (i64 i = 0; i < n; ++i) into.push_back(static_cast<float>(2.0 * random() - 1.0));
            return into.data();
        };
        p.half_life = (numbers[0] = {0.0, 3.6e6}).data(), p.decay = (numbers[1] = {0.999, 0.0}).data();
        p.ridge = (floats[0] = {1.0f, 10.0f}).data(), p.huber = (floats[1] = {1.0f, 1.0f}).data();
        p.steps = (numbers[2] = {0.1, 0.5}).data(), p.surprise = (numbers[3] = {0.5, 0.1, 0.05}).data();
        p.poly_decay = (numbers[4] = {0.99, 0.999}).data();
        p.soft = (numbers[5] = {2.0, 0.97, 5.0, 0.01, 8.0, 0.99, 5.0, 0.01}).data();
        p.sweep_decay = (numbers[6] = {0.99, 0.999}).data(), p.sweep_ridge = p.sweep_huber = (numbers[7] = {1.0, 0.1}).data();
        p.omega = drawn(floats[2], (p.F + SLOTS) * p.R);
        p.phase = drawn(floats[3], p.R);
    }
    template <class Fields, class... More> Table table(Fields& fields, i64 rows, More&&... more) {
        Placer put;
        place_fields(put, fields, more...);
        Table out{rows ? room_for(put.size * rows) : nullptr, put.size, rows};
        for (const FieldInfo& field : put.fields) {
            i64 count = rows;
            for (i64 n : field.shape) count *= n;
            if (!count) continue;
            targets.push_back({field.type, [out, field](i64 i) {
                char* at = out.base + field.at;
                for (std::size_t axis = field.shape.size(); axis-- > 0; i /= field.shape[axis]) at += i % field.shape[axis] * field.strides[axis];
                return at + i * out.stride;
            }, count});
        }
        return out;
    }
    void groups() {
        LearnerState& l = state.learner;
        const Params& p = l.p;
        const i64 pools = choice.fleet ? POOLS : ENTITIES;
        l.entity = table(l.entity_fields, ENTITIES, p);
        l.pool = table(l.pool_fields, pools, p);
        l.fleet = table(l.fleet_fields, pools, p, FLEET);
        l.norm = table(l.norm_fields, choice.norm ? pools : 0, p, NORM);
        MonitorState& m = state.monitor;
        m.interval = table(m.interval_fields, ENTITIES);
        m.drift = table(m.drift_fields, ENTITIES);
        m.novelty = table(m.novelty_fields, ENTITIES);
        m.shape = table(m.shape_fields, ENTITIES);
        m.levels = table(m.levels_fields, ENTITIES, p.features + 1);
        m.episodes = table(m.episode_fields, ENTITIES, std::vector<i64>{2, EPISODE_NUMBERS});
        m.clock = table(m.clock_fields, ENTITIES, std::vector<i64>{4});
        m.reference = table(m.reference_fields, ENTITIES, p);
        m.error_scale = table(m.error_scale_fields, ENTITIES, CONTEXT + p.features);
        m.error_scale_pool = table(m.error_scale_pool_fields, pools, CONTEXT + p.features);
        m.days = table(m.days_fields, ENTITIES, p.features);
        m.days_pool = table(m.days_pool_fields, pools, p.features);
        m.hours = table(m.hours_fields, ENTITIES, p.features);
        m.hours_pool = table(m.hours_pool_fields, pools, p.features);
        l.w = scratch();
        if (choice.challenger) challenger(pools);
    }
    Scratch scratch() {
        const Params& p = state.learner.p;
        Placer put;
        ScratchFields fields;
        place_fields(put, fields, p);
        const Scratch out = scratch_in(room_for(put.size, false), fields, p);
        for (i64 b = 0; b < p.window; ++b) out.attend[ONES * p.window + b] = 1.0f;
        return out;
    }
    template <class Fields, class... More> std::size_t bytes(Fields fields, More&&... more) {
        Placer put;
        place_fields(put, fields, more...);
        return static_cast<std::size_t>(put.size);
    }
    void challenger(i64 pools) {
        Challenger& c = state.challenger;
        LearnerState& l = c.learner;
        const Params& p = l.p = state.learner.p;
        l.entity = table(l.entity_fields, ENTITIES, p);
        l.pool = table(l.pool_fields, pools, p);
        l.fleet = table(l.fleet_fields, pools, p, FLEET);
        l.norm = table(l.norm_fields, choice.norm ? pools : 0, p, NORM);
        l.w = scratch();
        c.trial = table(c.trial_fields, pools, std::vector<i64>{TRIAL_NUMBERS});
        c.entity_bytes = bytes(l.entity_fields, p), c.pool_bytes = bytes(l.pool_fields, p);
        c.fleet_bytes = bytes(l.fleet_fields, p, FLEET), c.norm_bytes = bytes(l.norm_fields, p, NORM);
        for (i64 k = 0; k < pools; ++k) {  // one is on trial, the next one's has been won
            double* trial = c.trial_fields.number.in(c.trial.row(k));
            trial[0] = 1.0 + static_cast<double>(k % 2), trial[1] = trial[2] = 1e5;
        }
    }
    void rules() {
        Rules& r = state.rules;
        r.warmup = 5, r.level = 0.9, r.ttl = 1e12, r.anomaly = r.drift = true;
        r.anomaly_events = 50, r.drift_seconds = 86400;
        for (bool& channel : r.channels) channel = true;
        r.learn[0] = 1, r.learn[1] = 2, r.consecutive = 1, r.ongoing_every = 3;
        for (int i = 0; i < 2; ++i) r.recover_after[i] = 2, r.cooldown[i] = 1;
    }
    template <class T> T* ring(i64 each, bool bent = true) {
        const i64 count = ENTITIES * each;
        char* at = room_for(count * static_cast<i64>(sizeof(T)));
        if (bent && count) targets.push_back({type_name<T>(), [at](i64 i) { return at + i * static_cast<i64>(sizeof(T)); }, count});
        return reinterpret_cast<T*>(at);
    }
    void waiting() {
        const Params& p = state.learner.p;
        const bool labels = choice.ahead < 0;
        late.late = {labels, true, 1e12, PLACES, choice.fleet, labels ? 0 : choice.ahead, 0.0, 0.0};
        using i8 = std::int8_t;
        late.q = {PLACES, ring<i64>(1), ring<i64>(1), ring<i8>(PLACES), ring<i64>(PLACES), ring<i64>(PLACES),
                  ring<i64>(PLACES), ring<i8>(PLACES * RECORD_FLAGS), ring<double>(RECORD_NUMBERS * PLACES), ring<double>(PLACES * (p.F + p.features)),
                  ring<double>(PLACES * 3 * p.categories), ring<i8>(2 * PLACES), ring<double>(BASES * PLACES), ring<i64>(PLACES),
                  ring<double>(PLACES * p.T), ring<i8>(PLACES * p.T), ring<double>(PLACES * MADE),
                  ring<float>(2 * PLACES * (p.window ? p.lags : 0))};
        late.challenger = late.q;
        if (choice.challenger) {
            PendingTables& of = late.challenger;
            of.flag = ring<i8>(PLACES * RECORD_FLAGS), of.v = ring<double>(PLACES * (p.F + p.features)), of.base = ring<double>(BASES * PLACES);
            of.at = ring<i64>(PLACES), of.a = ring<double>(PLACES * p.T), of.active = ring<i8>(PLACES * p.T);
            of.made = ring<double>(PLACES * MADE), of.past = ring<float>(2 * PLACES * (p.window ? p.lags : 0));
            late.predicted = ring<double>(PLACES * PREDICTED);
        }
        room.resize(static_cast<std::size_t>(p.C));
        late.room = {room.data(), room_steps};
        const auto made = [&](auto* type) { return reinterpret_cast<decltype(type)>(room_for(ROWS * 8, false)); };
        double* real = nullptr;
        i64* whole = nullptr;
        bool* flag = nullptr;
        late.settled = {ROWS, made(whole), made(whole), made(real), made(real), made(real), made(real), made(real), made(flag), made(whole), made(real)};
        late.todo = todo, late.tally = tally;
    }
};

}  // namespace fuzz
