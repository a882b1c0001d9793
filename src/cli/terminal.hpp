// SPDX-License-Identifier: Apache-2.0
// What the process is connected to, and how it is asked to stop.
#pragma once

#include <cstdio>

namespace attngraph::cli {

bool is_terminal(std::FILE* stream);
// Columns of the terminal behind standard output: COLUMNS, then the terminal itself, then 80; at least 40.
int terminal_width();
// Standard output is a terminal that shows colours, and NO_COLOR (no-color.org) is not set.
bool use_colour();

// From now on Ctrl-C and SIGTERM only set a flag; a second one ends the process at once.
void watch_interrupts();
bool interrupted();
// Throw ATTNGRAPH_ERROR_CANCELLED when the flag is set.
void stop_if_interrupted();

}  // namespace attngraph::cli
