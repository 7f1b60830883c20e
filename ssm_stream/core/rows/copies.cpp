// Rows of an array between their places in the state's blocks and a buffer that has one after another.
#include <nanobind/nanobind.h>

#include <cstring>
#include <vector>

#include "../array.hpp"

namespace nb = nanobind;

namespace ssm {

namespace {

constexpr i64 AHEAD = 16;  // rows whose memory is requested before their turn

// The rows of an array of any type, and the bytes of one: `run` bytes at each of `places`.
class RowsOf {
  public:
    RowsOf(nb::handle array, bool writable) {
        if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0))) nb::raise_python_error();
        if (view_.ndim < 1) {
            PyBuffer_Release(&view_);
            throw nb::type_error("array: found a number, want rows");
        }
        int axis = view_.ndim - 1;
        run = view_.itemsize;
        for (; axis > 0 && (view_.strides[axis] == run || view_.shape[axis] == 1); --axis) run *= view_.shape[axis];
        for (; axis > 0; --axis) {
            std::vector<i64> outer;
            for (i64 i = 0; i < view_.shape[axis]; ++i)
                for (const i64 at : places) outer.push_back(i * view_.strides[axis] + at);
            places = std::move(outer);
        }
    }
    RowsOf(const RowsOf&) = delete;
    ~RowsOf() { PyBuffer_Release(&view_); }
    char* row(i64 i) const { return static_cast<char*>(view_.buf) + i * view_.strides[0]; }
    i64 count() const { return view_.shape[0]; }
    i64 size() const { return run * static_cast<i64>(places.size()); }

    i64 run;
    std::vector<i64> places = std::vector<i64>(1);

  private:
    Py_buffer view_;
};

// Plain bytes.
class Bytes {
  public:
    Bytes(nb::handle buffer, bool writable) {
        if (PyObject_GetBuffer(buffer.ptr(), &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE)) nb::raise_python_error();
    }
    Bytes(const Bytes&) = delete;
    ~Bytes() { PyBuffer_Release(&view_); }
    char* begin() const { return static_cast<char*>(view_.buf); }
    i64 size() const { return view_.len; }

  private:
    Py_buffer view_;
};

template <bool FROM_BUFFER> void move(char* row, char*& at, const RowsOf& of) {
    for (const i64 place : of.places) {
        if constexpr (FROM_BUFFER) std::memcpy(row + place, at, static_cast<std::size_t>(of.run));
        else std::memcpy(at, row + place, static_cast<std::size_t>(of.run));
        at += of.run;
    }
}

// So many rows from the numbered `first` on, or those that `rows` names from its place `first` on; −1: bytes of the
// buffer that go nowhere.
template <bool FROM_BUFFER> void copy(nb::handle array, nb::handle rows, i64 first, i64 count, nb::handle buffer) {
    const RowsOf of(array, FROM_BUFFER);
    const Bytes bytes(buffer, !FROM_BUFFER);
    if (count < 0 || first < 0 || bytes.size() < count * of.size()) throw nb::value_error("buffer: found fewer bytes than the rows have");
    char* at = bytes.begin();
    if (rows.is_none()) {
        if (first > of.count() - count) throw nb::index_error("rows: no such row");
        const nb::gil_scoped_release released;
        for (i64 i = first; i < first + count; ++i) {
            if (i + AHEAD < first + count) __builtin_prefetch(of.row(i + AHEAD), FROM_BUFFER);
            move<FROM_BUFFER>(of.row(i), at, of);
        }
        return;
    }
    const Array<i64> index(rows, "rows", {-1});
    if (first > index.size() - count) throw nb::index_error("rows: fewer are named");
    for (i64 i = first; i < first + count; ++i)
        if (index[i] < (FROM_BUFFER ? -1 : 0) || index[i] >= of.count()) throw nb::index_error("rows: no such row");
    const nb::gil_scoped_release released;
    for (i64 i = first; i < first + count; ++i) {
        if (i + AHEAD < first + count && index[i + AHEAD] >= 0) __builtin_prefetch(of.row(index[i + AHEAD]), FROM_BUFFER);
        if (index[i] < 0) at += of.size();
        else move<FROM_BUFFER>(of.row(index[i]), at, of);
    }
}

}  // namespace

void bind_copies(nb::module_& m) {
    m.def("gather_rows", &copy<false>, nb::arg("array"), nb::arg("rows").none(), nb::arg("first"), nb::arg("count"), nb::arg("buffer"));
    m.def("scatter_rows", &copy<true>, nb::arg("array"), nb::arg("rows").none(), nb::arg("first"), nb::arg("count"), nb::arg("buffer"));
}

}  // namespace ssm
