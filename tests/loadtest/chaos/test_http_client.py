from loadtest.chaos.http_client import parse_head, post


def test_head_of_an_answer() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\ncontent-length: 3\r\n\r\n"
    assert parse_head(head) == (429, {"retry-after": "1", "content-length": "3"})
    assert post("/x", b"{}", "A: b").endswith(
        b"\r\nA: b\r\nContent-Type: application/json\r\n\r\n{}"
    )
