"""A Kubernetes API server with its controllers, that behaves as a real 1.36 was seen to."""
