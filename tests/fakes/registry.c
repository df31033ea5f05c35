/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/registry.c - see registry.h. */
#include "tests/fakes/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES 400

struct entry {
    char name[80], text[9000];
    size_t len;
};
struct table {
    struct entry e[ENTRIES]; /* sorted by name */
    unsigned n;
};
static struct table now, durable;
static uint64_t puts_made, puts_durable, epoch = 1, merges;
bool fake_registry_there, fake_registry_full, fake_registry_lands = true;
const char *fake_registry_bad = "";

void fake_registry_reset(void)
{
    now.n = durable.n = 0;
    puts_made = puts_durable = 0;
    epoch++;
    fake_registry_there = fake_registry_lands = true;
    fake_registry_full = false;
    fake_registry_bad = "";
}
void fake_registry_land(void)
{
    durable.n = now.n;
    memcpy(durable.e, now.e, now.n * sizeof(now.e[0]));
    puts_durable = puts_made;
}
void fake_registry_boot(void)
{
    now.n = durable.n;
    memcpy(now.e, durable.e, now.n * sizeof(now.e[0]));
    puts_durable = puts_made;
    epoch++;
}

void fake_registry_merged(void) { merges++; }

bool registry_present(void) { return fake_registry_there; }
const char *registry_why(void) { return fake_registry_there ? fake_registry_bad : "this host has no store"; }
uint64_t registry_epoch(void) { return fake_registry_there ? epoch : 0; }
uint64_t registry_merges(void) { return merges; }
uint64_t registry_mark(void) { return puts_made; }
bool registry_durable(uint64_t mark) { return mark <= puts_durable; }

static unsigned place(const char *name)
{
    unsigned i = 0;
    while (i < now.n && strcmp(now.e[i].name, name) < 0)
        i++;
    return i;
}
const char *registry_get(const char *name, size_t *len)
{
    unsigned i = place(name);
    bool found = fake_registry_there && i < now.n && !strcmp(now.e[i].name, name);
    if (len)
        *len = found ? now.e[i].len : 0;
    return found ? now.e[i].text : NULL;
}
const char *registry_next(const char *prefix, const char *after)
{
    for (unsigned i = 0; fake_registry_there && i < now.n; i++)
        if (strcmp(now.e[i].name, after) > 0 && !strncmp(now.e[i].name, prefix, strlen(prefix)))
            return now.e[i].name;
    return NULL;
}
enum hv_err registry_room(unsigned n, size_t len, struct why *why)
{
    return n && len && fake_registry_there && fake_registry_full ? REFUSE(HV_E_NOMEM, "the registry is full") : HV_OK;
}
enum hv_err registry_put(const char *name, const char *text, size_t len, struct why *why)
{
    unsigned i = place(name);
    bool found = i < now.n && !strcmp(now.e[i].name, name);
    if (!fake_registry_there)
        return REFUSE(HV_E_UNSUPP, "no registry");
    if (fake_registry_bad[0])
        return REFUSE(HV_E_IO, "%s", fake_registry_bad);
    if (text && (fake_registry_full || len >= sizeof(now.e[0].text) || now.n == ENTRIES))
        return REFUSE(HV_E_NOMEM, "the registry is full");
    if (!text && found)
        memmove(&now.e[i], &now.e[i + 1], (--now.n - i) * sizeof(now.e[0]));
    if (text && !found)
        memmove(&now.e[i + 1], &now.e[i], (now.n++ - i) * sizeof(now.e[0]));
    if (text) {
        snprintf(now.e[i].name, sizeof(now.e[i].name), "%s", name);
        memcpy(now.e[i].text, text, len);
        now.e[i].text[now.e[i].len = len] = '\0';
    }
    puts_made++;
    if (fake_registry_lands)
        fake_registry_land();
    return HV_OK;
}
