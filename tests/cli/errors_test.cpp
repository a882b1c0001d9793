// SPDX-License-Identifier: Apache-2.0
// One line that says what, where, the limit and the remedy; exit status 1, or 2 for usage; no partial output.
#include <gmock/gmock.h>

#include <cmath>

#include "command.hpp"

namespace attngraph::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Errors : public CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    write_npy("q.npy", {4, 8}, noise(32, 1));
    write_npy("k.npy", {6, 8}, noise(48, 2));
  }
  Arguments extract(const Arguments& more) const {
    Arguments all = {"extract", "q.npy", "k.npy", "-o", "e.csv"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(Errors, UsageIsExplained) {
  expect_error(2, {}, {"subcommand"});
  expect_error(2, {"extrakt"}, {"extrakt"});
  expect_error(2, extract({"--treshold", "1"}), {"--treshold"});
  expect_error(2, extract({"-t", "much"}), {"--threshold", "much"});
  expect_error(2, extract({"--causal", "--no-causal"}), {"causal"});
  expect_error(2, extract({"--decision", "slow"}), {"--decision"});
  expect_error(2, extract({"--stats", "entropy,mood"}), {"mood"});
  expect_error(2, extract({"--heads", "2-0"}), {"--heads", "0-3,7"});
  expect_error(2, extract({"--heads", "1;2"}), {"--heads", "0-3,7"});
  expect_error(2, extract({"--layers", "1"}), {"--layers"});
  expect_error(2, extract({"--query-range", "3"}), {"A:B"});
  expect_error(2, extract({"--query-range", "3:3"}), {"A:B"});
  expect_error(2, extract({"--scale", "nan"}), {"--scale"});
  expect_error(2, extract({"--top-k", "0"}), {"--top-k"});
  expect_error(2, extract({"--max-edges", "-3"}), {"--max-edges"});
  expect_error(2, {"extract", "q.npy", "k.npy"}, {"give -o FILE"});
  expect_error(2, {"extract", "-o", "e.csv"}, {"files"});
  expect_error(2, {"sweep", "q.npy", "--thresholds", "0.1,,2"}, {"--thresholds"});
  EXPECT_THAT(run(extract({"--treshold", "1"})).err, HasSubstr("attngraph extract --help"));
}

TEST_F(Errors, ASlipOfTheFingerIsPointedOut) {
  expect_error(2, {"extrct"}, {"'extrct'; is extract meant?"});
  expect_error(2, {"Stats"}, {"is stats meant?"});
  expect_error(2, extract({"--treshold", "1"}), {"--treshold; is --threshold meant?"});
  expect_error(2, extract({"--thresh=0.1"}), {"is --threshold meant?"});
  EXPECT_THAT(run({"frobnicate"}).err, testing::Not(HasSubstr("meant")));
  EXPECT_THAT(run(extract({"--frobnicate"})).err, testing::Not(HasSubstr("meant")));
}

// An empty value is a variable of the shell that was never set; it would choose everything.
TEST_F(Errors, EmptyAndRepeatedAndUnreadableValues) {
  for (const char* flag : {"--heads", "--layers", "--query-range", "--tokens", "--stats"})
    expect_error(2, extract({flag, ""}), {flag, "the value is empty"});
  expect_error(2, {"top", ""}, {"graph", "the value is empty"});
  expect_error(2, extract({"-t", "0.1", "-t", "0.2"}), {"--threshold is given 2 times"});
  expect_error(2, extract({"-t", "10%"}), {"--threshold: '10%'"});
  expect_error(2, extract({"--top-k", "1.5"}), {"--top-k: '1.5'"});
  expect_error(1, {"top", "-"}, {"'-'", "standard input is not read"});
}

// As head and cat end: by the signal, without a word.
TEST_F(Errors, AReaderThatHasGoneIsNoNews) {
  run(extract({}));
  for (const char* reading : {"convert e.csv -", "top e.csv", "extract q.npy k.npy -o - --quiet"}) {
    const std::string command = std::string(ATTNGRAPH_COMMAND) + " " + reading;
    const std::string script = "cd " + folder_.string() + " && { sleep 0.2; " + command +
                               "; echo $? > status; } 2> said | true; cat status said";
    FILE* pipe = ::popen(("bash -c '" + script + "'").c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string heard;
    for (int c; (c = std::fgetc(pipe)) != EOF;) heard += static_cast<char>(c);
    ::pclose(pipe);
    EXPECT_EQ(heard, "141\n") << reading;
  }
}

TEST_F(Errors, HelpAndVersionAreNotErrors) {
  for (const char* command : {"extract", "filter", "sweep", "top", "stats", "diff", "convert", "doctor", "bench"}) {
    EXPECT_THAT(output({command, "--help"}), HasSubstr(command));
    EXPECT_THAT(output({"--help"}), HasSubstr(command));
  }
  EXPECT_THAT(output({"--version"}), StartsWith("attngraph 0."));
}

TEST_F(Errors, ValuesOutsideTheirRange) {
  for (const char* threshold : {"0", "1.5", "-0.1"})
    expect_error(1, extract({"-t", threshold}), {"threshold", threshold});
  expect_error(1, extract({"--mass", "1.5"}), {"mass"});
  expect_error(1, extract({"--window", "-1"}), {"window"});
  expect_error(1, extract({"--softcap", "-1"}), {"softcap"});
  expect_error(1, extract({"--query-range", "2:9"}), {"2:9", "4 queries"});
  expect_error(1, extract({"--heads", "3"}), {"3"});
  expect_error(1, extract({"--threads", "-2"}), {"threads"});
}

TEST_F(Errors, UnknownBackendsDevicesAndFormats) {
  expect_error(1, extract({"--backend", "abacus"}), {"abacus", "reference", "cpu"});
  expect_error(1, extract({"--device", "toaster"}), {"toaster", "auto"});
  expect_error(1, extract({"--format", "xls"}), {"xls", "csv"});
  expect_error(1, {"extract", "q.npy", "k.npy", "-o", "e.xls"}, {"e.xls", "csv"});
  expect_error(1, {"extract", "q.npy", "k.npy", "-o", "-", "--format", "npz"}, {"npz"});
}

TEST_F(Errors, MissingTensorsAndLayers) {
  expect_error(1, {"extract", "missing.safetensors", "-o", "e.csv"}, {"missing.safetensors"});
  expect_error(1, {"extract", "q.npy", "-o", "e.csv"}, {"q.npy", "one array", "give two files"});
  expect_error(1, {"extract", genesis(), "--layers", "5-7", "-o", "e.csv"}, {"layer 6", "5, 12"});
  expect_error(1, {"extract", genesis(), "--q", "q.5", "--k", "k.7", "-o", "e.csv"}, {"k.7", "k.5"});
  expect_error(2, {"extract", genesis(), "--q", "q.5", "-o", "e.csv"}, {"--k"});
  write_safetensors("half.safetensors", {{"q.3", {1, 2, 4}, noise(8, 1)}});
  expect_error(1, {"extract", "half.safetensors", "-o", "e.csv"}, {"q.3", "no k.3"});
  write_safetensors("odd.safetensors", {{"q.3", {1, 2, 4}, noise(8, 1)}, {"k.3", {1, 2, 4}, noise(8, 1)}},
                    {{"scale", "big"}});
  expect_error(1, {"extract", "odd.safetensors", "-o", "e.csv"}, {"scale", "big", "--scale"});
}

TEST_F(Errors, ShapesAndTypesThatDoNotFit) {
  write_npy("narrow.npy", {6, 7}, noise(42, 2));
  expect_error(1, {"extract", "q.npy", "narrow.npy", "-o", "e.csv"}, {"8", "7"});
  write_npy("vector.npy", {6}, noise(6, 2));
  expect_error(1, {"filter", "vector.npy", "-o", "e.csv"}, {"vector.npy", "[Nq, Nk]"});
  expect_error(1, {"filter", "vector.npy", "--name", "", "-o", "e.csv"}, {"vector.npy", "[Nq, Nk]"});
  const std::vector<double> doubles(48, 0.5);
  write_npy("f64.npy", {6, 8}, doubles);
  expect_error(1, {"extract", "q.npy", "f64.npy", "-o", "e.csv"}, {"f32", "f64"});
  const std::vector<std::int64_t> integers(16, 1);
  write_npy("i64.npy", "<i8", {4, 4}, integers.data(), 128);
  expect_error(1, {"filter", "i64.npy", "-o", "e.csv"}, {"i64.npy"});
  expect_error(1, {"extract", "i64.npy", "i64.npy", "-o", "e.csv"}, {"i64"});
}

TEST_F(Errors, NotANumberIsLocated) {
  auto values = noise(48, 2);
  values[19] = NAN;
  write_npy("nan.npy", {6, 8}, values);
  expect_error(1, {"extract", "q.npy", "nan.npy", "-o", "e.csv"}, {"'nan.npy'", "k holds nan", "position 2"});
  expect_error(1, {"filter", "nan.npy", "-o", "e.csv"}, {"nan.npy", "query 2"});
}

TEST_F(Errors, BrokenFiles) {
  write("empty.npy", "");
  write("cut.npy", text("k.npy").substr(0, 150));
  write("lie.npy", std::string("\x93NUMPY\x02\x00\xF0\xFF\xFF\xFF", 12));
  for (const char* name : {"empty.npy", "cut.npy", "lie.npy"}) {
    expect_error(1, {"extract", "q.npy", name, "-o", "e.csv"}, {name});
    expect_error(1, {"filter", name, "-o", "e.csv"}, {name});
    expect_error(1, {"sweep", name}, {name});
    expect_error(1, {"top", name}, {name});
  }
  write_safetensors("cut.safetensors", {{"q.0", {1, 2, 4}, noise(8, 1)}});
  write("cut.safetensors", text("cut.safetensors").substr(0, 60));
  expect_error(1, {"extract", "cut.safetensors", "-o", "e.csv"}, {"cut.safetensors"});
  expect_error(1, {"stats", genesis()}, {"genesis-1k.safetensors"});
  write("bad.csv", "batch,layer,head,query,key,weight\n0,0,0,zero,0,1\n");
  expect_error(1, {"top", "bad.csv"}, {"bad.csv"});
  expect_error(1, {"sweep", "bad.csv"}, {"bad.csv"});
  expect_error(1, {"filter", ".", "-o", "e.csv"}, {});
}

TEST_F(Errors, OutputsThatCannotBe) {
  expect_error(1, {"extract", "q.npy", "k.npy", "-o", "no/such/folder/e.csv"}, {"no/such/folder"});
  expect_error(1, {"extract", "q.npy", "k.npy", "-o", "q.npy", "--format", "csv"}, {"q.npy", "input"});
  const Outcome full = run(extract({"-o", "-"}), {}, "/dev/full");
  EXPECT_EQ(full.status, 2) << "-o twice";
  for (const Arguments& arguments : {Arguments{"extract", "q.npy", "k.npy", "-o", "-"}, Arguments{"doctor"},
                                     Arguments{"--help"}, Arguments{"sweep", "q.npy"}}) {
    const Outcome o = run(arguments, {}, "/dev/full");
    EXPECT_EQ(o.status, 1) << arguments[0];
    EXPECT_THAT(o.err, HasSubstr("attngraph: error: "));
    EXPECT_THAT(o.err, HasSubstr("pace")) << o.err;
  }
}

TEST_F(Errors, AFailureLeavesTheOldFileAlone) {
  write("e.csv", "precious");
  EXPECT_EQ(run(extract({"--max-edges", "1", "-t", "0.01"})).status, 1);
  EXPECT_EQ(text("e.csv"), "precious");
  EXPECT_EQ(run(extract({"-t", "0.01", "--quiet"})).status, 0);
  EXPECT_NE(text("e.csv"), "precious");
}

TEST_F(Errors, NamesOfFilesDoNotDriveTheTerminal) {
  const Outcome o = run({"filter", "a\033]0;title\a\n\xE2\x80\xAE.npy", "-o", "e.csv"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(lines(o.err), 1u);
  for (const char* bad : {"\033", "\a", "\xE2\x80\xAE"}) EXPECT_EQ(o.err.find(bad), std::string::npos);
}

}  // namespace
}  // namespace attngraph::test
