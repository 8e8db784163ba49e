#!/usr/bin/env bash
# moto 5.2.5 lists a bucket by version 1 of the S3 API (list_objects, which COS has) with a delimiter as if MaxKeys did
# not count folders: of 27 folders and MaxKeys=10 it sends 27 and says that it is all. Amazon and COS count folders and
# objects together and send 10. Version 2 (list_objects_v2) of the same moto does so.
#
# Seen on 2026-11-29 with Python 3.11, boto3 1.42.0:
#   version 1: 27 folders, IsTruncated False
#   version 2: 10 folders, IsTruncated True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'moto[s3]==5.2.5' boto3==1.42.0
cat >"$folder/try.py" <<'PY'
import sys

import boto3
from moto import mock_aws

with mock_aws():
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    s3.create_bucket(Bucket="bucket")
    for number in range(27):
        s3.put_object(Bucket="bucket", Key=f"folder{number:02}/object", Body=b"")
    seen = []
    for version, call in ((1, s3.list_objects), (2, s3.list_objects_v2)):
        page = call(Bucket="bucket", Delimiter="/", MaxKeys=10)
        seen.append(f"version {version}: {len(page['CommonPrefixes'])} folders, IsTruncated {page['IsTruncated']}")
print("\n".join(seen))
sys.exit(seen != ["version 1: 27 folders, IsTruncated False", "version 2: 10 folders, IsTruncated True"])
PY
"$folder/venv/bin/python" "$folder/try.py"
