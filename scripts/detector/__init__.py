"""Training, export and measurement of the pack's own small face and character detector."""
