#!/usr/bin/env bash
# Airflow 3.3.2 ships the source of a function to another interpreter for @task.virtualenv, @task.external_python,
# @task.docker and @task.kubernetes (get_python_source). Lines that begin with # are taken out of it, those inside a
# string of several lines, too: the shipped function returns another text than the one in the DAG file, and nobody says
# so. Where such a string begins a line at the left margin and the function is indented (inside "with DAG"), the source
# is not dedented, and making it is a syntax error of the task.
#
# Seen on 2026-11-29 with Python 3.11:
#   in the file: '#!/bin/sh\n# runs a step\nstep one\n'
#   as shipped:  'step one\n'
#   indented, text at the margin: ParserSyntaxError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow==3.3.2 \
  apache-airflow-providers-standard==1.21.0
cat >"$folder/try.py" <<'PY'
import sys

from airflow.sdk import DAG, task


@task.virtualenv(requirements=[])
def script():
    return """\
#!/bin/sh
# runs a step
step one
"""


with DAG("shipped", schedule=None):
    operator = script().operator

    @task.virtualenv(requirements=[])
    def indented():
        return """
text
"""

    other = indented().operator

shipped = {}
exec(operator.get_python_source(), shipped)
texts = operator.python_callable(), shipped["script"]()
try:
    other.get_python_source()
    third = "source"
except Exception as error:
    third = type(error).__name__
print(f"in the file: {texts[0]!r}\nas shipped:  {texts[1]!r}\nindented, text at the margin: {third}")
wanted = ("#!/bin/sh\n# runs a step\nstep one\n", "step one\n"), "ParserSyntaxError"
sys.exit((texts, third) != wanted)
PY
AIRFLOW_HOME="$folder/airflow" "$folder/venv/bin/python" "$folder/try.py"
