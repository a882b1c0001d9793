// SPDX-License-Identifier: Apache-2.0
// Files as people have them: other things beside the tensor that is meant, other orders of dimensions, other names.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "command.hpp"

namespace attngraph::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Inputs : public CommandTest {
 protected:
  // A safetensors file out of its header and bytes.
  void write_raw(const std::string& name, const std::string& header, const std::string& bytes) const {
    const std::uint64_t length = header.size();
    std::string file(reinterpret_cast<const char*>(&length), sizeof length);
    write(name, file + header + bytes);
  }
  static std::string bytes_of(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }
  std::string csv(Arguments arguments) const {
    arguments.insert(arguments.end(), {"-o", "-", "--quiet"});
    return output(arguments);
  }
};

TEST_F(Inputs, ATensorOfAnotherTypeBesideDoesNotMatter) {
  const std::string npz = std::string(ATTNGRAPH_SOURCE_DIR) + "/tests/cli/words_beside.npz";  // words, Python objects
  const std::string expected = "batch,layer,head,query,key,weight\n0,0,0,0,0,0.9\n0,0,0,1,1,0.6\n";
  EXPECT_EQ(csv({"filter", npz, "-t", "0.5"}), expected);
  EXPECT_EQ(csv({"filter", npz, "--name", "attn", "-t", "0.5"}), expected);
  EXPECT_THAT(output({"sweep", npz, "--thresholds", "0.5"}), HasSubstr("0.5      2"));
  expect_error(1, {"filter", npz, "--name", "tokens", "-o", "e.csv"}, {"'tokens'", "dtype"});
  expect_error(1, {"filter", npz, "--name", "names", "-o", "e.csv"}, {"'names'", "pickled"});

  const std::string words = R"("words":{"dtype":"U16","shape":[2],"data_offsets":[16,20]},)"
                            R"("new":{"dtype":"F8_E3M4","shape":[3],"data_offsets":[20,23]})";
  write_raw("m.safetensors",
            R"({"__metadata__":null,"attn":{"dtype":"F32","shape":[1,2,2],"data_offsets":[0,16]},)" + words + "}",
            bytes_of({0.9F, 0.1F, 0.4F, 0.6F}) + std::string(7, 'x'));
  EXPECT_EQ(csv({"filter", "m.safetensors", "-t", "0.5"}), expected);
  expect_error(1, {"filter", "m.safetensors", "--name", "new", "-o", "e.csv"}, {"'new'", "F8_E3M4", "F32"});

  write_raw("q.safetensors", R"({"q":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)" + words + "}",
            bytes_of({1, 2, 3, 4}) + std::string(7, 'x'));
  write_npy("k.npy", {2, 2}, std::vector<float>{1, 0, 0, 1});
  EXPECT_EQ(lines(csv({"extract", "q.safetensors", "k.npy", "-t", "0.01"})), 4u);
}

TEST_F(Inputs, FilesThatAreTakenForTensorsAreCalledByTheirName) {
  write("q.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n");
  write("a.npy", text("q.safetensors"));
  write("old.pt", std::string("\x80\x02}q\x00.", 6));
  for (const char* command : {"filter", "extract"}) {
    expect_error(1, {command, "q.safetensors", "-o", "e.csv"}, {"q.safetensors", "Git LFS", "git lfs pull"});
    expect_error(1, {command, "a.npy", "-o", "e.csv"}, {"a.npy", "Git LFS"});
    expect_error(1, {command, "old.pt", "-o", "e.csv"}, {"old.pt", "pickle", "numpy.save"});
  }
  expect_error(1, {"top", "a.npy"}, {"Git LFS"});
  write("a.npz", "\x1F\x8B");
  expect_error(1, {"filter", "a.npz", "-o", "e.csv"}, {"compressed by gzip", "unpack it"});
  write("g.csv", "Source,Target\n0,1\n");
  expect_error(1, {"top", "g.csv"}, {"batch,layer,head,query,key,weight"});
  write("g.graphml", "<graphml/>");
  expect_error(1, {"top", "g.graphml"}, {"written for other programs", ".npz"});
  write_npy("q.npy", {2, 2}, std::vector<float>{1, 0, 0, 1});
  expect_error(1, {"extract", "q.npy", "-o", "e.csv"}, {"'q.npy' holds one array", "give two files"});
  expect_error(1, {"extract", "q.npy", "q.npy", "--q", "x", "-o", "e.csv"}, {"one array without a name"});
  expect_error(1, {"filter", "q.npy", "--name", "x", "-o", "e.csv"}, {"no tensor 'x'", "one array without a name"});
  write("empty.npz", std::string("PK\x05\x06", 4) + std::string(18, '\0'));
  expect_error(1, {"filter", "empty.npz", "-o", "e.csv"}, {"it holds no tensors"});
}

TEST_F(Inputs, SuffixesMayBeInCapitals) {
  write_npy("A.NPY", {2, 2}, std::vector<float>{1, 0, 0, 1});
  output({"filter", "A.NPY", "-o", "E.NPZ", "--quiet"});
  output({"convert", "E.NPZ", "E.Csv"});
  EXPECT_EQ(text("E.Csv"), "batch,layer,head,query,key,weight\n0,0,0,0,0,1\n0,0,0,1,1,1\n");
  write("W.JSON", R"(["a","b"])");
  EXPECT_THAT(csv({"filter", "A.NPY", "--tokens", "W.JSON", "--labels"}), HasSubstr(",a,a\n"));
}

TEST_F(Inputs, QueriesAndKeysMayHaveTheirHeadsInside) {
  // [B, H, N, D] = [2, 4, 6, 3] and two key heads; then the same as [B, N, H, D].
  const auto q = noise(2 * 4 * 6 * 3, 1), k = noise(2 * 2 * 6 * 3, 2);
  const auto inside = [](const std::vector<float>& x, std::size_t heads) {
    std::vector<float> out(x.size());
    for (std::size_t b = 0; b < 2; ++b)
      for (std::size_t h = 0; h < heads; ++h)
        for (std::size_t n = 0; n < 6; ++n)
          for (std::size_t d = 0; d < 3; ++d)
            out[((b * 6 + n) * heads + h) * 3 + d] = x[((b * heads + h) * 6 + n) * 3 + d];
    return out;
  };
  write_npy("q.npy", {2, 4, 6, 3}, q);
  write_npy("k.npy", {2, 2, 6, 3}, k);
  write_npy("q_in.npy", {2, 6, 4, 3}, inside(q, 4));
  write_npy("k_in.npy", {2, 6, 2, 3}, inside(k, 2));
  EXPECT_EQ(csv({"extract", "q_in.npy", "k_in.npy", "--layout", "bshd"}), csv({"extract", "q.npy", "k.npy"}));
  const Outcome o = run({"extract", "q_in.npy", "k_in.npy", "-o", "e.csv"});
  EXPECT_THAT(o.err, HasSubstr("--layout bshd")) << "six heads of four queries";
  EXPECT_THAT(run({"extract", "q.npy", "k.npy", "-o", "e.csv"}).err, Not(HasSubstr("--layout")));
}

TEST_F(Inputs, FiveDimensionsAreLayersOfBatches) {
  std::vector<float> a(3 * 2 * 1 * 2 * 2, 0.F);
  a[2 * 8 + 1 * 4 + 3] = 0.75F;  // layer 2, batch 1, query 1, key 1
  write_npy("a.npy", {3, 2, 1, 2, 2}, a);
  EXPECT_EQ(csv({"filter", "a.npy", "-t", "0.5"}), "batch,layer,head,query,key,weight\n1,2,0,1,1,0.75\n");
  EXPECT_EQ(lines(csv({"filter", "a.npy", "-t", "0.5", "--layers", "0-1"})), 1u);
  write_npy("b.npy", {1, 1, 1, 1, 1, 1}, std::vector<float>{1});
  expect_error(1, {"filter", "b.npy", "-o", "e.csv"}, {"b.npy", "[L, B, H, Nq, Nk]"});
}

TEST_F(Inputs, NumbersThatAreNoneCanBeLeftOut) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  write_npy("a.npy", {2, 2}, std::vector<float>{nan, nan, 0.5F, 0.5F});
  expect_error(1, {"filter", "a.npy", "-o", "e.csv"}, {"'a.npy'", "--nonfinite skip"});
  const Outcome o = run({"filter", "a.npy", "-o", "e.csv", "--nonfinite", "skip"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(text("e.csv"), "batch,layer,head,query,key,weight\n0,0,0,1,0,0.5\n0,0,0,1,1,0.5\n");
  EXPECT_THAT(o.err, HasSubstr("2 not finite left out"));
}

TEST_F(Inputs, QueriesAndKeysAreCausalUnlessSomebodySaysSo) {
  const auto q = noise(24, 1), k = noise(24, 2);
  write_npy("q.npy", {1, 6, 4}, q);
  write_npy("k.npy", {1, 6, 4}, k);
  const Outcome plain = run({"extract", "q.npy", "k.npy", "-o", "e.csv"});
  EXPECT_THAT(plain.err, HasSubstr("causal (the default; --no-causal: every query sees every key)"));
  EXPECT_EQ(text("e.csv"), csv({"extract", "q.npy", "k.npy", "--causal"}));
  EXPECT_NE(text("e.csv"), csv({"extract", "q.npy", "k.npy", "--no-causal"}));
  EXPECT_THAT(run({"extract", "q.npy", "k.npy", "--no-causal", "-o", "e.csv"}).err, HasSubstr("1 layer, not causal, "));
  write_safetensors("told.safetensors", {{"q.0", {1, 6, 4}, q}, {"k.0", {1, 6, 4}, k}}, {{"causal", "false"}});
  EXPECT_THAT(run({"extract", "told.safetensors", "-o", "e.csv"}).err, HasSubstr("not causal (as the file says)"));
  // A ready matrix is what it is.
  write_npy("a.npy", {2, 2}, std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F});
  const Outcome matrix = run({"filter", "a.npy", "-o", "e.csv"});
  EXPECT_THAT(matrix.err, HasSubstr("4 edges"));
  EXPECT_THAT(matrix.err, Not(HasSubstr("causal")));
}

TEST_F(Inputs, AListOfHeadsIsNoMask) {
  write_npy("a.npy", {4, 1, 1}, std::vector<float>{1, 1, 1, 1});
  expect_error(2, {"filter", "a.npy", "--heads", "0,1,1,0", "-o", "e.csv"}, {"--heads", "twice", "not a mask"});
}

TEST_F(Inputs, EveryPairIsAnEdgeWhenThatIsWanted) {
  write_npy("q.npy", {2, 4}, noise(8, 1));
  expect_error(1, {"extract", "q.npy", "q.npy", "-t", "0", "-o", "e.csv"}, {"--threshold is 0", "--allow-dense"});
  EXPECT_EQ(lines(csv({"extract", "q.npy", "q.npy", "-t", "0", "--allow-dense", "--no-causal"})), 5u);
}

TEST_F(Inputs, LatentAttentionHasHeadsOf576) {
  for (const std::int64_t d : {576, 1024}) {
    write_npy("q.npy", {2, 9, d}, noise(static_cast<std::size_t>(18 * d), 3));
    write_npy("k.npy", {1, 9, d}, noise(static_cast<std::size_t>(9 * d), 4));
    output({"extract", "q.npy", "k.npy", "--backend", "reference", "-o", "a.npz", "--quiet"});
    output({"extract", "q.npy", "k.npy", "--backend", "cpu", "-o", "b.npz", "--quiet"});
    EXPECT_EQ(run({"diff", "a.npz", "b.npz"}).status, 0) << d;
  }
}

}  // namespace
}  // namespace attngraph::test
