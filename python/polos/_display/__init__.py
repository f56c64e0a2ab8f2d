"""Values and models as people read them."""
