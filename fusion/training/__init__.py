"""Settings, batches and the trainer."""
