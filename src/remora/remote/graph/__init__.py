"""A model as data: captured once where the program is, run where the accelerator is."""
