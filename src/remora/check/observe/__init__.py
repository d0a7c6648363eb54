"""See a running job's calls and variables, and hand them to a sink as events."""
