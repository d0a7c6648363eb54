"""Weights from local safetensors files, in place of random ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from remora.core.errors import BadValue


@torch.no_grad()
def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Copy into ``model`` the weights in a ``.safetensors`` file, or in a folder's all files.

    Raises:
        BadValue: a name or shape is not the model's, a weight is missing, or a file is damaged.
    """
    expected = model.state_dict()
    loaded: set[int] = set()
    for file, name, tensor in _stored(path):
        target = expected.get(name)
        if target is None:
            raise BadValue(f"weights {str(file)!r} hold {name!r}, which the model has not")
        if target.shape != tensor.shape:
            raise BadValue(
                f"weights {str(file)!r} hold {name!r} of shape {tuple(tensor.shape)}, "
                f"the model's is {tuple(target.shape)}; choose the scale that was saved"
            )
        target.copy_(tensor)
        loaded.add(target.data_ptr())
    missing = [name for name, tensor in expected.items() if tensor.data_ptr() not in loaded]
    if missing:
        raise BadValue(f"weights {str(path)!r} lack {len(missing)}, the first {missing[0]!r}")


def _stored(path: Path) -> Iterator[tuple[Path, str, torch.Tensor]]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise BadValue(f"weights {str(path)!r} are no .safetensors file and no folder of them")
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  the handle is not a mapping
                    yield file, name, opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise BadValue(f"weights {str(file)!r} cannot be read: {error}") from error
