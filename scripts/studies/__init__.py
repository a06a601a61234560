"""The studies behind docs/results: one question a file."""
