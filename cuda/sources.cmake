# SPDX-License-Identifier: Apache-2.0
# ATTNGRAPH_CUDA_SOURCES: what the plugin is made of, for nvcc here and for g++ in tests/emulation. src/core is compiled
# into it: the plugin takes no symbol from the library that opens it.
file(GLOB ATTNGRAPH_CUDA_SOURCES CONFIGURE_DEPENDS
     ${CMAKE_CURRENT_LIST_DIR}/*.cpp ${CMAKE_CURRENT_LIST_DIR}/*/*.cpp ${CMAKE_CURRENT_LIST_DIR}/*/*.cu
     ${CMAKE_CURRENT_LIST_DIR}/../src/core/*.cpp)
