"""What a run leaves behind: its folder, who may write it, and where everything lies in it."""
