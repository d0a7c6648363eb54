"""Devices and jobs that are only numbers, under the real policies: thousands of them in minutes.

Every result says ``executor: simulator``. A simulated device does exactly what it is told to take;
what a real one does is for the other executors to show.
"""

EXECUTOR = "simulator"
