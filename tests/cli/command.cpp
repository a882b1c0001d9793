// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace attngraph::test {
namespace {

constexpr const char* kOut = ".stdout";
constexpr const char* kErr = ".stderr";

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  return content.str();
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& t : texts) all.push_back(t.data());
  all.push_back(nullptr);
  return all;
}

void redirect(const char* path, int target) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || dup2(fd, target) < 0) _exit(126);
  close(fd);
}

}  // namespace

Process::Process(const std::filesystem::path& folder, const Arguments& arguments, const Arguments& environment,
                 const std::string& out)
    : folder_(folder) {
  std::vector<std::string> argument_texts = {ATTNGRAPH_COMMAND};
  argument_texts.insert(argument_texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment_texts = environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment_texts.emplace_back(*entry);
  const std::vector<char*> argv = pointers(argument_texts), envp = pointers(environment_texts);
  const std::string where = folder.string(), target = out.empty() ? kOut : out;
  pid_ = fork();
  if (pid_ == 0) {
    if (chdir(where.c_str()) != 0) _exit(126);
    redirect(target.c_str(), STDOUT_FILENO);
    redirect(kErr, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
}

Process::~Process() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Process::signal(int number) const { kill(pid_, number); }

Outcome Process::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(folder_ / kOut), read(folder_ / kErr)};
}

void CommandTest::SetUp() {
  std::string pattern = (std::filesystem::temp_directory_path() / "attngraph-cli-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  folder_ = pattern;
}

void CommandTest::TearDown() { std::filesystem::remove_all(folder_); }

Outcome CommandTest::run(const Arguments& arguments, const Arguments& environment, const std::string& out) const {
  return Process(folder_, arguments, environment, out).wait();
}

std::string CommandTest::output(const Arguments& arguments) const {
  const Outcome o = run(arguments);
  EXPECT_EQ(o.status, 0) << o.err;
  return o.out;
}

void CommandTest::expect_error(int status, const Arguments& arguments, const std::vector<std::string>& parts) const {
  const auto before = files();
  const Outcome o = run(arguments);
  EXPECT_EQ(o.status, status) << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, testing::StartsWith("attngraph: error: "));
  EXPECT_EQ(lines(o.err), status == 2 ? 2u : 1u) << o.err;
  if (status == 2) {
    EXPECT_THAT(o.err, testing::HasSubstr("--help"));
  }
  for (const std::string& part : parts) EXPECT_THAT(o.err, testing::HasSubstr(part));
  EXPECT_EQ(files(), before) << "a failing command leaves no file";
}

std::string CommandTest::text(const std::string& name) const { return read(file(name)); }

void CommandTest::write(const std::string& name, const std::string& content) const {
  std::ofstream(file(name), std::ios::binary) << content;
}

void CommandTest::write_npy(const std::string& name, const std::string& descr, const std::vector<std::int64_t>& shape,
                            const void* data, std::size_t bytes) const {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
  for (const std::int64_t n : shape) header += std::to_string(n) + ", ";
  header += "), }";
  header.resize((10 + header.size() + 64) / 64 * 64 - 10, ' ');
  header.back() = '\n';
  std::string content("\x93NUMPY\x01\x00", 8);
  content += static_cast<char>(header.size() & 0xFF);
  content += static_cast<char>(header.size() >> 8);
  content += header;
  content.append(static_cast<const char*>(data), bytes);
  write(name, content);
}

void CommandTest::write_safetensors(const std::string& name, const std::vector<Tensor>& tensors,
                                    const std::vector<std::pair<std::string, std::string>>& metadata) const {
  nlohmann::ordered_json header;
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  std::string data;
  for (const Tensor& t : tensors) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(t.data.data()), t.data.size() * sizeof(float));
    header[t.name] = {{"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string json = header.dump();
  const auto length = static_cast<std::uint64_t>(json.size());
  std::string content(sizeof length, '\0');
  std::memcpy(content.data(), &length, sizeof length);
  write(name, content + json + data);
}

std::vector<std::string> CommandTest::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (const std::string name = entry.path().filename().string(); name != kOut && name != kErr) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<float> noise(std::size_t count, std::uint32_t seed) {
  std::vector<float> values(count);
  for (float& v : values) {
    seed = seed * 1664525 + 1013904223;
    v = static_cast<float>(seed >> 8) / 8388608.0F - 1.0F;
  }
  return values;
}

std::size_t lines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

std::string genesis() { return ATTNGRAPH_SOURCE_DIR "/data/genesis-1k.safetensors"; }
std::string genesis_weights() { return ATTNGRAPH_SOURCE_DIR "/data/genesis-256-weights.safetensors"; }

}  // namespace attngraph::test
