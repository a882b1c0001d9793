// SPDX-License-Identifier: Apache-2.0
// How the plugin is found, refused and used: every failure is a sentence, and errors pass the module's border.
#include "backend/plugin_loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "api/sink.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string module(const std::string& name) { return std::string(MODULES) + "/lib" + name + ".so"; }

TEST(PluginLoader, OpensAPluginOfTheSameBuild) {
  const Plugin plugin = open_plugin(module("small_plugin"));
  ASSERT_NE(plugin.table, nullptr) << plugin.problem;
  ASSERT_NE(plugin.table->find("cuda_streaming"), nullptr);
  EXPECT_EQ(plugin.table->find("abacus"), nullptr);
  EXPECT_EQ(plugin.table->find("cuda_streaming")->name(), "cuda_streaming");
}

TEST(PluginLoader, RefusesAnotherInterface) {
  const Plugin plugin = open_plugin(module("wrong_interface"));
  EXPECT_EQ(plugin.table, nullptr);
  EXPECT_THAT(plugin.problem, AllOf(HasSubstr("plugin interface 2, this library has 1"), HasSubstr("one release")));
}

TEST(PluginLoader, RefusesAnotherBuild) {
  const Plugin plugin = open_plugin(module("wrong_build"));
  EXPECT_EQ(plugin.table, nullptr);
  EXPECT_THAT(plugin.problem, AllOf(HasSubstr("build 0.0.9-another"), HasSubstr("one build")));
}

TEST(PluginLoader, RefusesWhatIsNoPlugin) {
  EXPECT_THAT(open_plugin(module("stranger")).problem, HasSubstr("it has no attngraph_cuda_plugin"));
  EXPECT_THAT(open_plugin("/no/such/file.so").problem, AllOf(HasSubstr("'/no/such/file.so'"), HasSubstr("cannot be")));
  const std::string text = ::testing::TempDir() + "/not_a_module.so";
  std::ofstream(text) << "text";
  EXPECT_THAT(open_plugin(text).problem, AllOf(HasSubstr(text), HasSubstr("cannot be opened")));
  std::filesystem::remove(text);
}

TEST(PluginLoader, LooksWhereItIsToldAndNowhereElse) {
  EXPECT_NE(find_plugin(module("small_plugin").c_str()).table, nullptr);
  EXPECT_THAT(find_plugin("/no/such/file.so").problem, HasSubstr("/no/such/file.so"));
  EXPECT_THAT(find_plugin("libsmall_plugin.so").problem, HasSubstr("give an absolute path"));
}

TEST(PluginLoader, NeverLooksInTheWorkingDirectory) {
  const std::filesystem::path before = std::filesystem::current_path();
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "plugin_in_working_directory";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(module("wrong_build"), folder / kCudaPluginFile,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::current_path(folder);
  const Plugin plugin = find_plugin(nullptr);
  const Plugin named = find_plugin(kCudaPluginFile);
  std::filesystem::current_path(before);
  std::filesystem::remove_all(folder);
  EXPECT_THAT(plugin.problem, ::testing::Not(HasSubstr("0.0.9-another")));
  EXPECT_THAT(named.problem, HasSubstr("give an absolute path"));
}

// The tests of this folder run with ATTNGRAPH_CUDA_PLUGIN set to the small plugin.
TEST(PluginBackends, AreOnTheListAndSayWhatTheyAre) {
  const Backend& streaming = find_backend("cuda_streaming");
  EXPECT_EQ(streaming.kind(), "cuda");
  EXPECT_EQ(streaming.unavailable(), "");
  EXPECT_THAT(streaming.device().facts, AllOf(HasSubstr("small_plugin"), HasSubstr("a small device")));
  EXPECT_EQ(&default_backend("cuda"), &streaming);
  EXPECT_EQ(&default_backend("auto"), &streaming) << "the last that runs is the best";
  EXPECT_EQ(default_backend("cpu").kind(), "cpu");
}

TEST(PluginBackends, SayWhyTheyCannotRun) {
  const Backend& other = find_backend("cuda_materialised");
  EXPECT_THAT(other.unavailable(), HasSubstr("has no backend cuda_materialised"));
  EXPECT_EQ(other.device().target, "none");
  const Failure failure = failure_of([&] {
    CollectSink sink;
    Control control;
    other.extract({}, {}, sink, control);
  });
  EXPECT_EQ(failure.status, Status::kNoDevice);
  EXPECT_THAT(failure.message, AllOf(HasSubstr("cuda_materialised"), HasSubstr("cannot run here")));
}

TEST(PluginBackends, ErrorsOfThePluginArriveAsTheyWere) {
  const Failure failure = failure_of([] {
    CollectSink sink;
    Control control;
    find_backend("cuda_streaming").filter({}, {}, sink, control);
  });
  EXPECT_EQ(failure.status, Status::kDeviceOutOfMemory);
  EXPECT_EQ(failure.message, "12 bytes are too many");
}

// Fails in the middle of the plugin's work.
class FailingSink : public RowSink {
 public:
  void begin_slice(const SliceInfo&, DType) override {}
  void rows(const RowBlock&) override { throw std::runtime_error("the disk is full"); }
  void end_slice(const SliceSums&) override {}
};

Problem one_head() {
  static const float zero = 0;
  Problem problem;
  problem.q = problem.k = contiguous_view(&zero, DType::kF32, {1, 1, 1, 1});
  problem.heads = {0};
  problem.query_end = 1;
  return problem;
}

TEST(PluginBackends, ErrorsOfSinkAndCallerPassThroughThePlugin) {
  FailingSink sink;
  Control control;
  EXPECT_THROW(find_backend("cuda_streaming").extract(one_head(), {}, sink, control), std::runtime_error);
  Control cancelled([] { return true; }, {});
  const Failure failure = failure_of([&] { find_backend("cuda_streaming").extract(one_head(), {}, sink, cancelled); });
  EXPECT_EQ(failure.status, Status::kCancelled);
}

TEST(PluginBackends, AnswerThroughThePlugin) {
  CollectSink sink;
  Control control;
  sink.finish(find_backend("cuda_streaming").extract(one_head(), {}, sink, control));
  const EdgeList graph = sink.take();
  EXPECT_EQ(graph.slices.size(), 1u);
  EXPECT_EQ(graph.report.backend, "cuda_streaming");
  ASSERT_EQ(graph.rows.size(), 1u);
  EXPECT_EQ(graph.rows.max_key[0], -1);
  EXPECT_TRUE(std::isnan(graph.rows.entropy[0]));
}

TEST(PluginBackends, AnEntropyThatNobodyAskedForIsNaNInACallback) {
  int calls = 0;
  const auto callback = [](void* user, const attngraph_row_block* block) {
    ++*static_cast<int*>(user);
    EXPECT_EQ(block->row_count, 1);
    EXPECT_EQ(block->rows.logsumexp[0], -kInfinity);
    EXPECT_EQ(block->rows.max_key[0], -1);
    EXPECT_TRUE(std::isnan(block->rows.entropy[0]));
    return 0;
  };
  Control control;
  find_backend("cuda_streaming").extract(one_head(), {}, *api::make_callback_sink(callback, &calls), control);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace ag::test
