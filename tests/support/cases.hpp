// SPDX-License-Identifier: Apache-2.0
// The list of cases that every backend is held to. A new rule of the contract is a line here.
#pragma once

#include <fmt/format.h>

#include <type_traits>
#include <vector>

#include "inputs.hpp"

namespace ag::test {

// One case out of everything that a request can hold.
inline Case random_case(std::uint64_t seed) {
  Random random(seed);
  const auto one_in = [&](std::int64_t n) { return random.below(n) == 0; };
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> list[] = {values...};
    return list[static_cast<std::size_t>(random.below(sizeof...(values)))];
  };
  Case c;
  c.name = fmt::format("random_{}", seed);
  c.seed = seed;
  c.dtype = pick(DType::kF32, DType::kF16, DType::kBF16, DType::kF64);
  c.batch = 1 + random.below(3);
  c.key_heads = 1 + random.below(3);
  c.query_heads = c.key_heads * (1 + random.below(4));
  c.queries = 1 + random.below(pick(4, 70));
  c.keys = 1 + random.below(pick(8, 300, 900));
  c.head_dim = 1 + random.below(pick(4, 40));
  c.spread = pick(0.01, 0.5, 2.0, 6.0);
  if (one_in(6)) c.scale = pick(-0.3, 0.01, 0.7);
  if (one_in(5)) c.softcap = pick(1.0, 20.0, 50.0);
  if (one_in(4)) {
    for (std::int64_t h = 0; h < c.query_heads; ++h)
      c.alibi.push_back(
          pick(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(c.query_heads)), 0.0, 0.03, -0.01));
  }
  c.threshold = pick(0.0, 1e-5, 0.004, 0.05, 0.4);
  if (one_in(3)) c.top_k = 1 + random.below(pick(3, 40, 1000));
  if (one_in(3)) c.mass = pick(0.2, 0.7, 0.95, 0.9999);
  c.causal = one_in(2);
  c.query_offset = pick(c.keys - c.queries, std::int64_t{0}, random.below(400) - 200);
  if (one_in(4)) c.window = 1 + random.below(pick(5, 400));
  if (one_in(4)) {
    for (std::int64_t b = 0; b < c.batch; ++b) c.key_lengths.push_back(random.below(c.keys + 1));
  }
  c.mask = pick(MaskKind::kNone, MaskKind::kNone, MaskKind::kNone, MaskKind::kBool, MaskKind::kAdditive);
  c.mask_dtype = pick(DType::kF32, DType::kF16, DType::kBF16, DType::kF64);
  for (bool& broadcast : c.mask_broadcast) broadcast = one_in(3);
  c.sinks = one_in(5);
  c.lse = pick(GivenLse::kNone, GivenLse::kNone, GivenLse::kNone, GivenLse::kNone, GivenLse::kBaseE, GivenLse::kBase2);
  c.lse_shift = pick(0.0, 0.0, 0.4, 2.0);
  if (one_in(4)) {
    c.query_begin = random.below(c.queries);
    c.query_end = c.query_begin + 1 + random.below(c.queries - c.query_begin);
  }
  if (one_in(4)) {
    for (std::int64_t h = 0; h < c.query_heads; ++h) {
      if (one_in(2)) c.heads.push_back(h);
    }
  }
  c.storage = pick(Storage::kRowMajor, Storage::kRowMajor, Storage::kTokensOutside, Storage::kDimensionOutside,
                   Storage::kReversed, Storage::kUnaligned, Storage::kPadded);
  c.stats = {one_in(3), one_in(4), one_in(4)};
  return c;
}

inline std::vector<Case> extract_cases() {
  std::vector<Case> cases;
  const auto add = [&](Case c) {
    c.seed = 42 + cases.size();
    cases.push_back(std::move(c));
  };
  constexpr StatsRequest kAllStats{true, true, true};

  // Element types and head sizes.
  const DType float_types[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};
  for (const DType dtype : float_types) {
    for (const std::int64_t d : {1, 2, 3, 7, 8, 15, 16, 31, 33, 48, 64, 80, 96, 100, 128, 192, 256, 511, 512}) {
      add({.name = fmt::format("{}_D{}", name_of(dtype), d), .dtype = dtype, .queries = 21, .keys = 75, .head_dim = d});
    }
    add({.name = fmt::format("{}_causal_many_tiles", name_of(dtype)),
         .dtype = dtype,
         .queries = 330,
         .keys = 1100,
         .head_dim = 16,
         .causal = true,
         .query_offset = 770,
         .stats = kAllStats});
  }

  // Lengths.
  for (const auto& [nq, nk] : std::initializer_list<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {1, 77}, {77, 1}, {0, 5}, {5, 0}, {0, 0}, {13, 31}, {31, 257}, {200, 33}, {3, 2049}, {65, 512}}) {
    add({.name = fmt::format("N{}x{}", nq, nk), .queries = nq, .keys = nk, .stats = kAllStats});
  }

  // Batches and heads.
  add({.name = "batches_and_heads", .batch = 3, .query_heads = 4, .key_heads = 4, .stats = kAllStats});
  add({.name = "grouped_queries", .batch = 2, .query_heads = 6, .key_heads = 2});
  add({.name = "one_key_head", .query_heads = 5, .key_heads = 1});
  add({.name = "no_batch", .batch = 0});
  add({.name = "chosen_heads", .batch = 2, .query_heads = 8, .key_heads = 4, .heads = {1, 2, 7}, .stats = kAllStats});
  add({.name = "query_range", .causal = true, .query_begin = 17, .query_end = 40, .stats = kAllStats});
  add({.name = "query_range_of_one", .query_heads = 2, .key_heads = 2, .query_begin = 47, .query_end = 48});
  add({.name = "empty_query_range", .query_begin = 5, .query_end = 5, .stats = kAllStats});

  // Causal masks, windows, lengths.
  for (const std::int64_t offset : {0, 1, 32, 500, -1, -10, -1000}) {
    add({.name = fmt::format("causal_offset_{}{}", offset < 0 ? "minus_" : "", std::abs(offset)),
         .queries = 60,
         .keys = 92,
         .causal = true,
         .query_offset = offset,
         .stats = kAllStats});
  }
  for (const std::int64_t window : {1, 7, 64, 1000}) {
    for (const bool causal : {false, true}) {
      add({.name = fmt::format("window_{}{}", window, causal ? "_causal" : ""),
           .queries = 150,
           .keys = 160,
           .causal = causal,
           .query_offset = 10,
           .window = window,
           .stats = kAllStats});
    }
  }
  add({.name = "window_beyond_keys", .queries = 50, .keys = 20, .query_offset = 5, .window = 9, .stats = kAllStats});
  add({.name = "key_lengths", .batch = 4, .keys = 90, .key_lengths = {90, 37, 1, 0}, .stats = kAllStats});
  add({.name = "key_lengths_causal_window",
       .batch = 2,
       .causal = true,
       .query_offset = 32,
       .window = 20,
       .key_lengths = {80, 41}});

  // Mask tensors.
  const std::pair<const char*, std::array<bool, 4>> broadcasts[] = {{"full", {}},
                                                                    {"over_batch", {true, false, false, false}},
                                                                    {"over_heads", {true, true, false, false}},
                                                                    {"over_queries", {false, false, true, false}},
                                                                    {"over_keys", {false, true, false, true}}};
  for (const auto& [name, broadcast] : broadcasts) {
    add({.name = fmt::format("bool_mask_{}", name),
         .batch = 2,
         .query_heads = 2,
         .key_heads = 1,
         .mask = MaskKind::kBool,
         .mask_broadcast = broadcast});
    add({.name = fmt::format("additive_mask_{}", name),
         .batch = 2,
         .query_heads = 2,
         .key_heads = 2,
         .mask = MaskKind::kAdditive,
         .mask_broadcast = broadcast,
         .stats = kAllStats});
  }
  for (const DType dtype : float_types) {
    add({.name = fmt::format("additive_mask_{}", name_of(dtype)), .mask = MaskKind::kAdditive, .mask_dtype = dtype});
  }
  add({.name = "bool_mask_causal_lengths",
       .batch = 2,
       .keys = 300,
       .causal = true,
       .query_offset = 252,
       .key_lengths = {300, 100},
       .mask = MaskKind::kBool,
       .stats = kAllStats});

  // The score.
  add({.name = "softcap_30", .softcap = 30});
  add({.name = "softcap_2", .spread = 5, .softcap = 2, .stats = kAllStats});
  add({.name = "softcap_f16_mask", .dtype = DType::kF16, .softcap = 20, .mask = MaskKind::kAdditive});
  const std::vector<double> slopes = {0.25, 0.0625, 0.015625, 0.00390625};  // of four heads
  add({.name = "alibi", .query_heads = 4, .key_heads = 4, .alibi = slopes, .stats = kAllStats});
  add({.name = "alibi_causal_grouped",
       .batch = 2,
       .query_heads = 4,
       .key_heads = 2,
       .queries = 130,
       .keys = 700,
       .alibi = slopes,
       .causal = true,
       .query_offset = 570,
       .stats = kAllStats});
  for (const DType dtype : float_types) {
    add({.name = fmt::format("alibi_{}_many_tiles", name_of(dtype)),
         .dtype = dtype,
         .query_heads = 4,
         .key_heads = 1,
         .queries = 150,
         .keys = 1100,
         .head_dim = 16,
         .alibi = slopes,
         .threshold = 0.004,
         .causal = true,
         .query_offset = 950});
  }
  add({.name = "alibi_not_causal_offset",
       .queries = 100,
       .keys = 300,
       .alibi = {0.1},
       .threshold = 0.005,
       .query_offset = 90,
       .stats = kAllStats});
  add({.name = "alibi_queries_far_away", .alibi = {0.01}, .query_offset = 3000});
  add({.name = "alibi_queries_before_all_keys", .alibi = {0.125}, .query_offset = -500});
  add({.name = "alibi_lengths_window",
       .batch = 2,
       .query_heads = 4,
       .key_heads = 2,
       .queries = 100,
       .keys = 200,
       .alibi = slopes,
       .causal = true,
       .query_offset = 100,
       .window = 50,
       .key_lengths = {200, 77}});
  add({.name = "alibi_softcap_mask_sinks",
       .query_heads = 4,
       .key_heads = 4,
       .softcap = 15,
       .alibi = slopes,
       .mask = MaskKind::kAdditive,
       .sinks = true,
       .stats = kAllStats});
  add({.name = "alibi_bool_mask", .alibi = {0.05}, .mask = MaskKind::kBool});
  add({.name = "alibi_negative_slope", .alibi = {-0.02}, .causal = true, .query_offset = 32});
  add({.name = "alibi_of_one_head_only", .query_heads = 2, .key_heads = 1, .alibi = {0.0, 0.2}});
  add({.name = "alibi_top_k", .query_heads = 2, .keys = 700, .alibi = {0.3, 0.01}, .threshold = 0, .top_k = 7});
  add({.name = "alibi_mass", .keys = 700, .alibi = {0.01}, .threshold = 0, .mass = 0.9});
  add({.name = "alibi_given_lse", .query_heads = 2, .alibi = {0.3, 0.01}, .lse = GivenLse::kBase2, .stats = kAllStats});
  add({.name = "alibi_chosen_heads_and_rows",
       .batch = 2,
       .query_heads = 8,
       .key_heads = 4,
       .alibi = {0.5, 0.25, 0.125, 0.06, 0.03, 0.015, 0.008, 0.004},
       .causal = true,
       .query_begin = 17,
       .query_end = 40,
       .heads = {1, 2, 7}});
  add({.name = "scale_negative", .scale = -0.125});
  add({.name = "scale_zero", .scale = 0.0, .threshold = 0.01, .stats = kAllStats});
  add({.name = "scale_large", .spread = 0.1, .scale = 3.0});
  add({.name = "flat_scores", .keys = 500, .spread = 0.01, .threshold = 0.001});
  add({.name = "peaked_scores", .spread = 12});
  add({.name = "sinks", .batch = 2, .query_heads = 4, .key_heads = 2, .sinks = true, .stats = kAllStats});
  add({.name = "sinks_causal_empty_rows", .causal = true, .query_offset = -5, .sinks = true, .stats = kAllStats});
  add({.name = "given_lse", .query_heads = 2, .key_heads = 1, .lse = GivenLse::kBaseE, .stats = kAllStats});
  add({.name = "given_lse_base_2", .causal = true, .query_offset = -5, .lse = GivenLse::kBase2, .stats = kAllStats});
  add({.name = "given_lse_sinks", .sinks = true, .lse = GivenLse::kBaseE, .stats = kAllStats});
  add({.name = "given_lse_of_more_keys", .lse = GivenLse::kBaseE, .lse_shift = 1.5, .stats = kAllStats});
  add({.name = "given_lse_of_more_keys_mass",
       .keys = 300,
       .threshold = 0,
       .mass = 0.3,
       .lse = GivenLse::kBaseE,
       .lse_shift = 0.7});
  add({.name = "given_lse_top_k", .top_k = 3, .lse = GivenLse::kBaseE});

  // Selection.
  for (const double t : {1.0, 0.5, 0.1, 0.01, 1e-4, 1e-12, 1e-300, 0.0}) {
    add({.name = "threshold_" + fmt::format("{:g}", t), .queries = 40, .keys = 600, .threshold = t});
  }
  for (const std::int64_t top_k : {1, 2, 5, 64, 10'000}) {
    add({.name = fmt::format("top_{}", top_k), .keys = 700, .threshold = 0, .top_k = top_k, .stats = kAllStats});
  }
  for (const double mass : {0.01, 0.5, 0.9, 0.999, 1.0}) {
    add({.name = fmt::format("mass_{:g}", mass), .keys = 700, .threshold = 0, .mass = mass});
  }
  add({.name = "mass_of_flat_rows", .keys = 900, .spread = 0.2, .threshold = 0, .mass = 0.95});
  add({.name = "threshold_and_top_k", .keys = 400, .threshold = 0.05, .top_k = 3});
  add({.name = "threshold_and_mass", .keys = 400, .threshold = 0.01, .mass = 0.8});
  add({.name = "top_k_and_mass", .keys = 400, .threshold = 0, .top_k = 10, .mass = 0.7});
  add({.name = "all_conditions_causal",
       .queries = 400,
       .keys = 400,
       .threshold = 0.003,
       .top_k = 20,
       .mass = 0.9,
       .causal = true,
       .stats = kAllStats});
  add({.name = "mass_with_sinks", .keys = 200, .threshold = 0, .mass = 0.99, .sinks = true});
  add({.name = "mass_beyond_reach_with_sinks", .keys = 20, .spread = 0.3, .threshold = 0, .mass = 0.97, .sinks = true});
  add({.name = "top_k_masked", .threshold = 0, .top_k = 40, .mask = MaskKind::kBool});

  // Memory layouts.
  for (const DType dtype : float_types) {
    const std::pair<const char*, Storage> storages[] = {{"tokens_outside", Storage::kTokensOutside},
                                                        {"dimension_outside", Storage::kDimensionOutside},
                                                        {"reversed", Storage::kReversed},
                                                        {"unaligned", Storage::kUnaligned},
                                                        {"padded", Storage::kPadded}};
    for (const auto& [name, storage] : storages) {
      add({.name = fmt::format("{}_{}", name_of(dtype), name),
           .dtype = dtype,
           .batch = 2,
           .query_heads = 4,
           .key_heads = 2,
           .head_dim = 24,
           .storage = storage});
    }
  }
  return cases;
}

}  // namespace ag::test
