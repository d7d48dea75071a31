"""The study: a question, its cells, its store, its statistics and its verdict."""
