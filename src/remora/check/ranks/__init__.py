"""Jobs of several ranks: how ranks tell each other what they did, and what becomes of that."""
