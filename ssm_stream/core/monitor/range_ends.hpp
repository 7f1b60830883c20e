// The ends of a signal's range. One at which it has spent many of its values is no value at which a sensor is stuck: a valve that
// is open, a fan at its most, what a machine draws at rest. The run that goes on does not count, so that a new extreme at which a
// sensor is stuck excuses nothing.
#pragma once
#include "../array.hpp"

namespace ssm {
namespace range_ends {

constexpr double OFTEN = 0.05, HALVED = 2000.0;  // share of the values; number of them by which counts are halved

// Its last value, and how often in a row; the values so far; the least and the largest, each with the values of the runs at it that
// are over.
constexpr i64 LAST = 0, RUN = 1, VALUES = 2, LEAST = 3, AT_LEAST = 4, LARGEST = 5, AT_LARGEST = 6, SIZE = 7;

inline void forget(double* s, double value) {
    for (const i64 count : {VALUES, AT_LEAST, AT_LARGEST}) s[count] *= 0.5;
    // What was touched once, as by a wrong value, hides the true end no longer.
    if (s[AT_LEAST] < 1.0) s[LEAST] = value, s[AT_LEAST] = 0.0;
    if (s[AT_LARGEST] < 1.0) s[LARGEST] = value, s[AT_LARGEST] = 0.0;
}

// Counts a value; returns whether it is an end of the range at which the signal has often been before this run.
inline bool reached_often(double* s, double value) {
    if (s[RUN] > 0.0 && value == s[LAST]) s[RUN] += 1.0;
    else if (s[RUN] > 0.0) {
        if (s[LAST] == s[LEAST]) s[AT_LEAST] += s[RUN];
        if (s[LAST] == s[LARGEST]) s[AT_LARGEST] += s[RUN];
        s[VALUES] += s[RUN];
        if (s[VALUES] >= HALVED) forget(s, value);
        s[RUN] = 1.0;
    } else {
        s[LEAST] = s[LARGEST] = value;
        s[RUN] = 1.0;
    }
    if (value < s[LEAST]) s[LEAST] = value, s[AT_LEAST] = 0.0;
    if (value > s[LARGEST]) s[LARGEST] = value, s[AT_LARGEST] = 0.0;
    s[LAST] = value;
    const double often = OFTEN * s[VALUES];
    return (value == s[LEAST] && s[AT_LEAST] > often) || (value == s[LARGEST] && s[AT_LARGEST] > often);
}

}  // namespace range_ends
}  // namespace ssm
