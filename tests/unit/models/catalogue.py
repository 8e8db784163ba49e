"""All our types of API objects, found by looking through the modules."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import airflow_provider_tcbatch.models
from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.cmq import CmqAction, CmqPage, _QueueAttributes
from airflow_provider_tcbatch.models.request import Action, Result
from airflow_provider_tcbatch.models.views import InstanceMetrics

#: Types that only exist to be derived from.
_BASES = {ApiModel, Action, Result, CmqAction, CmqPage, _QueueAttributes, InstanceMetrics}


def _all() -> list[type[ApiModel]]:
    found = []
    for entry in pkgutil.iter_modules(airflow_provider_tcbatch.models.__path__):
        module = importlib.import_module(f"{airflow_provider_tcbatch.models.__name__}.{entry.name}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, ApiModel)
            and value.__module__ == module.__name__
            and value not in _BASES
            and "[" not in value.__name__  # such as Action[SubmitJobResult]
        ]
    return sorted(found, key=lambda model: (model.__module__, model.__name__))


MODELS = _all()
ACTIONS: list[type[Action[Any]]] = [model for model in MODELS if issubclass(model, Action)]
