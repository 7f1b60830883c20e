#include "parser.hpp"

#include <stdexcept>

namespace ssm {
namespace {

constexpr double UNKNOWN = std::numeric_limits<double>::quiet_NaN();
constexpr u64 HIGHS = 0x8080808080808080;

const char* after_space(const char* p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
    return p;
}

// The length of the UTF-8 character at p, which is no ASCII; 0 if it is none.
int character_length(const char* p, const char* end) {
    const auto byte = [&](int i) { return i < end - p ? static_cast<unsigned char>(p[i]) : 0u; };
    const auto follows = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
    const unsigned first = byte(0), second = byte(1);
    if (0xC2 <= first && first <= 0xDF) return follows(1) ? 2 : 0;
    if ((first & 0xF0) == 0xE0) {
        const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F);  // too long, half of a pair
        return !wrong && follows(1) && follows(2) ? 3 : 0;
    }
    if (0xF0 <= first && first <= 0xF4) {
        const bool wrong = (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);  // too long, beyond U+10FFFF
        return !wrong && follows(1) && follows(2) && follows(3) ? 4 : 0;
    }
    return 0;
}
bool is_utf8(const char* p, const char* end) {
    while (p < end) {
        const int length = static_cast<unsigned char>(*p) < 0x80 ? 1 : character_length(p, end);
        if (!length) return false;
        p += length;
    }
    return true;
}

// The quote that ends the text begun before p; null if the text has an escape or a control character, is not UTF-8, or does
// not end.
const char* text_end(const char* p) {
    const char* const start = p;
    u64 seen = 0;
    for (;; p += 8) {
        const u64 bytes = load8(p);
        const u64 stops = text_stops(bytes);
        if (!stops) {
            seen |= bytes;
            continue;
        }
        const int at = std::countr_zero(stops) >> 3;
        seen |= bytes & ((u64(1) << 8 * at) - 1);
        p += at;
        return *p == '"' && (!(seen & HIGHS) || is_utf8(start, p)) ? p : nullptr;
    }
}

// The value of null, true or false at p, and the place after it; null if it is none of them.
const char* read_word(const char* p, double& out) {
    const std::string_view word(p, 5);
    if (word.starts_with("null")) return out = UNKNOWN, p + 4;
    if (word.starts_with("true")) return out = 1.0, p + 4;
    if (word == "false") return out = 0.0, p + 5;
    return nullptr;
}

}  // namespace

// Where in a message the parser is: after a value, or before the first.
struct Parser::Place {
    const char* p;
    int container = -1;
    u64 marks = 0;
    std::size_t guess = 0;  // the key of the container that may follow
};

Parser::Parser(const std::vector<std::string>& paths, i64 truth, i64 categories)
    : fields_(static_cast<i64>(paths.size())), truth_(truth), categories_(categories), containers_(1), after_field_(paths.size()),
      fives_(ssm::powers_of_five()) {
    if (fields_ < 2) throw std::invalid_argument("paths: want the entity's and the time's at least");
    if (truth < 2 || truth > categories || categories > fields_) throw std::invalid_argument("truth, categories: want 2 to the number of paths");
    for (std::size_t i = 0; i < paths.size(); ++i) add_path(paths[i], static_cast<int>(i));
}

void Parser::add_path(const std::string& path, int field) {
    std::size_t at = 0;
    for (std::size_t begin = 0;;) {
        const std::size_t dot = path.find('.', begin);
        const std::string text = path.substr(begin, dot - begin);
        std::size_t guess = 0;
        const Key* known = find_key(containers_[at], text, guess);
        if (known && (known->field >= 0 || dot == std::string::npos)) throw std::invalid_argument("paths: one is, or leads through, another: " + path);
        if (dot == std::string::npos) {
            containers_[at].keys.push_back({text, field});
            break;
        }
        if (!known) {
            if (containers_.size() > MAX_CONTAINERS) throw std::invalid_argument("paths: they lead through too many objects");
            // An object may come once in a message, and not beside a key that stands for keys that lead through it.
            const u64 open = u64(1) << (containers_.size() - 1), whole = open << MAX_CONTAINERS;
            containers_[at].keys.push_back({text, -1, static_cast<int>(containers_.size()), open, open | whole});
            containers_.push_back({static_cast<int>(at), {}});
            known = &containers_[at].keys.back();
        }
        const u64 open = known->sets;
        const std::size_t below = static_cast<std::size_t>(known->container);
        containers_[at].keys.push_back({path.substr(begin), field, -1, open << MAX_CONTAINERS, open});
        at = below;
        begin = dot + 1;
    }
}

// The key of a container with this text; null if there is none. The guess is compared first; after it comes the next key.
const Parser::Key* Parser::find_key(const Container& container, std::string_view text, std::size_t& guess) const {
    const std::size_t count = container.keys.size();
    for (std::size_t k = 0, j = guess; k < count; ++k, ++j) {
        if (j >= count) j = 0;
        if (container.keys[j].text == text) {
            guess = j + 1;
            return &container.keys[j];
        }
    }
    return nullptr;
}

// Moves from a value to the next one that is a field's or unknown, and fills the gap; behind the message's last brace the
// container is −1. False: it gave up.
bool Parser::cross_gap(Place& place, Gap& gap) const {
    const char *const start = place.p, *p = after_space(start);
    gap = Gap{};
    gap.from = place.container;
    bool first = false;  // member of the container
    if (place.container < 0) {
        if (*p != '{') return false;
        p = after_space(p + 1), place.container = 0, place.guess = 0, first = true;
    }
    for (;;) {
        if (*p == '}') {
            place.container = containers_[static_cast<std::size_t>(place.container)].parent, place.guess = 0, first = false;
            p = after_space(p + 1);
            if (place.container < 0) break;
            continue;
        }
        if (!first) {
            if (*p != ',') return false;
            p = after_space(p + 1);
        }
        if (*p != '"') return false;
        const char* const close = text_end(p + 1);
        if (!close) return false;
        const std::string_view text(p + 1, static_cast<std::size_t>(close - p - 1));
        const Key* key = find_key(containers_[static_cast<std::size_t>(place.container)], text, place.guess);
        p = after_space(close + 1);
        if (*p != ':') return false;
        p = after_space(p + 1);
        first = false;
        if (!key) break;
        // What is no object leads nowhere: it may come before one of its name, whose place it would take after it.
        const bool leads = key->container < 0 || *p == '{';
        const u64 excludes = leads ? key->excludes : key->sets;
        if ((place.marks | gap.sets) & excludes) return false;
        gap.sets |= leads ? key->sets : 0, gap.excludes |= excludes;
        if (key->container < 0 || !leads) {
            gap.field = key->field;
            if (key->container >= 0) gap.from = Gap::NEVER;  // the next message may have an object here
            break;
        }
        p = after_space(p + 1), place.container = key->container, place.guess = 0, first = true;
    }
    gap.container = place.container;
    gap.size = p - start;
    if (gap.size > static_cast<i64>(READ_AHEAD)) {
        gap.from = Gap::NEVER;
    } else {
        std::memcpy(gap.words.data(), start, static_cast<std::size_t>(gap.size));
        const auto mask = [](i64 bytes) { return bytes <= 0 ? u64(0) : bytes >= 8 ? ~u64(0) : (u64(1) << 8 * bytes) - 1; };
        gap.first_mask = mask(gap.size), gap.second_mask = mask(gap.size - 8);
    }
    place.p = p;
    return true;
}

bool Parser::parse(std::string_view message, double* values, std::string_view* texts) {
    // A copy with room behind it: what reads ahead need not ask for the end.
    if (message_.size() < message.size() + READ_AHEAD) message_.resize(message.size() + READ_AHEAD);
    const char *const begin = message_.data(), *const end = begin + message.size(), *p = begin;
    std::copy(message.begin(), message.end(), message_.begin());
    std::memset(message_.data() + message.size(), 0, READ_AHEAD);
    std::fill_n(values, numbers(), UNKNOWN);
    std::fill_n(texts, this->texts(), std::string_view());
    int container = -1;
    u64 marks = 0;
    const Gap *const layout = layout_.data(), *const last = layout + layout_.size(), *expected = layout;
    bool as_before = true;
    Gap crossed;
    for (;;) {
        const Gap* gap = &crossed;
        if (expected != last && expected->from == container && expected->matches(p)) [[likely]] {
            gap = expected++;
            if (marks & gap->excludes) return false;
            marks |= gap->sets, container = gap->container, p += gap->size;
            if (as_before && gap->field > 0) {
                if (const char* const after = read_plain_number(p, fives_, values[gap->field - 1])) {
                    p = after;
                    continue;
                }
            }
            p = after_space(p);
        } else if (container == 0 && *p == '}') {
            p = after_space(p + 1);
            break;
        } else {
            Place place{p, container, marks};
            if (!cross_gap(place, crossed)) return false;
            p = place.p, container = place.container, marks |= crossed.sets;
            if (container < 0) break;
            if (as_before) found_.assign(layout, expected);
            as_before = false;
            if (gap->field >= 0 && after_field_[static_cast<std::size_t>(gap->field)]) expected = layout + after_field_[static_cast<std::size_t>(gap->field)];
        }
        if (!as_before && found_.size() < MAX_MEMBERS) found_.push_back(*gap);
        p = gap->field < 0 ? skip_value(p, 0) : read_field(p, gap->field, values, texts);
        if (!p) return false;
    }
    if (p != end) return false;
    if (!as_before) remember_layout();
    for (i64 i = 0; i < this->texts(); ++i)
        if (texts[i].data()) texts[i] = {message.data() + (texts[i].data() - begin), texts[i].size()};
    return true;
}

void Parser::remember_layout() {
    layout_.swap(found_);
    after_field_.assign(after_field_.size(), 0);
    for (std::size_t i = 0; i < layout_.size(); ++i)
        if (layout_[i].field >= 0) after_field_[static_cast<std::size_t>(layout_[i].field)] = i + 1;
}

// Reads the value of a field; the place after it, null if it gave up.
const char* Parser::read_field(const char* p, int field, double* values, std::string_view* texts) const {
    double number = UNKNOWN;
    std::string_view text;
    if (*p == '-' || is_digit(*p)) {
        p = read_number(p, fives_, number);
        if (field == 0) return nullptr;
    } else if (*p == '"') {
        const char *const start = p + 1, *const close = text_end(start);
        if (!close || close - start > MAX_NAME_LENGTH || (field == 0 ? close == start : field < categories_)) return nullptr;
        text = {start, static_cast<std::size_t>(close - start)};
        p = close + 1;
    } else {
        p = read_word(p, number);
        if (number == number && field < truth_) return nullptr;
    }
    if (field > 0) values[field - 1] = number;
    if (field == 0 || field >= categories_) texts[field == 0 ? 0 : field - categories_ + 1] = text;
    return p;
}

// The place after a value that is no field's; null if it gave up.
const char* Parser::skip_value(const char* p, int depth) const {
    double number;
    if (*p == '"') {
        const char* const close = text_end(p + 1);
        return close ? close + 1 : nullptr;
    }
    if (*p == '-' || is_digit(*p)) return read_number(p, fives_, number);
    if (*p != '{' && *p != '[') return read_word(p, number);
    if (depth == MAX_DEPTH) return nullptr;
    const bool object = *p == '{';
    const char last = object ? '}' : ']';
    p = after_space(p + 1);
    if (*p == last) return p + 1;
    for (;;) {
        if (object) {
            const char* const close = *p == '"' ? text_end(p + 1) : nullptr;
            if (!close) return nullptr;
            p = after_space(close + 1);
            if (*p != ':') return nullptr;
            p = after_space(p + 1);
        }
        p = skip_value(p, depth + 1);
        if (!p) return nullptr;
        p = after_space(p);
        if (*p == last) return p + 1;
        if (*p != ',') return nullptr;
        p = after_space(p + 1);
    }
}

}  // namespace ssm
