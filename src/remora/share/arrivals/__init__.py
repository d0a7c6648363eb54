"""When requests come: drawn or from a trace, never waiting for the answer to the last one."""
