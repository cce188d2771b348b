"""Plain functions over the rooms: each one thing that a person, a script or Dagster starts."""
