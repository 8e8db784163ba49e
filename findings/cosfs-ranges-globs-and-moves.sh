#!/usr/bin/env bash
# cosfs 2026.3.25 (an fsspec filesystem for COS), where it differs from what fsspec documents for every filesystem:
#   cat_file(path, start=-3) asks for "Range: bytes=-3-", which is no valid range, so the server sends the whole object
#   (fsspec: the last three bytes); an explicit end works;
#   mv(path, path) copies the object onto itself and then deletes it: the object is gone, without an error;
#   glob("bucket/*") returns objects only, never a folder, and nothing at all where there are only folders;
#   find(path of an object) returns an empty list (fsspec: the object).
#
# Seen on 2026-11-29 with Python 3.11, cos-python-sdk-v5 1.9.44, fsspec 2026.2.0: the lines in "expected" below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  cosfs==2026.3.25 cos-python-sdk-v5==1.9.44 fsspec==2026.2.0
cat >"$folder/try.py" <<'PY'
import re, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

objects = {"data/a.txt": b"0123456789", "data/sub/b.txt": b"b"}
ranges = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def key(self):
        path = unquote(urlsplit(self.path).path).lstrip("/")
        return path.removeprefix("files-1250000000/")

    def meta(self, data):
        return {"ETag": '"0"', "Last_Modified": "Sun, 29 Nov 2026 00:00:00 GMT", "Content_Type": "text/plain",
                "length": len(data)}

    def do_HEAD(self):
        data = objects.get(self.key())
        return self.answer(404) if data is None else self.answer(200, data, **self.meta(data))

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if not self.key() or self.key() == "files-1250000000":
            return self.listing(query)
        data = objects.get(self.key())
        if data is None:
            body = b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
            return self.answer(404, body, Content_Type="application/xml")
        wanted = self.headers.get("Range")
        ranges.append(wanted)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if match:
            data = data[int(match[1]): int(match[2]) + 1 if match[2] else None]
            return self.answer(206, data, **self.meta(data))
        return self.answer(200, data, **self.meta(data))

    def listing(self, query):
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys, folders = [], set()
        for key in sorted(objects):
            if key.startswith(prefix):
                rest = key[len(prefix):]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    keys.append(key)
        entries = "".join(f"<Contents><Key>{key}</Key><Size>{len(objects[key])}</Size><ETag>0</ETag>"
                          "<LastModified>2026-11-29T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass>"
                          "</Contents>" for key in keys)
        entries += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(folders))
        body = (f"<ListBucketResult><Name>files-1250000000</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys>"
                f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>").encode()
        self.answer(200, body, Content_Type="application/xml")

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        source = unquote(self.headers["x-cos-copy-source"]).split("/", 1)[1]
        objects[self.key()] = objects[source]
        body = b"<CopyObjectResult><ETag>0</ETag><LastModified>2026-11-29T00:00:00.000Z</LastModified></CopyObjectResult>"
        self.answer(200, body, Content_Type="application/xml")

    def do_DELETE(self):
        objects.pop(self.key(), None)
        self.answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for key in re.findall("<Key>(.*?)</Key>", body):
            objects.pop(key, None)
        self.answer(200, b"<DeleteResult></DeleteResult>", Content_Type="application/xml")

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

import fsspec
import qcloud_cos

# The client addresses a bucket by its host name; a local server is reached by a fixed address instead.
qcloud_cos.CosConfig.uri = lambda self, bucket=None, path=None, **_: (
    f"http://127.0.0.1:{server.server_port}/{(path or '').lstrip('/')}"
)
fs = fsspec.filesystem("cosn", secret_id="id", secret_key="key", region="ap-guangzhou", skip_instance_cache=True)
B = "files-1250000000"
seen = []
seen.append(f"cat_file(start=-3): {fs.cat_file(f'{B}/data/a.txt', start=-3)!r} by Range {ranges[-1]!r}")
seen.append(f"glob(data/*): {fs.glob(f'{B}/data/*')}; glob(*): {fs.glob(f'{B}/*')}")
seen.append(f"find(object): {fs.find(f'{B}/data/a.txt')}")
fs.invalidate_cache()
fs.mv(f"{B}/data/a.txt", f"{B}/data/a.txt")
seen.append(f"after mv onto itself: {sorted(objects)}")
print("\n".join(seen))
expected = [
    "cat_file(start=-3): b'0123456789' by Range 'bytes=-3-'",
    "glob(data/*): ['files-1250000000/data/a.txt']; glob(*): []",
    "find(object): []",
    "after mv onto itself: ['data/sub/b.txt']",
]
sys.exit(seen != expected)
PY
"$folder/venv/bin/python" "$folder/try.py"
