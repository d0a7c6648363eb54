"""Every relation there is."""

from __future__ import annotations

from dataclasses import dataclass

from remora.check.relations.agreement import (
    Agreement,
    AgreementLearner,
    AgreementMachine,
)
from remora.check.relations.changes import Changes, ChangesLearner, ChangesMachine
from remora.check.relations.consistent import Consistent, ConsistentLearner, ConsistentMachine
from remora.check.relations.constant_input import (
    ConstantInput,
    ConstantInputLearner,
    ConstantInputMachine,
)
from remora.check.relations.constant_output import (
    ConstantOutput,
    ConstantOutputLearner,
    ConstantOutputMachine,
)
from remora.check.relations.contains import Contains, ContainsLearner, ContainsMachine
from remora.check.relations.contract import Claim, Learner, Machine
from remora.check.relations.cover import Cover, CoverLearner, CoverMachine
from remora.check.relations.distinct import Distinct, DistinctLearner, DistinctMachine
from remora.check.relations.fresh import Fresh, FreshLearner, FreshMachine
from remora.check.relations.full_batch import FullBatch, FullBatchLearner, FullBatchMachine
from remora.check.relations.input_output import (
    InputOutput,
    InputOutputLearner,
    InputOutputMachine,
)
from remora.check.relations.lead import Lead, LeadLearner, LeadMachine
from remora.check.relations.monotone import Monotone, MonotoneLearner, MonotoneMachine
from remora.check.relations.periodic import Periodic, PeriodicLearner, PeriodicMachine
from remora.check.relations.periodic_change import (
    PeriodicChange,
    PeriodicChangeLearner,
    PeriodicChangeMachine,
)
from remora.check.relations.range import Range, RangeLearner, RangeMachine
from remora.check.relations.threshold import Threshold, ThresholdLearner, ThresholdMachine


@dataclass(frozen=True)
class Relation:
    name: str
    claim: type[Claim]
    learner: type[Learner]
    machine: type[Machine]


RELATIONS = (
    Relation("contains", Contains, ContainsLearner, ContainsMachine),
    Relation("cover", Cover, CoverLearner, CoverMachine),
    Relation("lead", Lead, LeadLearner, LeadMachine),
    Relation("changes", Changes, ChangesLearner, ChangesMachine),
    Relation("consistent", Consistent, ConsistentLearner, ConsistentMachine),
    Relation("agreement", Agreement, AgreementLearner, AgreementMachine),
    Relation("constant output", ConstantOutput, ConstantOutputLearner, ConstantOutputMachine),
    Relation("constant input", ConstantInput, ConstantInputLearner, ConstantInputMachine),
    Relation("input-output", InputOutput, InputOutputLearner, InputOutputMachine),
    Relation("distinct", Distinct, DistinctLearner, DistinctMachine),
    Relation("fresh", Fresh, FreshLearner, FreshMachine),
    Relation("full batch", FullBatch, FullBatchLearner, FullBatchMachine),
    Relation("threshold", Threshold, ThresholdLearner, ThresholdMachine),
    Relation("range", Range, RangeLearner, RangeMachine),
    Relation("monotone", Monotone, MonotoneLearner, MonotoneMachine),
    Relation("periodic", Periodic, PeriodicLearner, PeriodicMachine),
    Relation("periodic change", PeriodicChange, PeriodicChangeLearner, PeriodicChangeMachine),
)
AnyClaim = (
    Contains
    | Cover
    | Lead
    | Changes
    | Consistent
    | Agreement
    | ConstantOutput
    | ConstantInput
    | InputOutput
    | Distinct
    | Fresh
    | FullBatch
    | Threshold
    | Range
    | Monotone
    | Periodic
    | PeriodicChange
)


def relation_of(claim: Claim) -> Relation:
    return next(one for one in RELATIONS if isinstance(claim, one.claim))
