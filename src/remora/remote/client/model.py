"""A model on a server, called as if it were here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from remora.core.errors import BadValue, Refused, ServerLost
from remora.remote.client.errors import CallFailed
from remora.remote.client.placed import Placed
from remora.remote.client.profile import CallProfile, call_profile
from remora.remote.client.session import ATTEMPTS, RemoteSession
from remora.remote.graph.call import Call
from remora.remote.graph.capture import Captured, capture, varying
from remora.remote.graph.decoder import capture_decoder
from remora.remote.messages import Run, Wanted
from remora.remote.wire.arrived import Arrived, Sent

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer


class RemoteModel:
    """What ``server.load(model)`` gives: calling it runs ``model`` on the server.

    Each kind of call (its constants, dtypes and fixed sizes) is captured once. Batch sizes, and
    lengths of token sequences, may vary without being captured again.
    """

    def __init__(
        self, server: RemoteServer, model: torch.nn.Module, *, deadline_s: float | None = None
    ) -> None:
        self.server, self.module, self.deadline_s = server, model, deadline_s
        self._graphs: dict[object, Placed] = {}
        self._decoder: Placed | None = None
        self._listening: Placed | None = None
        """What makes a decoder's context out of sound, where it has one."""
        self._stamp = self._stamp_now()
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

    def profiled(self, *args: Any, **kwargs: Any) -> tuple[Any, CallProfile]:
        """As calling it, with where the call spent its time."""
        ahead_ns, wall_ns = self.server.clock_ahead_ns(), self.server.channel.link.clock.wall_ns
        sent: list[Sent] = []
        begun_ns = wall_ns()
        call, tensors = Call.of(args, kwargs)
        graph = self._graph(call, tensors)
        arrived = self._call(graph, tensors, on_sent=sent.append, profiled=True)
        whole = pytree.tree_unflatten(_returned(graph, arrived.tensors), graph.captured.outputs)
        return whole, call_profile(begun_ns, sent[-1], arrived, wall_ns(), ahead_ns)

    def session(self, heard: torch.Tensor | None = None) -> RemoteSession:
        """A session with a language model: what it has read stays on the server.

        Args:
            heard: sound (1, bands, frames), for a model that writes down what it hears.

        Raises:
            CannotCapture: the model is no language model that keeps keys and values.
            BadValue: it hears and is given nothing, or the other way round.
        """
        decoding = self._decoding()
        return RemoteSession(
            self.server, decoding, context=self._context(heard), deadline_s=self.deadline_s
        )

    def _context(self, heard: torch.Tensor | None) -> Sequence[torch.Tensor]:
        name = type(self.module).__name__
        if self._listening is None:
            if heard is not None:
                raise BadValue(f"{name} has no encoder that hears; call session() without sound")
            return ()
        if heard is None:
            raise BadValue(f"{name} writes down what it hears; call session(input_features)")
        return self._run(self._listening, [heard], ())

    # ------------------------------------------------- graphs

    def _graph(self, call: Call, tensors: Sequence[torch.Tensor]) -> Placed:
        kind = _kind(call, tensors)
        with self._guard:
            self._forget_what_changed()
            graph = self._graphs.get(kind)
            if graph is None:
                args, kwargs = call.made_of([_example(tensor) for tensor in tensors])
                captured = capture(self.module, args, kwargs)
                graph = self._graphs[kind] = Placed(captured)
            return graph

    def _decoding(self) -> Placed:
        with self._guard:
            self._forget_what_changed()
            if self._decoder is None:
                decoder = capture_decoder(self.module)
                self._decoder = Placed(decoder.captured, decoder=True, positions=decoder.positions)
                if decoder.listening is not None:
                    self._listening = Placed(decoder.listening)
            return self._decoder

    def _forget_what_changed(self) -> None:
        """Graphs hold the weights as they were captured; changed ones are captured again."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp, self._decoder = stamp, None
            self._graphs.clear()

    def _stamp_now(self) -> tuple[tuple[int, int], ...]:
        """Which weights they are, and how often each has been changed."""
        weights = (*self.module.parameters(), *self.module.buffers())
        return tuple([(id(weight), weight._version) for weight in weights])

    def _run(
        self, graph: Placed, tensors: Sequence[torch.Tensor], wanted: tuple[Wanted, ...]
    ) -> list[Any]:
        arrived = self._call(graph, tensors, wanted=wanted)
        return arrived.tensors if wanted else _returned(graph, arrived.tensors)

    def _call(
        self,
        graph: Placed,
        tensors: Sequence[torch.Tensor],
        *,
        on_sent: Callable[[Sent], object] | None = None,
        **options: Any,
    ) -> Arrived:
        """Run it; a call changes nothing, so it may be made again over another connection."""
        channel, attempts = self.server.channel, ATTEMPTS
        while True:
            try:
                request = Run(graph.name_over(channel), **options)
                return channel.call(request, tensors, deadline_s=self.deadline_s, on_sent=on_sent)
            except ServerLost as error:
                attempts -= 1
                if not attempts:  # it may be this very call that ends the server
                    raise
                channel = self.server.renewed(channel, error)
            except CallFailed as error:
                raise Refused(_where(error, graph.captured)) from error


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


def _returned(graph: Placed, tensors: Sequence[torch.Tensor]) -> list[Any]:
    """All outputs: the tensors that came, and the constants that the graph has for the others."""
    given = iter(tensors)
    return [
        output if output is None or isinstance(output, bool | int | float | str) else next(given)
        for output in graph.captured.graph.outputs
    ]


def _where(error: CallFailed, captured: Captured) -> str:
    line = captured.lines[error.node] if error.node < len(captured.lines) else ""
    return f"{error} at {line}" if line else str(error)
