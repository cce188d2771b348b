"""What is on sale: refresh the index of the watched folders, validate a photo set, retire SKUs."""
