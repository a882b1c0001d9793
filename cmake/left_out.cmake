# SPDX-License-Identifier: Apache-2.0
# attngraph_left_out(WHAT WANTS REMEDY): a part that this machine cannot build is left out by name, in one line, so that
# nobody who wants another part has to care. With ATTNGRAPH_REQUIRE_TESTS it is an error: scripts/test skips nothing
# without a word.
function(attngraph_left_out what wants remedy)
  set(sentence "Left out: ${what}, for want of ${wants} (${remedy})")
  if(ATTNGRAPH_REQUIRE_TESTS)
    message(FATAL_ERROR "${sentence}; ATTNGRAPH_REQUIRE_TESTS is ON")
  endif()
  message(STATUS "${sentence}")
endfunction()
