import orjson

from loadtest.chaos.protocols import columns_of, v1_request, v2_request


def test_a_query_has_the_same_ids_in_both_protocols() -> None:
    body = {"user_id": "u", "candidates": ["1", "2"], "context": {"hour": "9"}}
    assert v1_request(body).endswith(orjson.dumps(body))
    inputs = orjson.loads(v2_request(body, "m").partition(b"\r\n\r\n")[2])["inputs"]
    assert {tensor["name"]: tensor["data"] for tensor in inputs} == {
        "user_id": ["u"],
        "candidates": ["1", "2"],
        "hour": ["9"],
    }


def test_fields_of_candidates_are_tensors_in_v2() -> None:
    slate = [{"id": "1", "fields": {"display": "a"}}, {"id": "2", "fields": {"display": "b"}}]
    body = {"user_id": "u", "candidates": slate, "context": {}}

    inputs = orjson.loads(v2_request(body, "m").partition(b"\r\n\r\n")[2])["inputs"]

    tensors = {tensor["name"]: tensor["data"] for tensor in inputs}
    assert tensors == {"user_id": ["u"], "candidates": ["1", "2"], "display": ["a", "b"]}
    assert columns_of(slate) == {"candidates": ["1", "2"], "display": ["a", "b"]}
