"""Every statement and every migration, one a file."""
