"""The table of statuses is complete, and every setting is documented."""

from importlib.util import find_spec
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from builder.errors import ExportMismatchError, PublishError
from models.contract.errors import AbsorbError, ArtifactError, RequestError
from service.settings import Settings
from service.status import GRPC_CODES, STATUS, retry_headers, status_of


def every_error(kind: type[AbsorbError]) -> set[type[AbsorbError]]:
    below = (every_error(child) for child in kind.__subclasses__())
    return {kind}.union(*below)


def test_every_error_that_the_service_can_meet_has_a_status():
    # `models.command_line` and `service.tools` are the command line's: no request meets their errors.
    packages, tools = ("models.contract.", "service."), "service.tools."
    modules = {kind: kind.__module__ for kind in every_error(AbsorbError)}
    met = {
        kind
        for kind, module in modules.items()
        if module.startswith(packages) and not module.startswith(tools)
    }
    assert met == set(STATUS)


def test_errors_of_the_builder_have_the_status_of_the_class_above():
    assert status_of(PublishError("broken")) == 500
    assert status_of(ExportMismatchError(1.0, 0.1)) == 500


def test_every_status_has_a_code_over_grpc():
    codes = {code.name for code in grpc.StatusCode}
    assert set(GRPC_CODES) == set(STATUS.values())
    assert set(GRPC_CODES.values()) <= codes


def test_a_class_without_a_status_has_that_of_the_one_above():
    class OddRequestError(RequestError):
        pass

    OddRequestError.__module__ = "tests.service"
    assert status_of(OddRequestError("field", 1, "2")) == 400
    assert status_of(ArtifactError("broken")) == 500


@pytest.mark.parametrize(("status", "says"), [(429, True), (503, True), (400, False), (500, False)])
def test_only_rejected_requests_get_retry_after(status: int, says: bool):
    assert ("Retry-After" in retry_headers(status)) == says


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str):
    description = Settings.model_fields[name].description
    assert description
    assert description.endswith(".")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ABSORB_PORT", "9000")
    monkeypatch.setenv("ABSORB_STALE_AFTER_S", "")
    monkeypatch.setenv("ABSORB_DEFAULT_MODEL", "din")
    settings = Settings()
    assert (settings.port, settings.default_model, settings.stale_after_s) == (9000, "din", None)


@pytest.mark.parametrize(
    "bad", [{"port": 70000}, {"max_candidates": 0}, {"poll_interval_s": 0}, {"log_level": "LOUD"}]
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Settings(**bad)


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ({"grpc", "google.protobuf"}, "grpcio and protobuf are not installed"),
        ({"grpc"}, "grpcio is not installed"),
    ],
)
def test_a_grpc_port_without_its_packages_names_them_and_the_extra(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], text: str
):
    def find(module: str) -> object:
        return None if module in missing else find_spec(module)

    monkeypatch.setattr("service.settings.find_spec", find)
    with pytest.raises(ValidationError) as error:
        Settings(grpc_port=0)
    assert text in str(error.value)
    assert "the extra `grpc` of this project's wheel or checkout" in str(error.value)
    assert "pip install" not in str(error.value)
