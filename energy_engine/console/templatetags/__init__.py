"""What the console's templates need of Python."""
