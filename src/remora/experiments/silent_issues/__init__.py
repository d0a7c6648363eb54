"""``python -m remora.experiments.silent_issues``: which silent issues are caught, and when.

TrainCheck (OSDI'25, section 6.1): errors of real training jobs that raise nothing and show in no
single number. Each is a program of :mod:`remora.experiments.silent` with a healthy twin. The twin
is recorded under a few seeds, and learned from together with other healthy programs. The faulty
program is checked with that, and so is the twin under a seed that was not learned from, whose every
alarm is a false one. Misses are reported as what they are.
"""
