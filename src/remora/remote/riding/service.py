"""The remote service: a program's root modules run on a server, and so do its generate loops."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from remora.core.saying import say
from remora.core.units import format_bytes
from remora.remote.riding.calls import called, runs_there
from remora.remote.riding.decoding import decoded, is_greedy
from remora.remote.riding.keeping import Keeping
from remora.tap.service import Service

if TYPE_CHECKING:
    import torch

    from remora.remote.client.model import RemoteModel
    from remora.remote.client.server import RemoteServer
    from remora.tap.job import Job


_WRAPPERS = ("DistributedDataParallel", "DataParallel")
"""Modules that do something between ranks or devices here, and then call the one they hold."""


class Remote(Service):
    """Models called from outside any other module run on ``server``, weights and all.

    That is every module with weights that is in eval mode, or is called without gradients.
    Training stays here. A language model's ``generate`` keeps its keys and values on the server,
    and where it decodes greedily only token ids come back. A model that cannot be captured is an
    error in the program: nothing is ever run here instead in silence.
    """

    name: ClassVar[str] = "remote"

    def __init__(self, server: RemoteServer) -> None:
        self.server = server
        self._models: weakref.WeakKeyDictionary[torch.nn.Module, RemoteModel] = (
            weakref.WeakKeyDictionary()
        )
        self._keeping = Keeping()
        self._inside = _Depth()
        self._undo: list[Callable[[], None]] = []

    def attach(self, job: Job) -> None:
        job.imports.subscribe("torch.nn.modules.module", self._take_calls)
        job.imports.subscribe("transformers.generation.utils", self._take_decoding)

    def detach(self) -> None:
        while self._undo:
            self._undo.pop()()
        self.server.close()

    def finish(self) -> None:
        sent, received = self.server.counted.bytes_sent, self.server.counted.bytes_received
        say(
            f"remora: {len(self._models)} models ran on {self.server.address}; "
            f"{format_bytes(sent)} sent, {format_bytes(received)} received"
        )

    def model(self, module: torch.nn.Module) -> RemoteModel:
        """``module`` on the server."""
        found = self._models.get(module)
        if found is None:
            found = self._models[module] = self.server.load(module)
        return found

    # ------------------------------------------------- what is put in place

    def _take_calls(self) -> None:
        from torch.nn import Module

        here = Module.__call__
        service = self

        def __call__(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            module = getattr(module, "_orig_mod", module)  # of torch.compile: the server runs it
            if service._inside.depth or not runs_there(module):
                with service.inside():
                    return here(module, *args, **kwargs)
            if type(module).__name__ in _WRAPPERS:
                return here(module, *args, **kwargs)  # what it wraps runs there
            with service.inside():
                return called(service.model(module), module, args, kwargs, service._keeping)

        Module.__call__ = __call__  # type: ignore[method-assign]
        self._undo.append(partial(setattr, Module, "__call__", here))

    def _take_decoding(self) -> None:
        from transformers.generation.utils import GenerationMixin

        here = GenerationMixin._sample
        service = self

        def _sample(model: Any, input_ids: torch.Tensor, **options: Any) -> Any:
            is_here = service._inside.depth or not runs_there(model)
            if is_here or not is_greedy(model, **options):
                return here(model, input_ids, **options)
            there = service.model(model)
            with service.inside():
                has_sessions = service._keeping.has_sessions(there, model)
                if has_sessions:
                    return decoded(there, input_ids, **options)
            return here(model, input_ids, **options)

        GenerationMixin._sample = _sample
        self._undo.append(partial(setattr, GenerationMixin, "_sample", here))

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within it modules are parts of one that is being called."""
        self._inside.depth += 1
        try:
            yield
        finally:
            self._inside.depth -= 1


class _Depth(threading.local):
    """In how many modules' calls this thread is."""

    depth = 0
