"""What hostile requests to a studio are made of: odd values, names, routes, heads and forms."""

import io

from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.settings import fields_of

PORTRAIT = DEMO["image"].read_bytes()
SUBTITLES = b"1\n00:00:00,000 --> 00:00:01,000\nhello\n"
ODD = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "1e400", "1" * 400, "1" * 5000, "true", "null", "[]", "{}",
    '""', '"x"',
    '"\\u0000"', '"\\ud800"', '"\\n\\r"', '[1,2,3,4]', "[NaN,0]", "[[0,0],[1]]", '["a",1]', "[" * 500 + "]" * 500,
    '{"a":' * 300 + "1" + "}" * 300, '"../../etc/passwd"', '"/etc/passwd"', '"' + "x" * 9000 + '"', "1.5",
    '"happiness:nan"', "3e2",
    '"transparent"', '"9:16"', '"1:0"', '"99999:99999"', '"0x10"', '"#12345g"', '"rgb(1,2"', '"hsl(a,b,c)"', '"blur"',
)  # fmt: skip
NAMES = (
    *fields_of(Controls), *fields_of(Driving), *fields_of(VideoForm), "paste", "format", "limits", "__class__", "",
)  # fmt: skip
ROUTES = (
    "/v1/videos", "/v1/reenactments", "/v1/crops", "/v1/speech", "/v1/login", "/v1/live", "/v1/about", "/v1/health",
    "/v1/examples/portrait", "/v1/openapi.json", "/metrics", "/", "/studio.js",
)  # fmt: skip
FIELDS = ("portrait", "sound", "driving", "backdrop", "subtitles", "controls", "form", "motion", "crop", "background")


def heads(rng) -> tuple[list[bytes], ...]:
    """Lines of heads that are huge, doubled, contradictory, or of other sites."""
    lengths = (b"-1", b"1e3", b"99999999999999999999999", b"5, 5", b"\xb2", b"+5", b" ", b"0x10")
    cookies = (b"=;=;", b"vasa_studio=\xff", b"a" * 9000, b'vasa_studio="')
    ranges = (b"0-", b"-1", b"9-1", b"a-b", b"0-" + b"9" * 300)
    return (
        [b"X: " + b"y" * rng.choice((100, 20_000, 200_000))], [b"X%d: y" % i for i in range(rng.choice((50, 3000)))],
        [b"Host: evil.example"], [b"Origin: http://evil.example"], [b"Origin: null"], [b"Sec-Fetch-Site: cross-site"],
        [b"Content-Length: " + rng.choice(lengths)],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: " + rng.choice((b"gzip", b"chunked, chunked", b"\x0b"))],
        [b"Cookie: " + rng.choice(cookies)], [b"Range: bytes=" + rng.choice(ranges)],
        [b"Authorization: Bearer \xff\xfe"], [b"Expect: 100-continue"],
        [b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"],
        [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 9"],
        [b"Accept-Encoding: " + b"gzip," * 2000], [b"no colon"],
        [b" folded: x"], [b"Host: a", b"Host: b"], [b"X: a\x00b"],
    )  # fmt: skip


def multipart(fields: dict) -> tuple[bytes, str]:
    """Returns the body and the content type of a form; names and texts are taken as they are."""
    edge, body = "edge0123456789", io.BytesIO()
    for name, value in fields.items():
        filename, data = value if isinstance(value, tuple) else (None, value)
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        more = f'; filename="{filename}"' if filename is not None else ""
        body.write(f'--{edge}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode())
        body.write(data + b"\r\n")
    body.write(f"--{edge}--\r\n".encode())
    return body.getvalue(), f"multipart/form-data; boundary={edge}"
