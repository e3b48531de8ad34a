"""Programs that start runs elsewhere, and one that tells beforehand whether they fit."""
