"""The server: holds weights and sessions, and runs graphs for whoever is connected."""
