// Texts that come again and again: names of entities, texts of categories.
#pragma once
#include <Python.h>

#include <string>
#include <string_view>
#include <vector>

#include "decimal.hpp"

namespace ssm {

// Text → its Python string, made once. Bounded, so that unlimited distinct texts cannot exhaust memory: at the bound it starts
// empty again.
class TextTable {
  public:
    struct Entry {
        u64 hash = 0;
        std::string text;
        PyObject* string = nullptr;
        double code = 0.0;  // of a category
        u64 chunk = 0;      // in which it was last seen
    };

    TextTable() = default;
    TextTable(const TextTable&) = delete;
    ~TextTable() { clear(); }

    // The entry of a text that is UTF-8, valid until the next call; null with a Python error.
    Entry* find(std::string_view text) {
        if (2 * entries_.size() >= places_.size()) grow();
        const u64 hash = hash_of(text);
        for (std::size_t i = 0, at = hash & mask(); i < MAX_PROBES; ++i, at = (at + 1) & mask()) {
            if (!places_[at]) return add(text, hash, &places_[at]);
            Entry& entry = entries_[places_[at] - 1];
            if (entry.hash == hash && entry.text == text) return &entry;
        }
        return add(text, hash, nullptr);  // found again only if its places become free
    }

  private:
    static constexpr std::size_t MAX_TEXTS = 1'000'000, MAX_BYTES = 64 << 20, MAX_PROBES = 64;

    std::size_t mask() const { return places_.size() - 1; }
    static u64 hash_of(std::string_view text) {
        constexpr u64 GOLDEN = 0x9E3779B97F4A7C15;
        const auto mix = [](u64 a, u64 b) {
            const u128 product = static_cast<u128>(a ^ GOLDEN) * (b ^ 0xD1B54A32D192ED03);
            return static_cast<u64>(product) ^ static_cast<u64>(product >> 64);
        };
        const char* p = text.data();
        const std::size_t size = text.size();
        u64 hash = size * GOLDEN;
        if (size >= 8) {
            for (std::size_t i = 0; i + 8 < size; i += 8) hash = mix(hash, load8(p + i));
            return mix(hash, load8(p + size - 8));
        }
        u64 bytes = 0;
        for (std::size_t i = 0; i < size; ++i) bytes = bytes << 8 | static_cast<unsigned char>(p[i]);
        return mix(hash, bytes);
    }
    void grow() {
        places_.assign(places_.empty() ? 256 : 2 * places_.size(), 0);
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            std::size_t at = entries_[i].hash & mask();
            while (places_[at]) at = (at + 1) & mask();
            places_[at] = static_cast<std::uint32_t>(i + 1);
        }
    }
    Entry* add(std::string_view text, u64 hash, std::uint32_t* place) {
        PyObject* string = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
        if (!string) return nullptr;
        if (!place || entries_.size() >= MAX_TEXTS || bytes_ + text.size() > MAX_BYTES) {
            if (place) clear();
            Py_XDECREF(once_.string);
            once_ = {hash, std::string(text), string};
            return &once_;
        }
        bytes_ += text.size();
        entries_.push_back({hash, std::string(text), string});
        *place = static_cast<std::uint32_t>(entries_.size());
        return &entries_.back();
    }
    void clear() {
        for (Entry& entry : entries_) Py_DECREF(entry.string);
        Py_CLEAR(once_.string);
        entries_.clear();
        places_.clear();
        bytes_ = 0;
    }

    std::vector<Entry> entries_;
    std::vector<std::uint32_t> places_;  // of a hash table: indices of entries, plus one
    Entry once_;                         // one that is not kept
    std::size_t bytes_ = 0;
};

}  // namespace ssm
