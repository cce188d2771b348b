"""From photos to a promoted concept: train, judge, and publish or refuse."""
