"""Where keys come from, and that they are renewed in time and by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client.auth import keys
from airflow_provider_tcbatch.client.auth.sources import (
    AssumeRole,
    CredentialSource,
    CvmRole,
    DefaultChain,
    EnvironmentKeys,
    Keys,
    ProfileFile,
    StaticKeys,
    TkeOidc,
)
from airflow_provider_tcbatch.exceptions import ConfigurationError, InfrastructureError, TCBatchError

ROLE = "qcs::cam::uin/100000000001:roleName/airflow"
NOBODY = "http://127.0.0.1:9"


class FakeCloud:
    """The machine's metadata and STS, on 127.0.0.1."""

    def __init__(self) -> None:
        self.role: str | None = "node-role"
        self.life = 7200.0
        self.given = 0
        self.delay = 0.0
        self.refusal: tuple[str, str] | None = None
        self.status = 200
        self.content_type = "application/json"
        self.body: bytes | None = None
        #: Headers and body of every STS request.
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/latest/meta-data/cam/security-credentials/")
                if cloud.role is None or cloud.status != 200:
                    self.answer(b"", 404 if cloud.status == 200 else cloud.status)
                elif not path:
                    self.answer(cloud.role.encode())
                else:
                    self.answer(
                        json.dumps({"Code": "Success", **cloud.keys(path), "ExpiredTime": cloud.end()}).encode()
                    )

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cloud.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if cloud.refusal:
                    code, message = cloud.refusal
                    answer: dict[str, Any] = {"Error": {"Code": code, "Message": message}}
                else:
                    answer = {"Credentials": cloud.keys("sts"), "ExpiredTime": cloud.end()}
                self.answer(json.dumps({"Response": {**answer, "RequestId": "req-1"}}).encode(), cloud.status)

            def answer(self, body: bytes, status: int = 200) -> None:
                time.sleep(cloud.delay)
                body = body if cloud.body is None else cloud.body
                with contextlib.suppress(ConnectionError):  # some of the tests do not wait for an answer
                    self.send_response(status)
                    self.send_header("Content-Type", cloud.content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def keys(self, name: str) -> dict[str, str]:
        """A new key pair."""
        self.given += 1
        return {
            "TmpSecretId": f"{name}-id-{self.given}",
            "TmpSecretKey": f"{name}-hush-{self.given}",
            "Token": f"{name}-token-hush-{self.given}",
        }

    def end(self) -> float:
        """When keys that are given now expire."""
        return time.time() + self.life


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    fake = FakeCloud()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without profiles and an environment without keys or proxies."""
    for name in (
        *("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_TOKEN", "TCCLI_PROFILE"),
        *("TKE_ROLE_ARN", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_REGION"),
        *("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(keys, "_announced", set())
    return tmp_path


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Counting(keys.Renewing):
    """A source whose keys come from the test."""

    identity = description = "counting"

    def __init__(self, clock: Callable[[], float], life: float = 3600.0) -> None:
        super().__init__(clock)
        self.life = life
        #: Fetching takes until this is set.
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.fetched = 0
        self.threads: set[int] = set()

    def fetch(self) -> Keys:
        self.threads.add(threading.get_ident())
        assert self.gate.wait(30)
        self.fetched += 1
        if self.error:
            raise self.error
        return Keys(f"id-{self.fetched}", "key", "token", self._clock() + self.life)


def triple(source: CredentialSource) -> tuple[str, str, str | None]:
    found = source.get()
    return found.secret_id, found.secret_key, found.token


def set_pod(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    token = home / "token"
    token.write_text("pod-token\n")
    monkeypatch.setenv("TKE_ROLE_ARN", ROLE)
    monkeypatch.setenv("TKE_PROVIDER_ID", "OIDC")
    monkeypatch.setenv("TKE_REGION", "ap-beijing")
    monkeypatch.setenv("TKE_WEB_IDENTITY_TOKEN_FILE", str(token))
    return token


class TestStaticKeys:
    async def test_pair_and_token(self) -> None:
        assert triple(StaticKeys("id", "key")) == ("id", "key", None)
        source = StaticKeys("id", "key", "token")
        assert source.ready() is None
        assert await source.aget() is source.get() is source.ready()
        assert source.get().token == "token"
        assert not source.discard(source.get())

    def test_identity_tells_keys_apart_without_telling_them(self) -> None:
        sources = [StaticKeys("id", "hush"), StaticKeys("id", "hush", "t"), StaticKeys("id2", "hush")]
        assert len({source.identity for source in sources}) == 3
        assert sources[0].identity == StaticKeys("id", "hush", "").identity
        assert not any("hush" in source.identity for source in sources)

    @pytest.mark.parametrize(("secret_id", "secret_key"), [("", "key"), ("id ", "key"), ("id", "key\n")])
    def test_keys_that_can_not_be_used(self, secret_id: str, secret_key: str) -> None:
        with pytest.raises(ConfigurationError, match="fields Login and Password can't be used"):
            StaticKeys(secret_id, secret_key).get()


class TestRenewal:
    def test_before_expiry(self) -> None:
        clock = Clock()
        source = Counting(clock)
        first = source.get()
        clock.now += 3600 - 301
        assert source.get() is first
        clock.now += 2
        assert source.get().secret_id == "id-2"

    def test_short_lived_keys_are_not_renewed_all_the_time(self) -> None:
        clock = Clock()
        source = Counting(clock, life=60)
        source.get()
        clock.now += 44
        source.get()
        assert source.fetched == 1
        clock.now += 2
        source.get()
        assert source.fetched == 2

    def test_old_keys_are_used_on_while_they_hold(self, caplog: pytest.LogCaptureFixture) -> None:
        clock = Clock()
        source = Counting(clock)
        first = source.get()
        source.error = ConfigurationError("no more")
        clock.now += 3400
        assert source.get() is first
        assert "could not be renewed, the old ones are used for now: no more" in caplog.text
        assert source.get() is first
        assert source.fetched == 2  # not at every call
        clock.now += 40
        assert source.get() is first
        assert source.fetched == 3
        clock.now += 161
        with pytest.raises(ConfigurationError, match="no more"):
            source.get()
        source.error = None
        assert source.get().secret_id == "id-5"

    def test_keys_that_were_refused_are_fetched_anew(self) -> None:
        source = Counting(Clock())
        first = source.get()
        assert source.discard(first)
        second = source.get()
        assert second is not first
        assert source.discard(first)  # another caller was told the same: the new ones stay
        assert source.get() is second

    def test_threads_share_one_fetch(self) -> None:
        source = Counting(time.time)
        source.gate.clear()
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(source.get) for _ in range(32)]
            source.gate.set()
            found = [future.result() for future in waiting]
        assert source.fetched == 1
        assert all(credential is found[0] for credential in found)

    async def test_coroutines_share_one_fetch_off_the_loop(self) -> None:
        source = Counting(time.time)
        source.gate.clear()
        waiting = [asyncio.ensure_future(source.aget()) for _ in range(200)]
        await asyncio.sleep(0.01)  # the loop runs on meanwhile
        # The default pool has far fewer than 200 threads: others must still get one.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 60) == "free"
        assert not any(future.done() for future in waiting)
        source.gate.set()
        found = await asyncio.gather(*waiting)
        assert source.fetched == 1
        assert len({id(credential) for credential in found}) == 1
        assert threading.get_ident() not in source.threads
        assert await source.aget() is found[0]

    async def test_a_caller_that_is_cancelled_does_not_take_the_others_along(self) -> None:
        source = Counting(time.time)
        source.gate.clear()
        first = asyncio.ensure_future(source.aget())
        second = asyncio.ensure_future(source.aget())
        await asyncio.sleep(0.01)
        first.cancel()
        source.gate.set()
        assert (await second).secret_id == "id-1"
        assert first.cancelled()

    async def test_all_hear_of_an_error_and_the_next_tries_again(self, caplog: pytest.LogCaptureFixture) -> None:
        source = Counting(time.time)
        source.error = ConfigurationError("nothing there")
        found = await asyncio.gather(*(source.aget() for _ in range(5)), return_exceptions=True)
        assert [str(error) for error in found] == ["nothing there"] * 5
        assert source.fetched == 1
        source.error = None
        assert (await source.aget()).secret_id == "id-2"
        assert not caplog.records or "never retrieved" not in caplog.text

    def test_several_event_loops(self) -> None:
        source = Counting(time.time)
        source.gate.clear()
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(lambda: asyncio.run(source.aget())) for _ in range(3)]
            source.gate.set()
            found = [future.result() for future in waiting]
        assert source.fetched == 1
        assert len({id(credential) for credential in found}) == 1


class TestEnvironment:
    async def test_with_a_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "id")
        monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "key")
        assert triple(EnvironmentKeys()) == ("id", "key", None)
        monkeypatch.setenv("TENCENTCLOUD_TOKEN", "token")
        source = EnvironmentKeys()
        assert triple(source) == ("id", "key", "token")
        assert await source.aget() is source.ready()

    def test_half_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "id")
        with pytest.raises(ConfigurationError, match="in the environment: set TENCENTCLOUD_SECRET_KEY"):
            EnvironmentKeys().get()
        with pytest.raises(ConfigurationError, match="in the environment: set TENCENTCLOUD_SECRET_KEY"):
            DefaultChain(metadata=NOBODY).get()


class TestProfileFile:
    def ini(self, home: Path, text: str) -> Path:
        file = home / ".tencentcloud" / "credentials"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def tccli(self, home: Path, profile: str = "default", **values: Any) -> None:
        file = home / ".tccli" / f"{profile}.credential"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(values))

    def test_ini(self, home: Path) -> None:
        self.ini(home, '[default]\nsecret_id = id\nsecret_key = "k%y"\n[temp]\nsecret_id=a\nsecret_key=b\ntoken=c\n')
        assert triple(ProfileFile()) == ("id", "k%y", None)
        assert triple(ProfileFile("temp")) == ("a", "b", "c")
        assert ProfileFile("temp").identity == "profile:temp"

    def test_tccli(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tccli(home, secretId="id", secretKey="key", token=None)
        self.tccli(home, "other", secretId="id2", secretKey="key2", token="t", expiresAt=time.time() + 3600)
        assert triple(ProfileFile()) == ("id", "key", None)
        monkeypatch.setenv("TCCLI_PROFILE", "other")
        assert triple(ProfileFile()) == ("id2", "key2", "t")

    def test_the_sdk_s_file_goes_first(self, home: Path) -> None:
        self.tccli(home, secretId="tccli", secretKey="key")
        self.ini(home, "[another]\nsecret_id=x\nsecret_key=y\n")
        assert ProfileFile().get().secret_id == "tccli"  # the file lacks the profile
        self.ini(home, "[default]\nsecret_id=sdk\nsecret_key=y\n")
        assert ProfileFile().get().secret_id == "sdk"

    def test_what_somebody_else_renewed_is_noticed(self, home: Path) -> None:
        clock = Clock()
        self.tccli(home, secretId="a", secretKey="k", token="t", expiresAt=clock.now + 7200)
        source = ProfileFile(clock=clock)
        source.get()
        self.tccli(home, secretId="b", secretKey="k", token="t", expiresAt=clock.now + 7200)
        assert source.get().secret_id == "a"
        clock.now += 301
        assert source.get().secret_id == "b"

    def test_keys_of_a_login_that_have_expired(self, home: Path) -> None:
        self.tccli(home, type="oauth", secretId="a", secretKey="hush", token="t", expiresAt=time.time() - 1)
        with pytest.raises(ConfigurationError, match="have expired: run tccli auth login") as caught:
            ProfileFile().get()
        assert "hush" not in str(caught.value)

    def test_a_role_in_it_is_assumed(self, home: Path, cloud: FakeCloud) -> None:
        values = {"secretId": "base", "secretKey": "key", "role-arn": ROLE, "role-session-name": "me"}
        self.tccli(home, **values)
        assert triple(ProfileFile(sts=cloud.url)) == ("sts-id-1", "sts-hush-1", "sts-token-hush-1")
        assert cloud.requests[0][1]["RoleSessionName"] == "me"

    def test_a_profile_that_means_the_machine(self, home: Path, cloud: FakeCloud) -> None:
        self.tccli(home, type="cvm-role")
        assert ProfileFile(metadata=cloud.url).get().secret_id == "node-role-id-1"

    def test_none(self) -> None:
        with pytest.raises(ConfigurationError, match=r"write secret_id and secret_key into section \[default\] of .*"):
            ProfileFile().get()
        with pytest.raises(ConfigurationError, match="tccli configure --profile nobody"):
            ProfileFile("nobody", files=()).get()

    @pytest.mark.parametrize("text", ["[default]\nsecret_id=hush\n", "[default]\nsecret_id=\nsecret_key=hush\n"])
    def test_incomplete(self, home: Path, text: str) -> None:
        self.ini(home, text)
        with pytest.raises(ConfigurationError, match="lacks the SecretId or the SecretKey"):
            ProfileFile().get()

    def test_unreadable(self, home: Path) -> None:
        self.ini(home, "hush = hush without a section")
        with pytest.raises(ConfigurationError, match="can't be read as INI: MissingSectionHeaderError") as caught:
            ProfileFile().get()
        assert "hush" not in str(caught.value)
        self.ini(home, "")
        file = home / ".tccli" / "default.credential"
        file.parent.mkdir()
        for content, problem in (
            ("{hush", "can't be read as JSON: JSONDecodeError"),
            ("[]", "must hold a JSON object"),
        ):
            file.write_text(content)
            with pytest.raises(ConfigurationError, match=problem):
                ProfileFile().get()


class TestCvmRole:
    def test_the_role_that_is_bound(self, cloud: FakeCloud) -> None:
        source = CvmRole(endpoint=cloud.url)
        assert triple(source) == ("node-role-id-1", "node-role-hush-1", "node-role-token-hush-1")
        assert triple(CvmRole("other role", endpoint=cloud.url))[0] == "other%20role-id-2"

    def test_renewal(self, cloud: FakeCloud) -> None:
        clock = Clock()
        source = CvmRole(endpoint=cloud.url, clock=clock)
        source.get()
        clock.now += 6890
        assert source.get().secret_id == "node-role-id-1"
        clock.now += 20
        assert source.get().secret_id == "node-role-id-2"

    def test_no_role(self, cloud: FakeCloud) -> None:
        cloud.role = None
        with pytest.raises(ConfigurationError, match=r"metadata \(HTTP 404\): bind a CAM role to the CVM instance"):
            CvmRole(endpoint=cloud.url).get()

    def test_no_metadata(self) -> None:
        with pytest.raises(ConfigurationError, match=r"metadata \(URLError\): bind a CAM role"):
            CvmRole(endpoint=NOBODY, timeout=0.5).get()

    def test_metadata_that_do_not_answer(self, cloud: FakeCloud) -> None:
        cloud.delay = 0.3
        with pytest.raises(ConfigurationError, match="No keys from this machine's metadata"):
            CvmRole(endpoint=cloud.url, timeout=0.05).get()

    def test_a_failure_that_passes(self, cloud: FakeCloud) -> None:
        cloud.status = 503
        with pytest.raises(InfrastructureError, match="HTTP 503") as caught:
            CvmRole(endpoint=cloud.url).get()
        assert caught.value.retryable

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"Code": "Failed", "TmpSecretKey": "hush"}', b'{"a": 1}'])
    def test_an_answer_that_holds_no_keys(self, cloud: FakeCloud, body: bytes) -> None:
        cloud.body = body
        with pytest.raises(ConfigurationError, match="No keys from this machine's metadata") as caught:
            CvmRole("r", endpoint=cloud.url).get()
        assert "hush" not in str(caught.value)

    def test_no_proxy_is_asked(self, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", NOBODY)
        assert CvmRole(endpoint=cloud.url).get().secret_id == "node-role-id-1"


class TestAssumeRole:
    def test_with_a_temporary_base_key(self, cloud: FakeCloud) -> None:
        base = StaticKeys("AKIDbase", "key", "base-token")
        source = AssumeRole(base, ROLE, session_name="dag", duration=900, endpoint=cloud.url, region="ap-beijing")
        assert triple(source) == ("sts-id-1", "sts-hush-1", "sts-token-hush-1")
        headers, body = cloud.requests[0]
        assert body == {"RoleArn": ROLE, "RoleSessionName": "dag", "DurationSeconds": 900}
        assert headers["x-tc-action"] == "AssumeRole"
        assert headers["x-tc-version"] == "2018-08-13"
        assert headers["x-tc-region"] == "ap-beijing"
        assert headers["x-tc-token"] == "base-token"
        assert "Credential=AKIDbase/" in headers["authorization"]

    async def test_renewal(self, cloud: FakeCloud) -> None:
        clock = Clock()
        source = AssumeRole(StaticKeys("a", "b"), ROLE, endpoint=cloud.url, clock=clock)
        first = await source.aget()
        clock.now += 6800
        assert await source.aget() is first
        clock.now += 110
        assert (await source.aget()).secret_id == "sts-id-2"

    def test_a_chain_of_roles(self, cloud: FakeCloud) -> None:
        machine = CvmRole(endpoint=cloud.url)
        outer = AssumeRole(AssumeRole(machine, ROLE, endpoint=cloud.url), ROLE + "2", endpoint=cloud.url)
        assert outer.get().secret_id == "sts-id-3"
        assert [headers["x-tc-token"] for headers, _ in cloud.requests] == [
            "node-role-token-hush-1",
            "sts-token-hush-2",
        ]

    def test_identity(self) -> None:
        one, two = StaticKeys("a", "hush"), StaticKeys("b", "hush")
        sources = [
            AssumeRole(one, ROLE),
            AssumeRole(two, ROLE),
            AssumeRole(one, ROLE + "x"),
            AssumeRole(one, ROLE, session_name="other"),
        ]
        assert len({source.identity for source in sources}) == 4
        assert not any("hush" in source.identity for source in sources)

    def test_refused(self, cloud: FakeCloud) -> None:
        cloud.refusal = ("UnauthorizedOperation", "not allowed")
        for cloud.content_type in ("application/json", "application/json; charset=utf-8"):
            with pytest.raises(ConfigurationError) as caught:
                AssumeRole(StaticKeys("a", "hush"), ROLE, endpoint=cloud.url).get()
            text = str(caught.value)
            assert (
                f"Role {ROLE} can't be used: AssumeRole: UnauthorizedOperation: not allowed (RequestId req-1)" in text
            )
            assert "check role_arn" in text
            assert "hush" not in text

    @pytest.mark.parametrize(
        ("refusal", "status", "body"),
        [
            (("InternalError", "x"), 200, None),
            (("RequestLimitExceeded", "x"), 200, None),
            (None, 502, None),
            (None, 200, b"<html>"),
            (None, 200, b'{"Response": {"RequestId": "r"}}'),
            (None, 200, b"[]"),
        ],
    )
    def test_a_failure_that_passes(self, cloud: FakeCloud, refusal: Any, status: int, body: bytes | None) -> None:
        cloud.refusal, cloud.status, cloud.body = refusal, status, body
        with pytest.raises(TCBatchError) as caught:
            AssumeRole(StaticKeys("a", "b"), ROLE, endpoint=cloud.url).get()
        assert getattr(caught.value, "retryable", False)

    def test_nobody_there(self) -> None:
        with pytest.raises(InfrastructureError, match="ClientNetworkError"):
            AssumeRole(StaticKeys("a", "b"), ROLE, endpoint=NOBODY).get()

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            ({"role_arn": "airflow"}, "role_arn is 'airflow': write qcs::cam::uin/<account>:roleName/<role>"),
            ({"role_arn": ROLE, "session_name": "a b"}, "role_session_name is 'a b': write 2 to 128 letters"),
            ({"role_arn": ROLE, "duration": 50000}, "is 50000: write 1 to 43200 seconds"),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, Any], problem: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            AssumeRole(StaticKeys("a", "b"), **arguments)
        assert problem in str(caught.value)

    def test_the_sdk_does_not_write_keys_into_the_log(self, cloud: FakeCloud, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG):
            AssumeRole(StaticKeys("a", "b"), ROLE, endpoint=cloud.url).get()
        assert "hush" not in caplog.text


class TestTkeOidc:
    def test_the_role_of_the_pod(self, cloud: FakeCloud, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        token = set_pod(monkeypatch, home)
        clock = Clock()
        source = TkeOidc(endpoint=cloud.url, clock=clock)
        assert source.get().secret_id == "sts-id-1"
        headers, body = cloud.requests[0]
        assert headers["x-tc-action"] == "AssumeRoleWithWebIdentity"
        assert headers["x-tc-region"] == "ap-beijing"
        assert headers["authorization"] == "SKIP"
        assert (body["ProviderId"], body["WebIdentityToken"], body["RoleArn"]) == ("OIDC", "pod-token", ROLE)
        token.write_text("newer-token")
        clock.now += 7000
        assert source.get().secret_id == "sts-id-2"
        assert cloud.requests[1][1]["WebIdentityToken"] == "newer-token"

    def test_incomplete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TKE_ROLE_ARN", ROLE)
        with pytest.raises(
            ConfigurationError, match="TKE_PROVIDER_ID, TKE_WEB_IDENTITY_TOKEN_FILE, TKE_REGION not set"
        ):
            TkeOidc()

    def test_no_token(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_pod(monkeypatch, home).unlink()
        with pytest.raises(ConfigurationError, match="TKE_WEB_IDENTITY_TOKEN_FILE can't be read"):
            TkeOidc().get()

    def test_refused(self, cloud: FakeCloud, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        set_pod(monkeypatch, home)
        cloud.refusal = ("InvalidParameter.WebIdentityTokenError", "bad token")
        with pytest.raises(ConfigurationError, match="check the CAM role of the pod's service account"):
            TkeOidc(endpoint=cloud.url).get()


class TestDefaultChain:
    def test_order(
        self, cloud: FakeCloud, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def chain() -> CredentialSource:
            return DefaultChain(metadata=cloud.url, sts=cloud.url)

        caplog.set_level(logging.INFO)
        assert chain().get().secret_id == "node-role-id-1"
        set_pod(monkeypatch, home)
        assert chain().get().secret_id == "sts-id-2"
        TestProfileFile().ini(home, "[default]\nsecret_id=profile\nsecret_key=hush\n")
        assert chain().get().secret_id == "profile"
        monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "environment")
        monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "hush")
        assert chain().get().secret_id == "environment"
        assert chain().get().secret_id == "environment"
        assert [record.message for record in caplog.records if record.name == keys.__name__] == [
            "Tencent Cloud keys come from this machine's CAM role",
            f"Tencent Cloud keys come from role {ROLE} of this pod's service account",
            "Tencent Cloud keys come from profile 'default' of a credentials file",
            "Tencent Cloud keys come from environment variables TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY",
        ]
        assert "hush" not in caplog.text

    async def test_what_was_found_is_kept(self, cloud: FakeCloud) -> None:
        chain = DefaultChain(metadata=cloud.url)
        assert chain.ready() is None
        assert not chain.discard(object())
        first = await chain.aget()
        assert await chain.aget() is first is chain.ready()
        assert chain.discard(first)
        assert (await chain.aget()).secret_id == "node-role-id-2"

    def test_a_profile_that_was_asked_for(self, home: Path, cloud: FakeCloud) -> None:
        TestProfileFile().ini(home, "[work]\nsecret_id=work\nsecret_key=key\n")
        assert DefaultChain("work").get().secret_id == "work"
        with pytest.raises(ConfigurationError, match="No profile 'play'"):
            DefaultChain("play", metadata=cloud.url).get()
        assert len({DefaultChain().identity, DefaultChain("work").identity, DefaultChain("play").identity}) == 3

    def test_nothing_at_all(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            DefaultChain(metadata=NOBODY).get()
        text = str(caught.value)
        for hint in ("Login (SecretId)", "TENCENTCLOUD_SECRET_ID", "~/.tencentcloud/credentials", "CAM role"):
            assert hint in text

    def test_it_is_found_once_it_is_there(self, cloud: FakeCloud) -> None:
        cloud.role = None
        chain = DefaultChain(metadata=cloud.url)
        with pytest.raises(ConfigurationError):
            chain.get()
        cloud.role = "late"
        assert chain.get().secret_id == "late-id-1"


class TestApart:
    """What a signal's handler waits for must not need what the interrupted thread holds."""

    def test_a_role_and_its_base(self, cloud: FakeCloud) -> None:
        clock = Clock()
        base = CvmRole(endpoint=cloud.url, clock=clock)
        source = AssumeRole(base, ROLE, endpoint=cloud.url, clock=clock)
        held = source.get()
        apart = source.apart()
        assert apart.get() is held
        clock.now += 7250  # those of the machine have expired, too
        with source._lock, base._lock, ThreadPoolExecutor(1) as others:
            assert others.submit(apart.get).result(30) is not held

    def test_the_default_chain(self, cloud: FakeCloud, home: Path) -> None:
        source = DefaultChain(metadata=cloud.url, sts=cloud.url)
        held = source.get()
        apart = source.apart()
        assert isinstance(source._chosen, CvmRole)
        with source._lock, source._chosen._lock, ThreadPoolExecutor(1) as others:
            assert others.submit(apart.get).result(30) is held
            assert apart.discard(held)
            assert others.submit(apart.get).result(30) is not held

    @pytest.mark.parametrize("kind", ["profile", "machine", "role", "chain"])
    def test_keys_are_common(self, cloud: FakeCloud, home: Path, kind: str) -> None:
        """The wait renews them after the kill switch was armed: the switch finds them ready."""
        clock = Clock()
        TestProfileFile().ini(home, "[work]\nsecret_id=old\nsecret_key=key\n")
        base = CvmRole(endpoint=cloud.url, clock=clock)
        source: CredentialSource = {
            "profile": ProfileFile("work", clock=clock),
            "machine": base,
            "role": AssumeRole(base, ROLE, endpoint=cloud.url, clock=clock),
            "chain": DefaultChain(metadata=cloud.url),
        }[kind]
        held = source.get()
        apart = source.apart()
        assert source.discard(held)
        assert apart.ready() is None
        renewed = source.get()
        assert renewed is not held
        assert apart.ready() is apart.get() is renewed
        assert apart.discard(renewed) is source.discard(renewed)

    def test_what_hangs_and_fails_does_not_bring_back_older_keys(self) -> None:
        clock = Clock()
        source = Counting(clock)
        held = source.get()
        apart = source.apart()
        source.gate, source.error = threading.Event(), InfrastructureError("away")
        clock.now += 3400
        with ThreadPoolExecutor(1) as others:
            hanging = others.submit(source.get)
            assert apart.discard(held)
            newer = apart.get()
            source.gate.set()
            assert hanging.result(30) is newer
        assert source.ready() is newer is not held

    @pytest.mark.parametrize("kind", ["profile", "role"])
    def test_keys_that_hold_are_not_renewed(self, cloud: FakeCloud, home: Path, kind: str) -> None:
        """There are seconds to end a job: whoever is to give new keys may be slow, or away."""
        clock = Clock()
        TestProfileFile().ini(home, "[work]\nsecret_id=old\nsecret_key=key\n")
        machine = CvmRole(endpoint=cloud.url, clock=clock)
        source = ProfileFile("work", clock=clock) if kind == "profile" else machine
        held = source.get()
        apart = source.apart()
        clock.now += 7100
        assert source.ready() is None
        assert apart.ready() is held

    def test_what_a_chain_finds_later(self, cloud: FakeCloud) -> None:
        source = DefaultChain(metadata=cloud.url)
        apart = source.apart()
        held = source.get()
        assert apart.ready() is held
        assert apart._chosen is not source._chosen

    @pytest.mark.parametrize("kind", ["role", "chain"])
    def test_a_masker_that_hangs_is_not_waited_for(self, cloud: FakeCloud, kind: str) -> None:
        """Airflow's one talks to the supervisor, and the interrupted thread may hold the lock for that."""
        clock, free, masked = Clock(), threading.Event(), list[str]()
        free.set()

        def mask(secret: str) -> None:
            free.wait(60)
            masked.append(secret)

        base = CvmRole(endpoint=cloud.url, clock=clock)
        source = (
            AssumeRole(base, ROLE, endpoint=cloud.url, clock=clock)
            if kind == "role"
            else DefaultChain(metadata=cloud.url)
        )
        source.mask = mask
        held = source.get()
        apart = source.apart()
        assert source.discard(held)
        masked.clear()
        free.clear()
        with ThreadPoolExecutor(1) as others:
            try:
                assert others.submit(apart.get).result(30) is not held
                assert masked == []
            finally:
                free.set()


@pytest.mark.parametrize("kind", ["chain", "role", "keys"])
def test_secrets_are_announced_to_be_masked(kind: str, cloud: FakeCloud) -> None:
    sources = {
        "chain": DefaultChain(metadata=cloud.url),
        "role": AssumeRole(CvmRole(endpoint=cloud.url), ROLE, endpoint=cloud.url),
        "keys": StaticKeys("id", "hush", "token-hush"),
    }
    expected = {
        "chain": ["node-role-hush-1", "node-role-token-hush-1"],
        "role": ["node-role-hush-1", "node-role-token-hush-1", "sts-hush-2", "sts-token-hush-2"],
        "keys": ["hush", "token-hush"],
    }
    masked: list[str] = []
    source = sources[kind]
    source.mask = masked.append
    source.get()
    assert masked == expected[kind]


def test_keys_do_not_print_their_secrets() -> None:
    assert repr(Keys("id", "hush", "hush")) == "Keys(secret_id='id', expires_at=None, reread_at=None)"
