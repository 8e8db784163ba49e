"""Coming to a compute environment that is as it is wished, or as one of several alternatives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ComputeEnvFailed, InvalidRequest
from airflow_provider_tcbatch.execution.compute_env.creation import EnvCreation, EnvSpec, Found
from airflow_provider_tcbatch.policies.compute_env.plan import EnvPlan, EnvWish, chosen, plan

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView

__all__ = ["EnvEnsuring", "MustBeMadeAnew"]

log = logging.getLogger(__name__)


class MustBeMadeAnew(InvalidRequest):
    """An environment can't be brought to any of the wishes.

    :param env_id: the environment.
    :param plan: what differs from the first wish.
    """

    def __init__(self, message: str, *, env_id: str, plan: EnvPlan) -> None:
        super().__init__(message)
        self.env_id = env_id
        self.plan = plan


class EnvEnsuring(EnvCreation):
    """A try that sees to it that its environment is as it is wished.

    :param wishes: the wish and its alternatives, in the order in which they are tried.
    :param choice: number of the first one to try.
    :param preflight: called before an environment is made; raises if its machines can't be had. ``None`` not to ask.
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        wishes: Sequence[EnvWish],
        choice: int = 0,
        preflight: Callable[[EnvSpec], None] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(spec=replace(spec, env=wishes[choice].env), **arguments)
        self.wishes = wishes
        self._preflight = preflight
        #: Number of the wish that the environment is brought to.
        self.choice = choice
        #: What differed, where the environment was there already.
        self.plan: EnvPlan | None = None
        #: Alternatives that were not tried, with the reason.
        self.passed_over: list[dict[str, Any]] = []

    @property
    def spec(self) -> EnvSpec:
        """What is to be made."""
        return self._spec

    def present(self) -> ComputeEnvView | None:
        """The environment that there is, if there is one. Nothing is changed.

        :raises InvalidRequest: if which is meant can't be told.
        """
        found = self._hook.find_compute_envs(self._name)
        own = [view for view in found if self._is_mine(view)] if len(found) > 1 else []
        if len(found) > 1 and not own:
            ids = ", ".join(view.env_id for view in found)
            raise InvalidRequest(f"{len(found)} compute environments are called {self._name!r}: {ids}")
        return next(iter(own or found), None)

    def compare(self, view: ComputeEnvView) -> list[EnvPlan]:
        """What differs from each of the wishes."""
        shown = self._hook.describe_compute_env_create_info(view.env_id).to_wire()
        placement = self._hook.placement(self._spec.zone, self._spec.placement).to_wire()
        shown_placement = view.placement.to_wire() if view.placement is not None else {}
        if view.desired_compute_node_count is not None:
            shown["DesiredComputeNodeCount"] = view.desired_compute_node_count
        return [plan(wish, placement, shown, shown_placement) for wish in self.wishes]

    def _update(self, view: ComputeEnvView) -> int:
        """Change what differs; how many nodes the environment shall have then.

        :raises MustBeMadeAnew: if something differs that can't be changed.
        """
        plans = self.compare(view)
        number = chosen(plans)
        if number is None:
            listing = "".join(f"\n  {change}" for change in plans[0].fixed)
            raise MustBeMadeAnew(
                f"Compute environment {view.env_id} ({self._name}) differs in what the service can't change:{listing}",
                env_id=view.env_id,
                plan=plans[0],
            )
        wish, self.choice, self.plan = self.wishes[number], number, plans[number]
        if arguments := self.plan.modification(wish):
            self._hook.modify_compute_env(view.env_id, **arguments)
        return wish.env.desired_compute_node_count

    def _create(self) -> Found:
        self._pass_over()
        self._spec = replace(self._spec, env=self.wishes[self.choice].env)
        return super()._create()

    def _pass_over(self) -> None:
        """Go on to the first alternative whose machines can be had."""
        while self._preflight is not None:
            wish = self.wishes[self.choice]
            try:
                self._preflight(replace(self._spec, env=wish.env))
                return
            except (ComputeEnvFailed, InvalidRequest) as error:
                if self.choice + 1 == len(self.wishes):
                    raise
                log.warning("Going on to the next alternative. %s", error)
                failure = {"alternative": self.choice, "env_id": None, "why": "preflight", **wish.to_json()}
                self.passed_over.append(failure)
                self.choice += 1
