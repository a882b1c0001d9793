/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATTNGRAPH_EXPORT_H
#define ATTNGRAPH_EXPORT_H

#if defined(_WIN32)
#if defined(ATTNGRAPH_BUILDING)
#define ATTNGRAPH_API __declspec(dllexport)
#else
#define ATTNGRAPH_API __declspec(dllimport)
#endif
#else
#define ATTNGRAPH_API __attribute__((visibility("default")))
#endif

#endif
