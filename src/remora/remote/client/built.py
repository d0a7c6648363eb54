"""A model that the server builds and captures itself: its program need not have it at all."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from remora.core.errors import BadValue
from remora.remote.client.graphs import Listens, OnServer, example_of, kind_of
from remora.remote.client.over_each import OverEach
from remora.remote.client.placed import upload
from remora.remote.graph.call import HERE, Call, Flat
from remora.remote.graph.capture import varying
from remora.remote.graph.digest import digest_of
from remora.remote.graph.layout import whole
from remora.remote.messages import Given, Prepare, Prepared, Recipe
from remora.remote.wire.channel import Channel
from remora.remote.wire.tensors import NAME_OF


class Plans:
    """What a model is made of: how it is built, and its weights."""

    def __init__(self, recipe: Recipe, weights: Mapping[str, torch.Tensor]) -> None:
        self.recipe = recipe
        self.names = tuple(weights)
        self.digests = tuple(digest_of(tensor) for tensor in weights.values())
        self.tensors = dict(zip(self.digests, weights.values(), strict=True))

    def prepared(self, channel: Channel, **options: Any) -> Prepared:
        """One kind of call of it, ready on the server."""
        upload(channel, self.tensors)
        asked = Prepare(self.recipe, self.names, self.digests, **options)
        prepared: Prepared = channel.call(asked).message
        return prepared


class BuiltThere:
    """One kind of call of a model that a server builds. Thread-safe."""

    def __init__(self, plans: Plans, **options: Any) -> None:
        self._plans, self._options = plans, options
        self._prepared = Prepared("")
        """As one server said it; but for its names all say the same."""
        self._prepared_over = OverEach(self._prepare)

    def name_over(self, channel: Channel) -> str:
        """As :meth:`OnServer.name_over`."""
        return self.prepared(channel).model

    def prepared(self, channel: Channel) -> Prepared:
        """What the server says of it, built over ``channel`` where it is not yet."""
        return self._prepared_over.over(channel)

    def _prepare(self, channel: Channel) -> Prepared:
        self._prepared = self._plans.prepared(channel, **self._options)
        return self._prepared

    def whole(self, tensors: Sequence[torch.Tensor]) -> Any:
        """As :meth:`OnServer.whole`."""
        return whole(self._prepared.layout, iter(tensors))

    def line(self, node: int) -> str:
        """As :meth:`OnServer.line`."""
        lines = self._prepared.lines
        return lines[node] if node < len(lines) else ""


class _Hearing(BuiltThere):
    """What makes the context of ``decoder`` out of sound; it comes with it."""

    def __init__(self, plans: Plans, decoder: BuiltThere) -> None:
        super().__init__(plans)
        self._decoder, self.context = decoder, 0

    def name_over(self, channel: Channel) -> str:
        prepared = self._decoder.prepared(channel)
        self.context = prepared.context
        return prepared.listening


class Built:
    """The graphs of a model that a server builds."""

    def __init__(self, recipe: Recipe, weights: Mapping[str, torch.Tensor]) -> None:
        self.name = recipe.name
        self._plans = Plans(recipe, weights)
        self._graphs: dict[object, BuiltThere] = {}
        self._decoder = BuiltThere(self._plans, decoder=True)
        self._hears: Listens | None = None
        self._guard = threading.Lock()

    def graph(self, call: Call, tensors: Sequence[torch.Tensor]) -> OnServer:
        """As :meth:`Graphs.graph`.

        Raises:
            BadValue: an argument that is neither a tensor nor a constant.
        """
        kind = kind_of(call, tensors)
        with self._guard:
            if kind not in self._graphs:
                self._graphs[kind] = BuiltThere(self._plans, given=_given(call, tensors))
            return self._graphs[kind]

    def holds(self, graph: OnServer) -> bool:
        """As :meth:`Graphs.holds`: it is what it was built as."""
        return True

    def decoding(self, channel: Channel) -> OnServer:
        """As :meth:`Graphs.decoding`."""
        if self._decoder.prepared(channel).listening:
            self._hears = _Hearing(self._plans, self._decoder)
        return self._decoder

    def listening(self) -> Listens | None:
        """As :meth:`Graphs.listening`."""
        return self._hears


def recipe_of(builder: str, name: str, config: Any) -> Recipe:
    """``config``: a mapping of plain data, or an object with ``to_dict()`` that gives one.

    Raises:
        BadValue: it is none.
    """
    given = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    try:
        return Recipe(builder, name, msgspec.json.encode(given).decode())
    except TypeError as error:
        raise BadValue(f"the config of {name} holds what is no plain data: {error}") from error


def weights_of(weights: Mapping[str, torch.Tensor] | Path | str) -> Mapping[str, torch.Tensor]:
    """Tensors by name: as they are, or those of a .safetensors file or of a folder of them.

    Raises:
        BadValue: there is no such file, or it is damaged.
    """
    if isinstance(weights, Mapping):
        return weights
    path = Path(weights)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise BadValue(f"the folder {path} holds no .safetensors file")
    try:
        return {name: tensor for file in files for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise BadValue(f"weights {path} cannot be read: {error}") from error


def _given(call: Call, tensors: Sequence[torch.Tensor]) -> tuple[Given, ...]:
    rest = iter(tensors)
    if not isinstance(call.spec, Flat):
        raise BadValue(
            "a model that the server builds takes tensors and constants, and no lists or dicts of "
            "them; load() a model of your own instead"
        )
    names = [*[""] * call.spec.positional, *call.spec.names]
    return tuple(
        _tensor(name, next(rest)) if leaf is HERE else _constant(name, leaf)
        for name, leaf in zip(names, call.constants, strict=True)
    )


def _tensor(name: str, tensor: torch.Tensor) -> Given:
    shape, varied = example_of(tensor).shape, varying(tensor) or {}
    return Given(name, NAME_OF[tensor.dtype], tuple(shape), tuple(varied))


def _constant(name: str, constant: Any) -> Given:
    if constant is not None and not isinstance(constant, bool | int | float | str):
        raise BadValue(
            f"argument {name or 'by place'} is a {type(constant).__name__}; a model that the "
            "server builds takes tensors, numbers and texts"
        )
    return Given(name, constant=constant)
