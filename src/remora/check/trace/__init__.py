"""Recorded traces: everything that was observed of a run, kept in a folder and played back."""
