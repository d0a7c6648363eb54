"""The random generators a script draws from: python's, numpy's, torch's for CPU and each GPU."""

from __future__ import annotations

import random
import struct
import sys
from array import array
from collections.abc import Mapping
from typing import Any

import torch

from remora.core.tensors import tensor_bytes

States = dict[str, bytes]
_NUMPY = struct.Struct("<iid")


def capture() -> States:
    """Where each generator stands. GPUs only where the program uses them."""
    states = {"python": _python(), **capture_torch()}
    if (numpy := _numpy_state()) is not None:
        states["numpy"] = numpy
    return states


def capture_torch() -> States:
    """Where torch's generators stand: those that a forward draws from."""
    states = {"torch": bytes(tensor_bytes(torch.get_rng_state()))}
    if torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            states[f"cuda:{index}"] = bytes(tensor_bytes(torch.cuda.get_rng_state(index)))
    return states


def apply(states: Mapping[str, bytes]) -> None:
    """Put generators where ``states`` says; those it does not name stay."""
    for name, state in states.items():
        if name == "python":
            _set_python(state)
        elif name == "numpy":
            _set_numpy(state)
        elif name == "torch":
            torch.set_rng_state(_as_tensor(state))
        else:
            torch.cuda.set_rng_state(_as_tensor(state), int(name.partition(":")[2]))


def _as_tensor(state: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


def _python() -> bytes:
    version, words, gauss = random.getstate()
    flag = 0 if gauss is None else 1
    return struct.pack("<iid", version, flag, gauss or 0.0) + array("I", words).tobytes()


def _set_python(state: bytes) -> None:
    version, flag, gauss = struct.unpack_from("<iid", state)
    words = array("I")
    words.frombytes(state[struct.calcsize("<iid") :])
    random.setstate((version, tuple(words), gauss if flag else None))


def _numpy_state() -> bytes | None:
    numpy = sys.modules.get("numpy.random")
    state: Any = numpy.get_state(legacy=False) if numpy is not None else None
    if state is None or state["bit_generator"] != "MT19937":
        return None
    inner = state["state"]
    head = _NUMPY.pack(inner["pos"], state["has_gauss"], state["gauss"])
    return head + bytes(inner["key"].astype("<u4").tobytes())


def _set_numpy(state: bytes) -> None:
    import numpy as np

    position, has_gauss, gauss = _NUMPY.unpack_from(state)
    key = np.frombuffer(state[_NUMPY.size :], dtype="<u4")
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))
