"""One client's requests: what can be answered at once is, the rest is submitted to the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import singledispatchmethod

import torch

from remora.core.errors import BadValue, Full, LinkLost, Refused, RemoraError
from remora.core.tensors import tensor_bytes
from remora.remote.graph.program import first_line
from remora.remote.messages import (
    Close,
    Compute,
    Count,
    Counts,
    Done,
    Echo,
    Failed,
    Fetch,
    Free,
    Generate,
    Lacking,
    Load,
    Loaded,
    Offer,
    Open,
    Opened,
    Prefill,
    Prepare,
    Profile,
    Ran,
    Reorder,
    Reply,
    Rewind,
    Run,
    Unload,
    Upload,
    is_last,
)
from remora.remote.server import drawing
from remora.remote.server.device import is_short_of_memory
from remora.remote.server.house import House
from remora.remote.server.kept import kept, with_kept
from remora.remote.server.models import Model
from remora.remote.server.outbox import Outbox
from remora.remote.server.session import Session
from remora.remote.server.work import (
    AnyWork,
    CallWork,
    GenerateWork,
    PrefillWork,
    ReorderWork,
    RewindWork,
    SegmentWork,
    Work,
)
from remora.remote.wire.arrived import Arrived, Cancelled, NoMemory
from remora.remote.wire.link import Link


class Desk:
    """Serves one link until it ends, and then gives back all that its client held."""

    def __init__(self, house: House, link: Link) -> None:
        self._house, self._link = house, link
        self._client = house.clients.of(link)
        self._outbox = Outbox(link)
        self._models: dict[str, list[Model]] = {}
        """Those its client has loaded, each as often as it has."""
        self._segments = house.segments()
        self._kept = house.handles()
        self._works: dict[int, Work] = {}
        self._aside = ThreadPoolExecutor(1, "remora-prepare")
        self._guard = threading.Lock()
        self._left = False

    def serve(self) -> None:
        """Answer requests until the client goes."""
        try:
            while True:
                self._take(self._link.receive())
        except LinkLost:
            return
        finally:
            self._leave()

    def _take(self, arrived: Arrived) -> None:
        if isinstance(arrived.message, Cancelled):
            work = self._works.pop(arrived.request, None)
            if work is not None:
                self._house.engine.cancel(work)
            return
        try:
            reply = self._handle(arrived.message, arrived)
        except RemoraError as error:
            reply = Failed(type(error).__name__, str(error))
        except (MemoryError, RuntimeError) as error:  # torch's own, out of memory for one
            kind = "Full" if is_short_of_memory(error) else "Refused"
            reply = Failed(kind, first_line(error))
        if reply is not None:
            tensors = arrived.tensors if isinstance(arrived.message, Echo) else []
            self._outbox.put(arrived.request, reply, tensors)

    # ------------------------------------------------- each kind of request

    @singledispatchmethod
    def _handle(self, message: object, arrived: Arrived) -> Reply | None:
        raise Refused(f"unknown request {type(message).__name__}")

    @_handle.register
    def _(self, message: NoMemory, arrived: Arrived) -> Reply | None:
        full, asked = Full(message.at("there")), message.message
        if isinstance(asked, Compute):  # in its turn: what it was to make and write to has failed
            segment = self._segments.segment(asked, arrived.tensors, full)
            self._submit(arrived, SegmentWork, False, segment)
            return None
        if isinstance(asked, Run):
            self._kept.free(asked.freed)
        raise full

    @_handle.register
    def _(self, message: Echo, arrived: Arrived) -> Reply | None:
        return Done(Profile(received_ns=arrived.ended_ns, answered_ns=self._house.clock.wall_ns()))

    @_handle.register
    def _(self, message: Count, arrived: Arrived) -> Reply | None:
        self._outbox.put(arrived.request, self._counts)
        return None

    @_handle.register
    def _(self, message: Offer, arrived: Arrived) -> Reply | None:
        return Lacking(self._house.weights.lacking(message.digests))

    @_handle.register
    def _(self, message: Upload, arrived: Arrived) -> Reply | None:
        if len(message.digests) != len(arrived.tensors):
            raise BadValue(f"{len(message.digests)} digests for {len(arrived.tensors)} tensors")
        for digest, tensor in zip(message.digests, arrived.tensors, strict=True):
            self._house.weights.put(digest, tensor)
        return Done()

    @_handle.register
    def _(self, message: Load, arrived: Arrived) -> Reply | None:
        (graph,) = _tensors(arrived, 1)
        model = self._house.models.load(
            bytes(tensor_bytes(graph)), decoder=message.decoder, positions=message.positions
        )
        with self._guard:
            self._hold(model)
        return Loaded(model.name)

    @_handle.register
    def _(self, message: Prepare, arrived: Arrived) -> Reply | None:
        self._aside.submit(self._prepare, arrived.request, message)
        return None

    @_handle.register
    def _(self, message: Unload, arrived: Arrived) -> Reply | None:
        model = self._model(message.model)
        self._models[message.model].pop()
        self._house.models.release(model)
        return Done()

    @_handle.register
    def _(self, message: Run, arrived: Arrived) -> Reply | None:
        model = self._model(message.model)
        self._kept.free(message.freed)
        what = (model, arrived.tensors, message.wanted, message.held, self._kept)
        self._submit(arrived, CallWork, message.profiled, *what)
        return None

    @_handle.register
    def _(self, message: Fetch, arrived: Arrived) -> Reply | None:
        tensor = kept(self._kept, message.number)
        self._outbox.put(arrived.request, Ran(), [tensor.to("cpu").contiguous()])
        return None

    @_handle.register
    def _(self, message: Free, arrived: Arrived) -> Reply | None:
        self._kept.free(message.numbers)
        return Done()

    @_handle.register
    def _(self, message: Compute, arrived: Arrived) -> Reply | None:
        self._submit(arrived, SegmentWork, False, self._segments.segment(message, arrived.tensors))
        return None

    @_handle.register
    def _(self, message: Open, arrived: Arrived) -> Reply | None:
        context = with_kept(self._kept, message.held, arrived.tensors)
        self._kept.free(message.held)
        session = self._house.sessions.open(self, self._model(message.model), context)
        return Opened(session.name, self._house.sessions.lease_s)

    @_handle.register
    def _(self, message: Prefill, arrived: Arrived) -> Reply | None:
        (tokens,) = _tensors(arrived, 1)
        if tokens.dtype != torch.int64 or tokens.dim() != 2 or tokens.shape[0] != 1:
            raise BadValue(
                f"token ids are {str(tokens.dtype)[6:]} {list(tokens.shape)}; "
                "give int64 of shape (1, tokens)"
            )
        session = self._house.sessions.get(message.session, self)
        tokens = _behind_unread(session, tokens)
        if not tokens.shape[1]:
            self._house.sessions.rest(session)
            raise BadValue("there are no tokens to read; give at least one")
        self._submit_for(session, arrived, PrefillWork, message.profiled, tokens, message.wanted)
        return None

    @_handle.register
    def _(self, message: Generate, arrived: Arrived) -> Reply | None:
        if message.count < 1:
            raise BadValue(f"{message.count} tokens are wanted; ask for 1 or more")
        drawing.check(message.draw)
        session = self._house.sessions.get(message.session, self)
        if session.ready is None and session.unread is None:
            self._house.sessions.rest(session)
            raise BadValue("this session has read nothing yet; call prefill() first")
        stop = frozenset(message.stop)
        what = (message.count, stop, message.draw)
        self._submit_for(session, arrived, GenerateWork, message.profiled, *what)
        return None

    @_handle.register
    def _(self, message: Rewind, arrived: Arrived) -> Reply | None:
        session = self._house.sessions.find(message.session, self)
        for work in list(self._works.values()):
            if isinstance(work, PrefillWork | GenerateWork) and work.session is session:
                self._house.engine.cancel(work)
        self._submit(arrived, RewindWork, False, session, message.length, message.unread)
        return None

    @_handle.register
    def _(self, message: Reorder, arrived: Arrived) -> Reply | None:
        _check_order(message)
        sessions: list[Session] = []
        try:
            for name in message.sessions:  # one by one: those found so far rest if one is not
                sessions.append(self._house.sessions.get(name, self))  # noqa: PERF401
            if any(session.model is not sessions[0].model for session in sessions):
                raise BadValue("these sessions are of several models; none can follow another's")
            self._submit(arrived, ReorderWork, False, sessions, message.sources)
        except BaseException:
            for session in sessions:
                self._house.sessions.rest(session)
            raise
        return None

    @_handle.register
    def _(self, message: Close, arrived: Arrived) -> Reply | None:
        session = self._house.sessions.get(message.session, self)
        self._house.sessions.close([session])
        return Done()

    # ------------------------------------------------- what takes long

    def _prepare(self, request: int, message: Prepare) -> None:
        """In a thread beside: building and capturing takes seconds, and signs of life may not."""
        try:
            models, reply = self._house.recipes.prepare(message)
        except Exception as error:  # of any kind: it runs a model's own code
            kind = type(error).__name__ if isinstance(error, RemoraError) else "Refused"
            self._outbox.put(request, Failed(kind, f"{message.recipe.name[:100]}: {error}"[:1000]))
            return
        with self._guard:
            for model in models:
                self._hold(model)
        self._outbox.put(request, reply)

    def _hold(self, model: Model) -> None:
        """Its client has loaded it; one that has gone meanwhile holds nothing."""
        if self._left:
            self._house.models.release(model)
        else:
            self._models.setdefault(model.name, []).append(model)

    # ------------------------------------------------- what they share

    def _counts(self) -> Counts:
        counted = self._link.counted
        return Counts(
            {
                **self._house.counts(),
                "wire_sent_bytes": counted.bytes_sent,
                "wire_received_bytes": counted.bytes_received,
                "shared_sent_bytes": counted.shared_bytes_sent,
                "shared_received_bytes": counted.shared_bytes_received,
            },
            tuple(self._house.engine.turns.counts()),
        )

    def _model(self, name: str) -> Model:
        models = self._models.get(name)
        if not models:
            raise Refused("no such model was loaded over this connection; load it first")
        return models[0]

    def _submit(
        self, arrived: Arrived, kind: Callable[..., AnyWork], profiled: bool, *what: object
    ) -> None:
        """Have the engine do ``kind`` of work; ``what`` is what that kind has beside the common."""
        request = arrived.request

        def answer(reply: Reply, tensors: Sequence[torch.Tensor]) -> None:
            if is_last(reply):
                self._works.pop(request, None)
            self._outbox.put(request, reply, tensors)

        received_ns, receive_ns = arrived.ended_ns, arrived.ended_ns - arrived.begun_ns
        work = kind(answer, received_ns, receive_ns, profiled, *what, client=self._client)
        self._works[request] = work
        self._house.engine.submit(work)

    def _submit_for(
        self,
        session: Session,
        arrived: Arrived,
        kind: Callable[..., AnyWork],
        profiled: bool,
        *what: object,
    ) -> None:
        """As :meth:`_submit`, for a session that is at work from here on."""
        try:
            self._submit(arrived, kind, profiled, session, *what)
        except BaseException:
            self._house.sessions.rest(session)
            raise

    def _leave(self) -> None:
        for work in list(self._works.values()):
            self._house.engine.cancel(work)
        self._house.engine.left(self._client)
        self._house.sessions.close(self._house.sessions.of(self))
        self._segments.close()
        self._kept.close()
        self._aside.shutdown(wait=False, cancel_futures=True)
        with self._guard:
            self._left = True
            for models in self._models.values():
                for model in models:
                    self._house.models.release(model)
        self._outbox.close()


def _tensors(arrived: Arrived, count: int) -> list[torch.Tensor]:
    if len(arrived.tensors) != count:
        raise BadValue(f"{len(arrived.tensors)} tensors came with the request; it takes {count}")
    return arrived.tensors


def _check_order(message: Reorder) -> None:
    count = len(message.sessions)
    if len(message.sources) != count or any(not 0 <= s < count for s in message.sources):
        raise BadValue(f"{count} sessions want {count} sources, each the index of one of them")
    if len(set(message.sessions)) != count:
        raise BadValue("a session is named twice; name each once")


def _behind_unread(session: Session, tokens: torch.Tensor) -> torch.Tensor:
    """``tokens``, and before them the newest that was given, which the state does not hold yet."""
    if session.unread is None:
        return tokens
    return torch.cat([torch.tensor([[session.unread]]), tokens], dim=1)
