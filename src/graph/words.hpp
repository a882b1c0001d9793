// SPDX-License-Identifier: Apache-2.0
// What the texts of tokens say about words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ag {

// The number of the word that every token belongs to, ascending from 0. A word begins at a token that begins with
// white space (or with what stands for it: U+0120, U+010A, U+2581), or follows one that ends with it. Where tokens are
// continued by "##", a word begins at every other token; where no token has either mark, every token is a word. Special
// tokens, "<s>", "<|end|>" or "[CLS]", are words of their own.
std::vector<std::int64_t> words_of(std::span<const std::string> tokens);

// The text without white space around it and without the marks that stand for it.
std::string_view stripped(std::string_view token);

// Whether the text of a token is punctuation and nothing else, white space around it aside.
bool is_punctuation(std::string_view token);

// One number for every text: equal texts, equal numbers.
std::vector<std::int64_t> ids_of(std::span<const std::string> tokens);

}  // namespace ag
