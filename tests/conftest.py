"""Settings for all tests: Airflow keeps to a folder of its own, and finds no connection of the user's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

# The same examples each time: what fails must be about the change. HYPOTHESIS_PROFILE=default looks for new ones.
# Nor may it be about what else the machine does: an example may take its time.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Airflow reads these when it is imported, which is before any fixture runs.
_HOME = tempfile.mkdtemp(prefix="tcbatch-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "TENCENTCLOUD_", "COS_"))]:
    del os.environ[_name]
os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__LOGGING__LOGGING_LEVEL="INFO",
)
