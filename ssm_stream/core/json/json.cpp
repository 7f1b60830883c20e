// JSON on the wire: flat objects whose numbers are numbers, straight into columns, and predictions back into bytes.
//
// The reader need not know every case: where it is not sure, it gives up, and the general reader says what is wrong. What it
// reads is what the general reader would read, to the last bit.
#include <nanobind/nanobind.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace nb = nanobind;

namespace ssm {
using i64 = std::int64_t;
using u64 = std::uint64_t;

namespace {

constexpr int SMALLEST_POWER = -280, LARGEST_POWER = 280;  // of ten, beyond which a number is left to the general reader
constexpr double LARGEST = std::numeric_limits<float>::max();  // as ingest.events has it
constexpr i64 LONGEST_NAME = 512;                              // as config has it; a test compares
constexpr i64 NAMES_KEPT = 1'000'000, BYTES_KEPT = 64 << 20;   // then the names are remembered anew
constexpr double TENS[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};  // all exact

bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// The leading 128 bits of 5^q, two words each, from SMALLEST_POWER on: the table of Lemire, Number Parsing at a Gigabyte per
// Second (2021).
struct Fives {
    u64 word[2 * (LARGEST_POWER - SMALLEST_POWER + 1)];

    // w · 10^q for w > 0, correctly rounded (Eisel's and Lemire's method); NaN where that is subnormal or infinite.
    double scaled(u64 w, int q) const {
        const int leading = __builtin_clzll(w);
        w <<= leading;
        const u64* five = word + 2 * (q - SMALLEST_POWER);
        unsigned __int128 product = static_cast<unsigned __int128>(w) * five[0];
        constexpr u64 PRECISION = ~u64(0) >> 55;
        if ((static_cast<u64>(product >> 64) & PRECISION) == PRECISION) product += (static_cast<unsigned __int128>(w) * five[1]) >> 64;
        const u64 high = static_cast<u64>(product >> 64), low = static_cast<u64>(product);
        const int upper = static_cast<int>(high >> 63), cut = upper + 9;
        u64 mantissa = high >> cut;
        const int power = ((217706 * q) >> 16) + 63 + upper - leading;  // 217706 / 2^16 = log2(10)
        if (low <= 1 && -4 <= q && q <= 23 && (mantissa & 3) == 1 && mantissa << cut == high) mantissa &= ~u64(1);
        mantissa = (mantissa + (mantissa & 1)) >> 1;
        if (!(-1022 < power && power < 1023)) return std::numeric_limits<double>::quiet_NaN();
        return std::ldexp(static_cast<double>(mantissa), power - 52);
    }
};

// The JSON number at p, and the place after it: null where it is left to the general reader. A byte that is no digit follows.
const char* read_number(const char* p, const Fives& fives, double& out) {
    const bool negative = *p == '-';
    p += negative;
    const char* start = p;
    u64 w = 0;
    while (is_digit(*p)) w = 10 * w + static_cast<u64>(*p++ - '0');
    i64 digits = p - start, q = 0;
    if (digits == 0 || (*start == '0' && digits > 1)) return nullptr;
    bool real = false;
    if (*p == '.') {
        real = true;
        start = ++p;
        while (is_digit(*p)) {
            w = 10 * w + static_cast<u64>(*p++ - '0');
            digits += w != 0;
        }
        q = start - p;
        if (q == 0) return nullptr;
    }
    if (digits > 19) return nullptr;
    if (*p == 'e' || *p == 'E') {
        real = true;
        ++p;
        const bool down = *p == '-';
        if (*p == '+' || *p == '-') ++p;
        start = p;
        i64 power = 0;
        while (is_digit(*p)) power = std::min<i64>(10 * power + (*p++ - '0'), 9999);
        if (p == start) return nullptr;
        q += down ? -power : power;
    }
    double value = static_cast<double>(w);
    if (real && w) {
        if (w < (u64(1) << 53) && -22 <= q && q <= 22) value = q > 0 ? value * TENS[q] : value / TENS[-q];
        else if (SMALLEST_POWER <= q && q <= LARGEST_POWER) value = fives.scaled(w, static_cast<int>(q));
        else return nullptr;
    }
    if (!(value <= LARGEST) || (negative && !real && !w)) return nullptr;
    out = negative ? -value : value;
    return p;
}

const char* after_space(const char* p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
    return p;
}

// The quote that ends the text begun before p; null where something in it must be looked at.
const char* text_end(const char* p, const char* end) {
    for (; p < end; ++p) {
        if (*p == '"') return p;
        if (*p == '\\' || static_cast<unsigned char>(*p) < 32) return nullptr;
    }
    return nullptr;
}

bool is_ascii(std::string_view text) {
    const char *p = text.data(), *end = p + text.size();
    u64 seen = 0;
    for (; p + 8 <= end; p += 8) {
        u64 word;
        std::memcpy(&word, p, 8);
        seen |= word;
    }
    for (; p < end; ++p) seen |= static_cast<u64>(static_cast<unsigned char>(*p)) << 56;
    return !(seen & 0x8080808080808080);
}

// Names of entities, each made a Python text once.
class Names {
  public:
    ~Names() { forget(); }
    // New reference; null with a Python error where the text is no UTF-8.
    PyObject* text(std::string_view name) {
        if (table_.empty() || 2 * made_.size() >= table_.size()) grow();
        const u64 code = hash(name);
        std::size_t at = code & (table_.size() - 1);
        for (; table_[at]; at = (at + 1) & (table_.size() - 1)) {
            const Made& made = made_[table_[at] - 1];
            if (made.code == code && made.name == name) return Py_NewRef(made.text);
        }
        PyObject* text = PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), nullptr);
        if (!text) return nullptr;
        bytes_ += static_cast<i64>(name.size());
        if (static_cast<i64>(made_.size()) >= NAMES_KEPT || bytes_ > BYTES_KEPT) {
            forget();
            return text;
        }
        made_.push_back({code, std::string(name), Py_NewRef(text)});
        table_[at] = static_cast<std::uint32_t>(made_.size());
        return text;
    }

  private:
    struct Made { u64 code; std::string name; PyObject* text; };
    static u64 hash(std::string_view name) {
        u64 code = 0x9E3779B97F4A7C15 ^ name.size();
        std::size_t i = 0;
        const auto mix = [&](u64 word) {
            code = (code ^ word) * 0x9E3779B97F4A7C15;
            code ^= code >> 32;
        };
        for (u64 word; i + 8 <= name.size(); i += 8) std::memcpy(&word, name.data() + i, 8), mix(word);
        u64 rest = 0;
        std::memcpy(&rest, name.data() + i, name.size() - i);
        mix(rest);
        return code;
    }
    void grow() {
        table_.assign(table_.empty() ? 256 : 2 * table_.size(), 0);
        for (std::size_t i = 0; i < made_.size(); ++i) {
            std::size_t at = made_[i].code & (table_.size() - 1);
            while (table_[at]) at = (at + 1) & (table_.size() - 1);
            table_[at] = static_cast<std::uint32_t>(i + 1);
        }
    }
    void forget() {
        for (const Made& made : made_) Py_DECREF(made.text);
        made_.clear();
        table_.clear();
        bytes_ = 0;
    }
    std::vector<Made> made_;
    std::vector<std::uint32_t> table_;  // places in `made_`, plus one
    i64 bytes_ = 0;
};

// Fields of an event by their order: the entity, the time, then numbers; those from `truth` on may be true or false.
class Reader {
  public:
    Reader(nb::list fields, i64 truth, nb::bytes fives) : truth_(truth) {
        for (nb::handle field : fields) {
            const nb::bytes name = nb::cast<nb::bytes>(field);
            names_.emplace_back(name.c_str(), name.size());
        }
        if (names_.size() < 2) throw nb::value_error("fields: want the entity and the time at least");
        if (fives.size() != sizeof(Fives)) throw nb::value_error("fives: not the powers of five");
        std::memcpy(&fives_, fives.c_str(), sizeof(Fives));
    }

    // The numbers of all messages to `found` (n, fields − 1), and their entities; None where one of them is not plain.
    nb::object read(nb::list messages, nb::handle found) {
        Py_buffer view;
        if (PyObject_GetBuffer(found.ptr(), &view, PyBUF_CONTIG | PyBUF_FORMAT)) nb::raise_python_error();
        struct Release { Py_buffer* view; ~Release() { PyBuffer_Release(view); } } release{&view};
        const i64 n = static_cast<i64>(messages.size()), columns = static_cast<i64>(names_.size()) - 1;
        if (view.ndim != 2 || view.shape[0] < n || view.shape[1] != columns || std::strcmp(view.format, "d"))
            throw nb::type_error("found: want float64 (messages, fields - 1)");
        PyObject* entities = PyList_New(n);
        if (!entities) nb::raise_python_error();
        nb::object owner = nb::steal(entities);
        for (i64 i = 0; i < n; ++i) {
            PyObject* message = PyList_GET_ITEM(messages.ptr(), i);
            if (!PyBytes_Check(message)) return nb::none();
            std::string_view entity;
            const std::string_view text(PyBytes_AS_STRING(message), static_cast<std::size_t>(PyBytes_GET_SIZE(message)));
            if (!document(text, static_cast<double*>(view.buf) + i * columns, entity)) return nb::none();
            if (!is_ascii(text)) {
                nb::object whole = nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
                if (!whole.is_valid()) {
                    PyErr_Clear();
                    return nb::none();
                }
            }
            PyObject* name = names_of_entities_.text(entity);
            if (!name) nb::raise_python_error();
            PyList_SET_ITEM(entities, i, name);
        }
        return owner;
    }

    // One message, which ends with a zero byte behind `text`.
    bool document(std::string_view text, double* values, std::string_view& entity) const {
        const char *p = after_space(text.data()), *end = text.data() + text.size();
        for (std::size_t j = 0; j + 1 < names_.size(); ++j) values[j] = std::numeric_limits<double>::quiet_NaN();
        entity = {};
        if (*p != '{') return false;
        p = after_space(p + 1);
        for (i64 guess = 0;;) {
            if (*p != '"') return false;
            const char* close = text_end(p + 1, end);
            if (!close) return false;
            const i64 field = field_of({p + 1, static_cast<std::size_t>(close - p - 1)}, guess);
            p = after_space(close + 1);
            if (*p != ':') return false;
            p = after_space(p + 1);
            if (field >= 0) guess = field + 1;
            p = value(p, end, field, values, entity);
            if (!p) return false;
            p = after_space(p);
            if (*p == '}') break;
            if (*p != ',') return false;
            p = after_space(p + 1);
        }
        return after_space(p + 1) == end && !entity.empty() && values[0] == values[0];
    }

  private:
    const char* value(const char* p, const char* end, i64 field, double* values, std::string_view& entity) const {
        if (*p == '"') {
            const char* close = text_end(p + 1, end);
            if (!close || field > 0 || (field == 0 && !(0 < close - p - 1 && close - p - 1 <= LONGEST_NAME))) return nullptr;
            if (field == 0) entity = {p + 1, static_cast<std::size_t>(close - p - 1)};
            return close + 1;
        }
        double number;
        if (*p == '-' || is_digit(*p)) {
            p = read_number(p, fives_, number);
        } else {
            const std::string_view left(p, static_cast<std::size_t>(end - p));
            if (left.starts_with("null")) number = std::numeric_limits<double>::quiet_NaN(), p += 4;
            else if (left.starts_with("true")) number = 1.0, p += 4;
            else if (left.starts_with("false")) number = 0.0, p += 5;
            else return nullptr;
            if (number == number && 0 <= field && field < truth_) return nullptr;
        }
        if (!p || field == 0) return nullptr;
        if (field > 0) values[field - 1] = number;
        return p;
    }
    // Which field a name is, −1: none. The guess is looked at first.
    i64 field_of(std::string_view name, i64 guess) const {
        const i64 count = static_cast<i64>(names_.size());
        for (i64 k = 0, j = guess; k < count; ++k, ++j) {
            if (j >= count) j -= count;
            if (names_[static_cast<std::size_t>(j)] == name) return j;
        }
        return -1;
    }
    std::vector<std::string> names_;
    i64 truth_;
    Fives fives_;
    Names names_of_entities_;
};

// --- writing ------------------------------------------------------------------------------------------------------

char* write_text(char* p, std::string_view text) {
    std::memcpy(p, text.data(), text.size());
    return p + text.size();
}
// The shortest text that reads back as the value, as a JSON library writes it; null where it is no number.
char* write_number(char* p, double value) {
    if (!(std::fabs(value) < std::numeric_limits<double>::infinity())) return write_text(p, "null");
    const double size = std::fabs(value);
    if (size != 0.0 && (size < 1e-5 || size >= 1e16)) {
        char* end = std::to_chars(p, p + 32, value, std::chars_format::scientific).ptr;  // 1e-07 → 1e-7
        char *from = static_cast<char*>(std::memchr(p, 'e', static_cast<std::size_t>(end - p))) + 2, *to = from;
        while (*from == '0') ++from;
        while (from < end) *to++ = *from++;
        return to;
    }
    char* end = std::to_chars(p, p + 32, value, std::chars_format::fixed).ptr;
    if (!std::memchr(p, '.', static_cast<std::size_t>(end - p))) end = write_text(end, ".0");
    return end;
}
char* write_number(char* p, i64 value) { return std::to_chars(p, p + 24, value).ptr; }

// A column of numbers or truth values.
struct Column {
    Py_buffer view{};
    char kind = 0;
    explicit Column(nb::handle array) {
        if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_CONTIG_RO | PyBUF_FORMAT)) nb::raise_python_error();
        kind = view.format[0] == '?' ? '?' : view.itemsize == 8 && view.format[0] == 'd' ? 'd' : 'l';
        if (view.ndim != 1 || (kind == 'l' && (view.itemsize != 8 || (view.format[0] != 'l' && view.format[0] != 'q')))) {
            PyBuffer_Release(&view);
            throw nb::type_error("columns: want one axis of float64, int64 or bool");
        }
    }
    Column(Column&& other) noexcept : view(other.view), kind(other.kind) { other.kind = 0; }
    ~Column() {
        if (kind) PyBuffer_Release(&view);
    }
    char* write(char* p, i64 row) const {
        if (kind == 'd') return write_number(p, static_cast<const double*>(view.buf)[row]);
        if (kind == 'l') return write_number(p, static_cast<const i64*>(view.buf)[row]);
        return write_text(p, static_cast<const bool*>(view.buf)[row] ? "true" : "false");
    }
};

std::string_view bytes_of(nb::handle of) {
    if (!PyBytes_Check(of.ptr())) throw nb::type_error("want bytes");
    return {PyBytes_AS_STRING(of.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(of.ptr()))};
}

// n messages: each the pieces of a template with a name and then a number of each column between them; the templates take
// turns, K + 2 pieces each.
nb::object write_rows(nb::sequence templates, nb::list names, nb::sequence columns) {
    std::vector<Column> numbers;
    for (nb::handle column : columns) numbers.emplace_back(column);
    std::vector<std::vector<std::string_view>> pieces;
    std::size_t room = 0;
    for (nb::handle pattern : templates) {
        auto& row = pieces.emplace_back();
        std::size_t size = 32 * numbers.size();
        for (nb::handle piece : nb::borrow<nb::sequence>(pattern)) size += row.emplace_back(bytes_of(piece)).size();
        if (row.size() != numbers.size() + 2) throw nb::value_error("templates: want a piece before, between and after");
        room = std::max(room, size);
    }
    const i64 n = static_cast<i64>(names.size());
    for (const Column& column : numbers)
        if (column.view.shape[0] < n) throw nb::value_error("columns: fewer rows than names");
    if (n && pieces.empty()) throw nb::value_error("templates: none");
    nb::object out = nb::steal(PyList_New(n));
    if (!out.is_valid()) nb::raise_python_error();
    std::vector<char> buffer;
    for (i64 i = 0; i < n; ++i) {
        const auto& row = pieces[static_cast<std::size_t>(i) % pieces.size()];
        const std::string_view name = bytes_of(PyList_GET_ITEM(names.ptr(), i));
        if (buffer.size() < room + name.size()) buffer.resize(2 * (room + name.size()));
        char* p = write_text(write_text(buffer.data(), row[0]), name);
        for (std::size_t k = 0; k < numbers.size(); ++k) p = numbers[k].write(write_text(p, row[k + 1]), i);
        p = write_text(p, row.back());
        PyObject* message = PyBytes_FromStringAndSize(buffer.data(), p - buffer.data());
        if (!message) nb::raise_python_error();
        PyList_SET_ITEM(out.ptr(), i, message);
    }
    return out;
}

}  // namespace

void bind_json(nb::module_& m) {
    m.attr("SMALLEST_POWER") = SMALLEST_POWER;
    m.attr("LARGEST_POWER") = LARGEST_POWER;
    m.attr("LARGEST") = LARGEST;
    m.attr("LONGEST_NAME") = LONGEST_NAME;
    nb::class_<Reader>(m, "Reader").def(nb::init<nb::list, i64, nb::bytes>()).def("read", &Reader::read);
    m.def("write_rows", &write_rows);
}

}  // namespace ssm
