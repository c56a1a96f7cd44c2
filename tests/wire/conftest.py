"""The real protobuf library's view of our `.proto`, for the tests of this folder."""

import subprocess
import sys
from importlib.resources import files

import pytest


@pytest.fixture(scope="session")
def proto(tmp_path_factory):
    """The message class of a packet, made by the protobuf library from our `.proto`."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool")
    message_factory = pytest.importorskip("google.protobuf.message_factory")
    folder = files("umbel.wire")
    target = tmp_path_factory.mktemp("proto") / "umbel.desc"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={target}", "umbel.proto"],
        check=True,
        timeout=60,
    )
    described = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("umbel.v1.Packet"))
