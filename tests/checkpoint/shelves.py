"""A shelf of every kind, each real: memory, files, an S3 server of this machine, a peer."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remora.checkpoint.peer.server import PeerServer

KINDS = ("memory", "file", "s3", "peer")


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty place; skips where the packages for it are absent."""
    name = secrets.token_hex(4)
    match kind:
        case "memory":
            yield f"memory://{name}/run"
        case "file":
            yield (folder / "not" / "there" / "yet").as_uri()
        case "s3":
            with s3_server():
                yield f"s3://bucket-{name}/run"
        case "peer":
            with peer() as server:
                yield f"peer://{server.address}/run"


@contextlib.contextmanager
def peer(memory_bytes: int = 2**26, **options: object) -> Iterator[PeerServer]:
    """A peer in a thread of this process."""
    server = PeerServer("127.0.0.1:0", memory_bytes, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@contextlib.contextmanager
def s3_server() -> Iterator[None]:
    """moto's S3, over HTTP on loopback, where s3fs finds it; any bucket is made when asked for."""
    for package in ("s3fs", "moto", "flask"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install s3fs 'moto[server]'")
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {key: os.environ.get(key) for key in keys}
    os.environ.update(keys)
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}"}
    try:
        yield
    finally:
        del fsspec.config.conf["s3"]
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
        server.stop()


def make_bucket(url: str) -> None:
    """Object stores keep objects in buckets, which somebody made."""
    if url.startswith("s3://"):
        import fsspec

        fs, path = fsspec.core.url_to_fs(url)
        fs.mkdir(path.split("/")[0])
