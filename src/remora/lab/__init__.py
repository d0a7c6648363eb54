"""Schedule, trials, samples, statistics, results, report. Knows no service."""
