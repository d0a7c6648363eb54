"""Real models, their data, and the one step of work that every system is measured on."""
