/* SPDX-License-Identifier: Apache-2.0 */
/* Checks written in C, run by GoogleTest (c_contract_test.cpp): what a C program can do with the contract. */
#ifndef ATTNGRAPH_TESTS_API_C_CHECKS_H
#define ATTNGRAPH_TESTS_API_C_CHECKS_H

#include <attngraph/attngraph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Records a failure and goes on; `detail` may be NULL. */
void c_check_failed(const char* file, int line, const char* what, const char* detail);

#define C_CHECK(condition) ((condition) ? (void)0 : c_check_failed(__FILE__, __LINE__, #condition, NULL))
#define C_OK(call) C_STATUS(ATTNGRAPH_OK, call)
#define C_STATUS(expected, call) c_check_status(__FILE__, __LINE__, #call, expected, call)

void c_check_status(const char* file, int line, const char* call, attngraph_status expected, attngraph_status got);

/* Each takes a folder for its files, ending with '/'. */
void c_words_of_every_status(const char* folder);
void c_reaches_every_status(const char* folder);
void c_tour(const char* folder);
void c_null_is_an_answer_not_a_crash(const char* folder);

#ifdef __cplusplus
}
#endif

#endif
