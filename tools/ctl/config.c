/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/config.c - godwitctl's configuration file: this client's identity, the hosts and their fingerprints.
 *
 *   [client]             name, key, cert (PEM files, relative to this file)
 *   [host NAME]          address, port, fingerprint */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct settings settings;

bool fingerprint_parse(const char *text, unsigned char out[FP_LEN])
{
    unsigned n = 0;
    for (; *text; text++) {
        unsigned v;
        if (*text == ':')
            continue;
        if (n == FP_LEN || !isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
            sscanf(text, "%2x", &v) != 1)
            return false;
        out[n++] = (unsigned char)v;
        text++;
    }
    return n == FP_LEN;
}

void fingerprint_text(const unsigned char fp[FP_LEN], char out[FP_TEXT_LEN])
{
    for (unsigned i = 0; i < FP_LEN; i++)
        sprintf(out + 2 * i, "%02x", fp[i]);
}

struct host *config_host(const char *name)
{
    for (unsigned i = 0; i < settings.n_hosts; i++)
        if (!strcmp(settings.hosts[i].name, name))
            return &settings.hosts[i];
    return NULL;
}

/* Paths in the file are relative to the file's folder. */
static void set_path(char out[PATH_MAX], const char *value)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", settings.path);
    if (*value == '/')
        snprintf(out, PATH_MAX, "%s", value);
    else if (snprintf(out, PATH_MAX, "%s/%s", dirname(folder), value) >= PATH_MAX)
        out[0] = 0;
}

static bool conf_host_key(struct host *h, const char *key, const char *value)
{
    char *end;
    if (!strcmp(key, "address"))
        return snprintf(h->address, sizeof(h->address), "%s", value) < (int)sizeof(h->address);
    if (!strcmp(key, "fingerprint"))
        return fingerprint_parse(value, h->fingerprint);
    if (strcmp(key, "port"))
        return false;
    unsigned long port = strtoul(value, &end, 10);
    h->port = (unsigned)port;
    return !*end && port >= 1 && port <= 65535;
}

static bool conf_client_key(const char *key, const char *value)
{
    if (!strcmp(key, "name"))
        return snprintf(settings.name, sizeof(settings.name), "%s", value) < (int)sizeof(settings.name);
    if (!strcmp(key, "key"))
        set_path(settings.key, value);
    else if (!strcmp(key, "cert"))
        set_path(settings.cert, value);
    else
        return false;
    return true;
}

/* Parse "[client]" or "[host NAME]".  *h: the host of the following lines, NULL for the client.  False: neither. */
static bool conf_section(char *s, struct host **h)
{
    char *end = strchr(s, ']');
    *h = NULL;
    if (!end)
        return false;
    *end = 0;
    if (!strcmp(s, "client"))
        return true;
    if (strncmp(s, "host ", 5) || config_host(s + 5) || settings.n_hosts == HOSTS_MAX || !s[5] ||
        strlen(s + 5) >= NAME_MAX_LEN)
        return false;
    *h = &settings.hosts[settings.n_hosts++];
    strcpy((*h)->name, s + 5);
    (*h)->port = DEFAULT_PORT;
    return true;
}

static char *conf_trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    for (size_t n = strlen(s); n && isspace((unsigned char)s[n - 1]);)
        s[--n] = 0;
    return s;
}

static enum exit_code read_lines(FILE *f)
{
    char buf[PATH_MAX];
    struct host *h = NULL;
    for (unsigned line = 1; fgets(buf, sizeof(buf), f); line++) {
        char *s = conf_trim(buf), *value = strchr(s, '=');
        if (!*s || *s == '#' || *s == ';')
            continue;
        if (*s == '[') {
            if (!conf_section(s + 1, &h))
                return fail(EXIT_CONFIG, "%s:%u: expected [client], or [host NAME] with a name that no other host has",
                            settings.path, line);
            continue;
        }
        if (value)
            *value++ = 0;
        if (!value ||
            !(h ? conf_host_key(h, conf_trim(s), conf_trim(value)) : conf_client_key(conf_trim(s), conf_trim(value))))
            return fail(EXIT_CONFIG, "%s:%u: expected %s", settings.path, line,
                        h ? "address, port or fingerprint (64 hex digits)" : "name, key or cert in [client]");
    }
    return EXIT_GOOD;
}

enum exit_code config_load(const char *path)
{
    const char *home = getenv("HOME"), *user = getenv("USER");
    if (path)
        snprintf(settings.path, sizeof(settings.path), "%s", path);
    else
        snprintf(settings.path, sizeof(settings.path), "%s/.config/godwit/godwitctl.conf", home ? home : ".");
    snprintf(settings.name, sizeof(settings.name), "%s", user && *user ? user : "operator");
    set_path(settings.key, "client.key");
    set_path(settings.cert, "client.crt");
    FILE *f = fopen(settings.path, "r");
    if (!f)
        return errno == ENOENT ? EXIT_GOOD : fail(EXIT_CONFIG, "%s: %s", settings.path, strerror(errno));
    enum exit_code e = read_lines(f);
    fclose(f);
    return e;
}

static void make_folders(const char *path)
{
    char buf[PATH_MAX];
    snprintf(buf, sizeof(buf), "%s", path);
    for (char *p = buf + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        mkdir(buf, 0700);
        *p = '/';
    }
}

static void conf_write(FILE *f)
{
    fprintf(f,
            "# godwitctl's configuration; `godwitctl host add` writes it.\n[client]\nname = %s\nkey = %s\ncert = %s\n",
            settings.name, settings.key, settings.cert);
    for (unsigned i = 0; i < settings.n_hosts; i++) {
        char fp[FP_TEXT_LEN];
        const struct host *h = &settings.hosts[i];
        fingerprint_text(h->fingerprint, fp);
        fprintf(f, "\n[host %s]\naddress = %s\nport = %u\nfingerprint = %s\n", h->name, h->address, h->port, fp);
    }
}

/* Write a new file and rename it: a full disk must not destroy the old one. */
enum exit_code config_save(void)
{
    char scratch[PATH_MAX + 8];
    make_folders(settings.path);
    snprintf(scratch, sizeof(scratch), "%s.new", settings.path);
    FILE *f = fopen(scratch, "w");
    if (f)
        conf_write(f);
    if (!f || ferror(f) | fclose(f) || rename(scratch, settings.path))
        return fail(EXIT_CONFIG, "%s cannot be written: %s", settings.path, strerror(errno));
    return EXIT_GOOD;
}
