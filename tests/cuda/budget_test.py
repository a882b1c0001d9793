#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The budget gate finds what it is there for: planted breaches of each kind, and the loop that it counts.

usage: budget_test.py [NVCC]      with nvcc and NVIDIA's disassembler also real machine code that uses local memory
"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import budget  # noqa: E402
import machine_code  # noqa: E402

NVCC = None

# A loop of products and exponentials (blocks B1 to B4) with two detours, one of them a loop of its own, and a tail.
CODE = """
//--------------------- .text._Z6kernelv          --------------------------
\t.section\t.text._Z6kernelv,"ax",@progbits
.text._Z6kernelv:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   LDSM.16.M88.4 R8, [R2] ;
.L_x_1:
        /*0020*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0030*/                   HMMA.16816.F32 R4, R8, R14, R4 ;
        /*0040*/                   BSSY B0, `(.L_x_3) ;
        /*0050*/              @!P0 BRA `(.L_x_2) ;
.L_x_4:
        /*0060*/                   STG.E [R2.64], R4 ;
        /*0070*/                   IADD3 R2, R2, 0x4, RZ ;
        /*0080*/               @P2 BRA `(.L_x_4) ;
        /*0090*/                   BRA `(.L_x_2) ;
.L_x_2:
        /*00a0*/                   BSYNC B0 ;
.L_x_3:
        /*00b0*/                   FFMA R5, R4, R6, -R7 ;
        /*00c0*/                   MUFU.EX2 R5, R5 ;
        /*00d0*/                   FADD R3, R3, R5 ;
        /*00e0*/               @P1 BRA `(.L_x_1) ;
        /*00f0*/                   MUFU.LG2 R3, R3 ;
        /*0100*/                   EXIT ;
.L_x_5:
        /*0110*/                   BRA `(.L_x_5);
        /*0120*/                   NOP ;
"""

GOOD = {"registers": 96, "shared": 2048, "instructions": 1000, "tensor": 32, "blocks": 5, "slots": {"fma": 2.0}}


def facts(**changes):
    made = budget.Facts(registers=96, shared=2048, stack=0, threads=128, instructions=1000, tensor=32, local=0,
                        slots={**dict.fromkeys(machine_code.PIPES, 0.0), "tensor": 1.0, "fma": 2.0}, blocks=5)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def breaches(made, entry=GOOD, same_compiler=True, limits=None):
    return budget.breaches("kernel<f16>", 80, made, entry, same_compiler, limits or {})


class MachineCode(unittest.TestCase):
    def setUp(self):
        self.kernel = machine_code.parse(CODE)["_Z6kernelv"]

    def test_instructions_are_read(self):
        self.assertEqual(len(self.kernel.instructions), 19)
        self.assertEqual(self.kernel.count(machine_code.is_tensor), 2)
        self.assertTrue(self.kernel.instructions[5].predicated)

    def test_the_loop_around_the_products_is_found(self):
        loops = self.kernel.loops()
        self.assertEqual([loop.count(machine_code.is_tensor) for loop in loops], [0, 2])
        outer = loops[1]
        self.assertEqual(outer.count(lambda i: True), 13)
        self.assertEqual(outer.count(lambda i: i.base == "STG"), 1)

    def test_a_usual_turn_leaves_out_the_detour(self):
        turn = self.kernel.loops()[1].usual_turn(lambda i: machine_code.is_tensor(i) or machine_code.is_exp2(i))
        opcodes = [i.base for block in turn for i in block.instructions]
        self.assertEqual(opcodes, ["HMMA", "HMMA", "BSSY", "BRA", "BSYNC", "FFMA", "MUFU", "FADD", "BRA"])
        counts = machine_code.by_pipe(turn)
        self.assertEqual(counts["tensor"], 2)
        self.assertEqual(counts["fma"], 2)
        self.assertEqual(counts["special"], 1)
        self.assertEqual(counts["memory"], 0)

    def test_slots_are_of_a_score(self):
        slots, everything = budget.fused_slots(self.kernel, 2)
        self.assertEqual(slots["tensor"], 1.0)
        self.assertEqual(everything, 6.5)


class Breaches(unittest.TestCase):
    def expect(self, found, word):
        self.assertEqual(len(found), 1, found)
        self.assertIn(word, found[0])
        self.assertIn("kernel<f16> on sm_80", found[0])

    def test_what_is_within_the_budget_passes(self):
        self.assertEqual(breaches(facts()), [])
        self.assertEqual(breaches(facts(registers=90, instructions=1049, blocks=6)), [])

    def test_every_kind_is_named(self):
        self.expect(breaches(facts(registers=97)), "97 registers")
        self.expect(breaches(facts(shared=2049)), "shared memory")
        self.expect(breaches(facts(blocks=4)), "4 blocks")
        self.expect(breaches(facts(tensor=31)), "exactly 32")
        self.expect(breaches(facts(tensor=33)), "exactly 32")
        self.expect(breaches(facts(instructions=1051)), "1051 instructions")
        self.expect(breaches(facts(instructions=949)), "949 instructions")
        self.expect(breaches(facts(local=1)), "local memory")
        self.expect(breaches(facts(stack=16)), "16 bytes")
        self.expect(breaches(facts(slots=None)), "no loop")
        slots = {**facts().slots, "fma": 2.2}
        self.expect(breaches(facts(slots=slots)), "2.20 fma slots")
        self.expect(breaches(facts(), None), "not in the budget")

    def test_limits_hold_for_the_kernels_they_name(self):
        limits = {r"kernel<f16>": {"blocks": 6, "slots_beside_tensor": 1.5}}
        self.assertEqual(len(breaches(facts(), limits=limits)), 2)
        self.assertEqual(breaches(facts(), limits={r"kernel<f32>": {"blocks": 6}}), [])

    def test_another_compiler_is_held_to_what_does_not_depend_on_it(self):
        self.assertEqual(breaches(facts(registers=200), same_compiler=False), [])
        self.expect(breaches(facts(tensor=0), same_compiler=False), "exactly 32")
        self.expect(breaches(facts(local=3), same_compiler=False), "local memory")


class Names(unittest.TestCase):
    def test_are_short_and_ours(self):
        short = budget.short_name
        self.assertEqual(short("void ag::cuda::(anonymous namespace)::rows_f64_kernel<(ag::DType)3>(ag::cuda::Chunk)"),
                         "rows_f64_kernel<f16>")
        self.assertEqual(short("void ag::cuda::row_edges_kernel<ag::cuda::Shape<(ag::DType)2, 64, "
                               "(ag::cuda::Variant)1> >(ag::cuda::StreamingArguments)"),
                         "row_edges_kernel<Shape<f32, 64, general>>")
        self.assertIsNone(short("void thrust::cuda_cub::core::_kernel_agent<ag::cuda::Chunk>(int)"))


class RealCode(unittest.TestCase):
    def test_local_memory_is_seen(self):
        tools = {name: budget.find_tool(name, None) for name in ("cuobjdump", "nvdisasm")}
        if NVCC is None or None in tools.values():
            self.skipTest("nvcc, cuobjdump or nvdisasm is missing")
        source = """
            namespace ag::cuda {
            __global__ void __launch_bounds__(96) indexed_kernel(const int* at, float* out) {
              float values[40];
              for (int n = 0; n < 40; ++n) values[n] = out[n];
              for (int n = 0; n < 40; ++n) values[at[n]] += 1;
              for (int n = 0; n < 40; ++n) out[n] = values[n];
            }
            __global__ void __launch_bounds__(96) plain_kernel(float* out) {
              __shared__ float s_values[100];
              s_values[threadIdx.x] = out[threadIdx.x];
              __syncthreads();
              out[threadIdx.x] = s_values[95 - threadIdx.x];
            }
            }"""
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder) / "planted.cu"
            code.write_text(source)
            for architecture in (80, 90):
                cubin = Path(folder) / f"planted.sm_{architecture}.cubin"
                subprocess.run([NVCC, f"-arch=sm_{architecture}", "-cubin", "-o", cubin, code], check=True,
                               capture_output=True)
                found = budget.read_cubin(cubin, tools, {})
                self.assertEqual(set(found), {"indexed_kernel", "plain_kernel"})
                self.assertGreater(found["indexed_kernel"].local, 0)
                self.assertEqual(found["plain_kernel"].local, 0)
                self.assertEqual(found["plain_kernel"].shared, 400)
                self.assertEqual(found["plain_kernel"].threads, 96)
                entry = budget.as_json(found["indexed_kernel"])
                self.assertTrue(budget.breaches("indexed_kernel", architecture, found["indexed_kernel"], entry, True, {}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        NVCC = sys.argv.pop(1)
    unittest.main(verbosity=2)
