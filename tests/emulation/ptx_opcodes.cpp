// SPDX-License-Identifier: Apache-2.0
// The instructions that are known.
#include <cctype>
#include <cstring>

#include "ptx_program.hpp"

namespace ag::emu {
namespace {

constexpr PtxOpcode kOpcodes[] = {
    {"cp.async.cg.shared.global", "[s] [l] n", true, &execute_cp_async},
    {"cp.async.cg.shared.global", "[s] [l] n N", true, &execute_cp_async_zfill},
    {"cp.async.ca.shared.global", "[s] [l] n", true, &execute_cp_async},
    {"cp.async.ca.shared.global", "[s] [l] n N", true, &execute_cp_async_zfill},
    {"cp.async.commit_group", "", true, &execute_cp_async_commit},
    {"cp.async.wait_group", "n", true, &execute_cp_async_wait},
    {"cp.async.wait_all", "", true, &execute_cp_async_wait_all},
    {"ldmatrix.sync.aligned.m8n8.x1.shared.b16", "={r} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x2.shared.b16", "={rr} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "={rrrr} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", "={r} [s]", true, &execute_ldmatrix_transposed},
    {"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16", "={rr} [s]", true, &execute_ldmatrix_transposed},
    {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "={rrrr} [s]", true, &execute_ldmatrix_transposed},
    {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "={ffff} {rrrr} {rr} {ffff}", false, &execute_mma_f16},
    {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "={ffff} {rrrr} {rr} {ffff}", false, &execute_mma_bf16},
    {"ex2.approx.ftz.f32", "=f f", false, &execute_ex2},
    {"lg2.approx.ftz.f32", "=f f", false, &execute_lg2},
    {"rcp.approx.ftz.f32", "=f f", false, &execute_rcp},
    {"bar.sync", "N", true, &execute_bar_sync},
    {"bar.sync", "N N", true, &execute_bar_sync_count},
    {"setp.ne.b32", "=p N N", false, &execute_setp_ne},
    {"setp.ge.f32", "=p f f", false, &execute_setp_ge},
    {"selp.u32", "=r n n p", false, &execute_selp},
    {"add.s64", "=l l n", false, &execute_add_wide},
    {"st.global.b32", "[l] r", true, &execute_store_global},
    {"st.global.f32", "[l] f", true, &execute_store_global},
    {"elect.sync", "=B|p n", true, &execute_elect},
    {"mbarrier.init.shared::cta.b64", "[S] N", true, &execute_mbarrier_init},
    {"mbarrier.arrive.shared::cta.b64", "=B [S]", true, &execute_mbarrier_arrive},
    {"mbarrier.arrive.expect_tx.shared::cta.b64", "=B [S] N", true, &execute_mbarrier_arrive_expect},
    {"mbarrier.try_wait.parity.shared::cta.b64", "=p [S] N", true, &execute_mbarrier_try_wait},
    {"fence.mbarrier_init.release.cluster", "", true, &execute_mbarrier_fence},
    {"fence.proxy.async.shared::cta", "", true, &execute_proxy_fence},
    {"fence.proxy.async", "", true, &execute_proxy_fence},
    {"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes", "[S] [l{NN}] [S]", true,
     &execute_tensor_copy},
    {"cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes", "[S] [l{NNN}] [S]", true,
     &execute_tensor_copy},
    {"cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes", "[S] [l{NNNN}] [S]", true,
     &execute_tensor_copy},
    {"cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes", "[S] [l{NNNNN}] [S]", true,
     &execute_tensor_copy},
    {"wgmma.mma_async.sync.aligned.m64n#k16.f32.f16.f16", "={f*} l l p n n n n", true, &execute_wgmma_f16},
    {"wgmma.mma_async.sync.aligned.m64n#k16.f32.bf16.bf16", "={f*} l l p n n n n", true, &execute_wgmma_bf16},
    {"wgmma.fence.sync.aligned", "", true, &execute_wgmma_fence},
    {"wgmma.commit_group.sync.aligned", "", true, &execute_wgmma_commit},
    {"wgmma.wait_group.sync.aligned", "n", true, &execute_wgmma_wait},
    {"setmaxnreg.inc.sync.aligned.u32", "n", true, &execute_setmaxnreg_inc},
    {"setmaxnreg.dec.sync.aligned.u32", "n", true, &execute_setmaxnreg_dec},
};

// `pattern` may hold one # for a number.
bool matches(const char* pattern, const std::string& name, std::uint32_t& number) {
  const char* const hash = std::strchr(pattern, '#');
  if (hash == nullptr) return name == pattern;
  const std::size_t before = static_cast<std::size_t>(hash - pattern);
  if (name.compare(0, before, pattern, before) != 0) return false;
  std::size_t end = before;
  std::uint32_t value = 0;
  while (end < name.size() && end < before + 4 && std::isdigit(static_cast<unsigned char>(name[end])) != 0) {
    value = value * 10 + static_cast<std::uint32_t>(name[end++] - '0');
  }
  if (end == before || name.compare(end, std::string::npos, hash + 1) != 0) return false;
  number = value;
  return true;
}

}  // namespace

std::vector<const PtxOpcode*> find_ptx_opcodes(const std::string& name, std::uint32_t& number) {
  std::vector<const PtxOpcode*> found;
  number = 0;
  for (const PtxOpcode& opcode : kOpcodes) {
    if (matches(opcode.name, name, number)) found.push_back(&opcode);
  }
  // Products have 8 to 256 columns, in eights.
  if (!found.empty() && std::strchr(found.front()->name, '#') != nullptr &&
      (number < 8 || number > 256 || number % 8 != 0)) {
    found.clear();
  }
  return found;
}

}  // namespace ag::emu
