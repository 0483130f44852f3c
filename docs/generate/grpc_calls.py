"""Reference of the gRPC service, from its protocol file."""

import re
from pathlib import Path

from docs.generate.markdown import code, table
from service.status import GRPC_CODES

PROTOCOL = Path(__file__).parents[2] / "service" / "v2" / "inference.proto"
CALL = re.compile(r"^\s*rpc (\w+)\((\w+)\) returns \((\w+)\);", re.M)
INTRODUCTION = """# gRPC

Service `inference.GRPCInferenceService` of the Open Inference Protocol V2, on `ABSORB_GRPC_PORT` (needs the
extra `grpc`). Works with `tritonclient[grpc]` as it is. It answers from the same code as [V2 over HTTP](v2.md):
same tensors, same errors. The deadline of the call is the request's timeout. A key goes into the metadata
`x-api-key` or `authorization`. Calls of the protocol that are not in this table (streams, shared memory,
tracing) answer `UNIMPLEMENTED`.

Errors have the text of HTTP, a code (below), and the metadata `x-request-id`. Where HTTP has `Retry-After`, they have
`retry-after` in seconds, and `grpc-retry-pushback-ms`, which clients with a retry policy obey. The label `code` of
the metrics is the HTTP status.

This page is generated from `service/v2/inference.proto`.

"""


def calls() -> list[tuple[str, str, str]]:
    """Name, request and answer of every call."""
    return CALL.findall(PROTOCOL.read_text())


def page() -> str:
    """The page, as Markdown."""
    rows = [(code(name), code(request), code(answer)) for name, request, answer in calls()]
    codes = [(str(status), code(name)) for status, name in GRPC_CODES.items()]
    listing = f"\n## Protocol file\n\n```proto\n{PROTOCOL.read_text()}```\n"
    calls_table = table(["call", "request", "answer"], rows)
    codes_table = table(["HTTP status", "gRPC code"], codes)
    return f"{INTRODUCTION}{calls_table}\n## Codes\n\n{codes_table}{listing}"
