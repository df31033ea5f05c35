/* SPDX-License-Identifier: BSD-2-Clause
 * boot/seed.c - a piece of \godwit\seed for this boot, and for it alone where that matters.
 *
 * The file is a pad of random bytes.  On a processor without RDRAND each boot takes the first piece that is not zero,
 * and before that piece is used its bytes on the disk are overwritten with zeros, flushed, and read back.  So no two
 * boots get the same bytes, which makes them a source of randomness of their own for a machine without any
 * (net/entropy.c), and who takes the disk later does not learn what was used.  A disk that cannot be written, or
 * forgets (an emulator's snapshot mode), gives the same piece again: the first is noticed here, the second cannot be.
 *
 * With a working RDRAND no boot depends on the pad, so the disk is not written: the first piece is handed over all the
 * same, as one that is not new, to be mixed in.  What was mixed into RDRAND's bytes tells nobody the piece, so a boot
 * without RDRAND may still take it later. */
#include "boot/boot.h"

static bool is_zero(const uint8_t *p)
{
    uint8_t any = 0;
    for (unsigned i = 0; i < BOOT_SEED_LEN; i++)
        any |= p[i];
    return !any;
}

/* Does RDRAND answer, and not always the same?  (Some processors have been seen to give ones for ever.)  Without
 * an answer it gives 0. */
static bool rdrand_works(void)
{
    uint64_t word[2] = { 0, 0 };
    if (!(boot_cpuid(1).ecx & 1u << 30))
        return false;
    for (unsigned i = 0; i < 2; i++)
        __asm__ volatile("rdrand %0" : "=r"(word[i]) : : "cc");
    return word[0] && word[1] && word[0] != word[1];
}

/* Make the piece at pos of the file zero, and look whether it is. */
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
    return EFI_ERROR(s) ? s : n == BOOT_SEED_LEN && is_zero(piece) ? EFI_SUCCESS : EFI_WRITE_PROTECTED;
}

static EFI_STATUS piece_use_up(EFI_FILE_HANDLE dir, uint64_t pos)
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
    while (pos + BOOT_SEED_LEN <= file->len && is_zero(pad + pos))
        pos += BOOT_SEED_LEN;
    if (pos + BOOT_SEED_LEN > file->len) {
        boot_print("godwit: \\godwit\\seed is used up: make a new one, for example with tools/mkhost\n");
        return;
    }
    if (!rdrand_works()) {
        EFI_STATUS s = piece_use_up(dir, pos);
        if (EFI_ERROR(s))
            boot_complain("seed", s, "can't write to it, so its bytes may come again and count for nothing");
        bi->seed_is_new = !EFI_ERROR(s);
    }
    __builtin_memcpy(bi->seed, pad + pos, BOOT_SEED_LEN);
    __builtin_memset(pad, 0, file->len); /* the rest belongs to later boots */
}
