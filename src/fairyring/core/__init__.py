"""The base of all rooms: errors, keys, vectors, compiled programs, files. It imports no other room."""
