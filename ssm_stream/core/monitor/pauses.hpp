// Pauses of machines that run in bursts: gaps that are far longer than an entity's usual one.
//
// Of an entity that sends steadily each long gap is news. Where at least half of the entities of a source pause, a gap is what
// they do until it is longer than the pauses that a quarter of them have had, or two; an entity that has sent for far longer than these do from
// one pause to the next sends steadily, and is judged by its own gaps alone. Only these are the other half: on the first day of a
// fleet most have not paused yet. What is silent still has a pause that goes on, of which the others need not wait for the end.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace ssm {
namespace pauses {

constexpr double FAR = 40.0;        // mean gaps from which on a gap is a pause: gaps that come at random are hardly ever so long
constexpr double OFTEN = 180.0;     // gaps of an entity from one pause to the next, at most, that pauses often
constexpr double SEVERAL = 3.0;     // pauses of one that pauses more rarely: one or two are outages
constexpr double STEADILY = 4.0;    // times the gaps of the others from one pause to the next without one
constexpr double AGAIN = 1.5;       // times a usual pause, up to which a gap is one
constexpr double ENTITIES = 2.0, SHARE = 0.5;  // that pause, and their share of these and of those that send steadily
constexpr double GOES_ON = 4.0;     // times its longest pause, or `FAR`, up to which one that goes on is one: it may never end
constexpr double SOME = 0.25;       // share of these that have had so long a pause: fewer may have had an outage

constexpr i64 SHOWN = 1000;         // entities of a process that show how others pause

// Of an entity: pauses so far, and the longest lately, ms.
constexpr i64 COUNT = 0, LONGEST = 1, SIZE = 2;

// Notes a gap of `length` ms. mean: of the gaps; kept: gaps' ms over which the longest pause is forgotten by itself
inline void note(double* p, double length, double mean, double kept, double rarity) {
    if (p[LONGEST] > 0.0) p[LONGEST] -= std::fmin(p[LONGEST], std::fmin(length / kept, p[LONGEST] / rarity));
    if (length <= FAR * mean) return;
    p[COUNT] += 1.0;
    p[LONGEST] = std::fmax(p[LONGEST], length);
}

// Whether an entity with so many gaps pauses often; whether it pauses at all.
inline bool often(const double* p, double gaps) { return p[COUNT] >= 1.0 && gaps <= OFTEN * p[COUNT]; }
inline bool pauses(const double* p, double gaps) { return p[COUNT] >= SEVERAL || often(p, gaps); }

// The pauses of the entities of a source.
class Pool {
  public:
    void clear() {
        longest_.clear();
        between_.clear();
        without_.clear();
    }
    // An entity with so many gaps. away: ms for which it has been silent so far, 0: it is not; mean: of the gaps
    void add(const double* own, double gaps, double mean, double away) {
        double p[SIZE] = {own[COUNT], own[LONGEST]};
        if (away > FAR * mean && away <= GOES_ON * std::fmax(p[LONGEST], FAR * mean)) {
            p[LONGEST] = std::fmax(p[LONGEST], away);
            p[COUNT] += 1.0;
        }
        if (!pauses::pauses(p, gaps)) {
            without_.push_back(gaps / std::fmax(p[COUNT], 1.0));
            return;
        }
        longest_.push_back(p[LONGEST]);
        between_.push_back(gaps / p[COUNT]);
    }
    // The longest gap, ms, that is a pause as of the others, of an entity with so many gaps; 0: it has none.
    double allowed(const double* p, double gaps) {
        const double n = static_cast<double>(longest_.size());
        if (n < ENTITIES) return 0.0;
        const auto middle = between_.begin() + static_cast<std::ptrdiff_t>(between_.size() / 2);
        std::nth_element(between_.begin(), middle, between_.end());
        const auto steady = std::count_if(without_.begin(), without_.end(), [&](double g) { return g > STEADILY * *middle; });
        if (n < SHARE * (n + static_cast<double>(steady))) return 0.0;
        if (gaps > STEADILY * *middle * std::fmax(p[COUNT], 1.0)) return 0.0;
        const auto some = longest_.begin() + static_cast<std::ptrdiff_t>(std::fmax(ENTITIES, std::ceil(SOME * n))) - 1;
        std::nth_element(longest_.begin(), some, longest_.end(), [](double a, double b) { return a > b; });
        return AGAIN * *some;
    }

  private:
    std::vector<double> longest_, between_, without_;
};

}  // namespace pauses
}  // namespace ssm
