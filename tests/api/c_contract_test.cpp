// SPDX-License-Identifier: Apache-2.0
// Runs the checks that are written in C.
#include <gtest/gtest.h>

#include "c_checks.h"
#include "support.hpp"

void c_check_failed(const char* file, int line, const char* what, const char* detail) {
  ADD_FAILURE_AT(file, line) << what << (detail != nullptr ? ": " : "") << (detail != nullptr ? detail : "");
}

void c_check_status(const char* file, int line, const char* call, attngraph_status expected, attngraph_status got) {
  if (got == expected) return;
  ADD_FAILURE_AT(file, line) << call << "\n  is " << attngraph_status_name(got) << ", expected "
                             << attngraph_status_name(expected) << "; last error: " << attngraph_last_error();
}

namespace {

TEST(FromC, EveryStatusHasWords) { c_words_of_every_status(nullptr); }
TEST(FromC, EveryStatusIsReached) { c_reaches_every_status(attngraph_test::Folder().path().c_str()); }
TEST(FromC, TheWholeContractOnce) { c_tour(attngraph_test::Folder().path().c_str()); }
TEST(FromC, NullIsAnAnswerNotACrash) { c_null_is_an_answer_not_a_crash(nullptr); }

}  // namespace
