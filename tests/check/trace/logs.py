"""What a sink sees, written down: to compare a run seen live with one played back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.check.stories import EVAL, Story, Told

from remora.check.calls import OPTIMIZER_STEP, Call
from remora.check.observation import Look, Observation
from remora.check.sink import Sink, Wanted
from remora.check.trace.recorder import Recorder
from remora.check.trace.replay import Replayed, replay

LOOKED = {OPTIMIZER_STEP, "torch.Tensor.backward"}


class Log(Sink):
    """Every event, with all that can be seen of it at that moment."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._contents: dict[str, Hashable] = {}

    def wanted(self, function: str) -> Wanted:
        return Wanted(frozenset({"*"}), frozenset({"*"}))

    def begin(self, call: Call) -> None:
        around = [(one.function, one.order) for one in call.ancestors()]
        where = (call.order, call.thread, call.step, around, spelled_out(call.context))
        self.events.append(("begin", call.function, *where, spelled_out(call.inputs)))

    def end(self, call: Call) -> None:
        self.events.append(("end", call.order, spelled_out(call.outputs), call.failed))

    def looks(self, function: str) -> tuple[Look, ...]:
        return (Look("parameter", "changed"),) if function in LOOKED else ()

    def changed(self, call: Call, observations: Sequence[Observation]) -> None:
        said = [(one._replace(properties={}), spelled_out(one.properties)) for one in observations]
        self.events.append(("changed", call.order, call.function, call.failed, said))

    def measures(self, function: str) -> frozenset[str]:
        return frozenset({"*"}) if function in LOOKED else frozenset()

    def measured(self, call: Call, numbers: Mapping[str, float]) -> None:
        self.events.append(("numbers", call.order, call.function, spelled_out(numbers)))

    def compared(self) -> frozenset[str]:
        return frozenset({"*"})

    def compare(self, step: int, contents: Mapping[str, Hashable]) -> None:
        """As classes of equal ones, and which of them are as they were."""
        kept = {name for name, one in contents.items() if self._contents.get(name) == one}
        classes = [[n for n in contents if contents[n] == one] for one in contents.values()]
        self._contents = dict(contents)
        self.events.append(("compare", step, classes, kept))

    def step_ended(self, step: int) -> None:
        self.events.append(("step", step))


def spelled_out(values: Any) -> str:
    """Types and all: True is not 1, a tuple no list, a NaN is a NaN."""
    return repr(dict(values))


def recorder(path: Path, **settings: Any) -> Recorder:
    return Recorder(path.open("ab", buffering=0), **settings)


def played(path: Path) -> tuple[list[tuple[Any, ...]], Replayed]:
    log = Log()
    return log.events, replay(path, log)


SHAPES = {"x.shape": (2, 3), "x.dtype": "torch.float32", "none": None, "yes": True, "one": 1}
STEP = (
    Told(
        "forward",
        [Told("linear", inputs=SHAPES, outputs={"result.shape": (2,)}), "relu", "linear"],
        inputs={"self.training": True},
    ),
    Told("backward", [Told("raises", failed=True)], thread=2),
    Told("forward", ["linear"], context=EVAL),
)


def tell(sink: Sink, steps: int = 5) -> None:
    story = Story(sink)
    for _ in range(steps):
        story.step(*STEP)
