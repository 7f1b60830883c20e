// Rows of readings, as Python calls them: columns in, columns out.
#include <nanobind/nanobind.h>

#include "../array.hpp"
#include "readings.hpp"

namespace ssm {
namespace {

template <class T> nb::bytes bytes_of(const std::vector<T>& column) {
    return nb::bytes(reinterpret_cast<const char*>(column.data()), column.size() * sizeof(T));
}

class ReadingRows {
  public:
    ReadingRows(i64 every, i64 grace, nb::handle ages, double forget) : made_(settings(every, grace, ages, forget)) {
        signals_ = Array<double>(ages, "ages", {-1}).size();
    }

    // n readings of a partition, of entities below `count`. Returns (rows, spread): see `result`; spread: an entity that was in
    // another partition before, or −1.
    nb::object add(i64 count, nb::handle entity, nb::handle signal, nb::handle ts, nb::handle value, nb::handle bad, i64 partition) {
        const Array<i64> e(entity, "entity", {-1});
        const i64 n = e.size();
        const Array<i64> k(signal, "signal", {n}), t(ts, "ts", {n});
        const Array<double> v(value, "value", {n});
        const Array<bool> b(bad, "bad", {n});
        for (i64 i = 0; i < n; ++i)
            if (e[i] < 0 || e[i] >= count || k[i] < 0 || k[i] >= signals_) throw nb::index_error("no such entity or signal");
        made_.grow(count);
        i64 spread = -1;
        for (i64 i = 0; i < n; ++i)
            if (made_.add(e[i], {t[i], k[i], v[i], b[i]}, i, partition)) spread = e[i];
        return nb::make_tuple(result(), spread);
    }

    // What waits; causes are entities.
    nb::object flush() {
        for (i64 e = 0; e < made_.entities(); ++e) made_.flush(e, e);
        return result();
    }

    void keep(nb::handle rows) {
        const Array<i64> kept(rows, "rows", {-1});
        std::vector<i64> out;
        for (i64 i = 0; i < kept.size(); ++i) {
            if (kept[i] < 0 || kept[i] >= made_.entities() || (i && kept[i] <= kept[i - 1])) throw nb::index_error("rows: not ascending");
            out.push_back(kept[i]);
        }
        made_.keep(out);
    }

    // The state as columns: of entities (E,), of signals (E, K), of readings that wait.
    nb::object dump() {
        std::vector<i64> latest, tick, used, late, partition, waits, at, gaps, signal, ts;
        std::vector<double> value, gap, waiting;
        std::vector<unsigned char> bad, doubtful;
        for (const rows::Entity& each : made_.all()) {
            latest.push_back(each.latest);
            tick.push_back(each.tick);
            used.push_back(each.used);
            late.push_back(each.late);
            partition.push_back(each.partition);
            waits.push_back(static_cast<i64>(each.waiting.size() - each.first));
            for (std::size_t i = each.first; i < each.waiting.size(); ++i) {
                ts.push_back(each.waiting[i].ts);
                signal.push_back(each.waiting[i].signal);
                waiting.push_back(each.waiting[i].value);
                doubtful.push_back(each.waiting[i].bad);
            }
        }
        for (const rows::Last& each : made_.last()) {
            at.push_back(each.ts);
            value.push_back(each.value);
            gap.push_back(each.gap);
            gaps.push_back(each.gaps);
            bad.push_back(each.bad);
        }
        return nb::make_tuple(bytes_of(latest), bytes_of(tick), bytes_of(used), bytes_of(late), bytes_of(partition), bytes_of(waits),
                              bytes_of(at), bytes_of(value), bytes_of(gap), bytes_of(gaps), bytes_of(bad),
                              bytes_of(ts), bytes_of(signal), bytes_of(waiting), bytes_of(doubtful));
    }

    // What `dump` returned, as arrays in its order.
    void load(nb::sequence columns) {
        const auto at = [&](int i) { return nb::object(columns[i]); };
        const Array<i64> latest(at(0), "latest", {-1});
        const i64 n = latest.size();
        const Array<i64> tick(at(1), "tick", {n}), used(at(2), "used", {n}), late(at(3), "late", {n}), partition(at(4), "partition", {n});
        const Array<i64> waits(at(5), "waits", {n}), of(at(6), "at", {n, signals_});
        const Array<double> value(at(7), "value", {n, signals_}), gap(at(8), "gap", {n, signals_});
        const Array<i64> gaps(at(9), "gaps", {n, signals_});
        const Array<bool> bad(at(10), "bad", {n, signals_});
        const Array<i64> ts(at(11), "ts", {-1});
        const i64 m = ts.size();
        const Array<i64> signal(at(12), "signal", {m});
        const Array<double> waiting(at(13), "waiting", {m});
        const Array<bool> doubtful(at(14), "doubtful", {m});
        std::vector<rows::Entity> all(static_cast<std::size_t>(n));
        i64 next = 0;
        for (i64 e = 0; e < n; ++e) {
            rows::Entity& each = all[static_cast<std::size_t>(e)];
            each.latest = latest[e], each.tick = tick[e], each.used = used[e], each.late = late[e], each.partition = partition[e];
            if (waits[e] < 0 || waits[e] > m - next) throw nb::value_error("waits: not as many readings");
            for (i64 i = 0; i < waits[e]; ++i, ++next) {
                if (signal[next] < 0 || signal[next] >= signals_) throw nb::value_error("signal: no such signal");
                each.waiting.push_back({ts[next], signal[next], waiting[next], doubtful[next]});
            }
        }
        if (next != m) throw nb::value_error("waits: not as many readings");
        made_.all() = std::move(all);
        made_.last().assign(static_cast<std::size_t>(n * signals_), rows::Last{});
        for (i64 i = 0; i < n * signals_; ++i) {
            if (gaps[i] < 0 || gaps[i] > rows::GAP_MEMORY) throw nb::value_error("gaps: out of range");
            made_.last()[static_cast<std::size_t>(i)] = {of[i], value[i], gap[i], gaps[i], bad[i]};
        }
    }

    nb::object latest() {
        std::vector<i64> out;
        for (const rows::Entity& each : made_.all()) out.push_back(each.latest);
        return bytes_of(out);
    }

    i64 overtaken() { return made_.overtaken(); }

  private:
    static rows::Settings settings(i64 every, i64 grace, nb::handle ages, double forget) {
        const Array<double> given(ages, "ages", {-1});
        rows::Settings out{given.size(), every, grace, {}, forget};
        for (i64 k = 0; k < given.size(); ++k) out.ages.push_back(given[k]);
        return out;
    }
    // entity, ts, cause, values, doubtful, held of the rows; index of the late readings, and ms that they are behind
    nb::object result() {
        rows::Made& m = made_.made();
        nb::object out = nb::make_tuple(bytes_of(m.entity), bytes_of(m.ts), bytes_of(m.cause), bytes_of(m.values), bytes_of(m.bad),
                                        bytes_of(m.held), bytes_of(m.late), bytes_of(m.behind));
        m.clear();
        return out;
    }

    rows::Readings made_;
    i64 signals_ = 0;
};

}  // namespace

void bind_rows(nb::module_& m) {
    nb::class_<ReadingRows>(m, "ReadingRows")
        .def(nb::init<i64, i64, nb::handle, double>())
        .def("add", &ReadingRows::add)
        .def("flush", &ReadingRows::flush)
        .def("keep", &ReadingRows::keep)
        .def("dump", &ReadingRows::dump)
        .def("load", &ReadingRows::load)
        .def("latest", &ReadingRows::latest)
        .def("overtaken", &ReadingRows::overtaken);
}

}  // namespace ssm
