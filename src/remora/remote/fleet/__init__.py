"""Several servers as one: a directory that knows them, and clients that spread over them."""
