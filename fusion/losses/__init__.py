"""What is minimised: losses of tokens, of graphs on logits, and their sum over teachers."""
