// Runs a fuzz target where the compiler has no libFuzzer: inputs are mutated without looking at what they reach.
// Takes libFuzzer's -runs=N, -seed=N and -max_len=N, and files or folders with inputs to begin with.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);

using Bytes = std::vector<std::uint8_t>;

int main(int argc, char** argv) {
    long long runs = 1000, longest = 512;
    std::uint64_t seed = 1;
    std::vector<Bytes> first;
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    const auto read = [&](const std::filesystem::path& path) {
        std::ifstream file(path, std::ios::binary);
        first.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    };
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.starts_with("-runs=")) runs = std::atoll(argv[i] + 6);
        else if (word.starts_with("-seed=")) seed = std::strtoull(argv[i] + 6, nullptr, 10);
        else if (word.starts_with("-max_len=")) longest = std::atoll(argv[i] + 9);
        else if (word.starts_with("-")) continue;
        else if (!std::filesystem::is_directory(word)) read(word);
        else for (const auto& entry : std::filesystem::directory_iterator(word)) read(entry.path());
    }
    if (first.empty()) first.emplace_back();
    const auto random = [&](std::uint64_t below) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        return below ? seed % below : 0;
    };
    for (const Bytes& input : first) LLVMFuzzerTestOneInput(input.data(), input.size());
    for (long long run = static_cast<long long>(first.size()); run < runs; ++run) {
        Bytes input = first[random(first.size())];
        for (std::uint64_t i = 1 + random(8); i > 0; --i) {
            const auto at = static_cast<std::ptrdiff_t>(random(input.size() + 1));
            switch (random(4)) {
                case 0: input.insert(input.begin() + at, static_cast<std::uint8_t>(random(256))); break;
                case 1: if (at < std::ssize(input)) input[static_cast<std::size_t>(at)] ^= static_cast<std::uint8_t>(1u << random(8)); break;
                case 2: if (at < std::ssize(input)) input.erase(input.begin() + at); break;
                default:
                    for (std::uint64_t more = random(64); more > 0; --more) input.push_back(static_cast<std::uint8_t>(random(256)));
            }
        }
        if (std::ssize(input) > longest) input.resize(static_cast<std::size_t>(longest));
        // Exactly as long as the input, so that a byte too far is seen.
        std::uint8_t* bytes = static_cast<std::uint8_t*>(std::malloc(input.size() + !input.size()));
        if (!input.empty()) std::memcpy(bytes, input.data(), input.size());
        LLVMFuzzerTestOneInput(bytes, input.size());
        std::free(bytes);
    }
    std::printf("Done %lld runs\n", runs);
    return 0;
}
