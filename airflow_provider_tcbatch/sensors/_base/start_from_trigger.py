"""Sensors that begin, or end, in the triggerer, so that no worker is needed for a plain wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import StartTriggerArgs

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.wire import is_jinja
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperatorMeta, deferral, flag
from airflow_provider_tcbatch.operators._base.worker import OnWorker
from airflow_provider_tcbatch.policies.backoff import LONGEST

if TYPE_CHECKING:
    from airflow_provider_tcbatch.triggers._base.sensor_trigger import BaseSensorTrigger

__all__ = ["SensorTrigger", "lost_at_the_end"]

#: Airflow ends a trigger at an instant of its own, and the sensor could neither look once more nor say what it has
#: waited for. So the trigger gives up this many seconds before: enough for a triggerer to be replaced in between.
_MARGIN = 120.0


class SensorTrigger(OnWorker, BaseSensorOperator, metaclass=TCBatchOperatorMeta):
    """A sensor and its trigger. It may begin in the triggerer, end there, or both.

    A sensor names its trigger, says its arguments, and calls :meth:`prepare_start` last in its ``__init__``.

    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is ``True`` with one of
        the flags below, else Airflow's ``[operators] default_deferrable``.
    :param start_from_trigger: begin in the triggerer, too: the scheduler starts the trigger, and a worker only ends
        the task. Airflow 3.1 takes a worker for the beginning all the same.
    :param end_from_trigger: let the trigger end the task where it succeeds, or is skipped by ``soft_fail`` or
        ``never_fail``; a worker only sees to failures and timeouts. Airflow 3.1 takes one all the same.
    :raises InvalidRequest: if Airflow can't do that, or something that is asked for would be lost.
    """

    #: What waits in the sensor's place.
    trigger_class: ClassVar[type[BaseSensorTrigger]]

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name in ("poke_interval", "timeout"):
            if not getattr(self, name) <= LONGEST:
                raise InvalidRequest(
                    f"Task {self.task_id!r}: {name} is {getattr(self, name)!r}; write seconds, at most {LONGEST:.0f} s"
                )
        self.start_from_trigger = flag("start_from_trigger", start_from_trigger, self.task_id)
        self.end_from_trigger = flag("end_from_trigger", end_from_trigger, self.task_id)
        chosen = [name for name in ("start_from_trigger", "end_from_trigger") if getattr(self, name)]
        if deferrable is not None or not chosen:
            self.deferrable = deferral(deferrable, self.task_id)
            if chosen and not self.deferrable:
                raise InvalidRequest(f"Task {self.task_id!r}: {chosen[0]} needs deferrable=True; leave deferrable out")
        else:
            self.deferrable = True

    def trigger_arguments(self) -> dict[str, Any]:
        """The trigger's arguments as the sensor has them now: before rendering as well as after it.

        A template field that matters to the trigger must be called the same here, in the sensor and in the trigger.
        """
        raise NotImplementedError

    @property
    def longest_pause(self) -> float:
        """Longest time in seconds between two looks of the trigger."""
        return max(1.0, float(self.poke_interval))

    def make_trigger(self, deadlines: Mapping[str, float], carried: Mapping[str, Any]) -> BaseSensorTrigger:
        """The trigger, for a worker that defers to it.

        :param deadlines: when it gives up.
        :param carried: handed on in its event.
        """
        return self.trigger_class(**self._all_arguments(), deadlines=deadlines, carried=carried)

    def prepare_start(self) -> None:
        """Tell Airflow how to start the trigger, if it is to; check that nothing is lost if the trigger ends the task.

        :raises InvalidRequest: if one of them can't be.
        """
        if self.end_from_trigger and (lost := lost_at_the_end(vars(self), starts=self.start_from_trigger)):
            raise InvalidRequest(
                f"Task {self.task_id!r}: with end_from_trigger, {' and '.join(lost)} would be lost; leave out one or "
                "the other"
            )
        if not self.start_from_trigger:
            return
        arguments = self._all_arguments()
        for name, value in arguments.items():
            for part in _parts(value):
                if not is_jinja(part) and known_later(part):
                    raise InvalidRequest(
                        f"Task {self.task_id!r}: {name} is the output of another task, which Airflow does not hand to "
                        "a trigger that it starts; write it as Jinja, \"{{ ti.xcom_pull('…') }}\" with the task "
                        "upstream, or leave start_from_trigger out"
                    )
                if is_jinja(part) and not _renders():
                    raise InvalidRequest(
                        f"Task {self.task_id!r}: {name} holds Jinja, which Airflow before 3.3 does not render for a "
                        "trigger that it starts; leave start_from_trigger out"
                    )
        patience, margin = self._patience()
        path = f"{self.trigger_class.__module__}.{self.trigger_class.__qualname__}"
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path,
            next_method="execute_complete",
            # No instants here: this is part of the DAG, and has to be the same at each parse.
            trigger_kwargs={**arguments, "margin": margin, "carried": {"errors": 0}},
            timeout=timedelta(seconds=patience + margin),
        )

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the sensor.

        :raises InvalidRequest: with ``start_from_trigger``, which Airflow can't do then.
        """
        task_id = str(kwargs.get("task_id"))
        where = f"Task {task_id!r}"
        if flag("start_from_trigger", kwargs.get("start_from_trigger", False), task_id):
            raise InvalidRequest(
                f"{where}: Airflow does not start mapped tasks from a trigger; leave start_from_trigger out"
            )
        if flag("end_from_trigger", kwargs.get("end_from_trigger", False), task_id) and (
            lost := lost_at_the_end(kwargs)
        ):
            raise InvalidRequest(
                f"{where}: with end_from_trigger, {' and '.join(lost)} would be lost; leave out one or the other"
            )
        return super().partial(**kwargs)

    def _all_arguments(self) -> dict[str, Any]:
        ending = None
        if self.end_from_trigger:
            skip = "soft_fail" if self.soft_fail else "never_fail" if self.never_fail else None
            ending = {"push": bool(self.do_xcom_push), "skip": skip}
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in self._own()},
            "poll_interval": self.longest_pause,
            "ending": ending,
        }

    def _own(self) -> Iterator[tuple[str, Any]]:
        yield from self.trigger_arguments().items()
        for name in ("tencentcloud_conn_id", "region"):
            yield name, getattr(self, name)

    def _patience(self) -> tuple[float, float]:
        """Seconds after which the trigger gives up, and from then to Airflow's own end of it."""
        timeout = float(self.timeout)
        if self.execution_timeout is None:
            return timeout, _MARGIN
        # Airflow takes the earlier of both for its end of a trigger that it has started.
        most = self.execution_timeout.total_seconds()
        patience = min(timeout, most - min(_MARGIN, most / 4))
        return patience, min(timeout + _MARGIN, most) - patience


def lost_at_the_end(options: Mapping[str, Any], *, starts: bool = False) -> list[str]:
    """What a task asks for that only a worker does at its end, and a trigger that ends it does not.

    :param options: the arguments of the task, or its attributes.
    :param starts: whether there is no worker at its beginning either.
    """
    skips = options.get("soft_fail") or options.get("never_fail")
    asked: dict[str, Callable[[], object]] = {
        "on_success_callback": lambda: options.get("on_success_callback"),
        "on_skipped_callback": lambda: skips and options.get("on_skipped_callback"),
        "on_execute_callback": lambda: starts and options.get("on_execute_callback"),
        "pre_execute": lambda: starts and (options.get("pre_execute") or options.get("_pre_execute_hook")),
        "post_execute": lambda: options.get("post_execute") or options.get("_post_execute_hook"),
        "outlets": lambda: options.get("outlets"),
        "multiple_outputs": lambda: options.get("multiple_outputs"),
        "summary": lambda: options.get("summary"),
    }
    return [name for name, wanted in asked.items() if wanted()]


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _parts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _renders() -> bool:
    """Whether Airflow renders the arguments of a trigger that it starts."""
    from airflow import __version__

    major, minor = (int(part) for part in __version__.split(".")[:2])
    return (major, minor) >= (3, 3)
