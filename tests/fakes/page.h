/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/page.h - the page allocator on the host, with failures on demand. */
#ifndef GODWIT_TESTS_FAKES_PAGE_H
#define GODWIT_TESTS_FAKES_PAGE_H

extern long fake_page_fail_after;  /* so many more allocations succeed, then none; -1: all succeed */
extern long fake_page_outstanding; /* allocations not given back */

extern long fake_page_pins; /* of block_pins(), not given back; freeing takes no notice of them */

#endif
