"""The check service: learn what a healthy training run does, and watch every step for less."""
