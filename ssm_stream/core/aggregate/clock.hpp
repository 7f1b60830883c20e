// How far the events of a source have come, in event time, whatever single clocks say.
//
// The clock is the median of the latest times of the entities that came last, RING at most, and goes forward only; `progress` is
// what it has gone. A jump that no third entity confirms is no progress.
#pragma once
#include <algorithm>
#include <array>

#include "../sizes.hpp"

namespace ssm::aggregate {

constexpr i64 RING = 9, JUMP_WINDOWS = 60, DAY = 86'400'000;

struct Clock {
    struct Member { i64 row, time, turn; };
    std::array<Member, RING> members{};
    i64 held = 0, turn = 0, median = 0, progress = 0;

    // An event of an entity, whose latest time is `time`. jump, back: ms, from which on a step is no step of the same time
    void move(i64 row, i64 time, i64 jump, i64 back) {
        const bool first = turn++ == 0;
        i64 place = -1, oldest = 0;
        for (i64 k = 0; k < held; ++k) {
            if (at(k).row == row) place = k;
            if (at(k).turn < at(oldest).turn) oldest = k;
        }
        // One that has been away for long makes room, so that those that are left are the clock.
        const bool stale = held > 1 && turn - at(oldest).turn > 8 * held;
        if (place < 0) place = held < RING && !stale ? held++ : oldest;
        else if (stale && oldest != place) {
            at(oldest) = at(--held);
            if (place == held) place = oldest;
        }
        at(place) = {row, time, turn};
        std::array<i64, RING> times{};
        for (i64 k = 0; k < held; ++k) times[static_cast<std::size_t>(k)] = at(k).time;
        const auto middle = times.begin() + (held - 1) / 2;
        std::nth_element(times.begin(), middle, times.begin() + held);
        if (first || *middle < median - back) median = *middle;
        if (*middle <= median) return;
        if (held > 2 || *middle - median <= jump) progress += *middle - median;
        median = *middle;
    }
    void leave(i64 row) {
        for (i64 k = 0; k < held; ++k)
            if (at(k).row == row) {
                at(k) = at(--held);
                return;
            }
    }

  private:
    Member& at(i64 k) { return members[static_cast<std::size_t>(k)]; }
};

}  // namespace ssm::aggregate
