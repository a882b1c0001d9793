# SPDX-License-Identifier: Apache-2.0
# The files of viewer/ as C++ text: cmake -DVIEWER=... -DOUT=... -P embed-viewer.cmake
# A page that loads nothing cannot load modules either, so they are joined, in the order of these lists: imports go,
# `export` goes, and every name at the top of a module must be the only one of that name. Imports stand on one line.
set(engine_modules codec head raster engine)
set(page_modules colours words state client pen map arcs cards text links heads controls page)

function(joined out)
  set(text "")
  foreach(module ${ARGN})
    file(READ ${VIEWER}/js/${module}.js source)
    string(REGEX REPLACE "\nimport [^\n]*" "" source "\n${source}")
    string(REPLACE "\nexport " "\n" source "${source}")
    string(APPEND text "${source}")
  endforeach()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

joined(engine ${engine_modules} worker)
joined(app ${engine_modules} ${page_modules} main)
file(READ ${VIEWER}/page.css style)
file(READ ${VIEWER}/page.html page)
set(cpp "// Made by cmake/embed-viewer.cmake from viewer/.\n#include \"io/viewer_assets.hpp\"\n\nnamespace ag::viewer {\n")
foreach(asset page style app engine)
  string(APPEND cpp "const std::string_view ${asset} = R\"viewer~(${${asset}})viewer~\";\n")
endforeach()
foreach(asset style app)
  string(SHA256 hash "${${asset}}")
  string(APPEND cpp "const std::string_view ${asset}_sha256 = \"${hash}\";\n")
endforeach()
string(APPEND cpp "}  // namespace ag::viewer\n")
file(WRITE ${OUT} "${cpp}")
