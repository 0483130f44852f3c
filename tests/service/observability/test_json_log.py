"""Lines of the log, as a program reads them."""

import json
import logging
import re
import subprocess
import sys

from service.observability.json_log import JsonFormatter
from service.observability.request_context import CURRENT, RequestContext


def test_a_log_line_is_one_json_object_with_its_fields():
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.getLogger("service").makeRecord(
            "service",
            logging.ERROR,
            __file__,
            1,
            "it %s",
            ("broke",),
            sys.exc_info(),
            extra={"model": "toy", "users": 3},
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert {"level", "logger", "message", "model", "users", "time", "exception"} == set(fields)
    assert (fields["message"], fields["model"], fields["users"]) == ("it broke", "toy", 3)
    assert "ValueError: why" in fields["exception"]


def test_a_line_has_the_time_in_utc_and_the_ids_of_its_request():
    record = logging.makeLogRecord({"msg": "x", "created": 1_500_000_000.0425, "msecs": 42.5})
    token = CURRENT.set(RequestContext("request-1", trace_id="a" * 32))
    try:
        fields = json.loads(JsonFormatter().format(record))
    finally:
        CURRENT.reset(token)
    assert fields["time"] == "2017-07-14T02:40:00.042Z"
    assert (fields["request_id"], fields["trace_id"]) == ("request-1", "a" * 32)


def test_values_that_json_does_not_know_are_written_as_text():
    record = logging.makeLogRecord({"msg": "x", "pattern": re.compile("a"), "count": None})
    fields = json.loads(JsonFormatter().format(record))
    assert (fields["pattern"], fields["count"]) == ("re.compile('a')", None)


def test_every_line_of_a_process_is_json_and_warnings_of_numpy_are():
    script = (
        "import logging, warnings, numpy as np; from service.observability.json_log import log_as_json\n"
        "log_as_json('INFO'); logging.getLogger('service').info('begun'); np.float32(3e38) * np.float32(9)\n"
        "np.zeros(1) / np.zeros(1); warnings.warn('two\\nlines', stacklevel=1)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["service", *["py.warnings"] * 3]
    assert [line["level"] for line in lines[1:]] == ["WARNING"] * 3
    assert "RuntimeWarning: overflow encountered" in lines[1]["message"]
    assert "invalid value encountered in divide" in lines[2]["message"]
    assert "two\nlines" in lines[3]["message"]
