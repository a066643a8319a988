"""Requests that a service must refuse, by name: each as the bytes that a client sends."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass

from serve.bad_images import GIF, JPEG, NO_IMAGE, ODD, PNG
from serve.running import FORM, form, get, post

POSES = "/v1/poses?boxes=image"
BIG = bytes(2**20)  # as much as the service of the tests takes


@dataclass(frozen=True)
class Bad:
    """A request.

    Attributes:
        data: what is sent.
        statuses: what it may be answered by; 0: the connection is closed without an answer.
        http: whether the answer is the service's own; else the HTTP server may refuse what is no HTTP in its words.
        leave: the client sends no more after it.
    """

    data: bytes
    statuses: tuple[int, ...]
    http: bool = True
    leave: bool = False


def bad(data: bytes, *statuses: int) -> Bad:
    return Bad(data, statuses)


def no_http(data: bytes, *statuses: int, leave: bool = False) -> Bad:
    return Bad(data, statuses or (0, 400), http=False, leave=leave)


def image(*parts: tuple[str, bytes] | tuple[str, bytes, str], target: str = "/v1/poses") -> bytes:
    """Return a form with these parts and a good image."""
    return post(target, form(("file", PNG, "a.png"), *parts), FORM)


def boxes(text: str) -> bytes:
    """Return a good image with these boxes."""
    return image(("boxes", text.encode()))


IMAGES = {name: bad(post(POSES, data), 400, 413, 415) for name, data in NO_IMAGE.items()}
DRAWN = {f"{name}, drawn": bad(post("/v1/draw?boxes=image", data), 400, 413, 415) for name, data in NO_IMAGE.items()}

CHUNKED = {"Content_Length": "", "Transfer_Encoding": "chunked"}

FORMS = {
    "another field": bad(post(POSES, form(("image", PNG, "a.png")), FORM), 400),
    "no file": bad(post(POSES, form(("boxes", b"image")), FORM), 400, 422),
    "an empty form": bad(post(POSES, form(), FORM), 400),
    "an empty file": bad(post(POSES, form(("file", b"", "a.png")), FORM), 400, 415),
    "a file without a name": bad(post(POSES, form(("file", b"text")), FORM), 400),
    "one good image and a bad one": bad(image(("file", b"no image", "b.png"), target=POSES), 400, 415),
    "1000 files": bad(post(POSES, form(*[("file", b"x", "a.png")] * 1000), FORM), 400, 413),
    "1000 fields": bad(image(*[("boxes", b"image")] * 1000), 400, 413),
    "too many images": bad(post(POSES, form(*[("file", PNG, "a.png")] * 5), FORM), 413),
    "two images to draw": bad(image(("file", PNG, "b.png"), target="/v1/draw?boxes=image"), 400),
    "a form in a form": bad(post(POSES, form(("file", form(("file", PNG, "a.png")), "a.png")), FORM), 400, 415),
    "a long field": bad(image(("boxes", b"1" * 10**5)), 400, 413),
    "no boundary": bad(post(POSES, form(("file", PNG, "a.png")), "multipart/form-data"), 400),
    "another boundary": bad(post(POSES, form(("file", PNG, "a.png")), FORM + "s"), 400),
    "a boundary of 10 kB": bad(post(POSES, form(("file", PNG, "a.png")), f"{FORM}{'x' * 10000}"), 400, 431),
    "a boundary of spaces": bad(post(POSES, form(("file", PNG, "a.png")), 'multipart/form-data; boundary="  "'), 400),
    "a form without an end": bad(post(POSES, form(("file", PNG, "a.png"), end=b"")[:-40], FORM), 400),
    "no form": bad(post(POSES, PNG, FORM), 400),
    "JSON said to be a form": bad(post(POSES, b'{"file": 1}', FORM), 400),
    "a part without a disposition": bad(post(POSES, b"--limit\r\n\r\nx\r\n--limit--\r\n", FORM), 400),
    "a part without a field's name": bad(
        post(POSES, b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n--limit--\r\n", FORM), 400
    ),
    "a part with a long header": bad(post(POSES, b"--limit\r\nX: " + b"x" * 10**5 + form(), FORM), 400),
    "a part with 10000 headers": bad(post(POSES, b"--limit\r\n" + b"X: y\r\n" * 10000 + b"\r\n" + form(), FORM), 400),
    "a field's name with NUL": bad(image(("bo\0xes", b"image")), 400, 422),
    "a field's name that is no UTF-8": bad(
        post(POSES, form(("file", PNG, "a.png")).replace(b'"file"', b'"fi\xff\xfele"'), FORM), 400
    ),
    "multipart/mixed without files": bad(post(POSES, form(), "multipart/mixed; boundary=limit"), 400),
    "a GIF with a wrong field beside it": bad(image(("picture", GIF, "b.gif")), 400),
}

PARAMETERS = {
    "boxes as text": bad(boxes("all of them"), 400, 422),
    "boxes with NaN": bad(boxes("[[NaN, 1, 9, 9]]"), 400),
    "boxes with infinity": bad(boxes("[[1, 1, Infinity, 9]]"), 400),
    "boxes outside": bad(boxes("[[1000, 1000, 2000, 2000]]"), 400),
    "huge boxes": bad(boxes("[[-1e300, -1e300, 1e300, 1e300]]"), 200, 400),
    "boxes above all floats": bad(boxes("[[1, 1, 1e999, 9]]"), 400),
    "boxes of 500 digits": bad(boxes(f"[[1, 1, {'9' * 500}, 9]]"), 400),
    "boxes of 5000 digits": bad(boxes(f"[[1, 1, {'9' * 5000}, 9]]"), 400),
    "boxes of negative area": bad(boxes("[[9, 9, 1, 1]]"), 400),
    "boxes without area": bad(boxes("[[9, 9, 9, 9]]"), 400),
    "boxes of three numbers": bad(boxes("[[1, 1, 9]]"), 400),
    "boxes of words": bad(boxes('[["a", "b", "c", "d"]]'), 400),
    "boxes of null": bad(boxes("[[null, 1, 9, 9]]"), 400),
    "boxes of unequal length": bad(boxes("[[1, 1, 9, 9], [1, 1, 9]]"), 400),
    "boxes with lists inside": bad(boxes("[[[1, 1, 9, 9], 1, 9, 9]]"), 400),
    "boxes of objects": bad(boxes('[{"x": 1}]'), 400),
    "boxes as a number": bad(boxes("7"), 400),
    "boxes as null": bad(boxes("null"), 400),
    "deep boxes": bad(boxes("[" * 30000), 400),
    "101 boxes": bad(boxes(json.dumps([[1, 1, 9, 9]] * 101)), 400),
    "10^6 boxes": bad(boxes(json.dumps([[1, 1, 9, 9]] * 10**6)), 400, 413),
    "2000 boxes in the address": bad(post(f"/v1/poses?boxes=[{'[1,1,9,9],' * 2000}[1,1,9,9]]", PNG), 400, 414),
    "boxes for one of two images": bad(image(("file", PNG, "b.png"), ("boxes", b"[[[1, 1, 9, 9]]]")), 400),
    "an unknown network": bad(post("/v1/poses?model=lpn51", PNG), 400, 404, 422),
    "a network with a path": bad(post("/v1/poses?model=../../etc/passwd", PNG), 400, 404, 422),
    "a network with NUL": bad(post("/v1/poses?model=%00", PNG), 400, 404, 422),
    "a network of 10 kB": bad(post(f"/v1/poses?model={'x' * 10000}", PNG), 400, 404, 414, 422),
    "a network that is an address": bad(post("/v1/poses?model=http://127.0.0.1:1/x.onnx", PNG), 400, 404, 422),
    "a person score of 2": bad(post("/v1/poses?min_person_score=2", PNG), 400, 422),
    "a person score of -1": bad(post("/v1/poses?min_person_score=-1", PNG), 400, 422),
    "a person score of NaN": bad(post("/v1/poses?min_person_score=nan", PNG), 400, 422),
    "a person score of infinity": bad(post("/v1/poses?min_person_score=inf", PNG), 400, 422),
    "a person score in words": bad(post("/v1/poses?min_person_score=half", PNG), 400, 422),
    "a person score of 2 in the form": bad(image(("min_person_score", b"2")), 400, 422),
    "a score of NaN": bad(post("/v1/draw?min_score=nan", PNG), 400, 422),
    "an unknown kind of image": bad(post("/v1/draw?format=exe", PNG), 400, 422),
    "an unknown parameter": bad(post("/v1/poses?modell=lpn50", PNG), 400, 422),
    "an unknown parameter of 10 kB": bad(post(f"/v1/poses?{'x' * 10000}=1", PNG), 400, 414, 422),
    "an unknown parameter with marks": bad(post("/v1/poses?%3Cscript%3E%0A%0D=1", PNG), 400, 422),
    "an unknown field": bad(image(("modell", b"lpn50")), 400, 422),
    "a field that is no UTF-8": bad(image(("model", b"\xff\xfe")), 400, 422),
}

ADDRESSES = {
    "an unknown address": bad(get("/v2/poses"), 404),
    "a folder above": bad(get("/../app.py"), 404),
    "a folder above, encoded": bad(get("/%2e%2e/app.py"), 404),
    "a folder above, with an encoded slash": bad(get("/..%2fapp.py"), 404),
    "a folder above, with backslashes": bad(get("/..%5capp.py"), 404),
    "a folder above, encoded twice": bad(get("/%252e%252e/app.py"), 404),
    "far above": bad(get("/vendor/../../../../../../../../../etc/passwd"), 404),
    "far above, encoded": bad(get(f"/{'%2e%2e%2f' * 9}etc/passwd"), 404),
    "an absolute path": bad(get("//etc/passwd"), 400, 404),
    "NUL in the address": bad(get("/index.html%00.js"), 404),
    "no UTF-8 in the address": bad(get("/%ff%fe"), 404),
    "a long name": bad(get(f"/{'x' * 5000}"), 404, 414),
    "a deep address": bad(get("/x" * 5000), 404, 414),
    "a folder": bad(get("/vendor/"), 404),
    "GET of poses": bad(get("/v1/poses"), 404, 405),
    "PUT of poses": bad(post(POSES, PNG, method="PUT"), 404, 405),
    "DELETE of a page": bad(get("/index.html", method="DELETE"), 405),
    "POST of a page": bad(post("/index.html", PNG), 405),
    "TRACE": bad(get("/healthz", method="TRACE"), 400, 405),
    "another host": bad(get("/healthz", Host="evil.example"), 400, 403),
    "another host with a port": bad(get("/healthz", Host="evil.example:8000"), 400, 403),
    "a host that ends like ours": bad(get("/healthz", Host="evillocalhost"), 400, 403),
    "a host with a user": bad(get("/healthz", Host="localhost@evil.example"), 400, 403),
    "a host that is no address": bad(get("/healthz", Host="[::1"), 400, 403),
    "no host": bad(get("/healthz", Host=""), 400, 403),
    "another host, and an image": bad(post(POSES, PNG, Host="evil.example"), 400, 403),
    "another origin": bad(post(POSES, PNG, Origin="https://evil.example"), 403),
    "an origin on another port": bad(post(POSES, PNG, Host="localhost:8000", Origin="http://localhost:8001"), 403),
    "the origin null": bad(post(POSES, PNG, Origin="null"), 403),
    "an origin without a scheme": bad(post(POSES, PNG, Origin="localhost"), 403),
    "no token": bad(post(POSES, PNG, Authorization=""), 401),
    "a wrong token": bad(post(POSES, PNG, Authorization="Bearer secret"), 401),
    "a token as a password": bad(post(POSES, PNG, Authorization="Basic YTphIHNlY3JldA=="), 401),
    "a token of odd letters": bad(post(POSES, PNG, Authorization="Bearer \xff\xfe"), 401),
    "a token in the address": bad(post(f"{POSES}&token=a%20secret", PNG, Authorization=""), 401),
    "no token for the numbers": bad(get("/metrics", Authorization=""), 401),
}

BODIES = {
    "more bytes than allowed": bad(post(POSES, BIG + b"x"), 413),
    "more bytes than allowed, in a form": bad(post(POSES, form(("file", BIG, "a.png")), FORM), 413),
    "a length of 10^12": bad(post(POSES, b"", Content_Length=str(10**12)), 413),
    "a compressed body": bad(post(POSES, gzip.compress(PNG), Content_Encoding="gzip"), 415),
    "a body said to be compressed": bad(post(POSES, PNG, Content_Encoding="br"), 415),
    "chunks beyond the limit": bad(post(POSES, b"100001\r\n" + BIG + b"x\r\n0\r\n\r\n", **CHUNKED), 413),
}

NO_HTTP = {
    "a negative length": no_http(post(POSES, PNG, Content_Length="-1")),
    "a length in words": no_http(post(POSES, PNG, Content_Length="all")),
    "a length of 30 digits": no_http(post(POSES, PNG, Content_Length="9" * 30)),
    "two lengths": no_http(post(POSES, PNG, X="y\r\nContent-Length: 5"), 0, 400, 415),
    "a length and chunks": no_http(post(POSES, PNG, Transfer_Encoding="chunked"), 0, 400),
    "a chunk of no size": no_http(post(POSES, b"zz\r\nabc\r\n", **CHUNKED), 0, 400),
    "a short length": no_http(post(POSES, JPEG, Content_Length="20"), 400, 415),
    "less than its length": no_http(post(POSES, PNG[:50], Content_Length="500"), 0, 400, 408, leave=True),
    "an unknown method": no_http(get("/healthz", method="FETCH"), 400, 405),
    "an old kind of HTTP": no_http(b"GET /healthz\r\n\r\n", 0, 400, 403),
    "a new kind of HTTP": no_http(b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n"),
    "no HTTP": no_http(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    "noise": no_http(bytes(range(256)) * 4),
    "NUL in a header": no_http(get("/v2", X="a\0b"), 0, 400, 404),
    "a line end in a header's name": no_http(get("/v2", X="y\r\nno header at all"), 0, 400, 404),
    "10000 headers": no_http(get("/v2", X="y\r\n" + "\r\n".join(f"X{i}: y" for i in range(10000))), 0, 400, 404, 431),
    "a header of 1 MB": no_http(get("/v2", X="y" * 2**20), 0, 400, 404, 431),
    "10^5 boxes in the address": no_http(post(f"/v1/poses?boxes={'[1,1,9,9],' * 10**5}", PNG), 0, 400, 414),
    "an address of 1 MB": no_http(get("/" + "x" * 2**20), 0, 400, 404, 414),
    "an address elsewhere": no_http(get("http://evil.example/v2"), 0, 400, 403, 404),
    "a tunnel": no_http(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, 400, 403, 404, 405),
    "an upgrade to something else": no_http(get("/v2", Connection="Upgrade, close", Upgrade="h2c"), 0, 400, 404),
    "a WebSocket where there is none": no_http(
        get("/v1/poses", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
            Sec_WebSocket_Version="13"), 400, 403, 404, 405),
    "a WebSocket of another site": no_http(
        get("/v1/live", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==",
            Sec_WebSocket_Version="13", Origin="https://evil.example"), 403),
    "a WebSocket without a key": no_http(
        get("/v1/live", Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13"), 400),
}  # fmt: skip

# They are only refused when their time is over.
SLOW = {
    "less than its length, and silence": bad(post(POSES, PNG[:50], Content_Length="500"), 408),
    "chunks without an end": bad(post(POSES, b"5\r\nabcde\r\n", **CHUNKED), 408),
    "a form that stops": bad(post(POSES, form(("file", PNG, "a.png"))[:90], FORM, Content_Length="5000"), 408),
}

BAD = {**IMAGES, **DRAWN, **FORMS, **PARAMETERS, **ADDRESSES, **BODIES, **NO_HTTP}

ODD_REQUESTS = {
    **{name: post(POSES, data) for name, data in ODD.items()},
    **{f"{name}, drawn": post("/v1/draw?boxes=image", data) for name, data in ODD.items()},
    "said to be HTML": post(POSES, PNG, "text/html"),
    "said to be a simple form": post(POSES, PNG, "application/x-www-form-urlencoded"),
    "without a type": post(POSES, PNG, Content_Type=""),
    "a file's name with a path": post(POSES, form(("file", PNG, "../../../etc/passwd")), FORM),
    "a file's name with NUL": post(POSES, form(("file", PNG, "a\0b.png")), FORM),
    "a file's name of 2000 letters": post(POSES, form(("file", PNG, "x" * 2000)), FORM),
    "a file's name with marks": post(POSES, form(("file", PNG, "<img src=x>\n.png")), FORM),
    "a box around everything": post("/v1/poses?boxes=[[-1e9,-1e9,1e9,1e9]]", PNG),
    "a tiny box": post("/v1/poses?boxes=[[1,1,1.0000001,1.0000001]]", PNG),
    "no boxes at all": post("/v1/poses?boxes=[]", PNG),
}
