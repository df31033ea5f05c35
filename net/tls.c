/* SPDX-License-Identifier: BSD-2-Clause
 * net/tls.c - mutual TLS 1.2 by BearSSL; trust by certificate fingerprint.
 *
 * Trust.  No authority, name or date is checked: a certificate is trusted if and only if its SHA-256 is the fingerprint
 * that the configuration gives for a peer.  The certificate's signature need not be checked: an equal hash means the
 * same certificate.  The handshake proves possession of the private key; BearSSL checks it against the public key
 * decoded here.  So the X.509 engine below hashes the first certificate, decodes its key, and compares at the end.
 * Further certificates of the chain are ignored.
 *
 * Refusal.  BearSSL ends a failed handshake silently.  The fatal alert is added here, unencrypted, as long as this
 * host's direction is not encrypted yet.  An unknown peer learns no more than that.
 *
 * Suites: ECDHE-ECDSA on P-256 with SHA-256 only, in the order that net/cipher.c measured.  No resumption, no
 * renegotiation. */
#include "net/tls.h"

#include <bearssl.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/lib/wipe.h"
#include "net/cipher.h"
#include "net/entropy.h"
#include "net/net.h"

#define IN_LEN    (16384 + 325) /* BearSSL's largest record with its overhead, in each direction */
#define OUT_LEN   (16384 + 85)
#define ALERT_LEN 7
enum {
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_BAD_CERT = 42,
    ALERT_EXPIRED = 45,
    ALERT_CERT_UNKNOWN = 46,
    ALERT_UNKNOWN_CA = 48,
    ALERT_ACCESS_DENIED = 49
};

/* X.509 engine; BearSSL calls it through its first member, like its own engines. */
struct peer_check {
    const br_x509_class *vtable;
    br_x509_decoder_context decoder;
    br_sha256_context hash;
    uint8_t fingerprint[TLS_FP_LEN];
    unsigned n_certs;
    bool has_fingerprint, refused;
    const struct peer_config *peers; /* borrowed: the configuration lives for ever */
    unsigned n_peers;
    const char *section; /* section of the configuration that lists peers */
    const struct peer_config *found;
};
struct tls {
    union { /* both begin with their engine */
        br_ssl_engine_context eng;
        br_ssl_client_context client;
        br_ssl_server_context server;
    };
    struct peer_check check;
    bool is_client, opened, closing, failed;
    enum hv_err error;
    char reason[320];
    uint8_t alert[ALERT_LEN];
    unsigned alert_sent, alert_len;
    uint8_t in[IN_LEN], out[OUT_LEN];
};
_Static_assert(sizeof(struct tls) <= TLS_BYTES, "what page.h gives for it");
_Static_assert(!offsetof(br_ssl_client_context, eng) && !offsetof(br_ssl_server_context, eng), "the union");
_Static_assert(!offsetof(struct peer_check, vtable), "callbacks cast the vtable's address");
_Static_assert(IN_LEN >= BR_SSL_BUFSIZE_INPUT && OUT_LEN >= BR_SSL_BUFSIZE_OUTPUT, "whole records fit");

static struct {
    br_x509_certificate cert;
    br_ec_private_key key;
    uint8_t key_x[32];
    uint8_t fingerprint[TLS_FP_LEN];
    const struct cipher_choice *ciphers;
    char why[240];
} own;

/* --- the X.509 engine --- */

static void check_start_chain(const br_x509_class **ctx, const char *server_name)
{
    struct peer_check *c = (struct peer_check *)ctx;
    (void)server_name;
    c->n_certs = 0;
    c->has_fingerprint = false;
    c->found = NULL;
}
static void check_start_cert(const br_x509_class **ctx, uint32_t length)
{
    struct peer_check *c = (struct peer_check *)ctx;
    (void)length;
    if (c->n_certs)
        return;
    br_x509_decoder_init(&c->decoder, NULL, NULL);
    br_sha256_init(&c->hash);
}
static void check_append(const br_x509_class **ctx, const unsigned char *buf, size_t len)
{
    struct peer_check *c = (struct peer_check *)ctx;
    if (c->n_certs)
        return;
    br_x509_decoder_push(&c->decoder, buf, len);
    br_sha256_update(&c->hash, buf, len);
}
static void check_end_cert(const br_x509_class **ctx)
{
    struct peer_check *c = (struct peer_check *)ctx;
    if (c->n_certs++)
        return;
    br_sha256_out(&c->hash, c->fingerprint);
    c->has_fingerprint = true;
}
static unsigned check_end_chain(const br_x509_class **ctx)
{
    struct peer_check *c = (struct peer_check *)ctx;
    if (!c->has_fingerprint)
        return BR_ERR_X509_EMPTY_CHAIN;
    for (unsigned i = 0; i < c->n_peers; i++)
        if (!c->peers[i].removed && memcmp(c->peers[i].fingerprint, c->fingerprint, TLS_FP_LEN) == 0)
            c->found = &c->peers[i];
    c->refused = !c->found;
    if (c->refused)
        return BR_ERR_X509_NOT_TRUSTED;
    const br_x509_pkey *k = br_x509_decoder_get_pkey(&c->decoder);
    if (!k)
        return BR_ERR_X509_INVALID_VALUE;
    return k->key_type == BR_KEYTYPE_EC && k->key.ec.curve == BR_EC_secp256r1 ? 0 : BR_ERR_X509_WRONG_KEY_TYPE;
}
static const br_x509_pkey *check_get_pkey(const br_x509_class *const *ctx, unsigned *usages)
{
    struct peer_check *c = (struct peer_check *)ctx;
    if (usages)
        *usages = BR_KEYTYPE_SIGN;
    return c->found ? br_x509_decoder_get_pkey(&c->decoder) : NULL;
}
static const br_x509_class check_vtable = {
    sizeof(struct peer_check), check_start_chain, check_start_cert, check_append, check_end_cert,
    check_end_chain,           check_get_pkey,
};

/* --- this host's identity --- */

static bool is_pem(const uint8_t *p, size_t len) { return len > 5 && memcmp(p, "-----", 5) == 0; }

static const char *cert_load(const uint8_t *cert, size_t len, br_x509_decoder_context *dec)
{
    if (!cert || !len)
        return "is missing";
    if (is_pem(cert, len))
        return "is in PEM form, not DER; convert it with: openssl x509 -outform DER";
    br_x509_decoder_init(dec, NULL, NULL);
    br_x509_decoder_push(dec, cert, len);
    const br_x509_pkey *k = br_x509_decoder_get_pkey(dec);
    if (!k)
        return "is no X.509 certificate in DER form";
    if (k->key_type != BR_KEYTYPE_EC || k->key.ec.curve != BR_EC_secp256r1)
        return "has a key other than EC P-256";
    return NULL;
}

/** Take the key that dec has decoded; the text says what is wrong with it. */
static const char *key_take(const br_ec_private_key *k)
{
    if (!k)
        return "is no EC private key in DER form (PKCS#8 or SEC1, not encrypted)";
    if (k->curve != BR_EC_secp256r1 || k->xlen > sizeof(own.key_x))
        return "is no P-256 key";
    memcpy(own.key_x, k->x, k->xlen);
    own.key = (br_ec_private_key){ k->curve, own.key_x, k->xlen };
    return NULL;
}

static const char *key_load(const uint8_t *key, size_t len)
{
    br_skey_decoder_context dec;
    if (!key || !len)
        return "is missing";
    if (is_pem(key, len))
        return "is in PEM form, not DER; convert it with: openssl pkcs8 -topk8 -nocrypt -outform DER";
    br_skey_decoder_init(&dec);
    br_skey_decoder_push(&dec, key, len);
    const char *text = key_take(br_skey_decoder_get_ec(&dec));
    wipe(&dec, sizeof(dec)); /* it holds the key, whatever was wrong */
    return text;
}

static bool key_fits(br_x509_decoder_context *dec)
{
    uint8_t buf[BR_EC_KBUF_PUB_MAX_SIZE];
    br_ec_public_key pub;
    const br_ec_public_key *c = &br_x509_decoder_get_pkey(dec)->key.ec;
    size_t len = br_ec_compute_pub(&br_ec_p256_m31, &pub, buf, &own.key);
    return len && pub.qlen == c->qlen && memcmp(pub.q, c->q, c->qlen) == 0;
}

static enum hv_err identity_fail(const char **why, enum hv_err e, const char *file, const char *text)
{
    snprintf(own.why, sizeof(own.why), "%s %s. Make a key and a certificate with tools/mkhost and put both on the ESP",
             file, text);
    *why = own.why;
    return HV_FAIL(e);
}

void net_fingerprint(const uint8_t *der, size_t len, uint8_t out[TLS_FP_LEN])
{
    br_sha256_context h;
    br_sha256_init(&h);
    br_sha256_update(&h, der, len);
    br_sha256_out(&h, out);
}

enum hv_err tls_init(const uint8_t *cert, size_t cert_len, const char *cert_name, const uint8_t *key, size_t key_len,
                     const char *key_name, const struct entropy_seed *seed, const char **why)
{
    static br_x509_decoder_context dec;
    enum hv_err random = entropy_init(seed); /* first: lwIP takes port numbers from it, with or without TLS */
    const char *text = cert_load(cert, cert_len, &dec);
    if (text)
        return identity_fail(why, HV_E_AUTH, cert_name, text);
    text = key_load(key, key_len);
    if (text)
        return identity_fail(why, HV_E_AUTH, key_name, text);
    if (!key_fits(&dec)) {
        wipe(own.key_x, sizeof(own.key_x));
        return identity_fail(why, HV_E_AUTH, key_name, "does not belong to the certificate");
    }
    if (random != HV_OK) {
        *why = "there is no source of randomness here, and keys must not be guessable";
        return HV_FAIL(HV_E_UNSUPP);
    }
    random_source_set(entropy_bytes);
    own.cert = (br_x509_certificate){ (unsigned char *)(uintptr_t)cert, cert_len }; /* BearSSL's field lacks a const */
    net_fingerprint(cert, cert_len, own.fingerprint);
    own.ciphers = cipher_measure();
    return HV_OK;
}

const uint8_t *tls_own_fingerprint(void) { return own.fingerprint; }

void tls_fp_text(const uint8_t fp[TLS_FP_LEN], char out[TLS_FP_TEXT_LEN])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < TLS_FP_LEN; i++) {
        out[2 * i] = digits[fp[i] >> 4];
        out[2 * i + 1] = digits[fp[i] & 15];
    }
    out[2 * TLS_FP_LEN] = 0;
}

/* --- making a session --- */

static void engine_set_up(struct tls *t)
{
    const struct cipher_choice *c = own.ciphers;
    br_ssl_engine_context *e = &t->eng;
    uint8_t seed[48];
    br_ssl_engine_set_versions(e, BR_TLS12, BR_TLS12);
    br_ssl_engine_set_suites(e, c->suites, ARRAY_SIZE(c->suites));
    br_ssl_engine_set_ec(e, &br_ec_p256_m31);
    br_ssl_engine_set_ecdsa(e, br_ecdsa_i31_vrfy_asn1);
    br_ssl_engine_set_hash(e, br_sha256_ID, &br_sha256_vtable);
    br_ssl_engine_set_prf_sha256(e, br_tls12_sha256_prf);
    br_ssl_engine_set_gcm(e, &br_sslrec_in_gcm_vtable, &br_sslrec_out_gcm_vtable);
    br_ssl_engine_set_aes_ctr(e, c->aes_ctr);
    br_ssl_engine_set_ghash(e, c->ghash);
    br_ssl_engine_set_chapol(e, &br_sslrec_in_chapol_vtable, &br_sslrec_out_chapol_vtable);
    br_ssl_engine_set_chacha20(e, c->chacha20);
    br_ssl_engine_set_poly1305(e, c->poly1305);
    br_ssl_engine_set_x509(e, &t->check.vtable);
    br_ssl_engine_add_flags(e, BR_OPT_NO_RENEGOTIATION);
    br_ssl_engine_set_buffers_bidi(e, t->in, sizeof(t->in), t->out, sizeof(t->out));
    entropy_bytes(seed, sizeof(seed));
    br_ssl_engine_inject_entropy(e, seed, sizeof(seed));
    wipe(seed, sizeof(seed));
}

static struct tls *tls_create(const struct peer_config *peers, unsigned n_peers)
{
    ASSERT(own.ciphers && (peers || !n_peers)); /* tls_init succeeded */
    struct tls *t = mem_alloc(sizeof(*t));
    if (!t)
        return NULL;
    t->check.vtable = &check_vtable;
    t->check.peers = peers;
    t->check.n_peers = n_peers;
    return t;
}

struct tls *tls_client(const struct peer_config *want, const char *section)
{
    struct tls *t = tls_create(want, 1);
    if (!t)
        return NULL;
    t->is_client = true;
    t->check.section = section;
    br_ssl_client_zero(&t->client);
    engine_set_up(t);
    br_ssl_client_set_single_ec(&t->client, &own.cert, 1, &own.key, BR_KEYTYPE_SIGN, BR_KEYTYPE_EC, &br_ec_p256_m31,
                                br_ecdsa_i31_sign_asn1);
    br_ssl_client_reset(&t->client, NULL, 0);
    return t;
}

struct tls *tls_server(const struct peer_config *known, unsigned n_known, const char *section)
{
    static unsigned char any_dn[] = { 0x30, 0x00 }; /* an empty name: requests a certificate of any issuer */
    static const br_x500_name any = { any_dn, sizeof(any_dn) };
    struct tls *t = tls_create(known, n_known);
    if (!t)
        return NULL;
    t->check.section = section;
    br_ssl_server_zero(&t->server);
    engine_set_up(t);
    br_ssl_server_set_single_ec(&t->server, &own.cert, 1, &own.key, BR_KEYTYPE_SIGN, BR_KEYTYPE_EC, &br_ec_p256_m31,
                                br_ecdsa_i31_sign_asn1);
    br_ssl_server_set_trust_anchor_names(&t->server, &any, 1);
    br_ssl_server_reset(&t->server);
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    wipe(t, sizeof(*t));
    mem_free(t, sizeof(*t));
}

/* --- failing --- */

static bool is_disk(const struct tls *t) { return t->is_client && !strcmp(t->check.section, "disk"); }

static void refusal_explain(struct tls *t)
{
    char fp[TLS_FP_TEXT_LEN];
    tls_fp_text(t->check.fingerprint, fp);
    t->error = HV_E_AUTH;
    if (is_disk(t))
        snprintf(t->reason, sizeof(t->reason),
                 "%s showed a certificate with fingerprint %s, which is not the guest's disk-fingerprint; if that "
                 "server is right, correct it",
                 t->check.peers->name, fp);
    else if (t->is_client)
        snprintf(t->reason, sizeof(t->reason),
                 "%s showed a certificate with fingerprint %s, not the one of its [peer %s] section; if that "
                 "host is right, correct the fingerprint",
                 t->check.peers->name, fp, t->check.peers->name);
    else
        snprintf(t->reason, sizeof(t->reason),
                 "no [%s] has the certificate fingerprint %s; if it is to be trusted, add one", t->check.section, fp);
}

static void alert_explain(struct tls *t, int alert)
{
    char fp[TLS_FP_TEXT_LEN];
    tls_fp_text(own.fingerprint, fp);
    bool cert = (alert >= ALERT_BAD_CERT && alert <= ALERT_CERT_UNKNOWN) || alert == ALERT_UNKNOWN_CA ||
                alert == ALERT_ACCESS_DENIED;
    t->error = cert ? HV_E_AUTH : HV_E_PROTO;
    if (cert && is_disk(t))
        snprintf(t->reason, sizeof(t->reason),
                 "%s does not trust this host: it must know this host's certificate, fingerprint %s",
                 t->check.peers->name, fp);
    else if (cert)
        snprintf(t->reason, sizeof(t->reason),
                 "the peer does not trust this host; its configuration needs a [peer] with fingerprint %s", fp);
    else
        snprintf(t->reason, sizeof(t->reason), "the peer ended the session with TLS alert %d%s", alert,
                 alert == ALERT_HANDSHAKE_FAILURE ? " (handshake failure: another version?)" : "");
}

static void failure_explain(struct tls *t, int err)
{
    if (t->check.refused) {
        refusal_explain(t);
        return;
    }
    if (err >= BR_ERR_RECV_FATAL_ALERT && err < BR_ERR_SEND_FATAL_ALERT) {
        alert_explain(t, err - BR_ERR_RECV_FATAL_ALERT);
        return;
    }
    t->error = err == BR_ERR_BAD_MAC ? HV_E_DIGEST
               : err == BR_ERR_NO_CLIENT_AUTH || err == BR_ERR_BAD_SIGNATURE || err == BR_ERR_X509_EMPTY_CHAIN
                   ? HV_E_AUTH
                   : HV_E_PROTO;
    const char *text =
        err == BR_ERR_BAD_MAC                                            ? "a record was damaged or altered on the way"
        : err == BR_ERR_NO_CLIENT_AUTH || err == BR_ERR_X509_EMPTY_CHAIN ? "the peer showed no certificate"
        : err == BR_ERR_BAD_SIGNATURE ? "the peer showed a certificate without having its key"
        : err == BR_ERR_BAD_VERSION || err == BR_ERR_UNSUPPORTED_VERSION ? "the other side does not speak TLS 1.2"
                                                                         : "the other side does not follow TLS";
    if (is_disk(t) && err == BR_ERR_X509_WRONG_KEY_TYPE)
        text = "the server's certificate is for another key than EC P-256, the only one that Godwit takes";
    snprintf(t->reason, sizeof(t->reason), "%s (TLS error %d)", text, err);
}

static void alert_queue(struct tls *t, uint8_t alert)
{
    if (t->eng.out.vtable != &br_sslrec_out_clear_vtable)
        return; /* encrypted already: the peer could not read a clear alert */
    const uint8_t rec[ALERT_LEN] = { 21, 3, 3, 0, 2, 2, alert };
    memcpy(t->alert, rec, sizeof(rec));
    ASSERT(!t->alert_len); /* once */
    t->alert_len = sizeof(rec);
}

/** Update t from the engine's state, and explain a failure once.  Called after every step.  Returns BearSSL's state. */
static unsigned engine_update(struct tls *t)
{
    unsigned st = br_ssl_engine_current_state(&t->eng);
    if (st & (BR_SSL_SENDAPP | BR_SSL_RECVAPP))
        t->opened = true;
    if (st != BR_SSL_CLOSED || t->failed || br_ssl_engine_last_error(&t->eng) == BR_ERR_OK)
        return st;
    int err = br_ssl_engine_last_error(&t->eng);
    t->failed = true;
    failure_explain(t, err);
    if (err < BR_ERR_RECV_FATAL_ALERT)
        alert_queue(t, t->check.refused ? ALERT_ACCESS_DENIED : ALERT_HANDSHAKE_FAILURE);
    return st;
}

enum tls_state tls_state(struct tls *t)
{
    unsigned st = engine_update(t);
    if (t->failed)
        return TLS_FAILED;
    if (st == BR_SSL_CLOSED)
        return TLS_CLOSED;
    return t->opened ? TLS_OPEN : TLS_HANDSHAKE;
}

enum hv_err tls_error(const struct tls *t) { return t->error; }
const char *tls_reason(const struct tls *t) { return t->reason; }
const struct peer_config *tls_peer(const struct tls *t) { return t->opened ? t->check.found : NULL; }
const uint8_t *tls_seen_fingerprint(const struct tls *t)
{
    return t->check.has_fingerprint ? t->check.fingerprint : NULL;
}

const char *tls_suite_name(const struct tls *t)
{
    return t->eng.session.cipher_suite == BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256         ? "AES-128-GCM"
           : t->eng.session.cipher_suite == BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 ? "ChaCha20-Poly1305"
                                                                                             : "none";
}

/* --- moving bytes --- */

const uint8_t *tls_out_peek(struct tls *t, size_t *len)
{
    if (t->alert_sent < t->alert_len) {
        *len = t->alert_len - t->alert_sent;
        return t->alert + t->alert_sent;
    }
    return br_ssl_engine_sendrec_buf(&t->eng, len);
}

void tls_out_done(struct tls *t, size_t len)
{
    ASSERT(t->alert_sent <= t->alert_len && t->alert_len <= ALERT_LEN);
    if (t->alert_sent < t->alert_len)
        t->alert_sent += (unsigned)len;
    else
        br_ssl_engine_sendrec_ack(&t->eng, len);
    engine_update(t);
}

uint8_t *tls_in_room(struct tls *t, size_t *cap) { return br_ssl_engine_recvrec_buf(&t->eng, cap); }

void tls_in_done(struct tls *t, size_t len)
{
    ASSERT(len <= IN_LEN);
    br_ssl_engine_recvrec_ack(&t->eng, len);
    engine_update(t);
}

size_t tls_read(struct tls *t, void *buf, size_t cap)
{
    size_t n = 0;
    const uint8_t *p = br_ssl_engine_recvapp_buf(&t->eng, &n);
    if (!p || !cap)
        return 0;
    n = MIN(n, cap);
    memcpy(buf, p, n);
    br_ssl_engine_recvapp_ack(&t->eng, n);
    return n;
}

size_t tls_write(struct tls *t, const void *buf, size_t len)
{
    size_t n = 0;
    uint8_t *p = t->closing ? NULL : br_ssl_engine_sendapp_buf(&t->eng, &n);
    if (!p || !len)
        return 0;
    n = MIN(n, len);
    memcpy(p, buf, n);
    br_ssl_engine_sendapp_ack(&t->eng, n);
    return n;
}

void tls_flush(struct tls *t) { br_ssl_engine_flush(&t->eng, 0); }

void tls_close(struct tls *t)
{
    t->closing = true;
    br_ssl_engine_close(&t->eng);
}
