"""The index, the photo sets, and the sensor that finds new products."""
