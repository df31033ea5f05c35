/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_record.c - see move_record.h.
 *
 * An entry is lines "key = value"; that of a guest ends with its [vm] section.  What cannot be read is logged and left
 * alone.  Not here: when which entry must be durable (migration_in.c, migration_out.c; tests/model/handoff.pml). */
#include "kernel/peers/move_record.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/registry.h"
#include "kernel/store/registry_format.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_manage.h"

#define ENTRY_NAME_LEN REGISTRY_NAME_LEN /* also of what this host has not written: nothing is cut */
#define ENTRY_TEXT_MAX (CONFIG_VM_TEXT_MAX + 4096u)
#define ID_HEX         33
#define VALUE_LEN      160

static uint64_t epoch, merges;                /* of the registry that was read */
static uint64_t last_order;                   /* of the entries job/ID */
static bool here_missed;                      /* a guest's entry still says arriving, as the disk failed */
static char arrived[VM_MAX][CONFIG_NAME_LEN]; /* by slot: the guest of an entry arrived/NAME of state here; "": none */

/* ---- texts ---- */

static void hex_write(char *out, const uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
}

static bool hex_read(const char *s, uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < 2 * n; i++) {
        char c = s[i];
        unsigned v = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
        if (v == 16)
            return false;
        b[i / 2] = (uint8_t)(i % 2 ? b[i / 2] | v : v << 4);
    }
    return !s[2 * n];
}

static const char *id_name(char out[ENTRY_NAME_LEN], const struct mig_id *id)
{
    memcpy(out, "job/", 4);
    hex_write(out + 4, id->b, sizeof(id->b));
    return out;
}

static const char *guest_name(char out[ENTRY_NAME_LEN], const char *guest)
{
    snprintf(out, ENTRY_NAME_LEN, "arrived/%s", guest);
    return out;
}

/* The value of the line "key = value" number n of text, before its [vm] section.  False: there is none. */
static bool value_get(const char *text, const char *key, unsigned n, char out[VALUE_LEN])
{
    size_t key_len = strlen(key);
    for (const char *at = text; at && *at && *at != '['; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        if (strncmp(at, key, key_len) || strncmp(at + key_len, " = ", 3) || n--)
            continue;
        at += key_len + 3;
        snprintf(out, VALUE_LEN, "%.*s", (int)strcspn(at, "\n"), at);
        return true;
    }
    return false;
}

static bool value_is(const char *text, const char *key, const char *wanted)
{
    char v[VALUE_LEN];
    return value_get(text, key, 0, v) && !strcmp(v, wanted);
}

static bool number_read(const char *s, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9' && n < UINT64_MAX / 10 - 1; p++)
        n = 10 * n + (uint64_t)(*p - '0');
    *out = n;
    return p != s && (!*p || *p == ' ');
}

/* ---- writing ---- */

bool move_write_done(const struct move_write *w, bool *failed)
{
    bool done = !w->begun || registry_durable(w->mark);
    *failed = !done && registry_why()[0];
    return done;
}

static enum hv_err record_put(const char *name, const char *text, struct move_write *w, struct why *why)
{
    if (!registry_present())
        return HV_OK;
    enum hv_err e = registry_put(name, text, text ? strlen(text) : 0, why);
    if (!e && w)
        *w = (struct move_write){ true, registry_mark() };
    return e;
}

/* The same where a failure changes nothing of what happens. */
static void record_note(const char *name, const char *text, struct move_write *w)
{
    char why[300];
    enum hv_err e = record_put(name, text, w, WHY(why));
    if (e)
        log_error("mig", "%s is not recorded, so it is not known after a power cut: %s", name, why);
}

static void record_remove(const char *name)
{
    if (registry_get(name, NULL))
        record_note(name, NULL, NULL);
}

/* The answer to forget for one more, and how many there are. */
static unsigned jobs_oldest(char oldest[ENTRY_NAME_LEN])
{
    uint64_t lowest = UINT64_MAX, order;
    unsigned n = 0;
    char v[VALUE_LEN];
    for (const char *e = ""; (e = registry_next("job/", e));) {
        const char *text = registry_get(e, NULL);
        if (!value_is(text, "state", "running") && !value_is(text, "state", "refused"))
            continue;
        n++;
        if (!value_get(text, "order", 0, v) || !number_read(v, &order))
            order = 0;
        if (order < lowest) {
            lowest = order;
            snprintf(oldest, ENTRY_NAME_LEN, "%s", e);
        }
    }
    return n;
}

static enum hv_err job_put(const char *guest, const struct mig_id *id, const char *peer, const char *state,
                           const char *note, struct move_write *w, struct why *why)
{
    char name[ENTRY_NAME_LEN], oldest[ENTRY_NAME_LEN], text[MOVE_RECORD_MAX];
    if (!registry_present())
        return HV_OK;
    if ((!strcmp(state, "running") || !strcmp(state, "refused")) && jobs_oldest(oldest) >= MOVE_RECORDS_MAX)
        record_remove(oldest);
    snprintf(text, sizeof(text), "guest = %s\npeer = %s\nstate = %s\norder = %lu\nnote = %.96s\n", guest, peer, state,
             ++last_order, note);
    return record_put(id_name(name, id), text, w, why);
}

static void job_note(const char *guest, const struct mig_id *id, const char *peer, const char *state, const char *note)
{
    char why[300];
    if (job_put(guest, id, peer, state, note, NULL, WHY(why)))
        log_error("mig", "%s: its move with %s (%s) is not recorded: %s", guest, peer, state, why);
}

/* What an entry arrived/NAME says. */
static size_t arrival_write(const struct vm *vm, const struct mig_id *id, const char *peer, const char *state,
                            char *out, size_t cap)
{
    char hex[65];
    hex_write(hex, id->b, sizeof(id->b));
    size_t n = (size_t)snprintf(out, cap, "id = %s\npeer = %s\nstate = %s\n", hex, peer, state);
    hex_write(hex, vm->uuid, sizeof(vm->uuid));
    n += (size_t)snprintf(out + n, cap - n, "uuid = %s\n", hex);
    for (unsigned i = 0; i < vm->boot.n; i++) {
        hex_write(hex, boot_set_sha256(&vm->boot, i), SHA256_LEN);
        n += (size_t)snprintf(out + n, cap - n, "file = %lu %s\n", vm->boot.file[i]->len, hex);
    }
    size_t section = config_vm_write(&vm->config, out + n, cap - n);
    return section ? n + section : 0;
}

static enum hv_err arrival_put(const struct vm *vm, const struct mig_id *id, const char *peer, const char *state,
                               struct move_write *w, struct why *why)
{
    static char text[ENTRY_TEXT_MAX];
    char name[ENTRY_NAME_LEN];
    if (!registry_present())
        return HV_OK;
    size_t len = arrival_write(vm, id, peer, state, text, sizeof(text));
    ASSERT(len && len < sizeof(text));
    return record_put(guest_name(name, vm->config.name), text, w, why);
}

/* ---- destination ---- */

enum hv_err move_record_arriving(const struct vm *vm, const struct mig_id *id, const char *peer, struct move_write *w,
                                 struct why *why)
{
    return arrival_put(vm, id, peer, "arriving", w, why);
}

/* Entries that say where the guest went, when it was here before. */
static void left_forget(const char *guest)
{
    char name[ENTRY_NAME_LEN] = "";
    for (const char *e = ""; (e = registry_next("job/", e)); e = name) {
        const char *text = registry_get(e, NULL);
        snprintf(name, sizeof(name), "%s", e);
        if (value_is(text, "guest", guest) && value_is(text, "state", "left"))
            record_remove(name);
    }
}

void move_record_here(const struct vm *vm, const struct mig_id *id, const char *peer, struct move_write *w)
{
    char why[300];
    if (arrival_put(vm, id, peer, "here", w, WHY(why))) {
        log_error("mig",
                  "%s is this host's now, and not recorded as such until the disk works again: after a power cut "
                  "before "
                  "that it is known nowhere: %s",
                  vm->config.name, why);
        here_missed = true;
    }
    left_forget(vm->config.name);
    snprintf(arrived[vm_slot(vm)], CONFIG_NAME_LEN, "%s", vm->config.name);
}

void move_record_refused(const char *guest, const struct mig_id *id, const char *peer, const char *why)
{
    char name[ENTRY_NAME_LEN];
    job_note(guest, id, peer, "refused", why);
    record_remove(guest_name(name, guest));
}

/* The registry's disk works again: record the guests that came meanwhile. */
static void here_catch_up(void)
{
    char name[ENTRY_NAME_LEN], hex[VALUE_LEN], peer[VALUE_LEN];
    struct mig_id id;
    here_missed = false;
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        const char *text = arrived[i][0] ? registry_get(guest_name(name, arrived[i]), NULL) : NULL;
        if (vm && text && value_is(text, "state", "arriving") && value_get(text, "id", 0, hex) &&
            hex_read(hex, id.b, sizeof(id.b)) && value_get(text, "peer", 0, peer))
            move_record_here(vm, &id, peer, NULL);
    }
}

bool move_record_is_here(const char *guest)
{
    char name[ENTRY_NAME_LEN];
    const char *text = registry_get(guest_name(name, guest), NULL);
    return text && value_is(text, "state", "here");
}

/* The guest that came is no longer this host's; the answer about its job stays. */
static void arrival_forget(const char *guest)
{
    char name[ENTRY_NAME_LEN], peer[VALUE_LEN], hex[VALUE_LEN];
    struct mig_id id;
    const char *text = registry_get(guest_name(name, guest), NULL);
    if (!text)
        return;
    if (value_get(text, "id", 0, hex) && hex_read(hex, id.b, sizeof(id.b)) && value_get(text, "peer", 0, peer))
        job_note(guest, &id, peer, "running", "");
    record_remove(name);
}

/* ---- volumes of arriving guests ---- */

enum hv_err move_record_making(const char *guest, const struct mig_id *id, const char *peer, struct move_write *w,
                               struct why *why)
{
    return job_put(guest, id, peer, "making", "", w, why);
}

void move_record_made(const struct mig_id *id)
{
    char name[ENTRY_NAME_LEN];
    const char *text = registry_get(id_name(name, id), NULL);
    if (text && value_is(text, "state", "making"))
        record_remove(name);
}

void move_record_unmade(const char *guest, const struct mig_id *id, const char *peer)
{
    char name[ENTRY_NAME_LEN];
    const char *text = registry_get(id_name(name, id), NULL);
    if (text && value_is(text, "state", "making"))
        job_note(guest, id, peer, "refused", "it was not admitted");
}

void move_record_id(const struct mig_id *id, char out[ID_HEX]) { hex_write(out, id->b, sizeof(id->b)); }

enum move_fate move_record_fate(const char *id)
{
    char name[ENTRY_NAME_LEN];
    for (const char *e = ""; (e = registry_next("arrived/", e));) {
        const char *text = registry_get(e, NULL);
        if (value_is(text, "id", id) && value_is(text, "state", "here"))
            return MOVE_FATE_HERE;
    }
    snprintf(name, sizeof(name), "job/%.32s", id);
    const char *text = registry_get(name, NULL);
    if (text && value_is(text, "state", "running"))
        return MOVE_FATE_HERE;
    return text && (value_is(text, "state", "making") || value_is(text, "state", "refused")) ? MOVE_FATE_ENDED
                                                                                             : MOVE_FATE_NONE;
}

bool move_record_in_doubt(const char *id)
{
    char name[ENTRY_NAME_LEN];
    snprintf(name, sizeof(name), "job/%.32s", id);
    const char *text = registry_get(name, NULL);
    return text && value_is(text, "state", "in-doubt");
}

/* ---- source ---- */

#define THERE "it records its guests"
enum hv_err move_record_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there,
                              struct move_write *w, struct why *why)
{
    return job_put(guest, id, peer, "in-doubt", there ? THERE : "", w, why);
}

void move_record_stays(const struct mig_id *id)
{
    char name[ENTRY_NAME_LEN];
    record_remove(id_name(name, id));
}

void move_record_left(const char *guest, const struct mig_id *id, const char *peer, bool defined)
{
    left_forget(guest);
    if (defined)
        job_note(guest, id, peer, "left", "");
    else
        move_record_stays(id); /* nothing here could start it */
    arrival_forget(guest);
}

const char *move_record_left_to(const char *guest)
{
    static char peer[VALUE_LEN];
    for (const char *e = ""; (e = registry_next("job/", e));) {
        const char *text = registry_get(e, NULL);
        if (value_is(text, "guest", guest) && value_is(text, "state", "left") && value_get(text, "peer", 0, peer))
            return peer;
    }
    return NULL;
}

/* ---- after a boot ---- */

/* A guest that came, from its entry.  NULL: the entry cannot be read; logged. */
static struct vm *arrival_recall(const char *guest, const char *text)
{
    struct config *c = mem_alloc(sizeof(*c));
    struct vm_config *config = mem_alloc(sizeof(*config));
    struct boot_want want[2 + CONFIG_MAX_MODULES];
    unsigned n = 0;
    char v[VALUE_LEN];
    const char *section = strstr(text, "[vm ");
    struct vm *vm = NULL;
    uint8_t uuid[16] = { 0 };
    while (n < ARRAY_SIZE(want) && value_get(text, "file", n, v) && number_read(v, &want[n].len) && strchr(v, ' ') &&
           hex_read(strchr(v, ' ') + 1, want[n].sha256, SHA256_LEN))
        n++;
    if (c && config && section) {
        c->vms = config;
        c->max_vms = 1;
        config_parse(section, strlen(section), c, NULL, NULL);
        if (c->n_vms == 1 && !strcmp(c->vms[0].name, guest) && value_get(text, "uuid", 0, v) &&
            hex_read(v, uuid, sizeof(uuid)))
            vm = vm_recall(&c->vms[0], uuid, want, n);
    }
    mem_free(config, sizeof(*config));
    mem_free(c, sizeof(*c));
    return vm;
}

static void arrival_load(const char *name)
{
    char guest[CONFIG_NAME_LEN], v[VALUE_LEN], peer[VALUE_LEN];
    struct mig_id id;
    const char *text = registry_get(name, NULL);
    snprintf(guest, sizeof(guest), "%s", name + strlen("arrived/"));
    bool here = value_is(text, "state", "here");
    if (!value_get(text, "id", 0, v) || !hex_read(v, id.b, sizeof(id.b)) || !value_get(text, "peer", 0, peer)) {
        log_error("mig", "the registry's entry arrived/%s cannot be read: it is left alone", guest);
        return;
    }
    incoming_verdict(&id, peer, here ? MIG_V_RUNNING : MIG_V_REFUSED,
                     here ? "" : "the destination lost power while the guest was arriving");
    if (!here) {
        move_record_refused(guest, &id, peer, "the destination lost power while the guest was arriving");
        return;
    }
    const struct vm *vm = arrival_recall(guest, text);
    if (!vm) {
        log_error("mig",
                  "%s came from %s and is this host's, but cannot be defined: the table of guests is full, or "
                  "its entry in the registry, arrived/%s, cannot be read",
                  guest, peer, guest);
        return;
    }
    snprintf(arrived[vm_slot(vm)], CONFIG_NAME_LEN, "%s", guest);
    log_info("mig", "%s: is this host's, it came from %s", guest, peer);
}

static void order_load(const char *name)
{
    char v[VALUE_LEN];
    uint64_t order;
    if (value_get(registry_get(name, NULL), "order", 0, v) && number_read(v, &order))
        last_order = MAX(last_order, order);
}

static void job_load(const char *name)
{
    char guest[VALUE_LEN], peer[VALUE_LEN], note[VALUE_LEN] = "";
    struct mig_id id;
    const char *text = registry_get(name, NULL);
    if (!hex_read(name + strlen("job/"), id.b, sizeof(id.b)) || !value_get(text, "guest", 0, guest) ||
        !value_get(text, "peer", 0, peer)) {
        log_error("mig", "the registry's entry %s cannot be read: it is left alone", name);
        return;
    }
    (void)value_get(text, "note", 0, note);
    if (value_is(text, "state", "in-doubt"))
        migration_recall_doubt(guest, &id, peer, !strcmp(note, THERE));
    else if (value_is(text, "state", "refused"))
        incoming_verdict(&id, peer, MIG_V_REFUSED, note);
    else if (value_is(text, "state", "running"))
        incoming_verdict(&id, peer, MIG_V_RUNNING, "");
}

/* Call load for each entry of that prefix, which may remove it. */
static void entries_load(const char *prefix, void (*load)(const char *name))
{
    char name[ENTRY_NAME_LEN] = "";
    for (const char *e = ""; (e = registry_next(prefix, e)); e = name) {
        snprintf(name, sizeof(name), "%s", e);
        load(name);
    }
}

/* What was put into this host's registry when it adopted another: only guests that are not known here, neither by an
 * entry of its own nor as they arrive or run. */
static void arrival_load_new(const char *name)
{
    const char *guest = name + strlen("arrived/");
    bool known = false;
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        known |= !strcmp(arrived[i], guest);
        known |= vm && !strcmp(vm->config.name, guest) && (vm->arrived || vm_state(vm) != VM_STOPPED);
    }
    if (!known)
        arrival_load(name);
}

void move_record_step(void)
{
    if (epoch == registry_epoch() && merges != registry_merges())
        entries_load("arrived/", arrival_load_new);
    merges = registry_merges();
    if (epoch != registry_epoch()) {
        epoch = registry_epoch();
        entries_load("job/", order_load);
        entries_load("arrived/", arrival_load); /* a job in doubt may be of a guest that is here by a move */
        entries_load("job/", job_load);
    }
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (!arrived[i][0] || (vm && vm->arrived && !strcmp(vm->config.name, arrived[i])))
            continue;
        arrival_forget(arrived[i]);
        arrived[i][0] = '\0';
    }
    if (here_missed && registry_present() && !registry_why()[0])
        here_catch_up();
}
