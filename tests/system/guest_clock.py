# SPDX-License-Identifier: BSD-2-Clause
"""A guest's clock beside this machine's: how far has a move set it forward or back?

The reference.  The emulated hosts are processes of this machine, and their TSC is its TSC (plus a constant for each).
A guest's nanoseconds are TSC ticks at the frequency that its first host measured at boot, and both move with it
(kernel/dev/pvclock.c).  So this machine's TSC divided by that frequency runs exactly as the guest's clock does while it
does not move.  Every difference comes from a move.  The error of the host's measurement does not matter here.

One disturbance must be kept from the reference.  QEMU 7.2 has one TSC for all CPUs of a machine, which never goes back:
when a thread reads a value behind one that another thread has read, the difference is added for good (cpu_get_ticks()).
Two CPUs of this machine differ by 70 ns, or read in another order than they lock.  So two threads that read all the
time make the emulated TSC faster; 300 ppm were observed.  keep_on_cpu() has the threads of a host take turns on one
CPU, where that does not happen.

The estimate assumes nothing about delays, which are long and uneven in an emulator.  A sample is (before, guest,
after): the guest's clock was read at some time between two readings of this machine's clock.  So it was ahead by *at
least* guest - after and *at most* guest - before.  Each bound holds by itself, so the best of each over many samples
counts (a minimum filter on both sides).  The result is an interval that contains the true value, as wide as the fastest
round trips were long.  A check of a limit requires the whole interval within it.
"""
import ctypes
import mmap
import os
import re
import socket
import threading
import time

AHEAD_S = 3600  # so far ahead is the own clock of a second host: a guest that looked at it would be an hour off
CLOCK_MS = 10                   # a move may put a guest's clocks forward or back by its blackout and so much
# how well a clock should be known before and after a move: a wider interval may fail a check, never pass it
WIDTH_MS = 6

_code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_code.write(bytes.fromhex("0faee8 0f31 48c1e220 4809d0 c3"))    # lfence; rdtsc; shl rdx, 32; or rax, rdx; ret
tsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(_code)))


def tsc_khz(host):
    """What the host has measured."""
    return int(re.search(r", TSC (\d+) kHz", host.command("host"))[1])


def keep_on_cpu(host, cpu):
    """All threads of the host's emulator run on one CPU of this machine from now on."""
    for thread in os.listdir(f"/proc/{host.machine.process.pid}/task"):
        try:
            os.sched_setaffinity(int(thread), {cpu})
        except ProcessLookupError:
            pass                                                # it has ended


def lead_ms(samples, khz):
    """(at least, at most): the guest's clock is ahead of ours by so much.  Samples are (before, guest, after) in ticks,
    ns, ticks, with no move between them."""
    return (max(g / 1e6 - after / khz for _, g, after in samples),
            min(g / 1e6 - before / khz for before, g, _ in samples))


def step_ms(before, after, khz):
    """(at least, at most): the clock was put forward by so much between two sets of samples."""
    (least0, most0), (least1, most1) = lead_ms(before, khz), lead_ms(after, khz)
    assert least0 <= most0 and least1 <= most1, (
        f"the guest's clock does not go as the TSC does, though nobody moved it: ahead by {least0:.2f} to {most0:.2f} "
        f"ms, then by {least1:.2f} to {most1:.2f} ms")
    return least1 - most0, most1 - least0


def clocks(samples):
    """Samples (before, monotonic, wall, after) as those of each clock: {"monotonic": [(before, guest, after)], "wall":
    ...}."""
    return {"monotonic": [(b, m, a) for b, m, _, a in samples], "wall": [(b, w, a) for b, _, w, a in samples]}


def known(samples, khz):
    """Is the guest's clock known to WIDTH_MS by these samples of both clocks?"""
    least, most = lead_ms(clocks(samples)["monotonic"], khz)
    return most - least <= WIDTH_MS


def check_step(what, before, after, blackout_ms, khz):
    """AssertionError if `what`, between two sets of samples of both clocks, put one of them forward or back by the
    blackout + CLOCK_MS.  Returns what is known, for people."""
    said, limit = [], blackout_ms + CLOCK_MS
    before, after = clocks(before), clocks(after)
    for name in before:
        least, most = step_ms(before[name], after[name], khz)
        assert -limit < least and most < limit, (
            f"{what} put the guest's {name} clock forward by {least:.2f} to {most:.2f} ms; {limit:.1f} ms are the "
            "limit")
        said.append(f"{least:+.1f} to {most:+.1f} ms")
    return said[0] if said[0] == said[1] else "; wall clock ".join(said)


class Mirror(threading.Thread):
    """The other end of tests/guest/mirror.c: one TCP connection for as long as the guest lives, on which each EACH_S
    seconds a record of random bytes goes there and must come back the same, with the guest's clocks.  samples:
    [(before, monotonic, wall, after)] in ticks, ns, ns, ticks.  error: what went wrong, or None."""
    EACH_S, RECORD, STAMPS = 0.02, 4096, 16
    SILENCE_S = 60

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.samples, self.error, self.done = [], None, threading.Event()
        self.start()

    def run(self):
        try:
            connection = self.listener.accept()[0]
            connection.settimeout(self.SILENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, connection.makefile("rb") as stream:
                while not self.done.wait(self.EACH_S):
                    self._exchange(connection, stream)
        except (OSError, AssertionError) as error:
            self.error = (f"the guest's TCP connection, after {len(self.samples)} records: "
                          f"{error or type(error).__name__}")

    def _exchange(self, connection, stream):
        record, before = os.urandom(self.RECORD), tsc()
        connection.sendall(record)
        answer, after = stream.read(self.RECORD), tsc()
        assert len(answer) == self.RECORD, f"the guest closed it, {len(answer)} bytes came"
        assert answer[self.STAMPS:] == record[self.STAMPS:], "a record came back with other bytes than it was sent with"
        mono, wall = (int.from_bytes(answer[i:i + 8], "little") for i in (0, 8))
        if self.samples:
            _, mono0, wall0, _ = self.samples[-1]
            assert mono >= mono0, f"the guest's monotonic clock stepped back by {mono0 - mono} ns"
            assert wall >= wall0, f"the guest's wall clock stepped back by {wall0 - wall} ns"
        self.samples.append((before, mono, wall, after))

    def alive(self):
        assert self.error is None, self.error

    def known_since(self, index, least, khz, timeout=60):
        """The samples from `index` on, when they are `least` at least and so many that the clock is known()."""
        end = time.monotonic() + timeout
        while True:
            samples = self.samples[index:]
            self.alive()
            if len(samples) >= least and known(samples, khz):
                return samples
            assert time.monotonic() < end, (f"in {timeout} s {len(samples)} of {least} records came back, or the "
                                            f"guest's clock is not known to {WIDTH_MS} ms")
            time.sleep(self.EACH_S)

    def close(self):
        self.done.set()
        self.listener.close()
