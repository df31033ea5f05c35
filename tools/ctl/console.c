/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/console.c - godwitctl vm console: a guest's serial port on this terminal, wherever the guest moves.
 *
 * The host is polled for new output many times a second.  The guest's bytes have numbers that move with it, so none is
 * lost or shown twice.  A guest that has left its host is searched; `run` tells whether it has been started anew.
 * Keys wait here until the guest takes them, so that a guest which takes none cannot hold up Ctrl-]. */
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define POLL_MS    60
#define KEY_DETACH 0x1d /* Ctrl-] */
#define KEYS_MAX   65536
#define SEND_MAX   4096 /* keys in one request */

struct console {
    const char *vm;
    struct host *h;
    uint64_t at; /* number of the next byte */
    char run[33], state[16];
    char keys[KEYS_MAX]; /* typed, and not taken by the guest */
    size_t n_keys;
    bool terminal, leave; /* standard input is one; Ctrl-] or end of input */
};

static struct termios before;

static bool raw_mode(void)
{
    if (tcgetattr(STDIN_FILENO, &before))
        return false;
    struct termios raw = before;
    cfmakeraw(&raw);
    return !tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* A guest that has left, or takes no input now, is no error: the state becomes "stopped". */
static enum exit_code console_ask(struct console *c, const char *method, const char *query, const void *raw, size_t len,
                                  struct answer *a)
{
    char path[256];
    snprintf(path, sizeof(path), "/v1/vms/%s/console%s", c->vm, query);
    enum exit_code e = ask_console(c->h, method, path, raw, len, a);
    if (e || a->status < 400)
        return e;
    snprintf(c->state, sizeof(c->state), "stopped");
    answer_free(a);
    return EXIT_GOOD;
}

/* Show output from the next byte on. */
static enum exit_code console_show(struct console *c)
{
    char query[96];
    struct answer a;
    snprintf(query, sizeof(query), "?since=%lu%s%s", c->at, *c->run ? "&run=" : "", c->run);
    enum exit_code e = console_ask(c, "GET", query, NULL, 0, &a);
    if (e || !a.status)
        return e;
    if (a.console_missed && *c->run && !strcmp(c->run, a.console_run))
        fprintf(stderr, "\r\n[%lu bytes of output are missing here: the host keeps the last 16 KiB only]\r\n",
                a.console_missed);
    if (options.json)
        print_json(json_pack("{s:s,s:s,s:o}", "host", c->h->name, "vm", c->vm, "console", json_text(a.text, a.len)));
    else
        fwrite(a.text ? a.text : "", 1, a.len, stdout);
    fflush(stdout);
    c->at = a.console_next;
    snprintf(c->run, sizeof(c->run), "%s", a.console_run);
    snprintf(c->state, sizeof(c->state), "%s", a.vm_state);
    answer_free(&a);
    return EXIT_GOOD;
}

/* Offer the keys to the guest once. */
static enum exit_code console_send(struct console *c)
{
    struct answer a;
    if (!c->n_keys)
        return EXIT_GOOD;
    enum exit_code e = console_ask(c, "POST", "", c->keys, c->n_keys < SEND_MAX ? c->n_keys : SEND_MAX, &a);
    if (e || !a.status)
        return e;
    size_t taken = get_num(a.json, "taken");
    taken = taken < c->n_keys ? taken : c->n_keys;
    memmove(c->keys, c->keys + taken, c->n_keys -= taken);
    answer_free(&a);
    return EXIT_GOOD;
}

static void console_keys_add(struct console *c, const char *keys, size_t n)
{
    size_t room = KEYS_MAX - c->n_keys;
    if (n > room)
        fprintf(stderr, "\a\r\n[%zu keys are dropped: %s takes no input]\r\n", n - room, c->vm);
    n = n < room ? n : room;
    memcpy(c->keys + c->n_keys, keys, n);
    c->n_keys += n;
}

/* Wait a moment for keys.  A terminal is always read, because of Ctrl-]; another input waits until the guest has taken
 * what was read before. */
static void console_keys_read(struct console *c)
{
    char keys[4096];
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    if (!c->terminal && c->n_keys) {
        poll(NULL, 0, POLL_MS);
        return;
    }
    if (poll(&p, 1, POLL_MS) <= 0)
        return;
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
    char *detach = n > 0 ? memchr(keys, KEY_DETACH, (size_t)n) : NULL;
    c->leave = n <= 0 || detach;
    if (n > 0)
        console_keys_add(c, keys, detach ? (size_t)(detach - keys) : (size_t)n);
}

/* The guest has stopped on its host, or is not there: find its host. */
static enum exit_code console_follow(struct console *c)
{
    json_t *found;
    struct host *now;
    enum exit_code e = find_vm(c->vm, &now, &found);
    if (e)
        return e;
    json_decref(found);
    if (now == c->h) {
        poll(NULL, 0, 5 * POLL_MS);
        return EXIT_GOOD;
    }
    fprintf(stderr, "\r\n[%s is on %s now]\r\n", c->vm, now->name);
    c->h = now;
    if (!*c->run) /* an older host: its numbers mean nothing elsewhere */
        c->at = 0;
    return EXIT_GOOD;
}

static enum exit_code console_attach(struct console *c)
{
    bool raw = c->terminal = raw_mode();
    enum exit_code e = EXIT_GOOD;
    fprintf(stderr, "console of %s on %s; Ctrl-] leaves it\r\n", c->vm, c->h->name);
    while (!e && !c->leave) {
        e = console_show(c);
        if (!e && !strcmp(c->state, "stopped"))
            e = console_follow(c);
        console_keys_read(c);
        if (!e)
            e = console_send(c);
    }
    if (raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    if (c->n_keys)
        fprintf(stderr, "\n%s has not taken the last %zu keys", c->vm, c->n_keys);
    fprintf(stderr, "\nleft the console of %s\n", c->vm);
    return e;
}

/* --send: the guest gets a line, however slowly it reads. */
static enum exit_code console_send_line(struct console *c)
{
    enum exit_code e = EXIT_GOOD;
    c->n_keys = (size_t)snprintf(c->keys, sizeof(c->keys), "%s\r", options.send);
    while (!e && c->n_keys && !(e = console_send(c)) && c->n_keys) {
        if (!strcmp(c->state, "stopped"))
            return fail(EXIT_REFUSED, "%s: %s takes no input now; `godwitctl vm show %s` says what it does", c->h->name,
                        c->vm, c->vm);
        poll(NULL, 0, POLL_MS);
    }
    if (!e && options.json)
        print_json(json_pack("{s:s,s:s,s:s}", "host", c->h->name, "vm", c->vm, "sent", options.send));
    return e;
}

enum exit_code cmd_vm_console(int argc, char **argv)
{
    static struct console c; /* large */
    json_t *vm;
    (void)argc;
    if (options.json && !options.send && !options.print_only)
        return fail(EXIT_USAGE, "--json: only with --print or --send");
    c.vm = argv[0];
    enum exit_code e = find_vm(c.vm, &c.h, &vm);
    if (e)
        return e;
    json_decref(vm);
    return options.send ? console_send_line(&c) : options.print_only ? console_show(&c) : console_attach(&c);
}
