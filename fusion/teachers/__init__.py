"""What teachers said: capturing, storing, reading and comparing it."""
