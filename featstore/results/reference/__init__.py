"""Published results as packaged data."""
