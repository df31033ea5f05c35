/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/api_handlers.h - what the handlers of streams give to kernel/manage/api_route.c. */
#ifndef GODWIT_TESTS_FAKES_API_HANDLERS_H
#define GODWIT_TESTS_FAKES_API_HANDLERS_H

#include "kernel/manage/api_call.h"

/* Of PUT and GET /v1/stores/A/volumes/B/data; NULL: they answer as the other handlers do. */
extern struct api_sink *fake_sink;
extern struct api_source *fake_source;

#endif
