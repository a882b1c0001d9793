# SPDX-License-Identifier: Apache-2.0
# Read as a toolchain file, before the project: what the project's own files look for is not found unless `scripts/setup
# build` installs it, whatever this machine has. Of a command that a macro replaces, CMake keeps the original under its
# name with an underscore; once, or it would keep the macro.
include_guard(GLOBAL)
# ATTNGRAPH_BARE_HAS: names of packages, or of variables of find_path and its like, that are there all the same.
set(attngraph_bare_has Threads fmt hwy nlohmann_json ZLIB CLI11 $ENV{ATTNGRAPH_BARE_HAS})

macro(attngraph_bare_hide what variable)
  if("${ARGN}" MATCHES "(^|;)REQUIRED(;|$)")
    message(FATAL_ERROR "${what} is REQUIRED, and scripts/setup build does not install it")
  endif()
  set(${variable} ${variable}-NOTFOUND)
endmacro()

macro(find_package name)
  string(FIND "${CMAKE_CURRENT_LIST_FILE}" "${CMAKE_SOURCE_DIR}/" attngraph_bare_own)
  if(attngraph_bare_own EQUAL 0 AND NOT "${name}" IN_LIST attngraph_bare_has)
    attngraph_bare_hide(${name} ${name}_FOUND ${ARGN})
  else()
    _find_package(${ARGV})
  endif()
endmacro()

foreach(kind library path program file)
  # A function, whose arguments are not read a second time: they hold backslashes. The name must be a literal.
  cmake_language(EVAL CODE "
    function(find_${kind} variable)
      string(FIND \"\${CMAKE_CURRENT_LIST_FILE}\" \"\${CMAKE_SOURCE_DIR}/\" attngraph_bare_own)
      if(attngraph_bare_own EQUAL 0 AND NOT variable IN_LIST attngraph_bare_has)
        attngraph_bare_hide(\${variable} \${variable} \${ARGN})
        set(\${variable} \${variable}-NOTFOUND PARENT_SCOPE)
      else()
        _find_${kind}(\${ARGV})
      endif()
    endfunction()")
endforeach()
