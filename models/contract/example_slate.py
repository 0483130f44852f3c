"""A real slate of the log, in raw ids and values: what a request of this model looks like. No model reads it.

The demo and the load generator send it. An artifact has one where the log knows the candidates of its requests.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from models.contract.strict_json import read_json

EXAMPLE_SLATE = "example_slate.json"


@dataclass(frozen=True)
class ExampleSlate:
    """The candidates of one request.

    Attributes:
        candidates: raw item ids.
        fields: candidate field -> raw value of each candidate; None: training has not seen it.
    """

    candidates: Sequence[str]
    fields: Mapping[str, Sequence[str | None]]

    def __post_init__(self) -> None:
        for name, values in self.fields.items():
            if len(values) != len(self.candidates):
                raise ValueError(
                    f"example slate, {name}: got {len(values)} values, expected one for each of "
                    f"{len(self.candidates)} candidates"
                )

    def to_bytes(self) -> bytes:
        """Content of the file."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "ExampleSlate":
        """Inverse of `to_bytes`.

        Raises:
            ValueError: a field does not have one value for each candidate.
        """
        return cls(**read_json(raw))
