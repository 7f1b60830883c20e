// The ends of a signal's range. One at which it has spent many of its values is no value at which a sensor is stuck: a valve that
// is open, a fan at its most, what a machine draws at rest. The run that goes on does not count, so that a new extreme at which a
// sensor is stuck excuses nothing.
//
// A value a little beyond, as -0.1 of a valve that closes, takes from zero, or from such an end, that it is one. How long the signal
// has rested there stays known: a rest like those before is still none.
#pragma once
#include <algorithm>

#include "../array.hpp"

namespace ssm {
namespace range_ends {

// A rest counts as at most so many times the longest one before, and that as so many values at least, so that no long stop before a
// signal is used hides that it is stuck; with each value the longest one becomes shorter by so much of one.
constexpr double RAISED = 4.0, LEAST_REST = 4.0, FADES = 0.002;
constexpr double OFTEN = 0.05, HALVED = 2000.0;  // share of the values; number of them by which counts are halved

// Its last value, and how often in a row; the values so far; the least and the largest, each with the values of the runs at it that
// are over; and the rests at zero, at the least and at the largest value, of each the value and the longest.
constexpr i64 LAST = 0, RUN = 1, VALUES = 2, LEAST = 3, AT_LEAST = 4, LARGEST = 5, AT_LARGEST = 6, RESTS = 7, REST = 2, SIZE = RESTS + 3 * REST;

inline void forget(double* s, double value) {
    for (const i64 count : {VALUES, AT_LEAST, AT_LARGEST}) s[count] *= 0.5;
    // What was touched once, as by a wrong value, hides the true end no longer.
    if (s[AT_LEAST] < 1.0) s[LEAST] = value, s[AT_LEAST] = 0.0;
    if (s[AT_LARGEST] < 1.0) s[LARGEST] = value, s[AT_LARGEST] = 0.0;
}

// Of the run that is over: is it the longest at its value?
inline void count_rest(double* s) {
    for (i64 k = 0; k < 3; ++k) {
        double &at = s[RESTS + REST * k], &longest = s[RESTS + REST * k + 1];
        const bool is_end = (k == 1 && s[LAST] == s[LEAST]) || (k == 2 && s[LAST] == s[LARGEST]);
        if (is_end && at != s[LAST] && s[RUN] > longest) at = s[LAST], longest = 0.0;
        if (at == s[LAST]) longest = std::max(longest, std::min(s[RUN], RAISED * std::max(longest, LEAST_REST)));
    }
}
// The longest rest at a value so far, without the run that goes on.
inline double rested(const double* s, double value) {
    double longest = 0.0;
    for (i64 k = 0; k < 3; ++k)
        if (s[RESTS + REST * k] == value) longest = std::max(longest, s[RESTS + REST * k + 1]);
    return longest;
}

// Counts a value; returns whether it is an end of the range at which the signal has often been before this run.
inline bool reached_often(double* s, double value) {
    for (i64 k = 0; k < 3; ++k) s[RESTS + REST * k + 1] = std::max(s[RESTS + REST * k + 1] - FADES, 0.0);
    if (s[RUN] > 0.0 && value == s[LAST]) s[RUN] += 1.0;
    else if (s[RUN] > 0.0) {
        count_rest(s);
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
