"""Does the time to score depend on the length of a history? LREA beside DIN, random weights, one user."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from loadtest.gpu_check.buffers import Buffers
from loadtest.gpu_check.inputs import Feed, Inputs
from loadtest.gpu_check.options import Options
from loadtest.gpu_check.report import Report
from loadtest.gpu_check.timing import device_us, host_us
from loadtest.gpu_check.torch_engines import captured, eager, on_device
from models.base import CtrModel
from models.batch import User
from models.contract.age import NUM_AGES
from models.contract.schema import FIRST_KNOWN, UNKNOWN
from models.registry import build_model

CANDIDATES = 1024
DIN_OPTIONS = ("hidden", "heads", "mlp", "item_dim", "field_dim", "profile_dim")


def check_history(options: Options, report: Report) -> None:
    """Time both at each length; states are encoded on the CPU, offline as ever."""
    inputs = options.inputs()
    for length in options.lengths:
        for name in ("lrea", "din"):
            try:
                row = _timed(name, length, inputs, options)
            except (RuntimeError, ValueError) as error:  # out of memory, say
                report.note(f"{name} at L = {length}: {str(error)[:300]}")
                continue
            report.add("µs by length of the history", row)


def _timed(name: str, length: int, inputs: Inputs, options: Options) -> dict[str, Any]:
    model = _model(name, length, inputs)
    candidates = min(CANDIDATES, max(options.slates))
    feed = _feed(model, length, inputs, candidates)
    buffers = Buffers(feed, options.device)
    run = eager(on_device(model, options.device), buffers)
    row: dict[str, Any] = {"model": name, "L": length, "B": candidates}
    row["state kB"] = buffers.state.num_bytes / 1000
    row |= _quantiles("eager", host_us(lambda: _waited(run, buffers), options.seconds))
    if options.device == "cuda":
        replay = captured(run)
        row |= _quantiles("graph", host_us(lambda: _waited(replay, buffers), options.seconds))
        row |= _quantiles("device", device_us(replay, options.seconds))
    return row


def _waited(run: Callable[[], None], buffers: Buffers) -> None:
    run()
    buffers.fetch()


def _quantiles(what: str, found: dict[str, float]) -> dict[str, float]:
    return {f"{what} {name}": us for name, us in found.items()}


def _model(name: str, length: int, inputs: Inputs) -> CtrModel:
    manifest = inputs.artifact.manifest
    schema = replace(inputs.schema, history_length=length)
    fields = inputs.model().frame.get_submodule("items").get_buffer("item_fields")  # type: ignore[union-attr]
    known = manifest.config
    config = known if name == manifest.model else {key: known[key] for key in DIN_OPTIONS}
    return build_model(name, schema, fields, config).eval().requires_grad_(False)


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
    return {**state, **{name: request[name] for name in ("recent", "context_fields", "items")}}
