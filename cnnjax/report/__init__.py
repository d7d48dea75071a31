"""Pages, tables and figures of a finished or half-finished study. Reads the store; runs nothing."""
