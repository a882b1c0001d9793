// SPDX-License-Identifier: Apache-2.0
#include "group_data.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr double kLog2E = 1.442695040888963407360;
// Beyond it an intermediate product of the double kernel could overflow.
constexpr double kScoreLimit = 1e300;
// Beyond it a float could.
constexpr double kFloatLimit = 1e30;
// Smallest product that a float holds at full precision, and how far, in nats, what is lost below it may move a score.
constexpr double kSmallestProduct = 0x1p-126;
constexpr double kLargestLoss = 1e-8;

constexpr std::size_t kCachedGroups = 2;

std::int64_t pitch_of(std::int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// The largest e with norm * 2^e < 2^10: no value of a row of that length is larger.
std::int32_t split_exponent(double norm) { return norm > 0 ? 9 - std::ilogb(norm) : 0; }

// Lengths of rows, on the device and, after a wait, on the host.
struct Norms {
  DeviceBuffer<double> device;
  PinnedBuffer<double> host;
};

double largest(const PinnedBuffer<double>& norms) {
  double most = 0;
  for (std::int64_t n = 0; n < norms.size(); ++n) {
    if (!std::isnan(norms[n])) most = std::max(most, norms[n]);
  }
  return most;
}

void inspect(const DeviceTensor& tensor, const std::int64_t* d_heads, std::int64_t heads, std::int64_t rows,
             std::int64_t dim, Norms& norms, cudaStream_t stream) {
  norms.device = DeviceBuffer<double>(heads * rows, stream);
  cuda_check(launch_inspect_rows(tensor.tensor, d_heads, heads, 0, rows, dim, norms.device.data(), stream),
             "inspect_rows");
  download(norms.host.resize(heads * rows), norms.device.data(), heads * rows, stream, "lengths of rows");
}

void find_bad_keys(const ExtractJob& job, const Group& group, const PinnedBuffer<double>& norms, GroupData& data,
                   Lane& lane) {
  const Problem& p = job.problem;
  std::vector<std::uint8_t>& bad = data.bad_key_flags;
  for (std::int64_t j = 0; j < norms.size(); ++j) {
    if (!std::isnan(norms[j])) continue;
    if (p.nonfinite == Nonfinite::kError) fail_nonfinite(p.k, "k", group.batch, group.key_head, j, lane);
    if (bad.empty()) bad.resize(static_cast<std::size_t>(p.keys()));
    bad[static_cast<std::size_t>(j)] = 1;
    ++data.bad_keys;
  }
  if (bad.empty()) return;
  data.d_bad_keys = DeviceBuffer<std::uint8_t>(p.keys(), lane.stream());
  upload_small(data.d_bad_keys.data(), bad.data(), p.keys(), lane.stream(), "keys to skip");
}

void choose_precision(const ExtractJob& job, const Group& group, double query_norm, GroupData& data) {
  const Problem& p = job.problem;
  const double product = query_norm * data.key_norm, bound = std::abs(p.scale) * product;
  if (!(bound <= kScoreLimit) || !(product <= kScoreLimit)) {
    fail(Status::kRange, "scores of batch {}, key head {} may reach {:g}; the limit is {:g}: scale down the input",
         group.batch, group.key_head, std::max(bound, product), kScoreLimit);
  }
  BandInput in;
  in.head_dim = p.head_dim();
  in.keys = p.keys();
  in.dtype = DType::kF64;
  in.scale = p.scale;
  in.key_norm = data.key_norm;
  in.softcap = p.softcap;
  in.additive_mask = p.mask.tensor && p.mask.tensor.dtype != DType::kBool;
  in.log_cut = job.plan.candidate_threshold > 0 ? std::log(job.plan.candidate_threshold) : 0.0;
  data.band_f64 = make_band_model(in);
  in.dtype = p.q.dtype;
  data.band = make_band_model(in);

  const double dim = static_cast<double>(p.head_dim());
  const double factor = std::abs(p.softcap > 0 ? p.scale / p.softcap : p.scale * kLog2E);
  const bool out_of_range = std::max({query_norm, data.key_norm, product, product * factor}) > kFloatLimit ||
                            dim * kSmallestProduct * std::abs(p.scale) > kLargestLoss;
  data.in_double = p.q.dtype == DType::kF64 || p.head_dim() > job.pass.largest_head_dim() || out_of_range ||
                   data.band.band(query_norm) - data.band.mask_room > kWidestBand;
  if (data.in_double) data.band = data.band_f64;
}

void prepare_keys(const ExtractJob& job, double query_norm, GroupData& data, cudaStream_t stream) {
  const Problem& p = job.problem;
  Operands& operands = data.operands;
  operands.dtype = static_cast<std::int32_t>(p.q.dtype);
  operands.pitch = pitch_of(p.head_dim());
  operands.split = p.q.dtype == DType::kF32 && job.pass.splits_f32();
  const bool plain_f32 = p.q.dtype == DType::kF32 && !operands.split;
  if (operands.split) {
    operands.q_exponent = split_exponent(query_norm);
    operands.k_exponent = split_exponent(data.key_norm);
  }
  data.k_operand =
      DeviceBuffer<std::byte>(data.key_count * operands.pitch * (p.q.dtype == DType::kF32 ? 4 : 2), stream);
  operands.k = data.k_operand.data();
  const cudaError_t code =
      plain_f32 ? launch_prepare_f32(data.k.tensor, nullptr, 1, 0, data.key_count, p.head_dim(), operands.pitch,
                                     reinterpret_cast<float*>(data.k_operand.data()), stream)
                : launch_prepare_operands(data.k.tensor, nullptr, 1, 0, data.key_count, p.head_dim(), operands.dtype,
                                          operands.pitch, operands.k_exponent, data.k_operand.data(), stream);
  cuda_check(code, "prepare_operands of the keys");
}

}  // namespace

void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h, std::int64_t n,
                    Lane& lane) {
  const std::int64_t dim = tensor.shape[3];
  const HostElements row(tensor, tensor.at(b, h, n), tensor.strides[3], dim, lane);
  std::int64_t d = 0;
  while (d + 1 < dim && std::isfinite(row[d])) ++d;
  fail(Status::kNonfinite,
       "{} holds {} at batch {}, head {}, position {}, dimension {}; clean the input or ask to skip such positions",
       name, row[d], b, h, n, d);
}

std::unique_ptr<GroupData> load_group(const ExtractJob& job, const Group& group, Lane& lane, const Poll& poll) {
  const Problem& p = job.problem;
  const cudaStream_t stream = lane.stream();
  auto data = std::make_unique<GroupData>();
  data->key_count = p.mask.key_count(group.batch, p.keys());

  const std::int64_t first = group.heads.front(), span = group.heads.back() - first + 1;
  const auto heads = static_cast<std::int64_t>(group.heads.size());
  data->k = device_tensor(p.k, {group.batch, group.key_head, 1, 0, data->key_count, p.head_dim()}, lane, poll);
  data->k.tensor.stride_head = 0;
  data->q = device_tensor(p.q, {group.batch, first, span, 0, p.queries(), p.head_dim()}, lane, poll);
  std::vector<std::int64_t> ids;
  for (const std::int64_t head : group.heads) ids.push_back(head - first);
  DeviceBuffer<std::int64_t> d_ids(heads, stream);
  upload_small(d_ids.data(), ids.data(), heads, stream, "heads");

  // All queries of the heads, not only those of the range: the precision must not depend on how rows are split into
  // calls.
  Norms of_keys, of_queries;
  const SettledLane before_they_go(lane);
  inspect(data->k, nullptr, 1, data->key_count, p.head_dim(), of_keys, stream);
  inspect(data->q, d_ids.data(), heads, p.queries(), p.head_dim(), of_queries, stream);
  lane.wait(poll);
  find_bad_keys(job, group, of_keys.host, *data, lane);
  data->key_norm = largest(of_keys.host);
  data->q_norms.assign(of_queries.host.data(), of_queries.host.data() + of_queries.host.size());
  data->d_q_norms = std::move(of_queries.device);
  const double query_norm = largest(of_queries.host);
  choose_precision(job, group, query_norm, *data);
  if (!data->in_double) prepare_keys(job, query_norm, *data, stream);
  lane.wait(poll);  // other lanes may use it now
  return data;
}

std::shared_ptr<const GroupData> GroupCache::get(std::size_t n, const ExtractJob& job, const Group& group, Lane& lane,
                                                 const Poll& poll) {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto entry = std::find_if(entries_.begin(), entries_.end(), [n](const Entry& e) { return e.group == n; });
    if (entry == entries_.end()) break;
    if (entry->data != nullptr) return entry->data;
    loaded_.wait_for(lock, std::chrono::milliseconds(10));
    lock.unlock();
    poll();
    lock.lock();
  }
  entries_.push_back({n, nullptr});
  lock.unlock();
  const auto find_own = [&] {
    return std::find_if(entries_.begin(), entries_.end(), [n](const Entry& e) { return e.group == n; });
  };
  try {
    std::shared_ptr<const GroupData> data = load_group(job, group, lane, poll);
    lock.lock();
    find_own()->data = data;
    while (entries_.size() > kCachedGroups && entries_.front().data != nullptr) entries_.pop_front();
    loaded_.notify_all();
    return data;
  } catch (...) {
    lane.settle();
    if (!lock.owns_lock()) lock.lock();
    entries_.erase(find_own());
    loaded_.notify_all();
    throw;
  }
}

}  // namespace ag::cuda
