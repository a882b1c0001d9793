// SPDX-License-Identifier: Apache-2.0
#include "graph/words.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ag {
namespace {

using testing::ElementsAre;
using Texts = std::vector<std::string>;

TEST(Words, BeginWhereTokensShowWhiteSpace) {
  EXPECT_THAT(words_of(Texts{"In", " the", " begin", "ning", ".", "\n", "And"}), ElementsAre(0, 1, 2, 2, 2, 3, 4));
  EXPECT_THAT(words_of(Texts{"<s>", "\u2581un", "do", "\u2581it", "</s>"}), ElementsAre(0, 1, 1, 2, 3));
  EXPECT_THAT(words_of(Texts{"\u0120a", "b", "\u010A", "c"}), ElementsAre(0, 0, 1, 2));
}

TEST(Words, OfWordPiecesAreJoinedByTheirMarks) {
  EXPECT_THAT(words_of(Texts{"[CLS]", "un", "##do", "it", "[SEP]"}), ElementsAre(0, 1, 1, 2, 3));
}

TEST(Words, AreTheTokensWhereNothingMarksThem) {
  EXPECT_THAT(words_of(Texts{"the", "cat", "sat"}), ElementsAre(0, 1, 2));
  EXPECT_TRUE(words_of(Texts{}).empty());
}

TEST(Punctuation, IsMarksAndNothingElse) {
  for (const char* const mark : {".", ",", " (", "\u0120...", "\u2014", "\u201C", "\u3002", "?!\n", "##,"})
    EXPECT_TRUE(is_punctuation(mark)) << mark;
  for (const char* const other : {"", " ", "a.", "\n", "<s>", "<|end|>", "[CLS]", "\u00E9", "7", "\xFF", "\xE2\x80"})
    EXPECT_FALSE(is_punctuation(other)) << other;
}

TEST(Ids, AreEqualForEqualTexts) { EXPECT_THAT(ids_of(Texts{"a", "b", "a", "", "b"}), ElementsAre(0, 1, 0, 2, 1)); }

}  // namespace
}  // namespace ag
