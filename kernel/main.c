/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/main.c - boot: every init call in order.  The one file that joins the rooms, the vendors, net/ and migrate/.
 *
 * kernel_entry() is called by the boot program with interrupts off, on its stack, and does not return.  Not here: what
 * happens again and again (service.c). */
#include <stdio.h>
#include <string.h>
#include "kernel/config/config.h"
#include "kernel/core/cpu_baseline.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/host/acpi.h"
#include "kernel/host/boot_info.h"
#include "kernel/host/canary.h"
#include "kernel/host/clock.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/page.h"
#include "kernel/host/pci.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/watchdog.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"
#include "kernel/lib/version.h"
#include "kernel/lib/wipe.h"
#include "kernel/manage/api.h"
#include "kernel/manage/console.h"
#include "kernel/manage/settings.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/move_volume.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/run/sched.h"
#include "kernel/service.h"
#include "kernel/store/blockdev.h"
#include "kernel/store/disk_look.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"
#include "net/net.h"

#define CONFIG_FILE "godwit.conf"

extern const struct cpu_ops svm_cpu_ops, vmx_cpu_ops;
static const struct cpu_ops *const vendors[] = { &svm_cpu_ops, &vmx_cpu_ops };

static struct config config;

static void config_error(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    char text[CONFIG_MISTAKE_LEN];
    (void)ctx;
    config_mistake_text(text, line, section, key, expected);
    log_error("config", "%s", text);
}

static void config_load(struct boot_info *bi)
{
    struct boot_file f, pool;
    if (!boot_file_take(bi, CONFIG_FILE, &f))
        log_error("config",
                  "no \\godwit\\%s on the boot disk: this host has no name, network or guests until it gets one",
                  CONFIG_FILE);
    vm_define_init((const char *)(uintptr_t)f.base, f.len);
    const char *text = f.len ? (const char *)(uintptr_t)f.base : "";
    config.max_vms = config_vms_bound(text, f.len);
    config.vms = mem_alloc(MAX(config.max_vms, 1u) * sizeof(*config.vms));
    if (!config.vms)
        panic("no memory at boot for %u guests", config.max_vms);
    config_parse(text, f.len, &config, config_error, NULL);
    host_config = &config;
    bool found = boot_file_take(bi, config.host.pool_cpuid, &pool);
    cpu_pool_load(&config, cpuid_host, found ? (const char *)(uintptr_t)pool.base : NULL, pool.len);
    log_info("config", "host %s, %u peer%s, %u guest%s, %u mistake%s", config.host.name, config.n_peers,
             FMT_S(config.n_peers), config.n_vms, FMT_S(config.n_vms), config.n_errors, FMT_S(config.n_errors));
}

static void enable_virtualization(void)
{
    spec_cpu_init();
    if (cpu_ops && cpu_ops->pcpu_enable() != HV_OK)
        panic("virtualization cannot be turned on for CPU %u, and was probed on CPU 0", this_pcpu()->index);
}

static void ap_main(void)
{
    enable_virtualization();
    sched_run();
}

/* The host's key leaves memory once net/ has decoded it; key and certificate leave the list of files before guests get
 * to see it.  own: the fingerprint of the certificate.  False: there is none. */
static bool network_up(struct boot_info *bi, uint8_t own[32])
{
    struct boot_file cert, key;
    struct net_params p = { .config = &config,
                            .on_accept = migration_accept,
                            .on_client = api_accept,
                            .seed = { bi->seed, sizeof(bi->seed), bi->seed_is_new } };
    if (boot_file_take(bi, config.host.cert, &cert)) {
        p.cert_der = (const uint8_t *)(uintptr_t)cert.base, p.cert_len = cert.len;
        net_fingerprint(p.cert_der, p.cert_len, own);
        config_self_drop(&config, own); /* before any peer is pointed to */
    }
    if (boot_file_take(bi, config.host.key, &key))
        p.key_der = (const uint8_t *)(uintptr_t)key.base, p.key_len = key.len;
    enum hv_err e = net_init(&p);
    if (e)
        log_error("net", "this host cannot move guests: %s", hv_err_text(e));
    wipe((void *)(uintptr_t)key.base, key.len);
    wipe(bi->seed, sizeof(bi->seed));
    return p.cert_der;
}

void kernel_entry(struct boot_info *bi)
{
    uint8_t own[32];
    canary_init(bi);
    log_init(bi);
    pci_quiet();
    page_init(bi);
    paging_init(bi);
    pcpu_init_boot(bi);
    ASSERT_EQ(this_pcpu()->index, 0);
    acpi_init(bi);
    clock_init(bi);
    log_info("host", "Godwit %s, image at 0x%lx, %u CPU%s by %s", GODWIT_VERSION, bi->image_base, bi->n_cpus,
             FMT_S(bi->n_cpus), bi->cpu_source);
    watchdog_stop();
    pci_init();
    config_load(bi);
    cpu_ops_choose(vendors, ARRAY_SIZE(vendors));
    spec_init(config.host.mitigations_off);
    enable_virtualization();
    sched_service_set(service_step);
    pcpu_start_all(bi, ap_main);
    log_info("host", "%u of %u CPUs run, %lu MiB memory", pcpu_count, bi->n_cpus, page_stats().total_bytes / MIB);
    blockdev_init();
    disk_look_all();
    disk_boot_find(bi);
    lvm_host_name_set(config.host.name);
    lvm_scan();
    migration_init();
    api_init(bi);
    bool known = network_up(bi, own);
    registry_init(known ? own : NULL);
    settings_init(&config, known ? own : NULL);
    sched_guest_cpus_set(config.host.guest_cpus);
    vm_manage_init(bi, save_let_go);
    vm_define_step();   /* what the registry defines */
    move_record_step(); /* what it has of moves */
    (void)move_volume_step();
    start_all();
    log_info("host", "up %lu us after entry", clock_tsc_to_us(tsc_read() - bi->entry_tsc));
    console_init(bi);
    pcpu_run(sched_run);
}
