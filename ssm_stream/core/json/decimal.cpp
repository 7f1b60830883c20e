#include "decimal.hpp"

#include <array>
#include <cmath>

namespace ssm {
namespace {

using Wide = std::array<std::uint32_t, 56>;  // a whole number, its lowest 32 bits first

u128 leading_bits(const Wide& x) {
    std::size_t i = x.size() - 1;
    while (!x[i]) --i;
    const auto word = [&](std::size_t at) { return static_cast<u128>(static_cast<u64>(x[at]) << 32 | x[at - 1]); };
    const u128 top = word(i) << 64 | word(i - 2);
    const int zeros = std::countl_zero(x[i]);
    return zeros ? top << zeros | x[i - 4] >> (32 - zeros) : top;
}

}  // namespace

PowersOfFive::PowersOfFive() {
    const auto put = [&](int q, u128 bits) {
        high[q - MIN_POWER] = static_cast<u64>(bits >> 64), low[q - MIN_POWER] = static_cast<u64>(bits);
    };
    Wide up{}, down{};  // 5^q · 2^160, ⌊2^1760 / 5^−q⌋: floors of floors are the floor of the whole
    up[5] = 1, down[55] = 1;
    put(0, leading_bits(up));
    for (int q = 1; q <= MAX_POWER; ++q) {
        u64 carry = 0;
        for (auto& word : up) carry += u64(5) * word, word = static_cast<std::uint32_t>(carry), carry >>= 32;
        put(q, leading_bits(up));
    }
    for (int q = -1; q >= MIN_POWER; --q) {
        u64 rest = 0;
        for (std::size_t i = down.size(); i-- > 0; rest %= 5) rest = rest << 32 | down[i], down[i] = static_cast<std::uint32_t>(rest / 5);
        put(q, leading_bits(down) + (q >= -27));
    }
}

const PowersOfFive& powers_of_five() {
    static const PowersOfFive fives;
    return fives;
}

// --- writing ------------------------------------------------------------------------------------------------------

namespace {

struct Decimal { u64 digits; int power; };  // digits · 10^power

// The upper 64 bits of g · c / 2^64, and 1 in the last of them where anything lies below.
u64 round_to_odd(u64 high, u64 low, u64 c) {
    const u128 product = static_cast<u128>(high) * c + ((static_cast<u128>(low) * c) >> 64);
    return static_cast<u64>(product >> 64) | (static_cast<u64>(product) > 1);
}

// The shortest decimal that rounds to a value > 0, of these the closest.
Decimal shortest(double value, const PowersOfFive& fives) {
    const u64 bits = std::bit_cast<u64>(value), fraction = bits & ((u64(1) << 52) - 1);
    const int biased = static_cast<int>(bits >> 52);
    const u64 c = biased ? fraction | u64(1) << 52 : fraction;
    const int q = std::max(biased, 1) - 1075;  // the value is c · 2^q
    const bool closer = fraction == 0 && biased > 1, odd = c & 1;  // the float below is closer than the one above
    const int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;  // ⌊log10 2^q⌋, of 3/4 · 2^q where it is closer
    const int h = q + ((-k * 1741647) >> 19) + 1;
    const int at = -k - MIN_POWER;
    u128 g = static_cast<u128>(fives.high[at]) << 64 | fives.low[at];
    g += -k < -27 || -k > 55;  // rounded up
    const u64 high = static_cast<u64>(g >> 64), low = static_cast<u64>(g);
    const u64 lower = round_to_odd(high, low, (4 * c - 2 + closer) << h) + odd;
    const u64 middle = round_to_odd(high, low, (4 * c) << h);
    const u64 upper = round_to_odd(high, low, (4 * c + 2) << h) - odd;
    const u64 s = middle / 4;
    if (s >= 10) {
        const u64 tenth = s / 10;
        const bool below = lower <= 40 * tenth, above = 40 * tenth + 40 <= upper;
        if (below != above) return {tenth + above, k + 1};
    }
    const bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above) return {s + above, k};
    const u64 half = 4 * s + 2;
    return {s + (middle > half || (middle == half && (s & 1))), k};
}

// 8 digits as text, zeros in front.
u64 eight_digits(u64 number) {
    u64 x = number / 10'000 | (number % 10'000) << 32;
    u64 tens = ((x * 10'486) >> 20) & 0x7F0000007F;  // of 4 digits each, by 100
    x = tens | (x - 100 * tens) << 16;
    tens = ((x * 103) >> 10) & 0x000F000F000F000F;  // of 2 digits each, by 10
    return (tens | (x - 10 * tens) << 8) | 0x3030303030303030;
}
void store8(char* p, u64 bytes) { std::memcpy(p, &bytes, 8); }

constexpr std::array<u64, 20> DIGITS = [] {
    std::array<u64, 20> powers{1};
    for (std::size_t i = 1; i < powers.size(); ++i) powers[i] = 10 * powers[i - 1];
    powers[0] = 0;  // 0 has a digit
    return powers;
}();
int count_digits(u64 number) {
    const int least = (64 - std::countl_zero(number | 1)) * 1233 >> 12;  // 1233 / 2^12 = log10(2)
    return least + (number >= DIGITS[static_cast<std::size_t>(least)]);
}
// A number of `count` digits at p; up to 7 bytes after them are written.
void write_digits(char* p, u64 number, int count) {
    constexpr u64 HALF = 100'000'000;
    const auto write_first = [&p](u64 upper, int digits) {
        store8(p, eight_digits(upper) >> 8 * (8 - digits));
        p += digits;
    };
    if (count <= 8) return write_first(number, count);
    if (count <= 16) {
        write_first(number / HALF, count - 8);
    } else {
        write_first(number / (HALF * HALF), count - 16);
        store8(p, eight_digits(number / HALF % HALF));
        p += 8;
    }
    store8(p, eight_digits(number % HALF));
}

}  // namespace

char* write_number(char* p, double value, const PowersOfFive& fives) {
    if (!(std::fabs(value) < std::numeric_limits<double>::infinity())) {
        std::memcpy(p, "null", 4);
        return p + 4;
    }
    *p = '-';
    p += std::signbit(value);
    value = std::fabs(value);
    if (value < 1e15 && value == static_cast<double>(static_cast<i64>(value))) {
        p = write_number(p, static_cast<i64>(value));
        std::memcpy(p, ".0", 2);
        return p + 2;
    }
    auto [digits, power] = shortest(value, fives);
    if (digits % 10 == 0) {
        if (digits % 100'000'000 == 0) digits /= 100'000'000, power += 8;
        for (; digits % 100 == 0; power += 2) digits /= 100;
        if (digits % 10 == 0) digits /= 10, ++power;
    }
    const int count = count_digits(digits), point = count + power;  // 0.digits · 10^point
    if (value < 1e-5 || value >= 1e16) {
        write_digits(p + 1, digits, count);
        p[0] = p[1];
        p[1] = '.';
        p += count > 1 ? count + 1 : 1;
        *p++ = 'e';
        *p++ = point > 0 ? '+' : '-';
        return write_number(p, static_cast<i64>(std::abs(point - 1)));
    }
    if (point <= 0) {
        std::memcpy(p, "0.00000", 7);
        write_digits(p + 2 - point, digits, count);
        return p + 2 - point + count;
    }
    if (power < 0) {
        write_digits(p + 1, digits, count);
        if (point < 8) {
            const u64 before = (u64(1) << 8 * point) - 1;  // the point
            store8(p, (load8(p + 1) & before) | (load8(p) & ~before));
        } else {
            std::memmove(p, p + 1, static_cast<std::size_t>(point));
        }
        p[point] = '.';
        return p + count + 1;
    }
    write_digits(p, digits, count);
    std::memset(p + count, '0', static_cast<std::size_t>(power));
    std::memcpy(p + point, ".0", 2);
    return p + point + 2;
}

char* write_number(char* p, i64 value) {
    u64 size = static_cast<u64>(value);
    if (value < 0) *p++ = '-', size = -size;
    const int count = count_digits(size);
    write_digits(p, size, count);
    return p + count;
}

}  // namespace ssm
