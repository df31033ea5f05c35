/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/console.c - godwitctl vm console: a guest's serial port on this terminal, wherever the guest moves.
 *
 * The host is polled for new output many times a second.  Both sides count the bytes, so none is lost or shown twice.
 * When the guest has left that host, its new host is searched; the count starts at 0 there. */
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define POLL_MS    60
#define KEY_DETACH 0x1d /* Ctrl-] */

static struct termios before;

static bool raw_mode(void)
{
    if (tcgetattr(STDIN_FILENO, &before))
        return false;
    struct termios raw = before;
    cfmakeraw(&raw);
    return !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* Show output since byte *at, and advance *at. */
static enum exit_code console_show(struct host *h, const char *vm, uint64_t *at, char state[16])
{
    char path[256];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/vms/%s/console?since=%lu", vm, *at);
    enum exit_code e = ask_bytes(h, path, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_pack("{s:s,s:s,s:o}", "host", h->name, "vm", vm, "console", json_text(a.text, a.len)));
    else
        fwrite(a.text ? a.text : "", 1, a.len, stdout);
    fflush(stdout);
    *at = a.console_next;
    memcpy(state, a.vm_state, sizeof(a.vm_state));
    answer_free(&a);
    return EXIT_GOOD;
}

static enum exit_code console_type(struct host *h, const char *vm, const char *keys, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "/v1/vms/%s/console", vm);
    while (len) {
        struct answer a;
        enum exit_code e = ask_raw(h, "POST", path, keys, len, &a);
        if (e)
            return e;
        size_t taken = get_num(a.json, "taken");
        answer_free(&a);
        keys += taken;
        len -= taken <= len ? taken : len;
        if (len)
            poll(NULL, 0, POLL_MS); /* the guest reads slowly */
    }
    return EXIT_GOOD;
}

/* One turn: show output, then send keys.  *leave: Ctrl-] or end of input. */
static enum exit_code console_turn(struct host *h, const char *vm, uint64_t *at, char state[16], bool *leave)
{
    char keys[256];
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    enum exit_code e = console_show(h, vm, at, state);
    if (e || poll(&p, 1, POLL_MS) <= 0)
        return e;
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
    char *detach = n > 0 ? memchr(keys, KEY_DETACH, (size_t)n) : NULL;
    *leave = n <= 0 || detach;
    return n > 0 ? console_type(h, vm, keys, detach ? (size_t)(detach - keys) : (size_t)n) : EXIT_GOOD;
}

/* The guest has stopped on *h: find its host.  *at is reset if that is another one. */
static enum exit_code console_follow(struct host **h, const char *vm, uint64_t *at)
{
    json_t *found;
    struct host *now;
    enum exit_code e = find_vm(vm, &now, &found);
    if (e)
        return e;
    json_decref(found);
    if (now == *h)
        return EXIT_GOOD;
    fprintf(stderr, "\r\n[%s is on %s now]\r\n", vm, now->name);
    *h = now;
    *at = 0;
    return EXIT_GOOD;
}

static enum exit_code console_attach(struct host *h, const char *vm)
{
    uint64_t at = 0;
    char state[16] = "";
    bool leave = false, raw = raw_mode();
    enum exit_code e = EXIT_GOOD;
    fprintf(stderr, "console of %s on %s; Ctrl-] leaves it\r\n", vm, h->name);
    while (!e && !leave) {
        e = console_turn(h, vm, &at, state, &leave);
        if (!e && !strcmp(state, "stopped")) {
            e = console_follow(&h, vm, &at);
            poll(NULL, 0, 5 * POLL_MS);
        }
    }
    if (raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    fprintf(stderr, "\nleft the console of %s\n", vm);
    return e;
}

enum exit_code cmd_vm_console(int argc, char **argv)
{
    struct host *h;
    json_t *vm;
    uint64_t at = 0;
    char state[16];
    (void)argc;
    if (options.json && !options.send && !options.print_only)
        return fail(EXIT_USAGE, "--json: only with --print or --send");
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e)
        return e;
    json_decref(vm);
    if (options.send) {
        char line[1024];
        snprintf(line, sizeof(line), "%s\r", options.send);
        e = console_type(h, argv[0], line, strlen(line));
        if (!e && options.json)
            print_json(json_pack("{s:s,s:s,s:s}", "host", h->name, "vm", argv[0], "sent", options.send));
        return e;
    }
    if (options.print_only)
        return console_show(h, argv[0], &at, state);
    return console_attach(h, argv[0]);
}
