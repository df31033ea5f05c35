# SPDX-License-Identifier: BSD-2-Clause
"""A disk with a write cache that a power cut empties, for QEMU's machines: an NBD server in this process.

QEMU's own files keep everything that was written when QEMU is killed, flushed or not.  This disk keeps at a power cut
what a real one may keep: each write that was not flushed is there, is not, or is torn between sectors of 512 bytes.
It also answers requests in another order than they came in, and a flush covers only what had been answered before it
began."""
import mmap
import os
import random
import socket
import struct
import threading

from host import RUNS

SECTOR = 512
FIXED, GO, INFO, ACK, UNSUPPORTED = 1, 7, 3, 1, 0x80000001       # of the NBD protocol's handshake
HAS_FLAGS, SEND_FLUSH = 1, 4
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3


class VolatileDisk:
    """name: of its socket.  image: what is on it at first, the rest is zeroes.  seed: of what is lost and kept."""

    def __init__(self, name, mib, image=b"", seed=0):
        os.makedirs(RUNS, exist_ok=True)
        self.random, self.lock = random.Random(seed), threading.Condition()
        self.durable, self.seen = mmap.mmap(-1, mib << 20), mmap.mmap(-1, mib << 20)    # seen: what a read returns
        self.durable[:len(image)] = self.seen[:len(image)] = image
        self.cache, self.pending = [], []                       # [(offset, data)] that are not flushed; requests
        self.client, self.flushes = None, 0
        path = os.path.join(RUNS, f"{name}-{os.getpid()}-{id(self):x}")
        self.url = f"nbd+unix:///?socket={path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def drive(self, node):
        """QEMU's arguments."""
        return ["-drive", f"file={self.url},if=none,id={node},format=raw"]

    def stand_still(self, unflushed):
        """Once so many writes are not flushed, answer nothing more: a good moment for a power cut."""
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.cache) >= unflushed, 60), "no writes, or each is flushed at once"
            self.client = None
            self.lock.notify_all()

    def power_cut(self):
        """After its machine was killed.  Returns how many writes were lost at least in part, of how many."""
        with self.lock:
            if self.client:
                self.client.close()
            writes = self.cache + [(at, data) for kind, _, at, data in self.pending if kind == WRITE]
            lost = sum(self._survive(at, data) for at, data in writes)
            for at, data in writes:
                self.seen[at:at + len(data)] = self.durable[at:at + len(data)]
            self.cache, self.pending, self.client = [], [], None
        return lost, len(writes)

    def _survive(self, at, data):
        """What of this write gets onto the disk; returns whether something does not."""
        n = len(data) // SECTOR
        fate = self.random.choice(("kept", "lost", "begun", "torn"))
        kept = {"kept": range(n), "lost": (), "begun": range(self.random.randint(0, n)),
                "torn": [s for s in range(n) if self.random.random() < 0.5]}[fate]
        for s in kept:
            self.durable[at + s * SECTOR:at + (s + 1) * SECTOR] = data[s * SECTOR:(s + 1) * SECTOR]
        return len(kept) < n

    def save(self, path):
        """What a power cut would surely leave."""
        with self.lock, open(path, "wb") as f:
            f.write(self.durable)

    # -- the protocol (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) -----------------------------
    def _serve(self):
        while True:
            client = self.listener.accept()[0]
            stream = client.makefile("rb")
            try:
                self._handshake(client, stream)
                with self.lock:
                    self.client = client
                threading.Thread(target=self._work, args=(client,), daemon=True).start()
                while self._receive(client, stream):
                    pass
            except (OSError, struct.error, ValueError):
                pass                                            # its QEMU was killed
            with self.lock:
                self.lock.notify_all()

    def _handshake(self, client, stream):
        client.sendall(struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", FIXED))
        stream.read(4)
        while True:
            _, option, length = struct.unpack(">8sII", stream.read(16))
            stream.read(length)

            def answer(kind, data=b"", option=option):
                client.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)
            if option != GO:
                answer(UNSUPPORTED)
                continue
            answer(INFO, struct.pack(">HQH", 0, len(self.seen), HAS_FLAGS | SEND_FLUSH))
            answer(INFO, struct.pack(">HIII", 3, SECTOR, 4096, 32 << 20))
            answer(ACK)
            return

    def _receive(self, client, stream):
        _, _, kind, cookie, at, length = struct.unpack(">IHHQQI", stream.read(28))
        data = stream.read(length) if kind == WRITE else length
        with self.lock:
            if self.client is client and kind != DISCONNECT:
                self.pending.append((kind, cookie, at, data))
            self.lock.notify_all()
        return kind != DISCONNECT

    def _work(self, client):
        """Carry out what is pending, in any order."""
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self.pending or self.client is not client)
                if self.client is not client:
                    return
                kind, cookie, at, data = self.pending.pop(self.random.randrange(len(self.pending)))
                answer = struct.pack(">IIQ", 0x67446698, 0, cookie) + self._carry_out(kind, at, data)
            try:
                client.sendall(answer)
            except OSError:
                return

    def _carry_out(self, kind, at, data):
        if kind == READ:
            return bytes(self.seen[at:at + data])
        if kind == WRITE:
            self.seen[at:at + len(data)] = data
            self.cache.append((at, data))
            self.lock.notify_all()
        else:
            self.flushes += 1
            for begin, written in self.cache:
                self.durable[begin:begin + len(written)] = written
            self.cache = []
        return b""


def blank(mib):
    """What diskcuts (tests/guest/diskcuts.c) takes for a disk that was never written to."""
    block, mark = 20480, 0x5354554344574447
    whole = b"".join(struct.pack("<4Q", mark, b, 0, s) + bytes(SECTOR - 32) for b in range((mib << 20) // block)
                     for s in range(block // SECTOR))
    return whole.ljust(mib << 20, b"\0")
