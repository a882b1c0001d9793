// SPDX-License-Identifier: Apache-2.0
#include "token_ids.hpp"

#include "../graph/words.hpp"
#include "guard.hpp"
#include "tensor_argument.hpp"

namespace ag::api {
namespace {

std::vector<std::vector<std::int64_t>> lists_of(const attngraph_tensor* tensor, const char* name, std::int64_t batch,
                                                std::int64_t keys) {
  const TensorView view = tensor_argument(tensor, {name, 1, 2, {DType::kI32, DType::kI64}, true});
  if (view.device >= 0) fail(Status::kUnsupported, "{} is in the memory of a device; copy it to the host", name);
  if (view.shape[1] != keys || (view.shape[0] != 1 && view.shape[0] != batch)) {
    fail(Status::kShape, "{} is {}; it must be [Nk] or [B, Nk] with B = {}, Nk = {}: one for every key", name,
         shape_text(view), batch, keys);
  }
  std::vector<std::vector<std::int64_t>> lists(static_cast<std::size_t>(view.shape[0]));
  for (std::int64_t b = 0; b < view.shape[0]; ++b) {
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::byte* element = view.at(b, j);
      lists[static_cast<std::size_t>(b)].push_back(view.dtype == DType::kI32 ? load_as<std::int32_t>(element)
                                                                             : load_as<std::int64_t>(element));
    }
  }
  return lists;
}

}  // namespace

TokenIds token_ids(const attngraph_options& o, std::span<const std::string> tokens, std::int64_t batch,
                   std::int64_t keys) {
  TokenIds ids;
  if (o.token_ids != nullptr) {
    ids.tokens = lists_of(o.token_ids, "token_ids", batch, keys);
  } else if (!tokens.empty()) {
    ids.tokens = {ids_of(tokens)};
  } else {
    fail(Status::kArgument,
         "stats asks for attention by tokens, but which tokens they are is not known; give token_ids, or tokens");
  }
  if (o.word_ids != nullptr) {
    ids.words = lists_of(o.word_ids, "word_ids", batch, keys);
  } else if (!tokens.empty()) {
    ids.words = {words_of(tokens)};
  }
  return ids;
}

}  // namespace ag::api
