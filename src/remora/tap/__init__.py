"""How a service sees a job: its steps, its calls, its state. Unwatched, a tap costs nothing."""
