import orjson

from loadtest.chaos.protocols import v1_request, v2_request


def test_a_query_has_the_same_ids_in_both_protocols() -> None:
    body = {"user_id": "u", "candidates": ["1", "2"], "context": {"hour": "9"}}
    assert v1_request(body).endswith(orjson.dumps(body))
    inputs = orjson.loads(v2_request(body, "m").partition(b"\r\n\r\n")[2])["inputs"]
    assert {tensor["name"]: tensor["data"] for tensor in inputs} == {
        "user_id": ["u"],
        "candidates": ["1", "2"],
        "hour": ["9"],
    }
