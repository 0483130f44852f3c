"""Checks the records and base histories of a batch before they are sent: as strict as reading each, and much faster.

`decode_record` spends most of its time on arrays that a publish does not need. Here the headers, sizes and checksums of
all are compared first, then the floats of all records at once. Whatever is unusual goes to `decode_record` and
`decode_history`, which raise the error that names what is wrong.
"""

from collections.abc import Sequence

from builder.errors import PublishError
from models.contract.errors import RecordError
from models.contract.record import decode_record
from models.contract.record_check import RecordCheck
from models.contract.state_spec import StateSpec
from models.live.history import decode_history, is_history

Entry = tuple[str, bytes, bytes | None]
"""User id, encoded record, and encoded base history, if states are to follow events."""


class Checker:
    """Checks batches of one artifact's records."""

    def __init__(self, spec: StateSpec, artifact_id: str) -> None:
        self._spec, self._artifact_id = spec, artifact_id
        self._records = RecordCheck(spec, artifact_id)

    def check(self, batch: Sequence[Entry]) -> None:
        """Check every record and base history.

        Raises:
            PublishError: a value is not a record or a base history of its user and of the artifact.
        """
        is_right = self._records.are_right([(user_id, raw) for user_id, raw, _ in batch]) and all(
            history is None or is_history(history, self._artifact_id, user_id)
            for user_id, _, history in batch
        )
        for user_id, raw, history in () if is_right else batch:
            try:
                decode_record(raw, self._spec, self._artifact_id, user_id)
                if history is not None:
                    decode_history(history, self._artifact_id, user_id)
            except RecordError as error:
                raise PublishError(f"user {user_id!r}: {error}") from error
