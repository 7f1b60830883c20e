// Messages that were written one behind the other.
#pragma once
#include <cstddef>
#include <string_view>
#include <vector>

#include "../block.hpp"
#include "../sizes.hpp"

namespace ssm::json {

class Rows {
  public:
    explicit Rows(i64 expected) { ends_.reserve(static_cast<std::size_t>(expected)); }

    // Room for so many bytes, at which the next one is written.
    char* reserve(std::size_t bytes) {
        if (text_.size() < used_ + bytes) text_.grow(grown(bytes), used_);
        return text_.data() + used_;
    }
    // Adds what was written up to there.
    void add(const char* end) {
        used_ = static_cast<std::size_t>(end - text_.data());
        ends_.push_back(used_);
    }
    i64 size() const { return static_cast<i64>(ends_.size()); }
    std::string_view operator[](i64 i) const {
        const std::size_t begin = i ? ends_[static_cast<std::size_t>(i - 1)] : 0;
        return {text_.data() + begin, ends_[static_cast<std::size_t>(i)] - begin};
    }

  private:
    // What all will need if they are as long as those before.
    std::size_t grown(std::size_t bytes) const {
        const std::size_t mean = ends_.empty() ? bytes : used_ / ends_.size() + 1;
        return used_ + bytes + mean * (ends_.capacity() - ends_.size());
    }

    Block text_;
    std::vector<std::size_t> ends_;
    std::size_t used_ = 0;
};

}  // namespace ssm::json
