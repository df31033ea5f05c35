# SPDX-License-Identifier: BSD-2-Clause
"""Kernels of a few bytes in a valid bzImage: guests that misbehave at once, each in one way.

The code is entered by the 64-bit Linux boot protocol: long mode, interrupts off, flat memory below 4 GiB mapped
(kernel.org "The Linux/x86 Boot Protocol")."""
import struct

SPIN_WITH_INTERRUPTS_OFF = bytes.fromhex("fa ebfe")                         # cli; jmp .
HALT_WITH_INTERRUPTS_OFF = bytes.fromhex("fa f4 ebfd")                      # cli; hlt; jmp back
TRIPLE_FAULT = bytes.fromhex("4883ec10 48c7042400000000 0f011c24 cc")       # lidt with limit 0; int3
# vmrun: an AMD-V guest is not offered AMD-V
USE_AMD_V = bytes.fromhex("0f01d8")


def bzimage(code):
    """A kernel that consists of code."""
    setup = bytearray(1024)                                                 # boot sector + 1 setup sector
    body = code.rjust(0x200 + len(code), b"\0")                             # the 64-bit entry is at +0x200
    body += b"\xcc" * (-len(body) % 4096)

    def put(offset, fmt, value):
        struct.pack_into("<" + fmt, setup, offset, value)
    put(0x1f1, "B", 1)                  # setup_sects
    put(0x1f4, "I", len(body) // 16)    # syssize
    put(0x1fe, "H", 0xaa55)
    put(0x200, "H", 0x66eb)             # jump over the header
    setup[0x202:0x206] = b"HdrS"
    put(0x206, "H", 0x020f)             # protocol 2.15
    put(0x211, "B", 1)                  # loadflags: loaded high
    put(0x214, "I", 0x100000)           # code32_start
    put(0x22c, "I", 0x7fffffff)         # initrd_addr_max
    put(0x230, "I", 0x200000)           # kernel_alignment
    put(0x234, "B", 1)                  # relocatable
    put(0x235, "B", 21)                 # min_alignment
    put(0x236, "H", 1)                  # xloadflags: has a 64-bit entry
    put(0x238, "I", 2047)               # cmdline_size
    put(0x258, "Q", 0x200000)          # pref_address
    put(0x260, "I", 0x100000)           # init_size
    return bytes(setup) + body
