"""How good it is: retention and fidelity reports, and a gallery, as pages for people."""
