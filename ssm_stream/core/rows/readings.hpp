// Readings, each one value of one signal of an entity, to rows of all signals: the last value of each as of the row's time.
//
// What is made of an entity depends on its own readings in their order alone. Times are ms since 1970.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../sizes.hpp"

namespace ssm::rows {

constexpr i64 NO_TIME = std::numeric_limits<i64>::min();
constexpr i64 LONG_GAP = 10;     // usual gaps of a signal after which its last value is unknown by default, and as which one counts
constexpr i64 GAP_MEMORY = 16;   // gaps of a signal, over which its usual gap is a mean
constexpr i64 LATE_IN_A_ROW = 100;  // late readings after which the clock of an entity was wrong: it starts again

struct Settings {
    i64 signals = 0;           // K
    i64 every = 0;             // ms between the rows of a grid; 0: a row at each reading of signal 0
    i64 grace = 0;             // ms
    std::vector<double> ages;  // (K,) ms after which a value is unknown; NaN: by the signal's usual gap
    double forget = INFINITY;  // ms without a reading after which an entity starts afresh
};

struct Reading {
    i64 ts, signal;
    double value;
    bool bad;
};

// The last reading of a signal.
struct Last {
    i64 ts = NO_TIME;
    double value = NAN, gap = 0.0;  // ms between readings, usually
    i64 gaps = 0;                   // that it is made of
    bool bad = false;
};

struct Entity {
    i64 latest = NO_TIME;     // time of the latest reading
    i64 tick = NO_TIME;       // of the grid: the next row
    i64 used = NO_TIME;     // time of the last reading that does not wait
    i64 late = 0;           // late readings in a row
    i64 partition = -1;     // of the last reading
    std::vector<Reading> waiting;  // from `first` on, by time, at one time the readings of signal 0 last
    std::size_t first = 0;
};

// Rows that are made: columns, `values` with K a row.
struct Made {
    std::vector<i64> entity, ts, cause;  // cause: index of the reading at which the row was complete
    std::vector<double> values;
    std::vector<unsigned char> bad;      // a value of it was made unknown
    std::vector<unsigned char> held;     // with K a row: the value is that of the row before, of which there is no newer reading
    std::vector<i64> late, behind;       // readings that were not used: index, ms that they are behind
    void clear() {
        for (auto* each : {&entity, &ts, &cause, &late, &behind}) each->clear();
        values.clear();
        bad.clear();
        held.clear();
    }
};

class Readings {
  public:
    explicit Readings(Settings settings) : s_(std::move(settings)) {
        if (s_.signals < 1 || s_.every < 0 || s_.grace < 0 || static_cast<i64>(s_.ages.size()) != s_.signals)
            throw std::invalid_argument("readings: settings out of range");
    }

    i64 entities() const { return static_cast<i64>(entities_.size()); }
    std::vector<Entity>& all() { return entities_; }
    std::vector<Last>& last() { return last_; }
    Made& made() { return made_; }
    i64 overtaken() const { return overtaken_; }

    void grow(i64 count) {
        if (count <= entities()) return;
        entities_.resize(static_cast<std::size_t>(count));
        last_.resize(static_cast<std::size_t>(count * s_.signals));
    }

    // Adds a reading. index: in the rows' `cause`. Returns whether the entity's last reading was of another partition.
    bool add(i64 e, const Reading& reading, i64 index, i64 partition) {
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        const bool moved = entity.partition >= 0 && entity.partition != partition;
        entity.partition = partition;
        if (entity.latest != NO_TIME && reading.ts < entity.latest - s_.grace) {
            if (++entity.late < LATE_IN_A_ROW) {
                made_.late.push_back(index);
                made_.behind.push_back(entity.latest - reading.ts);
                return moved;
            }
            restart(e, index);
        }
        entity.late = 0;
        entity.latest = std::max(entity.latest, reading.ts);
        if (s_.grace) {
            insert(entity, reading);
            release(e, entity.latest - s_.grace, index);
        } else {
            use(e, reading, index);
        }
        return moved;
    }

    // Uses all that waits: at the end of the readings.
    void flush(i64 e, i64 index) {
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        release(e, std::numeric_limits<i64>::max(), index);
        if (s_.every && entity.latest != NO_TIME) make_until(e, entity.latest + 1, index);
    }

    // Keeps these entities, in ascending order, and no others.
    void keep(const std::vector<i64>& kept) {
        std::size_t to = 0;
        const std::size_t k = static_cast<std::size_t>(s_.signals);
        for (const i64 from : kept) {
            const std::size_t at = static_cast<std::size_t>(from);
            if (at != to) {
                entities_[to] = std::move(entities_[at]);
                std::copy_n(last_.begin() + static_cast<std::ptrdiff_t>(at * k), k, last_.begin() + static_cast<std::ptrdiff_t>(to * k));
            }
            ++to;
        }
        entities_.resize(to);
        last_.resize(to * k);
    }

  private:
    // Of one signal and time, the last to arrive counts.
    static void insert(Entity& entity, const Reading& reading) {
        std::vector<Reading>& waiting = entity.waiting;
        const auto begin = waiting.begin() + static_cast<std::ptrdiff_t>(entity.first);
        auto at = waiting.end();
        while (at != begin && before(reading, *(at - 1))) --at;
        if (at != begin && (at - 1)->ts == reading.ts && (at - 1)->signal == reading.signal) *(at - 1) = reading;
        else waiting.insert(at, reading);
    }
    // By time, then from the last signal to the first: so the readings of one time are in one order, however they arrived.
    static bool before(const Reading& a, const Reading& b) { return a.ts != b.ts ? a.ts < b.ts : a.signal > b.signal; }

    // Uses the readings that wait, and makes the rows, before a time.
    void release(i64 e, i64 until, i64 index) {
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        std::vector<Reading>& waiting = entity.waiting;
        std::size_t& n = entity.first;
        while (n < waiting.size() && waiting[n].ts < until) use(e, waiting[n++], index);
        if (2 * n >= waiting.size()) {
            waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(n));
            n = 0;
        }
        if (s_.every && until != std::numeric_limits<i64>::max()) make_until(e, until, index);
    }

    void restart(i64 e, i64 index) {
        flush(e, index);
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        const i64 partition = entity.partition;
        entity = Entity{};
        entity.partition = partition;
        forget(e);
    }
    void forget(i64 e) { std::fill_n(last_.begin() + e * s_.signals, s_.signals, Last{}); }

    // The readings of an entity in the order of their times.
    void use(i64 e, const Reading& reading, i64 index) {
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        if (s_.every) make_until(e, reading.ts, index);
        if (entity.used != NO_TIME && static_cast<double>(reading.ts - entity.used) > s_.forget) forget(e);
        if (s_.every && entity.tick < reading.ts) entity.tick = tick_from(reading.ts);
        entity.used = reading.ts;
        Last& last = last_[static_cast<std::size_t>(e * s_.signals + reading.signal)];
        if (last.ts != NO_TIME && reading.ts > last.ts) {
            double gap = static_cast<double>(reading.ts - last.ts);
            if (last.gaps > 1) gap = std::min(gap, static_cast<double>(LONG_GAP) * last.gap);
            last.gaps = std::min(last.gaps + 1, GAP_MEMORY);
            last.gap += (gap - last.gap) / static_cast<double>(last.gaps);
        }
        // Without grace a row of the same time may have been made already: what has come since is new in the next one.
        const i64 before_this = reading.signal == 0 && last.ts != NO_TIME ? last.ts - (s_.grace ? 0 : 1) : NO_TIME;
        if (!s_.grace && !s_.every && reading.signal) {
            const Last& target = last_[static_cast<std::size_t>(e * s_.signals)];
            overtaken_ += target.ts == reading.ts;
        }
        last.ts = reading.ts;
        last.value = reading.value;
        last.bad = reading.bad;
        if (!s_.every && reading.signal == 0) make(e, reading.ts, index, before_this);
    }

    // The first tick at or after a time.
    i64 tick_from(i64 ts) const {
        const i64 past = ((ts % s_.every) + s_.every) % s_.every;
        return past ? ts + (s_.every - past) : ts;
    }

    // ms after its reading from which a value is unknown
    double age(i64 k, const Last& last) const {
        const double given = s_.ages[static_cast<std::size_t>(k)];
        if (given == given) return given;
        if (last.gaps > 1) return static_cast<double>(LONG_GAP) * last.gap;
        return s_.every ? static_cast<double>(LONG_GAP * s_.every) : INFINITY;
    }

    // The rows of the grid before a time.
    void make_until(i64 e, i64 until, i64 index) {
        Entity& entity = entities_[static_cast<std::size_t>(e)];
        if (entity.tick == NO_TIME) return;
        while (entity.tick < until) {
            if (!make(e, entity.tick, index, entity.tick - s_.every)) {  // nothing is known any more, until there is another reading
                entity.tick = tick_from(until);
                return;
            }
            entity.tick += s_.every;
        }
    }

    // Makes a row; on a grid, not if it has no known value. before: readings up to then were those of the row before
    bool make(i64 e, i64 ts, i64 index, i64 before) {
        const std::size_t begin = made_.values.size();
        bool known = false, bad = false;
        for (i64 k = 0; k < s_.signals; ++k) {
            const Last& last = last_[static_cast<std::size_t>(e * s_.signals + k)];
            const bool holds = last.ts != NO_TIME && static_cast<double>(ts - last.ts) <= age(k, last);
            made_.values.push_back(holds ? last.value : NAN);
            made_.held.push_back(holds && last.ts <= before);
            known |= holds && last.value == last.value;
            bad |= holds && last.bad;
        }
        if (s_.every && !known && !bad) {
            made_.values.resize(begin);
            made_.held.resize(begin);
            return false;
        }
        made_.entity.push_back(e);
        made_.ts.push_back(ts);
        made_.cause.push_back(index);
        made_.bad.push_back(bad);
        return true;
    }

    Settings s_;
    std::vector<Entity> entities_;
    std::vector<Last> last_;  // (E, K)
    Made made_;
    i64 overtaken_ = 0;
};

}  // namespace ssm::rows
