"""The state of every global random number generator, as small tensors; and putting it back."""

from __future__ import annotations

import random
from typing import Any, Protocol

import numpy as np
import torch

from remora.core.errors import CheckpointDamaged

_MERSENNE_WORDS = 624


class CudaRng(Protocol):
    """What is asked of ``torch.cuda``."""

    def is_initialized(self) -> bool: ...
    def device_count(self) -> int: ...
    def get_rng_state_all(self) -> list[torch.Tensor]: ...
    def set_rng_state(self, new_state: torch.Tensor, device: int) -> None: ...
    def is_available(self) -> bool: ...


def capture_rng(cuda: CudaRng | None = torch.cuda) -> dict[str, Any]:
    """Python's, numpy's legacy global, torch's on the CPU, and every CUDA device's.

    ``cuda`` None leaves the devices out, as does a process that has not touched CUDA yet: its
    generators have no state before.
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {
            "version": version,
            "words": torch.from_numpy(np.array(words, np.uint32)),
            "gauss": gauss,
        },
        "numpy": _with_tensors(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
    }
    if cuda is not None and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    return state


def _with_tensors(state: Any) -> Any:
    """Tensors for arrays, as other formats want them."""
    if isinstance(state, dict):
        return {name: _with_tensors(value) for name, value in state.items()}
    return torch.from_numpy(state) if isinstance(state, np.ndarray) else state


def _with_arrays(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _with_arrays(value) for name, value in state.items()}
    return state.numpy() if isinstance(state, torch.Tensor) else state


def restore_rng(
    state: dict[str, Any],
    cuda: CudaRng | None = torch.cuda,
) -> list[str]:
    """Put all of them back; what cannot be, for want of devices, is returned as remarks.

    Raises:
        CheckpointDamaged: ``state`` is not one that :func:`capture_rng` gave.
    """
    try:
        if "python" in state:
            _restore_python(state["python"])
        if "numpy" in state:
            _restore_numpy(state["numpy"])
        if "torch" in state:
            torch.set_rng_state(state["torch"].cpu())
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointDamaged(f"no state of a random number generator: {error}") from None
    return _restore_cuda(state.get("cuda", []), cuda)


def _restore_python(state: dict[str, Any]) -> None:
    words = tuple(int(word) for word in np.asarray(state["words"]))
    random.setstate((state["version"], words, state["gauss"]))


def _restore_numpy(state: dict[str, Any]) -> None:
    """After a look at what numpy believes unseen: a position past the words reads past them."""
    if state["bit_generator"] == "MT19937":
        key, position = np.asarray(state["state"]["key"]), int(state["state"]["pos"])
        if key.shape != (_MERSENNE_WORDS,) or not 0 <= position <= _MERSENNE_WORDS:
            raise ValueError(f"numpy's: {key.shape} words, at {position}")
    np.random.set_state(_with_arrays(state))


def _restore_cuda(states: list[torch.Tensor], cuda: CudaRng | None) -> list[str]:
    """By device index. More states than devices is a job that moved to a smaller machine."""
    if cuda is None or not states:
        return []
    here = cuda.device_count() if cuda.is_available() else 0
    for index, state in enumerate(states[:here]):
        cuda.set_rng_state(state.cpu(), index)
    if len(states) == here:
        return []
    return [f"random numbers of {len(states)} CUDA devices are in the checkpoint, {here} are here"]
