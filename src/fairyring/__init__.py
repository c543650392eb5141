"""fairyring."""
