"""A model on a server, called as if it were here."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from remora.core.errors import BadValue, Refused
from remora.remote.client.errors import CallFailed
from remora.remote.client.session import RemoteSession
from remora.remote.graph.call import Call
from remora.remote.graph.capture import Captured, capture, varying
from remora.remote.graph.decoder import capture_decoder
from remora.remote.messages import Profile, Run, Wanted

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer


@dataclass(frozen=True)
class _Graph:
    """A captured graph that the server has."""

    name: str
    captured: Captured


@dataclass(frozen=True)
class _DecoderGraphs:
    step: _Graph
    listening: _Graph | None


class RemoteModel:
    """What ``server.load(model)`` gives: calling it runs ``model`` on the server.

    Each kind of call (its constants, dtypes and fixed sizes) is captured once. Batch sizes, and
    lengths of token sequences, may vary without being captured again.
    """

    def __init__(
        self, server: RemoteServer, model: torch.nn.Module, *, deadline_s: float | None = None
    ) -> None:
        self.server, self.module, self.deadline_s = server, model, deadline_s
        self.profile: Profile | None = None
        """Where the latest profiled call spent its time on the server."""
        self._graphs: dict[object, _Graph] = {}
        self._decoder: _DecoderGraphs | None = None
        self._guard = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What ``model(*args, **kwargs)`` gives, without gradients.

        Raises:
            CannotCapture: the model cannot become a graph; says which operator, which line.
            Refused: an operator does not take these inputs, or they need too much memory.
            ServerLost, DeadlineExceeded: no answer came.
        """
        call, tensors = Call.of(args, kwargs)
        graph = self._graph(call, tensors)
        outputs = self._run(graph, tensors, ())
        return pytree.tree_unflatten(outputs, graph.captured.outputs)

    def wanted(
        self, *wanted: Wanted, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> list[torch.Tensor]:
        """Call it, and have only what is ``wanted`` of each output sent back, in order."""
        call, tensors = Call.of(args, kwargs or {})
        return self._run(self._graph(call, tensors), tensors, wanted)

    def profiled(self, *args: Any, **kwargs: Any) -> tuple[Any, Profile]:
        """As calling it, with where the server spent its time."""
        call, tensors = Call.of(args, kwargs)
        graph = self._graph(call, tensors)
        arrived = self.server.channel.call(
            Run(graph.name, profiled=True), tensors, deadline_s=self.deadline_s
        )
        whole = pytree.tree_unflatten(_returned(graph, arrived.tensors), graph.captured.outputs)
        return whole, arrived.message.profile

    def session(self, heard: torch.Tensor | None = None) -> RemoteSession:
        """A session with a language model: what it has read stays on the server.

        Args:
            heard: sound (1, bands, frames), for a model that writes down what it hears.

        Raises:
            CannotCapture: the model is no language model that keeps keys and values.
            BadValue: it wants to hear something and is given nothing, or the other way round.
        """
        decoder = self._decoder_graphs()
        if (heard is None) != (decoder.listening is None):
            raise BadValue(
                f"{type(self.module).__name__} "
                + (
                    "hears nothing; call session()"
                    if heard is not None
                    else "needs something to hear; call session(input_features)"
                )
            )
        context: Sequence[torch.Tensor] = ()
        if heard is not None and decoder.listening is not None:
            context = self._run(decoder.listening, [heard], ())
        return RemoteSession(
            self.server, decoder.step.name, context=context, deadline_s=self.deadline_s
        )

    # ------------------------------------------------- graphs

    def _graph(self, call: Call, tensors: Sequence[torch.Tensor]) -> _Graph:
        kind = _kind(call, tensors)
        with self._guard:
            graph = self._graphs.get(kind)
            if graph is None:
                args, kwargs = call.made_of([_example(tensor) for tensor in tensors])
                captured = capture(self.module, args, kwargs)
                graph = self._graphs[kind] = _Graph(self.server.put(captured), captured)
            return graph

    def _decoder_graphs(self) -> _DecoderGraphs:
        with self._guard:
            if self._decoder is None:
                decoder, put = capture_decoder(self.module), self.server.put
                step = put(decoder.captured, decoder=True, positions=decoder.positions)
                listening = decoder.listening
                self._decoder = _DecoderGraphs(
                    _Graph(step, decoder.captured),
                    None if listening is None else _Graph(put(listening), listening),
                )
            return self._decoder

    def _run(
        self, graph: _Graph, tensors: Sequence[torch.Tensor], wanted: tuple[Wanted, ...]
    ) -> list[Any]:
        try:
            arrived = self.server.channel.call(
                Run(graph.name, wanted=wanted), tensors, deadline_s=self.deadline_s
            )
        except CallFailed as error:
            raise Refused(_where(error, graph.captured)) from error
        return arrived.tensors if wanted else _returned(graph, arrived.tensors)


def _kind(call: Call, tensors: Sequence[torch.Tensor]) -> object:
    """Equal for calls that one graph answers."""
    dims = tuple(
        (tensor.dtype, *(-1 if dim in varied else size for dim, size in enumerate(tensor.shape)))
        for tensor in tensors
        for varied in (varying(tensor) or {},)
    )
    return (call.spec, call.constants, dims)


def _example(tensor: torch.Tensor) -> torch.Tensor:
    """Like ``tensor``, with 2 or more wherever its size may vary: 1 would be taken for fixed."""
    for dim in varying(tensor) or {}:
        if tensor.shape[dim] < 2:
            shape = [*tensor.shape]
            shape[dim] = 2
            tensor = tensor.expand(shape) if tensor.shape[dim] else tensor.new_zeros(shape)
    return tensor.contiguous()


def _returned(graph: _Graph, tensors: Sequence[torch.Tensor]) -> list[Any]:
    """All outputs: the tensors that came, and the constants that the graph has for the others."""
    given = iter(tensors)
    return [
        output if output is None or isinstance(output, bool | int | float | str) else next(given)
        for output in graph.captured.graph.outputs
    ]


def _where(error: CallFailed, captured: Captured) -> str:
    line = captured.lines[error.node] if error.node < len(captured.lines) else ""
    return f"{error} at {line}" if line else str(error)
