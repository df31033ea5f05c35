/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/identity.c - this client's key (EC P-256) and self-signed certificate.  Hosts identify the client by the
 * certificate's SHA-256. */
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALID_DAYS 36500L /* not checked: trust is by fingerprint */

static X509 *certificate_for(EVP_PKEY *key)
{
    X509 *x = X509_new();
    if (!x)
        return NULL;
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400L * VALID_DAYS);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)settings.name, -1, -1, 0);
    X509_set_issuer_name(x, name);
    if (X509_sign(x, key, EVP_sha256()) > 0)
        return x;
    X509_free(x);
    return NULL;
}

/* Create a file with its final mode: nobody but the owner may read the key at any time. */
static FILE *create(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

static bool write_files(EVP_PKEY *key, X509 *cert)
{
    FILE *k = create(settings.key, 0600), *c = k ? create(settings.cert, 0644) : NULL;
    bool good = k && c && PEM_write_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL) && PEM_write_X509(c, cert);
    if (k)
        good &= !fclose(k);
    if (c)
        good &= !fclose(c);
    return good;
}

enum exit_code identity_make(bool *made)
{
    *made = false;
    if (!access(settings.key, F_OK) && !access(settings.cert, F_OK))
        return EXIT_GOOD;
    enum exit_code e = access(settings.path, F_OK) ? config_save() : EXIT_GOOD; /* also makes the folder */
    if (e)
        return e;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key ? certificate_for(key) : NULL;
    if (!cert || !write_files(key, cert))
        e = fail(EXIT_CONFIG, "cannot make %s and %s: %s", settings.key, settings.cert,
                 errno ? strerror(errno) : "OpenSSL failed");
    *made = !e;
    X509_free(cert);
    EVP_PKEY_free(key);
    return e;
}

enum exit_code identity_fingerprint(unsigned char out[FP_LEN])
{
    FILE *f = fopen(settings.cert, "r");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    unsigned n = 0;
    bool good = x && X509_digest(x, EVP_sha256(), out, &n) && n == FP_LEN;
    X509_free(x);
    if (f)
        fclose(f);
    return good ? EXIT_GOOD
                : fail(EXIT_CONFIG, "%s is no certificate in PEM form; `godwitctl key` makes one where there is none",
                       settings.cert);
}

enum exit_code cmd_key(int argc, char **argv)
{
    (void)argc, (void)argv;
    unsigned char fp[FP_LEN];
    char text[FP_TEXT_LEN];
    bool made;
    enum exit_code e = identity_make(&made);
    if (!e)
        e = identity_fingerprint(fp);
    if (e)
        return e;
    fingerprint_text(fp, text);
    if (options.json)
        print_json(json_pack("{s:s,s:s,s:s,s:b}", "name", settings.name, "fingerprint", text, "cert", settings.cert,
                             "made", made));
    else
        printf("[client %s]\nfingerprint = %s\nrole = operate\n", settings.name, text);
    if (!options.json && isatty(STDOUT_FILENO))
        fprintf(stderr, "\n%s%s.  Add these lines to godwit.conf of each host that this client may control.\n",
                made ? "made " : "this is ", settings.cert);
    return EXIT_GOOD;
}
