"""The operators that can be cut: one file a family, each says along what and how."""
