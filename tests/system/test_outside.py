#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A third machine on the network talks to a guest that moves there and back: a TCP connection, and a ping each 10 ms
(outside.py).

A small version of `make demo GUEST=debian`.  The check starts this file as a program, since a network namespace belongs
to a process:

usage: test_outside.py amd|intel"""
import os
import re
import socket
import subprocess
import sys
import threading
import time

import outside
from bochs import BochsHost
from emulator import SLOWNESS, Timeout, die_on_signals
from fixtures import Skip
from host import Host, vm
from test_virtio import FILES, guest_vm

GUEST, PORT = "10.7.0.11", 7000
BLOCK, EACH_S = 4096, 0.02
CALM_S = 2                              # of pings before and after each move
MOST_SILENCE_MS = {"amd": 2000, "intel": 10000}             # Bochs is thirteen times slower


class Echo(threading.Thread):
    """One TCP connection to the guest, which sends all back: a block of random bytes each 20 ms, compared when it has
    come back."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.create_connection((GUEST, PORT), 30 * SLOWNESS)
        self.blocks, self.error, self.over = 0, None, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.over.wait(EACH_S):
                sent, back = os.urandom(BLOCK), b""
                self.sock.sendall(sent)
                while len(back) < BLOCK:
                    back += self.sock.recv(BLOCK - len(back)) or self.fail("it was closed")
                if back != sent:
                    self.fail("other bytes came back")
                self.blocks += 1
        except OSError as error:
            self.error = error

    @staticmethod
    def fail(why):
        raise OSError(why)

    def end(self):
        """Blocks that came back; AssertionError if the connection broke, or gave wrong bytes."""
        self.over.set()
        self.join(30 * SLOWNESS)
        if self.is_alive():
            raise Timeout(f"the TCP connection stands still after {self.blocks} blocks")
        assert not self.error, f"the TCP connection broke after {self.blocks} blocks: {self.error}"
        return self.blocks


def hosts(vendor):
    """Two of them, booted; "guest" runs on the first and sends back what it is sent."""
    kind, link, memory = ((Host, outside.Bridge(), "256M") if vendor == "amd" else (BochsHost, outside.BochsBridge(),
            "96M"))
    a = kind("a", link, vms={"guest": guest_vm(11, nic="yes", memory=memory)}, files=FILES, peers=["b"],
             tag="outside").boot(wait=False)
    b = kind("b", link, peers=["a"], files=FILES, vms={"stays": vm(autostart=False)}, tag="outside").boot(wait=False)
    for host in (a, b):
        host.wait_prompt()
    a.wait_started("guest")
    with a.guest("guest") as g:
        g.ready()
        g.send(f"nc -ll -p {PORT} -e cat &")
        # 1B58h is 7000
        g.shell("until grep -q :1B58 /proc/net/tcp*; do usleep 50000; done; echo listens=$?", r"^listens=0\n", 20)
    return a, b


def main(vendor):
    outside.enter()
    die_on_signals()
    a, b = hosts(vendor)
    echo, frames = Echo(), 0
    for src, dst in ((a, b), (b, a)):
        pings, had = outside.Pings(GUEST), echo.blocks
        time.sleep(CALM_S)
        report = src.migrate("guest", dst.name)
        time.sleep(CALM_S)
        seen, blocks = pings.end(), echo.blocks - had
        print(f"{src.name} -> {dst.name}: pings lost {seen['lost']} of {seen['sent']}, longest silence "
              f"{seen['silence_ms']:.0f} ms, blackout "
              f"{report.number('blackout_ms')} ms, {blocks} blocks of {BLOCK} bytes there and back by TCP", flush=True)
        frames += int(re.search(r"frames=(\d+)", report.text)[1])
        assert seen["silence_ms"] < MOST_SILENCE_MS[vendor] and blocks > 0, seen
    print(f"one TCP connection over both moves, {echo.end()} blocks, each as it was sent; {frames} frames came for the "
          "guest while it stood still, and followed it")
    assert frames, "no frame followed the guest, though a ping comes each 10 ms and TCP waits for answers"


def tcp_and_pings_survive(vendor, timeout_s):
    run = subprocess.run([sys.executable, os.path.abspath(__file__), vendor], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         timeout=timeout_s * SLOWNESS, check=False)
    if run.returncode == 2:
        raise Skip(run.stdout.strip())
    print("\n".join("        " + line for line in run.stdout.splitlines() if re.match("a -> b|b -> a|one TCP", line)))
    if "emulator.Timeout" in run.stdout or "emulator.Died" in run.stdout:
        raise Timeout(run.stdout[-3000:])
    assert run.returncode == 0, run.stdout[-3000:]


def test_tcp_and_pings_survive():
    tcp_and_pings_survive("amd", 180)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except outside.Missing as why:
        print(f"can't run here: {why}")
        sys.exit(2)
