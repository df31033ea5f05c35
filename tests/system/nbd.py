# SPDX-License-Identifier: BSD-2-Clause
"""NBD servers on this machine for guests' disks, and what diskcheck (tests/guest/diskcheck.c) leaves in their files."""
import atexit
import hashlib
import os
import shutil
import struct
import subprocess
import time

from emulator import free_port
from host import RUNS, Lan

BLOCK, SECTOR, MARK = 16384, 512, 0x5444474b53494421


class NbdServer:
    """A server of one file; export is what the configuration calls it, also after a restart."""

    def __init__(self, name, mib, kind="nbdkit", options=()):
        os.makedirs(RUNS, exist_ok=True)
        self.file, self.port, self.kind, self.options = (os.path.join(RUNS, f"{name}.img"), free_port(), kind,
                                                         list(options))
        with open(self.file, "wb") as f:
            f.truncate(mib << 20)
        self.disk = f"nbd:{Lan.GATEWAY}:{self.port}/disk"
        self.process = None
        atexit.register(self.kill)
        self.start()

    def start(self, parameters=()):
        """parameters: of nbdkit's filters, like limit=1."""
        if self.kind == "nbdkit":
            command = ["nbdkit", "-f", "-p", str(self.port), "-i", "127.0.0.1", *self.options, "file", self.file,
                       *parameters]
        else:
            command = ["qemu-nbd", "-f", "raw", "-x", "disk", "-p", str(self.port), "-b", "127.0.0.1", "--shared=0",
                       "--persistent", "--discard=unmap",
                       *self.options, self.file]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                                        start_new_session=True)
        time.sleep(0.3)
        if self.process.poll() is not None:
            raise RuntimeError(f"the NBD server does not start: {' '.join(command)}")

    def kill(self):
        """As when the server crashes: no goodbye."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def blocks(self):
        with open(self.file, "rb") as f:
            return blocks_in(f.read())

    def sum(self):
        return sum_of(self.blocks())


def blocks_in(disk):
    """{block: number of the write whose data it has}; AssertionError if one has the data of two."""
    found = {}
    for block in range(len(disk) // BLOCK):
        data = disk[block * BLOCK:(block + 1) * BLOCK]
        mark, number, write, _ = struct.unpack_from("<4Q", data)
        if mark != MARK:
            assert not any(data), f"block {block} of the disk is neither empty nor diskcheck's"
            continue
        want = b"".join(struct.pack("<4Q", MARK, block, write, s) + bytes([write & 0xff]) * (SECTOR - 32)
                        for s in range(BLOCK // SECTOR))
        assert number == block and data == want, f"block {block} of the disk is torn: it says {number}, write {write}"
        found[block] = write
    return found


def sum_of(blocks):
    """As diskcheck's `sum`."""
    return sum(write * (2 * block + 1) for block, write in blocks.items()) % (1 << 64)


def missing():
    """A reason why these checks cannot run here, or None."""
    lacking = [p for p in ("nbdkit", "qemu-nbd") if not shutil.which(p)]
    return f"no {' and no '.join(lacking)} on this machine: tools/setup.sh installs them" if lacking else None


def tls_files():
    """A server's key and certificate (its own authority), as nbdkit wants them; returns the folder and the
    certificate's fingerprint."""
    folder = os.path.join(RUNS, "nbd-tls")
    os.makedirs(folder, exist_ok=True)
    key, cert = os.path.join(folder, "server-key.pem"), os.path.join(folder, "server-cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "30",
                    "-subj", "/CN=nbd.test", "-addext", "basicConstraints=critical,CA:TRUE"], check=True,
                   capture_output=True)
    shutil.copy(cert, os.path.join(folder, "ca-cert.pem"))
    der = subprocess.run(["openssl", "x509", "-in", cert, "-outform", "DER"], check=True, capture_output=True).stdout
    return folder, hashlib.sha256(der).hexdigest()
