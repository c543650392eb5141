"""What runs on a device: the agent, and the page that shows its owner what it does."""
