"""Cut operators of ATen into pieces that a device can do one at a time. This part needs torch."""
