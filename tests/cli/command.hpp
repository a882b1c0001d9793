// SPDX-License-Identifier: Apache-2.0
// Starts the command in a folder of its own and catches what it says.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace attngraph::test {

using Arguments = std::vector<std::string>;

struct Outcome {
  int status = -1;  // exit status; -1 when a signal ended it
  std::string out, err;
};

// A running command; its output is read from files, so it never waits for its reader.
class Process {
 public:
  // `environment` entries are NAME=VALUE; `out` is a path for standard output instead of a file that is read back.
  Process(const std::filesystem::path& folder, const Arguments& arguments, const Arguments& environment = {},
          const std::string& out = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  void signal(int number) const;
  Outcome wait();

 private:
  std::filesystem::path folder_;
  int pid_ = -1;
};

// Each test has an empty folder, which is the command's working directory.
class CommandTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  Outcome run(const Arguments& arguments, const Arguments& environment = {}, const std::string& out = {}) const;
  // Runs and expects success.
  std::string output(const Arguments& arguments) const;
  // Runs and expects `status`, nothing on standard output and one line of error that holds each of the parts (a usage
  // error adds a hint).
  void expect_error(int status, const Arguments& arguments, const std::vector<std::string>& parts) const;

  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  std::string text(const std::string& name) const;
  void write(const std::string& name, const std::string& content) const;
  // Row-major .npy of version 1.
  void write_npy(const std::string& name, const std::string& descr, const std::vector<std::int64_t>& shape,
                 const void* data, std::size_t bytes) const;
  void write_npy(const std::string& name, const std::vector<std::int64_t>& shape,
                 const std::vector<double>& data) const {
    write_npy(name, "<f8", shape, data.data(), data.size() * sizeof(double));
  }
  void write_npy(const std::string& name, const std::vector<std::int64_t>& shape,
                 const std::vector<float>& data) const {
    write_npy(name, "<f4", shape, data.data(), data.size() * sizeof(float));
  }
  // Float32 tensors and metadata, both as JSON text fits.
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> data;
  };
  void write_safetensors(const std::string& name, const std::vector<Tensor>& tensors,
                         const std::vector<std::pair<std::string, std::string>>& metadata = {}) const;
  // Names of the files in the folder, but for those that caught the output.
  std::vector<std::string> files() const;

  std::filesystem::path folder_;
};

// Deterministic numbers around 0.
std::vector<float> noise(std::size_t count, std::uint32_t seed);
std::size_t lines(const std::string& text);
std::string genesis();          // data/genesis-1k.safetensors
std::string genesis_weights();  // data/genesis-256-weights.safetensors

}  // namespace attngraph::test
