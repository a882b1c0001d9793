#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the kernels on purpose, one place at a time, and says which test finds it.

usage: mutations.py BUILD [--only WORD] [--write FILE] [--jobs N]

BUILD is a build folder with cuda_tests and cuda_checker_tests (the kernels' tests on the emulator, and the same under
its checker). Each mutation is applied to a copy of cuda/, its translation units are compiled as the build compiles them,
linked in place of the originals, and run: first the tests under five schedules, then, if they pass, under the checker of
races and unwritten memory. A mutation that nothing finds is a hole in the tests: exit status 1.
--write puts the table into a page, between its marks.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- mutations.py -->", "<!-- end -->"
LEAN = ("streaming/lean_f16.cu",)
LEAN_SPLIT = ("streaming/lean_f32.cu",)
LEAN_ALL = tuple(f"streaming/lean_{dtype}.cu" for dtype in ("f16", "bf16", "f32"))
GENERAL_ALL = tuple(f"streaming/general_{dtype}.cu" for dtype in ("f16", "bf16", "f32"))
ENTROPY_ALL = tuple(f"streaming/entropy_{dtype}.cu" for dtype in ("f16", "bf16", "f32"))
WGMMA_ENTROPY = ("wgmma/entropy.cu",)
STATISTICS, EDGES = ("wgmma/statistics.cu",), ("wgmma/edges.cu",)
WGMMA = STATISTICS + EDGES
FUSED = "Streaming*"


@dataclass(frozen=True)
class Mutation:
    what: str  # for the table
    file: str  # below cuda/
    old: str
    new: str
    units: tuple[str, ...] = ()  # translation units to compile; the file itself when empty
    tests: str = "*"  # filter of GoogleTest
    occurrence: int = 1  # of `old` in the file


# Only such as change an answer or an order of memory. `>` for `>=` at a cut, say, is none: the band's margin lies below
# the cut, and finish_rows decides; nor is copying keys past the length, which are masked.
MUTATIONS = (
    # cuda_streaming: copies, barriers, buffers
    Mutation("the barrier of a tile is dropped", "streaming/walk.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    const std::int32_t tile", "    cp_async_wait<0>();\n    const std::int32_t tile",
             LEAN, FUSED),
    Mutation("a tile is read before its copies are waited for", "streaming/walk.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    const std::int32_t tile", "    __syncthreads();\n    const std::int32_t tile",
             LEAN, FUSED),
    Mutation("the wait leaves one group on its way", "streaming/walk.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    const std::int32_t tile",
             "    cp_async_wait<1>();\n    __syncthreads();\n    const std::int32_t tile", LEAN, FUSED),
    Mutation("the next tile is copied into the buffer in use", "streaming/walk.cuh",
             "start_tile(tile + 1, (visit + 1) % 2)", "start_tile(tile + 1, visit % 2)", LEAN, FUSED),
    Mutation("the last tile of keys is lost", "streaming/walk.cuh",
             "visit < tiles.count; ++visit", "visit + 1 < tiles.count; ++visit", LEAN, FUSED),
    Mutation("the row table is read before it is filled", "streaming/row_edges.cuh",
             "table);\n  __syncthreads();\n", "table);\n", LEAN, FUSED),
    # products
    Mutation("two fragments of the keys are exchanged", "streaming/tiles.cuh",
             "      keys[n][0] = four[0];\n      keys[n][1] = four[1];", "      keys[n][0] = four[1];\n      keys[n][1] = four[0];",
             LEAN, FUSED),
    Mutation("query registers of the two halves are exchanged", "streaming/tiles.cuh",
             "slot % 2 + 2 * (n % 2)", "slot % 2 * 2 + n % 2", LEAN, FUSED),
    Mutation("the swizzle's period is wrong", "streaming/swizzle.cuh",
             "static constexpr int kPeriod = 8 / kGroup;", "static constexpr int kPeriod = 2;", LEAN, FUSED),
    Mutation("reads and writes disagree about the swizzle", "streaming/tiles.cuh",
             "Swizzle<S::kChunks>::flip(lane % 8);", "Swizzle<S::kChunks>::flip(lane % 8 + 1);", LEAN, FUSED),
    Mutation("the low parts of the keys are left out", "streaming/tiles.cuh",
             "          multiply(scores[m][n], query[0], keys[1][n]);\n", "", LEAN_SPLIT, FUSED),
    Mutation("the last step along D is lost", "streaming/tiles.cuh",
             "if constexpr (kK + 1 < S::kDepth)", "if constexpr (kK + 2 < S::kDepth)", LEAN, FUSED),
    # masks
    Mutation("the diagonal is masked: <= for <", "stages/key_range.hpp",
             "position + 1 < end) end = position + 1;", "position < end) end = position;", LEAN, FUSED),
    Mutation("a window is one key too wide", "stages/key_range.hpp",
             "begin = position - mask.window + 1;", "begin = position - mask.window;", LEAN, FUSED),
    Mutation("the step at a mask's edge counts as unmasked", "streaming/walk.cuh",
             "first_key + S::kStep > range.all_end", "first_key > range.all_end", LEAN, FUSED),
    Mutation("bad keys are not masked", "streaming/walk.cuh",
             "bad_keys != nullptr);", "false);", LEAN_ALL, FUSED),
    Mutation("softcap is left out", "streaming/masking.cuh", "softcap > 0.0f ?", "false ?", GENERAL_ALL, FUSED),
    Mutation("slopes are left out", "streaming/masking.cuh", "if (chunk.mask.slopes != nullptr) {", "if (false) {",
             GENERAL_ALL, FUSED),
    Mutation("slopes fall to one side only", "streaming/masking.cuh", "fabsf(apart - ", "(apart - ", GENERAL_ALL, FUSED),
    Mutation("a slope counts from another head's query", "streaming/rows.cuh", "chunk.head_ids[packed.head]",
             "chunk.head_ids[0]", GENERAL_ALL, FUSED),
    # sums, cuts, edges
    Mutation("the sum is not rescaled when the reference moves", "streaming/row_slots.cuh",
             "    sum[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("the tile's sum is not rescaled", "streaming/row_slots.cuh", "    tile[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("the correction of the sum is not rescaled", "streaming/row_slots.cuh", "    rest[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("the entropy's sum does not fall with the reference", "streaming/row_slots.cuh",
             "weighted[s] = factor * fmaf(-fall, sum[s], weighted[s]);", "weighted[s] *= factor;", ENTROPY_ALL, FUSED),
    Mutation("the entropy's sum of the tile does not fall with it", "streaming/row_slots.cuh",
             "weighted_tile[s] = factor * fmaf(-fall, tile[s], weighted_tile[s]);", "weighted_tile[s] *= factor;", ENTROPY_ALL, FUSED),
    Mutation("masked keys make the entropy NaN", "streaming/row_sums.cuh", "fmaf(p, fmaxf(x, -200.0f), ", "fmaf(p, x, ",
             ENTROPY_ALL, FUSED),
    Mutation("the largest score is that of the last step", "streaming/row_sums.cuh",
             "slots.top[s] = fmaxf(slots.top[s], largest);", "slots.top[s] = largest;", LEAN, FUSED),
    Mutation("the reference never moves", "streaming/row_sums.cuh", "if (__any_sync(kAllLanes, moves))", "if (false)",
             LEAN, FUSED),
    Mutation("of equal keys the last is the maximum", "streaming/row_edges.cuh", "atomicMin(a.states.max_key", "atomicMax(a.states.max_key",
             LEAN, FUSED),
    Mutation("the key of the maximum is not looked for below the cut", "streaming/row_edges.cuh",
             "floor[s] = fminf(cut[s], top[s]);", "floor[s] = cut[s];", LEAN, FUSED),
    Mutation("the band raises the cut", "streaming/row_cuts.cu", "chunk.log_threshold - (band + kCutSlack)",
             "chunk.log_threshold + (band + kCutSlack)", (), FUSED),
    Mutation("the cut is a score and not a product", "streaming/row_cuts.cu",
             "general ? 1.0 : 1.0 / static_cast<double>(facts.units.unit)", "1.0", (), FUSED),
    Mutation("a split's sum keeps its own reference", "streaming/row_cuts.cu",
             "merged.sum = fma(factor, a.states.sum[n], merged.sum);", "merged.sum += a.states.sum[n];", (), FUSED),
    Mutation("the largest score of the first split is that of all", "streaming/row_cuts.cu",
             "merged.top = fmaxf(merged.top, top);", "if (s == 0) merged.top = top;", (), FUSED),
    Mutation("wide biases ask for no double", "streaming/row_cuts.cu", "if (facts.band.too_wide(maximum))", "if (false)", (), FUSED),
    Mutation("the bound of top-k is one group too high", "streaming/row_cuts.cu", "if (reach >= top_k)", "if (reach >= top_k - 1)",
             (), FUSED),
    Mutation("groups of keys are not written where a block ends", "streaming/row_sums.cuh",
             "if (!last && (tile + 1)", "if ((tile + 1)", GENERAL_ALL, FUSED),
    Mutation("a candidate at the edge of the room is lost", "streaming/row_edges.cuh",
             "to < place.capacity)", "to + 1 < place.capacity)", LEAN, FUSED),
    Mutation("a candidate is written beyond the room", "streaming/row_edges.cuh",
             "(bits >> k & 1) != 0 && to < place.capacity", "(bits >> k & 1) != 0", LEAN, FUSED),
    Mutation("splits count for themselves", "streaming/row_edges.cuh", "if (a.splits > 1) n = atomicAdd", "if (false) n = atomicAdd",
             LEAN, FUSED),
    Mutation("splits overlap by a tile", "streaming/walk.cuh",
             "first + tiles * (place.split + 1) / splits)", "first + tiles * (place.split + 1) / splits + (place.split == 0))",
             LEAN, FUSED),
    # the kernels of sm_90a
    Mutation("keys are copied into a stage in use", "wgmma/pipeline.cuh",
             '        mbarrier_wait(memory.key_empty + 8 * key.stage, key.parity ^ 1);\n',
             '', STATISTICS, "*WgmmaKernels*"),
    Mutation("queries are copied into a stage in use", "wgmma/pipeline.cuh",
             '      mbarrier_wait(memory.query_empty + 8 * query.stage, query.parity ^ 1);\n',
             '', STATISTICS, "*WgmmaKernels*"),
    Mutation("a stage is let go while products read it", "wgmma/kernel.cuh",
             '        multiply_tile<S>(scores, my_query, all_keys + key.stage * (S::kKeyBytes / 16));\n        let_go();',
             '        const std::uint32_t stage = key.stage;\n        let_go();\n        multiply_tile<S>(scores, my_query, all_keys + stage * (S::kKeyBytes / 16));', STATISTICS, "*WgmmaKernels*"),
    Mutation("a phase of a ring has no other parity", "wgmma/pipeline.cuh",
             '      parity ^= 1;\n',
             '', STATISTICS, "*WgmmaKernels*"),
    Mutation("the bytes of one panel are expected", "wgmma/pipeline.cuh",
             'mbarrier_arrive_expect(full, S::kKeyBytes);',
             'mbarrier_arrive_expect(full, S::kKeyPanelBytes);', STATISTICS, "*WgmmaKernels*"),
    Mutation("mbarriers are used before their init is ordered", "wgmma/kernel.cuh",
             '  if (threadIdx.x == 0) memory.init_barriers();\n  __syncthreads();',
             '  if (threadIdx.x == 0) memory.init_barriers();', STATISTICS, "*WgmmaKernels*"),
    Mutation("products are not committed", "wgmma/products.cuh",
             '  wgmma_commit();\n',
             '', STATISTICS, "*WgmmaKernels*"),
    Mutation("scores are used before products are waited for", "wgmma/products.cuh",
             '  wgmma_wait<0>();\n',
             '  wgmma_wait<1>();\n', STATISTICS, "*WgmmaKernels*"),
    Mutation("a step along D is twice as wide", "wgmma/products.cuh",
             '% S::kPanelProducts * 2, kPair',
             '% S::kPanelProducts * 4 % 8, kPair', STATISTICS, "*WgmmaKernels*"),
    Mutation("the second panel of the keys is the first", "wgmma/products.cuh",
             '(kPair == 1 ? 1 : 0) : kPair;\n  static constexpr std::uint32_t kQuery',
             '(kPair == 1 ? 1 : 0) : 0;\n  static constexpr std::uint32_t kQuery', STATISTICS, "*WgmmaKernels*"),
    Mutation("f32 loses the low parts of its queries", "wgmma/products.cuh",
             'S::kSplit ? (kPair == 0 ? 1 : 0)',
             'S::kSplit ? 0', STATISTICS, "*WgmmaKernels*"),
    Mutation("the last key of a range is lost", "wgmma/items.cuh",
             'key >= end[h]) scores',
             'key + 1 >= end[h]) scores', STATISTICS, "*WgmmaKernels*"),
    Mutation("a window is one key too wide", "wgmma/items.cuh",
             'key < begin[h] ||',
             'key + 1 < begin[h] ||', STATISTICS, "*WgmmaKernels*"),
    Mutation("a tile at a range's end counts as unmasked", "wgmma/kernel.cuh",
             'first_key + S::kKeys > rows.all_end',
             'first_key > rows.all_end', STATISTICS, "*WgmmaKernels*"),
    Mutation("bad keys are not masked", "wgmma/items.cuh",
             'rows.bad_keys[key] != 0)',
             'rows.bad_keys[key] > 1)', STATISTICS, "*WgmmaKernels*"),
    Mutation("the last item is lost", "wgmma/pipeline.cuh",
             'const bool more = number < a.items;',
             'const bool more = number + 1 < a.items;', STATISTICS, "*WgmmaKernels*"),
    Mutation("packed rows are taken as head after head", "wgmma/items.cuh",
             'const int query = packed / heads, g = packed - query * heads;',
             'const int g = packed / static_cast<int>(chunk.queries), query = packed - g * static_cast<int>(chunk.queries);', STATISTICS, "*WgmmaKernels*"),
    Mutation("the sum is not rescaled when its reference moves", "wgmma/lane_sums.cuh",
             '        sum[h] *= factor;\n',
             '', STATISTICS, "*WgmmaKernels*"),
    Mutation("the entropy's sum does not fall with the reference", "wgmma/lane_sums.cuh",
             "weighted[h] = factor * fmaf(-fall, sum[h], weighted[h]);", "weighted[h] *= factor;", WGMMA_ENTROPY, "*WgmmaKernels*"),
    Mutation("the entropy's terms of a tile keep the old reference", "wgmma/lane_sums.cuh",
             "        tile[h] = terms_of(scores, h);", "        tile[h].sum = terms_of(scores, h).sum;", WGMMA_ENTROPY, "*WgmmaKernels*"),
    Mutation("masked keys make the entropy NaN", "wgmma/lane_sums.cuh", "fmaf(e[j], fmaxf(x, -200.0f), ", "fmaf(e[j], x, ",
             WGMMA_ENTROPY, "*WgmmaKernels*"),
    Mutation("negative cuts are compared as integers", "wgmma/lane_edges.cuh",
             '    if (positive) {',
             '    if (true) {', EDGES, "*WgmmaKernels*"),
    Mutation("hits of the lanes before are not counted", "wgmma/lane_edges.cuh",
             '(own ^ x) < own ? through : below',
             'below', EDGES, "*WgmmaKernels*"),
    Mutation("hits of one lane are not counted for the next tile", "wgmma/lane_edges.cuh",
             'all += __popc(others[x - 1]);',
             '', EDGES, "*WgmmaKernels*"),
    Mutation("the second key of a pair is taken for the first", "wgmma/lane_edges.cuh",
             'bit / 2 * 8 + bit % 2;',
             'bit / 2 * 8;', EDGES, "*WgmmaKernels*"),
    Mutation("a candidate is written beyond its room", "wgmma/lane_edges.cuh",
             'if (at < room[h])',
             'if (room[h] > 0)', EDGES, "*WgmmaKernels*"),
    Mutation("the largest product is looked for above the cut only", "wgmma/lane_edges.cuh",
             'floor[h] = fminf(cut[h], top[h]);',
             'floor[h] = cut[h];', EDGES, "*WgmmaKernels*"),
    # cuda_materialised
    Mutation("the reference is not moved with the sum", "materialised/softmax_rows.cu", "  p.sum *= scale;\n", "",
             (), "SoftmaxRows*"),
    Mutation("warps merge before all have written", "materialised/softmax_rows.cu",
             "    __syncthreads();\n    p = s_partials[0];", "    p = s_partials[0];", (), "SoftmaxRows*"),
    Mutation("the last partial tile of scores is dropped", "materialised/softmax_rows.cu",
             "(scores.end + kTile - 1) / kTile", "scores.end / kTile", (), "SoftmaxRows*"),
    Mutation("ranks of bits count their own word", "stages/compact_bits.cuh", "place + (before - own);", "place + before;",
             ("materialised/compact_ballot.cu",), "Compact*"),
    Mutation("a warp's bits begin at its neighbour's", "stages/compact_bits.cuh",
             "for (int w = 0; w < team.warp; ++w)", "for (int w = 0; w + 1 < team.warp; ++w)",
             ("materialised/compact_ballot.cu",), "Compact*"),
    # the stages that both share
    Mutation("the scan forgets its carry", "stages/exclusive_scan.cu", "    carry += total;\n", "", (), "ExclusiveScan*"),
    Mutation("the scan is inclusive", "stages/exclusive_scan.cu", "return before + inclusive - x;", "return before + inclusive;",
             (), "ExclusiveScan*"),
    Mutation("sums of the scan's warps are read too early", "stages/exclusive_scan.cu",
             "  __syncthreads();\n  std::int64_t before = 0;", "  std::int64_t before = 0;", (), "ExclusiveScan*"),
    Mutation("sums of the scan's warps are overwritten too early", "stages/exclusive_scan.cu",
             "  __syncthreads();  // s_sums is free for the next scan\n", "", (), "ExclusiveScan*"),
    Mutation("rows that do not ascend are copied as they stand", "stages/copy_edges.cu", "    if (!ascends && key >= 0) {", "    if (false) {",
             (), "CopyEdges*"),
    Mutation("the ranks of a row count what is no edge", "stages/copy_edges.cu", "other >= 0 && other < key", "other < key", (),
             "CopyEdges*"),
    Mutation("a turn between batches of keys is not seen", "stages/copy_edges.cu",
             "    if (before == 0) previous = last_key;\n", "", (), "CopyEdges*"),
    Mutation("the tie rule is left out", "stages/finish_rows.cu",
             "works && tally.all_equal && tally.candidates > 0", "false", (),
             "RowsF64.Ties*:FinishRows*"),
    Mutation("a softmax weight may exceed 1", "stages/finish_rows.cu",
             "      if (!is_given) weight = fmin(weight, 1.0);\n", "", (), "FinishRows*"),
    Mutation("a row states another row's band", "stages/finish_rows.cu", "results.eps[row] = __double2float_ru(eps);",
             "results.eps[row] = __double2float_ru(0.5 * eps);", (), "FinishRows*"),
    Mutation("a team's tally is its first lane's", "stages/finish_rows.cu", "  tally.merge(team);\n", "", (), "FinishRows*"),
    Mutation("a product is given to the next lane", "stages/finish_rows.cu", "team.member == m + n ? dots[n]",
             "team.member == m + (n ^ 1) ? dots[n]", (), "FinishRows*"),
    Mutation("the widest band is that of the first warp", "stages/finish_rows.cu",
             "for (int w = 1; w < kThreads / 32; ++w) of_block", "for (int w = 1; w < 1; ++w) of_block", (), "FinishRows*"),
    Mutation("the second of two runs is read twice", "stages/score_f64.cuh", "x[r].load(q_ + d + r * kStep);",
             "x[r].load(q_ + d + kStep);", ("stages/finish_rows.cu",), "FinishRows*"),
    Mutation("a word of a row is left out of its length", "stages/inspect_rows.cu", "{words.x, words.y, words.z, words.w}",
             "{words.x, words.y, words.z, words.z}", (), "InspectRows*"),
    Mutation("the low part of a split word is its high part", "stages/prepare_operands.cu", "uint2{pair_of(a.low, b.low)",
             "uint2{pair_of(a.high, b.low)", (), "*Operands*"),
    Mutation("a chunk in double is left to the float pass", "stages/rows_f64.cu", "in_double &= in_double - 1", "in_double = 0",
             (), "RowsF64*"),
    Mutation("tiles that were read ahead are used twice", "materialised/softmax_rows.cu",
             "if (tile + n < end_tile) f(tile + n, x[n]);", "if (tile + n < end_tile) f(tile + n, x[0]);", (),
             "SoftmaxRows*"),
    Mutation("top-k keeps one more", "stages/select_rows.cu", "h.count >= top_k", "h.count > top_k", (), "SelectRows*"),
    Mutation("of equal weights the largest keys are kept", "stages/select_rows.cu", "own == last_bits && key > last_key",
             "own == last_bits && key < last_key", (), "SelectRows*"),
    Mutation("mass ends one edge late", "stages/select_rows.cu", "mass > 0 && h.sum.less(mass) >= 0",
             "mass > 0 && h.sum.less(mass) - 1e-3 >= 0", (), "SelectRows*"),
    Mutation("a rounded quotient ends the mass", "stages/select_rows.cu",
             "        if (fma(static_cast<double>(of_mass), weight, short_of) < 0) ++of_mass;\n", "", (), "SelectRows*"),
    Mutation("what a selection keeps is not added up anew", "stages/select_rows.cu", "  kept_mass[row] = at_high.sum.value();\n",
             "", (), "SelectRows*"),
    Mutation("a query that is not asked for counts as bad", "stages/judge_chunks.cu", "} else if (counts) {", "} else {", (),
             "JudgeChunks*"),
    Mutation("the block's finding is its first warp's", "stages/judge_chunks.cu",
             "for (int w = 1; w < kWarps; ++w) seen.join(s_seen[w]);", "", (), "JudgeChunks*"),
    Mutation("keys past the length are copied", "stages/prepare_operands.cu", "!is_key || r < chunk.mask.key_count", "true", (),
             "Dimensions/Operands*"),
    Mutation("rows are packed head by head", "stages/prepare_operands.cu", "operands.packed ? r % chunk.heads : r / chunk.queries",
             "r / chunk.queries", (), "Dimensions/Operands*"),
    Mutation("the first of nearly equal scores is no candidate", "materialised/softmax_rows.cu",
             "      words[first_near / 32] = word | bit;\n", "", (), "SoftmaxRows*"),
    Mutation("the sink is left out of the denominator", "stages/finish_rows.cu", "log_add(own_rest, sink - reference)",
             "own_rest", (), "FinishRows*:RowsF64*"),
    Mutation("a margin of exactly the band is not counted", "stages/finish_rows.cu",
             "fabs(margin) <= eps ? 1 : 0", "fabs(margin) < 0.5 * eps ? 1 : 0", (), "FinishRows*"),
    Mutation("the first fault of a mask is the last", "stages/inspect_mask.cu", "atomicMax(&fault->inverse_place, ~",
             "atomicMax(&fault->inverse_place, ", (), "InspectMask*"),
    Mutation("infinity counts as finite", "stages/inspect_rows.cu", "x < infinity_f64()", "x <= infinity_f64()", (), "InspectRows*"),
    Mutation("the low part of f32 is dropped", "stages/prepare_operands.cu", "__float2half_rn(scaled - __half2float(high))",
             "__float2half_rn(0.0f)", (), "*Operands*"),
    Mutation("padding is not zeroed", "stages/prepare_operands.cu",
             "          wanted ? static_cast<const std::uint16_t*>(data)[index] : std::uint16_t{0};",
             "          exists ? static_cast<const std::uint16_t*>(data)[index] : std::uint16_t{0};", (), "*Operands*"),
    Mutation("keys of a tile are overwritten while they are read", "stages/score_f64.cuh",
             "    __syncthreads();\n  }\n  return add_partials(partials);", "  }\n  return add_partials(partials);",
             ("stages/rows_f64.cu",), "RowsF64*"),
    Mutation("distances are off by one", "stages/sums.cu", "const int slot = warp + 31 - lane;", "const int slot = warp + 30 - lane;",
             (), "RowsF64*"),
)


# Whose objects a program without the checker and one with it are linked from; only kernels are made twice.
TARGETS = {"attngraph_cuda_emulated_objects": (False,), "attngraph_cuda_checked_objects": (True,),
           "attngraph_cuda_emulated_host": (False, True)}


class Build:
    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        self.compile: dict[tuple[str, bool], str] = {}
        for entry in commands:
            source = Path(entry["file"]).resolve()
            if ROOT / "cuda" not in source.parents:
                continue
            for target, kinds in TARGETS.items():
                if f"/{target}.dir/" in entry["command"]:
                    for checked in kinds:
                        self.compile[(str(source.relative_to(ROOT / "cuda")), checked)] = entry["command"]
        self.link = {checked: self._link_command(name) for name, checked in (("cuda_tests", False), ("cuda_checker_tests", True))}

    def _link_command(self, program: str) -> str:
        lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", program], check=True, capture_output=True,
                               text=True).stdout.splitlines()
        return next(line for line in reversed(lines) if f" -o {program} " in line)


def mutated_tree(mutation: Mutation, folder: Path) -> None:
    shutil.copytree(ROOT / "cuda", folder / "cuda")
    for name in ("src", "tests", "include"):
        (folder / name).symlink_to(ROOT / name)
    path = folder / "cuda" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) < mutation.occurrence:
        raise SystemExit(f"mutations.py: '{mutation.what}': {mutation.file} no longer has\n{mutation.old}")
    parts = text.split(mutation.old)
    at = mutation.occurrence
    path.write_text(mutation.old.join(parts[:at]) + mutation.new + mutation.old.join(parts[at:]))


def build_mutant(build: Build, mutation: Mutation, folder: Path, checked: bool) -> Path:
    objects = []
    for unit in mutation.units or (mutation.file,):
        command = shlex.split(build.compile[(unit, checked)])
        original = str(ROOT / "cuda" / unit)
        words = []
        for word in command:
            resolved = str((build.folder / word).resolve()) if word.endswith(unit) else word
            words.append(str(folder / "cuda" / unit) if resolved == original else word)
        output = folder / f"{unit.replace('/', '_')}.{'checked.' if checked else ''}o"
        words[words.index("-o") + 1] = str(output)
        for flag in ("-MF", "-MT"):
            if flag in words:
                words[words.index(flag) + 1] = str(output) + ".d"
        subprocess.run(words, cwd=build.folder, check=True, capture_output=True, text=True)
        objects.append(str(output))
    program = folder / ("mutant_checked" if checked else "mutant")
    name = "cuda_checker_tests" if checked else "cuda_tests"
    parts = f"libattngraph_cuda_{'checked' if checked else 'emulated'}_parts.a"
    link = build.link[checked].replace(f" -o {name} ", f" -o {program} ")
    # Before the archive: its own copies of these units are then not taken.
    link = re.sub(rf"(\S*{re.escape(parts)})", " ".join(objects) + r" \1", link, count=1)
    subprocess.run(link, shell=True, cwd=build.folder, check=True, capture_output=True, text=True)
    return program


@dataclass
class Finding:
    by: str = ""  # empty: nothing found it
    how: str = ""
    seconds: float = 0


def run_mutant(program: Path, tests: str, timeout: float) -> Finding:
    """The first test that fails, or during which the checker reports."""
    begin = time.monotonic()
    try:
        done = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_fail_fast"], timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except subprocess.TimeoutExpired as late:
        running = re.findall(r"\[ RUN      \] (\S+)", (late.stdout or b"").decode(errors="replace"))
        return Finding(running[-1] if running else "the time limit", "does not end", timeout)
    seconds = time.monotonic() - begin
    if done.returncode == 0:
        return Finding(seconds=seconds)
    report = re.search(r"^emulation: (race|unwritten): ", done.stdout, re.M)
    failed = re.search(r"^\[  FAILED  \] ([\w./]+)", done.stdout, re.M)
    before = done.stdout[: report.start()] if report else done.stdout
    running = re.findall(r"\[ RUN      \] (\S+)", before)
    schedule = re.search(r"schedule ([a-z ]+)$", done.stdout, re.M)
    if report:
        how = "race" if report.group(1) == "race" else "unwritten memory"
        return Finding(running[-1], how, seconds)
    if failed is None:
        return Finding(running[-1] if running else "the end of the process", "report at the end of the process", seconds)
    if re.search(r"cudaErrorIllegalAddress|cudaErrorLaunchFailure", done.stdout):
        how = "access, barrier or copy that CUDA does not allow"
    else:
        how = "wrong result"
    return Finding(failed.group(1), how + (f", schedule {schedule.group(1).strip()}" if schedule else ""), seconds)


def examine(build: Build, mutation: Mutation, timeout: float) -> Finding:
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        mutated_tree(mutation, folder)
        try:
            finding = run_mutant(build_mutant(build, mutation, folder, False), mutation.tests, timeout)
            if not finding.by:
                checked = run_mutant(build_mutant(build, mutation, folder, True), mutation.tests, timeout)
                if checked.by:
                    finding = Finding(f"{checked.by} (checker)", checked.how, checked.seconds)
        except subprocess.CalledProcessError as error:
            return Finding("the compiler", error.stderr.strip().splitlines()[0][:120] if error.stderr else "", 0)
        return finding


def table(results: list[tuple[Mutation, Finding]]) -> str:
    lines = ["| mutation | file | found by | as |", "|---|---|---|---|"]
    for mutation, finding in results:
        by = f"`{finding.by}`" if "." in finding.by else finding.by or "**nothing**"
        lines.append(f"| {mutation.what} | `{mutation.file}` | {by} | {finding.how} |")
    found = sum(1 for _, finding in results if finding.by)
    lines.append(f"\n{found} of {len(results)} are found.")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", default="", help="mutations whose name or file holds this word")
    parser.add_argument("--write", type=Path, help="a page with the marks of this script")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one mutation")
    arguments = parser.parse_args()
    build = Build(arguments.build)
    chosen = [m for m in MUTATIONS if (arguments.only in m.what or arguments.only in m.file)]
    results = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, finding in zip(chosen, pool.map(lambda m: examine(build, m, arguments.timeout), chosen)):
            results.append((mutation, finding))
            print(f"{mutation.what:60} {finding.by or 'NOTHING':70} {finding.how} ({finding.seconds:.1f} s)", flush=True)
    text = table(results)
    if arguments.write:
        page = arguments.write.read_text()
        head, _, rest = page.partition(BEGIN)
        arguments.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    missed = [mutation.what for mutation, finding in results if not finding.by]
    print(f"{len(results) - len(missed)} of {len(results)} mutations are found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
