// SPDX-License-Identifier: Apache-2.0
#include "targets.hpp"

#include <attngraph/attngraph.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/error.hpp"
#include "graph/operations.hpp"
#include "io/graph_file.hpp"
#include "io/io_support.hpp"
#include "io/tensor_file.hpp"

namespace ag::fuzz {
namespace {

[[noreturn]] void wrong(const std::string& what) {
  std::fprintf(stderr, "WRONG: %s\n", what.c_str());
  std::abort();
}

// A file that is nowhere but in memory.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// What was read takes no more than the file can pay for.
void read_tensors(Bytes bytes) {
  const MemoryFile file(bytes);
  try {
    const auto tensors = open_tensor_file(file.path());
    for (const std::string& name : tensors->names()) {
      try {
        const TensorView view = tensors->read(name);
        std::uint64_t size = size_of(view.dtype);
        for (int d = 0; d < view.ndim; ++d) size *= static_cast<std::uint64_t>(view.shape[static_cast<std::size_t>(d)]);
        if (size > 1100 * bytes.size()) wrong("a tensor of " + std::to_string(size) + " bytes");
      } catch (const Error&) {
      }
      tensors->release(name);
    }
  } catch (const Error&) {
  }
}

void read_a_graph(Bytes bytes) {
  const MemoryFile file(bytes);
  try {
    const EdgeList graph = read_graph(file.path());
    if (graph.rows.size() > (std::size_t{1} << 18) + 1100 * bytes.size()) wrong("more rows than the file pays for");
    std::int64_t edges = 0;
    for (const Slice& slice : graph.slices) {
      edges += slice.edge_count;
      const auto last = static_cast<std::size_t>(slice.first_offset + slice.info.query_count);
      if (graph.offsets.at(last) != slice.edge_count) wrong("offsets do not end with the edges");
    }
    if (edges != graph.edge_count()) wrong("slices do not hold the edges");
    const Difference same = diff(graph, graph, 0);
    if (same.only_a + same.only_b != 0) wrong("a graph differs from itself");
  } catch (const Error&) {
  }
}

void read_token_texts(Bytes bytes) {
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const MemoryFile file(bytes);
  try {
    const Labels labels = read_tokens(file.path());
    for (const std::vector<std::string>& list : labels.lists) {
      for (const std::string& token : list) {
        if (token.size() > bytes.size()) wrong("a token longer than its file");
      }
    }
  } catch (const Error&) {
  }
  try {
    parse_tokens_json(text, "fuzz");
  } catch (const Error&) {
  }
}

// Numbers out of bytes, zeros when they end.
class Source {
 public:
  explicit Source(Bytes bytes) : bytes_(bytes) {}
  std::uint8_t byte() { return at_ < bytes_.size() ? bytes_[at_++] : 0; }
  std::int64_t below(int n) { return byte() % n; }
  bool one_in(int n) { return byte() % n == 1; }
  double number() {
    const int exponent = static_cast<int>(byte() % 16) - 10;
    const double mantissa = static_cast<double>(static_cast<std::int8_t>(byte())) / 32;
    const std::uint8_t special = byte();
    if (special == 255) return NAN;
    if (special == 254) return mantissa < 0 ? -HUGE_VAL : HUGE_VAL;
    if (special == 253) return std::ldexp(mantissa, 90);
    return special < 128 ? mantissa : std::ldexp(mantissa, exponent);
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
};

struct Answer {
  attngraph_status status = ATTNGRAPH_OK;
  std::string message;
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> keys;
};

Answer ask(attngraph_context* context, const attngraph_tensor& q, const attngraph_tensor& k, attngraph_options options,
           const char* backend) {
  options.backend = backend;
  attngraph_result* result = nullptr;
  Answer answer;
  answer.status = attngraph_extract(context, &q, &k, &options, &result);
  if (answer.status != ATTNGRAPH_OK) {
    answer.message = attngraph_last_error();
    if (result != nullptr) wrong("a failed call handed out a result");
    return answer;
  }
  attngraph_report report;
  attngraph_result_report(result, &report);
  if (options.decision == ATTNGRAPH_DECISION_CERTIFIED && report.unresolved != 0) wrong("unresolved pairs");
  for (std::int64_t s = 0; s < attngraph_result_slice_count(result); ++s) {
    attngraph_csr csr;
    attngraph_result_csr(result, s, &csr);
    answer.offsets.insert(answer.offsets.end(), csr.offsets, csr.offsets + csr.query_count + 1);
    answer.keys.insert(answer.keys.end(), csr.keys, csr.keys + csr.edge_count);
  }
  attngraph_result_destroy(result);
  return answer;
}

// Any options, any values, NaN among them: the backends give the same status and, certified, the same edges.
void compare_backends(Bytes bytes) {
  Source from(bytes);
  static attngraph_context* const context = [] {
    attngraph_context* made = nullptr;
    if (attngraph_context_create(&made, "cpu") != ATTNGRAPH_OK) std::abort();
    return made;
  }();
  const std::int64_t heads = 1 + from.below(2), queries = from.below(5), keys = from.below(12), d = 1 + from.below(9);
  const auto values = [&](std::int64_t n) {
    std::vector<double> out(static_cast<std::size_t>(n));
    for (double& x : out) x = from.number();
    return out;
  };
  const auto tensor = [](const std::vector<double>& data, std::int64_t* shape, int ndim) {
    return attngraph_tensor{data.data(), ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F64, ndim, shape, nullptr};
  };
  attngraph_options o = ATTNGRAPH_OPTIONS_INIT;
  o.threshold = std::abs(from.number());
  o.decision = ATTNGRAPH_DECISION_CERTIFIED;
  if (from.one_in(4)) o.top_k = from.below(7) - 1;
  if (from.one_in(4)) o.mass = from.number();
  o.allow_dense = from.one_in(3);
  if (from.one_in(2)) o.scale = from.number();
  if (from.one_in(4)) o.softcap = from.number();
  o.causal = from.one_in(2);
  o.nonfinite = from.one_in(2);
  if (from.one_in(3)) o.query_offset = from.below(30) - 15;
  if (from.one_in(3)) o.window = from.below(9) - 1;
  o.stats = static_cast<std::uint32_t>(from.below(8));
  o.threads = static_cast<std::int32_t>(from.below(4));
  const std::int64_t length = from.below(14) - 1;
  if (from.one_in(4)) o.key_lengths = &length;
  std::int64_t q_shape[] = {1, heads, queries, d}, k_shape[] = {1, heads, keys, d}, head_shape[] = {heads},
               row_shape[] = {1, heads, queries}, mask_shape[] = {queries, keys};
  const bool has_mask = from.one_in(3), has_sinks = from.one_in(4), has_lse = from.one_in(4);
  const auto q = values(heads * queries * d), k = values(heads * keys * d), mask = values(queries * keys),
             sinks = values(heads), lse = values(heads * queries), slopes = values(heads);
  const attngraph_tensor tq = tensor(q, q_shape, 4), tk = tensor(k, k_shape, 4), tm = tensor(mask, mask_shape, 2),
                         ts = tensor(sinks, head_shape, 1), tl = tensor(lse, row_shape, 3),
                         ta = tensor(slopes, head_shape, 1);
  if (has_mask) o.mask = &tm;
  if (has_sinks) o.sinks = &ts;
  if (has_lse) o.lse = &tl;
  if (from.one_in(4)) o.alibi = &ta;
  o.lse_base = from.one_in(2);
  const Answer a = ask(context, tq, tk, o, "reference"), b = ask(context, tq, tk, o, "cpu");
  // Of several things that are wrong, backends may meet another one first; that something is, they agree on.
  if ((a.status == ATTNGRAPH_OK) != (b.status == ATTNGRAPH_OK)) {
    // Scores near the range's end, a weight near a float's: each backend has its own bound there.
    if (a.status == ATTNGRAPH_ERROR_RANGE || b.status == ATTNGRAPH_ERROR_RANGE) return;
    wrong("reference: " + a.message + "; cpu: " + b.message);
  }
  if (o.decision == ATTNGRAPH_DECISION_CERTIFIED && a.status == ATTNGRAPH_OK &&
      (a.offsets != b.offsets || a.keys != b.keys)) {
    wrong("certified edges differ between reference and cpu");
  }
}

std::vector<std::string> tensor_seeds() {
  using namespace io_test;
  const std::string floats = raw(std::vector<float>{0, 1, 2, 3, 4, 5});
  const std::string array = npy(npy_dict("<f4", "(2, 3)"), floats);
  return {array, npy(npy_dict(">f8", "(3,)", "True"), floats, 2),
          zip({ZipPart::stored("a.npy", array), ZipPart::squeezed("b.npy", array)}),
          safetensors(R"({"__metadata__":{"scale":"0.5"},"q":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})",
                      floats)};
}

std::vector<std::string> graph_seeds() {
  using namespace io_test;
  const TempDir dir;
  std::vector<std::string> seeds;
  for (const char* name : {"g.npz", "g.safetensors", "g.csv", "g.jsonl"}) {
    write_graph(small_graph(), dir.path(name));
    seeds.push_back(slurp(dir.path(name)));
  }
  return seeds;
}

std::vector<std::string> token_seeds() {
  return {R"(["the", " cat", [255, 128], "\ud83d\ude00\n"])", "the\n cat\nsat\n", "[[\"a\"], 1]"};
}

std::vector<std::string> option_seeds() {
  std::vector<std::string> seeds;
  for (int n = 0; n < 8; ++n) {
    std::string bytes(400, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<char>((i * 37 + static_cast<std::size_t>(n) * 101) % 97);
    seeds.push_back(bytes);
  }
  return seeds;
}

constexpr Target kTargets[] = {{"tensor_file", read_tensors, tensor_seeds},
                               {"graph_file", read_a_graph, graph_seeds},
                               {"tokens", read_token_texts, token_seeds},
                               {"options", compare_backends, option_seeds}};

}  // namespace

std::span<const Target> targets() { return kTargets; }

}  // namespace ag::fuzz
