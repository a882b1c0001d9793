/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTNGRAPH_VERSION_H
#define ATTNGRAPH_VERSION_H

/* The release. CMake reads these three lines: they are the only place where the number is written. */
#define ATTNGRAPH_VERSION_MAJOR 0
#define ATTNGRAPH_VERSION_MINOR 1
#define ATTNGRAPH_VERSION_PATCH 0

/* The binary contract, apart from the release: the SONAME. It grows when a symbol, a struct field or a meaning changes.
 */
#define ATTNGRAPH_ABI_VERSION 2

#endif
