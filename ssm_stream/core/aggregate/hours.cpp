// Sums of each entity over an hour of event time: which hour is at hand, what is added to it, and when it is over.
//
// What is added depends on the events of a source in their order alone, not on how they are cut into batches.
#include <nanobind/nanobind.h>

#include <cmath>
#include <memory>
#include <vector>

#include "../array.hpp"
#include "../series.hpp"

namespace nb = nanobind;

namespace ssm {
namespace hours {
namespace {

constexpr i64 HOUR_MS = 3'600'000, NO_HOUR = -(i64(1) << 40);
constexpr i64 BACK = 24;            // hours behind the one at hand up to which an event is late; beyond, the clock was set back
constexpr i64 CLOSED_AFTER = 2;     // hours by which a source is ahead of an hour that is over without an event of its entity
constexpr i64 FORGOTTEN = 14 * 24;  // hours without an event after which the usual error is unknown again
constexpr double HALF_LIFE = 168.0;  // hours, of the usual error

enum { HOUR, LAST, CHANGED, SOURCE, TIMES };                                             // columns of `at`
enum { EVENTS, STOPPED, INSIDE_MS, OPEN_SINCE, STARTED, KINDS = 5, OF_TARGETS = STARTED + KINDS };  // columns of `sums`
enum { LABELLED, VALUES, PREDICTED, JUDGED, ERRORS, COVERED, SCORE, USUAL, WEIGHT, OF_TARGET };  // columns of a target in `sums`

i64 hour_of(i64 ms) { return ms / HOUR_MS - (ms % HOUR_MS < 0); }

// The predictions of a target that met it, in the order of the events at which they did.
struct Target {
    Target(nb::handle of) : Target(nb::borrow<nb::sequence>(of)) {}
    Target(nb::sequence of)
        : item(of[0], "item", {-1}), y(of[1], "y", {item.size()}), yhat(of[2], "yhat", {item.size()}), lower(of[3], "lower", {item.size()}),
          upper(of[4], "upper", {item.size()}), score(of[5], "score", {item.size()}), warmup(of[6], "warmup", {item.size()}) {}
    Array<i64> item;
    Array<double> y, yhat, lower, upper, score;
    Array<bool> warmup;
    i64 next = 0;
};

class Hours {
  public:
    Hours(nb::handle at, nb::handle sums, i64 targets)
        : targets_(targets), columns_(OF_TARGETS + targets * OF_TARGET), at_(at, "at", {-1, TIMES}, true), sums_(sums, "sums", {at_.size(), columns_}, true) {}

    i64 size() const { return at_.size(); }

    // Make the hour of a time the one at hand of an entity, unless it is late.
    void begin(i64 row, i64 ts, i64 event) {
        i64* at = &at_[row * TIMES];
        const i64 hour = hour_of(ts);
        if (hour == at[HOUR] || (hour < at[HOUR] && at[HOUR] - hour <= BACK)) return;
        if (at[CHANGED]) close(row, event);
        double* sums = &sums_[row * columns_];
        const i64 gap = at[HOUR] == NO_HOUR ? FORGOTTEN + 1 : hour - at[HOUR];
        const double keep = gap > FORGOTTEN || gap < 0 ? 0.0 : SSM_ISA::series::exp2(-static_cast<double>(gap) / HALF_LIFE);
        for (i64 j = 0; j < targets_; ++j) {
            double* own = sums + OF_TARGETS + j * OF_TARGET;
            own[USUAL] = keep * (own[USUAL] + own[ERRORS]);
            own[WEIGHT] = keep * (own[WEIGHT] + own[JUDGED]);
            own[LABELLED] = own[VALUES] = own[PREDICTED] = own[JUDGED] = own[ERRORS] = own[COVERED] = own[SCORE] = 0.0;
        }
        if (sums[OPEN_SINCE] > 0.0) sums[OPEN_SINCE] = static_cast<double>(hour * HOUR_MS);
        sums[EVENTS] = sums[STOPPED] = sums[INSIDE_MS] = 0.0;
        for (i64 k = 0; k < KINDS; ++k) sums[STARTED + k] = 0.0;
        at[HOUR] = hour;
    }

    void add(i64 row, i64 ts, bool stopped, i64 source) {
        i64* at = &at_[row * TIMES];
        double* sums = &sums_[row * columns_];
        if (ts > at[LAST] || at[LAST] - ts > BACK * HOUR_MS) at[LAST] = ts;
        at[CHANGED] = 1;
        at[SOURCE] = source;
        sums[EVENTS] += 1.0;
        sums[STOPPED] += stopped;
    }

    void judge(i64 row, i64 j, const Target& of, i64 i) {
        double* own = &sums_[row * columns_ + OF_TARGETS + j * OF_TARGET];
        if (of.score[i] > own[SCORE]) own[SCORE] = of.score[i];
        if (std::isnan(of.y[i]) || std::isnan(of.yhat[i])) return;
        own[LABELLED] += 1.0, own[VALUES] += of.y[i], own[PREDICTED] += of.yhat[i];
        at_[row * TIMES + CHANGED] = 1;
        if (of.warmup[i]) return;
        own[JUDGED] += 1.0;
        own[ERRORS] += std::fabs(of.y[i] - of.yhat[i]);
        own[COVERED] += of.lower[i] <= of.y[i] && of.y[i] <= of.upper[i];
    }

    // End the hours of a source that lie behind, as no event of their entities has.
    void pass(i64 source, i64 hour, i64 event) {
        for (i64 row = 0; row < size(); ++row) {
            i64* at = &at_[row * TIMES];
            if (at[SOURCE] == source && at[CHANGED] && at[HOUR] + CLOSED_AFTER <= hour) close(row, event);
        }
    }

    // event, row and the columns of both tables of each hour that is over.
    nb::object closed() const {
        return nb::make_tuple(bytes_of(events_), bytes_of(rows_), bytes_of(closed_at_), bytes_of(closed_sums_));
    }

  private:
    template <class T> static nb::bytes bytes_of(const std::vector<T>& column) {
        return nb::bytes(reinterpret_cast<const char*>(column.data()), column.size() * sizeof(T));
    }

    void close(i64 row, i64 event) {
        at_[row * TIMES + CHANGED] = 0;
        events_.push_back(event);
        rows_.push_back(row);
        const i64* at = &at_[row * TIMES];
        const double* sums = &sums_[row * columns_];
        closed_at_.insert(closed_at_.end(), at, at + TIMES);
        closed_sums_.insert(closed_sums_.end(), sums, sums + columns_);
        if (sums[OPEN_SINCE] > 0.0) {
            const double left = static_cast<double>((at[HOUR] + 1) * HOUR_MS) - sums[OPEN_SINCE];
            closed_sums_[closed_sums_.size() - static_cast<std::size_t>(columns_) + INSIDE_MS] += left > 0.0 ? left : 0.0;
        }
    }

    i64 targets_, columns_;
    Array<i64> at_;
    Array<double> sums_;
    std::vector<i64> events_, rows_, closed_at_;
    std::vector<double> closed_sums_;
};

// Add the events [begin, end) of a batch of one source, and what was predicted and met there. rows: of their entities
// Returns `Hours::closed`.
nb::object add_hours(nb::handle rows_, nb::handle ts_, nb::handle stopped_, nb::sequence targets_, i64 source, i64 begin, i64 end,
                     nb::handle marks_, nb::handle at, nb::handle sums) {
    const Array<i64> rows(rows_, "rows", {-1}), ts(ts_, "ts", {rows.size()}), marks(marks_, "marks", {-1}, true);
    const Array<bool> stopped(stopped_, "stopped", {rows.size()});
    std::vector<std::unique_ptr<Target>> targets;
    for (nb::handle each : targets_) targets.push_back(std::make_unique<Target>(each));
    Hours hours(at, sums, static_cast<i64>(targets.size()));
    if (source < 0 || source >= marks.size() || begin < 0 || end > rows.size()) throw nb::index_error("no such source or events");
    for (auto& each : targets)
        while (each->next < each->item.size() && each->item[each->next] < begin) ++each->next;
    for (i64 i = begin; i < end; ++i) {
        const i64 row = rows[i], hour = hour_of(ts[i]);
        if (row < 0 || row >= hours.size()) throw nb::index_error("rows: no such entity");
        hours.begin(row, ts[i], i);
        if (hour > marks[source]) {
            marks[source] = hour;
            hours.pass(source, hour, i);
        }
        hours.add(row, ts[i], stopped[i], source);
        for (std::size_t j = 0; j < targets.size(); ++j) {
            Target& of = *targets[j];
            for (; of.next < of.item.size() && of.item[of.next] == i; ++of.next) hours.judge(row, static_cast<i64>(j), of, of.next);
        }
    }
    return hours.closed();
}

// Begin the hour of a time for an entity, by something other than an event of its own. Returns `Hours::closed`.
nb::object begin_hour(i64 row, i64 ts, i64 event, i64 targets, nb::handle at, nb::handle sums) {
    Hours hours(at, sums, targets);
    if (row < 0 || row >= hours.size()) throw nb::index_error("row: no such entity");
    hours.begin(row, ts, event);
    return hours.closed();
}

// Add what met its target by a label, of entities whose hours stay at hand; negative rows have none. item: index in rows
void judge_hours(nb::handle rows_, nb::sequence targets_, nb::handle at, nb::handle sums) {
    const Array<i64> rows(rows_, "rows", {-1});
    std::vector<std::unique_ptr<Target>> targets;
    for (nb::handle each : targets_) targets.push_back(std::make_unique<Target>(each));
    Hours hours(at, sums, static_cast<i64>(targets.size()));
    for (std::size_t j = 0; j < targets.size(); ++j)
        for (i64 i = 0; i < targets[j]->item.size(); ++i) {
            const i64 item = targets[j]->item[i];
            if (item < 0 || item >= rows.size() || rows[item] >= hours.size()) throw nb::index_error("item: no such event");
            if (rows[item] >= 0) hours.judge(rows[item], static_cast<i64>(j), *targets[j], i);
        }
}

}  // namespace
}  // namespace hours

void bind_hours(nb::module_& m) {
    m.def("add_hours", &hours::add_hours);
    m.def("begin_hour", &hours::begin_hour);
    m.def("judge_hours", &hours::judge_hours);
}

}  // namespace ssm
