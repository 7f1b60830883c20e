// Sums over predictions and their targets, alarms that need no model, and hours of the day: loops over columns.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <string>

#include "array.hpp"
#include "series.hpp"

namespace nb = nanobind;

namespace ssm {

namespace series = SSM_ISA::series;

namespace {

// Of the targets past the warm-up: how many there are, the sum of their errors, how many in their interval.
nb::tuple judge(nb::handle y_, nb::handle yhat_, nb::handle lower_, nb::handle upper_, nb::handle warmup_) {
    const Array<double> y(y_, "y", {-1});
    const i64 n = y.size();
    const Array<double> yhat(yhat_, "yhat", {n}), lower(lower_, "lower", {n}), upper(upper_, "upper", {n});
    const Array<bool> warmup(warmup_, "warmup", {n});
    i64 count = 0, inside = 0;
    double errors = 0.0;
    for (i64 i = 0; i < n; ++i) {
        if (warmup[i] || std::isnan(y[i])) continue;
        ++count;
        errors += std::fabs(y[i] - yhat[i]);
        inside += lower[i] <= y[i] && y[i] <= upper[i];
    }
    return nb::make_tuple(count, errors, inside);
}

// The code of each name; a new one gets the number of those before it.
void factorize(nb::list names, nb::dict codes, nb::handle out_) {
    const i64 n = static_cast<i64>(names.size());
    const Array<i64> out(out_, "out", {n}, true);
    PyObject* before = nullptr;
    i64 code = 0;
    for (i64 i = 0; i < n; ++i) {
        PyObject* name = PyList_GET_ITEM(names.ptr(), i);
        if (name != before) {
            PyObject* found = PyDict_GetItemWithError(codes.ptr(), name);
            if (!found) {
                if (PyErr_Occurred()) nb::raise_python_error();
                const nb::int_ next(codes.size());
                if (PyDict_SetItem(codes.ptr(), name, next.ptr())) nb::raise_python_error();
                code = static_cast<i64>(codes.size()) - 1;
            } else {
                code = PyLong_AsLongLong(found);
                if (code == -1 && PyErr_Occurred()) nb::raise_python_error();
            }
            before = name;
        }
        out[i] = code;
    }
}

enum { EVENTS, SCORED, ABSOLUTE, SQUARED, PERSISTENCE, JUDGED, COVERED, WIDTH, COLUMNS = 10 };

// Add n events to the sums (E, COLUMNS) of their entities, in order. follow: persistence says `last` (E,).
void count(nb::handle ids_, nb::handle y_, nb::handle yhat_, nb::handle lower_, nb::handle upper_, nb::handle warmup_,
           nb::handle naive_, bool follow, nb::handle last_, nb::handle sums_) {
    const Array<i64> ids(ids_, "ids", {-1});
    const i64 n = ids.size();
    const Array<double> y(y_, "y", {n}), yhat(yhat_, "yhat", {n}), lower(lower_, "lower", {n}), upper(upper_, "upper", {n});
    const Array<bool> warmup(warmup_, "warmup", {n});
    const Array<double> naive(naive_, "naive", {n}), last(last_, "last", {-1}, true), sums(sums_, "sums", {-1, COLUMNS}, true);
    for (i64 t = 0; t < n; ++t) {
        const i64 i = ids[t];
        if (i < 0 || i >= sums.size() || i >= last.size()) throw nb::index_error("ids: no such entity");
        double* s = &sums[COLUMNS * i];
        s[EVENTS] += 1.0;
        if (std::isnan(y[t])) continue;
        const double before = follow ? last[i] : naive[t];
        last[i] = y[t];
        if (!std::isnan(before)) {
            const double error = y[t] - yhat[t];
            s[SCORED] += 1.0;
            s[ABSOLUTE] += std::fabs(error);
            s[SQUARED] += error * error;
            s[PERSISTENCE] += std::fabs(y[t] - before);
        }
        if (!warmup[t]) {
            s[JUDGED] += 1.0;
            s[COVERED] += lower[t] <= y[t] && y[t] <= upper[t] ? 1.0 : 0.0;
            s[WIDTH] += upper[t] - lower[t];
        }
    }
}

// |Moving mean| over its standard deviation; z: of an entity; the mean is 0 at `start`.
void run_ewma(nb::handle z_, i64 start, double rate, nb::handle out_) {
    const Array<double> z(z_, "z", {-1}), out(out_, "out", {z.size()}, true);
    double mean = 0.0, keep = 1.0;
    if (start < 0) throw nb::value_error("start: found a negative number");
    for (i64 t = start; t < z.size(); ++t) {
        mean += rate * (z[t] - mean);
        keep *= (1.0 - rate) * (1.0 - rate);
        out[t] = std::fabs(mean) / std::sqrt(rate / (2.0 - rate) * (1.0 - keep));
    }
}

// out: the places at which an episode starts; returns how many. begin: 1 where an entity begins
i64 run_episodes(nb::handle flag_, nb::handle begin_, i64 recover, i64 rest, nb::handle out_) {
    const Array<bool> flag(flag_, "flag", {-1});
    const Array<i64> begin(begin_, "begin", {flag.size()}), out(out_, "out", {flag.size()}, true);
    i64 calm = 0, quiet = 0, found = 0;
    bool open = false;
    for (i64 t = 0; t < flag.size(); ++t) {
        if (begin[t]) open = false, calm = quiet = 0;
        if (open) {
            calm = flag[t] ? 0 : calm + 1;
            if (calm >= recover) open = false, quiet = rest > 1 ? rest - 1 : 0;  // as `episodes.step` counts
        } else if (quiet > 0) {
            --quiet;
        } else if (flag[t]) {
            out[found++] = t;
            open = true, calm = 0;
        }
    }
    return found;
}

// An ADWIN window (Bifet & Gavaldà 2007), as in River, where it begins anew after a cut. A bucket of row r holds 2^r values:
// their sum, and their squared distance from their mean. Newest first in a row.
struct Window {
    static constexpr int ROWS = 32, BUCKETS = 6;  // exponents of bucket sizes; 5 of a size, and the one that is too many
    static constexpr i64 EVERY = 32;              // events between looks for a cut
    static constexpr double LEAST = 10.0, SHORTEST = 5.0;  // events of a window that is looked at, of a part of it
    double total[ROWS][BUCKETS + 1] = {}, spread[ROWS][BUCKETS + 1] = {}, width = 0.0, mass = 0.0, variance = 0.0;
    i64 count[ROWS] = {}, ticks = 0;

    void insert(int r, double sum, double square) {
        for (i64 j = count[r]; j > 0; --j) total[r][j] = total[r][j - 1], spread[r][j] = spread[r][j - 1];
        total[r][0] = sum, spread[r][0] = square;
        ++count[r];
    }
    void add(double x) {
        ++ticks;
        insert(0, x, 0.0);
        if (width > 0.0) variance += width * (x - mass / width) * (x - mass / width) / (width + 1.0);
        width += 1.0;
        mass += x;
        for (int r = 0; r < ROWS - 1 && count[r] >= BUCKETS; ++r) {
            const double size = std::ldexp(1.0, r);
            const i64 a = count[r] - 1, b = count[r] - 2;
            const double gap = total[r][a] / size - total[r][b] / size;
            insert(r + 1, total[r][a] + total[r][b], spread[r][a] + spread[r][b] + size / 2.0 * gap * gap);
            count[r] -= 2;
        }
    }
    bool has_cut(double delta) const {
        if (ticks % EVERY || width <= LEAST) return false;
        double n0 = 0.0, m0 = 0.0;
        const double lean = series::log(2.0 * series::log(width) / delta);
        for (int r = ROWS - 1; r >= 0; --r)
            for (i64 j = count[r] - 1; j >= 0; --j) {
                n0 += std::ldexp(1.0, r);
                m0 += total[r][j];
                const double n1 = width - n0;
                if (n0 < SHORTEST || n1 < SHORTEST) continue;
                const double harmonic = 1.0 / (n0 - SHORTEST + 1.0) + 1.0 / (n1 - SHORTEST + 1.0);
                const double bound = std::sqrt(2.0 * harmonic * (variance / width) * lean) + 2.0 / 3.0 * harmonic * lean;
                if (std::fabs(m0 / n0 - (mass - m0) / n1) > bound) return true;
            }
        return false;
    }
};

// out (m,): 1 where a cut was found.
void run_adwin(nb::handle x_, double delta, nb::handle out_) {
    const Array<double> x(x_, "x", {-1});
    const Array<i64> out(out_, "out", {x.size()}, true);
    Window window;
    for (i64 t = 0; t < x.size(); ++t) {
        window.add(x[t]);
        if (window.has_cut(delta)) out[t] = 1, window = Window();
    }
}

i64 floored(i64 a, i64 b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// Hour and weekday of each time to the whole second, steps (n, 2): clocks that jitter about the hour are of one. ts: ms; offsets: of the zone, s
void whole_steps(nb::handle ts_, nb::handle offsets_, nb::handle steps_) {
    const Array<i64> ts(ts_, "ts", {-1}), offsets(offsets_, "offsets", {ts.size()}), steps(steps_, "steps", {ts.size(), 2}, true);
    for (i64 i = 0; i < ts.size(); ++i) {
        const i64 hours = floored(ts[i] + 500 + 1000 * offsets[i], 3'600'000), days = floored(hours, 24);
        steps[2 * i] = hours - 24 * days;
        steps[2 * i + 1] = days - 4 - 7 * floored(days - 4, 7);  // 1970-01-05 was a Monday
    }
}

// sin and cos of 2π turns: waves (n, 2)
void waves(nb::handle turns_, nb::handle waves_) {
    const Array<double> turns(turns_, "turns", {-1}), out(waves_, "waves", {turns.size(), 2}, true);
    for (i64 i = 0; i < turns.size(); ++i) {
        const series::Wave wave = series::wave(turns[i]);
        out[2 * i] = wave.sine, out[2 * i + 1] = wave.cosine;
    }
}

// A function of series.hpp at each x, for its tests.
void elementary(const std::string& name, nb::handle x_, nb::handle out_) {
    static const std::map<std::string, double (*)(double)> functions{
        {"log", [](double x) { return series::log(x); }},     {"exp", [](double x) { return series::exp(x); }},
        {"log1p", [](double x) { return series::log1p(x); }}, {"expm1", [](double x) { return series::expm1(x); }},
        {"asinh", [](double x) { return series::asinh(x); }}, {"exp2", [](double x) { return series::exp2(x); }},
    };
    const Array<double> x(x_, "x", {-1}), out(out_, "out", {x.size()}, true);
    const auto found = functions.find(name);
    if (found == functions.end()) throw nb::value_error("no such function");
    for (i64 i = 0; i < x.size(); ++i) out[i] = found->second(x[i]);
}

}  // namespace

void bind_tables(nb::module_& m) {
    m.def("factorize", &factorize);
    m.def("judge", &judge);
    m.def("count", &count);
    m.def("run_ewma", &run_ewma);
    m.def("run_episodes", &run_episodes);
    m.def("run_adwin", &run_adwin);
    m.def("whole_steps", &whole_steps);
    m.def("waves", &waves);
    m.def("elementary", &elementary);
}

}  // namespace ssm
