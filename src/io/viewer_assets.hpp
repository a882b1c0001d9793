// SPDX-License-Identifier: Apache-2.0
// The viewer's files (viewer/), which the build puts into the library: cmake/embed-viewer.cmake.
#pragma once

#include <string_view>

namespace ag::viewer {

extern const std::string_view page;    // HTML with marks <!--@name--> for what page_writer.cpp fills in
extern const std::string_view style;   // one style sheet
extern const std::string_view app;     // all modules, joined
extern const std::string_view engine;  // those that the worker runs
extern const std::string_view style_sha256, app_sha256;  // in hexadecimal

}  // namespace ag::viewer
