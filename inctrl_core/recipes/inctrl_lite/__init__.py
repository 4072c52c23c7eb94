"""How the embedded model inctrl-lite was made."""
