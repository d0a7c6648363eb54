"""One watched function of which each call is judged alone, by what goes in and comes out.

Nothing has to be known of such a call while it is under way: it stands on no stack, and becomes a
:class:`~remora.check.calls.Call` only where there is something to judge that was not judged before.
That is so of most functions of torch, which are called most often. Of those that are only counted
nobody hears when they end.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

from remora.check.calls import NOTHING, Known
from remora.check.observe.followed import Followed
from remora.check.observe.reading import Outputs
from remora.check.relations.contains import Counting
from remora.check.relations.contract import MOST_VERDICTS, Rule
from remora.check.relations.each_call import Judging, alike

if TYPE_CHECKING:
    from remora.check.observe.live import LiveCalls

Begun = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Context and inputs."""


def judges_alone(live: LiveCalls, name: str) -> bool:
    """Whether all that is done with calls of ``name`` is to count them and to judge each alone."""
    begin, end = live.sink.handlers(name)
    asks = live.sink.looks(name) or live.sink.measures(name)
    return (
        not asks
        and all(type(one) is Counting for one in begin)
        and all(type(one) is Judging and one.beside is None for one in end)
    )


class FollowedAlone(Followed):
    def _entering(self) -> Any:
        read, now = self._inputs.read, self._now
        counting = self._live.sink.handlers(self._name)[0]

        def enter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
            return NOTHING if now is None else now(), read(args, kwargs)

        def count(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
            thread, inputs = get_ident(), read(args, kwargs)
            for one in counting:
                one.count(thread, inputs)  # type: ignore[attr-defined]
            return NOTHING if now is None else now(), inputs

        return count if counting else enter

    def _leaving(self, outputs: Outputs) -> Any:
        """None where nobody hears of a call that ends."""
        read, telling, judge = outputs.read, outputs.telling, self._judge
        keep_loss = self._loss_keeper()
        known: dict[Hashable, tuple[list[Rule], object]] = {}

        def leave(begun: Begun, result: Any) -> None:
            context, inputs = begun
            kind = type(result)
            tell = telling[kind]
            key = None if tell is None else (id(context), id(inputs), kind, tell(result))
            judged = known.get(key)
            if judged is not None:
                for rule in judged[0]:
                    rule.triggered += 1
            else:
                judge(known, key, context, inputs, read(result))
            if keep_loss is not None:
                keep_loss(result)

        return leave if self._end or keep_loss is not None else None

    def _judge(self, known: dict[Any, Any], key: Hashable, *properties: Mapping[str, Any]) -> None:
        context, inputs, outputs = properties
        call = self._live.call_alone(self._name, inputs, context)
        call.outputs = outputs
        each = [judging.judge(call) for judging in self._end]  # type: ignore[attr-defined]
        if all(type(one) is Known for one in properties) and None not in each:
            if len(known) >= MOST_VERDICTS:
                known.clear()
            known[key] = [rule for judged in each for rule in judged or ()], alike(call)

    def fell(self, call: Any, error: BaseException) -> None:
        """A call that raised says nothing."""
