"""The program's end: a server that is connected to, models on it, sessions with them."""
