"""The remote service: the model runs elsewhere, the program that uses it stays here."""
