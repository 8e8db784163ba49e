"""Keeping a compute environment as a DAG wants it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.changes import tell_changes
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.models.wire import put_secrets_back, to_wire_form, with_placeholders
from airflow_provider_tcbatch.operators._base.compute_env_waiting import GoOn, Pause
from airflow_provider_tcbatch.operators._base.object_argument import known_later, mask_secrets_of
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.operators.compute_env import REMOVAL_SECONDS, TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.policies.task_template.overrides import merge

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

    from airflow_provider_tcbatch.execution.compute_env.creation import EnvSpec
    from airflow_provider_tcbatch.execution.compute_env.ensuring import EnvEnsuring, MustBeMadeAnew
    from airflow_provider_tcbatch.policies.compute_env.plan import EnvPlan, EnvWish
    from airflow_provider_tcbatch.policies.task_template.difference import Change

__all__ = ["TCBatchEnsureComputeEnvOperator"]


class TCBatchEnsureComputeEnvOperator(TCBatchCreateComputeEnvOperator):
    """See to it that a compute environment is there and is as it is written here; wait until its nodes run.

    It is made, or exactly what differs is changed. Only what is written is compared: what the environment has besides
    stays, a field that is written as ``None`` must not be there. The service can change the number of nodes, the
    description and the instance types. Any other difference is an error, or, with ``recreate``, a reason to make the
    environment anew. Tags are given to a new one only. The service does not show ``ResourceMaxRetryCount``,
    ``ActionIfComputeNodeInactive``, ``AgentRunningMode`` and ``NotificationTarget``, so these are not compared.

    As with :class:`~airflow_provider_tcbatch.operators.compute_env.TCBatchCreateComputeEnvOperator` one task owns the
    environment that it makes, finds it again in every try, and removes it when it fails.

    XComs: ``env_id`` (also the return value; ``None`` if it would be made), ``env_created``, ``tcbatch_env`` as there;
    ``tcbatch_changes``: the difference, field by field, each with ``path``, ``before`` and ``after``, without secrets,
    empty if there is none; ``tcbatch_choice``: which ``alternative`` the environment is (0 for ``compute_env`` itself),
    its ``env_id``, ``instance_charge_type``, ``instance_types``, and the alternatives that ``failed`` before, each with
    the same and ``why``.

    :param compute_env: the environment, as there. (templated)
    :param alternatives: other ways to make it, tried in order where its nodes can't be made, or do not run within
        ``timeout``, which counts anew for each: mappings of what is different, which are put onto ``compute_env``, such
        as ``{"EnvData": {"InstanceChargeType": "POSTPAID_BY_HOUR"}}``. A mapping is merged field by field, a list
        replaces, ``None`` removes. What failed is removed first. An environment that is there already may be any of
        them. (templated)
    :param recreate: delete an environment that can't be changed to what is wished, with its nodes, as soon as nothing
        runs on them, and make another. Jobs that wait for it fail.
    :param force: do not wait for what runs on nodes that have to go: it fails.
    :param dry_run: report the difference and change nothing.
    :param zone: availability zone; default is the connection's. (templated)
    :param placement: a whole ``Placement``, instead of ``zone``. (templated)
    :param wait_for_nodes: as there. (templated)
    :param fail_fast: as there.
    :param preflight: before an environment is made, ask whether its instance types can be had in the zone; go on to
        the next alternative if none of them can.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the environment is as it is wished, but for its nodes.
        Then no alternative is tried.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks.
    :param timeout: as there.
    :param durable: as there, likewise ``cancel_on_kill`` and ``cancel_on_failure``.
    :raises InvalidRequest: if the environment, or an alternative, is wrong, or differs in what can't be changed. (No
        retry.)
    :raises PermissionDenied: if the keys may not do this. (No retry.)
    :raises ResourceBusy: if nodes that are too many can't go now: they are being made, or something runs on them.
    :raises ComputeEnvFailed: if nodes can't be made, whatever the alternative.
    :raises ComputeEnvTimeout: if they did not run within ``timeout``, whatever the alternative.
    """

    template_fields: Sequence[str] = (*TCBatchCreateComputeEnvOperator.template_fields, "alternatives")
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own form
        **TCBatchCreateComputeEnvOperator.template_fields_renderers,
        "alternatives": "json",
    }

    #: What sees to the environment.
    _current: EnvEnsuring

    def __init__(
        self,
        *,
        alternatives: Sequence[Mapping[str, Any]] | XComArg = (),
        recreate: bool = False,
        force: bool = False,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        if "if_exists" in kwargs:
            raise InvalidRequest(f"Task {kwargs.get('task_id')!r}: to ensure is to update: leave if_exists out")
        super().__init__(**kwargs)
        self.if_exists = "update"
        self.recreate = flag("recreate", recreate, self.task_id)
        self.force = flag("force", force, self.task_id)
        self.only_report = flag("dry_run", dry_run, self.task_id)  # operators have a method of the other name
        self.alternatives: Any = alternatives
        if isinstance(alternatives, (list, tuple)):
            self.alternatives = [
                self._alternative(number, given, early=True) for number, given in enumerate(alternatives)
            ]

    def _alternative(self, number: int, given: Any, *, early: bool = False) -> Any:
        """An alternative in wire JSON.

        :param early: check it as far as it is known when the DAG is parsed, and keep no secrets in it.
        """
        if early and known_later(given):
            return given
        at = f"alternatives[{number}]"
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"Task {self.task_id!r}: {at} is {given!r}; write a mapping of what is different")
        form = to_wire_form(NamedComputeEnv, given)
        if not early:
            return put_secrets_back(form.data, form.secrets)
        if form.secrets:
            raise InvalidRequest(
                f"Task {self.task_id!r}: {at} holds a secret, which would be stored with the DAG: write it into "
                "compute_env, or refer to a connection with Jinja"
            )
        if isinstance(self.compute_env, Mapping):
            wire = merge(self.compute_env, form.data)
            NamedComputeEnv.parse(with_placeholders(NamedComputeEnv, wire, known_later), at=at)
        return form.data

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render as usual; the secrets that this brings are kept out of logs and of rendered fields."""
        rendered = super().render_template(content, *args, **kwargs)
        if content is self.alternatives and isinstance(rendered, (list, tuple)):
            for entry in rendered:
                mask_secrets_of(NamedComputeEnv, entry)
        return rendered

    def _wishes(self) -> list[EnvWish]:
        from airflow_provider_tcbatch.policies.compute_env.plan import wishes

        given = self.alternatives or ()
        if not isinstance(given, (list, tuple)):
            raise InvalidRequest(f"Task {self.task_id!r}: alternatives is {given!r}; write a list of mappings")
        return wishes(self.final_wire(), [self._alternative(number, entry) for number, entry in enumerate(given)])

    # -- a run -----------------------------------------------------------------------------------------

    def execute(self, context: Context) -> str | None:
        """Report the difference, remove it, and wait for the nodes."""
        with permanent_errors():
            if self.only_report:
                return self.begin_patiently(context, lambda: self._report(context))
            carried = self.begin_patiently(
                context, lambda: self._come_to(context, 0, []), env_id=lambda: self.to_let_go(context, None)
            )
            return self.go_on(context, carried)

    def _report(self, context: Context) -> str | None:
        from airflow_provider_tcbatch.policies.compute_env.plan import chosen
        from airflow_provider_tcbatch.policies.task_template.difference import difference

        ensuring = self._ensuring(context, 0)
        name, view = ensuring.wishes[0].env.env_name, ensuring.present()
        if view is None:
            new = difference(NamedComputeEnv, ensuring.wishes[0].wire, {})
            tell_changes(self, context, new, words=f"Compute environment {name!r} would be made")
            return None
        plans = ensuring.compare(view)
        found = plans[chosen(plans) or 0]
        anew = " would be made anew" if self.recreate else " can't be changed as it is wished"
        words = f"Compute environment {name!r} ({view.env_id}){anew if found.fixed else ' would be changed'}"
        self._tell(context, found, words)
        return view.env_id

    def _tell(self, context: Context, found: EnvPlan, words: str) -> None:
        tell_changes(self, context, [*found.changes, *found.fixed], words=words, fixed=found.fixed)
        if found.tags:
            tags = "; ".join(map(str, found.tags))
            self.log.warning("Batch can't change the tags of a compute environment: %s", tags)

    def _ensuring(self, context: Context, choice: int) -> EnvEnsuring:
        from airflow_provider_tcbatch.execution.compute_env.ensuring import EnvEnsuring

        return EnvEnsuring(
            **self._creation_arguments(context, self._spec(context)),
            wishes=self._wishes(),
            choice=choice,
            preflight=super()._check_types if self.preflight else None,
        )

    def _check_types(self, spec: EnvSpec) -> None:
        """Asked only where an environment is to be made, see :class:`.env_ensuring.EnvEnsuring`."""

    def _creation(self, context: Context, spec: EnvSpec) -> EnvEnsuring:
        return self._current

    def _come_to(
        self, context: Context, choice: int, failed: Sequence[Mapping[str, Any]], *, told: bool = False
    ) -> dict[str, Any]:
        """Come to the environment, or begin to remove it; what the run carries over its waits.

        :param choice: which wish to begin with.
        :param failed: alternatives that did not do.
        :param told: whether the difference has been reported.
        """
        from airflow_provider_tcbatch.execution.compute_env.ensuring import MustBeMadeAnew
        from airflow_provider_tcbatch.policies.task_template.difference import difference

        self._current = ensuring = self._ensuring(context, choice)
        try:
            carried = self._start(context, ensuring.spec, self.began if not told else time.time())
        except MustBeMadeAnew as error:
            return self._anew(context, error)
        wish, name = ensuring.wishes[ensuring.choice], ensuring.wishes[0].env.env_name
        words = f"environment {name!r} ({carried['env_id']})"
        if ensuring.plan is not None and not told:
            self._tell(context, ensuring.plan, f"Compute {words}")
        elif not told:
            changes: list[Change] = difference(NamedComputeEnv, wish.wire, {})
            tell_changes(self, context, changes, words=f"Made compute {words}")
        failed = [*failed, *ensuring.passed_over]
        decision = {"alternative": ensuring.choice, "env_id": carried["env_id"], **wish.to_json(), "failed": failed}
        push(context, "tcbatch_choice", decision)
        if len(ensuring.wishes) > 1:
            self.log.info("Compute environment %s is alternative %d: %s", carried["env_id"], ensuring.choice, wish)
        return {**carried, "choice": ensuring.choice, "last": len(ensuring.wishes) - 1, "failed": failed}

    def _anew(self, context: Context, error: MustBeMadeAnew) -> dict[str, Any]:
        """The environment differs in what can't be changed: begin to delete it, if that is wanted."""
        if not self.recreate:
            raise InvalidRequest(
                f"Task {self.task_id!r}: {error}\nWrite recreate=True to have it deleted and made anew, or give "
                "another EnvName",
                problems=[str(change) for change in error.plan.fixed],
            ) from None
        self._tell(context, error.plan, f"Compute environment {error.env_id} is deleted and made anew")
        self.announce(context, error.env_id)
        return {"env_id": error.env_id, "since": time.time(), "errors": 0, "own": False, "removing": 0, "failed": []}

    def advance(
        self, context: Context, carried: Mapping[str, Any], event: Mapping[str, Any] | None
    ) -> Pause | GoOn | None:
        """Look, and do what can be done now."""
        following = carried.get("removing")
        if following is None:
            if not self.wait_for_completion:
                self._mark_done(context)
                return None
            return super().advance(context, carried, event)
        pause = self.remove(carried, force=self.force)
        if pause is not None:
            return pause._replace(in_any_case=True)
        return GoOn(self._come_to(context, int(following), carried["failed"], told=True))

    def instead(self, context: Context, carried: Mapping[str, Any], why: str) -> GoOn | None:
        """Where nodes can't be made, go on to the next alternative: remove this one first."""
        following = int(carried.get("choice", 0)) + 1
        if carried.get("removing") is not None or not carried["own"] or following > carried["last"]:
            return None
        env_id, wish = str(carried["env_id"]), self._wishes()[following - 1]
        self.log.warning(
            "%s: %s. Going on to alternative %d.\n%s",
            self.words_for_wait(carried),
            why,
            following,
            self.explain(env_id),
        )
        failure = {"alternative": following - 1, "env_id": env_id, "why": why, **wish.to_json()}
        failed = [*carried["failed"], failure]
        carried = {**carried, "removing": following, "failed": failed, "since": time.time(), "errors": 0}
        # Nodes that are being made can't go yet: a short timeout is not meant for their removal.
        carried["timeout_since"] = carried["since"] + max(0.0, REMOVAL_SECONDS - (self.timeout or 0.0))
        return GoOn(carried)

    def abandon(self, context: Context, carried: Mapping[str, Any], why: str) -> str:
        """Remove what this task made, and tell what else was tried."""
        if carried.get("removing") is not None:
            return "; its deletion has begun"
        tried = [
            f"{each['env_id'] or 'none made'} ({each['instance_charge_type']}: {each['why']})"
            for each in carried["failed"]
        ]
        before = f"; alternatives that failed before: {', '.join(tried)}" if tried else ""
        return super().abandon(context, carried, why) + before

    def words_for_wait(self, carried: Mapping[str, Any]) -> str:
        if carried.get("removing") is not None:
            return f"The deletion of compute environment {carried['env_id']}, to make another one,"
        return super().words_for_wait(carried)
