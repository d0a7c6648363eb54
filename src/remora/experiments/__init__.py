"""One file per published result: which arms, which question, which effort."""
