"""Hostile requests to a studio, drawn from a seed, in kinds: what each kind counts, and what may never happen."""

import http.client
import json
import random
import socket
import struct
import threading
import time
import urllib.parse
from collections import Counter

from studio_words import FIELDS, NAMES, ODD, PORTRAIT, ROUTES, SUBTITLES, heads, multipart
from tiny_studio import wav
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect


class Attack:
    """Sends requests to an address; counts answers by kind. `faults` holds what may never happen."""

    def __init__(self, address: str, seed: int):
        place = urllib.parse.urlsplit(address)
        self.host, self.port, self.seed = place.hostname, place.port, seed
        self.sent: Counter = Counter()
        self.answers: dict[str, Counter] = {}
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def run(self, kind: str, count: int) -> None:
        """Sends `count` requests of a kind, each drawn from the seed, the kind and its number."""
        for number in range(count):
            rng = random.Random(f"{self.seed} {kind} {number}")
            try:
                getattr(self, kind)(rng)
            except (OSError, http.client.HTTPException, WebSocketException, EOFError) as error:
                self.tell(kind, type(error).__name__)
        self.alive(kind)

    def alive(self, kind: str) -> None:
        """Notes a fault where the server does not answer after a kind."""
        try:
            if self.request("GET", "/v1/health")[0] != 200:
                self.faults.append(f"{kind}: health is not 200")
        except OSError as error:
            self.faults.append(f"{kind}: no answer afterwards ({error})")

    def tell(self, kind: str, what: object, detail: bytes = b"") -> None:
        """Counts an answer; a 5xx that is not the studio's own, or a detail of more than a line, is a fault."""
        with self._lock:
            self.sent[kind] += 1
            self.answers.setdefault(kind, Counter())[str(what)] += 1
            if isinstance(what, int) and what >= 500 and not (what == 503 and b"detail" in detail):
                self.faults.append(f"{kind}: {what} {detail[:200]!r}")
            if isinstance(what, int) and 400 <= what < 500 and detail.startswith(b"{"):
                line = json.loads(detail).get("detail")
                if not isinstance(line, str) or not line.isprintable() or len(line) > 2000 or "/tmp/" in line:
                    self.faults.append(f"{kind}: {what} is no line: {detail[:300]!r}")

    def request(self, method, path, body=None, headers=None, timeout=60) -> tuple[int, bytes]:
        """One whole request; returns the status and the body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in (headers or {}):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(2**20)
        finally:
            connection.close()

    def raw(self, data: bytes, wait: float = 5.0) -> bytes:
        """Sends bytes as they are; returns what comes until the end, or for `wait` seconds."""
        with socket.create_connection((self.host, self.port), timeout=wait) as line:
            line.sendall(data)
            answer = b""
            while part := line.recv(65536):
                answer += part
                if len(answer) > 2**20 or b"\r\n\r\n" in answer:
                    break
            return answer

    def form(self, path: str, fields: dict, method="POST", kind="") -> None:
        """Posts a multipart form; fields: name to text, or to (file name, bytes)."""
        body, kind_of = multipart(fields)
        self.tell(kind, *self.request(method, path, body, {"Content-Type": kind_of}))

    # Kinds.

    def settings(self, rng):
        """Settings of every name and value, as JSON that is none, too."""
        words = [f'"{rng.choice(NAMES)}": {rng.choice(ODD)}' for _ in range(rng.choice((1, 1, 1, 2, 4)))]
        text = rng.choice(("{" + ", ".join(words) + "}", rng.choice(ODD), "{" + words[0]))
        pairs = [("controls", "/v1/videos"), ("controls", "/v1/live"), ("motion", "/v1/reenactments")]
        part, path = rng.choice([*pairs, ("form", "/v1/videos"), ("form", "/v1/reenactments")])
        fields = {"portrait": ("p", PORTRAIT), "sound": ("s", wav(0.1)), "crop": "center", part: text}
        if path.endswith("reenactments"):
            fields["driving"] = ("d", PORTRAIT)
        if path.endswith("live"):
            del fields["sound"]
        self.form(path, fields, kind="settings")

    def texts(self, rng):
        """Crops and colours that are none, and files where texts belong."""
        odd = ["x", "1,2", "0,0,0", "-9,-9,9e99", "nan,nan,nan", "1,2,3,4", "9" * 61, "\x00", "\udcff", "center "]
        odd += ["1e9,1e9,1e9", str(rng.randint(-(10**12), 10**12)) + ",0," + str(rng.randint(-5, 10**12))]
        text = rng.choice(odd).encode("utf-8", "surrogateescape")
        fields = {"portrait": ("p", PORTRAIT), "sound": ("s", wav(0.1)), "driving": ("d", PORTRAIT)}
        fields[rng.choice(("crop", "background", "controls", "form", "motion"))] = rng.choice((text, ("f", text)))
        self.form(rng.choice(("/v1/videos", "/v1/crops", "/v1/reenactments", "/v1/live")), fields, kind="texts")

    def files(self, rng):
        """Files that are cut short, changed, empty, of another kind, or huge by their own claim."""
        plain = {
            "portrait": PORTRAIT,
            "sound": wav(0.3),
            "driving": PORTRAIT,
            "backdrop": PORTRAIT,
            "subtitles": SUBTITLES,
        }
        name = rng.choice(list(plain))
        data = bytearray(plain[name])
        change = rng.randrange(6)
        if change == 0:
            data = data[: rng.randrange(len(data))]
        elif change == 1:
            for _ in range(rng.choice((1, 3, 30))):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif change == 2:
            data = bytearray(rng.choice(list(plain.values())))
        elif change == 3:
            data = bytearray(
                rng.choice(
                    (
                        b"",
                        b"\x00" * 1000,
                        b"#EXTM3U\n/etc/passwd",
                        b"ffconcat version 1.0\nfile /etc/passwd",
                        b"<svg/>",
                        b"RIFF\xff\xff\xff\xffWAVE",
                        b"GIF89a",
                        b"%PDF-1.4",
                        b"WEBVTT",
                        b"\xff" * 50,
                    )
                )
            )
        elif change == 4 and name in ("portrait", "driving", "backdrop"):
            data[16:24] = struct.pack(">II", rng.randrange(2**31), rng.randrange(2**31))
        else:
            at = rng.randrange(len(data))
            data[at:at] = rng.randbytes(rng.choice((1, 100, 5000)))
        plain[name] = bytes(data)
        path = rng.choice(("/v1/videos", "/v1/reenactments"))
        fields = {key: (key, plain[key]) for key in ("portrait", "sound")} | {
            "crop": "center",
            "controls": '{"steps": 1}',
        }
        if path.endswith("reenactments"):
            del fields["controls"]
            fields |= {"driving": ("d", plain["driving"]), "motion": '{"driving_crop": "center"}'}
        for key in ("backdrop", "subtitles"):
            if name == key:
                fields[key] = (f"../{key}.srt", plain[key])
        self.form(path, fields, kind="files")

    def forms(self, rng):
        """Bodies that are no forms: without boundary, cut, nested, with odd names, thousands of parts."""
        body, kind_of = multipart({"portrait": ("p", PORTRAIT[:2000]), "sound": ("s", wav(0.05)), "crop": "center"})
        edge = kind_of.partition("boundary=")[2]
        choice = rng.randrange(11)
        if choice == 0:
            kind_of = rng.choice(
                (
                    "multipart/form-data",
                    "multipart/form-data; boundary=",
                    "text/plain",
                    "application/json",
                    "\x01",
                    f"multipart/form-data; boundary={'x' * 5000}",
                    "application/x-www-form-urlencoded",
                    "",
                )
            )
        elif choice == 1:
            body = body[: rng.randrange(len(body))]
        elif choice == 2:
            body = body.replace(edge.encode(), b"other", 1)
        elif choice == 3:
            body, kind_of = multipart({f"x{i}": "y" for i in range(3000)})
        elif choice == 4:
            body, kind_of = multipart({rng.choice(FIELDS): ("\r\nX: y", PORTRAIT[:100]), "\r\n\r\n": "z"})
        elif choice == 5:
            body = b"--" + edge.encode() + b"\r\nContent-Disposition: form-data; name=" + b"a" * 20_000 + b"\r\n\r\nx"
        elif choice == 6:
            body = rng.randbytes(rng.randrange(5000))
        elif choice == 7:
            body = body.replace(
                b"form-data", rng.choice((b"attachment", b"", b"\xff\xfe", b"form-data; name=portrait")), 1
            )
        elif choice == 8:
            body = urllib.parse.urlencode(dict.fromkeys(FIELDS, "x" * 100)).encode()
            kind_of = "application/x-www-form-urlencoded; charset=" + rng.choice(("utf-16", "nope", "utf-8"))
        elif choice == 9:
            body = (
                b'{"text": '
                + rng.choice(ODD).encode("utf-8", "surrogatepass")
                + b', "key": '
                + rng.choice(ODD).encode()
                + b"}"
            )
            kind_of = "application/json"
        else:
            body = b"--" + edge.encode() + b"\r\n" + b"A: b\r\n" * 5000 + b"\r\n"
        path = rng.choice(ROUTES[:6])
        self.tell("forms", *self.request("POST", path, body, {"Content-Type": kind_of}))

    def paths(self, rng):
        """Names that lead elsewhere, and methods that are none."""
        parts = (
            "..",
            "%2e%2e",
            "%2f",
            "%5c",
            "%00",
            "%0a",
            "%ff",
            "videos",
            "v1",
            "live",
            "0" * 32,
            "f" * 32,
            "etc",
            "passwd",
            "jobs.sqlite",
            "result",
            "events",
            "subtitles",
            "sound",
            "controls",
            ".",
            "",
            "~",
            "a" * 3000,
            "%25%32%65",
            "*",
            ";x",
            "?x=%",
            "#",
        )
        path = "/" + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 6)))
        if rng.random() < 0.6:
            path = f"/v1/{rng.choice(('videos', 'live', 'examples'))}{path}"
        method = rng.choice(("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "BREW"))
        self.tell("paths", *self.request(method, path, b"" if method in ("POST", "PUT") else None))

    def heads(self, rng):
        """Heads that are huge, doubled, contradictory, from other sites, or no HTTP."""
        host = f"{self.host}:{self.port}".encode()
        lines = [b"Host: " + host]
        odd = heads(rng)
        lines += rng.choice(odd)
        start = rng.choice(
            (
                b"GET %s HTTP/1.1",
                b"POST %s HTTP/1.1",
                b"GET http://evil.example%s HTTP/1.1",
                b"GET %s HTTP/9.9",
                b"GET %s",
                b"\x16\x03\x01%s",
                b"PRI * HTTP/2.0%s",
            )
        )
        data = b"\r\n".join([start % rng.choice(ROUTES).encode(), *lines, b"", b"x" * rng.choice((0, 5, 50))])
        answer = self.raw(data)
        code = answer[9:12]
        self.tell("heads", int(code) if code.isdigit() else "closed", answer.partition(b"\r\n\r\n")[2] or b"detail")

    def slow(self, rng):
        """Clients that drip, stop half-way, or read nothing."""
        host = f"Host: {self.host}:{self.port}\r\n".encode()
        with socket.create_connection((self.host, self.port), timeout=5) as line:
            kind = rng.randrange(4)
            line.sendall(b"GET /v1/about HTTP/1.1\r\n" if kind == 0 else b"POST /v1/videos HTTP/1.1\r\n" + host)
            if kind == 1:
                line.sendall(b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n")
            if kind == 2:
                line.sendall(
                    b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--x\r"
                )
            for _ in range(rng.randint(0, 5)):
                time.sleep(0.02)
                line.sendall(b"x")
            if kind == 3:
                line.shutdown(socket.SHUT_WR)
            if rng.random() < 0.5:  # reset, not closed
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tell("slow", "left")

    def crowds(self, rng):
        """More connections at once than there are, half of them silent."""
        lines = []
        try:
            for _ in range(rng.randint(20, 90)):
                lines.append(socket.create_connection((self.host, self.port), timeout=5))
                if rng.random() < 0.5:
                    lines[-1].sendall(
                        b"GET /v1/about HTTP/1.1\r\nHost: " + f"{self.host}:{self.port}".encode() + b"\r\n\r\n"
                    )
        finally:
            for line in lines:
                line.close()
        self.tell("crowds", len(lines) > 0)

    def opened(self, kind) -> str:
        """The path of a new live session, empty where all are busy."""
        body, kind_of = multipart({"portrait": ("p", PORTRAIT), "crop": "center"})
        status, answer = self.request("POST", "/v1/live", body, {"Content-Type": kind_of}, timeout=120)
        self.tell(kind, status, answer)
        return json.loads(answer)["socket"] if status == 201 else ""

    def sockets(self, rng):
        """WebSockets of other sites, of no session, with words that say nothing."""
        path = self.opened("sockets")
        address = f"ws://{self.host}:{self.port}"
        if not path or rng.random() < 0.3:
            headers = rng.choice(
                (
                    {"Origin": "http://evil.example"},
                    {"Origin": "null"},
                    {"Sec-Fetch-Site": "cross-site"},
                    {"Host": "evil"},
                    {},
                )
            )
            where = rng.choice((path or "/v1/live/x", "/v1/live/..", f"/v1/live/{'0' * 32}", "/v1/videos", "/"))
            if not headers:
                where = f"/v1/live/{'0' * 32}"
            try:
                with connect(address + where, additional_headers=headers, open_timeout=20):
                    self.faults.append(f"sockets: opened {where} with {headers}")
            except (WebSocketException, OSError) as error:
                self.tell("sockets", type(error).__name__)
        else:
            words = [
                json.dumps({"type": kind}) for kind in ("interrupt", "pause", "resume", "report", "microphone", "", "x")
            ]
            words += [
                f'{{"type": "{rng.choice(("report", "microphone"))}", "{name}": {value}}}'
                for name in ("rate", "latency", "skew")
                for value in ODD
            ]
            words += [
                b"\x00" * 5,
                rng.randbytes(2**16),
                b"\x7f" * (2**20 + 2),
                "[" * 3000,
                "x" * 5000,
                "null",
                b"",
                *ODD,
            ]
            with connect(address + path, max_size=None, open_timeout=20) as line:
                try:
                    for _ in range(rng.randint(1, 6)):
                        line.send(rng.choice(words))
                    for _ in range(4):
                        line.recv(timeout=3)
                    self.tell("sockets", "played")
                except TimeoutError:
                    self.tell("sockets", "silent")
                except WebSocketException as error:
                    closed = getattr(error, "rcvd", None)
                    self.tell("sockets", f"closed {closed.code if closed else 'without a word'}")
                    if closed and closed.code == 1011:
                        self.faults.append(f"sockets: 1011 {closed.reason}")
        if path:
            self.request("DELETE", path)

    def lives(self, rng):
        """Everything that a live session takes, of the wrong kind."""
        path = self.opened("lives") or f"/v1/live/{'0' * 32}"
        for _ in range(4):
            choice = rng.randrange(5)
            sound = rng.choice((wav(0.1), wav(0.1)[:30], b"", PORTRAIT[:500], rng.randbytes(999), wav(2, 8000)))
            if choice == 0:
                self.form(path + "/sound", {"sound": ("s", sound)}, kind="lives")
            elif choice == 1:
                self.form(
                    path + "/controls", {"controls": f'{{"{rng.choice(NAMES)}": {rng.choice(ODD)}}}'}, "PUT", "lives"
                )
            elif choice == 2:
                data = rng.choice((PORTRAIT, PORTRAIT[: rng.randrange(3000)], sound))
                self.form(
                    path + "/portrait",
                    {"portrait": ("p", data), "crop": rng.choice(("center", "", "1,1,1", "x"))},
                    "PUT",
                    "lives",
                )
            elif choice == 3:
                self.tell("lives", *self.request("POST", path + "/interrupt", b""))
            else:
                self.tell("lives", *self.request(rng.choice(("GET", "DELETE", "PATCH")), path))
        self.request("DELETE", path)

    def races(self, rng):
        """Threads that make, read, cancel and remove the same jobs and sessions at once."""
        body, kind_of = multipart(
            {"portrait": ("p", PORTRAIT), "sound": ("s", wav(0.3)), "crop": "center", "controls": '{"steps": 1}'}
        )
        status, answer = self.request("POST", "/v1/videos", body, {"Content-Type": kind_of})
        self.tell("races", status, answer)
        job = json.loads(answer).get("id", "0" * 32) if status == 201 else "0" * 32

        def one(number):
            mine = random.Random(f"{rng.random()} {number}")
            for _ in range(4):
                time.sleep(mine.random() * 0.2)
                choice = mine.randrange(6)
                try:
                    if choice == 0:
                        self.tell("races", *self.request("DELETE", f"/v1/videos/{job}"))
                    elif choice == 1:
                        self.form("/v1/crops", {"portrait": ("p", PORTRAIT)}, kind="races")
                    elif choice == 2:
                        self.tell("races", *self.request("POST", "/v1/videos", body, {"Content-Type": kind_of}))
                    elif choice == 3 and (path := self.opened("races")):
                        self.request("DELETE", path)
                    else:
                        end = mine.choice(("", "/result", "/events", "/subtitles"))
                        self.tell(
                            "races", *self.request("GET", f"/v1/videos/{job}{end}", headers={"Range": "bytes=0-9"})
                        )
                except (OSError, http.client.HTTPException) as error:
                    self.tell("races", type(error).__name__)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


KINDS = ("settings", "texts", "files", "forms", "paths", "heads", "slow", "crowds", "sockets", "lives", "races")
