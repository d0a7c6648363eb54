"""What ``torch.compile`` made of a program passes the gate as one, call by call.

Kernels that inductor generates are called past the dispatcher, in C++ on a CPU and as launches on a
GPU, so no hook sees them. Each call of a compiled graph, forward or backward, goes through one
method of a class of inductor's, whatever becomes of the graph below; the program passes there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remora.share.interception.wrapping import Wrapped
from remora.tap.imports import ImportWatch

MODULE = "torch._inductor.output_code"
CLASSES = ("CompiledFxGraph", "CompiledAOTI")
METHOD = "__call__"


class CompiledRegions:
    """Calls ``passes`` before each call of a graph that inductor compiled.

    Inductor is not imported for this: its classes are wrapped when the program brings it along.

    Args:
        report: hears, once, where this torch has no such class.
    """

    def __init__(self, passes: Callable[[], object], report: Callable[[str], object]) -> None:
        self._passes, self._report = passes, report
        self._watch = ImportWatch()
        self._stop: Callable[[], None] | None = None
        self._wrapped: list[Wrapped] = []
        self._has_said = False

    def wrap(self) -> None:
        self._stop = self._watch.when_imported(MODULE, self._wrap)

    def unwrap(self) -> None:
        """Everything is as it was."""
        if self._stop is not None:
            self._stop()
        while self._wrapped:
            self._wrapped.pop().undo()

    def _wrap(self) -> None:
        module = sys.modules[MODULE]
        for name in CLASSES:
            found = getattr(module, name, None)
            if isinstance(found, type) and hasattr(found, METHOD):
                self._wrapped.append(Wrapped(found, METHOD, self._around))
        if not self._wrapped and not self._has_said:
            self._has_said = True
            self._report(
                "remora: graphs that torch.compile made do not pass the gate as a whole: this "
                f"torch has none of {', '.join(CLASSES)} in {MODULE}"
            )

    def _around(self, call: Callable[..., Any], graph: object, *args: Any, **kwargs: Any) -> Any:
        self._passes()
        return call(graph, *args, **kwargs)
