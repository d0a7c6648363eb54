"""The executor of a plain CPU: the operating system itself, told who is to give way to whom."""
