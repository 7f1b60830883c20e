// Events for a world, made of bytes, and how they are processed.
#pragma once
#include "world.hpp"

namespace ssm::SSM_ISA {
extern const Functions functions;
}

namespace fuzz {
inline const Functions& core = SSM_ISA::functions;

// The input, a number at a time; zeros once it has come to its end.
struct Input {
    const std::uint8_t* at;
    std::size_t left;
    template <class T> T next() {
        T value{};
        const std::size_t n = left < sizeof(T) ? left : sizeof(T);
        if (n) std::memcpy(&value, at, n);
        at += n, left -= n;
        return value;
    }
};

// Columns of events, as the decoder would hand them over: finite numbers or NaN, calendar steps, times in ms.
struct Chunk {
    std::vector<i64> pool, row, ts, steps, own, key, n;
    std::vector<double> u, y, yhat, lower, upper, score, fleet;
    std::unique_ptr<bool[]> warmup{new bool[64]};
    Chunk(const World& world, Input& input, i64 count) {
        const Params& p = world.state.learner.p;
        i64 ts_now = world.now;
        const auto real = [&]() -> double {
            const unsigned how = input.next<std::uint8_t>();
            if (how < 200) return static_cast<double>(how) / 16 - 5;
            if (how < 210) return NAN;
            if (how < 230) return static_cast<double>(static_cast<std::int8_t>(input.next<std::uint8_t>()));
            const float raw = input.next<float>();
            return std::fabs(raw) <= 3.4e38f ? static_cast<double>(raw) : NAN;
        };
        for (i64 t = 0; t < count; ++t) {
            const unsigned who = input.next<std::uint8_t>(), gap = input.next<std::uint8_t>();
            const i64 e = who % ENTITIES;
            row.push_back(e), pool.push_back(world.choice.fleet ? (world.choice.norm ? who / ENTITIES % POOLS : 0) : e);
            ts_now += gap < 250 ? world.choice.step * static_cast<i64>(gap) : input.next<std::int32_t>() * i64(1000);
            ts.push_back(ts_now), key.push_back(gap % 4);
            const i64 hour = ts_now < 0 ? 0 : ts_now / 3'600'000;
            for (auto* of : {&steps, &own}) of->push_back(hour % 24), of->push_back(hour / 24 % 7);
            for (i64 j = 0; j < p.C; ++j) u.push_back(real());
            y.push_back(real());
        }
        for (auto* of : {&yhat, &lower, &upper, &score, &fleet}) of->resize(static_cast<std::size_t>(count));
        n.resize(static_cast<std::size_t>(count));
    }
    Events events(const World& world) const {
        return {static_cast<i64>(y.size()), ENTITIES, world.state.learner.pool.rows, pool.data(), row.data(), ts.data(), u.data(),
                steps.data(), own.data(), y.data(), key.data()};
    }
    Predictions out() { return {yhat.data(), lower.data(), upper.data(), score.data(), warmup.get(), n.data(), fleet.data()}; }
};

inline void reset(World& world, i64 e) {
    const MonitorState& m = world.state.monitor;
    const Table* const tables[] = {&world.state.learner.entity, &m.clock, &m.novelty, &m.drift, &m.days, &m.hours};
    for (const Table* table : tables)
        std::memset(table->row(e), 0, static_cast<std::size_t>(table->stride));
}

// Goes on as the engine does: after a report with the next event, after an expiry with a new entity; else it needs room.
inline void process(World& world, Chunk& chunk, bool predicting) {
    const Events events = chunk.events(world);
    i64 start = 0;
    for (int stops = 0; stops < 64; ++stops) {
        const Stop stop = world.choice.ahead ? core.run_late(world.state, world.late, events, start, &world.mark, chunk.out(), predicting)
                                             : core.run(world.state, events, start, &world.mark, chunk.out());
        if (stop.why == EXPIRED) reset(world, events.row_of[stop.at]);
        else if (stop.why == MORE_ROWS) world.todo[2] = 0;
        else if (stop.why != REPORT) return;
        start = stop.at;
    }
}

// A world after some thousand events. seen: is called with what each chunk of them was answered
template <class Seen> std::unique_ptr<World> trained(const Choice& choice, Seen seen) {
    auto world = std::make_unique<World>(choice);
    std::vector<std::uint8_t> noise;
    u64 seed = 7;
    for (i64 i = 0; i < 170 * choice.chunks; ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        noise.push_back(static_cast<std::uint8_t>((seed >> 40) % 200));
    }
    Input input{noise.data(), noise.size()};
    for (i64 i = 0; i < choice.chunks; ++i) {
        Chunk chunk(*world, input, EVENTS);
        world->now = chunk.ts.back();
        if (!choice.norm) std::fill(chunk.row.begin(), chunk.row.end(), 0), std::fill(chunk.pool.begin(), chunk.pool.end(), 0);
        process(*world, chunk, true);
        if (choice.ahead < 0) process(*world, chunk, false);
        seen(chunk.yhat.data(), 8 * chunk.yhat.size());
        std::memset(world->todo, 0, sizeof world->todo);
    }
    world->keep();
    return world;
}

}  // namespace fuzz
