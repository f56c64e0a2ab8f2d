"""Values as JSON that remembers their types, and back."""
