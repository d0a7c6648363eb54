"""Threads and chunk tried out on the storage that is to be written."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest
import torch

from remora.checkpoint.checkpointer import Checkpointer
from remora.checkpoint.policy import pick
from remora.checkpoint.policy.probe import MIB
from remora.checkpoint.policy.records import Setting
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.checkpoint.storage.local import LocalStorage
from remora.checkpoint.storage.memory import MemoryStorage
from remora.checkpoint.storage.wrapped import WrappedFile, WrappedStorage
from remora.checkpoint.tuning import tune, tuned_words
from remora.core.errors import BadValue

FEW = (Setting(1, 4 * MIB), Setting(2, 4 * MIB), Setting(4, 4 * MIB))


class _SlowFile(WrappedFile):
    """Each write takes 20 ms, and as many go on at once as there are lanes."""

    def __init__(self, inner: StorageFile, lanes: threading.Semaphore) -> None:
        super().__init__(inner)
        self._lanes = lanes

    def pwrite(self, data: memoryview, offset: int) -> None:
        with self._lanes:
            time.sleep(0.02)


class _Lanes(WrappedStorage):
    def __init__(self, inner: Storage, lanes: int) -> None:
        super().__init__(inner)
        self._lanes = threading.Semaphore(lanes)

    def open(self, name: str, *, create: bool = False, direct: bool = False) -> StorageFile:
        return _SlowFile(self.inner.open(name, create=create, direct=direct), self._lanes)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2])
def test_as_many_threads_as_help(lanes: int) -> None:
    storage = MemoryStorage()
    probed = tune(_Lanes(storage, lanes), settings=FEW)
    assert pick(probed, within=0.2).threads == lanes
    assert storage.names() == []


def test_it_says_what_it_found(tmp_path: Path) -> None:
    probed = tune(LocalStorage(tmp_path), settings=FEW[:1])
    words = tuned_words(probed, FEW[0])
    assert words.startswith("storage takes ")
    assert words.endswith("/s here; 1 thread writing chunks of 4.0 MiB reach that")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("slot-")]


def test_auto_tries_out_before_the_first_save(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Checkpointer(tmp_path, every=1, threads="auto") as saver:
        saver.track(values={"t": torch.ones(10)})
        assert saver.save(1)
        saver.wait()
        assert saver.counters.stall_ns[0] < 1e9  # trying out is no stall
        assert saver.save(2)
    assert capsys.readouterr().err.count("storage takes") == 1


def test_where_trying_out_fails_the_save_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("remora.checkpoint.checkpointer.tune", full)
    with Checkpointer(tmp_path, every=1, threads="auto") as saver:
        saver.track(values={"t": torch.ones(10)})
        assert saver.save(1)
    assert "storage takes" not in capsys.readouterr().err


@pytest.mark.parametrize("threads", [0, "many"])
def test_what_is_no_number_of_threads(tmp_path: Path, threads: object) -> None:
    with pytest.raises(BadValue, match="choose 1 or more, or 'auto'"):
        Checkpointer(tmp_path, threads=threads)  # type: ignore[arg-type]
