// The reader of a chunk's messages, as Python calls it: columns of numbers, names of entities, codes of categories.
#include <nanobind/nanobind.h>

#include <cstring>
#include <stdexcept>

#include "../client/messages.hpp"
#include "parser.hpp"
#include "text_table.hpp"

namespace nb = nanobind;

namespace ssm {
namespace {

// n rows of so many floats, to be written.
class Table {
  public:
    Table(nb::handle array, const char* name, i64 rows, i64 columns) : columns_(columns) {
        if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_CONTIG | PyBUF_FORMAT)) nb::raise_python_error();
        if (std::strcmp(view_.format, "d") || view_.ndim < 1 || view_.shape[0] != rows || view_.len != rows * columns * 8) {
            PyBuffer_Release(&view_);
            throw nb::type_error((std::string(name) + ": want float64, a row a message and a column a field").c_str());
        }
    }
    Table(const Table&) = delete;
    ~Table() { PyBuffer_Release(&view_); }
    const double* write(i64 row, const double* values) const {
        std::memcpy(static_cast<double*>(view_.buf) + row * columns_, values, static_cast<std::size_t>(columns_) * 8);
        return values + columns_;
    }

  private:
    Py_buffer view_;
    i64 columns_;
};

// CRC-32 as zlib has it.
std::uint32_t crc32(std::string_view text) {
    std::uint32_t crc = ~std::uint32_t(0);
    for (const char c : text) {
        crc ^= static_cast<unsigned char>(c);
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

class Reader {
  public:
    // As Parser has them, and how many of the fields after the time are targets; paths as UTF-8.
    Reader(nb::list paths, i64 targets, i64 categories) : parser_(texts_of(paths), 2 + targets, categories), targets_(targets) {
        values_.resize(static_cast<std::size_t>(parser_.numbers()));
        texts_.resize(static_cast<std::size_t>(parser_.texts()));
    }

    // Fills time (n,), targets (n, m) and features (n, d). Returns the names of the entities, and the texts of the categories'
    // codes or None if there are none; None instead of both if one of the messages is left to the general reader.
    // entity: the name where a message has none, or None
    // messages: a list of bytes, or `client::Messages`
    nb::object read(nb::object messages, nb::object entity, nb::handle time, nb::handle targets, nb::handle features) {
        const client::Messages* native = nullptr;
        if (nb::isinstance<client::Messages>(messages)) native = nb::cast<const client::Messages*>(messages);
        else if (!PyList_Check(messages.ptr())) throw nb::type_error("messages: want a list of bytes, or messages of the client");
        const i64 n = native ? native->size() : static_cast<i64>(PyList_GET_SIZE(messages.ptr()));
        const Table times(time, "time", n, 1), wanted(targets, "targets", n, targets_);
        const Table inputs(features, "features", n, parser_.numbers() - 1 - targets_);
        nb::object names = nb::steal(PyList_New(n));
        if (!names.is_valid()) nb::raise_python_error();
        nb::object codes = nb::none();
        ++chunk_;
        for (i64 i = 0; i < n; ++i) {
            std::string_view text;
            if (native) {
                text = native->value(i);
            } else {
                PyObject* message = PyList_GetItem(messages.ptr(), i);
                if (!message) nb::raise_python_error();
                if (!PyBytes_Check(message)) return nb::none();
                text = {PyBytes_AS_STRING(message), static_cast<std::size_t>(PyBytes_GET_SIZE(message))};
            }
            if (!parser_.parse(text, values_.data(), texts_.data()) || values_[0] != values_[0]) return nb::none();
            if (texts_[0].empty()) {
                if (entity.is_none()) return nb::none();
                PyList_SET_ITEM(names.ptr(), i, Py_NewRef(entity.ptr()));
            } else {
                PyList_SET_ITEM(names.ptr(), i, Py_NewRef(found(names_, texts_[0])->string));
            }
            for (std::size_t k = 1; k < texts_.size(); ++k)
                if (texts_[k].data()) values_[values_.size() - texts_.size() + k] = code_of(texts_[k], codes);
            inputs.write(i, wanted.write(i, times.write(i, values_.data())));
        }
        return nb::make_tuple(names, codes);
    }

  private:
    static std::vector<std::string> texts_of(nb::list paths) {
        std::vector<std::string> out;
        for (nb::handle path : paths) {
            const nb::bytes text = nb::cast<nb::bytes>(path);
            out.emplace_back(text.c_str(), text.size());
        }
        return out;
    }
    static TextTable::Entry* found(TextTable& table, std::string_view text) {
        TextTable::Entry* entry = table.find(text);
        if (!entry) nb::raise_python_error();
        return entry;
    }
    // The code of a category's text, as ingest.events has it; the text is entered in `codes`.
    double code_of(std::string_view text, nb::object& codes) {
        TextTable::Entry& entry = *found(categories_, text);
        if (entry.chunk != chunk_) {
            if (!entry.chunk) entry.code = 8589934592.0 + crc32(text);  // 2^33
            entry.chunk = chunk_;
            if (codes.is_none()) codes = nb::dict();
            codes[nb::float_(entry.code)] = nb::handle(entry.string);
        }
        return entry.code;
    }

    Parser parser_;
    i64 targets_;
    u64 chunk_ = 0;
    TextTable names_, categories_;
    std::vector<double> values_;
    std::vector<std::string_view> texts_;
};

}  // namespace

void bind_reader(nb::module_& m) {
    m.attr("MAX_NUMBER") = MAX_NUMBER;
    m.attr("MAX_NAME_LENGTH") = MAX_NAME_LENGTH;
    nb::class_<Reader>(m, "Reader")
        .def(nb::init<nb::list, i64, i64>())
        .def("read", &Reader::read, nb::arg("messages"), nb::arg("entity").none(), nb::arg("time"), nb::arg("targets"), nb::arg("features"));
}

}  // namespace ssm
