# SPDX-License-Identifier: BSD-2-Clause
"""Images into volumes and out again, and boot files in the store, by godwitctl and curl; the power goes in between."""
import hashlib
import json
import os
import random
import subprocess

from fixtures import Clients
from host import INITRD, Lan, ROOT, RUNS, vm

MIB = 1 << 20
IMAGE = 20 * MIB


def disk_file(golden, mib):
    """A disk that begins as golden does, which lvm2 made."""
    path = os.path.join(RUNS, f"volumes-{golden}.disk")
    with open(os.path.join(ROOT, "tests", "unit", "golden", f"lvm2_{golden}.bin"), "rb") as f, open(path, "wb") as out:
        out.write(f.read())
        out.truncate(mib * MIB)
    return path


def image_file():
    """A raw image: a boot record, data, zeroes, data.  Returns its path and SHA-256."""
    data = random.Random(12).randbytes(6 * MIB)
    data = data[:510] + b"\x55\xaa" + data[512:] + bytes(8 * MIB) + data
    path = os.path.join(RUNS, "volumes.img")
    with open(path, "wb") as f:
        f.write(data)
    return path, hashlib.sha256(data).hexdigest()


def cut_in_the_middle(host, clients, path, sha256):
    """Begin as godwitctl does, with curl; stop within the body."""
    volume = "/v1/stores/vg0/volumes/web"
    begun = clients.curl(host, f"{volume}/import", "-d", json.dumps({"bytes": IMAGE, "sha256": sha256}))
    assert begun[:2] == (0, 200) and json.loads(begun[2])["at"] == 0, begun
    cut = clients.curl(host, f"{volume}/data", "-T", path, "--limit-rate", "500K", "-m", "5",
                       "-H", f"Content-Range: bytes 0-{IMAGE - 1}/{IMAGE}")
    assert cut[0] == 28, cut
    kept = int(host.wait_log(r"vg0/web: no client; it goes on at byte (\d+)")[1])
    assert 0 < kept < IMAGE and kept % 65536 == 0
    refused = clients.curl(host, f"{volume}/data")
    assert refused[1] == 409 and "is in use" in json.loads(refused[2])["message"], refused
    return kept


def check_mistakes(clients):
    """What is no image, and what is too large, is told before anything is written."""
    text, large = (os.path.join(RUNS, f"volumes-{name}") for name in ("text", "large"))
    with open(text, "w", encoding="utf-8") as f:
        f.write("no image\n" * 1000)
    with open(large, "wb") as f:
        f.write(bytes(510) + b"\x55\xaa")
        f.truncate(40 * MIB)
    for path, code, words in ((text, 3, "no disk image"), ("/nowhere/x", 3, "No such file"),
                              (large, 1, "make it larger"), (RUNS, 3, "cannot be opened")):
        assert words in clients.ctl("volume", "import", path, "vg0/web", "--overwrite", code=code)[1], path


def check_formats(clients):
    """Images of other programs, as qemu-img writes them, arrive as what is in them."""
    raw, image, back = (os.path.join(RUNS, f"volumes-foreign.{kind}") for kind in ("raw", "image", "back"))
    data = random.Random(13).randbytes(3 * MIB)
    data = data[:510] + b"\x55\xaa" + data[512:MIB] + bytes(MIB) + data[2 * MIB:]
    with open(raw, "wb") as f:
        f.write(data)
    for kind in ("qcow2", "vhdx", "vmdk", "vdi", "vpc"):
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, raw, image], check=True)
        assert f"from {kind} to raw" in clients.ctl("volume", "import", image, "vg0/foreign")[1], kind
        clients.ctl("volume", "export", "vg0/foreign", back, "--force")
        with open(back, "rb") as f:
            assert f.read(len(data)) == data, f"the volume is not what the {kind} image had in it"
        clients.ctl("volume", "delete", "vg0/foreign", "--yes")
    return raw, data


def check_one_request(host, clients, path, data):
    """An image in one request, by curl."""
    clients.ctl("volume", "create", "vg0/foreign", "4M")
    for more in ((), ("-H", "Transfer-Encoding: chunked")):
        put = clients.curl(host, "/v1/stores/vg0/volumes/foreign/data", "-XPUT", "-T", path, *more)
        assert put[1] == 200 and json.loads(put[2]) == {"bytes": len(data),
                                                        "sha256": hashlib.sha256(data).hexdigest()}, put
    clients.ctl("volume", "delete", "vg0/foreign", "--yes")


def check_files(host, clients):
    """A guest's initrd is in the store."""
    assert "and not in its store" in host.command("vm start guest --force")
    clients.ctl("file", "put", INITRD, "stored.gz")
    clients.ctl("file", "put", INITRD, "same.gz")
    with open(INITRD, "rb") as f:
        sha256 = hashlib.sha256(f.read()).hexdigest()
    files = {f["name"]: f for f in clients.json("file", "list")["files"]}
    assert files["vmlinuz"]["place"] == "boot disk"
    for name in ("stored.gz", "same.gz"):
        assert files[name]["place"] == "store" and files[name]["sha256"] == sha256 and files[name]["used"], files
    host.command("vm start guest --force")
    with host.guest("guest") as g:
        g.ready()
    assert "the guest guest is started from" in clients.ctl("file", "delete", "stored.gz", code=1)[1]
    clients.ctl("file", "delete", "same.gz")
    assert {f["name"] for f in clients.json("file", "list")["files"]} >= {"stored.gz"}


def test_images_and_files(own):
    """An import is cut in the middle, the host loses its power, and the import goes on; the export is the image.
    Images of other formats are converted.  A guest starts from a file of the store."""
    path, sha256 = image_file()
    disks = [arg for i, disk in enumerate((disk_file("one_disk", 64), disk_file("registry", 24))) for arg in (
        "-drive", f"file={disk},if=none,id=store{i},format=raw", "-device", f"nvme,drive=store{i},serial=godwit{i}")]
    link = Lan()
    host = {"link": link, "vms": {"guest": vm(initrd="stored.gz", autostart=False)}, "clients": Clients.ROLES,
            "extra": disks}
    a = own("a", **host)
    clients = Clients([a])
    check_mistakes(clients)
    kept = cut_in_the_middle(a, clients, path, sha256)
    a.kill()
    a = own("a", **host)
    assert "has not ended" in clients.ctl("volume", "export", "vg0/web", os.devnull, "--force", code=1)[1]
    out, err = clients.ctl("volume", "import", path, "vg0/web", "--base", timeout=120)
    assert f"going on at byte {kept} of {IMAGE}" in err and sha256 in out, out + err
    back = os.path.join(RUNS, "volumes.back")
    clients.ctl("volume", "export", "vg0/web", back, "--force", timeout=120)
    with open(back, "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest() == sha256, "the export is not the image"
    assert "read-only" in clients.ctl("volume", "import", path, "vg0/web", "--yes", code=1)[1]
    job = json.loads(clients.curl(a, "/v1/jobs/2")[2])
    print(f"export: {job['bytes'] / job['elapsed_us']:.1f} MB/s")
    check_one_request(a, clients, *check_formats(clients))
    check_files(a, clients)
    link.close()
