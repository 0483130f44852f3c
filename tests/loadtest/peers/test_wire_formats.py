import json

import numpy as np
import pytest

from loadtest.peers.queries import Query
from loadtest.peers.servers import Route
from loadtest.peers.wire_formats import HEADER_LENGTH, http_request, scores_of

ROUTES = {wire: Route(wire, "/score", wire) for wire in ("json", "v2", "v2-binary")}


def test_a_binary_request_has_the_lengths_of_its_parts() -> None:
    head, _, body = http_request(ROUTES["v2-binary"], "h", Query("ü", ["a", "bc"], [])).partition(
        b"\r\n\r\n"
    )
    headers = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    length = int(headers[HEADER_LENGTH])
    inputs = json.loads(body[:length])["inputs"]
    assert [one["parameters"]["binary_data_size"] for one in inputs] == [6, 11]
    assert body[length:] == b"\x02\0\0\0\xc3\xbc\x01\0\0\0a\x02\0\0\0bc"
    assert int(headers["Content-Length"]) == len(body)


def test_fields_are_objects_in_json_and_tensors_in_v2() -> None:
    query = Query("u", ["a", "b"], [], {"display": ["7", "0"], "mailer": ["D", "A"]}).first(1)

    bodies = [
        json.loads(http_request(ROUTES[wire], "h", query).partition(b"\r\n\r\n")[2])
        for wire in ("json", "v2")
    ]

    fields = {"display": "7", "mailer": "D"}
    assert bodies[0] == {"user_id": "u", "candidates": [{"id": "a", "fields": fields}]}
    tensors = {tensor["name"]: tensor["data"] for tensor in bodies[1]["inputs"]}
    expected = {"user_id": ["u"], "candidates": ["a"], "display": ["7"], "mailer": ["D"]}
    assert tensors == expected


def test_scores_are_read_from_every_wire_format() -> None:
    scores = np.array([0.25, 0.5])
    outputs = {"outputs": [{"name": "scores", "data": [0.25, 0.5]}]}
    assert scores_of(ROUTES["json"], {}, b'{"scores": [0.25, 0.5]}').tolist() == scores.tolist()
    assert scores_of(ROUTES["json"], {}, b"[0.25, 0.5]").tolist() == scores.tolist()
    assert scores_of(ROUTES["v2"], {}, json.dumps(outputs).encode()).tolist() == scores.tolist()
    header = b'{"outputs":[{"name":"scores","datatype":"FP64"}]}'
    headers = {HEADER_LENGTH.lower(): str(len(header))}
    assert scores_of(ROUTES["v2-binary"], headers, header + scores.tobytes()).tolist() == [
        0.25,
        0.5,
    ]
    with pytest.raises(ValueError, match="expected scores"):
        scores_of(ROUTES["json"], {}, b'{"detail": "no"}')
