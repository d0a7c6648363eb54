"""Find the variables of a job's models and optimizers, name them, and say what they are now.

A variable is a *place*: an entry of a module's parameters or buffers, of an optimizer's groups or
of its state. It is read anew whenever it is looked at, so a parameter that was replaced, made
real (lazy modules) or deleted is seen as it is. Modules and optimizers are held weakly.

Models and optimizers are found by the state tap, whose scan of the live objects costs some 150 ms:
it is made when an optimizer or a root module is met that no scan has found, with growing gaps if
that goes on. A scan also finds what only awaits garbage collection. So a model or an optimizer
that no name of the program leads to counts only once it has run, or is trained by one that counts.
Within what is known, variables are listed anew, which is cheap, whenever an optimizer's groups or
state have grown and at the steps 1, 2, 4, 8, ….
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from remora.check.conditions import Properties
from remora.check.observation import BUFFER, GRADIENT, PARAMETER, STATE, places_of
from remora.check.observe.compared import Compared
from remora.check.observe.owners import KnownModel, KnownOptimizer, is_optimizer, own_of
from remora.check.observe.variable import Variable

if TYPE_CHECKING:
    from remora.check.observe.places import Places
    from remora.check.observe.rows import Rows
    from remora.tap.job import Job

WHOLE_EVERY = 50
"""At every so many-th step contents are compared whole, not by a sample."""
SCANS_AT_ONCE = 8
"""So many scans are made as soon as they are asked for; after that ever fewer."""


class Variables:
    """All variables of one job. Nothing is looked for before the first question."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.version = 0
        """Another number whenever there may be other variables."""
        self.in_use: set[int] = set()
        """Ids of the modules whose root the program has run."""
        self.trained: set[int] = set()
        self.still: set[int] = set()
        self.are_shared_out = False
        """Whether several optimizers train them."""
        self._models: dict[int, KnownModel] = {}
        self._optimizers: dict[int, KnownOptimizer] = {}
        self._ran: dict[int, weakref.ref[Any]] = {}
        self._shared: dict[tuple[Any, ...], Properties] = {}
        self._scans, self._steps, self._next_scan = 0, 0, 0
        self._is_new_step = True
        self._compared: Compared | None = None
        self._compared_version = -1
        self._rows: dict[str, list[Rows]] = {}
        self._places: dict[tuple[str, ...], Places] = {}
        self._rows_version = -1
        self._apart: set[tuple[str, str]] = set()
        """By kind and name, those that cannot be read with others."""
        self.lock = threading.RLock()
        self.by_several_threads = False
        """Whether several threads train: then nobody looks at variables any more."""
        self._thread: int | None = None

    def shared(self, items: tuple[tuple[str, Any], ...]) -> Properties:
        return self._shared.setdefault(items, dict(items))

    def may_look(self, thread: int, *, only_runs: bool) -> bool:
        """Whether variables may be looked at now, at a call that ``thread`` makes.

        Gradients come and go without Python's lock while another thread goes backward, and to look
        at them then may end the process. So where a second thread trains, nobody looks any more.
        A thread that ``only_runs`` a model does not train.
        """
        if thread != self._thread and not only_runs and not self.by_several_threads:
            alive = {one.ident for one in threading.enumerate()}
            self.by_several_threads = self._thread in alive
            self._thread = thread
        return not self.by_several_threads

    # ------------------------------------------------------------ what there is

    def has_run(self, module: Any) -> bool:
        """Whether :meth:`ran` has been told of it."""
        known = self._ran.get(id(module))
        return known is not None and known() is module

    def ran(self, module: Any) -> None:
        """The forward of the root ``module`` begins."""
        if self.has_run(module):
            return
        with self.lock:
            self._ran[id(module)] = weakref.ref(module)
            parts = {id(part) for part in module.modules()}
            if not any(known.holds(parts) for known in self._models.values()) and _has_any(module):
                self._scan()
            self.refresh()

    def meet(self, subject: Any) -> None:
        """A call on ``subject`` begins that may change variables.

        What optimizers train is looked up at calls on one of them, and at the first of each step.
        """
        stale = not self.version
        known = self._optimizers.get(id(subject))
        if known is None or known.optimizer() is not subject:
            known = self._new(subject) if is_optimizer(type(subject)) else None
        if known is not None and not known.met:
            known.met, stale = True, True
        if known is not None or self._is_new_step:
            self._is_new_step = False
            for one in tuple(self._optimizers.values()):
                stale = one.has_changed() or stale
        if stale:
            self.refresh()

    def _new(self, optimizer: Any) -> KnownOptimizer:
        with self.lock:
            self._scan()
            known = self._optimizers.get(id(optimizer))
            if known is None or known.optimizer() is not optimizer:
                known = self._optimizers[id(optimizer)] = KnownOptimizer(optimizer, None)
            return known

    def step_ended(self) -> None:
        self._steps += 1
        self._is_new_step = True
        if self._steps & (self._steps - 1) == 0:
            self.refresh()

    def refresh(self) -> None:
        """List variables anew when next asked."""
        with self.lock:
            gone = [key for key, one in self._optimizers.items() if one.optimizer() is None]
            for key in gone:
                del self._optimizers[key]
            self._models = {k: one for k, one in self._models.items() if one.module() is not None}
            self._ran = {key: one for key, one in self._ran.items() if one() is not None}
            self.in_use = {id(part) for ref in self._ran.values() for part in _modules_of(ref())}
            self.trained = set().union(*(one.trained for one in self._counted()))
            self.still = set().union(*(one.still for one in self._counted()))
            self.are_shared_out = sum(bool(one.trained) for one in self._counted()) > 1
            self.version += 1

    def _scan(self) -> None:
        if self._scans >= SCANS_AT_ONCE and self._steps < self._next_scan:
            return
        self._scans += 1
        self._next_scan = self._steps + 2 ** max(0, self._scans - SCANS_AT_ONCE)
        found = self._job.state.find()
        for model in found.models:
            self._models[id(model.module)] = KnownModel(model.module, model.name)
        for one in found.optimizers:
            known = self._optimizers.get(id(one.optimizer))
            if known is None or known.optimizer() is not one.optimizer:
                self._optimizers[id(one.optimizer)] = KnownOptimizer(one.optimizer, one.name)
        self.refresh()

    def own_of(self, subject: Any) -> Collection[int] | None:
        """Ids of what belongs to the thing a call is made on; None if that cannot be told."""
        known = self._optimizers.get(id(subject))
        if known is not None and known.optimizer() is subject:
            return known.own
        return own_of(subject)

    # ------------------------------------------------------------ in rows

    def rows(self, kind: str) -> list[Rows]:
        """What reads variables of ``kind`` together, those of each dtype; shared by all who ask.

        Each variable is in one of them at most, and a single one of a dtype in none.
        """
        with self.lock:
            if self._rows_version != self.version:
                self._rows, self._places, self._rows_version = {}, {}, self.version
            if kind not in self._rows:
                self._rows[kind] = list(self._in_rows(kind))
            return self._rows[kind]

    def leave_apart(self, variables: Iterable[Variable]) -> None:
        """These cannot be read with others any more."""
        with self.lock:
            self._apart |= {(one.kind, one.name) for one in variables}
            self.version += 1

    def _in_rows(self, kind: str) -> Iterator[Rows]:
        from remora.check.observe.rows import Rows, by_dtype  # torch is there by now

        may_be = [one for one in self.of(kind) if (kind, one.name) not in self._apart]
        for dtype, variables in by_dtype(may_be).items():
            yield Rows(variables, dtype, self._places_of(variables))

    def _places_of(self, variables: Sequence[Variable]) -> Places:
        """Gradients and their parameters are got from the same, at one moment once."""
        from remora.check.observe.places import Places

        kind = "" if variables[0].kind in (PARAMETER, GRADIENT) else variables[0].kind
        entries = [one.get for one in variables]
        return self._places.setdefault((kind, *[one.name for one in variables]), Places(entries))

    # ------------------------------------------------------------ contents

    def contents(self, names: frozenset[str], number: int) -> dict[str, Hashable]:
        """What stands for the content of each variable in ``names``, or of all (``{"*"}``).

        ``number`` counts the times that this is asked. A module's name is all variables in it.

        Tensors of one element are left out: counters are all equal, and say nothing.
        """
        everything = "*" in names
        if self._compared is None or self._compared_version != self.version:
            self._compared_version = self.version
            self._compared = Compared(
                one
                for kind in (PARAMETER, BUFFER, STATE)
                for one in (self._of_states() if kind == STATE else self.places(kind))
                if everything or not names.isdisjoint(places_of(one.name))
            )
        if everything:
            return self._compared.whole()
        return self._compared.sampled(whole=number % WHOLE_EVERY == 0)

    # ------------------------------------------------------------ listing

    def of(self, kind: str) -> Iterator[Variable]:
        """The variables of one kind that exist now. One that has two names is told once."""
        with self.lock:
            if kind == STATE:
                return iter(list(self._of_states()))
            met: set[int] = set()
            return iter([one for one in self.places(kind) if _is_new(one.get(), met)])

    def places(self, kind: str) -> Iterator[Variable]:
        """As :meth:`of`, but one that has two names is told under each."""
        where = "_buffers" if kind == BUFFER else "_parameters"
        for model in self._models.values():
            if not self._counts(model):
                continue
            for name, entry in model.entries(where):
                yield Variable(self, kind, name, entry)
        if kind != BUFFER:
            of_models = self._ids_of_models()
            for optimizer in self._counted():
                for name, in_group in optimizer.entries():
                    if id(in_group()) not in of_models:
                        yield Variable(self, kind, name, in_group)

    def _of_states(self) -> Iterator[Variable]:
        names = {id(one.get()): one.name for one in self.places(PARAMETER)}
        for optimizer in self._counted():
            for name, entry in optimizer.state_entries(names):
                yield Variable(self, STATE, name, entry)

    def _counted(self) -> list[KnownOptimizer]:
        return [one for one in self._optimizers.values() if one.is_named or one.met]

    def _counts(self, model: KnownModel) -> bool:
        module = model.module()
        return module is not None and (
            model.is_named
            or any(id(part) in self.in_use for part in module.modules())
            or any(id(parameter) in self.trained for parameter in module.parameters())
        )

    def _ids_of_models(self) -> set[int]:
        return {
            id(get()) for model in self._models.values() for _, get in model.entries("_parameters")
        }


def _is_new(tensor: Any, met: set[int]) -> bool:
    if tensor is None or id(tensor) in met:
        return False
    met.add(id(tensor))
    return True


def _modules_of(module: Any) -> Iterator[Any]:
    return module.modules() if module is not None else iter(())


def _has_any(module: Any) -> bool:
    return next(module.parameters(), None) is not None
