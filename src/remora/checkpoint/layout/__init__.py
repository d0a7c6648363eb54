"""Bytes on disk: commit records and slot files. Pure functions, no storage."""
