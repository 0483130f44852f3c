"""Encode graphs of test builds as the folders take them, and windows for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
from numpy.typing import NDArray

from builder.export.session import open_graph, run_graph
from models.contract.artifact import ENCODE, Artifact
from models.contract.schema import UNKNOWN, FeatureSchema
from models.contract.state_spec import Array
from models.live.fold import Encode, Task
from models.live.window import Window

DAY_S = 86_400


def encode_of(artifact: Artifact, name: str = ENCODE) -> Encode:
    session = open_graph(artifact.graph(name))

    def encode(feed: Mapping[str, NDArray[Any]]) -> Sequence[Array]:
        return run_graph(session, dict(feed))

    return encode


@st.composite
def tasks(draw: st.DrawFn, schema: FeatureSchema) -> Task:
    """A window of few or many items, with ties in time, from empty to full, some ages beyond the last bucket."""
    size = draw(st.integers(0, schema.history_length))
    few = draw(st.integers(1, 2 * schema.history_length))
    top = min(UNKNOWN + few, schema.num_items) - 1
    rows = draw(st.lists(st.integers(UNKNOWN, top), min_size=size, max_size=size))
    gaps = draw(
        st.lists(
            st.sampled_from([0, 0, 1, 59, 3600, DAY_S, 40 * DAY_S]), min_size=size, max_size=size
        )
    )
    ts_s = np.cumsum(np.array(gaps, np.int64))
    newest_s = int(ts_s.max(initial=0))
    cut_s = max(0, newest_s + draw(st.sampled_from([-40 * DAY_S, -1, 0, 1, DAY_S, 10_000 * DAY_S])))
    as_of_s = max(cut_s, newest_s)
    fields = [draw(st.integers(UNKNOWN, field.size - 1)) for field in schema.user_fields]
    window = Window(np.array(rows, np.int64), ts_s, cut_s, as_of_s, 0)
    return Task("ann", window, np.array(fields, np.int64), 1)
