"""What can hold of a healthy run: one relation a file, each with how it is learned and checked."""
