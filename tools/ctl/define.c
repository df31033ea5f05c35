/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/define.c - godwitctl vm define|edit|undefine, vm disk|nic attach|detach, vm show --config, store adopt.
 *
 * A definition goes to the host as its author wrote it, so that line numbers in the host's answer are those of the
 * file, and comments come back with `vm show --config`. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX (64 * 1024u)

/* ---- files ---- */

/* Leave out what Windows' editors add: a byte order mark at the beginning, a CR before each LF. */
static size_t text_normalize(char *text, size_t len)
{
    size_t from = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0, to = 0;
    for (; from < len; from++)
        if (text[from] != '\r' || text[from + 1] != '\n')
            text[to++] = text[from];
    text[to] = 0;
    return to;
}

/* Read all of f, at most TEXT_MAX bytes.  NULL: it cannot be read, or is longer; errno says which (EFBIG). */
static char *stream_read(FILE *f, size_t *len)
{
    char *text = malloc(TEXT_MAX + 2);
    if (!text)
        abort();
    *len = fread(text, 1, TEXT_MAX + 1, f);
    text[*len] = 0;
    if (!ferror(f) && *len <= TEXT_MAX) {
        *len = text_normalize(text, *len);
        return text;
    }
    errno = ferror(f) ? errno : EFBIG;
    free(text);
    return NULL;
}

/* path "-": standard input. */
static enum exit_code definition_file_read(const char *path, char **text, size_t *len)
{
    FILE *f = strcmp(path, "-") ? fopen(path, "r") : stdin;
    *text = f ? stream_read(f, len) : NULL;
    int error = errno;
    if (f && f != stdin)
        fclose(f);
    return *text ? EXIT_GOOD : fail(EXIT_USAGE, "%s cannot be read: %s", path, strerror(error));
}

/* The NAME of the first line [vm NAME].  False: there is none. */
static bool definition_name(const char *text, char out[NAME_MAX_LEN])
{
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (sscanf(at, " [ vm %63[^] \t\r\n]", out) == 1)
            return true;
    return false;
}

/* ---- to the host ---- */

/* The host for a guest of that name: where it is; else the only host, or that of --host. */
static enum exit_code define_host(const char *name, struct host **out)
{
    json_t *vm;
    if (options.host)
        return one_host(out);
    enum exit_code e = search_vm(name, out, &vm);
    json_decref(vm);
    return *out ? EXIT_GOOD : e ? e : one_host(out);
}

/* Wait for the job of an answer, and print how it ended, with a warning if the answer has one. */
static enum exit_code change_follow(struct host *h, const struct answer *a)
{
    char message[512];
    const char *warning = get_str(a->json, "warning");
    progress_begin();
    enum exit_code e = job_follow(h, get_num(a->json, "job"), message, sizeof(message));
    progress_end();
    if (e)
        return e;
    if (options.json)
        print_json(json_pack("{s:s,s:s,s:s}", "host", h->name, "message", message, "warning", warning));
    else
        printf("%s: %s\n", h->name, message);
    if (*warning && !options.json)
        fprintf(stderr, "godwitctl: %s: warning: as things are now it would not start: %s\n", h->name, warning);
    return EXIT_GOOD;
}

/* file: for messages. */
static enum exit_code define(struct host *h, const char *name, const char *file, const char *text, size_t len)
{
    char path[128];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/vms/%s", name);
    mistakes_file = file;
    enum exit_code e = ask_raw(h, "PUT", path, text, len, &a);
    mistakes_file = NULL;
    if (e)
        return e;
    e = change_follow(h, &a);
    answer_free(&a);
    return e;
}

enum exit_code cmd_vm_define(int argc, char **argv)
{
    char name[NAME_MAX_LEN], *text;
    size_t len;
    struct host *h;
    (void)argc;
    enum exit_code e = definition_file_read(argv[0], &text, &len);
    if (e)
        return e;
    if (strlen(text) != len)
        e = fail(EXIT_USAGE, "%s is no text", argv[0]);
    else if (!definition_name(text, name))
        e = fail(EXIT_USAGE, "%s has no line [vm NAME], which would say which guest it defines", argv[0]);
    else
        e = define_host(name, &h);
    if (!e)
        e = define(h, name, argv[0], text, len);
    free(text);
    return e;
}

/* Ask the guest's host for a change, and follow its job.  under: of the guest's path.  body: stolen, or NULL. */
static enum exit_code guest_change(const char *name, const char *method, const char *under, json_t *body)
{
    char path[256];
    struct host *h;
    struct answer a;
    json_t *vm;
    enum exit_code e = find_vm(name, &h, &vm);
    json_decref(vm);
    if (e) {
        json_decref(body);
        return e;
    }
    snprintf(path, sizeof(path), "/v1/vms/%s%s", name, under);
    e = ask(h, method, path, body, &a);
    if (e)
        return e;
    e = change_follow(h, &a);
    answer_free(&a);
    return e;
}

enum exit_code cmd_vm_undefine(int argc, char **argv)
{
    (void)argc;
    return guest_change(argv[0], "DELETE", "", NULL);
}

/* ---- disks and cards ---- */

enum exit_code cmd_vm_disk_attach(int argc, char **argv)
{
    char disk[512] = "";
    for (int i = 1; i < argc; i++)
        snprintf(disk + strlen(disk), sizeof(disk) - strlen(disk), "%s%s", i > 1 ? " " : "", argv[i]);
    json_t *body = json_pack("{s:s}", "disk", disk);
    if (options.fingerprint)
        json_object_set_new(body, "fingerprint", json_string(options.fingerprint));
    return guest_change(argv[0], "POST", "/disks", body);
}

/* DELETE of what the argument names.  kind: "disks" or "nics". */
static enum exit_code device_detach(char **argv, const char *kind, const char *usage)
{
    char under[64];
    if (strspn(argv[1], "abcdefghijklmnopqrstuvwxyzABCDEF0123456789:") != strlen(argv[1]) || strlen(argv[1]) > 40)
        return fail(EXIT_USAGE, "%s is %s; `godwitctl vm show %s` lists them", argv[1], usage, argv[0]);
    snprintf(under, sizeof(under), "/%s/%s", kind, argv[1]);
    return guest_change(argv[0], "DELETE", under, NULL);
}

enum exit_code cmd_vm_disk_detach(int argc, char **argv)
{
    (void)argc;
    return device_detach(argv, "disks", "no disk of a guest, which is vda, vdb, ...");
}

enum exit_code cmd_vm_nic_attach(int argc, char **argv)
{
    json_t *body = json_pack("{s:b}", "spoof", options.spoof);
    if (argc > 1)
        json_object_set_new(body, "mac", json_string(argv[1]));
    return guest_change(argv[0], "POST", "/nics", body);
}

enum exit_code cmd_vm_nic_detach(int argc, char **argv)
{
    (void)argc;
    return device_detach(argv, "nics", "no MAC address like 02:47:57:00:00:01");
}

/* ---- from the host ---- */

/* The definition of a guest, as it is.  a: a->config_source says where from. */
static enum exit_code config_get(const char *name, struct host **h, struct answer *a)
{
    char path[128];
    json_t *vm;
    enum exit_code e = find_vm(name, h, &vm);
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/config", name);
    if (!e)
        e = ask_bytes(*h, "GET", path, a);
    return e;
}

enum exit_code vm_show_config(const char *name)
{
    struct host *h;
    struct answer a;
    enum exit_code e = config_get(name, &h, &a);
    if (e)
        return e;
    if (options.json) {
        print_json(json_pack("{s:s,s:s,s:s,s:b,s:o}", "host", h->name, "name", name, "source", a.config_source,
                             "at_next_start", a.config_later[0] == 'y', "text", json_text(a.text, a.len)));
    } else {
        char *harmless = text_escape(a.text, a.len, true);
        fprintf(stderr, "# %s, from %s of %s%s\n", name,
                strcmp(a.config_source, "registry") ? a.config_source : "the registry", h->name,
                a.config_later[0] == 'y' ? "; it runs by an older one until it is started again" : "");
        fputs(harmless, stdout);
        free(harmless);
    }
    answer_free(&a);
    return EXIT_GOOD;
}

/* ---- edit ---- */

static enum exit_code editor_run(const char *path)
{
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    char *command;
    if (asprintf(&command, "%s '%s'", visual && *visual ? visual : editor && *editor ? editor : "vi", path) < 0)
        abort();
    int status = system(command);
    enum exit_code e = EXIT_GOOD;
    if (status)
        e = fail(EXIT_USAGE, "the editor ended with an error: %s", command);
    free(command);
    return e;
}

/* Write text to a new file in a temporary folder, whose name ends in the guest's. */
static enum exit_code edit_file_make(char *path, size_t path_len, const char *name, const char *text, size_t len)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, path_len, "%s/godwit-XXXXXX.%s.conf", tmp && *tmp ? tmp : "/tmp", name);
    int fd = mkstemps(path, (int)strlen(name) + 6);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f || fwrite(text, 1, len, f) != len || fclose(f))
        return fail(EXIT_CONFIG, "%s cannot be written: %s", path, strerror(errno));
    return EXIT_GOOD;
}

/* Has somebody else changed the definition meanwhile? */
static enum exit_code edit_check(const char *name, const struct answer *was)
{
    struct host *h;
    struct answer now;
    enum exit_code e = config_get(name, &h, &now);
    if (e)
        return e;
    if (now.len != was->len || memcmp(now.text, was->text, now.len) != 0)
        e = fail(EXIT_REFUSED, "the definition of %s was changed by somebody else meanwhile; nothing is changed", name);
    answer_free(&now);
    return e;
}

/* Edit until the host takes it, or the user gives up. */
static enum exit_code edit_loop(struct host *h, const char *name, const char *path, const struct answer *was)
{
    char *text = NULL, said[NAME_MAX_LEN + 32];
    size_t len;
    for (;;) {
        enum exit_code e = editor_run(path);
        free(text);
        text = NULL;
        if (!e)
            e = definition_file_read(path, &text, &len);
        if (!e && len == was->len && !memcmp(text, was->text, len)) {
            snprintf(said, sizeof(said), "%s is not changed", name);
            print_message(h, said);
            break;
        }
        if (!e)
            e = edit_check(name, was);
        if (!e)
            e = define(h, name, path, text, len);
        if (!e)
            break;
        if (e == EXIT_REFUSED && !options.yes && isatty(STDIN_FILENO) && confirmed("Edit it again?"))
            continue;
        free(text);
        fprintf(stderr, "godwitctl: your text is in %s\n", path);
        return e;
    }
    free(text);
    unlink(path);
    return EXIT_GOOD;
}

enum exit_code cmd_vm_edit(int argc, char **argv)
{
    char path[PATH_MAX];
    struct host *h;
    struct answer a;
    (void)argc;
    enum exit_code e = config_get(argv[0], &h, &a);
    if (e)
        return e;
    if (!strcmp(a.config_source, "godwit.conf"))
        e = fail(EXIT_REFUSED, "%s is defined in godwit.conf, on the boot disk of %s, and cannot be edited from here",
                 argv[0], h->name);
    if (!e)
        e = edit_file_make(path, sizeof(path), argv[0], a.text, a.len);
    if (!e)
        e = edit_loop(h, argv[0], path, &a);
    answer_free(&a);
    return e;
}

/* ---- the registry's owner ---- */

enum exit_code cmd_store_adopt(int argc, char **argv)
{
    char path[128];
    struct answer a;
    struct host *h = config_host(argv[0]);
    (void)argc;
    if (!h)
        return fail(EXIT_CONFIG, "no host is named %s in %s", argv[0], settings.path);
    if (!confirmed("The guests that the registry of volume group %s defines become those of %s.\n"
                   "If its old host still uses these disks, both will write to them.  Go on?",
                   argv[1], h->name))
        return fail(EXIT_REFUSED, "nothing is changed");
    snprintf(path, sizeof(path), "/v1/stores/%s/adopt", argv[1]);
    enum exit_code e = ask_raw(h, "POST", path, NULL, 0, &a);
    if (e)
        return e;
    e = change_follow(h, &a);
    answer_free(&a);
    return e;
}
