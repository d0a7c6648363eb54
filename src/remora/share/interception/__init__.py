"""Stand before the operators of a program that nobody changed."""
