"""On the `PYTHONPATH`, guards every Python process that is started below, however deep."""

import os

from tests.network_guard import LOG_ENV, guard, note_in_file

if LOG_ENV in os.environ:
    guard(note_in_file)
