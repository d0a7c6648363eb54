"""The remote service: a model runs over there, the program that uses it stays here."""
