"""Paths in remote storage."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.job import Application, InputMapping, RedirectInfo
from airflow_provider_tcbatch.models.storage import CosLocation

GOOD = "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/a/b/"


def refusal(path: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        RedirectInfo.parse({"StdoutRedirectPath": path}, at="RedirectInfo")
    return str(caught.value)


@pytest.mark.parametrize("path", [GOOD, "cfs://10.66.1.2/data/", "nfs://10.66.1.2/data/"])
def test_folders(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RedirectInfo.parse({"StdoutRedirectPath": path}).stdout_redirect_path == path


def test_a_missing_slash() -> None:
    text = refusal(GOOD[:-1])
    assert f"RedirectInfo.StdoutRedirectPath: must end with a slash: write {GOOD!r}" in text


def test_a_host_that_is_not_the_xml_api() -> None:
    for host in ("logs-1250000000.file.myqcloud.com", "logs.cos.ap-guangzhou.myqcloud.com", "example.com"):
        text = refusal(f"cos://{host}/a/")
        assert (
            "RedirectInfo.StdoutRedirectPath: is not on a COS XML-API host; write cos://<bucket>-<appid>.cos." in text
        )


def test_an_unknown_short_host() -> None:
    assert "XML-API host" in refusal("cos://logs-1250000000.cosxy.myqcloud.com/a/")


def test_an_old_host_is_accepted_with_a_warning() -> None:
    old = "cos://logs-1250000000.cosgz.myqcloud.com/a/"
    with pytest.warns(UserWarning, match=r"write logs-1250000000\.cos\.ap-guangzhou\.myqcloud\.com"):
        assert RedirectInfo.parse({"StdoutRedirectPath": old}).stdout_redirect_path == old


@pytest.mark.parametrize("host", ["logs-appid.cosgz", "logs-appid.ap-guangzhou", "logs-1250000000.ap-guangzhou"])
def test_a_host_of_tencents_samples_is_accepted_with_a_warning(host: str) -> None:
    path = f"cos://{host}.myqcloud.com/a/"
    with pytest.warns(UserWarning, match="names no documented host of COS"):
        assert RedirectInfo.parse({"StdoutRedirectPath": path}).stdout_redirect_path == path


def test_the_global_host_is_one() -> None:
    path = "cos://logs-1250000000.cos.accelerate.myqcloud.com/a/"
    assert RedirectInfo.parse({"StdoutRedirectPath": path}).stdout_redirect_path == path
    assert CosLocation.parse(path).bucket == "logs-1250000000"


@pytest.mark.parametrize("key", ["a\x00b/", "a\x1bb/", "é" * 425 + "/"])
def test_a_key_that_cos_does_not_take(key: str) -> None:
    assert "must not hold control characters, nor a key of more than 850 bytes" in refusal(GOOD + key)


def test_an_unknown_scheme() -> None:
    assert "must begin with cos://, cfs:// or nfs://" in refusal("s3://bucket/a/")
    assert "must begin with cos://, cfs:// or nfs://" in refusal("/tmp/a/")


def test_inputs_are_folders_too() -> None:
    with pytest.raises(InvalidRequest, match="SourcePath: must end with a slash"):
        InputMapping.parse({"SourcePath": GOOD[:-1], "DestinationPath": "/data"})


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("ftp://example.com/a.tgz", "must begin with cos://, http:// or https://"),
        ("https://example.com/a/", "must name an archive"),
        ("cos://bucket/a.tgz", "XML-API host"),
    ],
)
def test_packages(path: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        Application.parse({"DeliveryForm": "PACKAGE", "Command": "true", "PackagePath": path})
    Application.parse({"DeliveryForm": "PACKAGE", "Command": "true", "PackagePath": GOOD + "a.tgz"})


def test_a_location() -> None:
    location = CosLocation.parse(GOOD)
    assert location == CosLocation("logs-1250000000", "ap-guangzhou", "a/b/")
    assert str(location.join("c.log")) == GOOD + "c.log"
    assert CosLocation.parse("cos://x-1250000000.cosbj.myqcloud.com/k").region == "ap-beijing"


@given(st.from_regex(r"[a-z0-9-]{0,10}", fullmatch=True), st.text(max_size=30))
def test_every_location_can_be_read_again(name: str, key: str) -> None:
    location = CosLocation(f"b{name}-1250000000", "ap-shanghai-fsi", key)
    assert CosLocation.parse(str(location)) == location
