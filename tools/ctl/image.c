/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/image.c - a disk image on this machine: its format, its hash, and which parts of it are zeroes.
 *
 * What is not raw is converted by qemu-img into a temporary raw file, which is sparse. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (1u << 20)  /* at a time; a run of zeroes is told from data in such steps */
#define SLOW_BYTES (64u << 20) /* what is larger takes time to read */
#define DATA_MAX   (256 * (uint64_t)READ_BYTES)

#define QEMU_IMG_CORRUPT 2   /* exit code of `qemu-img check` */
#define QEMU_IMG_MISSING 127 /* it could not be run */

static char buffer[READ_BYTES], zeroes[READ_BYTES];

/* ---- format ---- */

/* The format of the file by its first bytes, as qemu-img names it; NULL: raw. */
static const char *format_of(const char *head, size_t n)
{
    static const struct {
        const char *magic, *format;
    } known[] = {
        { "QFI\xfb", "qcow2" }, { "vhdxfile", "vhdx" }, { "KDMV", "vmdk" }, { "# Disk DescriptorFile", "vmdk" },
        { "conectix", "vpc" },  { "<<< ", "vdi" },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (n >= strlen(known[i].magic) && !memcmp(head, known[i].magic, strlen(known[i].magic)))
            return known[i].format;
    return NULL;
}

/* Does a raw image begin as disks do?  A boot record, a file system without one, a CD, a volume of LVM or LUKS;
 * or is it a saved guest? */
static bool looks_like_disk(const char *head, size_t n)
{
    static const struct {
        size_t at;
        const char *magic;
    } known[] = {
        { 510, "\x55\xaa" },
        { 1080, "\x53\xef" },
        { 0, "XFSB" },
        { 65600, "_BHRfS_M" },
        { 32769, "CD001" },
        { 512, "LABELONE" },
        { 0, "LUKS\xba\xbe" },
        { 0, "hsqs" },
        { 4086, "SWAPSPACE2" },
        { 0, "GODWITMG" }, /* what `vm save` has written */
        { 0x2000 + 1372, "\x19\x54\x01\x19" },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t len = strlen(known[i].magic);
        if (n >= known[i].at + len && !memcmp(head + known[i].at, known[i].magic, len))
            return true;
    }
    return false;
}

static enum exit_code image_fail(struct image *i, const char *path, const char *what)
{
    int error = errno;
    image_close(i);
    return fail(EXIT_CONFIG, "%s: %s: %s", path, what, strerror(error));
}

/* Run `qemu-img verb`; to: NULL for check, whose messages are dropped.  *code: its exit code, -1 if a signal ended
 * it. */
static enum exit_code qemu_img(const char *verb, const char *format, const char *path, const char *to, int *code)
{
    int status = 0;
    pid_t pid = fork();
    if (!pid) {
        if (!to && !freopen("/dev/null", "w", stderr))
            _exit(1);
        execlp("qemu-img", "qemu-img", verb, "-q", "-f", format, path, to, (char *)NULL); /* to raw, if not told else */
        _exit(QEMU_IMG_MISSING);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return fail(EXIT_CONFIG, "cannot run qemu-img: %s", strerror(errno));
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return EXIT_GOOD;
}

/* Check the image and convert it: qemu-img converts a file of which the end is missing without a word, with zeroes
 * instead; only its check tells. */
static enum exit_code convert(const char *path, const char *format, const char *to)
{
    int code;
    enum exit_code e = qemu_img("check", format, path, NULL, &code);
    if (!e && code == QEMU_IMG_CORRUPT)
        return fail(EXIT_CONFIG, "%s is a damaged %s image, or its end is missing: `qemu-img check` says what is wrong",
                    path, format);
    if (!e && code != QEMU_IMG_MISSING)
        e = qemu_img("convert", format, path, to, &code);
    if (e)
        return e;
    if (code == QEMU_IMG_MISSING)
        return fail(EXIT_CONFIG,
                    "%s is a %s image, and qemu-img, which would convert it, is not installed: install "
                    "qemu-utils, or convert it to raw elsewhere",
                    path, format);
    return code ? fail(EXIT_CONFIG, "%s: qemu-img cannot convert this %s image", path, format) : EXIT_GOOD;
}

/* Replace the open file by a raw copy of it. */
static enum exit_code image_convert(struct image *i, const char *path, const char *format)
{
    const char *dir = getenv("TMPDIR");
    snprintf(i->temporary, sizeof(i->temporary), "%.3000s/godwitctl-XXXXXX", dir && *dir ? dir : "/var/tmp");
    int fd = mkstemp(i->temporary);
    if (fd < 0) {
        i->temporary[0] = 0;
        return image_fail(i, path, "no place for a raw copy in $TMPDIR or /var/tmp");
    }
    close(i->fd);
    i->fd = fd;
    if (!options.quiet)
        fprintf(stderr, "godwitctl: converting %s from %s to raw\n", path, format);
    enum exit_code e = convert(path, format, i->temporary);
    if (e)
        image_close(i);
    return e;
}

/* ---- opening ---- */

/* Read up to n bytes at `at`; less at the end only.  -1: error. */
static ssize_t read_at(int fd, char *buf, size_t n, uint64_t at)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, buf + got, n - got, (off_t)(at + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (!r)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static enum exit_code image_hash(struct image *i, const char *path)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    enum exit_code e =
        hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) ? EXIT_GOOD : fail(EXIT_CONFIG, "no SHA-256 here");
    progress_begin();
    for (uint64_t at = 0; !e && at < i->bytes;) {
        ssize_t r = read_at(i->fd, buffer, sizeof(buffer), at);
        if (r <= 0) {
            errno = r ? errno : EIO;
            e = fail(EXIT_CONFIG, "%s: byte %lu cannot be read: %s", path, at, strerror(errno));
        } else if (progress_interrupted()) {
            e = EXIT_INTERRUPTED;
        } else {
            EVP_DigestUpdate(hash, buffer, (size_t)r);
            at += (uint64_t)r;
            if (i->bytes > SLOW_BYTES)
                progress_show("%s: SHA-256, %lu %%", path, at * 100 / i->bytes);
        }
    }
    progress_end();
    if (!e) {
        EVP_DigestFinal_ex(hash, md, &n);
        fingerprint_text(md, i->sha256);
    }
    EVP_MD_CTX_free(hash);
    return e;
}

/* Open a file, and look at its first bytes. */
static enum exit_code open_any(const char *path, struct image *i, size_t *n)
{
    struct stat st;
    *i = (struct image){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
    if (i->fd < 0 || fstat(i->fd, &st) || (S_ISDIR(st.st_mode) && (errno = EISDIR)))
        return image_fail(i, path, "cannot be opened");
    ssize_t got = read_at(i->fd, buffer, sizeof(buffer), 0);
    if (got < 0)
        return image_fail(i, path, "cannot be read");
    *n = (size_t)got;
    return EXIT_GOOD;
}

/* Its length, of block devices as well, and its hash. */
static enum exit_code measure(const char *path, struct image *i)
{
    off_t end = lseek(i->fd, 0, SEEK_END);
    i->bytes = end > 0 ? (uint64_t)end : 0;
    enum exit_code e = i->bytes ? image_hash(i, path) : fail(EXIT_CONFIG, "%s is empty", path);
    if (e)
        image_close(i);
    return e;
}

enum exit_code file_open(const char *path, struct image *out)
{
    size_t n;
    enum exit_code e = open_any(path, out, &n);
    return e ? e : measure(path, out);
}

enum exit_code image_open(const char *path, struct image *out)
{
    size_t n = 0;
    enum exit_code e = open_any(path, out, &n);
    if (e || options.raw)
        return e ? e : measure(path, out);
    const char *format = format_of(buffer, n);
    if (format)
        e = image_convert(out, path, format);
    else if (n && !looks_like_disk(buffer, n))
        e = fail(EXIT_CONFIG,
                 "%s is no disk image that godwitctl knows: no partition table, no file system; --raw imports it all "
                 "the same",
                 path);
    if (!e)
        return measure(path, out);
    image_close(out);
    return e;
}

void image_close(struct image *i)
{
    if (i->fd >= 0)
        close(i->fd);
    if (i->temporary[0])
        unlink(i->temporary);
    i->fd = -1;
    i->temporary[0] = 0;
}

/* ---- parts ---- */

size_t image_read(struct image *i, uint64_t at, char *p, size_t cap)
{
    ssize_t n = read_at(i->fd, p, cap, at);
    i->failed = n <= 0;
    i->error = n < 0 ? errno : EIO;
    return n > 0 ? (size_t)n : 0;
}

uint64_t image_run(struct image *i, uint64_t at, bool *zero)
{
    uint64_t start = at;
    *zero = false;
    while (at < i->bytes && (*zero || at - start < DATA_MAX)) {
        size_t n = image_read(i, at, buffer, sizeof(buffer));
        if (!n)
            break; /* what cannot be read is sent, as far as it goes, and told then */
        bool z = n == sizeof(buffer) && !memcmp(buffer, zeroes, n);
        if (at == start)
            *zero = z;
        else if (z != *zero)
            break;
        at += n;
    }
    return at == start ? i->bytes - start : at - start;
}
