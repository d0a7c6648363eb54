"""Builders of models by name: code that this server has already, fed with a config that is data."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import torch

from remora.core.errors import BadValue, Refused, Unavailable
from remora.core.plugins import Registry
from remora.core.units import format_bytes

Config = Mapping[str, Any]
Builder = Callable[[str, Config], torch.nn.Module]
"""Makes the module called so. Its weights are the caller's: they need not be filled.

Raises ``RemoraError`` for a name that it has not, or a config that it does not take.
"""

GROUP = "remora.builders"
"""Entry points by which installed packages add builders."""

LONGEST_S = 30.0
_MOST_PARAMETERS = 1_000_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_NOT_TAKEN = frozenset({"auto_map", "quantization_config", "custom_pipelines", "trust_remote_code"})
"""Keys of a config by which code or files from elsewhere would come in."""


def transformers_model(name: str, config: Config) -> torch.nn.Module:
    """A model class of transformers, such as ``GPT2LMHeadModel``, of a config of its own class.

    Raises:
        Unavailable: transformers is not installed.
        BadValue: no such class, or a config that is not its own.
    """
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise Unavailable(
            "this server has no transformers; run there: pip install 'remora[models]'"
        ) from None
    kind = getattr(transformers, name, None) if _NAME.fullmatch(name) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise BadValue(
            f"{name[:100]!r} is no model class of transformers {transformers.__version__}"
        )
    made: Any = kind
    model: torch.nn.Module = made(made.config_class.from_dict(_plain(config)))
    return model


def registry(others: Mapping[str, Builder]) -> Registry[Builder]:
    """A server's builders: that of transformers, ``others``, and those of installed packages."""
    return Registry("builder", GROUP, {"transformers": transformers_model, **others}, _accept)


def built(builder: Builder, name: str, config: Config, most_bytes: int) -> torch.nn.Module:
    """The module in eval mode, its parameters on the meta device, its buffers as they were made.

    It is built twice: first with nothing in memory, to see how large it is.

    Raises:
        Refused: it takes more than ``most_bytes``, or the builder cannot make it.
    """
    try:
        with _BUILDING:
            with torch.device("meta"), _parameters_elsewhere():
                _check_size(builder(name, config), most_bytes)
            with _parameters_elsewhere():
                return builder(name, config).eval()
    except (Refused, BadValue, Unavailable):
        raise
    except Exception as error:  # of any kind: a config may ask for anything
        raise Refused(
            f"{name[:100]} cannot be built from this config: {type(error).__name__}: "
            f"{str(error)[:300]}"
        ) from error


_BUILDING = threading.Lock()
"""Whoever builds has changed how modules register their parameters."""


@contextlib.contextmanager
def _parameters_elsewhere() -> Iterator[None]:
    """Parameters of modules that are built lie on the meta device, where they take no memory."""
    here, counted = torch.nn.Module.register_parameter, 0
    until = time.monotonic() + LONGEST_S

    def register(module: torch.nn.Module, name: str, parameter: Any) -> None:
        nonlocal counted
        counted += 1
        if counted > _MOST_PARAMETERS or time.monotonic() > until:
            raise Refused(f"a model that takes more than {LONGEST_S:g} s to build is not built")
        if parameter is not None:
            parameter = torch.nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        here(module, name, parameter)

    torch.nn.Module.register_parameter = register  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = here  # type: ignore[method-assign]


def _check_size(module: torch.nn.Module, most_bytes: int) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    size = sum(tensor.nbytes for tensor in tensors)
    if size > most_bytes:
        raise Refused(
            f"{type(module).__name__} takes {format_bytes(size)} of weights; this server gives "
            f"{format_bytes(most_bytes)} (--weights)"
        )


def _plain(config: Config) -> dict[str, Any]:
    """Without what is private to transformers, and what it would look for elsewhere."""
    for key in config:
        if key in _NOT_TAKEN:
            raise BadValue(
                f"a config with {key!r} is not taken: it brings code or files of its own"
            )
    return {
        key: _plain(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not key.startswith("_") and key != "attn_implementation"
    }


def _accept(name: str, loaded: object) -> Builder:
    if not callable(loaded):
        raise BadValue(f"the entry point {name!r} is no function")
    return loaded
