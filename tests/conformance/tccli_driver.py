"""Runs Tencent's command line tool once per line of standard input, each time in a process of its own.

Importing the tool takes longer than using it, so the processes are forks of this one. A line is a JSON list of
arguments; the answer is a JSON list of exit code, standard output and standard error. The first argument of this
program is the file with the authorities to trust: the tool always takes certifi's and has no option for that.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import certifi

AUTHORITIES = sys.argv[1]
certifi.where = lambda: AUTHORITIES

# Services are imported by name when they are first used; here that is before the forks.
import tccli.services.batch.batch_client  # noqa: E402
import tccli.services.tdmq.tdmq_client  # noqa: E402
from tccli.main import main  # noqa: E402

# The tool copies its table of all services once for each of them, which takes most of its time.
for _name in tccli.services.SERVICE_VERSIONS.keys() - {"batch", "tdmq"}:
    del tccli.services.SERVICE_VERSIONS[_name]


def run(arguments: list[str]) -> tuple[int, str, str]:
    """One run of the tool."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                sys.argv = ["tccli", *arguments]
                code = main() or 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        for file in (out, err):
            file.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
