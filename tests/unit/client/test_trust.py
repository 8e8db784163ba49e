"""Servers whose certificate can't be verified, on the channels beside the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_tcbatch.client.auth.sources import AssumeRole, StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError, ServerNotTrusted
from tests.support.in_process import QUICK


async def test_cos_and_cmq_name_the_ca_file_of_an_authority_that_is_not_known() -> None:
    with Emulator(QUICK, tls=True) as emulator:
        info = emulator.info
        keys = StaticKeys(info.secret_id, info.secret_key)
        cos = CosClient(keys, CosSettings(info.region, endpoint=info.endpoint, connection="conn 'prod'"))
        with pytest.raises(ServerNotTrusted, match=r"field ca_file of conn 'prod'"):
            cos.get("bucket-1250000000", "key")
        cmq = CmqClient(keys, info.cmq_endpoint, connection="conn 'prod'")
        with pytest.raises(ServerNotTrusted, match=r"field ca_file of conn 'prod'"):
            cmq.receive("queue")
        with pytest.raises(ServerNotTrusted, match=r"field ca_file of conn 'prod'"):
            await cmq.areceive("queue")


def test_a_ca_file_that_is_not_there_is_named_by_cos_too(tmp_path: Path) -> None:
    settings = CosSettings("ap-guangzhou", endpoint="https://127.0.0.1:1", ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match=r"check field ca_file"):
        CosClient(StaticKeys("AKIDx", "y"), settings).get("bucket-1250000000", "key")


def test_the_service_that_gives_a_roles_keys_is_verified_by_the_ca_file_too(tmp_path: Path) -> None:
    role = AssumeRole(
        StaticKeys("AKIDx", "y"),
        "qcs::cam::uin/100000000001:roleName/batch",
        endpoint="https://127.0.0.1:1",
        ca_file=str(tmp_path / "ca.pem"),
    )
    with pytest.raises(ConfigurationError, match=r"check field ca_file"):
        role.get()
