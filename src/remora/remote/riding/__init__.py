"""Run the models of a program that knows nothing of it on a server."""
