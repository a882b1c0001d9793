// SPDX-License-Identifier: Apache-2.0
// The targets without a fuzzing engine: their seeds, and mutations of them from a fixed seed.
//
// usage: fuzz_replay [EXECUTIONS [FIRST]]           mutations of each target (default 4000)
//        fuzz_replay --seeds FOLDER                 write the seeds as FOLDER/TARGET/N, a corpus for libFuzzer
//        fuzz_replay --run TARGET FILE...           run files, an engine's finds
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "support/random.hpp"
#include "targets.hpp"

namespace {

using ag::fuzz::Target;
using ag::test::Random;

ag::fuzz::Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// A few of: a byte changed, a bit, a piece dropped, doubled, replaced by a number that hurts; the end cut off.
std::string mutated(std::string text, Random& random) {
  const std::int64_t changes = 1 + random.below(4);
  for (std::int64_t n = 0; n < changes && !text.empty(); ++n) {
    const auto at = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(text.size())));
    const auto length = std::min(text.size() - at, static_cast<std::size_t>(1 + random.below(8)));
    switch (random.below(7)) {
      case 0: text[at] = static_cast<char>(random.below(256)); break;
      case 1: text[at] = static_cast<char>(text[at] ^ (1 << random.below(8))); break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(at, length)); break;
      case 4: text.resize(at); break;
      case 5: {
        const char* numbers[] = {"0", "-1", "18446744073709551615", "9223372036854775807", "1e999", "nan", "\"",
                                 "{", "["};
        text.replace(at, length, numbers[random.below(9)]);
        break;
      }
      default: std::memset(text.data() + at, random.below(2) == 0 ? 0xFF : 0, length);
    }
  }
  return text;
}

int write_seeds(const std::filesystem::path& folder) {
  for (const Target& target : ag::fuzz::targets()) {
    std::filesystem::create_directories(folder / target.name);
    int n = 0;
    for (const std::string& seed : target.seeds()) {
      std::ofstream(folder / target.name / std::to_string(n++), std::ios::binary) << seed;
    }
  }
  return 0;
}

int run_files(const char* name, char** files, int count) {
  for (const Target& target : ag::fuzz::targets()) {
    if (std::strcmp(target.name, name) != 0) continue;
    for (int n = 0; n < count; ++n) {
      std::ifstream file(files[n], std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      target.run(bytes_of(text));
    }
    return 0;
  }
  std::fprintf(stderr, "there is no target %s\n", name);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) return write_seeds(argv[2]);
  if (argc >= 4 && std::strcmp(argv[1], "--run") == 0) return run_files(argv[2], argv + 3, argc - 3);
  const std::int64_t executions = argc > 1 ? std::atoll(argv[1]) : 4000;
  const std::int64_t first = argc > 2 ? std::atoll(argv[2]) : 1;
  for (const Target& target : ag::fuzz::targets()) {
    const std::vector<std::string> seeds = target.seeds();
    for (const std::string& seed : seeds) target.run(bytes_of(seed));
    for (std::int64_t n = first; n < first + executions; ++n) {
      Random random(static_cast<std::uint64_t>(n));
      const std::string text = mutated(seeds[static_cast<std::size_t>(n) % seeds.size()], random);
      // The last input survives a crash.
      if (const char* path = std::getenv("ATTNGRAPH_FUZZ_LAST")) std::ofstream(path, std::ios::binary) << text;
      target.run(bytes_of(text));
    }
    std::printf("%s: %zu seeds, %lld mutations from seed %lld\n", target.name, seeds.size(),
                static_cast<long long>(executions), static_cast<long long>(first));
  }
  return 0;
}
