/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/store_fixture.h - a host whose disk has the volume group vg0, as lvm2 made it, with free extents; it can
 * lose power. */
#ifndef GODWIT_TESTS_STORE_FIXTURE_H
#define GODWIT_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "net/sha256.h"
#include "tests/fakes/page.h"
#include "tests/fakes/power_cut.h"
#include "tests/unit/groups_forget.h"

static uint64_t now_us = 1000000, rng;
static char why[256];

uint64_t clock_us(void) { return now_us; }
uint64_t clock_wall_ns(void) { return 1796038238ull * 1000000000; }
void random_bytes(void *buf, size_t len)
{
    for (uint8_t *p = buf; len--; p++)
        *p = (uint8_t)((rng = rng * 6364136223846793005u + 1) >> 40);
}
static uint64_t memory_left = GIB;
uint64_t vm_memory_promisable(void) { return memory_left; }

static inline void hash_of(const void *p, size_t n, char text[SHA256_TEXT_LEN])
{
    struct sha256 s;
    uint8_t hash[SHA256_LEN];
    sha256_init(&s);
    sha256_update(&s, p, n);
    sha256_out(&s, hash);
    sha256_text(hash, text);
}

static void disk_add(void)
{
    struct power_disk *d = power_disk_add(64 * MIB, 512);
    FILE *in = fopen("tests/unit/golden/lvm2_one_disk.bin", "rb");
    assert_non_null(in);
    assert_true(fread(d->bytes, 1, MIB, in) > 4096);
    fclose(in);
    lvm_scan();
    power_begin();
}

static const struct lvm_lv *volume(const char *name) { return lvm_lv_find(&lvm_group_find("vg0")->vg, name); }

/* The bytes of a volume, on the disk. */
static inline const uint8_t *volume_bytes(const char *name)
{
    unsigned pv;
    uint64_t run;
    return power_disks[0].bytes + lvm_lv_map(&lvm_group_find("vg0")->vg, volume(name), 0, &pv, &run);
}

#endif
