"""A captured CUDA graph passes the gate as one, replay by replay; while one is captured, all pass.

A replay is one launch of everything in it, and no operator. A capture fails if a thread waits for
the device meanwhile, and work that is only noted down takes nothing from anyone.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from remora.share.interception.wrapping import Wrapped

METHODS = ("replay", "capture_begin", "capture_end")


class CudaGraphs:
    """Calls ``passes`` before each replay, and knows whether there is a capture.

    Args:
        report: hears, once, where this torch's graphs have no such methods.
    """

    def __init__(self, passes: Callable[[], object], report: Callable[[str], object]) -> None:
        self._passes, self._report = passes, report
        self._wrapped: list[Wrapped] = []
        self._captured: weakref.WeakSet[Any] = weakref.WeakSet()
        self._has_said = False

    def wrap(self) -> None:
        torch: Any = sys.modules["torch"]
        owner = getattr(torch.cuda, "CUDAGraph", None)
        missing = [name for name in METHODS if not hasattr(owner, name)]
        if isinstance(owner, type) and not missing:
            around = (self._replay, self._capture_begin, self._capture_end)
            self._wrapped = [Wrapped(owner, *each) for each in zip(METHODS, around, strict=True)]
        elif not self._has_said:
            self._has_said = True
            self._report(
                "remora: captured CUDA graphs do not pass the gate: torch.cuda.CUDAGraph has no "
                f"{missing[0]}"
            )

    def unwrap(self) -> None:
        """Everything is as it was."""
        while self._wrapped:
            self._wrapped.pop().undo()
        self._captured.clear()

    def is_capturing(self) -> bool:
        """Whether a graph is being captured: of this process, or on this thread's stream."""
        cuda: Any = sys.modules["torch"].cuda
        if self._captured:
            return True
        return bool(cuda.is_initialized() and cuda.is_current_stream_capturing())

    def _replay(self, call: Callable[..., Any], graph: object, *args: Any, **kwargs: Any) -> Any:
        self._passes()
        return call(graph, *args, **kwargs)

    def _capture_begin(
        self, call: Callable[..., Any], graph: object, *args: Any, **kwargs: Any
    ) -> Any:
        result = call(graph, *args, **kwargs)
        self._captured.add(graph)
        return result

    def _capture_end(
        self, call: Callable[..., Any], graph: object, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            return call(graph, *args, **kwargs)
        finally:
            self._captured.discard(graph)
