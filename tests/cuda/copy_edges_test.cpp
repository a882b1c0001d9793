// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "device_problem.hpp"
#include "support/random.hpp"

namespace ag::test {
namespace {

struct Edge {
  std::int32_t key;
  float weight;
  bool operator==(const Edge&) const = default;
};

enum class Order { kAscending, kTwoRuns, kAny };

// Rows of candidates as finish_rows leaves them: keys of pairs that are no edges negative.
struct Candidates {
  std::int64_t rows = 0;
  std::vector<std::vector<Edge>> lists;  // [rows]

  static Candidates random(std::int64_t rows, Order order, std::int64_t most, std::uint64_t seed) {
    Random random(seed);
    Candidates made{rows, {}};
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<Edge> list;
      std::int32_t key = 0;
      const std::int64_t count = random.below(4) == 0 ? 0 : random.below(most + 1);
      for (std::int64_t n = 0; n < count; ++n) {
        key += 1 + static_cast<std::int32_t>(random.below(5));
        list.push_back({key, static_cast<float>(key) / 1024});
      }
      if (order == Order::kTwoRuns && count > 1 && random.below(3) > 0) {  // the last run first
        std::rotate(list.begin(), list.end() - 1 - random.below(count - 1), list.end());
      }
      if (order == Order::kAny) {
        for (std::size_t n = list.size(); n > 1; --n) {
          std::swap(list[n - 1], list[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))]);
        }
      }
      const std::int64_t keep = random.below(5);  // in four: none, some, most, all
      for (Edge& edge : list) {
        if (random.below(4) >= keep) edge.key = ~edge.key;
      }
      made.lists.push_back(std::move(list));
    }
    return made;
  }

  std::vector<Edge> edges_of(std::int64_t r) const {
    std::vector<Edge> edges;
    for (const Edge& edge : lists[static_cast<std::size_t>(r)]) {
      if (edge.key >= 0) edges.push_back(edge);
    }
    std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.key < b.key; });
    return edges;
  }
};

void expect_copied(const Candidates& source, bool packed) {
  std::size_t capacity = 1;
  for (const auto& list : source.lists) capacity = std::max(capacity, list.size());
  std::vector<std::int32_t> keys, counts;
  std::vector<float> weights;
  std::vector<std::int64_t> places{0};
  for (const auto& list : source.lists) {
    for (std::size_t n = 0; n < (packed ? list.size() : capacity); ++n) {
      const Edge edge = n < list.size() ? list[n] : Edge{77, -1.0f};  // beyond the count: not an edge
      keys.push_back(edge.key);
      weights.push_back(edge.weight);
    }
    counts.push_back(static_cast<std::int32_t>(list.size()));
    places.push_back(static_cast<std::int64_t>(keys.size()));
  }
  std::vector<std::int64_t> offsets{0};
  std::vector<Edge> expected;
  for (std::int64_t r = 0; r < source.rows; ++r) {
    for (const Edge& edge : source.edges_of(r)) expected.push_back(edge);
    offsets.push_back(static_cast<std::int64_t>(expected.size()));
  }
  const DeviceArray<std::int32_t> d_keys(keys), d_counts(counts), out_keys(expected.size());
  const DeviceArray<float> d_weights(weights), out_weights(expected.size());
  const DeviceArray<std::int32_t> d_short_keys(std::vector<std::int32_t>(expected.size(), -7));
  const DeviceArray<float> d_short_weights(expected.size());
  const DeviceArray<std::int64_t> d_places(places), d_offsets(offsets);
  const cuda::Candidates candidates{d_keys.data(), d_weights.data(), d_counts.data(),
                                    packed ? d_places.data() : nullptr,
                                    packed ? 0 : static_cast<std::int64_t>(capacity)};
  const auto room = static_cast<std::int64_t>(expected.size());
  // With less room first: no row is written that would end beyond it.
  cuda_ok(cuda::launch_copy_edges(source.rows, candidates, d_offsets.data(), room / 2, d_short_keys.data(),
                                  d_short_weights.data(), kDefaultStream));
  cuda_ok(cuda::launch_copy_edges(source.rows, candidates, d_offsets.data(), room, out_keys.data(), out_weights.data(),
                                  kDefaultStream));
  wait_for_device();
  const std::vector<std::int32_t> short_keys = d_short_keys.download();
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
    for (auto e = static_cast<std::size_t>(offsets[r]); e < static_cast<std::size_t>(offsets[r + 1]); ++e)
      EXPECT_EQ(short_keys[e], offsets[r + 1] <= room / 2 ? expected[e].key : -7) << e;
  }
  const std::vector<std::int32_t> actual_keys = out_keys.download();
  const std::vector<float> actual_weights = out_weights.download();
  for (std::size_t e = 0; e < expected.size(); ++e) {
    ASSERT_EQ(actual_keys[e], expected[e].key) << "edge " << e;
    ASSERT_EQ(actual_weights[e], expected[e].weight) << "edge " << e;
  }
}

TEST(CopyEdges, KeysAscendWhateverTheirOrderWas) {
  for (const std::int64_t most : {1, 3, 40, 200}) {
    for (const Order order : {Order::kAscending, Order::kTwoRuns, Order::kAny}) {
      SCOPED_TRACE(fmt::format("order {} of up to {}", static_cast<int>(order), most));
      const Candidates source = Candidates::random(37, order, most, static_cast<std::uint64_t>(most));
      for_every_schedule([&] { expect_copied(source, false); });
      expect_copied(source, true);
    }
  }
}

// The one descent stands at the edge of a batch of 32 candidates, or far behind pairs that are no edges.
TEST(CopyEdges, TheTurnMayStandAnywhere) {
  for (const std::size_t turn : {1u, 31u, 32u, 33u, 63u, 64u, 65u, 99u}) {
    for (const std::int32_t hole : {0, 1, 2}) {
      SCOPED_TRACE(fmt::format("turn at {}, hole {}", turn, hole));
      Candidates source{1, {{}}};
      for (std::size_t n = 0; n < 100; ++n) {
        const auto key = static_cast<std::int32_t>(n < turn ? 1000 + n : n);
        const bool near = n + 35 > turn && n < turn + 35;
        const bool edge = hole == 0 || (hole == 1 ? n % 3 == 0 : !near);
        source.lists[0].push_back({edge ? key : ~key, static_cast<float>(n)});
      }
      expect_copied(source, false);
    }
  }
}

}  // namespace
}  // namespace ag::test
