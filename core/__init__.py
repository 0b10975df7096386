"""Things every other room leans on: errors, safe files and pictures, wire types, charts, HTML."""
