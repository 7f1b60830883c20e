// Rows of state whose content comes from outside: numbers of a trained state are bent, the bounds are checked as when a
// snapshot is loaded, and what passes goes on with events. None may lead outside of an array, or take for ever.
#include "events.hpp"

namespace {
using namespace fuzz;

constexpr double REALS[] = {0.0, -1.0, 1.0, 0.5, 20.0, 64.0, 255.0, 4096.0, 1e15, 1e18, -1e18, 1e300, -1e300, 5e-324, NAN, INFINITY, -INFINITY};
constexpr i64 WHOLES[] = {0, 1, -1, 2, 3, 8, 32, 100, 255, 256, 4096, 1'000'000'000'000'000, INT64_MAX, INT64_MIN};

void bend(World& world, Input& input) {
    const Target& target = world.targets[input.next<std::uint16_t>() % world.targets.size()];
    char* at = target.number(static_cast<i64>(input.next<std::uint16_t>()) % target.count);
    const unsigned how = input.next<std::uint8_t>();
    const char kind = target.type[1];
    if (how < 64) {
        const u64 raw = input.next<u64>();
        std::memcpy(at, &raw, static_cast<std::size_t>(target.type[2] - '0'));
    } else if (kind == 'f') {
        const double value = REALS[how % (sizeof REALS / 8)] + (how & 128 ? static_cast<double>(input.next<std::int16_t>()) / 64 : 0.0);
        const float narrow = static_cast<float>(value);
        if (target.type[2] == '8') std::memcpy(at, &value, 8);
        else std::memcpy(at, &narrow, 4);
    } else {
        const i64 value = WHOLES[how % (sizeof WHOLES / 8)];
        std::memcpy(at, &value, static_cast<std::size_t>(target.type[2] - '0'));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static std::unique_ptr<World> worlds[KINDS];
    Input input{data, size};
    const std::size_t kind = input.next<std::uint8_t>() % KINDS;
    if (!worlds[kind]) worlds[kind] = trained(CHOICES[kind], [](const void*, std::size_t) {});
    World& world = *worlds[kind];
    world.restore();
    for (i64 i = input.next<std::uint8_t>() % 8; i > 0; --i) bend(world, input);
    const LearnerState& l = world.state.learner;
    if (!out_of_bounds(world.state, ENTITIES, l.pool.rows).empty()) return 0;
    for (const PendingTables* records : {&world.late.q, &world.late.challenger})
        if (world.choice.ahead && !out_of_bounds(*records, l.p, ENTITIES, world.choice.fleet ? l.pool.rows : -1, LONGEST, l.norm.rows > 0).empty())
            return 0;
    Chunk chunk(world, input, 1 + input.next<std::uint8_t>() % EVENTS);
    process(world, chunk, true);
    if (world.choice.ahead < 0) process(world, chunk, false);
    return 0;
}
