"""Triton through PyTriton: `python server.py PORT INSTANCES`. Batching is off: every user has a state of its own."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import sample
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from loadtest.peers.ranker import Ranker


def scoring() -> Any:
    """A function of one instance, with a ranker of its own."""
    ranker = Ranker()

    @sample  # type: ignore[untyped-decorator] # PyTriton is in the peer's own environment only
    def score(user_id: NDArray[Any], **columns: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        fields = {
            name: [one.decode() for one in values.tolist()] for name, values in columns.items()
        }
        items = fields.pop("candidates")
        return {"scores": ranker.score(user_id.item().decode(), items, fields)}

    return score


def main() -> None:
    """Serve until a signal says to stop."""
    port, instances = int(sys.argv[1]), int(sys.argv[2])
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=port,
        allow_grpc=True,
        grpc_port=port + 1,
        allow_metrics=False,
    )
    per_candidate = ["candidates", *Ranker().candidate_fields]
    with Triton(config=config) as triton:
        triton.bind(
            model_name="ranker",
            infer_func=[scoring() for _ in range(instances)],
            inputs=[
                Tensor(name="user_id", dtype=bytes, shape=(1,)),
                *(Tensor(name=name, dtype=bytes, shape=(-1,)) for name in per_candidate),
            ],
            outputs=[Tensor(name="scores", dtype=np.float64, shape=(-1,))],
            config=ModelConfig(batching=False),
        )
        triton.serve()


if __name__ == "__main__":
    main()
