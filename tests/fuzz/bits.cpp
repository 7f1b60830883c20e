// Prints a hash of all that the worlds of `world.hpp` come to: equal wherever the core computes the same bits.
#include <cstdio>

#include "events.hpp"

int main() {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](const void* at, std::size_t size) {
        for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const unsigned char*>(at)[i]) * 0x100000001b3;
    };
    for (const fuzz::Choice& choice : fuzz::CHOICES) {
        const auto world = fuzz::trained(choice, add);
        for (const auto& block : world->kept) add(block->memory.get(), static_cast<std::size_t>(block->size));
        std::printf("%s%016llx", &choice == fuzz::CHOICES ? "" : " ", static_cast<unsigned long long>(hash));
    }
    std::printf("\n");
    return 0;
}
