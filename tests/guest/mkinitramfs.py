#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/guest/mkinitramfs.py - writes a Linux initramfs ("newc" cpio), byte for byte the same for the same input.

usage: mkinitramfs.py OUT DIR/ PATH=FILE PATH@TARGET ...
  DIR/         an empty folder
  PATH=FILE    FILE's bytes at PATH, mode 755
  PATH@TARGET  a symbolic link
OUT ending in .gz is compressed.  The format: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""
import gzip
import sys

S_DIR, S_FILE, S_LINK = 0o040755, 0o100755, 0o120777


def entry(ino, path, mode, data=b""):
    """One cpio member: 110 bytes of hexadecimal header, name, data; name and data padded to 4 bytes."""
    name = path.encode() + b"\0"
    fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    out = b"070701" + b"".join(b"%08x" % f for f in fields) + name
    out += b"\0" * (-len(out) % 4)
    return out + data + b"\0" * (-len(data) % 4)


def member(spec):
    """(path, mode, data) of one argument."""
    if spec.endswith("/"):
        return spec[:-1], S_DIR, b""
    if "@" in spec:
        path, target = spec.split("@", 1)
        return path, S_LINK, target.encode()
    path, source = spec.split("=", 1)
    with open(source, "rb") as f:
        return path, S_FILE, f.read()


def main(argv):
    if len(argv) < 3:
        sys.exit(__doc__)
    out = b"".join(entry(i, *member(spec)) for i, spec in enumerate(argv[2:], 1))
    out += entry(0, "TRAILER!!!", 0)
    if argv[1].endswith(".gz"):
        out = gzip.compress(out, 9, mtime=0)
    with open(argv[1], "wb") as f:
        f.write(out)


if __name__ == "__main__":
    main(sys.argv)
