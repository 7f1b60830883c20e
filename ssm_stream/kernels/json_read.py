"""Flat JSON objects whose numbers are numbers, read straight into columns: for `kafka/fast_json.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.jit import inner, jit

SMALLEST_POWER, LARGEST_POWER = -280, 280  # of ten, beyond which a number is left to the general reader
LARGEST = float(np.finfo(np.float32).max)  # as ingest.events has it
LONGEST_NAME = 512  # as config has it; a test compares
LOW = np.uint64(0xFFFFFFFF)
PRECISION = np.uint64(0xFFFFFFFFFFFFFFFF >> 55)
TENS = tuple(10.0**i for i in range(23))  # all exact
ENTITY, TIME = 0, 1  # places among the fields
PROBES = 32
"""Places that are looked at for a name among those of its chunk."""


def powers_of_five() -> NDArray[np.uint64]:
    """The leading 128 bits of 5^q, as two words: the table of Lemire, Number Parsing at a Gigabyte per Second (2021)"""
    rows = []
    for q in range(SMALLEST_POWER, LARGEST_POWER + 1):
        five = 5 ** abs(q)
        if q < 0:
            z = (five - 1).bit_length()
            word = 2 ** (z + 127 if q >= -27 else 2 * z + 128) // five + 1
        else:
            word = five << 128
        word = word >> (word.bit_length() - 128)
        rows.append((word >> 64, word & 0xFFFFFFFFFFFFFFFF))
    return np.array(rows, np.uint64)


@inner
def _product(a: Any, b: Any) -> Any:
    """High and low word of a 64 × 64 bit product."""
    shift = np.uint64(32)
    a0, a1, b0, b1 = a & LOW, a >> shift, b & LOW, b >> shift
    low, middle, other = a0 * b0, a1 * b0, a0 * b1
    carry = (low >> shift) + (middle & LOW) + (other & LOW)
    return a1 * b1 + (middle >> shift) + (other >> shift) + (carry >> shift), (carry << shift) | (low & LOW)


@inner
def _scaled(w: Any, q: int, fives: Any) -> float:
    """w · 10^q for w > 0, correctly rounded (Eisel's and Lemire's method); NaN where that is subnormal or infinite."""
    leading = 0
    for step in (32, 16, 8, 4, 2, 1):
        if w >> np.uint64(64 - step) == np.uint64(0):
            w <<= np.uint64(step)
            leading += step
    row = q - SMALLEST_POWER
    high, low = _product(w, fives[row, 0])
    if high & PRECISION == PRECISION:
        more, _ = _product(w, fives[row, 1])
        low += more
        if more > low:
            high += np.uint64(1)
    upper = int(high >> np.uint64(63))
    cut = np.uint64(upper + 9)
    mantissa = high >> cut
    power = ((217706 * q) >> 16) + 63 + upper - leading  # 217706 / 2^16 = log2(10)
    if low <= np.uint64(1) and -4 <= q <= 23 and mantissa & np.uint64(3) == np.uint64(1) and mantissa << cut == high:
        mantissa &= ~np.uint64(1)
    mantissa = (mantissa + (mantissa & np.uint64(1))) >> np.uint64(1)
    if not -1022 < power < 1023:
        return math.nan
    return math.ldexp(float(mantissa), power - 52)


@inner
def _number(text: Any, i: int, end: int, fives: Any, tens: Any) -> Any:
    """The JSON number that begins at `i`: its value, and the place after it; −1 where it is left to `EventReader`."""
    negative, real, digits = False, False, 0
    q: Any = 0
    w = np.uint64(0)
    if text[i] == 45:
        negative = True
        i += 1
    start = i
    while i < end and 48 <= text[i] <= 57:
        w = w * np.uint64(10) + np.uint64(text[i] - 48)
        digits += 1
        i += 1
    if i == start or (text[start] == 48 and i > start + 1):
        return 0.0, -1
    if i < end and text[i] == 46:
        real, i = True, i + 1
        start = i
        while i < end and 48 <= text[i] <= 57:
            w = w * np.uint64(10) + np.uint64(text[i] - 48)
            digits += 1 if w else 0
            i += 1
        q = start - i
        if q == 0:
            return 0.0, -1
    if digits > 19:
        return 0.0, -1
    if i < end and (text[i] == 101 or text[i] == 69):
        real, i, sign, power = True, i + 1, 1, 0
        if i < end and (text[i] == 43 or text[i] == 45):
            sign = 44 - int(text[i])
            i += 1
        start = i
        while i < end and 48 <= text[i] <= 57:
            power = min(power * 10 + int(text[i]) - 48, 9999)
            i += 1
        if i == start:
            return 0.0, -1
        q += sign * power
    value = float(w)
    if real and w:
        if w < np.uint64(1 << 53) and -22 <= q <= 22:
            value = value * tens[q] if q > 0 else value / tens[-q]
        elif SMALLEST_POWER <= q <= LARGEST_POWER:
            value = _scaled(w, q, fives)
        else:
            return 0.0, -1
    if not value <= LARGEST or (negative and not real and not w):
        return 0.0, -1
    return -value if negative else value, i


@inner
def _after_space(text: Any, i: int, end: int) -> int:
    while i < end and (text[i] == 32 or text[i] == 10 or text[i] == 13 or text[i] == 9):
        i += 1
    return i


@inner
def _text_end(text: Any, i: int, end: int) -> int:
    """The place of the quote that ends the text begun before `i`; −1 where something in it must be looked at."""
    while i < end:
        if text[i] == 34:
            return i
        if text[i] == 92 or text[i] < 32:
            return -1
        i += 1
    return -1


@inner
def _word(text: Any, i: int, end: int) -> Any:
    """true, false or null at `i`: (1, 0 or NaN, the place after it or −1)."""
    if i + 4 <= end and text[i] == 116 and text[i + 1] == 114 and text[i + 2] == 117 and text[i + 3] == 101:
        return 1.0, i + 4
    if i + 4 <= end and text[i] == 110 and text[i + 1] == 117 and text[i + 2] == 108 and text[i + 3] == 108:
        return math.nan, i + 4
    if i + 5 <= end and text[i] == 102 and text[i + 1] == 97 and text[i + 2] == 108 and text[i + 3] == 115:
        return 0.0, i + 5 if text[i + 4] == 101 else -1
    return 0.0, -1


@inner
def _field(text: Any, start: int, end: int, names: Any, ends: Any, guess: int) -> int:
    """Which field the name text[start:end] is; −1: none. The guess is looked at first."""
    count = len(ends)
    for k in range(count):
        j = (guess + k) % count
        begin = ends[j - 1] if j else 0
        size = ends[j] - begin
        if size == end - start:
            same = 0
            while same < size and names[begin + same] == text[start + same]:
                same += 1
            if same == size:
                return j
    return -1


@jit
def read(
    text: Any, ends: Any, names: Any, name_ends: Any, columns: Any, truth: int, values: Any, spans: Any, fives: Any,
    tens: Any,
) -> int:  # fmt: skip
    """Documents text[ends[i−1]:ends[i]] to rows of `values` and to the span of their entity; how many until it gave up.

    columns: the fields from `truth` on may be true or false
    """
    at = 0
    for row in range(len(ends)):
        i, end = _after_space(text, at, ends[row]), ends[row]
        at = end
        spans[row, 0] = spans[row, 1] = 0
        for j in range(columns):
            values[row, j] = math.nan
        if i >= end or text[i] != 123:
            return row
        i, guess = _after_space(text, i + 1, end), 0
        while True:
            if i >= end or text[i] != 34:
                return row
            close = _text_end(text, i + 1, end)
            if close < 0:
                return row
            field = _field(text, i + 1, close, names, name_ends, guess)
            i = _after_space(text, close + 1, end)
            if i >= end or text[i] != 58:
                return row
            i = _after_space(text, i + 1, end)
            if i >= end:
                return row
            guess = field + 1 if field >= 0 else guess
            c = text[i]
            if c == 34:
                close = _text_end(text, i + 1, end)
                if close < 0 or field > ENTITY or (field == ENTITY and not 0 < close - i - 1 <= LONGEST_NAME):
                    return row
                if field == ENTITY:
                    spans[row, 0], spans[row, 1] = i + 1, close
                i = close + 1
            else:
                if c == 45 or 48 <= c <= 57:
                    value, i = _number(text, i, end, fives, tens)
                else:
                    value, i = _word(text, i, end)
                    if not math.isnan(value) and 0 <= field < truth:
                        return row
                if i < 0 or field == ENTITY:
                    return row
                if field > ENTITY:
                    values[row, field - 1] = value
            i = _after_space(text, i, end)
            if i >= end:
                return row
            if text[i] == 125:
                break
            if text[i] != 44:
                return row
            i = _after_space(text, i + 1, end)
        if _after_space(text, i + 1, end) != end or spans[row, 1] == 0 or math.isnan(values[row, 0]):
            return row
    return len(ends)


@jit
def distinct(raw: Any, spans: Any, table: Any, first: Any, which: Any) -> int:
    """Number the texts at n spans of `raw`: which[row], in order of appearance; first[number] is a row that has it.

    A text may get a second number where too many others have fallen upon its place: the search is bounded.

    Args:
        table: (a power of two, 2n at least) −1 everywhere

    Returns:
        how many numbers there are
    """
    count, last = 0, len(table) - 1
    for row in range(len(spans)):
        start, end = spans[row, 0], spans[row, 1]
        code = np.uint64(14695981039346656037)  # FNV-1a
        for i in range(start, end):
            code = (code ^ np.uint64(raw[i])) * np.uint64(1099511628211)
        place = np.int64((code ^ (code >> np.uint64(32))) & np.uint64(last))
        found = -1
        for _ in range(PROBES):
            number = table[place]
            if number < 0:
                table[place] = count
                break
            there, size = spans[first[number], 0], end - start
            if spans[first[number], 1] - there == size:
                same = True
                for i in range(size):
                    same = same and raw[there + i] == raw[start + i]
                if same:
                    found = number
                    break
            place = (place + 1) & last
        if found < 0:
            found = count
            first[count] = row
            count += 1
        which[row] = found
    return count
