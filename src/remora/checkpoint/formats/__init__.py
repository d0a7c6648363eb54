"""Checkpoints in other programs' formats: written with their libraries, read without trusting them.

Every importer gives the nested state that :meth:`remora.checkpoint.state.parts.Parts.apply`
takes, at least ``{"model": …}``; every exporter takes what ``Parts.capture`` gives.
"""
