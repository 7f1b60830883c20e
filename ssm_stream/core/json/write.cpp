// The writer of a chunk's messages: JSON from templates, names and columns of numbers.
#include <nanobind/nanobind.h>
#include <nanobind/stl/unique_ptr.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "decimal.hpp"
#include "rows.hpp"

namespace nb = nanobind;

namespace ssm {
namespace {

std::string_view text_of(nb::list names, i64 row) {
    PyObject* name = PyList_GetItem(names.ptr(), row);
    Py_ssize_t size;
    const char* text = name ? PyUnicode_AsUTF8AndSize(name, &size) : nullptr;
    if (!text) nb::raise_python_error();
    return {text, static_cast<std::size_t>(size)};
}

bool needs_escape(char c) { return static_cast<unsigned char>(c) < 32 || c == '"' || c == '\\'; }

// The first `count` bytes at p, of 8, and spaces after them.
u64 load_up_to_8(const char* p, std::size_t count) {
    constexpr u64 SPACES = 0x2020202020202020;
    if (count >= 8) return load8(p);
    u64 bytes = SPACES << 8 * count;
    if (count >= 4) {
        std::uint32_t first, last;
        std::memcpy(&first, p, 4), std::memcpy(&last, p + count - 4, 4);
        return bytes | first | static_cast<u64>(last) << 8 * (count - 4);
    }
    for (std::size_t i = 0; i < count; ++i) bytes |= static_cast<u64>(static_cast<unsigned char>(p[i])) << 8 * i;
    return bytes;
}

// A text as a JSON string; at most 6 bytes for each of its own, and the quotes. 8 bytes after it may be written.
char* write_string(char* p, std::string_view text) {
    *p++ = '"';
    while (!text.empty()) {
        const std::size_t count = std::min<std::size_t>(text.size(), 8);
        const u64 bytes = load_up_to_8(text.data(), count);
        if (text_stops(bytes)) break;
        std::memcpy(p, &bytes, 8);
        p += count, text.remove_prefix(count);
    }
    for (const char c : text) {
        if (!needs_escape(c)) [[likely]] {
            *p++ = c;
            continue;
        }
        *p++ = '\\';
        switch (c) {
            case '\b': *p++ = 'b'; break;
            case '\t': *p++ = 't'; break;
            case '\n': *p++ = 'n'; break;
            case '\f': *p++ = 'f'; break;
            case '\r': *p++ = 'r'; break;
            case '"':
            case '\\': *p++ = c; break;
            default:
                std::memcpy(p, c < 16 ? "u000" : "u001", 4);
                p[4] = "0123456789abcdef"[c & 15];
                p += 5;
        }
    }
    *p++ = '"';
    return p;
}

// A column of numbers: an array of floats, whole numbers or truth values, or a list of whole numbers, which is copied.
class Column {
  public:
    Column(nb::handle of, const PowersOfFive& fives) : fives_(&fives) {
        if (PyList_Check(of.ptr())) {
            const Py_ssize_t n = PyList_GET_SIZE(of.ptr());
            whole_.resize(static_cast<std::size_t>(n));
            for (Py_ssize_t i = 0; i < n; ++i) {
                const i64 value = whole_[static_cast<std::size_t>(i)] = PyLong_AsLongLong(PyList_GET_ITEM(of.ptr(), i));
                if (value == -1 && PyErr_Occurred()) nb::raise_python_error();
            }
            return;
        }
        if (PyObject_GetBuffer(of.ptr(), &view_, PyBUF_CONTIG_RO | PyBUF_FORMAT)) nb::raise_python_error();
        const char kind = std::strlen(view_.format) == 1 ? view_.format[0] : '\0';
        kind_ = kind == 'q' ? 'l' : kind;
        if (view_.ndim != 1 || !(kind_ == '?' || ((kind_ == 'd' || kind_ == 'l') && view_.itemsize == 8))) {
            PyBuffer_Release(&view_);
            throw nb::type_error("columns: want one axis of float64, int64 or bool, or a list of int");
        }
    }
    Column(Column&& other) noexcept : whole_(std::move(other.whole_)), view_(other.view_), kind_(other.kind_), fives_(other.fives_) { other.kind_ = 0; }
    ~Column() {
        if (kind_) PyBuffer_Release(&view_);
    }
    i64 size() const { return kind_ ? view_.shape[0] : static_cast<i64>(whole_.size()); }
    char* write(char* p, i64 row) const {
        if (kind_ == 'd') return write_number(p, static_cast<const double*>(view_.buf)[row], *fives_);
        if (kind_ == 'l') return write_number(p, static_cast<const i64*>(view_.buf)[row]);
        if (kind_) {
            const bool value = static_cast<const bool*>(view_.buf)[row];
            std::memcpy(p, value ? "true\0" : "false", 5);
            return p + (value ? 4 : 5);
        }
        return write_number(p, whole_[static_cast<std::size_t>(row)]);
    }

  private:
    std::vector<i64> whole_;
    Py_buffer view_{};
    char kind_ = 0;  // of the array; 0: a list
    const PowersOfFive* fives_;
};

// Templates: pieces of text, with room behind them, so that they are copied in whole blocks.
class Pieces {
  public:
    static constexpr std::size_t BLOCK = 16;

    Pieces(nb::sequence templates, std::size_t count) : count_(count) {
        std::vector<std::size_t> begins;
        for (nb::handle each : templates) {
            std::size_t pieces = 0, size = 0;
            for (nb::handle piece : nb::borrow<nb::sequence>(each)) {
                if (!PyBytes_Check(piece.ptr())) throw nb::type_error("templates: want bytes");
                const std::size_t length = static_cast<std::size_t>(PyBytes_GET_SIZE(piece.ptr()));
                begins.push_back(store_.size());
                all_.push_back({nullptr, length});
                store_.append(PyBytes_AS_STRING(piece.ptr()), length);
                size += length, ++pieces;
            }
            if (pieces != count) throw nb::value_error("templates: want a piece before, between and after");
            longest_ = std::max(longest_, size);
        }
        store_.append(BLOCK, '\0');
        for (std::size_t i = 0; i < begins.size(); ++i) all_[i].text = store_.data() + begins[i];
    }
    std::size_t templates() const { return all_.size() / count_; }
    std::size_t longest() const { return longest_; }
    char* copy(char* p, std::size_t piece) const {
        const auto [text, size] = all_[piece];
        std::memcpy(p, text, BLOCK);
        for (std::size_t i = BLOCK; i < size; i += BLOCK) std::memcpy(p + i, text + i, BLOCK);
        return p + size;
    }

  private:
    struct Piece { const char* text; std::size_t size; };

    std::size_t count_, longest_ = 0;
    std::string store_;
    std::vector<Piece> all_;
};

// n messages: each the pieces of a template with a name, and then a number of each column, between them; the templates take
// turns, K + 2 pieces each.
std::unique_ptr<json::Rows> written(nb::sequence templates, nb::list names, nb::sequence columns) {
    const PowersOfFive& fives = powers_of_five();
    std::vector<Column> numbers;
    for (nb::handle column : columns) numbers.emplace_back(column, fives);
    const std::size_t count = numbers.size() + 2;
    const Pieces pieces(templates, count);
    const i64 n = static_cast<i64>(names.size());
    for (const Column& column : numbers)
        if (column.size() < n) throw nb::value_error("columns: fewer rows than names");
    if (n && !pieces.templates()) throw nb::value_error("templates: none");
    std::vector<std::string_view> texts;
    texts.reserve(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) texts.push_back(text_of(names, i));
    auto rows = std::make_unique<json::Rows>(n);
    const nb::object kept = nb::borrow(names);  // the texts are those of its items
    nb::gil_scoped_release without;
    const std::size_t room = pieces.longest() + NUMBER_BYTES * numbers.size() + Pieces::BLOCK + 2;
    std::size_t turn = 0;  // the first piece of the template
    for (const std::string_view name : texts) {
        const i64 i = rows->size();
        char* p = write_string(pieces.copy(rows->reserve(room + 6 * name.size()), turn), name);
        for (std::size_t k = 0; k < numbers.size(); ++k) p = numbers[k].write(pieces.copy(p, turn + k + 1), i);
        rows->add(pieces.copy(p, turn + count - 1));
        turn = turn + count < pieces.templates() * count ? turn + count : 0;
    }
    return rows;
}

nb::bytes row_of(const json::Rows& rows, i64 i) {
    if (i < 0 || i >= rows.size()) throw nb::index_error("rows: no such row");
    const std::string_view text = rows[i];
    return nb::bytes(text.data(), text.size());
}

nb::object list_of(const json::Rows& rows) {
    nb::object out = nb::steal(PyList_New(rows.size()));
    if (!out.is_valid()) nb::raise_python_error();
    for (i64 i = 0; i < rows.size(); ++i) PyList_SET_ITEM(out.ptr(), i, row_of(rows, i).release().ptr());
    return out;
}

}  // namespace

void bind_writer(nb::module_& m) {
    nb::class_<json::Rows>(m, "JsonRows")
        .def("__len__", &json::Rows::size)
        .def("row", &row_of)
        .def("rows", &list_of);
    m.def("write_json", &written);
    m.def("write_rows", [](nb::sequence templates, nb::list names, nb::sequence columns) { return list_of(*written(templates, names, columns)); });
}

}  // namespace ssm
