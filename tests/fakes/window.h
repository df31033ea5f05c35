/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/window.h - windows on the host, counted, with failures on demand. */
#ifndef GODWIT_TESTS_FAKES_WINDOW_H
#define GODWIT_TESTS_FAKES_WINDOW_H

extern unsigned fake_windows_open;
extern long fake_window_blocks; /* so many more blocks are given, then none; -1: no limit */

#endif
