"""Unmodified clients over HTTP. What takes `target` also runs on a real Triton, and on what --v2-url names."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.service.toy import AS_OF_S, Toy
from tests.service.v2.targets import Target
from tests.service.world import HISTORIES, RECENT

SLATE = ["i1", "i5", "no such", "é"]
VERSION = str(AS_OF_S + 60)
LONG = [f"i{n % 40}" for n in range(1000)]


@pytest.fixture(scope="module")
def client(target: Target) -> Iterator["triton.InferenceServerClient"]:
    with triton.InferenceServerClient(target.host, concurrency=4) as client:
        yield client


def texts(name: str, values: list[str], is_binary: bool, shape: list[int] | None = None):
    tensor = triton.InferInput(name, shape or [len(values)], "BYTES")
    array = np.array([one.encode() for one in values], object).reshape(shape or -1)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return tensor


def slate(is_binary: bool = True, user: str = "ann", candidates: list[str] = SLATE):
    return [texts("user_id", [user], is_binary), texts("candidates", candidates, is_binary)]


def scores(is_binary: bool = True):
    return [triton.InferRequestedOutput("scores", binary_data=is_binary)]


def known(candidates: list[str] = SLATE) -> np.ndarray:
    toy = Toy()
    expected = toy.scores(toy.state(HISTORIES["ann"]), candidates, RECENT["ann"])
    return np.array(expected, np.float32)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("toy")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata("toy")
    (version,) = about["versions"]
    assert client.is_model_ready("toy", version)
    assert client.get_model_metadata("toy", version) == about
    assert {"name": "scores", "datatype": "FP32", "shape": [-1]} in about["outputs"]
    assert about["inputs"][:2] == [
        {"name": "user_id", "datatype": "BYTES", "shape": [1]},
        {"name": "candidates", "datatype": "BYTES", "shape": [-1]},
    ]


def test_models_that_are_not_there(client: Any) -> None:
    assert not client.is_model_ready("nosuch")
    assert not client.is_model_ready("toy", "77")
    for ask in (client.get_model_metadata, client.get_model_config):
        with pytest.raises(InferenceServerException, match="nosuch"):
            ask("nosuch")
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nosuch", slate())
    assert caught.value.status() == "404"


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("is_binary_out", [True, False])
@pytest.mark.parametrize("is_binary_in", [True, False])
def test_all_forms_of_tensors(
    target: Target, client: Any, is_binary_in: bool, is_binary_out: bool, algorithm: str | None
) -> None:
    expected = client.infer("toy", slate(candidates=LONG), outputs=scores()).as_numpy("scores")
    result = client.infer(
        "toy",
        slate(is_binary_in, candidates=LONG),
        outputs=scores(is_binary_out),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    found = result.as_numpy("scores")
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert found.shape == (len(LONG),)
    if target.is_ours:
        assert found == pytest.approx(known(LONG), abs=1e-6)
    described = result.get_output("scores")
    assert ("binary_data_size" in described.get("parameters", {})) is is_binary_out


def test_outputs_that_are_not_named_all_come(target: Target, client: Any) -> None:
    result = client.infer("toy", slate())
    assert result.get_output("scores")["parameters"] == {"binary_data_size": 4 * len(SLATE)}
    if target.is_ours:
        assert result.as_numpy("scores") == pytest.approx(known(), abs=1e-6)
        assert result.as_numpy("unknown").tolist() == [False, False, True, True]
        assert result.as_numpy("state_source").tolist() == [b"hit"]


def test_id_version_timeout_and_priority(client: Any) -> None:
    (version,) = client.get_model_metadata("toy")["versions"]
    result = client.infer(
        "toy",
        slate(),
        model_version=version,
        request_id="r-7",
        priority=1,
        timeout=10_000_000,
        parameters={"mine": "yes"},
    )
    said = result.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("r-7", "toy", version)


def test_several_requests_at_once(client: Any) -> None:
    waiting = [client.async_infer("toy", slate(user="ann")) for _ in range(8)]
    found = [one.get_result().as_numpy("scores") for one in waiting]
    assert all(np.array_equal(one, found[0]) for one in found)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (slate()[:1], None),
        ([*slate(), texts("nosuch", ["x"], True)], None),
        (slate(), [triton.InferRequestedOutput("nosuch")]),
        ([texts("user_id", ["ann", "bob"], True), slate()[1]], None),
    ],
)
def test_what_a_model_does_not_take_is_400(client: Any, inputs: Any, outputs: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("toy", inputs, outputs=outputs)
    assert caught.value.status() == "400"
    assert caught.value.message()


def test_configuration_and_statistics(target: Target, client: Any) -> None:
    config = client.get_model_config("toy")
    assert config["max_batch_size"] == 0
    assert [one["data_type"] for one in config["input"][:2]] == ["TYPE_STRING", "TYPE_STRING"]
    before, after = (served(target, client) for _ in range(2))
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][name]["count"] > before["inference_stats"][name]["count"]
    assert after["inference_count"] > before["inference_count"]
    assert after["last_inference"] >= before["last_inference"] > 0
    assert {"fail", "cache_hit", "cache_miss"} < set(after["inference_stats"])


def served(target: Target, client: Any) -> dict[str, Any]:
    """The model's statistics after one more request."""
    client.infer("toy", slate())
    (one,) = client.get_inference_statistics("toy", headers=target.access)["model_stats"]
    assert client.get_inference_statistics(headers=target.access)["model_stats"] == [one]
    said: dict[str, Any] = one
    return said


def test_the_index(target: Target, client: Any) -> None:
    # Pytriton's Triton loads its models past the repository, whose index is empty.
    expected = [] if target.kind == "triton" else [("toy", "READY")]
    entries = client.get_model_repository_index(headers=target.access)
    assert [(one["name"], one["state"]) for one in entries if one["name"] == "toy"] == expected


def test_integers_are_ids_too(ours: Target, client: Any) -> None:
    numbers = triton.InferInput("candidates", [2], "INT64")
    numbers.set_data_from_numpy(np.array([1, 2]))
    found = client.infer("toy", [slate()[0], numbers]).as_numpy("unknown")
    assert found.tolist() == [True, True]


def test_several_users_in_one_request(ours: Target, client: Any) -> None:
    inputs = [
        texts("user_id", ["ann", "bob"], True, [2, 1]),
        texts("candidates", ["i1", "i5", "i5", "i1"], True, [2, 2]),
    ]
    result = client.infer("toy", inputs)
    assert result.as_numpy("scores")[0] == pytest.approx(known(["i1", "i5"]), abs=1e-6)
    assert result.as_numpy("scores").shape == (2, 2)


def test_a_model_is_unloaded_and_loaded(ours: Target, client: Any) -> None:
    client.unload_model("toy")
    assert not client.is_model_ready("toy")
    with pytest.raises(InferenceServerException, match="was unloaded") as caught:
        client.infer("toy", slate())
    assert caught.value.status() == "503"
    (entry,) = client.get_model_repository_index()
    assert entry["state"] == "UNAVAILABLE"
    client.load_model("toy")
    assert client.is_model_ready("toy", VERSION)
    assert client.infer("toy", slate()).as_numpy("scores") == pytest.approx(known(), abs=1e-6)
    with pytest.raises(InferenceServerException, match="configured by its artifact"):
        client.load_model("toy", config="{}")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("nosuch")
    assert caught.value.status() == "404"


def test_fixed_settings(ours: Target, client: Any) -> None:
    assert client.get_trace_settings() == {"trace_level": ["OFF"]}
    assert client.get_log_settings()["log_error"] is True
    with pytest.raises(InferenceServerException, match="fixed while the service runs"):
        client.update_log_settings({"log_info": False})


def test_classification_is_refused(ours: Target, client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no classification"):
        client.infer("toy", slate(), outputs=[triton.InferRequestedOutput("scores", class_count=2)])
