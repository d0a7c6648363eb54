"""How often and how to save: pure arithmetic on what was measured, and a tuner that follows it."""

from remora.checkpoint.policy.bandwidth import BusyTime
from remora.checkpoint.policy.choose import choice_at, choose
from remora.checkpoint.policy.interval import daly_interval_s, slowdown, young_interval_s
from remora.checkpoint.policy.observed import Tuner, Written
from remora.checkpoint.policy.probe import Probed, pick, probe
from remora.checkpoint.policy.records import Bounds, Choice, Measured, Setting, Wanted

__all__ = [
    "Bounds",
    "BusyTime",
    "Choice",
    "Measured",
    "Probed",
    "Setting",
    "Tuner",
    "Wanted",
    "Written",
    "choice_at",
    "choose",
    "daly_interval_s",
    "pick",
    "probe",
    "slowdown",
    "young_interval_s",
]
