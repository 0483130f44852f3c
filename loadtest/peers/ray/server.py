"""Ray Serve: `python server.py PORT REPLICAS`."""

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtest.peers.ranker import Ranker


class RankerDeployment:
    """The ranker as a deployment."""

    def __init__(self) -> None:
        self._ranker = Ranker()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Score candidates for a user."""
        query = await request.json()
        return {"scores": self._ranker.score_json(query["user_id"], query["candidates"]).tolist()}


def main() -> None:
    """Serve until a signal says to stop."""
    port, replicas = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=replicas, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    quiet = {"enable_access_log": False}
    declare = serve.deployment(num_replicas=replicas, logging_config=quiet)
    deployment = declare(RankerDeployment)
    serve.run(deployment.bind(), route_prefix="/score")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
