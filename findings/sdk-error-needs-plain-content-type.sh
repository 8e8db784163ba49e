#!/usr/bin/env bash
# tencentcloud-sdk-python-common 3.1.195 raises an API error only if the answer's Content-Type is exactly
# "application/json" or "text/plain". The same answer with "application/json; charset=utf-8", which many gateways and
# proxies write, is no error: call_json returns a dictionary with "Error" in it, and the typed client of
# tencentcloud-sdk-python-batch 3.1.171 returns a response of which every field is None.
#
# Seen on 2026-11-29 with Python 3.11:
#   application/json: TencentCloudSDKException AuthFailure
#   application/json; charset=utf-8: returned, with Error code AuthFailure; typed TotalCount: None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tencentcloud-sdk-python-common==3.1.195 tencentcloud-sdk-python-batch==3.1.171
cat >"$folder/try.py" <<'PY'
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from tencentcloud.batch.v20170312 import batch_client, models
from tencentcloud.common import credential
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

kind = ""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"Response": {"Error": {"Code": "AuthFailure", "Message": "no"}, "RequestId": "r"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
http = HttpProfile(protocol="http", endpoint=f"127.0.0.1:{server.server_port}")
profile = ClientProfile(httpProfile=http)
keys = credential.Credential("id", "key")
seen = []
for kind in ("application/json", "application/json; charset=utf-8"):
    try:
        answer = CommonClient("batch", "2017-03-12", keys, "ap-guangzhou", profile).call_json("DescribeJobs", {})
    except TencentCloudSDKException as error:
        seen.append(f"{kind}: TencentCloudSDKException {error.code}")
        continue
    typed = batch_client.BatchClient(keys, "ap-guangzhou", profile).DescribeJobs(models.DescribeJobsRequest())
    code = answer["Response"]["Error"]["Code"]
    seen.append(f"{kind}: returned, with Error code {code}; typed TotalCount: {typed.TotalCount}")
print("\n".join(seen))
expected = [
    "application/json: TencentCloudSDKException AuthFailure",
    "application/json; charset=utf-8: returned, with Error code AuthFailure; typed TotalCount: None",
]
sys.exit(seen != expected)
PY
"$folder/venv/bin/python" "$folder/try.py"
