"""How good the learned concepts are: image features, masks, retention, reports, galleries."""
