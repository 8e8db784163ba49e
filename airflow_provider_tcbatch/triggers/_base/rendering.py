"""What a worker does for its task, done in the triggerer: rendering arguments, pushing XComs."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

__all__ = ["NotHere", "push_xcoms", "render"]

#: A triggerer of Airflow 3.3 does not answer all that a template may ask for, and says nothing: who waits for it in
#: the triggerer waits for ever.
_SECONDS = 20.0

#: Seconds for which a wait that has ended lets others push first. A supervisor takes some ten XComs a second, and those
#: of all its triggers one after the other: would all push at once, none of a thousand waits would be ready in time.
_IN_TURN = 300.0

#: Whose turn it is.
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


class NotHere(Exception):
    """Something that can't be done in a triggerer. A worker can."""


class _Pulls:
    """A task instance whose XComs can be pulled as on a worker, where that is possible in a triggerer.

    Airflow pulls the XComs of one task together with those of all its mapped instances, with a request that its
    triggerer does not know.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, task_ids: Any = None, *positional: Any, **options: Any) -> Any:
        if "map_indexes" in options:
            return self._ti.xcom_pull(task_ids, *positional, **options)
        ids = [task_ids] if isinstance(task_ids, str) else list(task_ids or ())
        found = [self._ti.xcom_pull(task_id, *positional, map_indexes=-1, **options) for task_id in ids]
        if not found or None in found:
            # Of a mapped task, or not there: both look alike from here.
            raise NotHere(f"xcom_pull of {task_ids!r}")
        return found[0] if isinstance(task_ids, str) else found


def render(
    by_airflow: Callable[[Context, jinja2.Environment], None], context: Mapping[str, Any], env: jinja2.Environment
) -> None:
    """Render as strictly as a worker does: Airflow's own environment makes empty text of what is not there.

    :param by_airflow: Airflow's rendering of the trigger.
    :param context: what templates see.
    :param env: Airflow's environment.
    :raises NotHere: if a worker is needed for it. (A DAG's own macros and filters raise Jinja's errors.)
    """
    import anyio
    from jinja2 import StrictUndefined

    env.undefined = StrictUndefined
    context = dict(context)
    for name in ("ti", "task_instance"):
        if name in context:
            context[name] = _Pulls(context[name])
    try:
        with anyio.fail_after(_SECONDS):  # noqa: ASYNC100 - what Jinja calls awaits, by greenback
            by_airflow(context, env)  # type: ignore[arg-type]
    except TimeoutError:
        raise NotHere(f"something that the triggerer has not answered within {_SECONDS:.3g} s") from None


async def push_xcoms(ti: Any, xcoms: Mapping[str, Any], timeout_at: float | None = None) -> None:
    """Push XComs as a worker does.

    (Those that a trigger hands to Airflow together with the end of a task are stored as JSON text, and tasks that pull
    them get text.)

    :param ti: the task instance; ``None`` under ``dag.test()``.
    :param xcoms: values by key.
    :param timeout_at: unix seconds when Airflow would end the trigger.
    :raises NotHere: if that is not possible here.
    """
    import anyio
    from airflow.sdk.execution_time.xcom import XCom

    if ti is None or not hasattr(XCom, "aset"):
        raise NotHere("there is no triggerer of Airflow 3.3 or later")
    where = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    patience = _IN_TURN if timeout_at is None else min(_IN_TURN, timeout_at - time.time() - _SECONDS)
    async with _turn(max(patience, 0.0)):
        try:
            with anyio.fail_after(_SECONDS):
                for key, value in xcoms.items():
                    await XCom.aset(key=key, value=value, **where)
        except TimeoutError:
            raise NotHere(f"the triggerer has not taken them within {_SECONDS:.3g} s") from None


@asynccontextmanager
async def _turn(patience: float) -> AsyncIterator[None]:
    """One after the other.

    :param patience: seconds.
    :raises NotHere: if it takes too long until it is one's turn.
    """
    import anyio

    lock = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    try:
        with anyio.fail_after(patience):
            await lock.acquire()
    except TimeoutError:
        raise NotHere(f"the triggerer has been busy with those of others for {patience:.3g} s") from None
    try:
        yield
    finally:
        lock.release()
