"""``python -m remora``: what the ``remora`` command does, also for ``torchrun -m remora run``."""

from remora.cli import main

if __name__ == "__main__":
    main()
