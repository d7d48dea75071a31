"""The loop, where it runs, and what it keeps."""
