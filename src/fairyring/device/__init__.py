"""The agent that runs on a device, and the page that shows its owner what it does."""
