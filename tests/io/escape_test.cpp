// SPDX-License-Identifier: Apache-2.0
#include "io/escape.hpp"

#include "io_support.hpp"

namespace ag::io_test {
namespace {

std::string json(std::string_view text) {
  std::string out;
  append_json(out, text);
  return out;
}
std::string csv(std::string_view text, bool raw_cells = false) {
  std::string out;
  append_csv(out, text, raw_cells);
  return out;
}
std::string xml(std::string_view text) {
  std::string out;
  append_xml(out, text);
  return out;
}
std::string dot(std::string_view text) {
  std::string out;
  append_dot(out, text);
  return out;
}

TEST(Utf8, DecodesStrictly) {
  EXPECT_EQ(decode_utf8("A", 0).value, U'A');
  EXPECT_EQ(decode_utf8("\xC3\xA9", 0).value, U'\u00E9');
  EXPECT_EQ(decode_utf8("\xE2\x82\xAC", 0).value, U'\u20AC');
  EXPECT_EQ(decode_utf8("\xF0\x9F\x98\x80", 0).value, U'\U0001F600');
  for (const std::string_view bad :
       {"\x80", "\xC0\xAF", "\xC1\x81", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xC3\x41", "\xE2\x41\x80"}) {
    EXPECT_EQ(decode_utf8(bad, 0).value, kNoCodePoint);
    EXPECT_EQ(decode_utf8(bad, 0).length, 1u);
  }
  EXPECT_TRUE(is_utf8("") && is_utf8("A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
  EXPECT_FALSE(is_utf8("A\xC3"));
}

TEST(Escape, MessagesAreOneHarmlessLine) {
  EXPECT_EQ(in_quotes("a.csv"), "'a.csv'");
  EXPECT_EQ(in_quotes("a\n_\x1b[31m\x7f\xC2\x9B\xE2\x80\xAE\xFF"),
            "'a?_?[31m?"
            "?"
            "?"
            "?'");
  EXPECT_EQ(in_quotes("abcdef", 3), "'abc...'");
}

TEST(Escape, Json) {
  EXPECT_EQ(json("a\"b\\c\n\t"), R"("a\"b\\c\n\u0009")");
  EXPECT_EQ(json(std::string_view("\0\x7f", 2)), R"("\u0000\u007f")");
  EXPECT_EQ(json("\xE2\x80\xAE\xE2\x80\xA8\xC2\x9B\xEF\xBF\xBE"), R"("\u202e\u2028\u009b\ufffe")");
  EXPECT_EQ(json("\xF0\x9F\xBF\xBE"), R"("\ud83f\udffe")");  // a noncharacter beyond the first plane
  EXPECT_EQ(json("\xC3\xA9 </script>"), "\"\xC3\xA9 </script>\"");
  EXPECT_EQ(json("a\xFF"), "\"a\xEF\xBF\xBD\"");
}

TEST(Escape, CsvQuotesAndDisarms) {
  EXPECT_EQ(csv("plain"), "plain");
  EXPECT_EQ(csv(""), "");
  EXPECT_EQ(csv(" the"), "\" the\"");
  EXPECT_EQ(csv("a,b"), "\"a,b\"");
  EXPECT_EQ(csv("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(csv("a\nb\r"), "a\\nb\\r");
  for (const std::string c : {"=", "+", "-", "@"}) EXPECT_EQ(csv(c + "1"), "'" + c + "1");
  EXPECT_EQ(csv("\t1"), "'\t1");
  EXPECT_EQ(csv("\r1"), "'\\r1");
  EXPECT_EQ(csv(std::string_view("a\0\x1b\xFF\xE2\x80\xAE", 7)), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(csv("=1\xFF", true), "=1\xFF");
  EXPECT_EQ(csv("a\nb", true), "\"a\nb\"");
  EXPECT_EQ(csv("=\"", true), "\"=\"\"\"");
}

TEST(Escape, XmlHoldsNothingThatXmlForbids) {
  EXPECT_EQ(xml("<a&b>\"'"), "&lt;a&amp;b&gt;&quot;&apos;");
  EXPECT_EQ(xml("]]>"), "]]&gt;");
  EXPECT_EQ(xml(std::string_view("\0\x01\x1f", 3)), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(xml("\t\r\n"), "&#x9;&#xD;&#xA;");
  EXPECT_EQ(xml("\xEF\xBF\xBE\xEF\xBF\xBF\xED\xA0\x80"),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(xml("\xE2\x80\xAE"), "&#x202E;");
  EXPECT_EQ(xml("\xC3\xA9"), "\xC3\xA9");
}

TEST(Escape, DotStringsAreShownAsTheyStand) {
  EXPECT_EQ(dot("a"), "\"a\"");
  EXPECT_EQ(dot("\"; x ->"), R"("\"; x ->")");
  EXPECT_EQ(dot("\\N\\G"), R"("\\N\\G")");
  EXPECT_EQ(dot("<b>x</b>"), "\"<b>x</b>\"");
  EXPECT_EQ(dot("a\n"), R"("a\\n")");
  EXPECT_EQ(dot("&lt; & &x"), "\"&amp;lt; & &x\"");
  EXPECT_EQ(dot("\x01\xFF"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace ag::io_test
