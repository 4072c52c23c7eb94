"""The parts of the page that several tabs share."""
