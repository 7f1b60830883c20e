// The messages of one partition that were read at once, copied out of the client's memory into one block.
#pragma once
#include <nanobind/nanobind.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "../block.hpp"
#include "../sizes.hpp"

namespace ssm::client {

class Messages {
  public:
    struct Text {
        std::size_t at = 0, size = 0;
        bool there = false;
    };
    struct One {
        Text key, value;
        i64 offset, timestamp;
        int timestamp_type;
        std::size_t headers;  // end of its own, which begin where those of the one before end
    };
    struct Header {
        Text name, value;
    };

    explicit Messages(int partition) : partition(partition) {}

    Text keep(const void* from, std::size_t size) {
        const Text text{used_, size, from != nullptr};
        if (!from) return text;
        if (bytes_.size() < used_ + size) bytes_.grow(2 * (used_ + size), used_);
        if (size) std::memcpy(bytes_.data() + used_, from, size);  // no byte needs no block
        used_ += size;
        return text;
    }
    void reserve(std::size_t messages, std::size_t bytes) {
        all.reserve(messages);
        bytes_.grow(bytes, 0);
    }
    std::string_view view(const Text& text) const { return {bytes_.data() + text.at, text.size}; }
    std::string_view value(i64 i) const { return view(all[static_cast<std::size_t>(i)].value); }
    i64 size() const { return static_cast<i64>(all.size()); }

    const int partition;
    std::vector<One> all;
    std::vector<Header> headers;
    std::size_t longest = 0;  // of the values

  private:
    Block bytes_;
    std::size_t used_ = 0;
};

}  // namespace ssm::client
