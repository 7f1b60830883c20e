// JSON events → numbers and texts by the paths of the configuration, in one pass, without Python.
//
// The parser gives up where it is not sure (an escape in a text, a value of an unexpected type, more than 19 digits, …); the
// general reader reads such a message or names its fault. What the parser reads equals the result of the general reader to
// the last bit.
//
// For a fuzz target: `Parser({"e", "t", "a.b"}, 2, 3).parse(message, values, texts)` takes any bytes. It needs `parser.cpp`
// and `decimal.cpp` alone, neither nanobind nor Python.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "decimal.hpp"

namespace ssm {

constexpr i64 MAX_NAME_LENGTH = 512;  // bytes of a name; in characters, config has it; a test compares
constexpr int MAX_CONTAINERS = 32;    // objects on the way to fields
constexpr int MAX_DEPTH = 32;         // of values that are no field's
constexpr std::size_t MAX_MEMBERS = 4096;  // of a message, up to which its layout is remembered

class Parser {
  public:
    // paths: of the entity (text), of the time, then of the other fields, their keys separated by dots
    // truth: fields from here on may be true or false; categories: fields from here on may be text as well
    // Throws std::invalid_argument for paths that it cannot serve: equal ones, one that leads through another, too many objects.
    Parser(const std::vector<std::string>& paths, i64 truth, i64 categories);

    i64 numbers() const { return fields_ - 1; }
    i64 texts() const { return fields_ - categories_ + 1; }

    // Reads one message. values (numbers()): all fields but the entity, NaN = unknown; texts (texts()): the entity, then the
    // categories, whose data() is null where there is no text; they point into the message. False: it gave up.
    bool parse(std::string_view message, double* values, std::string_view* texts);

  private:
    // A key on the way to a field. It may also stand for all keys that are left of a path, with the dots: then it is taken first.
    struct Key {
        std::string text;
        int field = -1, container = -1;  // one of them, or none
        u64 sets = 0, excludes = 0;      // marks that the key sets in a message, and those that must not be there before it
    };
    struct Container { int parent = -1; std::vector<Key> keys; };
    // What lies between two values of a message: punctuation, spaces and keys. Messages of one producer have the same layout,
    // so that the bytes of the last message are compared first, and parsed only if they differ.
    struct Gap {
        std::array<u64, READ_AHEAD / 8> words{};
        u64 first_mask = 0, second_mask = 0;  // the bytes of the first two words that are the gap's
        u64 sets = 0, excludes = 0;           // marks, as of its keys
        i64 size = 0;                         // bytes
        int from = NEVER, container = -1;     // of the value before it, and of the value that follows
        int field = -1;                       // of the value that follows
        static constexpr int NEVER = -2;      // it is not to be expected again
        bool matches(const char* p) const {
            u64 differ = ((load8(p) ^ words[0]) & first_mask) | ((load8(p + 8) ^ words[1]) & second_mask);
            if (size > 16) differ |= static_cast<u64>(std::memcmp(p + 16, &words[2], static_cast<std::size_t>(size) - 16) != 0);
            return !differ;
        }
    };
    struct Place;

    void add_path(const std::string& path, int field);
    const Key* find_key(const Container& container, std::string_view text, std::size_t& guess) const;
    bool cross_gap(Place& place, Gap& gap) const;
    const char* read_field(const char* p, int field, double* values, std::string_view* texts) const;
    const char* skip_value(const char* p, int depth) const;
    void remember_layout();

    i64 fields_, truth_, categories_;
    std::vector<Container> containers_;
    std::vector<char> message_;
    std::vector<Gap> layout_, found_;        // of the last message, of this one
    std::vector<std::size_t> after_field_;  // the place in the layout after each field; 0: not in it
    const PowersOfFive& fives_;
};

}  // namespace ssm
