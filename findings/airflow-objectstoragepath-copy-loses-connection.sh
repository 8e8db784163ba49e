#!/usr/bin/env bash
# Airflow 3.3.2, ObjectStoragePath with conn_id: a copy (copy, deepcopy) or a pickled path has no connection any more.
# It differs from the original, and reads and writes with the default keys of the machine instead of those of the
# connection. So a path that was cached, or sent to another process, asks as somebody else. Children and parents keep it.
#
# Seen on 2026-11-29 with Python 3.11:
#   path: files_conn
#   child: files_conn
#   copy: None
#   deepcopy: None
#   pickled: None, equal: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow==3.3.2
cat >"$folder/try.py" <<'PY'
import copy, pickle, sys

from airflow.sdk import ObjectStoragePath

path = ObjectStoragePath("file:///data/in", conn_id="files_conn")
again = pickle.loads(pickle.dumps(path))
seen = [
    f"path: {path.conn_id}",
    f"child: {(path / 'a').conn_id}",
    f"copy: {copy.copy(path).conn_id}",
    f"deepcopy: {copy.deepcopy(path).conn_id}",
    f"pickled: {again.conn_id}, equal: {again == path}",
]
print("\n".join(seen))
sys.exit(
    seen
    != ["path: files_conn", "child: files_conn", "copy: None", "deepcopy: None", "pickled: None, equal: False"]
)
PY
AIRFLOW_HOME="$folder/airflow" "$folder/venv/bin/python" "$folder/try.py"
