/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/store/registry_format.c kernel/lib/err.c net/sha256.c tests/fakes/log_quiet.c
 *   tests/fakes/page.c */
/* fuzz-deps: bearssl */
/* tests/fuzz/fuzz_registry.c - the registry's header and archive as they may be on a disk.
 *
 * Input: byte 0 is 0: the rest is an archive.  Else the first 512 bytes behind it are a header, whose own hash is
 * corrected, since a fuzzer cannot guess it.  For every input that is taken: written again, it is the same. */
#include <stdlib.h>
#include <string.h>
#include "kernel/store/registry_format.h"

static struct registry_table table;

static void archive(const uint8_t *data, size_t size)
{
    static uint8_t again[REGISTRY_ARCHIVE_MAX];
    char why[200];
    if (registry_archive_read(&table, data, size, WHY(why)) == HV_OK)
        if (registry_archive_write(&table, again) != size || memcmp(again, data, size) != 0)
            abort();
    for (unsigned i = 0; i < table.n; i++)
        if (!registry_name_ok(table.entry[i].name) || table.entry[i].text[table.entry[i].len])
            abort();
    registry_table_clear(&table);
}

static void header(const uint8_t *data, size_t size)
{
    uint8_t sector[REGISTRY_SECTOR] = { 0 }, again[REGISTRY_SECTOR];
    struct registry_header h;
    memcpy(sector, data, size < sizeof(sector) ? size : sizeof(sector));
    registry_sha256(sector, 72, sector + 72);
    if (registry_header_read(sector, &h) != HV_OK)
        return;
    registry_header_write(&h, again);
    if (memcmp(again, sector, sizeof(again)) != 0 || h.len > REGISTRY_ARCHIVE_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && !data[0])
        archive(data + 1, size - 1);
    else if (size)
        header(data + 1, size - 1);
    return 0;
}
