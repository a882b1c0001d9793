// SPDX-License-Identifier: Apache-2.0
// Large arrays on large pages, where the system has them.
#pragma once

#include <cstddef>

namespace ag {

// Asks for pages of 2 MiB in memory that nobody has written to yet. New pages of 4 KiB are most of what it costs to
// fill an array once: in a virtual machine some 2 us each, as long as copying 20 KiB. What holds no whole page of
// 2 MiB is left alone, and a system that has no such pages loses nothing.
void prefer_huge_pages(void* data, std::size_t bytes);

}  // namespace ag
