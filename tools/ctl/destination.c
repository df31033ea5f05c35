/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/destination.c - --to auto: the best destination for a guest. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#define MIB 1048576

struct candidate { const char *name; unsigned long long free_bytes; };

/* Could the guest live on to?  Says why not. */
static bool fits(struct host *to, const json_t *vm, const char *virtualization, struct candidate *best)
{
    struct answer a;
    if (ask(to, "GET", "/v1/host", NULL, &a))
        return false;
    unsigned long long room = get_num(json_object_get(a.json, "memory"), "promisable_bytes");
    const char *why = !get_bool(a.json, "incoming") ? "takes no incoming moves" : strcmp(get_str(a.json, "virtualization"), virtualization) ?
                      "has a processor of another vendor" : room < get_num(vm, "memory_bytes") ? "has too little free memory" : NULL;
    answer_free(&a);
    if (why)
        fprintf(stderr, "not %s: it %s\n", to->name, why);
    else if (room > best->free_bytes)
        *best = (struct candidate){ to->name, room };
    return !why;
}

enum exit_code choose_destination(struct host *h, const json_t *vm, char *to, size_t cap)
{
    struct answer a;
    struct candidate best = { NULL, 0 };
    size_t i;
    json_t *peer;
    enum exit_code e = ask(h, "GET", "/v1/host", NULL, &a);
    if (e)
        return e;
    json_array_foreach(json_object_get(a.json, "peers"), i, peer) {
        struct host *p = config_host(get_str(peer, "name"));
        if (!p)
            fprintf(stderr, "not %s: %s does not name it, so its memory is not known\n", get_str(peer, "name"), settings.path);
        else
            fits(p, vm, get_str(a.json, "virtualization"), &best);
    }
    answer_free(&a);
    if (!best.name)
        return fail(EXIT_REFUSED, "no destination for %s among the peers of %s; the reasons are above", get_str(vm, "name"), h->name);
    snprintf(to, cap, "%s", best.name);
    fprintf(stderr, "%s goes to %s: of the hosts that can take it, it has the most free memory, %llu MiB\n", get_str(vm, "name"), to,
            best.free_bytes / MIB);
    return EXIT_GOOD;
}
