"""The trainer: reads its environment, trains, and tells the service over HTTP. Another image."""
