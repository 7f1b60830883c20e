// Arrays of Python at the boundary: checked for type and shape, then plain memory.
#pragma once
#include <nanobind/nanobind.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "sizes.hpp"

namespace nb = nanobind;

namespace ssm {

// A column of so many numbers of a type, or a table of them, in C order.
template <class T> class Array {
  public:
    Array(nb::handle array, const char* name, std::initializer_list<i64> shape, bool writable = false) {
        if (PyObject_GetBuffer(array.ptr(), &view_, (writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) | PyBUF_FORMAT)) nb::raise_python_error();
        bool good = view_.itemsize == sizeof(T) && std::strlen(view_.format) == 1 && std::strchr(kinds(), view_.format[0]) &&
                    view_.ndim == static_cast<int>(shape.size());
        int axis = 0;
        for (i64 n : shape) good = good && (n < 0 || view_.shape[axis] == n), ++axis;
        if (!good) {
            PyBuffer_Release(&view_);
            throw nb::type_error((std::string(name) + ": another type or shape than wanted").c_str());
        }
    }
    Array(const Array&) = delete;
    ~Array() { PyBuffer_Release(&view_); }
    T& operator[](i64 i) const { return static_cast<T*>(view_.buf)[i]; }
    i64 size(int axis = 0) const { return view_.shape[axis]; }

  private:
    static const char* kinds() {
        if constexpr (std::is_same_v<T, bool>) return "?";
        else if constexpr (std::is_same_v<T, double>) return "d";
        else return "lq";
    }
    Py_buffer view_;
};

}  // namespace ssm
