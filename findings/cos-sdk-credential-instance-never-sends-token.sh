#!/usr/bin/env bash
# cos-python-sdk-v5 1.9.44 and temporary keys: CosConfig(CredentialInstance=keys) reads secret_id and secret_key of the
# object for each request, and never its token. Requests go out without x-cos-security-token, so COS refuses each of
# them, with keys that CosConfig(SecretId=, SecretKey=, Token=) gets through.
#
# Seen on 2026-11-29 with Python 3.11:
#   three arguments: token sent
#   an instance: no token
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cos-python-sdk-v5==1.9.44
cat >"$folder/try.py" <<'PY'
import logging, sys

import requests
from qcloud_cos import CosConfig, CosS3Client

logging.disable(logging.CRITICAL)


class Keys:
    secret_id, secret_key, token = "id", "key", "temporary"


class Session(requests.Session):
    def send(self, request, **options):
        self.sent = request.headers
        raise requests.ConnectionError


def told(**keys):
    session = Session()
    try:
        CosS3Client(CosConfig(Region="ap-guangzhou", **keys), retry=1, session=session).head_object(
            Bucket="files-1250000000", Key="a"
        )
    except Exception:
        pass
    return "token sent" if "x-cos-security-token" in session.sent else "no token"


seen = [
    f"three arguments: {told(SecretId='id', SecretKey='key', Token='temporary')}",
    f"an instance: {told(CredentialInstance=Keys())}",
]
print("\n".join(seen))
sys.exit(seen != ["three arguments: token sent", "an instance: no token"])
PY
"$folder/venv/bin/python" "$folder/try.py"
