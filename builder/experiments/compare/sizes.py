"""Bytes of users' records for each row of a comparison: measured with untrained models, and kept beside the trainings.

A record's size hardly depends on the weights (`evaluate/record_sizes.py`), so nothing is trained, exported or timed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from builder.evaluate.record_sizes import RecordSizes, measure_record_sizes
from builder.experiments.compare.cost import cost_key
from builder.experiments.compare.table import Comparison, Row
from builder.ingest.events import Events
from builder.progress import Progress, silent
from models.registry import build_model

FILE = "sizes.json"
"""Beside the trainings of a comparison."""


def with_sizes(
    comparison: Comparison, events: Events, folder: Path, progress: Progress = silent
) -> Comparison:
    """The same, each row with the sizes of its records; measured once for a served graph and a log.

    Args:
        comparison: its rows and sweeps.
        events: the log; its schema, catalogue and users are the models'.
        folder: where the sizes are kept.
        progress: called after every row that is measured.
    """
    kept = _kept(events, folder)
    known = dict(kept)
    swept = [row for sweep in comparison.sweeps for _, row in sweep.rows]
    total = len(kept.keys() | {cost_key(r.model, r.length) for r in (*comparison.rows, *swept)})

    def sized(row: Row) -> Row:
        key = cost_key(row.model, row.length)
        if key not in known:
            known[key] = _measure(row, events)
            progress(len(known), total, key)
        return replace(row, sizes=known[key])

    found = replace(
        comparison,
        rows=[sized(row) for row in comparison.rows],
        sweeps=[
            replace(sweep, rows=[(value, sized(row)) for value, row in sweep.rows])
            for sweep in comparison.sweeps
        ],
    )
    if known.keys() != kept.keys():
        stored = {key: asdict(sizes) for key, sizes in known.items()}
        text = json.dumps({"log": _log_key(events), "of": stored}, indent=1)
        (folder / FILE).write_text(text)
    return found


def _kept(events: Events, folder: Path) -> Mapping[str, RecordSizes]:
    place = folder / FILE
    stored = json.loads(place.read_text()) if place.exists() else {}
    if stored.get("log") != _log_key(events):
        return {}
    return {key: RecordSizes(**sizes) for key, sizes in stored["of"].items()}


def _log_key(events: Events) -> str:
    """Differs between logs of the same schema with other events: users' histories have other lengths."""
    clicks = int(events.label.sum())
    return f"{events.schema.fingerprint()}-{len(events.item)}-{events.as_of_s}-{clicks}"


def _measure(row: Row, events: Events) -> RecordSizes:
    own = events.with_length(row.length or events.schema.history_length)
    item_fields = torch.from_numpy(np.array(own.item_fields))
    built = build_model(row.model.name, own.schema, item_fields, row.model.config)
    return measure_record_sizes(built.eval(), own)
