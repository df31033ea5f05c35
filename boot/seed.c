/* SPDX-License-Identifier: BSD-2-Clause
 * boot/seed.c - one piece of \godwit\seed for this boot, used only once where that matters.
 *
 * The file is a pad of random bytes.  On a processor without RDRAND each boot takes the first piece that is not zero.
 * Before the piece is used, its bytes on the disk are overwritten with zeros, flushed, and read back.  So no two boots
 * get the same bytes, and the piece is an entropy source for a machine that has no other (net/entropy.c).  A later
 * reader of the disk does not learn the bytes.  A disk that cannot be written gives the same piece again: that is
 * detected.  So does a disk that forgets writes (an emulator's snapshot mode): that cannot be detected.
 *
 * With a working RDRAND no boot depends on the pad, and the disk is not written.  The first piece is handed over as one
 * that is not new, to be mixed in.  Bytes mixed into RDRAND's output do not reveal the piece, so a later boot without
 * RDRAND may still use it. */
#include "boot/boot.h"

_Static_assert(BOOT_SEED_LEN * 8 >= 256, "seeds a generator of 256 bits");

static bool piece_is_zero(const uint8_t *p)
{
    uint8_t any = 0;
    for (unsigned i = 0; i < BOOT_SEED_LEN; i++)
        any |= p[i];
    return !any;
}

/* Does RDRAND return different numbers?  On failure it returns 0; some processors always return ones. */
static bool rdrand_works(void)
{
    uint64_t word[2] = { 0, 0 };
    if (!(boot_cpuid(1).ecx & 1u << 30))
        return false;
    for (unsigned i = 0; i < 2; i++)
        __asm__ volatile("rdrand %0" : "=r"(word[i]) : : "cc");
    return word[0] && word[1] && word[0] != word[1];
}

/* Overwrite the piece at pos with zeros, and verify. */
static EFI_STATUS piece_wipe(EFI_FILE_HANDLE f, uint64_t pos)
{
    uint8_t piece[BOOT_SEED_LEN] = { 0 };
    UINTN n = BOOT_SEED_LEN;
    EFI_STATUS s = f->SetPosition(f, pos);
    if (!EFI_ERROR(s))
        s = f->Write(f, &n, piece);
    if (!EFI_ERROR(s))
        s = f->Flush(f);
    if (!EFI_ERROR(s))
        s = f->SetPosition(f, pos);
    piece[0] = 1;
    if (!EFI_ERROR(s))
        s = f->Read(f, &n, piece);
    return EFI_ERROR(s) ? s : n == BOOT_SEED_LEN && piece_is_zero(piece) ? EFI_SUCCESS : EFI_WRITE_PROTECTED;
}

static EFI_STATUS piece_consume(EFI_FILE_HANDLE dir, uint64_t pos)
{
    EFI_FILE_HANDLE f;
    EFI_STATUS s = dir->Open(dir, &f, L"seed", EFI_FILE_MODE_READ | EFI_FILE_MODE_WRITE, 0);
    if (EFI_ERROR(s))
        return s;
    s = piece_wipe(f, pos);
    f->Close(f);
    return s;
}

void boot_seed_take(EFI_FILE_HANDLE dir, struct boot_info *bi)
{
    const struct boot_file *file = boot_file_find(bi, "seed");
    if (!file)
        return;
    uint8_t *pad = (uint8_t *)(uintptr_t)file->base;
    uint64_t pos = 0;
    while (pos + BOOT_SEED_LEN <= file->len && piece_is_zero(pad + pos))
        pos += BOOT_SEED_LEN;
    if (pos + BOOT_SEED_LEN > file->len) {
        boot_print("godwit: \\godwit\\seed is used up: make a new one, for example with tools/mkhost\n");
        return;
    }
    if (!rdrand_works()) {
        EFI_STATUS s = piece_consume(dir, pos);
        if (EFI_ERROR(s))
            boot_error("seed", s, "can't overwrite it: a later boot may get the same bytes, so they add no entropy");
        bi->seed_is_new = !EFI_ERROR(s);
    }
    __builtin_memcpy(bi->seed, pad + pos, BOOT_SEED_LEN);
    __builtin_memset(pad, 0, file->len); /* the other pieces are for later boots */
}
