# SPDX-License-Identifier: BSD-2-Clause
"""The host by itself: boot with 1, 2 and 4 CPUs, console, power-off, reset, DHCP, memory."""
import re

from host import UserNet


def boot_and_power_off(own, cpus):
    host = own("a", cpus=cpus)
    assert re.search(rf"\b{cpus} (p?CPUs?)\b.*", host.log(), re.I), f"the log does not say that {cpus} CPUs came up:\n{host.log()[-1500:]}"
    assert re.search(rf"\b{cpus}\b", host.command("host")), "`host` does not show the number of CPUs"
    assert host.poweroff() == 0


def test_1_cpu(own):
    boot_and_power_off(own, 1)


def test_2_cpus(own):
    boot_and_power_off(own, 2)


def test_4_cpus(own):
    boot_and_power_off(own, 4)


def test_reboot_resets(own):
    host = own("a", reboot=True)
    host.serial.mark()
    host.serial.send("reboot\r")
    host.wait_prompt()
    assert host.machine.alive()


def test_console_help_and_mistakes(own):
    host = own("a")
    text = host.command("help")
    for word in ("host", "vm list", "vm start", "migrate", "log", "poweroff"):
        assert word.split()[0] in text, f"`help` does not name {word}"
    for wrong in ("frobnicate", "vm start nobody", "vm console nobody", "migrate nobody b", "vm"):
        assert host.command(wrong).strip(), f"`{wrong}` is answered with nothing"
    assert "kernel" in host.command("log") or "boot" in host.command("log")


def test_dhcp(own):
    host = own("a", UserNet(), host_keys={"ip": "dhcp"})
    host.wait_log(r"10\.0\.2\.15", 20)


def test_log_has_no_error_or_panic(own):
    log = own("a").log()
    assert not re.search(r"^\[ *\d+\.\d{6}\] error|panic", log, re.M | re.I), log
