/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/registry.h - kernel/store/registry.h over a disk of the test's own: what is put becomes durable when the
 * test says so, all at once.  kernel/store/registry.c itself is tested by test_registry.c. */
#ifndef GODWIT_TESTS_FAKES_REGISTRY_H
#define GODWIT_TESTS_FAKES_REGISTRY_H

#include "kernel/store/registry.h"

extern bool fake_registry_there;      /* a store with a registry; default: none */
extern bool fake_registry_full;       /* puts of texts are refused */
extern const char *fake_registry_bad; /* registry_why(): its disk fails; "": it does not */
extern bool fake_registry_lands;      /* each put is durable at once; default: yes */

/** Empty, there, good. */
void fake_registry_reset(void);
/** What was put until now is durable. */
void fake_registry_land(void);
/** Power cut, and a boot: what is not durable is lost. */
void fake_registry_boot(void);
/** What was put since came from another registry, which was adopted. */
void fake_registry_merged(void);

#endif
