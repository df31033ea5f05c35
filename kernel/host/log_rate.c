/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/log_rate.c - rate limit of log lines.
 *
 * Each limit is a theoretical arrival time: a line adds its share, and is left out once that is a burst ahead of the
 * clock.  The table is small.  A new source takes the entry that has been idle longest; a source that is forgotten so
 * has its credit back, which only the limit of the place in the code makes harmless. */
#include "kernel/host/log_rate.h"

#include <string.h>

#define SOURCES 64

static struct source {
    uint64_t key, tat_us;
    struct log_left_out left_out;
} sources[SOURCES];
static uint64_t minute_end_us, n_forgotten; /* lines of sources that are no longer in the table */
static unsigned next_said;

static uint64_t fnv1a(uint64_t h, const char *s, size_t len)
{
    for (size_t i = 0; i < len && s[i]; i++)
        h = (h ^ (uint8_t)s[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return h;
}

static void text_cut(char *to, size_t cap, const char *from)
{
    size_t n = 0;
    while (n < cap - 1 && from[n])
        n++;
    memcpy(to, from, n);
    to[n] = 0;
}

static struct source *log_source_get(uint64_t key)
{
    struct source *idle = &sources[0];
    for (unsigned i = 0; i < SOURCES; i++) {
        if (sources[i].key == key)
            return &sources[i];
        if (sources[i].tat_us < idle->tat_us)
            idle = &sources[i];
    }
    n_forgotten += idle->left_out.n;
    *idle = (struct source){ .key = key };
    return idle;
}

static bool log_source_allows(struct source *s, uint64_t per_us, const char *subject, const char *text, uint64_t now)
{
    uint64_t at = s->tat_us > now ? s->tat_us : now;
    if (at <= now + (LOG_BURST - 1) * (uint64_t)LOG_PERIOD_US) {
        s->tat_us = at + per_us;
        return true;
    }
    if (!s->left_out.n++) {
        text_cut(s->left_out.subject, sizeof(s->left_out.subject), subject);
        text_cut(s->left_out.text, sizeof(s->left_out.text), text);
    }
    return false;
}

bool log_rate_allows(const char *subject, const char *fmt, const char *text, uint64_t now)
{
    uint64_t place = fnv1a((uintptr_t)fmt, subject, SIZE_MAX), one = fnv1a(~place, text, strcspn(text, " :"));
    return log_source_allows(log_source_get(one), LOG_PERIOD_US, subject, text, now) &&
           log_source_allows(log_source_get(place), LOG_PERIOD_US / LOG_PLACE_MORE, subject, text, now);
}

bool log_rate_left_out(struct log_left_out *out, uint64_t now)
{
    if (!minute_end_us)
        minute_end_us = now + LOG_MINUTE_US;
    if (now < minute_end_us)
        return false;
    for (; next_said < SOURCES; next_said++) {
        if (!sources[next_said].left_out.n)
            continue;
        *out = sources[next_said].left_out;
        sources[next_said++].left_out.n = 0;
        return true;
    }
    minute_end_us = now + LOG_MINUTE_US;
    next_said = 0;
    *out = (struct log_left_out){ n_forgotten, "log", "lines of many sources" };
    n_forgotten = 0;
    return out->n > 0;
}
