"""The protocol's file: the stubs are made of it, and its numbers are those that other people's clients were made of."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

ROOT = Path(__file__).parents[3]
PROTO = "service/v2/inference.proto"
Line = tuple[object, ...]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--descriptor_set_out={out / 'set'}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, PROTO]
    subprocess.run(command, cwd=ROOT, check=True)
    return out


@pytest.mark.parametrize("suffix", ["_pb2.py", "_pb2.pyi"])
def test_the_stubs_are_those_of_the_protocols_file(suffix: str, compiled: Path):
    name = PROTO.removesuffix(".proto") + suffix
    made, there = (compiled / name).read_text(), (ROOT / name).read_text()
    assert there == made, "the protocol's file was changed: run `make stubs`"


def test_names_and_numbers_are_the_protocols(compiled: Path):
    # Read as plain messages: both files name the same symbols, which one pool of descriptors refuses.
    ours = FileDescriptorSet.FromString((compiled / "set").read_bytes()).file[0]
    parsed = (FileDescriptorProto.FromString(one.DESCRIPTOR.serialized_pb) for one in _THEIRS)
    theirs = {line for one in parsed for line in _lines(one)}
    said = set(_lines(ours))
    assert len(said) > 150
    assert said - theirs == set()


_THEIRS = (service_pb2, model_config_pb2)


def _lines(file: FileDescriptorProto) -> Iterator[Line]:
    """Whatever is on the wire: fields with their numbers, values of enumerations, calls."""
    yield from _fields("", file.message_type)
    for one in file.enum_type:
        yield from ((one.name, value.name, value.number) for value in one.value)
    for service in file.service:
        for call in service.method:
            name = f"/{file.package}.{service.name}/{call.name}"
            yield (name, call.input_type, call.output_type)


def _fields(within: str, messages: Iterable[DescriptorProto]) -> Iterator[Line]:
    for message in messages:
        name = f"{within}.{message.name}"
        for one in message.field:
            yield (name, one.name, one.number, one.label, one.type, one.type_name)
        yield from _fields(name, message.nested_type)
