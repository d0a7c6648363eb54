"""Where a model's graphs come from: here, captured from the module that the program holds."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from remora.core.errors import CannotCapture
from remora.remote.client.placed import Placed
from remora.remote.client.watch import Watch
from remora.remote.graph.call import Call
from remora.remote.graph.capture import capture, varying
from remora.remote.graph.decoder import capture_decoder
from remora.remote.wire.channel import Channel

MOST_SIZES = 16
"""How often one kind of call is captured, of a model that has a graph of its own for each size."""


class OnServer(Protocol):
    """A graph that any connection can be asked to run."""

    def name_over(self, channel: Channel) -> str:
        """Its name for requests over ``channel``, there from here on."""
        ...

    def whole(self, tensors: Sequence[torch.Tensor]) -> Any:
        """What the model returns, made of the ``tensors`` that came back."""
        ...

    def line(self, node: int) -> str:
        """The line of the model's code that a node comes from; empty where nobody knows."""
        ...


class Listens(OnServer, Protocol):
    """What makes a decoder's context out of sound."""

    @property
    def context(self) -> int:
        """How many tensors that is, once it is on a server."""
        ...


class Graphs(Protocol):
    """The graphs of one model."""

    name: str
    """Of the model, for messages."""

    def graph(self, call: Call, tensors: Sequence[torch.Tensor]) -> OnServer:
        """The one that answers this kind of call, if the model is what it was."""
        ...

    def holds(self, graph: OnServer) -> bool:
        """Whether ``graph`` is still one of the model, which may have changed since."""
        ...

    def decoding(self, channel: Channel) -> OnServer:
        """The step of a language model."""
        ...

    def listening(self) -> Listens | None:
        """What makes a decoder's context out of sound, where it has one; after that."""
        ...


class CapturedHere:
    """Each kind of call (its constants, dtypes and fixed sizes) is captured once. Thread-safe."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.name = type(module).__name__
        self.module = module
        self.decoder: Placed | None = None
        self._listening: Placed | None = None
        self._graphs: dict[object, list[Placed]] = {}
        """For each kind of call one, or one for each of the sizes that the model fixes."""
        self._watch = Watch(module)
        self._guard = threading.Lock()

    def graph(self, call: Call, tensors: Sequence[torch.Tensor]) -> OnServer:
        kind = kind_of(call, tensors)
        with self._guard:
            captured = self._graphs.setdefault(kind, [])
            graph = next((one for one in captured if one.takes(tensors)), None)
            if graph is None:
                graph = self._captured(call, tensors, len(captured))
                captured.append(graph)
            return graph

    def _captured(self, call: Call, tensors: Sequence[torch.Tensor], sizes: int) -> Placed:
        if sizes >= MOST_SIZES:
            raise CannotCapture(
                f"{self.name} decides by the sizes of its inputs, and was captured for {sizes} of "
                "them; pad inputs to fewer sizes, or use server.device().put(model), which runs it "
                "operator by operator"
            )
        args, kwargs = call.made_of([example_of(tensor) for tensor in tensors])
        graph = Placed(capture(self.module, args, kwargs))
        if graph.takes(tensors):
            return graph
        args, kwargs = call.made_of(tensors)  # it fixes a size of which the example had another
        return Placed(capture(self.module, args, kwargs))

    def decoding(self, channel: Channel) -> OnServer:
        self._look()
        with self._guard:
            if self.decoder is None:
                decoder = capture_decoder(self.module)
                self.decoder = Placed(decoder.captured, decoder=True, positions=decoder.positions)
                if decoder.listening is not None:
                    self._listening = Placed(decoder.listening)
            return self.decoder

    def listening(self) -> Listens | None:
        return self._listening

    def holds(self, graph: OnServer) -> bool:
        self._look()
        return any(graph is one for captured in tuple(self._graphs.values()) for one in captured)

    def _look(self) -> None:
        """Graphs hold the weights as they were captured; of changed ones none is kept."""
        if self._watch.sees_a_change():
            with self._guard:
                self._watch, self.decoder = Watch(self.module), None
                self._graphs.clear()


def kind_of(call: Call, tensors: Sequence[torch.Tensor]) -> object:
    """Equal for calls that one graph answers."""
    return (call, tuple([(tensor.dtype, dims_of(tensor)) for tensor in tensors]))


def dims_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Its shape, with -1 for what may vary."""
    varied = varying(tensor) or {}
    return tuple(-1 if dim in varied else size for dim, size in enumerate(tensor.shape))


def example_of(tensor: torch.Tensor) -> torch.Tensor:
    """Like ``tensor``, with 2 or more wherever its size may vary: 1 would be taken for fixed."""
    for dim in varying(tensor) or {}:
        if tensor.shape[dim] < 2:
            shape = [*tensor.shape]
            shape[dim] = 2
            tensor = tensor.expand(shape) if tensor.shape[dim] else tensor.new_zeros(shape)
    return tensor.contiguous()
