"""A device that is a server: operators are recorded here, and run there when a value is wanted."""
