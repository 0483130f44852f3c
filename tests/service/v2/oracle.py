"""A real Triton with the same tensors as our models: it shows what the protocol means where its text is unclear.

Run by the interpreter of a venv that has nvidia-pytriton (`make conformance`), not by ours: it needs numpy below 2 and
Debian's own Python 3.11. Arguments: ports for HTTP, gRPC and metrics. Ends when its standard input does.
"""

import sys

import numpy as np
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig


def score(requests):
    """Scores that follow from the bytes of both ids."""
    answers = []
    for request in requests:
        user = sum(request["user_id"].ravel()[0])
        sums = [sum(one) for one in request["candidates"].ravel()]
        answers.append({"scores": np.array([(user * one % 97) / 97 for one in sums], np.float32)})
    return answers


def main() -> None:
    """Serve model `toy` until the parent closes our standard input."""
    http, grpc, metrics = map(int, sys.argv[1:])
    config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics)
    security = TritonSecurityConfig(access_token="toy")
    with Triton(config=config, security_config=security) as triton:
        triton.bind(
            model_name="toy",
            infer_func=score,
            inputs=[
                Tensor(name="user_id", dtype=bytes, shape=(1,)),
                Tensor(name="candidates", dtype=bytes, shape=(-1,)),
            ],
            outputs=[Tensor(name="scores", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(batching=False),
        )
        triton.run()
        sys.stdin.read()


if __name__ == "__main__":
    main()
