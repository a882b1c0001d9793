// SPDX-License-Identifier: Apache-2.0
// The attention graph of a text that llama.cpp reads with a GGUF model.
//
// usage: gguf MODEL.gguf TEXT THRESHOLD OUT.npz [auto|on|off]     the last word: flash attention
// build: g++ -std=c++20 gguf.cpp -lattngraph -lllama -lggml -lggml-base
#include <attngraph/ggml.hpp>

#include <llama.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::vector<llama_token> tokens_of(const llama_vocab* vocab, const std::string& text) {
  std::vector<llama_token> ids(text.size() + 8);
  const int count = llama_tokenize(vocab, text.data(), static_cast<int>(text.size()), ids.data(),
                                   static_cast<int>(ids.size()), /*add_special=*/true, /*parse_special=*/false);
  if (count <= 0) throw std::runtime_error("the text has no tokens");
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

std::string piece_of(const llama_vocab* vocab, llama_token id) {
  char text[1024];
  const int size = llama_token_to_piece(vocab, id, text, sizeof(text), 0, /*special=*/true);
  return {text, static_cast<std::size_t>(size > 0 ? size : 0)};
}

void run(const std::string& path, const std::string& text, double threshold, const std::string& out,
         std::string_view flash) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  const std::unique_ptr<llama_model, void (*)(llama_model*)> model(
      llama_model_load_from_file(path.c_str(), llama_model_default_params()), llama_model_free);
  if (!model) throw std::runtime_error("llama.cpp could not load " + path);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  std::vector<llama_token> ids = tokens_of(vocab, text);

  attngraph::ggml::capture capture(attngraph::options().threshold(threshold));
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(ids.size() + 255) / 256 * 256;
  params.n_batch = params.n_ctx;
  params.swa_full = true;  // so that cells of the cache are positions
  params.flash_attn_type = flash == "on"    ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                           : flash == "off" ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                            : LLAMA_FLASH_ATTN_TYPE_AUTO;
  params.cb_eval = attngraph::ggml::capture::callback;
  params.cb_eval_user_data = &capture;
  const std::unique_ptr<llama_context, void (*)(llama_context*)> context(llama_init_from_model(model.get(), params),
                                                                         llama_free);
  if (!context) throw std::runtime_error("llama.cpp made no context");
  const llama_batch batch = llama_batch_get_one(ids.data(), static_cast<int>(ids.size()));
  if (llama_decode(context.get(), batch) != 0) throw std::runtime_error("llama.cpp could not read the text");

  std::vector<std::string> labels;
  for (const llama_token id : ids) labels.push_back(piece_of(vocab, id));
  const attngraph::result graph = capture.graph(labels);
  graph.save(out);
  std::cout << graph.slice_count() << " heads, " << graph.edge_count() << " edges\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::cerr << "usage: gguf MODEL.gguf TEXT THRESHOLD OUT.npz [auto|on|off]\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], std::atof(argv[3]), argv[4], argc == 6 ? argv[5] : "auto");
  } catch (const std::exception& error) {
    std::cerr << "gguf: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
