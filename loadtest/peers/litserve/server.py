"""LitServe: `python server.py PORT WORKERS`."""

import sys
from typing import Any

import litserve

from loadtest.peers.ranker import Ranker


class RankerAPI(litserve.LitAPI):  # type: ignore[misc] # LitServe is in the peer's own environment only
    """The ranker as the four steps of LitServe."""

    def setup(self, device: str) -> None:
        """Load the ranker, once in every worker."""
        self._ranker = Ranker()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The body as it is."""
        return request

    def predict(self, query: dict[str, Any]) -> list[float]:
        """Score candidates for a user."""
        scores: list[float] = self._ranker.score_json(
            query["user_id"], query["candidates"]
        ).tolist()
        return scores

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """The answer."""
        return {"scores": output}


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    server = litserve.LitServer(
        RankerAPI(), accelerator="cpu", workers_per_device=workers, fast_queue=True
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
