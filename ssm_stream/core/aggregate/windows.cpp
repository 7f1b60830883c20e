// Windows: the events of an entity in each span of event time become a row. All is a matter of one event after the other, so
// that no cut of the messages into batches changes it; only `window_rows.py` decides what the values are.
//
// An entity has a time of its own: that of its events, and while it sends none, as far beyond as the clock of its source has come
// (`clock.hpp`). A window is closed once that time is `grace` past its end. So an entity whose clock is wrong closes no window of
// another; and a single event far from the others of its entity is not believed before the next one confirms it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <queue>
#include <tuple>
#include <utility>
#include <vector>

#include "../array.hpp"
#include "../monitor/silence.hpp"
#include "clock.hpp"
#include "exact_sum.hpp"
#include "quantiles.hpp"

namespace ssm {
namespace aggregate {

constexpr i64 NEVER = INT64_MIN / 4, FAR_WINDOWS = 8, LEAST_EMPTY = 100, MOST_EMPTY = 10'000, MOST_FIELDS = 1 << 16;
enum Operation : i64 { COUNT, MET, SHARE, SUM, MEAN, LEAST, MOST, LAST, QUANTILE };
enum Refusal : i64 { LATE, AHEAD };

// A column of the rows. at: of the values, or of the conditions; parts: of a quantile, of 100,000
struct Column { i64 operation, at, parts; };
struct Uses { bool sum = false, quantiles = false; };

// The known values of a field in a window. known −1: the field is aggregated only since the window was open, and unknown in it.
struct Series {
    i64 known = 0, last_ts = 0;
    double least = NAN, most = NAN, last = NAN;
    ExactSum sum;
    Quantiles quantiles;

    void add(double x, i64 ts, const Uses& uses) {
        if (known < 0) return;
        if (!known || x < least) least = x;
        if (!known || x > most) most = x;
        if (!known || ts >= last_ts) last = x, last_ts = ts;
        ++known;
        if (uses.sum) sum.add(x);
        if (uses.quantiles) quantiles.add(x);
    }
    void clear() {
        known = 0;
        sum.clear();
        quantiles.clear();
    }
    // What its columns need from now on, of a window that was begun for others. before, uses: of the former and the present ones
    void refit(const Uses& before, const Uses& uses) {
        if (known > 0 && uses.sum && !before.sum) sum.lose();
        if (known > 0 && uses.quantiles && !before.quantiles) quantiles.lose();
        if (!uses.sum) sum.clear();
        if (!uses.quantiles) quantiles.clear();
    }
    std::size_t memory() const { return sum.memory() + quantiles.memory(); }
    template <class Stream> void each(Stream& stream) {
        stream(known), stream(last_ts), stream(least), stream(most), stream(last), stream(sum.partials());
        quantiles.each(stream);
    }
};

struct Window {
    i64 index = 0, count = 0;
    std::vector<Series> series;
    std::vector<i64> met;
};

struct Entity {
    i64 born = 0;                        // place among all that were; 0: no such entity
    i64 time = NEVER, far = NEVER;       // of its events; of an event far from them that nothing has confirmed yet
    i64 since = 0;                       // progress of the clock from which on its time goes beyond `time`
    i64 closed = NEVER;                  // windows before this one are closed
    i64 last = NEVER, windows = 0;       // last closed window with events; how many there were
    i64 key = INT64_MAX;                 // its earliest place in the queue
    i64 running = 0;                     // whether empty windows follow
    std::vector<std::unique_ptr<Window>> open;  // by index
};

// A row, and the event that closed its window.
struct Row { i64 event, row, index, count; };
struct Refused { i64 event, why, behind; };

// Bytes of a state, and what they are read into.
struct Writer {
    std::string out;
    template <class T> void operator()(T& value) { out.append(reinterpret_cast<const char*>(&value), sizeof(T)); }
    template <class T> void operator()(std::vector<T>& values) {
        i64 n = static_cast<i64>(values.size());
        (*this)(n);
        out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    }
};
struct Loader {
    const char* at;
    const char* end;
    template <class T> void operator()(T& value) { read(&value, sizeof(T)); }
    template <class T> void operator()(std::vector<T>& values) {
        values.resize(length(sizeof(T)));
        read(values.data(), values.size() * sizeof(T));
    }
    std::size_t length(std::size_t each) {
        i64 n = 0;
        (*this)(n);
        if (n < 0 || static_cast<std::size_t>(n) > static_cast<std::size_t>(end - at) / each) throw nb::value_error("windows: the state is damaged");
        return static_cast<std::size_t>(n);
    }

  private:
    void read(void* into, std::size_t bytes) {
        if (static_cast<std::size_t>(end - at) < bytes) throw nb::value_error("windows: the state is damaged");
        if (bytes) std::memcpy(into, at, bytes);
        at += bytes;
    }
};

// The windows of the entities of one source.
class Windows {
  public:
    // every, grace: ms; empty: windows without events after which an entity has none any more, at most; columns: as `Column`
    Windows(i64 every, i64 grace, i64 empty, i64 values, i64 conditions, nb::list columns)
        : every_(every), grace_(grace), empty_(empty), jump_(JUMP_WINDOWS * every + grace), back_(std::max(DAY, jump_)), conditions_(conditions),
          uses_(static_cast<std::size_t>(values)) {
        if (every < 1 || grace < 0 || empty < 1 || values < 0 || conditions < 0) throw nb::value_error("windows: no such sizes");
        for (nb::handle each : columns) {
            const auto [operation, at, parts] = nb::cast<std::tuple<i64, i64, i64>>(each);
            const bool condition = operation == MET || operation == SHARE;
            if (operation < COUNT || operation > QUANTILE || at < 0 || (operation != COUNT && at >= (condition ? conditions : values)))
                throw nb::value_error("windows: no such column");
            columns_.push_back({operation, at, parts});
            if (operation == SUM || operation == MEAN) uses_[static_cast<std::size_t>(at)].sum = true;
            if (operation == QUANTILE) uses_[static_cast<std::size_t>(at)].quantiles = true;
        }
        most_open_ = static_cast<std::size_t>(grace / every + 2 + FAR_WINDOWS);
    }
    Windows(const Windows&) = delete;

    // rows, ts (n,) ms, values (n, V), NaN = unknown, conditions (n, C), which are met. Returns what was closed, see `results`
    nb::tuple add(nb::handle rows_, nb::handle ts_, nb::handle values_, nb::handle conditions_array, i64 entities) {
        const Array<i64> rows(rows_, "rows", {-1});
        const i64 n = rows.size(), wide = static_cast<i64>(uses_.size());
        const Array<i64> ts(ts_, "ts", {n});
        const Array<double> values(values_, "values", {n, wide});
        const Array<bool> met(conditions_array, "conditions", {n, conditions_});
        if (entities > size()) grow(entities);
        for (i64 i = 0; i < n; ++i)
            if (rows[i] < 0 || rows[i] >= static_cast<i64>(entities_.size())) throw nb::index_error("no such entity");
        {
            nb::gil_scoped_release free;
            for (i64 i = 0; i < n; ++i) step(i, rows[i], ts[i], wide ? &values[i * wide] : nullptr, conditions_ ? &met[i * conditions_] : nullptr);
        }
        return results();
    }
    // Closes every window that has events, as at the end of all events.
    nb::tuple flush() {
        std::priority_queue<Entry, std::vector<Entry>, Later> order;
        const auto push = [&](i64 row) {
            if (!at(row).open.empty()) order.emplace(next(at(row)), at(row).born, row);
        };
        for (i64 row = 0; row < static_cast<i64>(entities_.size()); ++row) push(row);
        while (!order.empty()) {
            const i64 row = std::get<2>(order.top());
            order.pop();
            close(0, row);
            push(row);
        }
        return results();
    }
    // Ends the empty windows of entities that count as silent, until their next events. The rule is that of the alert, on the
    // windows that have events: see `silence.hpp`.
    void until_silent(double events, double ms, double after) {
        rule_ = {events, ms, after, 1, false};
        judged_ = true;
        source_ = silence::new_source();
    }
    // Forgets the rows without an entity, and returns the new row of each, or −1, as int64; nothing if they are few.
    nb::object compact(bool always) {
        if (!always && (2 * free_ < entities_.size() || entities_.size() < 64)) return nb::none();
        std::vector<i64> place(entities_.size(), -1);
        std::vector<Entity> kept;
        for (std::size_t row = 0; row < entities_.size(); ++row)
            if (entities_[row].born) {
                if (judged_) std::copy_n(silent_.begin() + static_cast<i64>(row) * silence::ENTITY, silence::ENTITY, silent_.begin() + static_cast<i64>(kept.size()) * silence::ENTITY);
                place[row] = static_cast<i64>(kept.size());
                kept.push_back(std::move(entities_[row]));
            }
        entities_ = std::move(kept);
        for (i64 k = 0; k < clock_.held; ++k) {
            i64& row = clock_.members[static_cast<std::size_t>(k)].row;
            row = place[static_cast<std::size_t>(row)];
        }
        if (judged_) {
            silent_.resize(entities_.size() * silence::ENTITY);
            for (i64 k = 0; k < silence::RING; ++k)
                if (double& row = source_[silence::ROWS + k]; row >= 0.0) row = static_cast<double>(place[static_cast<std::size_t>(row)]);
        }
        free_ = 0;
        requeue();
        return bytes_of(place);
    }
    i64 size() const { return static_cast<i64>(entities_.size()); }
    // Bytes of memory of the open windows and of their entities.
    i64 memory() const {
        std::size_t out = entities_.capacity() * sizeof(Entity);
        const auto add = [&](const Window& window) {
            out += sizeof(Window) + window.series.capacity() * sizeof(Series) + window.met.capacity() * sizeof(i64);
            for (const Series& each : window.series) out += each.memory();
        };
        for (const Entity& entity : entities_)
            for (const auto& window : entity.open) add(*window);
        for (const auto& window : pool_) add(*window);
        return static_cast<i64>(out);
    }

    nb::bytes dump() {
        Writer writer;
        writer(every_), writer(conditions_), writer(columns_);
        each(writer);
        std::vector<double> silent(silent_);
        for (std::size_t k = silence::KEY; k < silent.size(); k += silence::ENTITY) silent[k] = INFINITY;  // what waits is found again
        writer(silent), writer(source_);
        i64 n = size();
        writer(n);
        for (Entity& entity : entities_) {
            each(writer, entity);
            i64 open = static_cast<i64>(entity.open.size());
            writer(open);
            for (auto& window : entity.open) each(writer, *window);
        }
        return nb::bytes(writer.out.data(), writer.out.size());
    }
    // A state of these columns, or of others: fields_, conditions_of: of each value and condition its place in the state, or −1.
    // What an open window has not gathered from its begin is unknown in it.
    void load(nb::bytes state, nb::list fields_, nb::list conditions_of) {
        Loader loader{state.c_str(), state.c_str() + state.size()};
        i64 every = 0, conditions = 0;
        std::vector<Column> columns;
        loader(every), loader(conditions), loader(columns);
        std::vector<Uses> before;
        for (const Column& column : columns) {
            const bool of_field = column.operation > SHARE || column.operation < COUNT;
            if (column.operation < COUNT || column.operation > QUANTILE || column.at < 0 || column.at >= MOST_FIELDS) throw nb::value_error("windows: the state is damaged");
            if (!of_field) continue;
            const auto k = static_cast<std::size_t>(column.at);
            if (k >= before.size()) before.resize(k + 1);
            if (column.operation == SUM || column.operation == MEAN) before[k].sum = true;
            if (column.operation == QUANTILE) before[k].quantiles = true;
        }
        const std::vector<i64> fields = places(fields_, uses_.size(), static_cast<i64>(before.size()));
        const std::vector<i64> tests = places(conditions_of, static_cast<std::size_t>(conditions_), conditions);
        if (every != every_ || conditions < 0 || conditions > MOST_FIELDS) throw nb::value_error("windows: the state is of other windows");
        each(loader);
        std::vector<double> silent;
        loader(silent), loader(source_);
        entities_.clear();
        silent_.clear();
        grow(static_cast<i64>(loader.length(8)));
        // Under another rule, or none before, gaps are counted anew.
        if (judged_ && silent.size() == silent_.size()) silent_ = std::move(silent);
        else source_.clear();
        if (judged_ && source_.size() != silence::SOURCE) source_ = silence::new_source();
        for (Entity& entity : entities_) {
            each(loader, entity);
            entity.open.resize(loader.length(8));
            for (auto& window : entity.open) {
                Window held{0, 0, std::vector<Series>(before.size()), std::vector<i64>(static_cast<std::size_t>(conditions))};
                each(loader, held);
                window = fresh(held.index);
                window->count = held.count;
                for (std::size_t k = 0; k < uses_.size(); ++k) {
                    Series& series = window->series[k];
                    if (fields[k] < 0) series.known = held.count ? -1 : 0;
                    else series = std::move(held.series[static_cast<std::size_t>(fields[k])]), series.refit(before[static_cast<std::size_t>(fields[k])], uses_[k]);
                }
                for (std::size_t k = 0; k < tests.size(); ++k) window->met[k] = tests[k] >= 0 ? held.met[static_cast<std::size_t>(tests[k])] : held.count ? -1 : 0;
            }
        }
        if (loader.at != loader.end || clock_.held < 0 || clock_.held > RING) throw nb::value_error("windows: the state is damaged");
        for (i64 k = 0; k < clock_.held; ++k) {
            const i64 row = clock_.members[static_cast<std::size_t>(k)].row;
            if (row < 0 || row >= size()) throw nb::value_error("windows: the state is damaged");
        }
        free_ = 0;
        for (const Entity& entity : entities_) {
            free_ += entity.born == 0;
            bool good = near(entity.time) && near(entity.far) && near(entity.since) && near_window(entity.closed) && near_window(entity.last);
            i64 before = NEVER;
            for (const auto& window : entity.open) good = good && window->index > std::exchange(before, window->index) && near_window(window->index);
            if (!good || !near(clock_.median) || !near(clock_.progress)) throw nb::value_error("windows: the state is damaged");
        }
        requeue();
    }

  private:
    // Places in a state, as it was checked to have so many; −1: none.
    static std::vector<i64> places(nb::list given, std::size_t size, i64 most) {
        std::vector<i64> out;
        for (nb::handle each : given) out.push_back(nb::cast<i64>(each));
        bool good = out.size() == size;
        for (i64 place : out) good = good && place >= -1 && place < most;
        if (!good) throw nb::value_error("windows: the state is of other windows");
        return out;
    }
    using Entry = std::tuple<i64, i64, i64>;  // when, born, row
    struct Later { bool operator()(const Entry& a, const Entry& b) const { return a > b; } };

    // Whether a time of a state, ms, or a window, may be one.
    static bool near(i64 ms) { return ms == NEVER || (ms > -(i64(1) << 54) && ms < i64(1) << 54); }
    bool near_window(i64 index) const { return index == NEVER || (index > -(i64(1) << 54) / every_ && index < (i64(1) << 54) / every_); }

    Entity& at(i64 row) { return entities_[static_cast<std::size_t>(row)]; }
    i64 window_of(i64 ts) const { return ts / every_ - (ts % every_ < 0 ? 1 : 0); }
    i64 end_of(i64 index) const { return (index + 1) * every_; }

    void grow(i64 entities) {
        entities_.resize(static_cast<std::size_t>(entities));
        if (!judged_) return;
        for (i64 row = static_cast<i64>(silent_.size()) / silence::ENTITY; row < entities; ++row) {
            silent_.resize(silent_.size() + silence::ENTITY);
            silence::clear(&silent_[static_cast<std::size_t>(row * silence::ENTITY)]);
        }
    }

    void step(i64 i, i64 row, i64 ts, const double* values, const bool* met) {
        Entity& e = at(row);
        if (!e.born) e.born = ++births_;
        const i64 before = e.time;
        const bool believed = believe(i, row, e, ts);
        const i64 index = window_of(ts);
        if (index < e.closed) {
            refused_.push_back({i, LATE, e.closed * every_ - ts});
        } else if (Window* window = find(e, index)) {
            ++window->count;
            for (std::size_t k = 0; k < uses_.size(); ++k)
                if (values[k] == values[k]) window->series[k].add(values[k], ts, uses_[k]);
            for (i64 k = 0; k < conditions_; ++k)
                if (i64& count = window->met[static_cast<std::size_t>(k)]; count >= 0) count += met[k];
        } else {
            refused_.push_back({i, AHEAD, e.time - ts});
        }
        if (believed) clock_.move(row, e.time, jump_, back_);
        if (e.time != before) e.since = clock_.progress + std::max<i64>(0, e.time - clock_.median);
        expire(i, row);
        if (believed)
            while (at(row).born && next(at(row)) != NEVER && end_of(next(at(row))) + grace_ <= at(row).time) close(i, row);
        if (at(row).born) enqueue(row);
    }

    // Whether the time of an event is the entity's; its time moves with it.
    bool believe(i64 i, i64 row, Entity& e, i64 ts) {
        const bool first = e.time == NEVER;
        const i64 now = e.time + std::max<i64>(0, clock_.progress - e.since);
        if (!first && (ts > now + jump_ || ts < e.time - back_)) {
            const i64 before = e.far;
            e.far = ts;
            if (before == NEVER || ts > before + jump_ || ts < before - jump_) return false;
            if (ts > e.time) {
                e.time = std::max(std::min(before, ts), e.time);
            } else {
                // Back from a time that was wrong: what is open there ends.
                while (!e.open.empty() && e.open.back()->index * every_ > ts + jump_) {
                    emit(i, row, e.open.back()->index, e.open.back().get());
                    retire(std::move(e.open.back()));
                    e.open.pop_back();
                }
                e.time = ts;
                e.closed = NEVER;
                e.running = 0;
            }
            e.far = NEVER;
            return true;
        }
        e.far = NEVER;
        e.time = first ? ts : std::max(e.time, ts);
        return true;
    }

    // The open window of that index; null if there are too many.
    Window* find(Entity& e, i64 index) {
        auto place = e.open.end();
        while (place != e.open.begin() && (*(place - 1))->index >= index) --place;
        if (place != e.open.end() && (*place)->index == index) return place->get();
        if (e.open.size() >= most_open_) return nullptr;
        return e.open.insert(place, fresh(index))->get();
    }
    std::unique_ptr<Window> fresh(i64 index) {
        std::unique_ptr<Window> out;
        if (pool_.empty()) {
            out = std::make_unique<Window>();
            out->series.resize(uses_.size());
            out->met.resize(static_cast<std::size_t>(conditions_));
        } else {
            out = std::move(pool_.back());
            pool_.pop_back();
        }
        out->index = index;
        return out;
    }
    void retire(std::unique_ptr<Window> window) {
        window->count = 0;
        for (Series& each : window->series) each.clear();
        std::fill(window->met.begin(), window->met.end(), 0);
        pool_.push_back(std::move(window));
    }

    // The next window of an entity to close, with events or without.
    i64 next(const Entity& e) const {
        if (e.running) return e.closed;
        return e.open.empty() ? NEVER : std::max(e.open.front()->index, e.closed);
    }
    // Windows without events that may follow: as many as had some, at least those of a day, and no more than asked for. So a name
    // that comes once does not have rows for ever.
    i64 empty_windows(const Entity& e) const {
        return std::min(empty_, std::max(e.windows, std::clamp(DAY / every_, LEAST_EMPTY, MOST_EMPTY)));
    }

    void close(i64 i, i64 row) {
        Entity& e = at(row);
        const i64 index = next(e);
        if (!e.open.empty() && e.open.front()->index == index) {
            emit(i, row, index, e.open.front().get());
            retire(std::move(e.open.front()));
            e.open.erase(e.open.begin());
            e.last = index;
            ++e.windows;
            if (judged_) judge(row, index);
            e.running = 1;
        } else if (index - e.last > empty_windows(e)) {
            e.running = 0;
            return;
        } else {
            emit(i, row, index, nullptr);
        }
        e.closed = index + 1;
    }

    void emit(i64 i, i64 row, i64 index, const Window* window) {
        rows_.push_back({i, row, index, window ? window->count : 0});
        for (const Column& column : columns_) values_.push_back(window ? value(*window, column) : column.operation <= MET || column.operation == SUM ? 0.0 : NAN);
    }
    // A window with events, for the rule of silence.
    void judge(i64 row, i64 index) {
        const auto& found = silence_.observe(silent_.data(), size(), source_.data(), row, static_cast<double>(end_of(index) - 1), rule_);
        for (const silence::Found& each : found)
            if (each.what == silence::GONE) at(each.row).running = 0;
    }
    static double value(const Window& window, const Column& column) {
        const auto k = static_cast<std::size_t>(column.at);
        if (column.operation == COUNT) return static_cast<double>(window.count);
        if ((column.operation == MET || column.operation == SHARE) && window.met[k] < 0) return NAN;
        if (column.operation == MET) return static_cast<double>(window.met[k]);
        if (column.operation == SHARE) return static_cast<double>(window.met[k]) / static_cast<double>(window.count);
        const Series& of = window.series[k];
        if (of.known < 0) return NAN;
        if (column.operation == SUM) return of.sum.value();
        if (!of.known) return NAN;
        switch (column.operation) {
            case MEAN: return of.sum.value() / static_cast<double>(of.known);
            case LEAST: return of.least;
            case MOST: return of.most;
            case LAST: return of.last;
            default: return of.quantiles.value(column.parts);
        }
    }

    // The progress of the clock at which something is to be done for an entity: to close a window, or to forget it.
    i64 due(const Entity& e) const {
        const i64 index = next(e);
        return e.since - e.time + (index == NEVER ? std::max(e.closed, window_of(e.time)) * every_ + back_ : end_of(index)) + grace_;
    }
    void enqueue(i64 row) {
        Entity& e = at(row);
        const i64 when = due(e);
        if (when >= e.key) return;
        e.key = when;
        queue_.emplace(when, e.born, row);
    }
    void forget(i64 row) {
        clock_.leave(row);
        at(row) = Entity{};
        ++free_;
        if (!judged_) return;
        silence::clear(&silent_[static_cast<std::size_t>(row * silence::ENTITY)]);
        for (i64 k = 0; k < silence::RING; ++k)
            if (source_[silence::ROWS + k] == static_cast<double>(row)) source_[silence::ROWS + k] = -1.0;
    }
    void requeue() {
        if (judged_) silence_.reset(silent_.data(), size(), silence::ENTITY);
        queue_ = {};
        for (i64 row = 0; row < size(); ++row) {
            at(row).key = INT64_MAX;
            if (at(row).born) enqueue(row);
        }
    }
    // What is due for all entities but that of the event, whose windows come after: not where its place in the queue, which may be
    // one of earlier times, happens to be.
    void expire(i64 i, i64 but) {
        while (!queue_.empty() && std::get<0>(queue_.top()) <= clock_.progress) {
            const auto [when, born, row] = queue_.top();
            queue_.pop();
            Entity& e = at(row);
            if (e.born != born || e.key != when) continue;
            e.key = INT64_MAX;
            if (row == but) continue;
            if (due(e) == when) {
                if (next(e) == NEVER) {
                    forget(row);
                    continue;
                }
                close(i, row);
            }
            enqueue(row);
        }
    }

    // (k, 4) `Row` of what was closed, (k, C) values; (m, 3) events that are refused. As bytes
    nb::tuple results() {
        const nb::tuple out = nb::make_tuple(bytes_of(rows_), bytes_of(values_), bytes_of(refused_));
        rows_.clear();
        values_.clear();
        refused_.clear();
        return out;
    }
    template <class T> static nb::bytes bytes_of(const std::vector<T>& values) { return nb::bytes(values.data(), values.size() * sizeof(T)); }

    template <class Stream> void each(Stream& stream) { stream(clock_), stream(births_); }
    template <class Stream> static void each(Stream& stream, Entity& e) {
        stream(e.born), stream(e.time), stream(e.far), stream(e.since), stream(e.closed), stream(e.last), stream(e.windows), stream(e.running);
    }
    template <class Stream> static void each(Stream& stream, Window& window) {
        stream(window.index), stream(window.count);
        for (Series& series : window.series) series.each(stream);
        for (i64& met : window.met) stream(met);
    }

    i64 every_, grace_, empty_, jump_, back_, conditions_, births_ = 0;
    std::vector<Uses> uses_;
    std::vector<Column> columns_;
    std::size_t most_open_ = 0, free_ = 0;
    std::vector<Entity> entities_;
    std::vector<std::unique_ptr<Window>> pool_;
    std::priority_queue<Entry, std::vector<Entry>, Later> queue_;
    Clock clock_;
    bool judged_ = false;
    silence::Limits rule_{};
    silence::Silence silence_;
    std::vector<double> silent_, source_;  // its arrays: a row an entity; one source
    std::vector<Row> rows_;
    std::vector<double> values_;
    std::vector<Refused> refused_;
};

}  // namespace aggregate

void bind_windows(nb::module_& m) {
    using aggregate::Windows;
    nb::class_<Windows>(m, "Windows")
        .def(nb::init<i64, i64, i64, i64, i64, nb::list>())
        .def("add", &Windows::add)
        .def("flush", &Windows::flush)
        .def("until_silent", &Windows::until_silent)
        .def("compact", &Windows::compact)
        .def("memory", &Windows::memory)
        .def("dump", &Windows::dump)
        .def("load", &Windows::load)
        .def("__len__", &Windows::size);
}

}  // namespace ssm
