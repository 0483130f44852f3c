"""`absorb forget`: remove what the cache, run folders and captured requests hold of a user, and say what is left."""
