"""The routes of artifacts, of which there are none: what a step answers is its output."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response

from api import requests
from api.answers import answer
from api.auth import caller
from api.operations import operation
from api.schemas.usage import ArtifactsSchema
from api.surface import surface
from orch8.errors import NotFound
from orch8.runtime import inspect

blueprint: Final = Blueprint("artifacts", __name__)


@blueprint.get("/instances/<instance_id>/artifacts")
@operation("List the artifacts of an instance", answers={200: ArtifactsSchema}, errors=(404,))
def of_instance(instance_id: str) -> Response:
    """None: nothing here makes any."""
    wanted = requests.path_id(instance_id)
    with surface().office.begin() as tx:
        inspect.shown(tx, wanted, tenant_id=caller().tenant)
    return answer({"items": []})


@blueprint.get("/artifacts/<path:key>")
@operation("Read an artifact", errors=(404,))
def read(key: str) -> Response:
    """There is none under any key."""
    raise NotFound(f"artifact {key[:60]!r}: this installation keeps no artifacts")
