"""``torch.compile`` looks functions up by what they are: it is to meet those of torch themselves.

When it first looks one up it loads every function of torch that it knows, by name, into a table.
While functions are watched their names find wrappers, and it would take the functions that these
call for somebody else's, whose graphs it has to break.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from remora.tap.imports import ImportWatch
from remora.tap.wrap import put_back

_RULES, _TABLE = "torch._dynamo.trace_rules", "get_torch_obj_rule_map"


def guard_the_table(imports: ImportWatch) -> Callable[[], None]:
    """Have the table made with nothing wrapped, once it is wanted. Returns what ends that."""
    undo: list[Callable[[], None]] = []

    def imported() -> None:
        undo.append(_guarded(sys.modules[_RULES]))

    undo.append(imports.when_imported(_RULES, imported))

    def stop() -> None:
        while undo:
            undo.pop()()

    return stop


def _guarded(rules: Any) -> Callable[[], None]:
    make = getattr(rules, _TABLE, None)
    if make is None or getattr(make, "cache_info", None) is None or make.cache_info().currsize:
        return lambda: None  # of another version, or made already

    def table() -> Any:
        restore()
        with put_back():
            return make()

    def restore() -> None:
        if getattr(rules, _TABLE) is table:
            setattr(rules, _TABLE, make)

    setattr(rules, _TABLE, table)
    return restore
