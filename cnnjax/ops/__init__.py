"""Array functions that models and tasks need."""
