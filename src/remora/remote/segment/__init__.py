"""Segments: operators that a program asked for one by one, as data that is sent and run at once."""
