/* SPDX-License-Identifier: BSD-2-Clause
 * boot/files.c - reads the contents of \godwit\ into memory: configuration, keys, guest kernels.
 *
 * There is no file system after ExitBootServices.  So all files of the folder are read now, and the kernel finds them
 * by name.  A missing folder or an unreadable file does not stop the boot: the kernel reports what is missing. */
#include <stddef.h>
#include "boot/boot.h"

_Static_assert(BOOT_MAX_FILES == 64 && BOOT_NAME_LEN == 64, "file_add() prints these limits");

static EFI_GUID loaded_image_guid = EFI_LOADED_IMAGE_PROTOCOL_GUID;
static EFI_GUID block_io_guid = EFI_BLOCK_IO_PROTOCOL_GUID;
static EFI_GUID device_path_guid = EFI_DEVICE_PATH_PROTOCOL_GUID;
static EFI_GUID file_system_guid = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;

uint64_t boot_pages(uint64_t n, uint64_t max_address)
{
    EFI_PHYSICAL_ADDRESS at = max_address;
    EFI_STATUS s = boot_bs->AllocatePages(max_address ? AllocateMaxAddress : AllocateAnyPages, EfiLoaderData, n, &at);
    return EFI_ERROR(s) ? 0 : at;
}

static bool ascii_name_copy(char dst[BOOT_NAME_LEN], const CHAR16 *src)
{
    unsigned n = 0;
    for (; src[n]; n++) {
        if (n == BOOT_NAME_LEN - 1 || src[n] < 0x20 || src[n] > 0x7e)
            return false;
        dst[n] = (char)src[n];
    }
    dst[n] = 0;
    return true;
}

static EFI_STATUS file_read_all(EFI_FILE_HANDLE f, uint64_t base, uint64_t len)
{
    for (uint64_t done = 0; done < len;) {
        UINTN n = len - done < 1 << 20 ? len - done : 1 << 20; /* some firmware fails on very long reads */
        EFI_STATUS s = f->Read(f, &n, (void *)(uintptr_t)(base + done));
        if (EFI_ERROR(s))
            return s;
        if (!n)
            return EFI_VOLUME_CORRUPTED;
        done += n;
    }
    return EFI_SUCCESS;
}

static void file_add(EFI_FILE_HANDLE dir, EFI_FILE_INFO *info, struct boot_info *bi)
{
    struct boot_file *out = &bi->files[bi->n_files];
    EFI_FILE_HANDLE f;

    if (bi->n_files == BOOT_MAX_FILES || !ascii_name_copy(out->name, info->FileName)) {
        boot_print(
            "godwit: a file in \\godwit\\ is left out: at most 64 files, names of at most 63 ASCII characters\n");
        return;
    }
    EFI_STATUS s = dir->Open(dir, &f, info->FileName, EFI_FILE_MODE_READ, 0);
    if (EFI_ERROR(s)) {
        boot_error(out->name, s, "can't open it; check the file system");
        return;
    }
    uint64_t n_pages = (info->FileSize + BOOT_PAGE - 1) / BOOT_PAGE;
    out->len = info->FileSize;
    out->base = boot_pages(n_pages ? n_pages : 1, 0);
    s = out->base ? file_read_all(f, out->base, out->len) : EFI_OUT_OF_RESOURCES;
    f->Close(f);
    if (EFI_ERROR(s))
        boot_error(out->name, s,
                   out->base ? "can't read it; check the file system" : "the file does not fit into memory");
    else
        bi->n_files++;
}

static EFI_STATUS godwit_folder_open(EFI_HANDLE image, EFI_FILE_HANDLE *dir)
{
    EFI_LOADED_IMAGE *loaded;
    EFI_FILE_IO_INTERFACE *fs;
    EFI_FILE_HANDLE root;
    EFI_STATUS s;

    s = boot_bs->HandleProtocol(image, &loaded_image_guid, (void **)&loaded);
    if (!EFI_ERROR(s))
        s = boot_bs->HandleProtocol(loaded->DeviceHandle, &file_system_guid, (void **)&fs);
    if (!EFI_ERROR(s))
        s = fs->OpenVolume(fs, &root);
    if (EFI_ERROR(s))
        return s;
    s = root->Open(root, dir, L"\\godwit", EFI_FILE_MODE_READ, 0);
    root->Close(root);
    return s;
}

/* Note how the volume that image came from begins, and where: so the kernel knows its disk among those that it finds.
 * Without a partition in its device path it is a whole disk. */
static void boot_volume_note(EFI_HANDLE image, struct boot_info *bi)
{
    EFI_LOADED_IMAGE *loaded;
    EFI_BLOCK_IO *io;
    EFI_DEVICE_PATH *path;
    uint8_t *sector = (uint8_t *)(uintptr_t)boot_pages(1, 0);

    if (!sector || EFI_ERROR(boot_bs->HandleProtocol(image, &loaded_image_guid, (void **)&loaded)) ||
        EFI_ERROR(boot_bs->HandleProtocol(loaded->DeviceHandle, &block_io_guid, (void **)&io)) ||
        EFI_ERROR(boot_bs->HandleProtocol(loaded->DeviceHandle, &device_path_guid, (void **)&path)) ||
        io->Media->BlockSize < BOOT_SECTOR_LEN || io->Media->BlockSize > BOOT_PAGE ||
        EFI_ERROR(io->ReadBlocks(io, io->Media->MediaId, 0, io->Media->BlockSize, sector)))
        return;
    boot_bs->CopyMem(bi->boot_sector, sector, BOOT_SECTOR_LEN);
    for (; !IsDevicePathEndType(path); path = NextDevicePathNode(path))
        if (DevicePathType(path) == MEDIA_DEVICE_PATH && path->SubType == MEDIA_HARDDRIVE_DP) {
            const UINT8 *start = (const UINT8 *)path + offsetof(HARDDRIVE_DEVICE_PATH, PartitionStart);
            UINT64 lba;
            boot_bs->CopyMem(&lba, (void *)start, sizeof(lba)); /* nodes are not aligned */
            bi->boot_at = lba * io->Media->BlockSize;
        }
}

void boot_files_read(EFI_HANDLE image, struct boot_info *bi)
{
    static union {
        EFI_FILE_INFO info;
        uint8_t room[1024];
    } entry;
    EFI_FILE_HANDLE dir;
    EFI_STATUS s = godwit_folder_open(image, &dir);
    boot_volume_note(image, bi);
    if (EFI_ERROR(s)) {
        boot_error("\\godwit", s,
                   "no such folder beside \\EFI on the boot volume: no configuration and no guests; see "
                   "tools/mkhost --help");
        return;
    }
    for (;;) {
        UINTN len = sizeof(entry);
        s = dir->Read(dir, &len, &entry);
        if (EFI_ERROR(s)) {
            boot_error("\\godwit", s, "can't list the folder; the rest of it is left out");
            break;
        }
        if (!len)
            break;
        if (!(entry.info.Attribute & EFI_FILE_DIRECTORY))
            file_add(dir, &entry.info, bi);
    }
    boot_seed_take(dir, bi);
    dir->Close(dir);
    if (!boot_file_find(bi, "godwit.conf"))
        boot_print("godwit: \\godwit\\godwit.conf is missing: nothing is configured; see docs/config.md\n");
}
