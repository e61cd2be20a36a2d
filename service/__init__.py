"""The service: decides, and does the I/O. HTTP in, events out, executors driven."""
