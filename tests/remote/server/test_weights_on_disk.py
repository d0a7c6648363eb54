"""Weights in a folder: the next server has them, and a folder that fails harms nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.remote.graph.made import CPU

from remora.core.errors import BadValue, Refused
from remora.remote.client.server import connect
from remora.remote.graph.digest import digest_of
from remora.remote.server import weights_on_disk
from remora.remote.server.server import Server
from remora.remote.server.weights import WeightStore
from remora.remote.server.weights_on_disk import WeightFolder


def made(seed: int, count: int = 100) -> tuple[str, torch.Tensor]:
    tensor = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return digest_of(tensor), tensor


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn]
)
def test_what_was_put_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5).to(dtype)
    WeightFolder(tmp_path / "new").put(digest_of(tensor), tensor)
    back = WeightFolder(tmp_path / "new").get(digest_of(tensor))
    assert back is not None
    assert digest_of(back) == digest_of(tensor)


def test_the_next_server_need_not_be_sent_them(tmp_path: Path) -> None:
    layer, x = torch.nn.Linear(200, 300).eval(), torch.randn(2, 200)
    sent = []
    for _ in range(2):
        with (
            Server("tcp://127.0.0.1:0", weights_folder=tmp_path) as server,
            connect(server.address, share=False) as remote,
            torch.no_grad(),
        ):
            assert torch.equal(remote.load(layer)(x), layer(x))
            sent.append(remote.counted.bytes_sent)
    assert sent[0] > layer.weight.nbytes > 10 * sent[1]


def test_what_had_to_leave_the_memory_comes_back_from_the_folder(tmp_path: Path) -> None:
    store = WeightStore(CPU, 1000, WeightFolder(tmp_path))
    weights = [made(seed) for seed in range(4)]  # of 400 bytes each
    for digest, tensor in weights:
        store.put(digest, tensor)
    assert len(store) == 2
    assert store.lacking([digest for digest, _ in weights]) == ()
    with_both = store.hold([weights[0][0], weights[1][0]])
    assert torch.equal(with_both[weights[1][0]], weights[1][1])
    assert store.lacking([weights[2][0]]) == (weights[2][0],)  # no room while those are held


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: bytes | None) -> None:
    troubles: list[str] = []
    digest, tensor = made(0)
    folder = WeightFolder(tmp_path, troubled=troubles.append)
    folder.put(digest, tensor)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content) if damage is None else damage)

    assert folder.get(digest) is None
    assert not list(tmp_path.iterdir())
    assert "is damaged, and was removed" in troubles[0]
    folder.put(digest, tensor)
    assert torch.equal(folder.get(digest), tensor)  # type: ignore[arg-type]


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: Any, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    layer, x = torch.nn.Linear(20, 30).eval(), torch.randn(2, 20)
    with (
        Server("tcp://127.0.0.1:0", weights_folder=tmp_path) as server,
        connect(server.address, share=False) as remote,
        torch.no_grad(),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(weights_on_disk, "save_file", full)
            with pytest.raises(Refused, match="No space left on device; make room there"):
                remote.load(layer)(x)
        assert not list(tmp_path.iterdir())
        assert remote.counts()["weights_bytes"] == 0
        assert torch.equal(remote.load(layer)(x), layer(x))


def test_the_longest_unused_files_go_first(tmp_path: Path) -> None:
    folder = WeightFolder(tmp_path, limit_bytes=1200)  # each takes 400 and a header
    weights = [made(seed) for seed in range(3)]
    for age, (digest, tensor) in enumerate(weights[:2]):
        folder.put(digest, tensor)
        os.utime(tmp_path / f"{digest}.safetensors", (age, age))
    folder.get(weights[0][0])
    folder.put(*weights[2])
    assert [digest in folder for digest, _ in weights] == [True, False, True]


def test_a_digest_that_is_a_path_reaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"not yours")
    folder = WeightFolder(tmp_path / "weights")
    assert "../secret" not in folder
    assert folder.get("../secret") is None
    assert (tmp_path / "secret.safetensors").exists()


def test_what_an_earlier_server_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 64}.part").write_bytes(b"half")
    WeightFolder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadValue, match="cannot be used"):
        WeightFolder(tmp_path / "file")
