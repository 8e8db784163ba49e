#!/usr/bin/env bash
# cos-python-sdk-v5 1.9.44 and a body that can be read once only (a generator), uploaded to a server that can't be
# reached: put_object does not raise its own CosClientError, as it does for bytes, but UnboundLocalError, because it does
# not try again and then uses the answer that never came. Code that catches the SDK's errors misses it.
#
# Seen on 2026-11-29 with Python 3.11:
#   bytes: CosClientError
#   generator: UnboundLocalError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cos-python-sdk-v5==1.9.44
cat >"$folder/try.py" <<'PY'
import logging, socket, sys

from qcloud_cos import CosConfig, CosS3Client

logging.disable(logging.CRITICAL)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
config = CosConfig(Region="ap-guangzhou", SecretId="id", SecretKey="key", Endpoint=f"127.0.0.1:{port}", Scheme="http",
                   ServiceDomain=f"127.0.0.1:{port}", Timeout=2)
CosConfig.uri = lambda self, bucket=None, path=None, **_: f"http://127.0.0.1:{port}/{path or ''}"
client = CosS3Client(config, retry=1)
seen = []
for name, body in (("bytes", b"abc"), ("generator", (part for part in (b"a", b"bc")))):
    try:
        client.put_object(Bucket="files-1250000000", Key="a", Body=body)
    except Exception as error:
        seen.append(f"{name}: {type(error).__name__}")
print("\n".join(seen))
sys.exit(seen != ["bytes: CosClientError", "generator: UnboundLocalError"])
PY
"$folder/venv/bin/python" "$folder/try.py"
