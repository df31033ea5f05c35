# SPDX-License-Identifier: BSD-2-Clause
"""godwitctl alone, against a fake host in Python that gives each check the answer it needs, rare ones included.
Answers of real hosts: test_api.py and test_operate.py."""
import contextlib
import fcntl
import hashlib
import http.server
import json
import os
import pty
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import termios
import threading
import time

from emulator import ROOT
from fixtures import Clients
from host import fingerprint

DEFINITION = b"[vm web]\n; caf\xc3\xa9\nmemory = 64M\nkernel = k\n"
EDITOR = {"VISUAL": "", "EDITOR": "sh -c 'echo >>\"$0\"'"}
DOUBT = "no answer to COMMIT for 10 s"
MOVE = {"id": 1, "vm": "web", "to": "b", "state": "moved", "ended": True, "percent": 100, "elapsed_us": 2000000,
        "blackout_us": 21000, "wire_bytes": 61000000,
        "rounds": [{"start_us": 0, "us": 1900000, "bytes": 60000000, "pages": 14000, "dirty_pages": 174,
                    "dirty_pages_per_s": 1000}], "blackout": {}, "pages": {}}
IN_DOUBT = {**MOVE, "state": "in-doubt", "ended": False, "doubt": DOUBT}
FAILED = {**MOVE, "state": "failed", "error": {"code": "HV_E_TIMEOUT", "message": "b does not answer"}}
WEIGH = {"code": "HV_E_AGAIN", "meaning": "", "message": f"web was committed to b: {DOUBT}.  Look at b first"}
EVACUATION = {"active": False, "guests": 1, "over": 1, "failed": 0,
              "items": [{"vm": "web", "migration": 1, "to": "b", "over": True, "gone": True}]}
USUAL = {
    "GET /v1": {"paths": [{"path": "/v1/migrations"}]},
    "GET /v1/host": {"name": "a", "address": "10.7.0.1", "peers": [{"name": "b"}], "cpus": [], "memory": {}},
    "GET /v1/log": b"caf\xe9 \xff\n",
    "GET /v1/vms": {"vms": [{"name": "web", "state": "running", "memory_bytes": 1 << 28, "cpus": 1}]},
    "GET /v1/vms/web": {"name": "web", "state": "running"},
    "GET /v1/vms/web/inspect": {"vcpus": [], "details": ["line"]},
    **{f"POST /v1/vms/web/{verb}": {"message": f"web: {verb}"} for verb in ("start", "stop", "pause", "resume",
                                                                             "shutdown", "reset", "nmi", "set")},
    "GET /v1/vms/web/console?since=0": b"tick\r\n\xff", "POST /v1/vms/web/console": {"taken": 5},
    "GET /v1/migrations": {"migrations": [MOVE]}, "POST /v1/migrations": MOVE, "GET /v1/migrations/1": MOVE,
    "POST /v1/migrations/1/cancel": {"message": "cancelled"},
    "POST /v1/migrations/1/set": {"message": "web moves with 5 MB/s at most"},
    "POST /v1/migrations/1/resolve": {"message": "web: resumed here"},
    "POST /v1/host/set": {"message": "lz4 = no"}, "POST /v1/peers": {"message": "b is a peer of a"},
    "GET /v1/peers": {"peers": []}, "GET /v1/clients": {"clients": []},
    "DELETE /v1/peers/b": {"message": "b is no peer of a any more"}, "POST /v1/clients": {"message": "me is a client"},
    "DELETE /v1/clients/me": {"message": "me is no client"},
    "POST /v1/host/poweroff": EVACUATION, "POST /v1/host/reboot": EVACUATION,
    "GET /v1/events?since=0&boot=&timeout=0": {"boot": "f00", "next": 2, "missed": 0, "restarted": False, "events": [
        {"number": 1, "uptime_us": 5, "unix_us": 1_700_000_000_000_000, "kind": "guest", "subject": "web",
         "what": "running", "text": "web is running"}]},
    "GET /v1/host/evacuate": EVACUATION, "POST /v1/host/evacuate": EVACUATION,
    "GET /v1/disks": {"disks": [{"name": "nvme0", "bytes": 1 << 35, "state": "good", "contents": "nothing"}]},
    "GET /v1/stores": {"stores": [{"name": "godwit", "bytes": 1 << 35, "free_bytes": 1 << 34, "disks": ["nvme0"]}]},
    "GET /v1/stores/godwit/volumes": {"volumes": [{"name": "web", "bytes": 1 << 31, "allocated_bytes": 1 << 31}]},
    "POST /v1/stores": {"job": 1}, "POST /v1/stores/godwit/volumes": {"job": 1},
    "POST /v1/stores/godwit/volumes/web/resize": {"job": 1}, "POST /v1/stores/godwit/volumes/web/rename": {"job": 1},
    "DELETE /v1/stores/godwit/volumes/web": {"job": 1},
    "POST /v1/stores/godwit/volumes/web/snapshot": {"job": 1}, "POST /v1/stores/godwit/volumes/web/revert": {"job": 1},
    "PUT /v1/vms/web": {"job": 1, "warning": "no kernel"}, "DELETE /v1/vms/web": {"job": 1},
    "POST /v1/vms/web/disks": {"job": 1, "warning": "no volume"}, "DELETE /v1/vms/web/disks/vdb": {"job": 1},
    "POST /v1/vms/web/disks/vda/move": {"job": 1},
    "POST /v1/vms/web/save": {"job": 1}, "POST /v1/vms/web/save/cancel": {"message": "web runs on"},
    "POST /v1/vms/web/restore": {"job": 1},
    "GET /v1/vms/web/checkpoints": {"checkpoints": [{"name": "cp1", "unix_s": 1796038238, "memory": True, "volumes": 1,
                                                     "bytes": 1 << 26, "store": "godwit", "state": "kept"}]},
    "POST /v1/vms/web/checkpoints": {"job": 1}, "DELETE /v1/vms/web/checkpoints/cp1": {"job": 1},
    "POST /v1/vms/web/checkpoints/cp1/revert": {"job": 1},
    "POST /v1/vms/web/nics": {"job": 1}, "DELETE /v1/vms/web/nics/02:47:57:00:00:01": {"job": 1},
    "GET /v1/vms/web/config": DEFINITION, "POST /v1/stores/godwit/adopt": {"job": 1},
    "GET /v1/jobs": {"jobs": [{"job": 1, "state": "done", "what": "do", "elapsed_us": 5000000}]},
    "GET /v1/jobs/1": {"job": 1, "state": "done", "what": "do", "code": "HV_OK", "message": "it is done"},
    "POST /v1/validate": {"vm": "web", "to": "b", "known": True, "would_move": True, "reasons": []},
}
STORE_ARGUMENTS = {"store create": ["a", "nvme0", "--yes"], "volume create": ["web", "2G"],
                   "volume resize": ["web", "3G"], "volume rename": ["godwit/web", "old"],
                   "volume delete": ["web", "--yes"], "volume clone": ["web", "w2"],
                   "volume snapshot": ["web", "monday"], "volume revert": ["web", "--yes"]}

MIB = 1 << 20
with open(os.path.join(ROOT, "LICENSE"), "rb") as some_file:
    SHA256 = hashlib.sha256(some_file.read()).hexdigest()
DEVICES = {"vm disk attach": ["web", "lv:godwit/data", "read-only"], "vm disk detach": ["web", "vdb"],
           "vm nic attach": ["web"], "vm nic detach": ["web", "02:47:57:00:00:01"],
           "vm checkpoint create": ["web"], "vm checkpoint list": ["web"], "vm checkpoint revert": ["web", "cp1"],
           "vm checkpoint delete": ["web", "cp1"]}
FILES = {"file put": [os.path.join(ROOT, "LICENSE"), "x"], "file delete": ["x"], "file list": []}
USUAL.update({
    "GET /v1/files": {"files": [{"name": "x", "place": "store", "bytes": 5, "sha256": SHA256, "used": False}]},
    f"PUT /v1/files/x?sha256={SHA256}": {"name": "x", "message": "hidden"}, "DELETE /v1/files/x": {"job": 33},
    "GET /v1/jobs/33": {"state": "done", "message": "good"}
})


class FakeHost:
    """An HTTPS server on 127.0.0.1 with the certificate of host a (or name).  answers: {"METHOD PATH": object, bytes,
    (status, object), or a function of the request's body}; headers: {"METHOD PATH": further headers}; asked: what it
    was asked, with bodies.  It knows the client "operator".  beside: another one, whose clients know this one, too."""

    def __init__(self, name="a", beside=None):
        self.name, self.answers, self.asked = name, dict(USUAL), []
        self.headers = {"GET /v1/vms/web/config": {"Godwit-Source": "registry"}}
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("latin-1")
                question = f"{self.command} {self.path}"
                fake.asked.append((question, body))
                answer = fake.answers.get(question, (404, {"code": "HV_E_NOENT", "message": "no path"}))
                if callable(answer):
                    answer = answer(body if self.command == "PUT" else json.loads(body or "null"))
                status, answer = answer if isinstance(answer, tuple) else (200, answer)
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
                self.send_header("Content-Length", str(len(raw)))
                for name, value in fake.headers.get(question, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_):
                pass

            do_PUT = do_DELETE = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None              # a client that goes away
        self.api_address, self.api_port = self.server.server_address
        self.clients = beside.clients if beside else Clients([self])
        if beside:
            with open(self.clients.config("operator"), "a", encoding="utf-8") as f:
                f.write(f"[host {name}]\naddress = 127.0.0.1\nport = {self.api_port}\n"
                        f"fingerprint = {fingerprint(name)}\n")
        self.clients_known("operator")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clients_known(self, who):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(self.clients.pem(self.name, "crt"), self.clients.pem(self.name, "key"))
        tls.load_verify_locations(self.clients.pem(who, "crt"))
        tls.verify_mode = ssl.CERT_REQUIRED
        self.tls = tls
        accept = type(self.server).get_request
        self.server.get_request = lambda: self.wrapped(*accept(self.server))

    def wrapped(self, sock, peer):
        sock.settimeout(10)
        return self.tls.wrap_socket(sock, server_side=True), peer

    def ctl(self, *args, **kw):
        return self.clients.ctl(*args, **{"env": EDITOR, **kw})

    def file(self, name, text):
        with open(os.path.join(self.clients.folder, name), "wb") as f:
            f.write(text)
        return f.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def commands():
    """Every command of --help, as a tuple of words."""
    out = subprocess.run([Clients.GODWITCTL, "--help"], capture_output=True, text=True, check=True).stdout
    groups = "key|validate|events|peer|client|host|vm|migration|job|disk|store|volume|file"
    found = re.findall(rf"^  (vm (?:disk|nic|checkpoint) [a-z]+|(?:{groups})(?: [a-z-]+)?)(?= |$)",
                       out.split("options:")[0], re.M)
    assert len(found) >= 21, found
    found += re.findall(r"^  (file [a-z]+)(?= )", out, re.M)
    return [tuple(words.split()) for words in found], out


def test_json_and_help_everywhere():
    """Each command that there is, with --json: one JSON document, on success and on failure; and its --help, with an
    example of itself."""
    arguments = {**FILES, "host add": ["z", "{there}", "--yes"], "host rename": ["z", "y"], "host remove": ["y"],
                 "vm migrate": ["web", "--to", "b"], "vm move-disk": ["web", "vda", "--to", "godwit/new"],
                 "job watch": ["1"], "vm console": ["web", "--print"], "vm shutdown": ["web", "--detach"],
                 "vm set": ["web", "memory-target", "64M"], "host set": ["a", "lz4", "no"],
                 "peer add": ["a", "b", "--yes"], "peer remove": ["a", "b"], "client remove": ["a", "me"],
                 "client add": ["a", "me", "--fingerprint", "ab" * 32], **STORE_ARGUMENTS, **DEVICES,
                 "vm define": ["{web}"], "store adopt": ["a", "godwit", "--yes"],
                 "migration set": ["web", "--limit", "5"],
                 "migration resolve": ["web", "--resume-here", "--yes"]}
    with FakeHost() as a:
        conf, two = (os.path.join(a.clients.folder, name) for name in ("json.conf", "two.conf"))
        with open(a.clients.config("operator"), encoding="utf-8") as f, open(conf, "w", encoding="utf-8") as out:
            text = f.read()
            out.write(text)
        with open(two, "w", encoding="utf-8") as out:                       # b is the same host
            out.write(text + text[text.index("[host a]"):].replace("[host a]", "[host b]"))
        for words in commands()[0]:
            if words in (("volume", "import"), ("volume", "export")):
                continue                                        # test_image_converted, test_export_compared
            more = arguments.get(" ".join(words), ["web"] if words[0] in ("vm", "migration", "validate")
                                 and words[-1] != "list" else [])
            more = [m.format(there=f"127.0.0.1:{a.api_port}", web=a.file("web.conf", DEFINITION)) for m in more]
            use = (conf if words[0] == "host" and words[1] in ("add", "rename", "remove")
                   else two if words == ("peer", "add") else None)
            said = json.loads(a.ctl("--json", *words, *more, config=use)[0])
            assert said and "error" not in said, (words, said)
            if words == ("key",):
                continue                                        # has nobody to ask
            answers, a.answers = a.answers, {}
            out, err = a.ctl("--json", *words, *more, config=use, code=None)
            said = json.loads(out)
            assert words[-1] in ("list", "validate", "events") or (said["error"]["message"]
                                                                   and said["error"]["exit"] > 0), (words, said)
            assert err.startswith("godwitctl: "), (words, err)
            a.answers = answers
            shown, _ = a.ctl(*words, "--help")
            assert re.search(rf"^  godwitctl .*{' '.join(words)}", shown.split("examples:")[1], re.M), shown
        assert json.loads(a.ctl("--json", "vm", "console", "web", "--send", "date")[0])["sent"] == "date"
        said = json.loads(a.ctl("--json", "host", "log", "a")[0])
        assert said["log"] == "caf\\xe9 \\xff\n", said


def test_devices():
    """What `vm disk` and `vm nic` ask a host for; a warning of its is told."""
    with FakeHost() as a:
        for words, asked in ((("disk", "attach", "web", "nbd:10.7.0.9/x", "serial=y", "--fingerprint", "ab" * 32),
                              {"disk": "nbd:10.7.0.9/x serial=y", "fingerprint": "ab" * 32}),
                             (("disk", "attach", "web", "lv:g/v"), {"disk": "lv:g/v"}),
                             (("nic", "attach", "web"), {"spoof": False}),
                             (("nic", "attach", "web", "02:47:57:00:00:09", "--spoof"),
                              {"mac": "02:47:57:00:00:09", "spoof": True})):
            out, err = a.ctl("vm", *words)
            assert out == "a: it is done\n" and ("no volume" in err) == (words[0] == "disk"), (out, err)
            assert [json.loads(body) for question, body in a.asked if question.startswith("POST")][-1] == asked
        a.answers["GET /v1/vms/web"] = {
            "name": "web", "state": "running", "modules": [], "cards": [{"mac": "02:47:57:00:00:09",
                                                                        "addresses": ["10.7.0.9"]}],
            "nics": [{"mac": "02:47:57:00:00:09", "spoof": True}],
            "disks": [{"device": "vda", "disk": "lv:g/v", "read_only": False, "bytes": 4 * MIB},
                      {"device": "vdb", "disk": "ram:2M", "read_only": True, "serial": "y"}]}
        shown = a.ctl("vm", "show", "web")[0]
        assert shown == ("name: web\nstate: running\naddresses of 02:47:57:00:00:09: 10.7.0.9\n"
                         "card: 02:47:57:00:00:09, may send from any address\n"
                         f"vda: lv:g/v, {4 * MIB} bytes\nvdb: ram:2M read-only serial=y\nhost: a\n"), shown
        a.ctl("vm", "disk", "detach", "web", "lv:g/v", code=2)
        a.ctl("vm", "nic", "detach", "web", "eth0/1", code=2)


def fake_volume(a, sha256, length):
    """Answers of an import into g/v: the pieces and zeroes that come, in order; the second piece finds that the
    connection broke."""
    path, got, breaks = "/v1/stores/g/volumes/v", bytearray(), [1]

    def piece(body):
        if got and breaks:
            breaks.pop()
            return 200, bytearray                               # no JSON: the handler fails, the connection breaks
        got.extend(body.encode("latin-1"))
        return {"at": len(got), "bytes": length}

    def zeroes(_):
        got.extend(bytes(MIB))
        return {"at": len(got), "bytes": length}

    def begin(body):
        assert body == {"bytes": length, "sha256": sha256}, body
        return {"at": len(got), "bytes": length}

    a.answers.update({f"POST {path}/import": begin, f"PUT {path}/data": piece, f"PUT {path}/data?zeroes=1": zeroes,
                      f"POST {path}/import/finish": lambda body: (202, {"job": 3, **body}),
                      "GET /v1/jobs/3": {"state": "done", "message": "good"},
                      "GET /v1/stores/g/volumes": {"volumes": []}, "POST /v1/stores/g/volumes": {"job": 1}})
    return got


def test_image_converted():
    """A qcow2 image is converted, zeroes are not sent, a broken connection is taken up again; what the host says at
    the end is told.  Without qemu-img it is said what is missing, and nothing is left behind."""
    raw = b"\0" * 510 + b"\x55\xaa" + os.urandom(MIB - 512) + bytes(MIB) + os.urandom(5000)
    with FakeHost() as a, tempfile.TemporaryDirectory() as folder:
        path, qcow2 = (os.path.join(folder, f"image.{kind}") for kind in ("raw", "qcow2"))
        with open(path, "wb") as f:
            f.write(raw)
            f.truncate(-(-len(raw) // 512) * 512)               # qemu-img rounds up
        with open(path, "rb") as f:
            raw = f.read()
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, qcow2], check=True)
        got = fake_volume(a, hashlib.sha256(raw).hexdigest(), len(raw))
        temporary = os.path.join(folder, "tmp")
        os.mkdir(temporary)
        os.environ["TMPDIR"] = temporary
        try:
            for image in (path, qcow2):                         # the volume is there the second time
                got.clear()
                out, err = a.ctl("volume", "import", image, "g/v", "--base", *["--overwrite"] * (image == qcow2))
                assert got == raw and "base volume" in out, (image, out, err)
                assert ("converting" in err) == (image == qcow2), err
                a.answers["GET /v1/stores/g/volumes"] = {"volumes": [{"name": "v"}]}
            made = [json.loads(body) for question, body in a.asked if question == "POST /v1/stores/g/volumes"]
            assert made == [{"name": "v", "bytes": len(raw)}], made
            asked = len(a.asked)
            a.answers["GET /v1/stores/g/volumes"] = {"volumes": [{"name": "v", "holds": "saved web", "bytes": MIB}]}
            err = a.ctl("volume", "import", path, "g/v", stdin="no\n", code=1)[1]
            assert "v of a is there, with 1 MiB: saved web; lose all that is in it? (yes/no)" in err, err
            assert not any(q.startswith(("POST", "PUT")) for q, _ in a.asked[asked:])
            assert "bytes imported" in a.ctl("volume", "import", path, "g/v", stdin="yes\n")[0]
            a.answers["GET /v1/stores/g/volumes"] = {"volumes": [{"name": "v", "holds": "import 0"}]}   # its own, begun
            a.answers["GET /v1/jobs/3"] = {"state": "failed", "code": "HV_E_DIGEST", "message": "its SHA-256 differs"}
            assert "SHA-256 differs (HV_E_DIGEST)" in a.ctl("volume", "import", path, "g/v", code=1)[1]
            saved = b"GODWITMG" + raw[8:]                           # a saved guest, from another host
            with open(path, "wb") as f:
                f.write(saved)
            fake_volume(a, hashlib.sha256(saved).hexdigest(), len(saved))
            assert "bytes imported" in a.ctl("volume", "import", path, "g/v")[0]
            with open(qcow2, "r+b") as f:
                f.truncate(MIB)                                 # a download that broke off
            assert "its end is missing" in a.ctl("volume", "import", qcow2, "g/v", code=3)[1]
            where, os.environ["PATH"] = os.environ["PATH"], folder
            try:
                err = a.ctl("volume", "import", qcow2, "g/v", code=3)[1]
            finally:
                os.environ["PATH"] = where
            assert "qcow2" in err and "install qemu-utils" in err, err
            assert not os.listdir(temporary)
        finally:
            del os.environ["TMPDIR"]


def test_export_compared():
    """What came is compared with what the host says that it sent; a file that is there is not written over."""
    data = os.urandom(10000) + bytes(20000)
    with FakeHost() as a, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "out")
        a.answers["GET /v1/stores/g/volumes/v/data"] = data
        a.headers["GET /v1/stores/g/volumes/v/data"] = {"Godwit-Job": "4"}
        for digest, code, words in ((hashlib.sha256(data).hexdigest(), 0, "30000 bytes exported"),
                                    ("0" * 64, 1, "the SHA-256 differs")):
            a.answers["GET /v1/jobs/4"] = {"state": "done", "message": f"30000 bytes, sha256 {digest}"}
            assert words in "".join(a.ctl("volume", "export", "g/v", path, "--force", code=code))
            with open(path, "rb") as f:
                assert f.read() == data
        large = os.urandom(MIB) * 48
        a.answers["GET /v1/stores/g/volumes/v/data"] = large
        a.answers["GET /v1/jobs/4"] = {"state": "done", "message": hashlib.sha256(large).hexdigest()}
        bars = drawn(on_terminal(a, 80, "volume", "export", "g/v", path, "--force")[1])
        assert bars and all(re.search(r" of 50\.3 MB, \d+ %, ", b) for b in bars), bars
        a.answers["GET /v1/stores/g/volumes/v/data"] = data
        a.ctl("volume", "export", "g/v", path, "--force", code=1)
        assert "--force writes over it" in a.ctl("volume", "export", "g/v", path, code=3)[1]
        for file in (path, path + ".new"):                      # refused: no file is made, none is emptied
            a.ctl("volume", "export", "g/nope", file, "--force", code=1)
        assert os.listdir(folder) == ["out"] and os.path.getsize(path) == len(data)
        a.answers["GET /v1/stores"] = {"stores": [{"name": "g"}]}
        a.answers["GET /v1/jobs/4"] = {"state": "done", "message": hashlib.sha256(data).hexdigest()}
        a.ctl("volume", "export", "v", path, "--force")


EVIL = "\x1b]0;title\x07\x1b[2J\r\x7f\x9b31m\u202eesrever\u2066\u200b\U000e0041\nb: web started\t"
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f"
                     "\U000e0000-\U000e007f]")


def poisoned(answer):
    """The same answer from a hostile host: each text ends in EVIL, but for those that lead a command further; more
    guests, moves and fields have evil names."""
    if isinstance(answer, dict):
        keep = {"vm", "name", "state"}
        return {**{k: v if k in keep else poisoned(v) for k, v in answer.items()}, EVIL: EVIL}
    if isinstance(answer, list):
        return [poisoned(v) for v in answer] + [{**v, **{k: w + EVIL for k, w in v.items() if isinstance(w, str)}}
                                                for v in answer if isinstance(v, dict)]
    return answer + EVIL if isinstance(answer, str) else answer


def test_text_of_hosts_is_escaped():
    """Whatever a host says, a terminal sees no control character, escape sequence or reordered text of it, in each
    command, with and without --json; only a console's bytes pass as they are."""
    usual = {**FILES, "host add": ["z", "{there}", "--yes"], "vm migrate": ["web", "--to", "b"],
             "vm console": ["web", "--print"], "migration resolve": ["web", "--resume-here", "--yes"], "validate": [],
             "vm define": ["{web}"], "store adopt": ["a", "godwit", "--yes"],
             "vm shutdown": ["web", "--timeout", "0"], "vm set": ["web", "memory-target", "64M"],
             "host set": ["a", "lz4", "no"], "peer add": ["a", "b", "--yes"], "peer remove": ["a", "b"],
             "client remove": ["a", "me"], "client add": ["a", "me", "--fingerprint", "ab" * 32], **STORE_ARGUMENTS,
             **DEVICES}
    with FakeHost() as a:
        conf = os.path.join(a.clients.folder, "evil.conf")
        for words in commands()[0]:
            more = usual.get(" ".join(words), ["web"] * (words[0] in ("vm", "migration") and words[-1] != "list"))
            more = [m.format(there=f"127.0.0.1:{a.api_port}", web=a.file("web.conf", DEFINITION)) for m in more]
            for good in (True, False):
                for path, answer in USUAL.items():
                    evil = (EVIL.encode() + b"\x9b2J" * ("log" in path) if isinstance(answer, bytes)
                            else poisoned(answer))
                    a.answers[path] = evil if good else (409, poisoned({"code": "HV_E_BUSY", "message": "no"}))
                a.answers["GET /v1/migrations/1"] = a.answers["GET /v1/migrations/1"] if not good else poisoned(FAILED)
                for json_too in (False, True):
                    with open(a.clients.config("operator"), encoding="utf-8") as f, open(conf, "w",
                            encoding="utf-8") as out:
                        out.write(f.read())
                    out, err = a.ctl(*["--json"] * json_too, *words, *more, config=conf, code=None)
                    raw = words == ("vm", "console") and good and not json_too
                    assert bool(HARMFUL.search(out)) == raw and not HARMFUL.search(err), (words, good, out, err)
                    assert not re.search(r"^b: web started", err if raw or "log" in words else out + err, re.M), (words,
                            out, err)
                    if json_too and words != ("key",):
                        json.loads(out)
        a.answers["GET /v1/migrations/1"] = moving(2, phase="PRE" + EVIL, state="in-doubt", doubt=EVIL)
        assert "esrever" in (shown := on_terminal(a, 120, "migration", "watch", "a/1")[1])
        assert not HARMFUL.search(re.sub(r"\033\[\?7[lh]|\033\[K|\r", "", shown)), shown
        assert "\\x1b[2J\\x0d\\x7f\\u009b31m\\u202eesrever" in shown, shown


def test_stores():
    """A disk is overwritten only after a yes that was typed with its contents in view; what fails in a job is an error
    as any other; a volume's store is found."""
    with FakeHost() as a:
        out, err = a.ctl("store", "create", "a", "nvme0", stdin="no\n", code=1)
        assert "it has nothing\neverything on it will be lost" in err and "nvme0 is left as it is" in err, err
        assert not [q for q, _ in a.asked if q.startswith("POST")]
        assert "it is done" in a.ctl("store", "create", "a", "nvme0", "--name", "s2", stdin="yes\n")[0]
        assert json.loads(a.asked[-2][1]) == {"disk": "nvme0", "sure": True, "name": "s2"}, a.asked
        assert "has no disk named sda" in a.ctl("store", "create", "a", "sda", code=1)[1]
        a.answers["GET /v1/jobs/1"] = {"state": "failed", "code": "HV_E_IO", "message": "nvme0 failed"}
        assert "a: nvme0 failed (HV_E_IO)" in a.ctl("volume", "create", "web", "2G", code=1)[1]
        assert ("POST /v1/stores/godwit/volumes", '{"name": "web", "bytes": 2147483648}') in [
            (q, json.dumps(json.loads(b)) if b else b) for q, b in a.asked]
        assert "2 is no size; write it like 512M" in a.ctl("volume", "create", "web", "2", code=2)[1]
        assert re.search(r"^godwit/web +a +2.0 GiB", a.ctl("volume", "list")[0], re.M)
        part = {"name": "cp", "bytes": 1 << 31, "holds": "checkpoint web:cp1", "usable": True, "read_only": True}
        a.answers["GET /v1/stores/godwit/volumes"] = {"volumes": [part]}
        assert re.search(r"^godwit/cp .* checkpoint web:cp1, read-only$", a.ctl("volume", "list")[0], re.M)
        a.answers["GET /v1/stores"] = {"stores": []}
        assert "has no store; `godwitctl store create a DISK`" in a.ctl("volume", "delete", "web", "--yes", code=1)[1]
        a.answers["GET /v1/stores"] = {"stores": [{"name": "x"}, {"name": "y"}]}
        assert "a has 2 stores: write STORE/web" in a.ctl("volume", "delete", "web", "--yes", code=2)[1]


def test_lists():
    """Tables keep their columns with names of 31 characters; moves of all hosts, newest first, with time and age; a
    guest that has left a host is not listed there as well."""
    long = "n" * 31
    with FakeHost() as a, FakeHost("b", beside=a) as b:
        guest = USUAL["GET /v1/vms"]["vms"][0]
        a.answers["GET /v1/vms"] = {"vms": [{**guest, "name": long, "age_us": 200_000_000, "waits": "for its disk"},
                                            {**guest, "state": "stopped"}, {**guest, "name": "db", "state": "stopped",
                                                                            "start_text": "no file"}]}
        b.answers["GET /v1/vms"] = {"vms": [{**guest, "age_us": 5_000_000}, {**guest, "name": "db",
                                                                             "state": "stopped"}]}
        out = a.ctl("vm", "list")[0]
        assert [line.split()[:2] for line in out.splitlines()[1:]] == [[long, "a"], ["db", "a"], ["web", "b"],
                                                                       ["db", "b"]], out
        assert "3 min  for its disk" in out and "5 s\n" in out and "-  not started: no file" in out, out
        assert re.search(r"^web +a +stopped", a.ctl("vm", "list", "-H", "a")[0], re.M)      # its definition
        assert len(json.loads(a.ctl("--json", "vm", "list")[0])["vms"]) == 4
        a.answers["GET /v1/vms"] = {"vms": [{**guest, "state": "stopped", "left_to": "b"}]}  # it moved while stopped
        b.answers["GET /v1/vms"] = {"vms": [{**guest, "state": "stopped"}]}
        assert re.findall(r"^web +(\w) ", a.ctl("vm", "list")[0], re.M) == ["b"]
        b.answers["GET /v1/vms"] = {"vms": []}
        assert re.search(r"^web +a +stopped .*moved to b$", a.ctl("vm", "list")[0], re.M)
        a.answers["GET /v1/vms"] = {"vms": [{**guest, "name": "g1"}], "next": "g1"}  # a list of several pages
        a.answers["GET /v1/vms?after=g1"] = {"vms": [{**guest, "name": "g2"}], "next": "g2"}
        a.answers["GET /v1/vms?after=g2"] = {"vms": [{**guest, "name": "g3"}]}
        pages = json.loads(a.ctl("--json", "vm", "list", "-H", "a")[0])["vms"]
        assert [v["name"] for v in pages] == ["g1", "g2", "g3"], pages
        a.answers["GET /v1/migrations"] = {"migrations": [{**MOVE, "id": 12, "vm": long, "age_us": 7_000_000},
                                                          {**MOVE, "id": 11, "age_us": 90_000_000}]}
        b.answers["GET /v1/migrations"] = {"migrations": [{**MOVE, "id": 3, "to": long, "age_us": 3 * 86400_000_000}]}
        moved = a.ctl("migration", "list")[0]
        b.answers["GET /v1/migrations"]["migrations"][0]["age_us"] = 9_000_000
        assert [line.split()[0] for line in moved.splitlines()] == ["MOVE", "a/12", "a/11", "b/3"], moved
        assert re.search(r" \d\d:\d\d:\d\d +7 s +2.0 s", moved) and re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d +3 d ",
                moved), moved
        assert [m["id"] for m in json.loads(a.ctl("--json", "migration", "list")[0])["migrations"]] == [12, 3, 11]
        a.answers["GET /v1/host"] = {**USUAL["GET /v1/host"], "virtualization": "AMD-V", "role": "operate",
                                     "uptime_us": 7200_000_000}
        hosts = a.ctl("host", "list")[0]
        assert re.search(r"^a .* 2 h  operate$", hosts, re.M), hosts
        a.answers["GET /v1/host/evacuate"] = {**EVACUATION, "items": [{**EVACUATION["items"][0], "vm": name}
                                                                      for name in ("web", long)]}
        gone = a.ctl("host", "evacuate", "a", "--status")[0]
        for shown, column in ((out, "running|stopped|STATE"), (moved, "moved|STATE"), (gone, "gone to b")):
            at = {m.start() for line in shown.splitlines() for m in [re.search(column, line)] if m}
            assert len(at) == 1 and not re.search(r" $", shown, re.M), shown


def test_definitions():
    """A definition goes to the host as it is, and comes back so.  Each mistake is shown with the file and its line; the
    editor's text is kept, and nobody else's change is overwritten."""
    mistakes = {"code": "HV_E_INVAL", "message": "the definition of web has 2 mistakes; nothing is changed",
                "mistakes": [{"line": 3, "message": "memory: expected: a size"}, {"line": 0, "message": "mac: taken"}]}
    with FakeHost() as a:
        web = a.file("web.conf", DEFINITION)
        a.answers["GET /v1/jobs/1"] = {"job": 1, "state": "done", "message": "web is defined"}
        out, err = a.ctl("vm", "define", web)
        assert out == "a: web is defined\n" and "warning: as things are now it would not start: no kernel" in err, err
        assert ("PUT /v1/vms/web", DEFINITION.decode("latin-1")) in a.asked
        windows = b"\xef\xbb\xbf" + DEFINITION.replace(b"\n", b"\r\n")
        a.ctl("vm", "define", a.file("x.conf", windows))
        assert a.asked.count(("PUT /v1/vms/web", DEFINITION.decode("latin-1"))) == 2, a.asked
        assert a.ctl("vm", "show", "web", "--config")[0] == DEFINITION.decode()
        assert json.loads(a.ctl("--json", "vm", "show", "web", "--config")[0])["source"] == "registry"
        assert "no line [vm NAME]" in a.ctl("vm", "define", a.file("x.conf", b"memory = 64M\n"), code=2)[1]
        assert "is no text" in a.ctl("vm", "define", a.file("x.conf", b"[vm web]\n\0"), code=2)[1]
        assert "File too large" in a.ctl("vm", "define", a.file("x.conf", b"[vm web]\n" * 8000), code=2)[1]
        a.answers["PUT /v1/vms/web"] = (400, mistakes)
        err = a.ctl("vm", "define", web, code=1)[1]
        assert f"\n{web}:3: memory: expected: a size\n{web}: mac: taken\n" in err, err
        assert json.loads(a.ctl("--json", "vm", "define", web, code=1)[0])["error"]["mistakes"] == mistakes["mistakes"]
        err = a.ctl("vm", "edit", "web", code=1)[1]
        kept = re.search(r"your text is in (\S+)", err)[1]
        with open(kept, "rb") as f:
            assert f.read() == DEFINITION + b"\n"
        os.unlink(kept)
        a.answers["PUT /v1/vms/web"] = USUAL["PUT /v1/vms/web"]
        assert a.ctl("vm", "edit", "web", env={**EDITOR, "EDITOR": "true"})[0] == "a: web is not changed\n"
        texts = iter((DEFINITION, b"; other\n"))
        a.answers["GET /v1/vms/web/config"] = lambda _: next(texts)
        asked = len(a.asked)
        err = a.ctl("vm", "edit", "web", code=1)[1]
        assert "was changed by somebody else meanwhile" in err and not any("PUT" in q for q, _ in a.asked[asked:]), err
        os.unlink(re.search(r"your text is in (\S+)", err)[1])
        a.headers = {"GET /v1/vms/web/config": {"Godwit-Source": "godwit.conf"}}
        a.answers["GET /v1/vms/web/config"] = DEFINITION
        assert "is defined in godwit.conf" in a.ctl("vm", "edit", "web", code=1)[1]
        a.answers["GET /v1/jobs/1"] = {"job": 1, "state": "failed", "code": "HV_E_IO", "message": "the disk failed"}
        assert "a: the disk failed (HV_E_IO)" in a.ctl("vm", "undefine", "web", code=1)[1]


def starting(n, **then):
    """An answer that says n times that the peers are asked before web starts, and then this."""
    left = [n]

    def answer(_):
        left[0] -= 1
        return {"name": "web", **({"state": "stopped", "starting": True, "start_text": "b cannot be asked"}
                                  if left[0] >= 0 else {"starting": False, **then})}
    return answer


def test_start_has_an_outcome():
    """`vm start` waits until it is known whether the guest runs, and says that; --detach does not (issue 11 D.1)."""
    with FakeHost() as a:
        a.answers["POST /v1/vms/web/start"] = (202, {"message": "web starts once its peers have answered"})
        for then, code, says in (({"state": "running"}, 0, "a: web started"),
                                 ({"state": "stopped", "start_text": "b has it", "start_code": "HV_E_EXIST"}, 1,
                                  "a: b has it (HV_E_EXIST)"),
                                 ({"state": "stopped", "start_text": "old host"}, 1, "a: old host (no code)"),
                                 ({"state": "crashed", "crash_reason": "triple fault"}, 1, "has crashed: triple fault"),
                                 ({"state": "paused", "waits": "nbd is off"}, 0, "starts once its disk answers: nbd"),
                                 ({"state": "stopped"}, 0, "was started, and is stopped now")):
            a.answers["GET /v1/vms/web"] = starting(2, **then)
            out, err = a.ctl("vm", "start", "web", code=code)
            assert says in (err if code else out) and bool(out) == (not code), (out, err)
            assert "once its peers" not in out, out
            assert "asks its peers before it starts: b cannot be asked" in err, err
            a.answers["GET /v1/vms/web"] = starting(1, **then)
            said = json.loads(a.ctl("--json", "-q", "vm", "start", "web", code=code)[0])
            said = said.get("error", said)
            assert said["host"] == "a" and said["message"] in says + "nbd is off" or says in said["message"], said
        a.answers["GET /v1/vms/web"] = starting(1000)
        assert "once its peers have answered" in a.ctl("vm", "start", "web", "--detach")[0]
        code, shown = on_terminal(a, 80, "vm", "start", "web", then=lambda run, _: run.send_signal(signal.SIGINT))
        assert code == 130 and "the start goes on; `godwitctl vm show web --host a`" in shown, (code, shown)
        a.answers["POST /v1/vms/web/start"] = (507, {"code": "HV_E_NOMEM", "message": "web needs 4096 MiB"})
        assert "web needs 4096 MiB (HV_E_NOMEM)" in a.ctl("vm", "start", "web", "--detach", code=1)[1]


def test_shutdown_has_an_outcome():
    """vm shutdown waits until the guest listens, presses once, and says what became of it."""
    def posted(*buttons, code=0, more=()):
        """What the fake host is asked while the guest's button, or state, is seen as these."""
        left = [{"name": "web", "state": b if b in ("stopped", "crashed") else "running", "power_button": b}
                for b in buttons]
        a.asked.clear()
        a.answers["GET /v1/vms/web"] = lambda _: left.pop(0) if len(left) > 1 else left[0]
        said = "".join(a.ctl("--quiet", "vm", "shutdown", "web", *more, code=code))
        return said, [path.split("/")[-1] for path, _ in a.asked if path.startswith("POST")]

    with FakeHost() as a:
        assert posted("unused", "unused", "ready", "pressed", "taken", "stopped") == ("a: it is off\n", ["shutdown"])
        said, asked = posted("ready", "pressed", code=1, more=["--timeout", "1"])
        assert "has not reacted to the power button" in said and asked == ["shutdown"], said
        said, asked = posted("ready", "pressed", "crashed", code=1)
        assert "web is crashed and not off" in said and asked == ["shutdown"], said
        said, asked = posted("unused", more=["--timeout", "1", "--force"])
        assert "web: stop" in said and asked == ["stop"], (said, asked)
        said, asked = posted("ready", "pressed", "taken", more=["--timeout", "1", "--force"])
        assert "web: stop" in said and asked == ["shutdown", "stop"], (said, asked)
        assert posted("ready", "pressed", more=["--detach"]) == ("a: web: shutdown\n", ["shutdown"])
        assert posted("ready", code=2, more=["--timeout", "soon"])[1] == []


def test_pairings():
    """A pairing is replaced only with --replace; rename and remove; the host's own name; Yes and YES (issue 11 D.7)."""
    with FakeHost() as a:
        conf, there = os.path.join(a.clients.folder, "pairs.conf"), f"127.0.0.1:{a.api_port}"
        lie = "0" * 64
        with open(a.clients.config("operator"), encoding="utf-8") as f, open(conf, "w", encoding="utf-8") as out:
            out.write(f.read().replace("[host a]", "[host old]")
                      + f"[host b]\naddress = 127.0.0.1\nport = 1\nfingerprint = {lie}\n")

        def ctl(*words, **kw):
            return a.ctl("host", *words, config=conf, **kw)

        def paired():
            with open(conf, encoding="utf-8") as f:
                return re.findall(r"\[host (.*)\]\n.*\nport = (.*)\n", f.read())

        before = paired()
        err = ctl("add", "b", there, "--yes", code=3)[1]
        assert "b is paired already" in err and lie in err and "--replace" in err and paired() == before, err
        ctl("add", "old", there, "--yes")                       # the same again replaces nothing
        err = ctl("add", "b", there, "--replace", stdin="YES\n")[1]
        assert "calls itself a, not b" in err and ("b", str(a.api_port)) in paired(), err
        assert "old" in ctl("rename", "b", "old", code=3)[1]
        ctl("rename", "b", "", code=2)
        ctl("rename", "nobody", "c", code=3)
        ctl("rename", "b", "a")
        ctl("remove", "old")
        ctl("remove", "old", code=3)
        assert paired() == [("a", str(a.api_port))], paired()
        assert "calls itself" not in ctl("add", "a", there, stdin="Yes\n")[1]
        ctl("add", "", there, "--yes", code=2)
        assert "fingerprint right? (yes/no)" in ctl("add", "z", there, stdin="yes, but\n", code=5)[1]
        assert "(yes/no)" not in ctl("add", "z", there, "--yes")[1]


def waits_for_a_place(a):
    """A host whose places for clients are taken says so after the handshake: godwitctl tries again, and reports it."""
    full = (503, {"code": "HV_E_BUSY", "message": "operator has 8 connections open already, 12 are open in all"})
    left = [full, full]
    usual = a.answers["GET /v1/vms"]
    a.answers["GET /v1/vms"] = lambda _: left.pop() if left else usual
    assert "web" in a.ctl("vm", "list", code=0)[0] and not left
    a.answers["GET /v1/vms"] = full
    err = a.ctl("vm", "list", code=1)[1]
    assert "8 connections open already" in err and "let this client in" not in err, err
    a.answers["GET /v1/vms"] = usual


def test_exit_codes():
    """Each code of docs/api.md, by what it is documented for; and --help names the same ones."""
    with open(os.path.join(ROOT, "docs", "api.md"), encoding="utf-8") as f:
        documented = re.findall(r"^\| (\d) \| ", f.read(), re.M)
    assert documented == [str(n) for n in range(8)] == re.findall(r"(?<!\d)(\d) [a-z]",
                                                                  re.search(r"exit codes:(.*?)\n\n", commands()[1],
                                                                            re.S)[1]), documented
    with FakeHost() as a:
        a.ctl("vm", "list", code=0)
        a.answers["POST /v1/vms/web/stop"] = (409, {"code": "HV_E_BUSY", "message": "web is moving"})
        assert "web is moving" in a.ctl("vm", "stop", "web", code=1)[1]
        a.answers["POST /v1/validate"] = {**USUAL["POST /v1/validate"], "would_move": False,
                                          "reasons": ["b has too little memory", "b is full"]}
        assert "b has too little memory\n    b is full" in a.ctl("validate", code=1)[0]
        waits_for_a_place(a)
        for wrong in (["zoo"], ["vm"], ["vm", "stop"], ["--zoo"], ["vm", "migrate", "web"],
                      ["migration", "resolve", "web"], ["--json", "vm", "console", "web"]):
            a.ctl(*wrong, code=2)
        for words, option in ("vm stop web --to b", "to"), ("host evacuate a --limit 5",
                                                            "limit"), ("vm migrate web --to b --force", "force"):
            assert f"--{option} is no option of {' '.join(words.split()[:2])};" in a.ctl(*words.split(), code=2)[1]
        assert "one connection" in a.ctl("vm", "migrate", "web", "--to", "b", "--streams", "4", code=2)[1]
        a.ctl("vm", "list", config="/dev/null/none", code=3)
        a.ctl("vm", "list", "-H", "nobody", code=3)
        assert "does not let this client in" in a.ctl("vm", "list", who="reader", code=5)[1]
        a.answers["GET /v1/migrations/1"] = FAILED
        assert "it stays on a: b does not answer" in a.ctl("vm", "migrate", "web", "--to", "b", code=6)[1]
        a.answers["GET /v1"] = {"hello": "world"}
        assert "no Godwit host" in a.ctl("host", "add", "z", f"127.0.0.1:{a.api_port}", "--yes", code=4)[1]
    assert "no answer from 127.0.0.1" in a.ctl("vm", "list", code=4)[1]


def test_limits_while_it_moves():
    """`migration set` sends what it is told and no more; what is no number never reaches the host."""
    with FakeHost() as a:
        def posted():
            return [json.loads(body) for question, body in a.asked if question.endswith("/set")]

        assert "at most" in a.ctl("migration", "set", "web", "--limit", "5")[0]
        a.ctl("migration", "set", "a/1", "--downtime", "1000", "--limit", "0")
        assert posted() == [{"bandwidth_limit_mb": 5}, {"bandwidth_limit_mb": 0, "downtime_limit_ms": 1000}], posted()
        for wrong, said in (([], "--limit MB, --downtime MS"), (["--limit", "x"], "MB per second"),
                            (["--downtime", "-1"], "milliseconds"), (["--policy", "wait"], "no option of")):
            assert said in a.ctl("migration", "set", "web", *wrong, code=2)[1], wrong
        assert len(posted()) == 2
        a.answers["POST /v1/migrations/1/set"] = (409, {"code": "HV_E_BUSY", "message": "too late: web is stopped"})
        assert "too late" in a.ctl("migration", "set", "web", "--downtime", "9", code=1)[1]


def test_in_doubt():
    """A move in doubt: watched for ten seconds, or until Ctrl-C, then code 7 and what is known.  `resolve` tells that,
    too, and asks before it acts."""
    with FakeHost() as a:
        a.answers.update({"GET /v1/migrations/1": IN_DOUBT, "GET /v1/migrations": {"migrations": [IN_DOUBT]},
                          "POST /v1/migrations/1/resolve": lambda body: {"message": "web: resumed here"} if body["sure"]
                          else (409, WEIGH)})
        began = time.monotonic()
        command, pipes = ([a.clients.GODWITCTL, "--config", a.clients.config("operator")],
                          {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE})
        watch = [subprocess.Popen([*command, *words], text=True, **pipes)
                 for words in (["vm", "migrate", "web", "--to", "b"], ["migration", "watch", "web"])]

        def posted():
            return [json.loads(body) for question, body in a.asked if question.endswith("/resolve")]

        out, err = a.ctl("migration", "resolve", "web", "--resume-here", code=1, stdin="no\n")
        assert (DOUBT in err and "resumed here. Are you sure? (yes/no)" in err and "nothing was changed" in err
                and not out), err
        a.ctl("migration", "resolve", "web", "--discard", code=1)                    # nobody to answer
        assert [p["sure"] for p in posted()] == [False, False] and [p["here"] for p in posted()] == [True, False]
        out, _ = a.ctl("migration", "resolve", "a/1", "--resume-here", stdin="yes\n")
        assert ("web: resumed here" in out and posted()[2:] == [{"here": True, "sure": False},
                                                                {"here": True, "sure": True}])
        a.ctl("migration", "resolve", "web", "--discard", "--yes")
        assert posted()[4:] == [{"here": False, "sure": True}]
        assert f"in doubt: {DOUBT}" in a.ctl("migration", "show", "web")[0]
        a.answers["GET /v1/vms"] = {"vms": [{"name": "web", "state": "paused", "moving": True, "doubt": DOUBT}]}
        assert f"in doubt: {DOUBT}" in a.ctl("vm", "list")[0]
        while not any(question == "GET /v1/migrations/1" for question, _ in a.asked):
            time.sleep(0.1)
        time.sleep(0.5)
        watch[1].send_signal(signal.SIGINT)
        for w, least in ((watch[1], 0), (watch[0], 9)):
            out, err = w.communicate(timeout=60)
            assert w.returncode == 7 and DOUBT in err and "migration resolve web" in err and not out, (w.returncode,
                    out, err)
            assert time.monotonic() - began > least


def resize(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def on_terminal(a, columns, *args, then=None):
    """Run godwitctl on a terminal of this width until it ends; then(process, terminal) is called after half a second.
    Returns (exit code, what it showed)."""
    terminal, end = pty.openpty()
    resize(terminal, columns)
    run = subprocess.Popen([a.clients.GODWITCTL, "--config", a.clients.config("operator"), *args], stdin=end,
                           stdout=end, stderr=end)
    os.close(end)
    threading.Timer(0.5, lambda: then and then(run, terminal)).start()
    shown = b""
    try:
        while True:
            shown += os.read(terminal, 65536)
    except OSError:                                             # it has ended
        pass
    os.close(terminal)
    return run.wait(), shown.decode()


def drawn(shown):
    """The lines of a progress bar, as they were drawn over each other."""
    return [re.sub(r"\033\[[?0-9]*[a-zA-Z]", "", part).rstrip("\n") for part in shown.split("\r")
            if "\033[?7h" in part]


def moving(n, **more):
    """An answer that says n times that the move is under way, and then that it has ended."""
    left = [n]

    def answer(_):
        left[0] -= 1
        return {**MOVE, "state": "moving", "ended": False, "phase": "PRECOPY", "percent": 83, "round": 12,
                "bytes_per_s": 1234567890, "dirty_pages_per_s": 123456, "eta_us": 5000000,
                **more} if left[0] >= 0 else MOVE
    return answer


def test_progress_fits():
    """The bar is one line at every width, follows a resize, and shows no rate that is not known; without a terminal
    there are lines."""
    with FakeHost() as a:
        for columns in (200, 80, 40, 20, 0):
            a.answers["GET /v1/migrations/1"] = moving(3)
            code, shown = on_terminal(a, columns, "migration", "watch", "a/1")
            bars = drawn(shown)
            assert code == 0 and len(bars) == 3 and "web moved from a" in shown, (columns, shown)
            assert all(20 <= len(b) + 1 and len(b) < (columns or 80) for b in bars), (columns, bars)
        assert "83%" in bars[0] and "1234.6 MB/s" in bars[0], bars
        a.answers["GET /v1/migrations/1"] = moving(12)
        _, shown = on_terminal(a, 120, "migration", "watch", "a/1", then=lambda _, t: resize(t, 40))
        bars = drawn(shown)
        assert len(bars[0]) > 100 and len(bars[-1]) < 40, bars
        a.answers["GET /v1/migrations/1"] = moving(2, round=1, bytes_per_s=0, dirty_pages_per_s=0, eta_us=0)
        bars = drawn(on_terminal(a, 120, "migration", "watch", "a/1")[1])
        assert all(f"– {unit}" in bars[0] for unit in ("MB/s", "pages/s", "s")), bars
        disks = {"bytes": 1 << 30, "done_bytes": 412 << 20}
        a.answers["GET /v1/migrations/1"] = moving(2, phase="DISKS", round=0, percent=28, disks=disks)
        bars = drawn(on_terminal(a, 80, "migration", "watch", "a/1")[1])
        assert " 28% disks 412 of 1024 MiB, 1234.6 MB/s, eta 5 s" in bars[0] and "[==" in bars[0], bars
        with tempfile.NamedTemporaryFile() as large:                # its SHA-256 takes a while, in many pieces
            large.truncate(300 * MIB)
            began, words = time.monotonic(), ("volume", "import", large.name, "web", "--raw", "--yes")
            shown = on_terminal(a, 80, *words)[1]
            assert 1 <= shown.count("SHA-256, ") <= 10 * (time.monotonic() - began) + 1, shown.count("SHA-256, ")
        etas = [10**12, 900_000, 900_000]                           # at first it seems to take days
        a.answers["GET /v1/jobs/1"] = lambda _: {
            "state": "running" if etas else "done", "what": "make it", "bytes": 1000 * MIB, "bytes_done": 5 * MIB,
            "elapsed_us": 10**6 - 10**5 * len(etas), "eta_us": etas.pop(0) if etas else 0}
        bars = drawn(on_terminal(a, 80, "volume", "create", "web", "2G")[1])
        assert " eta 1000000 s" in bars[0] and re.search(r" eta [12] s", bars[-1]), bars
        a.answers["GET /v1/migrations/1"] = moving(3)
        out, err = a.ctl("migration", "watch", "a/1")
        assert "\033" not in out + err and "\r" not in out + err and err.count("web -> b [") == 1, (out, err)
        assert not a.ctl("-q", "migration", "watch", "a/1")[1]
        left = [4]

        def evacuation(_):
            left[0] -= 1
            return {**EVACUATION, "active": left[0] > 0, "over": 0}
        a.answers["POST /v1/host/evacuate"] = a.answers["GET /v1/host/evacuate"] = evacuation
        bars = drawn(on_terminal(a, 20, "host", "evacuate", "a")[1])
        assert len(bars) == 3 and all(len(b) == 19 for b in bars), bars


JOB = {"job": 1, "state": "running", "what": "move disk vda of web to lv:fast/web", "asked_by": "client me",
       "elapsed_us": 4000000, "bytes_done": 300_000_000, "bytes": 1_000_000_000, "phase": "copying",
       "bytes_per_s": 100_000_000, "eta_us": 7000000}


def test_move_of_a_disk():
    """What is asked for; progress at each width, while it waits, and without a rate; Ctrl-C; `job list` and `watch`."""
    def going(n, **more):
        return lambda _: {**JOB, **more} if n.pop() else {**JOB, "state": "done", "message": "vda is there"}

    with FakeHost() as a:
        words = ("vm", "move-disk", "web", "vda", "--to")
        a.ctl(*words, "nbd:10.7.0.9/x", "--fingerprint", "ab" * 32, "--limit", "7", "--overwrite")
        path = "POST /v1/vms/web/disks/vda/move"
        assert [json.loads(body) for question, body in a.asked if question == path] == [{
            "place": "nbd:10.7.0.9/x", "fingerprint": "ab" * 32, "keep": False, "overwrite": True,
            "bandwidth_limit_mb": 7}], a.asked
        said = a.ctl(*words, "ram", "--detach", code=1)[1]
        assert "a volume that it has now is deleted" in said and "vda of web stays where it is" in said, said
        a.ctl(*words, "ram", "--yes", "--keep", "--detach")
        assert [json.loads(body).get("sure") for question, body in a.asked if question == path] == [None, True], a.asked
        assert a.ctl(*words, "fast/web", "--detach")[0] == "a/1\n"
        for columns in (200, 100, 80, 60, 30):
            a.answers["GET /v1/jobs/1"] = going([0, 1, 1])
            code, shown = on_terminal(a, columns, *words, "fast/web")
            bars = drawn(shown)
            assert code == 0 and "vda is there" in shown and len(bars) == 2, (columns, shown)
            assert all(len(b) < columns and " 30%" in b and "eta 7 s" in b for b in bars), (columns, bars)
            assert columns < 200 or re.search(r"\[=+> *\]  30% copying, 300.0 of 1000.0 MB, 100.0 MB/s, eta 7 s",
                                              bars[0]), bars
        a.answers["GET /v1/jobs/1"] = going([0, 1], message="waits, place 2 in the queue")
        assert "waits, place 2" in drawn(on_terminal(a, 100, "job", "watch", "a/1")[1])[0]
        a.answers["GET /v1/jobs/1"] = going([0, 1], bytes_per_s=0, eta_us=0)
        assert "– MB/s, eta – s" in drawn(on_terminal(a, 120, "job", "watch", "a/1")[1])[0]
        a.answers["GET /v1/jobs"] = {"jobs": [JOB]}
        assert re.search(r"^a/1 +running +copying +30% +4 s +client me +move disk vda of web to lv:fast/web",
                         a.ctl("job", "list")[0], re.M)
        assert "is no job, which is HOST/NUMBER" in a.ctl("job", "watch", "web", code=2)[1]


def test_interrupted():
    """Ctrl-C ends watching with code 130 and a line that says how to watch again; what was watched goes on."""
    busy = {**EVACUATION, "active": True}
    with FakeHost() as a:
        a.answers.update({"GET /v1/migrations/1": moving(1000), "POST /v1/host/evacuate": busy,
                          "GET /v1/host/evacuate": busy, "GET /v1/jobs/1": JOB})
        for words, says in (("vm save web", "shows it again, `godwitctl vm save-cancel web` ends it"),
                            ("vm migrate web --to b", "the move goes on; `godwitctl migration watch a/1`"),
                            ("vm move-disk web vda --to g/v", "`godwitctl vm move-disk web vda --cancel` ends it"),
                            ("host evacuate a", "the evacuation goes on; `godwitctl host evacuate a --status`")):
            code, shown = on_terminal(a, 80, *words.split(), then=lambda run, _: run.send_signal(signal.SIGINT))
            assert code == 130 and says in shown, (code, shown)
        assert not any("cancel" in question for question, _ in a.asked)


def test_dead_hosts():
    """Hosts that accept a connection and say nothing cost one time-out, not one each; JSON names each of them."""
    with FakeHost() as a, contextlib.ExitStack() as dead:
        conf = os.path.join(a.clients.folder, "dead.conf")
        with open(a.clients.config("operator"), encoding="utf-8") as f, open(conf, "w", encoding="utf-8") as out:
            text = f.read()
            for name in ("x", "y", "z"):
                listener = dead.enter_context(socket.create_server(("127.0.0.1", 0)))
                out.write(text if name == "x" else "")
                out.write(f"[host {name}]\naddress = 127.0.0.1\nport = {listener.getsockname()[1]}\n"
                          f"fingerprint = {'0' * 64}\n")
        for words, key in ((["vm", "list"], "vms"), (["migration", "list"], "migrations"), (["host", "list"], "hosts")):
            began = time.monotonic()
            said = json.loads(a.ctl("--json", *words, config=conf, code=4)[0])
            took = time.monotonic() - began
            assert len(said[key]) == 1 and [e["host"] for e in said["errors"]] == ["x", "y", "z"], said
            assert all("no answer" in e["message"] and e["exit"] == 4 for e in said["errors"]), said
            assert took < 12, f"{words} took {took:.1f} s"
            said = json.loads(a.ctl("--json", *words, "--host", "nope", code=3)[0])
            assert list(said) == ["error"] and "nope" in said["error"]["message"], said
            assert json.loads(a.ctl("--json", *words)[0])["errors"] == []


def test_help_and_guesses():
    """Help fits 80 columns; mistyped words are guessed; no text of a host names a command that godwitctl has not."""
    with FakeHost() as a:
        for words in [(), *commands()[0]]:
            shown = a.ctl("help", *words)[0]
            assert shown == a.ctl(*words, "--help")[0]
            assert max(map(len, shown.splitlines())) <= 80 and not re.search(r" $", shown, re.M), shown
        assert re.fullmatch(r"godwitctl \d\S*\n", a.ctl("--version")[0])
        for words, guess in (("vm strat web", "vm start web"), ("hots list", "host list"), ("vm list --jsno", "--json"),
                             ("vm migrate web b", "vm migrate web --to b"),
                             ("vm move-disk web vda g/v", "vm move-disk web vda --to g/v"),
                             ("vm list a", "vm list --host a"),
                             ("volume import a x g/v", "volume import x g/v --host a"),
                             ("file put a x", "file put x --host a"), ("file list a", "file list --host a"),
                             ("vm disk atach web x", "vm disk attach web x"), ("vm nik dettach", "vm nic detach"),
                             ("help vm lst", "vm list"), ("validat", "validate"), ("vm list --ful=1", None),
                             ("volume create x -1", None)):
            err = a.ctl(*words.split(), code=2)[1]
            assert (f"did you mean `godwitctl {guess}`?" in err or f"did you mean {guess}?" in err) == bool(guess), err
        assert "web is on a already" in a.ctl("vm", "migrate", "web", "--to", "a", code=1)[1]
    known = {" ".join(words) for words in commands()[0]}
    for folder, _, names in os.walk(os.path.join(ROOT, "kernel")):
        for name in (n for n in names if n.endswith(".c") and n != "console.c"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
            for command in re.findall(r"`((?:host|vm|migrate|migration) [a-z-]+)", re.sub(r'"\s*\n\s*"', "", text)):
                assert command == "host cpuid" or any(f"{k} ".startswith(f"{command} ") for k in known), (name, command)


def test_console_of_a_deaf_guest():
    """A guest takes no input: a paste of 6000 keys stops neither its output nor Ctrl-].  Output that the host keeps no
    more is missed, and the user is told how much."""
    ask = "GET /v1/vms/web/console?since="
    with FakeHost() as a, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        a.answers["POST /v1/vms/web/console"] = {"taken": 0}
        a.answers[ask + "100&run=r1"] = b"tock\n"
        a.headers[ask + "0"] = {"Godwit-Console-Next": "100", "Godwit-Console-Run": "r1", "Godwit-Vm-State": "paused"}
        a.headers[ask + "100&run=r1"] = {**a.headers[ask + "0"], "Godwit-Console-Missed": "70"}

        def seen(file, what, n=1):
            deadline = time.monotonic() + 20
            while os.pread(file.fileno(), 1 << 20, 0).count(what) < n:
                assert time.monotonic() < deadline, (what, os.pread(err.fileno(), 2000, 0))
                time.sleep(0.05)

        ours, theirs = pty.openpty()
        with contextlib.closing(os.fdopen(ours, "wb", buffering=0)) as keyboard:
            run = subprocess.Popen([a.clients.GODWITCTL, "--config", a.clients.config("operator"), "vm", "console",
                                    "web"], stdin=theirs, stdout=out, stderr=err)
            os.close(theirs)
            seen(err, b"Ctrl-] leaves it")                      # from here on the terminal is raw
            for _ in range(6):
                keyboard.write(b"x" * 1000)
            seen(out, b"tock", os.pread(out.fileno(), 1 << 20, 0).count(b"tock") + 3)
            keyboard.write(b"\x1d")
            assert run.wait(20) == 0
        seen(err, b"70 bytes of output are missing here")
        seen(err, b"web has not taken the last 6000 keys")


def completed(*words):
    """What bash offers for the last of these words."""
    line = " ".join(f"'{w}'" for w in ("godwitctl", *words))
    script = (f"source tools/godwitctl.bash-completion; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _godwitctl; "
              f"printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
        conf.write("[host alpha]\n[host beta]\n")
        conf.flush()
        env = {**os.environ, "GODWITCTL_CONFIG": conf.name,
               "PATH": os.path.dirname(Clients.GODWITCTL) + ":" + os.environ["PATH"]}
        return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
                              env=env).stdout.split()


def test_completion():
    """bash completes every command and every long option that --help names, and names of hosts."""
    every, shown = commands()
    for words in every:
        assert words[-1] in completed(*words[:-1], words[-1][:2]), words
    options = set(re.findall(r"--[a-z][a-z0-9-]+", shown))
    assert {"--json", "--streams", "--resume-here", "--policy"} - options == {"--streams"}, options
    assert options <= set(completed("--")), options - set(completed("--"))
    assert completed("vm", "migrate", "web", "--to", "") == ["alpha", "beta", "auto"]
    assert completed("host", "evacuate", "b") == ["beta"]
    assert completed("--policy", "w") == ["wait"]
    common = {"--host", "--json", "--quiet", "--config", "--yes", "--help", "--version"}
    assert set(completed("vm", "list", "--")) == common
    assert set(completed("vm", "start", "web", "--")) == common | {"--force", "--detach"}
    assert "--limit" in completed("vm", "migrate", "web", "--to", "alpha", "--li")
