// Memory for the texts of a chunk. What a chunk leaves is the next one's: fresh pages of the system cost as much as writing to them.
#pragma once
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ssm {

class Block {
  public:
    Block() = default;
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { give_back(std::move(memory_), size_); }

    char* data() { return memory_.get(); }
    const char* data() const { return memory_.get(); }
    std::size_t size() const { return size_; }

    // Makes room for `size` bytes, and keeps the first `used`.
    void grow(std::size_t size, std::size_t used) {
        if (size <= size_) return;
        auto [memory, room] = take(size);
        if (used) std::memcpy(memory.get(), memory_.get(), used);
        give_back(std::exchange(memory_, std::move(memory)), std::exchange(size_, room));
    }

  private:
    using Memory = std::unique_ptr<char[]>;
    static constexpr std::size_t KEPT = 8, LARGEST = std::size_t(1) << 22;
    struct Spare {
        std::mutex lock;
        std::vector<std::pair<Memory, std::size_t>> all;
    };
    // Never destroyed: the last blocks may go after it.
    static Spare& spare() {
        static Spare& kept = *new Spare;
        return kept;
    }
    static std::pair<Memory, std::size_t> take(std::size_t size) {
        Spare& kept = spare();
        const std::lock_guard guard(kept.lock);
        for (std::size_t i = kept.all.size(); i-- > 0;) {
            if (kept.all[i].second < size) continue;
            std::swap(kept.all[i], kept.all.back());
            auto found = std::move(kept.all.back());
            kept.all.pop_back();
            return found;
        }
        return {Memory(new char[size]), size};
    }
    static void give_back(Memory memory, std::size_t size) {
        if (!memory || size > LARGEST) return;
        Spare& kept = spare();
        const std::lock_guard guard(kept.lock);
        if (kept.all.size() == KEPT) kept.all.erase(kept.all.begin());
        kept.all.emplace_back(std::move(memory), size);
    }

    Memory memory_;
    std::size_t size_ = 0;
};

}  // namespace ssm
