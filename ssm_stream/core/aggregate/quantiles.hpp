// Quantiles of a window in bounded memory, the same in whatever order its values come.
//
// Up to EXACT values are kept as they are. Beyond that they are counted in bins, of which each power of two has 64: a bin is
// named by the first bits of its numbers, as in HdrHistogram, and a quantile is off by at most 1/128 of its value. Where
// more than BINS bins are in use, two and two become one, as in UDDSketch (Epicoco et al. 2020), which doubles that. How often
// that happens follows from the set of the values alone, and so does every result; t-digests and KLL sketches depend on the order.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../sizes.hpp"

namespace ssm::aggregate {

constexpr std::size_t EXACT = 64, BINS_MAX = 1024;
constexpr int DROPPED = 46;  // of the 52 bits of a fraction: 6 stay, 64 bins a power of two

struct Bin { std::int32_t place; std::uint32_t count; };

class Quantiles {
  public:
    void add(double x) {
        if (count_ < 0) return;
        if (!count_ || x < low_) low_ = x;
        if (!count_ || x > high_) high_ = x;
        ++count_;
        if (bins_.empty()) {
            exact_.push_back(x);
            if (exact_.size() > EXACT) {
                for (double each : exact_) count(place_of(each));
                exact_.clear();
            }
        } else count(place_of(x));
    }
    // The smallest value that at least so many of 100,000 parts of the values do not exceed.
    double value(i64 parts) const {
        if (count_ <= 0) return NAN;
        i64 rank = (parts * count_ + 99'999) / 100'000;
        rank = std::clamp<i64>(rank, 1, count_);
        if (bins_.empty()) {
            std::vector<double> sorted(exact_);
            std::nth_element(sorted.begin(), sorted.begin() + (rank - 1), sorted.end());
            return sorted[static_cast<std::size_t>(rank - 1)];
        }
        for (const Bin& bin : bins_)
            if ((rank -= bin.count) <= 0) return std::clamp(middle_of(bin.place), low_, high_);
        return high_;
    }
    // Makes them unknown for good: values are missing.
    void lose() {
        clear();
        count_ = -1;
    }
    void clear() {
        exact_.clear();
        bins_.clear();
        count_ = level_ = 0;
    }
    std::size_t memory() const { return exact_.capacity() * sizeof(double) + bins_.capacity() * sizeof(Bin); }
    template <class Stream> void each(Stream& stream) {
        stream(exact_), stream(bins_), stream(count_), stream(level_), stream(low_), stream(high_);
        level_ = std::clamp<i64>(level_, 0, 16);
    }

  private:
    std::int32_t place_of(double x) const {
        const auto bits = std::bit_cast<std::uint64_t>(x);
        const auto place = static_cast<std::int32_t>((bits & ~(std::uint64_t(1) << 63)) >> DROPPED);
        return (bits >> 63 ? ~place : place) >> level_;
    }
    double middle_of(std::int32_t place) const {
        const bool negative = place < 0;
        const auto at = static_cast<std::uint64_t>(negative ? ~place : place);
        const auto edge = [&](std::uint64_t k) { return std::bit_cast<double>(k << (DROPPED + level_)); };
        const double low = edge(at), middle = low + (edge(at + 1) - low) / 2.0;
        return negative ? -middle : middle;
    }
    void count(std::int32_t place) {
        auto at = std::lower_bound(bins_.begin(), bins_.end(), place, [](const Bin& bin, std::int32_t k) { return bin.place < k; });
        if (at != bins_.end() && at->place == place) {
            ++at->count;
            return;
        }
        bins_.insert(at, {place, 1});
        while (bins_.size() > BINS_MAX) merge();
    }
    void merge() {
        ++level_;
        std::size_t kept = 0;
        for (const Bin bin : bins_) {
            if (kept && bins_[kept - 1].place == bin.place >> 1) bins_[kept - 1].count += bin.count;
            else bins_[kept++] = {bin.place >> 1, bin.count};
        }
        bins_.resize(kept);
    }

    std::vector<double> exact_;
    std::vector<Bin> bins_;
    i64 count_ = 0, level_ = 0;
    double low_ = 0.0, high_ = 0.0;
};

}  // namespace ssm::aggregate
