// SPDX-License-Identifier: Apache-2.0
#include "amx.hpp"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "tiles-inl.hpp"

namespace ag::cpu {
namespace {

// The instructions as text: compilers know neither that they touch memory nor, for all of these, the instructions.
// Configured and released around one strip of keys, so that no thread is left with tiles for the kernel to save, nor a
// caller's function run between.
struct NativeTiles {
  static void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config) : "memory"); }
  static void release() { asm volatile("tilerelease" ::: "memory"); }
  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void load(const float* p, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void store(float* p, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kSum, int kLeft, int kRight>
  static void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
  }
  // A panel of scores, which the stores above have left in L1, to its place in a strip.
  __attribute__((target("avx512f"))) static void scale(const float* piece, std::int64_t rows, float factor,
                                                       float* scores) {
    const __m512 f = _mm512_set1_ps(factor);
    for (std::int64_t r = 0; r < rows; ++r, piece += kPieceKeys, scores += kStripKeys<float>) {
      for (std::int64_t j = 0; j < kPieceKeys; j += 16)
        _mm512_store_ps(scores + j, _mm512_mul_ps(_mm512_load_ps(piece + j), f));
    }
  }
};

constexpr std::uint64_t kVectorStates = 0xE6, kTileStates = 3u << 17;  // SSE, AVX, AVX-512; configuration and data

std::uint64_t enabled_states() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return 0;
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low | std::uint64_t{high} << 32;
}

long request_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData);
}

int run_work(void* work) { return reinterpret_cast<bool (*)()>(work)() ? 0 : 1; }

}  // namespace

TileSystem this_tile_system() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  const bool in_processor = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBf16) != 0 && (d & kTile) != 0;
  return {in_processor, enabled_states(), request_tiles, tiles_multiply_right<NativeTiles>};
}

const char* why_no_tiles(const TileSystem& system) {
  if (!system.in_processor) return "the processor has no AMX";
  constexpr std::uint64_t kWanted = kVectorStates | kTileStates;
  if ((system.enabled_states & kWanted) != kWanted) return "the operating system does not keep the state of AMX tiles";
  if (system.request() != 0) return "the kernel does not let this process use AMX tiles";
  if (!holds_apart(system.product)) return "a small product by AMX tiles failed or was wrong";
  return "";
}

bool holds_apart(bool (*work)()) {
  // Shares memory (nothing is copied, however large this process is) and ends before this thread goes on. It inherits a
  // mask of all signals: no handler of the program runs in it, and an illegal instruction ends it by default. No signal
  // tells the program that a child ended.
  alignas(64) static char stack[64 << 10];
  sigset_t all, before;
  sigfillset(&all);
  if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return false;
  const int child = clone(run_work, stack + sizeof stack, CLONE_VM | CLONE_VFORK, reinterpret_cast<void*>(work));
  int status = -1;
  if (child > 0) {
    while (waitpid(child, &status, __WALL) < 0) {
      if (errno == EINTR) continue;
      status = -1;
      break;
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return child > 0 && status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void use_tiles(Kernels<float>& table, DType dtype) { use_tile_product<NativeTiles>(table, dtype); }

}  // namespace ag::cpu

#else

namespace ag::cpu {
TileSystem this_tile_system() {
  return {false, 0, [] { return -1L; }, [] { return false; }};
}
const char* why_no_tiles(const TileSystem&) { return "this build has no AMX"; }
bool holds_apart(bool (*)()) { return false; }
void use_tiles(Kernels<float>&, DType) {}
}  // namespace ag::cpu

#endif
