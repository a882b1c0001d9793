# SPDX-License-Identifier: Apache-2.0
# Whether the CUDA backends are built: the plugin libattngraph_cuda.so in cuda/. The library itself needs no toolkit and
# is the same either way. Sets ATTNGRAPH_CUDA_ENABLED. tests/emulation needs the toolkit's headers only, and looks for them
# itself.
set(default OFF)  # within another project: only the library is its business
if(PROJECT_IS_TOP_LEVEL)
  set(default AUTO)
endif()
set(ATTNGRAPH_CUDA ${default} CACHE STRING "Build the CUDA backends: AUTO (when nvcc is found), ON (fail without), OFF")
set_property(CACHE ATTNGRAPH_CUDA PROPERTY STRINGS AUTO ON OFF)
# What a release is built for: 80-real;86-real;89-real;90-real;100-real;120 (the last one with PTX for what comes after).
set(ATTNGRAPH_CUDA_ARCHITECTURES "80-real;90-real" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES; at least sm_80")

set(ATTNGRAPH_CUDA_ENABLED OFF)
if(NOT ATTNGRAPH_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "ATTNGRAPH_CUDA is '${ATTNGRAPH_CUDA}'; it is AUTO, ON or OFF")
endif()
if(ATTNGRAPH_CUDA STREQUAL "OFF")
  return()
endif()

# An installed toolkit goes first, then the one that scripts/cuda-toolkit brings.
if(DEFINED ENV{ATTNGRAPH_CUDA_ROOT})
  set(attngraph_cuda_root $ENV{ATTNGRAPH_CUDA_ROOT})
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(attngraph_cuda_root $ENV{XDG_CACHE_HOME}/attngraph/cuda-13.0)
else()
  set(attngraph_cuda_root $ENV{HOME}/.cache/attngraph/cuda-13.0)
endif()
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(ATTNGRAPH_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin ${attngraph_cuda_root}/bin
               DOC "NVIDIA's compiler; empty to build without CUDA")
  if(ATTNGRAPH_NVCC)
    set(CMAKE_CUDA_COMPILER ${ATTNGRAPH_NVCC})
  endif()
endif()
set(CMAKE_CUDA_ARCHITECTURES ${ATTNGRAPH_CUDA_ARCHITECTURES})

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(ATTNGRAPH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ATTNGRAPH_CUDA is ON, but there is no nvcc: set CUDACXX, put it on PATH, or run scripts/cuda-toolkit")
  endif()
  message(STATUS "CUDA backends: no, there is no nvcc (scripts/cuda-toolkit brings one)")
  return()
endif()
get_filename_component(attngraph_nvcc_root ${CMAKE_CUDA_COMPILER}/../.. REALPATH)

# Sanitizers and coverage look at host code; the plugin's is looked at under emulation.
if(ATTNGRAPH_CUDA STREQUAL "AUTO" AND (ATTNGRAPH_SANITIZE OR ATTNGRAPH_COVERAGE))
  message(STATUS "CUDA backends: not in an instrumented build")
  return()
endif()
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" matched "${nvcc_says}")
set(attngraph_nvcc_version ${CMAKE_MATCH_1})
if(NOT attngraph_nvcc_version VERSION_GREATER_EQUAL 12.4)
  set(too_old "${CMAKE_CUDA_COMPILER} is of version '${attngraph_nvcc_version}', and 12.4 is the oldest that will do")
  if(ATTNGRAPH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ATTNGRAPH_CUDA is ON, but ${too_old}")
  endif()
  message(STATUS "CUDA backends: no, ${too_old}")
  return()
endif()
if(ATTNGRAPH_CCACHE AND PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${ATTNGRAPH_CCACHE})
endif()
enable_language(CUDA)
# What FindCUDAToolkit calls CUDA::cudart_static. That of CMake 3.25.1 fails with CUDA 13, which has no nvToolsExt.
find_library(ATTNGRAPH_CUDART_STATIC cudart_static REQUIRED DOC "NVIDIA's runtime, which goes into the plugin"
  HINTS ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES} ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES}
  PATHS ${attngraph_nvcc_root} PATH_SUFFIXES lib64 lib)
add_library(attngraph_cuda_runtime INTERFACE)
target_include_directories(attngraph_cuda_runtime SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_link_libraries(attngraph_cuda_runtime INTERFACE ${ATTNGRAPH_CUDART_STATIC} Threads::Threads rt ${CMAKE_DL_LIBS})
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(ATTNGRAPH_CUDA_ENABLED ON)
message(STATUS "CUDA backends: for ${ATTNGRAPH_CUDA_ARCHITECTURES}, by ${CMAKE_CUDA_COMPILER}")
