"""A gate in front of the job's operators: for devices that do not preempt, such as a GPU.

The job asks before each operator, and waits there while a high-priority job has requests under way,
as a policy says. On a GPU it has no more in flight than it may, so nobody waits long behind it. On
the CPU beside a GPU it gives way by ``idle``: loaders and the program itself need a CPU, too.

On a machine without one the device is the CPU, whose operating system does better: see ``idle``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

from remora.core.errors import BadValue, NotPermitted, UserError
from remora.share.gate.best_effort import BestEffort, Terms
from remora.share.gate.device import has_nvidia
from remora.share.gate.waiting import Patience
from remora.share.interception import registry
from remora.share.interception.contract import Gate as Words
from remora.share.interception.contract import Hook
from remora.share.policies.registry import POLICIES, Choice
from remora.share.system import processes
from remora.share.system.mechanisms.contract import Context, Mechanism, MechanismOptions
from remora.share.system.mechanisms.idle import Idle
from remora.share.system.roster import Roster
from remora.share.system.turns import policy_of

DEFAULT_POLICY = "priority+min-wait"
DEFAULT_IN_FLIGHT_NS = 1_000_000
_LOOKS_EVERY = 64
"""Where a look at the pairs suffices: after so many operators, to see whether others have come."""


@dataclass(frozen=True)
class GateOptions(MechanismOptions):
    """On what terms the job passes."""

    policy: str = DEFAULT_POLICY
    """Whose turn it is. Its own options stand beside these."""
    in_flight_ns: int = 0
    """How much of the job's work a device may have that it is not done with. By default what the
    policy says a run may take at most (its turnaround), else 1 ms: so long a request may find the
    device taken. Less costs throughput: each half of it is waited for."""
    longest_wait_ns: int = 10_000_000_000
    """A high-priority job that seems to serve for so long without a pause has most likely failed
    in the middle: its forward raised, or it hangs. The job goes on until the next request."""
    longest_sleep_ns: int = Patience.longest_sleep_ns
    """See :class:`~remora.share.gate.waiting.Patience`."""
    of_policy: Mapping[str, int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.in_flight_ns < 0:
            raise BadValue(f"in-flight={self.in_flight_ns} ns: choose more than 0, such as 1ms")
        if self.longest_wait_ns <= 0:
            raise BadValue(
                f"longest-wait={self.longest_wait_ns} ns: choose more than 0, such as 10s"
            )
        _ = self.terms

    @property
    def terms(self) -> Terms:
        """What a job at the gate is told.

        Raises:
            BadValue, UnknownName: it cannot be.
        """
        choice = Choice(self.policy, self.of_policy)
        turnaround_ns = getattr(policy_of(choice).options, "turnaround_ns", DEFAULT_IN_FLIGHT_NS)
        patience = Patience(self.longest_sleep_ns)
        return Terms(choice, self.in_flight_ns or turnaround_ns, self.longest_wait_ns, patience)

    @property
    def turnaround_ns(self) -> int | None:
        """To what operators are cut; None where they are not."""
        options = policy_of(Choice(self.policy, self.of_policy)).options
        return getattr(options, "turnaround_ns", None)


_OWN = tuple(each for each in fields(GateOptions) if each.name != "of_policy")


class Gate(Mechanism):
    """Before each operator, forward, backward and optimizer, as the hook sees them.

    Args:
        nvidia: whether an NVIDIA device is here; looked for if None.
    """

    name = "gate"
    title = "asks before each operator, and waits while high priority serves"
    options_type = GateOptions
    falls_back_to = "idle"
    acts_on_children = False

    def __init__(
        self, options: MechanismOptions | None = None, *, nvidia: bool | None = None
    ) -> None:
        super().__init__(options)
        self._nvidia = has_nvidia() if nvidia is None else nvidia
        self._hook: Hook | None = None
        self._slices: Any = None
        self._job: BestEffort | None = None
        self._on_cpu: Idle | None = None
        self._pid = 0

    # ---------------------------------------------------------------- in one word

    @classmethod
    def words(cls, text: str) -> type[Any]:
        """Options of the gate, and those of the policy that ``text`` names."""
        given = dict(part.partition("=")[::2] for part in text.split(","))
        policy = POLICIES.get(given.get("policy", DEFAULT_POLICY).strip())
        of_policy = fields(policy.options_type) if policy else ()
        own = [(each.name, each.type) for each in _OWN]
        return make_dataclass("GateWords", [*own, *((each.name, each.type) for each in of_policy)])

    @classmethod
    def made_of(cls, given: Mapping[str, Any]) -> GateOptions:
        own = {each.name for each in _OWN}
        of_policy = {name: value for name, value in given.items() if name not in own}
        return GateOptions(
            **{name: value for name, value in given.items() if name in own}, of_policy=of_policy
        )

    # ---------------------------------------------------------------- the contract

    def apply(self, context: Context) -> None:
        if context.roster is None:
            raise NotPermitted("gate: needs the roster, to know who serves; mend that first")
        options = self._options()
        try:
            roster = Roster(context.roster, proc=context.proc)
            self._job = BestEffort(
                roster, options.terms, waits_for_cuda=self._nvidia,
                failed=lambda why: context.lost(f"it has failed ({why})"), proc=context.proc,
            )  # fmt: skip
        except UserError as error:
            raise NotPermitted(f"gate: {error}") from None
        self._pid = os.getpid()
        if self._nvidia:
            self._give_way_on_cpu(context)
        if "torch" in sys.modules:
            self._begin_or_refuse(context)
        else:
            context.when_imported("torch", lambda: self._begin_or_lose(context))

    def undo(self) -> None:
        if self._job is not None and os.getpid() == self._pid:
            self._job.end()
            if self._slices is not None:
                self._slices.end()
            if self._hook is not None:
                self._hook.end()
            self._job.close()
            if self._on_cpu is not None:
                self._on_cpu.undo()
        self._job = self._hook = self._slices = self._on_cpu = None

    def holds(self, pid: int) -> bool:
        return self._job is not None and pid in (self._pid, *processes.threads(self._pid))

    @property
    def leaves_something(self) -> bool:
        return True  # the gate's file, where this job is the last to use it

    @property
    def waited_ns(self) -> int:
        """How long the job has stood at the gate."""
        return 0 if self._job is None else self._job.waited_ns

    # ---------------------------------------------------------------- the hook

    def _options(self) -> GateOptions:
        return self.options if isinstance(self.options, GateOptions) else GateOptions()

    def _begin_or_refuse(self, context: Context) -> None:
        try:
            self._begin(context)
        except UserError as error:
            self.undo()
            raise NotPermitted(f"gate: {error}") from None

    def _begin_or_lose(self, context: Context) -> None:
        if self._job is None or os.getpid() != self._pid:
            return
        try:
            self._begin(context)
        except UserError as error:
            self.undo()
            context.lost(str(error))

    def _begin(self, context: Context) -> None:
        job, options = self._job, self._options()
        if job is None:
            return
        if options.turnaround_ns is None:
            hook = registry.best()
        else:  # the compiled one takes what runs within an operator for a part of it: pieces, too
            hook = registry.create("python")
        hook.begin(Words(job.pairs, job.passing, _LOOKS_EVERY if self._looks_suffice() else 1))
        self._hook = hook
        if options.turnaround_ns is not None:
            from remora.share.slicing.gated import Slices

            self._slices = Slices(
                options.turnaround_ns, job.runs_whole, lambda: job.waited_ns, context.say
            )

    def _looks_suffice(self) -> bool:
        """Whether the job need not be asked where the pairs show an open gate: so it is where
        nothing is in flight behind it, and nothing that is over keeps it waiting."""
        options = self._options()
        is_plain = options.policy == "priority" and not options.of_policy.get("floor")
        return is_plain and not self._nvidia

    def _give_way_on_cpu(self, context: Context) -> None:
        on_cpu = Idle()
        with contextlib.suppress(NotPermitted):  # the gate stands all the same
            on_cpu.apply(context)
            self._on_cpu = on_cpu
