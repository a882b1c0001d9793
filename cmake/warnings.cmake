# SPDX-License-Identifier: Apache-2.0
# attngraph_flags: what every target of this project compiles with; linked privately, never installed.
add_library(attngraph_flags INTERFACE)
target_compile_options(attngraph_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Wundef
  # Rounding must be the same in every build: no silent fusing of a*b+c, no reassociation.
  -ffp-contract=off)
# These three are not for C.
get_target_property(flags attngraph_flags INTERFACE_COMPILE_OPTIONS)
list(TRANSFORM flags REPLACE "^(-Wnon-virtual-dtor|-Wold-style-cast)$" "$<$<COMPILE_LANGUAGE:CXX>:\\1>")
set_target_properties(attngraph_flags PROPERTIES INTERFACE_COMPILE_OPTIONS "${flags}")
if(ATTNGRAPH_WARNINGS_AS_ERRORS)
  target_compile_options(attngraph_flags INTERFACE -Werror)
endif()
