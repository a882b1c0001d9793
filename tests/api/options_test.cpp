// SPDX-License-Identifier: Apache-2.0
// Every field of a struct of options, and a call that it changes. A size that the library takes for a struct is where a
// field begins, so a field that is in no row here is found.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "support.hpp"

namespace attngraph_test {
namespace {

constexpr std::int64_t kFewHeads = 2, kFewQueries = 5, kFewKeys = 7;

// What a call may be given, and all that it answers as one text.
struct Inputs {
  Tensor<float> q = random_tensor({kFewHeads, kFewQueries, 16}, 1), k = random_tensor({kFewHeads, kFewKeys, 16}, 2);
  Tensor<double> slopes{{kFewHeads}, {0.5, 0.25}, ATTNGRAPH_F64};
  Tensor<float> sinks{{kFewHeads}, {2, 2}, ATTNGRAPH_F32};
  Tensor<float> mask{{kFewQueries, kFewKeys}, std::vector<float>(kFewQueries* kFewKeys), ATTNGRAPH_F32};
  Tensor<float> lse{{1, kFewHeads, kFewQueries}, std::vector<float>(kFewHeads* kFewQueries, 2), ATTNGRAPH_F32};
  Tensor<std::int64_t> tokens{{kFewKeys}, {1, 2, 1, 2, 1, 2, 1}, ATTNGRAPH_I64};
  Tensor<std::int64_t> words{{kFewKeys}, {0, 0, 1, 1, 2, 2, 2}, ATTNGRAPH_I64};
  attngraph_tensor slopes_view = slopes.view(), sinks_view = sinks.view(), mask_view = mask.view(),
                   lse_view = lse.view(), tokens_view = tokens.view(), words_view = words.view();
  std::int64_t numbers[1] = {1};
  std::string told;  // by callbacks

  Inputs() {
    for (std::size_t n = 0; n < mask.values.size(); ++n) mask.values[n] = static_cast<float>(n % 3);
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;
};

void put(std::ostream& out, const double* values, std::int64_t count) {
  for (std::int64_t n = 0; n < count; ++n) out << (values == nullptr ? 0.0 : values[n]) << ' ';
}

std::string answer(Inputs& in, const attngraph_options& options) {
  const attngraph_tensor q = in.q.view(), k = in.k.view();
  attngraph_result* made = nullptr;
  const attngraph_status status = attngraph_extract(make_context("auto").get(), &q, &k, &options, &made);
  const Result result(made);
  if (status != ATTNGRAPH_OK) return attngraph_last_error() + in.told;
  std::ostringstream out;
  for (const Row& row : table_of(made)) {
    out << row.layer << ' ' << row.head << ' ' << row.query << ' ' << row.key << ' ' << row.weight << '\n';
  }
  for (std::int64_t s = 0; s < attngraph_result_slice_count(made); ++s) {
    attngraph_rows rows;
    attngraph_columns columns;
    attngraph_result_rows(made, s, &rows);
    attngraph_result_columns(made, s, &columns);
    put(out, rows.entropy, 1);
    put(out, columns.received, columns.received == nullptr ? 0 : kFewKeys);
  }
  std::vector<attngraph_head> heads(kFewHeads);
  if ((options.stats & ATTNGRAPH_STATS_TOKENS) != 0 && attngraph_result_heads(made, 1, heads.data()) == ATTNGRAPH_OK) {
    for (const attngraph_head& h : heads) out << h.induction_share << ' ' << h.same_word_share << '\n';
  }
  attngraph_report report;
  attngraph_result_report(made, &report);
  out << report.eps << ' ' << report.backend << ' ' << report.threads << ' ' << report.skipped_nonfinite << in.told;
  return out.str();
}

std::string plan(Inputs& in, const attngraph_options& options) {
  const attngraph_tensor q = in.q.view(), k = in.k.view();
  char* text = nullptr;
  if (attngraph_explain(make_context("auto").get(), &q, &k, &options, &text) != ATTNGRAPH_OK)
    return attngraph_last_error();
  const std::string plan = text;
  attngraph_string_free(text);
  return plan;
}

bool has_cuda() { return attngraph_backend_unavailable(attngraph_backend_count() - 1) == nullptr; }
bool has_pairs() {
  for (std::int32_t n = 0; n < attngraph_backend_count(); ++n) {
    if (attngraph_backend_name(n) == std::string("cpu"))
      return std::string(attngraph_backend_device(n)).find("bf16 by") != std::string::npos;
  }
  return false;
}
bool always() { return true; }

using Change = std::function<void(attngraph_options&, Inputs&)>;
struct Field {
  const char* name;
  std::size_t offset;
  Change change;
  Change before = [](attngraph_options&, Inputs&) {};  // what both calls have
  std::string (*ask)(Inputs&, const attngraph_options&) = answer;
  bool (*works_here)() = always;
};

#define FIELD(field, ...)                                                                                          \
  Field {                                                                                                          \
    .name = #field, .offset = offsetof(attngraph_options, field), .change = [](attngraph_options& o, Inputs& in) { \
      (void)in;                                                                                                    \
      __VA_ARGS__;                                                                                                 \
    }                                                                                                              \
  }
#define AFTER(...) [](attngraph_options& o, Inputs& in) { (void)o, (void)in, __VA_ARGS__; }

Field after(Field field, Change before) {
  field.before = std::move(before);
  return field;
}
Field told_by(Field field, std::string (*ask)(Inputs&, const attngraph_options&), bool (*works_here)()) {
  field.ask = ask;
  field.works_here = works_here;
  return field;
}

std::vector<Field> fields() {
  const auto progress = [](void* user, double) { static_cast<Inputs*>(user)->told = "progress"; };
  static void (*const kProgress)(void*, double) = progress;
  return {FIELD(threshold, o.threshold = 0.2), FIELD(top_k, o.top_k = 1), FIELD(mass, o.mass = 0.3),
          FIELD(max_edges, o.max_edges = 3), after(FIELD(allow_dense, o.allow_dense = 1), AFTER(o.threshold = 0)),
          FIELD(decision, o.decision = ATTNGRAPH_DECISION_CERTIFIED), FIELD(scale, o.scale = 2),
          FIELD(softcap, o.softcap = 0.5), FIELD(causal, o.causal = 1),
          after(FIELD(nonfinite, o.nonfinite = ATTNGRAPH_NONFINITE_SKIP),
                AFTER(in.k.values[3] = std::numeric_limits<float>::quiet_NaN())),
          after(FIELD(query_offset, o.query_offset = 0), AFTER(o.causal = 1)), FIELD(window, o.window = 2),
          FIELD(key_lengths, (in.numbers[0] = 4, o.key_lengths = in.numbers)), FIELD(mask, o.mask = &in.mask_view),
          FIELD(sinks, o.sinks = &in.sinks_view), FIELD(lse, o.lse = &in.lse_view),
          after(FIELD(lse_base, o.lse_base = ATTNGRAPH_LSE_BASE_2), AFTER(o.lse = &in.lse_view)),
          FIELD(stats, o.stats = ATTNGRAPH_STATS_ENTROPY),
          after(FIELD(query_begin, o.query_begin = 2), AFTER(o.query_end = kFewQueries)),
          FIELD(query_end, o.query_end = 2), after(FIELD(heads, o.heads = in.numbers), AFTER(o.head_count = 1)),
          after(FIELD(head_count, o.head_count = 1), AFTER(o.heads = in.numbers)), FIELD(layer, o.layer = 4),
          FIELD(backend, o.backend = "reference"), FIELD(threads, o.threads = 3),
          told_by(after(FIELD(products, o.products = ATTNGRAPH_PRODUCTS_FLOAT),
                        AFTER(in.q.dtype = in.k.dtype = ATTNGRAPH_BF16)),
                  plan, has_pairs),
          // What is queued on a stream comes first: tests/device waits for it.
          told_by(FIELD(stream, (void)o), plan, [] { return false; }),
          after(FIELD(
                    cancelled, o.cancelled = [](void*) { return 1; }),
                AFTER(o.user = &in)),
          after(FIELD(progress, o.progress = kProgress), AFTER(o.user = &in)),
          after(FIELD(user, o.user = &in), AFTER(o.cancelled = [](void* user) { return user == nullptr ? 0 : 1; })),
          told_by(after(FIELD(workspace_bytes, o.workspace_bytes = 8 << 20), AFTER(o.backend = "cuda_streaming")), plan,
                  has_cuda),
          after(FIELD(token_ids, o.token_ids = &in.tokens_view), AFTER(o.stats = ATTNGRAPH_STATS_TOKENS)),
          after(FIELD(word_ids, o.word_ids = &in.words_view),
                AFTER((o.stats = ATTNGRAPH_STATS_TOKENS, o.token_ids = &in.tokens_view))),
          FIELD(alibi, o.alibi = &in.slopes_view)};
}

TEST(Options, EachChangesSomething) {
  for (const Field& field : fields()) {
    if (!field.works_here()) continue;
    SCOPED_TRACE(field.name);
    Inputs in, changed;
    attngraph_options plain = default_options(), with = default_options();
    plain.threads = with.threads = 1;
    field.before(plain, in);
    field.before(with, changed);
    field.change(with, changed);
    EXPECT_NE(field.ask(in, plain), field.ask(changed, with));
  }
}

TEST(Options, HaveARowEach) {
  const std::vector<Field> known = fields();
  attngraph_options options = default_options();
  Inputs in;
  const attngraph_tensor q = in.q.view(), k = in.k.view();
  const Context context = make_context();
  for (std::size_t size = sizeof(std::size_t); size < sizeof options; ++size) {
    options.struct_size = size;
    attngraph_result* result = nullptr;
    if (attngraph_extract(context.get(), &q, &k, &options, &result) != ATTNGRAPH_OK) continue;
    attngraph_result_destroy(result);
    const auto begins_here = [size](const Field& field) { return field.offset == size; };
    EXPECT_TRUE(std::any_of(known.begin(), known.end(), begins_here)) << "no row for the field at byte " << size;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// how a file is written

std::string all_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// All that is in the folder afterwards; `status` other than OK, and nothing.
std::string written(const char* name, const attngraph_write_options& how, attngraph_status& status) {
  Inputs in;
  const Folder folder;
  attngraph_sink* made = nullptr;
  status = attngraph_sink_create_file(&made, (folder / name).c_str(), nullptr, &how);
  const Sink sink(made);
  if (status != ATTNGRAPH_OK) return "";
  const char* const tokens[kFewKeys] = {"=1", "b", "c", "d", "e", "f", "g"};
  attngraph_sink_set_tokens(made, tokens, nullptr, kFewKeys);
  const attngraph_tensor q = in.q.view(), k = in.k.view();
  EXPECT_EQ(attngraph_extract_to(make_context().get(), &q, &k, nullptr, made), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_finish(made), ATTNGRAPH_OK) << attngraph_last_error();
  std::string all;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  for (const std::string& path : names) all += std::filesystem::path(path).filename().string() + "\n" + all_of(path);
  return all;
}

struct WriteField {
  std::size_t offset;
  std::int32_t attngraph_write_options::*field;
  std::vector<const char*> changes;  // files that are others with it
};

const std::vector<WriteField>& write_fields() {
  static const std::vector<WriteField> kFields = {
      {offsetof(attngraph_write_options, direction), &attngraph_write_options::direction, {"g.dot", "g.graphml"}},
      {offsetof(attngraph_write_options, labels), &attngraph_write_options::labels, {"g.csv", "g.jsonl"}},
      {offsetof(attngraph_write_options, csv_raw), &attngraph_write_options::csv_raw, {"g.csv"}},
      {offsetof(attngraph_write_options, rows), &attngraph_write_options::rows, {"g.csv", "g.jsonl"}}};
  return kFields;
}

// And what it does not change it leaves alone or refuses: npz and safetensors hold everything, whatever is asked.
TEST(Options, OfFilesChangeTheFormatsThatTheyAreFor) {
  for (const WriteField& row : write_fields()) {
    for (const char* name : {"g.csv", "g.jsonl", "g.npz", "g.safetensors", "g.dot", "g.graphml"}) {
      SCOPED_TRACE(testing::Message() << name << ", field at byte " << row.offset);
      attngraph_write_options plain = ATTNGRAPH_WRITE_OPTIONS_INIT, with = ATTNGRAPH_WRITE_OPTIONS_INIT;
      if (row.field == &attngraph_write_options::csv_raw) plain.labels = with.labels = 1;
      with.*row.field = 1;
      const bool is_for_it = std::find(row.changes.begin(), row.changes.end(), std::string(name)) != row.changes.end();
      attngraph_status before = ATTNGRAPH_OK, after = ATTNGRAPH_OK;
      const std::string one = written(name, plain, before), other = written(name, with, after);
      EXPECT_EQ(before, ATTNGRAPH_OK) << attngraph_last_error();
      if (is_for_it || after == ATTNGRAPH_OK) {
        EXPECT_EQ(one != other, is_for_it);
      } else {
        EXPECT_EQ(after, ATTNGRAPH_ERROR_ARGUMENT) << attngraph_last_error();
      }
    }
  }
}

TEST(Options, OfFilesHaveARowEach) {
  const Folder folder;
  attngraph_write_options how = ATTNGRAPH_WRITE_OPTIONS_INIT;
  for (std::size_t size = sizeof(std::size_t); size < sizeof how; ++size) {
    how.struct_size = size;
    attngraph_sink* made = nullptr;
    if (attngraph_sink_create_file(&made, (folder / "x.csv").c_str(), nullptr, &how) != ATTNGRAPH_OK) continue;
    const Sink sink(made);
    const std::vector<WriteField>& known = write_fields();
    EXPECT_TRUE(std::any_of(known.begin(), known.end(), [size](const WriteField& f) { return f.offset == size; }))
        << size;
  }
}

}  // namespace
}  // namespace attngraph_test
