// SPDX-License-Identifier: Apache-2.0
// A module that is no plugin.
extern "C" __attribute__((visibility("default"))) int stranger();
extern "C" int stranger() { return 1; }
