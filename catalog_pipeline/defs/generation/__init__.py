"""The plan and the pictures of a night."""
