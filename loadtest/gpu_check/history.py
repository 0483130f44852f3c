"""Score time against the length of the history: LREA beside DIN, random weights, one user."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import Feed, Inputs, request_of
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.results import Results
from loadtest.gpu_check.timing import columns, device_us, host_us
from loadtest.gpu_check.torch_engines import captured, eager
from models.base import CtrModel
from models.batch import User
from models.contract.age import NUM_AGES
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.registry import build_model

CANDIDATES = 1024
TABLE = "µs by length of the history"
DIN_OPTIONS = ("hidden", "heads", "mlp", "item_dim", "field_dim", "profile_dim")


def check_history(options: Options, results: Results) -> None:
    """Time both models at each length. States are encoded on the CPU, as the builder does it."""
    inputs = options.inputs()
    for length in options.effort.lengths:
        for name in ("lrea", "din"):
            try:
                row = _measure(name, length, inputs, options)
            except (RuntimeError, ValueError) as error:  # for example out of memory
                results.note(f"{name} at L = {length}: {str(error)[:300]}")
                continue
            results.add(TABLE, row)


def _measure(name: str, length: int, inputs: Inputs, options: Options) -> dict[str, Any]:
    model = _model(name, length, inputs)
    candidates = min(CANDIDATES, max(options.effort.slates))
    feed = _feed(model, length, inputs, candidates)
    buffers = Buffers(feed, options.device)
    run = eager(model.to(options.device), buffers)
    row: dict[str, Any] = {"model": name, "L": length, "B": candidates}
    row["state kB"] = buffers.state.num_bytes / 1000
    row |= columns("eager", host_us(partial(_run_and_fetch, run, buffers), options.effort.seconds))
    if options.device == "cuda":
        replay = captured(run)
        row |= columns(
            "graph", host_us(partial(_run_and_fetch, replay, buffers), options.effort.seconds)
        )
        row |= columns("device", device_us(replay, options.effort.seconds))
    return row


def _run_and_fetch(run: Callable[[], None], buffers: Buffers) -> None:
    run()
    buffers.fetch()


def _model(name: str, length: int, inputs: Inputs) -> CtrModel:
    manifest = inputs.artifact.manifest
    schema = replace(inputs.schema, history_length=length)
    frame = inputs.model().get_submodule("frame")
    item_fields = frame.get_submodule("items").get_buffer("item_fields")
    config = manifest.config
    if name != manifest.model:
        config = {option: config[option] for option in DIN_OPTIONS}
    return build_model(name, schema, item_fields, config).eval().requires_grad_(False)


def _feed(model: CtrModel, length: int, inputs: Inputs, candidates: int) -> Feed:
    generator = torch.Generator().manual_seed(length)
    schema = inputs.schema
    user = User(
        torch.randint(FIRST_KNOWN, schema.num_items, (1, length), generator=generator),
        torch.randint(1, NUM_AGES, (1, length), generator=generator),
        torch.full((1, len(schema.user_fields)), UNKNOWN),
    )
    with torch.inference_mode():
        state = {name: values.numpy() for name, values in model.encode(user).items()}
    request = inputs.feed([0], candidates)
    return {**state, **request_of(request)}
