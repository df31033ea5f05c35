/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_config.c - every key of godwit.conf with valid and invalid values, and how far an error reaches. */
/* unit-sources: kernel/config/config.c kernel/config/config_keys.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/config/config.h"

/* The last mistake and their number. */
struct heard {
    unsigned n, line;
    char section[64], key[64], expected[160];
};

static void hear(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    struct heard *h = ctx;
    h->n++;
    h->line = line;
    snprintf(h->section, sizeof(h->section), "%s", section);
    snprintf(h->key, sizeof(h->key), "%s", key);
    snprintf(h->expected, sizeof(h->expected), "%s", expected);
}

static struct vm_config vms[CONFIG_MAX_VMS];
static struct config c = { .vms = vms, .max_vms = CONFIG_MAX_VMS };
static struct heard heard;

static void parse(const char *text)
{
    memset(&heard, 0, sizeof(heard));
    config_parse(text, strlen(text), &c, hear, &heard);
    assert_int_equal(c.n_errors, heard.n);
}

#define FP_A "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define FP_B "0f112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void test_defaults(void **state)
{
    (void)state;
    parse("");
    assert_int_equal(heard.n, 0);
    assert_string_equal(c.host.name, "godwit");
    assert_true(c.host.dhcp);
    assert_int_equal(c.host.port, 7420);
    assert_string_equal(c.host.key, "host.key");
    assert_string_equal(c.host.cert, "host.crt");
    assert_true(c.host.incoming && c.host.outgoing && c.host.lz4 && !c.host.verify);
    assert_int_equal(c.host.downtime_limit_ms, 300);
    assert_int_equal(c.host.max_jobs, 2);
    assert_int_equal(c.host.dirty_mech, DIRTY_AUTO);
    assert_int_equal(c.n_vms + c.n_peers, 0);
}

/* Keys, certificates, seed and configuration cannot become part of a guest, however they are written. */
static void test_the_hosts_own_files(void **state)
{
    (void)state;
    static const char *const own[] = { "host.key",     "HOST.KEY",   "Host.Crt",  "host.key.bak", "godwit.conf",
                                       "GODWIT.CONF~", "seed",       "Seed",      "operator.key", "ca.pem",
                                       "x.PFX",        "client.p12", "backup.DER" };
    static const char *const keys[] = { "initrd = ", "module = ", "disk = ram:", "kernel = " };
    char text[200];
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
        assert_true(config_file_is_hosts(own[i]));
        for (unsigned k = 0; k < ARRAY_SIZE(keys); k++) {
            snprintf(text, sizeof(text), "[vm web]\nmemory = 64M\n%s%s%s\n", k < 3 ? "kernel = vmlinuz\n" : "", keys[k],
                     own[i]);
            parse(text);
            assert_true(heard.n);
            assert_true(c.n_vms == 0 || (!c.vms[0].initrd[0] && !c.vms[0].modules[0] && !c.vms[0].n_disks));
        }
    }
    assert_false(config_file_is_hosts("vmlinuz") || config_file_is_hosts("keys.img") || config_file_is_hosts("key"));
    parse("[vm web]\nmemory = 64M\nkernel = vmlinuz\nmodule = host.key secret\n");
    assert_non_null(strstr(heard.expected, "16 modules"));
}

static void test_full_file(void **state)
{
    (void)state;
    parse("; a comment\n"
          "[host]\r\n"
          "name = alpha\r\n"
          "ip = 10.1.2.3/24   ; inline comment\n"
          "gateway = 10.1.2.1\n"
          "port=7000\nkey = a.key\ncert = a.crt\nincoming = no\noutgoing=off\n"
          "downtime-limit-ms = 150\nmax-jobs = 4\ndirty-log = wp\nverify = yes\nlz4 = no\n"
          "# another comment\n"
          "[peer beta]\naddress = 10.1.2.4\nport = 7001\nfingerprint = " FP_A "\n"
          "[vm  one]\nmemory = 256M\ncpus = 2\nkernel = vmlinuz\ninitrd = initrd.gz\n"
          "cmdline = console=ttyS0 a=b:c\ncpu = host\nautostart = yes\nmac = 02:00:00:00:00:01\npin = 3\n"
          "[vm two]\nkernel = vmlinuz\nmemory = 2 GiB");
    assert_int_equal(heard.n, 0);
    assert_string_equal(c.host.name, "alpha");
    assert_false(c.host.dhcp);
    assert_memory_equal(c.host.ip, ((uint8_t[]){ 10, 1, 2, 3 }), 4);
    assert_memory_equal(c.host.gateway, ((uint8_t[]){ 10, 1, 2, 1 }), 4);
    assert_int_equal(c.host.prefix_len, 24);
    assert_int_equal(c.host.port, 7000);
    assert_string_equal(c.host.key, "a.key");
    assert_string_equal(c.host.cert, "a.crt");
    assert_true(!c.host.incoming && !c.host.outgoing && !c.host.lz4 && c.host.verify);
    assert_int_equal(c.host.downtime_limit_ms, 150);
    assert_int_equal(c.host.max_jobs, 4);
    assert_int_equal(c.host.dirty_mech, DIRTY_WP);

    assert_int_equal(c.n_peers, 1);
    const struct peer_config *p = config_peer(&c, "beta");
    assert_non_null(p);
    assert_null(config_peer(&c, "gamma"));
    assert_memory_equal(p->ip, ((uint8_t[]){ 10, 1, 2, 4 }), 4);
    assert_int_equal(p->port, 7001);
    assert_int_equal(p->fingerprint[1], 0x11);
    assert_int_equal(p->fingerprint[31], 0xff);

    assert_int_equal(c.n_vms, 2);
    const struct vm_config *v = &c.vms[0];
    assert_string_equal(v->name, "one");
    assert_int_equal(v->memory_bytes, 256 * MIB);
    assert_int_equal(v->n_cpus, 2);
    assert_string_equal(v->kernel, "vmlinuz");
    assert_string_equal(v->initrd, "initrd.gz");
    assert_string_equal(v->cmdline, "console=ttyS0 a=b:c");
    assert_string_equal(v->cpu, "host");
    assert_true(v->autostart);
    assert_memory_equal(v->nic[0].mac, ((uint8_t[]){ 2, 0, 0, 0, 0, 1 }), 6);
    assert_int_equal(v->pin, 3);

    v = &c.vms[1];
    assert_int_equal(v->memory_bytes, 2 * GIB);
    assert_int_equal(v->n_cpus, 1);
    assert_int_equal(v->pin, -1);
    assert_false(v->autostart);
    assert_string_equal(v->initrd, "");
    assert_int_equal(v->nic[0].mac[0], 2);
}

/* Two network cards with one address: the second VM is left out.  VMs without a card may share it. */
static void test_mac_twice(void **state)
{
    (void)state;
    parse("[vm a]\nmemory = 64M\nkernel = k\nnic = yes\nmac = 02:00:00:00:00:01\n"
          "[vm b]\nmemory = 64M\nkernel = k\nmac = 02:00:00:00:00:01\n"
          "[vm c]\nmemory = 64M\nkernel = k\nmac = 02:00:00:00:00:01\nnic = yes\n"
          "[vm d]\nmemory = 64M\nkernel = k\nmac = 02:00:00:00:00:02\nnic = yes\n");
    assert_int_equal(heard.n, 1);
    assert_string_equal(heard.section, "vm c");
    assert_string_equal(heard.key, "mac");
    assert_int_equal(c.n_vms, 3);
    assert_string_equal(c.vms[2].name, "d");
}

static void test_clients(void **state)
{
    (void)state;
    parse("[host]\napi-port = 0\n[client a]\nfingerprint = " FP_A "\nrole = operate\n[client b]\nfingerprint = " FP_B
          "\n");
    assert_int_equal(heard.n, 0);
    assert_int_equal(c.host.api_port, 0);
    assert_int_equal(c.n_clients, 2);
    assert_int_equal(c.clients[0].trust, TRUST_OPERATE);
    assert_int_equal(c.clients[1].trust, TRUST_READ);
    assert_string_equal(c.clients[1].name, "b");
    assert_int_equal(c.clients[0].fingerprint[1], 0x11);
    parse("[client a]\n[client b]\nfingerprint = " FP_A "\n[client c]\nfingerprint = " FP_A
          "\n[client b]\n[client d]\nrole = root\nfingerprint = 12\n"
          "[peer p]\naddress = 10.0.0.1\nfingerprint = " FP_A "\n");
    assert_int_equal(c.n_clients, 1); /* a: none; c: the same; b: twice; d: not valid */
    assert_int_equal(c.n_peers, 1);   /* a host may be both */
    assert_int_equal(c.host.api_port, CONFIG_DEFAULT_API_PORT);
    assert_int_equal(heard.n, 6);
}

/* One key in an otherwise good section: is it taken, and if not, is exactly it reported? */
struct value_case {
    const char *section, *key, *value;
    bool good;
};
/* clang-format off */
static const struct value_case value_cases[] = {
    { "host", "name", "a", true }, { "host", "name", "Node_1.lab-2", true }, { "host", "name", "", false },
    { "host", "name", "-a", false },
    { "host", "name", "a b", false }, { "host", "name", "a/b", false },
    { "host", "name", "0123456789012345678901234567890", true },
    { "host", "name", "01234567890123456789012345678901", false },
    { "host", "ip", "dhcp", true }, { "host", "ip", "1.2.3.4/30", true }, { "host", "ip", "1.2.3.4", false },
    { "host", "ip", "1.2.3/24", false },
    { "host", "ip", "1.2.3.256/24", false }, { "host", "ip", "1.2.3.4/31", false },
    { "host", "ip", "1.2.3.4/0", false },
    { "host", "ip", "1.2.3.4/24x", false }, { "host", "ip", "224.0.0.1/24", false }, { "host", "ip", "", false },
    { "host", "ip", "0.1.2.3/24", false }, { "host", "ip", "127.0.0.1/8", false },
    { "host", "ip", "1.2.3.4.5/24", false },
    { "host", "gateway", "10.0.0.1", true }, { "host", "gateway", "10.0.0", false },
    { "host", "gateway", "10.0.0.1/24", false },
    { "host", "gateway", "255.255.255.255", false },
    { "host", "port", "1", true }, { "host", "port", "65535", true }, { "host", "port", "0", false },
    { "host", "port", "65536", false },
    { "host", "port", "-1", false }, { "host", "port", "7420 ", true }, { "host", "port", "0x10", false },
    { "host", "port", "99999999999999999999999", false },
    { "host", "key", "k.der", true }, { "host", "key", "a/b", false }, { "host", "key", "a\\b", false },
    { "host", "key", "", false },
    { "host", "cert", "c.der", true }, { "host", "cert", "/c", false },
    { "host", "incoming", "yes", true }, { "host", "incoming", "maybe", false }, { "host", "outgoing", "0", true },
    { "host", "outgoing", "", false }, { "host", "verify", "true", true }, { "host", "verify", "2", false },
    { "host", "lz4", "on", true },
    { "host", "lz4", "ON", false },
    { "host", "downtime-limit-ms", "1", true }, { "host", "downtime-limit-ms", "60000", true },
    { "host", "downtime-limit-ms", "0", false }, { "host", "downtime-limit-ms", "60001", false },
    { "host", "downtime-limit-ms", "300ms", false },
    { "host", "max-jobs", "16", true }, { "host", "max-jobs", "17", false }, { "host", "max-jobs", "0", false },
    { "host", "max-storage-jobs", "3", true }, { "host", "max-storage-jobs", "0", false },
    { "host", "dirty-log", "auto", true }, { "host", "dirty-log", "wp", true }, { "host", "dirty-log", "ad", true },
    { "host", "dirty-log", "pml", true }, { "host", "dirty-log", "fast", false },
    { "host", "no-such-key", "1", false }, { "host", "memory", "256M", false },
    { "peer p", "address", "10.0.0.2", true }, { "peer p", "address", "ten", false },
    { "peer p", "address", "10.0.0.2.", false },
    { "peer p", "address", "0.0.0.0", false },
    { "peer p", "address", "10.0.0.2, 10.1.0.2 ,10.2.0.2,10.3.0.2", true },
    { "peer p", "address", "10.0.0.2,10.1.0.2,10.2.0.2,10.3.0.2,10.4.0.2", false },
    { "peer p", "address", "10.0.0.2,", false }, { "peer p", "address", ",10.0.0.2", false },
    { "peer p", "address", "10.0.0.2 10.1.0.2", false },
    { "host", "networks", "10.7.0.0/24", true }, { "host", "networks", "10.7.0.0/24, 192.168.0.0/16", true },
    { "host", "disk-servers", "10.7.0.9/32, 192.168.0.0/16", true }, { "host", "disk-servers", "10.7.0.9", false },
    { "host", "disk-servers", "0.0.0.0/0", true },
    { "host", "networks", "10.7.0.0", false },
    { "host", "networks", "10.7.0.0/33", false }, { "host", "networks", "10.7.0.0/24,", false },
    { "host", "networks", "any", false },
    { "host", "networks", "1.0.0.0/8,2.0.0.0/8,3.0.0.0/8,4.0.0.0/8,5.0.0.0/8,6.0.0.0/8,7.0.0.0/8,8.0.0.0/8,9.0.0.0/8",
      false },
    { "host", "bandwidth-limit-mb", "0", true }, { "host", "bandwidth-limit-mb", "100000", true },
    { "host", "bandwidth-limit-mb", "10M", false },
    { "vm v", "autostart", "always", true }, { "vm v", "on-shutdown", "evacuate", true },
    { "vm v", "on-shutdown", "stop", true },
    { "vm v", "on-shutdown", "refuse", true }, { "vm v", "on-shutdown", "yes", false },
    { "peer p", "port", "7421", true }, { "peer p", "port", "seven", false },
    { "peer p", "fingerprint", FP_A, true }, { "peer p", "fingerprint", FP_A "00", false },
    { "peer p", "fingerprint", "0011", false },
    { "peer p", "fingerprint", "zz112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF", false },
    { "peer p", "fingerprint",
      "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF", true },
    { "vm v", "memory", "16M", true }, { "vm v", "memory", "1024G", true }, { "vm v", "memory", "1025G", false },
    { "vm v", "memory", "14M", false },
    { "vm v", "memory", "17M", false }, { "vm v", "memory", "256", false }, { "vm v", "memory", "256MB", false },
    { "vm v", "memory", "", false },
    { "vm v", "memory", "99999999999999999999G", false }, { "vm v", "memory", "512 MiB", true },
    { "vm v", "memory", "-2G", false },
    { "vm v", "cpus", "8", true }, { "vm v", "cpus", "65", false }, { "vm v", "cpus", "0", false },
    { "vm v", "cpus", "two", false },
    { "vm v", "kernel", "bzImage", true }, { "vm v", "kernel", "boot/bzImage", false }, { "vm v", "kernel", "", false },
    { "vm v", "initrd", "i.gz", true }, { "vm v", "initrd", "", true }, { "vm v", "initrd", "a\\b", false },
    { "vm v", "module", "a.bin", true }, { "vm v", "module", "a.bin x=1 y,\"z\"", true },
    { "vm v", "module", "a/b", false }, { "vm v", "module", "", false },
    { "vm v", "module", "a.bin x\ty", false },
    { "vm v", "module", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef x", false },
    { "vm v", "cmdline", "quiet splash", true }, { "vm v", "cmdline", "", true }, { "vm v", "cmdline", "a\tb", false },
    { "vm v", "cpu", "host", true }, { "vm v", "cpu", "pentium", false },
    { "vm v", "cpu", "x86-64-v1", true }, { "vm v", "cpu", "x86-64-v4", true }, { "vm v", "cpu", "pool", true },
    { "vm v", "cpu", "x86-64-v5", false }, { "vm v", "cpu", "x86-64-v", false },
    { "vm v", "cpu", "x86-64-v22", false }, { "vm v", "cpu", "", false },
    { "host", "pool-cpuid", "pool.txt", true }, { "host", "pool-cpuid", "a\\b", false },
    { "vm v", "autostart", "yes", true }, { "vm v", "autostart", "later", false },
    { "vm v", "mac", "02:aa:Bb:00:00:01", true }, { "vm v", "mac", "03:aa:bb:00:00:01", false },
    { "vm v", "mac", "02aabb000001", false },
    { "vm v", "mac", "02:aa:bb:00:00", false }, { "vm v", "mac", "02:aa:bb:00:00:01:02", false },
    { "vm v", "nic", "yes", true }, { "vm v", "nic", "e1000", false },
    { "vm v", "spoof", "allow", true }, { "vm v", "spoof", "deny", true }, { "vm v", "spoof", "yes", false }, { "vm v", "rng", "no", true },
    { "vm v", "rng", "", false },
    { "vm v", "balloon", "off", true }, { "vm v", "balloon", "1G", false }, { "vm v", "console", "virtio", true },
    { "vm v", "console", "serial", true },
    { "vm v", "console", "hvc0", false }, { "vm v", "disk", "ram:64M", true }, { "vm v", "disk", "ram:2M", true },
    { "vm v", "disk", "ram:image.raw", true },
    { "vm v", "disk", "ram:", false }, { "vm v", "disk", "image.raw", false }, { "vm v", "disk", "ram:a/b", false },
    { "vm v", "disk", "", false },
    { "host", "mitigations", "auto", true }, { "host", "mitigations", "off", true },
    { "host", "mitigations", "on", false }, { "host", "mitigations", "", false },
    { "host", "guest-cpus", "all", true }, { "host", "guest-cpus", "1-3,5", true },
    { "host", "guest-cpus", "0-63", true }, { "host", "guest-cpus", "64", false },
    { "host", "guest-cpus", "3-1", false }, { "host", "guest-cpus", "1,", false }, { "host", "guest-cpus", "", false },
    { "host", "guest-cpus", "1-", false },
    { "vm v", "disk", "nbd:10.0.0.5/web", true }, { "vm v", "disk", "nbd:10.0.0.5:1/a/b", true },
    { "vm v", "disk", "nbd:10.0.0.5/", true },
    { "vm v", "disk-fingerprint", "0011", false },
    { "vm v", "disk", "nbd:10.0.0.5", false }, { "vm v", "disk", "nbd:server/web", false },
    { "vm v", "disk", "nbd:10.0.0.5:0/web", false },
    { "vm v", "disk", "nbd:10.0.0.5:65536/web", false }, { "vm v", "disk", "nbd:127.0.0.1/web", false },
    { "vm v", "disk", "nbd:10.0.0.5/a b", false },
    { "vm v", "pin", "any", true }, { "vm v", "pin", "63", true }, { "vm v", "pin", "64", false },
    { "vm v", "pin", "-1", false },
};
/* clang-format on */

static void test_guest_cpus(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t mask;
    } cases[] = {
        { "[host]\nguest-cpus = 1-3,5\n", 0x2e },
        { "[host]\nguest-cpus = 0-63\n", UINT64_MAX },
        { "[host]\nguest-cpus = 63\n", UINT64_C(1) << 63 },
        { "[host]\nname = a\n", UINT64_MAX },
        { "[host]\nguest-cpus = 2\nguest-cpus = nonsense\n", 4 },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        config_parse(cases[i].text, strlen(cases[i].text), &c, NULL, NULL);
        assert_true(c.host.guest_cpus == cases[i].mask);
    }
}

static void test_devices(void **state)
{
    (void)state;
    const char *text =
        "[vm a]\nmemory = 64M\nkernel = k\n"
        "[vm b]\nmemory = 64M\nkernel = k\nnic = yes\nrng = no\nballoon = no\nconsole = virtio\ndisk = ram:6M\n"
        "[vm c]\nmemory = 64M\nkernel = k\ndisk = ram:7M\n"
        "[vm d]\nmemory = 64M\nkernel = k\ndisk = nbd:10.0.0.5:10810/pool/web\n"
        "[vm e]\nmemory = 64M\nkernel = k\ndisk = nbd:10.0.0.5/\n";
    config_parse(text, strlen(text), &c, NULL, NULL);
    assert_int_equal(c.n_errors, 0);
    const struct vm_config *a = &c.vms[0], *b = &c.vms[1];
    assert_true(a->rng && a->balloon && !a->n_nics && !a->hvc && !a->n_disks);
    assert_true(b->n_nics == 1 && b->n_disks == 1 && b->hvc && !b->rng && !b->balloon);
    assert_int_equal(b->disk[0].bytes, 6 * MIB);
    assert_string_equal(c.vms[2].disk[0].file, "7M"); /* no size that a disk can have: a file's name */
    assert_memory_equal(c.vms[3].disk[0].nbd.ip, "\x0a\0\0\5", 4);
    assert_int_equal(c.vms[3].disk[0].nbd.port, 10810);
    assert_string_equal(c.vms[3].disk[0].nbd.name, "pool/web");
    assert_true(c.vms[4].disk[0].kind == DISK_ON_NBD && c.vms[4].disk[0].nbd.port == CONFIG_DEFAULT_NBD_PORT &&
                !c.vms[4].disk[0].nbd.name[0]);
}

/* A disk that is to be encrypted is never reached without: the VM is left out when its fingerprint is bad, or its disk
 * is none that could be. */
/* The one key that may come again; what is too much is refused line by line, the rest stands. */
static void test_modules(void **state)
{
    (void)state;
    char text[9000] = "[vm v]\nmemory = 16M\nkernel = k\nmodule = dom0   root=/dev/vda  ro ; the first\nmodule = "
                      "a/b\nmodule = policy.bin\n",
         file[CONFIG_PATH_LEN];
    const char *string, *m = NULL;
    parse(text);
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.line, 5);
    assert_string_equal(heard.key, "module");
    assert_non_null(m = config_module_next(&c.vms[0], m, file, &string));
    assert_string_equal(file, "dom0");
    assert_string_equal(string, "root=/dev/vda  ro");
    assert_non_null(m = config_module_next(&c.vms[0], m, file, &string));
    assert_string_equal(file, "policy.bin");
    assert_string_equal(string, "");
    assert_null(config_module_next(&c.vms[0], m, file, &string));
    for (unsigned i = 0; i < CONFIG_MAX_MODULES; i++)
        strcat(text, "module = more\n");
    parse(text);
    assert_int_equal(heard.n, 1 + 2); /* 2 + 16 are two too many */
    parse("[vm v]\nmemory = 16M\nkernel = k\n");
    memset(text, 'x', 1022); /* a file, a blank, and its string up to the last character that fits */
    memcpy(text, "a.bin ", 6);
    text[1022] = 0;
    assert_true(config_module_add(&c.vms[0], text));
    assert_false(config_module_add(&c.vms[0], "b"));
    assert_null(config_module_next(&c.vms[0], config_module_next(&c.vms[0], NULL, file, &string), file, &string));
    memset(c.vms[0].modules, 0, sizeof(c.vms[0].modules));
    text[1022] = 'x', text[1023] = 0;
    assert_false(config_module_add(&c.vms[0], text));
    assert_null(config_module_next(&c.vms[0], NULL, file, &string));
}

/* Each line `disk` and `nic` is one more; what stands below is its own, what stands above the first is that one's. */
static void test_several_disks_and_cards(void **state)
{
    (void)state;
    static const char fp[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef1";
    char text[900];
    snprintf(text, sizeof(text),
             "[vm a]\nmemory = 64M\nkernel = k\ndisk-fingerprint = %s\ndisk = nbd:10.0.0.5/root serial=root-1\n"
             "disk = lv:pool/data read-only\ndisk = ram:my image 2 serial=s  read-only\ndisk = ram:64M\n"
             "disk = nbd:10.0.0.6/two\ndisk-fingerprint = %s\n"
             "spoof = allow\nnic = yes\nnic = yes\nmac = 02:00:00:00:00:07\nnic = no\nnic = yes\nspoof = allow\n",
             fp, fp);
    config_parse(text, strlen(text), &c, NULL, NULL);
    assert_int_equal(c.n_errors, 0);
    const struct vm_config *v = &c.vms[0];
    const struct disk_config *d = v->disk;
    assert_true(v->n_disks == 5 && v->n_nics == 3);
    assert_true(d[0].kind == DISK_ON_NBD && d[0].nbd.tls && !d[0].read_only && d[0].nbd.fingerprint[31] == 0xf1);
    assert_string_equal(d[0].serial, "root-1");
    assert_true(d[1].kind == DISK_ON_LV && d[1].read_only && !strcmp(d[1].lv.lv, "data"));
    assert_true(d[2].kind == DISK_IN_RAM && d[2].read_only && !strcmp(d[2].file, "my image 2"));
    assert_string_equal(d[2].serial, "s");
    assert_true(d[3].bytes == 64 * MIB && config_ram_disk_at(v, 5) == 64 * MIB && config_ram_disk_at(v, 3) == 0);
    assert_true(d[4].nbd.tls && d[4].nbd.ip[3] == 6);
    assert_true(config_disk_server_allowed(&c, (const uint8_t[]){ 10, 0, 0, 6 }));
    assert_true(v->nic[0].spoof && !v->nic[1].spoof && v->nic[2].spoof && v->nic[1].mac[5] == 7);
    assert_true(v->nic[0].mac[1] == 'G' && memcmp(v->nic[0].mac, v->nic[2].mac, 6) != 0);
}

/* A guest whose disks would change their places, or go unencrypted, is left out. */
static void test_mistakes_of_several(void **state)
{
    (void)state;
    static const char fp[] = "disk-fingerprint = 00112233445566778899aabbccddeeff00112233445566778899aabbccddeef1\n";
    static const struct {
        const char *lines, *more;
        unsigned n_vms, n_disks, n_nics;
    } cases[] = {
        { "disk = floppy\n", "", 1, 0, 0 },
        { "disk = floppy\ndisk = ram:2M\n", "", 0, 0, 0 },
        { "disk = ram:2M\ndisk = floppy\n", "", 0, 0, 0 },
        { "disk = nbd:10.0.0.5/a\ndisk = ram:2M\n", fp, 0, 0, 0 },
        { "disk = nbd:10.0.0.5/a\ndisk = ram:2M\n", "disk-fingerprint = 12\n", 0, 0, 0 },
        { "disk = ram:2M serial=\n", "", 1, 1, 0 }, /* a file of that name */
        { "disk = lv:a/b serial=012345678901234567890\n", "", 1, 0, 0 },
        { "nic = yes\nmac = 02:00:00:00:00:07\nmac = 02:00:00:00:00:08\n", "", 1, 0, 1 },
        { "nic = yes\nmac = 02:00:00:00:00:07\nnic = yes\nmac = 02:00:00:00:00:07\n", "", 0, 0, 0 },
        { "nic=yes\nnic=yes\nnic=yes\nnic=yes\nnic=yes\nnic=yes\nnic=yes\nnic=yes\nnic=yes\n", "", 1, 0, 8 },
        { "disk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\n"
          "disk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\ndisk=ram:2M\n",
          "disk=ram:2M\n", 0, 0, 0 },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[700];
        snprintf(text, sizeof(text), "[vm a]\nmemory = 64M\nkernel = k\n%s%s", cases[i].lines, cases[i].more);
        config_parse(text, strlen(text), &c, NULL, NULL);
        assert_int_equal(c.n_vms, cases[i].n_vms);
        assert_int_equal(c.n_errors > 0, i != 5);
        if (c.n_vms)
            assert_true(c.vms[0].n_disks == cases[i].n_disks && c.vms[0].n_nics == cases[i].n_nics);
    }
}

static void test_disk_fingerprint(void **state)
{
    (void)state;
    static const char fp[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef1";
    for (unsigned kind = 0; kind < 6; kind++) {
        char text[400];
        snprintf(text, sizeof(text), "[vm a]\nmemory = 64M\nkernel = k\n%s%s\n%s%s\n[vm b]\nmemory = 64M\nkernel = k\n",
                 kind == 1 ? "" : "disk-fingerprint = ",
                 kind == 1   ? ""
                 : kind == 2 ? "12"
                             : fp,
                 kind == 3   ? ""
                 : kind == 4 ? "disk = ram:64M"
                             : "disk = nbd:10.0.0.5/web",
                 kind == 5 ? "\ndisk-fingerprint = 12" : "");
        config_parse(text, strlen(text), &c, NULL, NULL);
        bool whole = kind <= 1 || kind == 5; /* 5: the second one is a mistake, the first stands */
        assert_int_equal(c.n_vms, whole ? 2 : 1);
        assert_int_equal(c.n_errors > 0, kind >= 2);
        if (!whole) {
            assert_string_equal(c.vms[0].name, "b");
            continue;
        }
        assert_true(c.vms[0].disk[0].nbd.tls == (kind != 1) && c.vms[0].disk[0].nbd.port);
        if (kind != 1)
            assert_true(c.vms[0].disk[0].nbd.fingerprint[0] == 0 && c.vms[0].disk[0].nbd.fingerprint[31] == 0xf1);
    }
}

static void test_each_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(value_cases); i++) {
        const struct value_case *t = &value_cases[i];
        char text[512];
        bool is_vm = !strncmp(t->section, "vm", 2), is_peer = !strncmp(t->section, "peer", 4);
        snprintf(text, sizeof(text), "[%s]\n%s = %s\n%s%s%s%s", t->section, t->key, t->value,
                 is_vm && strcmp(t->key, "memory") ? "memory = 64M\n" : "",
                 is_vm && strcmp(t->key, "kernel") ? "kernel = k\n" : "",
                 is_peer && strcmp(t->key, "address") ? "address = 10.0.0.9\n" : "",
                 is_peer && strcmp(t->key, "fingerprint") ? "fingerprint = " FP_B "\n" : "");
        struct heard first = { 0 };
        config_parse(text, strlen(text), &c, NULL, NULL); /* without a listener mistakes are still counted */
        if ((c.n_errors == 0) != t->good)
            fail_msg("[%s] %s = \"%s\": %u mistakes, expected %s", t->section, t->key, t->value, c.n_errors,
                     t->good ? "none" : "one");
        parse(text);
        first = heard;
        if (!t->good) {
            assert_string_equal(first.key, t->key);
            assert_string_equal(first.section, t->section);
            assert_true(first.line == 2 || first.line == 1); /* 1: the dropped section, said last */
            assert_true(strlen(first.expected) > 5);
        }
    }
}

static void test_mistakes_cost_only_themselves(void **state)
{
    (void)state;
    parse("[host]\nname = ok\nport = none\nmax-jobs = 3\n"
          "[vm bad]\ncpus = 2\n"
          "[vm good]\nmemory = 64M\nkernel = k\n"
          "[peer bad]\naddress = 10.0.0.1\n"
          "[peer good]\naddress = 10.0.0.2\nfingerprint = " FP_A "\n");
    assert_string_equal(c.host.name, "ok");
    assert_int_equal(c.host.port, 7420);
    assert_int_equal(c.host.max_jobs, 3);
    assert_int_equal(c.n_vms, 1);
    assert_string_equal(c.vms[0].name, "good");
    assert_int_equal(c.n_peers, 1);
    assert_string_equal(c.peers[0].name, "good");
    assert_int_equal(heard.n, 4); /* port; memory and kernel of vm bad; fingerprint of peer bad */
    assert_int_equal(heard.line, 10);
    assert_string_equal(heard.section, "peer bad");
    assert_string_equal(heard.key, "fingerprint");
}

static void test_last_section_is_checked(void **state)
{
    (void)state;
    parse("[vm v]\nmemory = 64M\n");
    assert_int_equal(c.n_vms, 0);
    assert_int_equal(heard.n, 1);
    assert_string_equal(heard.key, "kernel");
}

struct text_case {
    const char *text;
    unsigned n_errors, line;
};
static void test_structure(void **state)
{
    (void)state;
    static const struct text_case cases[] = {
        { "name = a\n", 1, 1 },                   /* before any section */
        { "[host]\n\nname\n", 1, 3 },             /* no '=' */
        { "[hosts]\nname = a\nfoo = b\n", 1, 1 }, /* unknown section: one message */
        { "[host\nname = a\n", 1, 1 },            /* no ']' */
        { "[host]\n[vm a\nmemory = 1\n[vm b\n", 2, 4 },
        { "[vm]\nmemory = 64M\n", 1, 1 },
        { "[vm -x]\n", 1, 1 },
        { "[vmx]\n", 1, 1 },
        { "[peer]\n", 1, 1 },
        { "[host]\nname = a\nname = b\n", 1, 3 },
        { "[vm a]\nmemory=64M\nkernel=k\n[vm a]\nmemory=32M\nkernel=k\n", 1, 4 },
        { "[peer a]\naddress=1.2.3.4\nfingerprint=" FP_A "\n[peer b]\naddress=1.2.3.5\nfingerprint=" FP_A "\n", 1, 4 },
        { "[host]\nip = 10.0.0.1/24\ngateway = 10.0.1.1\n", 1, 3 },
        { "[host]\ngateway = 10.0.1.1\nip = 10.0.0.1/23\n", 0, 0 },
        { "[host]\n= 5\n", 1, 2 },
        { "[host] name = a\n", 1, 1 },
        { "  [ vm x ]  ; comment\n memory = 64M;x\nkernel = k\n", 2, 1 },
        { "\xef\xbb\xbf[host]\nname = bom\n", 0, 0 },
        { "\n\n  ; only comments\n# here", 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        parse(cases[i].text);
        if (heard.n != cases[i].n_errors || heard.line != cases[i].line)
            fail_msg("case %zu: %u mistakes, last in line %u (%s: %s)", i, heard.n, heard.line, heard.key,
                     heard.expected);
    }
}

static void test_long_lines(void **state)
{
    (void)state;
    static char text[4096];
    for (unsigned n = 1000; n <= 1500; n += 1) {
        int at = snprintf(text, sizeof(text), "[vm v]\nmemory = 64M\nkernel = k\ncmdline = ");
        memset(text + at, 'x', n);
        snprintf(text + at + n, sizeof(text) - (size_t)at - n, "\ncpus = 2\n");
        parse(text);
        assert_int_equal(c.n_vms, 1);
        assert_int_equal(c.vms[0].n_cpus, 2);
        assert_int_equal(strlen(c.vms[0].cmdline), n <= 1023 ? n : 0);
        assert_int_equal(heard.n, n > 1023);
    }
}

static void test_bytes_that_are_no_text(void **state)
{
    (void)state;
    static const char text[] = "[host]\nname = a\0b\nport = 7\n";
    memset(&heard, 0, sizeof(heard));
    config_parse(text, sizeof(text) - 1, &c, hear, &heard);
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.line, 2);
    assert_int_equal(c.host.port, 7);
}

static void test_too_many(void **state)
{
    (void)state;
    static char text[32768];
    size_t at = 0;
    for (unsigned i = 0; i < CONFIG_MAX_VMS + 2; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "[vm v%u]\nmemory = 64M\nkernel = k\n", i);
    for (unsigned i = 0; i < CONFIG_MAX_PEERS + 1; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "[peer p%u]\naddress = 10.0.0.%u\nfingerprint = %064u\n",
                               i, i + 1, i);
    parse(text);
    assert_int_equal(c.n_vms, CONFIG_MAX_VMS);
    assert_int_equal(c.n_peers, CONFIG_MAX_PEERS);
    assert_int_equal(heard.n, 3);
}

static void test_mac_follows_the_name(void **state)
{
    (void)state;
    uint8_t first[6];
    parse("[vm a]\nmemory=64M\nkernel=k\n[vm b]\nmemory=64M\nkernel=k\n");
    memcpy(first, c.vms[0].nic[0].mac, 6);
    assert_memory_not_equal(c.vms[0].nic[0].mac, c.vms[1].nic[0].mac, 6);
    parse("[vm z]\nmemory=64M\nkernel=k\n[vm a]\nmemory=64M\nkernel=k\n");
    assert_memory_equal(first, c.vms[1].nic[0].mac, 6);
}

/* The example in docs/config.md must be accepted as it stands. */
static void test_documented_example(void **state)
{
    (void)state;
    static char doc[65536];
    FILE *f = fopen("docs/config.md", "r");
    assert_non_null(f);
    size_t n = fread(doc, 1, sizeof(doc) - 1, f);
    fclose(f);
    doc[n] = 0;
    char *start = strstr(doc, "```ini\n");
    assert_non_null(start);
    start += strlen("```ini\n");
    char *end = strstr(start, "```");
    assert_non_null(end);
    *end = 0;
    parse(start);
    if (heard.n)
        fail_msg("line %u [%s] %s: expected %s", heard.line, heard.section, heard.key, heard.expected);
    assert_int_equal(c.n_vms, 1);
    assert_int_equal(c.n_peers, 1);
}

/* One file for all hosts lists each of them: the own fingerprint shows which one this is. */
static void test_self(void **state)
{
    (void)state;
    uint8_t own[32];
    const char *all = "[host]\nip = 10.0.0.2/24\n[peer a]\naddress = 10.0.0.1\nfingerprint = " FP_A
                      "\n[peer b]\naddress = 10.0.0.9\nfingerprint = " FP_B "\n";
    parse(all);
    memcpy(own, c.peers[0].fingerprint, sizeof(own));
    config_self_drop(&c, own);
    assert_int_equal(c.n_peers, 1);
    assert_string_equal(c.peers[0].name, "b");
    assert_string_equal(c.host.name, "a"); /* [host] gives no name */
    parse(all);
    memcpy(own, c.peers[1].fingerprint, sizeof(own));
    config_self_drop(&c, own);
    assert_true(c.n_peers == 1 && !strcmp(c.peers[0].name, "a") && !strcmp(c.host.name, "b"));
    parse(all); /* a host that is not in the file */
    own[0] ^= 1;
    config_self_drop(&c, own);
    assert_true(c.n_peers == 2 && !strcmp(c.host.name, "godwit"));

    /* The own name or address with the fingerprint of an earlier key: another host it is not. */
    parse("[host]\nname = a\n[peer a]\naddress = 10.0.0.1\nfingerprint = " FP_A);
    config_self_drop(&c, own);
    assert_int_equal(c.n_peers, 0);
    parse("[host]\nname = x\nip = 10.0.0.1/24\n[peer a]\naddress = 10.0.0.1\nfingerprint = " FP_A);
    config_self_drop(&c, own);
    assert_int_equal(c.n_peers, 0);
    assert_string_equal(c.host.name, "x");
    parse("[host]\nip = 10.0.0.1/24\n[peer godwit]\naddress = 10.0.0.1\nport = 99\nfingerprint = " FP_A);
    config_self_drop(&c, own); /* another port, and a name that was not given */
    assert_int_equal(c.n_peers, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_the_hosts_own_files),
        cmocka_unit_test(test_full_file),
        cmocka_unit_test(test_mac_twice),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_guest_cpus),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_several_disks_and_cards),
        cmocka_unit_test(test_mistakes_of_several),
        cmocka_unit_test(test_disk_fingerprint),
        cmocka_unit_test(test_each_value),
        cmocka_unit_test(test_mistakes_cost_only_themselves),
        cmocka_unit_test(test_last_section_is_checked),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_bytes_that_are_no_text),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_mac_follows_the_name),
        cmocka_unit_test(test_documented_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
