"""The files by which a test and an armed process talk: see :mod:`tests.faults.armed_definitions`.

Apart from there, since importing that module arms the process.
"""

FAULT_FILE = "fault.txt"
REACHED_FILE = "reached.txt"
GO_ON_FILE = "go_on.txt"
