"""The services that `remora run` takes along: the options of each, and the service they ask for."""
