// Sums that do not depend on the order of their terms: the exact sum, rounded once.
//
// Shewchuk, "Adaptive precision floating-point arithmetic and fast robust geometric predicates" (1997); as Python's math.fsum.
#pragma once
#include <cmath>
#include <utility>
#include <vector>

namespace ssm::aggregate {

// Numbers that do not overlap, from the smallest to the largest, whose sum is exact.
class ExactSum {
  public:
    void add(double x) {
        if (lost()) return;
        std::size_t kept = 0;
        for (double y : partials_) {
            if (std::fabs(x) < std::fabs(y)) std::swap(x, y);
            const double high = x + y, low = y - (high - x);
            if (low != 0.0) partials_[kept++] = low;
            x = high;
        }
        partials_.resize(kept);
        partials_.push_back(x);
    }
    double value() const {
        std::size_t n = partials_.size();
        if (!n) return 0.0;
        double high = partials_[--n], low = 0.0;
        while (n) {
            const double x = high, y = partials_[--n];
            high = x + y;
            low = y - (high - x);
            if (low != 0.0) break;
        }
        // Half-way cases go by what is below them.
        if (n && ((low < 0.0 && partials_[n - 1] < 0.0) || (low > 0.0 && partials_[n - 1] > 0.0))) {
            const double y = low * 2.0, x = high + y;
            if (y == x - high) high = x;
        }
        return high;
    }
    // Makes it unknown for good: terms are missing.
    void lose() { partials_.assign(1, NAN); }
    bool lost() const { return !partials_.empty() && std::isnan(partials_[0]); }
    void clear() { partials_.clear(); }
    std::size_t memory() const { return partials_.capacity() * sizeof(double); }
    std::vector<double>& partials() { return partials_; }

  private:
    std::vector<double> partials_;
};

}  // namespace ssm::aggregate
