# SPDX-License-Identifier: BSD-2-Clause
"""The host by itself: boot with 1, 2 and 4 CPUs, console, power-off, reset, DHCP, memory."""
import json
import os
import re
import socket
import subprocess

from emulator import BUILD
from fixtures import Clients
from host import BOOT_S, RUNS, Lan, UserNet, vm


def boot_and_power_off(own, cpus, meanwhile=lambda host: None):
    host = own("a", cpus=cpus)
    assert f"{cpus} of {cpus} CPUs run" in host.log(), (
        f"the log does not say that {cpus} CPUs came up:\n{host.log()[-1500:]}")
    shown = host.command("host")
    assert re.search(rf" {cpus} CPUs? \(", shown), f"`host` does not show {cpus} CPUs:\n{shown}"
    assert len(re.findall(r"^cpu \d+: online", shown, re.M)) == cpus, f"not all CPUs are online:\n{shown}"
    meanwhile(host)
    assert host.poweroff() == 0


def test_1_cpu(own):
    boot_and_power_off(own, 1)


def test_4_cpus(own):
    boot_and_power_off(own, 4)


def many_guests(host, clients):
    """As many guests as a host knows: in the list, page by page, and in the metrics."""
    names = [f"g{i}" for i in range(256)]
    assert [v["name"] for v in json.loads(clients.ctl("--json", "vm", "list")[0])["vms"]] == names
    paged, after = [], ""
    while after is not None:
        page = json.loads(clients.curl(host, f"/v1/vms?limit=100&after={after}")[2])
        paged, after = paged + [v["name"] for v in page["vms"]], page.get("next")
    assert paged == names
    assert clients.curl(host, "/v1/vms?after=nobody")[1] == 404
    code, status, body = clients.curl(host, "/metrics")
    assert status == 200 and len(re.findall(r'^godwit_vm_state\{vm="g\d+",state="stopped"\} 1$', body, re.M)) == 256


def test_reboot_resets(own):
    """By the console, and by the management interface, which switches the host off at last.  The host knows as many
    guests as it can."""
    link = Lan()
    host = own("a", link, reboot=True, clients=Clients.ROLES,
               vms={f"g{i}": vm(memory="16M", autostart=False) for i in range(256)})
    clients = Clients([host])
    many_guests(host, clients)
    clients.ctl("host", "reboot", who="reader", code=1)
    for reboot in lambda: host.serial.send("reboot\r"), lambda: clients.ctl("host", "reboot"):
        host.serial.mark()
        reboot()
        host.serial.expect(r" host: reboots\n", 10)
        host.wait_prompt()
        assert host.machine.alive()
    assert "a goes down" in clients.ctl("host", "poweroff")[0]
    assert host.machine.wait_exit(30) == 0
    link.close()


def test_2_cpus_console_help_and_mistakes(own):
    boot_and_power_off(own, 2, help_and_mistakes)


def help_and_mistakes(host):
    text = host.command("help")
    for word in ("host", "vm list", "vm start", "migrate", "log", "poweroff"):
        assert word.split()[0] in text, f"`help` does not name {word}"
    assert max(map(len, text.splitlines())) <= 80 and "without asking the peers" in text, text
    for wrong in ("frobnicate", "vm start nobody", "vm console nobody", "migrate nobody b", "vm"):
        assert host.command(wrong).strip(), f"`{wrong}` is answered with nothing"
    start = host.serial.mark()
    host.command("log")                                 # its answer are log lines, which command() leaves out
    assert re.search(r"^\[ *\d+\.\d{6}\] info host: Godwit ", host.serial.text[start:], re.M), (
        "`log` does not show the log")


def seed_file(host):
    image = os.path.join(host.folder, f"{host.name}.img")
    return subprocess.run(["mtype", "-i", image, "::/godwit/seed"], check=True, capture_output=True).stdout


BRIDGES, ON_EACH = 6, 17


def crowd():
    """More than 100 PCI functions behind bridges behind bridges.  The network card comes after them.  On the first bus
    there is a card that nobody drives."""
    args = ["-device", "rtl8139,id=idle,addr=1d"]
    for i in range(BRIDGES):
        args += ["-device", f"pci-bridge,id=b{i},bus={f'b{i - 1}' if i else 'pcie.0'},chassis_nr={i + 1},shpc=off,"
                            f"addr=1e"]
        args += [arg for n in range(ON_EACH) for arg in ("-device", f"pci-testdev,bus=b{i},addr={1 + n // 8:x}.{n % 8}"
                                                         f",multifunction=on")]
    return args


def config_write(machine, bdf, offset, value):
    machine.monitor(f"o /w 0xcf8 {0x80000000 | bdf << 8 | offset:#x}")
    machine.monitor(f"o /h 0xcfc {value:#x}")


def is_master(machine, device):
    """May this kind of device write to memory?"""
    space = re.search(rf"address-space: {device}\n((?: .*\n)*)", machine.monitor("info mtree"))
    return "alias bus master" in space[1]


def debugger_goes_on(host):
    """As a debugger does that `make gdb` waits for: set boot_debugger_ready."""
    names = subprocess.run(["nm", os.path.join(BUILD, "godwit.elf")], check=True, capture_output=True, text=True).stdout
    at = int(re.search(r"image at 0x([0-9a-f]+)", host.log())[1], 16)
    at += int(re.search(r"^(\w+) . boot_debugger_ready$", names, re.M)[1], 16)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(os.path.join(RUNS, "gdb"))
        for packet in f"M{at:x},4:01000000", "D":
            s.sendall(f"+${packet}#{sum(packet.encode()) % 256:02x}".encode())
            said = b""
            while b"#9a" not in said:                   # OK, after an acknowledgement
                said += s.recv(100)


def test_dhcp_and_a_log_without_errors(own):
    """Behind a crowd of PCI functions, of which the firmware left one writing to memory."""
    a = own("a", UserNet(), host_keys={"ip": "dhcp"}, nic=f"virtio-net-pci,bus=b{BRIDGES - 1},addr=1f", buses=crowd(),
            files={"gdb": __file__}, extra=["-gdb", f"unix:{os.path.join(RUNS, 'gdb')},server=on,wait=off"], wait=False)
    a.wait_log("waiting for a debugger", BOOT_S)
    config_write(a.machine, 0x1d << 3, 4, 7)
    assert is_master(a.machine, "rtl8139")
    debugger_goes_on(a)
    a.wait_prompt()
    assert not is_master(a.machine, "rtl8139") and is_master(a.machine, "virtio-net-pci")
    assert int(re.search(r"info pci: (\d+) functions", a.log())[1]) > BRIDGES * ON_EACH
    a.wait_log(r"10\.0\.2\.15", 20)
    assert not re.search(r"^\[ *\d+\.\d{6}\] error|panic", a.log(), re.M | re.I), a.log()
    said = a.command("host")
    assert re.search(r"randomness from (rdseed\+)?rdrand\b", said), said   # QEMU 10 emulates RDSEED too
    assert any(seed_file(a)[:64]), "the disk was written to for a seed that is not needed"


def test_without_rdrand(own):
    """A processor without RDRAND and RDSEED: randomness comes from its timing, and connections are encrypted.  The
    machine has no PIT."""
    a = own("a", UserNet(), extra=["-cpu", "EPYC,-rdrand,-rdseed", "-machine", "pit=off"])
    assert re.search(r"MHz by the ACPI PM timer$", a.log(), re.M) and "differs from CPU 0's" not in a.log(), a.log()
    said = a.command("host")
    assert re.search(r"randomness from jitter\b",
                     said) and "fingerprint" in a.log() and "no encrypted connections" not in a.log(), said + a.log()
    pad = seed_file(a)
    assert pad[:64] == bytes(64) and len(set(pad[64:4096])) > 200, (
        "the boot left its piece of the seed file where it was")
