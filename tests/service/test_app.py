"""The OpenAPI document is what the service does: requests made from it get the answers that it describes.

The draws are the same in every run; `make fuzz` draws others, and more.
"""

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzzing import check_refusal, drawn, serving
from tests.service.toy import AS_OF_S
from tests.service.world import World

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KNOWN = {"model": "toy", "version": str(AS_OF_S + 60), "user_id": "ann"}
"""What is published, for the places of a path."""


def operations(document: dict[str, Any], kind: str) -> list[tuple[Any, dict[str, str]]]:
    """Operations to send requests to, and the parts of their paths that are not drawn."""
    schema = schemathesis.openapi.from_dict(document)
    every: list[Any] = [one.ok() for one in schema.get_all_operations()]  # type: ignore[union-attr]
    named = [
        (one, {name: KNOWN[name] for name in KNOWN if f"{{{name}}}" in one.path}) for one in every
    ]
    if kind == "strangers":
        return [(one, {}) for one, known in named if known]
    if kind == "against it":
        return [(one, known) for one, known in named if len(one.body)]
    return [(one, known) for one, known in named if not one.path.endswith("/unload")]


@pytest.mark.parametrize("kind", ["as described", "strangers", "against it"])
def test_answers_are_those_that_the_document_describes(kind: str, world: World):
    mode = GenerationMode.NEGATIVE if kind == "against it" else GenerationMode.POSITIVE
    answered = set()
    with serving(world) as send:
        document = send("GET", "/openapi.json", b"", {}).json()
        for operation, known in operations(document, kind):

            @drawn(4)
            @given(operation.as_strategy(mode, path_parameters=known or None))
            def run(case: Any) -> None:
                prepared: Any = requests.Request(
                    **case.as_transport_kwargs("http://127.0.0.1")
                ).prepare()
                body = (
                    prepared.body.encode()
                    if isinstance(prepared.body, str)
                    else prepared.body or b""
                )
                response = send(prepared.method, prepared.url, body, prepared.headers)
                check_refusal(response)
                case.validate_response(response, checks=CHECKS)
                answered.add((case.operation.label, response.is_success))

            run()
    succeeded = {label for label, is_success in answered if is_success}
    assert len(succeeded) > 20 or kind != "as described", sorted(answered)
