// SPDX-License-Identifier: Apache-2.0
// Warp collectives without memory order: votes, shuffles, reductions, matches.
#include <bit>
#include <cstring>

#include "machine.hpp"
#include "sync.hpp"

namespace ag::emu {
namespace {

template <class T>
T& argument(Lanes& lanes, std::uint32_t lane) {
  return *static_cast<T*>(lanes.argument[lane]);
}

template <class F>
void each(const Lanes& lanes, F f) {
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    if (lanes.has(lane)) f(lane);
  }
}

// What makes a collective the same on all lanes, beside its name, is a small number: a size, an operation.
const void* variant_of(std::uintptr_t number) { return reinterpret_cast<const void*>(number); }

struct Ballot {
  bool predicate;
  std::uint32_t result;
};

void run_ballot(Lanes& lanes) {
  std::uint32_t result = 0;
  each(lanes, [&](std::uint32_t lane) { result |= (argument<Ballot>(lanes, lane).predicate ? 1u : 0u) << lane; });
  each(lanes, [&](std::uint32_t lane) { argument<Ballot>(lanes, lane).result = result; });
}

struct Shuffle {
  ShuffleMode mode;
  std::uint64_t value;
  std::uint32_t lane;
  std::uint32_t width;
  std::uint64_t result;
};

// The lane that a lane reads; its own where a shift leaves its segment.
std::uint32_t source(const Shuffle& s, std::uint32_t self) {
  const std::uint32_t first = self & ~(s.width - 1);
  switch (s.mode) {
    case ShuffleMode::kIndex: return first + (s.lane & (s.width - 1));
    case ShuffleMode::kUp: return self - first >= s.lane ? self - s.lane : self;
    case ShuffleMode::kDown: return self + s.lane < first + s.width ? self + s.lane : self;
    case ShuffleMode::kXor: {
      // A lane may read from its segment and those before it.
      const std::uint32_t from = self ^ s.lane;
      return from < first + s.width ? from : self;
    }
  }
  return self;
}

void run_shuffle(Lanes& lanes) {
  each(lanes, [&](std::uint32_t lane) {
    auto& mine = argument<Shuffle>(lanes, lane);
    const std::uint32_t from = source(mine, lane);
    if (from >= 32 || !lanes.has(from)) {
      fail_kernel(lanes.site, "shuffle: lane " + std::to_string(lane) + " reads from lane " + std::to_string(from) +
                                  ", which takes no part");
    }
    mine.result = argument<Shuffle>(lanes, from).value;
  });
}

struct Reduce {
  Reduction operation;
  bool is_signed;
  std::uint32_t value;
};

std::uint32_t combine(const Reduce& r, std::uint32_t a, std::uint32_t b) {
  const bool less = r.is_signed ? static_cast<std::int32_t>(a) < static_cast<std::int32_t>(b) : a < b;
  switch (r.operation) {
    case Reduction::kAdd: return a + b;
    case Reduction::kMin: return less ? a : b;
    case Reduction::kMax: return less ? b : a;
    case Reduction::kAnd: return a & b;
    case Reduction::kOr: return a | b;
    case Reduction::kXor: return a ^ b;
  }
  return a;
}

void run_reduce(Lanes& lanes) {
  const auto first = static_cast<std::uint32_t>(std::countr_zero(lanes.arrived));
  std::uint32_t result = argument<Reduce>(lanes, first).value;
  each(lanes, [&](std::uint32_t lane) {
    if (lane != first) result = combine(argument<Reduce>(lanes, lane), result, argument<Reduce>(lanes, lane).value);
  });
  each(lanes, [&](std::uint32_t lane) { argument<Reduce>(lanes, lane).value = result; });
}

struct Match {
  std::uint64_t value;
  std::uint32_t result;
};

void run_match(Lanes& lanes) {
  each(lanes, [&](std::uint32_t lane) {
    auto& mine = argument<Match>(lanes, lane);
    mine.result = 0;
    each(lanes, [&](std::uint32_t other) {
      if (argument<Match>(lanes, other).value == mine.value) mine.result |= 1u << other;
    });
  });
}

}  // namespace

std::uint32_t ballot(std::uint32_t mask, bool predicate, Site site) {
  static const Collective op{"a vote (ballot, any, all)", &run_ballot};
  Ballot vote{predicate, 0};
  arrive_collective(op, mask, &vote, nullptr, site);
  return vote.result;
}

void shuffle(ShuffleMode mode, std::uint32_t mask, void* value, std::size_t bytes, std::uint32_t lane, int width,
             Site site) {
  static const Collective op{"a shuffle", &run_shuffle};
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fail_kernel(site, "shuffle: the width is " + std::to_string(width) + "; it may be 1, 2, 4, 8, 16 or 32");
  }
  Shuffle s{mode, 0, lane, static_cast<std::uint32_t>(width), 0};
  std::memcpy(&s.value, value, bytes);
  arrive_collective(op, mask, &s, variant_of(bytes * 8 + static_cast<std::uintptr_t>(mode)), site);
  std::memcpy(value, &s.result, bytes);
}

std::uint32_t reduce(Reduction operation, bool is_signed, std::uint32_t mask, std::uint32_t value, Site site) {
  static const Collective op{"a reduction", &run_reduce};
  Reduce r{operation, is_signed, value};
  arrive_collective(op, mask, &r, variant_of(static_cast<std::uintptr_t>(operation) * 2 + is_signed), site);
  return r.value;
}

std::uint32_t match_any(std::uint32_t mask, std::uint64_t value, Site site) {
  static const Collective op{"a match", &run_match};
  Match match{value, 0};
  arrive_collective(op, mask, &match, nullptr, site);
  return match.result;
}

std::uint32_t match_all(std::uint32_t mask, std::uint64_t value, Site site) {
  const Thread& self = machine().current();
  const std::uint32_t live = self.block->warps[self.warp].live;
  const std::uint32_t same = match_any(mask, value, site);
  return (same & live) == (mask & live) ? mask : 0;
}

}  // namespace ag::emu
