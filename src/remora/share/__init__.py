"""The share service: best-effort jobs use what a high-priority job leaves of one device."""
