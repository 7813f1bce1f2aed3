"""Worker processes: launching, supervising, replacing them."""
