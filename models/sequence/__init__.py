"""Models of long histories, one file each."""
