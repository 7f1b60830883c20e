// Decimal text ↔ 64-bit floats, correctly rounded, without Python. Reading: Lemire, Number Parsing at a Gigabyte per Second
// (2021), and its proof without a slow path, Mushtak and Lemire (2023). Writing: Giulietti, The Schubfach Way to Render Doubles
// (2021). Both use one table of powers of five.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ssm {
using i64 = std::int64_t;
using u64 = std::uint64_t;
using u128 = unsigned __int128;

constexpr double MAX_NUMBER = std::numeric_limits<float>::max();  // as ingest.events has it; a test compares
constexpr int MIN_POWER = -292, MAX_POWER = 324;                  // of ten, in the table
constexpr double TENS[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};  // all exact
constexpr u64 WHOLE_TENS[9] = {1, 10, 100, 1'000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000};

// The leading 128 bits of 5^q: truncated where q > 55 or q < -27, rounded up where -27 <= q < 0, else exact.
struct PowersOfFive {
    u64 high[MAX_POWER - MIN_POWER + 1], low[MAX_POWER - MIN_POWER + 1];
    PowersOfFive();
};
const PowersOfFive& powers_of_five();  // computed at the first call

// What reads a text reads up to READ_AHEAD bytes from any place in it: so many zero bytes follow the text.
constexpr std::size_t READ_AHEAD = 64;

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }
inline u64 load8(const char* p) {
    u64 bytes;
    std::memcpy(&bytes, p, 8);
    return bytes;
}
// Marks in the high bits of 8 bytes of a text, of which the first is right: a quote, a backslash or a control character.
inline u64 text_stops(u64 bytes) {
    constexpr u64 ONES = 0x0101010101010101, HIGHS = 0x8080808080808080;
    const auto zeros = [](u64 bytes) { return (bytes - ONES) & ~bytes; };  // the high bit of the first zero byte
    return (zeros(bytes ^ ONES * '"') | zeros(bytes ^ ONES * '\\') | ((bytes - ONES * 32) & ~bytes)) & HIGHS;
}
// A mark in the high bit of each of 8 bytes that is no digit; exact up to the first byte that is not ASCII.
inline u64 non_digits(u64 bytes) {
    const u64 digits = bytes ^ 0x3030303030303030;
    return ((digits + 0x7676767676767676) | digits) & 0x8080808080808080;
}
// The number that the first `count` of 8 digits make.
inline u64 number_of(u64 bytes, int count) {
    u64 digits = (bytes ^ 0x3030303030303030) << (32 - 4 * count) << (32 - 4 * count);  // zeros in front; 64 at once is undefined
    digits = (digits * 10 + (digits >> 8)) & 0x00FF00FF00FF00FF;
    digits = (digits * 100 + (digits >> 16)) & 0x0000FFFF0000FFFF;
    return (digits * 10'000 + (digits >> 32)) & 0xFFFFFFFF;
}
// The digits at p appended to w, modulo 2^64; the place after them.
inline const char* read_digits(const char* p, u64& w) {
    for (;;) {
        const u64 bytes = load8(p), others = non_digits(bytes);
        const int count = others ? std::countr_zero(others) >> 3 : 8;
        w = w * WHOLE_TENS[count] + number_of(bytes, count);
        p += count;
        if (count < 8) return p;
    }
}

// w · 10^q for w > 0 and q in the table, correctly rounded; NaN where that is subnormal or infinite.
inline double scaled(u64 w, int q, const PowersOfFive& fives) {
    const int leading = std::countl_zero(w);
    w <<= leading;
    u128 product = static_cast<u128>(w) * fives.high[q - MIN_POWER];
    constexpr u64 PRECISION = ~u64(0) >> 55;
    if ((static_cast<u64>(product >> 64) & PRECISION) == PRECISION) product += (static_cast<u128>(w) * fives.low[q - MIN_POWER]) >> 64;
    const u64 high = static_cast<u64>(product >> 64), low = static_cast<u64>(product);
    const int upper = static_cast<int>(high >> 63), cut = upper + 9;
    u64 mantissa = high >> cut;
    const int power = ((217706 * q) >> 16) + 63 + upper - leading;  // 217706 / 2^16 = log2(10)
    if (low <= 1 && -4 <= q && q <= 23 && (mantissa & 3) == 1 && mantissa << cut == high) mantissa &= ~u64(1);
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (!(-1022 < power && power < 1023)) return std::numeric_limits<double>::quiet_NaN();
    return std::bit_cast<double>((static_cast<u64>(power + 1022) << 52) + mantissa);  // its leading bit adds 1 to the exponent
}

// The JSON number at p, and the place after it, in the most frequent form: a point among the first 8 characters, no exponent, at
// most 19 digits. Null if it has another form. The place after it does not wait for the value,
// and few branches hang on the number of digits, so that a processor reads several numbers at a time.
inline const char* read_plain_number(const char* p, const PowersOfFive& fives, double& out) {
    const u64 negative = *p == '-';
    p += negative;
    const u64 a = load8(p), b = load8(p + 8), c = load8(p + 16);
    u64 others = non_digits(a);
    if (!others) return nullptr;
    const int point = std::countr_zero(others) >> 3;
    if (p[point] != '.' || point == 0 || (*p == '0' && point > 1)) return nullptr;
    others &= others - 1;
    int size = 0;
    if (!others) {
        others = non_digits(b), size = 8;
        if (!others) others = non_digits(c), size = 16;
        if (!others) return nullptr;
    }
    size += std::countr_zero(others) >> 3;
    const int digits = size - 1, decimals = digits - point;
    if (decimals == 0 || digits > 19 || (p[size] | 32) == 'e') return nullptr;
    const u64 before = (u64(1) << 8 * point) - 1;
    const u64 first = (a & before) | ((a >> 8 | b << 56) & ~before);
    double value;
    if (digits <= 8) {
        value = static_cast<double>(static_cast<i64>(number_of(first, digits))) / TENS[decimals];
    } else {
        const int second = std::min(digits, 16) - 8, third = std::max(digits, 16) - 16;
        u64 w = number_of(first, 8) * WHOLE_TENS[second] + number_of(b >> 8 | c << 56, second);
        w = w * WHOLE_TENS[third] + number_of(c >> 8, third);
        value = w ? scaled(w, -decimals, fives) : 0.0;
    }
    out = std::bit_cast<double>(std::bit_cast<u64>(value) | negative << 63);
    return p + size;
}

// The JSON number at p, and the place after it; null if it is none, beyond MAX_NUMBER, or has more than 19 digits.
inline const char* read_number(const char* p, const PowersOfFive& fives, double& out) {
    const bool negative = *p == '-';
    p += negative;
    const char* const first = p;
    u64 w = 0;
    p = read_digits(p, w);
    i64 digits = p - first, q = 0;
    if (digits == 0 || (*first == '0' && digits > 1)) return nullptr;
    bool real = false;
    if (*p == '.') {
        real = true;
        const char* const point = p++;
        p = read_digits(p, w);
        q = point + 1 - p;
        if (q == 0) return nullptr;
        digits -= q;
        if (digits > 19 && *first == '0') {
            const char* leading = point + 1;
            while (*leading == '0') ++leading;
            digits = p - leading;
        }
    }
    if (digits > 19) return nullptr;
    if (*p == 'e' || *p == 'E') {
        real = true;
        ++p;
        const bool down = *p == '-';
        p += *p == '+' || *p == '-';
        const char* const start = p;
        i64 power = 0;
        while (is_digit(*p)) power = std::min<i64>(10 * power + (*p++ - '0'), 9999);
        if (p == start) return nullptr;
        q += down ? -power : power;
    }
    double value = static_cast<double>(w);
    if (real && w) {
        if (w < (u64(1) << 53) && -22 <= q && q <= 22) value = q > 0 ? value * TENS[q] : value / TENS[-q];
        else if (MIN_POWER <= q && q <= MAX_POWER) value = scaled(w, static_cast<int>(q), fives);
        else return nullptr;
    }
    if (!(value <= MAX_NUMBER) || (negative && !real && !w)) return nullptr;
    out = negative ? -value : value;
    return p;
}

// The shortest text that reads back as the value, as a JSON library writes it; null where it is no number. At most
// NUMBER_BYTES are written, of which those after the returned place are of no meaning.
constexpr i64 NUMBER_BYTES = 48;
char* write_number(char* p, double value, const PowersOfFive& fives);
char* write_number(char* p, i64 value);

}  // namespace ssm
