# SPDX-License-Identifier: Apache-2.0
# What a package holds: libattngraph with its headers, find_package and pkg-config files; the command; the licence.
# The components `runtime` and `development` are the two halves a distribution would make of it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  message(FATAL_ERROR "CMAKE_INSTALL_LIBDIR is ${CMAKE_INSTALL_LIBDIR}; it must be relative to the prefix, "
                      "because the installed tree may be moved")
endif()

install(TARGETS attngraph EXPORT attngraph-targets
        LIBRARY COMPONENT runtime NAMELINK_COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/attngraph TYPE INCLUDE COMPONENT development
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

if(TARGET attngraph_cli)
  # The command finds its library beside it, wherever the tree is put; CMAKE_SKIP_INSTALL_RPATH leaves this out.
  file(RELATIVE_PATH bin_to_lib /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${CMAKE_INSTALL_LIBDIR})
  set_target_properties(attngraph_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}")
  install(TARGETS attngraph_cli COMPONENT runtime)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/attngraph)
configure_package_config_file(cmake/attngraph-config.cmake.in ${PROJECT_BINARY_DIR}/package/attngraph-config.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor release may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/attngraph-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(EXPORT attngraph-targets NAMESPACE attngraph:: DESTINATION ${package_dir} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/package/attngraph-config.cmake
              ${PROJECT_BINARY_DIR}/package/attngraph-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)

file(RELATIVE_PATH pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
configure_file(cmake/attngraph.pc.in ${PROJECT_BINARY_DIR}/package/attngraph.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/attngraph.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

install(FILES LICENSE README.md CHANGELOG.md TYPE DOC COMPONENT runtime)
