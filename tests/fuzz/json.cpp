// The JSON parser on any bytes. Messages of one input are separated by a zero byte, as a parser remembers the layout of the
// last one: what it then reads must be what a new parser reads.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../../ssm_stream/core/json/parser.hpp"

namespace {
using namespace ssm;

struct Result {
    bool read = false;
    std::vector<double> values;
    std::vector<std::string_view> texts;
    Result(Parser& parser, std::string_view message)
        : values(static_cast<std::size_t>(parser.numbers())), texts(static_cast<std::size_t>(parser.texts())) {
        read = parser.parse(message, values.data(), texts.data());
        if (!read) return;
        for (const std::string_view text : texts) {
            const bool inside = text.data() >= message.data() && text.data() + text.size() <= message.data() + message.size();
            if (text.data() && !inside) std::abort();
        }
    }
    bool operator==(const Result& other) const {
        return read == other.read && (!read || (!std::memcmp(values.data(), other.values.data(), 8 * values.size()) && texts == other.texts));
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::vector<std::string> flat = {"e", "t", "y", "a", "b", "k"}, nested = {"d.e", "t", "d.y", "d.b.a", "d.b.k"};
    if (!size) return 0;
    const bool deep = data[0] & 1;
    Parser parser(deep ? nested : flat, 3, deep ? 4 : 5);
    const char *at = reinterpret_cast<const char*>(data) + 1, *const end = reinterpret_cast<const char*>(data) + size;
    for (int messages = 0; at <= end && messages < 4; ++messages) {
        const void* const stop = at < end ? std::memchr(at, 0, static_cast<std::size_t>(end - at)) : nullptr;
        const std::size_t length = static_cast<std::size_t>((stop ? static_cast<const char*>(stop) : end) - at);
        // As Python's bytes: exactly as long, and a zero byte behind.
        const std::unique_ptr<char, void (*)(void*)> copy(static_cast<char*>(std::malloc(length + 1)), std::free);
        std::memcpy(copy.get(), at, length);
        copy.get()[length] = 0;
        const std::string_view message(copy.get(), length);
        const Result here(parser, message);
        Parser fresh(deep ? nested : flat, 3, deep ? 4 : 5);
        if (!(here == Result(fresh, message))) std::abort();
        at += length + 1;
    }
    return 0;
}
