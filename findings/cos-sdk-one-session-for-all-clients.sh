#!/usr/bin/env bash
# cos-python-sdk-v5 1.9.44 keeps one requests session for all clients of a process, in the class: the pool size of the
# first client holds for all later ones, and a cookie that one client's server sets is sent by the others, whatever
# their keys and buckets are.
#
# Seen on 2026-11-29 with Python 3.11:
#   pool of the second client, made with PoolMaxSize=50: 10
#   cookie that the second client sends: of=first
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cos-python-sdk-v5==1.9.44
cat >"$folder/try.py" <<'PY'
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from qcloud_cos import CosConfig, CosS3Client

cookies = []


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        cookies.append(self.headers.get("Cookie"))
        self.send_response(200)
        self.send_header("Set-Cookie", "of=first")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
CosConfig.uri = lambda self, bucket=None, path=None, **_: f"http://127.0.0.1:{server.server_port}/{path or ''}"


def client(number, **options):
    config = CosConfig(Region="ap-guangzhou", SecretId=f"id{number}", SecretKey="key", Scheme="http", **options)
    return CosS3Client(config)


client(1).head_bucket(Bucket="one-1250000000")
second = client(2, PoolMaxSize=50)
second.head_bucket(Bucket="two-1250000000")
pool = second._session.get_adapter("http://127.0.0.1")._pool_maxsize
seen = [f"pool of the second client, made with PoolMaxSize=50: {pool}", f"cookie that the second client sends: {cookies[-1]}"]
print("\n".join(seen))
sys.exit(seen != ["pool of the second client, made with PoolMaxSize=50: 10", "cookie that the second client sends: of=first"])
PY
"$folder/venv/bin/python" "$folder/try.py"
