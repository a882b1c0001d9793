# SPDX-License-Identifier: Apache-2.0
# Inside another project (add_subdirectory, FetchContent) only the library is built: nothing else is its business.
option(ATTNGRAPH_BUILD_CLI "Build the attngraph command" ${PROJECT_IS_TOP_LEVEL})
option(ATTNGRAPH_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(ATTNGRAPH_REQUIRE_TESTS "Fail, rather than leave out, when a package that tests need is missing" OFF)
option(ATTNGRAPH_BUILD_EMULATION "Build the emulated GPU and the tests that run on it" ON)
option(ATTNGRAPH_ALL_SCHEDULES "Run the emulated GPU's tests under all orders of threads, more of them, and under the checker of races" OFF)
option(ATTNGRAPH_BUILD_BENCHMARKS "Build the benchmarks" OFF)
option(ATTNGRAPH_INSTALL "Make install rules" ${PROJECT_IS_TOP_LEVEL})
option(ATTNGRAPH_WARNINGS_AS_ERRORS "Fail on any compiler warning" OFF)
option(ATTNGRAPH_FUZZ "Build the libFuzzer programs of tests/fuzz; needs clang" OFF)
option(ATTNGRAPH_COVERAGE "Instrument for line coverage" OFF)
set(ATTNGRAPH_PLUGIN_FOLDER "" CACHE STRING
    "Where libattngraph looks for libattngraph_cuda.so when that is not beside it; $ORIGIN is the library's own folder")
set(ATTNGRAPH_SANITIZE "" CACHE STRING "Sanitizers for all targets: address,undefined or thread")
set(ATTNGRAPH_UNSANITIZED "" CACHE STRING "Checks of the sanitizers to leave out, beside those that show nothing new")

# These hold for this folder and those below it, not for a project around it.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 16)  # where files are compiled in batches: the headers are most of a file
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  # The command, the library and the test programs stand at the top of the build folder: build/release/attngraph.
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  find_program(ATTNGRAPH_CCACHE ccache DOC "Compiler cache; empty to compile without")
  if(ATTNGRAPH_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER ${ATTNGRAPH_CCACHE})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${ATTNGRAPH_CCACHE})
  endif()
endif()

if(ATTNGRAPH_FUZZ)  # all code is seen by the engine, which the fuzz programs alone bring
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=fuzzer-no-link>)
endif()
if(ATTNGRAPH_SANITIZE)
  # Null, wrongly sized objects and pointers that wrap end the program under ASan as well, when they are used; checking for
  # them doubles compile time.
  string(JOIN "," unsanitized null object-size pointer-overflow vptr ${ATTNGRAPH_UNSANITIZED})
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${ATTNGRAPH_SANITIZE};-fno-sanitize=${unsanitized};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=${ATTNGRAPH_SANITIZE})
endif()
if(ATTNGRAPH_COVERAGE)
  # Counts that threads lose do not matter: a line ran or did not. Atomic ones take twice as long under ASan.
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:--coverage;-fprofile-update=single;-fprofile-exclude-files=/usr/.*>")
  add_link_options(--coverage)
endif()
