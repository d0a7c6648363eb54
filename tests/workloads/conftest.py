"""What the tests of workloads share."""

from __future__ import annotations

import pytest

_ASKING = {
    "gpt2": ("train", "forward"),
    "gpt2-medium": ("train", "forward"),
    "gpt2-large": ("train", "forward"),
    "gpt2-xl": ("train", "forward"),
    "gpt2-40m": ("train",),
    "whisper-tiny": ("train", "forward"),
    "whisper-base": ("train", "forward"),
}


@pytest.fixture
def asking() -> frozenset[str]:
    """Workloads whose step waits for the device once.

    Their classes in transformers read a value back from their position ids, to see whether several
    sequences are packed into one.
    """
    return frozenset(f"{model}-{mode}" for model, modes in _ASKING.items() for mode in modes)
