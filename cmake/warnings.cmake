# SPDX-License-Identifier: Apache-2.0
# attngraph_flags: what every target of this project compiles with; linked privately, never installed.
# nvcc has flags of its own, in cuda/CMakeLists.txt.
add_library(attngraph_flags INTERFACE)
target_compile_options(attngraph_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wsign-conversion;-Wcast-qual;-Wundef>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Wold-style-cast>"
  # GCC 12 sees overlapping copies in std::string's operator+ (its bug 105651).
  $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
  # Rounding must be the same in every build: no silent fusing of a*b+c.
  $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>
  $<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<BOOL:${ATTNGRAPH_WARNINGS_AS_ERRORS}>>:-Werror>)
