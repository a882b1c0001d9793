// SPDX-License-Identifier: Apache-2.0
// What compare.py starts. It makes the inputs that all sides share:
//     bench_worker make-qk OUT.safetensors N D DTYPE        tensors q.0 and k.0, [N, D]
//     bench_worker make-matrix OUT.npy N
// and serves one side, one command a line on standard input, one JSON object a line on standard output:
//     bench_worker extract QK.safetensors THRESHOLD causal|full THREADS
//     bench_worker filter MATRIX.npy THRESHOLD THREADS
//     bench_worker sgemm QK.safetensors THRESHOLD causal|full
//     run           does the work once: {"seconds": ..., "cpu_seconds": ..., "edges": ...}
//     save PREFIX   writes the last answer to PREFIX.offsets.npy, PREFIX.keys.npy, PREFIX.weights.npy
//     peak          {"peak_bytes": ..., "input_bytes": ..., "answer_bytes": ...} of this process
// bench/peers/serve.py is the same for the peers in Python.
#include <fmt/format.h>

#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "memory.hpp"
#include "peers/sgemm_tiles.hpp"

namespace {

using namespace ag::bench;

class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

void write_bytes(std::ofstream& out, const void* data, std::size_t bytes) {
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
}

void finish(std::ofstream& out, const std::string& path) {
  out.close();
  if (!out) throw std::runtime_error(fmt::format("cannot write {}", path));
}

void write_npy(const std::string& path, const char* descr, const std::string& shape, const void* data,
               std::size_t bytes) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr, shape);
  header += std::string(64 - (10 + header.size() + 1) % 64, ' ') + '\n';
  const char prefix[] = {'\x93',
                         'N',
                         'U',
                         'M',
                         'P',
                         'Y',
                         1,
                         0,
                         static_cast<char>(header.size() & 0xFF),
                         static_cast<char>(header.size() >> 8)};
  std::ofstream out(path, std::ios::binary);
  write_bytes(out, prefix, sizeof prefix);
  write_bytes(out, header.data(), header.size());
  write_bytes(out, data, bytes);
  finish(out, path);
}

void write_qk(const std::string& path, const QkInput& input, attngraph_dtype dtype) {
  const std::int64_t each = input.input_bytes() / 2;
  const auto name = [&] {
    switch (dtype) {
      case ATTNGRAPH_F64: return "F64";
      case ATTNGRAPH_F16: return "F16";
      case ATTNGRAPH_BF16: return "BF16";
      default: return "F32";
    }
  }();
  const attngraph::tensor q = input.q();
  const auto shape = q.shape();
  const auto entry = [&](char tensor, std::int64_t begin) {
    return fmt::format(R"("{}.0":{{"dtype":"{}","shape":[{},{}],"data_offsets":[{},{}]}})", tensor, name, shape[0],
                       shape[1], begin, begin + each);
  };
  std::string header = fmt::format("{{{},{}}}", entry('q', 0), entry('k', each));
  header.append((8 - header.size() % 8) % 8, ' ');
  const auto length = static_cast<std::uint64_t>(header.size());
  std::ofstream out(path, std::ios::binary);
  write_bytes(out, &length, sizeof length);
  write_bytes(out, header.data(), header.size());
  write_bytes(out, q.data(), static_cast<std::size_t>(each));
  write_bytes(out, input.k().data(), static_cast<std::size_t>(each));
  finish(out, path);
}

// One side of a comparison.
struct Side {
  std::string facts;                           // how it was set up, for the table
  std::function<std::int64_t()> run;           // keeps the answer, returns its edges
  std::function<attngraph::slice()> answer;    // of the last run
  std::function<std::int64_t()> answer_bytes;  // of the last run, as the library holds it
  std::int64_t input_bytes = 0;
};

void save(const attngraph::slice& answer, const std::string& prefix) {
  const std::span<const float> weights = answer.weights_f32;
  const auto edges = fmt::format("({},)", answer.keys.size());
  write_npy(prefix + ".offsets.npy", "<i8", fmt::format("({},)", answer.offsets.size()), answer.offsets.data(),
            answer.offsets.size_bytes());
  write_npy(prefix + ".keys.npy", "<i4", edges, answer.keys.data(), answer.keys.size_bytes());
  write_npy(prefix + ".weights.npy", "<f4", edges, weights.data(), weights.size_bytes());
}

// The arrays of the result: CSR and four doubles and a key of statistics for every row.
std::int64_t bytes_of(const attngraph::slice& s) {
  const auto rows = static_cast<std::size_t>(s.query_count);
  return static_cast<std::int64_t>(s.offsets.size_bytes() + s.keys.size_bytes() + s.weights_f32.size_bytes() +
                                   rows * (4 * sizeof(double) + sizeof(std::int32_t)));
}

// Of all threads of this process.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void serve(const Side& side) {
  std::cout << fmt::format(R"({{"facts": "{}"}})", side.facts) << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "run") {
      const auto begin = std::chrono::steady_clock::now();
      const double begin_cpu = cpu_seconds();
      const std::int64_t edges = side.run();
      const double cpu = cpu_seconds() - begin_cpu;
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      std::cout << fmt::format(R"({{"seconds": {}, "cpu_seconds": {}, "edges": {}}})", seconds, cpu, edges)
                << std::endl;
    } else if (line.rfind("save ", 0) == 0) {
      save(side.answer(), line.substr(5));
      std::cout << "{}" << std::endl;
    } else if (line == "peak") {
      std::cout << fmt::format(R"({{"peak_bytes": {}, "input_bytes": {}, "answer_bytes": {}}})", peak_resident_bytes(),
                               side.input_bytes, side.answer_bytes())
                << std::endl;
    } else {
      throw UsageError(fmt::format("unknown command '{}'", line));
    }
  }
}

std::string facts_of(const attngraph::result& result) {
  const attngraph::report report = result.report();
  return fmt::format("backend {}, {}, {} thread{}", report.backend, report.target, report.threads,
                     report.threads == 1 ? "" : "s");
}

// The engine: `work` is one call of the library.
void serve_engine(const std::function<attngraph::result()>& work, std::int64_t input_bytes, const std::string& facts) {
  std::optional<attngraph::result> last;
  Side side;
  side.facts = facts;
  side.input_bytes = input_bytes;
  side.run = [&] {
    last.reset();  // its memory must not stand beside the next answer's
    last.emplace(work());
    return last->edge_count();
  };
  side.answer = [&] { return last.value().slice(0); };
  side.answer_bytes = [&] { return last ? bytes_of(last->slice(0)) : 0; };
  serve(side);
}

std::int64_t bytes_of(const attngraph::tensor& t) {
  std::int64_t count = 1;
  for (const std::int64_t extent : t.shape()) count *= extent;
  return count * static_cast<std::int64_t>(dtype_size(t.dtype()));
}

bool is_causal(const std::string& word) {
  if (word != "causal" && word != "full") throw UsageError(fmt::format("'{}' is neither causal nor full", word));
  return word == "causal";
}

void serve_extract(const std::string& path, double threshold, bool causal, int threads) {
  attngraph::file file(path);
  const attngraph::tensor q = file.read("q.0"), k = file.read("k.0");
  attngraph::context context("cpu");
  const auto how = attngraph::options().backend("cpu").threshold(threshold).causal(causal).threads(threads);
  attngraph::options one_row = how;
  const std::string facts = facts_of(context.extract(q, k, one_row.query_range(0, 1)));
  serve_engine([&] { return context.extract(q, k, how); }, bytes_of(q) + bytes_of(k), facts);
}

void serve_filter(const std::string& path, double threshold, int threads) {
  attngraph::file file(path);
  const attngraph::tensor weights = file.read("");
  attngraph::context context("cpu");
  const auto how = attngraph::options().backend("cpu").threshold(threshold).threads(threads);
  attngraph::options one_row = how;
  const std::string facts = facts_of(context.filter(weights, one_row.query_range(0, 1)));
  serve_engine([&] { return context.filter(weights, how); }, bytes_of(weights), facts);
}

// The tiles that are fastest on this machine, tried on the first rows and keys.
SgemmTiles tuned_tiles(const float* q, const float* k, std::int64_t n, std::int64_t d, double scale, double threshold,
                       bool causal) {
  SgemmTiles best;
  double least = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < 3; ++turn) {
    for (const std::int64_t rows : {64, 128, 256}) {
      for (const std::int64_t keys : {512, 1024, 2048}) {
        const double begin = cpu_seconds();
        sgemm_extract(q, k, std::min<std::int64_t>(n, 4096), d, scale, threshold, causal, {rows, keys});
        const double elapsed = cpu_seconds() - begin;
        if (elapsed < least) {
          least = elapsed;
          best = {rows, keys};
        }
      }
    }
  }
  return best;
}

void serve_sgemm(const std::string& path, double threshold, bool causal) {
  attngraph::file file(path);
  const attngraph::tensor q = file.read("q.0"), k = file.read("k.0");
  if (q.dtype() != ATTNGRAPH_F32) throw UsageError("sgemm needs f32 queries and keys");
  const std::int64_t n = q.shape()[0], d = q.shape()[1];
  const auto* q_values = static_cast<const float*>(q.data());
  const auto* k_values = static_cast<const float*>(k.data());
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  const SgemmTiles tiles = tuned_tiles(q_values, k_values, n, d, scale, threshold, causal);
  SgemmAnswer last;
  Side side;
  side.facts = fmt::format("OpenBLAS {}, tiles {} x {}", openblas_kernel(), tiles.rows, tiles.keys);
  side.input_bytes = bytes_of(q) + bytes_of(k);
  side.run = [&] {
    last = sgemm_extract(q_values, k_values, n, d, scale, threshold, causal, tiles);
    return static_cast<std::int64_t>(last.keys.size());
  };
  side.answer = [&] {
    attngraph_csr csr{};
    csr.query_count = n;
    csr.key_count = n;
    csr.offsets = last.offsets.data();
    csr.keys = last.keys.data();
    csr.weights = last.weights.data();
    csr.weight_dtype = ATTNGRAPH_F32;
    return attngraph::slice(csr, n, attngraph::row_statistics());
  };
  side.answer_bytes = [&] { return bytes_of(side.answer()); };
  serve(side);
}

void run(const std::vector<std::string>& words) {
  const auto is = [&](const char* command, std::size_t arguments) {
    return !words.empty() && words[0] == command && words.size() == arguments + 1;
  };
  if (is("make-qk", 4)) {
    const auto dtype = dtype_of_name(words[4]);
    if (!dtype) throw UsageError(fmt::format("'{}' is none of f64, f32, f16, bf16", words[4]));
    write_qk(words[1], QkInput(std::stoll(words[2]), std::stoll(words[3]), *dtype), *dtype);
  } else if (is("make-matrix", 2)) {
    const std::int64_t n = std::stoll(words[2]);
    const MatrixInput input(n, ATTNGRAPH_F32);
    write_npy(words[1], "<f4", fmt::format("({}, {})", n, n), input.weights().data(),
              static_cast<std::size_t>(input.input_bytes()));
  } else if (is("extract", 4)) {
    serve_extract(words[1], std::stod(words[2]), is_causal(words[3]), std::stoi(words[4]));
  } else if (is("filter", 3)) {
    serve_filter(words[1], std::stod(words[2]), std::stoi(words[3]));
  } else if (is("sgemm", 3)) {
    serve_sgemm(words[1], std::stod(words[2]), is_causal(words[3]));
  } else {
    throw UsageError("see the head of bench/bench_worker.cpp");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    return 0;
  } catch (const UsageError& e) {
    std::cerr << "bench_worker: " << e.what() << '\n';
    return 2;
  } catch (const std::exception& e) {
    std::cerr << "bench_worker: " << e.what() << '\n';
    return 1;
  }
}
