"""Coming to the one compute environment of a task: found again, taken over, changed or made."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_tcbatch.exceptions import (
    InfrastructureError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    ResourceBusy,
    Throttled,
)
from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
from airflow_provider_tcbatch.models.env_actions import CreateComputeEnv
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.models.wire import to_wire_form
from airflow_provider_tcbatch.policies.compute_env.scale_down import KEEPS_NODES
from airflow_provider_tcbatch.policies.job.submission import TOKEN_WINDOW, token_patience
from airflow_provider_tcbatch.policies.ownership.marks import (
    OWNER_TAG,
    Mark,
    Owner,
    described,
    described_by,
    generation_of,
    marked_env,
)
from airflow_provider_tcbatch.policies.ownership.record import Record, ThisTry

if TYPE_CHECKING:
    from airflow_provider_tcbatch.execution.ownership.state_store import Records
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView

__all__ = ["EnvCreation", "EnvSpec", "Found", "IfExists", "kill_switch"]

log = logging.getLogger(__name__)

#: An environment that was just made may not be listed for a moment.
UNKNOWN_SECONDS = 30.0

#: Seconds to wait for an environment of this task that is being deleted.
ENDING_SECONDS = 120.0


class IfExists(str, Enum):
    """What to do about an environment of the same name that is there already."""

    REUSE = "reuse"
    UPDATE = "update"
    FAIL = "fail"


@dataclass(frozen=True)
class EnvSpec:
    """What is wanted, without what depends on the token.

    :param env: the environment, rendered and checked.
    :param owner: the task instance that it belongs to.
    :param mark: where the environment says so.
    :param name_tells: whether its name says so, too: then everything of this name is the owner's.
    """

    env: NamedComputeEnv
    owner: Owner
    mark: Mark = Mark.TAG
    name_tells: bool = False
    zone: str | None = None
    placement: Mapping[str, Any] | None = None

    def request(self, hook: TCBatchHook, token: str) -> CreateComputeEnv:
        """The exact request.

        :param token: ClientToken.
        """
        # An environment has at most ten tags.
        full = self.mark is Mark.TAG and len(self.env.tags or ()) >= 10
        mark = Mark.NAME if full else self.mark
        wire = marked_env(self.env.to_wire(), self.owner, generation_of(token), mark=mark)
        return CreateComputeEnv(
            compute_env=NamedComputeEnv.parse(wire, at="ComputeEnv"),
            placement=hook.placement(self.zone, self.placement),
            client_token=token,
        )


@dataclass(frozen=True)
class Found:
    """What a try has come to.

    :param env_id: the environment.
    :param desired: how many nodes it shall have.
    :param own: whether this task made it, now or in an earlier try.
    :param since: unix seconds from which ``timeout`` counts; ``None`` from the beginning of the try.
    """

    env_id: str
    desired: int
    own: bool
    since: float | None = None


class EnvCreation:
    """A try that sees to its environment.

    The record is written before anything is sent, and by every try before it does anything else: that write is the
    fence, since Airflow refuses it to a try that has been replaced. An environment that this task made is its own in
    every try, and after the task was cleared too: its name would bring it in any case.

    :param hook: for the calls.
    :param records: where the record is kept.
    :param this: the try.
    :param spec: what is wanted.
    :param if_exists: what to do about an environment of the same name that this task did not make.
    :param on_env: called with the id of an environment of this task's own as soon as it is known to be there.
    :param on_record: called with the id of the one that the record names, before it is looked at.
    :param check: called before an environment is made; raises if the task has been killed meanwhile.
    """

    #: Tells environments apart that one try makes one after the other, in other processes too.
    choice: int = 0

    #: Whether tasks of other runs may have come to the same environment, and use it.
    shared: bool = False

    def __init__(
        self,
        hook: TCBatchHook,
        records: Records,
        this: ThisTry,
        spec: EnvSpec,
        if_exists: IfExists,
        *,
        on_env: Callable[[str], None] = lambda env_id: None,
        on_record: Callable[[str], None] = lambda env_id: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._hook = hook
        self._records = records
        self._this = this
        self._spec = spec
        self._if_exists = if_exists
        self._on_env = on_env
        self._on_record = on_record
        self._check = check
        self._creations = 0

    @property
    def _name(self) -> str:
        return self._spec.env.env_name

    @property
    def _wanted(self) -> int:
        return self._spec.env.desired_compute_node_count

    def settle(self) -> Found:
        """Come to the environment.

        :raises InvalidRequest: if there is another of this name, with ``if_exists="fail"``.
        """
        record = self._records.load()
        if record is not None:
            record = self._claim(record)
            if record.job_id is not None and not record.done:
                # While the API is away a look takes long, and the task may be killed meanwhile.
                self._on_record(record.job_id)
            if (view := self._recorded(record)) is not None:
                return self._go_on(record, view)
        others = []
        for view in self._hook.find_compute_envs(self._name):
            if self._is_mine(view):
                # Nothing is known of it any more, but the mark says whose it is.
                return self._go_on(self._new_record(view), view)
            others.append(view)
        return self._take(others) if others else self._create()

    def _save(self, record: Record) -> Record:
        self._records.save(record)
        return record

    def _claim(self, record: Record) -> Record:
        """Take over what earlier tries have written."""
        # A retry has the rest of the time in which an earlier try did not get its nodes. Whatever was through, was let
        # go, or belongs to a task that was cleared may be of any age: its time begins now.
        anew = record.done or record.ending is not None or record.owner.max_tries != self._this.max_tries
        return self._save(replace(record, owner=self._this, submitted_at=time.time() if anew else record.submitted_at))

    # -- what is there -------------------------------------------------------------------------------

    def _recorded(self, record: Record) -> ComputeEnvView | None:
        """The environment that the record speaks of, if there is one."""
        if record.job_id is not None:
            return self._present(record.job_id)
        if not record.token:
            return None
        if (env_id := self._find(record, patient=False)) is not None:
            return self._present(env_id)
        request = self._request_of(record)
        age = time.time() - record.token_sent_at
        if age >= TOKEN_WINDOW or _digest(request) != record.spec_digest:
            # Another body under the same token: what the service would do is not documented.
            env_id = self._find(record)
            return None if env_id is None else self._present(env_id)
        try:
            # The same token and body bring the same environment, whether or not it was made before.
            patience = token_patience(self._hook.api.settings.patience, age)
            env_id = self._hook.api.call(request, patience=patience).env_id
        except (QuotaExceeded, Throttled):
            env_id = self._find(record, patient=False)
            if env_id is None:
                raise
        except (InvalidRequest, ResourceBusy, NotFound, PermissionDenied) as error:
            log.info("Sending the request again was refused, looking for the environment instead: %s", error)
            env_id = self._find(record)
        return None if env_id is None else self._present(env_id)

    def _present(self, env_id: str) -> ComputeEnvView | None:
        """An environment, unless it is gone; one that is being deleted is waited for."""
        until = time.monotonic() + ENDING_SECONDS
        while True:
            try:
                view = self._hook.describe_compute_env(env_id)
            except NotFound:
                return None
            if not view.next_action:
                return view
            if time.monotonic() >= until:
                log.warning("Compute environment %s is still being deleted; making another one", env_id)
                return None
            time.sleep(1.0)

    def _find(self, record: Record, *, patient: bool = True) -> str | None:
        """Id of the environment that was made under the record's token, by its name and its mark.

        :param patient: wait for one that may have been made a moment ago and not be listed yet.
        """
        generation = generation_of(record.token)
        # It may have been sent again for as long as its token is trusted.
        young = patient and time.time() - record.token_sent_at < TOKEN_WINDOW + UNKNOWN_SECONDS
        until = time.monotonic() + (UNKNOWN_SECONDS if young else 0.0)
        while True:
            for view in self._hook.find_compute_envs(record.job_name):
                if self._is_mine(view, generation):
                    return view.env_id
            if time.monotonic() >= until:
                return None
            time.sleep(2.0)

    def _is_mine(self, view: ComputeEnvView, generation: str | None = None) -> bool:
        """Whether this task made an environment.

        :param generation: under which token; ``None`` for any.
        """
        if self._spec.name_tells:
            return True
        owner = self._spec.owner
        for tag in view.tags or ():
            if tag.key == OWNER_TAG:
                # Parts of the tag may be digests: so it is compared as a whole.
                made_by = str(tag.value).rpartition("/")
                return owner.tag(made_by[2]) == tag.value and generation in (None, made_by[2])
        if self._spec.mark is Mark.NONE:
            return False
        text = self._hook.describe_compute_env_create_info(view.env_id).env_description or ""
        return f"[{owner.prefix()}{generation or ''}" in text

    def _go_on(self, record: Record, view: ComputeEnvView) -> Found:
        """Go on with an environment of this task's own."""
        log.info("Going on with compute environment %s, which this task made", view.env_id)
        ending, since = record.ending is not None, record.submitted_at or record.token_sent_at
        record = self._save(replace(record, job_id=view.env_id, submitted_at=since, ending=None, done=False))
        self._on_env(view.env_id)
        before = desired = view.desired_compute_node_count or 0
        # A try that was killed lets the nodes go, a tear-down those that are idle while it waits for the others; they
        # are wanted again. An environment by a name of the user's choice may have been scaled by somebody.
        partly = self._spec.name_tells and not self.shared and desired < self._wanted
        restore = ending or desired == 0 or partly
        if self._if_exists is IfExists.UPDATE:
            desired = self._update(view)
        elif restore and desired != self._wanted:
            log.info("Compute environment %s gets its %d nodes back", view.env_id, self._wanted)
            self._hook.modify_compute_env(view.env_id, desired_compute_node_count=self._wanted)
            desired = self._wanted
        if desired != before:
            # Nodes of an old environment are as new as those of a new one.
            since = time.time()
            self._save(replace(record, submitted_at=since))
        return Found(view.env_id, desired, own=True, since=since)

    def _take(self, others: list[ComputeEnvView]) -> Found:
        """There are environments of this name that this task did not make."""
        view = others[0]
        if self._if_exists is IfExists.FAIL:
            raise InvalidRequest(
                f"There is a compute environment called {self._name!r} already, {view.env_id} (if_exists='fail')"
            )
        if len(others) > 1:
            ids = ", ".join(other.env_id for other in others)
            raise InvalidRequest(
                f"{len(others)} compute environments are called {self._name!r} ({ids}): which is meant can't be told"
            )
        log.info("Compute environment %s is there already", view.env_id)
        desired = view.desired_compute_node_count or 0
        if self._if_exists is IfExists.UPDATE:
            desired = self._update(view)
        return Found(view.env_id, desired, own=False)

    def _update(self, view: ComputeEnvView) -> int:
        """Change what differs and can be changed; how many nodes the environment shall have then."""
        wish, info = self._spec.env, self._hook.describe_compute_env_create_info(view.env_id)
        changes: dict[str, Any] = {}
        if self._wanted != view.desired_compute_node_count:
            changes["desired_compute_node_count"] = self._wanted
        before = info.env_description or ""
        if wish.env_description is not None:
            # The owner that may stand at its end stays.
            description = described(wish.env_description, described_by(before)[1])
            if description != before:
                changes["env_description"] = description
        types, present = _types(wish.env_data), _types(info.env_data)
        if types and types != present:
            changes["instance_types"] = types
        if changes:
            log.info("Changing compute environment %s: %s", view.env_id, changes)
            self._hook.modify_compute_env(view.env_id, **changes)
        return self._wanted

    # -- making it -----------------------------------------------------------------------------------

    def _new_record(self, view: ComputeEnvView | None = None) -> Record:
        env_id = None if view is None else view.env_id
        return Record(owner=self._this, token="", token_sent_at=time.time(), job_name=self._name, job_id=env_id)

    def _create(self) -> Found:
        if self._records.durable:
            token = uuid.uuid4().hex
        else:
            # Where nothing is remembered: the same try comes to the same token, whatever happens to an answer.
            name = f"{self._this.ti_id}/{self._spec.mark.value}/{self.choice}/{self._creations}"
            token = uuid.uuid5(uuid.NAMESPACE_OID, name).hex
        self._creations += 1
        request = self._spec.request(self._hook, token)
        record = replace(self._new_record(), token=token, spec_digest=_digest(request))
        self._save(record)
        # It may have to wait long for its turn: neither the environment nor its token is older than the last request,
        # or, where an answer was lost, than the first one of these.
        sent_at = record.token_sent_at

        def before_send() -> None:
            nonlocal sent_at
            self._check()
            sent_at = time.time()

        self._check()
        try:
            patience = token_patience(self._hook.api.settings.patience)
            env_id = self._hook.api.call(request, patience=patience, before_send=before_send).env_id
        except (QuotaExceeded, Throttled, InfrastructureError) as error:
            # The token stays: if an answer was lost and the request sent again, it may have made an environment all
            # the same, which fills the quota itself.
            self._save(record.after(error, sent_at))
            raise
        except (InvalidRequest, NotFound, PermissionDenied, ResourceBusy) as error:
            # Likewise it may be the token that was refused.
            record = record.after(error, sent_at)
            found = self._find(record, patient=error.maybe_done)
            if found is None:
                if error.maybe_done:
                    self._save(record)  # the next try looks again: what was made may show late
                    raise
                self._save(replace(record, token=""))
                if not isinstance(error, PermissionDenied) or not _tagged(request):
                    raise
                log.warning("An environment with a tag was refused, putting its owner into its description: %s", error)
                self._spec = replace(self._spec, mark=Mark.NAME)
                return self._create()
            env_id = found
        else:
            record = replace(record, token_sent_at=sent_at)
        self._save(replace(record, job_id=env_id, submitted_at=record.token_sent_at))
        self._on_env(env_id)
        log.info("Made compute environment %s (%s)", env_id, self._name)
        return Found(env_id, self._wanted, own=True, since=record.token_sent_at)

    def _request_of(self, record: Record) -> CreateComputeEnv:
        """The request as it was sent under the record's token, if what is wanted is still the same."""
        request = self._spec.request(self._hook, record.token)
        if _digest(request) != record.spec_digest and self._spec.mark is Mark.TAG:
            fell_back = replace(self._spec, mark=Mark.NAME).request(self._hook, record.token)
            return fell_back if _digest(fell_back) == record.spec_digest else request
        return request


def kill_switch(hook: TCBatchHook, env_id: str, owner: Owner, ti_id: str, records: Records) -> KillSwitch:
    """What lets the nodes of an environment go if its task is really over: without nodes it costs nothing.

    Deleting it takes longer than a killed worker has. The next try, if there is one, gives it its nodes back.
    """
    return _EnvKillSwitch(cast("TCBatchHook", _ScalesDown(hook)), env_id, owner, ti_id, records)


class _EnvKillSwitch(KillSwitch):
    thing = "Compute environment"
    ends = "lets its nodes go"
    cant_end = "could not be scaled to zero"
    #: Another try finds it by its name.
    found_by_record = False

    def _read(self) -> None:
        """An environment does not end by itself."""

    def _state(self) -> str | None:
        state = super()._state()
        # Whoever marks the making of an environment as a success wants to go on with it.
        return "marked as success" if state == "success" else state


class _ScalesDown:
    """What :class:`KillSwitch` needs of a hook, for an environment."""

    def __init__(self, hook: TCBatchHook) -> None:
        self._hook = hook

    def terminate_job(self, env_id: str, *, patience: float) -> None:
        until = time.monotonic() + patience
        while not self._hook.empty_step(env_id):
            if time.monotonic() >= until:
                raise ResourceBusy(KEEPS_NODES.format(env_id))
            time.sleep(0.5)


def _tagged(request: CreateComputeEnv) -> bool:
    return any(tag.key == OWNER_TAG for tag in request.compute_env.tags or ())


def _types(data: Any) -> list[str]:
    """Instance types in the order in which they are tried."""
    if data is None:
        return []
    return list(data.instance_types or filter(None, [data.instance_type]))


def _digest(request: CreateComputeEnv) -> str:
    """Digest of what is sent, without secrets."""
    body = [to_wire_form(NamedComputeEnv, request.compute_env).data, request.placement.to_wire()]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
