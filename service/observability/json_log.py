"""The log format: one JSON object per line, to stderr."""

import logging
import time
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from service.observability.request_context import CURRENT

FIELDS = ("asctime", "levelname", "name", "message")
NAMES = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}
"""Python's name of a field -> name in the line."""
NOT_LOGGED = (*RESERVED_ATTRS, "color_message")
"""Attributes of a record that are no fields of the line; `color_message` is uvicorn's."""


class JsonFormatter(OrjsonFormatter):
    """Time, level, logger, message, ids of the current request, and everything that was passed as `extra`."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(FIELDS, rename_fields=NAMES, reserved_attrs=NOT_LOGGED, json_default=str)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Add the ids of the request that is being answered, if there is one."""
        return {**_request_ids(), **log_data}


def _request_ids() -> dict[str, str]:
    request = CURRENT.get()
    if request is None:
        return {}
    trace = {} if request.trace_id is None else {"trace_id": request.trace_id}
    return {"request_id": request.request_id, **trace}


def log_as_json(level: str) -> None:
    """Log everything from `level` on as JSON lines to stderr, warnings of Python and numpy too.

    Only the process's entry point calls this.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
