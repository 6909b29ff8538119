"""Teachers' logits: capturing, storing, reading and comparing them."""
