"""What a client needs to know of a running emulator."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, computed_field


class EmulatorInfo(BaseModel):
    """Addresses, credentials and names; printed as one JSON line when the emulator is ready."""

    endpoint: str
    cmq_endpoint: str
    cos_endpoint: str
    region: str
    zone: str
    secret_id: str
    secret_key: str
    topic: str
    bucket: str
    data_dir: str
    pid: int
    #: What changes to the emulator itself are sent with, below ``/_emulator/``: as header ``X-Emulator-Token``.
    control_token: str = ""
    #: Where its pages of jobs begin, with the key that they are asked for with.
    console: str = ""
    #: Where they are, as the fields of an Airflow connection have it.
    console_urls: dict[str, str] = Field(default_factory=dict, exclude=True)
    #: With TLS: the certificate of the authority that clients have to trust.
    ca_file: str | None = None
    #: A temporary key pair that is accepted with this token only, when one was asked for.
    token: str | None = None
    temporary_secret_id: str | None = None
    temporary_secret_key: str | None = None

    @property
    def airflow_extra(self) -> dict[str, str]:
        """``extra`` of an Airflow connection to this emulator."""
        return {
            "region": self.region,
            "zone": self.zone,
            "endpoint": self.endpoint,
            "cmq_endpoint": self.cmq_endpoint,
            "cos_endpoint": self.cos_endpoint,
            "event_topic": self.topic,
            **self.console_urls,
            **({"ca_file": self.ca_file} if self.ca_file else {}),
        }

    @computed_field  # type: ignore[prop-decorator]
    @property
    def airflow_conn_uri(self) -> str:
        """An Airflow connection in URI form."""
        login, password = quote(self.secret_id, safe=""), quote(self.secret_key, safe="")
        return f"tencentcloud://{login}:{password}@/?{urlencode(self.airflow_extra)}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def airflow_conn_json(self) -> str:
        """The same connection as JSON text, as ``AIRFLOW_CONN_…`` takes it."""
        return json.dumps(
            {
                "conn_type": "tencentcloud",
                "login": self.secret_id,
                "password": self.secret_key,
                "extra": self.airflow_extra,
            }
        )
