"""One watched function of which each call is judged alone, by what goes in and comes out.

Nothing has to be known of such a call while it is under way: it stands on no stack, and becomes a
:class:`~remora.check.calls.Call` only where there is something to judge that was not judged before.
That is so of most functions of torch, which are called most often.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

from remora.check.calls import Known
from remora.check.observe.followed import Followed
from remora.check.observe.reading import Outputs
from remora.check.relations.contract import MOST_VERDICTS, Rule
from remora.check.relations.each_call import Judging, alike

if TYPE_CHECKING:
    from remora.check.observe.live import LiveCalls

Begun = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Context and inputs."""


def judges_alone(live: LiveCalls, name: str) -> bool:
    """Whether all that is done with calls of ``name`` is to judge each alone."""
    begin, end = live.sink.handlers(name)
    asks = live.sink.looks(name) or live.sink.measures(name)
    only_counts = all(getattr(one, "counts_only", None) is not None for one in begin)
    return (only_counts and not asks) and all(
        type(one) is Judging and one.beside is None for one in end
    )  # fmt: skip


class FollowedAlone(Followed):
    def _entering(self) -> Any:
        read, now = self._inputs.read, self._now
        begin, _ = self._live.sink.handlers(self._name)
        counts: list[dict[int, int]] = [one.counts_only for one in begin]  # type: ignore[attr-defined]

        def enter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
            return now(), read(args, kwargs)

        def enter_and_count(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
            thread = get_ident()
            for counted in counts:
                counted[thread] = counted.get(thread, 0) + 1
            return now(), read(args, kwargs)

        return enter_and_count if counts else enter

    def _leaving(self, outputs: Outputs) -> Any:
        read, judge, keep_loss = outputs.read, self._judge, self._loss_keeper()
        known: dict[tuple[int, int, int], tuple[list[Rule], object]] = {}

        def leave(begun: Begun, result: Any) -> None:
            context, inputs = begun
            found = read(result)
            judged = known.get((id(context), id(inputs), id(found)))
            if judged is not None:
                for rule in judged[0]:
                    rule.triggered += 1
            else:
                judge(known, context, inputs, found)
            if keep_loss is not None:
                keep_loss(result)

        return leave

    def _judge(self, known: dict[Any, Any], *properties: Mapping[str, Any]) -> None:
        context, inputs, outputs = properties
        call = self._live.call_alone(self._name, inputs, context)
        call.outputs = outputs
        each = [judging.judge(call) for judging in self._end]  # type: ignore[attr-defined]
        if all(type(one) is Known for one in properties) and None not in each:
            if len(known) >= MOST_VERDICTS:
                known.clear()
            rules = [rule for judged in each for rule in judged or ()]
            known[id(context), id(inputs), id(outputs)] = rules, alike(call)

    def fell(self, call: Any, error: BaseException) -> None:
        """A call that raised says nothing."""
