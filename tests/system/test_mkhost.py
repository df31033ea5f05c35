# SPDX-License-Identifier: BSD-2-Clause
"""tools/mkhost reads the configuration as the host will, before it writes anything.  No emulator."""
import os
import re
import shutil
import subprocess
import tempfile

from host import MKHOST

GOOD = "[vm web]\nmemory = 64M\nkernel = vmlinuz\ninitrd = initrd.gz\nmodule = extra text\n"


class Bench:
    """A folder with keys of a and b, and files for guests."""

    def __init__(self, folder):
        self.folder, self.keys, self.stick = folder, os.path.join(folder, "keys"), os.path.join(folder, "stick")
        os.makedirs(self.stick)
        for name in ("vmlinuz", "initrd.gz", "extra", "efi"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(name)
        self.prints = {name: self.mkhost("--key", name)[1].strip() for name in "ab"}

    def mkhost(self, *args):
        run = subprocess.run([MKHOST, "--keydir", self.keys, *args], cwd=self.folder, capture_output=True, text=True,
                             check=False)
        return run.returncode, run.stdout, run.stderr

    def make(self, conf, *files, options=(), folder=None):
        """Make host a's stick from this configuration; returns the exit code, what was said, and what is on the
        stick."""
        if not folder:
            shutil.rmtree(self.stick)
            os.makedirs(self.stick)
        with open(os.path.join(self.folder, "a.conf"), "w", encoding="utf-8") as f:
            f.write(conf)
        named = [arg for file in files for arg in ("--file", file)]
        code, out, err = self.mkhost("--name", "a", "--conf", "a.conf", "--efi", "efi", "--folder", "stick", *options,
                                     *named)
        assert not out, out
        there = os.path.join(self.stick, "godwit")
        return code, err, sorted(os.listdir(there)) if os.path.isdir(there) else []


def bench(test):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            test(Bench(folder))
    run.__doc__ = test.__doc__
    return run


@bench
def test_mistakes(b):
    """A mistake is named with line, section and key in the host's words, and nothing is written; --anyway writes."""
    conf = f"[host]\nip = 10.7.0.1/99\ncolour = green\n[peer b]\naddress = 10.7.0.2\nfingerprint = 12\n{GOOD}[zoo]\n"
    files = ("vmlinuz", "initrd.gz", "extra")
    code, said, there = b.make(conf, *files)
    assert code == 1 and not there, (said, there)
    for line in (r"godwit\.conf:2: \[host\] ip: expected: dhcp, or address",
                 r"godwit\.conf:3: \[host\] colour: expected: a key of this",
                 r"godwit\.conf:6: \[peer b\] fingerprint: expected: 64 hex",
                 r"godwit\.conf:4: \[peer b\] fingerprint: expected: a valid",
                 r"godwit\.conf:12: \[zoo\]: expected: \[host\], \[peer NAME\]", r"^mkhost: a\.conf has mistakes"):
        assert re.search(line, said, re.M), (line, said)
    code, again, there = b.make(conf, *files, options=("--anyway",))
    assert code == 0 and "vmlinuz" in there and again in said, (again, there)


@bench
def test_files(b):
    """A file that the configuration names and that is not there is a warning, for each one, in any case of letters."""
    code, said, there = b.make(GOOD, "vmlinuz=VMLINUZ", "initrd.gz", "extra")
    assert (code, said) == (0, "") and there == ["VMLINUZ", "extra", "godwit.conf", "host.crt", "host.key", "initrd.gz",
                                                 "seed"], (said, there)
    code, said, _ = b.make(GOOD + "disk = ram:image\ncpu = pool\n", "vmlinuz")
    assert code == 0 and re.findall(r": warn: web: (.*)", said) == [
        r"file \godwit\initrd.gz is not on this host's boot disk",
        r"file \godwit\extra is not on this host's boot disk",
        r"file \godwit\image, its disk, is not on this host's boot disk",
        r"cpu = pool: file \godwit\pool-cpuid.txt is not on this host's boot disk"], said
    code, said, _ = b.make(GOOD, "initrd.gz", "extra", folder="as it is")      # the kernel is on the stick already
    assert (code, said) == (0, ""), said
    for files, words in ((("vmlinuz", "extra=VMLINUZ"), "twice"), (("vmlinuz=a/b",), "without folder"),
                         (("vmlinuz=" + "x" * 64,), "at most 63"), (("vmlinuz=kérnel",), "ASCII"),
                         (("extra=Host.key",), "the host's own"), (("extra=seed",), "the host's own"),
                         ([f"extra=f{i}" for i in range(61)], "64 files at most"), (("nothing",), "there is no file")):
        code, said, there = b.make("", *files)
        assert code == 1 and words in said and not there, (files, said)
    code, said, there = b.make("", *[f"extra=f{i}" for i in range(60)])
    assert code == 0 and len(there) == 64, said


@bench
def test_keys(b):
    """The key is put where [host] key says; one that does not belong to the certificate, and an old fingerprint of a
    peer, are found."""
    code, said, there = b.make("[host]\nkey = my.key\ncert = my.crt\n")
    assert (code, said) == (0, "") and there == ["godwit.conf", "my.crt", "my.key", "seed"], (said, there)
    both = "".join(f"[peer {name}]\naddress = 10.7.0.{i}\nfingerprint = {b.prints[name]}\n"
                   for i, name in enumerate("ab", 1))
    code, said, _ = b.make(both)                                               # one file for all hosts
    assert code == 0 and re.fullmatch(r"mkhost: a\.conf: info: \[peer a\] is this host itself and is skipped: .*\n",
                                      said), said
    code, said, _ = b.make(both.replace(b.prints["b"], "12" * 32))
    assert code == 0 and "warn: [peer b] fingerprint is not that of " in said, said
    shutil.copy(os.path.join(b.keys, "b.key"), os.path.join(b.keys, "a.key"))
    code, said, there = b.make("")
    assert code == 1 and "does not belong to the certificate" in said and not there, said
    os.remove(os.path.join(b.folder, "a.conf"))
    code, _, said = b.mkhost("--name", "a", "--conf", "a.conf", "--efi", "efi", "--folder", "stick")
    assert code == 1 and "there is no file a.conf" in said, said


@bench
def test_odd_arguments(b):
    """Names that the host would refuse, and places that cannot be written: a line, no traceback, nothing left."""
    with open(os.path.join(b.folder, "a.conf"), "w", encoding="utf-8") as f:
        f.write("[host]\nname = a\nip = 10.7.0.1/24\n")
    for words, want in ((("--key", "a/CN=b"), "a host's name is"), (("--key", "a b"), "a host's name is"),
                        (("--key", "n" * 32), "a host's name is"), (("--keydir", "/proc/x", "--key", "n"), "/proc/x: "),
                        (("--name", "a", "--conf", "a.conf", "--efi", "efi", "--out", "."), "is a folder")):
        code, _, said = b.mkhost(*words)
        assert code == 1 and want in said and "Traceback" not in said, (words, said)
        assert not os.path.exists(os.path.join(b.folder, "..partial")), words
