from __future__ import annotations

import base64

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.client.logs.cursor import LONGEST_WINDOW
from airflow_provider_tcbatch.client.logs.reader import LogReader, decode_preview
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import SubmitJob
from airflow_provider_tcbatch.policies.job.failure_report import last_lines
from tests.unit.conftest import job

TEXT = "步骤 1 done\n"
PLAIN = base64.b64encode(TEXT.encode()).decode()


@pytest.mark.parametrize("encoded", [PLAIN, PLAIN.rstrip("="), f"data:text/plain;charset=utf-8;base64,{PLAIN}"])
def test_all_documented_shapes_are_decoded(encoded: str) -> None:
    assert decode_preview(encoded) == TEXT


def test_a_character_cut_in_two_is_replaced() -> None:
    cut = base64.b64encode("步骤".encode()[1:]).decode()
    assert decode_preview(cut).endswith("骤")


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_output_is_an_empty_text(nothing: str | None) -> None:
    assert decode_preview(nothing) == ""


def test_what_is_not_base64_is_shown_as_it_is() -> None:
    assert decode_preview("plain words!") == "plain words!"


def test_of_a_long_preview_the_end_is_shown() -> None:
    encoded = base64.b64encode(b"a" * 100_000 + b"end").decode()
    assert decode_preview(encoded) == "a" * (LONGEST_WINDOW - 3) + "end"


def test_what_is_shown_at_the_end_is_bounded_in_lines_too(emulator: Emulator, api: ApiClient) -> None:
    info = emulator.info
    keys = StaticKeys(info.secret_id, info.secret_key)
    cos = CosClient(keys, CosSettings(info.region, endpoint=info.cos_endpoint))
    path = f"cos://{info.bucket}.cos.{info.region}.myqcloud.com/many/"
    redirect = {"StdoutRedirectPath": path, "StdoutRedirectFileName": "lines"}
    placement = {"Zone": info.zone}
    submitted = SubmitJob.model_validate({"Placement": placement, "Job": job("seq 60000", RedirectInfo=redirect)})
    job_id = api.call(submitted).job_id
    emulator.wait_job(job_id)
    reader = LogReader(api, cos, 16 * 1024 * 1024)
    [output] = reader.outputs(job_id, "main", reader.instances(job_id, "main"))
    first, *lines = output.stdout.splitlines()
    assert first == f"[... earlier output is in {path}lines]"
    assert lines == [str(number) for number in range(55_001, 60_001)]


def test_a_report_shows_the_beginning_of_a_long_line() -> None:
    [line] = last_lines("a" * 1_000_000)
    assert line == "a" * 1_000 + " [... 999,000 more characters]"
