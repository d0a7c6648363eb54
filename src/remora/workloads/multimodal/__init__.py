"""Models of images or sound together with text."""
