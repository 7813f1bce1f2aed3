"""What people import in their cells."""
