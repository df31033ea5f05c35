# SPDX-License-Identifier: BSD-2-Clause
"""A guest on one host: console, clocks, registers, power, and guests that misbehave.  The guest's side:
tests/guest/."""
import re
import time

from host import Link, vm
from tiny_guest import ELF_KERNELS, NO_LINUX, elf_files, elf_kernels_run, elf_line, elf_reset, elf_vms

SHELL = r"guest# "


def start_shell(host):
    """Have the VM "shell" at its prompt; leaves no console attached."""
    if not host.has_vm("shell"):
        host.command("vm start shell")
        with host.guest("shell") as g:
            g.ready()
            g.expect(SHELL)
    return host.guest("shell")


def test_boots_to_guest_ready(solo):
    with start_shell(solo.host) as g:
        g.shell("cat /proc/version", r"Linux version 6\.1\.")


def test_console_both_ways(solo):
    with start_shell(solo.host) as g:
        g.shell("echo x$((6*7))y", r"^x42y\n")
        long = "".join(chr(ord("a") + i % 26) for i in range(300))      # longer than any FIFO on the way
        g.shell(f"echo {long} | wc -c", r"^301\n")
        g.shell("i=0; while [ $i -lt 200 ]; do echo line $i of many; i=$((i+1)); done", r"^line 199 of many\n")


def test_console_output_is_complete(solo):
    with start_shell(solo.host) as g:
        start = solo.host.serial.mark()
        g.shell("i=0; while [ $i -lt 300 ]; do echo n$i; i=$((i+1)); done; echo e''nd", r"^end\n", 30)
        seen = re.findall(r"^n(\d+)$", solo.host.serial.text[start:], re.M)
        assert seen == [str(i) for i in range(300)], f"lines lost or mixed: {len(seen)} of 300"


def test_clock_is_right(solo):
    with start_shell(solo.host) as g:
        wall = int(g.shell("date +%s", r"^(\d{10})\n")[1])
        # both the PC's clock that the host read at boot and `date` cut off the part of a second
        assert -3 < wall - time.time() < 1, f"the guest's date is {wall - time.time():+.1f} s off"
        source = g.shell("cat /sys/devices/system/clocksource/clocksource0/current_clocksource", r"^(\S+)\n")[1]
        assert source == "kvm-clock", f"clock source is {source}"


def test_clock_goes_at_the_right_speed(solo):
    with start_shell(solo.host) as g:
        up1, t1 = float(g.shell("cat /proc/uptime", r"^([0-9.]+) [0-9.]+\n")[1]), time.monotonic()
        time.sleep(6)
        up2, t2 = float(g.shell("cat /proc/uptime", r"^([0-9.]+) [0-9.]+\n")[1]), time.monotonic()
        assert abs((up2 - up1) - (t2 - t1)) < 0.4, f"{up2 - up1:.2f} guest seconds in {t2 - t1:.2f}"
        wall = int(g.shell("date +%s; sleep 2; echo slept", r"^(\d{10})\n")[1])
        off = wall - time.time()                                # the bounds are those of test_clock_is_right()
        g.expect("^slept\n", 10)
        assert -3 < off < 1, f"the guest's date is {off:+.1f} s off"


def test_vector_registers(solo):
    with start_shell(solo.host) as g:
        assert g.shell("fpcheck 30", r"^fpcheck (ok|FAILED) .*avx=(\d)\n", 60).group(1, 2) == ("ok", "1")


def test_dirtier_verifies_and_can_fail(solo):
    with solo.host.guest("guest") as g:
        g.ticks(3)
        assert g.verify() == 32 * 256 * 512
        g.ask("poke 99", r"^poked page=99 word=77\n")
        assert g.ask("verify", r"^VERIFY (ok|FAILED) pages=.* bad=(\d+)").group(1, 2) == ("FAILED", "1"), (
            "a flipped bit was not found")
        g.ask("poke 99", r"^poked page=99 word=77\n")
        g.verify()


def idle_and_uptime(host):
    """What `host` says: each CPU's idle time, and how long the host has been up; all in ms."""
    text = host.command("host")
    return ([int(m) for m in re.findall(r"^cpu \d+: .* idle (\d+) ms", text, re.M)],
            int(re.search(r"^uptime_ms: (\d+)", text, re.M)[1]))


def test_idle_guest_idles_the_cpu(solo):
    """HLT gives the CPU back: a guest asleep must not have grown much CPU time; and a CPU is not idle for longer than
    time passes."""
    with start_shell(solo.host):
        pass
    idle, began = idle_and_uptime(solo.host)
    spent = [int(m) for m in re.findall(r"guest time (\d+) ms", solo.host.command("vm inspect shell"))]
    time.sleep(4)
    later = [int(m) for m in re.findall(r"guest time (\d+) ms", solo.host.command("vm inspect shell"))]
    assert spent and later and sum(later) - sum(spent) < 1500, f"{sum(later) - sum(spent)} ms of CPU in 4 s asleep"
    idle_later, ended = idle_and_uptime(solo.host)
    assert 0 < idle_later[0] - idle[0] <= ended - began + 5, (
        f"CPU 0 was idle for {idle_later[0] - idle[0]} of {ended - began} ms")


def test_unknown_ports(solo):
    with start_shell(solo.host) as g:
        g.shell("probe ports", r"port 0ea0: in8=ff in16=ffff in32=ffffffff\n(.*\n)*probe ports done", 30)
    solo.host.wait_log(r"port 0x0*ea0\b")


def test_unknown_addresses(solo):
    with start_shell(solo.host) as g:
        g.shell("probe mem 0xd0000000", r"^mem d0000000: before=ffffffff .*after=ffffffff\n", 30)
        g.shell("echo still $((40+2))", "^still 42\n")
    solo.host.wait_log(r"0x0*d0000")


def test_unknown_msrs(solo):
    with start_shell(solo.host) as g:
        g.shell("probe msr 0x4b564dee", r"^msr 4b564dee refused.*\n", 30)
        g.shell("probe msr 0x4b564dee 1", r"^msr 4b564dee refused")
        g.shell("echo still $((40+2))", "^still 42\n")
    solo.host.wait_log(r"shell.*MSR 0x4b564dee")


def test_nmi_dumps_the_state(solo):
    """An NMI from outside, as of a BMC's button."""
    solo.host.machine.monitor("nmi")
    solo.host.wait_log(r"nmi: NMI number 1 of CPU 0: its state was\n(.*\n)*?.* nmi: rip [0-9a-f]{16} (.*\n)*?.* nmi:   "
                       r"#1 [0-9a-f]{16} \w+\+0x")
    assert re.search(r"^cpu 0: .* nmi 1 interrupts", solo.host.command("host"), re.M)


def test_machine_check_stops_its_guest_only(solo):
    """An uncorrectable error of the memory that "shell" has; before it, a corrected one."""
    with start_shell(solo.host) as g:
        g.shell("grep -cw mce /proc/cpuinfo; dmesg | grep -c 'Machine check events logged'", r"^[1-9]\n0\n")
    host, inspected = solo.host, solo.host.command("vm inspect shell")
    at = int(re.search(r"address 0 at host's 0x([0-9a-f]+)", inspected)[1], 16) + 0x5000
    host.machine.monitor(f"mce 0 2 0x9400000000000000 0 {at:#x} 0")
    host.machine.monitor(f"mce 0 1 0xbd000000000000c0 5 {at:#x} 0x8c")
    host.wait_log(rf"mce: machine check, action-optional: CPU 0 bank 1 status 0xbd000000000000c0 host address {at:#x} ")
    host.wait_log(rf"vm: shell: its memory has lost data: .* host address {at:#x} \(CPU 0, bank 1\)")
    host.wait_log(r"mce: machine check, corrected: CPU 0 bank 2 ")
    listed = host.command("vm list")
    assert re.search(r"^shell +crashed .*its memory has lost data", listed, re.M), listed
    with host.guest("guest") as g:
        g.ticks(3)
    host.command("vm stop shell")


def test_reboot_restarts(solo):
    with start_shell(solo.host) as g:
        solo.host.serial.mark()  # the console shows what came before as well: that boot does not count
        g.send("reboot -f")
        g.ready()
        g.expect(SHELL)
    solo.host.wait_log(r"shell: .*reset")


def test_poweroff_ends_the_vm(solo):
    with start_shell(solo.host) as g:
        g.send("poweroff -f")
        solo.host.wait_log(r"shell: powered itself off")
    assert not solo.host.has_vm("shell")


def test_triple_fault_hurts_only_itself(solo):
    with start_shell(solo.host) as g:
        g.shell("probe triple", r"^probe triple: now\n")
        solo.host.wait_log(r"shell: .*triple fault at rip", 20)
        solo.host.wait_log(r"shell: resets itself", 20)             # what a PC does
        g.ready()
        g.expect(SHELL)
    with solo.host.guest("guest") as g:
        g.ticks(5)
        g.verify()


def test_stop_start_inspect(solo):
    solo.host.command("vm stop guest")
    assert not solo.host.has_vm("guest")
    assert solo.host.command("vm stop guest") is not None
    solo.host.command("vm start guest")
    assert solo.host.has_vm("guest")
    assert "exits" in solo.host.command("vm inspect guest")
    with solo.host.guest("guest") as g:
        g.ready()
        g.ticks(3)


def test_two_vcpus(own):
    host = own("a", cpus=3, vms={"guest": vm("godwit.run=dirtier,16,500", cpus=2)})
    with host.guest("guest") as g:
        assert int(g.expect(r"^guest ready .*cpus=(\d+)", 120)[1]) == 2
        g.ticks(5)
        g.verify()
    assert sorted(re.findall(r"^vCPU \d: pCPU (\d)", host.command("vm inspect guest"), re.M)) == ["1",
            "2"], "[host] guest-cpus = 1-2 was not kept"


def test_pvh_and_multiboot(own):
    """ELF kernels by both protocols: memory map, module, command line, ACPI, zeroed memory; a file that is loaded low
    and calls the BIOS.  Wherever they go, they restart from the files and the definition that they were started from:
    b has no files of one, and another kernel by the name of the other."""
    link, files = Link(), elf_files()
    other = {**vm(memory="24M", kernel="pvh", initrd=None, autostart=False), "cmdline": "other"}
    a = own("a", link, wait=False, peers="b", files=files, vms=elf_vms())
    b = own("b", link, wait=False, peers="a", files={**NO_LINUX, "pvh": files["multiboot"]}, vms={"pvh": other})
    a.wait_prompt()
    b.wait_prompt()
    elf_kernels_run(a)
    for name in ELF_KERNELS:
        for host, to in (a, b), (b, a):
            report = host.migrate(name, to.name)
            assert "reset:" not in report.text, report.text
            said = elf_reset(to, name)
            assert said == elf_line(name), f"on {to.name}: {said!r} is not {elf_line(name)!r}"
    a.command("vm stop pvh")                        # what b has by that name moves to a, which defines it otherwise
    b.command("vm start pvh")
    b.migrate("pvh", "a")
    said = elf_reset(a, "pvh")
    assert said.startswith("elf multiboot ") and "cmdline=[other]" in said, said
    assert a.poweroff() == 0 and b.poweroff() == 0
