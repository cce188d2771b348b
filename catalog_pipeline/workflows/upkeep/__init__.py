"""What an operator does beside the nightly line: doctor, verify, roll back, export, clean up."""
