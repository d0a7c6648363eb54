"""Every relation there is."""

from __future__ import annotations

from dataclasses import dataclass

from remora.check.relations.changes import Changes, ChangesLearner, ChangesMachine
from remora.check.relations.consistent import Consistent, ConsistentLearner, ConsistentMachine
from remora.check.relations.contains import Contains, ContainsLearner, ContainsMachine
from remora.check.relations.contract import Claim, Learner, Machine
from remora.check.relations.cover import Cover, CoverLearner, CoverMachine
from remora.check.relations.lead import Lead, LeadLearner, LeadMachine


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
)
AnyClaim = Contains | Cover | Lead | Changes | Consistent


def relation_of(claim: Claim) -> Relation:
    return next(one for one in RELATIONS if isinstance(claim, one.claim))
